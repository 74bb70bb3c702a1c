"""Programs of tests that need PyTorch, each in a process of its own: forked from one that has imported what trainings
import and has done nothing else, as importing takes four seconds of processor time each."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from handful.parallel import one_thread_each

IMPORTED = ["torch", "timm", "torchvision", "accelerate", "torch._dynamo", "cv2", "matplotlib.figure", "safetensors"]


def settle() -> None:
    """What the one process that forks has imported; before anything is forked, since nothing changes it after."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)


class Program:
    """Code that runs elsewhere with `words` as its arguments, as `python -c` would, and what it says."""

    def __init__(self, code: str, *words: str, env: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        self.folder = tempfile.TemporaryDirectory()
        self.process = context.Process(target=_run, args=(code, words, dict(env), self.folder.name))
        with one_thread_each():
            self.process.start()

    def end(self, timeout_s: float) -> tuple[int | None, str, str]:
        """(exit code, what it printed, what it complained of); it is killed, and the code None, after that time."""
        self.process.join(timeout_s)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        with self.folder:
            out, err = (Path(self.folder.name, name).read_text() for name in ("out", "err"))
        return code, out, err


def _run(code: str, words: tuple[str, ...], env: dict[str, str], folder: str) -> None:
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(env)
    sys.argv = ["-c", *words]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
