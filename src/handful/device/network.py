"""The network of a model folder, as it is compiled; of a taught detector, one of its several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.models.folder import from_folder, read_meta

DETECTOR = "irene"  # network.kind of a taught detector's folder


def is_detector(model: Path) -> bool:
    """Whether a model folder holds a taught detector. Raises DataError when it is no model folder."""
    return bool(read_meta(model)["network"].get("kind") == DETECTOR)


def network_of(model: Path, part: str = "") -> Any:
    """A network in eval mode with what handful.device.runtimes.contract.Runtime asks. part: which of a detector's."""
    if not part:
        return from_folder(model).network
    from handful.detection.graphs import parts
    from handful.detection.irene import Irene

    return parts(Irene.load(model))[part]
