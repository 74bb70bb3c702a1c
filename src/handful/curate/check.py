"""Find what would break or falsify training, before training: name the file, the value, the count and the repair."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handful import running
from handful.curate.account import Account, account_of, left_aside
from handful.curate.cache_key import content_hash, shape
from handful.curate.duplicates import DuplicateIndex
from handful.curate.findings import FindingCounts, FindingsReport
from handful.curate.image_metadata import Cache, ImageMetadata, gather
from handful.data import pairing
from handful.data.finding import Finding, OnFinding, known_codes, ways_on
from handful.data.formats import Found, Source, located, sources
from handful.data.label_tree import top_of
from handful.data.ledger import IMAGE, note, noting
from handful.data.masks import value_counts
from handful.data.paths import is_leftover, relative, walk
from handful.data.reading import POINTERS
from handful.data.shapes import box_of
from handful.errors import DataError
from handful.image import NO_END, optional_kinds
from handful.progress import track
from handful.types import Dataset, Object, Sample
from handful.words import counted, shell

GUESSED = frozenset(("pairs", "folder"))  # formats in which names alone say what is a mask
VERSION = 11  # of the rules and of the report: one that another version kept is not used
TINY_PX = 4.0
SUFFIX_OF = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".jpg", ".jpeg", ".mpo"), "PNG": (".png",),
             "WEBP": (".webp",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm"),
             "BMP": (".bmp",), "AVIF": (".avif",), "JPEG2000": (".jp2",),
             "HEIF": (".heic", ".heif", ".hif")}  # fmt: skip


# messages name them only where the running verb has them
READING = ("--images", "--masks-in", "--flat", "--mask-threshold")


@dataclass
class Part:
    """What one set of labels holds: images, labeled, empty and unlabeled ones; per class images, objects, pixels.

    told: the codes that its reader told.
    """

    source: Source
    images: int = 0
    labeled: int = 0
    empty: int = 0
    unlabeled: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    classes: dict[str, list[int]] = field(default_factory=dict)
    ignored_px: int = 0
    told: set[str] = field(default_factory=set)

    def as_json(self, root: Path) -> dict[str, Any]:
        """The row of `handful data check --json`."""
        return {
            "format": self.source.title,
            "folder": relative(self.source.place, root),
            "images": self.images,
            "labeled": self.labeled,
            "empty": self.empty,
            "unlabeled": self.unlabeled,
            "splits": dict(self.splits),
            "per_class": {
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
    """Check every image and label below a folder.

    format: as what to read it, instead of finding out. cache: a folder to keep image metadata and reports in, by
    content hash; None keeps nothing. near: also find near-duplicates. options: for the reader (masks, flat).
    Returns the JSON object of `handful data check --json`: schema_version, data, sha256, sets, findings, ok. Raises
    DataError when the folder holds nothing that is known.
    """  # fmt: skip
    with pairing.remembering():
        return _check(place, format, cache, near, threads, options)


def _check(
    place: Path, format: str | None, cache: Path | None, near: bool, threads: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    named, place = place, located(place)
    found = sources(place, format=format, **options)
    with Cache(cache) as kept:
        digest = content_hash(place, kept)
        if options.get("images") and "{}" not in str(options["images"]):  # they may lie elsewhere
            digest += content_hash(Path(options["images"]), kept)
        what = {
            "format": format,
            "found": isinstance(format, Found),
            "near": near,
            "has": running.has(*READING),
            **options,
        }
        key = f"{VERSION} {digest} {shape(place)} {optional_kinds()} {json.dumps(what, sort_keys=True, default=str)}"
        # a file with labels names images that may lie anywhere, and only reading it tells where
        old = kept.report(key) if place.is_dir() else None
        if old is not None:
            report: dict[str, Any] = json.loads(old)
            return {**report, "data": str(named)}
        aside = left_aside(place, found) if chosen(format, options) else {}
        findings, parts, files = inspect(place, found, kept, near=near, threads=threads, aside=aside)
        report = {
            "schema_version": 1,
            "data": str(named),
            "sha256": digest,
            "sets": [part.as_json(place) for part in parts],
            "account": files.as_json(),
            "findings": findings.rows(),
            "ok": findings.ok and any(part.labeled for part in parts),
        }
        kept.put_report(key, json.dumps(report))
    return report


def chosen(format: str | None, options: Mapping[str, Any]) -> bool:
    """Whether somebody said which of the sets of a folder is meant."""
    return format is not None or bool(options.get("masks"))


def inspect(
    place: Path, found: Sequence[Source], cache: Cache, *, near: bool = True, threads: int = 2,
    aside: Mapping[str, str] | None = None,
) -> tuple[FindingsReport, list[Part], Account]:  # fmt: skip
    """Every finding about the label sets of a folder, what each set holds, and what became of every file. aside: files
    of sets that somebody chose not to read (account.left_aside)."""
    findings = FindingsReport(place)
    reported: set[str] = set()  # images that two sets share are compared once
    with noting() as used:
        parts = [_part(source, findings, cache, near, threads, reported) for source in found]
    said = {f.file: f.code for f in findings.found}
    guessed = any(source.format in GUESSED for source in found)
    files = account_of(place, used, findings.on_finding, said, aside, guessed)
    _names(place, findings)
    return findings, parts, files


def _part(source: Source, findings: FindingsReport, cache: Cache, near: bool, threads: int, reported: set[str]) -> Part:
    part, notes, duplicates = Part(source), FindingCounts(), DuplicateIndex()
    below = findings.below(source.place)

    def on_finding(finding: Finding) -> None:
        part.told.add(finding.code)
        below(finding)

    dataset = source.read(on_finding)
    part.classes = {c.name: [0, 0, 0] for c in dataset.categories}
    names = {c.id: c.name for c in dataset.categories}
    paths = ((s, None if s.pixels is not None else s.path) for s in dataset)
    for sample, meta in track(gather(paths, cache, threads=threads), f"checking {source.title}", len(dataset)):
        at = relative(sample.path, findings.root)
        _image(sample, meta, at, findings.on_finding, notes)
        _labels(sample, meta, at, findings.on_finding, notes, part, names, findings.root)
        duplicates.add(sample, meta, at)
    notes.on_finding(findings.on_finding)
    _classes(dataset, part, on_finding)
    if not reported.issuperset(duplicates.files):
        duplicates.report_exact(findings.on_finding)
        if near:
            duplicates.report_near(findings.on_finding)
        reported.update(duplicates.files)
    return part


def _image(sample: Sample, meta: ImageMetadata, at: str, on_finding: OnFinding, notes: FindingCounts) -> None:
    if sample.pixels is not None:
        return
    if meta.error:
        cause = POINTERS if meta.error == "lfs_pointer" else ""
        on_finding(Finding(meta.error, at, meta.error_text or None, detail=meta.error_text, cause=cause))
        return
    suffix = sample.path.suffix
    if suffix != suffix.lower():
        notes.add("mixed_case_suffix", at, suffix)
    if suffix.lower() not in SUFFIX_OF.get(meta.format, (suffix.lower(),)):
        notes.add("wrong_suffix", at, f"{suffix} holds {meta.format}")
    for text in meta.notes:
        notes.add("no_end_marker" if text == NO_END else "color_space", at, text)


def _labels(
    sample: Sample,
    meta: ImageMetadata,
    at: str,
    on_finding: OnFinding,
    notes: FindingCounts,
    part: Part,
    names: dict[int, str],
    root: Path,
) -> None:
    part.images += 1
    note(sample.path, IMAGE)
    part.splits[sample.split or ""] += 1
    seen: set[str] = set()
    if sample.mask is None and sample.objects is None and sample.label is None:
        part.unlabeled += 1
        code = "missing_mask" if part.source.format == "masks" else "unlabeled_image"
        if not sample.dropped and code not in part.told:  # somebody labeled it, or the reader has told it
            notes.add(code, at)
    elif sample.objects == () and sample.mask is None:
        part.empty += 1
        notes.add("empty_image", at)
    mask = _mask(sample, part, names) if sample.mask is not None else None
    if sample.mask is not None and mask is None and not sample.objects and sample.label is None:
        part.unlabeled += 1  # the reader has told why its mask cannot be used
    elif sample.mask is not None or sample.objects or sample.label is not None:
        part.labeled += 1
    if mask is not None:
        seen |= mask[1]
    _sizes(sample, meta, mask[0] if mask is not None else None, at, on_finding, root)
    if sample.label is not None:
        seen.add(sample.label)
    if sample.objects is not None:
        seen |= _objects(sample.objects, at, on_finding, notes, part)
        if part.source.format == "coco" and sample.attributes.get("license") in (None, 0):
            notes.add("no_license", at)
    for name in seen:
        part.classes.setdefault(name, [0, 0, 0])[0] += 1


def _mask(sample: Sample, part: Part, names: dict[int, str]) -> tuple[tuple[int, int], set[str]] | None:
    """The mask's (width, height) and its classes, their pixels counted; None when it cannot be used."""
    assert sample.mask is not None
    try:
        mask = sample.mask()
    except DataError:
        return None  # the reader has reported why
    values, counts = value_counts(mask.ids)
    seen = set()
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if value != mask.ignore or value in names:
            name = names.get(value, str(value))
            part.classes.setdefault(name, [0, 0, 0])[2] += count
            seen.add(name)
        else:
            part.ignored_px += count
    return (mask.ids.shape[1], mask.ids.shape[0]), seen


