"""Which network is trained, which of its weights, and how fast each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import handful.models
from handful.errors import DataError
from handful.models.folder import from_folder
from handful.pick import names, pick, unknown


def network_card(net: str, task: str) -> tuple[str, Any, dict[str, Any]]:
    """(name, module, arguments) of "NAME" or "NAME:PRESET". Raises UnknownName; DataError for one of another task."""
    name, _, preset = net.partition(":")
    fit = [n for n in names(handful.models, "net") if _task(n) == task]
    if name not in names(handful.models, "net"):
        raise unknown("network", name, fit)
    if name not in fit:
        raise DataError(f"the network {name} is for {_task(name)}, not to {task}; there is {', '.join(fit)}")
    module = pick(handful.models, "net", name)
    presets = module.CARD.presets or {}
    if preset and preset not in presets:
        raise unknown(f"preset of {name}", preset, presets)
    return name, module, dict(presets.get(preset, {}))


def frame_of(module: Any, args: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the frame a network is built for: its arguments say it (a preset's, too), or its card."""
    height, width = args.get("frame_hw", module.CARD.frame_hw)
    return height, width


def _task(name: str) -> str:
    return str(pick(handful.models, "net", name).CARD.task)


def built(module: Any, classes: int, args: Mapping[str, Any]) -> nn.Module:
    """The network. Raises UnknownName for an argument it does not take."""
    known = [name for name in inspect.signature(module.build).parameters if name != "classes"]
    for name in args:
        if name not in known:
            raise unknown(f"argument of {module.__name__.rpartition('net_')[2]}", name, known)
    network: nn.Module = module.build(classes, **args)
    return network


def below(name: str, prefix: str) -> bool:
    """Whether a tensor or part lies in the part `prefix`, with or without the leading "core."."""
    return any(n == prefix or n.startswith(f"{prefix}.") for n in (name, name.removeprefix("core.")))


def rates(network: nn.Module, lr_of: Mapping[str, float], freeze: Sequence[str]) -> dict[str, float]:
    """The factor of the learning rate of each parameter, of several that fit that with the longest name.

    0 where it is frozen, by name or because the network itself keeps it (a whitening layer's weights).
    Raises UnknownName for the name of no part, DataError for a factor below 0 or when nothing is left to train.
    """
    parts = [name for name, _ in network.named_modules() if name]
    known = [*parts, *(name for name, _ in network.named_parameters())]
    for prefix in (*lr_of, *freeze):
        if not any(below(name, prefix) for name in known):
            raise unknown("part of the network", prefix, sorted({n.removeprefix("core.") for n in known}, key=len)[:20])
    wrong = next(((k, v) for k, v in lr_of.items() if not v >= 0), None)
    if wrong is not None:
        raise DataError(f"the factor of the learning rate of {wrong[0]} is {wrong[1]}; wanted 0 or more")
    found = {}
    for name, parameter in network.named_parameters():
        fit = sorted((prefix for prefix in lr_of if below(name, prefix)), key=len)
        frozen = not parameter.requires_grad or any(below(name, prefix) for prefix in freeze)
        found[name] = 0.0 if frozen else float(lr_of[fit[-1]]) if fit else 1.0
    if not any(found.values()):
        raise DataError("every part of the network is frozen, so there is nothing to train; leave one out of --freeze")
    return found


def groups(
    network: nn.Module, factor: Mapping[str, float], lr: float, decay: float, bias: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, in an order that does not change; what is frozen wants no gradient.

    Biases and batch norm do not decay (He et al., "Bag of tricks", 2019); bias: what their rate is multiplied by.
    """
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(factor[name] > 0)
        if factor[name] > 0:
            of_bias = parameter.ndim <= 1
            own = (factor[name] * (bias if of_bias else 1.0), 0.0 if of_bias else decay)
            found.setdefault(own, []).append(parameter)
    return [
        {"params": params, "lr": lr * own, "base": lr * own, "weight_decay": wd}
        for (own, wd), params in sorted(found.items(), key=lambda item: item[0])
    ]


def train_mode(network: nn.Module, freeze: Sequence[str]) -> None:
    """Training mode, but not for frozen parts: their batch norm keeps its statistics."""
    network.train()
    for name, part in network.named_modules():
        if name and any(below(name, prefix) for prefix in freeze):
            part.train(False)


class Dense(nn.Module):
    """(n, 3, h, w) uint8 RGB -> the logits that a loss takes, see Segmenter.dense: one forward for several devices.

    Channels lie last in memory, which makes a step of training on a CPU up to 1.3 times as fast.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, rgb_u8: torch.Tensor) -> list[torch.Tensor]:
        """As the class says."""
        logits: list[torch.Tensor] = self.network.dense(
            self.network.normalize(rgb_u8.float().contiguous(memory_format=torch.channels_last))
        )
        return logits


class Whole(nn.Module):
    """(n, 3, h, w) uint8 RGB -> a classifier's logits, [main, *auxiliary], each (n, k)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, rgb_u8: torch.Tensor) -> list[torch.Tensor]:
        """As the class says."""
        x = rgb_u8.float().contiguous(memory_format=torch.channels_last)
        logits: list[torch.Tensor] = self.network.core(self.network.normalize(self.network.resize(x)))
        return logits


class Boxed(nn.Module):
    """(n, 3, h, w) uint8 RGB and a target an image -> a detector's loss, scalar float32: the sum of its parts.

    Targets as handful.models.detector.Detector.losses takes them.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, rgb_u8: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        """As the class says."""
        rgb = rgb_u8.float().contiguous(memory_format=torch.channels_last)
        return torch.stack(list(self.network.losses(rgb, targets).values())).sum()


def teacher_of(
    folder: Path, classes: Sequence[str], device: torch.device, task: str = "segment"
) -> Callable[[torch.Tensor], torch.Tensor]:  # fmt: skip
    """A call (n, 3, h, w) uint8 RGB -> the logits of a model to learn from, of `classes` in their order.

    (n, k, h, w), or (n, k) where the task is "classify". Raises DataError when it is a model of another task or lacks
    one of them.
    """
    model = from_folder(folder)
    if model.meta.get("task") != task:
        raise DataError(f"the teacher {folder} is not a model to {task}; choose one that `handful train {task}` made")
    lacking = [name for name in classes if name not in model.classes]
    if lacking:
        raise DataError(f"the teacher {folder} does not know {', '.join(lacking[:8])}; it knows "
                        f"{', '.join(model.classes[:8])}; choose one of the same classes")  # fmt: skip
    columns, network = [model.classes.index(name) for name in classes], model.network.to(device).eval()

    whole = Dense(network) if task == "segment" else Whole(network)

    def logits(rgb_u8: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scores: torch.Tensor = whole(rgb_u8)[0]
        return scores[:, columns]

    return logits
