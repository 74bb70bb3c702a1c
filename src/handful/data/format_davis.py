"""DAVIS 2016 and 2017: clips as folders of frames, and a mask a frame.

JPEGImages/480p/CLIP/00000.jpg, Annotations/480p/CLIP/00000.png, ImageSets/YEAR/SPLIT.txt. In DAVIS 2016 (Perazzi et
al.) a mask is gray, 0 and 255: background and object. In DAVIS 2017 (Pont-Tuset et al.) it has a palette, and 1, 2,
... are the objects of its clip; 255 is ignore. ImageSets of 2016 name frames, those of 2017 name clips. A folder that
also holds labels.json (label_names.py) says itself what its values are: so are written clips of other classes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_names import labels_of, write_labels
from handful.data.label_tree import (
    Decode,
    decoder,
    decoder_of,
    mask_names,
    paired,
    stored,
    top_of,
    translator,
    with_mask,
)
from handful.data.masks import open_values, write_ids
from handful.data.paths import Shelf, is_image_name, relative
from handful.data.reading import label_text, upright_size
from handful.data.writing import Writer
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Dataset, Sample
from handful.words import counted

PRECEDENCE = 40
TITLE = "DAVIS 2016 and 2017"
TREE = """\
JPEGImages/480p/CLIP/00000.jpg
Annotations/480p/CLIP/00000.png    0 for background, an object a value
ImageSets/2017/train.txt           CLIP
"""
IMAGES, MASKS, LISTS = "JPEGImages", "Annotations", "ImageSets"
SIZES = ("480p", "1080p", "Full-Resolution")  # the first is the one everybody evaluates on
BINARY = (Category(0, "background"), Category(1, "object"))
OBJECT = "object {}"
_FRAME = re.compile(r"(\d{1,9})$")
_TESTS = ("val", "test")


def detect(folder: Path) -> bool:
    """Whether the folder holds clips: JPEGImages/SIZE/CLIP/, or JPEGImages/CLIP/ beside Annotations/CLIP/."""
    folder = Path(folder)
    images = folder / IMAGES
    if any((images / size).is_dir() for size in SIZES):
        return True
    clips = [p for p in images.iterdir() if p.is_dir() and not p.name.startswith(".")] if images.is_dir() else []
    return any((folder / MASKS / p.name).is_dir() and any(is_image_name(f.name) for f in p.iterdir()) for p in clips)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The frames of every clip, in order of clip and time; `clip` is the clip, `frame` its number.

    Of several sizes 480p is read. A frame without a mask is one nobody labeled: in clips of the challenges only the
    first has one. Raises DataError when there are no clips.
    """
    folder = Path(folder)
    if not detect(folder):
        raise DataError(f"{folder} has no {IMAGES}/480p/CLIP/ in it; wanted DAVIS 2016 or 2017")
    size = next((size for size in SIZES if (folder / IMAGES / size).is_dir()), "")
    for other in SIZES:
        if other != size and (folder / IMAGES / other).is_dir():
            detail = f"is the same clips in another size, passed over for {size}"
            on_finding(Finding("not_an_image", f"{IMAGES}/{other}", detail=detail))
    images, shelf = Shelf(folder / IMAGES / size, folder), Shelf(folder / MASKS / size, folder)
    clips: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for at in sorted(images.images):
        clip, number = _place(at)
        if clip is not None:
            clips[clip].append((-1 if number is None else number, at))
        else:
            file = relative(images.folder / at, folder)
            on_finding(Finding("not_an_image", file, detail="is in no clip's folder and was passed over"))
    for frames in clips.values():
        frames.sort()
    rows = [(clip, at) for clip in sorted(clips) for _, at in clips[clip]]
    mask_of = paired([at for _, at in rows], shelf, on_finding)
    splits = _splits(folder, clips, size, on_finding)
    _gaps(images, clips, mask_of, on_finding)
    categories, decode = _classes(folder, shelf, clips, mask_of, on_finding)

    def samples() -> Iterator[Sample]:
        sizes: dict[str, tuple[int, int]] = {}
        for clip, at in rows:
            path = images.folder / at
            if not images.inside(at, on_finding) or not _same_size(path, clip, sizes, folder, on_finding):
                continue
            sample = Sample(path, name=at, split=splits.get(at), clip=clip, frame=_place(at)[1])
            yield with_mask(sample, shelf, mask_of.get(at), decode, on_finding)

    return Dataset("davis", folder, categories, samples, len(rows))


def _place(name: str) -> tuple[str | None, int | None]:
    """("bear", 12) for bear/00012.jpg; no clip for a file in no folder, no number for a name without one."""
    clip, _, file = name.rpartition("/")
    number = _FRAME.search(PurePosixPath(file).stem)
    return clip or None, int(number[1]) if number else None


