"""What several kinds do alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handful.bundle import Bundle
from handful.errors import DataError, UsageError
from handful.evaluation import Evaluation
from handful.fewshot.vigilance import check_vigilance

_TAUGHT = (
    "a trained model is not taught image by image; train it on more data: handful train TASK DATA --from MODEL --out "
    "OTHER"
)
TRAINED_LACKS = {
    "learn": _TAUGHT,
    "unlearn": _TAUGHT,
    "set": "vigilance and score threshold belong to taught models",
}


COCO = ("AP", "AP50", "AP75", "AR100")  # COCO's table, its first figures


def check(vigilance: float | None) -> Any:
    """A vigilance that somebody gave, or None. Raises DataError, telling the range."""
    return None if vigilance is None else check_vigilance(vigilance)


def check_score(threshold: float | None, otherwise: float) -> float:
    """A score threshold that somebody gave, or what is used otherwise. Raises DataError for one that is not 0 to 1."""
    value = otherwise if threshold is None else threshold
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:  # NaN is in no range
        raise DataError(f"the score threshold is {value!r}; wanted 0 to 1")
    return float(value)


def on_disk(folder: Path | None, verb: str) -> Path:
    """The folder. Raises UsageError for a model in memory only."""
    if folder is None:
        raise UsageError(f"the model is in memory only; save it before you {verb} it: model.save(FOLDER)")
    return folder


def evaluation(task: str, result: dict[str, Any], headline: Sequence[str]) -> Evaluation:
    """The JSON object of a measurement as an Evaluation; headline: which of its figures are told first."""
    rule = result["rule"] if isinstance(result["rule"], dict) else {"rule": str(result["rule"])}
    images = result["images"]
    return Evaluation(
        task, {name: result[name] for name in headline if name in result}, result["per_class"],
        {k: str(v) for k, v in rule.items()}, int(images), result,
    )  # fmt: skip


def compiled(folder: Path | None, runtime: str, precision: str) -> Bundle:
    """As Model.compile, for a kind that can be."""
    from handful.kinds.compiling import compile_model

    return compile_model(on_disk(folder, "compile"), runtime, precision)
