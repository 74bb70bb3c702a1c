"""What networks there are, what one costs, and what a phone runtime will not take in it: before any training."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch

import handful.models
from handful.errors import DataError
from handful.models.count import Counts, Layer, Operation, count
from handful.models.folder import WEIGHTS, read_meta
from handful.models.preprocessing import NetCard
from handful.pick import names, pick, unknown
from handful.shipped import HOME, known

SCHEMA_VERSION = 1
NOT_ARGS = ("pretrained", "weights")
CLASSES = {"segment": 11, "classify": 10, "detect": 80, "instance": 80}


def classes_of(card: NetCard) -> int:
    """How many classes a network is shown with."""
    return card.classes or CLASSES.get(card.task, 10)


@dataclass(frozen=True)
class Rule:
    """An operation that a runtime does not take.

    effect: "cuts" (it runs outside the delegate, which is split there), "refused" (no file, or one that does not load)
    or "wrong" (it runs, and answers otherwise). when: of the operation's arguments, tensors as shapes; None for always.
    """

    operation: str
    runtimes: tuple[str, ...]
    advice: str
    effect: str = "cuts"
    when: Callable[[tuple[Any, ...]], bool] | None = None


EFFECTS = {
    "cuts": "runs outside the delegate: the network is cut there, and the map leaves the fast path and comes back",
    "refused": "cannot be converted or loaded",
    "wrong": "runs, with another answer than PyTorch's",
}


def _arg(args: tuple[Any, ...], i: int, default: Any) -> Any:
    return args[i] if len(args) > i else default


def _padded_mean(args: tuple[Any, ...]) -> bool:
    return any(_arg(args, 3, [0])) and bool(_arg(args, 5, True))


def _ceil(args: tuple[Any, ...]) -> bool:
    return bool(_arg(args, 4, False))


def _step(args: tuple[Any, ...]) -> bool:
    return bool(_arg(args, 4, 1) != 1)


_BOTH = ("executorch", "litert")
_NORM = "use batch norm, which is folded away"
# Each one measured: a network of two convolutions with the operation between them, converted, run, held against PyTorch
# and its delegates counted (executorch 1.5.1 with XNNPACK, litert-torch 0.10.0 with ai-edge-litert 2.3.0, ncnn and pnnx
# 20261020). Measured so and taken by all three: bilinear, max and mean pooling, transposed, dilated and grouped
# convolutions, hard-swish, SiLU, GELU, PReLU, sigmoid, joining maps. ONNX Runtime runs whatever it can load.
RULES: tuple[Rule, ...] = (
    Rule("upsample_nearest2d", _BOTH, "use bilinear, align_corners=False"),
    Rule("upsample_bicubic2d", _BOTH, "use bilinear, align_corners=False"),
    Rule("elu", _BOTH, "use ReLU or GELU"),
    Rule("mish", _BOTH, "use SiLU"),
    Rule("_softmax", ("executorch",), "over the last dimension it is taken; or leave it to the app",
         when=lambda args: args[1] not in (-1, len(args[0]) - 1)),
    Rule("avg_pool2d", ("executorch",), "leave padding out, or count_include_pad=False", when=_padded_mean),
    Rule("avg_pool2d", ("executorch",), "use ceil_mode=False", when=_ceil),
    Rule("avg_pool2d", ("ncnn",), "use ceil_mode=False", effect="wrong", when=_ceil),
    Rule("_adaptive_avg_pool2d", ("executorch",), "use an average pool of fixed size"),
    Rule("as_strided", ("executorch",), "AdaptiveAvgPool2d(1), channels last: use mean(dim=(2, 3), keepdim=True)"),
    Rule("reflection_pad2d", _BOTH, "pad with zeros"),
    Rule("replication_pad2d", _BOTH, "pad with zeros"),
    Rule("native_group_norm", _BOTH, _NORM),
    Rule("native_layer_norm", ("executorch",), _NORM),
    Rule("native_batch_norm", ("executorch",), f"an instance norm; {_NORM}", when=lambda args: bool(_arg(args, 5, 0))),
    Rule("avg_pool3d", _BOTH, f"a local response norm; {_NORM}"),
    Rule("split", ("executorch",), "use two 1x1 convolutions"),
    Rule("split_with_sizes", ("executorch",), "use two 1x1 convolutions"),
    Rule("flip", _BOTH, "turn the weights around it instead"),
    Rule("repeat", ("executorch",), "use a 1x1 convolution"),
    Rule("repeat", ("litert",), "use a 1x1 convolution", effect="refused"),
    Rule("slice", _BOTH, "with a step: use a pool or a convolution with a stride", when=_step),
    Rule("slice", ("ncnn",), "with a step: use a pool or a convolution with a stride", effect="refused", when=_step),
    Rule("_scaled_dot_product_flash_attention_for_cpu", ("executorch",), "use a convolutional network"),
)  # fmt: skip


def unsupported(operations: list[Operation]) -> list[dict[str, Any]]:
    """Operations in the table above: [{operation, runtimes, effect, reason, advice, times, layers}].

    layers: the names of those that have it, in order; effect and reason: as EFFECTS.
    """
    found = []
    for rule in RULES:
        hits = [op for op in operations if op.name == rule.operation and (rule.when is None or rule.when(op.args))]
        if hits:
            found.append(
                {
                    "operation": rule.operation,
                    "runtimes": list(rule.runtimes),
                    "effect": rule.effect,
                    "reason": EFFECTS[rule.effect],
                    "advice": rule.advice,
                    "times": len(hits),
                    "layers": list(dict.fromkeys(op.layer for op in hits)),
                }
            )
    return found


def card_of(kind: str) -> NetCard:
    """The card of net_<kind>.py. Raises UnknownName."""
    module = pick(handful.models, "net", kind)
    first = (module.__doc__ or "").partition("\n")[0]
    return getattr(module, "CARD", None) or NetCard("other", first, "see the file", "Apache-2.0")


def make(name: str, classes: int, args: Mapping[str, Any] | None = None) -> Any:
    """A network by name, "NET" or "NET:PRESET", its arguments checked; `args` win over the preset's.

    The network gets `kind` and `args`: what handful.models.folder.save_folder needs to rebuild it, with every default
    spelled out, and without pretrained and weights, whose work is done.
    Raises UnknownName (network, preset or argument, with the nearest), DataError (a value) or MissingPackage.
    """
    kind, _, preset = name.partition(":")
    module = pick(handful.models, "net", kind)
    presets = card_of(kind).presets or {}
    if preset and preset not in presets:
        raise unknown(f"preset of {kind}", preset, presets)
    chosen = {**(presets[preset] if preset else {}), **(args or {})}
    taken = inspect.signature(module.build).parameters
    own = {key: one for key, one in taken.items() if key != "classes"}
    for key, value in chosen.items():
        if key not in own:
            raise unknown(f"argument of {kind}", key, own)
        _check_type(kind, key, value, own[key].default)
    lacking = [key for key, one in own.items() if one.default is one.empty and key not in chosen]
    if lacking:
        raise DataError(f"{kind} needs {', '.join(lacking)}; give {lacking[0]}=... as well")
    network = module.build(classes, **chosen)
    full = {key: chosen.get(key, one.default) for key, one in own.items() if key not in NOT_ARGS}
    network.kind = kind
    network.args = {key: list(value) if isinstance(value, tuple) else value for key, value in full.items()}
    return network


def _check_type(kind: str, key: str, value: Any, default: Any) -> None:
    wanted: tuple[type, ...] = ()
    if isinstance(default, bool):
        wanted = (bool,)
    elif isinstance(default, (int, float)):
        wanted = (int,) if isinstance(default, int) else (int, float)
    elif isinstance(default, str):
        wanted = (str,)
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted != (bool,))):
        word = {bool: "true or false", int: "a whole number", str: "a word"}.get(
            wanted[0] if len(wanted) == 1 else float
        )
        raise DataError(f"{key} of {kind} must be {word or 'a number'}, got {value!r}; such as {key}={default}")


def counts_of(network: Any) -> Counts:
    """`count` on the network's own frame."""
    return count(network, torch.zeros((1, *network.frame_hw, 3), dtype=torch.uint8))


