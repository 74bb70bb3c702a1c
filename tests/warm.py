"""Jobs' child processes, forked from one that has PyTorch in it.

Importing PyTorch and timm takes four seconds of processor time, a phone runtime's converter up to five more, and the
suite does some hundred jobs. What a job does is the same; how its process ends, and that a fresh one is enough, is
tested without this (tests/device/test_job.py and the tests of the command). Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib
import io
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from handful.device.targets import job
from handful.files import sha256

# what a compile imports and does not use before: before the first that needs it, in the process that forks them all
CONVERTERS = {
    "onnxruntime": ("onnx", "onnxscript", "networkx", "torch._dynamo", "torch.onnx._internal.exporter._core"),
    "executorch": ("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch.devtools.backend_debug"),
    "litert": ("litert_torch",),
}
# what a converter works out anew in each process, whatever the network: of ExecuTorch's ten seconds, three
GRAPHS = "executorch.backends.xnnpack.partition.graphs"
PATTERNS = {"executorch": (f"{GRAPHS}.bilinear_2d", f"{GRAPHS}.sdpa")}
COMPILE = (*CONVERTERS, "ncnn")
CHILD = Path(__file__).parent / "device" / "child.py"  # with the tests' own runtimes and networks
COLD = job._spawn
FACTS = "facts.json"  # beside a network that was compiled: what its runtime told of it


class Kept:
    """What was compiled in this session, by all that goes in: the same model is compiled again by many pages and tests,
    and a converter takes ten seconds of it. Only what succeeded is kept; planted runtimes never are."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def key(self, folder: Path) -> Path | None:
        """Where the result of a job is kept; None of a job that is no compile of a model folder."""
        told = json.loads((folder / job.JOB).read_text()) if (folder / job.JOB).exists() else {"do": ""}
        if told["do"] != "compile" or not (model := Path(told["model"])).is_dir():
            return None
        files = sorted(f for f in model.rglob("*") if f.is_file() and f.relative_to(model).parts[0] != "compiled")
        held = {str(file.relative_to(model)): _told(file) for file in files}
        ways = {name: bool(told[name]) for name in ("taps", "base", "taps_base")}
        about = [told["exporter"], told["runtime"], told["precision"], told["threads"], ways, held]
        return self.place / hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def give(self, kept: Path, folder: Path) -> None:
        """Do as the job would have done."""
        told = json.loads((folder / job.JOB).read_text())
        for name in ("to", "taps"):
            if told[name]:
                shutil.copytree(kept / name, told[name], dirs_exist_ok=True)
        for name in (job.LOG, job.RESULT):
            shutil.copyfile(kept / name, folder / name)

    def take(self, kept: Path, folder: Path) -> None:
        """Keep what a job has done."""
        told = json.loads((folder / job.JOB).read_text())
        kept.mkdir(parents=True)
        for name in ("to", "taps"):
            if told[name]:
                shutil.copytree(told[name], kept / name)
        for name in (job.LOG, job.RESULT):
            shutil.copyfile(folder / name, kept / name)


class Remembered:
    """A runtime that compiles no network twice: a detector's are the same but for its memory, whoever taught it. Asked
    in a job's process; a job that is kept whole never comes here."""

    def __init__(self, runtime: Any, place: Path) -> None:
        self.runtime = runtime
        self.place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def compile(self, network: Any, to: Path, precision: str, base: Path | None = None) -> Any:
        kept = self.place / self.key(network, precision, base)
        if not kept.exists():
            made = kept.with_name(f"{kept.name}-{os.getpid()}")
            made.mkdir(parents=True)
            facts = self.runtime.compile(network, made, precision, base)
            (made / FACTS).write_text(json.dumps(facts))
            made.rename(kept)
        shutil.copytree(kept, to, ignore=shutil.ignore_patterns(FACTS), dirs_exist_ok=True)
        return json.loads((kept / FACTS).read_text())

    def key(self, network: Any, precision: str, base: Path | None) -> str:
        """Of all that goes in: the network with its weights and all else it holds, and the files fp16 is made of."""
        import torch

        held = io.BytesIO()
        torch.save(network, held)
        told = [self.runtime.__name__, precision, base and [(f.name, sha256(f)) for f in sorted(base.iterdir())]]
        return hashlib.sha256(held.getvalue() + json.dumps(told).encode()).hexdigest()


