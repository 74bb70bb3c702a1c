"""A compiled model as an app takes it: named graphs with typed ports, labels, and the steps around them, in one folder.

bundle.json says everything; NumPy reads it, without torch and without the model folder it was compiled from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from handful.arrays import JSONObject

SCHEMA_VERSION = 2
MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    name: the network's own. shape: in torch's layout, fixed. dtype: "uint8" (an image, RGB) or "float32". file_name:
    what the runtime's own file calls it. labels: the name of each value along the axis of classes, () where there is
    none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    file_name: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """One compiled network. folder: inside the bundle, "" for the bundle itself. files: the runtime's own, in it."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    folder: str = ""
    files: tuple[str, ...] = ()


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
