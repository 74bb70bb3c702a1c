"""Compile a model folder for a phone runtime, into MODEL/compiled/<runtime>-<precision>/, once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import handful
import handful.device.runtimes
from handful.device import parts
from handful.device.network import is_detector
from handful.device.runtimes.contract import Graph, machine
from handful.device.targets.worker import TAPS, Job, run_job
from handful.errors import DataError, UnknownName
from handful.files import read_json, replacing_folder, sha256, write_json
from handful.models.folder import META, WEIGHTS, read_meta
from handful.pick import need, pick, present
from handful.progress import note

SCHEMA_VERSION = 1
ARTEFACT = "artefact.json"
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Artefact:
    """A compiled model on disk. meta: the whole of artefact.json."""

    folder: Path
    meta: dict[str, Any]

    @property
    def model(self) -> Path:
        """The model folder it was compiled from."""
        return self.folder.parent.parent

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        return str(self.meta["runtime"])

    @property
    def precision(self) -> str:
        """ "fp32" or "fp16"."""
        return str(self.meta["precision"])

    @property
    def layers(self) -> list[str]:
        """Layers of the tapped variant in order of execution; empty when it was not made."""
        return list(self.meta["layers"])

    @property
    def taps(self) -> Path:
        """Folder of the tapped variant."""
        return self.folder / TAPS

    @property
    def bytes(self) -> int:
        """Size of what is shipped."""
        return int(self.meta["bytes"])


def artefact_folder(model: Path, runtime: str, precision: str) -> Path:
    """Where a compiled model is kept."""
    return Path(model).resolve() / "compiled" / f"{runtime}-{precision}"


NOT_COMPILED = ("detect", "instance")


def compile_model(
    model: Path, runtime: str, precision: str = "fp32", *, taps: bool = True, force: bool = False
) -> Artefact:
    """Compile a model folder, or hand back what was compiled before from the same files with the same versions.

    taps: also compile a variant whose further outputs are the network's layers, for `compare_model`; it takes as long
    again. force: compile even when nothing changed. A taught detector becomes several graphs, see parts.py; it has no
    tapped variant.
    Raises UnknownName, MissingPackage, DataError (the model), or CompileError (the runtime could not take it); what
    was compiled before is then still there.
    """
    module = pick(handful.device.runtimes, "runtime", runtime)
    check_precision(module, runtime, precision)
    for package in module.MODULES:
        if not present(package):
            need(package, module.EXTRA)
    model = Path(model).resolve()
    if (task := read_meta(model).get("task")) in NOT_COMPILED:
        raise DataError(
            f"{model} is a model to {task}: how many things it finds follows from the photo, which no phone runtime "
            "here takes as one graph; compile one to segment or classify"
        )
    several = is_detector(model)
    folder, versions = artefact_folder(model, runtime, precision), _versions(module, several)
    if not force:
        old = _reusable(folder, versions, taps and not several)
        if old is not None:
            return old
    note(f"compiling {model.name} for {runtime} {precision}, which can take a minute")
    with replacing_folder(folder) as part:
        own = parts.make(model, part, runtime, precision) if several else _make(model, part, runtime, precision, taps)
        files = _hashes(part)
        meta = {
            "schema_version": SCHEMA_VERSION,
            "runtime": runtime,
            "precision": precision,
            "bytes": sum((part / name).stat().st_size for name in files if not name.startswith(TAPS + "/")),
            "weights_bytes": (model / WEIGHTS).stat().st_size,
            **own,
            "classes": read_meta(model)["classes"],
            "versions": versions,
            "machine": machine(),
            "source": _source(model),
            "files": files,
        }
        write_json(part / ARTEFACT, meta)
    return Artefact(folder, meta)


def _make(model: Path, to: Path, runtime: str, precision: str, taps: bool) -> dict[str, Any]:
    done = run_job(Job("compile", runtime, str(model), str(to), precision, taps), timeout_s=TIMEOUT_S)
    graph = Graph.read(to)
    return {
        "inputs": [port.to_json() for port in graph.inputs],
        "outputs": [
            {"name": name, "shape": list(shape), "dtype": "float32"}
            for name, shape in zip(graph.outputs, graph.shapes, strict=True)
        ],
        "layers": done.facts["layers"],
        "compile_seconds": round(float(done.facts["seconds"]), 2),
        "compile_peak_rss_mb": done.peak_rss_mb,
        "facts": done.facts["facts"],
    }


def check_precision(module: Any, runtime: str, precision: str) -> None:
    """Raises UnknownName, naming the precisions the runtime has, for one it has not."""
    if precision not in module.PRECISIONS:
        raise UnknownName(f"{runtime} has no precision {precision!r}; it has {', '.join(module.PRECISIONS)}")


def _versions(module: Any, several: bool) -> dict[str, str]:
    # the runtime's own file counts as a version, and that of a detector's graphs: after a change in it, nothing that it
    # compiled is reused
    own = {"handful": f"{handful.__version__}+{sha256(Path(module.__file__))[:8]}", **module.versions()}
    graphs = Path(str(handful.__file__)).parent / "detection" / "graphs.py"
    return {**own, "graphs": sha256(graphs)[:8]} if several else own


def _source(model: Path) -> dict[str, str]:
    return {name: sha256(model / name) for name in (META, WEIGHTS)}


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256(file) for file in files}


def _reusable(folder: Path, versions: dict[str, str], taps: bool) -> Artefact | None:
    if not folder.exists():
        return None
    try:
        old = load_artefact(folder)
    except DataError:
        return None
    return old if old.meta["versions"] == versions and (old.layers or not taps) else None


def load_artefact(folder: Path) -> Artefact:
    """A compiled model, after checking that it is whole and belongs to the model folder it lies in.

    Raises DataError, naming the file, when it is absent, altered, or compiled from another version of the model.
    """
    folder = Path(folder).resolve()
    meta = read_json(folder / ARTEFACT)
    again = f"run: handful device compile {folder.parent.parent}"
    if meta.get("schema_version") != SCHEMA_VERSION:
        found = meta.get("schema_version")
        raise DataError(f"{folder / ARTEFACT} has schema_version {found!r}; wanted {SCHEMA_VERSION}; {again}")
    for key in ("runtime", "precision", "layers", "bytes", "versions", "source", "files", "facts"):
        if key not in meta:
            raise DataError(f"{folder / ARTEFACT} lacks {key!r}; {again}")
    if folder.name != f"{meta['runtime']}-{meta['precision']}":
        raise DataError(f"{folder} holds {meta['runtime']}-{meta['precision']}; rename it back, or {again}")
    found_files = {name: digest for name, digest in _hashes(folder).items() if name != ARTEFACT}
    files = meta["files"] if isinstance(meta["files"], dict) else {}
    wrong = next((n for n in sorted({*found_files, *files}) if found_files.get(n) != files.get(n)), None)
    if wrong is not None or not files:
        raise DataError(
            f"{folder / (wrong or ARTEFACT)} is not as it was compiled (altered, missing or added); {again}"
        )
    read_meta(folder.parent.parent)
    if _source(folder.parent.parent) != meta["source"]:
        raise DataError(f"{folder} was compiled from another version of the model; {again}")
    return Artefact(folder, meta)


def shipped(artefact: Artefact, out: Path) -> Path:
    """Put what an app needs of a compiled model into OUT/RUNTIME-PRECISION, whole or not at all; returns that folder.

    Layers for comparing stay behind. Raises DataError when it lies where the compiled model itself does.
    """
    to = Path(out).resolve() / artefact.folder.name
    if to == artefact.folder:
        raise DataError(f"{to} is the compiled model itself; give another --out, or none")
    files = {name: digest for name, digest in artefact.meta["files"].items() if not name.startswith(TAPS + "/")}
    with replacing_folder(to) as part:
        for name in files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artefact.folder / name, part / name)
        write_json(part / ARTEFACT, {**artefact.meta, "layers": [], "files": files})
    return to
