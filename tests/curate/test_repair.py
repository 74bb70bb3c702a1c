"""`--fix` does what its text says, for every code that has one, and never turns what is unknown into "empty"."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.cli import main
from handful.curate import repair as module
from handful.curate.repair import repair
from handful.data import formats
from handful.data.finding import CODES, KEPT
from handful.data.masks import write_ids
from handful.errors import DataError
from handful.image import read_image
from handful.types import Category, Dataset, Object, Sample
from tests.curate.test_check import planted
from tests.data.layouts import STORED, Maker
from tests.data.layouts import _coco as made_coco
from tests.data.planted import FAULTS, Planted
from tests.data.test_coco_images import picture as photo

XML = """<annotation><filename>{0}</filename><size><width>40</width><height>30</height></size><object><name>mug</name>
<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"""
LINE = "0 0.5 0.5 0.2 0.4\n"


class Case:
    """A data set with one fault, its repaired copy, and what the copy says."""

    def __init__(self, root: Path, copy: Path, **options: Any) -> None:
        self.root, self.copy = root, copy
        self.result = repair(root, copy, **options)
        (source,) = formats.sources(copy, **options)
        read = source.read(lambda finding: None)
        self.classes = [c.name for c in read.categories]
        self.samples: dict[str, Sample] = {Path(s.name).stem: s for s in read}

    def objects(self, name: str) -> tuple[Object, ...]:
        found = self.samples[name].objects
        assert found is not None, f"{name} is unlabeled"
        return found

    def done(self, code: str) -> list[str]:
        return [row["done"] for row in self.result["repairs"] if row["code"] == code]

    def changes(self) -> dict[str, tuple[str, str]]:
        (found,) = self.result["states"].values()
        return {Path(row["image"]).name: (row["before"], row["after"]) for row in found["changed"]}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Planted(tmp_path_factory.mktemp("sound") / "set").root


def absent(*names: str) -> Callable[[Case], bool]:
    return lambda case: not set(names) & case.samples.keys() and len(case.samples) > 40


def without_mask(name: str) -> Callable[[Case], bool]:
    return lambda case: case.samples[name].mask is None and case.samples[name].objects is None


def boxes(case: Case, name: str) -> list[tuple[float, ...] | None]:
    return [t.box_px for t in case.objects(name)]


def one_dropped(name: str) -> Callable[[Case], bool]:
    return lambda case: len(case.objects(name)) == 1 and case.changes()[f"{name}.jpg"] == ("2 labels", "1 label")


def labels_by_id(case: Case) -> list[Any]:
    return [(s.split, t.attributes["id"]) for s in case.samples.values() for t in s.objects or ()]


COCO, MASKS = {"format": "coco"}, {"format": "masks", "masks": "masks"}
# code -> (how it is read, whether the copy is what the repair's text says)
PLANTED: dict[str, tuple[dict[str, Any], Callable[[Case], bool]]] = {
    "unreadable_image": (COCO, absent("train000")),
    "empty_file": (COCO, absent("train001")),
    "image_bomb": (COCO, absent("train002")),
    "missing_image": (COCO, lambda c: "gone" not in (c.copy / "annotations/instances_train.json").read_text()),
    "wrong_case_name": (COCO, lambda c: len(c.objects("train004")) == 2),
    "unsafe_path": (COCO, lambda c: "hostname" not in (c.copy / "annotations/instances_train.json").read_text()),
    "symlink_outside": (COCO, absent("train006")),
    "leftover_file": (COCO, lambda c: not list(c.copy.rglob("*.crdownload"))),
    "size_mismatch": (COCO, absent("train012")),
    "mask_size_mismatch": (MASKS, without_mask("train013")),
    "label_outside_map": (MASKS, lambda c: (c.samples["train014"].mask().ids == 255).sum() == 25),  # type: ignore[misc]
    "mask_not_ids": (MASKS, without_mask("train015")),
    "unreadable_mask": (MASKS, without_mask("train016")),
    "box_outside": (COCO, lambda c: boxes(c, "train019")[0] == (140.0, 10.0, 160.0, 30.0)),
    "box_no_area": (COCO, one_dropped("train020")),
    "box_negative": (COCO, one_dropped("train021")),
    "not_finite": (COCO, one_dropped("train022")),
    "broken_label": (COCO, one_dropped("train023")),
    "broken_polygon": (COCO, lambda c: not c.objects("train024")[0].polygons_px and None not in boxes(c, "train024")),
    "broken_rle": (COCO, lambda c: c.objects("train025")[0].rle is None and None not in boxes(c, "train025")),
    "wrong_area": (COCO, lambda c: c.objects("train026")[0].attributes["area"] > 0),
    "duplicate_object": (COCO, lambda c: len(c.objects("train027")) == 2),
    "duplicate_image_id": (COCO, absent("train029", "train030")),
    "duplicate_image": (COCO, lambda c: len(c.objects("train031")) == 3),
    "duplicate_label_id": (COCO, lambda c: len(set(labels_by_id(c))) == len(labels_by_id(c)) == 108),
    "duplicate_category": (COCO, lambda c: c.classes == ["cat", "cup", "rocket"] and len(labels_by_id(c)) == 108),
    "unknown_category": (COCO, one_dropped("train034")),
    "orphan_label": (COCO, lambda c: len(c.objects("train035")) == 1),
    "same_image_twice": (COCO, lambda c: "again" not in c.samples and "train036" in c.samples),
    "same_image_across_splits": (COCO, lambda c: "train037" not in c.samples and c.samples["leak"].split == "val"),
    "exif_rotated": (COCO, lambda c: read_image(c.samples["train041"].path).size_wh == (160, 120)),
    "exif_against_labels": (COCO, lambda c: read_image(c.samples["val000"].path).size_wh == (160, 120)),
}  # fmt: skip


@pytest.mark.parametrize("code", PLANTED)
def test_a_repair_does_what_its_text_says(code: str, sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    FAULTS[code][0](here)
    options, proves = PLANTED[code]
    case = Case(here.save(), tmp_path / "copy", **options)
    assert CODES[code].repair in case.done(code)
    assert proves(case), case.changes()
    assert case.result["ok"], case.result["findings"]


# sets of other formats, each with one fault


def coco(root: Path, *, many: int = 2, **more: Any) -> dict[str, Any]:
    for i in range(many):
        photo(root / f"images/{i}.jpg")
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(many)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600}
                        for i in range(many)],
        "categories": [{"id": 1, "name": "mug"}],
        **more,
    }  # fmt: skip


def saved(root: Path, value: dict[str, Any], name: str = "annotations.json") -> Path:
    (root / name).write_text(json.dumps(value))
    return root


def voc(root: Path, *names: str) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for name in names:
        photo(root / f"JPEGImages/{name}.jpg")
        (root / f"Annotations/{name}.xml").write_text(XML.format(f"{name}.jpg"))
    return root


def yolo(root: Path, config: str = "train: images\nval: images\nnames: [mug]\n", **lines: str) -> Path:
    (root / "labels").mkdir(parents=True)
    for name, text in {"a": LINE, "b": LINE, **lines}.items():
        photo(root / f"images/{name}.jpg")
        (root / f"labels/{name}.txt").write_text(text)
    (root / "data.yaml").write_text(config)
    return root


def folders(root: Path) -> Path:
    for i in range(4):
        photo(root / f"{('cup', 'dish')[i % 2]}/{i}.jpg", (40 + i, 30))
    return root


def _moved(root: Path) -> Path:
    value = coco(root)
    for row in value["images"]:
        row["file_name"] = f"/home/me/{row['file_name']}"
    return saved(root, value)


def _ambiguous(root: Path) -> Path:
    value = coco(root)
    shutil.copytree(root / "images", root / "other/images")
    (root / "images").rename(root / "one")
    return saved(root, value)


def _sizeless(root: Path) -> Path:
    value = coco(root)
    for row in value["images"]:
        row |= {"width": None, "height": 0}
    return saved(root, value)


def _flat(root: Path) -> Path:
    value = coco(root)
    value["annotations"][0]["segmentation"] = [1, 2, 30, 2, 30, 20]
    return saved(root, value)


def _off(root: Path) -> Path:
    value = coco(root)
    value["annotations"][0]["bbox"] = [90, 90, 5, 5]
    return saved(root, value)


def _clash(root: Path) -> Path:
    return saved(root, coco(root, categories=[{"id": 1, "name": "mug"}, {"id": 1, "name": "dish"},
                                              {"id": 2, "name": "fork"}]))  # fmt: skip


def _mismatch(root: Path) -> Path:
    value = coco(root, many=4)
    half = {**value, "images": value["images"][2:], "annotations": value["annotations"][2:],
            "categories": [{"id": 1, "name": "dish"}, {"id": 2, "name": "mug"}]}  # fmt: skip
    value |= {"images": value["images"][:2], "annotations": value["annotations"][:2]}
    saved(root, half, "instances_val.json")
    return saved(root, value, "instances_train.json")


def _two_files(root: Path) -> Path:
    voc(root, "a", "b")
    (root / "Annotations/z.xml").write_text(XML.format("a.jpg"))
    return root


def _shared(root: Path) -> Path:
    photo(yolo(root) / "images/a.png")
    return root


def _entities(root: Path) -> Path:
    path = voc(root, "a", "b") / "Annotations/a.xml"
    path.write_text(f'<!DOCTYPE a [<!ENTITY b "c">]>{path.read_text()}')
    return root


def _unread(root: Path) -> Path:
    (yolo(root) / "labels/a.txt").write_bytes(b"\xff\xfe0")
    return root


def _unnamed(root: Path) -> Path:
    return yolo(root, "train: images\nval: images\nnames:\n", a="7 0.5 0.5 0.2 0.4\n")


def _counted(root: Path) -> Path:
    return yolo(root, "train: images\nval: images\nnc: 3\nnames: [mug]\n")


def _not_exported(root: Path) -> Path:
    yolo(root, "train: images/train\nval: images/val\ntest: images/test\nnames: [mug]\n")
    for split, name in (("train", "a"), ("val", "b")):
        for kind, suffix in (("images", "jpg"), ("labels", "txt")):
            (root / kind / split).mkdir()
            (root / f"{kind}/{name}.{suffix}").rename(root / f"{kind}/{split}/{name}.{suffix}")
    return root


def _empty_class(root: Path) -> Path:
    (folders(root) / "spoon").mkdir()
    return root


def _notes(root: Path) -> Path:
    (folders(root) / "cup/notes.docx").write_bytes(b"x")
    return root


def _captions(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    saved(root, coco(root), "annotations/instances_train.json")
    return saved(root, coco(root), "annotations/captions_train.json")


def _labelme(root: Path, *shapes: dict[str, Any]) -> Path:
    for i, shape in enumerate(shapes):
        photo(root / f"{i}.jpg")
        value = {"version": "5.0", "shapes": [shape], "imagePath": f"{i}.jpg", "imageWidth": 40, "imageHeight": 30}
        (root / f"{i}.json").write_text(json.dumps(value))
    return root


def _lines(root: Path) -> Path:
    mug = {"label": "mug", "points": [[2, 3], [20, 15]], "shape_type": "rectangle"}
    return _labelme(root, {**mug, "shape_type": "line"}, mug)


def _several(root: Path) -> Path:
    for i in range(3):
        photo(root / f"{i}.jpg")
    (root / "labels.csv").write_text("filename,mug,dish\n0.jpg,1,1\n1.jpg,1,0\n2.jpg,0,1\n")
    return root


def _answers(root: Path) -> Path:
    photo(root / "0.jpg")
    photo(root / "1.jpg")

    def answer(key: int, label: str) -> dict[str, Any]:
        value = {"x": 10, "y": 10, "width": 50, "height": 50, "rectanglelabels": [label]}
        region = {"type": "rectanglelabels", "original_width": 40, "original_height": 30, "value": value,
                  "from_name": "label", "to_name": "image", "id": f"r{key}"}  # fmt: skip
        return {"id": key, "result": [region], "was_cancelled": False, "ground_truth": False}

    tasks = [{"id": 1, "data": {"image": "/data/upload/1/0.jpg"}, "annotations": [answer(1, "mug"), answer(2, "dish")]},
             {"id": 2, "data": {"image": "/data/upload/1/1.jpg"}, "annotations": [answer(3, "dish")]}]  # fmt: skip
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def _turned(root: Path) -> Path:
    photo(root / "images/0.jpg")
    (root / "labelTxt").mkdir()
    (root / "labelTxt/0.txt").write_text("imagesource:x\ngsd:1\n10 5 20 10 15 20 5 15 mug 0\n")
    return root


def _soft(place: Path) -> Path:
    m = Maker(1, place)
    for i in range(2):
        m.photo(f"images/{i}.jpg")
        m.save(STORED["soft"][0](m.areas()), f"masks/{i}.png")
    return place


def _spare(place: Path) -> Path:
    m = Maker(2, place)
    made_coco(m, {"": [(f"{i}.jpg", [(0, (1, 1, 30, 30))]) for i in range(2)]})
    m.photo("cover/spare.jpg")
    return place


ELSEWHERE: dict[str, tuple[Callable[[Path], Path], Callable[[Case], bool]]] = {
    "soft_mask": (_soft, lambda c: c.samples.keys() == {"0", "1"} and all(s.mask is None for s in c.samples.values())),
    "unused_image": (_spare, lambda c: not list(c.copy.rglob("spare.jpg")) and len(c.samples) == 2),
    "moved_name": (_moved, lambda c: "/home" not in (c.copy / "annotations/instances.json").read_text()),
    "ambiguous_image": (_ambiguous, lambda c: not c.samples and c.classes == ["mug"]),
    "no_size": (_sizeless, lambda c: all(s.size_wh == (40, 30) and s.objects for s in c.samples.values())),
    "flat_outline": (_flat, lambda c: c.objects("0")[0].polygons_px[0].tolist() == [[1, 2], [30, 2], [30, 20]]),
    "box_off_image": (_off, lambda c: c.samples["0"].objects is None and len(c.objects("1")) == 1),
    "category_clash": (_clash, lambda c: c.classes == ["fork"] and all(s.objects is None for s in c.samples.values())),
    "category_mismatch": (_mismatch, lambda c: sorted(c.classes) == ["dish", "mug"] and (
        [c.objects(n)[0].label for n in "0123"] == ["mug", "mug", "dish", "dish"])),
    "two_label_files": (_two_files, lambda c: c.samples.keys() == {"b"}),
    "shared_label_file": (_shared, lambda c: [s.path.name for s in c.samples.values()] == ["a.jpg", "b.jpg"]),
    "unsafe_xml": (_entities, lambda c: c.samples.keys() == {"b"}),
    "unreadable_labels": (_unread, lambda c: c.samples.keys() == {"b"} and len(c.objects("b")) == 1),
    "no_label_map": (_unnamed, lambda c: c.classes == ["0", "7"] and c.objects("a")[0].label == "7"),
    "class_count": (_counted, lambda c: "nc: 1" in (c.copy / "data.yaml").read_text()),
    "missing_split": (_not_exported, lambda c: "test" not in (c.copy / "data.yaml").read_text()),
    "empty_class_folder": (_empty_class, lambda c: c.classes == ["cup", "dish"]),
    "not_an_image": (_notes, lambda c: not list(c.copy.rglob("*.docx"))),
    "unheld_mark": (_lines, lambda c: c.samples["0"].objects is None and len(c.objects("1")) == 1),
    "several_classes": (_several, lambda c: [c.samples[n].label for n in "012"] == [None, "mug", "dish"]),
    "several_answers": (_answers, lambda c: [t.label for t in c.objects("0")] == ["mug"]),
    "turned_box": (_turned, lambda c: c.objects("0")[0].polygons_px[0].sum() == 100
                   and c.objects("0")[0].box_px == (5, 5, 20, 20)),
    "other_task": (_captions, lambda c: [p.name for p in c.copy.rglob("*.json")] == ["instances_train.json"]),
}  # fmt: skip


@pytest.mark.parametrize("code", ELSEWHERE)
def test_a_repair_does_what_its_text_says_in_other_formats(code: str, tmp_path: Path) -> None:
    make, proves = ELSEWHERE[code]
    (tmp_path / "set").mkdir()
    case = Case(make(tmp_path / "set"), tmp_path / "copy")
    assert CODES[code].repair in case.done(code), case.result["repairs"]
    assert proves(case), (case.classes, case.changes(), case.samples)


def test_every_code_that_claims_a_repair_is_held_to_it() -> None:
    claims = {code for code, kind in CODES.items() if kind.repair != KEPT and not kind.repair.startswith("none")}
    assert claims == PLANTED.keys() | ELSEWHERE.keys()


# never empty


@pytest.mark.parametrize("code", ["box_no_area", "box_negative", "not_finite", "broken_label", "unknown_category"])
def test_an_image_whose_labels_were_all_dropped_is_unlabeled(code: str, sound: Path, tmp_path: Path) -> None:
    here = planted(sound, tmp_path / "set")
    FAULTS[code][0](here)
    here.save()
    number = {"box_no_area": 20, "box_negative": 21, "not_finite": 22, "broken_label": 23, "unknown_category": 34}[code]
    key = here.image(number)["id"]
    rows = here.json["train"]
    broken = here.label(number)
    rows["annotations"] = [r for r in rows["annotations"] if r["image_id"] != key or r is broken]
    case = Case(here.save(), tmp_path / "copy", **COCO)
    name = f"train{number:03d}"
    assert case.samples[name].objects is None
    assert case.changes()[f"{name}.jpg"] == ("1 label", "unlabeled")
    counts = case.result["states"]["coco"]
    assert counts["before"]["empty"] == counts["after"]["empty"] == 0
    assert (counts["before"]["labels"], counts["after"]["labels"]) == (107, 106)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("3 0.5 0.5 0.2 0.4\n", ("1 label", "unlabeled")), ("0 0.5 0.5 0 0.4\n" * 2, ("2 labels", "unlabeled")),
        ("0 5 5 0.2 0.4\n", ("1 label", "unlabeled")), ("x\n" + LINE, ("2 labels", "1 label")),
    ],
)  # fmt: skip
def test_yolo_labels_that_were_dropped(lines: str, wanted: tuple[str, str], tmp_path: Path) -> None:
    case = Case(yolo(tmp_path / "set", c=lines, d=""), tmp_path / "copy")
    assert case.changes() == {"c.jpg": wanted}
    assert case.samples["d"].objects == () and (case.copy / "labels/d.txt").read_text() == ""
    assert (case.copy / "labels/c.txt").exists() == (wanted[1] != "unlabeled")


def test_voc_labels_that_were_dropped(tmp_path: Path) -> None:
    root = voc(tmp_path / "set", "a", "b")
    path = root / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmax>30", "<xmax>1"))
    case = Case(root, tmp_path / "copy")
    assert case.changes() == {"a.jpg": ("1 label", "unlabeled")}
    assert not (case.copy / "Annotations/a.xml").exists()


@pytest.mark.parametrize("format", ["yolo", "voc"])
def test_what_a_format_cannot_write_does_not_become_empty(format: str, tmp_path: Path) -> None:
    """A crowd has no line in YOLO, an object without a box no XML: neither image is one that was found empty."""
    crowd = Object("mug", (1.0, 1.0, 9.0, 9.0), crowd=True) if format == "yolo" else Object("mug")
    sample = Sample(photo(tmp_path / "a.jpg"), objects=(crowd,), name="a.jpg", size_wh=(40, 30))
    plain = replace(sample, path=photo(tmp_path / "b.jpg"), name="b.jpg", objects=())
    dataset = Dataset("made", tmp_path, (Category(1, "mug"),), lambda: iter([sample, plain]), 2)
    (tmp_path / "out").mkdir()
    formats.write(dataset, tmp_path / "out", format)
    found = {s.name: s.objects for s in formats.module(format).read(tmp_path / "out")}
    assert found == {"a.jpg": None, "b.jpg": ()}


def test_a_copy_that_would_falsify_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is held against its source: a repair that made an image empty would be caught."""
    root = yolo(tmp_path / "set", c="3 0.5 0.5 0.2 0.4\n")
    sane = module._repaired

    def emptied(*given: Any) -> Dataset:
        dataset = sane(*given)
        return replace(dataset, samples=lambda: (replace(s, objects=s.objects or ()) for s in dataset))

    monkeypatch.setattr(module, "_repaired", emptied)
    with pytest.raises(DataError, match=r"c\.jpg empty .*of which the source has 1 label"):
        repair(root, tmp_path / "copy")
    assert not (tmp_path / "copy").exists() and not (tmp_path / "copy.repairs.json").exists()


