"""CamVid: frames of four clips of driving (Brostow et al. 2009), in the layouts it is passed around in.

SegNet's: train/a.png and trainannot/a.png, and so on for val and test, ids 0 to 10 of eleven classes, 11 for what is
not labeled, and perhaps train.txt with both paths a line. images/[SPLIT/]a.jpg and labels/[SPLIT/]a.png with the same
ids, or, as fastai spreads it, a_P.png with 32 others that codes.txt names, and valid.txt. The original:
701_StillsRaw_full/a.png and LabeledApproved_full/a_L.png with the colors of 32 classes, as in label_colors.txt; Void is
one of them. A folder that also holds labels.json (label_names.py) says itself what its values are: so are written other
classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_names import colors_of, labels_of, write_labels
from handful.data.label_tree import (
    COLOR_MODES,
    Decode,
    decoder,
    decoder_of,
    header,
    mask_names,
    numbered,
    paired,
    split_names,
    split_of,
    stem,
    stored,
    top_of,
    values_in,
    with_mask,
)
from handful.data.masks import write_ids
from handful.data.paths import Shelf, is_image_name, relative, walk
from handful.data.reading import Few, label_text
from handful.data.writing import Writer
from handful.errors import DataError
from handful.types import Category, Dataset, Sample
from handful.words import counted

PRECEDENCE = 60
TITLE = "CamVid"
TREE = """\
train/0001TP_006690.png
trainannot/0001TP_006690.png           SegNet's ids 0 to 11
train.txt
label_colors.txt, codes.txt or class_dict.csv, where the classes are others
"""
VOID = 11
NAMES = ("sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car", "pedestrian", "bicyclist")
ELEVEN = tuple(Category(i, name) for i, name in enumerate(NAMES))
COLORS = """
64 128 64 Animal, 192 0 128 Archway, 0 128 192 Bicyclist, 0 128 64 Bridge, 128 0 0 Building, 64 0 128 Car,
64 0 192 CartLuggagePram, 192 128 64 Child, 192 192 128 Column_Pole, 64 64 128 Fence, 128 0 192 LaneMkgsDriv,
192 0 64 LaneMkgsNonDriv, 128 128 64 Misc_Text, 192 0 192 MotorcycleScooter, 128 64 64 OtherMoving,
64 192 128 ParkingBlock, 64 64 0 Pedestrian, 128 64 128 Road, 128 128 192 RoadShoulder, 0 0 192 Sidewalk,
192 128 128 SignSymbol, 128 128 128 Sky, 64 128 192 SUVPickupTruck, 0 0 64 TrafficCone, 0 64 64 TrafficLight,
192 64 128 Train, 128 128 0 Tree, 192 128 192 Truck_Bus, 64 0 64 Tunnel, 192 192 0 VegetationMisc, 0 0 0 Void,
64 192 0 Wall
"""
COLOR_FILE, COLOR_TABLE = "label_colors.txt", "class_dict.csv"
ORIGINAL = ("701_StillsRaw_full", "LabeledApproved_full")
UNSPLIT = "images"  # written beside imagesannot/ where there are no splits
CLIP = re.compile(r"^(0001TP|0006R0|0016E5|Seq05VD)_f?(\d{5,6})$")
_COLOR = re.compile(r"^\s*(?P<r>\d{1,3})[\s,]+(?P<g>\d{1,3})[\s,]+(?P<b>\d{1,3})[\s,]+(?P<name>\S.*)$")
_TABLE_LINE = re.compile(r"^(?P<name>[^,]+),\s*(?P<r>\d{1,3})\s*,\s*(?P<g>\d{1,3})\s*,\s*(?P<b>\d{1,3})\s*$")


@dataclass(frozen=True)
class _Part:
    """Images and their masks. split: of all of them; None where the first folder of a name is the split."""

    images: Shelf
    masks: Shelf
    split: str | None


def detect(folder: Path) -> bool:
    """Whether a folder is in SegNet's layout or the original one, or has CamVid's frames in images/ and labels/."""
    folder = Path(folder)
    if _segnet(folder) or all((folder / name).is_dir() for name in ORIGINAL):
        return True
    if not (folder / "images").is_dir() or not (folder / "labels").is_dir():
        return False
    names = (name for name in walk(folder / "images") if is_image_name(name))
    return any(CLIP.match(PurePosixPath(name).stem) for name, _ in zip(names, range(100), strict=False))


def _segnet(folder: Path) -> list[tuple[Path, Path]]:
    """[(train/, trainannot/), ...]."""
    if not folder.is_dir():
        return []
    below = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [(p, folder / f"{p.name}{tail}") for p in below for tail in ("annot", "_labels")
            if (folder / f"{p.name}{tail}").is_dir()]  # fmt: skip


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The frames of each split, in the order of its list or else by name; `clip` is the clip, `frame` its number.

    A frame without a mask is one nobody labeled. Raises DataError when the folder is in none of the layouts.
    """
    folder = Path(folder)
    pairs = _segnet(folder)
    parts = [_Part(Shelf(a, folder), Shelf(b, folder), "" if a.name == UNSPLIT else a.name) for a, b in pairs]
    if not parts:
        names = ORIGINAL if (folder / ORIGINAL[0]).is_dir() else ("images", "labels")
        if not all((folder / name).is_dir() for name in names):
            raise DataError(
                f"{folder} is in no layout of CamVid; wanted train/ and trainannot/, or images/ and labels/"
            )
        parts = [_Part(Shelf(folder / names[0], folder), Shelf(folder / names[1], folder), None)]
    masks = [paired(sorted(part.images.images), part.masks, on_finding, mask_key=_mask_key) for part in parts]
    categories, decode = _classes(folder, parts, masks, bool(pairs), on_finding)
    rows = [(part, own, split, name, at) for part, own in zip(parts, masks, strict=True)
            for split, name, at in _ordered(part, folder, on_finding)]  # fmt: skip
    _moved(rows, folder, on_finding)

    def samples() -> Iterator[Sample]:
        for part, own, split, name, at in rows:
            if part.images.inside(at, on_finding):
                clip, frame = clip_of(name)
                sample = Sample(part.images.folder / at, name=name, split=split, clip=clip, frame=frame)
                yield with_mask(sample, part.masks, own.get(at), decode, on_finding)

    return Dataset("camvid", folder, categories, samples, len(rows))


