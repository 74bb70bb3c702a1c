"""Which kind a folder is, and the model in it. What a folder is instead, where it is none, in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import handful.kinds
from handful import bundle as bundles
from handful.arrays import StrPath
from handful.errors import DataError, UsageError
from handful.files import read_json
from handful.kinds.contract import Kind, Model
from handful.models.folder import META, read_meta
from handful.pick import names, pick


def kinds() -> list[str]:
    """Every kind, from the files kind_*.py."""
    return names(handful.kinds, "kind")


def kind(name: str) -> Kind:
    """A kind by name. Raises UnknownName."""
    module: Any = pick(handful.kinds, "kind", name)
    return module  # type: ignore[no-any-return]


def kind_name(meta: dict[str, Any], folder: Path) -> str:
    """The name of the kind that a handful.json is of. Raises DataError when there is none, as of a newer version."""
    found = [name for name in kinds() if kind(name).owns(meta)]
    if len(found) != 1:
        what = meta.get("network", {}).get("kind"), meta.get("task")
        raise DataError(
            f"{folder / META} is of no kind this handful knows (network {what[0]!r}, task {what[1]!r}); run: "
            "pip install --upgrade handful"
        )
    return found[0]


def describe(path: StrPath) -> str:
    """What a path is, in a few words, for messages: "a taught classifier", "a bundle for litert", "a folder"."""
    place = Path(path)
    if not place.exists():
        return "nothing that exists"
    if place.is_file():
        return "a file"
    if (place / bundles.MANIFEST).exists():
        return "a bundle, which was compiled from a model"
    if (place / bundles.OLD).exists():
        return "a model compiled by an older handful"
    if (place / META).exists():
        try:
            return kind(kind_name(read_json(place / META), place)).DESCRIPTION
        except (DataError, AttributeError):
            return "a damaged model folder"
    if any(place.glob("step-*/state.json")) or any(place.glob("best-*/weights.safetensors")):
        return "the folder of a training that is not finished, or its checkpoints"
    if (place / "report.json").exists():
        return "a report"
    return "a folder without a model"


def cure(path: StrPath) -> str:
    """What to do with a path that is no model folder."""
    place = Path(path)
    if (place / bundles.OLD).exists() and not (place / bundles.MANIFEST).exists():
        return bundles.compile_again(place, {})
    if any(place.glob("step-*/state.json")):
        done = place.with_name(place.name.removesuffix(".run"))
        return f"finish it with `handful train ... --resume`, which makes {done}"
    if place.is_dir() and (place / "model").is_dir():
        return f"did you mean {place / 'model'}?"
    return "`handful teach DATA --out DIR` and `handful train TASK DATA --out DIR` make one"


def load(folder: StrPath) -> Model[Any]:
    """The model in a folder, whatever its kind; or a compiled bundle, which needs no torch.

    Raises DataError, naming the file, for a folder that is none, or in which anything is not as it was saved.
    """
    place = Path(folder)
    if (place / bundles.MANIFEST).exists() or (place / bundles.OLD).exists():
        from handful.kinds import bundled

        return bundled.load(place)
    return loader(place).load(place)


def loader(place: Path) -> Kind:
    """The kind of a model folder, by its handful.json alone. Raises DataError as `load`."""
    if not (place / META).exists():
        raise DataError(f"{place} is {describe(place)}; wanted a model folder: {cure(place)}")
    return kind(kind_name(read_meta(place, whole=False), place))


def wanted(model: Model[Any], verb: str) -> None:
    """Raises UsageError, in one line that says what can, where a model's kind lacks a verb."""
    module = kind(model.kind)
    reason = module.VERBS.why_not(verb)
    if reason is not None:
        raise UsageError(f"{model.folder or 'the model'} is {module.DESCRIPTION}; {reason}")
