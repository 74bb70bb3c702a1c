"""Masks that number things are read as objects; masks that number classes are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.data import formats
from handful.data.finding import Finding
from handful.types import Dataset
from tests.conftest import save

H, W = 90, 120


def blobs(rng: np.random.Generator, count: int, dtype: type = np.uint8) -> np.ndarray:
    """Discs on a grid, numbered from 1 in an order of their own."""
    ids = np.zeros((H, W), dtype)
    rows, columns = np.ogrid[:H, :W]
    places = rng.permutation(24)[:count]
    for number, place in enumerate(places.tolist(), 1):
        y, x, radius = 12 + place // 6 * 22, 10 + place % 6 * 20, rng.integers(4, 9)
        ids[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = number
    return ids


def laid_out(root: Path, masks: list[np.ndarray], photos: str = "images", folder: str = "masks") -> Path:
    rng = np.random.default_rng(1)
    for i, ids in enumerate(masks):
        small = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
        save(
            np.asarray(PIL_Image.fromarray(small).resize((W, H), PIL_Image.Resampling.BICUBIC)),
            root / photos / f"{i}.png",
        )
        (root / folder).mkdir(parents=True, exist_ok=True)
        PIL_Image.fromarray(ids).save(root / folder / f"{i}{'' if folder == 'masks' else '_mask'}.png")
    return root


def told(root: Path) -> tuple[Dataset, list[Finding]]:
    findings: list[Finding] = []
    dataset = formats.read(root, on_finding=findings.append)
    list(dataset)
    return dataset, findings


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("photos", "folder", "name"), [("images", "masks", "masks"), ("imgs", "cells", "pairs")])
def test_things_are_objects(tmp_path: Path, dtype: type, photos: str, folder: str, name: str) -> None:
    rng = np.random.default_rng(0)
    masks = [blobs(rng, count, dtype) for count in (3, 9, 0, 5, 12)]
    root = laid_out(tmp_path, masks, photos, folder)
    dataset, findings = told(root)
    assert dataset.format == name and [c.name for c in dataset.categories] == ["foreground"]
    assert [f.code for f in findings] == ["no_label_map"] and "numbers the things" in str(findings[0].detail)
    for sample, ids in zip(dataset, masks, strict=True):
        assert sample.mask is None and sample.objects is not None and len(sample.objects) == ids.max()
        for number, one in enumerate(sample.objects, 1):
            where = np.argwhere(ids == number)
            top, left = where.min(axis=0)
            bottom, right = where.max(axis=0) + 1
            assert one.label == "foreground" and one.box_px == (left, top, right, bottom)
            assert one.rle is not None and sum(one.rle.counts[1::2]) == len(where)


def pieces(rng: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """Classes: five to eight of them without a gap, each value in two or more discs."""
    ids, classes = blobs(rng, 20), int(ids.max()) % 4 + 5
    return np.where(ids > 0, (ids - 1) % classes + 1, 0).astype(np.uint8)


def gaps(rng: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """Classes: some of ten in each image."""
    return np.append(0, rng.permutation(10) + 1).astype(np.uint8)[np.minimum(ids, 10)]


def few(rng: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """An organ, what grows in it, what is in that: three classes, each one piece."""
    return np.minimum(ids, 3) * (ids <= 3)


def always(rng: np.random.Generator, ids: np.ndarray) -> np.ndarray:
    """The same six parts of a thing in every image."""
    return blobs(rng, 6)


@pytest.mark.parametrize("classes", [pieces, gaps, few, always])
def test_classes_are_classes(tmp_path: Path, classes: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    masks = [classes(rng, blobs(rng, count)) for count in (7, 12, 9, 15, 8)]
    dataset, findings = told(laid_out(tmp_path, masks))
    assert all(sample.mask is not None for sample in dataset)
    assert {int(c.name) for c in dataset.categories} == set(np.unique(np.stack(masks)).tolist())
    assert "is called by its number" in str(findings[0].detail)


def test_a_list_of_names_says_that_they_are_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = laid_out(tmp_path, [blobs(rng, count) for count in (3, 9, 5)])
    (root / "classes.txt").write_text("\n".join(["nothing", *(f"part {i}" for i in range(9))]))
    dataset, findings = told(root)
    assert not findings and len(dataset.categories) == 10 and all(sample.mask is not None for sample in dataset)


def test_a_mask_of_another_size_is_told_and_its_image_is_not_empty(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    root = laid_out(tmp_path, [blobs(rng, count) for count in (3, 9, 5, 7)])
    PIL_Image.fromarray(np.pad(blobs(rng, 8), 5)).save(root / "masks" / "1.png")
    dataset, findings = told(root)
    assert [f.code for f in findings] == ["no_label_map", "mask_size_mismatch"]
    assert [None if s.objects is None else len(s.objects) for s in dataset] == [3, None, 5, 7]


@pytest.mark.parametrize(("name", "tree"), [("msrc-seg", "labels23"), ("msrc-seg", "seg10"), ("camvid", "labels")])
def test_no_real_classes_are_taken_for_things(data: Path, tmp_path: Path, name: str, tree: str) -> None:
    """Without the lists that name them."""
    masks = sorted((data / name / tree).rglob("*.png"))[:40]
    assert masks or not (data / name / tree).is_dir()
    for i, mask in enumerate(masks):
        for to in ("images", "masks"):
            (tmp_path / to).mkdir(exist_ok=True)
        shutil.copyfile(mask, tmp_path / "masks" / f"{i}.png")
        with PIL_Image.open(mask) as opened:
            save(np.zeros((opened.height, opened.width, 3), np.uint8), tmp_path / "images" / f"{i}.png")
    if masks:
        assert all(sample.objects is None for sample in told(tmp_path)[0])