def describe(
    name: str, classes: int | None = None, args: Mapping[str, Any] | None = None, *, pretrained: bool = False
) -> dict[str, Any]:
    """What a network is and costs, as a JSON object; nothing is computed but shapes.

    classes: None for 11 (segmentation), 80 (detection) or 10. pretrained: also load the weights, which changes no
    number here. Raises as `make`.
    """
    card = card_of(name.partition(":")[0])
    number = classes if classes is not None else classes_of(card)
    given = dict(args or {})
    network = make(name, number, given if "pretrained" in given else {**given, **_untaught(name, pretrained)})
    counts = counts_of(network)
    return {
        "schema_version": SCHEMA_VERSION,
        "net": network.kind,
        "args": network.args,
        "task": card.task,
        "class_count": number,
        "input": {"shape": [1, *network.frame_hw, 3], "dtype": "uint8", "color_order": "RGB"},
        "padded_px": list(getattr(network, "padded_px", (0, 0))),
        "params": counts.parameters,
        "training_only_params": counts.training_only,
        "fp32_bytes": counts.weight_bytes,
        "fp16_bytes": counts.weight_bytes // 2,
        "macs": counts.macs,
        "peak_activation_bytes": counts.peak_activation_bytes,
        "output_shape": list(counts.output_shapes[0]),
        "unsupported": [*unsupported(counts.operations), *getattr(network, "unsupported", ())],
        "layers": [_row(layer) for layer in counts.layers],
        "training": card.trained_with(name, {**network.args, **given}),
        "card": {key: value for key, value in card.to_json().items() if key not in ("presets", "training")},
        "rules": (importlib.import_module("handful.models.count").__doc__ or "").partition("The rules. ")[2].strip(),
    }


