"""Where training runs, and what is set for it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from handful.training.distributed import keep_freed_memory, ready
if sys.argv[1] == "kept":
    assert keep_freed_memory()
if sys.argv[1] == "ready":
    ready(torch.nn.Identity(), "cpu")
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(1 << 24)
before = faults()
for _ in range(60):
    torch.zeros(1 << 24)  # 64 MiB: 16,384 pages, or 32 huge ones
print(faults() - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc gives every large tensor a mapping of its own"
)
def test_freed_memory_is_kept() -> None:
    counts = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)
        for how in ("kept", "ready", "given back")
    }
    assert max(counts["kept"], counts["ready"]) < counts["given back"] / 2, counts
