"""YOLO: a text file an image, fractions of its width and height; data.yaml with classes and splits.

https://docs.ultralytics.com/datasets/detect/. Read are Ultralytics' images/SPLIT beside labels/SPLIT, Roboflow's
SPLIT/images beside SPLIT/labels, and Darknet's lists with label files beside the images (train.txt, obj.names), also
with nothing but these, in one folder or one for each split (_darknet.labels, classes.txt). An
image without a label file is one nobody labeled (objects None), with an empty one somebody found it empty.

Not held: crowds, holes, ids, attributes but keypoints, licenses, boxes beside outlines (the outline's own box is
taken), and class ids other than 0, 1, 2, ... An outline of several parts becomes one, its parts joined where they are
nearest. Keypoints are held where every class has the same ones, and come as COCO's [x, y, visible, ...] in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from handful.data import yolo_places
from handful.data.finding import Finding, OnFinding, stop
from handful.data.near_names import spelled_alike
from handful.data.paths import split_kind
from handful.data.reading import Few, label_text, unless_dropped, upright_size
from handful.data.writing import Writer, own_size
from handful.data.yolo_layout import OTHER_KEYS, Layout, layout
from handful.data.yolo_places import label_of
from handful.data.yolo_rows import lines_of, objects_of, point_names
from handful.errors import DataError
from handful.pick import need
from handful.types import Category, Dataset, Sample
from handful.words import counted

TITLE = "YOLO (Ultralytics, Roboflow, Darknet)"
TREE = """\
data.yaml        train: images/train
                 val: images/val
                 names: [mug]
images/train/
  a.jpg
labels/train/
  a.txt          0 0.16 0.25 0.31 0.49
"""
PRECEDENCE = 50
_MOST_ID = 65535


def detect(folder: Path) -> bool:
    """Whether the folder is a YOLO data set, or the file the data.yaml of one."""
    return yolo_places.detect(Path(folder))


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of a YOLO data set, split by split, images sorted or in the order of their list.

    A labeled image's header is read for its size, as EXIF turns it: labels are fractions of it. tell: what to do
    about a finding (finding.stop: raise DataError at the first error). Raises DataError when the folder holds no YOLO
    data set.
    """
    folder = Path(folder)
    if not detect(folder):
        raise DataError(f"{folder} is no YOLO data set; wanted data.yaml, or images and labels with .txt files")
    found = layout(folder, on_finding)
    root = found.shelf.folder
    categories = _categories(found, root, on_finding)
    unseen = [image for image, _, _ in found.rows if found.label_of(image) not in found.labels]
    if unseen:
        detail = (
            f"{counted(len(unseen), 'image has', 'images have')} no label file, so they count as unlabeled "
            f"({unseen[0]}, ...)"
        )
        on_finding(Finding("unlabeled_image", unseen[0] if len(unseen) == 1 else ".", unseen[:5], len(unseen), detail))

    def samples() -> Iterator[Sample]:
        names = found.classes
        for image, name, split in found.rows:
            sample = _sample(found, image, name, split, names, root, on_finding)
            if sample is not None:
                yield sample

    return Dataset("yolo", root, categories, samples, len(found.rows))


def _sample(
    found: Layout, image: str, name: str, split: str | None, names: Mapping[int, str], root: Path, on_finding: OnFinding
) -> Sample | None:
    label = found.label_of(image)
    if not found.shelf.inside(image, on_finding):
        return None
    if label not in found.labels:
        return Sample(root / image, name=name, split=split)
    text = label_text(root / label, root, on_finding) if found.shelf.inside(label, on_finding) else None
    size = upright_size(root / image, root, on_finding) if text is not None else None
    if text is None or size is None:
        return None
    things = objects_of(text, names, size, on_finding, file=label, points=found.points, names_file=found.names_file)
    listed = sum(bool(line.strip()) for line in text.split("\n"))
    return Sample(root / image, objects=unless_dropped(things, listed), name=name, split=split, size_wh=size,
                  dropped=listed - len(things))  # fmt: skip


