"""Weights from another model: which layer came from where, at what learning rate, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

import handful.models
from handful.data.near_names import warn_of_strangers
from handful.errors import DataError
from handful.files import read_tensors, replacing
from handful.models.folder import WEIGHTS, read_meta
from handful.pick import names, need, pick
from handful.places import MARK
from handful.plotting import readable

What = Literal["kept", "reshaped", "dropped", "new"]
COLORS = {"kept": "#4878a8", "reshaped": "#d9a441", "new": "#6aa66a", "dropped": "#b0b0b0"}
MEANS = {
    "kept": "the old weights",
    "reshaped": "old weights of the classes that both have, the others anew",
    "new": "begun anew",
    "dropped": "old weights without a place",
}


@dataclass(frozen=True)
class Row:
    """What became of one tensor. old, new: its shape there; None where it is not. lr: factor of the learning rate,
    0 for frozen or not trained, None where there is nothing to train.
    """

    name: str
    what: What
    old: tuple[int, ...] | None
    new: tuple[int, ...] | None
    lr: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


def transfer(
    network: torch.nn.Module, source: Path, classes: Sequence[str], *, rename: Mapping[str, str] | None = None
) -> list[Row]:
    """Put the weights of a model folder into a network where name and shape are the same.

    Where a tensor's first length is the number of classes, and the classes are not the same, the rows of those that
    both have are taken by name. rename: {beginning of an old name: beginning of the new one}. Returns a row a tensor,
    in the network's order, then those dropped. Raises DataError when source is no model folder or nothing in it fits.
    """
    source = Path(source)
    meta = read_meta(source)
    if meta["network"].get("kind") not in names(handful.models, "net"):  # a taught detector, which is several
        raise DataError(f"{source} is no single network, so there are no weights to begin with; wanted a model that "
                        "`handful train` made")  # fmt: skip
    before = list(meta["classes"])
    warn_of_strangers("the data", classes, before, "begun anew")
    found = read_tensors(source / WEIGHTS)
    theirs = {_renamed(name, rename or {}): value for name, value in found.items()}
    by_class = {_renamed(name, rename or {}) for name in _class_tensors(meta, found)}
    rows: list[Row] = []
    taken: set[str] = set()
    with torch.no_grad():
        for name, own in network.state_dict().items():
            old, shape = theirs.get(name), tuple(own.shape)
            if old is not None and old.shape == shape and (name not in by_class or before == list(classes)):
                own.copy_(torch.from_numpy(old))
                rows.append(Row(name, "kept", shape, shape))
            elif old is not None and name in by_class and _mapped(own, torch.from_numpy(old), classes, before):
                rows.append(Row(name, "reshaped", tuple(old.shape), shape))
            else:
                rows.append(Row(name, "new", None, shape))
                continue
            taken.add(name)
    if not any(theirs[name].ndim for name in taken):
        few = ", ".join(list(theirs)[:3])
        raise DataError(f"nothing in {source} fits the network: no tensor has the name and shape of one of its own "
                        f"(there: {few}, ...); choose a model of the same kind, or rename")  # fmt: skip
    rows += [Row(name, "dropped", tuple(old.shape), None) for name, old in theirs.items() if name not in taken]
    return rows


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    for old, new in rename.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _class_tensors(meta: Mapping[str, Any], found: Mapping[str, Any]) -> set[str]:
    """Names of the tensors whose first length is the number of classes: those that another class would change."""
    build = pick(handful.models, "net", str(meta["network"]["kind"])).build
    more = build(len(meta["classes"]) + 1, **meta["network"]["args"], pretrained=False).state_dict()
    return {name for name, value in found.items() if name in more and tuple(more[name].shape) != value.shape}


def _mapped(own: torch.Tensor, old: torch.Tensor, classes: Sequence[str], before: Sequence[str]) -> bool:
    """Take the rows of the classes that both have; False when there is none, or more than the classes differs."""
    both = [name for name in classes if name in before]
    fits = own.shape[1:] == old.shape[1:] and own.shape[0] == len(classes) and old.shape[0] == len(before)
    if both and fits:
        own[[list(classes).index(n) for n in both]] = old[[list(before).index(n) for n in both]].to(own)
    return bool(both) and fits


def with_rates(rows: Sequence[Row], rates: Mapping[str, float]) -> list[Row]:
    """The rows with the factor of the learning rate of each tensor that is trained."""
    return [replace(row, lr=rates[row.name]) if row.new and row.name in rates else row for row in rows]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many tensors of each kind."""
    return {what: sum(row.what == what for row in rows) for what in COLORS}


