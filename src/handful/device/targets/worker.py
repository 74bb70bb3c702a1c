"""Compile, run and time in a process of its own: a crash, a thread pool or a memory peak there is not ours.

A job is a folder:

  job.json     what to do, the fields of `Job`                  written by the parent
  in.npz       frames, uint8 (n, h, w, 3) RGB, when needed       written by the parent
  log.txt      all the child printed                             written by the child
  out.npz      one array an output, (n, ...) float32             written by the child
  result.json  facts, times and peak memory, or the error        written by the child, last

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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

import handful
import handful.device.runtimes
from handful import errors
from handful.device.network import is_detector, network_of
from handful.errors import CompileError, DataError, DeviceError, HandfulError
from handful.files import read_json, replacing, write_json
from handful.pick import need, pick, present, unknown

Frames = np.ndarray | Sequence[np.ndarray]
SCHEMA_VERSION = 1
COMMAND = [sys.executable, "-m", "handful.device.targets.worker"]
JOB, IN, LOG, OUT, RESULT = "job.json", "in.npz", "log.txt", "out.npz", "result.json"
TAPS = "taps"  # folder, in an artefact, of the variant whose further outputs are its layers
GRAPH_IS = "compiling the graph "
PARENT = "HANDFUL_JOB_PARENT"  # process id
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

    do: "compile" the model into `artefact`, and with `taps` a variant with its layers into artefact/taps;
    "reference": run the model's own network in PyTorch over the frames; "run" the artefact over the frames;
    "measure": run it `warmup` + `runs` times, cycling through the frames. For a taught detector, whose frames are
    photos of any size, "compile" makes all its graphs; "detect": what it finds in photos, compiled where `artefact` is
    given; "graphs": each compiled graph held against PyTorch's.
    layers: for "reference", layers whose values are also wanted, of the first `layer_frames` frames.
    """

    do: str
    runtime: str
    model: str
    artefact: str = ""
    precision: str = "fp32"
    taps: bool = False
    layers: tuple[str, ...] = ()
    layer_frames: int = 0
    threads: int = 1
    warmup: int = 0
    runs: int = 0

    def __post_init__(self) -> None:
        if self.do not in TASKS:
            raise unknown("job", self.do, TASKS)
        if self.threads < 1:
            raise DataError(f"threads must be 1 or more, got {self.threads}")


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a job. facts: plain values. outputs: name -> (n, ...) float32. seconds: of the whole process."""

    facts: dict[str, Any]
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    peak_rss_mb: float | None = None


# ---------------------------------------------------------------- the parent


def run_job(job: Job, frames: Frames | None = None, *, timeout_s: float = 900.0) -> Done:
    """Do a job in a child process and wait for it. frames: of one size, or for a detector photos of any.

    Raises what the child raised when that was one of handful's own errors; otherwise CompileError (for "compile") or
    DeviceError, saying which runtime, how the process ended, its last words, and the command that repeats it.
    """
    kind = CompileError if job.do == "compile" else DeviceError
    folder = Path(tempfile.mkdtemp(prefix="handful-job-"))
    keep = False
    try:
        write_json(folder / JOB, {"schema_version": SCHEMA_VERSION, **asdict(job)})
        if frames is not None:
            many = isinstance(frames, np.ndarray)
            np.savez(folder / IN, **({"frames": frames} if many else {f"p{i}": one for i, one in enumerate(frames)}))
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
            raise kind(f"{job.runtime}: the {what} {how}; {_last_words(folder)}; to repeat it: {again}")
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


# ---------------------------------------------------------------- the child


def main(folder: Path) -> int:
    """Do the job in a folder; 0 when result.json holds facts, 3 when it holds one of handful's own errors."""
    import faulthandler

    faulthandler.enable()
    if PARENT in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[PARENT]),), daemon=True).start()
    value = read_json(folder / JOB)
    known = {one.name for one in fields(Job)}
    told: dict[str, Any] = {name: item for name, item in value.items() if name in known}
    job = Job(**{**told, "layers": tuple(told["layers"])})
    frames: Any = None
    if (folder / IN).exists():
        with np.load(folder / IN, allow_pickle=False) as arrays:
            frames = arrays["frames"] if "frames" in arrays else [arrays[f"p{i}"] for i in range(len(arrays))]
    try:
        facts, outputs = TASKS[job.do](job, frames)
    except HandfulError as error:
        write_json(folder / RESULT, {"error": {"class": type(error).__name__, "text": str(error)}})
        return 3
    if outputs:
        with replacing(folder / OUT) as part, open(part, "wb") as file:
            np.savez(file, **{f"o{i}": array for i, array in enumerate(outputs.values())})  # type: ignore[arg-type]
    write_json(folder / RESULT, {"facts": facts, "outputs": list(outputs), "peak_rss_mb": peak_rss_mb()})
    return 0


def _end_with(parent: int) -> None:
    """Stop this process and all it started once the parent is gone, even if that was killed without a word."""
    while os.getppid() == parent:
        time.sleep(1)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


Results = tuple[dict[str, Any], dict[str, np.ndarray]]


