"""A picture of `handful.models.flow`: the network as a U or a chain, each path as broad as the signal it carries."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.data.masks import voc_palette
from handful.files import replacing
from handful.models.flow import MEASURE, Edge, Flow, Node
from handful.pick import need
from handful.places import MARK
from handful.plotting import readable

TALL, GAP, ROW, CHAIN_ROW, MOST_A_LINE = 0.72, 0.92, 1.62, 2.7, 12  # inches: box, between columns, between rows
LANE = 0.84  # how far below its row's middle the image fed again runs
THINNEST, INK, PALE = 0.014, "#222222", "#666666"
COLORS = {"again": "#d9a441", "skip": "#5f9e6e", "down": "#4878a8", "up": "#7a6aa8", "on": "#8a8a8a"}
MEANS = {"down": "path down", "skip": "skip connection", "up": "path up", "again": "the image, fed in or fed again",
         "on": "from part to part"}  # fmt: skip
EDGES = {"image": "again", "again": "again", "encoder": "down", "bottom": "down", "decoder": "up"}


@dataclass
class _Box:
    node: Node
    x: float
    y: float
    wide: float
    tall: float
    row: float

    def side(self, name: str) -> tuple[float, float]:
        dx, dy = {"left": (-1, 0), "right": (1, 0), "bottom": (0, -1), "top": (0, 1)}[name]
        return self.x + dx * self.wide / 2, self.y + dy * self.tall / 2


def draw(found: Flow, path: Path) -> None:
    """Write a PNG: the U of a segmentation network, or a classifier's chain; parts show their mean |activation|.

    A ribbon's breadth and number are the share of the answer's signal on that path; under 0.1 % it is a hair's
    breadth. Whole or not at all. Raises DataError when it cannot be written, MissingPackage without matplotlib.
    """
    figure_of = need("matplotlib.figure", "report")
    boxes, chain = _placed(found)
    left = min(box.x - box.wide / 2 for box in boxes.values()) - (
        1.1 if max(box.row for box in boxes.values()) and chain else 0.35
    )
    right = max(box.x + box.wide / 2 for box in boxes.values()) + (1.1 if chain else 0.75)
    low = min(box.y - box.tall / 2 for box in boxes.values()) - (1.75 if chain else 1.55)
    high = max(box.y + box.tall / 2 for box in boxes.values()) + (1.5 if chain else 1.15)
    right = max(right, left + 9.0)
    answer = boxes["answer"]
    low = min(low, answer.y - 3.4) if found.task == "segment" else low
    figure = figure_of.Figure(figsize=(right - left, high - low), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    for edge, points, color in _routes(found, boxes, chain):
        # what the image fed again carries is said behind it
        _ribbon(axes, edge, points, color, said=boxes[edge.target].node.kind != "again")
    for box in boxes.values():
        _box(axes, box, found, chain)
    _answer(axes, answer, found, chain)
    said = "trained weights" if found.trained else "RANDOM WEIGHTS, untrained: the paths say nothing of a task yet"
    readable(axes.text(left + 0.35, high - 0.3, found.name, fontsize=15, weight="bold", va="center", color=INK))
    axes.text(left + 0.35, high - 0.58, said, fontsize=9.5, va="center", color=PALE if found.trained else "#b03a2e")
    _legend(axes, found, left + 0.35, low, right - left - 0.7)
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.axis("off")
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": MARK})


def _placed(found: Flow) -> tuple[dict[str, _Box], bool]:
    """Where each node lies, in inches; and whether they are a chain, from left to right and on in the next line."""
    height, width = found.rgb_u8.shape[:2]
    wide = TALL * min(1.7, max(0.8, width / height))
    pitch = wide + GAP
    inner = [node for node in found.nodes if node.kind not in ("image", "answer")]
    chain = not any(node.kind in ("encoder", "decoder") for node in inner)
    if chain:
        lines = -(-len(found.nodes) // MOST_A_LINE)
        each = -(-len(found.nodes) // lines)
        at = {node.name: (i % each, i // each) for i, node in enumerate(found.nodes)}
        line = {
            node.name: _Box(node, at[node.name][0] * pitch, -CHAIN_ROW * at[node.name][1], wide, TALL, at[node.name][1])
            for node in found.nodes
        }
        line["answer"].x += 0.6
        line["answer"].wide += 1.2  # names and bars of the classes
        return line, True
    strides = sorted({node.stride for node in inner if node.stride})
    row_of = {stride: float(i) for i, stride in enumerate(strides)}
    boxes: dict[str, _Box] = {}
    again = [node for node in inner if node.kind == "again"]
    column = 2 if again else 1
    joined = {(edge.source, edge.target) for edge in found.edges}
    for node in inner:
        row = row_of[node.stride] if node.stride else float(len(strides))
        if node.kind == "again":
            boxes[node.name] = _Box(node, pitch, -ROW * row - LANE, wide * 0.55, TALL * 0.55, row)
            continue
        beside = [box.node.name for box in boxes.values() if box.row == row and box.node.kind == "head"]
        if node.kind == "head" and any((other, node.name) not in joined for other in beside):
            row += 0.75  # or what comes from the other head would seem to pass through this one
        boxes[node.name] = _Box(node, column * pitch, -ROW * row, wide, TALL, row)
        column += 1
    first, end = found.nodes[0], found.nodes[-1]
    big = wide * 1.35
    boxes[first.name] = _Box(first, 0.0, 0.0, big, big * height / width, 0.0)
    row = min(boxes[edge.source].row for edge in found.edges if edge.target == end.name)
    boxes[end.name] = _Box(end, column * pitch + (big - wide) / 2, -ROW * row, big, big * height / width, row)
    return boxes, False


def _routes(found: Flow, boxes: dict[str, _Box], chain: bool) -> list[tuple[Edge, list[tuple[float, float]], str]]:
    """Each path's corners, from side to side of its boxes, broad ones first so that none hides a narrow one."""
    sides: dict[int, tuple[str, str]] = {}
    ports: dict[tuple[str, str], list[tuple[float, int, bool]]] = defaultdict(list)
    for i, edge in enumerate(found.edges):
        a, b = boxes[edge.source], boxes[edge.target]
        sides[i] = _sides(a, b, chain)
        for (own, other), side, leaving in (((a, b), sides[i][0], True), ((b, a), sides[i][1], False)):
            key = -other.y if side in ("left", "right") else other.x
            if side in ("left", "right") and abs(other.y - own.y) < 0.01:
                key = -own.y - 0.5  # what runs straight on lies above what bends
            ports[own.node.name, side].append((key, i, leaving))
    at: dict[tuple[int, bool], tuple[float, float]] = {}
    for (name, side), ways in ports.items():
        x, y = boxes[name].side(side)
        flat = side in ("left", "right")
        lying = -sum(_broad(found.edges[i]) for _, i, _ in ways) / 2
        for _, i, leaving in sorted(ways):
            middle = lying + _broad(found.edges[i]) / 2
            lying += _broad(found.edges[i])
            at[i, leaving] = (x, y - middle) if flat else (x + middle, y)
    routes = []
    for i, edge in enumerate(found.edges):
        a, b = boxes[edge.source], boxes[edge.target]
        (xa, ya), (xb, yb) = at[i, True], at[i, False]
        if chain and a.row != b.row:
            lane, turn = a.y - 1.0, xb - 0.62
            points = [(xa, ya), (xa, lane), (turn, lane), (turn, yb), (xb, yb)]
        elif sides[i] == ("bottom", "left"):
            points = [(xa, ya), (xa, yb), (xb, yb)]
        elif sides[i] == ("right", "bottom"):
            points = [(xa, ya), (xb, ya), (xb, yb)]
        elif sides[i] == ("bottom", "bottom"):
            lane = min(ya, yb) - 0.35 - 0.1 * abs(a.x - b.x) / (a.wide + GAP) - _broad(edge) / 2
            points = [(xa, ya), (xa, lane), (xb, lane), (xb, yb)]
        else:
            bend = xb - GAP * 0.5
            points = [(xa, ya), (xb, yb)] if abs(ya - yb) < 1e-3 else [(xa, ya), (bend, ya), (bend, yb), (xb, yb)]
        routes.append((edge, points, _color(a.node, b.node)))
    return sorted(routes, key=lambda route: -route[0].importance)


