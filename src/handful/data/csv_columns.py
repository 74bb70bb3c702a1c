"""Which columns of a CSV file are a box, which is the class, and which ought not to be passed over in silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from itertools import product

from handful.data.csv_table import Table, cells, is_number
from handful.data.finding import Finding, OnFinding
from handful.data.paths import is_image_name

IMAGES = ("filename", "filepath", "imagepath", "imagename", "imagefilename", "imagefile", "imageid", "image", "img",
          "imgname", "imgpath", "imgid", "file", "path", "frame", "photo", "name", "id")  # fmt: skip
SPLITS = ("split", "dataset", "subset", "set", "partition", "fold")
NO_CLASSES = ("text", "caption", "description", "date", "time", "timestamp", "url", "width", "height", "size", "hash",
              "md5", "sha256", "license", "author", "usage", "comment", "index", "source")  # fmt: skip
TOGETHER = ("bbox", "box", "boundingbox")
CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"),
           ("x0", "y0", "x1", "y1"), ("minx", "miny", "maxx", "maxy"), ("startx", "starty", "endx", "endy"),
           ("xtl", "ytl", "xbr", "ybr"), ("xleft", "ytop", "xright", "ybottom"),
           ("xstart", "ystart", "xend", "yend"))  # fmt: skip
MIDDLES = (("xcenter", "ycenter"), ("centerx", "centery"), ("xcentre", "ycentre"), ("centrex", "centrey"),
           ("cx", "cy"), ("xc", "yc"), ("centroidx", "centroidy"), ("xmid", "ymid"), ("midx", "midy"))  # fmt: skip
STARTS = (("x", "y"), ("xmin", "ymin"), ("left", "top"), ("minx", "miny"), ("x1", "y1"), ("x0", "y0"),
          ("xtl", "ytl"), ("xleft", "ytop"), ("leftx", "topy"), ("topleftx", "toplefty"))  # fmt: skip
# an image's own width and height may stand beside a box's, so that the plain words come last
ACROSS = (("boxwidth", "boxheight"), ("boxw", "boxh"), ("bboxwidth", "bboxheight"), ("bboxw", "bboxh"),
          ("bw", "bh"), ("rectwidth", "rectheight"), ("w", "h"), ("width", "height"))  # fmt: skip
BEFORE = ("", "bbox", "box", "roi", "rect", "boundingbox")
CLASS_WORDS = re.compile(r".*(class|klass|clase|categor|kategor|label|species|breed|diagnos|defect|etiquet|etichett|"
                         r"etikett|objecttype|objectname)\w*|kind|typ|\w*type|art|sorte|tags?")  # fmt: skip
NOT_CLASS = re.compile(r"(image|img|file|annotation|bbox|box|shape|mime|media|data|source|region)type|"
                       r".*(by|date|time|source|url|path|status|version|score|confidence)|"
                       r".*(label|classifi|annotat|review)l?er|annotator|worker|user|camera|device|weather|city|country|"
                       r"location")  # fmt: skip
NO_CLASS = "has no column of classes"
A_FEW = 10  # rows: so few do not tell whether texts come again

Box = tuple[str, tuple[str, ...]]


def _named_boxes() -> Iterator[Box]:
    for before, names in product(BEFORE, CORNERS):
        yield "corners", tuple(before + name for name in names)
    for kind, pairs in (("centers", MIDDLES), ("sides", STARTS)):
        for before, (x, y), sides in product(BEFORE, pairs, ACROSS):
            yield kind, (before + x, before + y, *sides)


BOXES = tuple((kind, columns, frozenset(columns)) for kind, columns in _named_boxes())


def boxes_in(header: Sequence[str]) -> Box | None:
    """("corners", "sides", "centers" or "together", the columns), None when a header has no box that it names."""
    there = set(header)
    if {"x3", "y3"} <= there:  # the corners of an outline
        there -= {"x1", "y1"}
    for kind, columns, wanted in BOXES:
        if wanted <= there:
            return kind, columns
    found = [name for name in TOGETHER if name in header]
    return ("together", (found[0],)) if found else None


def _texts(rows: Sequence[Sequence[str]], column: int) -> list[str]:
    return [text for row in rows for text in cells(row, [column]) if text]


def _is_text(values: Sequence[str]) -> bool:
    """Whether a column holds words: not numbers only, not names of images, nothing in brackets."""
    return bool(values) and not (
        all(map(is_number, values)) or any(is_image_name(v) or v[0] in "[{" for v in values[:50])
    )


def sounds_like_class(name: str) -> bool:
    """Whether a column's name says that it holds classes: defect_type, Klasse, categoria, ..."""
    return CLASS_WORDS.fullmatch(name) is not None and NOT_CLASS.fullmatch(name) is None


