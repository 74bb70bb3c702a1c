"""Train a detector that also says which pixels are an object's: from images with outlines to a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handful.training import recipe_detect
from handful.training.augment_detect import Augment
from handful.training.start import Settings

if TYPE_CHECKING:
    from typing import Unpack


def run(
    data: Path,
    out: Path,
    *,
    net: str = "mask_rcnn",
    augment: Augment | Mapping[str, Any] | None = None,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """Train on any data set whose objects have outlines or pixels; write the model folder `out`, whole or not at all.

    The best weights are those of the largest AP of val's masks. All else as in handful.training.recipe_detect.run.
    """
    return recipe_detect.run(data, out, net=net, augment=augment, task="instance", **settings)
