"""The training loop, whatever is trained: batch after batch, measured, kept, and resumed to the bit."""

from __future__ import annotations

import contextlib
import copy
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful import places
from handful.errors import DataError
from handful.files import sha256, write_tensors
from handful.models.folder import WEIGHTS, is_model
from handful.pick import need
from handful.progress import note, track
from handful.training import checkpoint, weights
from handful.training.config import Plan
from handful.training.curves import write_csv
from handful.training.distributed import Distributed, dtype_of, made_with
from handful.training.loader import Images, Loader
from handful.training.schedule import Ema, factor
from handful.words import counted

CSV, LOCK, EVENTS = "metrics.csv", "lock", "events"
BEGUN = (".*.part", ".*.old", ".pixels.*")  # what a run that was killed leaves
# all that a run writes into its folder
OWN = (
    *BEGUN,
    "step-*",
    "best-*",
    "nan-*.safetensors",
    CSV,
    EVENTS,
    "curves.png",
    "transfer.png",
    "train.json",
    "report.html",
)
Measures = dict[str, float | None]


@dataclass(frozen=True)
class Task:
    """What a recipe gives to `train`.

    wrap: the network as a module that `loss_fn` calls. loss_fn: (that module, a batch) -> scalar float32.
    evaluate_epoch: (network in eval mode, at most so many images or None for all) -> (measures by name, the one the
    best weights are chosen by). val: the images it goes through; None where nothing is measured. score: the name of
    that measure.
    """

    loader: Loader[Any]
    wrap: Callable[[Any], torch.nn.Module]
    loss_fn: Callable[[Any, Any], torch.Tensor]
    evaluate_epoch: Callable[[Any, int | None], tuple[Measures, float | None]]
    val: Images | None
    score: str


