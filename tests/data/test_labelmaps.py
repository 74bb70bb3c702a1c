"""Label maps: every class of every source has its row, the shared truth is reproduced, masks go pixel by pixel."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data import labelmaps
from handful.data.labelmaps import LABEL_MAPS, LabelMap, label_map, plan, remap
from handful.errors import DataError, UnknownName
from handful.types import Category, Dataset, Mask, Object, Sample

TABLES = Path(labelmaps.__file__).parent / "labels"
TEN = ["other", "person", "sky", "plants", "pet", "building", "flower", "water", "food", "mountain", "beach"]
IDS = {
    "coco-stuff": range(92, 184),
    "ade20k": range(1, 151),
    "msrc": range(24),  # 23 classes and void
    "camvid": range(11),
    "camvid32": range(32),
    "voc": range(21),  # 20 classes and background
    "cityscapes": range(-1, 34),  # 34 of the masks, and the license plates of the polygons
}
# SHA-256 of the names, one a line, in the order of their ids, as published: objectInfo150.txt of
# CSAILVision/sceneparsing (first synonyms), labels.txt of nightrome/cocostuff from 92 on (and "other").
NAMES = {"ade20k": "ffd47f2fcbad6c48", "coco-stuff": "add9ae8b307b6681"}


def rows(name: str, source: str | None = None) -> list[dict[str, str]]:
    with (TABLES / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if source in (None, row["source"])]


def dataset(categories: Iterable[tuple[int, str]], *samples: Sample) -> Dataset:
    return Dataset("test", Path("set"), tuple(Category(i, n) for i, n in categories), lambda: iter(samples), 1)


def png(path: Path) -> np.ndarray:
    with PIL_Image.open(path) as image:
        return np.asarray(image)


def read_mask(path: Path) -> Mask:
    return Mask(png(path))


def own(folder: Path, text: str, name: str = "my.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


# The tables


def test_the_maps_are_the_files() -> None:
    assert set(LABEL_MAPS) == {path.stem for path in TABLES.glob("*.csv")} == {"person", "ten"}
    assert [(t.id, t.name) for t in label_map("ten").targets] == list(enumerate(TEN))
    assert [(t.id, t.name) for t in label_map("person").targets] == [(0, "background"), (1, "person")]


@pytest.mark.parametrize("name", LABEL_MAPS)
@pytest.mark.parametrize("source", IDS)
def test_no_class_is_missing(name: str, source: str) -> None:
    ids = [int(row["id"]) for row in rows(name, source)]
    assert sorted(ids) == list(IDS[source])


@pytest.mark.parametrize("name", LABEL_MAPS)
@pytest.mark.parametrize("source", NAMES)
def test_names_are_as_published(name: str, source: str) -> None:
    names = "\n".join(row["name"] for row in sorted(rows(name, source), key=lambda row: int(row["id"])))
    assert hashlib.sha256(names.encode()).hexdigest().startswith(NAMES[source])


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_coco_is_80_things_and_53_of_stuff(name: str) -> None:
    things = [(int(row["id"]), row["name"]) for row in rows(name, "coco")]
    both = [(int(row["id"]), row["name"]) for row in rows(name, "coco-panoptic")]
    assert len(things) == 80 and things[0] == (1, "person") and things[-1] == (90, "toothbrush")
    assert both[:80] == things and len(both) == 133 and min(both[80:])[0] == 92 and max(both)[0] == 200


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_what_is_read_is_what_is_written(name: str) -> None:
    table = label_map(name).table
    assert sum(map(len, table.values())) == len(rows(name))
    for row in rows(name):
        assert table[row["source"]][row["name"]] == (None if row["target"] == "ignore" else row["target"])


def test_the_two_maps_agree() -> None:
    """A person in one is a person in the other; what may hold people, and is ignored for it, is ignored by both."""
    ten, person = label_map("ten"), label_map("person")
    assert set(person.table) - set(ten.table) == {"ten"}
    for source in set(ten.table) - {"target"}:
        assert list(ten.table[source]) == list(person.table[source])
        for name, target in ten.table[source].items():
            assert (target == "person") == (person.table[source][name] == "person"), (source, name)
            assert target is None or person.table[source][name] is not None, (source, name)


def test_the_same_name_goes_the_same_way_in_every_source() -> None:
    """Else the answer would hang on which source is picked. COCO-Stuff's "other" is all objects, people too."""
    for name in LABEL_MAPS:
        ways: dict[str, set[str | None]] = {}
        for table in label_map(name).table.values():
            for cls, target in table.items():
                ways.setdefault(cls.casefold(), set()).add(target)
        assert {cls for cls, targets in ways.items() if len(targets) > 1} == {"other"}


