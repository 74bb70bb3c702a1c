"""A film, frame by frame: what was found in each, drawn and told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from handful.detection.draw import painted
from handful.detection.irene import Irene
from handful.errors import DataError
from handful.files import write_json
from handful.pick import need
from handful.progress import note, track

FPS = Fraction(25)  # of a film that does not say


@dataclass
class Film:
    """A film that is being read. count: frames the file promises, 0 if it does not say. why: what ended it early, ""
    while nothing has."""

    path: Path
    fps: Fraction = FPS
    count: int = 0
    why: str = ""

    def __post_init__(self) -> None:
        av = need("av", "detect")
        try:
            with av.open(str(self.path)) as held:
                stream = held.streams.video[0]
                self.fps, self.count = Fraction(stream.average_rate or FPS), int(stream.frames)
        except FileNotFoundError:
            raise DataError(f"{self.path} does not exist; wanted a film there") from None
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise DataError(f"{self.path} cannot be read as a film ({error}); replace it, or have its frames written "
                            "as images") from error  # fmt: skip

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        """Seconds from the start, and the frame (h, w, 3) uint8 RGB, upright; until it ends or breaks off."""
        av, number = need("av", "detect"), 0
        try:
            with av.open(str(self.path)) as held:
                for frame in held.decode(video=0):
                    if frame.is_corrupt:  # a decoder makes up what is missing, which is nobody's image
                        self.why = f"{self.path} is damaged in frame {number}; the {number} frames before are answered"
                        return
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    rgb = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                    yield float(frame.time if frame.time is not None else number / self.fps), rgb
                    number += 1
        except av.error.FFmpegError as error:
            self.why = f"{self.path} breaks off after {number} frames ({error.strerror}); these are answered"
            return
        if number < self.count:
            self.why = f"{self.path} breaks off after {number} of its {self.count} frames; these are answered"


@contextmanager
def patient() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of interrupting; pressed again it interrupts. Only in the main thread."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def heard(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def watched(irene: Irene, path: Path, out: Path | None = None, *, explain: bool = False, **how: Any) -> dict[str, Any]:
    """What is in each frame of a film, as JSON; `how` as in Irene.select.

    out: a folder for film.mp4, with what was found drawn in, and detections.json; both are written however the film
    ended: "ended" is "whole", "broken" (and "why"), or "stopped" by Ctrl-C. Raises DataError for no film, or one
    without a frame.
    """
    film = Film(Path(path))
    rows: list[dict[str, Any]] = []
    with patient() as asked:

        def drawn() -> Iterator[np.ndarray]:
            for number, (seconds, rgb) in enumerate(track(film, "watching", film.count or None)):
                found = irene.detect(rgb, **how)
                told = found.rows()
                for i, row in enumerate(told if explain else []):
                    row["like"] = irene.explain(found, i, 3)
                rows.append({"frame": number, "time_s": seconds, "found": told})
                yield painted(rgb, found) if out is not None else rgb
                if asked.is_set():
                    note(f"stopped after {number + 1} frames, which are kept")
                    return
            if not rows:
                raise DataError(film.why or f"{path} has no frame; wanted a film")

        if out is None:
            for _ in drawn():
                pass
        else:
            from handful.lucid.preview import film as written

            written(drawn(), Path(out) / "film.mp4", film.fps)
        ended = "stopped" if asked.is_set() else "broken" if film.why else "whole"
        result = {"video": str(path), "frames": rows, "ended": ended, "why": film.why or None, "fps": float(film.fps)}
        if out is not None:
            write_json(Path(out) / "detections.json", result)
    return result