def _sizes(
    sample: Sample,
    meta: ImageMetadata,
    mask_wh: tuple[int, int] | None,
    at: str,
    on_finding: OnFinding,
    root: Path,
) -> None:
    """Whether labels and mask have the image's size, as EXIF turns it or as it lies in the file."""
    upright, stored = meta.size_wh, meta.stored_wh
    if meta.error or upright == (0, 0):
        upright = stored = sample.size_wh or mask_wh or (0, 0)
    labeled = sample.size_wh or (mask_wh if mask_wh in (upright, stored) else None)
    if labeled is not None and labeled not in (upright, stored):
        detail = f"the labels say {labeled[0]}x{labeled[1]} px, the image has {upright[0]}x{upright[1]}"
        on_finding(Finding("size_mismatch", at, list(labeled), detail=detail))
    elif labeled is not None and labeled != upright:
        detail = f"EXIF turns it to {upright[0]}x{upright[1]} px, its labels are for {labeled[0]}x{labeled[1]}"
        on_finding(Finding("exif_against_labels", at, meta.orientation, detail=detail))
    elif meta.orientation > 1 and (sample.objects or mask_wh is not None):
        detail = f"is turned by EXIF orientation {meta.orientation}; readers that ignore EXIF see it otherwise"
        on_finding(Finding("exif_rotated", at, meta.orientation, detail=detail))
    if mask_wh is not None and mask_wh != (labeled or upright):
        file = at if sample.mask_path is None else relative(sample.mask_path, root)
        detail = f"is {mask_wh[0]}x{mask_wh[1]} px, its image {upright[0]}x{upright[1]}"
        on_finding(Finding("mask_size_mismatch", file, list(mask_wh), detail=detail))


