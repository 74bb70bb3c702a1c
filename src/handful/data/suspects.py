"""Files that look like labels: JSON, XML, CSV and text beside photographs, told from what a project also has around.

For whoever did not read them: a folder with such files in it is not fit before somebody has said what they are.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from handful import running
from handful.data.class_lists import is_class_list
from handful.data.finding import Finding, OnFinding
from handful.data.ledger import UNREAD, note
from handful.data.paths import is_leftover
from handful.words import counted

HEAD = 1 << 16  # bytes of a file that are looked at
LINES = 200
ABOUT = re.compile(r"(?i)(readme|licen[cs]e|copying|notice|attribution|dataset|citation|changelog|requirements|"
                   r"sources?|credits)\b.*|.*\.md$|.*\.rst$|.*\.bib$|thumbs\.db$|desktop\.ini$")  # fmt: skip
TABLES = frozenset((
    ".mat", ".npy", ".npz", ".parquet", ".arrow", ".feather", ".tfrecord", ".tfrecords", ".record", ".h5", ".hdf5",
    ".pkl", ".pickle", ".xlsx", ".xls", ".lmdb", ".rec", ".pb", ".pts", ".dcm", ".nii",
))  # fmt: skip
TEXTS = frozenset((".txt", ".csv", ".tsv", ".lst", ".list", ".names", ".labels", ".data", ".yaml", ".yml"))
JSON_WORDS = re.compile(
    rb'"(annotations?|images?|imagePath|image_?id|file_?names?|filename|shapes|regions|objects?|labels?|bbox|bboxes|'
    rb"bounding_?box(es)?|bndbox|segmentation|polygons?|points|keypoints|categor(y|ies)|category_id|class(es|Title|_name|"
    rb'_id|Id)?|tags|masks?|rle|samples|completions|frames|_via_img_metadata|file_attributes|data_path|info_boxes)"\s*:'
)
# a photo service's sidecar, a program's own files, ours
NOT_LABELS = re.compile(rb'"(photoTakenTime|geoDataExif|devDependencies|compilerOptions|schema_version|cells)"\s*:')
XML_WORDS = re.compile(rb"<(annotations?|object|bndbox|box|polygon|polyline|points|image|track|dataset|data|mask)[\s>]")
HEADER = re.compile(r"(?i)^\W*(image|img|file|photo|path|id|label|class|category|filename|image_?id|image_?name|"
                    r"xmin|x1|bbox|encodedpixels|rle|region|name)\w*\W*$")  # fmt: skip
YAML = re.compile(r"(?m)^\s*(names|nc|train|val|classes|path)\s*:")


class Suspects:
    """What of the files that a reader passed over looks like labels, of a folder whose photographs are known."""

    def __init__(self, folder: Path, images: Iterable[str]) -> None:
        """images: the photographs' paths, relative to the folder."""
        self.folder = Path(folder)
        self.files: set[str] = set()
        self.stems: set[str] = set()
        for name in images:
            file = PurePosixPath(name).name
            self.files.add(file)
            self.stems.add(os.path.splitext(file)[0])
        self.dirs = {str(PurePosixPath(name).parent) for name in images}
        self.folders = {part for name in self.dirs for part in PurePosixPath(name).parts}

    def why(self, name: str) -> str | None:
        """What makes a file look like labels, in a few words; None where it does not."""
        file = PurePosixPath(name).name
        suffix = PurePosixPath(name).suffix.lower()
        if ABOUT.fullmatch(file) or is_leftover(name):
            return None
        if suffix in TABLES:
            return "holds arrays or tables, which are not read"
        head = self._head(name)
        if head is None:
            return None
        if suffix in (".json", ".jsonl", ".ndjson", ".geojson"):
            if JSON_WORDS.search(head) and not NOT_LABELS.search(head):
                return "is JSON that speaks of images, classes or shapes"
            own = self._is_named_like_one(file) and not NOT_LABELS.search(head)
            return "is JSON named like an image" if own else None
        if suffix == ".xml":
            named = self._is_named_like_one(file)
            if XML_WORDS.search(head):
                return "is XML with annotations in it"
            return "is XML named like an image" if named else None
        if suffix in TEXTS:
            return self._text(name, file, suffix, head)
        return None

    def _head(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            if not path.is_file():
                return None
            with open(path, "rb") as opened:
                head = opened.read(HEAD)
                utf16 = head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
                return head.decode("utf-16", "ignore").encode("utf-8", "ignore") if utf16 else head
        except OSError:
            return b""

    def _is_named_like_one(self, file: str) -> bool:
        return os.path.splitext(file)[0] in self.stems or os.path.splitext(file)[0] in self.files

    def _text(self, name: str, file: str, suffix: str, head: bytes) -> str | None:
        if self._is_named_like_one(file):
            return "is text named like an image"
        text = head.decode("utf-8-sig", errors="replace")
        lines = text.splitlines()[:LINES]
        if suffix in (".yaml", ".yml"):
            return "is YAML that names classes or splits" if len(YAML.findall(text)) > 1 else None
        cells = re.split(r"[,;\t]", lines[0]) if lines else []
        if suffix in (".csv", ".tsv") and len(lines) > 1 and sum(bool(HEADER.match(cell)) for cell in cells) >= 2:
            return "is a table of images, classes or boxes"
        words = {word for line in lines for word in re.split(r"[\s,;|\t]+", line.strip().strip('"')) if word}
        last = {re.split(r"[\\/]", word.strip('"'))[-1] for word in words}
        if last & self.files or len(last & self.stems) > max(1, len(lines) // 4):
            return "names images that are there"
        if suffix in (".csv", ".tsv") and len(lines) < 2:
            return None  # a head alone
        if is_class_list(file) and not self._says_what_folders_say(lines):
            return "is called like a list of classes"
        return None

    def _says_what_folders_say(self, lines: list[str]) -> bool:
        return {line.strip().split(",")[-1].strip() for line in lines if line.strip()} <= self.folders


def report_unread(folder: Path, found: Mapping[str, str], on_finding: OnFinding, hint: str | None = None) -> None:
    """Tell files that look like labels and were not read: one finding for each reason and kind of file, with its count
    and the first three. found: {file, relative to the folder: why}. hint: what to do."""
    if hint is None:
        hint = "say what they are with --format, or " if running.has("--format") else ""
        hint += "move them away if they are no labels"
    for name in found:
        note(folder / name, UNREAD)
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, why in sorted(found.items()):
        kinds.setdefault((why, PurePosixPath(name).suffix.lower()), []).append(name)
    for (why, suffix), names in kinds.items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        said = (
            f"{why}, and was not read"
            if len(names) == 1
            else f"{counted(len(names), f'{suffix} file')} were not read ({few}): each {why}"
        )
        detail = said + (f"; {hint}" if hint else "")
        on_finding(Finding("unread_labels", names[0] if len(names) == 1 else ".", names[:20], len(names), detail))
