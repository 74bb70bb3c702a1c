"""One network at several scales, through a proposer that sees nothing small."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import handful.detection
from handful.detection import multiscale
from handful.detection.chips import ranges, valid
from handful.detection.contract import Proposals
from handful.detection.fusion import iou
from handful.detection.irene import Irene
from handful.detection.multiscale import FocusMap, MultiScaleProposer, Scales, fit_scales, pyramid_scales
from handful.errors import DataError, UnknownName
from tests.detection.proposers.proposer_squint import SIDE_PX, Squint
from tests.detection.test_irene import BARE, COLORS, PROPOSERS


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def photo(size_wh: tuple[int, int], boxes: list[tuple[int, int, int, int]], color: str = "leaf") -> np.ndarray:
    rgb = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for left, top, right, bottom in boxes:
        rgb[top:bottom, left:right] = COLORS[color]
    return rgb


# at 512 x 384 fitted into 128 px one px of the input is 4 px: the first is seen at once, the others twice as large
LARGE, SMALL, OTHER = (40, 60, 240, 260), (400, 80, 412, 92), (344, 304, 356, 316)
WH = (512, 384)


def near(boxes: np.ndarray, wanted: list[tuple[int, int, int, int]]) -> list[bool]:
    over = iou(np.array(wanted, np.float64), boxes)
    return (over.max(axis=1, initial=0.0) > 0.6).tolist()


def test_a_finer_scale_finds_what_is_small() -> None:
    rgb = photo(WH, [LARGE, SMALL, OTHER])
    whole = MultiScaleProposer(Squint(), Scales(2, "whole"))
    assert near(whole.propose(rgb).xyxy_px, [LARGE, SMALL, OTHER]) == [True, False, False] and whole.px == SIDE_PX**2
    proposer = MultiScaleProposer(Squint(), Scales(2, "pyramid"))
    seen = proposer.propose(rgb)
    assert near(seen.xyxy_px, [LARGE, SMALL, OTHER]) == [True] * 3 and (np.diff(seen.quality) <= 0).all()
    found = seen.scale[iou(np.array([LARGE, SMALL, OTHER], np.float64), seen.xyxy_px).argmax(axis=1)]
    assert found.tolist() == [0, 1, 1] and proposer.images == 1 and proposer.px == 7 * SIDE_PX**2  # 3 x 2 windows
    # the large one was seen in pieces only, and pieces of objects are not told
    assert len(seen) == 3
    assert len(proposer.propose(rgb, 2)) == 2


def test_focus_looks_only_where_something_is_small() -> None:
    rgb = photo(WH, [LARGE, SMALL])
    proposer = MultiScaleProposer(Squint(focus=True), Scales(2, "focus", focus_threshold=0.5, min_cells=2))
    seen = proposer.propose(rgb)
    assert near(seen.xyxy_px, [LARGE, SMALL]) == [True, True] and set(seen.scale.tolist()) == {0, 1}
    assert proposer.px == 2 * SIDE_PX**2 and seen.focus is not None
    canvas = proposer.proposer.shown[1]  # type: ignore[attr-defined]
    assert canvas.shape == (SIDE_PX, SIDE_PX, 3) and (canvas == COLORS["leaf"]).all(axis=2).any()
    nothing = MultiScaleProposer(Squint(focus=True), Scales(2, "focus", focus_threshold=0.5))
    assert len(nothing.propose(photo(WH, [LARGE]))) == 1 and nothing.px == SIDE_PX**2
    assert len(nothing.propose(photo(WH, []))) == 0


def test_focus_by_the_boxes_of_an_eye_without_a_map() -> None:
    # a neighbor that is seen, and small, makes the place worth another look
    beside = (364, 80, 380, 100)
    rgb = photo(WH, [SMALL, beside])
    proposer = MultiScaleProposer(Squint(), Scales(2, "focus", focus_threshold=0.5, min_cells=2))
    assert near(proposer.propose(rgb).xyxy_px, [SMALL, beside]) == [False, True] and proposer.px == SIDE_PX**2
    multiscale_small = photo(WH, [SMALL, (360, 74, 388, 104)])  # above 5 px of the input
    seen = proposer.propose(multiscale_small)
    assert near(seen.xyxy_px, [SMALL, (360, 74, 388, 104)]) == [True, True]


def test_three_scales_go_on_where_the_second_says_so() -> None:
    tiny = (200, 200, 206, 206)  # 1.5 px, 3 px, 6 px of the input
    proposer = MultiScaleProposer(Squint(focus=True), Scales(3, "focus", focus_threshold=0.5, min_cells=2))
    seen = proposer.propose(photo(WH, [tiny]))
    assert near(seen.xyxy_px, [tiny]) == [True] and seen.scale.tolist() == [2] and proposer.px == 3 * SIDE_PX**2


def test_the_same_photo_is_seen_the_same_and_in_batches_too() -> None:
    class Many(Squint):
        calls: ClassVar[list[int]] = []

        def propose_batch(self, photos: list[np.ndarray], max_boxes: int) -> list[object]:
            self.calls.append(len(photos))
            return [self.propose(one, max_boxes) for one in photos]

    rgb = photo(WH, [LARGE, SMALL, OTHER])
    one, many = MultiScaleProposer(Squint(), Scales(2, "pyramid")), MultiScaleProposer(Many(), Scales(2, "pyramid"))
    first, again, batched = one.propose(rgb), one.propose(rgb), many.propose(rgb)
    for other in (again, batched):
        assert (first.xyxy_px == other.xyxy_px).all() and (first.quality == other.quality).all()
    assert Many.calls == [1, 4, 2]


def test_features_come_from_the_scale_that_shows_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiscale, "FEATURE_PX", 8.0)
    rgb = photo(WH, [LARGE, SMALL, OTHER])
    boxes = np.array([LARGE, SMALL, OTHER], np.float64)
    proposer = MultiScaleProposer(Squint(), Scales(2, "pyramid"))
    size = proposer.propose(rgb).features(boxes)[:, 3]
    assert size[0] == pytest.approx(50) and size[1:] == pytest.approx([6, 6])  # twice as large as at one scale
    known = proposer.encode(rgb).features(boxes)
    assert np.allclose(known, proposer.propose(rgb).features(boxes), atol=1e-3)
    # nobody has looked there: the coarser scale's; and one box by itself is described as among others
    whole = MultiScaleProposer(Squint(), Scales(2, "whole"))
    assert whole.propose(rgb).features(boxes)[1:, 3] == pytest.approx([3, 3])
    assert np.allclose(proposer.propose(rgb).features(boxes[1:2]), known[1:2], atol=1e-3)
    assert proposer.propose(rgb).features(np.zeros((0, 4))).shape == (0, 4)
    # a canvas that is no longer in memory is looked at again
    monkeypatch.setattr(multiscale, "MAX_CACHED", 1)
    assert np.allclose(proposer.propose(rgb).features(boxes), known, atol=1e-3)


def test_a_detector_keeps_how_it_looks(tmp_path: Path) -> None:
    irene = Irene.new("squint", crop=BARE, scales=Scales(2, "pyramid"))
    for color in ("leaf", "apple"):
        for i in range(3):
            rgb = photo(WH, [(40 + i, 60, 100 + i, 120), (400, 80 + i, 412, 92 + i)], color)
            boxes = np.array([[40 + i, 60, 100 + i, 120], [400, 80 + i, 412, 92 + i]], np.float64)
            irene.learn(rgb, boxes, [color] * 2, f"{i}.jpg")
    irene.save(tmp_path / "d")
    again = Irene.load(tmp_path / "d")
    assert isinstance(again.proposer, MultiScaleProposer) and again.proposer.scales == Scales(2, "pyramid")
    rgb = photo(WH, [(60, 60, 124, 124), SMALL], "apple")
    one, two = irene.detect(rgb), again.detect(rgb)
    assert len(two) == 2 and (one.score == two.score).all() and {two.classes[k] for k in two.label} == {"apple"}
    assert len(Irene.load(tmp_path / "d", scale_mode="whole").detect(rgb)) == 1
    with pytest.raises(UnknownName, match="did you mean 'pyramid'"):
        Irene.load(tmp_path / "d", scale_mode="pyramids")
    plain = Irene.new("squint", crop=BARE)
    assert plain.embedder.name != irene.embedder.name  # vectors of other scales are not compared


def test_a_ladder() -> None:
    levels, sure = pyramid_scales((640, 480), 416, 3)
    assert [s.factor for s in levels] == [0.65, 1.3, 2.6] and sure == 1
    assert [s.factor for s in pyramid_scales((640, 480), 416, 4)[0]] == [0.65, 1.3, 2.6]  # 5.2 shows no more
    assert pyramid_scales((640, 480), 416, 1)[0][0].valid_range == (0.0, math.inf)
    assert [s.factor for s in pyramid_scales((8, 8), 416, 3)[0]] == [52]
    long, sure = pyramid_scales((20000, 300), 416, 2)
    assert long[0].factor == 416 / 20000 and long[-2].factor == pytest.approx(1.04) and sure == len(long) - 1
    assert long[-1].factor == pytest.approx(2.08)
    assert all(1 < b.factor / a.factor < 2.0001 for a, b in itertools.pairwise(long))  # type: ignore[operator]
    # no size falls between two scales, however far apart
    for size in np.geomspace(1, 19000, 200):
        assert any(s.valid_range[0] <= size <= s.valid_range[1] for s in long), size
    assert [pyramid_scales((wide, 100), 64, 1)[1] for wide in (100, 300, 301)] == [1, 1, 3]
    assert ranges([1.0], 64)[0].train_range == (0.0, math.inf)
    far, near_by = ranges([0.02, 1.0], 416)
    assert near_by.valid_range[1] >= far.valid_range[0] > 0 and near_by.train_range[1] >= far.train_range[0]


def test_as_many_scales_as_the_boxes_ask_for() -> None:
    def boxes(side: float, n: int = 10) -> np.ndarray:
        return np.tile([10, 10, 10 + side, 10 + side], (n, 1)).astype(np.float64)

    assert fit_scales([((640, 480), boxes(200))]) == Scales(1, "whole")
    assert fit_scales([((640, 480), boxes(20)), ((640, 480), boxes(200))]) == Scales(2, "focus")
    with pytest.raises(DataError, match="0 sizes"):
        fit_scales([])
    for wrong, said in (
        ({"count": 0}, "0 scales"),
        ({"focus_threshold": 2.0}, "focus_threshold is 2.0"),
        ({"min_cells": 0}, "min_cells 0"),
    ):
        with pytest.raises(DataError, match=said):
            Scales(**wrong)


def test_what_is_worth_a_closer_look() -> None:
    worth = FocusMap((64, 32), 0.5)  # cells of 32 px of the image
    assert worth.value.shape == (1, 2)
    worth.add_boxes(np.array([[40, 4, 60, 28], [0, 0, 9, 9.0]]), np.array([0.4, 0.9]))  # the second is too small
    assert worth.value.tolist() == [[0.0, 0.4]]
    assert worth.rectangles(0.5, 1).shape == (0, 4)
    worth = FocusMap((160, 160), 1.0)
    worth.add_map(np.array([[0.1, 0.2], [0.3, 0.9]]), (0, 0, 80, 80), (0, 0, 1, 1))
    worth.add_map(np.array([[0.0, 0.7], [0.0, 0.0]]), (80, 80, 160, 160), (0.5, 0.0, 1.0, 0.5))
    assert worth.value[0, 0] == 0.1 and worth.value[4, 4] == 0.9 and worth.value[2, 4] == 0.9
    assert worth.value[0, 9] == 0.0 and (worth.value[5:, 5:] == 0.7).all()
    found = worth.rectangles(0.8, 2)
    assert len(found) == 1 and (found[0] >= [16, 16, 80, 80]).all() and (found[0] <= [32, 32, 112, 112]).all()


@pytest.mark.parametrize(("look", "long"), [("whole", 20000), ("focus", 4000), ("pyramid", 4000)])
def test_a_panorama_is_seen_in_pieces_with_bounded_memory(
    look: str, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiscale, "MAX_CACHED", 3)
    wanted = [(100 * i, 10, 100 * i + 24, 34) for i in range(2, long // 100 - 10, 20)]
    rgb = photo((long, 60), wanted)
    proposer = MultiScaleProposer(Squint(), Scales(2, look))
    seen = proposer.propose(rgb)
    assert near(seen.xyxy_px, wanted) == [True] * len(wanted)
    assert proposer.px < 60 * long * 40 and seen.features(seen.xyxy_px).shape == (len(seen), 4)
    assert (seen.xyxy_px[:, 2] <= long).all()
    assert np.allclose(proposer.encode(rgb).features(np.array(wanted, np.float64))[:, :3], COLORS["leaf"], atol=60)


@pytest.mark.parametrize("size_wh", [(8, 8), (9, 8), (1, 1), (8, 40), (3, 700)])
@pytest.mark.parametrize("look", ["focus", "pyramid"])
def test_tiny_photos(size_wh: tuple[int, int], look: str) -> None:
    rgb = np.full((size_wh[1], size_wh[0], 3), 200, np.uint8)
    proposer = MultiScaleProposer(Squint(focus=look == "focus"), Scales(3, look))
    seen = proposer.propose(rgb)
    edge = np.array([*size_wh, *size_wh])
    assert (seen.xyxy_px >= 0).all() and (seen.xyxy_px <= edge).all()
    whole = np.array([[0, 0, *size_wh]], np.float64)
    assert proposer.encode(rgb).features(whole).shape == (1, 4) and np.isfinite(seen.features(whole)).all()


def test_a_thousand_things_in_a_photo() -> None:
    wanted = [(20 * i + 4, 20 * j + 4, 20 * i + 16, 20 * j + 16) for i in range(40) for j in range(25)]
    proposer = MultiScaleProposer(Squint(), Scales(3, "pyramid"))
    seen = proposer.propose(photo((800, 500), wanted), 300)
    assert len(seen) == 300 and (iou(seen.xyxy_px, np.array(wanted, np.float64)).max(axis=1) > 0.5).mean() > 0.95
    few = proposer.propose(photo((800, 500), wanted), 10)
    assert len(few) == 10


def test_each_scale_is_believed_about_its_sizes() -> None:
    # the one is whole in a window of the finer scale and too large for it; the other is seen by both, and left to it
    huge, both = (8, 8, 248, 248), (400, 80, 420, 100)
    for look, focus in (("pyramid", False), ("focus", True)):
        seen = MultiScaleProposer(Squint(focus), Scales(2, look, focus_threshold=0.5)).propose(photo(WH, [huge, both]))
        found = [tuple(box) for box in seen.xyxy_px.round().tolist()]
        told = {tuple(box): int(k) for box, k in zip(found, seen.scale, strict=True)}
        assert len(seen) == 2 and told[huge] == 0, look
        assert told[both] == (1 if look == "pyramid" else 0)  # nothing says that focus should look there again
    levels, _ = pyramid_scales(WH, SIDE_PX, 2)
    assert valid(np.array([huge], np.float64), levels[0].valid_range) and not valid(
        np.array([huge]), levels[1].valid_range
    )


def test_a_box_that_is_mostly_of_the_empty_canvas_is_nothing() -> None:
    class Wide(Squint):
        def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
            seen = super().propose(rgb_u8, max_boxes)
            if rgb_u8.shape != (SIDE_PX, SIDE_PX, 3):
                return seen
            box = np.array([[30.0, 30.0, 90.0, 90.0]])  # what is cut out ends at 64
            return Proposals(box, np.ones(1), np.zeros(1, np.int64), seen.features, seen.focus)

    proposer = MultiScaleProposer(Wide(focus=True), Scales(2, "focus", focus_threshold=0.5, min_cells=2))
    seen = proposer.propose(photo(WH, [(500, 372, 512, 384)]))  # in the corner: the rest of it would not look cut
    assert proposer.px == 2 * SIDE_PX**2 and len(seen) == 0
