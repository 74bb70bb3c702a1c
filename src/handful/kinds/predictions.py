"""What a model says of images and videos of any number and length, one at a time: as rows of JSON, and drawn.

Into the folder OUT go, for each image, NAME.jpg with the answer drawn in, and of a segmenter masks/NAME.png, the label
ids as a palette PNG; for each video NAME.mp4; and results.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from handful import places
from handful.arrays import U8
from handful.data.masks import png_of
from handful.data.own_files import is_drawn
from handful.data.video import SUFFIXES as VIDEOS
from handful.data.video import Video, patient, write_video
from handful.errors import DataError, HandfulError
from handful.files import replacing, write_json
from handful.image import HEIC_SUFFIXES, SUFFIXES
from handful.kinds import registry
from handful.kinds.contract import Model
from handful.pick import need
from handful.places import MARK
from handful.progress import note, track
from handful.results import Classification, Detections, Result, Segmentation
from handful.words import counted

KNOWN = SUFFIXES | HEIC_SUFFIXES | VIDEOS
RESULTS, MASKS = "results.json", "masks"
QUALITY = 90  # of the JPEGs
EXPLAINED_BY = 3  # taught boxes beside each that is found

Row = dict[str, Any]
OnRow = Callable[[Row], None]
OnFailed = Callable[[Row], None]


def sources(paths: Sequence[Path], out: Path | None, on_failed: OnFailed) -> list[Path]:
    """The images and videos that paths and folders stand for, in order, but what lies in a folder `out`, and what
    handful drew itself. What is not there, and a folder with nothing to ask about, goes to on_failed."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            try:
                registry.no_model(path)  # its curves and its page are no images to ask about
            except DataError as error:
                on_failed({"source": str(path), "error": str(error)})
                continue
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in KNOWN and p.is_file())
            below = [p for p in below if out is None or out == path or out not in p.parents]
            asked = [p for p in below if not _is_drawn(p)]
            drawn = ", but what handful drew" if len(asked) < len(below) else ""
            below, why = asked, f"has no images or videos in or below it{drawn}; wanted at least one"
        else:
            below = [path] if path.exists() else []
            why = "does not exist; wanted an image, a video or a folder there"
        found += below
        if not below:
            on_failed({"source": str(path), "error": f"{path} {why}"})
    return found


def _is_drawn(path: Path) -> bool:
    if path.suffix.lower() in VIDEOS:
        return places.ours(path)
    return is_drawn(str(path.parent), path.name, masks=path.parent.name == MASKS)


class Names:
    """Names for what is written: the image's own stem, and a number where another image had it already, or a file that
    no earlier prediction wrote."""

    def __init__(self, out: Path | None = None) -> None:
        self._taken: set[str] = set() if out is None else {path.stem.casefold() for path in others(out)}

    def __call__(self, path: Path) -> str:
        """A name that no other path was given, however upper and lower case are treated."""
        name, number = path.stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{path.stem}-{number}"
        self._taken.add(name.casefold())
        return name


def others(out: Path) -> list[Path]:
    """What lies in a folder of predictions and was not written by one. A picture says so itself, whatever became of the
    run; its name says nothing, since a user may have put another file, or a link to one, there."""
    if not out.is_dir():
        return []
    found = [*out.iterdir(), *((out / MASKS).iterdir() if (out / MASKS).is_dir() else ())]
    return [path for path in found if path.name not in {RESULTS, MASKS} and not _all_ours(path)]


def _all_ours(path: Path) -> bool:
    if path.is_dir():
        return all(places.ours(one) for one in path.rglob("*") if one.is_file())
    return places.ours(path)


def predict_to(
    model: Model[Any], paths: Sequence[Path], out: Path | None = None, *, failed: Sequence[Row] = (),
    options: Mapping[str, Any] | None = None, top: int | None = None, explainer: Any = None,
    on_row: OnRow = lambda row: None, on_failed: OnFailed = lambda row: None,
) -> Row:  # fmt: skip
    """Ask a model about images and videos, and write what it said into the folder `out`, if one is given.

    paths: as `sources` gives them. failed: what could not be asked already, for the record. options: of the model's
    `stream`. top: only the scores of so many classes. explainer: the taught detector that names, with each box, the
    taught boxes it is most like. on_row, on_failed: called with each answer, and each image that cannot be read, as
    they come.

    Returns the object that results.json holds: "results", a row an image or frame; "videos", a row each; "failed", a
    row for each that could not be read, or not to its end; "status", "complete" or "stopped" (by Ctrl-C, which ends a
    video early and keeps what was done). Raises DataError where `out` is the folder of an image that is asked about, or
    cannot be written.
    """
    options = dict(options or {})
    if out is not None:
        inside(out, paths)
    run = _Run(model, out, options, top, explainer, on_row, on_failed, list(failed))
    with patient() as asked:
        alone = len(paths) == 1
        for path in paths if alone else track(paths, "asking", len(paths)):
            if path.suffix.lower() in VIDEOS:
                run.video(path, asked, alone)
            else:
                run.image(path)
            if asked.is_set():
                note(f"stopped after {counted(len(run.rows), 'answer')}; what was answered is kept")
                break
    result: Row = {
        "schema_version": 1, "model": str(model.folder or ""), "kind": model.kind, "task": model.task,
        "runtime": model.runtime, "classes": list(model.classes), "options": effective(model, options),
        "results": run.rows, "videos": run.videos, "failed": run.failed,
        "status": "stopped" if asked.is_set() else "complete",
    }  # fmt: skip
    if out is not None:
        write_json(out / RESULTS, result)
    return result


