"""What was once misread without a word: each is read right, or told with the file, the place in it and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handful.curate.check import check
from tests.data.reports import photos, write

REGION = {"x": 10, "y": 10, "width": 30, "height": 40, "rotation": 0, "original_width": 96, "original_height": 72}


def checked(root: Path, files: dict[str, Any], **options: Any) -> tuple[dict[str, int], dict[str, str]]:
    """({class: images}, {code of an error or a warning: its text}) of a folder of these files."""
    report = check(write(root, files), near=False, **options)
    found = {f["code"]: f["text"] for f in report["findings"] if f["severity"] != "note"}
    quiet = ("one_image", "same_image_twice", "class_without_samples")
    (held, *_) = report["sets"]
    named = {name: counts["images"] for name, counts in held["per_class"].items() if counts["images"]}
    return named, {code: text for code, text in found.items() if code not in quiet}


def task(i: int, **said: Any) -> dict[str, Any]:
    return {"id": i, "image": f"/data/upload/3/abcd1234-{i}.jpg", "annotator": 1, "annotation_id": i, "lead_time": 2.0,
            **said}  # fmt: skip


def test_the_regions_of_a_short_export_have_their_class_under_labels(tmp_path: Path) -> None:
    two = [{**REGION, "labels": ["cup"]}, {**REGION, "x": 50, "labels": ["plate"]}]
    named, told = checked(tmp_path, {**photos("0.jpg", "1.jpg"), "export.json": [task(0, bbox=two), task(1, bbox=[])]})
    assert (named, told) == ({"cup": 1, "plate": 1}, {})


def test_a_region_without_a_class_is_no_empty_image(tmp_path: Path) -> None:
    named, told = checked(tmp_path, {**photos("0.jpg"), "export.json": [task(0, label=[REGION])]})
    assert not named and set(told) == {"broken_label"}
    assert "rectanglelabels" in told["broken_label"] and "width" in told["broken_label"]