def test_what_is_ignored_is_on_purpose() -> None:
    void = {("cityscapes", name) for name in ("unlabeled", "ego vehicle", "rectification border", "out of roi")}
    both = void | {("cityscapes", "dynamic"), ("msrc", "void"), ("camvid32", "Void"), ("camvid32", "MotorcycleScooter"),
                   ("coco-stuff", "clothes"), ("coco-stuff", "other")}  # fmt: skip
    ten = {("cityscapes", "static"), ("camvid32", "Animal"), ("ade20k", "animal"), ("ade20k", "fountain"),
           ("coco-stuff", "waterdrops"), ("voc", "background")}  # fmt: skip
    for name, wanted in (("person", both), ("ten", both | ten)):
        assert {(row["source"], row["name"]) for row in rows(name) if row["target"] == "ignore"} == wanted


def test_every_target_is_reached() -> None:
    for name in LABEL_MAPS:
        reached = {t for source, table in label_map(name).table.items() if source != "target" for t in table.values()}
        assert reached == {t.name for t in label_map(name).targets} | {None}


# The shared truth


def test_coco_names_and_ids_are_the_shared_ones(data: Path) -> None:
    truth = json.loads((data / "coco-mini" / "labels.json").read_text())
    wanted = {name: target for target, names in truth["seg10_from_coco_names"].items() for name in names}
    assert {row["id"]: row["name"] for row in rows("ten", "coco-panoptic")} == truth["semantic133_ids"]
    for source in ("coco", "coco-panoptic"):
        for name, target in label_map("ten").table[source].items():
            assert target == wanted.get(name, "other"), name
    assert {str(t.id): t.name for t in label_map("ten").targets} == truth["seg10"]
    boxes = json.loads((data / "coco-mini" / "instances_train.json").read_text())["categories"]
    assert [(int(row["id"]), row["name"]) for row in rows("ten", "coco")] == [(c["id"], c["name"]) for c in boxes]


def test_msrc_names_and_ids_are_the_shared_ones(data: Path) -> None:
    truth = json.loads((data / "msrc-seg" / "labels.json").read_text())
    assert {row["id"]: row["name"] for row in rows("ten", "msrc")} == truth["labels23"]
    for name, target in label_map("ten").table["msrc"].items():
        assert target == (None if name == "void" else truth["seg10_from"].get(name, "other")), name


@pytest.mark.parametrize(
    ("folder", "masks", "names", "photos"),
    [("coco-mini", "semantic133", "semantic133_ids", 148), ("msrc-seg", "labels23", "labels23", 489)],
)
def test_masks_become_the_shared_ones(data: Path, folder: str, masks: str, names: str, photos: int) -> None:
    root = data / folder
    classes = {int(i): n for i, n in json.loads((root / "labels.json").read_text())[names].items()}
    paths = sorted((root / masks).rglob("*.png"))
    samples = [Sample(path, mask_path=path, mask=partial(read_mask, path)) for path in paths]
    source = dataset({0: "unlabelled", **classes}.items(), *samples)
    same = pixels = 0
    for sample in remap(source, label_map("ten")):
        assert sample.mask is not None
        got, want = sample.mask().ids, png(root / "seg10" / sample.path.relative_to(root / masks))
        same, pixels = same + int((got == want).sum()), pixels + want.size
    print(f"{folder}: {same} of {pixels} pixels in {len(paths)} masks")
    assert len(paths) == photos and same == pixels


def test_camvid_has_no_other_value(data: Path) -> None:
    paths = sorted((data / "camvid" / "labels" / "val").glob("*.png"))
    samples = [Sample(path, mask=partial(read_mask, path)) for path in paths]
    classes = [(int(row["id"]), row["name"]) for row in rows("ten", "camvid")]
    seen: set[int] = set()
    for sample in remap(dataset(classes, *samples), label_map("ten")):
        assert sample.mask is not None
        seen |= set(np.unique(sample.mask().ids).tolist())
    assert seen == {0, 1, 2, 3, 5, 255}  # other, person, sky, plants, building


