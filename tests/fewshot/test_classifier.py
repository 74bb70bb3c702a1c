"""Teaching from folders: the model folder, its answers, its numbers, and every bad input in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.cli import main
from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.evaluate import auroc, measure
from handful.fewshot.teaching import checked_images, teach
from handful.models.folder import from_folder, may_teach_into
from tests.bounds import bound
from tests.conftest import save


@pytest.fixture
def model(taught_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught_model, tmp_path / "model"))


def test_the_network_says_what_nemo_says(taught_model: Path) -> None:
    """The head's constants against NEMO's own float64 arithmetic, on images of taught and untaught objects."""
    taught = FewShotClassifier.load(taught_model)
    solution = taught.nemo.solve()
    for name in ("cat", "coffee", "rocket", "flower", "astronaut"):
        photo = sample_photo(name)
        want = solution.scores(taught.embedder.vector(photo))[0]
        np.testing.assert_allclose(taught.scores(photo), want, atol=2e-4)


def test_it_knows_its_classes_and_nothing_else(taught_model: Path) -> None:
    taught = FewShotClassifier.load(taught_model)
    asked = {"cat": "cat", "coffee": "coffee", "rocket": "rocket", "retina": None, "galaxies": None, "officer": None}
    assert {name: taught.recognize(sample_photo(name)).label for name in asked} == asked
    order = [*taught.classes, None]
    leads = []  # of the right answer before the next, in nats
    for name, label in asked.items():
        scores = taught.scores(sample_photo(name))
        leads.append(scores[order.index(label)] - np.delete(scores, order.index(label)).max())
    bound("teach: lead of a taught class", min(leads[:3]), at_least=1.0)
    bound("teach: lead of none of these", min(leads[3:]), at_least=1.0)


def test_the_folder_is_one_ordinary_network(taught_model: Path) -> None:
    found = from_folder(taught_model)
    frame = torch.zeros(1, *found.frame_hw, 3, dtype=torch.uint8)
    assert found.network(frame).shape == (1, len(found.classes) + 1)
    assert found.classes == ["cat", "coffee", "rocket"]
    program = torch.export.export(found.network, (frame,))
    assert torch.equal(program.module()(frame), found.network(frame))


def test_adding_a_class_rewrites_only_the_head(model: Path, photo_folder: Callable[..., Path]) -> None:
    before = {k: v.clone() for k, v in from_folder(model).network.state_dict().items()}
    teach(photo_folder(("flower",), 3, name="more"), model, add=True)
    found = from_folder(model)
    assert found.classes == ["cat", "coffee", "flower", "rocket"]
    for name, value in found.network.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(value, before[name]), name
    taught = FewShotClassifier.load(model)
    assert taught.recognize(sample_photo("flower")).label == "flower"
    assert taught.recognize(sample_photo("cat")).label == "cat"


def test_adding_later_equals_teaching_at_once(model: Path, photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    more = photo_folder(("flower",), 2, name="more")
    teach(more, model, add=True)
    everything = photo_folder(("cat", "coffee", "rocket"), 2, name="all")
    shutil.copytree(more / "flower", everything / "flower")
    teach(everything, tmp_path / "once", backbone="lite0", frame_hw=(256, 320))
    for name in ("model.safetensors", "nemo.safetensors"):
        assert (model / name).read_bytes() == (tmp_path / "once" / name).read_bytes(), name


def test_unlearning_a_class(taught_model: Path, tmp_path: Path) -> None:
    from handful.image import read_image

    taught = FewShotClassifier.load(taught_model)
    for path in sorted((taught_model.parent / "photos" / "rocket").iterdir()):
        taught.unlearn(read_image(path), "rocket")
    assert taught.classes == ("cat", "coffee")
    taught.save(tmp_path / "m")
    assert from_folder(tmp_path / "m").classes == ["cat", "coffee"]


def test_a_timm_backbone_goes_the_same_road(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    import timm

    from handful.files import write_tensors

    torch.manual_seed(0)
    there = timm.create_model("mobilenetv3_small_050", num_classes=0)
    weights = tmp_path / "w.safetensors"
    write_tensors(weights, {k: v.numpy() for k, v in there.state_dict().items()})
    teach(photo_folder(n=1), tmp_path / "m", backbone="timm:mobilenetv3_small_050", weights=weights)
    taught = FewShotClassifier.load(tmp_path / "m")
    want = taught.nemo.solve().scores(taught.embedder.vector(sample_photo("cat")))[0]
    np.testing.assert_allclose(taught.scores(sample_photo("cat")), want, atol=2e-4)


# ---- numbers

SCORES = np.array([[5, 1, 0], [1, 5, 0], [5, 1, 0], [-1, -2, 0], [3, 1, 0], [-1, -2, 0]], float)
TRUTH = ["a", "b", "b", "a", "x", "y"]


def test_the_numbers_of_a_worked_case() -> None:
    """By hand: TP 2 (a, b); FP 2 (b called a, x called a); FN 2 (b called a, a called none)."""
    got = measure(SCORES, TRUTH, ["a", "b"])
    assert got["accuracy"] == 0.75
    assert got["open_f1"] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert got["per_class"]["a"] == {"images": 2, "accuracy": 1.0, "accepted": 0.5}
    assert got["unknown_auroc"] == pytest.approx((1 + 1 + 1 + 0.25) / 4)
    assert (got["known_images"], got["unknown_images"]) == (4, 2)


def test_auroc_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    high, low = rng.integers(0, 9, 50).astype(float), rng.integers(0, 7, 40).astype(float)
    pairs = np.mean([(h > x) + 0.5 * (h == x) for h in high for x in low])
    assert auroc(high, low) == pytest.approx(pairs)


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (np.zeros((0, 3)), [], "an image at least"),
        (np.full((1, 3), np.nan), ["a"], "NaN"),
        (np.zeros((1, 3)), ["z"], "no image of 1 is"),
        (np.zeros((2, 3)), ["a"], "shape"),
    ],
)
def test_numbers_are_refused_without_ground(scores: np.ndarray, labels: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        measure(scores, labels, ["a", "b"])


# ---- bad folders of images


def test_bad_photo_folders(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    photos = photo_folder(("cat", "coffee"), 2)

    def refused(words: str) -> None:
        with pytest.raises(DataError, match=words):
            teach(photos, out, backbone="lite0", frame_hw=(64, 64))
        assert not out.exists()

    (photos / "empty").mkdir()
    refused("empty: has no images")
    (photos / "empty").rmdir()
    shutil.copytree(photos / "cat", photos / "Cat")
    refused("of one name in different spelling: Cat, cat")
    shutil.rmtree(photos / "Cat")
    (photos / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    refused(r"broken\.jpg")
    (photos / "cat" / "broken.jpg").unlink()
    with pytest.raises(DataError, match="does not exist"):
        teach(tmp_path / "absent", out)
    with pytest.raises(DataError, match=r"no class folders.*--flat"):
        teach(photos / "cat", out)


def test_doubtful_photo_folders_are_told(
    photo_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = photo_folder(("cat", "coffee"), 2)
    shutil.copy(photos / "cat" / "0.png", photos / "coffee" / "also.png")
    save(sample_photo("rocket"), photos / "rocket" / "one.png")
    (photos / "cat" / "list.txt").write_text("x")
    said = teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(64, 64))["warnings"]
    told = capsys.readouterr().err
    same = next(text for text in said if "same image in two classes" in text)
    assert str(photos / "cat" / "0.png") in same and "coffee/also.png" in same
    assert any("one image only (rocket)" in text for text in said)
    assert any("list.txt" in text for text in said)
    assert all(text in told for text in said)


def test_an_existing_model_is_not_overwritten_by_accident(model: Path, photo_folder: Callable[..., Path]) -> None:
    photos = photo_folder(("cat",), 1)
    with pytest.raises(DataError, match=r"--add.*--overwrite"):
        teach(photos, model)
    with pytest.raises(DataError, match="not a model folder"):
        teach(photos, photos, overwrite=True)
    assert (photos / "cat").exists()


def test_a_failure_while_saving_keeps_the_old_model(
    model: Path, photo_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from handful import files

    before = {p.name: p.read_bytes() for p in model.iterdir()}
    for fault in (OSError(28, "No space left on device"), KeyboardInterrupt()):

        def fail(path: Path, fault: BaseException = fault) -> None:
            raise fault

        monkeypatch.setattr(files, "_sync", fail)
        with pytest.raises((DataError, KeyboardInterrupt)):
            teach(photo_folder(("flower",), 1, name="more"), model, add=True)
        monkeypatch.undo()
        assert {p.name: p.read_bytes() for p in model.iterdir()} == before
        assert [p.name for p in model.parent.iterdir() if p.name.startswith(".")] == []


# ---- bad model folders


def edit(model: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    meta = json.loads((model / "handful.json").read_text())
    change(meta)
    (model / "handful.json").write_text(json.dumps(meta))


BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (lambda m: edit(m, lambda j: j.update(schema_version=99)), r"schema 99.*pip install --upgrade"),
    "missing weights": (lambda m: (m / "model.safetensors").unlink(), r"model\.safetensors is missing"),
    "missing nemo": (lambda m: (m / "nemo.json").unlink(), r"nemo\.json is missing"),
    "missing meta": (lambda m: (m / "handful.json").unlink(), r"no handful\.json"),
    "wrong checksum": (
        lambda m: (m / "nemo.safetensors").write_bytes((m / "nemo.safetensors").read_bytes()[:-1] + b"x"),
        r"nemo\.safetensors is not the file that was saved",
    ),
    "other backbone": (lambda m: edit(m, lambda j: j["network"]["args"].update(backbone="lite1")), "another backbone"),
    "unknown backbone": (lambda m: edit(m, lambda j: j["network"]["args"].update(backbone="lite9")), "lite9"),
    "unknown network": (lambda m: edit(m, lambda j: j["network"].update(kind="resnet")), "no net named 'resnet'"),
    "no classes": (lambda m: edit(m, lambda j: j.pop("classes")), "lacks 'classes'"),
    "path outside": (lambda m: edit(m, lambda j: j["files"].update({"../evil": "0"})), "outside its folder"),
    "not json": (lambda m: (m / "handful.json").write_text("{"), "not readable JSON"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_model_folders_are_refused(case: str, model: Path) -> None:
    from handful.errors import HandfulError

    damage, words = BAD_MODELS[case]
    damage(model)
    with pytest.raises(HandfulError, match=words) as caught:
        FewShotClassifier.load(model)
    assert "\n" not in str(caught.value)


def test_a_nemo_of_another_backbone_is_refused(model: Path) -> None:
    from handful.files import sha256

    about = json.loads((model / "nemo.json").read_text())
    about["features"] = about["features"].replace("lite0", "lite2")
    (model / "nemo.json").write_text(json.dumps(about))
    edit(model, lambda j: j["files"].update({"nemo.json": sha256(model / "nemo.json")}))
    with pytest.raises(DataError, match="was taught on the features 'lite2"):
        FewShotClassifier.load(model)


def test_a_pickle_posing_as_weights_is_refused(model: Path) -> None:
    import pickle

    from handful.files import sha256

    (model / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    edit(model, lambda j: j["files"].update({"model.safetensors": sha256(model / "model.safetensors")}))
    with pytest.raises(DataError, match="pickle"):
        FewShotClassifier.load(model)


def test_the_same_images_twice_are_told(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos = photo_folder(("cat", "flower"), 2, name="twice")
    first = teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(64, 64))
    again = teach(photos, tmp_path / "m", add=True)
    assert not any("before" in text for text in first["warnings"])
    assert again["learned"] == 0 and again["already_learned"] == 4 and again["samples"] == first["samples"]
    assert any("4 images were learned before" in text and "--again" in text for text in again["warnings"])
    counted = teach(photos, tmp_path / "m", add=True, again=True)
    assert counted["learned"] == 4 and counted["samples"] == {name: 2 * n for name, n in first["samples"].items()}


def test_an_image_that_cannot_be_read_is_left_out_when_allowed(
    photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    from handful.fewshot.evaluate import evaluate

    photos = photo_folder(("cat", "flower"), 2, name="broken")
    (photos / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(DataError, match="--allow unreadable_image"):
        teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(64, 64))
    made = teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(64, 64), allow=["unreadable_image"])
    assert made["learned"] == 4 and any("1 image that cannot be read was left out" in text for text in made["warnings"])
    with pytest.raises(DataError, match="--allow unreadable_image"):
        evaluate(tmp_path / "m", photos)
    found = evaluate(tmp_path / "m", photos, allow=["unreadable_image"])
    assert found["images"] == 4 and found["seen"] == {"images": 4, "copies": 4, "near_copies": 0}


def test_no_image_that_is_left_and_an_archive_are_told_with_the_way_on(
    photo_folder: Callable[..., Path], tmp_path: Path
) -> None:  # fmt: skip
    photos = photo_folder(("cat", "flower"), 2)
    links = tmp_path / "links"
    for file in photos.rglob("*.png"):
        (links / file.parent.name).mkdir(parents=True, exist_ok=True)
        (links / file.parent.name / file.name).symlink_to(file)
    with pytest.raises(DataError, match=r"outside the data set; .*cp -rL FOLDER COPY"):
        teach(links, tmp_path / "m")
    with pytest.raises(DataError, match="no image left that can be used; see why: handful data check"):
        teach(links, tmp_path / "m", allow=["symlink_outside"])
    packed = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    with pytest.raises(DataError, match=r"photos\.zip is a file; .*: handful data convert .* FOLDER --to folder"):
        teach(Path(packed), tmp_path / "m")
    main(["data", "convert", packed, str(tmp_path / "unpacked"), "--to", "folder"])  # the advice, followed
    samples, _ = checked_images(tmp_path / "unpacked")
    assert sorted(str(s.label) for s in samples) == ["cat", "cat", "flower", "flower"]


@pytest.mark.parametrize(
    ("file", "why"), [("handful.json", "appeared while this was running"), ("own", "not a model folder")]
)
def test_what_was_made_meanwhile_is_left_alone(
    photo_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, why: str
) -> None:
    out, learn = tmp_path / "m", FewShotClassifier.learn_samples

    def slowly(self: FewShotClassifier, samples: Any, **how: Any) -> Any:
        learned = learn(self, samples, **how)
        out.mkdir()
        (out / file).write_text('{"schema_version": 2, "files": {}}')
        return learned

    monkeypatch.setattr(FewShotClassifier, "learn_samples", slowly)
    with pytest.raises(DataError, match=why):
        teach(photo_folder(("cat", "flower"), 1, name="one"), out, backbone="lite0", frame_hw=(64, 64))
    assert [path.name for path in out.iterdir()] == [file]


def test_a_model_may_go_into_an_empty_folder_and_over_a_model_only(tmp_path: Path) -> None:
    place = tmp_path / "m"
    may_teach_into(place, overwrite=False)
    place.mkdir()
    may_teach_into(place, overwrite=False)
    (place / "notes.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(DataError, match="is not a model folder, so it is not overwritten; choose another place"):
            may_teach_into(place, overwrite=overwrite)
    for text in (
        "",
        "{}",
        '{"files": {"notes.txt": "x"}}',
        '{"schema_version": "3", "files": []}',
    ):  # of another program
        (place / "handful.json").write_text(text)
        with pytest.raises(DataError, match=r"its handful\.json is another program's"):
            may_teach_into(place, overwrite=True)
    (place / "model.safetensors").touch()
    (place / "handful.json").write_text('{"schema_ver')  # ours, and damaged
    may_teach_into(place, overwrite=True)
    (place / "handful.json").write_text('{"schema_version": 2, "files": {}}')
    may_teach_into(place, overwrite=True)
    with pytest.raises(DataError, match="use --add to teach it more"):
        may_teach_into(place, overwrite=False)
