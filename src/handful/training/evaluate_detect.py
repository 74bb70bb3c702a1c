"""How good a detector is: its boxes and masks at the size of the images, held against labels by COCO's rules."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from handful.data.finding import leaves_unreadable
from handful.pick import need
from handful.plotting import Drawn, boxed, palette
from handful.progress import track
from handful.threads import inference, over, side_by_side
from handful.training.coco_table import Row, coco_table, predicted_row, rule_of, run_lengths
from handful.training.evaluate import opened
from handful.training.loader_detect import Images, gather
from handful.training.report_page import Worst
from handful.training.source import image_of

TASKS = ("detect", "instance")
WATCHED = ("AP", "AP50", "AP75", "AR100")
SHOWN = 0.5  # least score of a prediction that counts for an image's F1 and is drawn into it
SIZE_RULE = (
    "each image is squashed to the model's frame, boxes are scaled back and masks enlarged (bilinear, above 0.5) to "
    "the image's own size"
)
WORST_RULE = (
    f"the lowest F1, 2 TP / (2 TP + FP + FN), of predictions of a score of {SHOWN:g} or more; TP, one of the right "
    "class that shares IoU .50 with an object no better one took; those inside a crowd do not count"
)


def predict(
    network: Any, rgb_u8: np.ndarray, size_wh: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """What a detector finds in an image.

    rgb_u8: (h, w, 3) uint8 RGB of the network's frame_hw. size_wh: of the image, which the predictions are for; the
    frame's unless given. Returns boxes (n, 4) float64 left, top, right, bottom in px of the image; scores (n,)
    float32, largest first; labels (n,) int64; and n masks as pycocotools' run lengths, none without masks.
    """
    device = next(iter(network.parameters())).device
    height, width = network.frame_hw
    wide, high = size_wh or (width, height)
    with inference():
        boxes, scores, labels, *masks = network(torch.from_numpy(np.array(rgb_u8[None])).to(device))
        rows: list[dict[str, Any]] = []
        for mask in masks[0] if masks else ():
            # one at a time: a hundred masks of a large image would be gigabytes
            whole = F.interpolate(mask[None, None], size=(high, wide), mode="bilinear", align_corners=False)[0, 0]
            rows.append(run_lengths((whole > 0.5).cpu().numpy()))
    back = np.array([wide / width, high / height] * 2)
    return boxes.cpu().numpy().astype(np.float64) * back, scores.cpu().numpy(), labels.cpu().numpy(), rows


def measured(network: Any, images: Images, most: int | None = None, *, worst: Worst | None = None) -> dict[str, Any]:
    """Scores of a detector in eval mode on images that are already at the frame's size, labels at their own.

    most: only so many of the images. worst: collects those with the lowest F1, of those with a fault, for a page.
    Returns handful.training.coco_table.STATS by name (0..1, None where there is nothing to measure by), for the masks
    too ("mask_AP", ...) where the images have them, "per_class": {name: {"AP", "mask_AP", "objects"}}, "rule", and with
    `worst` its rows.
    """
    count = min(len(images), most or len(images))
    truth, sizes, predicted = images.truth[:count], images.sizes_wh[:count], []
    done = over(lambda i: predict(network, images.pixels(i), sizes[i]), range(count), workers=side_by_side(network))
    for i, (boxes, scores, labels, masks) in enumerate(track(done, "measuring", count)):
        each = zip(labels.tolist(), scores.tolist(), boxes, masks if images.with_masks else [None] * len(boxes),
                   strict=True)  # fmt: skip
        predicted.append([predicted_row(*one) for one in each])
        if worst is not None:
            _add(worst, images, i, predicted[-1])
    objects = Counter(row["category_id"] for rows in truth for row in rows if not row["iscrowd"])
    per_class: dict[str, dict[str, Any]] = {name: {"objects": objects[i]} for i, name in enumerate(images.classes)}
    stats: dict[str, Any] = {}
    for prefix, kind in (("", "bbox"), ("mask_", "segm"))[: 1 + images.with_masks]:
        table, of_class = coco_table(truth, predicted, sizes, images.classes, kind)
        stats |= {f"{prefix}{name}": value for name, value in table.items()}
        for name, ap in of_class.items():
            per_class[name][f"{prefix}AP"] = ap
    rule = {**rule_of(images.with_masks), "size": SIZE_RULE}
    if worst is None:
        return {**stats, "per_class": per_class, "rule": rule}
    return {**stats, "per_class": per_class, "rule": {**rule, "worst": WORST_RULE}, "worst": worst.rows()}


def _add(worst: Worst, images: Images, index: int, predicted: list[Row]) -> None:
    truth, shown = images.truth[index], [row for row in predicted if row["score"] >= SHOWN]
    right, wrong, missed = counted(truth, shown)
    if wrong + missed:
        f1 = 2 * right / (2 * right + wrong + missed)
        about = {"image": images.names[index], "f1": f1, "right": right, "wrong": wrong, "missed": missed}
        worst.add(f1, about, functools.partial(_pictures, images, index, shown))


def counted(truth: list[Row], predicted: list[Row], least: float = 0.5) -> tuple[int, int, int]:
    """TP, FP and FN in one image, by the overlap of boxes: see WORST_RULE. predicted: the best first."""
    overlap = need("pycocotools.mask", "data").iou
    right = wrong = 0
    for label in {row["category_id"] for row in predicted}:
        own = [row for row in truth if row["category_id"] == label]
        mine = np.array([row["bbox"] for row in predicted if row["category_id"] == label])
        crowd = np.array([row["iscrowd"] for row in own], bool)
        boxes = np.array([row["bbox"] for row in own]).reshape(-1, 4)
        shared = np.reshape(overlap(mine, boxes, crowd.astype(int).tolist()), (len(mine), len(own)))
        free = ~crowd
        for row in shared:
            taken = np.where(free, row, -1.0)
            if taken.size and taken.max() >= least:
                free[taken.argmax()] = False
                right += 1
            else:
                wrong += not (row[crowd] >= least).any()
    return right, wrong, sum(not row["iscrowd"] for row in truth) - right


def _pictures(images: Images, index: int, shown: list[Row]) -> dict[str, np.ndarray]:
    rgb, colors = image_of(images.samples[index]).rgb_u8, palette(images.classes)

    def drawn(rows: list[Row]) -> list[Drawn]:
        decode = need("pycocotools.mask", "data").decode
        found = []
        for row in rows:
            left, top, wide, high = row["bbox"]
            name = images.classes[row["category_id"]] + (f" {row['score']:.2f}" if "score" in row else "")
            pixels = np.asarray(decode(row["segmentation"]), bool) if "segmentation" in row else None
            found.append(Drawn((left, top, left + wide, top + high), name, colors[row["category_id"]], pixels))
        return found

    return {"labeled": boxed(rgb, drawn(images.truth[index])), "predicted": boxed(rgb, drawn(shown))}


def evaluate(
    model: Path, data: Path, *, split: str | None = None, format: str | None = None, device: str = "cpu",
    report: Path | None = None, allow: Sequence[str] = (), **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Measure a detector's model folder on a split of any data set with boxes: test unless named, or val.

    Where the model gives masks, the objects in the data must have outlines or pixels. report: an HTML page to write.
    allow: codes of errors to go on with; with one of finding.UNREADABLE, images that cannot be read are left
    out, with a warning. Classes of the data that the model does not have are not counted, with a warning. Returns the
    JSON object that `handful evaluate --json` prints. Raises DataError or UnknownName.
    """
    subject = opened(model, data, TASKS, split=split, format=format, device=device, allow=allow, **options)
    masks = subject.about["task"] == "instance"
    images = gather(subject.dataset, subject.split, subject.classes, subject.network.frame_hw, masks=masks,
                    leave_out=leaves_unreadable(allow))  # fmt: skip
    worst = Worst(shown=report is not None)
    measures = {
        **measured(subject.network, images, worst=worst), "images": len(images), "objects": sum(images.objects),
        "unlabeled": sum(map(len, images.skipped.values())),
    }  # fmt: skip
    return subject.result(measures, worst, report, images.marks())
