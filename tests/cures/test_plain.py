"""What is told in plain words to programmers and about files: each is done, and then it works."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

from handful import files, image
from handful.bundle import label_lines
from handful.curate.seen import FILE, Seen
from handful.data import archive, format_cifar, sources
from handful.device.frames import photos_of
from handful.device.taps import Tapped, tap_names
from handful.fewshot.nemo import Nemo
from handful.lucid import blend, fill
from handful.models import net_classifier, net_exeggute, net_lraspp, net_signet
from handful.results import Detections, Origin
from handful.store.store import Annotation, Store
from handful.types import Object
from handful.video.score import score_clip
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.data.layouts import STORED, Maker
from tests.data.reports import photos, write

GRAY = np.full((24, 32, 3), 90, np.uint8)


@cures("data.sources:from_array look", "data.sources:from_array pass", "data.sources:from_array pass #2",
       "data.sources:from_array pass #3", "data.sources:from_array pass #4")  # fmt: skip
def test_arrays_that_are_no_images(desk: Desk) -> None:
    for a in (GRAY[..., 0], GRAY.transpose(2, 0, 1), np.dstack([GRAY, GRAY[..., :1]]), GRAY / 255.0, GRAY * 1.0):
        said = desk.raises(sources.from_array, a)
        cure = str(said).partition("; pass ")[2].partition(", which is")[0].partition(", without")[0]
        mended = eval(cure, {"np": np, "a": a, "PIL": SimpleNamespace(Image=PIL_Image)})
        if not isinstance(mended, np.ndarray):
            (found, _), *_ = sources.images_of(mended)
            assert found.size_wh == (32, 24)
            continue
        assert sources.from_array(mended).rgb_u8.shape == (24, 32, 3), cure
    bad = GRAY / 255.0
    bad[0, 0, 0] = np.nan
    desk.raises(sources.from_array, bad)


@cures("results:_on give", "results:pixels give", "results:plot give", "results:from_supervision give",
       "results:from_supervision leave")  # fmt: skip
def test_results_and_their_images(desk: Desk) -> None:
    here = Detections(*_one(), origin=Origin("array 0", (32, 24)))
    desk.raises(here.plot)
    desk.raises(here.plot, GRAY[:20])
    assert here.plot(GRAY).shape == GRAY.shape
    alone = dataclasses.replace(here, origin=None)
    desk.raises(alone.plot)
    assert alone.plot(GRAY).shape == GRAY.shape
    held: Any = SimpleNamespace(xyxy=np.array([[2, 2, 9, 9]], float), class_id=np.array([4]), confidence=None,
                                mask=None, data={})  # fmt: skip
    desk.raises(Detections.from_supervision, held, ("a", "b"))
    assert Detections.from_supervision(held, tuple("abcde")).names == ("e",)
    held.mask = np.zeros((1, 24, 32), bool)
    desk.raises(Detections.from_supervision, held, tuple("abcde"), (32, 24))
    for name in ("xyxy", "class_id", "mask"):
        setattr(held, name, getattr(held, name)[:0])
    assert len(Detections.from_supervision(held, tuple("abcde"), (32, 24))) == 0


def _one() -> tuple[Any, ...]:
    found: Any = SimpleNamespace(xyxy=np.array([[2, 2, 9, 9]], float), class_id=np.array([0]), confidence=None,
                                 mask=None, data={})  # fmt: skip
    made = Detections.from_supervision(found, ("a",), (32, 24))
    return tuple(getattr(made, field.name) for field in dataclasses.fields(made) if field.name != "origin")


@cures("files:read_json restore", "files:read_tensors convert", "files:read_tensors restore", "curate.seen:load make",
       "fewshot.nemo:load restore")  # fmt: skip
def test_files_that_are_damaged(desk: Desk) -> None:
    tensors, text = desk.at("a.safetensors"), desk.at("a.json")
    for path, read, broken in ((text, files.read_json, b"{"), (tensors, files.read_tensors, b"\x80\x04."),
                               (tensors, files.read_tensors, b"x")):  # fmt: skip
        path.write_bytes(broken)
        desk.raises(read, path)
    files.write_tensors(tensors, {"a": np.zeros(3)})
    files.write_json(desk.at("b.json"), {"a": 1})
    assert files.read_tensors(tensors)["a"].shape == (3,) and files.read_json(desk.at("b.json")) == {"a": 1}
    Seen().save(desk.at())
    files.write_tensors(desk.at(FILE), {"sha256": np.zeros((1, 16), np.uint8)})
    desk.raises(Seen.load, desk.at())
    Seen().save(desk.at())
    assert Seen.load(desk.at()) is not None
    held = Nemo(4, features="x")
    held.learn_many(np.eye(4), list("aabb"))
    held.save(desk.at("nemo"))
    good = desk.at("nemo", "nemo.safetensors").read_bytes()
    held.learn_many(np.eye(4), list("bbaa"))
    held.save(desk.at("other"))
    desk.at("nemo", "nemo.safetensors").write_bytes(desk.at("other", "nemo.safetensors").read_bytes())
    desk.raises(Nemo.load, desk.at("nemo"))
    desk.at("nemo", "nemo.safetensors").write_bytes(good)
    assert Nemo.load(desk.at("nemo")).classes == ("a", "b")


@cures("fewshot.nemo:learn_many rename", "fewshot.nemo:learn_many rename #2", "fewshot.nemo:merge teach",
       "bundle:label_lines rename")  # fmt: skip
def test_names_and_features_of_what_is_taught(desk: Desk) -> None:
    nemo = Nemo(4, features="lite0")
    for name in ("two\nlines", "none of these"):
        desk.raises(nemo.learn_many, np.eye(4)[:1], [name])
    nemo.learn_many(np.eye(4)[:1], ["nothing"])
    desk.raises(nemo.merge, Nemo(4, features="lite2"))
    assert nemo.merge(Nemo(4, features="lite0")).classes == ("nothing",)
    desk.raises(label_lines, ["two\nlines"])
    assert label_lines(["one line"]) == "one line\n"


@cures("lucid.blend:_overlap cut", "lucid.blend:_overlap give", "lucid.fill:fill leave")
def test_layers_and_holes(desk: Desk) -> None:
    layer = np.dstack([GRAY, np.full((24, 32), 255, np.uint8)])
    desk.raises(blend.feather, GRAY, GRAY, (0, 0))
    frame = GRAY.copy()
    blend.feather(frame, layer, (0, 0))
    assert (frame == GRAY).all()
    desk.raises(blend.feather, GRAY, layer.astype(float), (0, 0))
    hole = np.ones(GRAY.shape[:2], bool)
    desk.raises(fill.fill, GRAY, hole, rng=np.random.default_rng(1))
    hole[:, :8] = False
    assert fill.fill(GRAY, hole, rng=np.random.default_rng(1)).shape == GRAY.shape


@cures("image:_checked replace", "image:_to_rgb convert", "image:_to_rgb convert #2", "image:_unidentified replace",
       "image:_unidentified replace #2", "image:_unidentified give", "image:decode replace", "image:decode replace #2",
       "image:_of_heif replace", "image:_one_picture export")  # fmt: skip
def test_images_that_cannot_be_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced by one in JPEG or PNG, or removed, they are read, or gone."""
    good = desk.at("good.png")
    save(GRAY, good)
    bad = {
        "small.png": lambda p: save(GRAY[:2], p),
        "deep.tif": lambda p: PIL_Image.fromarray(np.full((24, 32), 70_000, np.int32)).save(p),
        "float.tif": lambda p: PIL_Image.fromarray(np.full((24, 32), 0.5, np.float32)).save(p),
        "text.jpg": lambda p: p.write_text("<html>no image</html>"),
        "odd.jpg": lambda p: p.write_bytes(bytes(range(7, 200))),
        "clip.jpg": lambda p: p.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64)),
        "cut.png": lambda p: p.write_bytes(good.read_bytes()[:60]),
        "cut.jpg": lambda p: p.write_bytes(_jpeg()[:-20]),
        "cut.heic": lambda p: p.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(64)),
        "raw.tif": _raw,
    }  # fmt: skip
    for name, make in bad.items():
        make(desk.at(name))
        desk.raises(image.read_image, desk.at(name))
        desk.at(name).write_bytes(good.read_bytes())
        assert image.read_image(desk.at(name)).size_wh == (32, 24)


