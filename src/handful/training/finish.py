"""The end of every recipe: curves drawn, the model folder written whole, the result as JSON."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.files import sha256, write_json
from handful.models.folder import WEIGHTS, save_folder
from handful.progress import note
from handful.training import checkpoint, loop, transfer
from handful.training.curves import draw_curves
from handful.training.loader import Images
from handful.training.report_page import Worst, write
from handful.training.start import Begun, Start
from handful.words import counted

CURVES, FLOW, RECORD, REPORT = "curves.png", "transfer.png", "train.json", "report.html"


def finished(
    start: Start, out: Path, folder: Path, begun: Begun, ended: checkpoint.State, *, outputs: Mapping[str, str],
    images: Images, val: Images | None, measures: Mapping[str, Any], worst: Worst, warnings: Sequence[str],
    data: Path, more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the model folder `out` of a run in `folder` that ended at `ended`; returns what the recipe returns.

    outputs: what each of the network's outputs means. data: what was read. images, val: what was trained and measured
    on. measures: with their "rule", on val, empty when nothing was measured. worst: images for the page of what was
    measured, which stays in `folder`, since it shows them. more: for the record of the training.
    """
    if not start.distributed.main:
        return {"schema_version": 1, "model": str(out), "rank": start.distributed.rank}
    network, rows, counts, source = begun.network, begun.rows, begun.counts, start.given.get("from_")
    config, classes = ended.config, list(ended.config["classes"])
    draw_curves(
        folder / CURVES,
        ended.history,
        title=f"{config['net']}, {counted(len(images), 'image')}, {counted(len(classes), 'class')}",
    )
    if rows and source is not None:
        # names alone: the picture goes into the model folder, and with it to others
        transfer.draw(rows, folder / FLOW, old=Path(source).resolve().name, new=out.name)
        note(transfer.table(rows))
    cost = {"params": counts.parameters, "macs": counts.macs, "peak_activation_bytes": counts.peak_activation_bytes}
    minutes = round(ended.seconds / 60, 3)
    metrics = {"split": config["val_split"], **{k: v for k, v in measures.items() if k != "rule"}}
    about = {
        "task": config["task"], "card": start.module.CARD.to_json(), "outputs": dict(outputs),
        "rule": measures.get("rule"), "metrics": metrics if measures else None, **cost, "seed": config["seed"],
        "minutes": minutes,
    }  # fmt: skip
    record = {
        "schema_version": 1, "config": config, "config_sha256": checkpoint.config_hash(config), "epochs": ended.epochs,
        "best": ended.best, "history": ended.history, "made_with": ended.made_with, **(more or {}),
        "data": {"train": images.summary(), "val": val.summary() if val is not None else None},
        "transfer": [row.as_json() for row in rows],
    }  # fmt: skip

    def beside(part: Path) -> None:
        for file in (loop.CSV, CURVES, *([FLOW] if rows else [])):
            shutil.copyfile(folder / file, part / file)
        write_json(part / RECORD, record)
        for one in images.marks():
            begun.seen.add(one)
        begun.seen.save(part)

    args = {k: v for k, v in config["args"].items() if k not in ("pretrained", "weights")}
    save_folder(out, network, kind=start.name, args=args, classes=classes, about=about, beside=beside,
                preprocessing=network.preprocessing())  # fmt: skip
    result = {
        "schema_version": 1, "model": str(out), "data": str(data), "run": str(folder), "report": None,
        "task": config["task"], "net": config["net"], "classes": classes, "epochs": ended.epochs, "steps": ended.step,
        "best": ended.best,
        **measures, **cost, "seed": config["seed"], "minutes": minutes, "warnings": list(warnings),
        "resumed": start.given.get("resume", False), "transfer": transfer.counts(list(rows)) if rows else None,
        "model_sha256": sha256(out / WEIGHTS),
    }  # fmt: skip
    if measures:
        result["report"] = str(folder / REPORT)
        write(folder / REPORT, {**result, "split": config["val_split"]}, worst, curves=folder / CURVES)
    return result
