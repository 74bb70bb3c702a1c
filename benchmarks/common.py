"""What every benchmark shares: where the photographs are, and how a result is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import handful
from handful.device.runtimes.contract import machine, versions_of
from handful.files import write_json

ROOT = Path(__file__).parent.parent


def data_folder() -> Path:
    """The shared photographs: $HANDFUL_DATA, else ../shared/data beside the project; the script ends without them."""
    folder = Path(os.environ.get("HANDFUL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        sys.exit(f"no photographs at {folder}; set HANDFUL_DATA to the folder that has grocery, product-iconic, ...")
    return folder


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result with what made it."""
    about = {"schema_version": 1, "handful": handful.__version__, "command": " ".join(sys.argv), "machine": machine()}
    write_json(path, {**about, "versions": versions_of("torch", "numpy", "timm"), **result})
    print(f"written to {path}")
