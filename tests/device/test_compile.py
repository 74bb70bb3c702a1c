"""An artefact is whole, belongs to its model, and is otherwise refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import handful.device.runtimes
from handful.device.compile import Artefact, compile_model, load_artefact
from handful.device.lab.measure import Timing
from handful.errors import DataError, MissingPackage, UnknownName
from handful.pick import pick


@pytest.fixture
def copied(compiled: Any, model: Path, tmp_path: Path) -> Artefact:
    """torch-fp32 in a model folder of its own."""
    folder = compiled("torch", "fp32").folder
    skip = shutil.ignore_patterns("compiled")
    shutil.copytree(model, tmp_path / "five", ignore=skip)
    shutil.copytree(folder, tmp_path / "five" / "compiled" / folder.name)
    return load_artefact(tmp_path / "five" / "compiled" / folder.name)


def test_what_is_written(copied: Artefact) -> None:
    meta = json.loads((copied.folder / "artefact.json").read_text())
    assert meta["schema_version"] == 1 and meta["runtime"] == "torch" and meta["precision"] == "fp32"
    assert meta["inputs"] == [{"name": "image", "shape": [1, 256, 256, 3], "dtype": "uint8", "order": "RGB"}]
    assert [(one["name"], one["shape"]) for one in meta["outputs"]] == [("scores", [1, 6])]
    shipped = [name for name in meta["files"] if "/" not in name]
    assert meta["bytes"] == sum((copied.folder / name).stat().st_size for name in shipped) and len(shipped) == 2
    assert set(meta["source"]) == {"handful.json", "model.safetensors"} and len(meta["layers"]) == 52
    assert {"handful", "torch"} <= set(meta["versions"]) and meta["machine"]["cpus"]


def alter(copied: Artefact) -> None:
    file = copied.folder / "network.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


def drop(copied: Artefact) -> None:
    (copied.taps / "graph.json").unlink()


def add(copied: Artefact) -> None:
    (copied.folder / "more.bin").write_bytes(b"x")


def rename(copied: Artefact) -> None:
    meta = {**copied.meta, "precision": "fp16"}
    (copied.folder / "artefact.json").write_text(json.dumps(meta))


def age(copied: Artefact) -> None:
    (copied.folder / "artefact.json").write_text(json.dumps({**copied.meta, "schema_version": 0}))


def forget(copied: Artefact) -> None:
    (copied.folder / "artefact.json").write_text(json.dumps({**copied.meta, "files": []}))


def empty(copied: Artefact) -> None:
    (copied.folder / "artefact.json").write_text("{")


def teach_again(copied: Artefact) -> None:
    file = copied.model / "handful.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "taught": "again"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (alter, "network.safetensors is not as it was compiled"),
        (drop, "graph.json is not as it was compiled"),
        (add, "more.bin is not as it was compiled"),
        (rename, "holds torch-fp16"),
        (age, "schema_version 0"),
        (forget, "is not as it was compiled"),
        (empty, "not readable JSON"),
        (teach_again, "compiled from another version of the model; run: handful device compile"),
    ],
)
def test_refused(change: Any, says: str, copied: Artefact) -> None:
    change(copied)
    with pytest.raises(DataError, match=says):
        load_artefact(copied.folder)


def test_compiled_again_when_the_model_changed(copied: Artefact) -> None:
    teach_again(copied)
    again = compile_model(copied.model, "torch", "fp32", taps=False)
    assert again.meta["source"] != copied.meta["source"] and again.layers == []
    load_artefact(again.folder)


def test_compiled_again_when_a_version_changed(copied: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(job: Any, **more: Any) -> Any:
        asked.append(job)
        raise DataError("stop here")

    monkeypatch.setattr("handful.device.compile.run_job", refuse)
    compile_model(copied.model, "torch")
    assert not asked
    for change in ({"force": True}, {"versions": True}):
        if "versions" in change:
            monkeypatch.setattr(pick(handful.device.runtimes, "runtime", "torch"), "versions", lambda: {"torch": "9"})
        with pytest.raises(DataError, match="stop here"):
            compile_model(copied.model, "torch", force="force" in change)
        # a compilation that fails leaves the older one
        assert load_artefact(copied.folder).meta == copied.meta
    assert len(asked) == 2


def test_unknown_names(copied: Artefact) -> None:
    with pytest.raises(UnknownName, match="torch has no precision 'int3'; it has fp32, fp16"):
        compile_model(copied.model, "torch", "int3")
    with pytest.raises(UnknownName, match="did you mean 'ncnn'"):
        compile_model(copied.model, "ncn")
    with pytest.raises(DataError, match="nowhere"):
        compile_model(copied.model / "nowhere", "torch")


def test_a_missing_package_is_named(copied: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick(handful.device.runtimes, "runtime", "litert"), "MODULES", ("surely_not_installed",))
    with pytest.raises(MissingPackage, match=r"surely_not_installed .*pip install 'handful\[litert\]'"):
        compile_model(copied.model, "litert")


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
