"""An account of every file below a data set's folder: what it was read as, or why it was not."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from handful.data import pairing
from handful.data.class_lists import is_class_list
from handful.data.finding import Finding, OnFinding
from handful.data.formats import Source, sources
from handful.data.ledger import IMAGE, LABELS, MASK, UNREAD, noting
from handful.data.looks import look_of_several
from handful.data.own_files import is_drawn
from handful.data.paths import COPY_LINKED, HIDDEN, MADE, is_image_name, is_leftover, linked_out, walk
from handful.data.suspects import ABOUT, Suspects, report_unread
from handful.errors import DataError
from handful.words import counted

ASIDE = "another set"
CLASSES, REFUSED, ABOUT_IT, LEFT, UNUSED, IGNORED = "classes", "refused", "about", "leftover", "unused image", "ignored"
NOT_USED = frozenset((ASIDE, UNREAD, REFUSED, UNUSED, IGNORED, LEFT, HIDDEN, MADE))
SHOWN = 20
PASSED = {HIDDEN: "its name begins with a dot", MADE: "a model, pictures or pages that handful wrote are no data"}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")


@dataclass
class Account:
    """files: {path: (role, why)} of every file below the folder, relative; of a hidden folder, and of a model that
    handful made, the folder alone, with a slash at its end.

    role: "image", "mask", "labels", "classes", "refused" (a finding says why), "about" (a readme or license),
    "leftover", "another set" (read, had it been asked for), "unread" (looks like labels), "unused image", "ignored",
    "hidden" (its name begins with a dot), "made by handful" (a model, a picture with answers, a page).
    """

    files: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many files of each role."""
        return dict(Counter(role for role, _ in self.files.values()))

    def as_json(self) -> dict[str, Any]:
        """For `handful data check --json`: counts, and the files that were not used, with why."""
        rest: dict[str, list[dict[str, str]]] = {}
        for name, (role, why) in self.files.items():
            if role in NOT_USED and len(rest.setdefault(role, [])) < SHOWN:
                rest[role].append({"file": name, "why": why})
        return {"files": len(self.files), "counts": self.counts, "not_used": rest}


def left_aside(place: Path, chosen: Sequence[Source]) -> dict[str, str]:
    """{path as it was opened: title} of the files of every set in a folder that is not among those somebody chose.

    Only where these are of those that are found there: a format forced on a folder leaves nothing aside.
    """
    if not place.is_dir():
        return {}
    try:
        every = sources(place)
    except DataError:
        return {}
    titles = {(source.place, source.title) for source in chosen}
    rest = [source for source in every if (source.place, source.title) not in titles]
    if len(rest) == len(every):
        return {}
    files: dict[str, str] = {}
    for source in rest:
        with noting() as used, contextlib.suppress(DataError):
            for sample in source.read(lambda finding: None):
                used[os.fspath(sample.path)] = IMAGE
                if sample.mask_path is not None:
                    used[os.fspath(sample.mask_path)] = MASK
        files |= dict.fromkeys(used, source.title)
    return files


