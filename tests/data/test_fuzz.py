"""Mutated label files through every reader (benchmarks/fuzz.py, in short), the proof that it sees faults, and what it
has found so far.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from handful.data import format_coco, format_yolo, formats
from handful.data.finding import Finding, stop
from handful.data.shapes import checked_polygon, checked_rle, painted
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Object
from tests.conftest import ROOT
from tests.data.boxsets import photo, told


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import fuzz as module

    yield module
    sys.path.remove(str(ROOT / "benchmarks"))


def test_no_reader_crashes(tmp_path: Path) -> None:
    """In a process of its own, so that not even a segmentation fault would go unseen."""
    out = tmp_path / "fuzz.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--files", "450", "--seed", "2", "--out", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    result = json.loads(out.read_text())
    assert result["crashes"] == [] and set(result["formats"]) == set(formats.known())
    assert sum(row["read"] + row["refused"] for row in result["formats"].values()) == 450
    for name, row in result["formats"].items():
        assert row["seeds"] and row["read"], f"{name} was not tried"
        assert row["refused"] or name == "folder"  # which has no label files
    assert result["slowest_ms"] < 10_000 and result["rewritten"] > 15


# --- it sees what it looks for ---------------------------------------------------------------------------------------


def _key_error(*_: Any, **__: Any) -> Any:
    raise KeyError("names")


def _unnamed(*_: Any, **__: Any) -> Any:
    raise DataError("something is wrong")


def _endless(*_: Any, **__: Any) -> Any:
    while True:
        time.sleep(0.01)


def _infinite(*_: Any, on_finding: Callable[[Finding], None] = stop) -> Any:
    on_finding(Finding("tiny_object", "a.txt", object()))
    return []


def _late(*_: Any, on_finding: Callable[[Finding], None] = stop) -> Any:
    def rows() -> Iterator[Any]:
        raise DataError("data.yaml is broken")
        yield

    return rows()


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (_key_error, "KeyError"),
        (_unnamed, "refused without a name"),
        (_endless, "took more than"),
        (_infinite, "not JSON serializable"),
        (_late, "raised though everything is told"),
    ],
)
def test_a_planted_fault_is_seen(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, seen: str
) -> None:
    bench = fuzz.Bench(tmp_path, ["yolo"], None)
    sound, tally = fuzz.Tally(), fuzz.Tally()
    for number in range(5):
        bench.case(number, 0, sound)
    assert sound.crashes == []
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.2)
    monkeypatch.setattr(format_yolo, "read", fault)
    bench.case(0, 0, tally)
    (crash,) = tally.crashes
    assert seen in crash["error"] and (crash["case"], crash["format"]) == (0, "yolo")


def test_a_case_is_the_same_every_time_and_the_files_are_put_back(fuzz: ModuleType, tmp_path: Path) -> None:
    bench = fuzz.Bench(tmp_path, ["coco"], None)
    before = {p: p.read_bytes() for p in (tmp_path / "coco").rglob("*") if p.is_file()}
    for number in range(40):
        seed = bench.seeds["coco"][number % len(bench.seeds["coco"])]
        twice = [fuzz.mutated(seed, np.random.default_rng([0, number])) for _ in range(2)]
        assert twice[0] == twice[1] and twice[0]
        bench.case(number, 0, fuzz.Tally())
    assert {p: p.read_bytes() for p in (tmp_path / "coco").rglob("*") if p.is_file()} == before


def test_every_mutation_changes_something(fuzz: ModuleType, tmp_path: Path) -> None:
    held = {"coco": ".json", "voc": ".xml", "yolo": ".txt", "masks": ".png"}
    seeds = fuzz.seeds(tmp_path, list(held), None)
    for format, suffix in held.items():
        seed, data = next((s, d) for s in seeds for n, d in s.files.items()
                          if s.format == format and n.endswith(suffix) and n in s.labels and len(d) > 60)  # fmt: skip
        for mutate in {*fuzz.ANY, *fuzz.TEXT, *fuzz.OF_KIND.get(suffix, ())}:
            changed = {mutate(data, np.random.default_rng(i), seed) for i in range(8)}
            assert len(changed - {data}) >= 3, (format, mutate.__name__)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("{root} is no data set", True),
        ("labels/a.txt: line 3 ...", True),
        ("labels/A.TXT: is a label file without an image", True),
        ("labels: has no images", True),
        ("a label is broken", False),
        ("other.txt: is broken", False),
    ],
)
def test_what_counts_as_a_name(fuzz: ModuleType, tmp_path: Path, message: str, named: bool) -> None:
    seed = fuzz.Seed("yolo", {"labels/a.txt": b"", "images/a.jpg": b""})
    assert fuzz.names_it(message.format(root=tmp_path), tmp_path, seed) == named


# --- what it has found -----------------------------------------------------------------------------------------------

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}
LABEL = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
WHOLE: dict[str, Any] = {"images": [IMAGE], "annotations": [LABEL], "categories": [{"id": 1, "name": "cat"}]}
FOUND = {
    "a label's id is a list": {"annotations": [{**LABEL, "id": []}]},
    "a license is an object": {"images": [{**IMAGE, "license": {}}], "licenses": [{"id": {}}]},
    "licenses are a number": {"licenses": 5},
    "rows are no objects": {"images": [IMAGE, True, [0]], "x": float("nan")},
    "a number has 400 digits": {"annotations": [{**LABEL, "bbox": [10**400, 1, 5, float("inf")], "area": 10**400}]},
    "an area has 400 digits": {"annotations": [{**LABEL, "area": 10**400}]},
    "an attribute is infinite": {"annotations": [{**LABEL, "score": float("inf"), "more": [{"x": float("nan")}]}]},
    "an image's attribute is infinite": {"images": [{**IMAGE, "height_m": float("-inf")}]},
    "an image has too many pixels": {"images": [{**IMAGE, "width": 2**20, "height": 2**20}]},
    "a color is no color": {"categories": [{"id": 1, "name": "cat", "color": ["red", 300, None]}]},
    "half a pair of surrogates": {"categories": [{"id": 1, "name": "\ud800"}], "images": [{**IMAGE, "s": "\udfff"}]},
    "an attribute is endless": {"annotations": [{**LABEL, "more": json.loads("[" * 400 + "]" * 400)}]},
}


@pytest.mark.parametrize("fault", FOUND)
def test_what_was_found_in_coco(fuzz: ModuleType, tmp_path: Path, fault: str) -> None:
    """Read, told, painted and written again without any other exception than DataError."""
    root = tmp_path / "set"
    photo(root / "images/train/a.jpg")
    (root / "instances_train.json").write_text(json.dumps(WHOLE | FOUND[fault]))
    seed = fuzz.Seed("coco", fuzz._files(root))
    fuzz.strict(format_coco, root, seed)
    dataset = fuzz.lenient(format_coco, root)
    assert dataset is not None and list(dataset)
    (tmp_path / "again").mkdir()
    format_coco.write(dataset, Writer(tmp_path / "again"))
    assert [s.name for s in format_coco.read(tmp_path / "again")] == ["a.jpg"]


def test_a_class_that_two_files_number_differently_keeps_its_name(tmp_path: Path) -> None:
    for split, key in (("train", 1), ("val", 2)):
        photo(tmp_path / f"images/{split}/{split}.jpg")
        held = {
            **WHOLE,
            "images": [{**IMAGE, "file_name": f"{split}.jpg"}],
            "categories": [{"id": 1, "name": f"c{key}"}],
        }
        (tmp_path / f"instances_{split}.json").write_text(json.dumps(held))
    found: list[Finding] = []
    dataset = format_coco.read(tmp_path, on_finding=found.append)
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "c1"), (2, "c2")]
    assert {s.split: [t.label for t in s.objects or ()] for s in dataset} == {"train": ["c1"], "val": ["c2"]}
    assert {f.code for f in found} == {"category_mismatch"}


@pytest.mark.parametrize("far", [1e7, 1e9, 1e12, 1e300])
def test_an_outline_that_would_take_all_memory_is_refused(far: float) -> None:
    """pycocotools takes memory for each pixel of an outline, and ends the process when it gets none."""
    with pytest.raises(DataError, match="outline"):
        checked_polygon([0, 0, far, 0, far, far, 0, 50], stop, file="a.json", what="label 1")
    near = checked_polygon([0, 0, 40.5, 0, 40.5, 30], stop, file="a.json", what="label 1")
    assert near is not None and painted(Object("", None, (near,)), (40, 30)) is not None


def test_run_lengths_that_would_take_all_memory_are_refused() -> None:
    side = 1 << 19
    with pytest.raises(DataError, match="safe"):
        checked_rle({"size": [side, side], "counts": [side * side]}, None, stop, file="a.json", what="label 1")


def test_an_error_inside_an_error_is_told_once(tmp_path: Path) -> None:
    """A mask or image of zero bytes is refused as that, not as one that cannot be read because it was refused."""
    photo(tmp_path / "images/train/a.jpg").write_bytes(b"")
    (tmp_path / "labels/train").mkdir(parents=True)
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval:\nnames: [cat]\n")
    with pytest.raises(DataError) as refused:
        list(format_yolo.read(tmp_path))
    assert str(refused.value).count("repair it") == 1 and "zero bytes" in str(refused.value)
    assert [f.code for f in told(format_yolo, tmp_path)] == ["empty_file"]
