"""The whole road, with the runtime that compiles fastest, and the page it ends in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from handful.curate.seen import Seen
from handful.data.sample_images import SAMPLES, sample_photo
from handful.demo import own_photos, run, view
from handful.errors import DataError
from tests.conftest import ROOT, save
from tests.test_docs import problem
from tests.test_json import KNOWN, table


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:  # type: ignore[type-arg]
    out = tmp_path_factory.mktemp("demo") / "report"
    return run(out=out, backbone="lite0", runtimes=["onnxruntime"]), out


@pytest.mark.slow
def test_the_demo_proves_the_road(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    result, out = done
    assert {"report", "accuracy", "runtimes", "seconds"} <= result.keys()
    told = (ROOT / "docs/reference/json.md").read_text().partition("## Demo")[2].partition("\n## ")[0]
    assert result["passed"] and [key for key in result if key not in KNOWN] == []
    assert table(told).keys() <= result.keys()  # no row is left of what is gone
    assert result["phases"].keys() == {"teach", "ask", "compile", "compare", "time"}
    assert abs(sum(result["phases"].values()) - result["seconds"]) < 1
    row = result["runtimes"]["onnxruntime-fp32"]
    assert row["psnr_db"] >= 110 and row["top1_agreement"] == 1.0 and row["layers"]
    kept = json.loads((out / "report.json").read_text())
    assert kept["runtimes"].keys() == result["runtimes"].keys()
    assert kept["images"] == len(kept["answers"])
    assert all(one["right"] for one in kept["answers"] if not one["how"])
    assert any(one["predicted"] is None for one in kept["answers"] if not one["right"])  # refused
    assert any(one["wrong"] or one["unknown_accepted"] for one in kept["vigilance_range"])  # wrong names
    app = row["app"]
    assert [one["name"] for one in app["files"] if one["needed"]] == ["model.onnx", "labels.txt"]
    for one in app["files"]:
        assert (Path(row["bundle"]) / one["name"]).stat().st_size == one["bytes"]
    assert app["takes"] == "image: uint8 (1, 448, 448, 3), RGB" and "cat, coffee, flower" in app["gives"]
    code = {one["title"]: one["source"] for one in app["code"]}
    assert "InferenceSession" in code["Python"] and "Kotlin (Android)" in code and "How far this was tried" not in code
    seen = Seen.load(out / "model")
    assert seen is not None and len(seen) == 15  # three views of five photographs


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_else(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    page = (done[1] / "report.html").read_text()
    assert page.count("<figure") == done[0]["images"]
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<script>") == page.count("<script") == 1 and " src=" not in re.sub(r'src="data:[^"]*"', "", page)
    for name in SAMPLES:
        assert name in page
    for said in ("none of these", "close and dim", "with coffee beside it", "model.onnx", "Kotlin (Android)"):
        assert said in page.partition('<h2 id="answers">')[2], said
    told = re.sub("<.*?>", "", re.search(r"Keep it: (.*?)</code>", page)[1]).splitlines()  # type: ignore[index]
    told += re.search(r'id="next">.*?<pre>(.*?)</pre>', page, re.S)[1].splitlines()  # type: ignore[index]
    assert len(told) == 6 and [text for text in map(problem, told) if text] == []
    assert problem(told[-1].replace("--photos", "--images"))  # what it said before


def counts_on_the_page(page: str, vigilances: list[float], classes: list[str]) -> list[dict[str, int]]:
    """What the page's own script counts at each, asked of node."""
    script = page.split("<script>")[1].split("</script>")[0]
    figures = re.findall(r'data-truth="([^"]*)" data-scores="([^"]*)"', page)
    at, step = (float(re.search(rf'data-{name}="([^"]*)"', page)[1]) for name in ("at", "step"))  # type: ignore[index]
    given = [[v, [[truth, json.loads(scores)] for truth, scores in figures]] for v in vigilances]
    script += f"""
    for (const [v, rows] of {json.dumps(given)}) {{
      const counts = {{}};
      for (const [truth, scores] of rows) {{
        const what = kind(told(scores, {json.dumps(classes)}, (v - {at}) * {step}).label, truth, {json.dumps(classes)});
        counts[what] = (counts[what] ?? 0) + 1;
      }}
      console.log(JSON.stringify(counts));
    }}"""
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="runs the page's script, with node")
def test_the_slider_says_what_the_model_would(done: tuple[dict, Path]) -> None:  # type: ignore[type-arg]
    result, page = done[0], (done[1] / "report.html").read_text()
    rows = result["vigilance_range"]
    found = counts_on_the_page(page, [row["vigilance"] for row in rows], result["classes"])
    names = {"right": "right", "wrong": "wrong", "refused": "refused", "accepted": "unknown_accepted"}
    assert [{to: one.get(name, 0) for name, to in names.items()} for one in found] == [
        {to: row[to] for to in names.values()} for row in rows
    ]
    assert len({json.dumps(one) for one in found}) > 5  # it changes something
    off = counts_on_the_page(page.replace("+ shift", "- shift"), [rows[0]["vigilance"]], result["classes"])
    assert off[0].get("right", 0) != rows[0]["right"]


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
    asked = {(one.label, one.image.path) for one in ask_set}
    assert not taught & asked
    assert sum(label == "mug" for label, _ in taught) == 3
    assert sum(label == "mug" for label, _ in asked) == 4
    assert sum(label == "lamp" for label, _ in taught) == 1
    assert "Half of each class" in how
    (tmp_path / "mug" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="--allow unreadable_image"):
        own_photos(tmp_path, np.random.default_rng(0))
    fewer = own_photos(tmp_path, np.random.default_rng(0), ["unreadable_image"])  # the advice, followed
    assert len(fewer[0]) == 4 and [one.label for one in fewer[1]].count("mug") == 4
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
