"""`handful predict`: every kind, images and videos, drawn and told; broken off, stopped, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

import handful
from handful.data import video as videos
from handful.data.video import Video, write_video
from handful.errors import DataError
from handful.kinds import predictions, registry
from handful.results import Detections
from tests.conftest import save
from tests.detection.test_irene import scene, taught
from tests.kinds.worlds import World
from tests.test_cli import handful as typed

Capture = pytest.CaptureFixture[str]
Worlds = Callable[[str], World]
COUNT = 12


def seen(path: Path) -> np.ndarray:
    return np.asarray(PIL_Image.open(path).convert("RGB"))


def test_every_kind_is_asked_drawn_and_told(world: World, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    code, said, _ = typed(capsys, "predict", world.model, world.images, "--out", out, "--json")
    told = json.loads(said)
    assert code == 0 and told == json.loads((out / "results.json").read_text())
    model = handful.load(world.model)
    want = model.predict(world.images)
    assert told["kind"] == world.kind and told["classes"] == list(model.classes) and told["status"] == "complete"
    assert told["failed"] == [] and told["videos"] == [] and len(told["results"]) == len(want) > 1
    for row, result in zip(told["results"], want, strict=True):
        picture = seen(Path(row.pop("picture")))
        assert picture.shape == (*result.origin.size_wh[::-1], 3)
        assert np.abs(picture.astype(int) - result.plot()).mean() < 12  # a JPEG of what plot() gives
        mask = row.pop("mask", None)
        assert row == json.loads(json.dumps(result.to_json())), "Python and the command say different things"
        if world.kind == "segmenter":
            with PIL_Image.open(mask) as held:
                assert held.mode == "P" and np.array_equal(np.asarray(held), result.ids)
        else:
            assert mask is None
    code, said, _ = typed(capsys, "predict", world.model, world.images)
    assert code == 0 and said.count(str(world.images)) == len(want)


def test_without_out_nothing_is_written(
    world: World, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = sorted(world.model.parent.rglob("*"))
    assert typed(capsys, "predict", world.model, world.images, "--json")[0] == 0
    assert list(tmp_path.iterdir()) == [] and sorted(world.model.parent.rglob("*")) == before


def test_one_name_from_two_folders_is_two_pictures(world: World, tmp_path: Path, capsys: Capture) -> None:
    first, second = sorted(world.images.glob("*.png"))[:2]
    for folder, source in (("a", first), ("b", second), ("c", first)):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / ("x.png" if folder != "c" else "X.PNG"))
    places = [tmp_path / name for name in "abc"]
    code, said, _ = typed(capsys, "predict", world.model, *places, "--out", tmp_path / "out", "--json")
    rows = json.loads(said)["results"]
    names = [Path(row["picture"]).name for row in rows]
    assert code == 0 and names == ["x.jpg", "x-2.jpg", "X-3.jpg"] and len({n.lower() for n in names}) == 3
    assert [row["source"] for row in rows] == [str(p) for place in places for p in place.iterdir()]
    assert all((tmp_path / "out" / name).stat().st_size for name in names)


def test_what_cannot_be_read_silences_nobody(world: World, tmp_path: Path, capsys: Capture) -> None:
    good = sorted(world.images.glob("*.png"))[0]
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8no")
    out, gone = tmp_path / "out", tmp_path / "gone.png"
    code, said, err = typed(capsys, "predict", world.model, tmp_path / "bad.jpg", good, gone, "--out", out, "--json")
    told = json.loads(said)
    assert code == 2 and [row["source"] for row in told["results"]] == [str(good)]
    assert {Path(row["source"]).name for row in told["failed"]} == {"bad.jpg", "gone.png"}
    assert all(row["error"] in err for row in told["failed"]) and len(err.splitlines()) == 2
    assert sorted(p.name for p in out.glob("*.*")) == [f"{good.stem}.jpg", "results.json"]


def test_a_second_run_does_not_ask_about_the_first_ones_pictures(
    world: World, tmp_path: Path, capsys: Capture
) -> None:  # fmt: skip
    shutil.copytree(world.images, tmp_path / "in")
    count = len(list((tmp_path / "in").rglob("*.png")))
    for _ in range(2):
        code, said, _ = typed(capsys, "predict", world.model, tmp_path / "in", "--out", tmp_path / "in" / "o", "--json")
        assert code == 0 and len(json.loads(said)["results"]) == count


def test_a_file_put_in_a_pictures_place_is_not_replaced(world: World, tmp_path: Path, capsys: Capture) -> None:
    """Nor the photograph that a link in its place leads to, though results.json of an earlier run has the name."""
    image = sorted(world.images.glob("*.png"))[0]
    out, own = tmp_path / "out", tmp_path / "own.jpg"
    for suffix in ("a", "b"):
        PIL_Image.open(image).convert("RGB").save(tmp_path / f"{suffix}.jpg")
    shutil.copyfile(tmp_path / "a.jpg", own)
    before = own.read_bytes()
    words = ["predict", world.model, tmp_path / "a.jpg", tmp_path / "b.jpg", "--out", out, "--json"]
    assert typed(capsys, *words)[0] == 0
    (out / "a.jpg").unlink()
    (out / "a.jpg").symlink_to(own)
    shutil.copyfile(own, out / "b.jpg")
    code, said, _ = typed(capsys, *words)
    assert code == 0 and own.read_bytes() == before == (out / "b.jpg").read_bytes()
    assert [Path(row["picture"]).name for row in json.loads(said)["results"]] == ["a-2.jpg", "b-2.jpg"]


def test_images_are_never_written_over(world: World, tmp_path: Path, capsys: Capture) -> None:
    image = sorted(world.images.glob("*.png"))[0]
    PIL_Image.open(image).save(tmp_path / "x.jpg")
    before = (tmp_path / "x.jpg").read_bytes()
    code, _, err = typed(capsys, "predict", world.model, tmp_path / "x.jpg", "--out", tmp_path)
    assert code == 2 and "choose another" in err and (tmp_path / "x.jpg").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "x.jpg"]
    code, _, err = typed(capsys, "predict", world.model, tmp_path, "--out", tmp_path)
    assert code == 2 and "choose another" in err and list(tmp_path.iterdir()) == [tmp_path / "x.jpg"]


# option, its value, the kinds that take it
OPTIONS: list[tuple[str, tuple[str, ...], set[str]]] = [
    ("--vigilance", ("2",), {"taught_classifier", "taught_detector"}),
    ("--score-threshold", ("0.3",), {"detector", "taught_detector"}),
    ("--unknown", (), {"taught_detector"}),
    ("--explain", (), {"taught_detector"}),
    ("--masks-by", ("none",), {"taught_detector"}),
    ("--scale-mode", ("whole",), {"taught_detector"}),
    ("--top", ("1",), {"taught_classifier", "classifier"}),
]


@pytest.mark.parametrize(("flag", "value", "kinds"), OPTIONS, ids=[o[0] for o in OPTIONS])
def test_an_option_is_for_the_kinds_that_have_it(
    world: World, flag: str, value: tuple[str, ...], kinds: set[str], capsys: Capture
) -> None:  # fmt: skip
    code, out, err = typed(capsys, "predict", world.model, world.images, flag, *value, "--json")
    if world.kind in kinds:
        assert code == 0, err
        name = flag.strip("-").replace("-", "_")
        if name in ("vigilance", "score_threshold"):
            assert json.loads(out)["options"][name] == float(value[0])
    else:
        assert code == 2 and json.loads(out)["error"] in err and len(err.splitlines()) == 1
        assert f"is {registry.kind(world.kind).DESCRIPTION}; {flag.removesuffix('-by')}" in err
        if flag != "--top":
            assert all(registry.kind(kind).DESCRIPTION in err for kind in kinds)


def test_top_and_all_scores(world_of: Worlds, capsys: Capture) -> None:
    world = world_of("taught_classifier")
    for more, count in (([], 4), (["--top", "2"], 2)):
        rows = json.loads(typed(capsys, "predict", world.model, world.images, "--json", *more)[1])["results"]
        assert {len(row["probabilities"]) for row in rows} == {count}
        assert count == 2 or all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4) for row in rows)
        assert all(next(iter(row["probabilities"])) == row["nearest"] or row["label"] is None for row in rows)


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (99, 4)])  # three classes, and none of these
def test_top_is_for_people_too(world_of: Worlds, capsys: Capture, top: int, count: int) -> None:
    world = world_of("taught_classifier")
    rows = json.loads(typed(capsys, "predict", world.model, world.images, "--json")[1])["results"]
    plain = typed(capsys, "predict", world.model, world.images)[1].splitlines()
    lines = typed(capsys, "predict", world.model, world.images, "--top", top)[1].splitlines()
    assert len(lines) == len(rows) > 1 and all(line.count(" %") == count for line in lines)
    for row, line, own in zip(rows, lines, plain, strict=True):
        others = [f"; {name} {100 * p:.0f} %" for name, p in list(row["probabilities"].items())[1:top]]
        assert line == own + "".join(others)


def test_top_of_a_bundle_that_is_no_classifier(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    model = shutil.copytree(world_of("segmenter").model, tmp_path / "model")
    bundle = handful.load(model).compile("torch").folder
    code, out, err = typed(capsys, "predict", bundle, world_of("segmenter").images, "--top", "2")
    assert code == 2 and out == "" and "--top is for classifiers" in err


def test_explain_names_what_was_taught(world_of: Worlds, capsys: Capture) -> None:
    world = world_of("taught_detector")
    code, said, _ = typed(capsys, "predict", world.model, world.images, "--explain", "--json")
    found = [one for row in json.loads(said)["results"] for one in row["found"]]
    assert code == 0 and len(found) > 3 and all(1 <= len(one["like"]) <= 3 for one in found)
    assert all(one["like"][0]["class"] == one["class"] for one in found)
    code, said, _ = typed(capsys, "predict", world.model, world.images, "--explain")
    assert code == 0 and "; like " in said


# -- videos -----------------------------------------------------------------------------------------------------------


def frames() -> list[np.ndarray]:
    return [scene(["apple"] if i < 6 else ["apple", "leaf"], 40 + i, (160, 96))[0] for i in range(COUNT)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_video(frames(), tmp_path / "clip.mp4", Fraction(30000, 1001))
    return tmp_path / "clip.mp4"


def cut(path: Path, share: float) -> Path:
    """Ends in the middle of a frame, as a camera that lost its power leaves it."""
    short = path.with_name("short.mp4")
    data = path.read_bytes()
    short.write_bytes(data[: int(len(data) * share)])
    return short


def test_every_kind_watches_a_video(world: World, clip: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    code, said, _ = typed(capsys, "predict", world.model, clip, "--out", out, "--json")
    told = json.loads(said)
    assert code == 0 and [row["frame"] for row in told["results"]] == list(range(COUNT))
    assert told["results"][3]["time_s"] == pytest.approx(3 * 1001 / 30000, abs=0.01)
    (one,) = told["videos"]
    assert one == {"source": str(clip), "frames": COUNT, "fps": pytest.approx(29.97, abs=0.01),
                   "status": "complete", "error": None, "video": str(out / "clip.mp4")}  # fmt: skip
    drawn = Video(out / "clip.mp4")
    assert drawn.count == COUNT and drawn.fps == Fraction(30000, 1001)
    masks = sorted((out / "masks" / "clip").glob("*.png"))
    assert len(masks) == (COUNT if world.kind == "segmenter" else 0)


def test_a_video_whose_frames_come_unevenly_is_drawn_so(world_of: Worlds, tmp_path: Path, capsys: Capture) -> None:
    times = iter([0.0, 0.1, 0.2, 2.0, 2.1, 5.0])
    write_video(frames()[:6], tmp_path / "clip.mp4", 10, lambda: next(times), 10)
    code, said, _ = typed(capsys, "predict", world_of("taught_detector").model, tmp_path / "clip.mp4", "--out",
                          tmp_path / "out", "--json")  # fmt: skip
    told = [row["time_s"] for row in json.loads(said)["results"]]
    assert code == 0 and told == pytest.approx([0.0, 0.1, 0.2, 2.0, 2.1, 5.0], abs=0.01)
    assert [at for at, _ in Video(tmp_path / "out" / "clip.mp4")] == pytest.approx(told, abs=0.01)


@pytest.mark.usefixtures("_planted")
def test_what_was_found_is_drawn_into_the_video(clip: Path, tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "model"
    taught(["apple", "leaf"]).save(model)
    code, said, _ = typed(capsys, "predict", model, clip, "--out", tmp_path / "out", "--explain")
    assert code == 0 and "12 frames" in said and "apple in 12" in said and "leaf in 6" in said
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    classes = [{one["class"] for one in row["found"]} for row in rows]
    assert classes[2] == {"apple"} and classes[9] == {"apple", "leaf"} and rows[9]["found"][0]["like"]
    first = next(rgb for _, rgb in Video(tmp_path / "out" / "clip.mp4")).astype(int)
    assert first.shape == (96, 160, 3) and np.abs(first - frames()[0].astype(int)).max() > 60


def test_a_video_that_breaks_off_gives_the_frames_before(
    world_of: Worlds, clip: Path, tmp_path: Path, capsys: Capture
) -> None:  # fmt: skip
    model, image = world_of("taught_detector").model, save(frames()[0], tmp_path / "after.png")
    code, said, err = typed(capsys, "predict", model, cut(clip, 0.6), image, "--out", tmp_path / "out", "--json")
    told = json.loads(said)
    rows = [row for row in told["results"] if "frame" in row]
    assert code == 2 and 2 <= len(rows) < COUNT and told["videos"][0]["status"] == "failed" and "short.mp4" in err
    assert told["failed"][0]["error"] == told["videos"][0]["error"] in err and told["status"] == "complete"
    assert told["results"][-1]["source"] == str(image)  # what comes after it is asked all the same
    whole = json.loads(typed(capsys, "predict", model, clip, "--json")[1])["results"]
    assert [r["found"] for r in rows] == [r["found"] for r in whole[: len(rows)]]  # not one of them is made up
    assert Video(tmp_path / "out" / "short.mp4").count == len(rows)


def test_a_video_that_ends_between_two_frames_is_short_too(world_of: Worlds, clip: Path, capsys: Capture) -> None:
    av = pytest.importorskip("av")
    with av.open(str(clip)) as held:
        packets = [p for p in held.demux(video=0) if p.size]
    end = sorted(p.pos + p.size for p in packets)[7]
    short = clip.with_name("short.mp4")
    short.write_bytes(clip.read_bytes()[:end])
    code, said, err = typed(capsys, "predict", world_of("taught_detector").model, short, "--json")
    told = json.loads(said)
    n = len(told["results"])
    assert code == 2 and 2 <= n < COUNT and (f"after {n}" in err or f"the {n} frames" in err)


def test_a_frame_the_decoder_had_to_make_up_ends_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")

    class Torn:
        def __init__(self, frame: object, number: int) -> None:
            self.frame, self.is_corrupt = frame, number == 5

        def __getattr__(self, name: str) -> object:
            return getattr(self.frame, name)

    class Held:
        def __init__(self, held: Any) -> None:
            self.held = held

        def __enter__(self) -> Held:
            return self

        def __exit__(self, *error: object) -> None:
            self.held.close()

        def decode(self, video: int) -> list[Torn]:
            return [Torn(f, i) for i, f in enumerate(self.held.decode(video=video))]

    opened_before, video = av.open, Video(clip)
    monkeypatch.setattr(av, "open", lambda file: Held(opened_before(file)))
    assert len(list(video)) == 5 and "is damaged in frame 5; the 5 frames before" in video.why


@pytest.mark.parametrize("data", [b"", b"no video", b"\x00\x00\x00\x18ftypmp42" + bytes(40)])
def test_no_video_says_so(world_of: Worlds, data: bytes, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "x.mp4").write_bytes(data)
    code, said, err = typed(capsys, "predict", world_of("taught_detector").model, tmp_path / "x.mp4", "--out",
                            tmp_path / "out", "--json")  # fmt: skip
    assert code == 2 and "x.mp4 cannot be read as a video" in err and json.loads(said)["results"] == []
    assert not (tmp_path / "out" / "x.mp4").exists()


def test_a_video_without_a_frame_writes_no_video(world_of: Worlds, clip: Path, tmp_path: Path, capsys: Capture) -> None:
    data = clip.read_bytes()
    at = data.index(b"mdat") + 4
    (tmp_path / "hollow.mp4").write_bytes(data[:at] + bytes(len(data) - at))
    code, said, err = typed(capsys, "predict", world_of("taught_detector").model, tmp_path / "hollow.mp4", "--out",
                            tmp_path / "out", "--json")  # fmt: skip
    assert code == 2 and "hollow.mp4" in err and json.loads(said)["results"] == []
    assert not (tmp_path / "out" / "hollow.mp4").exists()


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """interrupted(4): Ctrl-C while the fourth answer is made."""

    def after(count: int) -> None:
        plain, asked = Detections.to_json, []

        def slow(self: Detections) -> Any:
            asked.append(1)
            if len(asked) == count:
                os.kill(os.getpid(), signal.SIGINT)
            return plain(self)

        monkeypatch.setattr(Detections, "to_json", slow)

    return after


@pytest.mark.parametrize("what", ["video", "images"])
def test_ctrl_c_keeps_what_was_done(
    world_of: Worlds, clip: Path, tmp_path: Path, capsys: Capture, interrupted: Callable[[int], None], what: str
) -> None:  # fmt: skip
    asked = [clip]
    if what == "images":
        asked = [save(rgb, tmp_path / "in" / f"{i}.png") for i, rgb in enumerate(frames())]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupted(4)
    try:
        code, said, err = typed(capsys, "predict", world_of("taught_detector").model, *asked, "--out", tmp_path / "out",
                                "--json")  # fmt: skip
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    told = json.loads(said)
    assert (
        code == 130
        and told["status"] == "stopped"
        and len(told["results"]) == 4
        and "4 answers; what was answered is kept" in err
    )
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == told
    if what == "video":
        assert told["videos"][0]["status"] == "stopped" and Video(tmp_path / "out" / "clip.mp4").count == 4
    else:
        assert len(list((tmp_path / "out").glob("*.jpg"))) == 4


def test_a_second_ctrl_c_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with videos.patient() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.wait(5)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_video_that_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    def torn() -> Any:
        yield frames()[0]
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_video(torn(), tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


def test_names_differ_whatever_the_disk_thinks_of_case() -> None:
    name = predictions.Names()
    given = [name(Path(p)) for p in ("a/x.png", "b/X.jpg", "c/x-2.png", "d/x.png")]
    assert given == ["x", "X-2", "x-2-2", "x-3"] and len({g.casefold() for g in given}) == 4


def test_a_file_that_no_prediction_wrote_is_left_alone(world: World, tmp_path: Path, capsys: Capture) -> None:
    image = sorted(world.images.glob("*.png"))[0]
    out = tmp_path / "keep"
    out.mkdir()
    (out / f"{image.stem}.jpg").write_bytes(b"somebody's own")
    for _ in range(2):  # the second finds what the first wrote
        assert typed(capsys, "predict", world.model, image, "--out", out, "--quiet")[0] == 0
        assert (out / f"{image.stem}.jpg").read_bytes() == b"somebody's own"
        assert {p.name for p in out.iterdir()} - {"masks"} == {
            f"{image.stem}.jpg", f"{image.stem}-2.jpg", "results.json"}  # fmt: skip
