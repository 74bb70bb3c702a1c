"""What is left to look at after training: metrics.csv and curves.png, with no server."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.files import replacing
from handful.pick import need
from handful.places import MARK

FIRST, LAST = ("epoch", "step", "lr", "loss"), ("seconds",)
COLORS = ("#4878a8", "#6aa66a", "#d9a441", "#a86a6a", "#7a6aa8", "#555555")


def measures_of(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of what was measured on val, in the order they first came up."""
    return list(dict.fromkeys(key for row in history for key in row if key not in (*FIRST, *LAST)))


def write_csv(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """A row an epoch, whole or not at all; empty where nothing was measured."""
    text = io.StringIO()
    columns = (*FIRST, *measures_of(history), *LAST)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: "" if row.get(k) is None else row[k] for k in columns})
    with replacing(path, own=True) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def draw_curves(path: Path, history: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """A PNG: loss and learning rate, and below them the measures on val, if any were taken."""
    figure_of = need("matplotlib.figure", "report")
    measures = measures_of(history)
    figure = figure_of.Figure(figsize=(8, 6 if measures else 3.2))
    edges = {"left": 0.08, "right": 0.88, "hspace": 0.08}  # that fit: to work them out takes half of the drawing
    figure.subplots_adjust(top=0.94 if measures else 0.9, bottom=0.08 if measures else 0.15, **edges)
    panels = figure.subplots(2 if measures else 1, 1, sharex=True, squeeze=False)[:, 0]
    upper, lower = panels[0], panels[-1]
    epochs = [row["epoch"] for row in history]
    upper.plot(epochs, [row["loss"] for row in history], color="#4878a8", marker=".", label="training loss")
    upper.set_ylabel("loss")
    rate = upper.twinx()
    rate.plot(epochs, [row["lr"] for row in history], color="#b0b0b0", lw=1)
    rate.set_ylabel("learning rate", color="#808080")
    upper.set_title(title, fontsize=10)
    for key, color in zip(measures, itertools.cycle(COLORS), strict=False):
        there = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
        if there:
            lower.plot(*zip(*there, strict=True), color=color, marker=".", label=key.replace("_", " "))
    lower.set_xlabel("epoch")
    if measures:
        lower.set_ylabel("on val")
        lower.set_ylim(0, 1)
    for axes in panels:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    with replacing(path, own=True) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": MARK})
