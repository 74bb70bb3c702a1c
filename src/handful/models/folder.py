"""A model on disk is a folder: `handful.json`, `model.safetensors`, and whatever a part keeps beside them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import handful
from handful import bundle, places
from handful.errors import DataError
from handful.files import read_json, read_tensors, replacing_folder, sha256, to_json, write_tensors

SCHEMA_VERSION = 2  # 1: `licence` where now `license` is, `colour_order`, `photos_by_licence`
META, WEIGHTS = "handful.json", "model.safetensors"
# what any kind of model keeps in its folder
EVER = (META, WEIGHTS, "nemo.json", "nemo.safetensors", "examples.safetensors", "seen.safetensors")
COMPILED = "compiled"
OLD_KEYS = {"licence": "license", "photos_by_licence": "images_by_license", "colour_order": "color_order"}
ABOUT_WEIGHTS = ("card", "proposer", "eye", "masks", "preprocessing")  # the parts of handful.json that have such keys


@dataclass(frozen=True)
class Model:
    """A network rebuilt from its folder. meta: the whole of handful.json."""

    folder: Path
    network: Any
    meta: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the network's scores."""
        return list(self.meta["classes"])

    @property
    def frame_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of the uint8 RGB frame the network takes."""
        height, width = self.meta["preprocessing"]["frame_hw"]
        return height, width


def save_folder(
    folder: Path,
    network: Any,
    *,
    kind: str,
    args: Mapping[str, Any],
    classes: list[str],
    preprocessing: Mapping[str, Any],
    about: Mapping[str, Any],
    beside: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write a model folder, whole or not at all, in place of any that was there.

    network: a torch module, or anything whose state_dict() gives its arrays.
    kind and args: `handful.models.net_<kind>.build(len(classes), **args)` rebuilds the network.
    about: what else a reader must know (license, training, metric rules). beside: writes further files.
    What a user has put into an older folder stays in it; what was compiled of the older model goes. Returns the meta
    data. Raises DataError when the folder cannot be written; an older folder is then untouched.
    """
    with replacing_folder(folder, own_names) as part:
        write_tensors(part / WEIGHTS, {name: _array(value) for name, value in network.state_dict().items()})
        if beside is not None:
            beside(part)
        meta = {
            "schema_version": SCHEMA_VERSION,
            "handful": handful.__version__,
            "network": {"kind": kind, "args": dict(args)},
            "classes": classes,
            "preprocessing": dict(preprocessing),
            **about,
            "made_on": {
                "python": platform.python_version(),
                "machine": platform.machine(),
                "system": platform.system(),
            },
            "files": {file.name: sha256(file) for file in sorted(part.iterdir()) if file.is_file()},
        }
        (part / META).write_text(to_json(meta) + "\n", encoding="utf-8")
    return meta


def _array(value: Any) -> np.ndarray:
    array: np.ndarray = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
    return array


def own_names(folder: Path) -> frozenset[str]:
    """Names in a model folder that are handful's own; what else is there is the user's, beside a bundle's files too:
    those are named with their folders, compiled/RUNTIME-PRECISION/NAME."""
    try:
        files = read_json(folder / META).get("files")
    except DataError:
        files = None
    below = [place for place in (folder / COMPILED).glob("*") if place.is_dir() and not place.is_symlink()]
    inner = {f"{COMPILED}/{place.name}/{name}" for place in below for name in bundle.own_names(place)}
    # layers, and what is half made; folders of which nothing is left
    gone = [place for place in below if place.name.startswith(".") or not any(place.iterdir())]
    hidden = {f"{COMPILED}/{place.name}" for place in gone}
    return frozenset({*EVER, *inner, *hidden, *(files if isinstance(files, dict) else ())})


def bundles(folder: Path) -> list[Path]:
    """What was compiled of a model, in its folder: the bundles' folders."""
    found = sorted((Path(folder) / COMPILED).glob("*-*"))
    return [place for place in found if (place / bundle.MANIFEST).exists() or (place / bundle.OLD).exists()]