# Which source


@pytest.mark.parametrize("source", [*IDS, "coco", "coco-panoptic", "target"])
@pytest.mark.parametrize("case", [str, str.upper])
def test_a_source_is_found_by_its_names(source: str, case: Callable[[str], str]) -> None:
    ten = label_map("ten")
    names = [case(name) for name in ten.table[source]]
    assert ten.source_for(names) == source
    assert list(ten.translate(names).values()) == list(ten.table[source].values())


def test_a_few_names_are_enough() -> None:
    ten = label_map("ten")
    assert ten.source_for(iter(["cat", "potted plant"])) == "coco"
    assert ten.source_for(["pottedplant", "background"]) == "voc"
    assert ten.source_for(["building, edifice", "bed ", "Television, tv"]) == "ade20k"
    assert ten.translate(["cat", "unlabelled", "Void"]) == {"cat": "pet", "unlabelled": None, "Void": None}
    assert ten.source_for(["face", "unlabelled"]) == "msrc"


def test_names_that_fit_two_sources_in_two_ways_are_refused() -> None:
    with pytest.raises(DataError, match=r"fit target and coco-stuff of the label map 'ten', which map 'other'"):
        label_map("ten").source_for(["other", "flower"])
    assert label_map("ten").translate(["other", "flower"], "coco-stuff") == {"other": None, "flower": "flower"}


def test_unknown_names_are_told_with_the_nearest() -> None:
    ten = label_map("ten")
    with pytest.raises(DataError, match=r"of the label map 'ten' has 'dgo' \(nearest: 'dog'\), '%%%'; give a table"):
        ten.source_for(["cat", "dgo", "%%%"])
    with pytest.raises(DataError, match=r"has 'x10', 'x11'.* 'x19' and 5 more"):
        ten.source_for([f"x{i}" for i in range(10, 25)])
    with pytest.raises(DataError, match=r"no one source .* all 3 class names; ade20k has all but 'snow';"):
        ten.source_for(["animal", "earth", "snow"])
    with pytest.raises(DataError, match="no classes"):
        ten.source_for([])
    with pytest.raises(UnknownName, match="did you mean 'ade20k'"):
        ten.translate(["cat"], "ade20")
    with pytest.raises(DataError, match=r"source 'voc' of the label map 'ten' has no 'zebra'"):
        ten.translate(["cat", "zebra"], "voc")
    with pytest.raises(UnknownName, match="did you mean 'person'"):
        label_map("persons")


# Data sets

FOUR = [(1, "person"), (17, "cat"), (18, "dog"), (3, "car")]


def made(to: Dataset, map: LabelMap) -> Sample:
    (sample,) = remap(to, map)
    return sample


def test_objects_and_labels_are_translated() -> None:
    things = tuple(Object(name, (0, 0, 9, 9), crowd=i == 0, attributes={"id": i}) for i, (_, name) in enumerate(FOUR))
    photo = Sample(Path("a.jpg"), label="dog", objects=things, name="a.jpg", split="val")
    new = made(dataset(FOUR, photo), label_map("ten"))
    assert (new.label, new.split, new.mask) == ("pet", "val", None)
    assert new.objects is not None
    assert [(o.label, o.box_px, o.crowd, o.attributes["id"]) for o in new.objects] == [
        ("person", (0, 0, 9, 9), True, 0),
        ("pet", (0, 0, 9, 9), False, 1),
        ("pet", (0, 0, 9, 9), False, 2),
    ]
    alone = made(dataset(FOUR, Sample(Path("a.jpg"), label="car", objects=things[1:])), label_map("person"))
    assert (alone.label, alone.objects) == ("background", ())
    nothing = made(dataset(FOUR, Sample(Path("a.jpg"))), label_map("ten"))
    assert (nothing.label, nothing.objects, nothing.mask) == (None, None, None)
    void = made(dataset([(0, "void"), (1, "cow")], Sample(Path("a.jpg"), label="void")), label_map("ten"))
    assert void.label is None


