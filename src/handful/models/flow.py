"""How signal flows through a network: which paths an image's answer really comes along, and how much along each.

The measure. The image runs through in eval mode. Where tensors a, b, ... meet (a concatenation, a sum, a product,
attention), each weighs sum |a * dL/da|: its activation times the gradient of L, the sum of the winning scores, along
that one way in. Behind a concatenation, a convolution makes this the activations times the weights it gives them. The
answer's signal, 1, is then handed back from the answer to the image: whole through everything that reads one tensor,
divided by these weights where several meet. So what enters a node is what leaves it, and the image's paths sum to 1.

Two things to know. A gate and what it gates weigh the same, for their product needs both alike. A path that carries
constants only (a bias behind weights of 0) carries signal all the same, since the answer does use it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from handful.errors import DataError
from handful.image import fit
from handful.models.folder import Model, from_folder
from handful.models.segmenter import UNetCore

SCHEMA_VERSION = 1
MEASURE = (
    "share of the answer's signal: activation times gradient of the winning scores, |a * dL/da|, summed over each "
    "tensor where several meet, and handed back from the answer (1) to the photo"
)
FEWEST, MOST = 8, 14  # nodes of a network whose own parts say nothing of its design
Graph = tuple[list["Node"], list["Edge"]]
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Mish, nn.PReLU)


@dataclass
class Node:
    """A part of the network. kind: image, encoder, bottom, again (the image fed again), decoder, block, head, answer.

    modules: the parts it is made of. stride: of its map, to a power of two; None for a
    map of one cell, or none. mean_activation: mean |a| of what it gives. importance: share of the answer's signal that
    passes through it, 0 to 1. heat: (h, w) float32, mean over channels of |a|; None where there is no map.
    """

    name: str
    kind: str
    modules: list[str]
    stride: int | None = None
    size_hw: tuple[int, int] | None = None
    channels: int = 0
    parameters: int = 0
    mean_activation: float = 0.0
    importance: float = 0.0
    heat: np.ndarray | None = field(default=None, repr=False)


@dataclass
class Edge:
    """A path between two nodes, by name. importance: share of the answer's signal that passes along it, 0 to 1.

    share: of what enters `target`, 0 to 1; sums to 1 there, unless nothing passes (0). channels: of the tensor."""

    source: str
    target: str
    importance: float
    share: float
    channels: int


@dataclass(frozen=True)
class Flow:
    """Nodes in order of running, paths between them, and what `handful.models.flow_picture.draw` needs besides.

    rgb_u8: (h, w, 3), the image as the network takes it. scores: (classes, ...) float32, the network's answer.
    """

    name: str
    task: str
    trained: bool
    nodes: list[Node]
    edges: list[Edge]
    classes: list[str]
    rgb_u8: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The nodes and paths as a JSON object, without pictures."""
        nodes = [{**vars(node), "size_hw": list(node.size_hw or ())} for node in self.nodes]
        nodes = [{key: value for key, value in node.items() if key != "heat"} for node in nodes]
        edges = [asdict(edge) for edge in self.edges]
        edges = [{"from": edge.pop("source"), "to": edge.pop("target"), **edge} for edge in edges]
        about = {"schema_version": SCHEMA_VERSION, "model": self.name, "task": self.task, "trained": self.trained}
        return {**about, "measure": MEASURE, "frame_hw": list(self.rgb_u8.shape[:2]), "nodes": nodes, "edges": edges}


def flow(model: Path | Model | nn.Module, rgb_u8: np.ndarray, *, name: str | None = None) -> dict[str, Any]:
    """`trace` as JSON: {schema_version, model, task, trained, measure, frame_hw, nodes, edges}; errors as there.

    nodes: as Node; edges: as Edge, its ends as "from" and "to"."""
    return trace(model, rgb_u8, name=name).as_json()


