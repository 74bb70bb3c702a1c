"""The heat map as a PNG: F1 over vigilance and samples a class, the plateau outlined."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handful.files import replacing
from handful.pick import need
from handful.places import MARK
from handful.words import counted


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """What heatmap.run returns, as a picture; whole or not at all."""
    figure_of = need("matplotlib.figure", "report")
    study = result.get("study")
    figure = figure_of.Figure(figsize=(12.5 if study else 8.6, 5.4), layout="constrained")
    axes = figure.subplots(1, 2 if study else 1, width_ratios=[2.6, 1] if study else [1], squeeze=False)[0]
    _map(figure, axes[0], result)
    if study:
        _classes(axes[1], study)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120, metadata={"Software": MARK})


def _map(figure: Any, axes: Any, result: Mapping[str, Any]) -> None:
    values, across, down = np.array(result["tune"]["f1"]), result["vigilances"], result["samples"]
    best = result["tune"]["best"]
    image = axes.imshow(100 * values, origin="lower", aspect="auto", cmap="viridis", interpolation="nearest")
    for ends in outline(np.array(result["tune"]["plateau"], bool)):
        axes.plot(*ends, color="white", lw=2, solid_capstyle="projecting")
    row, column = down.index(best["samples"]), across.index(best["vigilance"])
    axes.plot(column, row, marker="*", ms=15, mfc="white", mec="black", ls="none")
    step = max(1, round(len(across) / 10))
    axes.set_xticks(range(0, len(across), step), [f"{v:g}" for v in across[::step]])
    rows = max(1, round(len(down) / 8))
    axes.set_yticks(range(0, len(down), rows), [str(n) for n in down[::rows]])
    axes.set_xlabel("vigilance")
    axes.set_ylabel("samples a class")
    low, high = best["interval"]
    axes.set_title(
        f"F1 on {counted(result['images']['tune'], 'image')} to tune by, mean of "
        f"{counted(len(result['seeds']), 'seed')}\n"
        f"★ best: {100 * best['f1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) at vigilance {best['vigilance']:g}, "
        f"{best['samples']} a class; white line: as good, by the 95 % interval",
        fontsize=9, loc="left",
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label="F1, %", pad=0.02)


def _classes(axes: Any, study: Mapping[str, Any]) -> None:
    sizes = list(study["by_classes"])
    f1 = np.array([100 * study["by_classes"][k]["f1"] for k in sizes])
    ends = np.array([[100 * v for v in study["by_classes"][k]["interval"]] for k in sizes])
    spread = np.abs(ends - f1[:, None]).T
    axes.bar(range(len(sizes)), f1, color="#4878a8", width=0.65)
    axes.errorbar(range(len(sizes)), f1, spread, fmt="none", ecolor="#1f2937", capsize=4, lw=1.2)
    for i, value in enumerate(f1):
        axes.text(i + 0.06, value + 0.2, f"{value:.1f}", ha="left", va="bottom", fontsize=8)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("classes taught together")
    axes.set_ylabel("F1 on images to report on, %")
    axes.set_ylim(0, 1.15 * max(float(ends.max()), 1e-9))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"Vigilance {study['vigilance']:g}, {study['samples']} a class;\nlines: 95 % over images",
                   fontsize=9, loc="left")  # fmt: skip


def outline(mask: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """Edges between cells that are in and cells that are out: ((x, x), (y, y)) each, cells of side 1 about their
    numbers. mask: (h, w) bool."""
    padded = np.pad(mask, 1)
    found: list[tuple[list[float], list[float]]] = []
    for y, x in np.argwhere(padded[:, 1:] != padded[:, :-1]).tolist():
        found.append(([x - 0.5, x - 0.5], [y - 1.5, y - 0.5]))
    for y, x in np.argwhere(padded[1:] != padded[:-1]).tolist():
        found.append(([x - 1.5, x - 0.5], [y - 0.5, y - 0.5]))
    return found
