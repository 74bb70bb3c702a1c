"""Layouts of data sets out of public bug reports, made again with pictures of our own, and what has to come of each.

`python -m tests.data.reports` prints docs/bug-reports.md, which a test holds against this list.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PIL_Image

from tests.data.layouts import SIZE, STORED, Maker

HUB = "https://github.com/"
BOX = (24.0, 18.0, 72.0, 54.0)  # of the 96 x 72 px
YOLO = "0 0.5 0.5 0.5 0.5\n"
MUG = {"a": [("mug", BOX)]}
Files = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """One public report.

    url: below https://github.com/. about: what was reported. files: {name: text, bytes or what JSON holds}. reads:
    {stem of an image: its (class, box in px) in any order}; None where it need not be read. pixels: of each class.
    labels: the class of each image. errors, others: codes of the errors there must be, and of warnings and notes that
    must be among those told. format: as what it is read.
    """

    name: str
    url: str
    about: str
    files: Callable[[], Files]
    format: str = ""
    reads: Mapping[str, Sequence[tuple[str, tuple[float, ...]]]] | None = None
    pixels: Mapping[str, int] | None = None
    labels: Mapping[str, str] | None = None
    errors: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    refused: str = ""
    says: str = field(default="")

    @property
    def verdict(self) -> str:
        """What handful does, for the table."""
        if self.refused:
            return f"refused: {self.says or self.refused}"
        if self.errors:
            return f"error `{'`, `'.join(sorted(self.errors))}`" + (f": {self.says}" if self.says else "")
        told = f" (told: `{'`, `'.join(sorted(self.others))}`)" if self.others else ""
        return "read" + (f": {self.says}" if self.says else "") + told


# --- what they are made of -------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def picture(seed: int = 0, kind: str = "jpg", exif: int = 0) -> bytes:
    """A photograph, 96 x 72 px; exif: its orientation."""
    with tempfile.TemporaryDirectory() as folder:
        Maker(seed, Path(folder)).photo(f"x.{kind}")
        if not exif:
            return Path(folder, f"x.{kind}").read_bytes()
        tags = PIL_Image.Exif()
        tags[0x0112] = exif
        held = BytesIO()
        PIL_Image.open(Path(folder, f"x.{kind}")).save(held, format="JPEG", exif=tags)
        return held.getvalue()


def photos(*names: str) -> dict[str, bytes]:
    """Different photographs of these names."""
    return {name: picture(i, name.rpartition(".")[2].lower().replace("jpeg", "jpg")) for i, name in enumerate(names)}


def areas() -> np.ndarray:
    """(72, 96) ids: 0, and 1 in BOX."""
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[18:54, 24:72] = 1
    return ids


def png(values: np.ndarray, kind: str = "PNG", palette: Sequence[int] = ()) -> bytes:
    """An array as a picture."""
    held = BytesIO()
    shown = PIL_Image.fromarray(values)
    if palette:
        shown = PIL_Image.fromarray(values, "P")
        shown.putpalette(list(palette))
    shown.save(held, format=kind)
    return held.getvalue()


def soft() -> bytes:
    """A mask with soft edges."""
    held = BytesIO()
    STORED["soft"][0](areas()).save(held, format="PNG")
    return held.getvalue()


def rgb(ids: np.ndarray, *colors: tuple[int, int, int]) -> np.ndarray:
    """Ids as colors."""
    return np.array(colors, np.uint8)[ids]


def voc(body: str, filename: str = "a.jpg", size: str = "", head: str = "") -> str:
    """A VOC file. body: its objects."""
    size = size or "<size><width>96</width><height>72</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>{filename}</filename>{size}{body}</annotation>"


def thing(box: str, name: str = "mug") -> str:
    """An object of a VOC file."""
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def corners(*xyxy: Any) -> str:
    """The corners of a VOC object."""
    return "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True))


XML = thing(corners(25, 19, 72, 54))


def coco(
    names: Sequence[str] = ("a.jpg",), rows: Sequence[Mapping[str, Any]] = ({},), classes: Any = None, **more: Any
) -> dict[str, Any]:
    """A COCO file; rows: what is otherwise than usual in each annotation."""
    usual = {"image_id": 1, "category_id": 1, "bbox": [24, 18, 48, 36], "area": 1728, "iscrowd": 0}
    images = [{"id": i, "file_name": name, "width": 96, "height": 72} for i, name in enumerate(names, 1)]
    return {"images": images, "annotations": [{"id": i, **usual, **row} for i, row in enumerate(rows, 1)],
            "categories": [{"id": 1, "name": "mug"}] if classes is None else classes, **more}  # fmt: skip


def labelme(*shapes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A LabelMe file about a.jpg."""
    return {"version": "5.0.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg", "imageData": None,
            "imageHeight": 72, "imageWidth": 96, **more}  # fmt: skip


def shape(points: Any, kind: str = "polygon", label: str = "mug") -> dict[str, Any]:
    """One of its shapes."""
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}


POLYGON = [[24, 18], [72, 18], [72, 54], [24, 54]]
OUTLINE = {"name": "polygon", "all_points_x": [24, 72, 72, 24], "all_points_y": [18, 18, 54, 54]}


def via(regions: Any, name: str = "a.jpg") -> dict[str, Any]:
    """A VIA file."""
    return {f"{name}1": {"filename": name, "size": 1, "file_attributes": {}, "regions": regions}}


def yolo(rows: str = YOLO, yaml: str = "train: images\nval: images\nnames: [mug]\n", **more: Any) -> dict[str, Any]:
    """A YOLO set of one photograph."""
    return {"data.yaml": yaml, "images/a.jpg": picture(), "labels/a.txt": rows, **more}


def cvat(body: str) -> str:
    """A file of CVAT for images."""
    image = f'<image id="0" name="a.jpg" width="96" height="72">{body}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{image}</annotations>'


def beside(mask: bytes, name: str = "masks/{}.png", n: int = 3, **more: Any) -> dict[str, Any]:
    """Photographs with the same mask each."""
    found = {f"images/{i}.jpg": picture(i) for i in range(n)}
    return {**found, **{name.format(i): mask for i in range(n)}, **more}


def write(place: Path, files: Files) -> Path:
    """Lay a report's files out."""
    for name, held in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if held is None:
            path.mkdir()
        else:
            text = held if isinstance(held, (str, bytes)) else json.dumps(held)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return place


def codes(*names: str) -> frozenset[str]:
    """Codes of findings."""
    return frozenset(names)


THREE = {"background": 3 * (96 * 72 - 1728), "foreground": 3 * 1728}


INTRO = """\
# Public bug reports, tried

Layouts out of public reports about data sets and the tools that make and read them. Each was made
again with pictures of our own (`tests/data/report_cases.py`) and goes through
`handful data check`: it is read right, or what is wrong with it is told by its code
([data](data.md#check)). `tests/data/test_reports.py` runs every row. Made by
`python -m tests.data.reports`.

| report | what it is | what handful does | test |
|---|---|---|---|
"""


def page(reports: Sequence[Report]) -> str:
    """docs/bug-reports.md."""
    rows = [f"| [{r.url}]({HUB}{r.url}) | {r.about.replace('|', '/')} | {r.verdict} | `{r.name}` |" for r in reports]
    return INTRO + "\n".join(rows) + "\n"


if __name__ == "__main__":
    from tests.data.report_cases import REPORTS

    sys.stdout.write(page(REPORTS))
