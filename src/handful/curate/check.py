"""Find what would break or falsify training, before training: name the file, the value, the count and the repair."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.duplicates import Album
from handful.curate.findings import Listing, Notes
from handful.curate.image_metadata import Cache, ImageMetadata, file_hash, gather
from handful.data.finding import Finding, OnFinding
from handful.data.formats import Source, located, sources
from handful.data.paths import is_leftover, relative, walk
from handful.data.shapes import box_of
from handful.errors import DataError
from handful.progress import track
from handful.types import Dataset, Object, Sample

VERSION = 1  # of the rules: a report kept by another version is not used
TINY_PX = 4.0
SUFFIX_OF = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",), "BMP": (".bmp",),
             "WEBP": (".webp",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm"),
             "AVIF": (".avif",), "JPEG2000": (".jp2",)}  # fmt: skip


@dataclass
class Part:
    """What one set of labels holds: photos, labelled, empty and unlabelled ones; per class photos, objects, pixels."""

    source: Source
    photos: int = 0
    labelled: int = 0
    empty: int = 0
    unlabelled: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    classes: dict[str, list[int]] = field(default_factory=dict)

    def as_json(self, root: Path) -> dict[str, Any]:
        """The row of `handful data check --json`."""
        return {
            "format": self.source.title,
            "folder": relative(self.source.place, root),
            "images": self.photos,
            "labelled": self.labelled,
            "empty": self.empty,
            "unlabelled": self.unlabelled,
            "splits": dict(self.splits),
            "classes": {
                name: dict(zip(("images", "objects", "pixels"), counts, strict=True))
                for name, counts in self.classes.items()
            },
        }


def check(
    place: Path,
    *,
    format: str | None = None,
    cache: Path | None = None,
    near: bool = True,
    threads: int = 2,
    **options: Any,
) -> dict[str, Any]:
    """Look at every photo and label below a folder.

    format: as what to read it, instead of finding out. cache: a folder to keep facts and reports in, by content
    hash; None keeps nothing. near: look for photos that look alike, too. options: for the reader (masks, flat).
    Returns the JSON object of `handful data check --json`: schema_version, folder, sha256, sets, findings, ok. Raises
    DataError when the folder holds nothing that is known.
    """  # fmt: skip
    named, place = place, located(place)
    found = sources(place, format=format, **options)
    with Cache(cache) as kept:
        digest = content_hash(place, kept)
        what = {"format": format, "near": near, **options}
        key = f"{VERSION} {digest} {json.dumps(what, sort_keys=True, default=str)}"
        old = kept.report(key)
        if old is not None:
            report: dict[str, Any] = json.loads(old)
            return {**report, "folder": str(named)}
        listing, parts = look(place, found, kept, near=near, threads=threads)
        report = {
            "schema_version": 1,
            "folder": str(named),
            "sha256": digest,
            "sets": [part.as_json(place) for part in parts],
            "findings": listing.rows(),
            "ok": listing.ok,
        }
        kept.put_report(key, json.dumps(report))
    return report


def look(
    place: Path, found: Sequence[Source], cache: Cache, *, near: bool = True, threads: int = 2
) -> tuple[Listing, list[Part]]:
    """Every finding about the label sets of a folder, and what each set holds."""
    listing = Listing(place)
    told: set[str] = set()  # photos that two sets share are held against one another once
    parts = [_part(source, listing, cache, near, threads, told) for source in found]
    _names(place, listing)
    return listing, parts


def content_hash(place: Path, cache: Cache) -> str:
    """SHA-256 over the names and bytes of every file in a folder (or of one file)."""
    digest = hashlib.sha256()
    if place.is_file():
        return file_hash(place, cache)
    for name in track(list(walk(place)), "hashing"):
        digest.update(f"{name}\0{file_hash(place / name, cache)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _part(source: Source, listing: Listing, cache: Cache, near: bool, threads: int, told: set[str]) -> Part:
    on_finding = listing.below(source.place)
    dataset = source.read(on_finding)
    part, notes, photos = Part(source), Notes(), Album()
    part.classes = {c.name: [0, 0, 0] for c in dataset.categories}
    names = {c.id: c.name for c in dataset.categories}
    looked = ((s, None if s.pixels is not None else s.path) for s in dataset)
    for sample, image_metadata in track(
        gather(looked, cache, threads=threads), f"checking {source.title}", len(dataset)
    ):
        at = relative(sample.path, listing.root)
        _photo(sample, image_metadata, at, listing.on_finding, notes)
        _labels(sample, image_metadata, at, listing.on_finding, notes, part, names, listing.root)
        photos.add(sample, image_metadata, at)
    notes.on_finding(listing.on_finding)
    _classes(dataset, part, on_finding)
    if not told.issuperset(photos.files):
        photos.same(listing.on_finding)
        if near:
            photos.near(listing.on_finding)
        told.update(photos.files)
    return part


def _photo(sample: Sample, image_metadata: ImageMetadata, at: str, on_finding: OnFinding, notes: Notes) -> None:
    if sample.pixels is not None:
        return
    if image_metadata.error:
        on_finding(
            Finding(image_metadata.error, at, image_metadata.error_text or None, detail=image_metadata.error_text)
        )
        return
    suffix = sample.path.suffix
    if suffix != suffix.lower():
        notes.add("mixed_case_suffix", at, suffix)
    if suffix.lower() not in SUFFIX_OF.get(image_metadata.format, (suffix.lower(),)):
        notes.add("wrong_suffix", at, f"{suffix} holds {image_metadata.format}")
    for text in image_metadata.notes:
        notes.add("colour_space", at, text)


def _labels(
    sample: Sample,
    image_metadata: ImageMetadata,
    at: str,
    on_finding: OnFinding,
    notes: Notes,
    part: Part,
    names: dict[int, str],
    root: Path,
) -> None:
    part.photos += 1
    part.splits[sample.split or ""] += 1
    seen: set[str] = set()
    if sample.mask is None and sample.objects is None and sample.label is None:
        part.unlabelled += 1
        notes.add("missing_mask" if part.source.format == "masks" else "unlabelled_image", at)
    elif sample.objects == () and sample.mask is None:
        part.empty += 1
        notes.add("empty_image", at)
    else:
        part.labelled += 1
    mask = _mask(sample, part, names) if sample.mask is not None else None
    if mask is not None:
        seen |= mask[1]
    _sizes(sample, image_metadata, mask[0] if mask is not None else None, at, on_finding, root)
    if sample.label is not None:
        seen.add(sample.label)
    if sample.objects is not None:
        seen |= _objects(sample.objects, at, on_finding, notes, part)
        if part.source.format == "coco" and sample.attributes.get("license") in (None, 0):
            notes.add("no_licence", at)
    for name in seen:
        part.classes.setdefault(name, [0, 0, 0])[0] += 1


def _mask(sample: Sample, part: Part, names: dict[int, str]) -> tuple[tuple[int, int], set[str]] | None:
    """The mask's (width, height) and its classes, their pixels counted; None when it cannot be used."""
    assert sample.mask is not None
    try:
        mask = sample.mask()
    except DataError:
        return None  # why was told by the reader
    values, counts = np.unique(mask.ids, return_counts=True)
    seen = set()
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if value != mask.ignore or value in names:
            name = names.get(value, str(value))
            part.classes.setdefault(name, [0, 0, 0])[2] += count
            seen.add(name)
    return (mask.ids.shape[1], mask.ids.shape[0]), seen


