"""A video file, frame by frame: upright RGB, and told apart whether it ended or broke off. Written again as H.264."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from handful.arrays import U8
from handful.errors import DataError
from handful.files import replacing
from handful.pick import need
from handful.words import counted

SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".3gp", ".wmv", ".ts", ".mts"))
FPS = Fraction(25)  # of a video that does not say
BEFORE = "what came before is answered"
SLACK_S = 1.0  # sound may go on for a moment after the last frame


@dataclass
class Video:
    """A video file that is being read. count: frames the file promises, duration_s: how long it says it is; 0 if
    it does not say. why: what ended it early,
    "" while nothing has. Raises DataError for what is no video, MissingPackage without PyAV."""

    path: Path
    fps: Fraction = FPS
    count: int = 0
    duration_s: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        av = need("av", "video")
        try:
            with av.open(str(self.path)) as held:
                stream = held.streams.video[0]
                self.fps, self.count = Fraction(stream.average_rate or FPS), int(stream.frames)
                self.duration_s = float(held.duration or 0) / av.time_base
        except FileNotFoundError:
            raise DataError(f"{self.path} does not exist; wanted a video there") from None
        except (av.error.FFmpegError, OSError, IndexError) as error:
            raise DataError(f"{self.path} cannot be read as a video ({error}); replace it, or have its frames written "
                            "as images") from error  # fmt: skip

    def __iter__(self) -> Iterator[tuple[float, U8]]:
        """Seconds from the start, and the frame (h, w, 3) uint8 RGB, upright; until it ends or breaks off."""
        av, number, last_s = need("av", "video"), 0, 0.0
        try:
            with av.open(str(self.path)) as held:
                for frame in held.decode(video=0):
                    if frame.is_corrupt:  # a decoder makes up what is missing, which is nobody's image
                        self.why = (
                            f"{self.path} is damaged in frame {number}; the "
                            f"{counted(number, 'frame before is', 'frames before are')} answered"
                        )
                        return
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    rgb = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                    last_s = float(frame.time if frame.time is not None else number / self.fps)
                    yield last_s, rgb
                    number += 1
        except av.error.FFmpegError as error:
            self.why = f"{self.path} breaks off after {counted(number, 'frame')} ({error.strerror}); {BEFORE}"
            return
        if not number:
            self.why = self.why or f"{self.path} has no frame; wanted a video"
        elif number < self.count:
            self.why = f"{self.path} breaks off after {number} of its {counted(self.count, 'frame')}; {BEFORE}"
        elif not self.count and last_s + SLACK_S < self.duration_s:  # Matroska and WebM do not count frames
            lengths = f"{last_s:.1f} of its {self.duration_s:.1f} s"
            self.why = f"{self.path} breaks off after {lengths}, {counted(number, 'frame')}; {BEFORE}"


def write_video(frames: Iterable[U8], path: Path, fps: Fraction | int = FPS) -> None:
    """Write frames of one size, (h, w, 3) uint8 RGB, as an MP4 that every browser plays (H.264, 4:2:0); whole, or not
    at all when `frames` raises. An odd last row or column is cut off. Raises MissingPackage without PyAV."""
    av = need("av", "video")
    with replacing(path) as part, av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as out:
        stream = None
        for frame in frames:
            even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])  # 4:2:0 halves it
            if stream is None:
                stream = out.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
                stream.thread_count = 1  # more would give other bytes on other machines
            out.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is not None:
            out.mux(stream.encode(None))


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