def clip_of(name: str) -> tuple[str | None, int | None]:
    """("0001TP", 6690) of 0001TP_006690.png; (None, None) for names of no frame of CamVid."""
    match = CLIP.match(PurePosixPath(name).stem)
    return (match[1], int(match[2])) if match else (None, None)


def _mask_key(name: str) -> str:
    own = stem(name)
    return own[:-2] if own.endswith(("_L", "_P")) and CLIP.match(PurePosixPath(own[:-2]).name) else own


def _ordered(part: _Part, root: Path, on_finding: OnFinding) -> list[tuple[str | None, str, str]]:
    """(split, name, name on the shelf) of each image: first those of the split's list, in its order."""
    names = sorted(part.images.images)
    if part.split is None:
        valid = _named_valid(root, names, on_finding)
        rows = (("valid" if at in valid else "train", at, at) if valid else (*split_of(at), at) for at in names)
        return sorted(rows, key=lambda row: (row[0] or "", row[1]))
    listed = dict.fromkeys(_listed(root / f"{part.split or UNSPLIT}.txt", part, root, on_finding))
    return [(part.split or None, at, at) for at in [*listed, *(at for at in names if at not in listed)]]


def _named_valid(root: Path, names: list[str], on_finding: OnFinding) -> set[str]:
    """The images that fastai's valid.txt lists; all others are for training."""
    path = root / "valid.txt"
    text = label_text(path, root, on_finding) if path.is_file() else None
    listed = [line.strip() for line in (text or "").split("\n") if line.strip()]
    gone = sorted(set(listed) - set(names))
    if gone:
        detail = f"lists {counted(len(gone), 'image')} not in the folder ({', '.join(gone[:3])})"
        on_finding(Finding("missing_image", path.name, gone[:20], len(gone), detail))
    return set(listed) & set(names)


def _listed(file: Path, part: _Part, root: Path, on_finding: OnFinding) -> Iterator[str]:
    """The images that a list names; SegNet's lines hold the image's path and the mask's, from another machine."""
    text = label_text(file, root, on_finding) if file.exists() else None
    few, seen = Few(on_finding), set()
    inside, masks = f"{part.images.folder.name}/", f"{part.masks.folder.name}/"
    for line in (text or "").split("\n"):
        line = line.strip()
        entries = [line] if line.count(masks) < 2 else [word for word in line.split() if masks not in word]
        for entry in entries:
            image, mask, _ = entry.partition(masks)
            if mask and not image[-1:].isspace():  # the mask's path begins before its folder
                image = image.rsplit(None, 1)[0] if image.strip() else ""
            image = image.rstrip()
            after = {image.removeprefix(inside), image.partition(f"/{inside}")[2], image.rpartition(f"/{inside}")[2]}
            at = next((at for at in sorted(after) if at in part.images.images), None)
            if at in seen:
                few(Finding("duplicate_image", relative(file, root), at, detail=f"lists {at} twice"))
            elif at is not None:
                seen.add(at)
                yield at
            elif image:
                detail = f"names {image[:200]!r}, which is not in {inside}"
                few(Finding("missing_image", relative(file, root), image[:200], detail=detail))
    few.close()