def _same_size(path: Path, clip: str, sizes: dict[str, tuple[int, int]], root: Path, on_finding: OnFinding) -> bool:
    """Whether a frame has the size of its clip's first; tells when it does not. One that is unreadable passes."""
    size = upright_size(path, root, lambda finding: None)
    first = size and sizes.setdefault(clip, size)
    if size == first:
        return True
    detail = f"is {size[0]}x{size[1]} px, its clip {first[0]}x{first[1]}" if size and first else ""
    on_finding(Finding("size_mismatch", relative(path, root), list(size or ()), detail=detail))
    return False


def _gaps(
    images: Shelf, clips: dict[str, list[tuple[int, str]]], mask_of: dict[str, str], on_finding: OnFinding
) -> None:
    """Tell, a clip at a time, frames without a mask and numbers that are passed over."""
    for clip, frames in clips.items():
        bare = [at for _, at in frames if at not in mask_of]
        if bare and mask_of:
            file = relative(images.folder / clip, images.root)
            files = tuple(images.folder / at for at in bare)
            detail = f"has {counted(len(bare), 'frame')} of {len(frames)} without a mask"
            on_finding(Finding("missing_mask", file, len(bare), len(bare), detail, files))
        numbers = np.array([number for number, _ in frames if number >= 0])
        steps = np.diff(numbers)
        if len(steps) and steps.min() > 0:
            values, counts = np.unique(steps, return_counts=True)
            usual = int(values[counts.argmax()])
            after = numbers[:-1][steps > usual].tolist()
            if after:
                file = relative(images.folder / clip, images.root)
                detail = f"lacks frames after {', '.join(map(str, after[:8]))}"
                on_finding(Finding("frame_gap", file, after[:20], len(after), detail))


def _classes(
    root: Path, shelf: Shelf, clips: dict[str, list[tuple[int, str]]], mask_of: dict[str, str], on_finding: OnFinding
) -> tuple[tuple[Category, ...], Decode]:
    """The classes, from labels.json or else from each clip's first mask: 0 and 255 only is 2016."""
    labels = labels_of(root, None, on_finding)
    if labels is not None:
        return labels.categories, decoder_of(labels, on_finding)
    most, binary = 0, True
    for frames in clips.values():
        first = next((mask_of[at] for _, at in frames if at in mask_of), None)
        if first is None or not shelf.inside(first, lambda finding: None):
            continue
        values = open_values(shelf.folder / first, root, lambda finding: None)
        if values is None or values.ndim == 3:
            continue  # told when the mask is read
        inside = values[(values > 0) & (values != 255)]
        most = max(most, int(inside.max(initial=0)))
        binary = binary and not inside.size
    if binary:
        return BINARY, translator({0: 0, 255: 1}, on_finding)
    objects = (Category(i, OBJECT.format(i)) for i in range(1, min(most, 254) + 1))
    categories = (BINARY[0], *objects)
    return categories, decoder(categories, on_finding)


def _splits(folder: Path, clips: dict[str, list[tuple[int, str]]], size: str, on_finding: OnFinding) -> dict[str, str]:
    """{frame: its split} from ImageSets; of two lists of one year the one for testing keeps what both name."""
    place = folder / LISTS
    found: dict[str, str] = {}
    years = sorted((p for p in place.iterdir() if p.is_dir()), reverse=True) if place.is_dir() else []
    for year in years:
        mine: dict[str, str] = {}
        files = [p for p in sorted(year.glob("*.txt")) if p.stem != "trainval"]
        for file in sorted(files, key=lambda p: not p.stem.startswith(_TESTS)):
            for at in _listed(file, folder, clips, size, on_finding):
                mine.setdefault(at, file.stem)
            twice = [at for at in _listed(file, folder, clips, size, lambda finding: None) if mine[at] != file.stem]
            if twice:
                names = [relative(folder / IMAGES / size / at, folder) for at in twice]
                other = mine[twice[0]]
                detail = (
                    f"{counted(len(twice), 'frame is', 'frames are')} in {file.stem} and in {other}, as "
                    f"{names[0]}; those of {other} are kept"
                )
                on_finding(Finding("duplicate_image", relative(file, folder), names[:20], len(twice), detail))
        found = {**mine, **found}
    return found