def _jpeg() -> bytes:
    held = io.BytesIO()
    PIL_Image.fromarray(np.random.default_rng(0).integers(0, 255, GRAY.shape, dtype=np.uint8)).save(held, "JPEG")
    return held.getvalue()


def _raw(path: Path) -> None:
    """A TIFF whose first picture is a small copy of another one, as cameras' raw files have it."""
    small, large = PIL_Image.fromarray(GRAY), PIL_Image.fromarray(np.tile(GRAY, (4, 4, 1)))
    small.save(path, save_all=True, append_images=[large], tiffinfo={254: 1})


@cures("data.archive:opened unpack", "data.archive:_unpack get", "data.format_cifar:read get")
def test_archives(desk: Desk) -> None:
    for name in ("set.7z", "set.zip"):
        desk.at(name).write_bytes(b"PK\3\4 and no more")
        desk.raises(archive.opened, desk.at(name), cache=None)
    with zipfile.ZipFile(desk.at("set.zip"), "w") as packed:
        packed.writestr("mug/a.txt", "x")
    assert (archive.opened(desk.at("set.zip"), cache=None)).is_dir()
    (desk.at("cifar")).mkdir()
    desk.at("cifar", "data_batch_1").write_bytes(b"\x80\x02}q\1(U")
    desk.raises(format_cifar.read, desk.at("cifar"))


