"""A film watched frame by frame: whole, broken, stopped."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import handful.detection
from handful.detection import video_file as films
from handful.detection.irene import Irene
from handful.detection.video_file import Film, watched
from handful.errors import DataError
from handful.lucid.preview import film
from tests.detection.test_irene import PROPOSERS, scene, taught
from tests.training.test_verbs import typed

av = pytest.importorskip("av")
COUNT = 12


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture
def irene() -> Irene:
    return taught(["apple", "leaf"])


def frames() -> list[np.ndarray]:
    return [scene(["apple"] if i < 6 else ["apple", "leaf"], 40 + i, (160, 96))[0] for i in range(COUNT)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    film(frames(), tmp_path / "clip.mp4", Fraction(30000, 1001))
    return tmp_path / "clip.mp4"


def test_every_frame_is_answered_and_drawn(irene: Irene, path: Path, tmp_path: Path) -> None:
    told = watched(irene, path, tmp_path / "out", explain=True)
    assert told["ended"] == "whole" and told["why"] is None and [r["frame"] for r in told["frames"]] == list(range(12))
    classes = [{one["class"] for one in row["found"]} for row in told["frames"]]
    assert classes[2] == {"apple"} and classes[9] == {"apple", "leaf"} and told["frames"][9]["found"][0]["like"]
    assert told["frames"][3]["time_s"] == pytest.approx(3 * 1001 / 30000, abs=0.01)
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == json.loads(json.dumps(told))
    drawn = Film(tmp_path / "out" / "film.mp4")
    assert drawn.count == COUNT and drawn.fps == Fraction(30000, 1001)
    first = next(rgb for _, rgb in drawn).astype(int)
    assert first.shape == (96, 160, 3) and np.abs(first - frames()[0].astype(int)).max() > 60  # a box is drawn in


def cut(path: Path, share: float) -> Path:
    """Ends in the middle of a frame, as a camera that lost its power leaves it."""
    short = path.with_name("short.mp4")
    data = path.read_bytes()
    short.write_bytes(data[: int(len(data) * share)])
    return short


def test_a_film_that_breaks_off_gives_the_frames_before(irene: Irene, path: Path, tmp_path: Path) -> None:
    told = watched(irene, cut(path, 0.6), tmp_path / "out")
    n = len(told["frames"])
    assert 2 <= n < COUNT and told["ended"] == "broken" and "short.mp4" in told["why"]
    whole = watched(irene, path)
    assert told["frames"] == whole["frames"][:n]  # not one of them is made up
    assert Film(tmp_path / "out" / "film.mp4").count == n


def test_a_film_that_ends_between_two_frames_is_short_too(irene: Irene, path: Path) -> None:
    with av.open(str(path)) as held:
        packets = [p for p in held.demux(video=0) if p.size]
    end = sorted(p.pos + p.size for p in packets)[7]
    short = path.with_name("short.mp4")
    short.write_bytes(path.read_bytes()[:end])
    told = watched(irene, short)
    assert told["ended"] == "broken" and 2 <= len(told["frames"]) < COUNT
    assert f"after {len(told['frames'])}" in told["why"] or f"the {len(told['frames'])} frames" in told["why"]


def test_a_frame_the_decoder_had_to_make_up_ends_it(
    irene: Irene, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    class Torn:
        def __init__(self, frame: object, number: int) -> None:
            self.frame, self.is_corrupt = frame, number == 5

        def __getattr__(self, name: str) -> object:
            return getattr(self.frame, name)

    class Held:
        def __init__(self, held: object) -> None:
            self.held = held

        def __enter__(self) -> Held:
            return self

        def __exit__(self, *error: object) -> None:
            self.held.close()  # type: ignore[attr-defined]

        def decode(self, video: int) -> list[Torn]:
            return [Torn(f, i) for i, f in enumerate(self.held.decode(video=video))]  # type: ignore[attr-defined]

    film_of = Film(path)
    opened = av.open
    monkeypatch.setattr(av, "open", lambda file: Held(opened(file)))
    assert len(list(film_of)) == 5 and "is damaged in frame 5; the 5 frames before" in film_of.why


@pytest.mark.parametrize("data", [b"", b"no film", b"\x00\x00\x00\x18ftypmp42" + bytes(40)])
def test_no_film_says_so(irene: Irene, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.mp4 cannot be read as a film"):
        watched(irene, tmp_path / "x.mp4", tmp_path / "out")
    with pytest.raises(DataError, match="does not exist"):
        watched(irene, tmp_path / "y.mp4")
    assert not (tmp_path / "out" / "film.mp4").exists()


def test_a_film_without_a_frame_writes_nothing(irene: Irene, path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"mdat") + 4
    (tmp_path / "hollow.mp4").write_bytes(data[:at] + bytes(len(data) - at))
    with pytest.raises(DataError, match=r"hollow\.mp4"):
        watched(irene, tmp_path / "hollow.mp4", tmp_path / "out")
    assert not (tmp_path / "out" / "film.mp4").exists() and not (tmp_path / "out" / "detections.json").exists()


def test_ctrl_c_keeps_what_was_done(
    irene: Irene, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    plain, asked = irene.detect, []

    def slow(rgb: np.ndarray, **how: object) -> object:
        asked.append(1)
        if len(asked) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(rgb, **how)

    monkeypatch.setattr(irene, "detect", slow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        told = watched(irene, path, tmp_path / "out")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert told["ended"] == "stopped" and len(told["frames"]) == 4
    assert Film(tmp_path / "out" / "film.mp4").count == 4
    assert json.loads((tmp_path / "out" / "detections.json").read_text())["ended"] == "stopped"


def test_a_second_ctrl_c_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with films.patient() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.wait(5)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_verb(irene: Irene, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    irene.save(tmp_path / "d")
    code, said, _ = typed(capsys, "detect", tmp_path / "d", "--video", path, "--out", tmp_path / "out")
    assert code == 0 and "12 frames" in said and "apple in 12" in said and "leaf in 6" in said
    code, said, err = typed(capsys, "detect", tmp_path / "d", "--video", cut(path, 0.6), "--json")
    assert code == 2 and json.loads(said)["ended"] == "broken" and "short.mp4" in err
    for wrong in ((), (path, "--video", path)):
        code, _, err = typed(capsys, "detect", tmp_path / "d", *wrong)
        assert code == 2 and "either images or --video" in err
