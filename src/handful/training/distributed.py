"""Where training runs: one device with plain torch, several with accelerate; what is set so that it repeats."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from handful.errors import DataError
from handful.pick import need, unknown
from handful.threads import for_batches
from handful.training.sync_norm import WholeBatch, average

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, from malloc.h
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def device_of(name: str) -> torch.device:
    """A device by name: cpu, cuda, cuda:1, mps. Raises DataError for one that is not there, saying what is."""
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise unknown("device", name, ["cpu", "cuda", "cuda:1", "mps"])
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            there = f"there are {count} GPUs" if count else "torch sees no GPU here"
            raise DataError(f"{name} was asked for, but {there}; use --torch-device cpu, or repair the driver or the "
                            f"torch that is installed ({torch.__version__})")  # fmt: skip
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DataError(f"{name} was asked for, but torch sees no Apple GPU here; use --torch-device cpu")
    return torch.device(name)


def dtype_of(precision: str) -> torch.dtype | None:
    """What to compute in: None for float32. Raises UnknownName."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return PRECISIONS[precision]


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed for the next time, for the rest of the process; False where there is no glibc.

    Each step asks for the same few hundred large tensors. By default each is a mapping of its own, given back to the
    system when freed, and its pages are cleared once more for the next step: a tenth to a fifth of a step's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, 1 << 30) and mallopt(TRIM_THRESHOLD, 1 << 30))


def ready(network: Any, device: str) -> Any:
    """A network on a device by name, to predict many images. Raises as device_of."""
    keep_freed_memory()
    return network.to(device_of(device))


@contextlib.contextmanager
def seed_everything(seed: int, device: torch.device, threads: int | None = None) -> Iterator[None]:
    """Everything random or that may be added up in another order is fixed inside, and as it was before after.

    threads: of torch, None for as many as a batch has by handful.threads.
    """
    keep_freed_memory()
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    chances = np.random.get_state(), random.getstate()
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}; wanted 1 or more")
    torch.set_num_threads(for_batches() if threads is None else threads)
    if device.type == "cuda":  # a CPU repeats itself, and to ask torch for it takes seconds of imports
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)  # where there is no repeatable way, torch says so
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed % (1 << 32))
            random.seed(seed)
            yield
    finally:
        np.random.set_state(chances[0])
        random.setstate(chances[1])
        torch.set_num_threads(before[0])
        if device.type == "cuda":
            torch.use_deterministic_algorithms(before[1], warn_only=warned)


def made_with(device: torch.device) -> dict[str, Any]:
    """What may change the last bits of a result."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": gpu or device.type,
            "machine": platform.machine()}  # fmt: skip


class Distributed:
    """The processes that train together; alone unless started by `accelerate launch` (or torchrun).

    rank: which this is, of world_size. main: whether this one measures, writes and talks. device: this one's own.
    """

    def __init__(self, device: str, batch: int | None = None) -> None:
        """batch: images to share out. Raises DataError when that does not come out even."""
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator: Any = None
        self.device = device_of(device)  # before accelerate, which would take the CPU without a word
        if self.world_size > 1:
            if device == "cpu":
                os.environ.setdefault("ACCELERATE_USE_CPU", "true")
            accelerate = need("accelerate", "train")
            self._accelerator = accelerate.Accelerator(cpu=device == "cpu")
            self.device = self._accelerator.device
        self.rank = self._accelerator.process_index if self._accelerator is not None else 0
        self.main = self.rank == 0
        if batch is not None and batch % self.world_size:
            raise DataError(f"a batch of {batch} cannot be shared by {self.world_size} devices; choose a multiple")

    def prepare(self, module: torch.nn.Module) -> Any:
        """The module on its device, its gradients the mean over all processes."""
        module = module.to(self.device)
        return module if self._accelerator is None else self._accelerator.prepare_model(module)

    def sync_batch_norm(self) -> Any:
        """A context for the forward pass in training: batch norm is over the images of all processes."""
        return WholeBatch() if self._accelerator is not None else contextlib.nullcontext()

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def average(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes, with a gradient."""
        return average(x) if self._accelerator is not None else x

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self._accelerator is None:
            return value
        # float64 keeps the order of losses
        mine = torch.tensor([value], dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(mine, reduction="sum").item())