@cures("data.masks:POINTER run", "data.label_tree:_same_palette save", "data.yolo_names:with_notes remove",
       "data.format_masks:_unnamed name", "data.format_masks:_unnamed save")  # fmt: skip
def test_labels_that_do_not_say_what_they_mean(desk: Desk) -> None:
    m = Maker(3, desk.at("set"))
    for i in range(2):
        m.photo(f"images/{i}.jpg")
        ids = STORED["palette"][0](m.areas())
        if i:
            ids.putpalette([0, 0, 0, 9, 9, 9, 0, 128, 0])
        m.save(ids, f"masks/{i}.png")
    said = desk.no("data", "check", m.place)
    assert "save the masks as RGB" in said
    for path in (m.place / "masks").iterdir():
        ids = np.asarray(PIL_Image.open(path))
        colors = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[ids]
        PIL_Image.fromarray(colors).save(path)
    said = desk.no("data", "check", m.place)
    names = said.partition("printf '")[2].partition("' > class_dict.csv")[0].replace("\\n", "\n")
    (m.place / "class_dict.csv").write_text(names)
    desk.yes("data", "check", m.place)
    (m.place / "class_dict.csv").unlink()
    for path in (m.place / "masks").iterdir():  # a mask of thousands of colors
        noise = np.random.default_rng(1).integers(0, 255, (72, 96, 3), dtype=np.uint8)
        noise[:, :80] = 0
        PIL_Image.fromarray(noise).save(path)
    desk.no("data", "check", m.place, "--format", "masks")
    path = m.place / "masks" / "0.png"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9781\n")
    desk.told(desk.no("data", "check", m.place, "--format", "masks"))
    listed = {**photos("images/a.jpg"), "labels/a.txt": "0 0.5 0.5 0.5 0.5\n", "classes.txt": "mug\n"}
    root = write(desk.at("yolo"), {**listed, "notes.json": {"categories": [{"id": 0, "name": "cup"}]}})
    desk.no("data", "check", root)
    (root / "notes.json").unlink()
    desk.yes("data", "check", root)


