"""Train a segmentation network: one straight line from a folder of images and labels to a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from handful.pick import unknown
from handful.training import loader_segment, loop, tuned, weights
from handful.training.augment_segment import Augment
from handful.training.evaluate_segment import confusion_of, measured
from handful.training.finish import finished
from handful.training.loss import Loss, class_weights
from handful.training.metrics import RULES, background_of
from handful.training.report_page import Worst
from handful.training.start import Settings, begin

if TYPE_CHECKING:
    from typing import Unpack

OUTPUTS = {"scores": "one a class and pixel, in order of `classes`; logits; softmax over classes allowed"}


def run(
    data: Path,
    out: Path,
    *,
    net: str = "exeggutor",
    crop: float | tuple[int, int] | None = None,
    balance: str | None = None,
    teacher: Path | None = None,
    loss: Loss | Mapping[str, Any] | None = None,
    augment: Augment | Mapping[str, Any] | None = None,
    rule: str = "mmseg",
    background: str | None = None,
    masks: str | None = None,
    **settings: Unpack[Settings],
) -> dict[str, Any]:
    """Train on any data set whose pixels have classes; write the model folder `out`, whole or not at all.

    Beside it OUT.run/ holds checkpoints, metrics.csv, curves.png and report.html. net: NAME or NAME:PRESET of
    handful.models. crop: what is cut of the frame to train on, (h, w) px or a share of both sides, 1.0 for all.
    balance: weights of classes, a rule of handful.curate.balance or "none". teacher: a model folder to imitate. loss,
    augment: whole, or only what is to be otherwise, by name. rule, background: see handful.training.metrics. masks:
    which folder of masks, where several lie side by side. settings: see handful.training.start.Settings; epochs or
    minutes must be there. What is not given is as it was tuned for the network.

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    out = Path(out)
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    start = begin("segment", net, settings)
    criterion, changes = start.tuned(Loss, "loss", loss), start.tuned(Augment, "augment", augment)
    crop_hw = tuned.crop_of(crop or start.own.get("crop"), start.size_hw)
    balance = balance or start.own.get("balance", "enet")
    device = start.distributed.device
    with start.running(out) as folder:
        # the data: checked, then decoded once
        dataset, warnings = start.read(data, masks=masks)
        classes = loader_segment.classes_of(dataset, start.given.get("classes"))
        behind = background_of(classes, background)
        images, val = start.gathered(loader_segment.gather, dataset, classes, folder)
        loader = loader_segment.Loader(images, augment=changes, crop_hw=crop_hw, **start.loading())
        per_class = class_weights(images.pixels, images.images, images.image_pixels, balance)

        # the network, on its way from weights of its own or another's
        begun = start.begin_with(start.build(classes), classes, teacher)
        teacher_logits = weights.teacher_of(Path(teacher), classes, device) if teacher else None
        class_weight = torch.tensor(per_class, device=device)

        # what is learned, and how it is measured
        def loss_fn(model: Any, batch: loader_segment.Batch) -> torch.Tensor:
            x, y = torch.from_numpy(batch[0]).to(device), torch.from_numpy(batch[1]).to(device).long()
            theirs = teacher_logits(x) if teacher_logits is not None else None
            return criterion(model(x), y, class_weight, theirs, start.distributed.average)

        def evaluate_epoch(network: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            scores = confusion_of(network, val, most).scores(classes, rule=rule, background=behind)
            return {k: v for k, v in scores.items() if isinstance(v, float)}, scores["miou_with_background"]

        task = loop.Task(loader, weights.Dense, loss_fn, evaluate_epoch, val, "miou_with_background")
        ended = start.train(
            task, begun, folder, classes, crop=list(crop_hw), balance=balance, teacher=loop.hash_of(teacher),
            loss=asdict(criterion), augment=asdict(changes), rule=rule,
            background=None if behind is None else classes[behind],
        )  # fmt: skip

        # the model folder: the weights to keep, measured at the size of the labels
        measures, worst = {}, Worst(shown=True)
        if val is not None and start.distributed.main:
            read = loader_segment.labels_of(dataset, classes)
            measures = measured(begun.network, val.samples, read, classes, rule=rule, background=behind, worst=worst)
        return finished(
            start, out, folder, begun, ended, outputs=OUTPUTS, images=images, val=val, measures=measures, worst=worst,
            warnings=warnings, data=data, more={"class_weights": per_class},
        )  # fmt: skip
