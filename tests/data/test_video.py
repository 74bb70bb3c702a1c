"""Videos as phones, editors and recorders leave them: turned, mirrored, cut, uneven in time, without sound, broken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.data.sources import images_of
from handful.data.video import Video, matroska_cut, shown, write_video
from handful.errors import DataError

av = pytest.importorskip("av")
HIGH, WIDE = 48, 64


def scene(i: int, count: int = 40) -> np.ndarray:
    """A frame with one bright corner, and a gray that tells its number."""
    made = np.full((HIGH, WIDE, 3), 20 + 160 * i // count, np.uint8)
    made[:12, :20] = (250, 250, 20)
    return made


def number_of(rgb: np.ndarray, count: int = 40) -> int:
    return round((float(rgb[20:40, 30:50].mean()) - 20) * count / 160)


def film(
    path: Path, times: Sequence[int], *, codec: str = "libx264", pixels: str = "yuv420p", sound_s: float = 0.0,
    set_up: Callable[[Any], None] | None = None,
) -> Path:  # fmt: skip
    """times: of each frame, in tenths of a second. sound_s: how long its sound is, if it has any."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, pixels
        stream.codec_context.gop_size = 10
        if "264" in codec:
            stream.options = {"bf": "2", "crf": "10"}
        if set_up is not None:
            set_up(stream)
        sound = out.add_stream("aac" if path.suffix != ".webm" else "libopus", rate=48000) if sound_s else None
        for i, at in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(i), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            for k in range(int(sound_s * 50)):
                silent = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
                silent.rate, silent.pts = 48000, 960 * k
                out.mux(sound.encode(silent))
            out.mux(sound.encode(None))
    return path


def copied(source: Path, to: Path, start_s: float) -> Path:
    """The rest of a video from a time on, its packets as they are: what `ffmpeg -ss T -i A -c copy B` makes."""
    with av.open(str(source)) as held, av.open(str(to), "w") as out:
        stream = held.streams.video[0]
        copy, offset = out.add_stream_from_template(stream), int(start_s / stream.time_base)
        held.seek(offset, stream=stream)
        for packet in held.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copy
                out.mux(packet)
    return to


def read(path: Path) -> tuple[list[float], list[np.ndarray], str]:
    video = Video(path)
    found = list(video)
    return [at for at, _ in found], [rgb for _, rgb in found], video.why


# -- the right way up -------------------------------------------------------------------------------------------------

EIGHT = list(itertools.product((0, 90, 180, 270), (False, True)))


