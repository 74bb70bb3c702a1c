"""WebDataset: images and their classes in plain tar files, KEY.jpg beside KEY.cls or KEY.json; nothing is unpacked.

https://github.com/webdataset/webdataset. A .cls, .cls.txt or .txt member holds a class's number or name, a .json one
has it as label, class, cls or category. Numbers get their names from classes.txt (classnames.txt, labels.txt) beside
the shards where it is there. The shards of a split begin with its name (train-0000.tar), or lie in a folder of it.
Shards that `handful dream` wrote are read as "shards".
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handful.data import sniff
from handful.data.coco_rows import categories_of
from handful.data.finding import Finding, OnFinding, stop
from handful.data.format_shards import Held
from handful.data.format_shards import detect as is_ours
from handful.data.image_finder import placed, split_in, split_name
from handful.data.marks import class_text
from handful.data.paths import Shelf, is_image_name, safe_name
from handful.data.reading import Few, label_text
from handful.data.shard_tar import Damaged, Member
from handful.errors import DataError
from handful.types import Dataset, Sample
from handful.words import counted

TITLE = "WebDataset shards with .cls or .json"
TREE = """\
classes.txt        mug
                   plate
train-000000.tar   00000.jpg 00000.cls (0) 00001.jpg 00001.cls (1) ...
"""
PRECEDENCE = 11
KINDS = ("cls", "cls.txt", "json", "txt", "label", "class")
KEYS = ("label", "class", "cls", "category", "class_name", "classname", "label_name", "class_id", "target")
LISTS = ("classes.txt", "classnames.txt", "class_names.txt", "labels.txt")
_MOST = 1 << 20  # bytes of one sample's label
_MOST_MEMBERS = 50_000_000
_SEEN = 40  # members that tell what a shard is


@dataclass(slots=True)
class _Held:
    """The members of one sample."""

    shard: str
    key: str
    image: Member | None = None
    label: Member | None = None


def detect(folder: Path) -> bool:
    """Whether shards of images with classes lie in the folder, or a little below."""
    folder = Path(folder)
    if not folder.is_dir() or is_ours(folder):
        return False
    return any(_is_shard(folder / name) for name in list(sniff.files(folder, ".tar"))[: sniff.EACH])


def _is_shard(path: Path) -> bool:
    images, labels, _ = _look(path)
    return images and labels


def _look(path: Path) -> tuple[bool, bool, bool]:
    """Whether there are images, labels, and damage at a shard's beginning."""
    images = labels = False
    try:
        for i, member in enumerate(members(path)):
            images = images or is_image_name(member.name)
            labels = labels or member.kind.lower() in KINDS
            if (images and labels) or i > _SEEN:
                break
    except Damaged:
        return images, labels, True
    return images, labels, False