def inside(out: Path, paths: Sequence[Path], folders: Sequence[Path] = ()) -> None:
    """Raises DataError where what is written could lie over an image that is asked about, or among the images of a
    folder that is asked about."""
    for folder in folders:
        if folder.is_dir() and folder.resolve() == out.resolve():
            raise DataError(f"{out} is the folder of images that is asked about; choose another --out")
    places = {out.resolve(), out.resolve() / MASKS}
    for path in paths:
        if path.resolve().parent in places:
            raise DataError(f"{out} is the folder of {path}, which could be overwritten; choose another --out")


def effective(model: Model[Any], options: Mapping[str, Any]) -> Row:
    """The options of a call as they took effect: those that were given, and else the model's own."""
    known = sorted(registry.options(type(model), "stream"))
    own = {name: options.get(name, getattr(model, name, None)) for name in known}
    return {name: value for name, value in own.items() if value is not None}


class _Run:
    def __init__(
        self, model: Model[Any], out: Path | None, options: Mapping[str, Any], top: int | None, explainer: Any,
        on_row: OnRow, on_failed: OnFailed, failed: list[Row],
    ) -> None:  # fmt: skip
        self.model, self.out, self.options, self.top, self.explainer = model, out, options, top, explainer
        self.on_row, self.on_failed, self.names = on_row, on_failed, Names(out)
        self.rows: list[Row] = []
        self.videos: list[Row] = []
        self.failed = failed

    def image(self, path: Path) -> None:
        """One image, drawn."""
        for result in self.model.stream(path, on_error=self._error, **self.options):
            written: Row = {}
            if self.out is not None:
                name = self.names(path)
                written["picture"] = str(self.out / f"{name}.jpg")
                with replacing(self.out / f"{name}.jpg", own=True) as part:  # Names knows what is ours
                    pillow().fromarray(result.plot()).save(part, format="JPEG", quality=QUALITY, comment=MARK)
                written |= self._mask(result, Path(MASKS) / f"{name}.png")
            self._row(result, written)

    def video(self, path: Path, asked: Event, alone: bool) -> None:
        """Every frame of a video, drawn into another; what was answered is kept however it ends."""
        try:
            opened = Video(path)
        except HandfulError as error:
            self._error(str(path), error)
            return
        before, name, broken = len(self.failed), self.names(path), ""
        frames = self._frames(path, name, asked, opened.count or None, alone)
        first = next(frames, None)
        if first is not None and self.out is not None:
            even = opened.ticks == opened.fps
            at = None if even else lambda: float(self.rows[-1]["time_s"])
            write_video(_again(first, frames), self.out / f"{name}.mp4", opened.fps, at, opened.ticks, True)
        elif first is not None:
            for _ in frames:
                pass
        if len(self.failed) > before:
            broken = str(self.failed[-1]["error"])
        count = sum(row["source"] == str(path) for row in self.rows)
        told: Row = {
            "source": str(path), "frames": count, "fps": float(opened.fps),
            "status": "failed" if broken else "stopped" if asked.is_set() else "complete", "error": broken or None,
        }  # fmt: skip
        if self.out is not None and first is not None:
            told["video"] = str(self.out / f"{name}.mp4")
        self.videos.append(told)

    def _frames(self, path: Path, name: str, asked: Event, count: int | None, alone: bool) -> Iterator[U8]:
        found = self.model.stream(path, on_error=self._error, **self.options)
        for number, result in enumerate(track(found, "watching", count) if alone else found):
            written = self._mask(result, Path(MASKS) / name / f"{number:05d}.png")
            drawn = result.plot() if self.out is not None else np.zeros((0, 0, 3), np.uint8)
            self._row(result, written)
            yield drawn
            if asked.is_set():
                return

    def _mask(self, result: Result, name: Path) -> Row:
        if self.out is None or not isinstance(result, Segmentation):
            return {}
        with replacing(self.out / name, own=True) as part:
            said = need("PIL.PngImagePlugin", "data").PngInfo()
            said.add_text("Software", MARK)
            png_of(result.ids).save(part, format="PNG", pnginfo=said)
        return {"mask": str(self.out / name)}

    def _row(self, result: Result, written: Row) -> None:
        row: Row = result.to_json(top=self.top) if isinstance(result, Classification) else result.to_json()  # type: ignore[assignment]
        if self.explainer is not None and isinstance(result, Detections):
            for i, found in enumerate(row["found"]):
                found["like"] = self.explainer.explain(result, i, EXPLAINED_BY)
        row |= written
        self.rows.append(row)
        self.on_row(row)

    def _error(self, name: str, error: HandfulError) -> None:
        self.failed.append({"source": name, "error": str(error)})
        self.on_failed(self.failed[-1])


def _again(first: U8, rest: Iterator[U8]) -> Iterator[U8]:
    yield first
    yield from rest


def pillow() -> Any:
    """Pillow's module of images. Raises MissingPackage."""
    return need("PIL.Image", "data")
