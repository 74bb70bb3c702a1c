"""What the networks run on, on this machine: ONNX Runtime where it is installed, PyTorch else. One switch.

ONNX Runtime is two to three times as fast on a processor, and a command that needs no PyTorch starts seconds sooner.
Both give the same answers; what differs is the last digits of a score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from handful.errors import DeviceError, MissingPackage
from handful.pick import need, present, unknown
from handful.progress import warn

T = TypeVar("T")
NAMES = ("auto", "onnxruntime", "torch")
VARIABLE = "HANDFUL_ENGINE"
_here: ContextVar[str | None] = ContextVar("engine", default=None)
_told: set[str] = set()


def check(name: str) -> str:
    """The name. Raises UnknownName, with the nearest, for any but NAMES."""
    if name not in NAMES:
        raise unknown("engine", name, NAMES)
    return name


def wanted() -> str:
    """Which engine is asked for: by `using`, else by the variable HANDFUL_ENGINE, else "auto"."""
    return _here.get() or check(os.environ.get(VARIABLE) or "auto")


@contextmanager
def using(name: str | None) -> Iterator[None]:
    """This engine for the models that are made or loaded inside; None changes nothing."""
    token = None if name is None else _here.set(check(name))
    try:
        yield
    finally:
        if token is not None:
            _here.reset(token)


def choose(name: str, on_onnxruntime: Callable[[], T] | None, on_torch: Callable[[], T], what: str) -> T:
    """What one of the two functions makes: of the engine `name`, one of NAMES.

    on_onnxruntime: None where the network has no ONNX form. what: the network, for messages. With "auto", an ONNX
    Runtime that is installed but does not work is told once, and PyTorch works instead. Raises DeviceError or
    MissingPackage, with the way on, where no engine works or the one that is named does not.
    """
    if name == "torch" or (on_onnxruntime is None and name == "auto"):
        return on_torch()
    if on_onnxruntime is None:
        raise DeviceError(f"{what} does not run on onnxruntime here; wanted lite0, lite1 or lite2; use the engine "
                          "torch or auto")  # fmt: skip
    if name == "auto" and not present("onnxruntime"):
        try:
            return on_torch()
        except MissingPackage as error:
            raise MissingPackage(f"{error}; or run: pip install 'handful[onnxruntime]'") from None
    try:
        return on_onnxruntime()
    except (DeviceError, MissingPackage) as error:
        if name != "auto":
            raise
        if not present("torch"):
            raise
        if str(error) not in _told:
            _told.add(str(error))
            warn(f"{error}; PyTorch is used instead, which is slower")
        return on_torch()


def onnx_session(model: bytes | Path, threads: int = 1) -> Any:
    """An onnxruntime.InferenceSession on the CPU with so many threads, which sleep when idle.

    Raises MissingPackage without the package, DeviceError where it or the model cannot be loaded: a build for a GPU
    whose driver is absent, a broken install, a file that is no model.
    """
    if not present("onnxruntime"):
        need("onnxruntime", "onnxruntime")
    try:
        import onnxruntime
    except Exception as error:  # a library that it needs is absent, or it is half installed
        line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DeviceError(
            f"onnxruntime is installed and cannot be imported ({line}); to repair it "
            "run: pip install --force-reinstall onnxruntime"
        ) from error
    named = "the network" if isinstance(model, bytes) else str(model)
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # spinning threads take the cores from everything else, and on two cores made two threads slower than one
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        given = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no class
        raise DeviceError(f"onnxruntime cannot load {named} ({error})") from error
