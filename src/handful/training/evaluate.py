"""What every evaluation of a trained model begins and ends with: the model and the data opened, the result made."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.curate.seen import Mark, Seen, leak
from handful.errors import DataError
from handful.models.folder import from_folder
from handful.training.distributed import ready
from handful.training.loader_segment import rest_of
from handful.training.metrics import IGNORE
from handful.training.report_page import Worst, write
from handful.training.source import not_counted, split_to_measure, to_measure
from handful.types import Dataset


@dataclass(frozen=True)
class Subject:
    """A model and what it is measured on.

    about: the model's handful.json. network: on its device, in eval mode. split: which of the data set, "" for the
    images in none. not_counted: classes of the data that the model does not have. began: seconds of time.monotonic.
    """

    model: Path
    data: Path
    about: Mapping[str, Any]
    network: Any
    classes: tuple[str, ...]
    dataset: Dataset
    split: str
    not_counted: list[str]
    began: float

    def result(
        self, measures: Mapping[str, Any], worst: Worst, report: Path | None, marks: Iterable[Mark]
    ) -> dict[str, Any]:
        """The JSON object that `handful evaluate --json` prints. report: an HTML page to write, with the worst. marks:
        of the images as the network gets them."""
        found = {
            "schema_version": 1, "task": self.about["task"], **measures, "seen": leak(Seen.load(self.model), marks),
            **{key: self.about.get(key) for key in ("params", "macs", "seed", "minutes")},
            "model": str(self.model), "data": str(self.data), "split": self.split or None,
            "not_counted": self.not_counted, "report": None if report is None else str(report),
            "seconds": round(time.monotonic() - self.began, 2),
        }  # fmt: skip
        if report is not None:
            write(Path(report), found, worst)
        return found


def opened(
    model: Path, data: Path, tasks: Sequence[str], *, split: str | None, format: str | None, device: str,
    allow: Sequence[str] = (), **options: Any,
) -> Subject:  # fmt: skip
    """Open a model folder of one of these tasks, and a data set that has some of its classes.

    split: which; None for test, or val where there is none, or the images in no split. allow: codes of errors to go on
    with. options: for the format. Raises DataError or UnknownName.
    """
    began = time.monotonic()
    loaded = from_folder(model)
    if loaded.meta.get("task") not in tasks:
        made = " or ".join(f"`handful train {task}`" for task in tasks)
        raise DataError(f"{model} is a model to {loaded.meta.get('task')}; wanted one that {made} made")
    classes = tuple(loaded.classes)
    dataset = to_measure(data, format=format, allow=allow, **options)
    rest = rest_of(dataset, classes) if tasks == ("segment",) else IGNORE
    other = not_counted(dataset, data, classes, classes[rest] if rest != IGNORE else None)
    network = ready(loaded.network, device)
    chosen = split_to_measure(dataset, split)
    return Subject(model, data, loaded.meta, network, classes, dataset, chosen, other, began)
