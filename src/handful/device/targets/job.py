"""Compile, run and time in a process of its own: a crash, a thread pool or a memory peak there is not ours.

A job is a folder:

  job.json     what to do, the fields of `Job`                         written by the parent
  in.npz       feeds or photographs, when needed                       written by the parent
  log.txt      all the child printed                                   written by the child
  out.npz      one array an output                                     written by the child
  result.json  facts, times and peak memory, or the error              written by the child, last

`python -m handful.device.targets.worker FOLDER` does the job again, which is how a crash is looked into.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import handful
from handful import errors
from handful.errors import CompileError, DataError, DeviceError, HandfulError
from handful.files import read_json, write_json
from handful.pick import unknown

Feed = Mapping[str, np.ndarray]  # {input: array of its port's shape and dtype}
SCHEMA_VERSION = 2
COMMAND = [sys.executable, "-m", "handful.device.targets.worker"]
JOB, IN, LOG, OUT, RESULT = "job.json", "in.npz", "log.txt", "out.npz", "result.json"
GRAPH_IS = "compiling the graph "
PARENT = "HANDFUL_JOB_PARENT"  # process id
TASKS = ("compile", "reference", "run", "answers", "beside")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Job:
    """What a child process does.

    do: "compile" what `exporter` makes of the folder `model` for `runtime` into the folder `to`, and with `taps` a
    variant of its one graph with its layers into that folder; base, taps_base: where fp32 of both lies, if it does;
    "reference": run that graph in PyTorch over the feeds;
    "run" a graph of a bundle over the feeds, `runs` times in all, cycling through them, or once each where it is 0;
    "answers": what the whole model says of photographs, `program` with the bundle's graphs, or `reference` without a
    bundle; "beside": the same with PyTorch's graphs, while each compiled one is held against them.
    exporter, program, reference: "module:function", see handful.device.compile.ModelSource. layers: for "reference",
    layers whose values are also wanted, of the first `layer_feeds` feeds.
    """

    do: str
    runtime: str = ""
    model: str = ""
    exporter: str = ""
    program: str = ""
    reference: str = ""
    bundle: str = ""
    to: str = ""
    base: str = ""
    precision: str = "fp32"
    taps: str = ""
    taps_base: str = ""
    graph: str = ""
    layers: tuple[str, ...] = ()
    layer_feeds: int = 0
    threads: int = 1
    runs: int = 0

    def __post_init__(self) -> None:
        if self.do not in TASKS:
            raise unknown("job", self.do, TASKS)
        if self.threads < 1:
            raise DataError(f"threads must be 1 or more, got {self.threads}")


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a job. facts: plain values. outputs: name -> float32. seconds: of the whole process."""

    facts: dict[str, Any]
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    peak_rss_mb: float | None = None


def run_job(
    job: Job, feeds: Sequence[Feed] = (), photos: Sequence[np.ndarray] = (), *, timeout_s: float = 900.0
) -> Done:  # fmt: skip
    """Do a job in a child process and wait for it. photos: uint8 (h, w, 3) RGB of any size.

    Raises what the child raised when that was one of handful's own errors; otherwise CompileError (for "compile") or
    DeviceError, saying which runtime, how the process ended, its last words, and the command that repeats it.
    """
    kind = CompileError if job.do == "compile" else DeviceError
    folder = Path(tempfile.mkdtemp(prefix="handful-job-"))
    keep = False
    try:
        write_json(folder / JOB, {"schema_version": SCHEMA_VERSION, **asdict(job)})
        given = {f"{i}/{name}": array for i, feed in enumerate(feeds) for name, array in feed.items()}
        given |= {f"photo/{i}": one for i, one in enumerate(photos)}
        if given:
            np.savez(folder / IN, **given)  # type: ignore[arg-type]
        start = time.perf_counter()
        ended = _spawn(folder, job.threads, timeout_s)
        seconds = time.perf_counter() - start
        result = read_json(folder / RESULT) if (folder / RESULT).exists() else {}
        if "error" in result:
            raise _own_error(result["error"])
        if ended is None or "facts" not in result:
            keep = True
            how = f"did not end within {timeout_s:g} s and was stopped" if ended is None else _cause(ended)
            again = shlex.join([*COMMAND, str(folder)])
            at = re.findall(rf"^{GRAPH_IS}(\w+)$", (folder / LOG).read_text(encoding="utf-8", errors="replace"), re.M)
            what = f"{job.do} process" + (f" of the graph {at[-1]}" if at else "")
            raise kind(f"{job.runtime or 'torch'}: the {what} {how}; {_last_words(folder)}; to repeat it: {again}")
        outputs = {}
        if (folder / OUT).exists():
            with np.load(folder / OUT, allow_pickle=False) as arrays:
                outputs = {name: arrays[f"o{i}"] for i, name in enumerate(result["outputs"])}
        return Done(result["facts"], outputs, seconds, result.get("peak_rss_mb"))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _spawn(folder: Path, threads: int, timeout_s: float) -> int | None:
    """The exit code (negative: a signal), or None after the time is up. Never leaves the child running."""
    with open(folder / LOG, "wb") as log:
        child = subprocess.Popen(
            [*COMMAND, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,  # converters leave files where they run
            env=_environment(threads),
            start_new_session=True,
        )
        try:
            return child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _kill(child)
            return None
        except BaseException:  # Ctrl-C does not reach a process group of its own
            _kill(child)
            raise


def _kill(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)  # converters start programs of their own
        elif child.poll() is None:
            child.kill()
    child.wait()


def _environment(threads: int) -> dict[str, str]:
    env = {
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
        PARENT: str(os.getpid()),
    }
    home = str(Path(handful.__file__).resolve().parents[1])
    if home != sysconfig.get_paths()["purelib"]:
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (home, env.get("PYTHONPATH"))))
    return env


def _own_error(error: Mapping[str, Any]) -> HandfulError:
    kind = getattr(errors, str(error.get("class")), HandfulError)
    if not (isinstance(kind, type) and issubclass(kind, HandfulError)):
        kind = HandfulError
    return kind(str(error.get("text")))


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}" + ("" if code else " but left no result")
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _last_words(folder: Path) -> str:
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if re.search(r"\w", line) and not line.startswith(" ")]
    telling = [line for line in lines if re.search(r"error|exception|fatal|fail|not supported|unsupported", line, re.I)]
    words = (telling or lines)[-1:]
    return f"its last words: {words[0][:300]}" if words else "it said nothing"
