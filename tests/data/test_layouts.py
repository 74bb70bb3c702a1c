"""No false "fit": data sets laid out in hundreds of ways are read as they are, or refused with a file's name."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from handful.curate.check import check
from handful.errors import DataError
from tests.data import layouts

LOOKED_AT, FRESH = range(120), range(10_000, 10_120)


def outcome(truth: layouts.Truth, place: Path) -> tuple[str, str]:
    """("read" | "refused" | "misread", why)."""
    try:
        report = check(place, near=False)
    except DataError as error:
        return ("refused" if str(place) in str(error) else "misread", f"names no file: {error}")
    errors = [f for f in report["findings"] if f["severity"] == "error"]
    if errors:
        named = any(f["file"] != "." or f["value"] for f in errors)
        return "refused" if named else "misread", str([(f["code"], f["file"], f["text"]) for f in errors[:3]])
    wrong = differences(truth, report["sets"])
    return (
        ("misread", f"{wrong} in {[(s['format'], s['splits'], s['per_class']) for s in report['sets']]}")
        if wrong
        else ("read", "")
    )


def differences(truth: layouts.Truth, sets: list[dict[str, Any]]) -> list[str]:
    """What a report says that is not so."""
    wrong = []
    if truth.kind == "foreign":
        return ["labels that cannot be read were passed over"]
    images = sum(one["images"] for one in sets)
    if images != truth.images:
        wrong.append(f"{images} images of {truth.images}")
    splits: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    pixels = 0
    for one in sets:
        splits.update({_split(k): v for k, v in one["splits"].items()})
        for name, counts in one["per_class"].items():
            objects[name] += counts["objects"]
            classes[name] += counts["images"]
            pixels += counts["pixels"] if name not in ("0", "background") else 0
    if splits != Counter({_split(k): v for k, v in truth.splits.items()}):
        wrong.append(f"splits {dict(splits)}, not {dict(truth.splits)}")
    if truth.kind == "masks" and pixels != truth.pixels:
        wrong.append(f"{pixels} pixels, not {truth.pixels}")
    if truth.kind == "boxes" and +objects != truth.objects:
        wrong.append(f"objects {dict(+objects)}, not {dict(truth.objects)}")
    if truth.kind == "classes" and +classes != truth.classes:
        wrong.append(f"classes {dict(+classes)}, not {dict(truth.classes)}")
    return wrong


def _split(name: str) -> str:
    """Formats that know splits by other names may use these."""
    return {"training": "train", "validation": "val", "valid": "val", "default": "", "images": ""}.get(name, name)


ODD = [seed for seed in range(20_000, 20_080) if layouts.KINDS[seed % len(layouts.KINDS)] is layouts.masks]


@pytest.mark.parametrize("names", [("B", "out", "teacher"), ("masks", "GT", "labels")], ids=["any", "masks"])
def test_masks_beside_photographs_in_folders_of_any_name(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "IMAGE_DIRS", ("shots", "A", "scans", "slices", "field"))
    monkeypatch.setattr(layouts, "MASK_DIRS", names)
    _none_is_misread(ODD, tmp_path)


@pytest.mark.parametrize("seeds", [LOOKED_AT, FRESH], ids=["looked at", "fresh"])
def test_no_layout_is_misread(seeds: range, tmp_path: Path) -> None:
    _none_is_misread(seeds, tmp_path)


def _none_is_misread(seeds: Iterable[int], tmp_path: Path) -> None:
    rows = []
    for seed in seeds:
        place = tmp_path / str(seed)
        truth = layouts.drawn(seed, place)
        rows.append((seed, truth, *outcome(truth, place)))
        shutil.rmtree(place)
    misread = [(seed, truth.kind, truth.what, why) for seed, truth, how, why in rows if how == "misread"]
    assert not misread, "\n".join(map(str, misread))
    refused = [
        (seed, truth.kind, truth.what, why) for seed, truth, how, why in rows if how == "refused" and truth.readable
    ]
    assert len(refused) < 0.1 * len(rows), "\n".join(map(str, refused))
    assert sum(how == "read" for _, _, how, _ in rows) > 0.5 * len(rows)
