"""Irene: taught, asked, explained, kept; with a proposer that finds bright patches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.data.sample_images import sample_photo
from handful.detection.embedder import CropSettings
from handful.detection.fusion import iou
from handful.detection.irene import Irene, best_proposer
from handful.detection.scored import ScoredProposals
from handful.errors import DataError, UnknownName
from tests.bounds import SEED

PROPOSERS = str(Path(__file__).parent / "proposers")
BARE = CropSettings(backbone=None, share=1)
COLORS = {"apple": (220, 40, 40), "leaf": (40, 200, 60), "sky": (60, 90, 230), "lemon": (230, 220, 50)}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def scene(names: list[str], seed: int, size_wh: tuple[int, int] = (120, 90)) -> tuple[np.ndarray, np.ndarray]:
    """An image with a patch of each color, and the patches' boxes."""
    rng = np.random.default_rng(1000 * SEED + seed)
    rgb = rng.integers(0, 30, (size_wh[1], size_wh[0], 3)).astype(np.uint8)
    boxes, step = [], size_wh[0] // max(1, len(names))
    for i, name in enumerate(names):
        wide, high = rng.integers(8, step - 6), rng.integers(8, 40)
        left, top = i * step + rng.integers(2, step - wide - 2), rng.integers(2, size_wh[1] - high - 2)
        patch = np.array(COLORS[name]) + rng.normal(0, 6, (high, wide, 3))
        rgb[top : top + high, left : left + wide] = patch.clip(0, 255).astype(np.uint8)
        boxes.append([left, top, left + wide, top + high])
    return rgb, np.array(boxes, np.float64).reshape(-1, 4)


def taught(names: list[str], photos: int = 3, **more: float) -> Irene:
    irene = Irene.new("blobs", crop=BARE, **more)  # type: ignore[arg-type]
    for seed in range(photos):
        rgb, boxes = scene(names, seed)
        irene.learn(rgb, boxes, names, f"{seed}.jpg")
    return irene


def test_it_finds_what_it_was_taught() -> None:
    irene = taught(["apple", "leaf", "sky"])
    assert irene.classes == ("apple", "leaf", "sky") and irene.nemo.counts["leaf"] == 3
    rgb, boxes = scene(["sky", "apple", "apple", "leaf"], 99, (200, 90))
    found = irene.detect(rgb)
    assert len(found) == 4 and (np.diff(found.score) <= 0).all() and not found.unknown.any()
    pairs = iou(boxes, found.xyxy_px)
    assert (pairs.max(axis=1) > 0.95).all()
    assert [found.classes[k] for k in found.label[pairs.argmax(axis=1)]] == ["sky", "apple", "apple", "leaf"]
    row = found.rows()[0]
    assert json.loads(json.dumps(row)) == row and row.keys() == {"class", "score", "box_px", "unknown", "margin"}


def test_what_it_was_not_taught_is_none_of_these() -> None:
    irene = taught(["apple", "leaf"], vigilance=4.0)
    rgb, _ = scene(["apple", "sky", "leaf"], 7)
    assert {irene.classes[k] for k in irene.detect(rgb).label} == {"apple", "leaf"} and len(irene.detect(rgb)) == 2
    every = irene.detect(rgb, unknown=True)
    assert len(every) == 3 and every.unknown.sum() == 1 and (every.margin[every.unknown] <= 0).all()
    assert 0.5 < every.score[every.unknown][0] <= 1
    # for measures of ranking: what is told does not hang on vigilance, only its score does
    assert len(irene.detect(rgb, vigilance=5.5, ranking=True)) >= 2 > len(irene.detect(rgb, vigilance=5.5))
    # the more careful, the fewer answers
    counts = [len(irene.detect(rgb, vigilance=v)) for v in (-20.0, 4.0, 12.0)]
    assert counts[0] >= counts[1] >= counts[2] and counts[0] > counts[2] == 0


