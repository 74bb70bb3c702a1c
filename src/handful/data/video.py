"""A video file, frame by frame: upright RGB, and told apart whether it ended or broke off. Written again as H.264."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
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
from handful.places import MARK
from handful.words import counted

SUFFIXES = frozenset((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".3gp", ".wmv", ".ts", ".mts"))
FPS = Fraction(25)  # of a video that does not say
BEFORE = "what came before is answered"
ATTACHED_PICTURE = 0x400  # FFmpeg's flag of a stream
SLACK_S = 1.0  # sound may go on for a moment after the last frame


@dataclass
class Video:
    """A video file that is being read. count: frames that a player shows of those the file promises, less what an edit
    list cuts away; duration_s: how long it says it is; 0 if it does not say. why: what ended it early, "" while
    nothing has. Raises DataError for what is no video, and for sound alone, MissingPackage without PyAV."""

    path: Path
    fps: Fraction = FPS
    count: int = 0
    duration_s: float = 0.0
    why: str = ""
    number: int = 0  # of the stream among those with pictures: one that only holds a cover is passed over
    start_s: float = 0.0  # where the file's own clock begins
    ticks: Fraction = FPS  # parts of a second that all times are multiples of; not fps where frames come unevenly

    def __post_init__(self) -> None:
        av = need("av", "video")
        try:
            with av.open(str(self.path)) as held:
                streams = held.streams.video
                moving = [i for i, one in enumerate(streams) if not _is_cover(one)]
                if not moving and (streams or held.streams.audio):
                    raise DataError(f"{self.path} has sound{' and a cover' if streams else ''}, and no moving picture; "
                                    "wanted a video")  # fmt: skip
                self.number = moving[0]
                stream = streams[self.number]
                self.fps, self.count = Fraction(stream.average_rate or FPS), _promised(stream, held.format.name)
                self.ticks = Fraction(stream.base_rate or self.fps)
                self.duration_s = float(held.duration or 0) / av.time_base
                self.start_s = max(float(held.start_time or 0) / av.time_base, 0.0)
        except FileNotFoundError:
            raise DataError(f"{self.path} does not exist; wanted a video there") from None
        except (av.error.FFmpegError, OSError, IndexError) as error:
            said = "no stream of pictures" if isinstance(error, IndexError) else error
            raise DataError(f"{self.path} cannot be read as a video ({said}); replace it, or have its frames written "
                            "as images") from error  # fmt: skip

    def __iter__(self) -> Iterator[tuple[float, U8]]:
        """Seconds from the start, and the frame (h, w, 3) uint8 RGB, turned and mirrored as a player shows it; until it
        ends or breaks off."""
        av, number, last_s = need("av", "video"), 0, 0.0
        try:
            with av.open(str(self.path)) as held:
                for frame in held.decode(video=self.number):
                    if frame.is_corrupt:  # a decoder makes up what is missing, which is nobody's image
                        said = f"; the {counted(number, 'frame before is', 'frames before are')} answered"
                        self.why = f"{self.path} is damaged in frame {number}{said if number else ', its first'}"
                        return
                    rgb = np.ascontiguousarray(shown(frame.to_ndarray(format="rgb24"), _matrix(frame)))
                    last_s = float(number / self.fps if frame.time is None else frame.time - self.start_s)
                    yield last_s, rgb
                    number += 1
        except av.error.FFmpegError as error:
            said = f"after {counted(number, 'frame')} ({error.strerror}); {BEFORE}"
            self.why = f"{self.path} breaks off {said if number else f'before its first frame ({error.strerror})'}"
            return
        if not number:
            self.why = self.why or f"{self.path} has no frame; wanted a video"
        elif number < self.count:
            self.why = f"{self.path} breaks off after {number} of its {counted(self.count, 'frame')}; {BEFORE}"
        elif not self.count and self._short(last_s):
            lengths = f"{last_s:.1f} of its {self.duration_s:.1f} s"
            self.why = f"{self.path} breaks off after {lengths}, {counted(number, 'frame')}; {BEFORE}"

    def _short(self, last_s: float) -> bool:
        """Whether a file that does not count its frames ends before its time. Matroska and WebM say how many bytes they
        have, so that a last image that stays, and sound that goes on, are no fault."""
        cut = matroska_cut(self.path)
        slack_s = SLACK_S if cut is None else float(2 / self.fps)
        return cut is not False and last_s + slack_s < self.duration_s


def _is_cover(stream: Any) -> bool:
    """Whether a stream is the picture that belongs to a piece of music, or a preview."""
    return bool(int(getattr(stream, "disposition", 0)) & ATTACHED_PICTURE)


def _promised(stream: Any, container: str) -> int:
    """The frames to come: an edit list (a clip cut without encoding it again) leaves out some that lie in the file."""
    entries = getattr(stream, "index_entries", None)  # PyAV before 16 does not tell them
    if not stream.frames or entries is None or "mov" not in container:
        return int(stream.frames)
    return sum(not entry.is_discard for entry in entries)


def matroska_cut(path: Path) -> bool | None:
    """Whether a Matroska or WebM file is shorter than it says; None where it does not say, and for other kinds."""
    with open(path, "rb") as file:
        head, size = file.read(4096), os.fstat(file.fileno()).st_size
    at = 0
    while at + 12 <= len(head):
        wide = 4 if head[at] >> 4 == 1 else 1 if head[at] >> 7 else 0  # of the ids that can stand here
        if not wide:
            return None
        name, first = head[at : at + wide], head[at + wide]
        length = 9 - first.bit_length()
        if length > 8 or (at == 0 and name != b"\x1aE\xdf\xa3"):
            return None
        raw = int.from_bytes(head[at + wide : at + wide + length], "big") & ((1 << 7 * length) - 1)
        at += wide + length
        if name == b"\x18S\x80g":
            return None if raw == (1 << 7 * length) - 1 else at + raw > size
        at += raw
    return None


def _matrix(frame: Any) -> tuple[int, int, int, int]:
    """How a frame is to be turned and mirrored: (a, b, c, d), a pixel (x, y) is shown at (ax + cy, bx + dy)."""
    for one in frame.side_data:
        if "DISPLAYMATRIX" in str(one.type):
            a, b, _, c, d = struct.unpack("=9i", bytes(one))[:5]
            return a, b, c, d
    return 1, 0, 0, 1


def shown(rgb: U8, matrix: tuple[int, int, int, int]) -> U8:
    """A frame as a player shows it, to the nearest quarter turn. rgb: (h, w, 3); matrix: see _matrix."""
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        rgb, across, down = rgb.transpose(1, 0, 2), c, b
    return rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def write_video(
    frames: Iterable[U8],
    path: Path,
    fps: Fraction | int = FPS,
    at: Callable[[], float] | None = None,
    ticks: Fraction | int = FPS,
    own: bool = False,
) -> None:
    """Write frames of one size, (h, w, 3) uint8 RGB, as an MP4 that every browser plays (H.264, 4:2:0); whole, or not
    at all when `frames` raises. An odd last row or column is cut off. at: when the frame is shown that came last, in
    seconds, for frames that come unevenly; rounded to `ticks` parts of a second. own: as in files.replacing. Raises
    MissingPackage without PyAV."""
    av = need("av", "video")
    last = -1
    with (
        replacing(path, own=own) as part,
        av.open(str(part), "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        out.metadata["comment"] = MARK
        stream = None
        for frame in frames:
            even = np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])  # 4:2:0 halves it
            if stream is None:
                stream = out.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = even.shape[0], even.shape[1], "yuv420p"
                stream.thread_count = 1  # more would give other bytes on other machines
                if at is not None:
                    stream.codec_context.time_base = 1 / Fraction(ticks)
            one = av.VideoFrame.from_ndarray(even, format="rgb24")
            if at is not None:
                last = max(round(at() * Fraction(ticks)), last + 1)
                one.pts, one.time_base = last, 1 / Fraction(ticks)
            out.mux(stream.encode(one))
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
