"""A count and its noun agree, in every message: "1 class", "2 classes"."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from handful.words import counted, plural
from tests.conftest import ROOT
from tests.docs_world import World
from tests.test_cli import handful

Capture = pytest.CaptureFixture[str]
NOUNS = ["class", "box", "image", "file", "photo", "frame", "object", "seed", "shard", "group", "repair", "error",
         "warning", "layer", "chip", "scale", "answer", "epoch", "color", "label", "sample", "graph", "video",
         "finding", "set", "picture"]  # fmt: skip
MANY = "|".join(map(plural, NOUNS))
# a constant; a sum of three; part of the name of features, which models on disk are held against
ALLOWED = re.compile(r"[A-Z][A-Z_]*|'(?: \+ )'\.join\(.*|proposer\.about\['scales'\]")


@pytest.mark.parametrize(("n", "noun", "said"), [
    (1, "class", "1 class"), (0, "class", "0 classes"), (2, "box", "2 boxes"), (1, "box", "1 box"),
    (3, "category", "3 categories"), (2, "day", "2 days"), (5, "image", "5 images"), (2, "branch", "2 branches"),
])  # fmt: skip
def test_a_count_and_its_noun(n: int, noun: str, said: str) -> None:
    assert counted(n, noun) == said


def test_a_verb_may_follow() -> None:
    assert [counted(n, "class was", "classes were") for n in (1, 2)] == ["1 class was", "2 classes were"]


def fixed(source: str) -> list[str]:
    """The counts in f-strings of a file that a plural follows, whatever they are."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for value, text in zip(node.values, node.values[1:], strict=False) if isinstance(node, ast.JoinedStr) else ():
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            what = re.match(rf" (?!has |of )(?:\w+ )?({MANY})\b", str(text.value))
            said = ast.unparse(value.value)
            if what and value.format_spec is None and not ALLOWED.fullmatch(said) and "counted" not in said:
                found.append(f"{{{said}}} {what[0].strip()}")
    return found


def test_no_message_has_a_fixed_plural() -> None:
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "src").rglob("*.py")}
    assert {name: rows for name, text in texts.items() if (rows := fixed(text))} == {}
    assert sum("counted(" in text for text in texts.values()) > 30


@pytest.mark.parametrize("text", ['f"{n} classes"', 'f"{len(x)} more images, and"', "f'has {r[\"n\"]} boxes'"])
def test_a_fixed_plural_is_found(text: str) -> None:
    assert len(fixed(text)) == 1
    assert fixed("f\"{counted(n, 'class')} and images\"") == [] == fixed('f"at most {MAX_FILES} files"')


ONE = re.compile(rf"(?<![\d.,])1 (?:\w+ )?({MANY})\b")
RUNS = (
    "teach one --out single --class mug --backbone lite0 --frame 64x64", "evaluate single one",
    "teach one --out model --backbone lite0 --frame 64x64", "evaluate model one", "unlearn model one/mug --class mug",
    "data check one/mug --flat", "data stats one/mug --flat", "data check boxes", "data stats boxes --out pages",
    "data convert boxes as-voc --to voc --allow-loss", "data balance boxes --count 1",
    "data split boxes --part train=1", "data chips boxes --out chips --proposer none",
    "teach boxes --out detector --proposer objectness --scales 1", "evaluate detector boxes",
    "predict detector boxes/a.jpg",
    "dream boxes --out dreams --frames 1 --limit 1 --workers 1",
)  # fmt: skip


def test_one_of_each_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """One class with one image, one box: what every main verb says of it."""
    assert ONE.search("it knows 1 classes") and not ONE.search("1 class, 11 classes, 2.1 images")
    monkeypatch.chdir(tmp_path)
    world = World(tmp_path.parent / f"{tmp_path.name}-store")
    world.store.mkdir()
    world.put("photos", tmp_path)
    for label in ("mug", "stapler"):
        (tmp_path / "one" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "a.jpg").rename(tmp_path / "one" / label / "a.jpg")
    _boxes(tmp_path / "boxes")
    said = {}
    for command in RUNS:
        code, out, err = handful(capsys, *shlex.split(command))
        assert code == 0, err
        said[command] = out + err
    assert {command: found[0] for command, text in said.items() if (found := ONE.search(text))} == {}
    assert sum(bool(re.search(r"\b1 \w+", text)) for text in said.values()) >= 12, said


def _boxes(folder: Path) -> None:
    """COCO with one image, one class, one box with its outline."""
    import json

    from handful.data.sample_images import sample_photo
    from tests.conftest import save

    save(sample_photo("coffee"), folder / "a.jpg")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [150, 60, 260, 260], "area": 67600, "iscrowd": 0,
           "segmentation": [[150, 60, 410, 60, 410, 320, 150, 320]]}  # fmt: skip
    image = {"id": 1, "file_name": "a.jpg", "width": 600, "height": 400}
    told = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "mug"}]}
    (folder / "instances_train.json").write_text(json.dumps(told))
