"""Where to take PyTorch from: prints the index to add to PyPI, or nothing, and on stderr which and why.

    python tools/torch_index.py [INDEX] [--driver /proc/driver/nvidia/version]

PyPI's build for Linux brings NVIDIA's CUDA, 4.6 GB that nothing needs on a machine without an NVIDIA driver. PyTorch's
own index has a build without it. INDEX: the one to take, whatever the machine ("pypi" for none); TORCH_INDEX in the
environment is the same. Runs on a bare Python.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import threading
import urllib.request
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WITHIN_S = 5.0
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


def pinned(constraints: str) -> str:
    """The version of torch in constraints.txt."""
    found = re.search(r"^torch==(\S+)$", constraints, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{CONSTRAINTS} does not pin torch; add a line torch==VERSION")
    return found[1]


def why_not(index: str, version: str, within_s: float = WITHIN_S) -> str:
    """Why the index cannot be used here; "" if it can. Ends within the time, whatever the network does."""
    said: list[str] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=within_s) as page:
                listed = page.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            said.append(f"does not answer ({getattr(error, 'reason', None) or error})")
            return
        tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        wheel = rf"torch-{re.escape(version)}(\+|%2B)cpu-{tag}-{tag}-\w*{platform.machine()}\.whl"
        there = re.search(wheel, listed) is not None
        said.append("" if there else f"has no torch {version} for Python {tag} on {platform.machine()}")

    asking = threading.Thread(target=ask, daemon=True)  # a name that is looked up for ever has no time-out of its own
    asking.start()
    asking.join(within_s)
    return said[0] if said else f"does not answer within {within_s:g} s"


def choose(
    wanted: str, driver: Path, version: str, within_s: float = WITHIN_S, index: str = CPU_INDEX
) -> tuple[str, str]:
    """(the index to add, "" for PyPI alone; which and why, in a line)."""
    if wanted.lower() == "pypi":
        return "", "PyTorch from PyPI, as asked"
    if wanted:
        return wanted, f"PyTorch from {wanted}, as asked"
    if platform.system() != "Linux":
        return "", "PyTorch from PyPI: its build for this system has no CUDA libraries"
    if driver.exists():
        return "", f"PyTorch from PyPI, with CUDA: there is an NVIDIA driver ({driver})"
    reason = why_not(index, version, within_s)
    if reason:
        return "", (f"PyTorch from PyPI, with 4.6 GB of CUDA libraries that are not needed without an NVIDIA driver: "
                    f"{index} {reason}")  # fmt: skip
    return index, f"PyTorch from {index}, without CUDA: there is no NVIDIA driver"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", nargs="?", default=os.environ.get("TORCH_INDEX", ""))
    parser.add_argument("--driver", type=Path, default=Path("/proc/driver/nvidia/version"))
    parser.add_argument("--cpu-index", default=CPU_INDEX, help="asked instead of PyTorch's")
    parser.add_argument("--within", type=float, default=WITHIN_S, help="seconds it may take to answer")
    args = parser.parse_args()
    index, why = choose(args.index, args.driver, pinned(CONSTRAINTS.read_text()), args.within, args.cpu_index)
    print(f"handful: {why}", file=sys.stderr)
    if index:
        print(index)


if __name__ == "__main__":
    main()
