"""Photographs and masks that pair by their names, and an account of every file: nothing is passed over in silence."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.cli import main
from handful.curate.check import check
from handful.data import formats, pairing
from handful.data.looks import look_of
from handful.data.pairing import taken_apart
from handful.errors import DataError, UnknownName
from tests.data import layouts
from tests.data.layouts import Maker


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """make(image, mask) -> a folder of three photographs and masks of these name patterns, {} standing for 0, 1, 2."""

    def make(image: str, mask: str, stored: str = "0/255", n: int = 3, **how: Any) -> Path:
        m = Maker(n, tmp_path / "set")
        for i in range(n):
            m.photo(image.format(i))
            m.save(layouts.STORED[stored][0](m.areas()), mask.format(i), **how)
        return m.place

    return make


def codes(report: dict[str, Any], severity: str = "error") -> dict[str, str]:
    return {f["code"]: f["text"] for f in report["findings"] if f["severity"] == severity}


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("train/a_b1.jpg", ("train", "a b 1"), ()),
        ("train_mask/a_b1_mask.png", ("train", "a b 1"), ("mask", "mask")),
        ("PedMasks/Fudan01_mask.png", ("ped", "fudan 01"), ("masks", "mask")),
        ("JPEGImages/0.jpg", ("0",), ("jpegimages",)),
        ("0001/label.png", ("0001",), ("label",)),
        ("x/b (1)_mask_2.png", ("b ( 1 )",), ("x", "mask")),
        ("0016E5_00000_P.png", ("0016 e 5 00000",), ("p",)),
        ("mask.png", (), ("mask",)),
    ],
)
def test_names_are_taken_apart(name: str, key: tuple[str, ...], words: tuple[str, ...]) -> None:
    found = taken_apart(name)
    assert (found.key, found.words) == (key, words)


def test_what_a_picture_looks_like(tmp_path: Path) -> None:
    m = Maker(0, tmp_path)
    m.photo("photo.jpg")
    m.photo("photo.png")
    assert look_of(tmp_path / "photo.jpg") == look_of(tmp_path / "photo.png") == "photo"
    for name, (draw, _) in layouts.STORED.items():
        file = tmp_path / ("x.jpg" if name == "jpg" else "x.png")
        draw(m.areas()).save(file)
        wanted = {"alpha": "alpha", "soft": "soft", "jpg": "soft"}.get(name, "mask")
        assert look_of(file) == wanted, name
    PIL_Image.new("L", (40, 40), 7).save(tmp_path / "flat.png")
    (tmp_path / "none.png").write_bytes(b"no picture")
    assert look_of(tmp_path / "flat.png") == "flat" and look_of(tmp_path / "none.png") is None
    # a few ids of which the highest is far away are no soft edge
    ids = np.zeros((60, 80), np.uint8)
    for i, value in enumerate((3, 20, 40, 80, 150)):
        ids[i * 12 : i * 12 + 4, 5:30] = value
    PIL_Image.fromarray(ids).save(tmp_path / "ids.png")
    assert look_of(tmp_path / "ids.png") == "mask"


def test_real_photographs_and_masks_look_so(data: Path) -> None:
    for place, wanted in (("msrc-seg/images", "photo"), ("camvid/images", "photo"), ("msrc-seg/labels23", "mask")):
        files = sorted(p for p in (data / place).rglob("*") if p.suffix in (".jpg", ".png"))[:40]
        looks = [look_of(file) for file in files]
        assert files and looks.count(wanted) >= 0.95 * len(looks), (place, looks)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("train/{}.jpg", "train_mask/{}.png"),
        ("imgs/{}.jpg", "masks/{}.png"),
        ("images/{}.jpg", "masks/{}_mask.png"),
        ("{}.jpg", "{}_segmentation.png"),
        ("benign/b ({}).png", "benign/b ({})_mask.png"),
        ("PNGImages/p{}.png", "PedMasks/p{}_mask.png"),
        ("images/{}.jpg", "annotations/trimaps/{}.png"),
        ("s{}/img.png", "s{}/label.png"),
        ("test/good/{}.png", "ground_truth/good/{}_mask.png"),
        ("img_{}.jpg", "gt_{}.png"),
        ("shots/{}.jpg", "masks/{}.png"),
        ("A/train/{}.png", "B/train/{}.png"),
    ],
)
def test_pairs_are_found(image: str, mask: str, made: Callable[..., Path]) -> None:
    place = made(image, mask)
    (source,) = formats.sources(place)
    assert source.format == "pairs"
    dataset = source.read()
    assert [c.name for c in dataset.categories] == ["background", "foreground"]
    for sample in dataset:
        (i,) = [int(c) for c in sample.name if c.isdigit()]
        stored = np.asarray(PIL_Image.open(place / mask.format(i)))
        assert sample.path == place / image.format(i) and sample.mask is not None
        assert (sample.mask().ids == (stored > 0)).all()
    assert check(place)["ok"]


def test_class_folders_are_no_pairs(tmp_path: Path) -> None:
    m = Maker(1, tmp_path)
    for name in ("label", "images", "mask"):  # photographs in classes of such names
        for i in range(3):
            m.photo(f"{name}/{i}.jpg")
    assert pairing.find(tmp_path) == []


def test_soft_masks_are_told_and_read_on_request(made: Callable[..., Path], tmp_path: Path) -> None:
    for stored, suffix in (("soft", "png"), ("jpg", "jpg")):
        for photos in ("images", "imgs"):  # the formats masks and pairs
            place = made(photos + "/{}.jpg", "masks/{}." + suffix, stored).rename(tmp_path / f"{stored}{photos}")
            errors = codes(check(place))
            assert set(errors) == {"soft_mask"} and "--mask-threshold 128" in errors["soft_mask"]
            with pytest.raises(DataError, match=r"masks/0\.\w+: is one soft mask of \d+ gray levels"):
                [sample.mask() for sample in formats.read(place) if sample.mask is not None]
            # what the message says to do
            main(["data", "convert", str(place), f"{place}-hard", "--to", "masks", "--mask-threshold", "128"])
            report = check(Path(f"{place}-hard"))
            assert report["ok"] and report["sets"][0]["per_class"]["foreground"]["images"] == 3


@pytest.mark.parametrize("threshold", [0, 256, -1])
def test_a_threshold_out_of_range(threshold: int, made: Callable[..., Path]) -> None:
    for photos in ("images", "imgs"):
        with pytest.raises(DataError, match="wanted 1 to 255"):
            formats.read(made(photos + "/{}.jpg", "masks/{}.png", "soft"), threshold=threshold)


def test_patterns_say_how_it_pairs(made: Callable[..., Path]) -> None:
    place = made("shots/{}-day.jpg", "shots/{}-night.png")
    assert pairing.find(place) == []
    dataset = formats.read(place, format="pairs", images="shots/{}-day.jpg", masks="shots/{}-night.png")
    assert len(dataset) == 3 and all(sample.mask is not None for sample in dataset)
    for wrong, why in (
        ({"masks": "shots/{}-night.png"}, "give both"),
        ({"images": "shots/{}.jpg", "masks": "m/{}.png"}, "none of them share"),
        ({"images": "shots/*.jpg", "masks": "m/{}.png"}, r"wanted one \{\}"),
    ):
        with pytest.raises(DataError, match=why):
            formats.read(place, format="pairs", **wrong)


def test_several_trees_are_named(made: Callable[..., Path]) -> None:
    place = made("imgs/{}.jpg", "masks/{}.png")
    made("imgs/{}.jpg", "seg/{}_a.png".replace("_a", ""), "ids")
    assert [s.title for s in formats.sources(place)] == ["pairs masks", "pairs seg"]
    with pytest.raises(DataError, match="name one: --masks-in masks; --masks-in seg"):
        formats.read(place)
    with pytest.raises(UnknownName):
        formats.read(place, format="pairs", masks="sge")


def test_a_mask_without_an_image_is_told(made: Callable[..., Path]) -> None:
    place = made("imgs/{}.jpg", "masks/{}.png")
    (place / "imgs/1.jpg").unlink()
    assert "masks/1.png" in [f["file"] for f in check(place)["findings"] if f["code"] == "missing_image"]


def test_names_come_from_the_lists_that_lie_there(made: Callable[..., Path]) -> None:
    place = made("imgs/{}.jpg", "masks/{}.png", "ids")
    assert [c.name for c in formats.read(place).categories] == ["0", "1", "2"]
    for name, text in (
        ("classes.txt", "nothing\nmug\nplate\n"),
        ("masks/_classes.csv", "Pixel Value, Class\n0, nothing\n1, mug\n2, plate\n"),
        ("class_dict.csv", "name,r,g,b\nnothing,0,0,0\nmug,128,0,0\nplate,0,128,0\n"),
        ("label_colors.txt", "0 0 0\tnothing\n128 0 0\tmug\n0 128 0\tplate\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nnothing:0,0,0::\nmug:128,0,0::\nplate:0,128,0::\n"),
        ("labels.json", json.dumps({"labels": {"0": "nothing", "1": "mug", "2": "plate"}})),
    ):
        (place / name).write_text(text)
        assert [c.name for c in formats.read(place).categories] == ["nothing", "mug", "plate"], name
        report = check(place)
        assert report["ok"] and report["account"]["counts"]["mask"] == 3, name
        (place / name).unlink()


@pytest.mark.parametrize("photos", ["images", "imgs"])  # the formats masks and pairs
def test_colored_masks_without_a_list_are_told_with_their_colors(photos: str, tmp_path: Path) -> None:
    m = Maker(5, tmp_path)
    for i in range(2):
        m.photo(f"{photos}/{i}.jpg")
        rgb = np.array([[0, 0, 0], [200, 10, 10]], np.uint8)[np.minimum(m.areas(), 1)]
        m.save(PIL_Image.fromarray(rgb), f"masks/{i}.png")
    pixels = np.concatenate([np.asarray(PIL_Image.open(f))[..., 0].ravel() for f in (tmp_path / "masks").iterdir()])
    text = codes(check(tmp_path))["mask_not_ids"]
    assert f"0,0,0 in {(pixels == 0).sum()} pixels; 200,10,10 in {(pixels > 0).sum()} pixels" in text
    command = re.search(r"printf '[^']+' > class_dict\.csv", text)
    assert command is not None, text
    subprocess.run(["sh", "-c", command[0]], cwd=tmp_path, check=True)  # by copy and paste
    report = check(tmp_path)
    assert report["ok"] and report["sets"][0]["labeled"] == 2, report["findings"]
    counts = {name: row["pixels"] for name, row in report["sets"][0]["per_class"].items()}
    assert counts == {"NAME0": (pixels == 0).sum(), "NAME1": (pixels > 0).sum()}


def test_two_lists_that_disagree_are_refused(made: Callable[..., Path]) -> None:
    place = made("imgs/{}.jpg", "masks/{}.png", "ids")
    (place / "classes.txt").write_text("a\nb\nc\n")
    (place / "masks/labels.txt").write_text("a\nb\nd\n")
    with pytest.raises(DataError, match=r"classes\.txt and masks/labels\.txt: name the values of the masks in two"):
        formats.read(place)


def test_masks_of_many_objects(tmp_path: Path) -> None:
    m = Maker(3, tmp_path)
    for i in range(2):
        m.photo(f"id{i}/images/id{i}.png")
        for j in range(3):
            m.save(layouts.STORED["0/255"][0](m.areas()), f"id{i}/masks/{'abc'[j]}{j}f.png")
    dataset = formats.read(tmp_path)
    assert [len(sample.objects or ()) for sample in dataset] == [3, 3]
    assert {thing.label for sample in dataset for thing in sample.objects or ()} == {"foreground"}


def test_255_that_is_a_class_is_told(tmp_path: Path) -> None:
    m = Maker(4, tmp_path)
    for i in range(3):
        m.photo(f"images/{i}.jpg")
        m.save(layouts.STORED["0/255"][0](m.areas()), f"masks/{i}.png")
    (tmp_path / "labels.json").write_text(json.dumps({"labels": {"0": "background", "1": "person"}, "ignore": 255}))
    errors = codes(check(tmp_path))
    assert "of 255 are read as not labeled, and person has no pixel" in errors["ignored_class"]


# --- the account -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("a/0.txt", "a mug on a table\n", "text named like an image"),
        ("a/0.json", '{"kind": 1}', "JSON named like an image"),
        ("labels.json", '{"annotations": []}', "JSON that speaks of images"),
        ("x.xml", "<data><image name='0.jpg'/></data>", "XML with annotations"),
        ("split.lst", "a/0.jpg\nb/1.jpg\n", "names images that are there"),
        ("boxes.csv", "filename,xmin,ymin\nq.jpg,1,2\n", "table of images, classes or boxes"),
        ("about.yaml", "nc: 1\nnames: [mug]\n", "YAML that names classes"),
        ("classes.txt", "mug\nplate\n", "called like a list of classes"),
        ("a/0.npy", "x", "holds arrays or tables"),
    ],
)
def test_labels_beside_class_folders_are_an_error(file: str, text: str, why: str, tmp_path: Path) -> None:
    m = Maker(5, tmp_path)
    for name in ("a", "b"):
        for i in range(3):
            m.photo(f"{name}/{i}.jpg")
    assert check(tmp_path)["ok"]
    m.write(file, text)
    report = check(tmp_path)
    found = [f for f in report["findings"] if f["code"] == "unread_labels"]
    assert len(found) == 1 and why in found[0]["text"] and file in json.dumps(found[0]), report["findings"]
    assert report["account"]["counts"] == {"image": 6, "unread": 1}
    with pytest.raises(DataError, match="not read"):
        formats.read(tmp_path)


def test_what_is_no_label_is_let_be(tmp_path: Path) -> None:
    m = Maker(6, tmp_path)
    for name in ("mug", "plate"):
        for i in range(3):
            m.photo(f"{name}/{i}.jpg")
    m.write("README.md", "images of mugs\n")
    m.write("package.json", '{"devDependencies": {}, "files": []}')
    m.write("mug/0.jpg.json", '{"title": "0.jpg", "photoTakenTime": {"timestamp": "1"}, "people": []}')
    m.write("notes.txt", "It rained.\n")
    m.write("classes.txt", "mug\nplate\n")  # says what the folders say
    m.write("all.zip", b"PK")
    report = check(tmp_path)
    assert report["ok"], report["findings"]
    assert report["account"]["files"] == 12
    assert report["account"]["counts"] == {"image": 6, "about": 1, "ignored": 5}


def test_labels_of_another_form_beside_those_that_are_read(tmp_path: Path) -> None:
    m = Maker(7, tmp_path)
    layouts._coco(m, {"": [(f"{i}.jpg", [(0, (1, 1, 30, 30))]) for i in range(3)]})
    assert check(tmp_path)["ok"]
    m.write("extra.csv", "image,class\n0.jpg,mug\n")
    for i in range(3):
        m.save(layouts.STORED["ids"][0](m.areas()), f"segs/{i}_mask.png")
    report = check(tmp_path)
    assert [s["format"].split()[0] for s in report["sets"]] == ["coco", "pairs"]
    assert set(codes(report)) == {"unread_labels"} and report["account"]["counts"]["unread"] == 1


def test_an_image_that_nothing_names_is_told(tmp_path: Path) -> None:
    m = Maker(8, tmp_path)
    layouts._coco(m, {"": [(f"{i}.jpg", [(0, (1, 1, 30, 30))]) for i in range(3)]})
    m.photo("cover/preview.png")
    assert "cover/preview.png" in json.dumps([f for f in check(tmp_path)["findings"] if f["code"] == "unused_image"])