def _sides(a: _Box, b: _Box, chain: bool) -> tuple[str, str]:
    if chain:
        if a.row != b.row:
            return "bottom", "left"
        return ("right", "left") if 0 < b.x - b.wide / 2 - a.x - a.wide / 2 < 1.01 * GAP else ("bottom", "bottom")
    if a.node.kind != "again" and b.y < a.y - 0.3:
        return "bottom", "left"
    return ("right", "bottom") if b.y > a.y + 0.8 * ROW else ("right", "left")


def _color(a: Node, b: Node) -> str:
    skip = a.kind == "encoder" and b.kind in ("decoder", "head")
    up = a.kind == "bottom" and b.kind == "decoder"
    return COLORS["skip" if skip else "up" if up else EDGES.get(a.kind, "on")]


def _broad(edge: Edge) -> float:
    return max(THINNEST, edge.importance * TALL)


def _ribbon(axes: Any, edge: Edge, corners: list[tuple[float, float]], color: str, *, said: bool) -> None:
    patches = need("matplotlib.patches", "report")
    broad = _broad(edge)
    middle = _rounded(np.array(corners, float), max(0.22, broad * 0.62))
    along = np.gradient(middle, axis=0)
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None] * broad / 2
    outline = np.concatenate([middle + across, (middle - across)[::-1]])
    axes.add_patch(patches.Polygon(outline, closed=True, facecolor=color, alpha=0.62, lw=0, zorder=1))
    if not said:
        return
    legs = np.diff(np.array(corners), axis=0)
    longest = int(np.argmax(np.abs(legs).sum(axis=1)))
    x, y = np.array(corners[longest]) + legs[longest] / 2
    percent = 100 * edge.importance
    text = (
        f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.095 or not percent else "<0.1 %"
    )
    inside = broad > 0.17
    if abs(legs[longest][0]) >= abs(legs[longest][1]):
        y += 0 if inside else broad / 2 + 0.095
    else:
        x += 0 if inside else broad / 2 + 0.2
    halo = need("matplotlib.patheffects", "report").withStroke(linewidth=2.2, foreground="white", alpha=0.85)
    axes.text(x, y, text, fontsize=9.5, weight="bold", ha="center", va="center", color=INK, zorder=6,
              path_effects=[halo])  # fmt: skip


