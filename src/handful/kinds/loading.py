"""The model in a folder, whatever its kind, or a compiled bundle, which needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from handful import bundle as bundles
from handful import shipped
from handful.arrays import StrPath
from handful.bundle import compile_again, read_bundle
from handful.errors import DataError
from handful.files import sha256
from handful.kinds import registry
from handful.kinds.contract import Kind, Model
from handful.progress import warn


def load(folder: StrPath) -> Model[Any]:
    """The model in a folder, whatever its kind; or a compiled bundle; or one that comes with handful, by its name.

    Raises DataError, naming the file, for a folder that is none, or in which anything is not as it was saved.
    """
    place = shipped.found(folder)
    if (place / bundles.MANIFEST).exists() or (place / bundles.OLD).exists():
        return load_bundle(place)
    while True:
        now = _state(place)
        try:
            model = registry.loader(place).load(place)
        except DataError:
            if _state(place) == now:
                raise
        else:
            if _state(place) == now:
                return model  # else another command put a new model here meanwhile, and this may be half of each


def _state(place: Path) -> tuple[int, ...] | None:
    """Which folder lies at a place, and when it was written; None of none."""
    try:
        one, other = place.stat(), (place / "handful.json").stat()
    except OSError:
        return None
    return one.st_ino, other.st_ino, other.st_mtime_ns, other.st_size


def load_bundle(folder: StrPath, *, threads: int = 1) -> Model[Any]:
    """A compiled bundle, ready to be asked.

    threads: of the runtime. Raises DataError, naming the file, for a bundle that is not whole or of another version;
    MissingPackage without its runtime; DeviceError from the runtime.
    """
    from handful.device.sessions import sessions_of

    bundle = read_bundle(Path(folder))
    if bundle.kind not in registry.kinds():
        raise DataError(f"{folder} is a bundle of the kind {bundle.kind!r}, which this version of handful does not "
                        "know; run: pip install --upgrade handful")  # fmt: skip
    home, source = bundle.model, bundle.meta.get("source")
    if home is not None and isinstance(source, dict) and sha256(home / "handful.json") != source.get("handful.json"):
        warn(f"{folder} was compiled before {home} last changed; {compile_again(Path(folder), bundle.meta)}")
    kind = registry.kind(bundle.kind)
    return kind.from_bundle(bundle, sessions_of(bundle, threads, None if home is None else _rebuild(kind, home)))


def _rebuild(kind: Kind, model: Path) -> Callable[[str], Any]:
    """For the runtime torch, whose files hold weights alone."""

    @cache
    def graphs() -> Mapping[str, Any]:
        return kind.export(model).graphs

    return lambda name: graphs()[name]
