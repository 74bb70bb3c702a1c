"""Compile a model folder for a phone runtime, into MODEL/compiled/RUNTIME-PRECISION/, a bundle; once.

What the model is, this room does not know: a ModelSource names the functions that do. A variant of a network with its
layers as outputs, for comparing, is kept apart from what an app takes, in MODEL/compiled/.taps/RUNTIME-PRECISION/.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import handful
from handful import places
from handful.arrays import JSONObject
from handful.bundle import LABELS, MANIFEST, OLD, README, SCHEMA_VERSION, Bundle, Graph, own_names, read_bundle
from handful.device import manual
from handful.device.runtimes.contract import machine
from handful.device.sessions import runtime_of
from handful.device.targets.job import Job, run_job
from handful.errors import DataError, UnknownName
from handful.files import replacing_folder, sha256, write_json
from handful.locks import one_writer
from handful.progress import note
from handful.words import shell

TAPS = ".taps"
TIMEOUT_S = 3600.0


@dataclass(frozen=True)
class ModelSource:
    """A model folder that was read and found whole, and who knows what is in it: functions by name, "module:function",
    each called in a process of its own.

    exporter: (folder) -> an object with `graphs`, torch modules by name, and `manifest`; see
    handful.kinds.contract.Export. program: (bundle, sessions) -> a function from a photograph, uint8 (h, w, 3) RGB, to
    handful.results.Detections: what an app does with several graphs. reference: (folder) -> such a function, in
    PyTorch; both "" for a model of one graph. hashes: {file: SHA-256} of what the folder holds. versions: of the code
    that exports, by name: another one, and nothing compiled before is reused. weights_bytes: of the network's weights.
    kept: where its bundles are kept, instead of MODEL/compiled.
    """

    folder: Path
    exporter: str
    hashes: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    reference: str = ""
    weights_bytes: int = 0
    kept: Path | None = None


def bundle_folder(source: ModelSource, runtime: str, precision: str) -> Path:
    """Where a compiled model is kept."""
    return (source.kept or source.folder.resolve() / "compiled") / f"{runtime}-{precision}"


def taps_folder(bundle: Path) -> Path:
    """Where the variant with layers of a compiled model is kept."""
    return bundle.parent / TAPS / bundle.name


def compile_bundle(
    source: ModelSource, runtime: str, precision: str = "fp32", *, taps: bool = False, force: bool = False,
    into: Path | None = None,
) -> Bundle:  # fmt: skip
    """Compile a model, or hand back what was compiled before from the same files with the same versions.

    taps: also compile a variant whose further outputs are the network's layers, for comparing; it takes as long again,
    and there is none of a model of several graphs. force: compile even when nothing changed. into: where the
    bundle's folder is made instead of MODEL/compiled, for a model that cannot be written.
    Raises UnknownName, MissingPackage, DataError (the model), or CompileError (the runtime could not take it); what
    was compiled before is then still there.
    """
    module = runtime_of(runtime, to_compile=True)
    check_precision(module, runtime, precision)
    folder, versions = bundle_folder(source, runtime, precision), _versions(module, source)
    if into is not None:
        folder = places.real(into) / folder.name
        _may_ship(folder)
    taps = taps and not source.program
    if not force and (old := _reusable(source, folder, versions, taps)) is not None:
        return old
    if (folder / OLD).exists() and not (folder / MANIFEST).exists():
        note(f"{folder} was compiled by an older version of handful, so it is compiled again")
    try:
        places.check_writable(folder)
    except DataError as error:
        raise DataError(
            f"{error}: handful device compile {shell(source.folder)} --runtime {runtime} --precision {precision} "
            "--out DIR"
        ) from error
    note(f"compiling {source.folder.name} for {runtime} {precision}, which can take a minute")
    with ExitStack() as stack:
        stack.enter_context(one_writer(source.folder, shared=True))
        _unchanged(source)
        part = stack.enter_context(replacing_folder(folder, own_names))
        tapped = stack.enter_context(replacing_folder(taps_folder(folder))) if taps else None
        base, taps_base = ("", "") if force else _bases(source, runtime, precision, versions)
        job = Job("compile", runtime, str(source.folder), source.exporter, to=str(part), base=base, precision=precision,
                  taps=str(tapped or ""), taps_base=taps_base)  # fmt: skip
        done = run_job(job, timeout_s=TIMEOUT_S)
        graphs = tuple(Graph.from_json(one) for one in done.facts["graphs"])
        own, facts = dict[str, Any](done.facts["manifest"]), done.facts["facts"]
        shared: dict[str, Any] = {"runtime": runtime, "precision": precision, "versions": versions,
                                  "source": dict(source.hashes), "machine": machine()}  # fmt: skip
        meta = {
            "schema_version": SCHEMA_VERSION, "handful": handful.__version__, "name": source.folder.name, **own,
            **shared, "weights_bytes": source.weights_bytes,
            "compile_seconds": round(float(done.facts["seconds"]), 2), "compile_peak_rss_mb": done.peak_rss_mb,
            "facts": facts if len(graphs) > 1 else facts[graphs[0].name],
        }  # fmt: skip
        made = write_bundle(part, graphs, meta)
        if tapped is not None:
            layered = Graph.from_json(done.facts["tapped"])
            about: dict[str, Any] = {
                "kind": "taps",
                "task": own["task"],
                "classes": own["classes"],
                "layers": done.facts["layers"],
            }
            head: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "handful": handful.__version__}
            write_bundle(tapped, (layered,), {**head, **about, **shared}, app=False)
    return replace(made, folder=folder)


def _unchanged(source: ModelSource) -> None:
    """Raises DataError where the model was changed after it was read: the bundle would not be of what it says."""
    for name, digest in source.hashes.items():
        if not (source.folder / name).is_file() or sha256(source.folder / name) != digest:
            raise DataError(f"{source.folder} was changed by another command meanwhile; run this again")


def write_bundle(to: Path, graphs: tuple[Graph, ...], meta: JSONObject, *, app: bool = True) -> Bundle:
    """All of a bundle but the graphs' own files, which are there."""
    meta = {**meta, "graphs": [graph.to_json() for graph in graphs]}
    if app:
        (to / LABELS).write_text(manual.labels_text(graphs, meta), encoding="utf-8")
        (to / README).write_text(manual.manual(Bundle(to, graphs, meta)), encoding="utf-8")
    # the manual may be written into; what runs may not change
    names = [f"{graph.folder}/{name}".lstrip("/") for graph in graphs for name in graph.files] + [LABELS] * app
    meta = {**meta, "files": {name: sha256(to / name) for name in names}}
    write_json(to / MANIFEST, meta)
    return Bundle(to, graphs, meta)