def _rounded(corners: np.ndarray, radius: float) -> np.ndarray:
    """A line through corners, (n, 2), with a curve in place of each corner, as (m, 2) points."""
    points = [np.linspace(corners[0], corners[0], 1)]
    for before, here, after in zip(corners, corners[1:], corners[2:], strict=False):
        lengths = [float(np.hypot(*(before - here))), float(np.hypot(*(after - here)))]
        shares = [min(radius * 1.6, 0.5 * length if len(corners) > 3 else 0.95 * length) for length in lengths]
        start = here + (before - here) * shares[0] / max(lengths[0], 1e-9)
        end = here + (after - here) * shares[1] / max(lengths[1], 1e-9)
        t = np.linspace(0, 1, 40)[:, None]
        points.append((1 - t) ** 2 * start + 2 * t * (1 - t) * here + t**2 * end)
    points.append(np.linspace(corners[-1], corners[-1], 1))
    whole = np.concatenate(points)
    apart = np.concatenate([[True], np.abs(np.diff(whole, axis=0)).sum(axis=1) > 1e-9])
    whole = whole[apart]
    # a point close to each end keeps the ribbon square to its box
    first, last = whole[0] + (whole[1] - whole[0]) * 0.01, whole[-1] + (whole[-2] - whole[-1]) * 0.01
    return np.concatenate([whole[:1], first[None], whole[1:-1], last[None], whole[-1:]])


def _box(axes: Any, box: _Box, found: Flow, chain: bool) -> None:
    patches = need("matplotlib.patches", "report")
    node = box.node
    extent = (box.x - box.wide / 2, box.x + box.wide / 2, box.y - box.tall / 2, box.y + box.tall / 2)
    picture = {"interpolation": "nearest", "aspect": "auto", "zorder": 3, "extent": extent}
    if node.kind == "image":
        axes.imshow(found.rgb_u8, **picture)
    elif node.kind == "answer" and found.scores.ndim == 3:
        palette = np.frombuffer(voc_palette(), np.uint8).reshape(-1, 3)
        axes.imshow(palette[_shade(found.scores.argmax(0))], **picture)
    elif node.heat is not None:
        axes.imshow(node.heat, cmap="magma", vmin=0, vmax=max(1e-9, float(np.quantile(node.heat, 0.995))), **picture)
    edge = {"image": INK, "answer": INK, "head": INK}.get(node.kind, COLORS[EDGES.get(node.kind, "on")])
    axes.add_patch(patches.Rectangle((extent[0], extent[2]), box.wide, box.tall, lw=1.6, edgecolor=edge, zorder=4,
                                     facecolor="none" if node.heat is not None else "#f2f2f2"))  # fmt: skip
    if node.heat is None and node.kind not in ("image", "answer"):
        axes.text(box.x, box.y, f"{node.channels}\nnumbers", fontsize=7, ha="center", va="center", zorder=5, color=PALE)
    if node.kind == "answer" and found.scores.ndim < 3:
        return
    size = f"{node.size_hw[0]}x{node.size_hw[1]}x{node.channels}" if node.size_hw else ""
    if node.kind == "again":
        axes.text(box.x, extent[2] - 0.05, f"{node.name}, {node.channels} ch", fontsize=8, ha="center", va="top",
                  color=INK, zorder=6)  # fmt: skip
        return
    name = {"image": "photo"}.get(node.name, node.name)
    params = f", {node.parameters / 1e3:,.0f}k" if node.parameters >= 1000 else ""
    y = extent[3] + 0.05
    small = "" if node.kind in ("image", "answer") else params
    axes.text(box.x, y + 0.145, _short(name), fontsize=9.5, weight="bold", ha="center", va="bottom",
              color=INK, zorder=6)  # fmt: skip
    axes.text(box.x, y, size + small, fontsize=8, ha="center", va="bottom", color=PALE,
              zorder=6)  # fmt: skip


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else "..." + name[-most + 3 :]


