"""What handful wrote itself among a user's images is no data: told in the account, and neither a class nor a photo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful.cli import main
from handful.curate.check import check
from handful.data import formats
from handful.errors import DataError
from handful.image import Image
from handful.kinds import predictions
from handful.kinds.contract import Model
from handful.places import MARK
from handful.results import Origin, Segmentation
from tests.data.layouts import Maker


class Says:
    """A segmenter that says the same of every image."""

    kind, task, runtime, classes, folder = "segmenter", "segment", "torch", ("none", "mug"), None

    def stream(self, path: Path, **options: Any) -> Any:
        image = Image(np.asarray(PIL_Image.open(path).convert("RGB")), path)
        ids = np.zeros(image.rgb_u8.shape[:2], np.uint8)
        ids[10:30, 10:30] = 1
        yield Segmentation(ids, self.classes, Origin(str(path), image.size_wh, path))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    m = Maker(19, tmp_path / "photos")
    for name in ("mug", "plate"):
        for i in range(3):
            m.photo(f"{name}/{name}{i}.jpg")
    return tmp_path / "photos"


def predicted(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `handful predict MODEL photos --out out` writes it."""
    monkeypatch.setattr(predictions, "effective", lambda model, options: {})
    model: Model[Any] = Says()  # type: ignore[assignment]
    asked = predictions.sources([photos], out, lambda row: None)
    assert len(asked) == 6
    predictions.predict_to(model, asked, out)


@pytest.mark.parametrize("kept", [True, False], ids=["whole", "killed before results.json"])
def test_predictions_among_class_folders_are_no_class(
    kept: bool, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = check(photos, near=False)
    predicted(photos, photos / "result", monkeypatch)
    if not kept:
        (photos / "result" / "results.json").unlink()
    report = check(photos, near=False)
    assert report["sets"] == before["sets"] and report["ok"]
    made = 12 + kept
    assert report["account"]["counts"] == {"image": 6, "made by handful": made}
    assert report["account"]["not_used"]["made by handful"][0]["file"].startswith("result/")
    predicted(photos, photos / "again", monkeypatch)  # asks about the six photos alone
    with pytest.raises(DataError, match="what handful drew"):
        formats.read(photos / "result", format="folder")


def test_a_users_photo_among_predictions_stays_a_photo(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted(photos, photos / "result", monkeypatch)
    m = Maker(3, photos)
    m.photo("result/zebra.jpg")
    assert check(photos, near=False)["sets"][0]["per_class"]["result"]["images"] == 1


def test_a_model_and_a_training_among_class_folders_are_no_class(photos: Path) -> None:
    m = Maker(4, photos)
    m.write("model/handful.json", json.dumps({"schema_version": 2}))
    m.write("model.run/step-3/state.json", "{}")
    for name in ("model/curves.png", "model.run/curves.png"):
        m.photo(name)
    report = check(photos, near=False)
    assert set(report["sets"][0]["per_class"]) == {"mug", "plate"}
    assert [row["file"] for row in report["account"]["not_used"]["made by handful"]] == ["model.run/", "model/"]


def test_masks_that_were_predicted_are_labels_where_somebody_puts_them(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted(photos, photos.parent / "seen", monkeypatch)
    (photos.parent / "seen" / "masks").rename(photos.parent / "own-masks")
    for name in ("mug", "plate"):
        for photo in (photos / name).iterdir():
            photo.rename(photos / photo.name)
        (photos / name).rmdir()
    (photos.parent / "set").mkdir()
    photos.rename(photos.parent / "set" / "images")
    (photos.parent / "own-masks").rename(photos.parent / "set" / "masks")
    report = check(photos.parent / "set", near=False)
    assert [(s["images"], s["labeled"]) for s in report["sets"]] == [(6, 6)]


def test_hidden_files_are_in_the_account(photos: Path) -> None:
    m = Maker(5, photos)
    m.photo("mug/.mug9.jpg")
    m.photo(".ipynb_checkpoints/mug1-checkpoint.jpg")
    m.write(".DS_Store", "x")
    report = check(photos, near=False)
    assert report["account"]["counts"] == {"image": 6, "hidden": 3}
    told = [row["file"] for row in report["account"]["not_used"]["hidden"]]
    assert told == [".DS_Store", ".ipynb_checkpoints/", "mug/.mug9.jpg"]


def test_pages_and_their_figures_are_no_empty_class(photos: Path) -> None:
    main(["data", "stats", str(photos), "--out", str(photos / "stats")])
    report = check(photos, near=False)
    assert report["account"]["counts"] == {"image": 6, "made by handful": 2}
    assert {f["code"] for f in report["findings"] if f["severity"] != "note"} == set()


def test_a_picture_that_handful_drew_among_photographs_is_not_learned(photos: Path) -> None:
    picture = PIL_Image.open(photos / "mug" / "mug0.jpg")
    picture.save(photos / "mug" / "z.jpg", comment=MARK)  # as models flow and predict do
    samples = list(formats.read(photos))
    assert len(samples) == 6 and photos / "mug" / "z.jpg" not in {s.path for s in samples}
    report = check(photos, near=False)
    assert report["account"]["counts"] == {"image": 6, "made by handful": 1}
    assert report["sets"][0]["images"] == 6 and "handful drew" in str(report["findings"])
    (photos / "seen").mkdir()
    (photos / "mug" / "z.jpg").rename(photos / "seen" / "z.jpg")
    with pytest.raises(DataError, match="what handful drew or made itself is no data"):
        formats.read(photos / "seen")
