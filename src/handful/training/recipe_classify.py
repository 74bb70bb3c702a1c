"""Train a classifier: one straight line from a folder of photos, a folder a class, to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.models.count import count
from handful.training import loader_classify, loop, transfer, tuned, weights
from handful.training.augment_classify import Views
from handful.training.batches import order
from handful.training.distributed import Processes, seed_everything
from handful.training.evaluate_classify import WORDS, add_wrong, probabilities, scores
from handful.training.finish import finished
from handful.training.loss import Loss, class_weights
from handful.training.report_page import Worst
from handful.training.source import checked

BATCH = 64
AT_ONCE = 256  # photos that are judged together


def run(
    data: Path,
    out: Path,
    *,
    net: str = "signet",
    args: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    size_hw: tuple[int, int] | None = None,
    balance: str | None = None,
    from_: Path | None = None,
    rename: Mapping[str, str] | None = None,
    freeze: Sequence[str] | None = None,
    lr_of: Mapping[str, float] | None = None,
    teacher: Path | None = None,
    loss: Loss | Mapping[str, Any] | None = None,
    views: Views | Mapping[str, Any] | None = None,
    train_split: str = "train",
    val_split: str | None = "val",
    format: str | None = None,
    allow: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **plan: Any,
) -> dict[str, Any]:
    """Train on any data set whose photos have a class; write the model folder `out`, whole or not at all.

    size_hw: the frame the phone will give, which photos are squashed to. views: how photos are changed, whole or only
    what is to be otherwise. Batches are of 64 unless told or tuned otherwise. All else as in
    handful.training.recipe_segment.run. A network that whitens patches (SigNet) has its first layer set from the
    photos.

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    data, out = Path(data), Path(out)
    name, module, preset = weights.network_card(net, "classify")
    args = {**preset, **(args or {})}
    size_hw = size_hw or weights.frame_of(module, args)
    own = module.CARD.trained_with(net, args)
    how_long, balance = tuned.plan_of(own, plan, batch=BATCH), balance or own.get("balance", "none")
    criterion, how = tuned.made(Loss, own.get("loss"), loss), tuned.made(Views, own.get("views"), views)
    freeze, lr_of = tuned.parts(own, freeze, lr_of)
    processes = Processes(how_long.device, how_long.batch)
    with (
        loop.reserved(out, resume=resume, overwrite=overwrite, processes=processes) as place,
        seed_everything(how_long.seed, processes.device, how_long.threads),
    ):
        # the data: checked, then decoded once
        dataset, warnings = checked(data, format=format, allow=allow, main=processes.main)
        names = loader_classify.classes_of(dataset, classes)
        decode: dict[str, Any] = {"scratch": place, "leave_out": bool(allow)}
        photos = loader_classify.gather(dataset, train_split, names, size_hw, **decode)
        val = loader_classify.gather(dataset, val_split, names, size_hw, **decode) if val_split else None
        batches = loader_classify.LabelledBatches(
            photos, how_long.batch, how, how_long.seed, how_long.workers, processes.rank, processes.world
        )
        per_class = class_weights(photos.images, photos.images, [len(photos)] * len(names), balance)

        # the network, on its way from weights of its own or another's
        own_args = {**args, "frame_hw": list(size_hw)}
        network: Any = weights.built(module, len(names), own_args)
        if getattr(network.core, "whitens", False):
            few = photos.photos(order(len(photos), how_long.seed, 0)[:5000])
            network.core.whiten(network.normalize(network.resize(torch.from_numpy(few).permute(0, 3, 1, 2).float())))
        rows = transfer.transfer(network, from_, names, rename=rename) if from_ else []
        speed = weights.rates(network, lr_of, freeze)
        rows = transfer.with_rates(rows, speed)
        counts = count(network, torch.zeros(1, *network.frame_hw, 3, dtype=torch.uint8))
        tutor = weights.teacher_of(Path(teacher), names, processes.device, "classify") if teacher else None
        class_weight = torch.tensor(per_class, device=processes.device)

        # what is learned, and by what it is judged
        def loss_fn(model: Any, batch: loader_classify.Batch) -> torch.Tensor:
            x, y = torch.from_numpy(batch[0]).to(processes.device), torch.from_numpy(batch[1]).to(processes.device)
            theirs = tutor(x)[:, :, None, None] if tutor is not None else None
            logits = [one[:, :, None, None] for one in model(x)]
            return criterion(logits, y[:, None, None], class_weight, theirs, processes.average)

        def evaluate_epoch(judged: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            found = [chances_of(judged, val, start, most) for start in range(0, most or len(val), AT_ONCE)]
            measures = scores(val.labels[: most or len(val)], np.concatenate(found).argmax(1), names)
            return {k: measures[k] for k in ("accuracy", "mean_accuracy")}, measures["accuracy"]

        config = {
            "task": "classify", "net": net, "args": own_args, "classes": list(names), "size_hw": list(size_hw),
            "world": processes.world, "balance": balance, "from": loop.hash_of(from_), "rename": dict(rename or {}),
            "freeze": list(freeze), "lr_of": dict(lr_of), "teacher": loop.hash_of(teacher),
            "loss": asdict(criterion), "views": asdict(how), "train_split": train_split, "val_split": val_split,
            **how_long.config(),
        }  # fmt: skip
        task = loop.Task(
            batches, weights.Whole, loss_fn, evaluate_epoch=evaluate_epoch if val is not None else None,
            judged=len(val) if val is not None else 0, score="accuracy",
            photos=lambda batch: [photos.names[i] for i in batch[2]],
            tensors=lambda batch: {"rgb": np.ascontiguousarray(batch[0]), "labels": batch[1]},
        )  # fmt: skip
        at = loop.train(
            task, network, speed, how_long, processes, place, config=config, freeze=freeze, resume=resume, clock=clock,
            data_sha256=f"{photos.sha256}{val.sha256 if val else ''}",
        )  # fmt: skip

        # the model folder: the weights to keep, and what they are worth
        if not processes.main:
            return {"schema_version": 1, "model": str(out), "rank": processes.rank}
        measures: dict[str, Any] = {}
        worst = Worst(shown=True)
        if val is not None:
            chances = np.concatenate([chances_of(network, val, start, None) for start in range(0, len(val), AT_ONCE)])
            for start in range(0, len(val), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                rgb = val.photos(range(len(val))[part])
                add_wrong(worst, val.samples[part], val.labels[part], chances[part], rgb, names)
            measures = {**scores(val.labels, chances.argmax(1), names), "rule": {"name": "top-1", **WORDS},
                        "photos": len(val), "worst": worst.rows()}  # fmt: skip
        return finished(
            place, out, network, at, kind=name, card=module.CARD, measures=measures, counts=counts, rows=rows,
            outputs={"scores": "one a class, in order of `classes`; logits; softmax over classes allowed"},
            seen={"train": said(photos), "val": said(val) if val else None}, from_=from_,
            more={"class_weights": per_class}, warnings=warnings, resumed=resume, worst=worst,
        )  # fmt: skip


def chances_of(network: Any, photos: loader_classify.Labelled, start: int, most: int | None) -> np.ndarray:
    """(n, k) float32 softmax for the AT_ONCE photos from `start` on, none from number `most` on."""
    return probabilities(network, photos.photos(range(start, min(start + AT_ONCE, most or len(photos)))))


def said(photos: loader_classify.Labelled) -> dict[str, object]:
    """What a record of the training says of a split."""
    return {"photos": len(photos), "missing_classes": photos.missing, "sha256": photos.sha256,
            "skipped": {why: len(names) for why, names in photos.skipped.items()}}  # fmt: skip
