"""Findings: what can be wrong with a data set, each with a code, a severity, and what `handful data check --fix`
does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from handful.errors import DataError
from handful.pick import unknown
from handful.words import shell


class Code(NamedTuple):
    """severity: "error" breaks or falsifies training, "warning" is likely unwanted, "note" is good to know."""

    severity: str
    text: str
    repair: str


LEFT_OUT = "the image is left out of the copy"
UNSEEN = "an image that has no other label left becomes unlabeled, never empty"
DROPPED = f"the label is dropped; {UNSEEN}"
KEPT = "nothing; it is kept as it is"

CODES: dict[str, Code] = {
    # files
    "unreadable_image": Code("error", "an image that cannot be decoded", LEFT_OUT),
    "empty_file": Code("error", "a file of zero bytes", LEFT_OUT),
    "image_bomb": Code("error", "an image with more pixels than is safe to open", LEFT_OUT),
    "lfs_pointer": Code("error", "a Git LFS pointer, not the file itself", "none; run git lfs pull in the data set"),
    "missing_image": Code("error", "labels for an image that is not there", "these labels are left out of the copy"),
    "ambiguous_image": Code("error", "a name that more than one image fits", "these labels are left out of the copy"),
    "moved_name": Code("note", "names with a path of another machine, found by their last parts",
                       "the copy has the images' own names"),
    "missing_split": Code("note", "a split whose folder is not there", "the copy does not name it"),
    "wrong_case_name": Code("error", "the labels spell a file's name in another case", "the file's own name is used"),
    "unsafe_path": Code("error", "a path that is absolute or leaves the folder",
                        "these labels are left out of the copy"),
    "symlink_outside": Code("error", "a link to a file outside the folder",
                            "such an image or label file is left out of the copy"),
    "linked_folder": Code("error", "a folder that is a link, which is not followed",
                          "none; put what it leads to in its place"),
    "unsafe_xml": Code("error", "XML with a document type or entities, which can expand without end", LEFT_OUT),
    "unreadable_labels": Code("error", "a label file that cannot be read",
                              "it is left out, and the labels in it; an image is never called empty for that"),
    "unreadable_mask": Code("error", "a mask that cannot be decoded", f"the mask is left out; {UNSEEN}"),
    "other_task": Code("note", "labels of another task, which are not read", "they are not copied"),
    "leftover_file": Code("warning", "what a broken copy or download leaves behind", "it is not copied"),
    "unused_image": Code("warning", "an image that lies there and belongs to no set of labels", "it is not copied"),
    "mixed_case_suffix": Code("note", "a suffix in capitals, which some tools pass over", KEPT),
    "wrong_suffix": Code("note", "a file whose suffix names another format than its bytes", KEPT),
    "no_end_marker": Code("note", "a JPEG without its end marker, which some tools refuse", KEPT),
    "name_clash": Code("warning", "names that differ only in case: one file on macOS and Windows", KEPT),
    "not_an_image": Code("warning", "files that were passed over", "they are not copied"),
    # what the labels say of the image
    "size_mismatch": Code("error", "labels for another size than the image has", LEFT_OUT),
    "mask_size_mismatch": Code("error", "a mask of another size than its image",
                               f"the mask is left out; {UNSEEN}"),
    "soft_mask": Code("error", "a mask with soft edges, whose gray levels are no classes",
                      f"the mask is left out; {UNSEEN}"),
    "unread_labels": Code("error", "files that look like labels and were not read",
                          "none; say how they are to be read"),
    "label_outside_map": Code("error", "a pixel value that is no class", "the pixels are set to ignore"),
    "mask_not_ids": Code("error", "a mask of colors that name no class", f"the mask is left out; {UNSEEN}"),
    "no_label_map": Code("warning", "classes without names", "each is called by its number"),
    "ignored_class": Code("error", "a class without a pixel, whose pixels are read as not labeled",
                          "none; write the class's own number into the masks"),
    "unlabeled_image": Code("warning", "an image nobody labeled (not the same as an empty one)", KEPT),
    "missing_mask": Code("warning", "an image without a mask, in a set that has masks", KEPT),
    "frame_gap": Code("warning", "a clip that passes over frame numbers", KEPT),
    "other_split": Code("warning", "a frame in another split than the one that is usual for this data set", KEPT),
    "empty_image": Code("note", "an image somebody looked at and found empty", KEPT),
    # boxes and shapes
    "box_outside": Code("error", "a box that leaves the image by more than a pixel", "it is cut at the edge"),
    "box_off_image": Code("error", "a box that lies outside the image", DROPPED),
    "box_no_area": Code("error", "a box without area", DROPPED),
    "box_negative": Code("error", "a box of negative size", DROPPED),
    "not_finite": Code("error", "NaN or infinity where a number is wanted",
                       f"a label whose box has it is dropped, or only the outline or attribute that has it; {UNSEEN}"),
    "broken_label": Code("error", "a label with a part missing or of the wrong kind", DROPPED),
    "unheld_mark": Code("error", "a mark that is neither a box nor an outline nor a mask", DROPPED),
    "several_classes": Code("error", "an image or object of several classes, where one is wanted", DROPPED),
    "several_answers": Code("error", "several people's labels of one image", "the first person's are kept"),
    "turned_box": Code("note", "boxes that are turned", "they are kept as outlines, with the boxes around them"),
    "unread_angle": Code("warning", "boxes with an angle beside them, which is not read", KEPT),
    "box_in_fractions": Code("error", "boxes in fractions of the image, where pixels are wanted",
                             "none; multiply them by the images' sizes"),
    "unsaid_keypoints": Code("error", "outlines that look like a box and its keypoints",
                             "none; say how many there are in data.yaml"),
    "box_in_corners": Code("error", "boxes whose areas say that their numbers are corners",
                           "none; write them as left, top, width, height"),
    "other_filename": Code("warning", "a label file that names another image than it is called after", KEPT),
    "broken_polygon": Code("error", "an outline of fewer than three points",
                           "the outline is dropped, a box beside it kept"),
    "flat_outline": Code("warning", "an outline that stands in no list of outlines, which other readers refuse",
                         "it is written as COCO has it"),
    "broken_rle": Code("error", "run lengths that do not fill the image",
                       "the run lengths are dropped, a box beside them kept"),
    "wrong_area": Code("warning", "an area that is not above zero", "it is computed from the shape"),
    "duplicate_object": Code("warning", "the same box of the same class twice in one image", "the second is dropped"),
    "tiny_object": Code("note", "an object under 4 px wide or high", KEPT),
    # ids and names
    "duplicate_image_id": Code("error", "one id for two images, so that labels cannot be told apart", LEFT_OUT),
    "duplicate_image": Code("error", "one image listed twice", "it is listed once, with the labels of all its entries"),
    "two_label_files": Code("error", "an image that two label files describe", LEFT_OUT),
    "folder_mismatch": Code("error", "an image in the folder of another class than its labels say",
                            "none; say which is right, or move the others away"),
    "shared_label_file": Code("error", "images that differ in their suffix only, and so share a label file",
                              "the first is kept, the others are left out of the copy"),
    "duplicate_label_id": Code("error", "one id for two labels: evaluators lose one of them", "it gets a free id"),
    "duplicate_category": Code("error", "a class listed twice", "it is one class, with the first id"),
    "category_mismatch": Code("error", "files that number their classes differently",
                              "classes are matched by name, and those of an id that is taken get a free one"),
    "class_count": Code("warning", "another number of classes than there are names", "the copy says how many it names"),
    "category_clash": Code("error", "one id for two classes", "labels of that id are dropped; " + UNSEEN),
    "category_twins": Code("error", "classes whose names differ only in case, spaces or how accents are composed",
                           "none; join or rename them"),
    "unknown_category": Code("error", "a label of a class that is not listed", DROPPED),
    "orphan_label": Code("error", "a label of an image that is not listed", "the label is dropped"),
    "empty_class_folder": Code("error", "a class folder without images", "the class is left out"),
    "class_without_samples": Code("warning", "a class without a single sample", KEPT),
    "one_image": Code("warning", "a class with one image only; three or more are better", KEPT),
    # the same image again
    "same_image_twice": Code("warning", "the same image twice", "the second is left out"),
    "same_image_in_two_classes": Code("warning", "the same image in two classes", "none; decide which is right"),
    "same_image_across_splits": Code("error", "the same image in two splits",
                                     "it stays in test or val, and leaves train"),
    "near_duplicate": Code("warning", "images that look the same", KEPT),
    "near_duplicate_across_splits": Code("warning", "images that look the same in two splits",
                                         "none; use handful data split"),
    # color, orientation, license
    "no_size": Code("note", "labels that do not say the image's size", "the size is read from the image"),
    "exif_rotated": Code("warning", "an image that is turned by its EXIF tag", "it is saved as its labels see it"),
    "exif_against_labels": Code("error", "labels drawn on the image as it lies in the file, not as EXIF turns it",
                                "it is saved as its labels see it"),
    "color_space": Code("note", "an image that is not 8-bit RGB", KEPT),
    "unknown_license": Code("warning", "a license id that the license table does not have", KEPT),
    "no_license": Code("note", "images without a license field", KEPT),
}  # fmt: skip

# an image of which nothing can be seen: whoever allows one of these goes on without such images
UNREADABLE = frozenset(("unreadable_image", "empty_file", "image_bomb", "lfs_pointer"))
# a mask of which nothing can be used
UNUSABLE_MASKS = frozenset(("unreadable_mask", "soft_mask", "mask_size_mismatch", "size_mismatch", "mask_not_ids"))
SEVERITIES = ("error", "warning", "note")
SEE_ALL = "to see all: handful data check FOLDER"
BY_HAND = "none; "  # how a repair begins that --fix leaves to a person
# what handful 0.3 called them
OLD_CODES = {
    "not_a_photo": "not_an_image", "one_photo": "one_image", "same_photo_twice": "same_image_twice",
    "same_photo_in_two_classes": "same_image_in_two_classes", "same_photo_across_splits": "same_image_across_splits",
    "colour_space": "color_space", "unlabelled_image": "unlabeled_image", "unknown_licence": "unknown_license",
    "no_licence": "no_license",
}  # fmt: skip


def known_codes(codes: Iterable[str]) -> tuple[str, ...]:
    """Codes that somebody gave, by today's names. Raises UnknownName for one that there is not."""
    found = tuple(OLD_CODES.get(code, code) for code in codes)
    for code in found:
        if code not in CODES:
            raise unknown("code of a finding", code, list(CODES))
    return found


