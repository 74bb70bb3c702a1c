"""A compiled detector run on this PC, from detector.json and its graphs alone: what an app on a phone does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import handful.device.runtimes
from handful.detection import graphs
from handful.detection.contract import Proposals
from handful.detection.embedder import crops
from handful.detection.fusion import Fusion
from handful.detection.irene import Detections, ScoredProposals, told
from handful.detection.letterbox import best_boxes, letterbox, on_frame, on_photo
from handful.device.runtimes.contract import PLAN, Session
from handful.errors import DataError
from handful.fewshot.nemo import GAIN, Solution, none_below
from handful.files import read_json
from handful.pick import need, pick, present


class OnDevice:
    """A detector as a phone has it. look, ask, tell and detect are those of handful.detection.irene.Irene.

    plan: the whole of detector.json. sessions: of its graphs, by name. ms: milliseconds that each step of the last
    photo took, by name, in order.
    """

    def __init__(
        self, plan: Mapping[str, Any], sessions: Mapping[str, Session], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.plan, self.sessions, self._clock, self.ms = dict(plan), dict(sessions), clock, dict[str, float]()
        try:
            self.side, self.boxes, self.crops = int(plan["frame"]["side_px"]), plan["boxes"], plan["crops"]
            answer, self.fusion = plan["answer"], Fusion(**plan["fusion"])
            self.classes, self.vigilance, self.gain = tuple(plan["classes"]), answer["vigilance"], answer["gain"]
            expected, self.score_threshold = float(answer["expected"]), float(answer["score_threshold"])
            self.batch = int(self.boxes["most"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{PLAN} is not what was written there ({error!r}); compile the detector again") from error
        if plan.get("schema_version") != graphs.SCHEMA_VERSION or self.gain != GAIN:
            raise DataError(f"{PLAN} has schema_version {plan.get('schema_version')!r} and gain {self.gain}; wanted "
                            f"{graphs.SCHEMA_VERSION} and {GAIN:g}; compile the detector again")  # fmt: skip
        none, nothing = none_below(expected, self.vigilance), np.zeros((0, 0))
        self._solved = Solution(self.classes, nothing, nothing, np.zeros(0), expected, none)

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> OnDevice:
        """From the folder of a compiled detector, which may lie anywhere (for the runtime torch, in its detector).

        Raises DataError for another folder, MissingPackage without the runtime, DeviceError from the runtime.
        """
        folder = Path(folder)
        if not (folder / PLAN).exists():
            raise DataError(f"{folder} is not a compiled detector: it has no {PLAN}; wanted a folder as `handful "
                            "device compile DETECTOR --runtime onnxruntime` makes")  # fmt: skip
        plan = read_json(folder / PLAN)
        runtime = pick(handful.device.runtimes, "runtime", str(plan.get("runtime")))
        for package in runtime.MODULES:
            if not present(package):
                need(package, runtime.EXTRA)
        names = [str(one["name"]) for one in plan.get("graphs", [])]
        return cls(plan, {name: runtime.load(folder / name, threads=threads) for name in names})

    def look(self, rgb_u8: np.ndarray, most: int | None = None) -> Proposals:
        """At most `most` boxes of a photo (h, w, 3) uint8 RGB, and no more than the graphs take; so with features."""
        self.ms.clear()
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        keep = {"overlap": self.boxes["overlap"], "most": min(most or self.batch, self.batch)}
        with self._timed("letterbox"):
            frame, factor, left_top = letterbox(rgb_u8, self.side)
        with self._timed("propose"):
            out = self.sessions["propose"].run({"image": frame[None]})
        maps = {name: value for name, value in out.items() if name.startswith("map_")}
        again = self.boxes["again"]
        with self._timed("boxes"):
            boxes, quality = on_photo(out["boxes"][0], factor, left_top), out["quality"][0]
            first = self.boxes["first"]
            boxes, quality = best_boxes(boxes, quality, size_wh, first=first, **{**keep, "most": again["most"]} if again
                                        else keep)  # fmt: skip
        if again and len(boxes):
            with self._timed("again"):
                given = padded(on_frame(boxes, factor, left_top), again["most"])
                better = {k: v[: len(boxes)] for k, v in self.sessions["again"].run({**maps, "boxes": given}).items()}
                boxes = on_photo(better["better_boxes"], factor, left_top)
                boxes, quality = best_boxes(boxes, better["better_quality"], size_wh, first=len(boxes), **keep)

        def features(wanted: np.ndarray) -> np.ndarray:
            with self._timed("features"):
                given = padded(on_frame(wanted, factor, left_top), self.batch)
                return self.sessions["features"].run({**maps, "boxes": given})["of_eye"][: len(wanted)]

        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features)

    def ask(self, rgb_u8: np.ndarray, seen: Proposals | None = None) -> ScoredProposals:
        """As Irene.ask; seen: what look gave."""
        seen = seen or self.look(rgb_u8)
        boxes = seen.xyxy_px
        if not len(boxes):
            return ScoredProposals(boxes, seen.quality, seen.scale, np.zeros((0, 0)), np.zeros((0, len(self.classes))))
        feed: dict[str, np.ndarray] = {}
        if self.plan["features"]:
            feed["of_eye"] = padded(seen.features(boxes), self.batch)
        if self.crops is not None:
            feed["of_crop"] = padded(self._of_crops(rgb_u8, boxes), self.batch)
        with self._timed("head"):
            out = self.sessions["head"].run(feed)
        vectors, logits, below = (out[name][: len(boxes)].astype(np.float64) for name in ("vectors", "logits", "below"))
        return ScoredProposals(boxes, seen.quality, seen.scale, vectors, logits, below[:, 0])

    def tell(
        self, about: ScoredProposals, *, vigilance: float | None = None, careful: bool = True, score_threshold: float |
        None = None,
        **how: Any,
    ) -> Detections:  # fmt: skip
        """As Irene.tell."""
        with self._timed("tell"):
            careful_at = self.vigilance if vigilance is None else vigilance
            score_threshold = self.score_threshold if score_threshold is None and careful else score_threshold
            return told(
                about, self._solved, self.fusion, careful_at, careful=careful, score_threshold=score_threshold, **how
            )

    def detect(self, rgb_u8: np.ndarray, **how: Any) -> Detections:
        """What is in a photo (h, w, 3) uint8 RGB of any size; `how` as in tell."""
        return self.tell(self.ask(rgb_u8), **how)

    def _of_crops(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        count = int(self.crops["at_once"])
        with self._timed("cut"):
            frames = crops(rgb_u8, boxes, int(self.crops["side_px"]), float(self.crops["margin"]))
        rows = []
        with self._timed("crops"):
            for start in range(0, len(frames), count):
                own = frames[start : start + count]
                rows.append(self.sessions["crops"].run({"crops": padded(own, count, np.uint8)})["of_crop"][: len(own)])
        return np.concatenate(rows)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = self._clock()
        yield
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * (self._clock() - began)


def padded(rows: np.ndarray, count: int, dtype: Any = np.float32) -> np.ndarray:
    """Rows (n, ...) filled up with zeros to (count, ...). Raises DataError for more rows than that."""
    if len(rows) > count:
        raise DataError(f"{len(rows)} boxes at once; this compiled detector takes {count}")
    out = np.zeros((count, *rows.shape[1:]), dtype)
    out[: len(rows)] = rows
    return out
