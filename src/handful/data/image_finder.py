"""Which image a label file means: named by absolute paths, other machines' paths, URLs, last names, stems."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import PATH_HOLDERS, SPLIT_OF
from handful.data.paths import Shelf, folded, is_image_name, misspelled, relative

# train, train2017, VisDrone2019-DET-train, test_images, "Validation Set"
_WORD = re.compile(
    r"(?:.*[-_ ])?(train|training|val|valid|validation|dev|test|testing)\d{0,4}"
    r"(?:[-_ ](?:images?|imgs?|photos|set|data|dev|challenge))?",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"[A-Za-z]+")
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_DRIVE = re.compile(r"^[A-Za-z]:(?=/)")
_LONGEST = 4096


def split_word(part: str) -> str | None:
    """What split a folder's name says, in one spelling (val for valid); None when it says none."""
    said = split_name(part)
    return None if said is None else SPLIT_OF[said.lower()]


def split_name(part: str) -> str | None:
    """The word in a folder's name that says a split, as it is written there."""
    match = _WORD.fullmatch(part) if len(part) < 256 else None
    return match[1] if match else None


def split_in(file: str) -> str | None:
    """The split that a list's name says, as it is written there: annotations/instances_valid.csv is "valid"."""
    stem = posixpath.splitext(posixpath.basename(file))[0]
    words = [word.lower() for word in _TOKEN.findall(stem)]
    found = [word for word in words if word in SPLIT_OF]
    return found[0] if len(found) == 1 else None


def placed(image: str) -> tuple[str | None, str]:
    """(split, name inside it) of an image's path: train/images/a.jpg and images/train/a.jpg are (train, a.jpg)."""
    parts = image.split("/")
    split, held = None, False
    while len(parts) > 1:
        if split is None and split_word(parts[0]) is not None:
            split = split_name(parts.pop(0))
        elif not held and parts[0].lower() in PATH_HOLDERS:
            held = True
            parts.pop(0)
        else:
            break
    return split, "/".join(parts)


def _folders_split(parts: Sequence[str]) -> str | None:
    return next((word for part in parts if (word := split_word(part)) is not None), None)


class Finder:
    """Finds the images that label files name among those that lie below a folder; no other file is ever meant."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for image in sorted(shelf.images):
            last = posixpath.basename(image)
            self._by_name[folded(last)].append(image)
            self._by_stem[folded(posixpath.splitext(last)[0])].append(image)

    def find(
        self, said: object, on_finding: OnFinding, *, file: str, split: str | None = None, beside: bool = False
    ) -> str | None:
        """The image's path on the shelf, or None after telling why there is none.

        file: the label file that names it. split: the one the file is about, if it says. beside: an image with the
        label file's own stem will do, too.
        """
        text = said.strip() if isinstance(said, str) else ""
        if not text or "\0" in text or len(text) > _LONGEST:
            if not (beside and said in (None, "")):
                detail = f"names the image {str(said)[:200]!r}; wanted a path"
                on_finding(Finding("unsafe_path", file, str(said)[:200], detail=detail))
                return None
            text = posixpath.splitext(posixpath.basename(file))[0]
        found = self._exact(text, file) or self._near(text, file, split, on_finding)
        if not found and beside:
            found = self._near(posixpath.splitext(posixpath.basename(file))[0], file, split, on_finding)
        if found is None:
            at = relative(self.shelf.folder, self.shelf.root)
            where = "the folder" if at == "." else at
            detail = f"names the image {text[:200]!r}, which is not in {where}"
            on_finding(Finding("missing_image", file, text[:200], detail=detail))
        elif found == "":
            return None
        return found if found is not None and self.shelf.inside(found, on_finding) else None

    def _exact(self, text: str, file: str) -> str | None:
        """As it is written, from the label file's folder, or from the top."""
        here = posixpath.dirname(file)
        for name in dict.fromkeys((text, text.replace("\\", "/"))):
            for tried in (posixpath.normpath(posixpath.join(here, name)), posixpath.normpath(name)):
                if tried in self.shelf.images:
                    return tried
        return None

    def _near(self, text: str, file: str, split: str | None, on_finding: OnFinding) -> str | None:
        """By how the path ends. "" after telling that it fits several images."""
        for parts in _readings(text):
            last = parts[-1]
            stem = not is_image_name(last)
            table = self._by_stem if stem else self._by_name
            found = table.get(folded(last), [])
            if not found and _UPLOAD.match(last):
                found = table.get(folded(_UPLOAD.sub("", last, count=1)), [])
            fitting = [image for image in found if self._may_be(image, parts, file, split)]
            best = _longest(fitting, parts)
            if len(best) > 1:
                here = posixpath.dirname(file)
                best = [image for image in best if posixpath.dirname(image) == here] or best
            if len(best) > 1:
                exact = [image for image in best if posixpath.basename(image) == last]
                best = exact if len(exact) == 1 else best
            if len(best) > 1:
                detail = f"names the image {text[:200]!r}, which may be {best[0]} or {best[1]}"
                on_finding(Finding("missing_image", file, text[:200], len(best), detail))
                return ""
            if best:
                got = posixpath.basename(best[0])
                if not stem and got != last and folded(got) == folded(last):
                    detail = misspelled(last, best[0])
                    on_finding(Finding("wrong_case_name", file, last[:200], detail=detail))
                return best[0]
        return None

    @staticmethod
    def _may_be(image: str, parts: Sequence[str], file: str, split: str | None) -> bool:
        """Labels of one split are never taken for another's photos, though they have the same names."""
        own = _folders_split(image.split("/")[:-1])
        said = _folders_split(parts[:-1]) or (split_word(split) if split else None)
        said = said or _folders_split(file.split("/")[:-1])
        return own is None or said is None or own == said


def _readings(text: str) -> list[list[str]]:
    """The parts of a path, as it may be meant: a URL, percent signs, a query of Label Studio's, backslashes."""
    tries = [text]
    if "://" in text or "?" in text:
        try:
            split = urlsplit(text)
            tries += [value for value in parse_qs(split.query).get("d", [])]
            tries.append(split.path)
        except ValueError:
            pass
    if "%" in text:
        tries += [unquote(t) for t in tries]
    found = []
    for t in tries:
        parts = [p for p in _DRIVE.sub("", t.replace("\\", "/")).split("/") if p not in ("", ".", "..")]
        if parts and parts not in found and "\0" not in t:
            found.append(parts[-20:])
    return found


def _longest(images: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Those that agree with most of the path's end."""

    def agree(image: str) -> int:
        own = image.casefold().split("/")[:-1]
        count = 0
        for a, b in zip(reversed(own), reversed([p.casefold() for p in parts[:-1]]), strict=False):
            if a != b:
                break
            count += 1
        return count

    most = max(map(agree, images), default=0)
    return [image for image in images if agree(image) == most]
