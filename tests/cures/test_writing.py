"""What cannot be written under its name is renamed, and written; what is in the way is chosen otherwise."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful import places
from handful.cli.places import Output
from handful.curate import balance
from handful.data import formats
from handful.files import write_page
from handful.types import Category, Dataset, Mask, Object, Sample
from tests.curate import test_repair as sets
from tests.cures.desk import Desk, cures
from tests.data.boxsets import photo


def made(place: Path, *names: str, label: str | None = None, thing: str | None = None, mask: bool = False,
         split: str | None = None, on: dict[str, Any] | None = None, about: dict[str, Any] | None = None
         ) -> Dataset:  # fmt: skip
    """Images of these names with a class, or an object, or a mask. on, about: attributes of object and image."""
    samples = []
    for i, name in enumerate(names):
        path = photo(place / f"{i}{Path(name).suffix}")
        objects = (Object(thing, (1.0, 2.0, 30.0, 20.0), attributes=on or {}),) if thing is not None else None
        read = partial(Mask, np.ones((30, 40), np.uint8)) if mask else None
        samples.append(Sample(path, label=label, name=name, split=split, objects=objects, size_wh=(40, 30), mask=read,
                              attributes=about or {}))  # fmt: skip
    classes = (Category(1, label or thing or "mug"),)
    return Dataset("made", place, classes, lambda: iter(samples), len(samples))


JPG = ("a.jpg",)
# (format, what cannot be written, the same renamed), as arguments of `made`
RENAMED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "data.cvat_rows:add_attributes rename": ("cvat", {"thing": "mug", "about": {"a\x01": 1}}, {"thing": "mug"}),
    "data.format_cvat:_add_label rename": ("cvat", {"thing": "m\x01"}, {"thing": "mug"}),
    "data.format_cvat:_add_label rename #2": ("cvat", {"thing": "mug", "on": {"a\x01": 1}}, {"thing": "mug"}),
    "data.format_cvat:write rename": ("cvat", {"names": ("a\x01.jpg",), "thing": "mug"}, {"thing": "mug"}),
    "data.format_ade20k:write rename": ("ade20k", {"label": "a\tb", "mask": True, "split": "train"},
                                        {"label": "ab", "mask": True, "split": "train"}),
    "data.format_csv_boxes:write rename": ("csv_boxes", {"thing": "mug "}, {"thing": "mug"}),
    "data.format_csv_classes:write rename": ("csv_classes", {"label": "mug "}, {"label": "mug"}),
    "data.format_folder:write rename": ("folder", {"label": "a/b"}, {"label": "ab"}),
    "data.format_labelme:write rename": ("labelme", {"names": ("a.jpg", "a.png"), "thing": "mug"},
                                         {"names": ("a.jpg", "b.png"), "thing": "mug"}),
    "data.format_voc:write rename": ("voc", {"names": ("a.jpg", "a.png"), "thing": "mug"},
                                     {"names": ("a.jpg", "b.png"), "thing": "mug"}),
    "data.voc_classes:class_name rename": ("voc", {"thing": "m\x01"}, {"thing": "mug"}),
    "data.format_yolo:write rename": ("yolo", {"thing": "mug", "split": "names"}, {"thing": "mug", "split": "train"}),
    "data.format_yolo:write rename #2": ("yolo", {"names": ("a.jpg", "a.png"), "thing": "mug"},
                                         {"names": ("a.jpg", "b.png"), "thing": "mug"}),
    "data.label_tree:mask_names rename": ("masks", {"names": ("a.jpg", "a.png", "a.jpg.png"), "mask": True},
                                          {"names": ("a.jpg", "b.png"), "mask": True}),
    "data.writing:path rename": ("folder", {"names": ("../a.jpg",), "label": "mug"}, {"label": "mug"}),
    "data.writing:image rename": ("folder", {"names": ("a.jpg", "a.jpg"), "label": "mug"},
                                  {"names": ("a.jpg", "b.jpg"), "label": "mug"}),
    "data.writing:text rename": ("csv_boxes", {"names": ("a\udc80.jpg",), "thing": "mug"}, {"thing": "mug"}),
}  # fmt: skip


@cures(*RENAMED)
def test_what_cannot_be_written_is_renamed(desk: Desk) -> None:
    for i, (key, (form, bad, good)) in enumerate(RENAMED.items()):
        for how in (bad, good):
            how.setdefault("names", JPG)
        images, (broken, sound) = (
            desk.at(f"{i}"),
            [{k: v for k, v in how.items() if k != "names"} for how in (bad, good)],
        )
        told = desk.raises(formats.write, made(images, *bad["names"], **broken), desk.at(f"{i}-bad"), form)
        assert "rename" in told, key
        formats.write(made(images, *good["names"], **sound), desk.at(f"{i}-good"), form)
        assert formats.read(desk.at(f"{i}-good"), format=form, on_finding=lambda finding: None).count


@cures("cli.places:clear choose", "cli.places:clear choose #2", "cli.places:clear choose #3",
       "cli.places:clear choose #4",
       "curate.convert:convert choose", "curate.convert:put choose", "curate.repair:repair choose",
       "curate.repair:repair choose #2", "detection.chip_set:chip_set choose",
       "places:check_folder choose", "places:check_folder choose #2", "places:check_folder choose #3",
       "places:check_file choose", "places:check_file choose #2", "places:check_writable choose",
       "files:_into choose", "files:_into choose #2", "models.folder:check_replaceable choose")  # fmt: skip
def test_another_place_is_chosen(desk: Desk) -> None:
    root = sets.folders(desk.at("set"))
    (desk.at("there")).mkdir()
    convert = ["data", "convert", root, "OUT", "--to", "folder"]

    def to(place: Path, words: list[Any] = convert) -> list[Any]:
        return [place if word == "OUT" else word for word in words]

    taken = desk.no(*to(desk.at("there")))
    assert "remove it" in taken
    desk.no(*to(root / "cup/copy"))  # inside what is read
    desk.yes(*to(desk.at("free")))  # another place
    desk.at("there").rmdir()
    desk.yes(*to(desk.at("there")))  # or removed

    stats = ["data", "stats", root, "--out", "OUT"]
    model = desk.at("model")
    model.mkdir()
    (model / "handful.json").write_text("{}")
    (desk.at("file")).write_text("mine")
    (desk.at("mine")).mkdir()
    (desk.at("mine/stats.html")).write_text("my page")
    for place in (model, desk.at("file"), desk.at("mine"), desk.at("file", "below")):
        desk.no(*to(place, stats))
    desk.yes(*to(desk.at("stats"), stats))
    photo, beside = root / "cup/0.jpg", Output("files")
    desk.raises(beside.clear, root / "cup", [photo])
    beside.clear(desk.at("drawn"), [photo])
    teach = ["teach", root, "--out", "OUT", "--overwrite"]
    assert "read by this command" in desk.no(*to(root, teach))
    assert "would write anew" in desk.no(*to(desk.place, teach))

    # the same, of those who call
    from handful.curate import convert as converting
    from handful.curate.repair import repair
    from handful.detection.chip_set import chip_set
    from handful.models.folder import check_replaceable

    read = formats.read(root)
    for call in (partial(converting.convert, root, to="folder"), partial(repair, root), partial(chip_set, root)):
        desk.raises(call, out=desk.at("there"))
    desk.raises(converting.put, read, desk.at("there"), "folder")
    desk.raises(repair, root, root / "copy")
    desk.raises(check_replaceable, desk.at("mine"))
    desk.raises(places.check_file, root / "cup/0.jpg", [root / "cup/0.jpg"])
    desk.raises(write_page, desk.at("file/page.html"), "<head>")
    desk.raises(write_page, Path("/proc/handful/page.html"), "<head>")
    write_page(desk.at("page.html"), "<head>")
    places.check_file(desk.at("other.jpg"), [root / "cup/0.jpg"])
    assert repair(root, desk.at("repaired"))["ok"]
    assert converting.put(read, desk.at("put"), "folder")["written"]
    check_replaceable(desk.at("nothing yet"))


@cures("cli.verbs_data:_converted --allow-loss", "cli.verbs_data:_kept --allow-loss",
       "cli.verbs_data:split_ --part --test-per-class", "curate.balance:weights leave",
       "curate.split:_grouped --by", "curate.split:split --no-near --by",
       "curate.split:_marked handful data check", "curate.split:_marked --fix --no-near",
       leaves_out=("--part", "--test-per-class", "--by"))  # fmt: skip
def test_copies_and_parts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.at("set").mkdir()
    root = sets.saved(desk.at("set"), sets.coco(desk.at("set"), many=8, licenses=[{"id": 1, "name": "CC0"}]))
    said = desk.no("data", "convert", root, desk.at("yolo"), "--to", "yolo")
    desk.yes("data", "convert", root, desk.at("yolo"), "--to", "yolo", *said.option("--allow-loss"))
    with monkeypatch.context() as patch:  # no format that is read loses anything when it is written as itself
        patch.setattr(formats, "copied_as", lambda dataset: "yolo")
        balance_ = ["data", "balance", root, "--out", desk.at("balanced")]
        said = desk.no(*balance_)
        desk.yes(*balance_, *said.option("--allow-loss"))

    desk.no("data", "split", root, "--part", "a=1", "--test-per-class", 1)
    desk.yes("data", "split", root, "--test-per-class", 1, "--no-near")
    found = balance.counts(formats.read(root))
    desk.raises(balance.weights, found, rule="median", per="images")
    assert balance.weights(found, rule="median")
    desk.no("data", "split", root, "--by", "clip")
    for i in range(1, 8):
        shutil.copy(root / "images/0.jpg", root / f"images/{i}.jpg")
    said = desk.no("data", "split", root)  # the same picture again and again
    desk.yes("data", "split", root, *said.option("--no-near"))
    (root / "images/0.jpg").write_bytes(b"")
    said = desk.no("data", "split", root)
    desk.yes("data", "split", root, *said.option("--no-near"))
    desk.yes(*said.command("data check", COPY=desk.at("copy")))
    assert "has 1 image; wanted 2" in desk.no("data", "split", desk.at("copy"))
