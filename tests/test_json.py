"""What --json prints: one object, of errors too; a thing has one key in every verb, that of docs/reference/json.md."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docs_world import World
from tests.test_cli import handful

Capture = pytest.CaptureFixture[str]
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "number": (int, float), "true or false": (bool,), "list": (list,), "object": (dict,),
    "null": (type(None),),
}  # fmt: skip
# a page's worth of verbs: each with what it reads and makes, by the key that has to name it
RUNS: dict[str, dict[str, str]] = {
    "teach photos --out model --backbone lite0 --frame 96x128": {"data": "photos", "model": "model"},
    "teach more-photos --out model --add": {"data": "more-photos", "model": "model"},
    "predict model new-photos clip.mp4 gone.jpg --out seen": {"model": "model"},
    "evaluate model test-photos --report page.html": {"data": "test-photos", "model": "model", "report": "page.html"},
    "set model --vigilance 2": {"model": "model"},
    "device compile model --runtime torch": {"model": "model", "bundle": "model/compiled/torch-fp32"},
    "device compare model --runtime torch --photos test-photos --no-layers":
        {"model": "model", "bundle": "model/compiled/torch-fp32"},
    "models flow model photo.jpg --out flow.png": {"model": "model", "image": "photo.jpg", "picture": "flow.png"},
    "unlearn model more-photos": {"model": "model"},
    "unlearn model --class stapler": {"model": "model"},
    "teach shop --out detector --proposer objectness --scales 1": {"data": "shop", "model": "detector"},
    "evaluate detector shop --report detector.html": {"data": "shop", "model": "detector", "report": "detector.html"},
    "data check photos": {"data": "photos"},
    "data check photos --fix fixed": {"data": "photos", "out": "fixed"},
    "data convert labelled as-voc --to voc --allow-loss": {"data": "labelled", "out": "as-voc"},
    "data balance labelled --out even --allow-loss": {"data": "labelled", "out": "even"},
    "data split labelled --out parts --allow-loss": {"data": "labelled", "out": "parts"},
    "data stats shop --out pages": {"data": "shop", "out": "pages"},
    "data chips shop --out chips --proposer none": {"data": "shop", "out": "chips"},
    "data samples classes --out samples": {"out": "samples"},
    "dream labelled --out dreams --frames 2 --limit 2 --workers 1": {"data": "labelled", "out": "dreams"},
    "dream preview photo.jpg --box 240,120,400,280 --out look --frames 2 --fill telea": {"source": "photo.jpg"},
    "models list": {}, "models show signet": {}, "weights list": {},
    "train classify flowers --out trained --net signet --arg width=0.25 --epochs 1":
        {"data": "flowers", "model": "trained", "run": "trained.run", "report": "trained.run/report.html"},
    "evaluate trained flowers --report trained.html": {"data": "flowers", "model": "trained", "report": "trained.html"},
}  # fmt: skip
PLACES = {"model", "bundle", "data", "out", "run", "report", "image", "picture"}


def table(page: str) -> dict[str, tuple[type, ...]]:
    """The keys of a page's tables, and what each may be."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \| ", page, re.M)
    told = [(key, kinds) for keys, kinds in rows for key in re.findall(r"`(\w+)`", keys)]
    assert len({key for key, _ in told}) == len(told), "a key is in two rows"
    return {key: sum((TYPES[one] for one in re.split(r" or (?!false)", kinds)), ()) for key, kinds in told}


def faults(said: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], places: Mapping[str, str]) -> list[str]:
    """What of an object is not as the tables have it, or names a place under another key."""
    found = [f"{key} is in no table" for key in said if key not in known]
    found += [f"{key} is {type(value).__name__}" for key, value in said.items()
              if key in known and type(value) not in known[key]]  # fmt: skip
    named = {key: value for key, value in said.items() if isinstance(value, str) and key != "name"}
    for key, place in places.items():
        keys = sorted(k for k, value in named.items() if value and Path(value).resolve() == Path(place).resolve())
        if keys != [key]:
            found.append(f"{place} is {', '.join(keys) or 'nowhere'}, not {key}")
    known_places = {Path(one).resolve() for one in places.values()}
    found += [f"{key} is a place of its own" for key, value in named.items()
              if key in PLACES and value and Path(value).resolve() not in known_places]  # fmt: skip
    return found


