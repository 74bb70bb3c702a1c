"""Tables whose columns do not say what they are, and numbers that a file names: what is told to be done is done."""

from __future__ import annotations

import json
import shutil

from handful.data import formats
from tests.cures.desk import Desk, cures
from tests.data.layouts import STORED, Maker
from tests.data.reports import photos, write

ROWS = {"a.jpg": "cup", "b.jpg": "plate", "c.jpg": "cup"}


def table(desk: Desk, header: str, cells: str) -> None:
    lines = [header, *(f"{name},{cells.replace('CLASS', label)}" for name, label in ROWS.items())]
    write(desk.at("set"), {**photos(*ROWS), "boxes.csv": "\n".join(lines)})


@cures("data.csv_columns:tell_words call")
def test_text_that_may_be_the_classes(desk: Desk) -> None:
    corners = "filename,xmin,ymin,xmax,ymax"
    table(desk, f"{corners},baum", "10,12,60,40,CLASS")
    desk.no("data", "check", desk.at("set"))
    table(desk, f"{corners},class", "10,12,60,40,CLASS")
    assert "2 classes" in desk.yes("data", "check", desk.at("set"))
    table(desk, corners, "10,12,60,40")
    desk.yes("data", "check", desk.at("set"))


@cures("data.format_csv_classes:_tell_places call")
def test_numbers_that_may_be_places(desk: Desk) -> None:
    table(desk, "filename,bx,by,bw,bh,class", "35,26,50,28,CLASS")
    desk.no("data", "check", desk.at("set"))
    for header in ("xmin,ymin,xmax,ymax", "x_center,y_center,width,height"):
        table(desk, f"filename,{header},class", "35,26,50,40,CLASS")
        assert "csv_boxes" in desk.yes("data", "check", desk.at("set"))
    table(desk, "filename,class", "CLASS")
    assert "csv_classes" in desk.yes("data", "check", desk.at("set"))


@cures("data.class_maps:names_for mend", "data.class_maps:names_for take")
def test_files_that_name_numbers_wrongly(desk: Desk) -> None:
    names = {"0": "cup", "1": "plate"}
    root = write(desk.at("set"), {**photos("0/a.jpg", "1/b.jpg"), "names.json": {"0": "cup"}})
    desk.no("data", "check", root)
    (root / "names.json").write_text(json.dumps(names))
    desk.yes("data", "check", root)
    (root / "other.json").write_text(json.dumps({**names, "0": "mug"}))
    desk.no("data", "check", root)
    (root / "other.json").unlink()
    desk.yes("data", "check", root)
    (root / "names.json").unlink()
    desk.yes("data", "check", root)


@cures("data.reading:label_text save")
def test_a_table_that_does_not_say_it_is_utf_16(desk: Desk) -> None:
    text = "filename,class\n" + "\n".join(f"{name},{label}" for name, label in ROWS.items())
    root = write(desk.at("set"), {**photos(*ROWS), "boxes.csv": text.encode("utf-16-le")})
    assert "save it as UTF-8" in desk.no("data", "check", root)
    (root / "boxes.csv").write_text(text)
    assert "2 classes" in desk.yes("data", "check", root)


@cures("data.looks:hard_values save", "data.looks:hard_values save #2")
def test_masks_saved_as_jpeg(desk: Desk) -> None:
    m = Maker(4, desk.at("set"))
    for i in range(3):
        m.photo(f"images/{i}.jpg")
        ids = m.areas()
        m.save(STORED["ids"][0](ids), f"masks/{i}.jpg", quality=75)
        m.save(STORED["ids"][0](ids), f"away/{i}.png")
    shutil.move(desk.at("set", "away"), desk.at("away"))
    desk.no("data", "check", desk.at("set"))
    desk.raises(lambda: [s.mask() for s in formats.read(desk.at("set")) if s.mask])
    shutil.rmtree(desk.at("set", "masks"))
    shutil.move(desk.at("away"), desk.at("set", "masks"))
    desk.yes("data", "check", desk.at("set"))


@cures("data.angles:tell_columns take")
def test_a_column_that_turns_boxes(desk: Desk) -> None:
    table(desk, "filename,cx,cy,w,h,angle,class", "35,26,50,28,30,CLASS")
    assert "take it away" in desk.no("data", "check", desk.at("set"))
    table(desk, "filename,cx,cy,w,h,class", "35,26,50,28,CLASS")
    assert "csv_boxes" in desk.yes("data", "check", desk.at("set"))


@cures("data.yolo_layout:_tell_count mend")
def test_a_number_of_classes_that_is_not_how_many_are_named(desk: Desk) -> None:
    root = write(desk.at("set"), {**photos("images/a.jpg"), "labels/a.txt": "1 0.5 0.5 0.5 0.5\n"})
    config = "train: images\nval: images\nnc: {}\nnames: {}\n"
    (root / "data.yaml").write_text(config.format(3, "[cup, plate]"))
    assert "mend the one that is wrong" in desk.yes("data", "check", root)
    for nc, names in ((2, "[cup, plate]"), (3, "[cup, plate, mug]")):
        (root / "data.yaml").write_text(config.format(nc, names))
        assert "class_count" not in desk.yes("data", "check", root)
