"""CIFAR's binary files: every image at its place, lossless there and back, damage counted and named."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.curate.differences import differences
from handful.data import format_cifar, format_folder
from handful.data.finding import Finding
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Category, Dataset, Image, Sample
from tests.data.made import CLASS_NAMES, codes, folded


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def record(seed: int, *head: int) -> bytes:
    return bytes(head) + photo(seed).transpose(2, 0, 1).tobytes()


def ten(root: Path, **more: bytes) -> Path:
    root.mkdir(parents=True)
    for b in range(1, 6):
        (root / f"data_batch_{b}.bin").write_bytes(b"".join(record(10 * b + i, (b + i) % 10) for i in range(4)))
    (root / "test_batch.bin").write_bytes(b"".join(record(100 + i, i) for i in range(10)))
    (root / "batches.meta.txt").write_text("".join(f"{name}\n" for name in format_cifar.TEN) + "\n")
    for name, data in more.items():
        (root / name).write_bytes(data)
    return root


def hundred(root: Path, **more: bytes) -> Path:
    root.mkdir(parents=True)
    (root / "train.bin").write_bytes(b"".join(record(i, i % 100 // 5, i % 100) for i in range(120)))
    (root / "test.bin").write_bytes(b"".join(record(500 + i, i // 5, i) for i in range(7)))
    (root / "fine_label_names.txt").write_text("".join(f"class_{i}\n" for i in range(100)))
    (root / "coarse_label_names.txt").write_text("".join(f"group_{i:02d}\n" for i in range(20)))
    for name, data in more.items():
        (root / name).write_bytes(data)
    return root


def told_of(root: Path) -> tuple[Dataset, list[Finding]]:
    told: list[Finding] = []
    dataset = format_cifar.read(root, on_finding=told.append)
    for sample in dataset:
        assert sample.pixels is not None and sample.pixels().size_wh == (32, 32)
    return dataset, told


def test_cifar_10(tmp_path: Path) -> None:
    dataset, told = told_of(ten(tmp_path / "set"))
    assert told == [] and len(dataset) == 30
    samples = list(dataset)
    assert [(s.split, s.name) for s in samples][3:5] == [
        ("train", "data_batch_1/00003.png"), ("train", "data_batch_2/00000.png")]  # fmt: skip
    assert samples[-1].name == "test_batch/00009.png" and samples[-1].label == "truck" and samples[-1].split == "test"
    assert samples[5].label == "cat" and samples[5].size_wh == (32, 32) and samples[5].pixels is not None
    assert (samples[5].pixels().rgb_u8 == photo(21)).all()  # red first, row by row
    assert len({(s.split, s.name) for s in samples}) == 30


def test_cifar_100(tmp_path: Path) -> None:
    dataset, told = told_of(hundred(tmp_path / "set"))
    assert told == []
    assert dataset.categories[7] == Category(7, "class_7", "group_01")
    sample = list(dataset)[107]
    assert (sample.label, sample.attributes, sample.name) == ("class_7", {"coarse": "group_01"}, "train/00107.png")
    assert sample.pixels is not None and (sample.pixels().rgb_u8 == photo(107)).all()


@pytest.mark.parametrize("make", [ten, hundred])
def test_there_and_back_is_the_same_byte_for_byte(tmp_path: Path, make: Any) -> None:
    root = make(tmp_path / "set")
    (tmp_path / "copy").mkdir()
    format_cifar.write(format_cifar.read(root), Writer(tmp_path / "copy"))
    names = sorted(p.name for p in root.iterdir())
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == names
    for name in names:
        assert (tmp_path / "copy" / name).read_bytes().rstrip() == (root / name).read_bytes().rstrip()
    assert differences(format_cifar.read(root), format_cifar.read(tmp_path / "copy")) == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(CLASS_NAMES, min_size=10, max_size=10, unique_by=folded),
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
)
def test_any_ten_classes(names: list[str], labels: list[int]) -> None:
    categories = tuple(Category(3 * i, name) for i, name in enumerate(names))
    samples = [
        Sample(Path(f"{i}.png"), label=names[k], name=f"x/{i}.png", split="test" if i % 3 == 0 else "train",
               pixels=lambda i=i: Image(photo(i)))
        for i, k in enumerate(labels)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        before = Dataset("made", Path(folder), categories, lambda: iter(samples), len(samples))
        format_cifar.write(before, Writer(Path(folder)))
        after = list(format_cifar.read(Path(folder)))
        assert format_cifar.read(Path(folder)).categories == tuple(Category(i, n) for i, n in enumerate(names))
        order = sorted(range(len(labels)), key=lambda i: i % 3 == 0)
        assert [(s.label, s.split) for s in after] == [(names[labels[i]], samples[i].split) for i in order]
        for sample, i in zip(after, order, strict=True):
            assert sample.pixels is not None and (sample.pixels().rgb_u8 == photo(i)).all()


def test_photos_of_a_folder_become_cifar_without_loss(data: Path, tmp_path: Path) -> None:
    before = format_folder.read(data / "cifar10" / "mini")
    format_cifar.write(before, Writer(tmp_path))
    after = format_cifar.read(tmp_path)
    assert len(after) == len(before) == 1500
    pairs = zip((s for split in ("train", "test") for s in before if s.split == split), after, strict=True)
    for a, b in pairs:
        with PIL_Image.open(a.path) as opened:
            assert b.pixels is not None and (b.pixels().rgb_u8 == np.asarray(opened.convert("RGB"))).all()
        assert (a.label, a.split) == (b.label, b.split)


def test_many_photos_fill_five_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_cifar, "BATCH", 2)
    dataset = format_cifar.read(ten(tmp_path / "set"))
    renamed = replace(dataset, samples=lambda: (replace(s, name=f"{i}.png") for i, s in enumerate(dataset)))
    (tmp_path / "copy").mkdir()
    format_cifar.write(renamed, Writer(tmp_path / "copy"))
    assert [(tmp_path / "copy" / f"data_batch_{b}.bin").stat().st_size // 3073 for b in range(1, 6)] == [4] * 5


def test_the_python_version_is_not_opened(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in ("data_batch_1", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(Evil()))
    for place in (tmp_path, tmp_path / "cifar-10-batches-py"):
        assert format_cifar.detect(place)
        with pytest.raises(DataError, match=r"can run code.*binary version"):
            format_cifar.read(place)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(DataError, match="none of CIFAR's files"):
        format_cifar.read(tmp_path / "nothing")


def test_the_folder_its_archive_makes(tmp_path: Path) -> None:
    ten(tmp_path / "cifar-10-batches-bin")
    assert format_cifar.detect(tmp_path) and len(format_cifar.read(tmp_path)) == 30
    assert not format_cifar.detect(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.bin").write_bytes(bytes(3074))  # a name that many objects have
    assert not format_cifar.detect(tmp_path / "other")


FAULTS: list[tuple[Any, dict[str, bytes], str, str, int]] = [
    (ten, {"data_batch_2.bin": record(1, 3) + b"rest"}, "unreadable_image", "data_batch_2.bin/00001", 1),
    (ten, {"data_batch_2.bin": b""}, "empty_file", "data_batch_2.bin", 1),
    (ten, {"test_batch.bin": record(1, 10) + record(2, 10) + record(3, 1)}, "unknown_category", "test_batch.bin", 2),
    (ten, {"batches.meta.txt": b"a\n\nb\n"}, "broken_label", "batches.meta.txt", 1),
    (ten, {"batches.meta.txt": b"a\nb\na\n"}, "duplicate_category", "batches.meta.txt", 1),
    (ten, {"batches.meta.txt": b"\xff"}, "unreadable_labels", "batches.meta.txt", 1),
    (ten, {"batches.meta.txt": b"a\0b"}, "unreadable_labels", "batches.meta.txt", 1),
    (
        ten,
        {"batches.meta.txt": b"".join(b"%d\n" % i for i in range(300))},
        "unreadable_labels",
        "batches.meta.txt",
        300,
    ),
    (ten, {"batches.meta.txt": b""}, "empty_file", "batches.meta.txt", 1),
    (hundred, {"test.bin": record(1, 77, 3)}, "unknown_category", "test.bin", 1),
    (hundred, {"test.bin": record(1, 7, 3)}, "broken_label", "train.bin", 1),
    (hundred, {"test.bin": bytes(5000)}, "unreadable_image", "test.bin/00001", 1),
]


@pytest.mark.parametrize(("make", "files", "code", "file", "count"), FAULTS)
def test_each_fault_is_found(
    tmp_path: Path, make: Any, files: dict[str, bytes], code: str, file: str, count: int
) -> None:
    root = make(tmp_path / "set", **files)
    _, told = told_of(root)
    found = [f for f in told if f.code == code and f.file == file]
    assert [f.count for f in found if f.code != "unreadable_labels"] == [count] * (code != "unreadable_labels"), told
    assert found
    with pytest.raises(DataError):
        list(format_cifar.read(root))


def test_without_names_of_groups(tmp_path: Path) -> None:
    root = hundred(tmp_path / "set")
    (root / "coarse_label_names.txt").unlink()
    dataset, told = told_of(root)
    assert codes(told) == ["no_label_map"]
    assert dataset.categories[0] == Category(0, "class_0") and next(iter(dataset)).attributes == {}


def test_a_photo_in_another_group_than_its_class_stays_there(tmp_path: Path) -> None:
    root = hundred(tmp_path / "set", **{"test.bin": record(1, 7, 3)})
    (tmp_path / "copy").mkdir()
    format_cifar.write(told_of(root)[0], Writer(tmp_path / "copy"))
    assert (tmp_path / "copy/test.bin").read_bytes() == record(1, 7, 3)


def test_a_photo_of_no_class_keeps_its_place(tmp_path: Path) -> None:
    dataset, _ = told_of(ten(tmp_path / "set", **{"test_batch.bin": record(1, 10) + record(3, 1)}))
    assert [(s.name, s.label) for s in dataset if s.split == "test"] == [
        ("test_batch/00000.png", None), ("test_batch/00001.png", "automobile")]  # fmt: skip


def test_a_file_cut_after_it_was_listed(tmp_path: Path) -> None:
    root = ten(tmp_path / "set")
    samples = list(format_cifar.read(root))
    (root / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"test_batch\.bin ends in image 9"):
        samples[-1].pixels()  # type: ignore[misc]
    (root / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin cannot be read"):
        samples[-1].pixels()  # type: ignore[misc]


def test_a_link_to_elsewhere(tmp_path: Path) -> None:
    root = ten(tmp_path / "set")
    (root / "test_batch.bin").rename(tmp_path / "far.bin")
    (root / "test_batch.bin").symlink_to(tmp_path / "far.bin")
    dataset, told = told_of(root)
    assert codes(told) == ["symlink_outside"] and len(dataset) == 20


def changed(dataset: Dataset, **how: Any) -> Dataset:
    return replace(dataset, samples=lambda: (replace(s, **how) if i == 5 else s for i, s in enumerate(dataset)))


def test_what_cifar_cannot_hold_is_said(tmp_path: Path) -> None:
    dataset = format_cifar.read(ten(tmp_path / "set"))
    name = r"data_batch_2/00001\.png"
    for how, match in (
        ({"label": None}, f"{name}.*no class"),
        ({"label": "zebra"}, f"{name}.*no class"),
        ({"split": "val"}, f"{name}.*'val'"),
        ({"pixels": lambda: Image(np.zeros((32, 33, 3), np.uint8))}, f"{name}.*33x32 px"),
    ):
        with pytest.raises(DataError, match=match):
            format_cifar.write(changed(dataset, **how), Writer(tmp_path / "copy"))
    with pytest.raises(DataError, match="9 classes"):
        format_cifar.write(replace(dataset, categories=dataset.categories[1:]), Writer(tmp_path / "copy"))
    bad = tuple(replace(c, name=f"{c.name}\n") for c in dataset.categories)
    relabelled = replace(dataset, samples=lambda: (replace(s, label=f"{s.label}\n") for s in dataset))
    with pytest.raises(DataError, match="a name a line"):
        format_cifar.write(replace(relabelled, categories=bad), Writer(tmp_path / "copy"))
    fine = format_cifar.read(hundred(tmp_path / "hundred"))
    orphans = tuple(replace(c, parent=None) for c in fine.categories)
    with pytest.raises(DataError, match="'class_0' without a parent"):
        format_cifar.write(replace(fine, categories=orphans), Writer(tmp_path / "copy"))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=7000))
def test_any_bytes(names: bytes, photos: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        more = {"coarse_label_names.txt": names, "fine_label_names.txt": names, "test.bin": photos}
        told_of(hundred(Path(folder) / "a", **more))
        told_of(ten(Path(folder) / "b", **{"batches.meta.txt": names, "test_batch.bin": photos}))