KNOWN = table((ROOT / "docs/reference/json.md").read_text())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """In an empty folder; here(command) puts what a command reads."""
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path.parent / f"{tmp_path.name}-store")
    world.store.mkdir()
    return lambda command: world.before_command(shlex.split(command), tmp_path)


def test_a_thing_has_one_key_in_every_verb(here: Callable[[str], None], capsys: Capture) -> None:
    used: set[str] = set()
    for command, places in RUNS.items():
        here(command)
        code, out, err = handful(capsys, *command.split(), "--json")
        assert code == (2 if "gone.jpg" in command else 0), err
        said = json.loads(out)
        assert faults(said, KNOWN, places) == [], command
        used |= said.keys()
    elsewhere = {"error", "exit_code", "mode", "already_learned", "never_learned", "mask_AP", "boxes_want", "boxes_got",
                 "matched", "matched_of_want", "matched_of_got", "largest_score_difference",
                 "mean_score_difference"}  # fmt: skip
    elsewhere |= {"right", "passed", "runtimes", "phases", "learn_ms", "gain", "how", "summary"}  # tests/test_demo.py
    assert KNOWN.keys() - used <= elsewhere  # no row is left of what is gone


def test_a_key_of_its_own_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = {"model": "m", "data": "photos", "images": 3}
    places = {"model": "m", "data": "photos"}
    assert faults(good, KNOWN, places) == []
    for bad, why in [
        ({**good, "n": 3}, "n is in no table"),
        ({**good, "images": "3"}, "images is str"),
        ({"folder": "m", "data": "photos"}, "m is folder, not model"),
        ({**good, "folder": "photos"}, "photos is data, folder, not data"),
        ({**good, "out": "elsewhere"}, "out is a place of its own"),
    ]:
        assert why in faults(bad, KNOWN, places)
    with pytest.raises(AssertionError, match="two rows"):
        table("| `a` | text | x |\n| `b`, `a` | text | x |\n")


@pytest.mark.parametrize("args", [
    ["teech"], ["predict"], ["predict", "absent", "a.jpg"], ["evaluate", "absent", "absent", "--splt", "x"],
    ["data", "balance", ".", "--per", "pixel"], ["models", "show", "signet", "--classes", "x"],
    ["models", "show", "sgnet"], ["data", "check"], ["device"],
], ids=" ".join)  # fmt: skip
def test_an_error_is_an_object_too(args: list[str], capsys: Capture, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = handful(capsys, *args)
    with_json = handful(capsys, *args, "--json")
    assert out == "" and code == 2
    said = json.loads(with_json[1])
    assert (with_json[0], with_json[2]) == (code, err) or args == ["device"]
    assert said.keys() == {"schema_version", "error", "exit_code"} and said["exit_code"] == code
    assert faults(said, KNOWN, {}) == [] and said["error"] in " ".join(with_json[2].split())


def test_nothing_to_ask_about_is_an_error_with_each_reason(taught_model: Path, capsys: Capture) -> None:
    code, out, err = handful(capsys, "predict", taught_model, "gone.jpg", "away.mp4", "--json")
    said = json.loads(out)
    assert code == said["exit_code"] == 2 and [row["source"] for row in said["failed"]] == ["gone.jpg", "away.mp4"]
    assert all(row["error"] in err and row["error"] in said["error"] for row in said["failed"])
    assert faults(said, KNOWN, {}) == []


def test_a_json_behind_two_dashes_is_no_option(capsys: Capture) -> None:
    code, out, _ = handful(capsys, "data", "check", "--", "--json")
    assert code == 2 and out == ""


def test_ctrl_c_is_an_object_too(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from handful.models import show

    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "listing", stop)
    code, out, err = handful(capsys, "models", "list", "--json")
    assert code == json.loads(out)["exit_code"] == 130 and json.loads(out)["error"] in err
