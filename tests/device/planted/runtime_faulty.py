"""PyTorch with the fault the environment variable PLANTED names: what a comparison must notice."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph
from handful.device.runtimes import runtime_torch

MODULES: tuple[str, ...] = ()
EXTRA = "none"
RUNS: tuple[str, ...] = ()
RUN_EXTRA = "none"
PRECISIONS: tuple[str, ...] = ("fp32",)
TAKES = "nothing"
FOLDS = runtime_torch.FOLDS


def compile(network: Any, to: Path, precision: str, base: Path | None = None) -> dict[str, Any]:
    if os.environ["PLANTED"] == "compile":
        raise RuntimeError("operator 'frobnicate' is not supported")
    return runtime_torch.compile(copy.deepcopy(network), to, precision)


def named(folder: Path, graph: Graph) -> Graph:
    return graph


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Any = None) -> Any:
    return Session(runtime_torch.load(folder, graph, threads=threads, rebuild=rebuild))


class Session:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kind = os.environ["PLANTED"]
        if kind == "bgr" and "image" in feed:
            feed = {"image": feed["image"][..., ::-1].copy()}
        out: dict[str, np.ndarray] = self.inner.run(feed)
        if kind == "nan":
            out["scores"] = out["scores"] * np.nan
        return out


def versions() -> dict[str, str]:
    return {"faulty": "1"}