def members(path: Path) -> Iterator[Member]:
    """The files in a tar file, in order, from their headers alone. Raises Damaged where that cannot go on."""
    try:
        if not path.is_file():
            raise Damaged("is no ordinary file")
        end = path.stat().st_size
        with tarfile.open(path, "r:") as held:
            for i, member in enumerate(held):
                if i >= _MOST_MEMBERS or member.offset_data + member.size > end:
                    raise Damaged(f"is cut short, or holds too much, at {member.name[:200]!r}")
                held.members = []  # type: ignore[attr-defined]  # they would all be kept otherwise
                if member.isreg() and not member.issparse():
                    yield Member(member.name.removeprefix("./"), member.offset_data, member.size)
    except Damaged:
        raise
    except Exception as error:  # tarfile raises TarError, OSError, ValueError, UnicodeError, OverflowError and more
        raise Damaged(f"cannot be read as a plain tar file ({str(error)[:200]})") from None


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every shard, in order; images are decoded when they are asked for. Raises DataError without."""
    folder = Path(folder)
    shelf = Shelf(folder, folder)
    looks = {name: _look(folder / name) for name in shelf.others if name.lower().endswith(".tar")}
    shards = [name for name, (images, _, damaged) in looks.items() if images or damaged]
    if not any(images and labels for images, labels, _ in looks.values()):
        raise DataError(f"{folder} has no tar file in it with images and their classes (KEY.jpg and KEY.cls)")
    few = Few(on_finding)
    samples: list[tuple[_Held, str | None]] = []
    for name in shards:
        if not shelf.inside(name, few):
            continue
        passed = Counter[str]()
        samples += [(held, _label(folder / name, held, few)) for held in _samples(folder / name, name, few, passed)]
        _tell_passed(name, passed, few)
    texts = [label for held, label in samples if label and held.label is not None and held.label.kind.lower() == "txt"]
    if len(set(texts)) > max(10, len(texts) // 2):
        detail = (
            f"has {len(set(texts))} different texts for {counted(len(texts), 'image')}: captions, which are no classes"
        )
        few(Finding("broken_label", shards[0], texts[:5], len(texts), detail))
        samples = [(held, None) for held, _ in samples]
    few.close()
    listed = _listed(shelf, on_finding)
    used = sorted({label for _, label in samples if label is not None}, key=lambda t: (not t.isdigit(), len(t), t))
    numbers = all(label.isdigit() for label in used)
    called = {str(i): name for i, name in enumerate(listed)} if numbers else {}
    if numbers and used and not set(used) <= called.keys():
        what = "has numbers for its classes" + (f", and {len(listed)} names for them" if listed else " and no names")
        odd = [label for label in used if label not in called]
        on_finding(Finding("no_label_map", shards[0], odd[:50], len(odd), f"{what}; each is called by its number"))
    names = list(dict.fromkeys([*(listed if numbers else ()), *(called.get(label, label) for label in used)]))
    categories = categories_of([{"id": i, "name": n} for i, n in enumerate(names)], on_finding, file=shards[0])
    known = {c.name for c in categories}

    def each() -> Iterator[Sample]:
        seen: set[tuple[str | None, str]] = set()
        for held, label in samples:
            if held.image is None:
                continue
            split, name = _placed(held.shard, held.image)
            if (split, name) in seen:
                name = f"{posixpath.splitext(posixpath.basename(held.shard))[0]}/{name}"
            seen.add((split, name))
            called_ = called.get(label, label) if label is not None else None
            path = folder / held.shard
            yield Sample(path, label=called_ if called_ in known else None, name=name, split=split,
                         pixels=Held(path, held.image, None))  # fmt: skip

    return Dataset("webdataset", folder, categories, each, sum(held.image is not None for held, _ in samples))


def _placed(shard: str, image: Member) -> tuple[str | None, str]:
    """The split that a shard's folder or name says, and the image's name without it."""
    folders = [said for part in shard.split("/")[:-1] if (said := split_name(part))]
    split, name = placed(image.name)
    return (folders[0] if folders else None) or split_in(shard) or split, name


def _samples(path: Path, shard: str, tell: OnFinding, passed: Counter[str]) -> Iterator[_Held]:
    """The samples of a shard; ends, telling where, when it is damaged. passed: counts the kinds that are not read."""
    found: _Held | None = None
    try:
        for member in members(path):
            if safe_name(member.name) is None or not member.kind or member.key[-1:] in ("", "/"):
                detail = f"holds a member named {member.name[:200]!r}"
                tell(Finding("unsafe_path", shard, member.name[:200], detail=detail))
                continue
            if found is None or member.key != found.key:
                if found is not None:
                    yield found
                found = _Held(shard, member.key)
            if is_image_name(member.name) and found.image is None:
                found.image = member
            elif _surer(member, found.label):
                passed.update([found.label.kind.lower()] if found.label is not None else [])
                found.label = member
            else:
                passed[member.kind.lower()] += 1
    except Damaged as error:
        tell(Finding("unreadable_labels", shard, str(error)[:200], detail=str(error)[:300]))
    if found is not None:
        yield found


def _tell_passed(shard: str, passed: Counter[str], tell: OnFinding) -> None:
    """Tell members that were not read: masks and arrays as labels, text and JSON beside a class as a note."""
    for kind, count in sorted(passed.items()):
        beside = kind.rpartition(".")[2] in ("json", "txt", "cls", "url", "label", "class")
        detail = f"holds {counted(count, 'member')} called KEY.{kind}, which are not read"
        more = "" if beside else "; write the shards without them"
        tell(Finding("other_task" if beside else "unread_labels", shard, kind, count, detail + more))


def _surer(member: Member, than: Member | None) -> bool:
    """Whether a member says a class, and more surely than another does: a number more than a caption."""
    kind = member.kind.lower()
    return kind in KINDS and (than is None or KINDS.index(kind) < KINDS.index(than.kind.lower()))


def _label(path: Path, held: _Held, tell: OnFinding) -> str | None:
    """A sample's class, None when it has none; what is wrong is told."""
    where = f"{held.shard}/{held.key}"
    if held.image is None:
        tell(Finding("missing_image", where, detail="has no image"))
        return None
    if held.label is None:
        return None
    try:
        if held.label.size > _MOST:
            raise ValueError(f"{held.label.size} bytes; wanted {_MOST} at most")
        text = Held(path, held.label, None).data().decode("utf-8-sig")
        value: Any = text
        if held.label.kind.lower() == "json":
            value = json.loads(text)
            value = _of(value) if isinstance(value, Mapping) else value
        label = class_text(value)
        if label is None and value is not None:
            raise ValueError(f"the class {str(value)[:60]!r}")
    except (ValueError, RecursionError, DataError) as error:
        said = str(error)[:200]
        tell(Finding("broken_label", f"{held.shard}/{held.label.name}", said, detail=f"has a label of {said}"))
        return None
    if label is not None and held.label.kind.lower() == "txt" and (len(label) > 60 or "\n" in label):
        tell(Finding("broken_label", where, label[:60], detail="has a text that is no class but a caption"))
        return None
    return label


def _of(value: Mapping[str, Any]) -> Any:
    return next((value[key] for key in KEYS if key in value), None)


def _listed(shelf: Shelf, on_finding: OnFinding) -> list[str]:
    """The names beside the shards, one a line."""
    for name in LISTS:
        if name in shelf.others and shelf.inside(name, on_finding):
            text = label_text(shelf.folder / name, shelf.root, on_finding)
            if text is not None and text.strip():
                return [line.strip() for line in text.rstrip().split("\n")]
    return []