def account_of(
    place: Path, used: Mapping[str, str], on_finding: OnFinding, said: Mapping[str, str],
    aside: Mapping[str, str] | None = None, guessed: bool = False,
) -> Account:  # fmt: skip
    """What became of each file.

    used: {path as it was opened: role}, of ledger.noting, images included. said: {file: the code of a finding about
    it}, which is not told a second time. aside: {path as it was opened: the set it is of}, of left_aside. guessed:
    whether which images are masks was found by their names: then others that look like masks are not merely unused.

    What looks like labels and was not read is an error: of one kind of file told once, with its count and the first
    three.
    """
    place = Path(place)
    found, roles, others = Account(), _inside(place, used), _inside(place, aside or {})
    passed: dict[str, str] = {}
    names = list(walk(place, passed)) if place.is_dir() else []
    images = [name for name, role in roles.items() if role == IMAGE]
    suspects = Suspects(place, images)
    unread: dict[str, str] = {}
    spare: list[str] = []
    for name in names:
        if name in roles:
            role = roles[name]
            is_list = role == LABELS and is_class_list(PurePosixPath(name).name)
            found.files[name] = (CLASSES if is_list else role, "")
        elif name in said and is_image_name(name) and is_drawn(str(place), name):
            found.files[name] = (MADE, PASSED[MADE])
        elif name in said:
            found.files[name] = (REFUSED, said[name])
        elif name in others:
            found.files[name] = (ASIDE, f"of the set {others[name]}, which was not asked for")
        elif is_leftover(name):
            found.files[name] = (LEFT, "what a broken copy or download leaves behind")
        elif ABOUT.fullmatch(PurePosixPath(name).name):
            found.files[name] = (ABOUT_IT, "a readme, a license or the like")
        elif is_image_name(name):
            spare.append(name)
        else:
            why = suspects.why(name)
            if why is not None:
                unread[name] = why
            other = "an archive that is not unpacked" if name.lower().endswith(ARCHIVES) else "nothing that is read"
            found.files[name] = (UNREAD, why) if why is not None else (IGNORED, other)
    masks: dict[str, str] = {}
    refused = [name for name in said if is_image_name(name)]
    for pairs in pairing.find(place, {*images, *spare, *refused}) if spare else ():
        for photo, several in pairs.masks.items():
            for mask in several:
                if photo in said:
                    found.files[mask] = (REFUSED, f"the mask of {photo}")
                else:
                    masks[mask] = pairs.title
    spare = [name for name in spare if name not in found.files]
    for name in spare:
        if name in masks:
            unread[name] = "looks like the mask of an image"
            found.files[name] = (UNREAD, unread[name])
        else:
            found.files[name] = (UNUSED, "no labels name it")
    for title in sorted({masks[name] for name in spare if name in masks}):
        these = {name: why for name, why in unread.items() if masks.get(name) == title}
        report_unread(place, these, on_finding, f"to read them: {pairing.how_to_read(place, title)}")
    report_unread(place, {name: why for name, why in unread.items() if name not in masks}, on_finding)
    unused = [name for name in spare if name not in masks]
    if guessed and (alike := _look_like_masks(place, unused)):
        why = "looks like a mask, and no name says of which image it is"
        for name in alike:
            found.files[name] = (UNREAD, why)
        report_unread(place, dict.fromkeys(alike, why), on_finding)
        unused = [name for name in unused if name not in alike]
    if unused:
        few = ", ".join(unused[:3]) + (", ..." if len(unused) > 3 else "")
        detail = f"{counted(len(unused), 'image')} that no label file and no folder of the set names ({few})"
        on_finding(Finding("unused_image", unused[0] if len(unused) == 1 else ".", unused[:20], len(unused), detail))
    found.files = {name: found.files[name] for name in names}
    found.files |= {name: (role, PASSED[role]) for name, role in sorted(passed.items()) if name not in roles}
    _links(place, used, on_finding, said)
    return found


def _look_like_masks(place: Path, unused: Sequence[str]) -> set[str]:
    """Those of images that nothing names which lie in a folder of pictures that look like masks."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in unused:
        folders[name.rpartition("/")[0]].append(name)
    return {name for names in folders.values() if len(names) > 1
            and look_of_several([place / name for name in names]) in ("mask", "soft") for name in names}  # fmt: skip


def _links(place: Path, used: Mapping[str, str], on_finding: OnFinding, said: Mapping[str, str]) -> None:
    """Tell of folders with images or labels that are links out of the data set and were not followed."""
    links = [(name, to) for name, to in (linked_out(place) if place.is_dir() else ()) if name not in said]
    real = {os.path.realpath(path) for path in used} if links else set()
    for name, to in links:
        if not any(path.startswith(to + os.sep) for path in real):
            detail = f"is a link to {to}, which is not followed, so that what lies there is not read; {COPY_LINKED}"
            on_finding(Finding("linked_folder", name, to, detail=detail))


def _inside(place: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Paths as they were opened, relative to a folder; those outside are left out."""
    root = os.fspath(place) + os.sep
    found = {path[len(root) :].replace(os.sep, "/"): what for path, what in files.items() if path.startswith(root)}
    if len(found) < len(files):  # named by another way to the same file
        real = os.path.realpath(place) + os.sep
        for path, what in files.items():
            at = os.path.realpath(path)
            if not path.startswith(root) and at.startswith(real):
                found[at[len(real) :].replace(os.sep, "/")] = what
    return found
