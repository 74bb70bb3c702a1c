"""A network's layers as further outputs, at points every runtime has whatever it fuses.

A runtime merges convolution, normalisation and activation into one step, so the values between them do not exist
in it, and comparing those by name blames sound layers. Points that do exist are chosen instead, by this rule, for
any network: a layer is tapped when it is

1. a direct part of the network (`resize`, `backbone`), or what such a part is given, when the network's own code
   made it from the parts before ("backbone.input");
2. a whole block: a part with parts of its own, held in an nn.Sequential or nn.ModuleList;
3. a normalisation with a real activation inside (timm's BatchNormAct2d whose act is not Identity);
4. an activation layer of its own (ReLU, SiLU, ... of torch or timm).

and its output is one float tensor of two to four dimensions with a batch of one in front, it ran exactly once,
nothing later overwrites the tensor in place, and the tensor is not an output of the network already. Of layers that
hand on the very same tensor the first is kept. The order is the order of execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from handful.device.network import as_tuple, blank
from handful.errors import DataError

INPUT = ".input"


def tap_names(network: Any) -> list[str]:
    """The layers to compare, as module paths in order of execution; see the rule above.

    network: in eval mode, with `frame_hw`. A path ending in ".input" is what that part was given.
    """
    wanted = {path for path, part in network.named_modules() if path and _worth(network, path, part)}
    ran: dict[str, int] = {}
    seen: list[tuple[str, torch.Tensor, int]] = []
    hooks = []

    def after(path: str) -> Any:
        def hook(part: nn.Module, given: Any, out: Any) -> None:
            ran[path] = ran.get(path, 0) + 1
            if _tensor(out):
                seen.append((path, out, out._version))

        return hook

    def before(path: str) -> Any:
        def hook(part: nn.Module, given: Any) -> None:
            # the first part is given the frame itself
            if ran and len(given) == 1 and _tensor(given[0]):
                ran[path + INPUT] = ran.get(path + INPUT, 0) + 1
                seen.append((path + INPUT, given[0], given[0]._version))

        return hook

    for path, part in network.named_modules():
        if path in wanted:
            hooks.append(part.register_forward_hook(after(path)))
            if "." not in path:
                hooks.append(part.register_forward_pre_hook(before(path)))
    try:
        with torch.no_grad():
            outputs = network(blank(network))
    finally:
        for hook in hooks:
            hook.remove()
    taken = {id(out) for out in as_tuple(outputs)}
    names = []
    for path, tensor, version in seen:
        if id(tensor) in taken:
            continue
        taken.add(id(tensor))
        if ran[path] == 1 and tensor._version == version:
            names.append(path)
    return names


def _tensor(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor) and value.is_floating_point() and 2 <= value.ndim <= 4 and value.shape[0] == 1
    )


def _worth(network: nn.Module, path: str, part: nn.Module) -> bool:
    holder, _, _ = path.rpartition(".")
    held_in = network.get_submodule(holder)
    if not holder or (isinstance(held_in, (nn.Sequential, nn.ModuleList)) and any(True for _ in part.children())):
        return True
    act = getattr(part, "act", None)
    if isinstance(act, nn.Module) and hasattr(part, "running_mean"):
        return _activation(act)
    # an activation inside a normalisation is that normalisation's last step, and is tapped there
    return _activation(part) and not hasattr(held_in, "running_mean")


def _activation(part: nn.Module) -> bool:
    home = type(part).__module__
    return home == "torch.nn.modules.activation" or (home.startswith("timm.layers.activations"))


class _Catch:
    """A hook that keeps a tensor; an object, so that a deep copy of the network catches into its own store."""

    def __init__(self, store: dict[str, torch.Tensor], name: str) -> None:
        self.store, self.name = store, name

    def __call__(self, part: nn.Module, given: tuple[torch.Tensor, ...], *out: torch.Tensor) -> None:
        self.store[self.name] = out[0] if out else given[0]


class Tapped(nn.Module):
    """A network whose outputs are followed by the outputs of the layers named.

    forward: as the network's -> its outputs, then one float32 tensor a layer. `output_names` says which is which.
    Raises DataError for a layer the network does not have. Works eagerly, under torch.export and torch.jit.trace.
    """

    def __init__(self, network: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(names)
        self.input_names = tuple(network.input_names)
        self.output_names = (*network.output_names, *names)
        self.frame_hw = tuple(network.frame_hw)
        self._caught: dict[str, torch.Tensor] = {}
        parts = dict(network.named_modules())
        unknown = [name for name in names if name.removesuffix(INPUT) not in parts]
        if unknown:
            raise DataError(f"the network has no layer {unknown[0]!r}; use tap_names(network)")
        for name in names:
            part = parts[name.removesuffix(INPUT)]
            if name in parts:
                part.register_forward_hook(_Catch(self._caught, name))
            else:
                part.register_forward_pre_hook(_Catch(self._caught, name))
        self.eval()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As the class says."""
        outputs = as_tuple(self.network(image))
        layers = tuple(self._caught[name].float() for name in self.layers)
        self._caught.clear()
        return (*outputs, *layers)
