"""Shards: many images and masks in plain tar files, as `handful dream` writes them; nothing is unpacked.

shard-00000.tar holds KEY.jpg, KEY.png (the class or object of each pixel) and KEY.json (name, clip, frame, ...) of
each sample; other kinds, as KEY.prev.png, are passed over. shard-00000.json lists the SHA-256 of the tar file and of
each member. labels.json names the values (label_names.py); without it they are objects by number.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handful.data import shard_tar
from handful.data.finding import Finding, OnFinding, stop
from handful.data.label_names import labels_of, write_labels
from handful.data.label_tree import stored
from handful.data.masks import MAX_PIXELS, checked_ids, png_of
from handful.data.paths import Shelf, safe_name
from handful.data.reading import Few
from handful.data.shard_lists import Once, absent, again, json_object, listed, parsed
from handful.data.shard_tar import Damaged, Member
from handful.data.writing import Writer
from handful.errors import DataError
from handful.files import to_json
from handful.image import TooManyPixels, decode
from handful.pick import need
from handful.types import Category, Dataset, Image, Mask, Sample
from handful.words import counted

PRECEDENCE = 10
TITLE = "Shards of dreams and of samples"
TREE = """\
shard-00000.tar                    000000.jpg, 000000.png, 000000.json, ...
shard-00000.json
manifest.json
labels.json
"""
PLAN, WHOLE = "dream.json", "manifest.json"  # what was begun; what is finished
IMAGE, MASK, ABOUT = "jpg", "png", "json"
OBJECT = "object {}"
MOST_ABOUT = 1 << 20  # of one sample's JSON
SAMPLES, BYTES = 1280, 128 << 20  # of a written shard, at most
_TEXTS = ("split", "label", "clip", "license")


def detect(folder: Path) -> bool:
    """Whether the folder holds shards that `handful dream` or write() made."""
    folder = Path(folder)
    return ((folder / PLAN).is_file() or (folder / WHOLE).is_file()) and any(folder.glob("shard-*.tar"))


@dataclass(frozen=True)
class Held:
    """Bytes inside a shard, read when they are asked for and held against their SHA-256 (None: not known)."""

    shard: Path
    member: Member
    sha256: str | None

    @property
    def name(self) -> str:
        """SHARD/MEMBER, as people read it."""
        return f"{self.shard.name}/{self.member.name}"

    def data(self) -> bytes:
        """The bytes. Raises DataError, naming shard and member, when they are not those that were written."""
        try:
            with open(self.shard, "rb") as file:
                file.seek(self.member.offset)
                data = file.read(self.member.size)
        except OSError as error:
            raise DataError(f"{self.shard} cannot be read ({error.strerror or error})") from error
        if len(data) != self.member.size or self.sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise DataError(
                f"{self.shard}: {self.member.name} is damaged: not the bytes that were written; restore it, or make "
                f"the shard again: {again(self.shard.parent)}"
            )
        return data

    def encoded(self) -> tuple[bytes, str]:
        """The image's own file, as bytes and suffix (".jpg"), for whoever copies it. Raises DataError."""
        return self.data(), "." + self.member.kind.rpartition(".")[2]

    def __call__(self) -> Image:
        """The image. Raises DataError."""
        return decode(self.shard / self.member.name, data=self.data()).image


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every shard, in order; images and masks are decoded when they are asked for.

    Where findings are collected, each member is held against its SHA-256 as its sample comes by; strictly, when it is
    decoded. Raises DataError when there is no shard.
    """
    folder = Path(folder)
    shelf = Shelf(folder, folder) if folder.is_dir() else None
    shards = [] if shelf is None else [name for name in shelf.others if name.endswith(".tar") and "/" not in name]
    if shelf is None or not shards:
        raise DataError(f"{folder} has no shard-00000.tar in it; wanted shards, as `handful dream` writes them")
    told = Once(on_finding)
    shards = [name for name in shards if shelf.inside(name, told)]
    absent(folder / PLAN, len(shards), told)
    lists = {name: listed(folder, name, told) for name in shards}
    labels = labels_of(folder, None, told)
    if labels is not None:
        categories = labels.categories
    else:
        top = max((held["top"] for held in lists.values()), default=0)
        categories = (Category(0, "background"), *(Category(i, OBJECT.format(i)) for i in range(1, top + 1)))
    whole = json_object(folder / WHOLE, folder, told) if (folder / WHOLE).is_file() else {}
    info = whole.get("info", {})
    kept = {name: held["hashes"] for name, held in lists.items()}
    counts = [shard_tar.count(folder / name) if kept[name] is None else len(kept[name] or ()) for name in shards]

    def samples() -> Iterator[Sample]:
        seen: set[str] = set()
        for name in shards:
            yield from _samples(folder / name, kept[name], categories, seen, told, checked=on_finding is not stop)

    return Dataset("shards", folder, categories, samples, sum(counts), info if isinstance(info, dict) else {})


def _samples(
    path: Path, hashes: Mapping[str, Mapping[str, str]] | None, categories: tuple[Category, ...], seen: set[str],
    on_finding: OnFinding, *, checked: bool,
) -> Iterator[Sample]:  # fmt: skip
    few = Few(on_finding)
    got: set[str] = set()
    for key, found in _groups(path, few):
        got.add(key)
        if hashes is not None and key not in hashes:
            few(Finding("missing_image", f"{path.name}/{key}", detail=f"is not in {path.stem}.json"))
            continue
        own = {} if hashes is None else hashes[key]
        held = {kind: Held(path, member, own.get(kind)) for kind, member in found.items()}
        sample = _sample(path, key, held, categories, few, on_finding, checked=checked)
        if sample is None:
            continue
        if sample.name in seen:
            few(Finding("duplicate_image", f"{path.name}/{key}", sample.name[:200], detail=f"is {sample.name} again"))
            continue
        seen.add(sample.name)
        yield sample
    lost = [] if hashes is None else [key for key in hashes if key not in got]
    if lost:
        detail = (
            f"lacks {counted(len(lost), 'sample')} of the {len(hashes or ())} in {path.stem}.json, such as "
            f"{lost[0][:100]}"
        )
        few(Finding("missing_image", path.name, lost[:20], len(lost), detail))
    few.close()


def _groups(path: Path, on_finding: OnFinding) -> Iterator[tuple[str, dict[str, Member]]]:
    """Each key with its members by kind; ends, telling where, when the shard is damaged."""
    key, found = "", dict[str, Member]()
    try:
        for member in shard_tar.members(path):
            if not shard_tar.safe(member):
                detail = f"holds a member named {member.name[:200]!r}"
                on_finding(Finding("unsafe_path", path.name, member.name[:200], detail=detail))
                continue
            if member.key != key:
                if found:
                    yield key, found
                key, found = member.key, {}
            found[member.kind] = member
    except Damaged as error:
        on_finding(Finding("unreadable_labels", path.name, str(error)[:200], detail=str(error)))
    if found:
        yield key, found


def _sample(
    path: Path, key: str, held: dict[str, Held], categories: tuple[Category, ...], few: OnFinding, on_finding:
    OnFinding, *,
    checked: bool,
) -> Sample | None:  # fmt: skip
    if ABOUT not in held:
        few(Finding("missing_image", f"{path.name}/{key}", detail="has no JSON beside it"))
        return None
    about = _about(held[ABOUT], few)
    if about is None:
        return None
    kind = about.get("image", about.get("photo"))  # "photo": of handful 0.3
    image = held.get(kind if isinstance(kind, str) else IMAGE)
    if image is None or not image.member.size:
        few(Finding("missing_image", f"{path.name}/{key}", detail="has no image"))
        return None
    if checked and not _whole(image, "unreadable_image", few):
        return None
    mask = held.get(MASK)
    if checked and mask is not None and not _whole(mask, "unreadable_mask", few):
        mask = None
    texts = {what: about.get(what) for what in _TEXTS}
    texts["license"] = about.get("license", about.get("licence"))  # "licence": of handful 0.3
    for what, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value or len(value) > 1024):
            few(Finding("broken_label", held[ABOUT].name, str(value)[:60], detail=f"has a {what} that is no text"))
            texts[what] = None
    if texts["label"] is not None and texts["label"] not in {c.name for c in categories}:
        detail = f"is of class {texts['label'][:100]!r}, which labels.json does not have"
        few(Finding("unknown_category", held[ABOUT].name, texts["label"][:100], detail=detail))
        texts["label"] = None
    frame, attributes, size = about.get("frame"), about.get("attributes", {}), about.get("size_wh")
    sized = isinstance(size, list) and len(size) == 2 and all(type(v) is int and 0 < v < 1 << 20 for v in size)
    return Sample(
        path,
        name=safe_name(about.get("name")) or f"{key}.{image.member.kind}",
        frame=frame if type(frame) is int and 0 <= frame < 1 << 53 else None,
        size_wh=(size[0], size[1]) if sized and size is not None else None,
        mask=None if mask is None else partial(_mask, mask, categories, on_finding),
        mask_path=None if mask is None else path,
        attributes=attributes if isinstance(attributes, dict) else {},
        pixels=image,
        label=texts["label"],
        split=texts["split"],
        clip=texts["clip"],
        license=texts["license"],
    )


def _about(held: Held, on_finding: OnFinding) -> dict[str, Any] | None:
    """A sample's JSON, or None after telling why not."""
    try:
        if held.member.size > MOST_ABOUT:
            raise ValueError(f"{held.member.size} bytes; wanted {MOST_ABOUT} at most")
        return parsed(held.data().decode())
    except (ValueError, DataError) as error:
        on_finding(
            Finding("unreadable_labels", held.name, str(error)[:200], detail=f"is not usable ({str(error)[:200]})")
        )
        return None