@contextlib.contextmanager
def reserved(out: Path, *, resume: bool, overwrite: bool, distributed: Distributed) -> Iterator[Path]:
    """The folder of the run that makes `out`, held against a second one; what is to be replaced is removed.

    Raises DataError when the run may not write there.
    """
    place = out.with_name(f"{out.name}.run")
    if resume and overwrite:
        raise DataError("--resume and --overwrite exclude each other: resume, or start over?")
    if out.exists() and not is_model(out):
        raise DataError(f"{out} exists and is not a model folder, so it is not overwritten; choose another --out")
    places.check_writable(places.real(place))
    if not resume and not overwrite and (out.exists() or checkpoint.checkpoints(place)):
        there = out if out.exists() else place
        raise DataError(f"{there} exists; use --resume to continue, --overwrite to start over, or another --out")
    if resume and not checkpoint.checkpoints(place) and out.exists():
        raise DataError(
            f"{out} is finished and {place} has no checkpoint to resume from; use --overwrite to start over"
        )
    if not distributed.main:
        distributed.barrier()
        yield place
        return
    filelock = need("filelock", "train")
    place.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(place / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise DataError(f"another run is writing to {place}; wait for it, stop it, or choose another --out") from error
    try:
        # what was left by a run that was killed while it wrote, or all of the run's; what else lies there is the user's
        for left in [path for pattern in (OWN if overwrite else BEGUN) for path in place.glob(pattern)]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            elif left.name != LOCK:
                left.unlink()
        distributed.barrier()
        yield place
    finally:
        lock.release()


def hash_of(model: Path | None) -> str | None:
    """SHA-256 of a model folder's weights; None for no model."""
    return sha256(Path(model) / WEIGHTS) if model is not None else None


def train(
    task: Task, network: Any, rates: Mapping[str, float], plan: Plan, distributed: Distributed, place: Path, *,
    config: dict[str, Any], data_sha256: str, freeze: Sequence[str] = (), resume: bool = False,
    clock: Callable[[], float],
) -> checkpoint.State:  # fmt: skip
    """Train `network` by `plan`; returns where it ended, the network then has the weights to keep, in eval mode.

    rates: factor of the learning rate of each parameter (weights.rates). config: what a resumed run must have the
    same. To be called within seed_everything. Raises DataError when the loss is no number, naming the images, when a
    checkpoint cannot be written, or when a run is resumed otherwise than it was begun.
    """
    optimizer = plan.made(weights.groups(network, rates, plan.lr, plan.weight_decay, plan.lr_bias))
    model = distributed.prepare(task.wrap(network))
    mean = Ema(network.state_dict(), plan.ema) if plan.ema is not None else None
    loader, now = task.loader, made_with(distributed.device)
    if resume and checkpoint.checkpoints(place):
        last = checkpoint.load(place)
        at = last.state
        checkpoint.same_config(at, config, data_sha256, now)
        network.load_state_dict(last.weights)
        optimizer.load_state_dict(last.optimizer)
        if mean is not None and last.ema is not None:
            mean.tensors = {key: value.to(distributed.device) for key, value in last.ema.items()}
            mean.updates = at.ema_updates
        checkpoint.set_random_state(last.random)
        note(f"going on from {last.folder}: epoch {at.epoch + 1} of {at.epochs}, batch {at.batch + 1}")
    else:
        at = checkpoint.State(
            config, data_sha256, now, plan.epochs or _epochs_in(task, network, plan, distributed, clock)
        )
    total = at.epochs * math.ceil(len(loader) / plan.accumulate)
    rising = min(round(plan.warmup * total), total - 1)
    began = clock() - at.seconds

    weights.train_mode(network, freeze)
    left = at.epochs * len(loader) - at.epoch * len(loader) - at.batch
    with events(place / EVENTS, at, plan.tensorboard and distributed.main) as log:
        for batch in track(_from(loader, at), "training", left):
            with autocast(plan.precision, distributed), distributed.sync_batch_norm():
                value = task.loss_fn(model, batch)
            window = min(plan.accumulate, len(loader) - at.batch // plan.accumulate * plan.accumulate)
            (value / window).backward()
            found = distributed.total(float(value.detach())) / distributed.world_size
            at.batch += 1
            norm, rate = 0.0, factor(at.step, total, kind=plan.schedule, warmup=rising)
            if at.batch % plan.accumulate == 0 or at.batch == len(loader):
                gradient = torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip if plan.clip else math.inf)
                norm = float(gradient)
            if not math.isfinite(found) or not math.isfinite(norm):
                _stop_for_nan(place, at, found, norm, task, batch, plan.lr * rate)
            at.sums = {k: at.sums.get(k, 0.0) + v for k, v in (("loss", found), ("batches", 1.0))}
            if at.batch % plan.accumulate and at.batch != len(loader):
                continue
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            at.step += 1
            if mean is not None:
                mean.update(network.state_dict())
                at.ema_updates = mean.updates
            ended = at.batch == len(loader)
            at.seconds = round(clock() - began, 3)

            # the end of an epoch: measure, note, keep
            if ended:
                row: dict[str, Any] = {"epoch": at.epoch + 1, "step": at.step, "lr": plan.lr * rate,
                                       "seconds": at.seconds, "loss": at.sums["loss"] / at.sums["batches"]}  # fmt: skip
                at.epoch, at.batch, at.sums = at.epoch + 1, 0, {}
                if distributed.main and task.val is not None and (at.epoch % plan.every == 0 or at.epoch == at.epochs):
                    kept = mean.tensors if mean is not None else network.state_dict()
                    measures, score = _measured(network, kept, task)
                    row |= measures
                    if plan.keep == "best" and score is not None and (at.best is None or score > at.best["score"]):
                        at.best = {"step": at.step, "epoch": at.epoch, "score": score}
                        checkpoint.save_best(place, at.step, kept)
                at.history = [*at.history, row]
                if distributed.main:
                    _note(at, row, task.score)
                    write_csv(place / CSV, at.history)
                    log(row)
            if distributed.main and (ended or (plan.save_every and at.step % plan.save_every == 0)):
                tensors = mean.tensors if mean is not None else None
                checkpoint.save(place, at, network.state_dict(), tensors, optimizer.state_dict())
            distributed.barrier()
    kept = mean.tensors if mean is not None else network.state_dict()
    network.load_state_dict(checkpoint.load_best(place, at) if distributed.main and at.best is not None else kept)
    network.eval()
    return at


def autocast(precision: str, distributed: Distributed) -> Any:
    """A context in which what may be computed in less than float32 is."""
    computed_in = dtype_of(precision)
    return torch.autocast(distributed.device.type, computed_in) if computed_in else nullcontext()


def _epochs_in(task: Task, network: Any, plan: Plan, distributed: Distributed, clock: Callable[[], float]) -> int:
    """How many epochs fit: a few batches are timed on a copy, so that all that follows depends on no clock."""
    trial = copy.deepcopy(network).to(distributed.device).train()
    model, seconds = task.wrap(trial), []
    with torch.random.fork_rng():
        for _, batch in zip(range(4), task.loader.epoch(0), strict=False):
            began = clock()
            with autocast(plan.precision, distributed):
                task.loss_fn(model, batch).backward()
            seconds.append(clock() - began)
        began = clock()
        if task.val is not None:
            task.evaluate_epoch(trial.eval(), 1)
    measuring = (clock() - began) * (len(task.val) if task.val is not None else 0) / plan.every
    # the first one also pays for memory and caches; the optimizer and the mean of the weights cost some more
    batch_s = float(np.median(seconds[1:] or seconds)) * 1.1
    minutes = plan.minutes or 0.0
    fit = minutes * 60 / max(1e-9, batch_s * len(task.loader) + measuring)
    epochs = max(1, int(distributed.total(fit) / distributed.world_size))
    note(
        f"{counted(epochs, 'epoch fits', 'epochs fit')} into about {minutes:g} minutes ({batch_s:.2f} s a batch of "
        f"{task.loader.batch})"
    )
    return epochs


def _from(loader: Loader[Any], at: checkpoint.State) -> Iterator[Any]:
    for epoch in range(at.epoch, at.epochs):
        yield from loader.epoch(epoch, at.batch)


def _measured(network: Any, tensors: Mapping[str, torch.Tensor], task: Task) -> tuple[Measures, float | None]:
    """Measures on val, by a copy with these weights: the network that is trained is left as it is."""
    measured = copy.deepcopy(network)
    measured.load_state_dict(tensors)
    return task.evaluate_epoch(measured.eval(), None)


def _stop_for_nan(
    place: Path, at: checkpoint.State, loss: float, norm: float, task: Task, batch: Any, lr: float
) -> None:
    what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient's norm became {norm} (loss {loss})"
    kept = place / f"nan-{at.step:08d}.safetensors"
    write_tensors(kept, task.loader.arrays_of(batch))
    raise DataError(
        f"{what} in epoch {at.epoch + 1}, batch {at.batch}, at learning rate {lr:g}; the images were "
        f"{', '.join(task.loader.names_of(batch))}, the batch is kept in {kept}; try a lower --lr, or look at those "
        "images"
    )


def _note(at: checkpoint.State, row: Mapping[str, Any], score: str) -> None:
    left = at.seconds / at.epoch * (at.epochs - at.epoch)
    value = row.get(score)
    shown = "" if value is None else f", {score.replace('_', ' ')} {100 * value:.2f} %"
    note(f"epoch {at.epoch} of {at.epochs}: loss {row['loss']:.4f}{shown}, {left / 60:.1f} min left")


@contextlib.contextmanager
def events(folder: Path, at: checkpoint.State, wanted: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A call that hands a row of the history to TensorBoard; one that does nothing unless it is wanted."""
    if not wanted:
        yield lambda row: None
        return
    need("tensorboard", "tensorboard")
    writer = need("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder), purge_step=at.epoch + 1)

    def log(row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    try:
        yield log
    finally:
        writer.close()
