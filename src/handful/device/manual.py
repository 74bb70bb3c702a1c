"""The README.md and labels.txt of a bundle: what it takes, what it gives, and code that runs this very model.

Code is kept in manuals/: a file a runtime, and help.md with the parts that runtimes share. @NAME@ in them is filled in.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import handful.device.runtimes
from handful.arrays import JSONObject
from handful.bundle import LABELS, MANIFEST, README, Bundle, Graph, Port, label_lines
from handful.pick import pick
from handful.words import counted

HOME = Path(__file__).parent / "manuals"
WHAT = {"classify": "says what an image shows", "segment": "says of each pixel of an image what it shows",
        "detect": "finds things in an image"}  # fmt: skip
SHOWN = 20  # labels
TRIED = (
    "The Python code is run by handful's own tests as it stands here. The JavaScript was run in Chromium with a taught "
    "classifier, on onnxruntime-web and @litertjs/core, and the C++ of ExecuTorch was compiled against its headers. "
    "The rest follows the runtimes' documentation and was not compiled: try it before you rely on it."
)


def labels_text(graphs: Sequence[Graph], meta: JSONObject) -> str:
    """The name of each score of a bundle, one a line, in order, exactly as it is. Raises DataError as label_lines."""
    return label_lines(_labels(graphs))


def _labels(graphs: Sequence[Graph]) -> list[str]:
    return [name for graph in graphs for port in graph.outputs for name in port.labels]


def digest() -> str:
    """Of what manuals are made from: after a change in it a bundle is compiled again."""
    held = hashlib.sha256()
    for file in (Path(__file__), *sorted(HOME.iterdir())):
        held.update(file.read_bytes())
    return held.hexdigest()[:8]


def manual(bundle: Bundle) -> str:
    """README.md."""
    meta: dict[str, Any] = dict(bundle.meta)
    runtime = pick(handful.device.runtimes, "runtime", bundle.runtime)
    half = _paragraph(str(runtime.__doc__), "fp16:") if bundle.precision == "fp16" else ""
    parts = [
        f"# {meta['name']}",
        f"A model that {WHAT.get(bundle.task, 'looks at an image')}, compiled by handful {meta['handful']} for "
        f"{bundle.runtime}, {bundle.precision}. This folder is all that an app needs; `{MANIFEST}` says the same for "
        "programs.",
        half,
        _files(bundle),
        "## What goes in, what comes out",
        _ports(bundle),
        "Shapes are fixed. " + (f"An image here is {meta['takes']}." if "takes" in meta else ""),
        _steps("## Before", meta["preprocessing"]),
        *_between(meta),
        _steps("## After", meta["postprocessing"]),
        _named(bundle),
        _with_handful(bundle),
        *_code(bundle),
        "## How far this was tried",
        TRIED,
        "`handful device compare MODEL` holds a compiled model against PyTorch, on your own photographs.",
        "## License",
        f"Of the network and its weights: see `card` in `{MANIFEST}`. The code in this file: Apache-2.0, as handful.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraph(text: str, begins: str) -> str:
    found = next((part[part.index(begins) :] for part in text.split("\n\n") if begins in part), "")
    return " ".join(found.split())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _files(bundle: Bundle) -> str:
    rows = [[f"`{graph.folder}/{name}`".replace("`/", "`"), f"the graph `{graph.name}`"] for graph in bundle.graphs
            for name in graph.files]  # fmt: skip
    rows += [[f"`{LABELS}`", "the name of each score, one a line"], [f"`{MANIFEST}`", "all of this for programs"],
             [f"`{README}`", "this file"]]  # fmt: skip
    return _table(["file", ""], rows)


def _ports(bundle: Bundle) -> str:
    rows = []
    for graph in bundle.graphs:
        for what, ports in (("in", graph.inputs), ("out", graph.outputs)):
            for i, port in enumerate(ports):
                own = f"`{port.file_name}`" if port.file_name else f"no name: number {i}"
                rows.append([f"`{graph.name}`", what, f"`{port.name}`", own, _kind(port)])
    return _table(["graph", "", "name", "in the file", "type and shape"], rows)


def _kind(port: Port) -> str:
    shape = f"{port.dtype} ({', '.join(map(str, port.shape))})"
    return shape + (
        ", RGB" if port.dtype == "uint8" else f", {counted(len(port.labels), 'label')}" if port.labels else ""
    )


def _steps(title: str, said: dict[str, Any]) -> str:
    return "\n".join([title, "", *(f"{i}. {step}" for i, step in enumerate(said["steps"], 1))])


def _between(meta: dict[str, Any]) -> list[str]:
    plan = meta.get("plan")
    if not plan:
        return []
    return [_steps("## How the graphs go together", plan),
            f"Names in these steps are constants in `plan` of `{MANIFEST}`. A program that does all this, in NumPy and "
            "Pillow, is `handful/detection/compiled.py` with the files beside it, Apache-2.0."]  # fmt: skip


def _named(bundle: Bundle) -> str:
    names = _labels(bundle.graphs)
    more = f", ... {len(names)} in all" if len(names) > SHOWN else ""
    return f"`{LABELS}`, in order: {', '.join(names[:SHOWN])}{more}."


def _with_handful(bundle: Bundle) -> str:
    extra = pick(handful.device.runtimes, "runtime", bundle.runtime).RUN_EXTRA
    torch = "" if bundle.runtime in ("executorch", "torch") else " (no torch is installed)"
    asked = {"classify": ".label", "segment": ".shares", "detect": ".rows()"}.get(bundle.task, "")
    code = f'import handful\n\nmodel = handful.load(".")\nprint(model.predict("photo.jpg")[0]{asked})'
    return (
        f"## Python with handful\n\n`pip install 'handful[{extra}]'`{torch}, in this folder:\n\n```python\n{code}\n```"
    )


def _code(bundle: Bundle) -> list[str]:
    graph, several = bundle.graphs[0], len(bundle.graphs) > 1
    home = HOME / f"{bundle.runtime}.md"
    if not home.exists():  # a runtime whose code nobody has written yet
        return []
    text = home.read_text(encoding="utf-8").strip()
    sections = re.split(r"\n(?=## )", text)
    if several and bundle.runtime != "torch":
        sections = [one for one in sections if not one.startswith("## Python")]
        sections.insert(0, f"The code that follows runs one graph, `{graph.name}`; the others are run in the same way.")
    values = _values(bundle.task, graph)
    return [_filled(section.strip(), values) for section in sections]


def _values(task: str, graph: Graph) -> dict[str, str]:
    """What the code of a bundle's first graph is filled in with."""
    image, out = graph.inputs[0], graph.outputs[0]
    _, height, width, _ = image.shape
    rows, columns = out.shape[-2:]
    at = f"{graph.folder}/" if graph.folder else ""
    return {
        **_shared(task), "WIDTH": str(width), "HEIGHT": str(height), "TWICE_WIDTH": str(2 * width),
        "TWICE_HEIGHT": str(2 * height), "INPUT": image.file_name or image.name, "OUTPUT": out.file_name or out.name,
        "OUTPUT_AT": "0", "VALUES": str(math.prod(out.shape)), "ROWS": str(rows), "COLUMNS": str(columns),
        "FILE": at + graph.files[-1], "ASSET": at + graph.files[-1],
    }  # fmt: skip


def _shared(task: str) -> dict[str, str]:
    """The parts of help.md: those of every task, and those of one."""
    found = {}
    for part in re.split(r"^# ", (HOME / "help.md").read_text(encoding="utf-8"), flags=re.M)[1:]:
        title, _, body = part.partition("\n")
        of, _, name = title.rpartition(" ")
        if of in ("", task):
            found[name] = body.rstrip("\n")
    return found


def _filled(text: str, values: dict[str, str]) -> str:
    for _ in range(2):  # what is put in may hold names of its own
        text = re.sub(r"@([A-Z_]+)@", lambda found: values.get(found[1], found[0]), text)
    return text