def _whole(held: Held, code: str, on_finding: OnFinding) -> bool:
    try:
        held.data()
    except DataError as error:
        on_finding(Finding(code, held.name, detail=str(error)))
        return False
    return True


def _mask(held: Held, categories: tuple[Category, ...], on_finding: OnFinding) -> Mask:
    """Raises DataError, naming shard and member, for a mask that cannot be used."""
    try:
        values = ids_of(held.data(), f"{held.shard}: {held.member.name}")
    except DataError as error:
        on_finding(Finding("unreadable_mask", held.name, detail=str(error)))
        raise
    return checked_ids(values, categories, on_finding, file=held.name)


def ids_of(data: bytes, name: str) -> np.ndarray:
    """The values of a mask from its PNG bytes, (h, w) uint8 or uint16. Raises DataError with the name."""
    PIL_Image = need("PIL.Image", "data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL_Image.open(io.BytesIO(data), formats=("PNG",)) as opened:
                if opened.width * opened.height > MAX_PIXELS:
                    raise TooManyPixels(f"{name} has more pixels than are safe to open")
                opened.load()
                if opened.mode not in ("L", "P", "1") and not opened.mode.startswith("I"):
                    raise DataError(f"{name} is a mask of mode {opened.mode}; wanted label ids")
                values = np.array(opened)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise DataError(f"{name} cannot be read as a mask ({error})") from error
    if values.dtype not in (np.uint8, np.uint16):
        if values.size and (int(values.min()) < 0 or int(values.max()) > 65535):
            raise DataError(f"{name} holds values that no class can have")
        values = values.astype(np.uint8 if values.dtype == bool else np.uint16)
    return values


def write(dataset: Dataset, writer: Writer) -> None:
    """Write images (their bytes where they are files, else PNG), masks, classes of images and attributes as shards."""
    shard = _Shard(writer)
    for i, sample in enumerate(dataset):
        data, kind = _image(sample)
        about: dict[str, Any] = {"name": str(PurePosixPath(sample.name or f"{i:08d}")), "image": kind}
        about |= {what: value for what in _TEXTS if (value := getattr(sample, what)) is not None}
        about |= {} if sample.frame is None else {"frame": sample.frame}
        about |= {} if sample.size_wh is None else {"size_wh": list(sample.size_wh)}
        about |= {"attributes": dict(sample.attributes)} if sample.attributes else {}
        parts = {kind: data}
        if sample.mask is not None:
            held = io.BytesIO()
            png_of(stored(sample.mask(), dataset.categories, sample.name), dataset.categories).save(held, format="PNG")
            parts[MASK] = held.getvalue()
        try:
            parts[ABOUT] = json.dumps(about, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            raise DataError(f"{sample.path} ({sample.name!r}) has attributes that are no JSON ({error})") from error
        shard.add(f"{i:08d}", parts)
    shard.end()
    write_labels(writer, dataset.categories, ignore=65535 if any(c.id >= 255 for c in dataset.categories) else 255)
    try:
        text = to_json({"schema_version": 1, "shards": shard.number, "info": dict(dataset.info)})
    except (ValueError, TypeError) as error:
        raise DataError(f"{dataset.root} says of itself what is no JSON ({error})") from error
    writer.text(WHOLE, text + "\n")


def _image(sample: Sample) -> tuple[bytes, str]:
    """An image's bytes and the kind of member it becomes: "jpg", or "image.SUFFIX", since "png" is the mask."""
    if isinstance(sample.pixels, Held):
        return sample.pixels.data(), sample.pixels.member.kind
    if sample.pixels is not None:
        held = io.BytesIO()
        need("PIL.Image", "data").fromarray(sample.pixels().rgb_u8).save(held, format="PNG", compress_level=1)
        return held.getvalue(), "image.png"
    suffix = sample.path.suffix.lower().lstrip(".")
    try:
        return sample.path.read_bytes(), IMAGE if suffix in ("jpg", "jpeg") else f"image.{suffix}"
    except OSError as error:
        raise DataError(f"{sample.path} cannot be read ({error.strerror or error})") from error


class _Shard:
    """The shards of write(), one after the other."""

    def __init__(self, writer: Writer) -> None:
        self.writer, self.number, self.size = writer, 0, 0
        self.frames: list[dict[str, str]] = []
        self.parts: list[bytes] = []

    def add(self, key: str, parts: Mapping[str, bytes]) -> None:
        part = shard_tar.section((f"{key}.{kind}", data) for kind, data in parts.items())
        if self.parts and (self.size + len(part) > BYTES or len(self.frames) >= SAMPLES):
            self.end()
        self.parts.append(part)
        self.size += len(part)
        self.frames.append({"key": key, **{kind: hashlib.sha256(data).hexdigest() for kind, data in parts.items()}})

    def end(self) -> None:
        if not self.parts and self.number:
            return
        data = b"".join([*self.parts, shard_tar.END])
        name = f"shard-{self.number:05d}"
        self.writer.path(f"{name}.tar").write_bytes(data)
        about = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self.writer.text(f"{name}.json", to_json({"schema_version": 1, **about, "frames": self.frames}) + "\n")
        self.number, self.size, self.frames, self.parts = self.number + 1, 0, [], []