@pytest.mark.parametrize("k", [1, 2, 4])
def test_one_class_works_as_several_do(k: int) -> None:
    names = list(COLORS)[:k]
    irene = taught(names)
    rgb, boxes = scene(names, 50)
    found = irene.detect(rgb)
    assert len(found) == k and (iou(boxes, found.xyxy_px).max(axis=1) > 0.95).all()


def test_given_boxes_are_answered_in_their_order() -> None:
    irene = taught(["apple", "leaf", "sky"])
    rgb, boxes = scene(["leaf", "sky", "apple"], 31)
    found = irene.classify_boxes(rgb, boxes)
    assert [found.classes[k] for k in found.label] == ["leaf", "sky", "apple"] and (found.xyxy_px == boxes).all()
    assert len(irene.classify_boxes(rgb, np.zeros((0, 4)))) == 0


def test_given_boxes_are_looked_at_both_ways() -> None:
    irene, rgb = Irene.new("blobs", crop=CropSettings(side_px=64, share=0.2)), sample_photo("astronaut").rgb_u8
    box = np.array([[150.0, 0, 300, 200]])
    irene.learn(rgb, box, ["face"])
    turned = np.ascontiguousarray(rgb[:, ::-1])
    found = irene.classify_boxes(rgb, box)
    assert np.allclose(
        found.vectors, irene.classify_boxes(turned, [[512.0 - 300, 0, 512 - 150, 200]]).vectors, atol=1e-5
    )
    assert found.margin[0] == pytest.approx(
        irene.classify_boxes(rgb, box, proposals=irene.proposer.propose(rgb)).margin[0]
    )


def test_a_photo_with_nothing_in_it() -> None:
    irene = taught(["apple"])
    assert len(irene.detect(np.zeros((50, 60, 3), np.uint8))) == 0
    assert len(irene.detect(np.zeros((1, 1, 3), np.uint8), unknown=True)) == 0


def test_order_and_batches_do_not_matter_and_what_was_taught_can_be_taken_back() -> None:
    one, other = taught(["apple", "leaf"]), Irene.new("blobs", crop=BARE)
    for seed in (2, 0, 1):
        rgb, boxes = scene(["apple", "leaf"], seed)
        for i in (1, 0):
            other.learn(rgb, boxes[i : i + 1], [("apple", "leaf")[i]], f"{seed}.jpg")
    assert (one.solution().prototypes == other.solution().prototypes).all()
    before = one.solution()
    rgb, boxes = scene(["sky"], 5)
    one.learn(rgb, boxes, ["sky"], "5.jpg")
    assert one.classes == ("apple", "leaf", "sky") and len(one.examples.labels) == 7
    one.unlearn(rgb, boxes[0].tolist(), "sky", "5.jpg")
    assert (one.solution().prototypes == before.prototypes).all() and len(one.examples.labels) == 6
    with pytest.raises(DataError, match="was never learned as 'leaf'"):
        one.unlearn(rgb, boxes[0].tolist(), "leaf")


def test_an_answer_is_explained_by_what_was_taught() -> None:
    irene = taught(["apple", "leaf", "sky"])
    rgb, _ = scene(["leaf"], 77)
    found = irene.detect(rgb)
    near = irene.explain(found, 0, max_examples=4)
    assert [row["class"] for row in near[:3]] == ["leaf"] * 3 and near[3]["class"] != "leaf" and len(near) == 4
    assert near[0]["image"] in {"0.jpg", "1.jpg", "2.jpg"} and near[0]["cosine"] >= near[1]["cosine"]
    assert near[0]["box_px"] == scene(["apple", "leaf", "sky"], int(near[0]["image"][0]))[1][1].tolist()


