"""Where training runs, and what is set for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import os, resource
import torch
from handful.training.distributed import keep_freed_memory, ready
for how in ("kept", "ready", "given back"):  # each in a process of its own, forked where nothing has run yet
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, how
        continue
    if how == "kept":
        assert keep_freed_memory()
    if how == "ready":
        ready(torch.nn.Identity(), "cpu")
    faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(1 << 24)
    before = faults()
    for _ in range(60):
        torch.zeros(1 << 24)  # 64 MiB: 16,384 pages, or 32 huge ones
    print(how, faults() - before, sep=",", flush=True)
    os._exit(0)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives every large tensor a mapping of its own"
)
def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    counts = {how: int(count) for how, count in (line.split(",") for line in done.stdout.splitlines())}
    assert max(counts["kept"], counts["ready"]) < counts["given back"] / 2, counts
