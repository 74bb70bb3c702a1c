"""From data sets to batches: class numbers, what is left out and said, order and changes by seed, epoch and photo."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.data import formats
from handful.data.finding import Finding
from handful.errors import DataError, UnknownName
from handful.training import loader, loader_segment
from handful.training.augment import worn
from handful.training.augment_segment import NOTHING, Augment, augmented, pasted
from handful.types import Category, Dataset, Mask, Object, Sample
from tests.training.made import NAMES, SIZE_HW, ids_of, photo_of, small, write


def gathered(root: Path, split: str = "train", classes: Any = None, **more: Any) -> loader_segment.Images:
    dataset = formats.read(root)
    return loader_segment.gather(dataset, split, loader_segment.classes_of(dataset, classes), SIZE_HW, **more)


def test_photos_and_labels_are_those_on_disk(tmp_path: Path) -> None:
    photos = gathered(small(tmp_path), "val")
    assert photos.classes == ("background", "box", "sky") and photos.names == ("0.png", "1.png", "2.png")
    for i in range(3):
        rgb, labels = photos[i]
        assert (labels == ids_of(11 + i)).all() and (rgb == photo_of(ids_of(11 + i), 11 + i)).all()
    assert photos.pixels == tuple(int(sum((photos[i][1] == c).sum() for i in range(3))) for c in range(3))
    assert photos.images == (3, 3, 3) and photos.image_pixels == (3 * 32 * 48,) * 3


def test_classes_in_another_order_and_fewer(tmp_path: Path) -> None:
    photos = gathered(small(tmp_path), "val", ["sky", "box"])
    ids, labels = ids_of(11), photos[0][1]
    assert (labels[ids == 2] == 0).all() and (labels[ids == 1] == 1).all() and (labels[ids == 0] == 255).all()
    with pytest.raises(UnknownName, match="did you mean 'sky'"):
        gathered(tmp_path, "val", ["skye"])
    against = gathered(tmp_path, "val", ["sky"])
    assert against.classes == ("rest", "sky") and (against[0][1][ids == 2] == 1).all()


def test_other_classes_are_the_rest_only_for_a_model_that_has_one(tmp_path: Path) -> None:
    """A model of cat and dog is measured on dogs and cars: cars are no cats."""
    ids = np.repeat(np.array([[0], [1], [2]], np.uint8), 3, axis=1)
    sample = Sample(tmp_path / "a.png", split="val", mask=lambda: Mask(ids))
    dataset = Dataset("x", tmp_path, tuple(Category(i, n) for i, n in enumerate(("sky", "dog", "car"))),
                      lambda: iter([sample]), 1)  # fmt: skip

    def read(*classes: str) -> list[int]:
        labels = loader_segment.labels_of(dataset, classes)(sample, (3, 3))
        assert labels is not None
        return [int(v) for v in labels[:, 0]]

    assert read("cat", "dog") == [255, 1, 255]
    assert read("background", "dog") == read("rest", "dog") == read("other", "dog") == [0, 1, 0]
    assert read("cat", "dog", "rest") == [255, 1, 255] and read("sky", "dog") == [0, 1, 255]


def test_one_class_of_outlines_against_all_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.zeros((20, 20, 3), np.uint8))

    def square(x: int, size: int) -> Any:
        return (np.array([[x, 2], [x + size, 2], [x + size, 2 + size], [x, 2 + size]], np.float64),)

    objects = (Object("car", polygons_px=square(1, 12)), Object("dog", polygons_px=square(3, 4)),
               Object("dog", polygons_px=square(15, 4), crowd=True))  # fmt: skip
    samples = [Sample(path, name="a.png", split="train", objects=objects)]
    dataset = Dataset("x", tmp_path, (Category(0, "car"), Category(1, "dog")), lambda: iter(samples), 1)
    classes = loader_segment.classes_of(dataset, ["car"])
    labels = loader_segment.gather(dataset, "train", classes, (20, 20))[0][1]
    assert classes == ("background", "car")
    assert labels[3, 2] == 1 and labels[4, 5] == labels[4, 17] == labels[18, 5] == 0 and not (labels == 255).any()
    # a model trained against the rest of masks, where that had another name, is measured on outlines likewise
    read = loader_segment.labels_of(dataset, ("rest", "dog"))(samples[0], (20, 20))
    assert read is not None and read[3, 2] == read[18, 5] == 0 and read[4, 5] == 1 and read[4, 17] == 255


def test_ids_of_sixteen_bits(tmp_path: Path) -> None:
    ids = np.full((9, 9), 65535, np.uint16)
    ids[:3], ids[3:5] = 1000, 255
    rgb = write(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    sample = Sample(rgb, name="a.png", split="train", mask=lambda: Mask(ids))
    dataset = Dataset("x", tmp_path, (Category(1000, "a"), Category(255, "b")), lambda: iter([sample]), 1)
    labels = loader_segment.gather(dataset, "train", ("a", "b"), (9, 9))[0][1]
    assert (labels[:3] == 0).all() and (labels[3:5] == 1).all() and (labels[5:] == 255).all()


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    small(tmp_path)
    write(tmp_path / "masks" / "train" / "3.png", np.where(ids_of(4) == 1, 7, ids_of(4)).astype(np.uint8))
    with pytest.raises(DataError, match=r"masks/train/3\.png: holds the value 7 in 168 pixels"):
        gathered(tmp_path)
    # a reader that does not look
    ids = np.full((32, 48), 9, np.uint8)
    sample = Sample(tmp_path / "images" / "train" / "0.png", split="train", mask=lambda: Mask(ids), name="0",
                    mask_path=tmp_path / "m.png")  # fmt: skip
    dataset = Dataset("x", tmp_path, (Category(0, "a"), Category(1, "b")), lambda: iter([sample]), 1)
    with pytest.raises(DataError, match=r"m\.png holds the value 9 in 1536 pixels; the classes are 0 to 1"):
        loader_segment.gather(dataset, "train", ("a", "b"), (32, 48))


def test_sizes_that_differ_name_the_file(tmp_path: Path) -> None:
    small(tmp_path)
    write(tmp_path / "masks" / "train" / "2.png", ids_of(3)[:-2])
    with pytest.raises(DataError, match=r"2\.png: is 48x30 px, its image 48x32"):
        gathered(tmp_path)

    def on_finding(finding: Finding) -> None:
        pass

    dataset = formats.read(tmp_path, on_finding=on_finding)
    photos = loader_segment.gather(dataset, "train", ("background", "box"), SIZE_HW, leave_out=True)
    assert len(photos) == 9 and [names for names in photos.skipped.values()] == [["2.png"]]
    sample = Sample(tmp_path / "images" / "train" / "0.png", split="train", mask=lambda: Mask(ids_of(1)[:5]), name="0",
                    mask_path=tmp_path / "m.png")  # fmt: skip
    plain = Dataset("x", tmp_path, dataset.categories, lambda: iter([sample]), 1)
    with pytest.raises(DataError, match=r"m\.png is 48x5 px, its image .*0\.png 48x32"):
        loader_segment.gather(plain, "train", ("background", "box"), SIZE_HW)


def test_what_is_left_out_and_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(tmp_path, names={**NAMES, 3: "cloud"})
    write(tmp_path / "masks" / "train" / "4.png", np.full(SIZE_HW, 255, np.uint8))
    (tmp_path / "masks" / "train" / "5.png").unlink()
    photos = gathered(tmp_path)
    assert len(photos) == 8 and photos.missing == ["cloud"]
    assert photos.skipped == {"no pixel of a class to train": ["4.png"], "nobody labeled its pixels": ["5.png"]}
    said = capsys.readouterr().err
    assert "1 of 10 images left out, no pixel of a class to train (4.png)" in said
    assert "shows nothing of 1 class: cloud" in said
    assert not any("4.png" in n or "5.png" in n for n in photos.names)
    with pytest.raises(DataError, match="no image of train has labels of cloud, box2"):
        loader_segment.gather(formats.read(tmp_path), "train", ("cloud", "box2"), SIZE_HW)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    small(tmp_path, {"train": 2, "validation": 1})
    assert len(gathered(tmp_path, "val")) == 1
    with pytest.raises(DataError, match=r"no split 'test', it has train, val; .*handful data split"):
        gathered(tmp_path, "test")
    shutil.rmtree(tmp_path / "images" / "train")
    shutil.rmtree(tmp_path / "masks" / "train")
    with pytest.raises(DataError, match="it has val"):
        gathered(tmp_path)


def test_outlines_are_painted_over_a_background(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", np.zeros((20, 20, 3), np.uint8))

    def square(x: float, y: float, side: float) -> tuple[np.ndarray, ...]:
        return (np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]]),)

    objects = (Object("b", polygons_px=square(4, 4, 4)), Object("a", polygons_px=square(2, 2, 12)),
               Object("a", polygons_px=square(15, 15, 4), crowd=True))  # fmt: skip
    samples = [Sample(path, name="a.png", split="train", objects=objects, size_wh=(20, 20)),
               Sample(path, name="b.png", split="train", objects=(Object("a", box_px=(1, 1, 5, 5)),))]  # fmt: skip
    dataset = Dataset("x", tmp_path, (Category(1, "a"), Category(2, "b")), lambda: iter(samples), 2)
    names = loader_segment.classes_of(dataset)
    assert names == ("background", "a", "b")
    photos = loader_segment.gather(dataset, "train", names, (20, 20))
    labels = photos[0][1]
    assert labels[0, 0] == 0 and labels[3, 3] == 1 and labels[5, 5] == 2 and labels[17, 17] == 255
    assert photos.skipped == {"nobody labeled its pixels": ["b.png"]}  # a box says no pixels
    fewer = loader_segment.gather(dataset, "train", ("background", "b"), (20, 20))[0][1]
    assert fewer[3, 3] == fewer[17, 17] == fewer[0, 0] == 0 and fewer[5, 5] == 1  # a class not asked for is the rest
    known = loader_segment.labels_of(dataset, ("a", "b"))(samples[0], (20, 20))
    assert known is not None and known[0, 0] == 255 and known[3, 3] == 0


@pytest.mark.parametrize("kept", ["memory", "file", "nowhere"])
def test_wherever_the_pixels_are_kept(tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scratch = small(tmp_path / "set"), tmp_path / "scratch"
    if kept == "nowhere":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    photos = gathered(root, ram_bytes=1 << 30 if kept == "memory" else 0, scratch=scratch)
    assert (photos.rgb is None) == (kept == "nowhere") and isinstance(photos.rgb, np.memmap) == (kept == "file")
    want = gathered(root)
    assert photos.sha256 == want.sha256
    assert all((photos[i][j] == want[i][j]).all() for i in range(10) for j in (0, 1))
    assert not scratch.exists() or not list(scratch.iterdir())  # nothing is left after a kill
    write(root / "masks" / "train" / "0.png", ids_of(99))
    assert gathered(root).sha256 != want.sha256


def test_nearest_takes_no_new_values() -> None:
    labels = ids_of(3)
    assert (loader.nearest(labels, SIZE_HW) == labels).all()
    assert (loader.nearest(labels, (64, 96)) == np.kron(labels, np.ones((2, 2), np.uint8))).all()
    assert set(np.unique(loader.nearest(labels, (13, 7)))) <= set(np.unique(labels))


def test_batches_follow_from_seed_epoch_and_photo(tmp_path: Path) -> None:
    photos = gathered(small(tmp_path))

    def epoch(number: int, seed: int = 0, workers: int = 2, start: int = 0, **more: Any) -> list[Any]:
        return list(
            loader_segment.Loader(photos, 3, Augment(), seed, workers, crop_hw=(24, 32), **more).epoch(number, start)
        )

    def same(a: list[Any], b: list[Any]) -> bool:
        return len(a) == len(b) and all((x == y).all() for p, q in zip(a, b, strict=True)
                                        for x, y in zip(p, q, strict=True))  # fmt: skip

    first = epoch(0)
    assert len(first) == 3 and first[0][0].shape == (3, 3, 24, 32) and first[0][1].shape == (3, 24, 32)
    assert first[0][0].dtype == first[0][1].dtype == np.uint8
    assert same(first, epoch(0)) and same(first, epoch(0, workers=7)) and same(first[1:], epoch(0, start=1))
    assert not same(first, epoch(1)) and not same(first, epoch(0, seed=1))
    seen = [i for _, _, which in first for i in which]
    assert len(set(seen)) == 9  # each photo once; the tenth waits for another epoch
    assert len({tuple(w) for e in range(4) for _, _, w in epoch(e)}) == 12
    # processes share a batch
    two = [epoch(0, rank=r, world_size=2) for r in (0, 1)]
    for whole, a, b in zip(first, *two, strict=True):
        assert (whole[0][0::2] == a[0]).all() and (whole[0][1::2] == b[0]).all()


def test_a_set_smaller_than_a_batch(tmp_path: Path) -> None:
    photos = gathered(small(tmp_path), "val")
    (batch,) = loader_segment.Loader(photos, 8, Augment(), crop_hw=(24, 32)).epoch(0)
    assert batch[0].shape[0] == 8 and sorted(set(batch[2].tolist())) == [0, 1, 2]
    same = [i for i in range(8) if batch[2][i] == batch[2][0]]
    assert not (batch[0][same[0]] == batch[0][same[1]]).all()  # changed otherwise each time


def test_photo_and_labels_change_together() -> None:
    ids = ids_of(5, (64, 96))
    rgb = np.repeat((ids * 100)[..., None], 3, axis=2)
    for i in range(30):
        how = Augment(brightness=0, contrast=0, saturation=0, hue_deg=0)
        photo, labels = augmented(rgb, ids, (48, 40), how, (1, 2, i))
        assert photo.shape == (48, 40, 3) and labels.shape == (48, 40) and set(np.unique(labels)) <= {0, 1, 2, 255}
        inside = labels != 255
        # away from edges, where bilinear and nearest differ, they must say the same
        off = np.abs(photo[..., 0].astype(int) - labels * 100)[inside] > 60
        assert off.mean() < 0.08, i
        if (~inside).sum() > 200:  # the rim is blended
            assert (photo[~inside] == 114).mean() > 0.7, i


def test_nothing_changes_nothing_and_flip_mirrors() -> None:
    ids, rgb = ids_of(5), photo_of(ids_of(5), 5)
    photo, labels = augmented(rgb, ids, SIZE_HW, NOTHING, (0, 0, 0))
    assert (photo == rgb).all() and (labels == ids).all()
    mirror = Augment(1.0, (1.0, 1.0), 0, 0, 0, 0, 0)
    photo, labels = augmented(rgb, ids, SIZE_HW, mirror, (0, 0, 0))
    assert (photo == rgb[:, ::-1]).all() and (labels == ids[:, ::-1]).all()
    bright = Augment(0, (1.0, 1.0), 0, 0.5, 0, 0, 0)
    photo, labels = augmented(rgb, ids, SIZE_HW, bright, (0, 0, 0))
    ratio = photo.astype(float).mean() / rgb.mean()
    assert 0.5 <= ratio <= 1.5 and abs(ratio - 1) > 0.01 and (labels == ids).all()


def test_wider_or_higher_with_its_labels() -> None:
    ids = np.zeros((60, 60), np.uint8)
    ids[20:40, 20:40] = 1
    rgb = np.repeat((ids * 200)[..., None], 3, axis=2)
    shapes = set()
    for i in range(20):
        how = replace(NOTHING, aspect=0.5)
        photo, labels = augmented(rgb, ids, (90, 90), how, (0, 0, i))
        rows, columns = ((labels == 1).any(axis=axis).sum() for axis in (1, 0))
        assert 1 / 1.55 < columns / rows < 1.55 and abs(rows * columns / 400 - 1) < 0.15  # as large as before
        assert ((photo[..., 0] > 157) == (labels == 1)).mean() > 0.97
        shapes.add((int(rows), int(columns)))
    assert len(shapes) > 5


def test_worn_images() -> None:
    rgb = photo_of(ids_of(5), 5)
    plain = augmented(rgb, ids_of(5), SIZE_HW, NOTHING, (0, 0, 0))[0]
    wear = {
        name: augmented(rgb, ids_of(5), SIZE_HW, replace(NOTHING, **{name: 1.0}), (0, 0, 0))
        for name in ("gray", "blur", "jpeg")
    }
    assert all((labels == ids_of(5)).all() for _, labels in wear.values())
    gray, blur, jpeg = (photo.astype(int) for photo, _ in wear.values())
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all()
    edges = [float(np.abs(np.diff(photo.astype(int), axis=1)).mean()) for photo in (plain, blur)]
    assert edges[1] < 0.9 * edges[0]
    assert not (jpeg == plain).all() and np.abs(jpeg - plain).mean() < 25
    # colors keep their places
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 220
    kept = worn(red, np.random.default_rng(0), gray=0, blur=0, jpeg=1)
    assert kept[..., 0].min() > 180 and kept[..., 1:].max() < 40


def test_what_another_image_shows_is_put_in() -> None:
    own, other = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    own[:, :8], other[10:30, 10:20], other[10:30, 25:35], other[:5] = 3, 1, 2, 255
    dark, light = np.full((40, 40, 3), 20, np.uint8), np.full((40, 40, 3), 220, np.uint8)
    seen = set()
    for i in range(30):
        photo, labels = pasted(dark, own, (light, other), np.random.default_rng(i), background=0)
        put = set(np.unique(labels).tolist()) - {0, 3}
        seen.add(tuple(sorted(put)))
        assert put <= {1, 2} and (labels[:, :8] == 3).all()  # neither background nor what nobody labeled
        for one in put:
            assert (labels[other == one] == one).all()
            inner = photo[13:27, 13:17] if one == 1 else photo[13:27, 28:32]
            assert inner.min() > 200
        assert photo[:8].max() < 40
    assert seen == {(1,), (2,), (1, 2)}
    same = pasted(dark, own, (light, np.zeros_like(other)), np.random.default_rng(0), background=0)
    assert same[0] is dark and same[1] is own
    everything = pasted(dark, own, (light, np.zeros_like(other)), np.random.default_rng(0), background=None)
    assert (everything[1] == 0).all()  # no class is the background: all are things


def test_pasting_follows_from_seed_epoch_and_photo(tmp_path: Path) -> None:
    photos = gathered(small(tmp_path))

    def first(chance: float, workers: int = 1) -> Any:
        how = replace(NOTHING, paste=chance)
        return next(iter(loader_segment.Loader(photos, 8, how, 0, workers, crop_hw=SIZE_HW).epoch(0)))

    without, always = first(0), first(1)
    assert (always[1] == first(1, workers=3)[1]).all() and (always[0] == first(1, workers=3)[0]).all()
    changed = [(a != b).any() for a, b in zip(without[1], always[1], strict=True)]
    assert sum(changed) >= 4  # an image may be pasted into itself, where nothing moves
    assert set(np.unique(always[1])) <= {0, 1, 2, 255}


@pytest.mark.parametrize(
    "wrong",
    [
        {"flip": 2},
        {"scale": (2, 1)},
        {"brightness": 1},
        {"rotate_deg": -1},
        {"paste": 1.5},
        {"jpeg": -1},
        {"aspect": 1},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Augment(**wrong)


def test_one_class_stands_against_all_the_rest() -> None:
    ids = np.array([[0, 1, 2, 255]], np.uint8)

    def data(*names: str, masks: bool = True) -> Dataset:
        sample = Sample(Path("a.png"), size_wh=(4, 1), mask=(lambda: Mask(ids)) if masks else None, objects=())
        return Dataset(
            "masks", Path("x"), tuple(Category(i, n) for i, n in enumerate(names)), lambda: iter([sample]), 1
        )

    def read(of: Dataset, classes: tuple[str, ...]) -> list[int]:
        found = loader_segment.labels_of(of, classes)(next(iter(of)), (4, 1))
        assert found is not None
        return [int(v) for v in found[0]]

    roads = data("road", "car", "person")
    assert loader_segment.classes_of(roads, ["car"]) == ("background", "car")
    assert read(roads, ("background", "car")) == [0, 1, 0, 255]
    named = data("background", "car", "person")  # its own background is a class like others
    assert loader_segment.classes_of(named, ["car"]) == ("rest", "car")
    assert read(named, ("rest", "car")) == [0, 1, 0, 255]
    assert read(named, ("background", "car")) == [0, 1, 255, 255]  # both named: the third is left aside
    assert read(roads, ("road", "car")) == [0, 1, 255, 255]
    with pytest.raises(DataError, match="1 class to train"):
        loader_segment.classes_of(data("road"), None)
