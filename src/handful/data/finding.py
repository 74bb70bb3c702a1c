"""What can be wrong with a data set: one code a kind, how grave it is, and what `handful data check --fix` does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from handful.errors import DataError


class Kind(NamedTuple):
    """grave: "error" breaks or falsifies training, "warning" is likely unwanted, "note" is good to know."""

    severity: str
    text: str
    repair: str


LEFT_OUT = "the photo is left out of the copy"
DROPPED = "the label is dropped, its photo is kept"
KEPT = "nothing; it is kept as it is"

CODES: dict[str, Kind] = {
    # files
    "unreadable_image": Kind("error", "a photo that cannot be decoded", LEFT_OUT),
    "empty_file": Kind("error", "a file of zero bytes", LEFT_OUT),
    "image_bomb": Kind("error", "a photo with more pixels than is safe to open", LEFT_OUT),
    "missing_image": Kind("error", "labels for a photo that is not there", LEFT_OUT),
    "wrong_case_name": Kind("error", "the labels spell a file's name in another case", "the file's own name is used"),
    "unsafe_path": Kind("error", "a path that is absolute or leaves the folder", LEFT_OUT),
    "symlink_outside": Kind("error", "a link to a file outside the folder", LEFT_OUT),
    "unsafe_xml": Kind("error", "XML with a document type or entities, which can expand without end", LEFT_OUT),
    "unreadable_labels": Kind("error", "a label file that cannot be read", "its photos are left out of the copy"),
    "unreadable_mask": Kind("error", "a mask that cannot be decoded", "the photo is kept as unlabelled"),
    "leftover_file": Kind("warning", "what a broken copy or download leaves behind", "it is not copied"),
    "mixed_case_suffix": Kind("note", "a suffix in capitals, which some tools pass over", KEPT),
    "wrong_suffix": Kind("note", "a file whose suffix names another format than its bytes", KEPT),
    "name_clash": Kind("warning", "names that differ only in case: one file on macOS and Windows", KEPT),
    "not_a_photo": Kind("warning", "files that were passed over", "they are not copied"),
    # what the labels say of the photo
    "size_mismatch": Kind("error", "labels for another size than the photo has", LEFT_OUT),
    "mask_size_mismatch": Kind("error", "a mask of another size than its photo", "the photo is kept as unlabelled"),
    "label_outside_map": Kind("error", "a pixel value that is no class", "the pixels are set to ignore"),
    "mask_not_ids": Kind("error", "a mask of colours that name no class", "the photo is kept as unlabelled"),
    "no_label_map": Kind("warning", "masks without names for their values", "each value's name is its number"),
    "unlabelled_image": Kind("warning", "a photo nobody labelled (not the same as an empty one)", KEPT),
    "missing_mask": Kind("warning", "a photo without a mask, in a set that has masks", KEPT),
    "frame_gap": Kind("warning", "a film that passes over frame numbers", KEPT),
    "other_split": Kind("warning", "a frame in another split than the one that is usual for this data set", KEPT),
    "empty_image": Kind("note", "a photo somebody looked at and found empty", KEPT),
    # boxes and shapes
    "box_outside": Kind("error", "a box that leaves the photo by more than a pixel", "it is cut at the edge"),
    "box_no_area": Kind("error", "a box without area", DROPPED),
    "box_negative": Kind("error", "a box of negative size", DROPPED),
    "not_finite": Kind("error", "NaN or infinity where a number is wanted", DROPPED),
    "broken_label": Kind("error", "a label with a part missing or of the wrong kind", DROPPED),
    "broken_polygon": Kind("error", "an outline of fewer than three points", "the outline is dropped, the box kept"),
    "broken_rle": Kind("error", "run lengths that do not fill the photo", "the mask is dropped, the box kept"),
    "wrong_area": Kind("warning", "an area that is not above zero", "it is computed from the shape"),
    "duplicate_object": Kind("warning", "the same box of the same class twice in one photo", "the second is dropped"),
    "tiny_object": Kind("note", "an object under 4 px wide or high", KEPT),
    # ids and names
    "duplicate_image_id": Kind("error", "one id for two photos, so that labels cannot be told apart", LEFT_OUT),
    "duplicate_image": Kind("error", "one photo listed twice", "the first entry is kept"),
    "duplicate_label_id": Kind("error", "one id for two labels: evaluators lose one of them", "it gets a free id"),
    "duplicate_category": Kind("error", "a class listed twice", "the first is kept"),
    "category_twins": Kind("error", "classes whose names differ only in case or spaces", "none; join or rename them"),
    "unknown_category": Kind("error", "a label of a class that is not listed", DROPPED),
    "orphan_label": Kind("error", "a label of a photo that is not listed", "the label is dropped"),
    "empty_class_folder": Kind("error", "a class folder without photos", "the class is left out"),
    "class_without_samples": Kind("warning", "a class without a single sample", KEPT),
    "one_photo": Kind("warning", "a class with one photo only; three or more are better", KEPT),
    # the same photo again
    "same_photo_twice": Kind("warning", "the same photo twice", "the second is left out"),
    "same_photo_in_two_classes": Kind("warning", "the same photo in two classes", "none; decide which is right"),
    "same_photo_across_splits": Kind("error", "the same photo in two splits",
                                     "it stays in test or val, and leaves train"),
    "near_duplicate": Kind("warning", "photos that look the same", KEPT),
    "near_duplicate_across_splits": Kind("warning", "photos that look the same in two splits",
                                         "none; use handful data split"),
    # colour, orientation, licence
    "exif_rotated": Kind("warning", "a photo that is turned by its EXIF tag", "it is saved as its labels see it"),
    "exif_against_labels": Kind("error", "labels drawn on the photo as it lies in the file, not as EXIF turns it",
                                "it is saved as its labels see it"),
    "colour_space": Kind("note", "a photo that is not 8-bit RGB", KEPT),
    "unknown_licence": Kind("warning", "a licence id that the licence table does not have", KEPT),
    "no_licence": Kind("note", "photos without a licence field", KEPT),
}  # fmt: skip

GRAVITY = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a data set.

    code: a key of CODES. file: where, relative to the folder where it can be. value: what was found there, JSON.
    count: how many (pixels, labels, files). detail: one clause for people. files: all photos it is about.
    """

    code: str
    file: str
    value: Any = None
    count: int = 1
    detail: str = ""
    files: tuple[Path, ...] = ()

    @property
    def severity(self) -> str:
        """One of GRAVITY."""
        return CODES[self.code].severity

    @property
    def repair(self) -> str:
        """What --fix does about it."""
        return CODES[self.code].repair

    @property
    def text(self) -> str:
        """One line for people."""
        return _printable(f"{self.file}: {self.detail or CODES[self.code].text}")

    def as_json(self) -> dict[str, Any]:
        """The row of `handful data check --json`."""
        row = {"code": self.code, "severity": self.severity, "file": _printable(self.file), "value": _plain(self.value)}
        text = _printable(self.detail or CODES[self.code].text)
        return {**row, "count": self.count, "text": text, "repair": self.repair}


def _printable(text: str) -> str:
    """Text that UTF-8 can hold: names on a disk and in JSON may be no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _plain(value: Any, depth: int = 5) -> Any:
    """A value that JSON can hold, not NaN; what is nested beyond use is cut off."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return _printable(value)
    if isinstance(value, dict | list | tuple):
        if not depth:
            return "..."
        if isinstance(value, dict):
            return {_printable(str(k)): _plain(v, depth - 1) for k, v in value.items()}
        return [_plain(v, depth - 1) for v in value]
    return value


OnFinding = Callable[[Finding], None]


def stop(finding: Finding) -> None:
    """What a reader does about a finding unless told otherwise: an error ends the reading, anything else is passed."""
    if finding.severity == "error":
        raise DataError(
            f"{finding.text}; repair it, or see all with `handful data check` and mend a copy with --fix "
            f"(there: {finding.repair})"
        )
