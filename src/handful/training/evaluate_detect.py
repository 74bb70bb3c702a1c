"""How good a detector is: its boxes and masks at the size of the photos, held against labels by COCO's rules."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from handful.data import formats
from handful.errors import DataError
from handful.models.folder import from_folder
from handful.pick import need
from handful.training.coco_table import coco_table, predicted_row, rule_of
from handful.training.evaluate_segment import chosen_split, not_counted
from handful.training.loader_detect import Boxed, gather
from handful.training.source import held

TASKS = ("detect", "instance")
WATCHED = ("AP", "AP50", "AP75", "AR100")
SIZE_RULE = (
    "each image is squashed to the model's frame, boxes are scaled back and masks enlarged (bilinear, above 0.5) to "
    "the image's own size"
)


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

    most: only so many of the photos. Returns handful.training.coco_table.STATS by name (0..1, None where there is
    nothing to measure by), for the masks too ("mask_AP", ...) where the photos have them, "per_class": {name: {"AP",
    "mask_AP", "objects"}}, and "rule".
    """
    count = min(len(photos), most or len(photos))
    truth, sizes, predicted = photos.truth[:count], photos.sizes_wh[:count], []
    for i in range(count):
        boxes, scores, labels, masks = answers(network, photos.photo(i), sizes[i])
        each = zip(labels.tolist(), scores.tolist(), boxes, masks if photos.with_masks else [None] * len(boxes),
                   strict=True)  # fmt: skip
        predicted.append([predicted_row(*one) for one in each])
    objects = Counter(row["category_id"] for rows in truth for row in rows if not row["iscrowd"])
    per_class: dict[str, dict[str, Any]] = {name: {"objects": objects[i]} for i, name in enumerate(photos.classes)}
    stats: dict[str, Any] = {}
    for prefix, kind in (("", "bbox"), ("mask_", "segm"))[: 1 + photos.with_masks]:
        table, of_class = coco_table(truth, predicted, sizes, photos.classes, kind)
        stats |= {f"{prefix}{name}": value for name, value in table.items()}
        for name, ap in of_class.items():
            per_class[name][f"{prefix}AP"] = ap
    return {**stats, "per_class": per_class, "rule": {**rule_of(photos.with_masks), "size": SIZE_RULE}}


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
    dataset = held(formats.read(data, format=format, **options))
    other = not_counted(dataset, data, classes)
    chosen = chosen_split(dataset, split)
    network = ready(loaded.network, device)
    photos = gather(dataset, chosen, classes, network.frame_hw, masks=task == "instance")
    return {
        "schema_version": 1,
        "task": task,
        **measured(network, photos),
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
