"""Train a detector: one straight line from images with boxes to a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from handful.training import loader_detect, loop, weights
from handful.training.augment_detect import Augment
from handful.training.evaluate_detect import WATCHED, measured
from handful.training.finish import finished
from handful.training.report_page import Worst
from handful.training.start import Settings, begin

if TYPE_CHECKING:
    from typing import Unpack

OUTPUTS = {
    "boxes": "(n, 4) left, top, right, bottom in px of the frame, right and bottom exclusive",
    "scores": "(n,) 0..1, largest first",
    "labels": "(n,) numbers of `classes`",
    "masks": "(n, h, w) 0..1, above 0.5 where a pixel of the frame belongs to the object",
}


def run(
    data: Path,
    out: Path,
    *,
    net: str = "faster_rcnn",
    augment: Augment | Mapping[str, Any] | None = None,
    task: str = "detect",
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """Train on any data set whose objects have boxes; write the model folder `out`, whole or not at all.

    task: "detect", or "instance" for masks too (handful.training.recipe_instance). The best weights are those of the
    largest AP of val's boxes, or masks (handful.training.evaluate_detect). All else as in
    handful.training.recipe_segment.run.

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    out = Path(out)
    start = begin(task, net, settings)
    changes = start.tuned(Augment, "augment", augment)
    device, masks = start.distributed.device, task == "instance"
    score = "mask_AP" if masks else "AP"
    with start.running(out) as folder:
        # the data: checked, then decoded once
        dataset, warnings = start.read(data)
        classes = loader_detect.classes_of(dataset, start.given.get("classes"))
        images, val = start.gathered(partial(loader_detect.gather, masks=masks), dataset, classes, folder)
        loader = loader_detect.Loader(images, augment=changes, **start.loading())

        # the network, on its way from weights of its own or another's
        begun = start.begin_with(start.build(classes), classes)

        # what is learned, and how it is measured
        def loss_fn(model: Any, batch: loader_detect.Batch) -> torch.Tensor:
            targets = [{key: value.to(device) for key, value in one.items()} for one in batch[1]]
            loss: torch.Tensor = model(torch.from_numpy(batch[0]).to(device), targets)
            return loss

        def evaluate_epoch(network: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            found = measured(network, val, most)
            watched = (*WATCHED, *(f"mask_{key}" for key in WATCHED)) if masks else WATCHED
            return {key: found[key] for key in watched}, found[score]

        learned = loop.Task(loader, weights.Boxed, loss_fn, evaluate_epoch, val, score)
        ended = start.train(learned, begun, folder, classes, augment=asdict(changes))

        # the model folder: the weights to keep, measured at the images' own size
        measures, worst = {}, Worst(shown=True)
        if val is not None and start.distributed.main:
            measures = {**measured(begun.network, val, worst=worst), "images": len(val), "objects": sum(val.objects)}
        return finished(
            start, out, folder, begun, ended, outputs={key: OUTPUTS[key] for key in begun.network.output_names},
            images=images, val=val, measures=measures, worst=worst, warnings=warnings, data=data,
        )  # fmt: skip
