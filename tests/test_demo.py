"""The whole road, with the runtime that compiles fastest, and the page it ends in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handful.curate.seen import Seen
from handful.data.sample_images import SAMPLES, sample_photo
from handful.demo import own_photos, run, view
from handful.errors import DataError
from tests.conftest import save


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:  # type: ignore[type-arg]
    out = tmp_path_factory.mktemp("demo") / "report"
    return run(out=out, backbone="lite0", runtimes=["onnxruntime"]), out


@pytest.mark.slow
def test_the_demo_proves_the_road(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    result, out = done
    assert {"report", "accuracy", "runtimes", "seconds"} <= result.keys()
    assert result["accuracy"] == 1.0
    assert result["passed"]
    row = result["runtimes"]["onnxruntime-fp32"]
    assert row["psnr_db"] >= 110 and row["top1_agreement"] == 1.0 and row["layers"]
    kept = json.loads((out / "report.json").read_text())
    assert kept["runtimes"].keys() == result["runtimes"].keys()
    assert kept["images"] == len(kept["answers"])
    seen = Seen.load(out / "model")
    assert seen is not None and len(seen) == 15  # three views of five photographs


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_else(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    page = (done[1] / "report.html").read_text()
    assert page.count("<figure") == done[0]["images"]
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page and "<script" not in page
    for name in SAMPLES:
        assert name in page


@pytest.mark.slow
def test_the_page_escapes_and_shows_failures(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    from handful.device.lab.report import render

    whole = json.loads((done[1] / "report.json").read_text())
    whole["taught_pictures"]["<b>evil</b>"] = []
    whole["passed"] = False
    whole["runtimes"]["onnxruntime-fp32"] |= {"verdict": "fail", "reasons": ["outputs are 20.0 dB from PyTorch's"]}
    page = render(whole)
    assert "<b>evil</b>" not in page and "&lt;b&gt;evil" in page
    assert "differs from what was taught" in page and "outputs are 20.0 dB" in page


def test_own_photos_are_split_without_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, n in (("mug", 7), ("lamp", 1)):
        for i in range(n):
            save(view(sample_photo("coffee" if label == "mug" else "flower"), rng), tmp_path / label / f"{i}.png")
    teach_set, ask_set, how = own_photos(tmp_path, np.random.default_rng(0))
    taught = {(label, image.path) for image, label in teach_set}
    asked = {(label, image.path) for image, label in ask_set}
    assert not taught & asked
    assert sum(label == "mug" for label, _ in taught) == 3
    assert sum(label == "mug" for label, _ in asked) == 4
    assert sum(label == "lamp" for label, _ in taught) == 1
    assert "Half of each class" in how
    (tmp_path / "mug" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="--allow unreadable_image"):
        own_photos(tmp_path, np.random.default_rng(0))
    fewer = own_photos(tmp_path, np.random.default_rng(0), ["unreadable_image"])  # the advice, followed
    assert len(fewer[0]) == 4 and [label for _, label in fewer[1]].count("mug") == 4
    for path in (tmp_path / "mug").iterdir():
        path.unlink()
    save(sample_photo("cat"), tmp_path / "mug" / "one.png")
    with pytest.raises(DataError, match="one photo a class"):
        own_photos(tmp_path, np.random.default_rng(0))


def test_the_report_never_lands_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds no earlier report"):
        run(out=tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(DataError, match="is a file"):
        run(out=tmp_path / "thesis.txt")
