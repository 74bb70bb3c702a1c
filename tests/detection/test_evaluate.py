"""A detector taught from a data set and measured: the draw, COCO's table, recall, F1, unknowns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.detection
from handful.data import formats
from handful.detection.embedder import CropSettings
from handful.detection.evaluate import (
    AgnosticRecall,
    DetectionCounts,
    GroundTruth,
    box_table,
    evaluate,
    ground_truth_of,
    match_boxes,
    unknowns,
)
from handful.detection.irene import Irene
from handful.detection.teaching import sample_boxes, teach
from handful.errors import DataError, UnknownName
from handful.results import Detections
from tests.detection.test_irene import BARE, PROPOSERS, scene
from tests.training.made import write
from tests.training.test_verbs import typed


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def data_set(root: Path, names: list[str], splits: dict[str, int] | None = None) -> Path:
    """COCO: each image shows a patch of each class."""
    for number, (split, count) in enumerate((splits or {"train": 6, "val": 3}).items()):
        images: list[dict[str, Any]] = []
        notes: list[dict[str, Any]] = []
        for i in range(count):
            rgb, boxes = scene(names, 100 * number + i)
            write(root / "images" / split / f"{i}.png", rgb)
            images.append({"id": i + 1, "file_name": f"{i}.png", "width": rgb.shape[1], "height": rgb.shape[0]})
            for name, (left, top, right, bottom) in zip(names, boxes.tolist(), strict=True):
                box = [left, top, right - left, bottom - top]
                notes.append({"id": len(notes) + 1, "image_id": i + 1, "category_id": names.index(name) + 1,
                              "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
        held = {"images": images, "annotations": notes, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(held))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data"), ["apple", "leaf", "sky"])


@pytest.fixture
def model(data: Path, tmp_path: Path) -> Path:
    teach(data, tmp_path / "d", proposer="blobs", crop=BARE, max_samples=4)
    return tmp_path / "d"


def test_taught_then_measured(data: Path, tmp_path: Path) -> None:
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE, max_samples=4, seed=3)
    assert said["samples"] == {"apple": 4, "leaf": 4, "sky": 4} and said["split"] == "train" and said["seed"] == 3
    found = evaluate(tmp_path / "d", data, split="val")
    assert found["AP"] == pytest.approx(1.0) and found["AR100"] == pytest.approx(1.0) and found["APl"] is None
    assert found["f1"] == found["f1_macro"] == found["accuracy"] == 1.0
    assert found["ar_agnostic"]["100"] == pytest.approx(1.0) and found["objects"] == 9
    keys = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "ar_agnostic", "f1",
            "vigilance", "proposer", "seconds_per_image", "subset"}  # fmt: skip
    assert keys <= found.keys() and found["subset"] is True and found["proposer"] == "blobs"
    assert found["per_class"]["leaf"] == {"AP": pytest.approx(1.0), "objects": 3} and json.dumps(found)
    true = evaluate(tmp_path / "d", data, split="val", proposer="boxes")
    assert true["AP"] == pytest.approx(1.0) and true["proposer"] == "boxes" and true["ar_agnostic"]["10"] is None
    careful = evaluate(tmp_path / "d", data, split="val", vigilance=30.0)
    assert careful["f1"] == 0 and careful["accuracy"] == 1.0 and careful["vigilance"] == 30.0


def test_untaught_classes_are_unknowns(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = teach(data, tmp_path / "d", proposer="blobs", crop=BARE, classes=["apple", "leaf"])
    assert said["classes"] == ["apple", "leaf"]
    found = evaluate(tmp_path / "d", data, split="val")
    assert "1 class of" in capsys.readouterr().err and found["known_objects"] == 6 and found["unknown_objects"] == 3
    assert found["unknown_auroc"] == 1.0 and found["unknown_fpr95"] == 0.0 and found["objects"] == 6


def test_the_draw_hangs_on_the_class_and_the_seed_alone(data: Path) -> None:
    samples = [s for s in formats.read(data) if s.split == "train"]

    def drawn(most: int, seed: int, classes: list[str] | None = None) -> dict[str, set[tuple[str, tuple[float, ...]]]]:
        found: dict[str, set[tuple[str, tuple[float, ...]]]] = {}
        for one in sample_boxes(samples, max_samples=most, seed=seed, classes=classes):
            for box, label in zip(one.boxes.tolist(), one.labels, strict=True):
                found.setdefault(label, set()).add((one.sample.name, tuple(box)))
        return found

    two, four = drawn(2, 0), drawn(4, 0)
    assert all(len(two[k]) == 2 and two[k] < four[k] for k in ("apple", "leaf", "sky"))
    assert drawn(2, 0, ["leaf"]) == {"leaf": two["leaf"]} and any(drawn(2, s) != two for s in (1, 2, 3))
    with pytest.raises(UnknownName, match="did you mean 'leaf'"):
        sample_boxes(samples, classes=["laef"])
    with pytest.raises(DataError, match="max_samples is 0"):
        sample_boxes(samples, max_samples=0)
    with pytest.raises(DataError, match="no image has a box"):
        sample_boxes([])


def test_an_older_detector_stays_unless_asked(data: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--overwrite to replace it"):
        teach(data, model, proposer="blobs", crop=BARE)
    with pytest.raises(UnknownName):
        teach(data, model, proposer="blobs", crop=BARE, classes=["pear"], overwrite=True)
    assert Irene.load(model).nemo.counts["apple"] == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(DataError, match="is not a model folder, so it is not overwritten"):
        teach(data, tmp_path / "mine", proposer="blobs", crop=BARE, overwrite=True)
    teach(data, model, proposer="blobs", crop=BARE, max_samples=1, overwrite=True)
    assert Irene.load(model).nemo.counts["apple"] == 1


def test_wrong_questions(data: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="there is blobs, boxes"):
        evaluate(model, data, proposer="nanodet")
    other = data_set(tmp_path / "other", ["lemon"], {"val": 1})
    with pytest.raises(DataError, match="no image shows a class the detector was taught"):
        evaluate(model, other)


def answers(rows: list[tuple[list[float], float, int]], margin: float = 1.0) -> Detections:
    boxes = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
    return Detections(("a", "b"), boxes, np.array([r[1] for r in rows]), np.array([r[2] for r in rows], np.int64),
                      np.full(len(rows), margin), np.zeros((len(rows), 3)))  # fmt: skip


def things(rows: list[tuple[list[float], str]], crowd: list[bool] | None = None) -> GroundTruth:
    boxes = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return GroundTruth(boxes, tuple(r[1] for r in rows), np.array(crowd or [False] * len(rows), bool), size)


A, B, FAR = [0, 0, 40, 40.0], [100, 0, 140, 40.0], [300, 300, 340, 340.0]


def test_f1_by_hand() -> None:
    told = DetectionCounts(("a", "b"))
    told.add(things([(A, "a"), (B, "b")]), answers([(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)]))
    found = told.summary()  # a: 1 right, 2 wrong; b: 1 missed
    assert found["f1"] == pytest.approx(2 / (2 + 2 + 1)) and found["f1_macro"] == pytest.approx((2 / 4 + 0) / 2)
    assert found["precision"] == pytest.approx(1 / 3) and found["recall"] == pytest.approx(1 / 2)
    crowd = DetectionCounts(("a", "b"))
    crowd.add(things([(A, "a"), (B, "b")], [True, False]), answers([(A, 0.9, 0), (B, 0.5, 1)]))
    assert crowd.summary()["f1"] == 1.0
    silent = DetectionCounts(("a", "b"))
    silent.add(things([(A, "a")]), answers([(A, 0.9, 0)], margin=-1.0))
    assert silent.summary()["f1"] == 0 and DetectionCounts(("a",)).summary()["f1"] is None


def test_recall_without_classes_by_hand() -> None:
    recall = AgnosticRecall()
    near = [0, 0, 40, 28.0]  # shares .7 with A: counts at .50, .55, .60, .65 and .70
    recall.add(things([(A, "a"), (B, "b")]), np.array([FAR] * 9 + [near, B]))
    assert recall.summary() == {"10": pytest.approx(0.25), "30": pytest.approx(0.75), "100": pytest.approx(0.75),
                             "300": pytest.approx(0.75)}  # fmt: skip
    assert AgnosticRecall().summary()["10"] is None
    assert match_boxes(np.array([[0.9, 0.8], [0.6, 0.1]]), 0.5).tolist() == [0, -1]


def test_the_table_is_pycocotools_own() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)

    def some(n: int) -> np.ndarray:
        corner = rng.uniform(0, 200, (n, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 150, (n, 2))], axis=1)

    truth, found, sizes = [], [], [(400, 400)] * 8
    for _ in sizes:
        own = some(6)
        names = ["ab"[k] for k in rng.integers(0, 2, 6)]
        truth.append(things([(b.tolist(), n) for b, n in zip(own, names, strict=True)], [False] * 5 + [True]))
        moved = own + rng.normal(0, 4, own.shape)
        rows = [(b.tolist(), float(rng.random()), "ab".index(n)) for b, n in zip(moved, names, strict=True)]
        found.append(answers([*rows, *[(b.tolist(), float(rng.random()), int(rng.integers(2))) for b in some(5)]]))
    stats, each = box_table(truth, found, sizes, ("a", "b"))
    notes = [{"id": i + 1, "image_id": p, "category_id": "ab".index(n), "bbox": [*b[:2], b[2] - b[0], b[3] - b[1]],
              "area": s, "iscrowd": int(c)} for i, (p, b, n, c, s) in enumerate(
                  (p, b.tolist(), n, c, float(s)) for p, t in enumerate(truth)
                  for b, n, c, s in zip(t.boxes, t.names, t.crowd, t.area, strict=True))]  # fmt: skip
    rows = [{"image_id": p, "category_id": int(k), "bbox": [*b[:2], b[2] - b[0], b[3] - b[1]], "score": float(s)}
            for p, f in enumerate(found)
            for b, k, s in zip(f.xyxy_px.tolist(), f.label, f.score, strict=True)]  # fmt: skip
    coco = COCO()
    coco.dataset = {"images": [{"id": i, "width": 400, "height": 400} for i in range(8)], "annotations": notes,
                    "categories": [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]}  # fmt: skip
    coco.createIndex()
    result = COCOeval(coco, coco.loadRes(rows), "bbox")
    result.evaluate()
    result.accumulate()
    result.summarize()
    assert np.allclose([-1 if v is None else v for v in stats.values()], result.stats, atol=1e-9)
    for k, name in enumerate("ab"):
        own = result.eval["precision"][:, :, k, 0, 2]
        assert each[name] == pytest.approx(float(own[own > -1].mean()), abs=1e-9)


def test_nothing_found_and_nothing_there() -> None:
    stats, each = box_table([things([(A, "a")])], [answers([])], [(400, 400)], ("a", "b"))
    assert stats["AP"] == 0 and each == {"a": 0.0, "b": None}
    stats, _ = box_table([things([])], [answers([(A, 0.5, 0)])], [(400, 400)], ("a", "b"))
    assert stats["AP"] is None


def test_unknowns_by_hand() -> None:
    known, other = np.arange(1.0, 101), np.array([0.0, 3.0, 200.0, -5])
    found = unknowns(known, other)
    assert found["fpr95"] == 0.25 and found["auroc"] == pytest.approx((1 + 0.975 + 0 + 1) / 4)
    assert unknowns(known, other[:0])["auroc"] is None


def test_labels_become_truth(data: Path) -> None:
    sample = next(iter(formats.read(data)))
    found = ground_truth_of(sample, (120, 90))
    assert found.names == ("apple", "leaf", "sky") and not found.crowd.any()
    assert found.area.tolist() == [o.attributes["area"] for o in sample.objects or ()]
    assert len(ground_truth_of(sample, (1, 1)).names) == 0
    assert CropSettings(backbone=None, share=1) == BARE


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs look at boxes without a backbone, so that they take no time."""
    from handful.detection import embedder, irene

    monkeypatch.setattr(embedder.BoxEmbedder, "__init__", _bare(embedder.BoxEmbedder.__init__))
    monkeypatch.setattr(irene, "best_proposer", lambda: "blobs")


