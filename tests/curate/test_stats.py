"""The figures are right by hand, the page shows them in one file, and nothing in a data set can run in it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.curate.stats import stats
from handful.data import format_coco, formats
from handful.data.sample_images import SAMPLES, sample_photo
from handful.data.shapes import rle_of
from handful.types import Category, Dataset, Image, Mask, Object, Sample
from tests.conftest import save


class Page(HTMLParser):
    """Every tag with its attributes, all text, and whether each tag that is opened is closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def pictures(self) -> list[Any]:
        found = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        assert all(src.startswith("data:image/jpeg;base64,") for src in found)
        return [PIL_Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))) for src in found]


def page(folder: Path) -> Page:
    text = (folder / "stats.html").read_text(encoding="utf-8")
    read = Page(text)
    assert read.wrong == [] and read.open == []
    links = re.sub(r"data:image/jpeg;base64,[\w+/=]+", "", text)
    assert not re.search(r"//\w|@import|url\(", links)  # one file, and it asks nothing of a network
    names = {tag for tag, _ in read.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form"}
    assert not [a for _, attrs in read.tags for a in attrs if a.startswith("on")]
    return read


def words(read: Page) -> str:
    return " ".join(" ".join(read.text).split())


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    """Four photographs, 100 x 80 px: two with objects, an empty one and one nobody looked at."""
    from handful.image import fit

    paths = [save(fit(sample_photo(n).rgb_u8, (80, 100)), tmp_path / "photos" / f"{n}.png") for n in list(SAMPLES)[:4]]
    square = np.array([[0.0, 0], [40, 0], [40, 40], [0, 40]])
    pixels = np.zeros((80, 100), dtype=bool)
    pixels[:, :99] = True
    cats = Object("cat", (10, 10, 30, 40)), Object("cat", polygons_px=(square,))
    first = (*cats, Object("dog", (0, 0, 99, 80), rle=rle_of(pixels)))
    second = (Object("cat", (0, 0, 50, 50), crowd=True), Object("bird", (5, 5, 8, 9)), Object("fox"))
    more = {"split": "train", "license": "CC BY"}
    samples = [
        Sample(paths[0], objects=first, name="a.png", size_wh=(100, 80), split="val"),
        Sample(paths[1], objects=second, name="b.png", size_wh=(100, 80), **more),  # type: ignore[arg-type]
        Sample(paths[2], objects=(), name="c.png", **more),  # type: ignore[arg-type]
        Sample(paths[3], name="d.png", **more),  # type: ignore[arg-type]
    ]
    names = ("cat", "dog", "bird", "fox", "owl")
    categories = tuple(Category(i + 1, name) for i, name in enumerate(names))
    return Dataset("coco", tmp_path / "photos", categories, lambda: iter(samples), len(samples))


def test_figures_by_hand(small: Dataset) -> None:
    got = stats(small)
    assert (got["schema_version"], got["images"], got["labeled"], got["empty"], got["unlabeled"]) == (1, 4, 3, 1, 1)
    assert list(got["splits"]) == ["train", "val"]
    assert got["splits"]["train"] == {"images": 3, "labeled": 2, "empty": 1, "unlabeled": 1}
    rows = {c["name"]: c for c in got["classes"]}
    assert list(rows) == ["cat", "dog", "bird", "fox", "owl"]
    assert {n: (c["images"], c["objects"], c["pixels"]) for n, c in rows.items()} == {
        "cat": (2, 2, 20 * 30 + 40 * 40 + 50 * 50), "dog": (1, 1, 99 * 80), "bird": (1, 1, 12), "fox": (1, 1, 0),
        "owl": (0, 0, 0)}  # fmt: skip
    assert rows["cat"]["splits"] == {"val": {"images": 1, "objects": 2, "pixels": 2200},
                                     "train": {"images": 1, "objects": 0, "pixels": 2500}}  # fmt: skip
    o = got["objects"]
    # sides: sqrt(600) = 24.5, 40, sqrt(7920) = 88.99, sqrt(12) = 3.5; the crowd is left out
    assert (o["count"], o["crowds"], o["outlined"], o["boxes_as_pixels"], o["without_shape"]) == (4, 1, 2, 2, 1)
    assert o["size"] == {"small": 2, "medium": 2, "large": 0}
    assert rows["cat"]["size"] == {"small": 1, "medium": 1, "large": 0}
    counted = dict(zip(o["side_px"]["from"], o["side_px"]["count"], strict=True))
    assert {edge: n for edge, n in counted.items() if n} == {0: 1, 16: 1, 32: 1, 64: 1}
    # shares: sqrt(600 / 8000) = 0.274, sqrt(0.2) = 0.447, 0.995, 0.039
    counted = dict(zip(o["relative_size"]["from"], o["relative_size"]["count"], strict=True))
    assert {edge: n for edge, n in counted.items() if n} == {0.25: 1, 0.4: 1, 0.95: 1, 0.0: 1}
    # width over height: 2 / 3, 1, 99 / 80, 0.75
    counted = dict(zip(o["aspect_ratio"]["from"], o["aspect_ratio"]["count"], strict=True))
    assert {edge: n for edge, n in counted.items() if n} == {0.5: 1, 0.67: 1, 0.8: 2}
    assert o["per_image"] == {"0": 1, "2": 1, "3": 1}
    assert got["image_sizes"]["sizes"] == {"100 × 80": 4}  # two of them from the images themselves
    assert got["image_sizes"]["width_px"] == {"least": 100, "median": 100.0, "most": 100}
    assert got["cooccurrence"] == [[0, 1, 1], [0, 2, 1], [0, 3, 1], [2, 3, 1]]
    assert got["licenses"] == {"CC BY": 3, "none given": 1}
    assert set(got["rule"]) >= {"images", "objects", "pixels", "size", "sha256"}
    json.dumps(got, allow_nan=False)


def test_a_value_on_an_edge_belongs_above_it() -> None:
    boxes = [Object("cat", (0, 0, side, side)) for side in (8, 7.9, 32, 96, 9000)]
    sample = Sample(Path("a"), objects=tuple(boxes), name="a", size_wh=(9000, 9000))
    got = stats(Dataset("coco", Path("made"), (Category(1, "cat"),), lambda: iter([sample]), 1))["objects"]
    assert got["size"] == {"small": 2, "medium": 1, "large": 2}
    counted = dict(zip(got["side_px"]["from"], got["side_px"]["count"], strict=True))
    assert {edge: n for edge, n in counted.items() if n} == {4: 1, 8: 1, 32: 1, 96: 1, 2048: 1}


def test_masks_and_whole_photo_labels() -> None:
    ids = np.array([[1, 1, 2], [255, 2, 2]], dtype=np.uint8)
    samples = [Sample(Path("a"), mask=lambda: Mask(ids), name="a", size_wh=(3, 2))]
    samples.append(Sample(Path("b"), label="dog", name="b"))
    got = stats(Dataset("masks", Path("made"), (Category(1, "cat"), Category(2, "dog")), lambda: iter(samples), 2))
    rows = [(c["name"], c["images"], c["objects"], c["pixels"]) for c in got["classes"]]
    assert rows == [("cat", 1, 0, 2), ("dog", 2, 0, 3)]
    assert got["cooccurrence"] == [[0, 1, 1]]
    assert got["image_sizes"]["unknown_size"] == 1


def test_the_hash_knows_labels_and_not_order(small: Dataset) -> None:
    samples = list(small)
    first = stats(small)["sha256"]

    def of(held: list[Sample]) -> str:
        value: str = stats(replace(small, samples=lambda: iter(held), count=len(held)))["sha256"]
        return value

    assert of(samples[::-1]) == first
    things = samples[0].objects or ()
    for changed in (
        replace(samples[0], objects=(replace(things[0], box_px=(11, 10, 31, 40)), *things[1:])),
        replace(samples[0], objects=(replace(things[0], label="dog"), *things[1:])),
        replace(
            samples[0], objects=(things[0], replace(things[1], polygons_px=(things[1].polygons_px[0] + 1,)), things[2])
        ),
        replace(samples[0], split="test"),
        replace(samples[0], name="z.png"),
        replace(samples[0], path=samples[1].path),
    ):
        assert of([changed, *samples[1:]]) != first
    assert of([samples[0], samples[1], replace(samples[2], objects=None), samples[3]]) != first
    assert of([*samples, samples[0]]) != first  # the same image twice is another data set, and no reason to fail
    one, other = Object("cat", (0, 0, 9, 9)), Object("dog", (10, 10, 19, 19))
    swapped = Object("dog", (0, 0, 9, 9)), Object("cat", (10, 10, 19, 19))
    assert of([replace(samples[0], objects=(one, other))]) != of([replace(samples[0], objects=swapped)])


def test_splits_come_in_the_order_people_expect(small: Dataset) -> None:
    samples = [replace(s, split=split) for s, split in zip(small, ("other", "test", "val", "train"), strict=True)]
    assert list(stats(replace(small, samples=lambda: iter(samples)))["splits"]) == ["train", "val", "test", "other"]


def test_both_files_are_written(small: Dataset, tmp_path: Path) -> None:
    got = stats(small, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["stats.html", "stats.json"]
    assert json.loads((tmp_path / "out" / "stats.json").read_text(encoding="utf-8")) == got
    text = words(page(tmp_path / "out"))
    for said in (
        "4 images with 5 classes", "cat is in 2 images", "1 class has no image at all", "The smallest objects",
        "3 × 4 px", "50 % of the objects are small", "Nobody has looked at 1 image:", "4 objects and 1 crowd ",
    ):  # fmt: skip
        assert said in text, said


def test_pictures_are_small_few_and_show_what_is_marked(small: Dataset, tmp_path: Path) -> None:
    stats(small, tmp_path)
    shown = page(tmp_path).pictures()
    assert 0 < len(shown) <= 80 and all(max(p.size) <= 160 for p in shown)

    def orange(picture: Any) -> float:
        rgb = np.asarray(picture.convert("RGB")).astype(int)
        return float(((rgb[..., 0] > 120) & (rgb[..., 0] - rgb[..., 2] > 80)).mean())

    black = Image(np.zeros((80, 100, 3), dtype=np.uint8))
    half = np.zeros((80, 100), dtype=bool)
    half[:, :50] = True
    for sample in (
        Sample(Path("x"), objects=(Object("cat", rle=rle_of(half)),), name="x", pixels=lambda: black),
        Sample(Path("x"), mask=lambda: Mask(half.astype(np.uint8)), name="x", pixels=lambda: black),
    ):
        stats(Dataset("coco", Path("made"), (Category(1, "cat"),), lambda s=sample: iter([s]), 1), tmp_path)  # type: ignore[misc]
        first = page(tmp_path).pictures()[0]
        assert first.size == (160, 128)
        assert 0.45 < orange(first) < 0.6
        assert orange(first.crop((100, 10, 150, 120))) == 0


NASTY = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "{{ 7 * 7 }}",
    "{% raw %}", "</style><script>", "&lt;b&gt;", "javascript:alert(1)",
)  # fmt: skip


def test_nothing_in_a_data_set_can_run_in_the_page(tmp_path: Path) -> None:
    path = save(sample_photo("cat"), tmp_path / "cat.png")
    samples = [
        Sample(path, objects=tuple(Object(n, (3, 3, 90, 90)) for n in NASTY), name=NASTY[i], split=NASTY[-i],
               license=NASTY[i], size_wh=(451, 300))
        for i in range(1, len(NASTY))
    ]  # fmt: skip
    root = tmp_path / "<script>alert(1)<" / "script>"
    categories = tuple(Category(i, name, parent=name) for i, name in enumerate(NASTY))
    stats(Dataset("<script>", root, categories, lambda: iter(samples), len(samples)), tmp_path / "out")
    read = page(tmp_path / "out")
    assert len(read.pictures()) > len(NASTY)
    for name in NASTY:
        assert name in " ".join(read.text)
    assert "49" not in [word for text in read.text for word in text.split()]


def many(n: int, photo: Path, objects: bool = True) -> Dataset:
    names = [f"class {i} " + "ж" * (i % 40) for i in range(n)]
    samples = [
        Sample(photo, objects=(Object(name, (5, 5, 5 + i % 200 + 1, 50)),) if objects else None, name=f"{i}.png",
               size_wh=(451, 300))
        for i, name in enumerate(names)
    ]  # fmt: skip
    return Dataset("coco", photo.parent, tuple(map(Category, range(n), names)), lambda: iter(samples), n)


@pytest.mark.parametrize("n", [0, 1, 2, 133])
@pytest.mark.parametrize("objects", [True, False])
def test_any_number_of_classes_makes_a_page(n: int, objects: bool, tmp_path: Path) -> None:
    photo = save(sample_photo("cat"), tmp_path / "photos" / "cat.png")
    got = stats(many(n, photo, objects), tmp_path / "out")
    read = page(tmp_path / "out")
    assert len(got["classes"]) == n
    assert len(read.pictures()) == (0 if not objects else min(n, 72) + min(n, 8))


def test_broken_photos_are_counted_and_not_shown(small: Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    samples = [replace(s, path=broken, size_wh=None) for s in small]
    got = stats(replace(small, samples=lambda: iter(samples)), tmp_path / "out")
    assert got["images"] == 4 and got["image_sizes"]["unknown_size"] == 4 and got["objects"]["count"] == 4
    assert page(tmp_path / "out").pictures() == []


def test_the_draw_of_photos_follows_the_seed_and_not_the_order(tmp_path: Path) -> None:
    samples = []
    for i in range(40):
        a = np.full((20, 30, 3), 6 * i, dtype=np.uint8)
        samples.append(Sample(Path("x"), label="cat", name=f"{i}", pixels=lambda a=a: Image(a)))  # type: ignore[misc]

    def drawn(order: list[Sample], seed: int) -> list[str]:
        stats(Dataset("folder", Path("made"), (), lambda: iter(order), 40), tmp_path, seed=seed)
        return [attrs["title"] or "" for tag, attrs in page(tmp_path).tags if tag == "img"]

    first = drawn(samples, 0)
    assert len(first) == len(set(first)) == 12
    assert drawn(samples[::-1], 0) == first
    assert drawn(samples, 1) != first


@pytest.mark.parametrize("kind", ["coco", "masks", "folder"])
def test_real_photos(data: Path, tmp_path: Path, kind: str) -> None:
    read: dict[str, Callable[[], Dataset]] = {
        "coco": lambda: format_coco.read(data / "coco-mini"),
        "masks": lambda: formats.read(data / "coco-mini", format="masks", masks="semantic133"),
        "folder": lambda: formats.read(data / "grocery", format="folder"),
    }
    got = stats(read[kind](), tmp_path)
    shown = page(tmp_path)
    assert 30 < len(shown.pictures()) <= 80
    assert (tmp_path / "stats.html").stat().st_size < 2_000_000
    wanted = {"coco": (332, 80, 2565), "masks": (332, 133, 0), "folder": (820, 41, 0)}[kind]
    assert (got["images"], len(got["classes"]), got["objects"]["count"]) == wanted
