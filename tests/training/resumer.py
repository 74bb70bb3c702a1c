"""Trains in a child that is killed, again and again, until it is done. Run by test_resume.py as a program of its own.

PLANS is JSON: [{"data", "out", "kills", "run"}, ...], a kill ["after", step, seconds after its checkpoint is there] or
["call", n, "before" or "after" the n-th file is moved to its place]. The child is forked when all is imported and
nothing has run yet, so that each try costs no imports. Prints a JSON line a plan: [{"how", "status", "steps": names of
the checkpoints after the try}, ...].
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

import handful.files
from handful.training import recipe_segment
from tests.training.made import known

ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
known()
for module in ("handful.models.net_stub", "handful.data.format_masks", "matplotlib.backends.backend_agg", "cv2",
               "matplotlib.figure", "PIL.PngImagePlugin", "safetensors.numpy", "torch._dynamo"):  # fmt: skip
    importlib.import_module(module)  # so that forked children need not


def kill_at_call(number: int, when: str) -> None:
    """SIGKILL this process before or after the n-th time that a file or folder is moved to its place."""
    real, calls = os.replace, [0]

    def replace(source: object, target: object) -> None:
        calls[0] += 1
        if calls[0] == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)  # type: ignore[call-overload]
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    handful.files.os.replace = replace  # type: ignore[assignment]


def followed(plan: dict[str, Any]) -> list[dict[str, Any]]:
    data, out = Path(plan["data"]), Path(plan["out"])
    run, tries = out.with_name(f"{out.name}.run"), []
    for how in [*plan["kills"], None]:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if how and how[0] == "call":
                    kill_at_call(*how[1:])
                recipe_segment.run(data, out, resume=True, **plan["run"])
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        if how and how[0] == "after":
            last = f"step-{how[1]:08d}"
            while not any(p.name >= last for p in run.glob("step-*")) and not os.waitid(os.P_PID, child, ENDED):
                time.sleep(0.001)
            time.sleep(how[2])
            os.kill(child, signal.SIGKILL)
        _, code = os.waitpid(child, 0)
        steps = sorted(p.name for p in run.glob("step-*")) if run.exists() else []
        tries.append({"how": how, "status": os.waitstatus_to_exitcode(code), "steps": steps})
    return tries


if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in json.loads(sys.argv[1]):
        print(json.dumps(followed(one)), flush=True)
