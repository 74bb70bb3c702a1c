"""Train a detector that also says which pixels are a thing's: from photos with outlines to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handful.training.recipe_detect import run_boxes


def run(data: Path, out: Path, *, net: str = "mask_rcnn", **options: Any) -> dict[str, Any]:
    """Train on any data set whose things have outlines or pixels; write the model folder `out`, whole or not at all.

    options: as those of handful.training.recipe_detect.run_boxes. The best weights are those of the largest AP of val's
    masks (see handful.training.evaluate_detect). Returns a JSON object. Raises DataError, UnknownName or
    MissingPackage; an
    existing model is then as it was.
    """
    return run_boxes("instance", data, out, net=net, **options)
