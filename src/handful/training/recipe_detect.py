"""Train a detector: one straight line from photos with boxes to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.models.count import count
from handful.training import loader_detect, loop, transfer, tuned, weights
from handful.training.distributed import Processes, seed_everything
from handful.training.evaluate_detect import WATCHED, measured
from handful.training.finish import finished
from handful.training.loader_detect import Zoom
from handful.training.source import checked

OUTPUTS = {
    "boxes": "(n, 4) left, top, right, bottom in px of the frame, right and bottom exclusive",
    "scores": "(n,) 0..1, largest first",
    "labels": "(n,) numbers of `classes`",
    "masks": "(n, h, w) 0..1, above 0.5 where a pixel of the frame belongs to the thing",
}


def run(data: Path, out: Path, *, net: str = "faster_rcnn", **options: Any) -> dict[str, Any]:
    """Train on any data set whose things have boxes; write the model folder `out`, whole or not at all.

    options: as those of `run_boxes`, which says what each means. The best weights are those of the largest AP of val's
    boxes (see handful.training.evaluate_detect). Returns a JSON object. Raises DataError, UnknownName or
    MissingPackage; an
    existing model is then as it was.
    """
    return run_boxes("detect", data, out, net=net, **options)


def run_boxes(
    work: str,
    data: Path,
    out: Path,
    *,
    net: str,
    args: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    size_hw: tuple[int, int] | None = None,
    from_: Path | None = None,
    rename: Mapping[str, str] | None = None,
    freeze: Sequence[str] | None = None,
    lr_of: Mapping[str, float] | None = None,
    zoom: Zoom | Mapping[str, Any] | None = None,
    train_split: str = "train",
    val_split: str | None = "val",
    format: str | None = None,
    allow: Sequence[str] = (),
    resume: bool = False,
    overwrite: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **plan: Any,
) -> dict[str, Any]:
    """What the recipes `detect` and `instance` share; work says which.

    net: NAME or NAME:PRESET of handful.models; args: for its `build`. classes: names to find, in order, all others are
    background; None for all. size_hw: the frame (h, w) px, which photos are squashed to. zoom: how photos are changed,
    whole or only what is to be otherwise. All else as in handful.training.recipe_segment.run.
    """
    data, out = Path(data), Path(out)
    masks, score = work == "instance", "mask_AP" if work == "instance" else "AP"
    name, module, preset = weights.network_card(net, work)
    args = {**preset, **(args or {})}
    size_hw = size_hw or weights.frame_of(module, args)
    own = module.CARD.trained_with(net, args)
    how_long, how = tuned.plan_of(own, plan), tuned.made(Zoom, own.get("zoom"), zoom)
    freeze, lr_of = tuned.parts(own, freeze, lr_of)
    processes = Processes(how_long.device, how_long.batch)
    with (
        loop.reserved(out, resume=resume, overwrite=overwrite, processes=processes) as place,
        seed_everything(how_long.seed, processes.device, how_long.threads),
    ):
        # the data: checked, then decoded once
        dataset, warnings = checked(data, format=format, allow=allow, main=processes.main)
        names = loader_detect.classes_of(dataset, classes)
        decode: dict[str, Any] = {"masks": masks, "scratch": place, "leave_out": bool(allow)}
        photos = loader_detect.gather(dataset, train_split, names, size_hw, **decode)
        val = loader_detect.gather(dataset, val_split, names, size_hw, **decode) if val_split else None
        batches = loader_detect.BoxedBatches(
            photos, how_long.batch, how, how_long.seed, how_long.workers, processes.rank, processes.world
        )

        # the network, on its way from weights of its own or another's
        own_args = {**args, "frame_hw": list(size_hw)}
        network: Any = weights.built(module, len(names), own_args)
        rows = transfer.transfer(network, from_, names, rename=rename) if from_ else []
        speed = weights.rates(network, lr_of, freeze)
        rows = transfer.with_rates(rows, speed)
        counts = count(network, torch.zeros(1, *network.frame_hw, 3, dtype=torch.uint8))

        # what is learned, and by what it is judged
        def loss_fn(model: Any, batch: loader_detect.Batch) -> torch.Tensor:
            targets = [{key: value.to(processes.device) for key, value in one.items()} for one in batch[1]]
            loss: torch.Tensor = model(torch.from_numpy(batch[0]).to(processes.device), targets)
            return loss

        def evaluate_epoch(judged: Any, most: int | None) -> tuple[loop.Measures, float | None]:
            assert val is not None
            found = measured(judged, val, most)
            watched = (*WATCHED, *(f"mask_{key}" for key in WATCHED)) if masks else WATCHED
            return {key: found[key] for key in watched}, found[score]

        config = {
            "task": work, "net": net, "args": own_args, "classes": list(names), "size_hw": list(size_hw),
            "world": processes.world, "from": loop.hash_of(from_), "rename": dict(rename or {}), "freeze": list(freeze),
            "lr_of": dict(lr_of), "zoom": asdict(how), "train_split": train_split, "val_split": val_split,
            **how_long.config(),
        }  # fmt: skip
        task = loop.Task(
            batches, weights.Boxed, loss_fn, evaluate_epoch=evaluate_epoch if val is not None else None,
            judged=len(val) if val is not None else 0, score=score,
            photos=lambda batch: [photos.names[i] for i in batch[2]], tensors=_tensors,
        )  # fmt: skip
        at = loop.train(
            task, network, speed, how_long, processes, place, config=config, freeze=freeze, resume=resume, clock=clock,
            data_sha256=f"{photos.sha256}{val.sha256 if val else ''}",
        )  # fmt: skip

        # the model folder: the weights to keep, measured at the photos' own size
        if not processes.main:
            return {"schema_version": 1, "model": str(out), "rank": processes.rank}
        measures: dict[str, Any] = {}
        if val is not None:
            measures = {**measured(network, val), "photos": len(val), "objects": sum(val.things)}
        return finished(
            place, out, network, at, kind=name, card=module.CARD, measures=measures, counts=counts, rows=rows,
            outputs={key: OUTPUTS[key] for key in network.output_names},
            seen={"train": loader_detect.said(photos), "val": loader_detect.said(val) if val else None}, from_=from_,
            more={}, warnings=warnings, resumed=resume, worst=None,
        )  # fmt: skip


def _tensors(batch: loader_detect.Batch) -> dict[str, np.ndarray]:
    """A batch as arrays: boxes, labels and masks of all photos one after another, things: how many each photo has."""
    rgb, targets, _ = batch
    joined = {key: torch.cat([one[key] for one in targets]).numpy() for key in targets[0]}
    return {"rgb": np.ascontiguousarray(rgb), "things": np.array([len(one["labels"]) for one in targets]), **joined}