def read_meta(folder: Path, *, whole: bool = True) -> dict[str, Any]:
    """handful.json of a model folder, after checking that this version can read it and that its files are whole.

    whole: False leaves the files alone, where only what the folder says of itself is wanted.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; wanted a model folder, as `handful teach PHOTOS --out DIR` makes")
    if not (folder / META).exists():
        raise DataError(f"{folder} is not a model folder: it has no {META}; `handful teach PHOTOS --out DIR` makes one")
    meta = read_json(folder / META)
    version = meta.get("schema_version")
    if not isinstance(version, int) or version < 1:
        raise DataError(
            f"{folder / META} has schema_version {version!r}; wanted a number from 1; teach the model again"
        )
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{folder} was made by handful {meta.get('handful', '?')} (schema {version}); this is handful "
            f"{handful.__version__} (schema {SCHEMA_VERSION}); run: pip install --upgrade handful"
        )
    for key in ("network", "classes", "preprocessing", "files"):
        if key not in meta:
            raise DataError(f"{folder / META} lacks {key!r}; restore it or teach the model again")
    for name, wanted in meta["files"].items():
        file = folder / name
        if Path(name).name != name:
            raise DataError(f"{folder / META} names a file outside its folder: {name!r}; do not use this model")
        if not whole:
            continue
        if not file.exists():
            raise DataError(f"{file} is missing; restore it or teach the model again")
        found = sha256(file)
        if found != wanted:
            raise DataError(
                f"{file} is not the file that was saved (sha256 {found[:12]}..., wanted {wanted[:12]}...); "
                "restore it or teach the model again"
            )
    return {key: today(value) if key in ABOUT_WEIGHTS else value for key, value in meta.items()}


def check_beside(out: Path) -> None:
    """Raises DataError where a model folder cannot be written: it is made beside its place, or in a mounted volume."""
    place = places.real(out)
    places.check_writable(place if os.path.ismount(place) else place.parent)


def check_replaceable(out: Path) -> None:
    """Raises DataError unless a model folder may be written to `out`: nothing is there, an empty folder, or a model."""
    if out.exists() and not is_model(out) and not (out.is_dir() and not any(out.iterdir())):
        other = f" (its {META} is another program's)" if (out / META).exists() else ""
        raise DataError(
            f"{out} exists and is not a model folder{other}, so it is not overwritten; choose another place"
        )
    check_beside(out)


def is_model(folder: Path) -> bool:
    """Whether a folder's handful.json says that it is a model; a damaged one counts where its weights lie beside it."""
    meta = folder / META
    if not meta.is_file():
        return False
    try:
        held = read_json(meta)
    except DataError:
        return (folder / WEIGHTS).is_file()
    return type(held.get("schema_version")) is int and isinstance(held.get("files"), dict)


def may_teach_into(out: Path, *, overwrite: bool, begun: bool = False) -> None:
    """Raises DataError where a new model must not be written. begun: nothing was there when the work began."""
    check_replaceable(out)
    if not overwrite and (out / META).exists():
        if begun:
            raise DataError(f"{out} appeared while this was running, so it was not overwritten; choose another --out")
        raise DataError(f"{out} exists; use --add to teach it more, --overwrite to replace it, or another --out")


def today(about: Any) -> Any:
    """What is known of weights, with today's keys, whichever version wrote it."""
    return {OLD_KEYS.get(key, key): value for key, value in about.items()} if isinstance(about, dict) else about


def from_folder(folder: Path, *, whole: bool = True) -> Model:
    """Rebuild a network from its folder and nothing else. whole: as read_meta. Raises DataError naming the file that is
    wrong."""
    import torch

    import handful.models
    from handful.pick import pick

    folder = Path(folder)
    meta = read_meta(folder, whole=whole)
    kind, args = meta["network"].get("kind"), meta["network"].get("args", {})
    build = pick(handful.models, "net", str(kind)).build
    try:
        network = build(len(meta["classes"]), **args, pretrained=False)
    except TypeError as error:
        raise DataError(f"{folder / META}: the network {kind!r} does not take these arguments ({error})") from error
    tensors = read_tensors(folder / WEIGHTS)
    check_fit(folder, kind, {name: tuple(value.shape) for name, value in network.state_dict().items()}, tensors)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()}, strict=True)
    return Model(folder, network.eval(), meta)


def check_fit(
    folder: Path, kind: Any, own: Mapping[str, tuple[int, ...]], tensors: Mapping[str, np.ndarray]
) -> None:  # fmt: skip
    """Raises DataError unless the weights of a folder have the names and shapes of the network that it names."""
    found = {name: value.shape for name, value in tensors.items()}
    if own != found:
        wrong = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        raise DataError(
            f"{folder / WEIGHTS} does not fit the network {kind!r} named in {META}: {len(wrong)} parameters differ, "
            f"such as {wrong[0]}; was it made with another backbone?"
        )
