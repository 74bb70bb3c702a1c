"""The page people read: it shows what is in a demo's JSON and nothing else, in one file with no outside links."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from handful.pick import need

TEMPLATE = Path(__file__).parent / "report.html.j2"
SCRIPT = Path(__file__).parent / "report.js"  # of the vigilance slider
COLORS = {"executorch": "#c2410c", "litert": "#1d4ed8", "ncnn": "#7e22ce", "onnxruntime": "#047857"}


def render(result: dict[str, Any]) -> str:
    """HTML of a demo's result (see `handful.demo.run`). Everything is escaped and inlined."""
    jinja2 = need("jinja2", "report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    rows = {name: row for name, row in result["runtimes"].items() if row["verdict"] != "not installed"}
    absent = {name: row["reasons"][0] for name, row in result["runtimes"].items() if name not in rows}
    html: str = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        r=result, rows=rows, absent=absent, plot=layer_plot(rows), worst=slowest(rows), apps=smallest(rows),
        script=SCRIPT.read_text(encoding="utf-8"), bytes=size,
    )  # fmt: skip
    return html


def smallest(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each runtime the smallest that passed, or else the smallest."""
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows.values(), key=lambda row: (row["verdict"] != "pass", row["bytes"])):
        best.setdefault(row["runtime"], row)
    return [best[name] for name in sorted(best)]


def size(count: int) -> str:
    """48 B, 8 kB, 11.1 MB."""
    return f"{count} B" if count < 1000 else f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def slowest(rows: dict[str, Any]) -> float:
    """The largest median, for the bars of the table; 1.0 when there is none."""
    return max((row["timing"]["median_ms"] for row in rows.values()), default=1.0)


def layer_plot(rows: dict[str, Any]) -> str:
    """SVG: PSNR of each layer against PyTorch, one line a runtime, in order of execution; "" without layers."""
    drawn = {name: row for name, row in rows.items() if row["layers"]}
    if not drawn:
        return ""
    matplotlib = need("matplotlib", "report")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": "handful", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
        for row in drawn.values():
            layers = row["layers"]
            color = COLORS.get(row["runtime"], "#334155")
            # ExecuTorch and LiteRT share their kernels (XNNPACK), so one line is drawn wide to show under the other
            wide = row["runtime"] == "executorch"
            y = [layer["psnr_db"] for layer in layers]
            axes.plot(y, color=color, lw=5 if wide else 1.6, alpha=0.45 if wide else 0.95, label=row["runtime"])
        gate = next(iter(drawn.values()))["gates"]["layer_psnr_db"]
        axes.axhline(gate, color="#b91c1c", ls="--", lw=1)
        axes.text(0, gate + 1.5, f"wanted: {gate:g} dB or more", color="#b91c1c", fontsize=8)
        names = [layer["name"] for layer in next(iter(drawn.values()))["layers"]]
        ticks = [i for i, n in enumerate(names) if n.count(".") <= 1 or n.split(".")[-1].isdigit()]
        step = max(1, len(ticks) // 14)
        shown = [i for k, i in enumerate(ticks[::step]) if k == 0 or i - ticks[::step][k - 1] > 1]
        axes.set_xticks(shown, [short(names[i]) for i in shown], rotation=35, ha="right")
        axes.set_ylabel("PSNR against PyTorch, dB")
        axes.set_ylim(bottom=min(gate - 12, axes.get_ylim()[0]))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e2e8f0", lw=0.8)
        axes.legend(frameon=False, ncols=4, loc="upper right", bbox_to_anchor=(1, 1.13))
        held = io.StringIO()
        figure.savefig(held, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    text = held.getvalue()
    # the page names no address but the SVG namespace's own
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)


def short(name: str) -> str:
    """`backbone.network.blocks.3.1` -> `blocks.3.1`."""
    return name.removeprefix("backbone.network.").removeprefix("backbone.")
