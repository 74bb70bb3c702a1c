"""Train a segmentation network: one straight line from a folder of photos and labels to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.models.count import count
from handful.pick import unknown
from handful.training import loader_segment, loop, transfer, tuned, weights
from handful.training.augment_segment import Augment
from handful.training.distributed import Processes, seed_everything
from handful.training.evaluate_segment import confusion_of, measured
from handful.training.finish import finished
from handful.training.loss import Loss, class_weights
from handful.training.metrics import RULES, background_of
from handful.training.report_page import Worst
from handful.training.source import checked


def run(
    data: Path,
    out: Path,
    *,
    net: str = "exeggutor",
    args: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    size_hw: tuple[int, int] | None = None,
    crop: float | tuple[int, int] | None = None,
    balance: str | None = None,
    from_: Path | None = None,
    rename: Mapping[str, str] | None = None,
    freeze: Sequence[str] | None = None,
    lr_of: Mapping[str, float] | None = None,
    teacher: Path | None = None,
    loss: Loss | Mapping[str, Any] | None = None,
    augment: Augment | Mapping[str, Any] | None = None,
    rule: str = "mmseg",
    background: str | None = None,
    train_split: str = "train",
    val_split: str | None = "val",
    format: str | None = None,
    masks: str | None = None,
    allow: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **plan: Any,
) -> dict[str, Any]:
    """Train on any data set whose pixels have classes; write the model folder `out`, whole or not at all.

    Beside it OUT.run/ holds checkpoints, metrics.csv, curves.png and report.html; resume=True goes on from there, to
    the bit as if it had never stopped (same device, versions and threads). net: NAME or NAME:PRESET of
    handful.models; args: for its `build`. classes: names to learn, in order, all others ignored; None for all.
    size_hw: the frame (h, w) px the phone will give, which photos are squashed to; crop: what is cut of it to train on,
    (h, w) px or a share of both sides, 1.0 for all. balance: weights of classes, a rule of handful.curate.balance or
    "none". from_: a model folder whose fitting weights are taken, `rename` as in transfer. freeze: parts that are not
    trained; lr_of: factors of the learning rate by part. teacher: a model folder to imitate. loss, augment: whole, or
    only what is to be otherwise, by name. rule, background: see handful.training.metrics. val_split: None to measure
    nothing and keep the last weights. allow: codes of errors of `handful data check` to go on with. plan:
    handful.training.config.Plan's settings by name; epochs or minutes must be there.
    What is not given is as it was tuned for the network (its card's `training`), else the class's own default.

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    data, out = Path(data), Path(out)
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    name, module, preset = weights.network_card(net, "segment")
    args = {**preset, **(args or {})}
    size_hw = size_hw or weights.frame_of(module, args)
    own = module.CARD.trained_with(net, args)
    how_long = tuned.plan_of(own, plan)
    criterion, how = tuned.made(Loss, own.get("loss"), loss), tuned.made(Augment, own.get("augment"), augment)
    crop_hw, balance = tuned.crop_of(crop or own.get("crop"), size_hw), balance or own.get("balance", "enet")
    freeze, lr_of = tuned.parts(own, freeze, lr_of)
    processes = Processes(how_long.device, how_long.batch)
    with (
        loop.reserved(out, resume=resume, overwrite=overwrite, processes=processes) as place,
        seed_everything(how_long.seed, processes.device, how_long.threads),
    ):
        # the data: checked, then decoded once
        dataset, warnings = checked(
            data, format=format, allow=allow, main=processes.main, **({"masks": masks} if masks else {})
        )
        names = loader_segment.classes_of(dataset, classes)
        behind = background_of(names, background)
        decode: dict[str, Any] = {"scratch": place, "leave_out": bool(allow)}
        photos = loader_segment.gather(dataset, train_split, names, size_hw, must_have_all=True, **decode)
        val = loader_segment.gather(dataset, val_split, names, size_hw, **decode) if val_split else None
        batches = loader_segment.Batches(
            photos, how_long.batch, crop_hw, how, how_long.seed, how_long.workers, processes.rank, processes.world
        )
        per_class = class_weights(photos.pixels, photos.images, photos.image_pixels, balance)

        # the network, on its way from weights of its own or another's
        own_args = {**args, "frame_hw": list(size_hw)}
        network: Any = weights.built(module, len(names), own_args)
        rows = transfer.transfer(network, from_, names, rename=rename) if from_ else []
        speed = weights.rates(network, lr_of, freeze)
        rows = transfer.with_rates(rows, speed)
        counts = count(network, torch.zeros(1, *network.frame_hw, 3, dtype=torch.uint8))
        tutor = weights.teacher_of(Path(teacher), names, processes.device) if teacher else None
        class_weight = torch.tensor(per_class, device=processes.device)

        # what is learned, and by what it is judged
        def loss_fn(model: Any, batch: loader_segment.Batch) -> torch.Tensor:
            x = torch.from_numpy(batch[0]).to(processes.device)
            y = torch.from_numpy(batch[1]).to(processes.device).long()
            return criterion(model(x), y, class_weight, tutor(x) if tutor is not None else None, processes.average)

        def evaluate_epoch(judged: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            scores = confusion_of(judged, val, most).scores(names, rule=rule, background=behind)
            return {k: v for k, v in scores.items() if isinstance(v, float)}, scores["miou_with_background"]

        config = {
            "task": "segment", "net": net, "args": own_args, "classes": list(names), "size_hw": list(size_hw),
            "crop": list(crop_hw), "world": processes.world, "balance": balance, "from": loop.hash_of(from_),
            "rename": dict(rename or {}), "freeze": list(freeze), "lr_of": dict(lr_of),
            "teacher": loop.hash_of(teacher), "loss": asdict(criterion), "augment": asdict(how), "rule": rule,
            "background": None if behind is None else names[behind], "train_split": train_split,
            "val_split": val_split, **how_long.config(),
        }  # fmt: skip
        task = loop.Task(
            batches, weights.Dense, loss_fn, evaluate_epoch=evaluate_epoch if val is not None else None,
            judged=len(val) if val is not None else 0, score="miou_with_background",
            photos=lambda batch: [photos.names[i] for i in batch[2]],
            tensors=lambda batch: {"rgb": np.ascontiguousarray(batch[0]), "labels": batch[1]},
        )  # fmt: skip
        at = loop.train(
            task, network, speed, how_long, processes, place, config=config, freeze=freeze, resume=resume, clock=clock,
            data_sha256=f"{photos.sha256}{val.sha256 if val else ''}",
        )  # fmt: skip

        # the model folder: the weights to keep, measured at the size of the labels
        if not processes.main:
            return {"schema_version": 1, "model": str(out), "rank": processes.rank}
        measures: dict[str, Any] = {}
        worst = Worst(shown=True)
        if val is not None:
            read = loader_segment.labels_of(dataset, names)
            measures = measured(
                network, val.samples, read, names, rule=rule, background=behind, total=len(val), worst=worst
            )
        return finished(
            place, out, network, at, kind=name, card=module.CARD, measures=measures, counts=counts, rows=rows,
            outputs={"scores": "one a class and pixel, in order of `classes`; logits; softmax over classes allowed"},
            seen={"train": loader_segment.said(photos), "val": loader_segment.said(val) if val else None}, from_=from_,
            more={"class_weights": per_class}, warnings=warnings, resumed=resume, worst=worst,
        )  # fmt: skip