def trace(model: Path | Model | nn.Module, rgb_u8: np.ndarray, *, name: str | None = None) -> Flow:
    """Run an image through a network and measure what flows along each path; the module says by which measure.

    model: a model folder, or a network as uint8 (1, h, w, 3) -> logits (1, classes, ...), taken as untrained.
    rgb_u8: (h, w, 3), squashed to the network's `frame_hw` if it has one. The network is left as it was, and the same
    input gives the same result. Raises DataError for an image of another shape or dtype, a folder that is no model, a
    network that does not run on the image, or one whose answer cannot be followed back to it.
    """
    if not isinstance(rgb_u8, np.ndarray) or rgb_u8.dtype != np.uint8 or rgb_u8.ndim != 3 or rgb_u8.shape[2] != 3:
        found = f"{getattr(rgb_u8, 'dtype', type(rgb_u8).__name__)} {np.shape(rgb_u8)}"
        raise DataError(f"the photo must be uint8 (h, w, 3), RGB, got {found}; read it with handful.image")
    whole = from_folder(model) if isinstance(model, (str, Path)) else model if isinstance(model, Model) else None
    network: Any = whole.network if whole is not None else model
    if hasattr(network, "frame_hw"):
        rgb_u8 = fit(rgb_u8, network.frame_hw)
    with _borrowed(network):
        tracer, answer, parts, height = _run(network, torch.from_numpy(np.array(rgb_u8))[None])
    scores = answer.detach()[0].float().numpy()
    nodes, edges = _collect(network, tracer, answer, parts, height)
    classes = whole.classes if whole is not None else [f"class {i}" for i in range(scores.shape[0])]
    classes += ["none of these"] * (scores.shape[0] - len(classes))
    called = name or (whole.folder.resolve().name if whole is not None else type(network).__name__)
    task = getattr(network, "task", "segment" if scores.ndim == 3 else "classify")
    return Flow(called, task, whole is not None, nodes, edges, classes, rgb_u8, scores)


@contextmanager
def _borrowed(network: nn.Module) -> Iterator[None]:
    """A network in eval mode and without gradients of its weights, and afterwards as it was."""
    modes = {part: part.training for part in network.modules()}
    learn = {weight: weight.requires_grad for weight in network.parameters()}
    try:
        network.eval().requires_grad_(False)
        yield
    finally:
        for part, training in modes.items():
            part.training = training
        for weight, learns in learn.items():
            weight.requires_grad_(learns)


@dataclass
class _Step:
    """An operation: its node (None for one between nodes), the steps it reads, what each weighs, what it makes."""

    owner: int | None
    reads: list[int]
    weights: list[float]
    outs: list[torch.Tensor]