class Warm:
    """A process that forks one for each job."""

    def __init__(self, remembered: Path | None = None, imported: tuple[str, ...] = ("timm", "torch.export")) -> None:
        self.remembered = remembered  # where networks that were compiled are kept
        self.imported = imported
        self.server: subprocess.Popen[bytes] | None = None
        self.lock = threading.Lock()

    def ask(self, request: dict[str, Any], timeout_s: float) -> int | None:
        """Exit code of the job's process (negative: a signal); None when it was killed after the time was up."""
        with self.lock:
            if self.server is None or self.server.poll() is not None:
                command = [sys.executable, "-m", "tests.warm", *self.imported]
                env = {
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([str(CHILD.parents[2]), *filter(None, sys.path)]),
                }
                self.server = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self.server.stdin is not None and self.server.stdout is not None
            request = {**request, "remembered": str(self.remembered) if self.remembered else None}
            self.server.stdin.write(json.dumps(request).encode() + b"\n")
            self.server.stdin.flush()
            pid = int(self.server.stdout.readline())
            ended = True
            try:
                ended = bool(select.select([self.server.stdout], [], [], timeout_s)[0])
            except BaseException:
                _kill(pid)
                self.server.stdout.readline()
                raise
            if not ended:
                _kill(pid)
            code = int(self.server.stdout.readline())
            return code if ended else None

    def close(self) -> None:
        if self.server is not None:
            self.server.communicate()
            self.server = None


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _told(file: Path) -> str:
    """A file's hash, but for how long teaching took."""
    lines = [line for line in file.read_bytes().splitlines() if not line.startswith(b'    "seconds": ')]
    return hashlib.sha256(b"\n".join(lines)).hexdigest() if file.suffix == ".json" else sha256(file)


def spawner(warm: Warm, kept: Kept | None = None) -> Any:
    """In the place of handful.device.targets.job._spawn. kept: what is not compiled a second time."""

    def spawn(folder: Path, threads: int, timeout_s: float) -> int | None:
        planted = [sys.executable, str(CHILD)] == job.COMMAND
        if not planted and job.COMMAND[1:] != ["-m", "handful.device.targets.worker"]:
            return COLD(folder, threads, timeout_s)
        place = kept.key(folder) if kept is not None and not planted else None
        if kept is not None and place is not None and place.exists():
            kept.give(place, folder)
            return 0
        env = job._environment(threads)
        code = warm.ask({"folder": str(folder), "env": env, "planted": planted, "threads": threads}, timeout_s)
        if kept is not None and place is not None and code == 0:
            kept.take(place, folder)
        return code

    return spawn


def _end_with(parent: int) -> None:
    while os.getppid() == parent:  # the kernel's own signal would come when the thread ends that started this one
        time.sleep(0.5)
    os._exit(1)


def _do(request: dict[str, Any]) -> int:
    """A job, in the process forked for it."""
    folder = Path(request["folder"])
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    os.chdir(folder)
    log = os.open(folder / job.LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for at, to in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(at, to)
    os.environ.clear()
    os.environ.update({**request["env"], job.PARENT: str(os.getppid())})
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(request["threads"])
    if request["remembered"]:
        _remember(Path(request["remembered"]))
    try:
        if request["planted"]:
            sys.argv = [str(CHILD), str(folder)]
            runpy.run_path(str(CHILD), run_name="__main__")
        from handful.device.targets.worker import main

        return main(folder)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1


def _remember(place: Path) -> None:
    """Networks are compiled once by the runtimes that handful comes with; planted ones are asked each time."""
    from handful.device.targets import worker

    plain = worker.runtime_of

    def runtime_of(name: str, **wanted: Any) -> Any:
        runtime = plain(name, **wanted)
        return Remembered(runtime, place) if name in COMPILE else runtime

    worker.runtime_of = runtime_of


def _prepare(folder: Path) -> None:
    """Import and work out what the job in a folder is going to need; what is wrong with it is for the job to say."""
    with contextlib.suppress(Exception):
        told = json.loads((folder / job.JOB).read_text())
        if told["do"] == "compile":
            for name in CONVERTERS.get(told["runtime"], ()):
                importlib.import_module(name)
            for name in PATTERNS.get(told["runtime"], ()):
                importlib.import_module(name).get_graphs()


def _serve() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _prepare(Path(request["folder"]))
        gc.freeze()  # else the first collection of every job reads, and so copies, all that is shared
        pid = os.fork()
        if pid == 0:
            code = _do(request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(pid, file=answers)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers)


if __name__ == "__main__":
    _serve()
