"""Nothing that a verb writes falls on what it reads or on what handful did not make, and what cannot be written is told
before the work. Made from the parser, so that a verb or an option that is added later is tried too."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful import places
from handful.cli.options import NET_OR_MODEL
from handful.cli.places import PATH, Data, ImageFile, ModelFolder, Output
from handful.cli.shared import Alias, Verb
from handful.errors import DataError
from handful.models import folder as folders
from tests.test_cli import handful, walked

Capture = pytest.CaptureFixture[str]
VERBS = {words: verb for words, verb in walked().items() if isinstance(verb, Verb) and not isinstance(verb, Alias)}
OUTPUTS = [(words, param) for words, verb in VERBS.items() for param in verb.params if isinstance(param.type, Output)]
IDS = [f"{' '.join(words)} {param.opts[-1]}" for words, param in OUTPUTS]
NAMED_AS_OUTPUTS = ("out", "report", "fix", "csv", "to_file", "save")
# options that are paths to what is read: a new one must be put here, or be an Output
READ = {"--images", "--photos", "--backbone-weights", "--mask", "--file"}
REQUIRED = {"--to": "coco", "--runtime": "onnxruntime"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of each that a verb reads, in the current folder; no verb's work is done, that it would begin is exit 77."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        PIL_Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "photos" / name / "1.png")
    PIL_Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    meta = {"schema_version": folders.SCHEMA_VERSION, "handful": "1", "task": "segment", "network": {"kind": "unet"},
            "classes": ["a"], "preprocessing": {}, "files": {}}  # fmt: skip
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "handful.json").write_text(json.dumps(meta))
    (tmp_path / "model" / "model.safetensors").write_text("")

    def begun(self: click.Command, ctx: click.Context) -> None:
        if isinstance(self, Verb):
            sys.exit(77)
        real(self, ctx)

    real = click.Command.invoke
    monkeypatch.setattr(click.Command, "invoke", begun)
    return tmp_path


def line_of(words: tuple[str, ...], out: click.Parameter, place: str) -> tuple[list[str], list[str]]:
    """What is typed for a verb with all that it needs and this output, and the paths in it that are read."""
    typed, reads = list(words), []
    for param in VERBS[words].params:
        value = given(param)
        if param is out:
            typed += [place] if isinstance(param, click.Argument) else [param.opts[-1], place]
        elif isinstance(param, click.Argument):
            typed.append(value)
            reads += [value] if os.path.exists(value) else []
        elif param.required:
            typed += [param.opts[-1], REQUIRED.get(param.opts[-1], "elsewhere")]
    return typed, reads


def given(param: click.Parameter) -> str:
    if isinstance(param.type, ModelFolder) or param.type is NET_OR_MODEL:
        return "./model"
    if isinstance(param.type, ImageFile):
        return "photo.png"
    return "photos" if isinstance(param.type, Data) or param.name in ("images", "seeds") else "classes"


def kept(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_path_is_read_or_written() -> None:
    """An option that takes a path says which; one that is called as an output is one."""
    assert len(OUTPUTS) >= 20
    for words, verb in VERBS.items():
        for param in verb.params:
            if param.name in NAMED_AS_OUTPUTS:
                assert isinstance(param.type, Output), f"{' '.join(words)} {param.name} is not declared as an output"
            if isinstance(param, click.Option) and isinstance(param.type, click.Path):
                assert param.opts[-1] in READ, f"{' '.join(words)} {param.opts[-1]}: is it read or written?"
    assert PATH.convert("~/m", None, None) == Path.home() / "m"


@pytest.mark.parametrize(("words", "out"), OUTPUTS, ids=IDS)
def test_no_output_falls_on_an_input(
    words: tuple[str, ...], out: click.Parameter, world: Path, capsys: Capture
) -> None:
    assert isinstance(out.type, Output)
    before = kept(world)
    typed, reads = line_of(words, out, "new/place.png")
    assert handful(capsys, *typed)[0] == 77, "with a new place the work begins"
    for read in reads:
        names = [read, os.path.abspath(read), f"photos/../{read}"]
        os.symlink(os.path.abspath(read), "link.png")
        names.append("link.png")
        if os.path.isfile(read):
            os.link(read, "hard.png")
            names.append("hard.png")
        elif out.type.how in ("model", "data"):
            names += [".", os.path.dirname(os.path.abspath(read))]
        for name in names:
            code, _, err = handful(capsys, *line_of(words, out, name)[0])
            assert code == 2 and err.count("\n") == 1 and "Traceback" not in err, (name, err)
        for name in ("link.png", "hard.png"):
            if os.path.lexists(name):
                os.unlink(name)
    assert kept(world) == before


@pytest.mark.parametrize(("words", "out"), OUTPUTS, ids=IDS)
def test_no_output_falls_on_a_file_of_the_users(
    words: tuple[str, ...], out: click.Parameter, world: Path, capsys: Capture
) -> None:
    assert isinstance(out.type, Output)
    (world / "mine").mkdir()
    for name in out.type.names or ("page.html",):
        (world / "mine" / name).write_text("<p>mine</p>")
    before = kept(world)
    for name in ["mine/page.html"] if out.type.how == "file" else ["mine", "photo.png"]:
        if out.type.how in ("files", "bundles") and name == "mine" and not out.type.names:
            continue  # names are chosen as the work goes on, beside what is there
        if out.type.how in ("bundles", "model") and name == "mine":
            continue  # looked at by the verb itself: models.folder.check_replaceable, device.compile.shipped
        code, _, err = handful(capsys, *line_of(words, out, name)[0])
        assert code == 2 and err.count("\n") == 1 and "Traceback" not in err, (name, err)
    assert kept(world) == before


@pytest.mark.parametrize(("words", "out"), OUTPUTS, ids=IDS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    words: tuple[str, ...], out: click.Parameter, world: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(world)
    for name in ["photo.png/x.png"] + ["/proc/1/x.png"] * (sys.platform == "linux"):
        code, _, err = handful(capsys, *line_of(words, out, name)[0])
        assert code == 2 and err.count("\n") == 1, err
        assert "is a file" in err or "nothing can be written into" in err
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **how: not mode & os.W_OK and access(path, mode, **how))
    code, _, err = handful(capsys, *line_of(words, out, "new/place.png")[0])
    assert code == 2 and "nothing can be written into" in err and "Permission denied" in err
    assert kept(world) == before


def test_what_is_ours_says_so(tmp_path: Path) -> None:
    from handful.files import replacing, write_json, write_page

    page, table = tmp_path / "a.html", tmp_path / "a.json"
    write_page(page, "<!doctype html>\n<html>\n<head>\n<title>x</title></head></html>")
    write_json(table, {"schema_version": 1})
    write_page(page, "<head>\n")
    write_json(table, {"schema_version": 1, "again": True})
    picture = tmp_path / "a.jpg"
    PIL_Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(picture, comment=places.MARK)
    assert all(map(places.ours, (page, table, picture)))
    PIL_Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(picture)
    (tmp_path / "mine.html").write_text("<p>handful</p>")
    (tmp_path / "mine.json").write_text('{"version": 1}')
    (tmp_path / "empty.html").touch()
    for mine in (picture, tmp_path / "mine.html", tmp_path / "mine.json", tmp_path / "empty.html"):
        assert not places.ours(mine)
        with pytest.raises(DataError, match="was not made by handful, so it is not replaced"), replacing(mine):
            raise AssertionError("begun")


def test_upper_and_lower_case_are_one_where_the_volume_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tmp_path / "Photo.png"
    read.touch()
    real = os.path.samefile

    def folded(one: Path, other: Path) -> bool:
        return str(one).casefold() == str(other).casefold() or real(one, other)

    places.check_file(tmp_path / "photo.png", [read])
    monkeypatch.setattr(os.path, "samefile", folded)
    with pytest.raises(DataError, match="is read by this command"):
        places.check_file(tmp_path / "photo.png", [read])


def test_a_killed_prediction_is_written_over_and_a_users_file_is_not(tmp_path: Path) -> None:
    """Without results.json, as after kill -9, pictures still say whose they are."""
    from handful.kinds.predictions import MASKS, Names

    picture = PIL_Image.fromarray(np.zeros((9, 9, 3), np.uint8))
    picture.save(tmp_path / "ours.jpg", comment=places.MARK)
    picture.save(tmp_path / "mine.jpg")
    (tmp_path / MASKS).mkdir()
    picture.save(tmp_path / MASKS / "painted.png")
    names = Names(tmp_path)
    assert [names(Path(f"a/{name}.png")) for name in ("ours", "mine", "MINE", "painted", "ours")] == [
        "ours", "mine-2", "MINE-3", "painted-2", "ours-2",
    ]  # fmt: skip


def test_a_bundle_is_not_shipped_over_a_users_folder(tmp_path: Path) -> None:
    from handful.bundle import Bundle
    from handful.device.compile import shipped

    made, mine = tmp_path / "m" / "torch-fp32", tmp_path / "app" / "torch-fp32"
    for place in (made, mine):
        place.mkdir(parents=True)
        (place / "a.txt").write_text(place.parent.name)
    with pytest.raises(DataError, match="is no bundle, so it is not overwritten"):
        shipped(Bundle(made, (), {}), tmp_path / "app")
    assert (mine / "a.txt").read_text() == "app"
    mine.rename(tmp_path / "elsewhere")
    assert (shipped(Bundle(made, (), {}), tmp_path / "app").folder / "a.txt").read_text() == "m"


ODD = os.fsdecode(b"caf\xe9.png")  # Latin-1


def test_names_of_any_bytes_are_checked_counted_and_told(tmp_path: Path, capsys: Capture) -> None:
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number + ord(label)).integers(0, 255, (64, 64, 3)).astype(np.uint8)
            PIL_Image.fromarray(noise).save(tmp_path / "photos" / label / (ODD if number == 1 else f"{number}.png"))
    for verb in (("check",), ("stats", "--out", str(tmp_path / "stats")), ("split", "--out", str(tmp_path / "split"))):
        code, out, err = handful(capsys, "data", verb[0], tmp_path / "photos", *verb[1:], "--json")
        assert code == 0 and json.loads(out), err
        out.encode()  # JSON is UTF-8
    code, out, err = handful(capsys, "data", "convert", tmp_path / "photos", tmp_path / "copy", "--to", "folder")
    assert code == 0, err
    assert ODD in os.listdir(tmp_path / "copy" / "a") or ODD in os.listdir(tmp_path / "split" / "train" / "a")


def test_json_is_json_whatever_the_name_and_the_terminal() -> None:
    from handful.files import to_json

    value = {"file": ODD, "half": "\ud800", "class": "\u7ea2 \U0001f600 gro\xdf"}
    plain, ascii = to_json(value), to_json(value, ascii=True)
    plain.encode()
    ascii.encode("ascii")
    assert json.loads(plain) == json.loads(ascii) == {**value, "file": "caf\\xe9.png", "half": "\ufffd"}


def test_a_kept_verdict_depends_on_folders_and_links(tmp_path: Path) -> None:
    from handful.curate.check import check

    folder, outside, cache = tmp_path / "photos", tmp_path / "outside", tmp_path / "cache"
    outside.mkdir()
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for number in range(2):
            noise = np.random.default_rng(number + ord(label)).integers(0, 255, (64, 64, 3)).astype(np.uint8)
            PIL_Image.fromarray(noise).save(folder / label / f"{number}.png")
    (outside / "x.png").write_bytes((folder / "a" / "0.png").read_bytes()[::-1])

    def now(*changes: object) -> None:
        """The verdict of now is that without a cache, and is then kept."""
        fresh = check(folder, cache=None)["findings"]
        assert check(folder, cache=cache)["findings"] == check(folder, cache=cache)["findings"] == fresh
        seen.append(json.dumps(fresh))

    seen: list[str] = []
    now()
    now((folder / "todo").mkdir())
    now((folder / "todo").rmdir())
    assert seen[0] == seen[2] and "todo" in seen[1]
    link = folder / "a" / "2.png"
    now(link.symlink_to(outside / "x.png"))
    now(link.unlink(), link.symlink_to(folder / "b" / "0.png"))
    now(link.unlink(), link.write_bytes((folder / "b" / "0.png").read_bytes()))
    now(link.unlink(), (folder / "c").symlink_to(outside))
    now((folder / "c").unlink(), (folder / "c").symlink_to(tmp_path / "none"))
    assert len(set(seen)) >= 6
    times = (folder / "a" / "1.png").stat()
    (folder / "c").unlink()
    (folder / "a" / "1.png").write_bytes(bytes(times.st_size))
    os.utime(folder / "a" / "1.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    now()
    assert "zero bytes" in seen[-1]


def test_pictures_are_not_put_among_the_images_that_are_read(tmp_path: Path, capsys: Capture) -> None:
    for name in ("images/0.png", "masks/0.png"):
        (tmp_path / name).parent.mkdir()
        PIL_Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(tmp_path / name)
    words = ("dream", "preview", tmp_path / "images/0.png", "--mask", tmp_path / "masks/0.png", "--out")
    for out in ("images", "masks"):
        code, _, err = handful(capsys, *words, tmp_path / out)
        assert code == 2 and f"{out} is the folder of" in err and len(list((tmp_path / out).iterdir())) == 1
