"""The page of a regimen: F1 as more is taught, what goes wrong, and the images that are answered worst, ranked."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.files import replacing
from handful.pick import need
from handful.select.grid_evaluation import Exam, Given
from handful.training.report_page import picture
from handful.training.source import image_of

TEMPLATE = Path(__file__).parent / "regimen.html.j2"
SHOWN = 18
SIDE_PX = 420
LINES = {"ours": "#1d4ed8", "original": "#c2410c", "random": "#64748b"}
RIGHT, WRONG, MISSED = (34, 197, 94), (239, 68, 68), (250, 204, 21)


def write(path: Path, result: Mapping[str, Any], exam: Exam, given: Given, classes: Sequence[str]) -> None:
    """HTML of what regimen.run returns, with nothing outside it. exam, given: the images of result["poorest"] and the
    answers about them; classes: the taught ones, in the order of Given.label. Whole or not at all."""
    jinja2 = need("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    number = {one.name: i for i, one in enumerate(exam.photos)}
    shown = [{**row, **_drawn(exam, given, number[row["photo"]], classes)} for row in result["poorest"][:SHOWN]]
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=result, plot=plot(result), photos=shown, colours=LINES,
        marks={"found": _hex(RIGHT), "wrong": _hex(WRONG), "missed": _hex(MISSED)},
    )  # fmt: skip
    with replacing(path) as part:
        part.write_text(html, encoding="utf-8")


def plot(result: Mapping[str, Any]) -> str:
    """SVG: F1 over samples a class, a line a rule, shaded by its standard deviation over the seeds."""
    figure_of, backend = need("matplotlib.figure", "report"), need("matplotlib", "report")
    figure = figure_of.Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, told in result["rules"].items():
        rows = [told["by_samples"][str(n)] for n in result["samples"]]
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


def _drawn(exam: Exam, given: Given, number: int, classes: Sequence[str]) -> dict[str, Any]:
    """The image with what was found, what was wrong and what was missed, and the same in words."""
    ImageDraw, PIL_Image = need("PIL.ImageDraw", "teach"), need("PIL.Image", "teach")
    one = exam.photos[number]
    image = PIL_Image.fromarray(image_of(one.sample).rgb_u8)
    factor = SIDE_PX / max(image.size)
    image = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
    draw = ImageDraw.Draw(image)
    own = np.flatnonzero(exam.photo[given.box] == number)
    found = set(given.on[own].tolist())
    missed = [j for j, name in enumerate(one.truth.names)
              if not one.truth.crowd[j] and j not in found and name in classes]  # fmt: skip
    for j in missed:
        draw.rectangle([float(v) * factor for v in one.truth.boxes[j]], outline=MISSED, width=2)
    wrong = []
    for a in own.tolist():
        box = [float(v) * factor for v in exam.boxes[number][exam.place[given.box[a]]]]
        if given.on[a] != -1:
            draw.rectangle(box, outline=RIGHT, width=2)
        else:
            draw.rectangle(box, outline=WRONG, width=2)
            wrong.append(classes[given.label[a]])
    return {"picture": picture(np.array(image), SIDE_PX), "said": _counted(wrong),
            "not_found": _counted([one.truth.names[j] for j in missed])}  # fmt: skip


def _counted(names: Sequence[str]) -> str:
    there = sorted(set(names), key=lambda n: (-names.count(n), n))
    told = [f"{names.count(n)} {n}" if names.count(n) > 1 else n for n in there[:5]]
    return ", ".join(told) + (" and others" if len(there) > 5 else "")


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{v:02x}" for v in rgb)
