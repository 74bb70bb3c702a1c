"""The commands as a person types them: exit codes, one line an error, JSON that is JSON, help for everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful import running
from handful.cli import cli, main
from handful.data.sample_images import sample_photo
from handful.fewshot import teaching
from tests.conftest import save


def handful(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    try:
        main([str(a) for a in args])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    held = capsys.readouterr()
    return code, held.out, held.err


def walked(group: click.Group = cli, before: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every verb and group, old names too: its words -> the command."""
    found: dict[tuple[str, ...], click.Command] = {}
    ctx = click.Context(group, info_name=" ".join(before))
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        found[(*before, name)] = command
        if isinstance(command, click.Group):
            found |= walked(command, (*before, name))
    return found


def verbs() -> list[tuple[str, ...]]:
    return list(walked())


@pytest.mark.parametrize("verb", [(), *verbs()])
def test_every_verb_has_help(verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = handful(capsys, *verb, "--help")
    assert code == 0
    assert "Usage: handful" in out
    if verb:
        assert walked()[verb].help


def test_teach_recognise_evaluate(
    photo_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, model = photo_folder(n=2), tmp_path / "model"
    code, out, err = handful(
        capsys, "teach", photos, "--out", model, "--backbone", "lite0", "--frame", "96x128", "--json"
    )
    assert code == 0, err
    told = json.loads(out)
    assert told["classes"] == ["cat", "coffee", "rocket"] and told["learned"] == 6

    code, out, _ = handful(capsys, "predict", model, photos / "cat" / "0.png", photos / "rocket" / "1.png")
    assert code == 0
    assert "cat/0.png: cat" in out and "rocket/1.png: rocket" in out

    asked = photo_folder(("cat", "flower"), 2, seed=5, name="asked")
    code, out, _ = handful(capsys, "evaluate", model, asked, "--json")
    assert code == 0
    numbers = json.loads(out)
    wanted = {"schema_version", "accuracy", "per_class", "unknown_auroc", "open_f1", "vigilance", "rule"}
    assert wanted <= numbers.keys() and "seed" not in numbers  # nothing is drawn
    assert numbers["known_images"] == 2 and numbers["unknown_images"] == 2
    code, out, _ = handful(capsys, "evaluate", model, asked, "--vigilance", "5.5")
    assert code == 0 and "at vigilance 5.5" in out


def test_flat_folders_and_chosen_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cat", "coffee", "rocket"):
        save(sample_photo(name), tmp_path / "one" / f"{name}.png")
    options = ["--backbone", "lite0", "--frame", "64x64", "--flat", "--out", tmp_path / "m", "--json", "--no-cache"]
    code, out, _ = handful(capsys, "teach", tmp_path / "one", "--class", "cat", "--class", "rocket", *options)
    assert code == 0 and json.loads(out)["classes"] == ["cat", "rocket"]
    code, _, err = handful(capsys, "teach", tmp_path / "one", "--class", "cta", *options, "--overwrite")
    assert code == 2 and "did you mean 'cat'" in err


def test_one_bad_image_does_not_silence_the_others(
    taught_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(sample_photo("cat"), tmp_path / "cat.png")
    bad = tmp_path / "bad.jpg"
    bad.write_text("x")
    code, out, err = handful(capsys, "predict", taught_model, bad, good)
    assert code == 2
    assert "cat.png: cat" in out
    assert err.count("\n") == 1 and "bad.jpg" in err


def test_odd_but_sound_images_are_answered_with_a_note(
    taught_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PIL_Image.fromarray(sample_photo("cat").rgb_u8).convert("CMYK").save(tmp_path / "cat.jpg")
    code, out, _ = handful(capsys, "predict", taught_model, tmp_path / "cat.jpg")
    assert code == 0 and ": cat" in out and "CMYK" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["teech"], "did you mean 'teach'"),
        (["device", "compare", "m", "--runtime", "litert", "--precison", "fp16"], "--precision"),
        (["teach", "absent", "--out", "m"], "absent does not exist"),
        (["teach", ".", "--out", "m", "--frame", "big"], "HEIGHTxWIDTH"),
        (["predict", "absent", "a.jpg"], "absent does not exist; wanted a model folder"),
        (["evaluate", "absent", "absent"], "absent does not exist; wanted a model folder"),
        (["demo", "--runtime", "litter", "--out", "never"], "did you mean 'litert'"),
        (["device", "compile", "absent", "--runtime", "litert"], "absent"),
    ],
)
def test_bad_usage_is_told_and_exits_2(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = handful(capsys, *args)
    assert code == 2
    assert words in err
    assert out == "" and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_130_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], photo_folder: Callable[..., Path]
) -> None:

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching, "teach", stop)
    code, _, err = handful(capsys, "teach", photo_folder(n=1), "--out", "y")
    assert code == 130 and err.strip().count("\n") == 0 and "stopped" in err


def test_ctrl_c_tells_what_was_written_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], photo_folder: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    from handful.curate import stats

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stats, "write_page", stop)
    code, _, err = handful(capsys, "data", "stats", photo_folder(n=1), "--out", tmp_path / "s")
    assert code == 130 and f"whole, and kept: {tmp_path / 's' / 'stats.json'}" in err
    monkeypatch.setattr(stats, "write_json", stop)  # nothing of the run before is told again
    code, _, err = handful(capsys, "data", "stats", photo_folder(n=1), "--out", tmp_path / "t")
    assert code == 130 and "kept" not in err


def test_what_was_written_is_told_in_a_few_words(tmp_path: Path) -> None:
    running.wrote("nobody runs")
    with running.verb(()):
        for name in ("a.jpg", "b.jpg", ".m.x.part/c.jpg", "c.jpg", "d.jpg"):
            running.wrote(f"seen/{name}")
        running.wrote("m")
    assert running.written() == "4 files in seen, m"


def test_json_goes_to_stdout_and_the_rest_to_stderr(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos = photo_folder(("cat", "coffee"), 1)
    PIL_Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(photos / "cat" / "black.png")
    (photos / "cat" / "x.txt").write_text("x")
    done = subprocess.run(
        [sys.executable, "-m", "handful", "teach", photos, "--out", tmp_path / "m", "--backbone", "lite0", "--json",
         "--frame", "64x64"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["learned"] == 3
    assert "x.txt" in done.stderr
