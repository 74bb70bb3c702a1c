"""A taught model changed in its own folder, whole or not at all; what was compiled of it is kept where it stays true.

A detector's vigilance and score threshold are in a bundle's plan, beside the graphs, and are written there too. A
classifier's vigilance is in its graph, and so is what is learned or unlearned: that must be compiled again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from handful.arrays import JSONObject
from handful.bundle import Bundle, read_bundle
from handful.errors import DataError, UsageError
from handful.files import replacing_folder, sha256
from handful.kinds import loading, registry
from handful.locks import one_writer
from handful.models.folder import COMPILED, META, bundles, check_beside, own_names, read_meta

OWN = ("vigilance", "score_threshold", "mode")
NOT_IN_GRAPHS = (META, "nemo.json", "seen.safetensors")  # files of a detector that hold nothing a graph is made of


def set_own(folder: Path, values: Mapping[str, float | str]) -> JSONObject:
    """Set a taught model's own vigilance, or a detector's score threshold or mode, in its folder.

    values: by name, "vigilance", "score_threshold", "mode". Returns what the model has now, and the names of its
    bundles: "bundles_kept" and "bundles_dropped". Raises DataError, telling the range, or UsageError for a kind that
    has none to set.
    """
    _may(folder, "set", [f"set_{name}" for name in values])
    with one_writer(folder):
        model: Any = loading.load(folder)
        before = {name: getattr(model, name) for name in values}
        for name, value in values.items():
            getattr(model, f"set_{name}")(value)
        if {name: getattr(model, name) for name in values} == before:
            kept, dropped = [place.name for place in bundles(folder)], list[str]()
        else:
            kept, dropped = _saved(model, folder, values)
    own: JSONObject = {name: getattr(model, name) for name in OWN if hasattr(model, name)}
    return {"schema_version": 1, "model": str(folder), **own, "bundles_kept": kept,
            "bundles_dropped": dropped}  # fmt: skip


def unlearn(folder: Path, data: Path | None, classes: list[str], options: Mapping[str, Any]) -> JSONObject:
    """Take images or boxes back in a model's folder, as if they had never been learned; or, without `data`, classes.

    classes: without data, which to forget; with it, only these. options: of the kind's `unlearn_data`. Raises
    DataError, and nothing has changed, for what was never learned and where nothing would be left; UsageError for a
    kind that does not unlearn.
    """
    _may(folder, "unlearn", ["unlearn_data"])
    with one_writer(folder):
        model: Any = loading.load(folder)
        before = dict(model.samples)
        if data is None:
            for name in classes:
                model.forget(name)
            told: JSONObject = {"unlearned": sum(before.values()) - sum(model.samples.values())}
        else:
            told = model.unlearn_data(data, classes=classes or None, **options)
        if not model.classes:
            raise DataError(f"{folder} would have no class left; teach it something else first, or delete the folder")
        _, dropped = _saved(model, folder, None)
    forgotten = sorted(set(before) - set(model.classes))
    return {"schema_version": 1, "model": str(folder), **told, "classes": list(model.classes),
            "samples": dict(model.samples), "classes_forgotten": forgotten, "bundles_dropped": dropped}  # fmt: skip


def _may(folder: Path, verb: str, methods: list[str]) -> None:
    """Raises UsageError, in one line that says what can, before anything is loaded."""
    module, owner = registry.loader(folder), registry.model_class(registry.kind_name_of(folder))
    reason = module.VERBS.why_not(verb)
    if reason is not None:
        raise UsageError(f"{folder} is {module.DESCRIPTION}; {reason}")
    check_beside(folder)
    for method in methods:
        if not hasattr(owner, method):
            takers = [
                registry.kind(k).DESCRIPTION for k in registry.kinds() if hasattr(registry.model_class(k), method)
            ]
            flag = method.removeprefix("set_").replace("_", "-")
            raise UsageError(f"{folder} is {module.DESCRIPTION}; --{flag} is for {' or '.join(takers)}")


def _saved(model: Any, folder: Path, values: Mapping[str, float | str] | None) -> tuple[list[str], list[str]]:
    """Write the folder anew, with the bundles that stay true; the names of those, and of the others."""
    before = _hashes(folder)
    kept, dropped = [], []
    with replacing_folder(folder, own_names) as part:
        new = part / "new"
        model.save(new)
        for file in list(new.iterdir()):
            os.replace(file, part / file.name)
        new.rmdir()
        after = _hashes(part)
        same = all(after.get(name) == digest for name, digest in before.items() if name not in NOT_IN_GRAPHS)
        for place in bundles(folder):
            # the mode is in the shapes of the graphs
            bundle = _true(place, before) if values is not None and "mode" not in values and same else None
            if bundle is None or not isinstance(bundle.meta.get("plan"), dict):
                dropped.append(place.name)
                continue
            shutil.copytree(place, part / COMPILED / place.name)
            _retold(part / COMPILED / place.name, bundle, values or {}, after)
            kept.append(place.name)
    model.folder = folder
    return kept, dropped


def _hashes(folder: Path) -> dict[str, str]:
    """As handful.kinds.compiling.source_of has them."""
    return {META: sha256(folder / META), **read_meta(folder, whole=False)["files"]}


def _true(place: Path, hashes: Mapping[str, str]) -> Bundle | None:
    """A bundle that was compiled from these files and is whole; None for any other."""
    try:
        bundle = read_bundle(place)
    except DataError:
        return None
    return bundle if bundle.meta.get("source") == hashes else None


def _retold(place: Path, bundle: Bundle, values: Mapping[str, float | str], source: Mapping[str, str]) -> None:
    """Write other values into a copy of a bundle, as if it had been compiled with them."""
    from handful.device.compile import write_bundle

    meta: dict[str, Any] = deepcopy(dict(bundle.meta))
    for held in (meta["plan"]["answer"], meta["postprocessing"], meta["card"]):
        held |= {name: float(value) for name, value in values.items() if name in held}
    write_bundle(place, bundle.graphs, {**meta, "source": dict(source)})
