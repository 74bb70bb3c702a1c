"""Whether dreams are fit to learn from: measured on some frames of every clip, summed up with a verdict each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from handful.lucid.clip import Dream, Frame
from handful.lucid.move import remapped

THUMB_PX = 32
SAME_GREY = 1.0  # thumbnails nearer than this, in gray levels, are one picture
DEEP_PX = 4  # from the border: where a color is the object's or the background's own

# (name, what it says, limit, whether more or less than the limit is wrong)
GATES: tuple[tuple[str, str, float, str], ...] = (
    ("halo", "colors at the object's border that lie neither on its side nor on the other, beyond what the image "
             "itself has there: mean excess in gray levels, median of frames", 2.0, "at most"),
    ("border_step", "color step across the border against the image's own step: median ratio", 3.0, "at most"),
    ("warped_j", "J (intersection over union) of the seed's mask with the frame's mask warped back: lowest tenth",
     0.90, "at least"),
    ("area_ratio", "area of the objects against the seed's: median", 0.5, "at least"),
    ("empty", "share of frames without any object", 0.10, "at most"),
    ("near_duplicates", "share of frames that look like the frame before", 0.10, "at most"),
    ("stray_ids", "pixels with an id that the seed does not have", 0.0, "at most"),
)  # fmt: skip


def measured(dream: Dream, t: int, frame: Frame) -> dict[str, float | None]:
    """The figures of one frame; None where there is nothing to measure. Costs about as much as the frame."""
    seed = dream.seed
    foreground = (frame.ids > 0) & (frame.ids < seed.ignore)
    strange = set(np.unique(frame.ids).tolist()) - set(np.unique(seed.ids).tolist()) - {0}
    step, halo = border(frame.rgb_u8, foreground)
    seed_step, seed_halo = border(seed.rgb_u8, seed.foreground)
    before = _thumb(dream.frame(t - 1).rgb_u8) if t else None
    change = None if before is None else float(np.abs(_thumb(frame.rgb_u8) - before).mean())
    return {
        "area_ratio": float(foreground.sum() / seed.foreground.sum()),
        "border_step": None if step is None or not seed_step else step / seed_step,
        "halo": None if halo is None or seed_halo is None else halo - seed_halo,
        "warped_j": _warped_j(dream, t, frame.ids),
        "change": change,
        "stray_ids": float(sum((frame.ids == number).sum() for number in strange)),
    }


def border(rgb_u8: np.ndarray, mask: np.ndarray) -> tuple[float | None, float | None]:
    """(color step, halo) in gray levels along the border of a mask (h, w) bool; None without a border.

    Step: mean distance between the colors 4 px inside and 4 px outside. Halo: how far the pixels of the border
    itself lie outside the range between these two, mean over pixels and channels.
    """
    m = mask.astype(np.uint8)
    edge = cv2.morphologyEx(m, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    edge[[0, -1]] = edge[:, [0, -1]] = False
    kernel = np.ones((2 * DEEP_PX + 1,) * 2, np.uint8)
    inside, outside = cv2.erode(m, np.ones((3, 3), np.uint8)) > 0, cv2.dilate(m, np.ones((3, 3), np.uint8)) == 0
    if not edge.any() or not inside.any() or not outside.any():
        return None, None
    # mean color of each side near a pixel: blurred where known, divided by how much was known
    sides, counts = [], []
    for known in (inside, outside):
        weight = known.astype(np.float32)
        count = cv2.boxFilter(weight, -1, kernel.shape, normalize=False)
        total = cv2.boxFilter(rgb_u8.astype(np.float32) * weight[..., None], -1, kernel.shape, normalize=False)
        sides.append(total / np.maximum(count, 1)[..., None])
        counts.append(count)
    at = edge & (counts[0] >= 3) & (counts[1] >= 3)
    if not at.any():
        return None, None
    a, b, here = sides[0][at], sides[1][at], rgb_u8[at].astype(np.float32)
    excess = np.maximum(0, np.maximum(np.minimum(a, b) - here, here - np.maximum(a, b)))
    return float(np.abs(a - b).mean()), float(excess.mean())


def _warped_j(dream: Dream, t: int, ids: np.ndarray) -> float | None:
    """J of every object's drawn mask with the frame's mask brought back to the image, where the frame shows it."""
    together = union = 0
    height, width = ids.shape
    for index, part in enumerate(dream.parts):
        if not part.label:
            continue
        mask = part.cutout.mask_u8 > 0
        rows, columns = np.nonzero(np.ones_like(mask))
        photo = np.stack([columns, rows], -1).astype(float) + part.cutout.xy
        places = np.rint(part.at(t).forth(photo)).astype(int)
        seen = ((places >= 0) & (places < (width, height))).all(-1)
        covered = np.zeros((height, width), bool)
        for over in dream.parts[index + 1 :]:
            box = over.box(t, (width, height))
            if box is not None:
                maps = over.at(t).maps(box, over.cutout.xy)
                on_top = remapped(over.cutout.mask_u8, maps) >= 128
                covered[box[1] : box[3], box[0] : box[2]] |= on_top
        places = np.clip(places, 0, (width - 1, height - 1))
        at = places[:, 1], places[:, 0]
        seen &= ~covered[at]
        own = np.unique(part.cutout.ids[mask])
        back = np.isin(ids[at], own) & seen
        drawn = mask.ravel() & seen
        # another object with the same id beside it is not this one
        back &= drawn | (ids[at] > 0)
        together += int((back & drawn).sum())
        union += int((back | drawn).sum())
    return None if union == 0 else together / union


def _thumb(rgb_u8: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(rgb_u8, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (THUMB_PX, THUMB_PX), interpolation=cv2.INTER_AREA), np.float32)


def summary(frames: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """All measured frames of a run against the gates: {"gates": [{"gate", "value", "limit", "ok", "rule"}], ...}.

    areas: how many frames have objects of 0, up to a quarter, half, the same, twice, or more of the seed's area.
    """

    def values(name: str) -> list[float]:
        return [float(v) for f in frames if (v := f.get(name)) is not None]

    areas = np.array(values("area_ratio"))
    changes = np.array(values("change"))
    found: dict[str, float | None] = {
        "halo": _quantile(values("halo"), 0.5),
        "border_step": _quantile(values("border_step"), 0.5),
        "warped_j": _quantile(values("warped_j"), 0.1),
        "area_ratio": _quantile(areas[areas > 0].tolist(), 0.5),
        "empty": float((areas == 0).mean()) if areas.size else None,
        "near_duplicates": float((changes < SAME_GREY).mean()) if changes.size else None,
        "stray_ids": float(sum(values("stray_ids"))) if frames else None,
    }
    gates = []
    for name, rule, limit, direction in GATES:
        value = found[name]
        ok = value is None or (value <= limit if direction == "at most" else value >= limit)
        gates.append({"gate": name, "value": value, "limit": f"{direction} {limit:g}", "ok": ok, "rule": rule})
    bounds = (0.0, 1e-9, 0.25, 0.5, 1.0, 2.0, np.inf)
    names = ("none", "to 1/4", "to 1/2", "to 1", "to 2", "over 2")
    counts, _ = np.histogram(areas, np.array(bounds))
    return {
        "measured_frames": len(frames),
        "ok": all(g["ok"] for g in gates),
        "gates": gates,
        "areas": dict(zip(names, counts.tolist(), strict=True)),
    }


def _quantile(values: list[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None
