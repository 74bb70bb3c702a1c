"""What every recipe takes beside its own arguments, and how it begins: settings, processes, data, network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import torch

from handful.curate.seen import Seen
from handful.data import formats
from handful.data.finding import leaves_unusable
from handful.models.count import Counts, count
from handful.pick import unknown
from handful.progress import warn
from handful.training import checkpoint, loop, transfer, tuned, weights
from handful.training.config import Plan
from handful.training.distributed import Distributed, seed_everything
from handful.training.loader import Images
from handful.training.source import checked
from handful.types import Dataset

ImagesT = TypeVar("ImagesT", bound=Images)
T = TypeVar("T")


class Settings(TypedDict, total=False):
    """What every recipe takes by name beside its own arguments. What is not given is as it was tuned for the network
    (its card's `training`), else as here or in handful.training.config.Plan, whose settings are among these.

    args: for the network's `build`. classes: names to learn, in order, all others ignored; None for all. size_hw: the
    frame (h, w) px the phone will give, which images are squashed to. from_: a model folder whose fitting weights are
    taken, `rename` as in handful.training.transfer. freeze: parts that are not trained; lr_of: factors of the learning
    rate by part. train_split: "train" unless given. val_split: "val" unless given; None to measure nothing and keep the
    last weights. format: of the data, found out unless given. images: the folder of COCO's images, where they do not
    lie beside the JSON. allow: codes of errors of `handful data check` to go on with. resume: go on with the run in
    OUT.run, to the bit as if it had never stopped (same device, versions and threads). overwrite: replace the model in
    OUT and the run beside it. clock: seconds, for `minutes`.
    """

    args: Mapping[str, Any] | None
    classes: Sequence[str] | None
    size_hw: tuple[int, int] | None
    from_: Path | None
    rename: Mapping[str, str] | None
    freeze: Sequence[str] | None
    lr_of: Mapping[str, float] | None
    train_split: str
    val_split: str | None
    format: str | None
    images: str | None
    allow: Sequence[str]
    resume: bool
    overwrite: bool
    clock: Callable[[], float]
    # of handful.training.config.Plan
    epochs: int | None
    minutes: float | None
    batch: int
    lr: float
    lr_bias: float
    accumulate: int
    optimizer: str
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    clip: float | None
    ema: float | None
    seed: int
    device: str
    precision: str
    threads: int | None
    workers: int
    every: int
    keep: str
    save_every: int | None
    tensorboard: bool


@dataclass(frozen=True)
class Start:
    """A training that is about to begin.

    task, net: as asked for. name, module: of the network; args: for its `build`. size_hw: the frame. own: the settings
    the network was tuned with. plan: how to train. freeze, lr_of: see Settings. given: the settings as they were given.
    """

    task: str
    net: str
    name: str
    module: Any
    args: dict[str, Any]
    size_hw: tuple[int, int]
    own: dict[str, Any]
    plan: Plan
    freeze: Sequence[str]
    lr_of: Mapping[str, float]
    given: Settings
    distributed: Distributed

    @contextlib.contextmanager
    def running(self, out: Path) -> Iterator[Path]:
        """The folder of the run that makes `out`, held against a second one; inside, everything random is seeded."""
        resume, overwrite = self.given.get("resume", False), self.given.get("overwrite", False)
        with (
            loop.reserved(out, resume=resume, overwrite=overwrite, distributed=self.distributed) as folder,
            seed_everything(self.plan.seed, self.distributed.device, self.plan.threads),
        ):
            yield folder

    def tuned(self, kind: type[T], name: str, given: T | Mapping[str, Any] | None) -> T:
        """A Loss or an Augment: `given`, whole or what it changes of the network's own."""
        return tuned.made(kind, self.own.get(name), given)

    def read(self, data: Path, **options: Any) -> tuple[Dataset, list[str]]:
        """The data set, checked and read once, and what the check warned of. options: of the format, None for none."""
        options = {"images": self.given.get("images"), **options}
        options = {key: value for key, value in options.items() if value is not None}
        fmt, allow = self.given.get("format"), self.given.get("allow", ())
        if fmt is None and self.task in ("detect", "instance"):
            fmt = formats.with_boxes(Path(data))  # whatever else lies beside them
        return checked(Path(data), format=fmt, allow=allow, main=self.distributed.main, **options)

    def gathered(
        self, gather: Callable[..., ImagesT], dataset: Dataset, classes: Sequence[str], scratch: Path
    ) -> tuple[ImagesT, ImagesT | None]:
        """The images of the split to train on, and of the one to measure on, decoded by a loader's `gather`."""
        how: dict[str, Any] = {"scratch": scratch, "leave_out": leaves_unusable(self.given.get("allow", ()))}
        val = self.given.get("val_split", "val")
        train = gather(dataset, self.given.get("train_split", "train"), classes, self.size_hw, **how)
        return train, gather(dataset, val, classes, self.size_hw, **how) if val else None

    def loading(self) -> dict[str, Any]:
        """What a Loader takes of the plan."""
        plan, all_ = self.plan, self.distributed
        return {"batch": plan.batch, "seed": plan.seed, "workers": plan.workers, "rank": all_.rank,
                "world_size": all_.world_size}  # fmt: skip

    def build(self, classes: Sequence[str]) -> Any:
        """The network, with weights it begins with by itself."""
        return weights.built(self.module, len(classes), {**self.args, "frame_hw": list(self.size_hw)})

    def begin_with(self, network: Any, classes: Sequence[str], teacher: Path | None = None) -> Begun:
        """The network with another model's weights, if one is named, what became of them, and what it costs. teacher:
        the model it will imitate."""
        source = self.given.get("from_")
        rows = transfer.transfer(network, source, classes, rename=self.given.get("rename")) if source else []
        rates = weights.rates(network, self.lr_of, self.freeze)
        counts = count(network, torch.zeros(1, *network.frame_hw, 3, dtype=torch.uint8))
        return Begun(network, rates, transfer.with_rates(rows, rates), counts, seen_by(source, teacher))

    def train(
        self, task: loop.Task, begun: Begun, folder: Path, classes: Sequence[str], **own: Any
    ) -> checkpoint.State:  # fmt: skip
        """Train until it ends; the network then has the weights to keep. own: what the recipe adds to the config, which
        a resumed run must have the same."""
        train, val = task.loader.images, task.val
        config = {
            "task": self.task, "net": self.net, "args": {**self.args, "frame_hw": list(self.size_hw)},
            "classes": list(classes), "size_hw": list(self.size_hw), "world_size": self.distributed.world_size,
            "from": loop.hash_of(self.given.get("from_")), "rename": dict(self.given.get("rename") or {}),
            "freeze": list(self.freeze), "lr_of": dict(self.lr_of),
            "train_split": self.given.get("train_split", "train"), "val_split": self.given.get("val_split", "val"),
            **own, **self.plan.config(),
        }  # fmt: skip
        return loop.train(
            task, begun.network, begun.rates, self.plan, self.distributed, folder, config=config, freeze=self.freeze,
            resume=self.given.get("resume", False), clock=self.given.get("clock", time.monotonic),
            data_sha256=f"{train.sha256}{val.sha256 if val is not None else ''}",
        )  # fmt: skip


@dataclass(frozen=True)
class Begun:
    """A network as its training begins. rates: factor of the learning rate of each parameter; rows: where its weights
    came from; counts: what it costs; seen: the images that those weights, or a teacher's, have seen already."""

    network: Any
    rates: Mapping[str, float]
    rows: Sequence[transfer.Row]
    counts: Counts
    seen: Seen


def seen_by(*models: Path | None) -> Seen:
    """What the models have seen that a training begins with or learns from: what a teacher knows of its images comes
    into its student. Nothing, with a warning, of one whose folder does not say."""
    seen = Seen()
    for model in dict.fromkeys(Path(model) for model in models if model is not None):
        held = Seen.load(model)
        if held is None:
            warn(
                f"{model} does not say which images it has seen, so an evaluation of the new model cannot tell of them"
            )
        else:
            seen.rows |= held.rows
    return seen


def begin(task: str, net: str, given: Settings, **otherwise: Any) -> Start:
    """What a recipe begins with. otherwise: settings of the plan that are neither given nor tuned for the network.

    Raises UnknownName for a setting or network that there is not, DataError for one that makes no sense.
    """
    for key in given:
        if key not in Settings.__annotations__:
            raise unknown("setting of a training", key, Settings.__annotations__)
    name, module, preset = weights.network_card(net, task)
    args = {**preset, **(given.get("args") or {})}
    own = module.CARD.trained_with(net, args)
    plan = tuned.plan_of(own, {k: v for k, v in given.items() if k in Plan.__dataclass_fields__}, **otherwise)
    freeze, lr_of = tuned.parts(own, given.get("freeze"), given.get("lr_of"))
    size_hw = given.get("size_hw") or weights.frame_of(module, args)
    return Start(task, net, name, module, args, size_hw, own, plan, freeze, lr_of, given,
                 Distributed(plan.device, plan.batch))  # fmt: skip
