"""Train a segmentation network: one straight line from a folder of photos and labels to a model folder."""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.curate.check import ensure
from handful.data import formats
from handful.data.finding import Finding, stop
from handful.errors import DataError
from handful.files import cache_home, sha256, write_json, write_tensors
from handful.models.count import count
from handful.models.folder import META, WEIGHTS, save_folder
from handful.pick import unknown
from handful.progress import note, track, warn
from handful.train import feed, state, transfer, weights
from handful.train.augment import Augment
from handful.train.devices import Crew, dtype_of, made_with, settled
from handful.train.evaluate import confusion_of, measured
from handful.train.loss import Loss, class_weights
from handful.train.metrics import RULES, Confusion, background_of
from handful.train.report import draw_curves, write_csv
from handful.train.schedule import Ema, factor

CSV, CURVES, FLOW, RECORD = "metrics.csv", "curves.png", "transfer.png", "train.json"
QUIET = ("one_photo", "no_label_map")


def run(
    data: Path,
    out: Path,
    *,
    net: str = "exeggutor",
    args: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch: int = 8,
    lr: float = 1e-3,
    size_hw: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    ema: float | None = 0.999,
    balance: str = "enet",
    from_: Path | None = None,
    rename: Mapping[str, str] | None = None,
    freeze: Sequence[str] = (),
    lr_of: Mapping[str, float] | None = None,
    accumulate: int = 1,
    teacher: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    workers: int = 2,
    weight_decay: float = 1e-2,
    schedule: str = "poly",
    warmup: float = 0.02,
    clip: float | None = 5.0,
    loss: Loss | None = None,
    augment: Augment | None = None,
    every: int = 1,
    save_every: int | None = None,
    rule: str = "mmseg",
    background: str | None = None,
    train_split: str = "train",
    val_split: str | None = "val",
    format: str | None = None,
    masks: str | None = None,
    allow: Sequence[str] = (),
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Train on any data set whose pixels have classes; write the model folder `out`, whole or not at all.

    Beside it OUT.run/ holds checkpoints, metrics.csv and curves.png; resume=True goes on from there, to the bit as if
    it had never stopped (same device, versions and threads). net: NAME or NAME:PRESET of handful.models; args: for its
    `build`. classes: names to learn, in order, all others ignored; None for all. epochs, or minutes from which the
    epochs are reckoned. batch: photos in a batch, over all devices; accumulate: batches a step. size_hw: the frame the
    phone will give, which photos are squashed to; crop: what is cut of it to train on, both (h, w) px. ema: decay of
    the running mean of the weights, which is what is measured and kept; None for none. balance: weights of classes, a
    rule of handful.curate.balance or "none". from_: a model folder whose fitting weights are taken, `rename` as in
    transfer. freeze: parts that are not trained; lr_of: factors of the learning rate by part. teacher: a model folder
    to imitate. warmup: share of all steps. clip: largest norm of the gradient. every: epochs from one measurement on
    val to the next; save_every: steps between checkpoints beside those at each epoch's end. val_split: None to measure
    nothing and keep the last weights. allow: codes of errors of `handful data check` to go on with. The optimiser is
    AdamW (Loshchilov & Hutter, 2019).

    Returns a JSON object. Raises DataError, UnknownName or MissingPackage; an existing model is then as it was.
    """
    data, out = Path(data), Path(out)
    place = out.with_name(f"{out.name}.run")
    _sensible(epochs, minutes, batch, lr, accumulate, every, seed, save_every, clip, warmup, schedule, rule)
    computed_in = dtype_of(precision)
    how, criterion = augment or Augment(), loss or Loss()
    name, module, preset = weights.network_card(net, "segment")
    size_hw = size_hw or tuple(module.CARD.frame_hw)
    crew = Crew(device)
    if batch % crew.world:
        raise DataError(f"a batch of {batch} cannot be shared by {crew.world} devices; choose a multiple")
    _free(out, place, resume, overwrite, crew)

    # the data: checked, then decoded once
    options = {"masks": masks} if masks else {}
    warnings = ensure(data, format=format, allow=allow, quiet=QUIET, cache=cache_home(), **options) if crew.main else []
    for text in warnings:
        warn(text)

    def tell(finding: Finding) -> None:
        if finding.code not in allow:
            stop(finding)

    dataset = formats.read(data, format=format, tell=tell, **options)
    names = feed.classes_of(dataset, classes)
    behind = background_of(names, background)
    decode: dict[str, Any] = {"scratch": place, "leave_out": bool(allow)}
    photos = feed.gather(dataset, train_split, names, size_hw, must_have_all=True, **decode)
    val = feed.gather(dataset, val_split, names, size_hw, **decode) if val_split else None
    batches = feed.Batches(photos, batch, crop or size_hw, how, seed, workers, crew.rank, crew.world)
    per_class = class_weights(photos.pixels, photos.images, photos.image_pixels, balance)

    with settled(seed, crew.device, threads):
        # the network, on its way from weights of its own or another's
        own_args = {**preset, **(args or {}), "frame_hw": list(size_hw)}
        network: Any = weights.built(module, len(names), own_args)
        rows = transfer.transfer(network, from_, names, rename=rename) if from_ else []
        speed = weights.rates(network, lr_of or {}, freeze)
        rows = transfer.with_rates(rows, speed)
        counts = count(network, torch.zeros(1, *network.frame_hw, 3, dtype=torch.uint8))
        optimizer = torch.optim.AdamW(weights.groups(network, speed, lr, weight_decay), lr=lr)
        model = crew.shared(weights.Dense(network))
        tutor = weights.tutor(Path(teacher), names, crew.device) if teacher else None
        mean = Ema(network.state_dict(), ema) if ema is not None else None
        class_weight = torch.tensor(per_class, device=crew.device)
        autocast = torch.autocast(crew.device.type, computed_in) if computed_in else nullcontext()

        # what the run is, and how far it is
        config = {
            "task": "segment", "net": net, "args": own_args, "classes": list(names), "epochs": epochs,
            "minutes": minutes, "batch": batch, "lr": lr, "size_hw": list(size_hw), "crop": list(crop or size_hw),
            "seed": seed, "device": device, "world": crew.world, "precision": precision, "ema": ema,
            "balance": balance, "from": _hash_of(from_), "rename": dict(rename or {}), "freeze": list(freeze),
            "lr_of": dict(lr_of or {}), "accumulate": accumulate, "teacher": _hash_of(teacher),
            "weight_decay": weight_decay, "schedule": schedule, "warmup": warmup, "clip": clip,
            "loss": asdict(criterion), "augment": asdict(how), "every": every, "rule": rule,
            "background": None if behind is None else names[behind], "train_split": train_split,
            "val_split": val_split,
        }  # fmt: skip
        data_sha256 = f"{photos.sha256}{val.sha256 if val else ''}"
        now = made_with(crew.device)
        if resume and state.checkpoints(place):
            last = state.load(place)
            at = last.state
            state.same_config(at, config, data_sha256, now)
            network.load_state_dict(last.weights)
            optimizer.load_state_dict(last.optimizer)
            if mean is not None and last.ema is not None:
                mean.tensors = {key: value.to(crew.device) for key, value in last.ema.items()}
                mean.updates = at.ema_updates
            state.set_random_state(last.random)
            note(f"going on from {last.folder}: epoch {at.epoch + 1} of {at.epochs}, batch {at.batch + 1}")
        else:
            chosen = epochs or _epochs_in(minutes or 0.0, network, batches, criterion, val, every, crew, clock)
            at = state.State(config, data_sha256, now, chosen)
        steps_an_epoch = math.ceil(len(batches) / accumulate)
        total = at.epochs * steps_an_epoch
        rising = min(round(warmup * total), total - 1)
        began = clock() - at.seconds

        # training: batch after batch
        weights.train_mode(network, freeze)
        left = at.epochs * len(batches) - at.epoch * len(batches) - at.batch
        for rgb, labels, which in track(_from(batches, at), "training", left):
            x, y = torch.from_numpy(rgb).to(crew.device), torch.from_numpy(labels).to(crew.device).long()
            with autocast:
                logits = model(x)
                theirs = tutor(x) if tutor is not None else None
            value = criterion(logits, y, class_weight, theirs)
            window = min(accumulate, len(batches) - at.batch // accumulate * accumulate)
            (value / window).backward()
            found = crew.total(float(value.detach())) / crew.world
            at.batch += 1
            norm, rate = 0.0, factor(at.step, total, kind=schedule, warmup=rising)
            if at.batch % accumulate == 0 or at.batch == len(batches):
                gradient = torch.nn.utils.clip_grad_norm_(network.parameters(), clip if clip else math.inf)
                norm = float(gradient)
            if not math.isfinite(found) or not math.isfinite(norm):
                _stop_for_nan(place, at, found, norm, rgb, labels, [photos.names[i] for i in which], lr * rate)
            at.sums = {k: at.sums.get(k, 0.0) + v for k, v in (("loss", found), ("batches", 1.0))}
            if at.batch % accumulate and at.batch != len(batches):
                continue
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            at.step += 1
            if mean is not None:
                mean.update(network.state_dict())
                at.ema_updates = mean.updates
            ended = at.batch == len(batches)
            at.seconds = round(clock() - began, 3)

            # the end of an epoch: measure, note, keep
            if ended:
                row = {"epoch": at.epoch + 1, "step": at.step, "lr": lr * rate, "seconds": at.seconds,
                       "loss": at.sums["loss"] / at.sums["batches"]}  # fmt: skip
                at.epoch, at.batch, at.sums = at.epoch + 1, 0, {}
                if crew.main and val is not None and (at.epoch % every == 0 or at.epoch == at.epochs):
                    kept = mean.tensors if mean is not None else network.state_dict()
                    scores = _judged(network, kept, val).scores(names, rule=rule, background=behind)
                    row |= {k: v for k, v in scores.items() if isinstance(v, float)}
                    score = scores["miou_with_background"]
                    if score is not None and (at.best is None or score > at.best["score"]):
                        at.best = {"step": at.step, "epoch": at.epoch, "score": score}
                        state.save_best(place, at.step, kept)
                at.history = [*at.history, row]
                if crew.main:
                    _say(at, row)
                    write_csv(place / CSV, at.history)
            if crew.main and (ended or (save_every and at.step % save_every == 0)):
                tensors = mean.tensors if mean is not None else None
                state.save(place, at, network.state_dict(), tensors, optimizer.state_dict())
            crew.wait()

        # the model folder: the best weights, measured at the size of the labels
        if not crew.main:
            return {"schema_version": 1, "model": str(out), "rank": crew.rank}
        kept = mean.tensors if mean is not None else network.state_dict()
        network.load_state_dict(state.load_best(place, at) if at.best is not None else kept)
        network.eval()
        draw_curves(place / CURVES, at.history, title=f"{net}, {len(photos)} photos, {len(names)} classes")
        if rows:
            transfer.draw(rows, place / FLOW, old=str(from_), new=str(out))
            note(transfer.table(rows))
        measures: dict[str, Any] = {}
        if val is not None:
            read = feed.labels_of(dataset, names)
            measures = measured(network, val.samples, read, names, rule=rule, background=behind, total=len(val))
        cost = {"params": counts.parameters, "macs": counts.macs, "peak_activation_bytes": counts.peak_activation_bytes}
        about = {
            "task": "segment",
            "card": module.CARD.to_json(),
            "outputs": {"scores": "one a class and pixel, in order of `classes`; logits; softmax over classes allowed"},
            "rule": measures.get("rule"),
            "metrics": {"split": val_split, **{k: v for k, v in measures.items() if k != "rule"}} if measures else None,
            **cost,
            "seed": seed,
            "minutes": round(at.seconds / 60, 3),
        }
        record = {
            "schema_version": 1, "config": config, "config_sha256": state.config_hash(config), "epochs": at.epochs,
            "best": at.best, "history": at.history, "made_with": at.made_with, "class_weights": per_class,
            "data": {"train": feed.said(photos), "val": feed.said(val) if val else None},
            "transfer": [row.as_json() for row in rows],
        }  # fmt: skip
        plain_args = {k: v for k, v in own_args.items() if k not in ("pretrained", "weights")}

        def beside(part: Path) -> None:
            for file in (CSV, CURVES, *([FLOW] if rows else [])):
                shutil.copyfile(place / file, part / file)
            write_json(part / RECORD, record)

        save_folder(out, network, kind=name, args=plain_args, classes=list(names), about=about, beside=beside,
                    preprocessing=network.preprocessing())  # fmt: skip
    return {
        "schema_version": 1, "model": str(out), "run": str(place), "task": "segment", "net": net,
        "classes": list(names), "epochs": at.epochs, "steps": at.step, "best": at.best, **measures, **cost,
        "seed": seed, "minutes": about["minutes"], "warnings": warnings, "resumed": resume,
        "transfer": transfer.counts(rows) if rows else None, "model_sha256": sha256(out / WEIGHTS),
    }  # fmt: skip


def _sensible(
    epochs: int | None, minutes: float | None, batch: int, lr: float, accumulate: int, every: int, seed: int,
    save_every: int | None, clip: float | None, warmup: float, schedule: str, rule: str,
) -> None:  # fmt: skip
    if (epochs is None) == (minutes is None):
        raise DataError("say how long to train: either epochs or minutes")
    least = {"epochs": epochs, "batch": batch, "accumulate": accumulate, "every": every, "save_every": save_every}
    for what, value in least.items():
        if value is not None and value < 1:
            raise DataError(f"{what} is {value}; wanted 1 or more")
    for what, number in {"minutes": minutes, "lr": lr, "clip": clip}.items():
        if number is not None and not 0 < number < math.inf:
            raise DataError(f"{what} is {number}; wanted more than 0")
    if seed < 0:
        raise DataError(f"seed is {seed}; wanted 0 or more")
    if not 0 <= warmup < 1:
        raise DataError(f"warmup is {warmup}; wanted a share of all steps, 0 or more and below 1")
    factor(0, 1, kind=schedule)
    if rule not in RULES:
        raise unknown("rule", rule, RULES)


def _free(out: Path, place: Path, resume: bool, overwrite: bool, crew: Crew) -> None:
    """Whether the run may write here; what is to be replaced is removed."""
    if resume and overwrite:
        raise DataError("--resume and --overwrite exclude each other: go on, or begin anew?")
    if out.exists() and not (out / META).exists():
        raise DataError(f"{out} exists and is not a model folder, so it is not written over; choose another --out")
    if not resume and not overwrite and (out.exists() or state.checkpoints(place)):
        there = out if out.exists() else place
        raise DataError(f"{there} exists; use --resume to go on, --overwrite to begin anew, or another --out")
    if resume and not state.checkpoints(place) and out.exists():
        raise DataError(f"{out} is finished and {place} has no checkpoint to go on from; use --overwrite to begin anew")
    if crew.main:
        if overwrite:
            shutil.rmtree(place, ignore_errors=True)
        for left in [*place.glob(".*.part"), *place.glob(".*.old")]:  # of a run that was killed while it wrote
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
    crew.wait()


def _hash_of(model: Path | None) -> str | None:
    return sha256(Path(model) / WEIGHTS) if model is not None else None


def _epochs_in(
    minutes: float, network: Any, batches: feed.Batches, criterion: Loss, val: feed.Photos | None, every: int,
    crew: Crew, clock: Callable[[], float],
) -> int:  # fmt: skip
    """How many epochs fit: a few batches are timed on a copy, so that all that follows depends on no clock."""
    trial = copy.deepcopy(network).to(crew.device).train()
    seconds = []
    with torch.random.fork_rng():
        for _, (rgb, labels, _) in zip(range(4), batches.epoch(0), strict=False):
            began = clock()
            x, y = torch.from_numpy(rgb).to(crew.device), torch.from_numpy(labels).to(crew.device).long()
            criterion(weights.Dense(trial)(x), y).backward()
            seconds.append(clock() - began)
        began = clock()
        if val is not None:
            trial.eval()
            trial(torch.from_numpy(val[0][0][None]).to(crew.device))
    judging = (clock() - began) * (len(val) if val is not None else 0) / every
    # the first one also pays for memory and caches; the optimiser and the mean of the weights cost some more
    batch_s = float(np.median(seconds[1:] or seconds)) * 1.1
    epochs = max(1, int(crew.total(minutes * 60 / max(1e-9, batch_s * len(batches) + judging)) / crew.world))
    note(f"{epochs} epochs fit into about {minutes:g} minutes ({batch_s:.2f} s a batch of {batches.batch})")
    return epochs


def _from(batches: feed.Batches, at: state.State) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    for epoch in range(at.epoch, at.epochs):
        yield from batches.epoch(epoch, at.batch)


def _judged(network: Any, tensors: Mapping[str, torch.Tensor], val: feed.Photos) -> Confusion:
    """Counts on val, by a copy with these weights: the network that is trained is left as it is."""
    judge = copy.deepcopy(network)
    judge.load_state_dict(tensors)
    return confusion_of(judge.eval(), val)


def _stop_for_nan(
    place: Path, at: state.State, loss: float, norm: float, rgb: np.ndarray, labels: np.ndarray,
    photos: list[str], lr: float,
) -> None:  # fmt: skip
    what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient's norm became {norm} (loss {loss})"
    kept = place / f"nan-{at.step:08d}.safetensors"
    write_tensors(kept, {"rgb": rgb, "labels": labels})
    raise DataError(
        f"{what} in epoch {at.epoch + 1}, batch {at.batch}, at learning rate {lr:g}; the photos were "
        f"{', '.join(photos)}, the batch is kept in {kept}; try a lower --lr, or look at those photos"
    )


def _say(at: state.State, row: Mapping[str, Any]) -> None:
    left = at.seconds / at.epoch * (at.epochs - at.epoch)
    score = row.get("miou_with_background")
    told = "" if score is None else f", mIoU {100 * score:.2f} %"
    note(f"epoch {at.epoch} of {at.epochs}: loss {row['loss']:.4f}{told}, {left / 60:.1f} min left")
