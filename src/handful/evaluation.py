"""How good a model is, whatever its kind: figures, the rule of each in words, and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from handful.arrays import JSON, U8, JSONObject
from handful.pick import need
from handful.plotting import lettered, readable
from handful.words import counted


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good a model is on labelled images.

    task: "classify", "segment", "detect" or "instance". metrics: the headline figures, 0 to 1, None where there was
    nothing to measure by. per_class: the same for each class. rule: what each metric means, in words. images: how many.
    details: the whole JSON object that `handful evaluate --json` prints.
    """

    task: str
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, JSON]]
    rule: Mapping[str, str]
    images: int
    details: JSONObject = field(repr=False)

    def to_json(self) -> JSONObject:
        """The whole JSON object."""
        return self.details

    def plot(self) -> U8:
        """(h, w, 3) uint8 RGB: the first metric of each class as bars. Raises MissingPackage without matplotlib."""
        need("matplotlib", "report")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        first = next((k for row in self.per_class.values() for k, v in row.items() if isinstance(v, float)), None)
        rows = [(name, row.get(first)) for name, row in self.per_class.items()] if first is not None else []
        known = sorted(((n, v) for n, v in rows if isinstance(v, (int, float))), key=lambda r: (r[1], r[0]))
        figure = Figure(figsize=(7, max(2.0, 0.26 * len(known) + 1.2)), dpi=110)
        canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
        axes.barh(range(len(known)), [100 * v for _, v in known], color="#3b6fb6")
        axes.set_yticks(range(len(known)), [lettered(n, 16)[0] for n, _ in known])
        for words in axes.get_yticklabels():
            readable(words)
        axes.set_xlim(0, 100)
        axes.set_xlabel(f"{first}, %")
        told = ", ".join(f"{k} {100 * v:.1f} %" for k, v in list(self.metrics.items())[:3] if v is not None)
        axes.set_title(f"{counted(self.images, 'image')}: {told}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