def _bare(plain: Any) -> Any:
    return lambda self, proposer, how=None, state=None: plain(self, proposer, how or BARE, state)


@pytest.mark.usefixtures("bare")
def test_the_verbs(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "d"
    code, said, _ = typed(capsys, "teach", data / "instances_train.json", "--out", out, "--max-samples", 3, "--seed", 5,
                          "--json")  # fmt: skip
    told = json.loads(said)
    assert code == 0 and told["samples"] == {"apple": 3, "leaf": 3, "sky": 3} and told["seed"] == 5
    code, said, _ = typed(capsys, "evaluate", out, data / "instances_val.json", "--json")
    assert code == 0 and json.loads(said)["AP"] == pytest.approx(1.0) and json.loads(said)["seed"] == 5
    code, said, _ = typed(capsys, "evaluate", out, data, "--true-boxes")
    assert code == 0 and "3 images, 9 objects of 3 taught classes, a small set" in said and "100.0" in said
    photo = data / "images" / "val" / "0.png"
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8no")
    photos = photo, tmp_path / "broken.jpg"
    code, said, err = typed(capsys, "predict", out, *photos, "--out", tmp_path / "seen", "--json", "--explain")
    told = json.loads(said)
    assert code == 2 and "broken.jpg" in err and len(told["failed"]) == 1
    assert {row["class"] for row in told["results"][0]["found"]} == {"apple", "leaf", "sky"}
    assert all(row["like"][0]["class"] == row["class"] for row in told["results"][0]["found"])
    assert (tmp_path / "seen" / "0.jpg").stat().st_size > 500 and (tmp_path / "seen" / "results.json").exists()
    code, said, _ = typed(capsys, "predict", out, photo, "--explain")
    assert code == 0 and "3 found" in said and "like apple in" in said
    code, _, err = typed(capsys, "predict", tmp_path / "none", photo)
    assert code == 2 and "none does not exist; wanted a model folder" in err


@pytest.mark.usefixtures("bare")
def test_photos_that_lie_elsewhere(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.json"
    labels.write_text((data / "instances_train.json").read_text())
    where = ("--images", data / "images" / "train")
    code, said, _ = typed(capsys, "teach", labels, "--out", tmp_path / "d", *where, "--json")
    assert code == 0 and json.loads(said)["images"] == 6
    code, said, _ = typed(capsys, "evaluate", tmp_path / "d", labels, *where, "--json")
    assert code == 0 and json.loads(said)["AP"] == pytest.approx(1.0)
    code, _, err = typed(capsys, "teach", labels, "--out", tmp_path / "e", "--images", tmp_path / "gone")
    assert code == 2 and "gone does not exist; wanted a folder there" in err and not (tmp_path / "e").exists()


def test_options_of_the_other_kind(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = typed(capsys, "teach", data, "--out", tmp_path / "d", "--frame", "64x64")
    assert code == 2 and "--frame is for images with one class each" in err
    code, _, err = typed(capsys, "teach", data, "--out", tmp_path / "d", "--flat", "--seed", 3)
    assert code == 2 and "--seed is for images with boxes" in err