def _sizes(
    sample: Sample,
    image_metadata: ImageMetadata,
    mask_wh: tuple[int, int] | None,
    at: str,
    on_finding: OnFinding,
    root: Path,
) -> None:
    """Whether labels and mask have the photo's size, as EXIF turns it or as it lies in the file."""
    upright, stored = image_metadata.size_wh, image_metadata.stored_wh
    if image_metadata.error or upright == (0, 0):
        upright = stored = sample.size_wh or mask_wh or (0, 0)
    said = sample.size_wh or (mask_wh if mask_wh in (upright, stored) else None)
    if said is not None and said not in (upright, stored):
        detail = f"the labels say {said[0]}x{said[1]} px, the photo has {upright[0]}x{upright[1]}"
        on_finding(Finding("size_mismatch", at, list(said), detail=detail))
    elif said is not None and said != upright:
        detail = f"EXIF turns it to {upright[0]}x{upright[1]} px, its labels are for {said[0]}x{said[1]}"
        on_finding(Finding("exif_against_labels", at, image_metadata.orientation, detail=detail))
    elif image_metadata.orientation > 1 and (sample.objects or mask_wh is not None):
        detail = (
            f"is turned by EXIF orientation {image_metadata.orientation}; readers that ignore EXIF see it otherwise"
        )
        on_finding(Finding("exif_rotated", at, image_metadata.orientation, detail=detail))
    if mask_wh is not None and mask_wh != (said or upright):
        file = at if sample.mask_path is None else relative(sample.mask_path, root)
        detail = f"is {mask_wh[0]}x{mask_wh[1]} px, its photo {upright[0]}x{upright[1]}"
        on_finding(Finding("mask_size_mismatch", file, list(mask_wh), detail=detail))


