"""A compiled model as an app takes it: named graphs with typed ports, labels, and the steps around them, in one folder.

    bundle.json   all that is said below: graphs, ports, classes, the steps before, between and after the graphs
    labels.txt    the name of each score, one a line, in order
    README.md     how to run it, with code
    ...           the graphs' own files

NumPy reads it, without torch and without the model folder it was compiled from. Nothing in it is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from handful.arrays import JSONObject
from handful.errors import DataError, UnknownName
from handful.files import read_json, sha256
from handful.words import is_a_line, shell

SCHEMA_VERSION = 2
MANIFEST, LABELS, README = "bundle.json", "labels.txt", "README.md"
OLD = "artefact.json"  # what handful 0.3 wrote instead of bundle.json
KEYS = ("kind", "task", "runtime", "precision", "classes", "graphs", "files")


def label_lines(names: Sequence[str]) -> str:
    """labels.txt: names exactly as they are, each with the line feed that ends its line. Raises DataError, with a cure,
    for a name that is no line."""
    for name in names:
        if not is_a_line(name):
            raise DataError(
                f"a class is named {name!r}; apps read the names of a bundle line by line, so wanted one line that is "
                "not empty; rename the class in the data, and teach or train again"
            )
    return "".join(f"{name}\n" for name in names)


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    name: the network's own. shape: in torch's layout, fixed. dtype: "uint8" (an image, RGB) or "float32". file_name:
    what the runtime's own file calls it, "" where that has no names and counts instead. labels: the name of each value
    along the axis of classes, () where there is none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    file_name: str = ""
    labels: tuple[str, ...] = ()

    def to_json(self) -> JSONObject:
        """As bundle.json has it."""
        told: JSONObject = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        told |= {"file_name": self.file_name}
        if self.dtype == "uint8":
            told["color_order"] = "RGB"
        return {**told, "labels": list(self.labels)} if self.labels else told

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Port:
        """What `to_json` gave."""
        shape, labels = tuple(map(int, value["shape"])), tuple(map(str, value.get("labels", ())))
        return cls(str(value["name"]), shape, str(value["dtype"]), str(value["file_name"]), labels)


@dataclass(frozen=True)
class Graph:
    """One compiled network. folder: inside the bundle, "" for the bundle itself. files: the runtime's own, in it.

    Raises DataError for no inputs or outputs, or two of one name.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    folder: str = ""
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [port.name for port in ports]
            if not names or len(set(names)) != len(names):
                raise DataError(f"{what} of the graph {self.name} must have distinct names, at least one; got {names}")

    def to_json(self) -> JSONObject:
        """As bundle.json has it."""
        ports = {what: [port.to_json() for port in getattr(self, what)] for what in ("inputs", "outputs")}
        return {"name": self.name, "folder": self.folder, "files": list(self.files), **ports}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Graph:
        """What `to_json` gave."""
        ins, outs = (tuple(Port.from_json(port) for port in value[what]) for what in ("inputs", "outputs"))
        return cls(str(value["name"]), ins, outs, str(value["folder"]), tuple(map(str, value["files"])))


class Session(Protocol):
    """A graph of a bundle, loaded."""

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{"image": uint8 (1, h, w, 3) RGB}, or what else the graph names -> {output name: float32, in the network's
        own torch layout}. Safe to call from several threads."""
        ...


@dataclass(frozen=True)
class Bundle:
    """A compiled model on disk. graphs: in the order in which they run. meta: the whole of bundle.json."""

    folder: Path
    graphs: tuple[Graph, ...]
    meta: JSONObject = field(repr=False)

    @property
    def kind(self) -> str:
        """The kind of model it was compiled from."""
        return str(self.meta["kind"])

    @property
    def task(self) -> str:
        """ "classify", "segment" or "detect"."""
        return str(self.meta["task"])

    @property
    def runtime(self) -> str:
        """The name of the runtime it was compiled for."""
        return str(self.meta["runtime"])

    @property
    def precision(self) -> str:
        """ "fp32" or "fp16"."""
        return str(self.meta["precision"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of its scores."""
        names = self.meta["classes"]
        return tuple(map(str, names)) if isinstance(names, list) else ()

    @property
    def bytes(self) -> int:
        """Size of what is shipped: the graphs' own files."""
        return sum((self.folder / g.folder / f).stat().st_size for g in self.graphs for f in g.files)

    @property
    def model(self) -> Path | None:
        """The model folder in which it lies, in MODEL/compiled; None for one that lies elsewhere."""
        homes = [place.parent for place in self.folder.resolve().parents[:2] if place.name == "compiled"]
        return homes[0] if homes and (homes[0] / "handful.json").exists() else None

    def graph(self, name: str) -> Graph:
        """One of its graphs. Raises UnknownName."""
        for one in self.graphs:
            if one.name == name:
                return one
        raise UnknownName(f"no graph named {name!r}; there is {', '.join(one.name for one in self.graphs)}")


