"""A model folder of any kind, compiled, compared and timed: what this room knows of it, told to handful.device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import handful
from handful import shipped
from handful.arrays import StrPath
from handful.bundle import Bundle
from handful.errors import DataError, UsageError
from handful.files import cache_home, sha256
from handful.image import Image
from handful.kinds import registry
from handful.models.folder import META, WEIGHTS, read_meta

if TYPE_CHECKING:
    from handful.device.compile import ModelSource
    from handful.device.lab.measure import Timing

EXPORTER = "handful.kinds.exports:export"
CODE = ("kinds/exports.py", "detection/graphs.py", "detection/compiled.py")  # another one, and all is compiled again
Images = Sequence[Image | np.ndarray] | None


def source_of(folder: StrPath, verb: str = "compile") -> ModelSource:
    """A model folder, read once and found whole, as handful.device takes it.

    Raises DataError, naming the file, for one that is not as it was saved or no model folder; UsageError, with the
    reason, for a kind that cannot be compiled.
    """
    from handful.device.compile import ModelSource

    place = shipped.found(folder).resolve()
    module = registry.loader(place)
    reason = module.VERBS.why_not(verb)
    if reason is not None:
        raise UsageError(f"{folder} is {module.DESCRIPTION}: {reason}")
    meta = read_meta(place)  # hashes every file, and nothing hashes them again
    hashes = {META: sha256(place / META), **{str(name): str(digest) for name, digest in meta["files"].items()}}
    home = Path(str(handful.__file__)).parent
    code = {name: sha256(home / name)[:8] for name in CODE}
    program, reference = (str(getattr(module, name, "")) for name in ("PROGRAM", "REFERENCE"))
    size = (place / WEIGHTS).stat().st_size
    kept = _kept(place.name, hashes[META]) if shipped.ships(place) else None
    return ModelSource(place, EXPORTER, hashes, code, program, reference, size, kept)


def _kept(name: str, digest: str) -> Path:
    """Where what is compiled of a model that comes with handful is kept: beside nobody's files, anew for each version
    of it, by the SHA-256 of its handful.json. Raises DataError without a cache folder."""
    home = cache_home()
    if home is None:
        raise DataError(f"{name} comes with handful and is compiled into the cache folder, but there is none; "
                        "set HANDFUL_CACHE to a folder that can be written")  # fmt: skip
    return home / "compiled" / f"{name}-{digest[:12]}"


def compile_model(
    folder: StrPath, runtime: str, precision: str = "fp32", *, taps: bool = False, force: bool = False,
    into: Path | None = None,
) -> Bundle:  # fmt: skip
    """See handful.device.compile.compile_bundle."""
    from handful.device.compile import compile_bundle

    return compile_bundle(source_of(folder), runtime, precision, taps=taps, force=force, into=into)


def compare_model(
    folder: StrPath, runtime: str, precision: str = "fp32", images: Images = None, *, layers: bool = True, **how: Any
) -> dict[str, Any]:  # fmt: skip
    """Compare a compiled model with PyTorch, as handful.device.proof.compare_graph does, or, for a kind of several
    graphs, as compare_answers; layers: also layer by layer, or graph by graph. A JSON object."""
    from handful.device import proof

    source = source_of(folder, "compare")
    if source.program:
        return proof.compare_answers(source, runtime, precision, images, graphs=layers, **how)
    return proof.compare_graph(source, runtime, precision, images, layers=layers, **how)


def measure_model(folder: StrPath, runtime: str, precision: str = "fp32", **how: Any) -> Timing:
    """See handful.device.proof.measure_graph."""
    from handful.device.proof import measure_graph

    return measure_graph(source_of(folder), runtime, precision, **how)
