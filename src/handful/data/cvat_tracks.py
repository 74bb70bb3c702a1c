"""CVAT's tracks: the shapes of each frame of a video, brought together with the images that are its frames."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from handful.data import cvat_rows
from handful.data.finding import Finding, OnFinding
from handful.data.json_labels import number, size_of, whole
from handful.data.listed import Row
from handful.data.marks import Mark, Said
from handful.data.paths import Shelf
from handful.data.reading import Few
from handful.data.video import SUFFIXES as VIDEOS

_NUMBER = re.compile(r"(\d{1,9})\.\w+$")
_MOST_FRAMES = 1 << 20


def frames_of(top: Element, shelf: Shelf, file: str, on_finding: OnFinding) -> Iterator[Row]:
    """A row for each frame of a file's tracks that is there as an image."""
    if top.find("track") is None:
        return
    few = Few(on_finding)
    size = size_of(*(_text(top, f"original_size/{side}") for side in ("width", "height")))
    marks: dict[int, list[Mark]] = defaultdict(list)
    for i, track in enumerate(top.iterfind("track"), 1):
        _track(track, i, size, marks, file, few)
    image_of = _images(top, shelf, file, marks, few)
    few.close()
    for frame, image in sorted(image_of.items()):
        held = marks.get(frame, [])
        yield Row(image, file, lambda tell, held=held: Said(held, size), beside=False)  # type: ignore[misc]


def _text(top: Element, path: str) -> str | None:
    return next((node.text for node in top.iterfind(f"meta//{path}")), None)


def _track(
    track: Element, number_: int, size: tuple[int, int] | None, marks: dict[int, list[Mark]], file: str, tell: OnFinding
) -> None:
    label, key = track.get("label") or "", whole(track.get("id"))
    key = number_ if key is None else key
    last: tuple[int, Element] | None = None
    shapes = [node for node in track if node.tag in cvat_rows.SHAPES]
    for node in sorted(shapes, key=lambda n: whole(n.get("frame")) or 0):
        frame = whole(node.get("frame"))
        what = f"track {key}, frame {frame}"
        if frame is None or not 0 <= frame < _MOST_FRAMES:
            said = str(node.get("frame"))[:30]
            tell(Finding("broken_label", file, said, detail=f"track {key} has a shape of the frame {said}"))
            continue
        if last is not None and frame - last[0] > 1:
            _between(last, (frame, node), label, key, size, marks, file, tell)
        last = None if node.get("outside") == "1" else (frame, node)
        if last is not None:
            mark = cvat_rows.mark_of(node, what, size, label=label)
            marks[frame].append(Mark(**{**mark.__dict__, "track": key}))


def _between(
    a: tuple[int, Element], b: tuple[int, Element], label: str, key: int, size: tuple[int, int] | None,
    marks: dict[int, list[Mark]], file: str, tell: OnFinding,
) -> None:  # fmt: skip
    """A box is drawn on a straight line between two of its frames; nothing else can be."""
    names = ("xtl", "ytl", "xbr", "ybr")
    ends = [[number(node.get(name)) for name in names] for _, node in (a, b)]
    boxes = a[1].tag == b[1].tag == "box" and not (a[1].get("rotation") or b[1].get("rotation"))
    if not boxes or None in ends[0] + ends[1]:
        detail = f"track {key} has no shape from frame {a[0] + 1} to {b[0] - 1}, and only boxes can be drawn in between"
        tell(Finding("broken_label", file, [a[0], b[0]], detail=detail))
        return
    for frame in range(a[0] + 1, b[0]):
        at = (frame - a[0]) / (b[0] - a[0])
        xyxy = [(x or 0.0) * (1 - at) + (y or 0.0) * at for x, y in zip(*ends, strict=True)]
        attributes = cvat_rows.attributes_of(a[1])
        marks[frame].append(Mark(label, f"track {key}, frame {frame}", xyxy, track=key, attributes=attributes))


def _images(top: Element, shelf: Shelf, file: str, marks: dict[int, list[Mark]], tell: OnFinding) -> dict[int, str]:
    """The image of each frame: by the number in its name, or by its place where there is an image for each frame."""
    images = sorted(shelf.images)
    numbers = {int(match[1]): image for image in images if (match := _NUMBER.search(posixpath.basename(image)))}
    frames = whole(_text(top, "size"))
    start = whole(_text(top, "start_frame")) or 0
    if len(numbers) == len(images) and numbers.keys() >= marks.keys():
        return numbers
    if frames == len(images) and all(start <= frame < start + frames for frame in marks):
        return {start + i: image for i, image in enumerate(images)}
    videos = [name for name in shelf.others if Path(name).suffix.lower() in VIDEOS]
    lost = sorted(marks.keys() - numbers.keys())
    do = f"ffmpeg -i {videos[0]} -start_number 0 images/frame_%06d.png" if videos else "export it with its images"
    detail = (
        f"has labels for frames of which there are no images ({', '.join(map(str, lost[:5]))}, ...); wanted them as "
        f"images/frame_000000.png, ...: {do}"
    )
    tell(Finding("missing_image", file, lost[:20], len(lost), detail))
    return {frame: numbers[frame] for frame in numbers if len(numbers) == len(images)} if len(lost) < len(marks) else {}
