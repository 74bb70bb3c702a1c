"""Names found in label files and archives are never trusted: nothing is opened outside the data set's folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from handful.arrays import StrPath
from handful.data import own_files
from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import KIND_OF
from handful.errors import DataError
from handful.image import HEIC_SUFFIXES, SUFFIXES

LEFTOVER_SUFFIXES = (".part", ".partial", ".crdownload", ".tmp", ".download", ".filepart", ".swp", "~")
LABEL_SUFFIXES = (".txt", ".xml", ".json", ".csv")
# of a link that is not followed; a copy, since to put a folder into a link's place by hand may write where it leads
COPY_LINKED = "make a copy with what the links lead to in their places: cp -rL FOLDER COPY"
_DRIVE = re.compile(r"^[A-Za-z]:")
_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_WORD = re.compile(r"[a-z]+")
_MOST_NAME = 4096


def safe_name(name: object) -> str | None:
    """A relative path with forward slashes that stays where it is put, or None: absolute, "..", NUL, a drive."""
    if not isinstance(name, str) or not name or "\0" in name or len(name) > 1024:
        return None
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or _DRIVE.match(name) or ".." in path.parts or not path.parts:
        return None
    return str(path)


def name_parts(name: object) -> list[str]:
    """The folders and the file of a name in a label file, however a tool wrote it; [] for what is no name.

    Backslashes, "./" and "..", a drive, file:// and other URLs with their %20, Label Studio's ?d=PATH, and the
    absolute path of another machine all come out as the bare parts of the path, which may only be looked up.
    """
    if not isinstance(name, str) or not name or "\0" in name or len(name) > _MOST_NAME:
        return []
    if _URL.match(name) or "/local-files/?d=" in name:
        try:
            url = urlsplit(name)
            name = parse_qs(url.query)["d"][0] if "d=" in url.query else unquote(url.path)
        except (ValueError, KeyError):
            return []
    parts = _DRIVE.sub("", name.replace("\\", "/")).split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def is_from_elsewhere(name: str) -> bool:
    """Whether a name says where a file lay on another machine: absolute, a URL, a drive, or one with "..".

    Names inside a data set are taken as they stand; of these only the last parts mean anything here.
    """
    path = name.replace("\\", "/")
    return bool(path.startswith("/") or _DRIVE.match(path) or _URL.match(path) or ".." in path.split("/"))


def split_kind(*names: str) -> str | None:
    """Which of "train", "val" and "test" names of files or folders speak of: val2017, custom_val, valid; None if none,
    or several.
    """
    found = {KIND_OF[word] for name in names for word in _WORD.findall(name.lower()) if word in KIND_OF}
    return found.pop() if len(found) == 1 else None


def relative(path: Path, root: Path) -> str:
    """The path as people read it in a table: relative to the data set's folder where it lies in it."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path)


def is_image_name(name: str) -> bool:
    """Whether the suffix is one of an image, in any case."""
    return os.path.splitext(name)[1].lower() in SUFFIXES | HEIC_SUFFIXES


def is_leftover(name: str) -> bool:
    """Whether the name is one that a broken copy, a download or an editor leaves behind."""
    return name.lower().endswith(LEFTOVER_SUFFIXES)


HIDDEN, MADE = "hidden", "made by handful"


def walk(folder: Path, passed: dict[str, str] | None = None) -> Iterator[str]:
    """Every file in and below a folder, relative, forward slashes, sorted, hidden ones and those that handful made
    (own_files.py) left out; links not followed into folders, so a loop of links cannot hold it.

    passed: filled in with those that were left out and why, HIDDEN or MADE; of a hidden folder, and of a model, the
    folder alone, with a slash at its end.
    """
    passed = {} if passed is None else passed
    stack = [("", False)]
    while stack:
        at, predicted = stack.pop()
        here = os.path.join(folder, at)
        try:
            entries = sorted(os.scandir(here), key=lambda e: e.name)
        except FileNotFoundError:
            raise DataError(f"{folder} does not exist; wanted a folder there") from None
        except NotADirectoryError:
            raise DataError(f"{folder} is a file; wanted a folder") from None
        except OSError as error:
            raise DataError(f"{folder}/{at} cannot be listed ({error.strerror}); mend its permissions") from error
        if at and own_files.is_model(here, [entry.name for entry in entries]):
            passed[f"{at}/"] = MADE
            continue
        below, files = [], []
        for entry in entries:
            folders = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith("."):
                passed[_joined(at, entry.name) + "/" * folders] = HIDDEN
            elif folders:
                below.append(_joined(at, entry.name))
            elif not entry.is_dir():
                files.append(entry.name)
        own = own_files.made(here, files, predicted)
        passed.update(dict.fromkeys((_joined(at, name) for name in sorted(own)), MADE))
        yield from (_joined(at, name) for name in files if name not in own)
        stack += [(name, bool(own) and own_files.is_of_predictions(here, files)) for name in reversed(below)]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def linked_folders(folder: Path) -> list[tuple[str, str]]:
    """(name, where it leads) of each link to a folder in or below a folder, which walk does not follow."""
    found = []
    for at, folders, _ in os.walk(folder):
        for name in folders:
            path = os.path.join(at, name)
            if os.path.islink(path) and not name.startswith("."):
                found.append((relative(Path(path), folder), os.path.realpath(path)))
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def linked_out(folder: Path) -> list[tuple[str, str]]:
    """As linked_folders, of the links that lead out of the folder to images or labels."""
    real = os.path.realpath(folder) + os.sep
    return [
        (name, to) for name, to in linked_folders(folder) if not f"{to}{os.sep}".startswith(real) and holds_data(to)
    ]


