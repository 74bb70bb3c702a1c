"""Compile a model folder for a phone runtime, into MODEL/compiled/<runtime>-<precision>/, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import handful
import handful.device
from handful.device.contract import Graph, machine
from handful.device.job import TAPS, Job, run_job
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
    again. force: compile even when nothing changed.
    Raises UnknownName, MissingPackage, DataError (the model), or CompileError (the runtime could not take it); what
    was compiled before is then still there.
    """
    module = pick(handful.device, "runtime", runtime)
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
    folder, versions = artefact_folder(model, runtime, precision), _versions(module)
    if not force:
        old = _reusable(folder, versions, taps)
        if old is not None:
            return old
    note(f"compiling {model.name} for {runtime} {precision}, which can take a minute")
    with replacing_folder(folder) as part:
        job = Job("compile", runtime, str(model), str(part), precision, taps)
        done = run_job(job, timeout_s=TIMEOUT_S)
        files = _hashes(part)
        graph = Graph.read(part)
        meta = {
            "schema_version": SCHEMA_VERSION,
            "runtime": runtime,
            "precision": precision,
            "inputs": [{"name": graph.input_name, "shape": [1, *graph.input_hw, 3], "dtype": "uint8", "order": "RGB"}],
            "outputs": [
                {"name": name, "shape": list(shape), "dtype": "float32"}
                for name, shape in zip(graph.outputs, graph.shapes, strict=True)
            ],
            "layers": done.facts["layers"],
            "bytes": sum((part / name).stat().st_size for name in files if not name.startswith(TAPS + "/")),
            "weights_bytes": (model / WEIGHTS).stat().st_size,
            "compile_seconds": round(float(done.facts["seconds"]), 2),
            "compile_peak_rss_mb": done.peak_rss_mb,
            "facts": done.facts["facts"],
            "versions": versions,
            "machine": machine(),
            "source": _source(model),
            "files": files,
        }
        write_json(part / ARTEFACT, meta)
    return Artefact(folder, meta)


def check_precision(module: Any, runtime: str, precision: str) -> None:
    """Raises UnknownName, naming the precisions the runtime has, for one it has not."""
    if precision not in module.PRECISIONS:
        raise UnknownName(f"{runtime} has no precision {precision!r}; it has {', '.join(module.PRECISIONS)}")


def _versions(module: Any) -> dict[str, str]:
    # the runtime's own file counts as a version: after a change in it, nothing that it compiled is reused
    return {"handful": f"{handful.__version__}+{sha256(Path(module.__file__))[:8]}", **module.versions()}


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