def class_column(
    header: Sequence[str], rows: Sequence[Sequence[str]], names: Sequence[str], used: Set[int]
) -> int | None:
    """The column of classes: the first by these names that holds more than numbers, else the only one whose name
    sounds like it and that does, else the first of these names.
    """
    found = [header.index(name) for name in names if name in header and header.index(name) not in used]
    worded = next((i for i in found if not all(map(is_number, _texts(rows, i)))), None)
    if worded is not None:
        return worded
    like = [i for i, name in enumerate(header) if i not in used and sounds_like_class(name)]
    like = [i for i in like if _is_text(_texts(rows, i))]
    return like[0] if len(like) == 1 else found[0] if found else None


def unused_words(header: Sequence[str], rows: Sequence[Sequence[str]], label: int | None, used: Set[int]) -> list[int]:
    """The columns of text that may be the classes of a file whose class column holds numbers, or that has none.

    Beside numbers those that name each number, or that sound like it; without a class column all whose texts come
    again.
    """
    known = {*IMAGES, *SPLITS, *NO_CLASSES}
    numbers = [] if label is None else _texts(rows, label)
    if label is not None and not all(map(is_number, numbers)):
        return []
    found: list[int] = []
    for i, name in enumerate(header):
        texts = _texts(rows, i) if i not in used and i != label and name not in known else []
        if not _is_text(texts) or NOT_CLASS.fullmatch(name):
            continue
        pairs = {pair for row in rows if all(pair := tuple(cells(row, [label, i])))} if label is not None else set()
        again = len(set(texts)) * 2 <= len(texts)
        if label is None:
            held = again or len(texts) < A_FEW
        else:  # each number has a name of its own
            held = again and 1 < len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        if held or sounds_like_class(name):
            found.append(i)
    return found


def tell_words(held: Table, label: int | None, used: Set[int], file: str, on_finding: OnFinding) -> bool:
    """Whether a file has text that is not used and may be its classes (unused_words); told, since it cannot be read."""
    found = unused_words(held.header, held.rows, label, used)
    if not found:
        return False
    titles = [held.titles[i] for i in found]
    named = " or ".join(repr(title) for title in titles[:5])
    got = f"{NO_CLASS} that is known" if label is None else f"has numbers as {held.titles[label]!r}"
    detail = (
        f"{got}, and text in the {'column' if len(found) == 1 else 'columns'} {named}, which may be the classes; call "
        f"the column of the classes class, or take {'the others' if len(found) > 1 else 'it'} away"
    )
    on_finding(Finding("unread_labels", file, titles[:20], len(found), detail))
    return True


def unused_numbers(header: Sequence[str], rows: Sequence[Sequence[str]], used: Set[int]) -> list[int]:
    """The columns of numbers that were not used and whose names speak of places: x and y, box_left, bw and bh, ..."""
    there = Counter(header)
    found = []
    for i, name in enumerate(header):
        twins = [name[:k] + {"x": "y", "y": "x", "w": "h", "h": "w"}[c] + name[k + 1 :]
                 for k, c in enumerate(name) if c in "xywh"]  # fmt: skip
        places = any(there[twin] for twin in twins) or re.match(r"b?box|xm(in|ax)|ym(in|ax)", name)
        texts = _texts(rows, i) if i not in used and places else []
        if texts and all(map(is_number, texts)):
            found.append(i)
    return found
