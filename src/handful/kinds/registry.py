"""Which kind a folder is, and the model in it. What a folder is instead, where it is none, in one line."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import handful.kinds
from handful import bundle as bundles
from handful import shipped
from handful.arrays import StrPath
from handful.errors import DataError, UsageError
from handful.files import read_json
from handful.image import list_images
from handful.kinds.contract import Kind, Model
from handful.models.folder import META, read_meta
from handful.pick import names, pick
from handful.words import shell


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
            f"{folder / META} is of a kind that this version of handful does not know (network {what[0]!r}, task "
            f"{what[1]!r}); run: pip install --upgrade handful"
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
        return "a model compiled by an older version of handful"
    if (place / META).exists():
        try:
            return kind(kind_name(read_json(place / META), place)).DESCRIPTION
        except (DataError, AttributeError):
            return "a damaged model folder"
    if any(place.glob("step-*/state.json")) or any(place.glob("best-*/weights.safetensors")):
        return "the folder of a training that is not finished, or its checkpoints"
    if (place / "report.json").exists():
        return "a report"
    found = _labels(place)
    if found:
        return f"a folder of images and labels ({found})"
    return "a folder of images" if list_images(place)[0] else "a folder without a model"


def _labels(place: Path) -> str:
    """The formats of the labels in a folder, "" for none; only what lies in the folder itself is looked at."""
    from handful.data import formats

    there = [name for name in formats.known() if name != "shards" and formats.module(name).detect(place)]
    return " and ".join(there[:2])


def cure(path: StrPath) -> str:
    """What to do with a path that is no model folder."""
    place = Path(path)
    if (place / bundles.OLD).exists() and not (place / bundles.MANIFEST).exists():
        return bundles.compile_again(place, {})
    if any(place.glob("step-*/state.json")):
        done = place.with_name(place.name.removesuffix(".run"))
        return f"finish it with `handful train ... --resume`, which makes {done}"
    if (place / "model" / META).exists():
        return f"did you mean {place / 'model'}?"
    if place.is_dir() and _labels(place):
        data = shell(place)
        return f"`handful teach {data} --out DIR` and `handful train TASK {data} --out DIR` make one of it"
    return handful.kinds.MADE_BY


def loader(place: Path) -> Kind:
    """The kind of a model folder, by its handful.json alone. Raises DataError for a folder that is none."""
    if not (place / META).exists():
        there = f"is {describe(place)}" if place.exists() else "does not exist"
        if place.exists() and str(place) in shipped.known():
            raise DataError(f"{place} {there}, and hides the model of that name that comes with handful; rename it, or "
                            "run this in another folder")  # fmt: skip
        raise DataError(f"{place} {there}; wanted a model folder: {cure(place)}")
    return kind(kind_name(read_meta(place, whole=False), place))


def kind_name_of(place: Path) -> str:
    """The name of the kind of a model folder, by its handful.json alone."""
    return kind_name(read_meta(place, whole=False), place)


def can_be_taught(place: Path, *, boxes: bool, add: bool) -> None:
    """Raises DataError where teaching cannot write a model: a file is there, or, with add, a model of another kind.

    boxes: images with boxes teach it; else images with one class each.
    """
    wanted, what = ("taught_detector", "images with boxes") if boxes else ("taught_classifier", "images without boxes")
    if place.is_file():
        raise DataError(f"{place} is a file; wanted a folder for the model, which is made")
    if add and place.exists() and (found := kind_name_of(place)) != wanted:
        raise DataError(
            f"{place} is {kind(found).DESCRIPTION}, and {what} teach {kind(wanted).DESCRIPTION}; choose another --out"
        )


def look_at(place: Path, *, bundle: bool = False) -> None:
    """Raises DataError, in one line, for a path that is no model folder, or one not whole, without loading any of it.

    bundle: a compiled one is taken, too. What the files hold is checked when the model is loaded.
    """
    if (place / bundles.MANIFEST).exists():
        if not bundle:
            home = place.resolve().parent.parent
            own = home if (home / META).exists() else "MODEL"
            raise DataError(f"{place} is {describe(place)}; wanted the model itself: {own}; `handful predict` takes "
                            "either")  # fmt: skip
        return
    loader(place)
    for name in read_meta(place, whole=False)["files"]:
        if not (place / name).exists():
            raise DataError(f"{place / name} is missing; copy the whole folder again, or make the model again")


def no_model(place: Path) -> None:
    """Raises DataError, in one line, where data are wanted and there is nothing, or a model."""
    if not place.exists():
        raise DataError(f"{place} does not exist; wanted images there")
    if any((place / name).exists() for name in (META, bundles.MANIFEST, "artefact.json")):
        raise DataError(f"{place} is {describe(place)}, not images; `handful predict MODEL IMAGES` takes it")


def model_class(name: str) -> type[Model[Any]]:
    """The class of the models of a kind."""
    module = kind(name)
    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == f"handful.kinds.kind_{name}"]
    return next(c for c in own if issubclass(c, Model))


@cache
def options(owner: type, method: str) -> frozenset[str]:
    """What a method of a model's class can be told: the names of its keywords, empty where it has no such method."""
    found = getattr(owner, method, None)
    if found is None:
        return frozenset()
    known = inspect.signature(found).parameters.values()
    return frozenset(p.name for p in known if p.kind is p.KEYWORD_ONLY and p.name != "on_error")


def wanted(model: Model[Any], verb: str) -> None:
    """Raises UsageError, in one line that says what can, where a model's kind lacks a verb."""
    module = kind(model.kind)
    reason = module.VERBS.why_not(verb)
    if reason is not None:
        raise UsageError(f"{model.folder or 'the model'} is {module.DESCRIPTION}; {reason}")