@cures("store.store:_find add", "store.store:add_category choose", "store.store:add_category leave",
       "store.revisions:add use", "store.revisions:change remove", "store.revisions:mark_empty clear",
       "store.revisions:_current load", "store.revisions:reverse undo", "store.annotations:checked fix",
       "store.annotations:checked_text rename",
       "store.annotations:checked_text rename #2")  # fmt: skip
def test_the_labeling_store(desk: Desk) -> None:
    box, other = Object("cat", box_px=(1, 2, 30, 40)), Object("cat", box_px=(5, 6, 50, 40))
    with Store.open(desk.at("labels.db")) as store:
        for name in ("a\0b", "\ud800"):
            desk.raises(store.add_category, name)
        store.add_category("cat", id=3)
        desk.raises(store.add_category, "dog", id=3)
        desk.raises(store.add_category, "cat", id=4)
        store.add_category("dog", id=4)
        store.add_category("cat")
        desk.raises(store.find, "1.jpg")
        one = store.add_image("1.jpg", name="1.jpg", size_wh=(64, 48))
        assert store.find("1.jpg") == one
        label = store.add(one, box, author="me")
        desk.raises(store.mark_empty, one, author="me")
        desk.raises(store.change, label.id, Annotation("empty"), version=label.version, author="me")
        desk.raises(store.add, one, Annotation("empty"), author="me")
        desk.raises(store.add, one, Annotation("tag"), author="me")
        tag = store.add(one, Annotation("tag", "cat"), author="me")
        store.remove(tag.id, version=tag.version, author="me")
        now = store.change(label.id, other, version=label.version, author="me")
        desk.raises(store.change, label.id, box, version=label.version, author="you")
        store.change(label.id, box, version=now.version, author="you")  # loaded again
        desk.raises(store.undo, "me")
        store.undo("you")
        store.undo("me")
        store.clear(one, author="me")
        store.mark_empty(one, author="me")


@cures("video.score:_objects check", "video.score:score_clip check")
def test_clips_without_an_object(desk: Desk) -> None:
    empty, full = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    full[2:5, 2:5] = 1
    desk.raises(score_clip, [empty] * 4, [empty] * 4)
    desk.raises(score_clip, [full] * 4, [full, empty, empty, full])
    assert score_clip([full] * 4, [full] * 4).objects[1].j.mean == 1


@cures("models.net_lraspp:build give", "models.net_classifier:build give", "models.net_signet:build leave",
       "models.segmenter:image_refed_unet give", "models.encoder:load_weights give",
       "device.taps:__init__ use", "device.frames:photos_of give")  # fmt: skip
def test_networks_and_their_weights(desk: Desk) -> None:
    own, other = desk.at("lraspp.safetensors"), desk.at("other.safetensors")
    files.write_tensors(other, {"a": np.zeros(3, np.float32)})
    desk.raises(net_lraspp.build, 2, pretrained=True)
    assert net_lraspp.build(2, pretrained=False)
    desk.raises(net_classifier.build, 2, name="torchvision:squeezenet1_1", pretrained=True)
    desk.raises(net_classifier.build, 2, name="torchvision:squeezenet1_1", weights=other)
    small = net_classifier.build(2, name="torchvision:squeezenet1_1")
    whole = {name.removeprefix("network."): value.numpy() for name, value in small.core.state_dict().items()}
    files.write_tensors(own, whole)
    assert net_classifier.build(2, name="torchvision:squeezenet1_1", weights=own)
    desk.raises(net_signet.build, 2, encoder="lite0", width=0.5, pretrained=False)
    assert net_signet.build(2, encoder="scratch", width=0.5)
    desk.raises(net_exeggute.build, 2, weights=own)
    assert net_exeggute.build(2)
    desk.raises(Tapped, small, ["core.nothing"])
    assert Tapped(small, tap_names(small)[:1]).layers
    desk.raises(photos_of, [])
    assert len(photos_of([GRAY])) == 1