def _compile(job: Job, frames: np.ndarray | None) -> Results:
    from handful.device.runtimes.contract import Graph
    from handful.device.taps import Tapped, tap_names

    runtime, to = _runtime(job), Path(job.artefact)
    if is_detector(Path(job.model)):
        return _compile_graphs(job, runtime, to)
    network = network_of(Path(job.model))
    Graph.of(network).write(to)
    start = time.perf_counter()
    report = {"facts": runtime.compile(network, to, job.precision), "seconds": time.perf_counter() - start}
    layers = tap_names(network) if job.taps else []
    if job.taps:
        (to / TAPS).mkdir()
        tapped = Tapped(network, layers)
        Graph.of(tapped).write(to / TAPS)
        runtime.compile(tapped, to / TAPS, job.precision)
    return {**report, "layers": layers}, {}


def _compile_graphs(job: Job, runtime: Any, to: Path) -> Results:
    from handful.detection import graphs
    from handful.detection.irene import Irene
    from handful.device.runtimes.contract import Graph

    irene = Irene.load(Path(job.model))
    plan, facts, start = graphs.plan(irene), dict[str, Any](), time.perf_counter()
    for name, part in graphs.parts(irene).items():
        print(f"{GRAPH_IS}{name}", flush=True)  # for run_job, should this process die
        (to / name).mkdir()
        Graph.of(part).write(to / name)
        facts[name] = runtime.compile(part, to / name, job.precision)
    return {"plan": plan, "facts": facts, "seconds": time.perf_counter() - start}, {}


def _reference(job: Job, frames: np.ndarray | None) -> Results:
    import torch

    from handful.device.taps import Tapped, as_tuple

    torch.set_num_threads(job.threads)
    network = network_of(Path(job.model))

    def caller(network: Any) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        def call(image: np.ndarray) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                outputs = as_tuple(network(torch.from_numpy(image)))
            return {name: out.numpy().copy() for name, out in zip(network.output_names, outputs, strict=True)}

        return call

    outputs = _over(frames, caller(network))
    if job.layers and frames is not None:
        outputs = {**_over(frames[: job.layer_frames], caller(Tapped(network, job.layers))), **outputs}
    return {}, outputs


def _run(job: Job, frames: np.ndarray | None) -> Results:
    session = _runtime(job).load(Path(job.artefact), threads=job.threads)
    return {}, _over(frames, lambda image: session.run({"image": image}))


def _measure(job: Job, frames: np.ndarray | None) -> Results:
    runtime = _runtime(job)
    if frames is None or not len(frames):
        raise DataError("no frames to measure with")
    start = time.perf_counter()
    session = runtime.load(Path(job.artefact), threads=job.threads)
    load_ms = (time.perf_counter() - start) * 1000
    times_ms = []
    for i in range(1 + job.warmup + job.runs):
        feed = {"image": frames[i % len(frames)][None]}
        start = time.perf_counter()
        session.run(feed)
        times_ms.append((time.perf_counter() - start) * 1000)
    return {"load_ms": load_ms, "first_ms": times_ms[0], "times_ms": times_ms[1 + job.warmup :]}, {}


def _detect(job: Job, frames: Any) -> Results:
    import torch

    from handful.detection.irene import Irene
    from handful.detection.scoring import MIN_SCORE
    from handful.device.detector import OnDevice
    from handful.device.lab.agreement import packed

    torch.set_num_threads(job.threads)
    compiled = bool(job.artefact)
    detector: Any = OnDevice.load(Path(job.artefact), threads=job.threads) if compiled else Irene.load(Path(job.model))
    # also what is too doubtful to be told: the more boxes, the more a comparison sees
    return {}, packed([detector.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in frames])


def _graphs(job: Job, frames: Any) -> Results:
    from handful.detection import graphs
    from handful.detection.irene import Irene
    from handful.device.detector import OnDevice
    from handful.device.lab.agreement import graphs_beside

    detector = OnDevice.load(Path(job.artefact), threads=job.threads)
    reference = graphs.parts(Irene.load(Path(job.model)))
    return {"graphs": graphs_beside(detector, reference, frames)}, {}


TASKS: dict[str, Callable[[Job, np.ndarray | None], Results]] = {
    "compile": _compile,
    "reference": _reference,
    "run": _run,
    "measure": _measure,
    "detect": _detect,
    "graphs": _graphs,
}


def _runtime(job: Job) -> Any:
    runtime = pick(handful.device.runtimes, "runtime", job.runtime)
    for module in runtime.MODULES:
        # imported by the runtime itself, where it needs it: a converter's memory is not the runtime's
        if not present(module):
            need(module, runtime.EXTRA)
    return runtime


def _over(frames: np.ndarray | None, call: Callable[[np.ndarray], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if frames is None or not len(frames):
        raise DataError("no frames to run on")
    rows = [call(frame[None]) for frame in frames]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def peak_rss_mb() -> float | None:
    """The most memory this process has held, in MB of 10^6 bytes; None where the system does not say."""
    with contextlib.suppress(OSError):
        # not ru_maxrss on Linux: it survives exec, so a child would report its parent's size
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.M)
        if found:
            return int(found[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