def holds_data(folder: StrPath) -> bool:
    """Whether an image or a file of labels is among the first files of a folder; of one too large to look through,
    yes."""
    names = (name for _, _, files in os.walk(folder) for name in files or [""])
    first = list(islice(names, 1000))
    return len(first) == 1000 or any(is_image_name(name) or name.lower().endswith(LABEL_SUFFIXES) for name in first)


def folded(name: str) -> str:
    """A name as it is compared where nothing is spelled alike: letters in any case, accents composed or not."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def misspelled(said: str, file: str) -> str:
    """What is told of a name that is nearly that of a file; two that look the same are told apart."""
    one, other = (unicodedata.normalize("NFC", name.rpartition("/")[2]) for name in (said, file))
    return f"says {said[:200]}, the file is {file}" + (" with its accents composed otherwise" if one == other else "")


class Tails:
    """Which names of many end with the last parts of another, letters in any case where nothing else does."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_file: dict[str, list[str]] = defaultdict(list)
        for name in names:
            self._by_file[folded(name.rpartition("/")[2])].append(name)

    def ending(self, parts: list[str]) -> list[str]:
        """The names that end with all these parts: those spelled so, or else those in another case."""
        tail = "/" + "/".join(parts)
        near = [n for n in self._by_file.get(folded(parts[-1]), ()) if folded(f"/{n}").endswith(folded(tail))]
        return [name for name in near if f"/{name}".endswith(tail)] or near

    def spelled(self, name: str) -> list[str]:
        """The names that are this one, letters in any case."""
        near = self._by_file.get(folded(name.rpartition("/")[2]), ())
        return [n for n in near if n == name] or [n for n in near if folded(n) == folded(name)]

    def longest(self, parts: list[str]) -> list[str]:
        """The names that share the most last parts with a path; a val folder is never taken for a train one."""
        for start in range(len(parts)):
            if found := self.ending(parts[start:]):
                kind = split_kind(*parts[:start])
                return [n for n in found if kind is None or split_kind(*n.split("/")[:-1]) in (kind, None)]
        return []


class Shelf:
    """The images of one folder, listed once: is a name there, under which spelling, and is it safe to open?"""

    def __init__(self, folder: Path, root: Path, listed: Iterable[str] | None = None) -> None:
        """listed: the files below the folder, where somebody listed them before."""
        self.folder, self.root = Path(folder), Path(root)
        self._real = os.path.realpath(root) + os.sep
        self.passed: dict[str, str] = {}  # what walk left out, and why
        if listed is None:
            listed = walk(self.folder, self.passed) if self.folder.is_dir() else ()
        listed = list(listed)
        self.images = {name for name in listed if is_image_name(name)}
        self.others = [name for name in listed if name not in self.images]
        self._tails: Tails | None = None
        self._moved: set[str] = set()

    @property
    def tails(self) -> Tails:
        """The images by their last parts."""
        self._tails = self._tails or Tails(sorted(self.images))
        return self._tails

    def find(self, name: object, on_finding: OnFinding, *, file: str) -> str | None:
        """The image's own name, or None after telling why it cannot be used. file: which labels name it.

        A name is taken as it stands, or else as tools write one (name_parts); one with a path of another machine is
        found by the longest last part of it that one image alone has.
        """
        if isinstance(name, str) and name in self.images:
            return name if self.inside(name, on_finding) else None
        parts = name_parts(name)
        elsewhere = isinstance(name, str) and is_from_elsewhere(name)
        own = "/".join(parts)
        if not elsewhere and own in self.images:
            return own if self.inside(own, on_finding) else None
        found: list[str] = []
        for spelled in (parts, name_parts(unquote(name)) if isinstance(name, str) and "%" in name else []):
            if spelled and not found:
                found = self.tails.longest(spelled) if elsewhere else self.tails.spelled("/".join(spelled))
        said = str(name)[:200]
        if len(found) > 1:
            detail = f"names the image {said!r}, which may be {', '.join(sorted(found)[:3])}"
            on_finding(Finding("ambiguous_image", file, said, detail=f"{detail}; nothing is guessed"))
            return None
        if not found and (elsewhere or not parts):
            on_finding(Finding("unsafe_path", file, said, detail=f"names the image {said!r}"))
            return None
        if not found:
            cause = f"images that labels name are not in {self.folder}"
            on_finding(Finding("missing_image", file, own, detail=f"{own} is not in {self.folder}", cause=cause))
            return None
        if found[0].rpartition("/")[2] not in (parts[-1], unquote(parts[-1])):
            on_finding(Finding("wrong_case_name", file, own, detail=misspelled(own, found[0])))
        elif elsewhere and file not in self._moved:
            self._moved.add(file)
            detail = f"names its images by paths of another machine ({said!r} is {found[0]}, ...)"
            on_finding(Finding("moved_name", file, said, detail=detail))
        return found[0] if self.inside(found[0], on_finding) else None

    def inside(self, name: str, on_finding: OnFinding) -> bool:
        """Whether the image, links followed, lies in the data set's folder; tells when it does not."""
        path = os.path.join(self.folder, name)
        if os.path.islink(path) and not os.path.realpath(path).startswith(self._real):
            where = os.path.realpath(path)
            detail = f"is a link to {where}, outside the data set; {COPY_LINKED}"
            on_finding(Finding("symlink_outside", relative(Path(path), self.root), where, detail=detail))
            return False
        return True
