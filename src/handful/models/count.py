"""What a network costs: parameters, multiply-accumulates, and the most memory its activations need.

Counted by running it with shapes only: nothing is computed, so it takes no memory and a fraction of a second.

The rules. Parameters: numbers in the network's parameters, each counted once; running means and variances are not.
MACs: multiplications of convolutions, linear layers and matrix products, biases and everything else left out
(EfficientNet-Lite0 at 224 px has 385 M so; its authors' 407 M are by another rule). Activation peak: the largest sum of
tensors that are needed at the same time, each from the step that makes it to the last step that reads it, the frame
among them. A batch norm, an activation, or a sum writes over an input of the same size that nothing reads again, as
runtimes do or do better by fusing; views, and zeros around a picture, are free. fp32 unless the network itself says
otherwise; weights and a runtime's own scratch memory come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from handful.errors import DataError

# steps whose result may lie where an input lay
OVERWRITE = {
    "native_batch_norm", "_native_batch_norm_legit_no_training", "relu", "hardtanh", "hardswish", "hardsigmoid",
    "sigmoid", "silu", "gelu", "leaky_relu", "elu", "mish", "tanh", "clamp", "clamp_min", "add", "sub", "mul", "div",
    "sqrt", "neg", "pow",
}  # fmt: skip

# steps that a runtime folds into the next one
FREE = {"constant_pad_nd"}


@dataclass
class Layer:
    """One part that ran. type: its class, or the operation when a part's own code calls it; shape: of its output.

    activation_bytes: of the tensors it made, whether or not they need memory of their own.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True)
class Operation:
    """One ATen operation as it ran: its name, the layer it belongs to, its arguments (tensors as their shapes)."""

    name: str
    layer: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Counts:
    """What `count` found; the module says by which rules. training_only: parameters that no answer needs."""

    parameters: int
    training_only: int
    macs: int
    peak_activation_bytes: int
    output_shapes: list[tuple[int, ...]]
    layers: list[Layer]
    operations: list[Operation] = field(repr=False)

    @property
    def weight_bytes(self) -> int:
        """Of the parameters in fp32."""
        return 4 * self.parameters


@dataclass
class _Step:
    name: str
    reads: list[int]
    makes: list[tuple[int, int]]


class _Recorder(TorchDispatchMode):
    """Notes every operation with the storages it reads and makes."""

    def __init__(self) -> None:
        super().__init__()
        self.where: list[tuple[str, nn.Module]] = []
        self.layers: dict[str, Layer] = {}
        self.operations: list[Operation] = []
        self.steps: list[_Step] = []
        self.times: dict[str, int] = {}
        self.kept: dict[int, Any] = {}  # storages, so that none is freed and its number given to another

    def made(self, tensor: torch.Tensor) -> int | None:
        """Register a tensor's storage; its number when it is new."""
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self.kept:
            return None
        self.kept[key] = storage
        return key

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        normalized = func is torch.ops.aten.native_batch_norm.default and not args[5]
        out = _normalized(args[0]) if normalized else func(*args, **(kwargs or {}))
        if not func._schema.name.startswith("aten::"):  # a question about a tensor, no work
            return out
        name = func._schema.name.removeprefix("aten::")
        given = [a for a in _flat((args, kwargs or {})) if isinstance(a, torch.Tensor)]
        reads = [key for a in given if (key := a.untyped_storage()._cdata) in self.kept]
        outs = [o for o in _flat(out) if isinstance(o, torch.Tensor)]
        if name == "max_pool2d_with_indices":  # the places of the maxima are for training
            outs = outs[:1]
        makes = [(key, o.untyped_storage().nbytes()) for o in outs if (key := self.made(o)) is not None]
        self.steps.append(_Step(name, reads, makes))
        self._note(name, args, outs, sum(size for _, size in makes), _macs(name, args, outs))
        return out

    def _note(self, name: str, args: Any, outs: list[torch.Tensor], made: int, macs: int) -> None:
        path, part = self.where[-1] if self.where else ("", None)
        own = part is not None and (not any(part.children()) or any(True for _ in part.parameters(recurse=False)))
        key = path if own else self._key(f"{path}/{name}" if path else name, made > 0)
        plain = tuple(tuple(a.shape) if isinstance(a, torch.Tensor) else a for a in args)
        self.operations.append(Operation(name.removesuffix("_"), key, plain))
        if key not in self.layers:
            if not own and not made:
                return
            kind = type(part).__name__ if own else name
            self.layers[key] = Layer(key, kind, ())
        layer = self.layers[key]
        layer.shape = tuple(outs[0].shape) if outs else layer.shape
        layer.macs += macs
        layer.activation_bytes += made

    def _key(self, base: str, new: bool) -> str:
        """A name for an operation in a part's own code, with a number from the second on."""
        if new:
            self.times[base] = self.times.get(base, 0) + 1
        n = self.times.get(base, 1)
        return base if n == 1 else f"{base}.{n}"

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Follow which part is running."""
        hooks = []
        for path, part in network.named_modules():
            hooks.append(part.register_forward_pre_hook(lambda m, _, path=path: self.where.append((path, m))))
            hooks.append(part.register_forward_hook(lambda *_: self.where.pop() and None))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _normalized(given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What a batch norm gives in eval mode: the input's like, and no mean and deviation of its own. PyTorch finds the
    same from some twenty operations, which takes half of a count."""
    return torch.empty_like(given), given.new_empty(0), given.new_empty(0)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    else:
        yield value