class _Tracer(TorchFunctionMode):
    """Notes every operation on what comes of the image, and listens to the gradient of each way into a meeting."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.steps = [_Step(0, [], [], [image])]
        self.made = {id(image): 0}
        self.owners: list[int | None] = [None]
        self.roots: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [t for t in _tensors((args, kwargs or {})) if id(t) in self.made]
        reads = [self.made[id(t)] for t in given]
        step = _Step(self.owners[-1], reads, [0.0] * len(reads), [])
        if len(given) > 1:
            order = iter(range(len(given)))
            args, kwargs = tree_map(lambda one: self._watched(one, step, order), (args, kwargs or {}))
        out = func(*args, **(kwargs or {}))
        step.outs = _tensors(out) if given else []
        if step.outs:
            self.steps.append(step)
            for made in step.outs:
                if made.is_floating_point() and not any(t.requires_grad for t in given):  # uint8 has no gradient
                    self.roots.append(made.requires_grad_())
                self.made[id(made)] = len(self.steps) - 1
        return out

    def _watched(self, value: Any, step: _Step, count: Iterator[int]) -> Any:
        if not isinstance(value, torch.Tensor) or id(value) not in self.made:
            return value
        i = next(count)
        if not value.requires_grad:
            return value
        way, held = value.clone(), value.detach().clone()  # the original may be written over later
        way.register_hook(lambda g: step.weights.__setitem__(i, float((held * g).abs().double().sum())))
        return way


def _tensors(value: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(value) if isinstance(one, torch.Tensor)]


@dataclass
class _Ran:
    """How a module ran the first time: its place in the order, what it read and made, and how often it ran."""

    order: int
    read: torch.Tensor | None
    made: torch.Tensor
    times: int = 1


def _answer(network: nn.Module, image: torch.Tensor, hooks: list[Any]) -> torch.Tensor:
    try:
        found = _tensors(network(image))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        what = f"the network does not run on uint8 {tuple(image.shape)}"
        raise DataError(f"{what} ({error}); give another photo or frame") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not found or found[0].ndim < 2 or len(found[0]) != 1:
        raise DataError(f"the network gives {[tuple(t.shape) for t in found]}; wanted scores, (1, classes, ...)")
    return found[0]


def _run(network: nn.Module, image: torch.Tensor) -> tuple[_Tracer, torch.Tensor, list[Node], int]:
    """The trace of the answer, the answer, the network's parts, and the height in pixels of the network's input."""
    ran: dict[str, _Ran] = {}
    hooks = []

    def note(path: str, given: Any, out: Any) -> None:
        if path in ran:
            ran[path].times += 1
        elif made := _tensors(out):
            ran[path] = _Ran(len(ran), next(iter(_tensors(given)), None), made[0])

    for path, part in network.named_modules():
        hooks.append(part.register_forward_hook(lambda _, given, out, path=path: note(path, given, out)))
    with torch.no_grad():
        plain = _answer(network, image, hooks)
    core = ran["core"].read if "core" in ran else None
    height = core.shape[2] if core is not None and core.ndim == 4 else image.shape[1]
    nodes = _nodes_of(network, ran, plain.shape[1], height)
    ran.clear()
    tracer, hooks = _Tracer(image), []
    for i, path in ((i, path) for i, node in enumerate(nodes, 1) for path in node.modules):
        part = network.get_submodule(path)
        hooks.append(part.register_forward_pre_hook(lambda *_, i=i: tracer.owners.append(i)))
        hooks.append(part.register_forward_hook(lambda *_: tracer.owners.pop() and None))
    with torch.enable_grad(), tracer:
        out = _answer(network, image, hooks)
    if id(out) not in tracer.made or not out.requires_grad or not torch.allclose(out, plain, rtol=1e-3, atol=1e-4):
        raise DataError("the network's answer cannot be followed back to the image: it writes over tensors, or "
                        "leaves PyTorch on the way; choose another network")  # fmt: skip
    torch.autograd.grad(out.amax(dim=1).sum(), tracer.roots, allow_unused=True)
    return tracer, out, nodes, height


def _collect(network: Any, tracer: _Tracer, answer: torch.Tensor, parts: list[Node], height: int) -> Graph:
    """Hand the answer's signal back, step by step, and sum what crosses from node to node."""
    nodes = [Node("image", "image", []), *parts, Node("answer", "answer", [])]
    last = len(nodes) - 1
    demand: list[dict[int, float]] = [defaultdict(float) for _ in tracer.steps]  # of each step: by whom, how much
    demand[tracer.made[id(answer)]][last] = 1.0
    between: dict[tuple[int, int], float] = defaultdict(float)
    wide: dict[tuple[int, int], int] = defaultdict(int)
    for i in range(len(tracer.steps) - 1, -1, -1):
        step, wanted = tracer.steps[i], demand[i]
        if not wanted:
            continue
        if step.owner is not None:
            for to in (to for to in wanted if to != step.owner):
                between[step.owner, to] += wanted[to]
                wide[step.owner, to] = max(wide[step.owner, to], _channels(step.outs[0]))
                if nodes[step.owner].size_hw is None:  # its last output is the one it is known by
                    _measure(nodes[step.owner], step.outs[0], height)
            wanted = {step.owner: sum(wanted.values())}
        total = sum(step.weights)
        for read, weight in zip(step.reads, step.weights, strict=True):
            share = weight / total if total > 0 else 1 / len(step.reads)
            for to, much in wanted.items():
                demand[read][to] += much * share
    _measure(nodes[last], answer, height)
    into = {i: sum(much for (_, to), much in between.items() if to == i) for i in range(len(nodes))}
    for i, node in enumerate(nodes):
        node.importance = into[i] if i else 1.0
        node.parameters = sum(w.numel() for path in node.modules for w in network.get_submodule(path).parameters())
    local = {(a, b): much / into[b] if into[b] > 0 else 0.0 for (a, b), much in between.items()}
    edges = [Edge(nodes[a].name, nodes[b].name, between[a, b], local[a, b], wide[a, b]) for a, b in sorted(between)]
    return [node for i, node in enumerate(nodes) if any(i in pair for pair in between)], edges


def _channels(out: torch.Tensor) -> int:
    return int(out.shape[-1] if out.ndim == 3 or out.dtype == torch.uint8 else out.shape[1] if out.ndim > 1 else 1)


def _measure(node: Node, out: torch.Tensor, height: int) -> None:
    a = out.detach().float().abs()
    node.channels, node.mean_activation = _channels(out), float(a.mean())
    if out.dtype == torch.uint8:
        a = a.permute(0, 3, 1, 2)
    node.size_hw = (int(a.shape[2]), int(a.shape[3])) if a.ndim == 4 else (1, 1)
    if node.size_hw != (1, 1):
        node.stride = _stride(height, node.size_hw[0])
        node.heat = a[0].mean(dim=0).numpy()


def _stride(height: int, own: int) -> int:
    return 1 << max(0, round(math.log2(height / own)))  # a map without padding is a little smaller than its stride says


def _children(network: nn.Module, path: str, ran: dict[str, _Ran]) -> list[str]:
    """The parts below one that ran, in order of running; lists of parts do not run, so those in them count."""
    found: list[str] = []
    for name, _ in network.get_submodule(path).named_children():
        below = f"{path}.{name}" if path else name
        found += [below] if below in ran else _children(network, below, ran)
    return sorted(found, key=lambda one: ran[one].order)


