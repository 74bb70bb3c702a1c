"""Write src/handful/models/lite_index.json: where each tensor of the EfficientNet-Lite weight files lies.

    python tools/lite_index.py

The files are pinned by their SHA-256, so the places never change, and reading them needs neither PyTorch nor pickle.
A row is a tensor, by its name in timm's network: [offset in bytes, shape, order of the axes in the file]; what counts
batches has one place for all. Needs torch and the three packages of weights.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import timm
import torch

from handful.models.backbone import timm_key
from handful.models.lite import LITE, weights_file

TO = Path(__file__).parent.parent / "src" / "handful" / "models" / "lite_index.json"


def index(name: str) -> dict[str, list[Any]]:
    """The rows of one file."""
    file = weights_file(name)
    raw = file.read_bytes()
    stages = [len(stage) for stage in timm.create_model(f"tf_efficientnet_{name}").blocks]
    rows: dict[str, list[Any]] = {}
    for key, value in torch.load(file, map_location="cpu", weights_only=True).items():
        order = sorted(range(value.ndim), key=lambda axis: (-value.stride(axis), axis))
        stored = value.permute(order).contiguous().numpy()
        found = raw.find(struct.pack("<q", value.numel()) + stored.tobytes())
        if found < 0:
            raise SystemExit(f"{key} of {file} was not found")
        rows[timm_key(key, stages)] = [found + 8, list(value.shape), order]
    return rows


def main() -> None:
    lines = []
    for name in LITE:
        rows = ",\n".join(f"    {json.dumps(key)}: {json.dumps(row)}" for key, row in index(name).items())
        lines.append(f'  "{name}": {{\n{rows}\n  }}')
    TO.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