def test_kept_and_read_it_answers_the_same(tmp_path: Path) -> None:
    irene = taught(["apple", "leaf", "sky"])
    irene.proposer.network.weight.data.fill_(0.5)  # what the folder has counts, not what is on the machine
    irene = Irene(irene.proposer, irene.embedder, irene.nemo)
    for seed in range(3):
        rgb, boxes = scene(["apple"], 20 + seed)
        irene.learn(rgb, boxes, ["apple"], "more.jpg")
    irene.save(tmp_path / "d", data={"seed": 3})
    again = Irene.load(tmp_path / "d")
    assert again.proposer.network.weight.item() == 0.5 and again.about["seed"] == 3
    rgb, _ = scene(["sky", "leaf"], 44)
    one, two = irene.detect(rgb), again.detect(rgb)
    assert (one.score == two.score).all() and (one.label == two.label).all()
    assert again.explain(two, 0) == irene.explain(one, 0)
    again.learn(*scene(["lemon"], 9), ["lemon"], "9.jpg")
    assert "lemon" in again.classes
    assert best_proposer() in ("blobs", "nanodet")


@pytest.mark.parametrize("file", ["handful.json", "nemo.safetensors", "examples.safetensors", "model.safetensors"])
def test_a_damaged_folder_names_the_file(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "d"
    taught(["apple"]).save(folder)
    path = folder / file
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=file.replace(".", r"\.")):
        Irene.load(folder)


def test_contradictory_labels_are_told_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    irene = Irene.new("blobs", crop=BARE)
    rgb, boxes = scene(["apple"], 0)
    irene.learn(rgb, np.concatenate([boxes, boxes]), ["apple", "pear"], "0.jpg")
    assert "0.jpg: the box" in capsys.readouterr().err and irene.classes == ("apple", "pear")


def test_a_thing_has_one_name() -> None:
    irene = taught(["leaf", "apple"], vigilance=3.0)
    irene.learn(*scene(["sky"], 1), ["sky"])
    irene.learn(*scene(["sky"], 1), ["sea"])  # told under both names it keeps both, and answers with one
    rgb, _ = scene(["sky"], 60)
    found, every = irene.detect(rgb, unknown=True), irene.detect(rgb, ranking=True)
    assert len(found) == 1 and irene.classes[found.label[0]] in ("sky", "sea") and not found.unknown.any()
    assert {"sky", "sea"} <= {irene.classes[k] for k in every.label}


def test_a_name_wins_over_none_of_these_about_the_same_thing() -> None:
    irene = taught(["leaf", "apple"])
    rgb, boxes = scene(["leaf"], 3)
    once = irene.score(rgb)
    twice = ScoredProposals(np.repeat(boxes, 2, axis=0), np.array([0.4, 0.9]), np.zeros(2, np.int64),
                  np.repeat(once.vectors, 2, axis=0), np.concatenate([once.logits, once.logits - 100]))  # fmt: skip
    found = irene.select(twice, unknown=True)
    assert [found.classes[k] for k in found.label] == ["leaf"] and not found.unknown.any()


def test_bad_input_changes_nothing() -> None:
    irene = taught(["apple"])
    rgb, boxes = scene(["apple"], 1)
    with pytest.raises(DataError, match="lies outside the image"):
        irene.learn(rgb, np.concatenate([boxes, [[500, 5, 600, 50]]]), ["apple", "leaf"], "x.jpg")
    with pytest.raises(DataError, match=r"1 box and 2 labels of x\.jpg"):
        irene.learn(rgb, boxes, ["apple", "leaf"], "x.jpg")
    with pytest.raises(DataError, match="a label must be a name"):
        irene.learn(rgb, boxes, [""], "x.jpg")
    irene.learn(rgb, np.zeros((0, 4)), [], "x.jpg")
    assert irene.classes == ("apple",) and len(irene.nemo) == 3 and len(irene.examples.labels) == 3
    with pytest.raises(DataError, match="nothing has been learned yet"):
        Irene.new("blobs", crop=BARE).detect(rgb)
    with pytest.raises(UnknownName, match="did you mean 'blobs'"):
        Irene.new("blob")


def test_another_kind_of_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        Irene.load(tmp_path / "none")