def _weights(network: nn.Module, path: str) -> int:
    return sum(w.numel() for w in network.get_submodule(path).parameters() if w.ndim > 1)


def _units(network: nn.Module, path: str, ran: dict[str, _Ran]) -> list[list[str]]:
    """Parts below one, the largest opened until there are enough; norms and activations go with what they follow."""
    found = _children(network, path, ran)
    while len([one for one in found if _weights(network, one)]) < FEWEST:
        closed = [one for one in found if _children(network, one, ran) and _weights(network, one)]
        if len(found) > 2:  # a block of the design stays whole
            closed = [one for one in closed if type(network.get_submodule(one)) is nn.Sequential]
        if not closed:
            break
        i = found.index(max(closed, key=lambda one: _weights(network, one)))
        found[i : i + 1] = _children(network, found[i], ran)
    groups: list[list[str]] = []
    for one in found:
        part, here = network.get_submodule(one), ran[one]
        if _weights(network, one):
            groups.append([one])
        elif here.times == 1 and (any(True for _ in part.parameters()) or isinstance(part, ACTIVATIONS)):
            before = [group for group in groups if ran[group[-1]].made is here.read]
            before[-1].append(one) if before else None
    return groups


def _by_stride(groups: list[list[str]], ran: dict[str, _Ran], most: int = 0) -> list[list[str]]:
    """Neighbors whose maps have one size as one group, until at most `most` are left."""
    joined = [list(group) for group in groups]
    while len(joined) > most:
        same = [i for i in range(len(joined) - 1)
                if ran[joined[i][-1]].made.shape[2:] == ran[joined[i + 1][-1]].made.shape[2:]]  # fmt: skip
        if not same:
            break
        i = min(same, key=lambda i: len(joined[i]) + len(joined[i + 1]))
        joined[i : i + 2] = [joined[i] + joined[i + 1]]
    return joined


def _nodes_of(network: nn.Module, ran: dict[str, _Ran], classes: int, height: int) -> list[Node]:
    """What the network's own design calls its parts, where it is one of ours; else its parts by what they are."""
    core, top = getattr(network, "core", None), "core" if "core" in ran else ""

    def node(kind: str, modules: list[str], name: str = "") -> Node:
        made = ran[modules[-1]].made
        at = f" /{_stride(height, made.shape[2])}" if made.ndim == 4 and made.shape[2] > 1 else ""
        return Node(name or {"again": "image again"}.get(kind, kind) + at, kind, modules)

    nodes: list[Node] = []
    if isinstance(core, UNetCore):
        before = f"{top}.encoder"
        fed = [f"{path}.refeed.convs" for path in (before, top) if f"{path}.refeed" in ran]
        nodes += [node("again", [one]) for path in fed for one in _children(network, path, ran)]
        deep = [[one] for one in _children(network, before, ran) if not one.endswith(".refeed")]
        deep = _by_stride(_units(network, f"{before}.network", ran) if len(deep) == 1 else deep, ran)
        deepest = [f"{top}.bottom"] if core.bottom is not None else deep.pop()
        nodes += [*(node("encoder", group) for group in deep), node("bottom", deepest)]
        for i in reversed(range(len(core.decoder.stages))):
            nodes.append(node("decoder", [f"{top}.decoder.reduce.{i}", f"{top}.decoder.stages.{i}"]))
        nodes.append(node("head", [f"{top}.head"], "head"))
    else:
        parts = [one for one in _children(network, top, ran) if one not in ("normalize", "resize")]
        down = next((one for one in parts if one.endswith("backbone")), None) if top else None
        if down is not None:
            nodes += [node("encoder", group) for group in _by_stride(_units(network, down, ran), ran)]
            rest = [[one] for one in parts if one != down and _weights(network, one)]
            rest = [[one] for group in rest for one in _children(network, group[0], ran) or group]
        else:
            rest = _by_stride(_units(network, top, ran), ran, MOST)
        for group in rest:
            ends = ran[group[-1]].made.shape[1] == classes
            said = group[0].removeprefix(f"{top}.").removeprefix("network.")
            nodes.append(node("head" if ends else "block" if down is None else "decoder", group, said))
    names = [one.name for one in nodes]
    for one in (one for one in nodes if names.count(one.name) > 1):
        one.name = f"{one.name} ({one.modules[0]})"
    return sorted(nodes, key=lambda one: ran[one.modules[0]].order)
