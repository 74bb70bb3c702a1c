"""A taught detector compiled: one folder a graph, and detector.json, which says how they go together.

DETECTOR/compiled/RUNTIME-PRECISION/
  detector.json   classes, the steps between the graphs and their constants, the graphs' inputs and outputs
  artefact.json   what every compiled model has: hashes, versions, sizes
  propose/  again/  features/  crops/  head/     those there are, each with graph.json and the runtime's own file
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.device.runtimes.contract import PLAN, Graph
from handful.device.targets.worker import Job, run_job
from handful.files import write_json

TIMEOUT_S = 3600.0


def make(model: Path, to: Path, runtime: str, precision: str) -> dict[str, Any]:
    """Compile every graph of a detector into the folder `to`, in a process of its own, and write detector.json.

    Returns what handful.device.compile adds to artefact.json. Raises as compile_model; DataError for a detector whose
    source of boxes cannot be compiled, before anything is.
    """
    done = run_job(Job("compile", runtime, str(model), str(to), precision), timeout_s=TIMEOUT_S)
    plan, facts = done.facts["plan"], done.facts["facts"]
    graphs = [{"name": name, **_edges(Graph.read(to / name))} for name in facts]
    write_json(to / PLAN, {**plan, "runtime": runtime, "precision": precision, "graphs": graphs})
    return {
        "inputs": graphs[0]["inputs"], "outputs": graphs[-1]["outputs"], "graphs": graphs, "layers": [],
        "compile_seconds": round(float(done.facts["seconds"]), 2), "compile_peak_rss_mb": done.peak_rss_mb,
        "facts": facts,
    }  # fmt: skip


def _edges(graph: Graph) -> dict[str, Any]:
    return {
        "inputs": [port.to_json() for port in graph.inputs],
        "outputs": [
            {"name": name, "shape": list(shape), "dtype": "float32"}
            for name, shape in zip(graph.outputs, graph.shapes, strict=True)
        ],
    }
