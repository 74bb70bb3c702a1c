"""Train a classifier: one straight line from a folder of images, a folder a class, to a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from handful.training import loader_classify, loop, weights
from handful.training.augment_classify import Augment
from handful.training.evaluate_classify import measured, scores
from handful.training.finish import finished
from handful.training.loader import order
from handful.training.loss import Loss, class_weights
from handful.training.report_page import Worst
from handful.training.start import Settings, begin

if TYPE_CHECKING:
    from typing import Unpack

BATCH = 64
OUTPUTS = {"scores": "one a class, in order of `classes`; logits; softmax over classes allowed"}
WHITENED_BY = 5000  # images that the first layer of a network that whitens patches is set from


def run(
    data: Path,
    out: Path,
    *,
    net: str = "signet",
    balance: str | None = None,
    teacher: Path | None = None,
    loss: Loss | Mapping[str, Any] | None = None,
    augment: Augment | Mapping[str, Any] | None = None,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """Train on any data set whose images have a class; write the model folder `out`, whole or not at all.

    Batches are of 64 unless given or tuned otherwise. All else as in handful.training.recipe_segment.run. A network
    that whitens patches (SigNet) has its first layer set from the images.

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    out = Path(out)
    start = begin("classify", net, settings, batch=BATCH)
    criterion, changes = start.tuned(Loss, "loss", loss), start.tuned(Augment, "augment", augment)
    balance = balance or start.own.get("balance", "none")
    device = start.distributed.device
    with start.running(out) as folder:
        # the data: checked, then decoded once
        dataset, warnings = start.read(data)
        classes = loader_classify.classes_of(dataset, start.given.get("classes"))
        images, val = start.gathered(loader_classify.gather, dataset, classes, folder)
        loader = loader_classify.Loader(images, augment=changes, **start.loading())
        per_class = class_weights(images.images, images.images, [len(images)] * len(classes), balance)

        # the network, on its way from weights of its own or another's
        network = start.build(classes)
        if getattr(network.core, "whitens", False):
            few = images.pixels(order(len(images), start.plan.seed, 0)[:WHITENED_BY])
            network.core.whiten(network.normalize(network.resize(torch.from_numpy(few).permute(0, 3, 1, 2).float())))
        begun = start.begin_with(network, classes, teacher)
        teacher_logits = weights.teacher_of(Path(teacher), classes, device, "classify") if teacher else None
        class_weight = torch.tensor(per_class, device=device)

        # what is learned, and how it is measured: an image is a map of one pixel
        def loss_fn(model: Any, batch: loader_classify.Batch) -> torch.Tensor:
            x, y = torch.from_numpy(batch[0]).to(device), torch.from_numpy(batch[1]).to(device)
            theirs = teacher_logits(x)[:, :, None, None] if teacher_logits is not None else None
            logits = [one[:, :, None, None] for one in model(x)]
            return criterion(logits, y[:, None, None], class_weight, theirs, start.distributed.average)

        def evaluate_epoch(network: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            predicted = measured(network, val, most).argmax(1)
            found = scores(val.labels[: len(predicted)], predicted, classes)
            return {k: found[k] for k in ("accuracy", "mean_accuracy")}, found["accuracy"]

        task = loop.Task(loader, weights.Whole, loss_fn, evaluate_epoch, val, "accuracy")
        ended = start.train(
            task, begun, folder, classes, balance=balance, teacher=loop.hash_of(teacher), loss=asdict(criterion),
            augment=asdict(changes),
        )  # fmt: skip

        # the model folder: the weights to keep, and what they are worth
        measures, worst = {}, Worst(shown=True)
        if val is not None and start.distributed.main:
            predicted = measured(network, val, worst=worst).argmax(1)
            measures = {**scores(val.labels, predicted, classes), "images": len(val), "worst": worst.rows()}
        return finished(
            start, out, folder, begun, ended, outputs=OUTPUTS, images=images, val=val, measures=measures, worst=worst,
            warnings=warnings, data=data, more={"class_weights": per_class},
        )  # fmt: skip
