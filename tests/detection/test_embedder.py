"""Boxes to vectors: of length 1, the same for the same box, and refused outside the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handful import engine
from handful.data.sample_images import sample_photo
from handful.detection import embedder
from handful.detection.contract import Proposals
from handful.detection.crops import share_crops
from handful.detection.embedder import BoxEmbedder, CropSettings, crop_boxes
from handful.errors import DataError, UnknownName
from handful.models import lite
from tests.skips import need_runtime


class Fake:
    """A proposer whose features are where a box lies and how large it is."""

    def __init__(self, dim: int = 4, name: str = "fake") -> None:
        self.dim, self.network = dim, None
        self.about: dict[str, Any] = {
            "name": name,
            "license": "none",
            "trained_on": "nothing",
            "params": 0,
            "sha256": "0",
        }

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        high, wide = rgb_u8.shape[:2]
        box = np.array([[0, 0, wide, high]], np.float64)

        def features(boxes: np.ndarray) -> np.ndarray:
            middle = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - [wide / 2, high / 2])  # the same in a mirror
            return np.concatenate([middle, boxes[:, 2:] - boxes[:, :2]], 1).astype(np.float32)[:, : self.dim]

        return Proposals(box, np.ones(1), np.zeros(1, np.int64), features)


BOXES = np.array([[20, 30, 200, 220], [100, 5, 140, 500], [0, 0, 512, 512], [300.5, 300.2, 301, 301]])
BARE = CropSettings(backbone=None, share=1)


@pytest.fixture(scope="module")
def both() -> BoxEmbedder:
    return BoxEmbedder(Fake())


def test_vectors_have_length_1_and_do_not_depend_on_company(both: BoxEmbedder) -> None:
    rgb = sample_photo("astronaut").rgb_u8
    seen = both.proposer.propose(rgb)
    found = both.embed(rgb, BOXES, seen)
    assert found.shape == (4, both.dim) and np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.allclose(both.embed(rgb, BOXES[1:2], seen)[0], found[1], atol=1e-5)
    assert both.embed(rgb, np.zeros((0, 4)), seen).shape == (0, both.dim)
    again = BoxEmbedder(Fake())
    assert again.name == both.name and (again.embed(rgb, BOXES[:1], seen) == both.embed(rgb, BOXES[:1], seen)).all()


def test_the_share_is_the_squared_length_of_the_proposers_part(both: BoxEmbedder) -> None:
    rgb = sample_photo("astronaut").rgb_u8
    found = both.embed(rgb, BOXES[:2], both.proposer.propose(rgb))
    assert np.allclose((found[:, :4] ** 2).sum(axis=1), both.settings.share)
    only = BoxEmbedder(Fake(), BARE).embed(rgb, BOXES[:2], both.proposer.propose(rgb))
    assert only.shape == (2, 4) and np.allclose(found[:, :4] / np.sqrt(both.settings.share), only)


def test_both_engines_give_the_same_vectors_but_for_their_last_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    need_runtime("onnxruntime")
    rgb = sample_photo("astronaut").rgb_u8
    with engine.using("onnxruntime"):
        one = BoxEmbedder(Fake())
    seen = one.proposer.propose(rgb)
    found, want = one.embed(rgb, BOXES, seen), one.on_torch().embed(rgb, BOXES, seen)
    assert np.abs(found - want).max() < 1e-5 and (found != want).any()
    assert one.name == one.on_torch().name
    monkeypatch.setattr(lite, "BATCH_NORM_EPS", 1e-4)
    with engine.using("onnxruntime"):
        assert np.abs(BoxEmbedder(Fake()).embed(rgb, BOXES, seen) - want).max() > 1e-5  # a planted fault


def test_a_taught_box_is_the_mean_of_it_and_its_mirror_image(both: BoxEmbedder) -> None:
    rgb = sample_photo("astronaut").rgb_u8
    taught = both.embed_flip_averaged(rgb, BOXES[:1])
    mirrored = np.array([[512 - 200, 30, 512 - 20, 220.0]])
    turned = both.embed_flip_averaged(rgb[:, ::-1], mirrored)
    assert np.allclose(taught, turned, atol=1e-5)
    plain = both.embed(rgb, BOXES[:1], both.proposer.propose(rgb))
    assert 0.8 < float((taught * plain).sum()) < 1 - 1e-6


def test_names_tell_what_shaped_the_vectors() -> None:
    names = {BoxEmbedder(Fake(name=n), look).name for n, look in (
        ("a", BARE), ("b", BARE), ("a", CropSettings(backbone=None, share=1, side_px=96)))}  # fmt: skip
    assert len(names) == 3


def test_crops() -> None:
    rgb = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8)
    found = crop_boxes(rgb, np.array([[10, 20, 30, 60], [79.5, 99.5, 80, 100], [0, 0, 80, 100.0]]), 32, 0.1)
    assert found.shape == (3, 32, 32, 3) and found.dtype == np.uint8
    # 10 % of 20 x 40 px on each side; the last pixel's crop is two px wide
    assert (found[1] == crop_boxes(rgb, np.array([[78, 98, 80, 100.0]]), 32, 0.0)[0]).all()
    assert (found[0] == crop_boxes(rgb, np.array([[8, 16, 32, 64.0]]), 32, 0.0)[0]).all()
    assert (found[2] == crop_boxes(rgb, np.array([[-9, -9, 99, 199.0]]).clip(0, [80, 100, 80, 100]), 32, 0.0)[0]).all()


@pytest.mark.parametrize("box", [[600, 5, 700, 50], [5, 5, 5, 50], [50, 5, 20, 60]])
def test_a_box_outside_is_refused(box: list[float]) -> None:
    rgb = sample_photo("astronaut").rgb_u8
    one = BoxEmbedder(Fake(), BARE)
    with pytest.raises(DataError, match="lies outside the image of 512x512 px"):
        one.embed(rgb, np.array([box]), one.proposer.propose(rgb))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"share": 1.5}, "share is 1.5"), ({"backbone": None}, "wanted share=1"), ({"side_px": 8}, "side_px is 8"),
     ({"margin": -1}, "margin -1")],
)  # fmt: skip
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        CropSettings(**settings)


def test_a_proposer_without_features() -> None:
    with pytest.raises(DataError, match="has no features of its own; wanted share=0"):
        BoxEmbedder(Fake(dim=0))
    assert BoxEmbedder(Fake(dim=0), CropSettings(share=0)).dim == 512


def test_crops_are_shared_by_boxes_that_overlap() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 0, 105, 100], [200, 0, 300, 100], [0, 0, 100, 55], [50, 0, 150, 100],
                      [400, 0, 500, 100], [205, 5, 305, 105]], np.float64)  # fmt: skip
    own, taken = share_crops(boxes, 100)
    # 3 overlaps 0 by 0.55, 4 by a third: its own, while there are crops
    assert own.tolist() == [0, 2, 4, 5] and taken.tolist() == [0, 0, 1, 0, 2, 3, 1]
    own, taken = share_crops(boxes, 2)
    assert own.tolist() == [0, 2] and taken.tolist() == [0, 0, 1, 0, 0, -1, 1]
    assert share_crops(boxes, 2, 0.0)[1].tolist() == [0, 0, 1, 0, 0, 0, 1]
    none = share_crops(np.zeros((0, 4)), 3)
    assert none[0].shape == none[1].shape == (0,)


def test_a_mode_says_how_many_boxes_and_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb, near = sample_photo("astronaut").rgb_u8, BOXES[:3] + np.array([4.0, 0, 4, 0])
    far = np.array([[300.0, 400, 340, 440]])
    boxes = np.concatenate([BOXES[:3], np.clip(near, 0, 512), far])
    whole = Proposals(boxes, np.linspace(1, 0.5, 7), np.zeros(7, np.int64), Fake().propose(rgb).features)
    cut: list[int] = []
    real = embedder.crop_boxes

    def counted(rgb_u8: np.ndarray, given: np.ndarray, side_px: int, margin: float) -> np.ndarray:
        cut.append(len(given))
        return real(rgb_u8, given, side_px, margin)

    monkeypatch.setattr(embedder, "crop_boxes", counted)
    one = BoxEmbedder(Fake())
    every = one.embed(rgb, boxes, whole)
    shared = one.embed_proposals(rgb, whole)
    assert cut == [7, 4]  # one for each of two boxes that are nearly the same
    np.testing.assert_allclose(shared[[0, 1, 2, 6]], every[[0, 1, 2, 6]], atol=1e-5)
    assert np.abs(shared[3] - every[3]).max() > 1e-3 and np.allclose(np.linalg.norm(shared, axis=1), 1)
    one.settings = replace(one.settings, max_crops=3)
    few = one.embed_proposals(rgb, whole)
    np.testing.assert_allclose(few[:6], shared[:6], atol=1e-5)
    alone = one.proposer_front_end
    assert alone is not None  # too far from all crops: what the proposer sees is all there is
    assert (few[6, alone.rank :] == 0).all() and np.allclose(few[6, : alone.rank], alone(whole.features(far))[0])
    one.settings = replace(one.settings, max_boxes=2)
    assert one.embed_proposals(rgb, whole).shape == (2, one.dim)
    one.settings = replace(CropSettings(), max_crops=None)
    np.testing.assert_allclose(one.embed_proposals(rgb, whole), every, atol=1e-5)
    assert one.name == BoxEmbedder(Fake(), CropSettings().at("fast")).name  # what a taught box is does not change


def test_modes_by_name() -> None:
    assert CropSettings().mode == "accurate" and CropSettings().at("fast").mode == "fast"
    assert CropSettings(max_crops=7).mode == "" and CropSettings().at("every_box").max_crops is None
    with pytest.raises(UnknownName, match="did you mean 'fast'"):
        CropSettings().at("fsat")
    for wrong in ({"max_boxes": 0}, {"max_crops": 0}):
        with pytest.raises(DataError, match="wanted 1 or more of each"):
            CropSettings(**wrong)
