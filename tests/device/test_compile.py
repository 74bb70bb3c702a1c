"""A bundle is whole, belongs to its model, and is otherwise refused or compiled again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handful.device.runtimes
from handful.bundle import MANIFEST, Bundle, read_bundle
from handful.cli import main
from handful.device.compile import layers_of, shipped, taps_folder
from handful.device.lab.measure import Timing, timing
from handful.device.targets.contract import Trace
from handful.errors import DataError, MissingPackage, UnknownName, UsageError
from handful.kinds.compiling import compile_model
from handful.pick import pick


@pytest.fixture
def copied(compiled: Any, model: Path, tmp_path: Path) -> Bundle:
    """torch-fp32 in a model folder of its own."""
    folder = compiled("torch", "fp32").folder
    shutil.copytree(model, tmp_path / "five", ignore=shutil.ignore_patterns("compiled"))
    for place in (folder, taps_folder(folder)):
        shutil.copytree(place, tmp_path / "five" / place.relative_to(model.resolve()))
    return read_bundle(tmp_path / "five" / "compiled" / folder.name)


def of(bundle: Bundle) -> Path:
    assert bundle.model is not None
    return bundle.model


def test_what_is_written(copied: Bundle) -> None:
    meta = json.loads((copied.folder / MANIFEST).read_text())
    assert meta["schema_version"] == 2 and meta["runtime"] == "torch" and meta["precision"] == "fp32"
    assert (meta["kind"], meta["task"], meta["name"]) == ("taught_classifier", "classify", "five")
    (graph,) = meta["graphs"]
    assert graph["inputs"] == [
        {"name": "image", "shape": [1, 256, 256, 3], "dtype": "uint8", "file_name": "", "color_order": "RGB"}
    ]
    (port,) = graph["outputs"]
    labels = ["building", "cat", "coffee", "flower", "rocket", "none of these"]
    assert (port["name"], port["shape"], port["labels"]) == ("scores", [1, 6], labels)
    assert (copied.folder / "labels.txt").read_text().splitlines() == labels and meta["classes"] == labels[:-1]
    before, after = meta["preprocessing"], meta["postprocessing"]
    assert before["frame_hw"] == [256, 256] and before["mean"] and "256 x 256 px" in before["steps"][1]
    assert (after["gain"], after["vigilance"], after["none_of_these"]) == (20.0, 3.0, "last")
    assert sorted(path.name for path in copied.folder.iterdir()) == [
        "README.md", MANIFEST, "labels.txt", "network.safetensors"]  # fmt: skip
    assert copied.bytes == (copied.folder / "network.safetensors").stat().st_size
    assert set(meta["files"]) == {"network.safetensors", "labels.txt"}
    assert {"handful.json", "model.safetensors"} <= set(meta["source"])
    assert {"handful", "torch"} <= set(meta["versions"]) and meta["machine"]["cpus"]
    assert len(layers_of(read_bundle(taps_folder(copied.folder)))) == 52


def edit(change: dict[str, Any]) -> Callable[[Bundle], None]:
    def changed(copied: Bundle) -> None:
        (copied.folder / MANIFEST).write_text(json.dumps({**copied.meta, **change}))

    return changed


def alter(copied: Bundle) -> None:
    file = copied.folder / "network.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


def cut(copied: Bundle) -> None:
    file = copied.folder / "network.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def drop(copied: Bundle) -> None:
    (copied.folder / "network.safetensors").unlink()


def rename(copied: Bundle) -> None:
    (copied.folder / "labels.txt").write_text("cat\n")


def empty(copied: Bundle) -> None:
    (copied.folder / MANIFEST).write_text("{")


def outside(copied: Bundle) -> None:
    edit({"files": {**dict(copied.meta["files"]), "../x": "0"}})(copied)  # type: ignore[arg-type]


def old(copied: Bundle) -> None:
    (copied.folder / MANIFEST).unlink()
    (copied.folder / "artefact.json").write_text(json.dumps({"schema_version": 1, "runtime": "torch"}))


def lose(copied: Bundle) -> None:
    (copied.folder / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (alter, "network.safetensors is not the file that was compiled"),
        (cut, "network.safetensors is not the file that was compiled"),
        (drop, "network.safetensors is missing: the bundle is not whole; copy the whole folder again, or run: handful "
               "device compile {model} --runtime torch"),
        (rename, "labels.txt is not the file that was compiled"),
        (empty, "not readable JSON"),
        (outside, "names a file outside its folder"),
        (old, "was compiled by handful 0.3 or older, in a form this version does not run; run: handful device compile "
              "{model} --runtime torch"),
        (lose, "is no bundle: it has no bundle.json; wanted a folder as"),
        (edit({"schema_version": 0}), "schema_version 0; wanted 2; run: handful device compile"),
        (edit({"schema_version": 3, "handful": "9.1"}), "was compiled by handful 9.1 (schema 3); this one reads schema "
                                                        "2; run: pip install --upgrade handful"),
        (edit({"files": {}}), "does not say which files its graphs are"),
        (edit({"graphs": [{"name": 3}]}), "is not what was written there"),
        (edit({"graphs": 7}), "is not what was written there"),
    ],
)  # fmt: skip
def test_refused(change: Any, says: str, copied: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    model = of(copied)
    change(copied)
    with pytest.raises(DataError) as caught:
        read_bundle(copied.folder)
    assert says.format(model=model) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError) as again:
        handful.load(copied.folder)
    assert (says.format(model=model) in str(again.value)) == (change is not lose), "one that looks like no bundle"


def test_what_an_older_handful_compiled_is_compiled_again(copied: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    old(copied)
    made = compile_model(of(copied), "torch")
    assert "was compiled by an older version of handful, so it is compiled again" in capsys.readouterr().err
    assert read_bundle(copied.folder).meta == made.meta and not (copied.folder / "artefact.json").exists()


def test_a_bundle_is_no_model(copied: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="is a bundle, which was compiled from a model; wanted a model folder"):
        compile_model(copied.folder, "torch")
    bundle = handful.load(copied.folder)
    for verb, ask in (("evaluate", lambda: bundle.evaluate("x")), ("compile", lambda: bundle.compile("torch")),
                      ("save", lambda: bundle.save("x"))):  # fmt: skip
        with pytest.raises(UsageError, match=f"is a bundle.*{verb}.* give the model itself: {of(copied)}"):
            ask()


def teach_again(copied: Bundle) -> None:
    file = of(copied) / "handful.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "taught": "again"}))


def test_compiled_again_when_the_model_changed(copied: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    teach_again(copied)
    handful.load(copied.folder)
    told = f"was compiled before {of(copied)} last changed; run: handful device compile {of(copied)}"
    assert told in capsys.readouterr().err
    again = compile_model(of(copied), "torch", "fp32")
    assert again.meta["source"] != copied.meta["source"]
    handful.load(again.folder)
    assert "last changed" not in capsys.readouterr().err
    # the layers are of the older model, so they are not taken either
    taps = compile_model(of(copied), "torch", taps=True)
    assert read_bundle(taps_folder(taps.folder)).meta["source"] == taps.meta["source"] == again.meta["source"]


def test_compiled_again_when_a_version_changed(copied: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(job: Any, **more: Any) -> Any:
        asked.append(job)
        raise DataError("stop here")

    monkeypatch.setattr("handful.device.compile.run_job", refuse)
    compile_model(of(copied), "torch", taps=True)
    assert not asked
    changes: list[tuple[str, Any, Any]] = [
        ("force", None, None),
        ("runtime", pick(handful.device.runtimes, "runtime", "torch"), lambda: {"torch": "9"}),
        ("code", None, None),
    ]
    for what, module, value in changes:
        with monkeypatch.context() as patch:
            if module is not None:
                patch.setattr(module, "versions", value)
            if what == "code":
                patch.setattr("handful.kinds.compiling.CODE", ("kinds/exports.py",))
            with pytest.raises(DataError, match="stop here"):
                compile_model(of(copied), "torch", force=what == "force")
        # a compilation that fails leaves the older one
        assert read_bundle(copied.folder).meta == copied.meta
    assert len(asked) == len(changes)


def test_a_model_folder_is_hashed_once(
    copied: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: None
) -> None:
    """Each of its files, by all processes together; see child.py."""
    model = of(copied)
    (model / "compiled").rename(tmp_path / "aside")
    log = tmp_path / "hashed.txt"
    monkeypatch.setenv("HANDFUL_TEST_HASHED", str(log))
    from tests.device.child import count_hashes

    with pytest.MonkeyPatch.context() as patch:
        count_hashes(patch.setattr)
        compile_model(model, "torch", taps=True)
        lines = [line for line in log.read_text().splitlines() if Path(line).parent == model]
        own = sorted(str(path) for path in model.iterdir() if path.is_file())
        assert sorted(lines) == own and len(own) >= 4
        log.write_text("")
        compile_model(model, "torch", taps=True)  # and to see that nothing has changed
    assert sorted(line for line in log.read_text().splitlines() if Path(line).parent == model) == own


def test_what_is_shipped_is_enough(copied: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["device", "compile", str(of(copied)), "--runtime", "torch", "--out", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    to = tmp_path / "torch-fp32"
    assert Path(told["bundle"]) == to and told["files"] == copied.meta["files"] and told["bytes"] == copied.bytes
    assert sorted(p.name for p in to.iterdir()) == sorted(p.name for p in copied.folder.iterdir())
    assert shipped(copied, tmp_path).folder == to and read_bundle(to).meta == copied.meta
    with pytest.raises(DataError, match="is the compiled model itself"):
        shipped(copied, copied.folder.parent)
    with pytest.raises(DataError, match=r"holds weights alone.*run only in the model folder"):
        handful.load(to)


def test_unknown_names(copied: Bundle) -> None:
    with pytest.raises(UnknownName, match="torch has no precision 'int3'; it has fp32, fp16"):
        compile_model(of(copied), "torch", "int3")
    with pytest.raises(UnknownName, match="did you mean 'ncnn'"):
        compile_model(of(copied), "ncn")
    with pytest.raises(DataError, match="nowhere"):
        compile_model(of(copied) / "nowhere", "torch")


def test_a_missing_package_is_named(copied: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick(handful.device.runtimes, "runtime", "litert"), "MODULES", ("surely_not_installed",))
    with pytest.raises(MissingPackage, match=r"surely_not_installed .*pip install 'handful\[compile-litert\]'"):
        compile_model(of(copied), "litert")


GOOD: dict[str, Any] = {
    "median_ms": 2.0, "p90_ms": 3.0, "min_ms": 1.0, "n": 20, "warmup": 5, "threads": 1, "peak_rss_mb": None,
    "load_ms": 1.0, "first_ms": 4.0, "machine": {}, "versions": {},
}  # fmt: skip


def test_a_timing_needs_twenty_runs() -> None:
    assert Timing(**GOOD).to_json()["median_ms"] == 2.0


@pytest.mark.parametrize(
    "bad", [{"n": 19}, {"threads": 0}, {"median_ms": 0.5}, {"p90_ms": 1.5}, {"min_ms": 0.0}, {"load_ms": float("nan")}]
)
def test_impossible_timings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        Timing(**{**GOOD, **bad})


def test_a_timing_is_of_the_runs_that_count() -> None:
    times = (100.0, *[50.0] * 5, *(float(i) for i in range(1, 21)))
    made = timing(Trace({}, times, 7.0, 90.0, 3.0, {"cpus": 2}), threads=1, versions={"torch": "9"})
    assert (made.n, made.warmup, made.first_ms, made.load_ms, made.median_ms) == (20, 6, 100.0, 7.0, 10.5)
    assert made.machine == {"cpus": 2} and made.versions == {"torch": "9"} and made.peak_rss_mb == 90.0
    with pytest.raises(DataError, match="19 runs are too few for a timing"):
        timing(Trace({}, times[:-1], 7.0, None, 3.0, {}), threads=1, versions={})


@pytest.mark.filterwarnings("ignore")  # of the trace, which runs in a process of its own otherwise
def test_a_temporary_folder_with_an_apostrophe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pnnx writes its path into Python code, which is none then; ncnn's files are whole all the same."""
    pytest.importorskip("pnnx")
    from handful.device.runtimes import runtime_ncnn
    from handful.models import net_signet

    (tmp_path / "it's").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "it's"))
    network = net_signet.build(3, width=0.25, frame_hw=[32, 32], pretrained=False).eval()
    assert runtime_ncnn.compile(network, tmp_path, "fp32")["layers"]["Input"] == 1
    assert (tmp_path / runtime_ncnn.BIN).stat().st_size > 1000 and not list((tmp_path / "it's").iterdir())
