"""The end of every recipe: curves drawn, the model folder written whole, the answer as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.files import sha256, write_json
from handful.models.count import Counts
from handful.models.folder import WEIGHTS, save_folder
from handful.models.preprocessing import NetCard
from handful.progress import note
from handful.training import checkpoint, loop, transfer
from handful.training.curves import draw_curves
from handful.training.report_page import Worst, write

CURVES, FLOW, RECORD, REPORT = "curves.png", "transfer.png", "train.json", "report.html"


def finished(
    place: Path, out: Path, network: Any, at: checkpoint.State, *, kind: str, card: NetCard, outputs: Mapping[str, str],
    measures: Mapping[str, Any], counts: Counts, rows: Sequence[transfer.Row], from_: Path | None,
    seen: Mapping[str, Any], more: Mapping[str, Any], warnings: Sequence[str], resumed: bool, worst: Worst | None,
) -> dict[str, Any]:  # fmt: skip
    """Write the model folder `out` of a run in `place` that ended at `at`; returns what the recipe returns.

    kind: the network's name; outputs: what each of its outputs means; measures: with their "rule", on val, empty when
    nothing was measured; rows: where its first weights came from; seen: what was trained and measured on; more: for the
    record of the training; worst: photos for the page of what was measured, which stays in `place`,
    since it shows them; None for a task that has no page.
    """
    config, classes = at.config, list(at.config["classes"])
    draw_curves(place / CURVES, at.history, title=f"{config['net']}, {seen['train']['photos']} photos, "
                                                  f"{len(classes)} classes")  # fmt: skip
    if rows and from_ is not None:
        # names alone: the picture goes into the model folder, and with it to others
        transfer.draw(rows, place / FLOW, old=Path(from_).resolve().name, new=out.name)
        note(transfer.table(rows))
    cost = {"params": counts.parameters, "macs": counts.macs, "peak_activation_bytes": counts.peak_activation_bytes}
    metrics = {"split": config["val_split"], **{k: v for k, v in measures.items() if k != "rule"}}
    about = {
        "task": config["task"],
        "card": card.to_json(),
        "outputs": dict(outputs),
        "rule": measures.get("rule"),
        "metrics": metrics if measures else None,
        **cost,
        "seed": config["seed"],
        "minutes": round(at.seconds / 60, 3),
    }
    record = {
        "schema_version": 1, "config": config, "config_sha256": checkpoint.config_hash(config), "epochs": at.epochs,
        "best": at.best, "history": at.history, "made_with": at.made_with, **more, "data": dict(seen),
        "transfer": [row.as_json() for row in rows],
    }  # fmt: skip

    def beside(part: Path) -> None:
        for file in (loop.CSV, CURVES, *([FLOW] if rows else [])):
            shutil.copyfile(place / file, part / file)
        write_json(part / RECORD, record)

    args = {k: v for k, v in config["args"].items() if k not in ("pretrained", "weights")}
    save_folder(out, network, kind=kind, args=args, classes=classes, about=about, beside=beside,
                preprocessing=network.preprocessing())  # fmt: skip
    result = {
        "schema_version": 1, "model": str(out), "run": str(place), "report": None, "task": config["task"],
        "net": config["net"], "classes": classes, "epochs": at.epochs, "steps": at.step, "best": at.best,
        **measures, **cost,
        "seed": config["seed"], "minutes": about["minutes"], "warnings": list(warnings), "resumed": resumed,
        "transfer": transfer.counts(list(rows)) if rows else None, "model_sha256": sha256(out / WEIGHTS),
    }  # fmt: skip
    if worst is not None and measures:
        result["report"] = str(place / REPORT)
        write(place / REPORT, {**result, "split": config["val_split"]}, worst, curves=place / CURVES)
    return result