def _objects(objects: Sequence[Object], at: str, on_finding: OnFinding, notes: FindingCounts, part: Part) -> set[str]:
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
    if not part.labeled:
        return
    with_pixels = [name for name, counts in part.classes.items() if counts[2]]
    if part.ignored_px and len(part.classes) > 1 and len(with_pixels) <= 1:
        lost = [name for name, counts in part.classes.items() if not counts[2]]
        top = top_of(dataset.categories)
        detail = (f"{part.ignored_px} pixels of {top} are read as not labeled, and {lost[0]} has no pixel; if {top} is "
                  f"{lost[0]}, name it so in labels.json or write the class's number")  # fmt: skip
        on_finding(Finding("ignored_class", ".", lost, part.ignored_px, detail))
    without = [name for name, counts in part.classes.items() if not counts[0]]
    if without:
        few = ", ".join(without[:8]) + (", ..." if len(without) > 8 else "")
        detail = f"{counted(len(without), 'class has', 'classes have')} no sample ({few}), of {len(part.classes)}"
        on_finding(Finding("class_without_samples", ".", without, len(without), detail))
    single = [name for name, counts in part.classes.items() if counts == [1, 0, 0]]
    if single and len(single) < len(part.classes):
        few = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        detail = (
            f"{counted(len(single), 'class has', 'classes have')} one image only ({few}), of {len(part.classes)}; "
            "three or more are better"
        )
        on_finding(Finding("one_image", ".", single, len(single), detail))


def _names(place: Path, findings: FindingsReport) -> None:
    """Names that clash where case does not count, and what a broken copy leaves behind."""
    if not place.is_dir():
        return
    spelled: dict[str, str] = {}
    for name in walk(place):
        if is_leftover(name):
            findings.on_finding(
                Finding("leftover_file", name, detail="is what a broken copy or download leaves behind")
            )
        other = spelled.setdefault(name.casefold(), name)
        if other != name:
            detail = f"and {other} are one file where case does not count"
            findings.on_finding(Finding("name_clash", name, other, detail=detail))


def ensure(
    place: Path, *, allow: Sequence[str] = (), quiet: Sequence[str] = (), cache: Path | None = None, **options: Any
) -> list[str]:
    """What training and teaching run first: errors stop the work, warnings come back as lines for people.

    allow: codes of errors to go on with. quiet: codes of warnings that do not matter here. Raises
    DataError with the first errors and how to repair them, UnknownName for a code that there is not.
    """
    allow, quiet = known_codes(allow), known_codes(quiet)
    report = check(place, cache=cache, **options)
    place = Path(place)
    errors = [f for f in report["findings"] if f["severity"] == "error" and f["code"] not in allow]
    if errors:
        lines = [f"{_line(place, f)} [{f['code']}]" for f in errors[:5]]
        if len(errors) > 5:
            lines.append(f"and {len(errors) - 5} more")
        what = lines[0] if len(errors) == 1 else f"{place} has {len(errors)} faults:\n  " + "\n  ".join(lines) + "\n "
        ways = ["see all: handful data check " + shell(place), *ways_on(place, errors)]
        if any(part["labeled"] for part in report["sets"]) and running.has("--allow"):  # else nothing is left to go on
            codes = dict.fromkeys(f["code"] for f in errors)
            ways.append("go on all the same: " + " ".join(f"--allow {code}" for code in codes))
        raise DataError("; ".join([what, *ways]))
    warnings = [f for f in report["findings"] if f["severity"] == "warning" and f["code"] not in quiet]
    return [_line(place, f) for f in warnings]


def _line(place: Path, finding: dict[str, Any]) -> str:
    return f"{place if finding['file'] == '.' else place / finding['file']}: {finding['text']}"
