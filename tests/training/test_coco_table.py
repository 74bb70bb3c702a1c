"""COCO's table: pycocotools' own figures, of boxes and of masks, and one rule for areas and crowds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from handful.data.shapes import rle_of
from handful.training.coco_table import (
    RULE,
    STATS,
    area_px,
    coco_table,
    mask_of,
    predicted_row,
    rule_of,
    run_lengths,
    truth_row,
)
from handful.types import Object

SIZE_WH = (300, 200)


def ellipse(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    center, radius = rng.uniform(20, 180, 2), rng.uniform(4, 70, 2)
    return ((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2 <= 1


def made(seed: int = 0, images: int = 6) -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
    """Ellipses of two classes, one of five a crowd, and predictions that are near them, far from them or doubled."""
    rng = np.random.default_rng(seed)
    truth: list[list[dict[str, Any]]] = []
    predicted: list[list[dict[str, Any]]] = []
    for _ in range(images):
        rows, found = [], []
        for i in range(5):
            pixels, label = ellipse(rng), int(rng.integers(2))
            thing = Object("ab"[label], rle=rle_of(pixels), crowd=i == 0)
            left, top, wide, high = mask_api.toBbox(run_lengths(pixels)).tolist()
            box = (left, top, left + wide, top + high)
            rows.append(truth_row(thing, label, box, SIZE_WH, pixels))
            for shift in rng.integers(0, 12, rng.integers(3)).tolist():
                moved = np.roll(pixels, shift, axis=1)
                there = (left + shift, top, left + shift + wide, top + high)
                found.append(predicted_row(label, rng.random(), there, run_lengths(moved)))
        found.append(predicted_row(int(rng.integers(2)), rng.random(), (5, 5, 25, 25), run_lengths(ellipse(rng))))
        truth.append(rows)
        predicted.append(found)
    return truth, predicted


def peer(truth: list[list[dict[str, Any]]], predicted: list[list[dict[str, Any]]], kind: str) -> tuple[Any, Any]:
    """pycocotools' figures, the predictions' areas as its own loadRes makes them."""
    coco = COCO()
    rows = [{**row, "image_id": i} for i, own in enumerate(truth) for row in own]
    coco.dataset = {
        "images": [{"id": i, "width": SIZE_WH[0], "height": SIZE_WH[1]} for i in range(len(truth))],
        "annotations": [{**row, "id": i} for i, row in enumerate(rows, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate("ab")],
    }
    coco.createIndex()
    what = "bbox" if kind == "bbox" else "segmentation"
    found = [{"image_id": i, "category_id": row["category_id"], "score": row["score"], what: row[what]}
             for i, own in enumerate(predicted) for row in own]  # fmt: skip
    result = COCOeval(coco, coco.loadRes(found), kind)
    result.evaluate()
    result.accumulate()
    result.summarize()
    return result.stats, result.eval["precision"]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_table_is_pycocotools_own(kind: str) -> None:
    truth, predicted = made()
    stats, each = coco_table(truth, predicted, [SIZE_WH] * len(truth), ("a", "b"), kind)
    theirs, precision = peer(truth, predicted, kind)
    assert tuple(stats) == STATS
    assert np.allclose([-1 if v is None else v for v in stats.values()], theirs, atol=1e-9)
    for k, name in enumerate("ab"):
        own = precision[:, :, k, 0, 2]
        assert each[name] == pytest.approx(float(own[own > -1].mean()), abs=1e-9)
    assert 0.2 < stats["AP"] < 0.9  # type: ignore[operator]
    other = "segm" if kind == "bbox" else "bbox"
    assert stats != coco_table(truth, predicted, [SIZE_WH] * len(truth), ("a", "b"), other)[0]


def test_the_area_is_the_labels_or_the_pixels_or_the_boxs() -> None:
    box = (10.0, 10.0, 30.0, 30.0)
    pixels = np.zeros(SIZE_WH[::-1], bool)
    pixels[10:30, 10:20] = True
    outline = np.array([[10, 10], [20, 10], [20, 30], [10, 30.0]])
    for thing, area in (
        (Object("a", box_px=box), 400), (Object("a", box_px=box, rle=rle_of(pixels)), 200),
        (Object("a", box_px=box, polygons_px=(outline,)), 200),
        (Object("a", box_px=box, rle=rle_of(pixels), attributes={"area": 55.5}), 55.5),
        (Object("a", box_px=box, attributes={"area": True}), 400),
        (Object("a", box_px=box, attributes={"area": 0}), 400),
    ):  # fmt: skip
        assert area_px(thing, box, SIZE_WH) == area == truth_row(thing, 0, box, SIZE_WH)["area"]


def test_a_crowd_that_is_only_a_box_is_all_of_it_and_another_thing_is_not() -> None:
    box = (-5.0, 10.2, 30.0, 500.0)
    mask = mask_of(Object("a", box_px=box, crowd=True), box, SIZE_WH)
    assert mask is not None and mask.shape == SIZE_WH[::-1] and mask[10:, :30].all() and mask.sum() == 190 * 30
    assert mask_of(Object("a", box_px=box), box, SIZE_WH) is None


def test_the_rule_speaks_of_every_figure() -> None:
    words = " ".join(rule_of(False))
    assert all(name in words.replace(",", " ").split() for name in STATS)
    assert rule_of(True) == RULE and rule_of(False).keys() == RULE.keys() - {"mask_..."}
