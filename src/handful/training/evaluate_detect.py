"""How good a detector is: its boxes and masks at the size of the photos, held against labels by COCO's rules.

The figures are pycocotools' own (Lin et al. 2014, Microsoft COCO, arXiv:1405.0312).
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from handful.data import formats
from handful.errors import DataError
from handful.models.folder import from_folder
from handful.pick import need
from handful.training.evaluate_segment import chosen_split, not_counted
from handful.training.loader_detect import Boxed, gather

TASKS = ("detect", "instance")
# in the order in which pycocotools gives them
STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium",
         "ar_large")  # fmt: skip
WATCHED = ("ap", "ap50", "ap75", "ar100")
RULE = {
    "name": "coco",
    "ap": "mean over classes and over the overlaps (IoU) .50, .55, ..., .95 that make an answer right, of the "
    "precision at 101 recalls; at most 100 answers a photo and class; classes without a thing do not count",
    "ap50, ap75": "as ap, at one overlap",
    "ar1, ar10, ar100": "share of things found with at most so many answers a photo and class, mean over the same",
    "small, medium, large": "things of less than 32 x 32 px of the photo, less than 96 x 96, and the others, by the "
    "area the labels say, or else of the outline or pixels, or else of the box",
    "crowds": "answers inside a crowd are neither right nor wrong",
    "size": "each photo is squashed to the model's frame, boxes are scaled back and masks enlarged (bilinear, above "
    "0.5) to the photo's own size",
    "masks": "mask_...: the same, with the overlap of pixels instead of boxes",
}


def answers(
    network: Any, rgb_u8: np.ndarray, size_wh: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """What a detector finds in a photo.

    rgb_u8: (h, w, 3) uint8 RGB of the network's frame_hw. size_wh: of the photo, which the answers are for; the frame's
    unless told otherwise. Returns boxes (n, 4) float64 left, top, right, bottom in px of the photo; scores (n,)
    float32, largest first; labels (n,) int64; and n masks as pycocotools' run lengths, none without masks.
    """
    mask_api = need("pycocotools.mask", "data")
    device = next(iter(network.parameters())).device
    height, width = network.frame_hw
    wide, high = size_wh or (width, height)
    with torch.inference_mode():
        boxes, scores, labels, *masks = network(torch.from_numpy(np.array(rgb_u8[None])).to(device))
        rows: list[dict[str, Any]] = []
        for mask in masks[0] if masks else ():
            # one at a time: a hundred masks of a large photo would be gigabytes
            whole = F.interpolate(mask[None, None], size=(high, wide), mode="bilinear", align_corners=False)[0, 0]
            rows.append(mask_api.encode(np.asfortranarray((whole > 0.5).cpu().numpy(), dtype=np.uint8)))
    back = np.array([wide / width, high / height] * 2)
    return boxes.cpu().numpy().astype(np.float64) * back, scores.cpu().numpy(), labels.cpu().numpy(), rows


def measured(network: Any, photos: Boxed, most: int | None = None) -> dict[str, Any]:
    """Scores of a detector in eval mode on photos that are already at the frame's size, labels at their own.

    most: only so many of the photos. Returns STATS by name (0..1, None where there is nothing to measure by), for the
    masks too ("mask_ap", ...) where the photos have them, and "per_class": {name: {"ap", "mask_ap", "things"}}.
    """
    count = min(len(photos), most or len(photos))
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for i in range(count):
        truth += [{**row, "image_id": i, "id": len(truth) + n} for n, row in enumerate(photos.truth[i], 1)]
        boxes, scores, labels, masks = answers(network, photos.photo(i), photos.sizes_wh[i])
        for n, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
            left, top, right, bottom = box.tolist()
            wide, high = right - left, bottom - top
            row = {"image_id": i, "id": len(found) + 1, "category_id": int(label), "score": float(score), "iscrowd": 0,
                   "bbox": [left, top, wide, high], "area": wide * high}  # fmt: skip
            found.append({**row, "segmentation": masks[n]} if photos.with_masks else row)
    stats, per_class = _coco(truth, found, photos.sizes_wh[:count], photos.classes, "bbox")
    things = np.bincount([row["category_id"] for row in truth if not row["iscrowd"]], minlength=len(photos.classes))
    each = {name: {"ap": ap, "things": int(n)} for name, ap, n in zip(photos.classes, per_class, things, strict=True)}
    if photos.with_masks:
        area = need("pycocotools.mask", "data").area
        found = [{**row, "area": int(area(row["segmentation"]))} for row in found]
        of_masks, per_class = _coco(truth, found, photos.sizes_wh[:count], photos.classes, "segm")
        stats |= {f"mask_{name}": value for name, value in of_masks.items()}
        for name, ap in zip(photos.classes, per_class, strict=True):
            each[name]["mask_ap"] = ap
    return {**stats, "per_class": each}


def _coco(
    truth: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], sizes_wh: Sequence[tuple[int, int]],
    classes: Sequence[str], kind: str,
) -> tuple[dict[str, float | None], list[float | None]]:  # fmt: skip
    """STATS and the AP of each class. kind: "bbox" or "segm"."""
    coco, evaluation = need("pycocotools.coco", "data"), need("pycocotools.cocoeval", "data")
    images = [{"id": i, "width": width, "height": height} for i, (width, height) in enumerate(sizes_wh)]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its tables, and stdout is for JSON
        for rows in (truth, found):
            side = coco.COCO()
            side.dataset = {"images": images, "categories": categories, "annotations": [dict(row) for row in rows]}
            side.createIndex()
            sides.append(side)
        result = evaluation.COCOeval(*sides, kind)
        result.evaluate()
        result.accumulate()
        result.summarize()
    by_class = []
    for k in range(len(classes)):
        precision = result.eval["precision"][:, :, k, 0, -1]
        precision = precision[precision > -1]
        by_class.append(float(precision.mean()) if precision.size else None)
    return {name: _told(value) for name, value in zip(STATS, result.stats, strict=True)}, by_class


def _told(value: float) -> float | None:
    return float(value) if value > -1 else None


def rule_of(masks: bool) -> dict[str, str]:
    """The rules in words that a result was measured by."""
    return {key: text for key, text in RULE.items() if masks or key != "masks"}


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, device: str = "cpu", **options: Any
) -> dict[str, Any]:
    """Measure a detector's model folder on a split of any data set with boxes: test unless named, or val.

    Where the model gives masks, the things in the data must have outlines or pixels. Classes of the data that the model
    does not have are not counted, and said. Returns the JSON object that `handful evaluate --json` prints. Raises
    DataError or UnknownName.
    """
    from handful.training.distributed import ready

    began = time.monotonic()
    loaded = from_folder(model)
    task = loaded.meta.get("task")
    if task not in TASKS:
        raise DataError(f"{model} is no detector that `handful train detect` or `handful train instance` made")
    classes = tuple(loaded.classes)
    dataset = formats.read(data, format=format, **options)
    other = not_counted(dataset, data, classes)
    chosen = chosen_split(dataset, split)
    network = ready(loaded.network, device)
    photos = gather(dataset, chosen, classes, network.frame_hw, masks=task == "instance")
    return {
        "schema_version": 1,
        "task": task,
        **measured(network, photos),
        "rule": rule_of(photos.with_masks),
        "photos": len(photos),
        "objects": sum(photos.things),
        "unlabelled": sum(map(len, photos.skipped.values())),
        **{key: loaded.meta.get(key) for key in ("params", "macs", "seed", "minutes")},
        "model": str(model),
        "data": str(data),
        "split": chosen or None,
        "not_counted": other,
        "seconds": round(time.monotonic() - began, 2),
    }