def _classes(
    root: Path, parts: list[_Part], masks: list[dict[str, str]], segnet: bool, on_finding: OnFinding
) -> tuple[tuple[Category, ...], Decode]:
    """The classes, from a file that names them; CamVid's own only where the masks are known to be its own.

    Those are colored masks, and SegNet's ids of CamVid's frames. What fastai spreads has 32 other ids and codes.txt;
    without that, and in folders of other images, each value is called by its number.
    """
    labels = labels_of(root, None, on_finding)
    if labels is not None:
        return labels.categories, decoder_of(labels, on_finding)
    paths = [part.masks.folder / name for part, own in zip(parts, masks, strict=True) for name in own.values()
             if part.masks.inside(name, _pass)]  # fmt: skip
    first = next((said for said in map(header, paths) if said is not None), None)
    colored = first is not None and first[0] in COLOR_MODES
    listed = next((root / name for name in (COLOR_FILE, COLOR_TABLE) if (root / name).exists()), None)
    if colored or listed or parts[0].images.folder.name == ORIGINAL[0]:
        categories = _colored(root, listed, on_finding)
        return categories, decoder(categories, on_finding, colors=colors_of(categories))
    frames = [path for path in paths if CLIP.match(path.stem)]
    if not paths or (segnet and frames):
        return ELEVEN, decoder(ELEVEN, on_finding, ignore=VOID)
    values = values_in(paths, root)
    if frames and max(values - {255}, default=0) <= VOID:
        return ELEVEN, decoder(ELEVEN, on_finding, ignore=VOID)
    return numbered(values, parts[0].masks.folder.name, on_finding)


def _pass(finding: Finding) -> None:
    """For a first look at what is told when the samples are read."""


def _colored(root: Path, path: Path | None, on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes of label_colors.txt, "128 0 192 LaneMkgsDriv" a line, of class_dict.csv, or else CamVid's 32."""
    text = None if path is None else label_text(path, root, on_finding, empty=False)
    file = COLOR_FILE if path is None else path.name
    few = Few(on_finding)
    rows: list[dict[str, Any]] = []
    lines = COLORS.replace(",", "\n").split("\n") if text is None else text.split("\n")
    table = file == COLOR_TABLE and text is not None  # name,r,g,b after a line that says so
    for line in filter(str.strip, lines[1:] if table else lines):
        match = (_TABLE_LINE if table else _COLOR).match(line[:1000])
        rgb = [int(match[key]) for key in "rgb"] if match else [256]
        if match is None or max(rgb) > 255 or len(rows) > 255:
            few(Finding("broken_label", file, line[:60], detail=f"has the line {line[:60]!r}; wanted R G B NAME"))
        else:
            rows.append({"id": len(rows), "name": match["name"].strip(), "color": rgb})
    few.close()
    return categories_of(rows, on_finding, file=file)


def _moved(rows: list[tuple[_Part, dict[str, str], str | None, str, str]], root: Path, on_finding: OnFinding) -> None:
    """Tell frames that are in another of train, val and test than in the split that results are published on."""
    moved: Counter[tuple[str, str, str]] = Counter()
    for _, _, split, name, _ in rows:
        clip, frame = clip_of(name)
        usual = usual_split(clip, frame)
        if usual is not None and split in ("train", "val", "test") and split != usual:
            moved[clip or "", split, usual] += 1
    for (clip, split, usual), count in moved.items():
        detail = (
            f"has {counted(count, f'frame of {clip} that is', f'frames of {clip} that are')} in {usual} of the split "
            "that results are published on"
        )
        on_finding(Finding("other_split", split, [clip, usual], count, detail))


def usual_split(clip: str | None, frame: int | None) -> str | None:
    """Where SegNet's lists, which results are published on, have a frame: 367 in train, 101 in val, 233 in test."""
    if clip is None or frame is None:
        return None
    if clip == "0016E5":
        return "val" if 7959 <= frame <= 8159 else "train"
    return "test" if clip == "Seq05VD" or (clip == "0001TP" and frame > 8520) else "train"


def write(dataset: Dataset, writer: Writer) -> None:
    """Write SegNet's layout: SPLIT/, SPLITannot/ and SPLIT.txt; images/ and imagesannot/ where there are no splits.

    Ids are written as they are, 11 for ignore with CamVid's own classes; of other classes, labels.json tells them.
    """
    own = [(c.id, c.name) for c in dataset.categories] == [(c.id, c.name) for c in ELEVEN]
    frames = False  # whether the names say that these are CamVid's own ids
    mask_name = mask_names(split_names(dataset))
    lists: dict[str, list[str]] = {}
    for sample in dataset:
        split = sample.split or UNSPLIT
        if split not in lists:
            lists[split] = []
            writer.path(f"{split}annot/x")  # there even when no frame is labeled
        name = writer.image(sample, f"{split}/{sample.name}").removeprefix(f"{split}/")
        mask = f"{split}annot/{mask_name(name)}"
        lists[split].append(f"{split}/{name} {mask}")
        frames = frames or (sample.mask is not None and CLIP.match(PurePosixPath(name).stem) is not None)
        if sample.mask is not None:
            ids = stored(sample.mask(), dataset.categories, name)
            if own:
                ids[ids == 255] = VOID
            write_ids(writer.path(mask), ids, dataset.categories)
    if not lists:
        writer.path(f"{UNSPLIT}/x")
        writer.path(f"{UNSPLIT}annot/x")
    for split, lines in lists.items():
        if all("\n" not in line and line == line.strip() for line in lines):  # a list cannot hold such a name
            writer.text(f"{split}.txt", "".join(f"{line}\n" for line in lines))
    if not (own and frames) or any(c.rgb or c.parent or c.thing is not None for c in dataset.categories):
        write_labels(writer, dataset.categories, ignore=VOID if own else top_of(dataset.categories))