def leaves_unreadable(codes: Iterable[str]) -> bool:
    """Whether somebody who allows these codes goes on without images of which nothing can be seen."""
    return bool(UNREADABLE.intersection(known_codes(codes)))


def leaves_unusable(codes: Iterable[str]) -> bool:
    """As leaves_unreadable, where an image needs its mask."""
    return bool((UNREADABLE | UNUSABLE_MASKS).intersection(known_codes(codes)))


def by_hand(code: str) -> str | None:
    """What a person has to do about findings of a code, where --fix can do nothing; None where it does something."""
    repair = CODES[code].repair
    return repair.removeprefix(BY_HAND) if repair.startswith(BY_HAND) else None


def ways_on(place: object, findings: Iterable[Mapping[str, Any]]) -> list[str]:
    """What to do about findings, rows of `handful data check --json`: repair a copy, where --fix mends an error of
    them, and what only a person can do."""
    codes = dict.fromkeys(row["code"] for row in findings if row["severity"] == "error")
    hands = {code: do for code in codes if (do := by_hand(code)) is not None}
    ways = [f"repair a copy: handful data check {shell(place)} --fix COPY"] if len(hands) < len(codes) else []
    return [*ways, *(f"by hand: {do} [{code}]" for code, do in hands.items())]


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a data set.

    code: a key of CODES. file: where, relative to the folder where it can be. value: what was found there, JSON.
    count: how many (pixels, labels, files). detail: one clause for people. files: all images it is about. cause: what
    is wrong without saying where; a report tells findings of one cause as one, with their count and first places.
    """

    code: str
    file: str
    value: Any = None
    count: int = 1
    detail: str = ""
    files: tuple[Path, ...] = ()
    cause: str = ""

    @property
    def severity(self) -> str:
        """One of SEVERITIES."""
        return CODES[self.code].severity

    @property
    def repair(self) -> str:
        """What --fix does about it."""
        return CODES[self.code].repair

    @property
    def by_hand(self) -> str | None:
        """What a person has to do about it, where --fix can do nothing; None where it does something."""
        return by_hand(self.code)

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
        by_hand = finding.by_hand
        do = by_hand if by_hand is not None else "repair it, or a copy of all: handful data check FOLDER --fix COPY"
        there = "" if by_hand is not None else f" (there: {finding.repair})"
        raise DataError(f"{finding.text}; {do}{there}; {SEE_ALL}")
