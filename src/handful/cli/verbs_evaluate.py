"""evaluate: how good a model of any kind is on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from handful.cli.measured import measured
from handful.cli.options import common, on_engine, option
from handful.cli.places import Data, ModelFolder
from handful.cli.shared import refuse, say, typed, verb


@verb(
    examples=("handful evaluate model test-photos --report page.html", "handful evaluate detector shop --split val"),
    renamed={"--device": "--torch-device", "--look": "--scale-mode"},
)
@click.argument("model", type=ModelFolder())
@click.argument("data", type=Data())
@option("--split", told="test, or else val, or else all images")
@option("--format", told="found out")
@option("--report", told="no page")
@option("--vigilance", "Of a taught model.", told="the model's own")
@option("--flat", "Of a taught classifier.")
@option("--allow", "Images that cannot be used are then left out.", told="none")
@option("--rule", "Of a segmenter.", told="mmseg")
@option("--background", "Of a segmenter.", told="found by its name")
@option("--masks-in", "Of a segmenter.", told="the only one")
@option("--masks", "Of a taught detector: COCO's table of masks, too.")
@option("--masks-by", "Of a taught detector.", told="its own way")
@option("--scale-mode", "Of a taught detector.", told="as it was taught")
@option("--true-boxes", "Of a taught detector.")
@option("--images", "Of a detector or segmenter.", told="beside the JSON")
@option("--torch-device", "Of a trained model.", told="cpu")
@on_engine
@common
def evaluate(model: Path, data: Path, split: str | None, report: Path | None, as_json: bool, **given: Any) -> None:
    """Measure MODEL on DATA, labelled images that it has not seen.

    Each figure's rule is told in words. A taught classifier is asked about a folder of images for each class, a
    detector about images with boxes, a segmenter about images with masks, in any format. Classes that a taught model
    was not taught count as unknown.
    """
    from handful.kinds import loading, registry

    asked = typed(given)
    if report is not None:
        from handful.files import check_page

        check_page(report)
    if (by := asked.pop("masks_by", None)) is not None:
        asked["masks"] = by
    owner = registry.model_class(registry.kind_name_of(model))
    refuse(model, registry.loader(model).DESCRIPTION, owner, "evaluate", asked)
    loaded: Any = loading.load(model)
    found = loaded.evaluate(data, split=split, report=report, **asked)
    say(found.details, as_json, lambda r: measured(r) + (f"\npage: {report}" if report is not None else ""))
