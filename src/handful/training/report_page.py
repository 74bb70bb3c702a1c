"""The page of a measurement: what the figures are, what they mean, and the images where the model did worst."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.seen import told
from handful.files import check_page, write_page
from handful.image import data_uri
from handful.pick import need
from handful.plotting import palette
from handful.training.coco_table import STATS
from handful.training.metrics import IGNORE

TEMPLATE = Path(__file__).parent / "report_page.html.j2"
SIDE_PX = 300
MOST = 12
MOST_CLASSES = 40  # a larger matrix of confusions is not shown whole


@dataclass
class Worst:
    """The images a model did worst on, so many of them, with small pictures of what was there and what it predicted.

    shown: whether pictures are wanted; without, only names and scores are kept.
    """

    shown: bool = False
    most: int = MOST
    _heap: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _seen: int = 0

    def add(self, score: float, about: Mapping[str, Any], pictures: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """score: higher is better. about: JSON. pictures: makes them, (h, w, 3) uint8 RGB each, which are kept as small
        JPEGs; called only for an image that is among the worst so far."""
        self._seen += 1
        if len(self._heap) == self.most and -self._heap[0][0] <= score:
            return
        row = {**about, "pictures": {k: picture(v) for k, v in pictures().items()} if self.shown else {}}
        push = heapq.heappush if len(self._heap) < self.most else heapq.heapreplace
        push(self._heap, (-score, -self._seen, row))  # of equals the first one seen stays

    def rows(self, *, pictures: bool = False) -> list[dict[str, Any]]:
        """What was added, the worst first."""
        found = [row for *_, row in sorted(self._heap, reverse=True)]
        return found if pictures else [{k: v for k, v in row.items() if k != "pictures"} for row in found]


def painted(labels: np.ndarray, colors: Sequence[tuple[int, int, int]], rgb_u8: np.ndarray) -> np.ndarray:
    """Classes laid over an image: (h, w) class numbers, 255 left as it is, and (h, w, 3) uint8 -> (h, w, 3) uint8."""
    table = np.zeros((256, 3), dtype=np.float32)
    table[: len(colors)] = colors
    mixed = 0.35 * rgb_u8.astype(np.float32).mean(axis=2, keepdims=True) + 0.65 * table[labels]
    return np.where((labels == IGNORE)[..., None], rgb_u8 // 2, mixed.astype(np.uint8))


def picture(rgb_u8: np.ndarray, side_px: int = SIDE_PX) -> str:
    """An image as a data URI of a small JPEG. rgb_u8: (h, w, 3) uint8."""
    PIL_Image = need("PIL.Image", "teach")
    image = PIL_Image.fromarray(rgb_u8)
    image.thumbnail((side_px, side_px))
    return data_uri(image, 82)


def render(result: Mapping[str, Any], worst: Worst, *, curves: Path | None = None) -> str:
    """HTML of what `handful evaluate` or a recipe returns. Everything is escaped and inlined, with no outside links.

    curves: a PNG of the training to show, if there is one.
    """
    jinja2 = need("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    classes = list(result["per_class"])
    drawn = None
    if curves is not None and curves.exists():
        drawn = "data:image/png;base64," + base64.b64encode(curves.read_bytes()).decode()
    colors = ["#%02x%02x%02x" % rgb for rgb in palette(classes, result.get("background"))]  # noqa: UP031
    shares, mixed = _confusions(result["confusion"], classes) if "confusion" in result else (None, None)
    html: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=result, classes=classes, colors=dict(zip(classes, colors, strict=True)), mixed=mixed, curves=drawn,
        shares=shares if len(classes) <= MOST_CLASSES else None, worst=worst.rows(pictures=True), coco=STATS,
        leak=told(result) if "seen" in result else "",
        task={"instance": "detect"}.get(result["task"], result["task"]),
    )  # fmt: skip
    return html


def _confusions(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Of each class of the truth the share predicted as each class, and the largest of those that are wrong."""
    table = np.array(counts, dtype=np.float64)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    wrong = np.argsort(-(shares * (1 - np.eye(len(classes)))), axis=None)
    mixed = [
        {"truth": classes[i], "predicted": classes[j], "share": float(shares[i, j])}
        for i, j in zip(*np.unravel_index(wrong, shares.shape), strict=True)
        if i != j and shares[i, j] > 0
    ]
    return shares.tolist(), mixed[:8]


def write(path: Path, result: Mapping[str, Any], worst: Worst, *, curves: Path | None = None) -> None:
    """Render to a file, whole or not at all."""
    check_page(path)
    html = render(result, worst, curves=curves)
    write_page(path, html)