def test_the_result_is_a_data_set() -> None:
    old = dataset(FOUR, Sample(Path("a.jpg"), label="dog"))
    new = remap(old, label_map("ten"))
    assert (new.format, new.root, len(new), [c.name for c in new.categories]) == ("test", old.root, 1, TEN)
    assert [s.label for s in new] == [s.label for s in new] == ["pet"]  # iterating starts anew
    assert [s.label for s in remap(new, label_map("ten"))] == ["pet"]  # the targets are a source themselves
    assert [s.label for s in remap(new, label_map("person"))] == ["background"]


def test_nothing_is_read_before_it_is_asked_for() -> None:
    calls: list[str] = []

    def samples() -> Iterator[Sample]:
        calls.append("sample")
        yield Sample(Path("a.jpg"), mask=lambda: calls.append("mask") or Mask(np.ones((1, 1), np.uint8)))  # type: ignore[func-returns-value]

    old = Dataset("test", Path("set"), tuple(Category(*c) for c in FOUR), samples, 1)
    new = remap(old, label_map("ten"))
    assert calls == []
    (sample,) = new
    assert calls == ["sample"]
    assert sample.mask is not None
    assert sample.mask().ids.tolist() == [[1]] and calls == ["sample", "mask"]


def test_the_plan_says_what_goes_where() -> None:
    classes = [*FOUR, (0, "unlabelled"), (16, "bird")]
    said = plan(dataset(classes), label_map("ten"))
    assert json.loads(json.dumps(said)) == said
    assert (said["map"], said["source"], said["ignore"]) == ("ten", "voc", ["unlabelled"])  # the smallest that has all
    wanted = {"person": ["person"], "pet": ["cat", "dog"], "other": ["car", "bird"]}
    assert said["targets"] == {name: wanted.get(name, []) for name in TEN}
    assert said["objects_dropped"] == ["car", "unlabelled", "bird"]
    assert plan(dataset(FOUR), label_map("person"), source="coco")["source"] == "coco"


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"b/a.jpg: 'cow' is no class of the data set; there is 'person', 'cat'"):
        made(dataset(FOUR, Sample(Path("a.jpg"), name="b/a.jpg", objects=(Object("cow"),))), label_map("ten"))
    with pytest.raises(DataError, match=r"a.jpg: 'cow' is no class"):
        made(dataset(FOUR, Sample(Path("a.jpg"), label="cow")), label_map("ten"))


# Masks


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_masks_go_pixel_by_pixel(draw: st.DataObject) -> None:
    ten = label_map("ten")
    dtype = draw.draw(st.sampled_from([np.uint8, np.uint16]))
    top = int(np.iinfo(dtype).max)
    table = ten.table[draw.draw(st.sampled_from(["coco-panoptic", "ade20k", "cityscapes"]))]
    names = draw.draw(st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=30, unique=True))
    ids = draw.draw(st.lists(st.integers(0, top - 1), min_size=len(names), max_size=len(names), unique=True))
    values = draw.draw(st.lists(st.sampled_from([*ids, top]), min_size=6, max_size=6))
    before = np.array(values, dtype).reshape(2, 3)
    kept = before.copy()
    sample = made(dataset(zip(ids, names, strict=True), Sample(Path("a.jpg"), mask=lambda: Mask(before))), ten)
    assert sample.mask is not None
    after = sample.mask().ids
    number = {None: 255, **{t.name: t.id for t in ten.targets}}
    to = {top: 255, **{i: number[table[name]] for i, name in zip(ids, names, strict=True)}}
    assert after.dtype == np.uint8 and after.shape == (2, 3)
    assert after.ravel().tolist() == [to[value] for value in values]
    assert (before == kept).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_value_that_is_no_class_is_refused(dtype: type) -> None:
    ids = np.full((4, 5), 17, dtype)
    ids[0, :3], ids[1, 0] = 99, 2
    sample = made(
        dataset([*FOUR, (-1, "bird")], Sample(Path("a.jpg"), mask_path=Path("m/a.png"), mask=lambda: Mask(ids))),
        label_map("ten"),
    )
    assert sample.mask is not None
    with pytest.raises(DataError, match=r"^m/a.png: values .*: 2 in 1 pixels, 99 in 3 pixels; add the class"):
        sample.mask()