def _shade(labels: np.ndarray) -> np.ndarray:
    # the palette's first color is black, which is for a background; numbers beyond its end begin again
    return np.asarray((labels + 1) % 255)


def _answer(axes: Any, box: _Box, found: Flow, chain: bool) -> None:
    """What the network says: shares of pixels beside their colors, or the likeliest classes."""
    patches = need("matplotlib.patches", "report")
    if found.scores.ndim == 3:
        shares = np.bincount(found.scores.argmax(0).ravel(), minlength=len(found.classes)) / found.scores[0].size
        palette = np.frombuffer(voc_palette(), np.uint8).reshape(-1, 3) / 255
        x, y = box.x - box.wide / 2, box.y - box.tall / 2 - 0.3
    else:
        score = np.exp(found.scores.ravel() - found.scores.max())
        shares = score / score.sum()
        x, y = box.x - box.wide / 2 + 0.06, box.y + box.tall / 2 - 0.1
    for i in np.argsort(-shares, kind="stable")[: 7 if found.scores.ndim == 3 else 5]:
        if found.scores.ndim == 3:
            if shares[i] < 0.005:
                break
            color = palette[_shade(np.array(i))]
            axes.add_patch(patches.Rectangle((x, y - 0.06), 0.14, 0.12, facecolor=color, lw=0.5, edgecolor=INK,
                                             zorder=6))  # fmt: skip
            readable(axes.text(x + 0.2, y, f"{_short(found.classes[i], 14)}  {shares[i]:.0%}", fontsize=8.5,
                               va="center", color=INK, zorder=6))  # fmt: skip
            y -= 0.17
        else:
            axes.add_patch(patches.Rectangle((x, y - 0.05), 0.7 * shares[i], 0.1, facecolor=COLORS["down"], lw=0,
                                             zorder=5))  # fmt: skip
            readable(axes.text(x + 0.7 * shares[i] + 0.06, y, f"{shares[i]:.0%} {_short(found.classes[i])}", fontsize=8,
                               va="center", color=INK, zorder=6))  # fmt: skip
            y -= 0.14
    if chain:
        axes.text(box.x, box.y + box.tall / 2 + 0.05, "answer", fontsize=9.5, weight="bold", ha="center", va="bottom",
                  color=INK)  # fmt: skip


def _legend(axes: Any, found: Flow, x: float, low: float, wide: float) -> None:
    patches = need("matplotlib.patches", "report")
    kind = {node.name: node for node in found.nodes}
    used = {_color(kind[edge.source], kind[edge.target]) for edge in found.edges}
    at = x
    for key, color in COLORS.items():
        if color in used:
            axes.add_patch(patches.Rectangle((at, low + 0.66), 0.3, 0.12, facecolor=color, alpha=0.62, lw=0))
            axes.text(at + 0.36, low + 0.72, MEANS[key], fontsize=8.5, va="center", color=INK)
            at += 0.62 + 0.072 * len(MEANS[key])
    said = f"Breadth and % of a path: {MEASURE}. In the boxes: mean |activation| over channels, height x width x "
    text = textwrap.fill(said + "channels, parameters.", int(wide * 15.5))
    axes.text(x, low + 0.52, text, fontsize=8.5, va="top", color=PALE, linespacing=1.3)
