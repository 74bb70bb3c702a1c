"""A runtime that fails in the way the environment variable PLANTED names."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from handful.bundle import Graph
from handful.errors import CompileError

MODULES: tuple[str, ...] = ()
EXTRA = "none"
RUNS: tuple[str, ...] = ()
RUN_EXTRA = "none"
PRECISIONS: tuple[str, ...] = ("fp32",)
TAKES = "nothing"


def load(folder: Path, graph: Graph, *, threads: int, rebuild: Any = None) -> Any:
    kind = os.environ["PLANTED"]
    print("about to do", kind, flush=True)
    if kind in ("SIGSEGV", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, kind))
    if kind == "hang":
        # a grandchild must go too
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (folder / "sleeper").write_text(str(sleeper.pid), encoding="ascii")
        time.sleep(600)
    if kind == "raise":
        raise RuntimeError("operator 'frobnicate' is not supported")
    if kind == "own":
        raise CompileError("no room for 12 layers; use fewer")
    if kind == "exit":
        os._exit(7)
    return Session()


class Session:
    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if os.environ["PLANTED"] == "memory":
            np.ones(300_000_000, np.uint8)
        time.sleep(0.001)
        return {"scores": feed["image"].astype(np.float32).mean(axis=(1, 2)), "none": np.zeros((1, 1), np.float32)}


def versions() -> dict[str, str]:
    return {"broken": "1"}