def _row(layer: Layer) -> dict[str, Any]:
    row = asdict(layer)
    return {**row, "shape": list(layer.shape), "params": row.pop("parameters")}


def _untaught(name: str, pretrained: bool) -> dict[str, Any]:
    module = pick(handful.models, "net", name.partition(":")[0])
    return {"pretrained": pretrained} if "pretrained" in inspect.signature(module.build).parameters else {}


def listing() -> list[dict[str, Any]]:
    """Every net_*.py, by name: its card and what it costs with default arguments (null where it has none)."""
    rows = []
    for kind in names(handful.models, "net"):
        card = card_of(kind)
        row: dict[str, Any] = {"net": kind, **card.to_json()}
        costs = _costs(kind, pick(handful.models, "net", kind).build)
        rows.append({**row, **costs, "class_count": classes_of(card)})
    return rows


@cache
def _costs(kind: str, build: Callable[..., Any]) -> dict[str, Any]:
    """What a network costs with default arguments: nothing that changes while a program runs, and it has to be built
    for that. build: its own, so that another network of that name is another one."""
    del build
    try:
        told = describe(kind)
    except DataError:
        told = {}
    return {key: told.get(key) for key in ("params", "fp32_bytes", "macs", "peak_activation_bytes")}


def shipped() -> list[dict[str, Any]]:
    """The models that come with handful, by name: what they tell, their network, and how large their weights are."""
    rows = []
    for name in known():
        place = HOME / name
        meta = read_meta(place, whole=False)
        rows.append({
            "name": name, "task": meta["task"], "classes": meta["classes"], "net": meta["network"]["kind"],
            "params": meta["params"], "bytes": (place / WEIGHTS).stat().st_size, "card": meta["card"],
        })  # fmt: skip
    return rows