def _macs(name: str, args: Sequence[Any], outs: Sequence[torch.Tensor]) -> int:
    shapes = [tuple(a.shape) if isinstance(a, torch.Tensor) else () for a in args]
    if name in ("convolution", "_convolution"):
        transposed = args[6]
        # a weight (out, in / groups, ...) meets every output once; a transposed one (in, out / groups, ...) every input
        return prod(shapes[0] if transposed else outs[0].shape) * prod(shapes[1][1:])
    if name in ("mm", "bmm"):
        return prod(outs[0].shape) * shapes[0][-1]
    if name in ("addmm", "baddbmm"):
        return prod(outs[0].shape) * shapes[1][-1]
    if "scaled_dot_product" in name:
        queries, keys, values = shapes[:3]
        return prod(queries[:-1]) * keys[-2] * (keys[-1] + values[-1])
    return 0


def _peak(steps: Sequence[_Step], frame: tuple[int, int], outputs: set[int]) -> int:
    last = {frame[0]: -1}
    for i, step in enumerate(steps):
        last.update({key: i for key, _ in step.makes})
        last.update(dict.fromkeys(step.reads, i))
    last.update(dict.fromkeys(outputs, len(steps)))
    for step in reversed(steps):
        if step.name in FREE and step.makes and step.reads:
            last[step.reads[0]] = max(last[step.reads[0]], last[step.makes[0][0]])
    live = dict([frame])
    peak = sum(live.values())
    for i, step in enumerate(steps):
        for key, size in step.makes:
            if step.name in FREE and step.reads:
                continue
            over = next((k for k in step.reads if live.get(k) == size and last[k] == i), None)
            if over is not None and step.name in OVERWRITE:
                del live[over]
            live[key] = size
        peak = max(peak, sum(live.values()))
        live = {key: size for key, size in live.items() if last[key] > i}
    return peak


def count(network: nn.Module, example: torch.Tensor) -> Counts:
    """Count a network for one input, in eval mode, without computing anything; the module says by which rules.

    example: a tensor as the network takes it, such as uint8 (1, h, w, 3); only its shape and dtype matter. A network
    whose work depends on what the image shows has a method `counted`, which does the most that one frame may need.
    The network is left as it was. Raises DataError, naming the reason, when it does not run on such an input.
    """
    modes = {part: part.training for part in network.modules()}
    recorder = _Recorder()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        network.eval()
        with torch.no_grad(), recorder.watching(network), fake:
            frame = torch.empty(example.shape, dtype=example.dtype)
            key = recorder.made(frame)
            assert key is not None
            with recorder:
                out = getattr(network, "counted", network)(frame)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = tuple(example.shape)
        raise DataError(f"the network does not run on {example.dtype} {shape} ({error}); give another frame") from error
    finally:
        for part, training in modes.items():
            part.training = training
    shapes = [tuple(o.shape) for o in _flat(out) if isinstance(o, torch.Tensor)]
    ends = {o.untyped_storage()._cdata for o in _flat(out) if isinstance(o, torch.Tensor)}
    peak = _peak(recorder.steps, (key, frame.untyped_storage().nbytes()), ends)
    seen: set[int] = set()
    used = 0
    for name, part in network.named_modules():
        for parameter in part.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                if name in recorder.layers:
                    recorder.layers[name].parameters += parameter.numel()
                    used += parameter.numel()
    total = sum(parameter.numel() for parameter in network.parameters())
    layers = list(recorder.layers.values())
    macs = sum(layer.macs for layer in layers)
    return Counts(total, total - used, macs, peak, shapes, layers, recorder.operations)