def table(rows: Sequence[Row]) -> str:
    """A line a layer, for people: name, what became of it, shapes, factor of the learning rate."""
    lines = [f"{'layer':<52} {'what':<9} {'old':>18} {'new':>18}  lr"]
    for row in layers(rows):
        lr = "" if row.lr is None else f"{row.lr:g}"
        lines.append(f"{row.name[-52:]:<52} {row.what:<9} {_shape(row.old):>18} {_shape(row.new):>18}  {lr}")
    total = counts(rows)
    lines.append("tensors: " + ", ".join(f"{n} {what}" for what, n in total.items()))
    return "\n".join(lines)


def layers(rows: Sequence[Row]) -> list[Row]:
    """A row a layer instead of one a tensor: that of its largest tensor."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        layer = row.name.rpartition(".")[0] or row.name
        key = (layer, "dropped" if row.what == "dropped" else "")
        best = found.get(key)
        if best is None or _numbers(row) > _numbers(best):
            found[key] = Row(layer, row.what, row.old, row.new, row.lr)
    return list(found.values())


def _numbers(row: Row) -> int:
    n = 1
    for side in row.new or row.old or ():
        n *= side
    return n


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "scalar"


def draw(rows: Sequence[Row], path: Path, *, old: str = "old", new: str = "new") -> None:
    """A PNG of where weights went: old layers left, new ones right, a band a layer, colored by what became of it.

    The height of a layer grows with the number of its weights. Above 80 layers, neighbours of one kind are joined.
    """
    figure_of = need("matplotlib.figure", "report")
    patches, paths = need("matplotlib.patches", "report"), need("matplotlib.path", "report")
    shown = _joined(layers(rows))
    heights = [0.25 + min(1.0, _numbers(row) ** 0.5 / 400) for row in shown]
    tall = sum(heights) + 0.06 * len(shown)
    figure = figure_of.Figure(figsize=(9, max(3.0, min(40.0, 0.42 * tall + 1.4))), layout="constrained")
    axes = figure.subplots()
    left = right = 0.0
    for row, height in zip(shown, heights, strict=True):
        color = COLORS[row.what]
        if row.old is not None:
            axes.add_patch(patches.Rectangle((0, left), 0.06, height, color=color))
            axes.text(-0.01, left + height / 2, f"{row.name}  {_shape(row.old)}", ha="right", va="center", fontsize=6)
        if row.new is not None:
            lr = "" if row.lr is None else "  frozen" if row.lr == 0 else f"  lr x{row.lr:g}"
            axes.add_patch(patches.Rectangle((0.94, right), 0.06, height, color=color))
            axes.text(1.01, right + height / 2, f"{row.name}  {_shape(row.new)}{lr}", va="center", fontsize=6)
        if row.old is not None and row.new is not None:
            a, b = left, right
            points = [(0.06, a), (0.5, a), (0.5, b), (0.94, b), (0.94, b + height), (0.5, b + height),
                      (0.5, a + height), (0.06, a + height), (0.06, a)]  # fmt: skip
            code = paths.Path
            codes = [code.MOVETO, *[code.CURVE4] * 3, code.LINETO, *[code.CURVE4] * 3, code.CLOSEPOLY]
            axes.add_patch(patches.PathPatch(code(points, codes), facecolor=color, alpha=0.35, lw=0))
        left += (height + 0.06) * (row.old is not None)
        right += (height + 0.06) * (row.new is not None)
    total = counts(rows)
    marks = [patches.Patch(color=COLORS[k], label=f"{k}: {MEANS[k]} ({n})") for k, n in total.items() if n]
    figure.legend(handles=marks, loc="outside lower center", fontsize=7, ncols=2, frameon=False)
    for x, name in enumerate((old, new)):  # a folder may have any name
        readable(axes.text(x, -0.3, name, ha="center", fontsize=8, weight="bold"))
    axes.set_xlim(-0.7, 1.7)
    axes.set_ylim(max(left, right, 1.0) + 0.1, -0.6)
    axes.axis("off")
    with replacing(path, own=True) as part:
        figure.savefig(part, format="png", dpi=130, metadata={"Software": MARK})


def _joined(rows: list[Row], most: int = 80) -> list[Row]:
    """Neighbours of one kind and one parent as one row, until at most `most` are left or nothing can be joined."""
    depth = max((row.name.count(".") for row in rows), default=0)
    while len(rows) > most and depth >= 0:
        joined: list[Row] = []
        for row in rows:
            name = ".".join(row.name.split(".")[: depth + 1])
            last = joined[-1] if joined else None
            if last is not None and (last.name, last.what, last.lr) == (name, row.what, row.lr):
                if _numbers(row) > _numbers(last):
                    joined[-1] = Row(name, row.what, row.old, row.new, row.lr)
            else:
                joined.append(Row(name, row.what, row.old, row.new, row.lr))
        rows, depth = joined, depth - 1
    return rows