def _objects(objects: Sequence[Object], at: str, on_finding: OnFinding, notes: Notes, part: Part) -> set[str]:
    boxes: Counter[tuple[Any, ...]] = Counter()
    for thing in objects:
        part.classes.setdefault(thing.label, [0, 0, 0])[1] += 1
        box = box_of(thing)
        if box is not None:
            boxes[(thing.label, *box)] += 1
            if min(box[2] - box[0], box[3] - box[1]) < TINY_PX:
                notes.add("tiny_object", at)
    for (label, *corners), count in boxes.items():
        if count > 1:
            detail = f"{label} at {[round(v, 1) for v in corners]} is there {count} times"
            on_finding(Finding("duplicate_object", at, corners, count - 1, detail))
    return {thing.label for thing in objects}


def _classes(dataset: Dataset, part: Part, on_finding: OnFinding) -> None:
    if not part.labelled:
        return
    without = [name for name, counts in part.classes.items() if not counts[0]]
    if without:
        few = ", ".join(without[:8]) + (", ..." if len(without) > 8 else "")
        on_finding(Finding("class_without_samples", ".", without, len(without), f"{len(without)} classes of "
                     f"{len(part.classes)} have no sample ({few})"))  # fmt: skip
    single = [name for name, counts in part.classes.items() if counts == [1, 0, 0]]
    if single and len(single) < len(part.classes):
        few = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        detail = f"{len(single)} of {len(part.classes)} classes have one photo only ({few}); three or more are better"
        on_finding(Finding("one_photo", ".", single, len(single), detail))


def _names(place: Path, listing: Listing) -> None:
    """Names that clash where case does not count, and what a broken copy leaves behind."""
    if not place.is_dir():
        return
    spelled: dict[str, str] = {}
    for name in walk(place):
        if is_leftover(name):
            listing.on_finding(Finding("leftover_file", name, detail="is what a broken copy or download leaves behind"))
        other = spelled.setdefault(name.casefold(), name)
        if other != name:
            detail = f"and {other} are one file where case does not count"
            listing.on_finding(Finding("name_clash", name, other, detail=detail))


def ensure(
    place: Path, *, allow: Sequence[str] = (), quiet: Sequence[str] = (), cache: Path | None = None, **options: Any
) -> list[str]:
    """What training and teaching run first: errors stop the work, warnings come back as lines for people.

    allow: codes of errors to go on with. quiet: codes of warnings that do not matter here. Raises
    DataError with the first errors and how to mend them.
    """
    report = check(place, cache=cache, **options)
    place = Path(place)
    errors = [f for f in report["findings"] if f["severity"] == "error" and f["code"] not in allow]
    if errors:
        lines = [f"{_line(place, f)} [{f['code']}]" for f in errors[:5]]
        if len(errors) > 5:
            lines.append(f"and {len(errors) - 5} more")
        what = lines[0] if len(errors) == 1 else f"{place} has {len(errors)} faults:\n  " + "\n  ".join(lines) + "\n "
        raise DataError(
            f"{what}; see all: handful data check {place}; mend a copy: handful data check {place} --fix COPY; "
            f"go on all the same: --allow {errors[0]['code']}"
        )
    warnings = [f for f in report["findings"] if f["severity"] == "warning" and f["code"] not in quiet]
    return [_line(place, f) for f in warnings]


def _line(place: Path, finding: dict[str, Any]) -> str:
    return f"{place if finding['file'] == '.' else place / finding['file']}: {finding['text']}"
