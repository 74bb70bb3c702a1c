"""ImageNet-style folders: one folder a class, photos inside; or one photo a class, named after it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handful.data.photos import list_photos
from handful.errors import DataError
from handful.files import sha256
from handful.pick import unknown
from handful.types import Sample


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a folder of photos. code: stable and short; text: one line for people."""

    code: str
    files: tuple[Path, ...]
    text: str


def read(folder: Path, *, classes: Sequence[str] | None = None, flat: bool = False) -> list[Sample]:
    """The photos below a folder with their class, sorted by class and then by name. No photo is opened.

    flat: the photos lie directly in the folder, one a class, and each file's name is its class.
    classes: keep only these. Raises DataError, naming the file, when there is no class, a class without a photo,
    or two classes whose names differ only in case; UnknownName for a class that is not there.
    """
    folder = Path(folder)
    samples = _flat(folder) if flat else _per_class(folder)
    found = sorted({s.label for s in samples if s.label is not None})
    twins = defaultdict(list)
    for name in found:
        twins[name.casefold()].append(name)
    for group in twins.values():
        if len(group) > 1:
            raise DataError(
                f"{folder} has {len(group)} classes of the same name in different case: {', '.join(group)}; "
                "join or rename them"
            )
    if classes is not None:
        for name in classes:
            if name not in found:
                raise unknown("class", name, found)
        samples = [s for s in samples if s.label in set(classes)]
    return samples


def _flat(folder: Path) -> list[Sample]:
    photos, _ = list_photos(folder)
    if not photos:
        raise DataError(f"{folder} has no photos in it; wanted one a class, named after it")
    return [Sample(path, label=path.stem) for path in photos]


def _per_class(folder: Path) -> list[Sample]:
    loose, _ = list_photos(folder)
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        do = "move them into a folder for each class, or use --flat where each file's name is its class"
        raise DataError(
            f"{folder} has no class folders in it ({len(loose)} loose photos); wanted CLASS/PHOTO.jpg; {do}"
        )
    samples = []
    for place in folders:
        photos, _ = list_photos(place)
        if not photos:
            raise DataError(f"{place} has no photos in it; add some, or remove the folder")
        samples += [Sample(path, label=place.name) for path in photos]
    return samples


def check(samples: Sequence[Sample], *, folder: Path | None = None) -> list[Finding]:
    """What a person should know before these photos are used: the same photo twice, a class with one photo, ...

    Photos are compared by their bytes. With `folder`, files in it that were passed over are told too.
    """
    findings = []
    by_class: dict[str, list[Sample]] = defaultdict(list)
    by_bytes: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label or ""].append(sample)
        if sample.path.stat().st_size:
            by_bytes[sha256(sample.path)].append(sample)
    for same in by_bytes.values():
        labels = sorted({s.label or "" for s in same})
        paths = tuple(s.path for s in same)
        if len(labels) > 1:
            where = " and ".join(str(p) for p in paths)
            findings.append(Finding("same_photo_in_two_classes", paths, f"{where} are the same photo in two classes"))
        elif len(same) > 1:
            findings.append(Finding("same_photo_twice", paths, f"{' and '.join(map(str, paths))} are the same photo"))
    single = [name for name, members in by_class.items() if len(members) == 1]
    if single and len(single) < len(by_class):
        few = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        text = f"{len(single)} of {len(by_class)} classes have one photo only ({few}); three or more are better"
        findings.append(Finding("one_photo", tuple(by_class[n][0].path for n in single), text))
    if folder is not None:
        others = [p for place in {s.path.parent for s in samples} | {folder} for p in list_photos(place)[1]]
        if others:
            names = ", ".join(p.name for p in sorted(others)[:5])
            findings.append(
                Finding(
                    "not_a_photo", tuple(others), f"{len(others)} files are no photos and were passed over ({names})"
                )
            )
    return findings


def digest(samples: Sequence[Sample]) -> str:
    """One SHA-256 over the labels and bytes of all photos, whatever their order and names."""
    lines = sorted(f"{sample.label}\0{sha256(sample.path)}" for sample in samples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