def own_names(folder: Path) -> frozenset[str]:
    """Names in a bundle's folder that are handful's own; what else is there is the user's."""
    try:
        files = read_json(folder / MANIFEST).get("files")
    except DataError:
        old = (folder / OLD).exists()  # an older version's, which did not list what it wrote
        return frozenset(entry.name for entry in folder.iterdir()) if old else frozenset()
    names = {Path(name).parts[0] for name in files} if isinstance(files, dict) and all(files) else set()
    return frozenset({MANIFEST, OLD, LABELS, README, *names})


def read_bundle(folder: Path) -> Bundle:
    """A compiled bundle, after checking that this version can read it and that its graphs and labels are whole.

    Raises DataError, in one line that names the file and the command that helps.
    """
    folder = Path(folder)
    meta = _manifest(folder)
    again = f"copy the whole folder again, or {compile_again(folder, meta)}"
    try:
        graphs = tuple(Graph.from_json(one) for one in meta["graphs"])
        files = {str(name): str(digest) for name, digest in meta["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / MANIFEST} is not what was written there ({error!r}); {again}") from error
    wanted = [f"{graph.folder}/{name}".lstrip("/") for graph in graphs for name in graph.files]
    if not graphs or set(wanted) - set(files):
        raise DataError(f"{folder / MANIFEST} does not say which files its graphs are; {again}")
    for name, digest in files.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{folder / MANIFEST} names a file outside its folder: {name!r}; do not use this bundle")
        if not file.is_file():
            raise DataError(f"{file} is missing: the bundle is not whole; {again}")
        if sha256(file) != digest:
            raise DataError(f"{file} is not the file that was compiled (altered, or not copied whole); {again}")
    return Bundle(folder, graphs, meta)


def _manifest(folder: Path) -> dict[str, Any]:
    if not (folder / MANIFEST).exists():
        if (folder / OLD).exists():
            raise DataError(f"{folder} was compiled by handful 0.3 or older, in a form this version does not run; "
                            f"{compile_again(folder, {})}")  # fmt: skip
        there = "is no bundle: it has no " + MANIFEST if folder.is_dir() else "does not exist"
        raise DataError(f"{folder} {there}; wanted a folder as `handful device compile MODEL --runtime litert` makes")
    meta = read_json(folder / MANIFEST)
    version = meta.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{folder} was compiled by handful {meta.get('handful', '?')} (schema {version}); this one reads schema "
            f"{SCHEMA_VERSION}; run: pip install --upgrade handful"
        )
    if version != SCHEMA_VERSION:
        raise DataError(f"{folder / MANIFEST} has schema_version {version!r}; wanted {SCHEMA_VERSION}; "
                        f"{compile_again(folder, meta)}")  # fmt: skip
    for key in KEYS:
        if key not in meta:
            raise DataError(f"{folder / MANIFEST} lacks {key!r}; {compile_again(folder, meta)}")
    return meta


def compile_again(folder: Path, meta: Mapping[str, Any]) -> str:
    """What to type to compile a bundle again, as far as its folder tells."""
    told = meta or (read_json(folder / OLD) if (folder / OLD).exists() else {})
    place = Path(folder).resolve().parent.parent
    model = shell(place) if (place / "handful.json").exists() else "MODEL"
    runtime, _, precision = Path(folder).name.rpartition("-")
    runtime, precision = str(told.get("runtime") or runtime or "RUNTIME"), str(told.get("precision") or precision)
    more = f" --precision {shell(precision)}" if precision not in ("", "fp32") else ""
    return f"run: handful device compile {model} --runtime {shell(runtime)}{more}"