def test_states_before_and_after_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = yolo(tmp_path / "set", c="3 0.5 0.5 0.2 0.4\n")
    main(["data", "check", str(root), "--fix", str(tmp_path / "copy"), "--no-cache"])
    said = capsys.readouterr().out
    assert "yolo before: 3 images, 3 labeled, 0 empty, 0 unlabeled; 3 labels" in said
    assert "yolo after: 3 images, 2 labeled, 0 empty, 1 unlabeled; 2 labels" in said
    assert "images/c.jpg: 1 label -> unlabeled" in said


def test_an_image_in_val_and_test_stays_in_test(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val", "test"):
        (root / f"images/{split}").mkdir(parents=True)
        shutil.copy(photo(tmp_path / "one.jpg"), root / f"images/{split}/{split}.jpg")
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/{split}.txt").write_text(LINE)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [mug]\n")
    case = Case(root, tmp_path / "copy")
    assert case.samples.keys() == {"test"} and case.result["ok"]


def test_masks_are_never_turned_into_something_else(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a", "b"):
        photo(root / f"images/{name}.jpg")
        write_ids(root / f"masks/{name}.png", np.ones((30, 40), np.uint8))
    (root / "labels.txt").write_text("rest\nmug\nmug\n")  # two values of one class
    write_ids(root / "masks/b.png", np.full((30, 40), 2, np.uint8))
    case = Case(root, tmp_path / "copy")
    assert "duplicate_category" in {row["code"] for row in case.result["repairs"]} and case.result["ok"]
    assert [np.unique(s.mask().ids).tolist() for s in case.samples.values() if s.mask] == [[1], [1]]
    (root / "masks/a.png").write_bytes(b"")
    case = Case(root, tmp_path / "again")
    assert case.samples.keys() == {"b"} and case.changes()["a.jpg"] == ("a mask", "left out")