def _categories(found: Layout, root: Path, on_finding: OnFinding) -> tuple[Category, ...]:
    """The classes listed, ids and names unique; what is doubled or broken is told and passed over."""
    rows: list[tuple[Any, Any]] = found.names if found.names is not None else _ids_used(found, root, on_finding)
    ids: dict[int, str] = {}
    names: set[str] = set()
    folded: dict[str, str] = {}
    clashing: set[int] = set()
    file = found.names_file
    few = Few(on_finding)
    for key, name in rows:
        number = int(key) if str(key).isascii() and str(key).isdigit() and len(str(key)) < 6 else _MOST_ID + 1
        if number > _MOST_ID or not isinstance(name, str) or not name:
            value = [str(key)[:30] if isinstance(key, str | int) else "", name[:60] if isinstance(name, str) else ""]
            few(
                Finding("broken_label", file, value, detail=f"has the class {value}; wanted an id from 0 up and a name")
            )
        elif number in ids:
            detail = f"gives the id {number} to {ids[number][:60]!r} and to {name[:60]!r}"
            few(Finding("category_clash", file, {"id": number, "name": name}, detail=detail))
            clashing.add(number)
        elif name in names:
            detail = f"lists the class {name[:60]!r} (id {number}) twice"
            few(Finding("duplicate_category", file, {"id": number, "name": name}, detail=detail))
            found.classes[number] = name
        else:
            found.classes[number] = ids[number] = name
            names.add(name)
            twin = folded.setdefault(spelled_alike(name), name)
            if twin != name:
                few(Finding("category_twins", file, [twin, name], detail=f"has the classes {twin!r} and {name!r}"))
    few.close()
    for number in clashing:
        found.classes.pop(number)
    more = {"keypoints": found.point_names} if found.point_names else {}
    return tuple(Category(key, name, attributes=more) for key, name in ids.items() if key not in clashing)


def _ids_used(found: Layout, root: Path, on_finding: OnFinding) -> list[tuple[int, str]]:
    """The class ids in the label files, where nothing names them; each is called by its number."""
    used: set[int] = set()
    for image, _, _ in found.rows:
        label = found.label_of(image)
        if label in found.labels and found.shelf.inside(label, lambda finding: None):
            text = label_text(root / label, root, lambda finding: None)
            firsts = {line.split(None, 1)[0] for line in (text or "").split("\n") if line.strip()}
            used.update(int(w) for w in firsts if w.isascii() and w.isdigit() and len(w) < 6 and int(w) <= _MOST_ID)
    if used:
        detail = "has no names for its classes (data.yaml, obj.names or classes.txt); each is called by its number"
        on_finding(Finding("no_label_map", found.names_file, sorted(used)[:50], len(used), detail))
    return [(key, str(key)) for key in sorted(used)]


def write(dataset: Dataset, writer: Writer) -> None:
    """Write data.yaml, images/SPLIT and labels/SPLIT; without splits, images and labels.

    Classes are numbered 0, 1, 2, ... in their order. An image nobody labeled gets no label file, and so does one of
    whose labels not one can be written: an empty file would say that nothing is there. A split called valid or
    train2017 is named as val or train too, which is what Ultralytics looks for. Raises DataError when two images would
    share a label file, and when labels were drawn for another size than the image has.
    """
    ids = {c.name: i for i, c in enumerate(dataset.categories)}
    points = point_names(dataset.categories)
    taken: dict[str, Path] = {}
    splits: dict[str | None, str] = {}
    for sample in dataset:
        if sample.split in OTHER_KEYS:
            raise DataError(f"the split {sample.split!r} means something else in data.yaml; rename it")
        folder = splits.setdefault(sample.split, f"images/{sample.split}" if sample.split else "images")
        image = writer.image(sample, f"{folder}/{sample.name}")
        label = label_of(image)
        if label in taken:
            raise DataError(f"{sample.path} and {taken[label]} would share the label file {label}; rename one")
        taken[label] = sample.path
        if sample.objects is not None:
            lines = list(lines_of(sample.objects, ids, _size(sample) if sample.objects else (1, 1), points))
            if lines or not sample.objects:
                writer.text(label, "".join(f"{line}\n" for line in lines))
    named = {split: folder for split, folder in splits.items() if split is not None}
    if not named and None in splits:  # both keys must be there
        named = {"train": "images", "val": "images"}
    places = {key: named.get(key) for key in ("train", "val")} | named
    for key in ("train", "val", "test"):
        meant = [split for split in named if split_kind(split) == key]
        if key not in named and len(meant) == 1:
            places[key] = named[meant[0]]
    about: dict[str, Any] = {**places, "nc": len(ids), "names": {i: name for name, i in ids.items()}}
    if points:
        about |= {"kpt_shape": [len(points), 3], "kpt_names": {i: points for i in ids.values()}}
    plain = all(name.isprintable() for name in ids)  # YAML bends some line ends that are not escaped
    text: str = need("yaml", "data").safe_dump(about, sort_keys=False, allow_unicode=plain, width=1 << 20)
    writer.text("data.yaml", text)


def _size(sample: Sample) -> tuple[int, int]:
    """The image's own size, which is what the fractions are of."""
    size = own_size(sample)
    if sample.size_wh is not None and sample.size_wh != size:
        said = f"{sample.size_wh[0]}x{sample.size_wh[1]}"
        raise DataError(
            f"{sample.path} is {size[0]}x{size[1]} px as EXIF turns it, its labels are for {said}; YOLO's would be "
            "wrong; repair a copy, and convert that: handful data check FOLDER --fix COPY"
        )
    return size
