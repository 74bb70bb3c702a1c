"""The page of a regimen: F1 as more is taught, the errors by type, and the images with the lowest F1, ranked."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.files import write_page
from handful.pick import need
from handful.select.grid_evaluation import GridEvaluation, MatchedDetections
from handful.training.report_page import picture
from handful.training.source import image_of

TEMPLATE = Path(__file__).parent / "regimen.html.j2"
SHOWN = 18
SIDE_PX = 420
LINES = {"ours": "#1d4ed8", "original": "#c2410c", "random": "#64748b"}
RIGHT, WRONG, MISSED = (34, 197, 94), (239, 68, 68), (250, 204, 21)


def write(
    path: Path, result: Mapping[str, Any], evaluation: GridEvaluation, detections: MatchedDetections,
    classes: Sequence[str],
) -> None:  # fmt: skip
    """HTML of what regimen.run returns, in one file. evaluation, detections: the images of result["worst_images"] and
    the detections in them; classes: the taught ones, in the order of MatchedDetections.label. Whole or not at all."""
    jinja2 = need("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    number = {one.name: i for i, one in enumerate(evaluation.images)}
    shown = [
        {**row, **_drawn(evaluation, detections, number[row["image"]], classes)}
        for row in result["worst_images"][:SHOWN]
    ]
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=result, plot=plot(result), images=shown, colors=LINES,
        marks={"found": _hex(RIGHT), "wrong": _hex(WRONG), "missed": _hex(MISSED)},
    )  # fmt: skip
    write_page(path, html)


def plot(result: Mapping[str, Any]) -> str:
    """SVG: F1 over samples a class, a line a strategy, shaded by its standard deviation over the seeds."""
    figure_of, backend = need("matplotlib.figure", "report"), need("matplotlib", "report")
    figure = figure_of.Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, one in result["strategies"].items():
        rows = [one["by_samples"][str(n)] for n in result["samples"]]
        f1 = 100 * np.array([row["f1"] for row in rows])
        spread = 100 * np.array([row["sd"] or 0.0 for row in rows])
        color = LINES.get(name, "#334155")
        axes.fill_between(result["samples"], f1 - spread, f1 + spread, color=color, alpha=0.13, lw=0)
        axes.plot(result["samples"], f1, color=color, marker="o", ms=3.5, lw=1.8, label=name)
    axes.set_xlabel("boxes a class, at most")
    axes.set_ylabel("F1 on images to report on, %")
    axes.set_xticks(result["samples"])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e8f0", lw=0.8)
    axes.legend(frameon=False)
    held = io.StringIO()
    with backend.rc_context({"svg.fonttype": "path", "svg.hashsalt": "handful"}):
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)


def _drawn(
    evaluation: GridEvaluation, detections: MatchedDetections, number: int, classes: Sequence[str]
) -> dict[str, Any]:
    """The image with true positives, false positives and missed objects drawn in, and the wrong ones in words."""
    ImageDraw, PIL_Image = need("PIL.ImageDraw", "teach"), need("PIL.Image", "teach")
    one = evaluation.images[number]
    image = PIL_Image.fromarray(image_of(one.sample).rgb_u8)
    factor = SIDE_PX / max(image.size)
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    draw = ImageDraw.Draw(image)
    own = np.flatnonzero(evaluation.image[detections.box] == number)
    matched = set(detections.on[own].tolist())
    missed = [j for j, name in enumerate(one.truth.names)
              if not one.truth.crowd[j] and j not in matched and name in classes]  # fmt: skip
    for j in missed:
        draw.rectangle([float(v) * factor for v in one.truth.boxes[j]], outline=MISSED, width=2)
    wrong = []
    for a in own.tolist():
        box = [float(v) * factor for v in evaluation.boxes[number][evaluation.place[detections.box[a]]]]
        if detections.on[a] != -1:
            draw.rectangle(box, outline=RIGHT, width=2)
        else:
            draw.rectangle(box, outline=WRONG, width=2)
            wrong.append(classes[detections.label[a]])
    return {"picture": picture(np.array(image), SIDE_PX), "wrong": _counted(wrong),
            "missed": _counted([one.truth.names[j] for j in missed])}  # fmt: skip


def _counted(names: Sequence[str]) -> str:
    there = sorted(set(names), key=lambda n: (-names.count(n), n))
    parts = [f"{names.count(n)} {n}" if names.count(n) > 1 else n for n in there[:5]]
    return ", ".join(parts) + (" and others" if len(there) > 5 else "")


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{v:02x}" for v in rgb)
