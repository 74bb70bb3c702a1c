"""Results: checked when made, drawn, as JSON, and to and from supervision."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import plotting
from handful.errors import DataError
from handful.pick import present
from handful.results import NONE_OF_THESE, Classification, Detections, Origin, Patch, Segmentation
from tests import skips
from tests.kinds.worlds import rgb

ORIGIN = Origin("made", (50, 40), rgb_u8=rgb(0))


def detections(n: int = 3, masks: bool = False) -> Detections:
    boxes = np.array([[2, 3, 20, 22], [10, 5, 40, 30], [30, 20, 49, 39]], np.float64)[:n]
    patches = tuple(
        Patch((int(b[0]), int(b[1])), np.eye(int(b[3] - b[1]), int(b[2] - b[0]), dtype=bool) | (i % 2 == 0))
        for i, b in enumerate(boxes)
    )
    return Detections(
        ("apple", "leaf"), boxes, np.array([0.9, 0.7, 0.4])[:n], np.array([1, 0, 1])[:n],
        np.array([2.0, 1.0, -1.0])[:n],
        np.zeros((n, 0)), patches if masks else None, (50, 40), ORIGIN,
    )  # fmt: skip


def test_classification_of_scores() -> None:
    known = Classification.of(np.array([1.0, 3.0, 2.0], np.float32), ("a", "b"), ORIGIN)
    assert known.label == "b" and known.margin == 1.0 and known.nearest == "b"
    none = Classification.of(np.array([1.0, 2.0, 2.0], np.float32), ("a", "b"), ORIGIN)
    assert none.label is None and none.nearest == "b" and none.margin == 0.0  # a tie is none of these
    assert none.top(1)[0][0] in (NONE_OF_THESE, "b")
    closed = Classification.of(np.array([1.0, 2.0], np.float32), ("a", "b"), ORIGIN)
    assert closed.label == "b" and closed.margin is None and [n for n, _ in closed.top(9)] == ["b", "a"]
    told = known.to_json(top=2)
    assert list(told["probabilities"]) == ["b", NONE_OF_THESE]  # type: ignore[arg-type]
    assert abs(sum(p for _, p in known.top(3)) - 1) < 1e-9
    with pytest.raises(DataError, match="a score for each of 2 classes"):
        Classification("a", "a", 1.0, ("a", "b"), np.zeros(5, np.float32), ORIGIN)


def test_detections_as_rows_and_picture() -> None:
    found = detections(masks=True)
    assert found.names == ("leaf", "apple", NONE_OF_THESE) and len(found) == 3
    told = json.loads(json.dumps(found.to_json()))
    assert [row["class"] for row in told["found"]] == ["leaf", "apple", "leaf"]
    assert [row["unknown"] for row in told["found"]] == [False, False, True] and told["source"] == "made"
    assert told["found"][0]["mask"]["size"] == [40, 50]
    plain, drawn = rgb(0), found.plot()
    assert drawn.shape == plain.shape and (drawn != plain).any(axis=2).mean() > 0.2
    assert (detections().plot() != drawn).any()  # masks show
    assert np.array_equal(detections(0).plot(), plain)
    bare = Detections(("a",), *(np.zeros((0, 4)), *(np.zeros(0) for _ in range(3)), np.zeros((0, 0))))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"plot\(image\)"):
        bare.plot()


def test_supervision_and_back() -> None:
    skips.need(present("supervision"), "supervision", "supervision is not installed")
    for masks in (False, True):
        found = detections(masks=masks)
        there = found.to_supervision()
        assert there.class_id.tolist() == [1, 0, 2] and there.data["class_name"].tolist() == list(found.names)
        assert (there.mask is None) != masks
        back = Detections.from_supervision(there, found.classes, found.size_wh)
        assert back.names == found.names and np.allclose(back.xyxy_px, found.xyxy_px)
        assert np.allclose(back.score, found.score) and np.allclose(back.margin, found.margin)
        if masks:
            assert back.masks is not None and found.masks is not None
            for one, other in zip(back.masks, found.masks, strict=True):
                assert np.array_equal(one.whole((50, 40)), other.whole((50, 40)))
    import supervision as sv

    foreign = sv.Detections(xyxy=np.array([[0, 0, 5, 5], [1, 1, 9, 9]]), class_id=np.array([0, 1]),
                            confidence=np.array([0.2, 0.8]))  # fmt: skip
    taken = Detections.from_supervision(foreign, ("x", "y"))
    assert taken.names == ("y", "x") and not taken.unknown.any()  # best first
    with pytest.raises(DataError, match="class_id 1 is none of"):
        Detections.from_supervision(foreign, ())
    with pytest.raises(DataError, match="no class_id"):
        Detections.from_supervision(sv.Detections(xyxy=np.array([[0, 0, 5, 5]])), ("x",))
    assert len(Detections.from_supervision(sv.Detections.empty(), ("x",))) == 0


def test_segmentation() -> None:
    ids = np.zeros((40, 50), np.uint8)
    ids[:10] = 1
    found = Segmentation(ids, ("sky", "road", "car"), ORIGIN, "sky")
    assert found.shares == {"sky": 0.75, "road": 0.25} and found.mask("road").sum() == 500
    assert not found.mask("car").any()
    large = rgb(5, (400, 500))
    wide = Segmentation(
        np.repeat(np.repeat(ids, 10, 0), 10, 1), found.classes, Origin("l", (500, 400), rgb_u8=large), "sky"
    )
    drawn = wide.plot()
    assert np.array_equal(drawn[100:, 250:], large[100:, 250:])  # the background stays as it is
    assert (drawn[:100, 250:] != large[:100, 250:]).mean() > 0.9
    with pytest.raises(DataError, match="no class named 'sea'"):
        found.mask("sea")
    with pytest.raises(DataError, match="uint8"):
        Segmentation(ids.astype(np.int64), ("a",), ORIGIN)  # type: ignore[arg-type]


def test_a_patch_is_checked() -> None:
    assert Patch.of(np.zeros((4, 4), bool)) is None
    whole = np.zeros((9, 8), bool)
    whole[2:5, 3:6] = True
    one = Patch.of(whole)
    assert one is not None and one.box_px == (3, 2, 6, 5) and np.array_equal(one.whole((8, 9)), whole)
    for bad in (np.zeros((2, 2), bool), np.ones((2, 2)), np.ones(3, bool)):
        with pytest.raises(DataError, match="a mask must be bool"):
            Patch((0, 0), bad)  # type: ignore[arg-type]


def test_a_file_that_has_gone(tmp_path: Path) -> None:
    origin = Origin("x", (5, 5), tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone.png does not exist"):
        origin.pixels()
    with pytest.raises(DataError, match="were not kept"):
        Origin("x", (5, 5)).pixels()


def test_erosion_is_scipys() -> None:
    ndimage: Any = pytest.importorskip("scipy.ndimage")
    for seed in range(20):
        pixels = np.random.default_rng(seed).random((17, 23)) > 0.2
        for times in (1, 2, 3):
            assert np.array_equal(plotting.eroded(pixels, times), ndimage.binary_erosion(pixels, iterations=times))


def test_boxes_of_a_model_without_none_of_these_are_json() -> None:
    """As a trained detector's: no margin to "none of these", so it is infinite in Python."""
    found = dataclasses.replace(detections(), margin=np.full(3, np.inf))
    rows = json.loads(json.dumps(found.to_json(), allow_nan=False))["found"]
    assert [row["margin"] for row in rows] == [None] * 3 and not any(row["unknown"] for row in rows)