def test_classes_that_a_mask_cannot_show_do_no_harm() -> None:
    """Cityscapes has a class -1; COCO's ids may be thousands in a set of one's own."""
    ids = np.array([[1, 255]], np.uint8)
    sample = made(
        dataset([*FOUR, (-1, "bus"), (300, "truck")], Sample(Path("a.jpg"), mask=lambda: Mask(ids))), label_map("ten")
    )
    assert sample.mask is not None and sample.mask().ids.tolist() == [[1, 255]]


# Tables of one's own


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = own(tmp_path, '\ufeffname , target\ncat,animal\ndog, animal\n\nroad,other\n"a, b",ignore\n')
    for name in (path, str(path)):
        mine = label_map(name)
        assert (mine.name, [(t.id, t.name) for t in mine.targets]) == ("my", [(0, "other"), (1, "animal")])
        assert mine.table == {"names": {"cat": "animal", "dog": "animal", "road": "other", "a, b": None}}
    photo = Sample(Path("a.jpg"), label="dog", objects=(Object("Road"), Object("cat")))
    new = made(dataset([(4, "dog"), (7, "cat"), (9, "Road")], photo), mine)
    assert new.label == "animal" and new.objects is not None and [o.label for o in new.objects] == ["animal"]
    with pytest.raises(DataError, match=r"'my' has 'dgo' \(nearest: 'dog'\)"):
        mine.source_for(["dgo"])


def test_a_table_may_name_sources_and_targets(tmp_path: Path) -> None:
    text = (TABLES / "ten.csv").read_text(encoding="utf-8").replace("coco,16,bird,other", "coco,16,bird,pet")
    head, *lines = text.splitlines()
    mine = label_map(own(tmp_path, "\n".join([head, *reversed(lines)])))  # the ids count, not the order
    assert mine.targets == label_map("ten").targets
    assert (mine.table["coco"]["bird"], label_map("ten").table["coco"]["bird"]) == ("pet", "other")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,target\ncat,pet\ndog,pet\ncat,wild\n", r"my.csv line 4: 'cat' is already in line 2"),
        ("name,target\ncat,pet\nCat,wild\n", r"my.csv line 3: 'Cat' is already in line 2"),
        ("name,target\ncat,\n", r"my.csv line 2: target is empty"),
        ("name,target\ncat\n", r"my.csv line 2: target is empty"),
        ("name,target\n,pet\n", r"my.csv line 2: name is empty"),
        ("name,target,color\ncat,pet,red\n", r"my.csv line 1: column 'color' is unknown"),
        ("name,target,name\ncat,pet,cat\n", r"my.csv line 1: column 'name' is unknown or there twice"),
        ("name;target\ncat;pet\n", r"my.csv line 1: column 'name;target' is unknown"),
        ("name,note\ncat,pet\n", r"my.csv line 1: no column 'target'"),
        ("target\npet\n", r"my.csv line 1: no column 'name'"),
        ("name,target\ncat,pet,dog\n", r"my.csv line 2: wanted 2 cells"),
        ('name,target\n"cat,pet\n', r"my.csv line 2: not a CSV table"),
        ("name,target\n", r"my.csv has no rows"),
        ("", r"my.csv line 1: no column 'name'|no column 'target'"),
        ("name,target\ncat,ignore\n", r"my.csv has 0 targets"),
        ("name,target\n" + "".join(f"n{i},t{i}\n" for i in range(256)), r"my.csv has 256 targets"),
        ("source,id,name,target\ntarget,0,pet,pet\nx,1,cat,pte\n", r"line 3: 'pte' \(nearest: 'pet'\) is not among"),
        ("source,id,name,target\ntarget,0,pet,cat\n", r"my.csv line 2: a row of the source 'target'"),
        ("source,id,name,target\ntarget,255,pet,pet\n", r"my.csv line 2: a row of the source 'target'"),
        ("source,id,name,target\ntarget,,pet,pet\n", r"my.csv line 2: a row of the source 'target'"),
        ("source,id,name,target\ntarget,1,pet,pet\ntarget,1,cat,cat\n", r"my.csv line 3: a row of the source"),
    ],
)
def test_a_faulty_table_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        label_map(own(tmp_path, text))


def test_a_table_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.csv cannot be read"):
        label_map(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("name,target\nkäse,food\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv cannot be read .* UTF-8"):
        label_map(str(tmp_path / "latin.csv"))