def check_precision(module: Any, runtime: str, precision: str) -> None:
    """Raises UnknownName, naming the precisions the runtime has, for one it has not."""
    if precision not in module.PRECISIONS:
        raise UnknownName(f"{runtime} has no precision {precision!r}; it has {', '.join(module.PRECISIONS)}")


def _versions(module: Any, source: ModelSource) -> dict[str, str]:
    # files of code count as versions: after a change in them, nothing that they compiled is reused
    own = {"handful": f"{handful.__version__}+{sha256(Path(module.__file__))[:8]}", "manual": manual.digest()}
    return {**own, **module.versions(), **source.versions}


def _bases(source: ModelSource, runtime: str, precision: str, versions: Mapping[str, str]) -> tuple[str, str]:
    """Where fp32 of the same model, and its variant with layers, lie; "" where they do not, or for fp32 itself."""
    folder = bundle_folder(source, runtime, "fp32")
    if precision == "fp32" or _reusable(source, folder, versions, False) is None:
        return "", ""
    whole = _reusable(source, folder, versions, True) is not None
    return str(folder), str(taps_folder(folder)) if whole else ""


def _reusable(source: ModelSource, folder: Path, versions: Mapping[str, str], taps: bool) -> Bundle | None:
    if not (folder / MANIFEST).exists():
        return None
    try:
        old = read_bundle(folder)
        layered = read_bundle(taps_folder(folder)) if taps else old
    except DataError:
        return None
    if folder.name != f"{old.runtime}-{old.precision}":
        return None
    fits = all(one.meta.get("versions") == versions and one.meta.get("source") == source.hashes
               for one in (old, layered))  # fmt: skip
    return old if fits else None


def tapped_bundle(bundle: Bundle) -> Bundle:
    """The variant with layers of a bundle in its model folder. Raises DataError where there is none."""
    return read_bundle(taps_folder(bundle.folder))


def layers_of(tapped: Bundle) -> tuple[str, ...]:
    """Layers of a variant with layers, in order of execution."""
    names = tapped.meta["layers"]
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _may_ship(to: Path) -> None:
    """Raises DataError where a bundle would replace a folder that is none."""
    if to.is_dir() and any(to.iterdir()) and not (to / MANIFEST).exists() and not (to / OLD).exists():
        raise DataError(f"{to} exists and is no bundle, so it is not overwritten; choose another --out")


def shipped(bundle: Bundle, out: Path) -> Bundle:
    """Copy a bundle into OUT/RUNTIME-PRECISION, whole or not at all.

    Raises DataError when it lies there itself.
    """
    to = Path(out).resolve() / bundle.folder.name
    if to == bundle.folder.resolve():
        raise DataError(f"{to} is the compiled model itself; give another --out, or none")
    _may_ship(to)
    with replacing_folder(to, own_names) as part:
        shutil.copytree(bundle.folder, part, dirs_exist_ok=True)
    return replace(bundle, folder=to)