@pytest.mark.parametrize(("degrees", "mirrored"), EIGHT)
def test_it_is_seen_as_a_player_shows_it(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", range(3), set_up=lambda s: s.set_display_rotation(degrees, hflip=mirrored))
    want = np.rot90(scene(0), degrees // 90)  # against the clock, and mirrored after it
    want = np.fliplr(want) if mirrored else want
    first = read(path)[1][0]
    assert first.shape == want.shape and np.abs(first.astype(int) - want).mean() < 4


@pytest.mark.parametrize(("matrix", "turned"), [((2, 0, 0, 1), lambda a: a), ((-2, 0, 0, -1), lambda a: a[::-1, ::-1]),
                                                ((10, 2, -2, 10), lambda a: a)])  # fmt: skip
def test_a_matrix_that_stretches_or_leans_only_turns(matrix: Any, turned: Any) -> None:
    assert (shown(scene(0), matrix) == turned(scene(0))).all()


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_s", [0.55, 1.5, 2.05])
def test_a_clip_cut_without_encoding_is_whole(start_s: float, tmp_path: Path) -> None:
    path = copied(film(tmp_path / "a.mp4", range(40)), tmp_path / "b.mp4", start_s)
    with av.open(str(path)) as held:
        stored = held.streams.video[0].frames
    times, frames, why = read(path)
    first = int(np.ceil(start_s * 10 - 1e-6))
    assert why == "" and Video(path).count == len(frames) == 40 - first < stored
    assert [number_of(rgb) for rgb in frames] == list(range(first, 40))
    assert times[0] < 0.1 and np.allclose(np.diff(times), 0.1)
    assert len(list(images_of(path))) == 40 - first


def test_a_cut_clip_that_breaks_off_is_told(tmp_path: Path) -> None:
    path = copied(film(tmp_path / "a.mp4", range(40)), tmp_path / "b.mp4", 1.55)
    with av.open(str(path)) as held:
        ends = sorted(p.pos + p.size for p in held.demux(video=0) if p.size)
    data = path.read_bytes()
    bent = bytearray(data)
    bent[ends[-5] : ends[-1]] = bytes(ends[-1] - ends[-5])  # the index stays, the pixels are gone
    path.write_bytes(bent)
    _, frames, why = read(path)
    assert len(frames) < 24 and ("breaks off" in why or "is damaged" in why)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_frames_that_come_unevenly(suffix: str, tmp_path: Path) -> None:
    tenths = [0, 1, 2, 3, 30, 31, 50, 51, 52, 90]
    path = film(tmp_path / f"a{suffix}", tenths, codec="libvpx-vp9" if suffix == ".webm" else "libx264")
    times, frames, why = read(path)
    assert why == "" and times == pytest.approx([t / 10 for t in tenths], abs=0.002)
    assert [number_of(rgb) for rgb in frames] == list(range(10))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_sound_that_goes_on_is_no_fault(suffix: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"a{suffix}", range(8), codec="libvpx-vp9" if suffix == ".webm" else "libx264", sound_s=6)
    _, frames, why = read(path)
    assert len(frames) == 8 and why == "" and Video(path).duration_s > 5


def test_the_clock_begins_at_the_first_frame(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", range(12))  # MPEG-TS begins at 1.4 s
    times, frames, why = read(path)
    assert why == "" and len(frames) == 12 and times == pytest.approx([i / 10 for i in range(12)], abs=0.002)


# -- what is in it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_one_frame(suffix: str, tmp_path: Path) -> None:
    times, frames, why = read(film(tmp_path / f"a{suffix}", [0], codec="mpeg4" if suffix == ".avi" else "libx264"))
    assert times == [0.0] and len(frames) == 1 and why == "" and np.abs(frames[0].astype(int) - scene(0)).mean() < 4


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv420p10le"), ("libx265", "yuv420p10le"),
                                               ("libx264", "yuv444p")])  # fmt: skip
def test_ten_bits(codec: str, pixels: str, tmp_path: Path) -> None:
    _, frames, why = read(film(tmp_path / "a.mp4", range(6), codec=codec, pixels=pixels))
    assert why == "" and len(frames) == 6 and frames[0].dtype == np.uint8
    assert np.abs(frames[0].astype(int) - scene(0)).mean() < 4


@pytest.mark.parametrize("cover", [False, True])
def test_sound_alone_is_no_video(cover: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=48000)
        picture = out.add_stream("mjpeg", rate=1) if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = WIDE, HIGH, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            out.mux(picture.encode(av.VideoFrame.from_ndarray(scene(0), format="rgb24")))
            out.mux(picture.encode(None))
        for k in range(20):
            silent = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silent.rate, silent.pts = 48000, 1024 * k
            out.mux(sound.encode(silent))
        out.mux(sound.encode(None))
    with pytest.raises(DataError, match=r"a\.mp4 has sound.* no moving picture; wanted a video"):
        Video(path)


# -- ends -------------------------------------------------------------------------------------------------------------


def test_what_is_written_keeps_uneven_times(tmp_path: Path) -> None:
    tenths = [0, 1, 2, 30, 31, 50, 90]
    source = Video(film(tmp_path / "a.mp4", tenths))
    assert source.ticks != source.fps and Video(film(tmp_path / "even.mp4", range(9))).ticks == 10
    shown_at = [0.0]

    def frames() -> Any:
        for at, rgb in source:
            shown_at[0] = at
            yield rgb

    write_video(frames(), tmp_path / "b.mp4", source.fps, lambda: shown_at[0], source.ticks)
    times, seen, why = read(tmp_path / "b.mp4")
    assert why == "" and times == pytest.approx([t / 10 for t in tenths], abs=0.01)
    assert [number_of(rgb) for rgb in seen] == list(range(7))


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_says_whether_it_is_whole(suffix: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"a{suffix}", range(40), codec="libvpx-vp9" if suffix == ".webm" else "libx264")
    assert matroska_cut(path) is False and read(path)[2] == ""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    _, frames, why = read(path)
    assert matroska_cut(path) is True and 0 < len(frames) < 40 and "breaks off after" in why
    for other in (b"", b"\x1aE\xdf\xa3", b"\xff" * 50, data[:4] + b"\0" * 40, bytes(range(256))):
        (tmp_path / "x.mkv").write_bytes(other)
        assert matroska_cut(tmp_path / "x.mkv") is None


@pytest.mark.parametrize("share", [0.75, 0.85, 0.95])
def test_a_video_that_breaks_off(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    whole = film(tmp_path / "b.mp4", range(40))
    with av.open(str(whole)) as held, av.open(str(path), "w", options={"movflags": "faststart"}) as out:
        copy = out.add_stream_from_template(held.streams.video[0])
        for packet in held.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    data = path.read_bytes()
    start = data.index(b"mdat")
    path.write_bytes(data[: start + int((len(data) - start) * share)])
    _, frames, why = read(path)
    assert 0 < len(frames) < 40 and ("breaks off after" in why or "is damaged in frame" in why)
    assert [number_of(rgb) for rgb in frames] == list(range(len(frames)))  # in order, and none of them made up
    path.write_bytes(data[: start + 40])
    assert read(path)[1] == [] and "breaks off before its first frame" in read(path)[2]