def _listed(
    file: Path, folder: Path, clips: dict[str, list[tuple[int, str]]], size: str, on_finding: OnFinding
) -> Iterator[str]:
    """The frames that a list names, by clip or one by one; what is not there is told, once a clip."""
    text = label_text(file, folder, on_finding)
    known = {at: clip for clip, frames in clips.items() for _, at in frames}
    absent: dict[str, int] = defaultdict(int)
    for line in (text or "").split("\n"):
        line = line.strip()
        if line in clips:
            yield from (at for _, at in clips[line])
            continue
        at = _image_in(line, size, known)
        if at in known:
            yield at
        elif at:
            absent[PurePosixPath(at).parent.name[:200] or at[:200]] += 1
        elif line:
            absent[line[:200]] += 1
    shown = list(absent.items())[:20]
    for clip, count in shown:
        detail = f"names {clip!r}, which is not in {IMAGES}/{size}" + (f" ({count} lines)" if count > 1 else "")
        on_finding(Finding("missing_image", relative(file, folder), clip, count, detail))
    if len(absent) > len(shown):
        detail = f"names {len(absent) - len(shown)} more that are not in {IMAGES}/{size}"
        on_finding(Finding("missing_image", relative(file, folder), len(absent), len(absent) - len(shown), detail))


def _image_in(line: str, size: str, known: Mapping[str, str]) -> str:
    """bear/00000.jpg from "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png", else ""."""
    _, _, named = line.partition(f"{IMAGES}/")
    found = [named]
    for image, mask, _ in (named.partition(f"{MASKS}/"), named.rpartition(f"{MASKS}/")):  # a clip may be called so
        if mask and image.strip():
            # the mask's path may begin before its folder
            found.append(image.rstrip() if image[-1].isspace() else image.rsplit(None, 1)[0].rstrip())
    names = [name.removeprefix(f"{size}/") for name in found]
    return next((name for name in names if name in known), names[-1])


def write(dataset: Dataset, writer: Writer) -> None:
    """Write JPEGImages/480p, Annotations/480p and ImageSets: as 2016 for background and object, else as 2017.

    The clip is the image's folder, or else its clip. labels.json says what the values are, unless they are objects by
    number. Raises DataError for an image of no clip, or for ids that need 16 bits.
    """
    if top_of(dataset.categories) > 255:
        raise DataError(f"DAVIS holds ids from 0 to 254, {dataset.root} has larger ones; remap its classes first")
    plain = [(c.id, c.name) for c in dataset.categories]
    binary = plain == [(c.id, c.name) for c in BINARY] and not _ignores(dataset)
    mask_name = mask_names(map(_name, dataset))
    splits: dict[str | None, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    most, seen = 0, set()
    for place in (IMAGES, MASKS):
        writer.path(f"{place}/{SIZES[0]}/x")
    for sample in dataset:
        name = _name(sample)
        clip = _place(name)[0] or ""
        name = writer.image(sample, f"{IMAGES}/{SIZES[0]}/{name}").removeprefix(f"{IMAGES}/{SIZES[0]}/")
        mask = "" if sample.mask is None else f" /{MASKS}/{SIZES[0]}/{mask_name(name)}"
        splits[sample.split][clip].append(f"/{IMAGES}/{SIZES[0]}/{name}{mask}")
        if sample.mask is None:
            continue
        ids = stored(sample.mask(), dataset.categories, name)
        if clip not in seen:  # the mask from which the number of objects is read back
            most = max(most, int(ids[ids != 255].max(initial=0)))
            seen.add(clip)
        path = writer.path(f"{MASKS}/{SIZES[0]}/{mask_name(name)}")
        if binary:
            need("PIL.Image", "data").fromarray(ids * np.uint8(255)).save(path, format="PNG")
        else:
            write_ids(path, ids, dataset.categories)
    numbered = [(0, BINARY[0].name), *((i, OBJECT.format(i)) for i in range(1, most + 1))]
    said = (c.rgb or c.parent or c.thing is not None for c in dataset.categories)
    if not binary and (plain != numbered or not most or any(said)):
        write_labels(writer, dataset.categories, ignore=255)
    _write_lists(splits, binary, writer)


def _ignores(dataset: Dataset) -> bool:
    """Whether any pixel is ignored, which masks of 0 and 255 cannot say."""
    masks = (sample.mask() for sample in dataset if sample.mask is not None)
    return any(bool((mask.ids == mask.ignore).any()) for mask in masks)


def _name(sample: Sample) -> str:
    if "/" in sample.name:
        return sample.name
    if sample.clip is None:
        raise DataError(f"{sample.path} is in no folder and of no clip; DAVIS holds frames of clips only")
    return f"{sample.clip}/{sample.name}"


def _write_lists(splits: dict[str | None, dict[str, list[str]]], binary: bool, writer: Writer) -> None:
    """One list a split: of frames as in 2016, also where a clip is in two splits, and else of clips."""
    clips = [clip for split in splits.values() for clip in split]
    by_frame = binary or len(clips) > len(set(clips))
    for split, frames in splits.items():
        if split is not None:
            lines = [line for clip in frames.values() for line in clip] if by_frame else list(frames)
            # a list cannot hold a name that breaks its lines; such a frame is in no split
            lines = [f"{line}\n" for line in lines if line == line.strip() and "\n" not in line]
            writer.text(f"{LISTS}/{SIZES[0] if by_frame else 2017}/{split}.txt", "".join(lines))
