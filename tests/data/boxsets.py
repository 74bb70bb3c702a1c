"""For the tests of VOC and YOLO: small sets of boxes with real photographs, exact comparison, average precision."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.data import format_coco
from handful.data.finding import Finding
from handful.data.sample_images import sample_photo
from handful.data.shapes import decompress
from handful.data.writing import Writer
from handful.types import Category, Dataset, Mask, Object, Rle, Sample

KINDS = {".jpg": "JPEG", ".png": "PNG", ".JPG": "JPEG", ".bmp": "BMP"}


@cache
def _photo(size_wh: tuple[int, int], kind: str) -> bytes:
    held = io.BytesIO()
    crop = PIL_Image.fromarray(sample_photo("cat").rgb_u8).crop((100, 50, 100 + 2 * size_wh[0], 50 + 2 * size_wh[1]))
    crop.resize(size_wh).save(held, format=kind)
    return held.getvalue()


def photo(path: Path, size_wh: tuple[int, int] = (40, 30)) -> Path:
    """A small piece of a real photograph; the suffix says which kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_photo(size_wh, KINDS[path.suffix]))
    return path


def dataset(samples: Iterable[Sample], names: Sequence[str | Category] = (), **more: Any) -> Dataset:
    """A data set of samples and class names (ids from 1), or categories."""
    held = list(samples)
    categories = tuple(n if isinstance(n, Category) else Category(i, n) for i, n in enumerate(names, 1))
    return Dataset("made", Path(), categories, lambda: iter(held), len(held), more)


def placed(folder: Path, sample: Sample) -> Sample:
    """The sample with a real image of its size on disk."""
    path = folder / (sample.split or "none") / sample.name
    return Sample(**{**sample.__dict__, "path": photo(path, sample.size_wh or (40, 30))})


def plain(thing: Object) -> dict[str, Any]:
    """An object as plain data, for exact comparison."""
    rle = thing.rle
    runs = None if rle is None else decompress(rle.counts) if isinstance(rle.counts, bytes) else list(rle.counts)
    outlines = [p.tolist() for p in thing.polygons_px]
    return {"label": thing.label, "box": thing.box_px, "polygons": outlines, "rle": rle and (rle.size_hw, runs),
            "crowd": thing.crowd, "track": thing.track, "attributes": typed(dict(thing.attributes))}  # fmt: skip


def typed(value: Any) -> Any:
    """JSON with its types: 1, 1.0 and True are equal in Python, and three objects in a file."""
    if isinstance(value, dict):
        return {k: typed(v) for k, v in value.items()}
    return [typed(v) for v in value] if isinstance(value, list) else (type(value).__name__, value)


def everything(dataset: Dataset) -> dict[Any, dict[str, Any]]:
    """All that a data set says, by split and name, masks decoded."""
    found = {}
    for s in dataset:
        assert (s.split, s.name) not in found
        found[s.split, s.name] = {
            "objects": None if s.objects is None else [plain(thing) for thing in s.objects],
            "mask": None if s.mask is None else s.mask().ids.tolist(),
            "size": s.size_wh,
            "attributes": typed(dict(s.attributes)),
        }
    return found


def order(dataset: Dataset) -> list[tuple[str, str]]:
    """(split, name) as they come; a stable sort by split keeps the order inside each."""
    return sorted(((s.split or "", s.name) for s in dataset), key=lambda row: row[0])


def told(module: ModuleType, folder: Path) -> list[Finding]:
    """Every finding of a reader, each sample and mask looked at."""
    found: list[Finding] = []
    for sample in module.read(folder, on_finding=found.append):
        if sample.mask is not None:
            with contextlib.suppress(Exception):
                sample.mask()
    return found


def codes(module: ModuleType, folder: Path) -> set[str]:
    """The codes of told()."""
    return {finding.code for finding in told(module, folder)}


def through(module: ModuleType, source: Dataset, folder: Path) -> Dataset:
    """Written in a format and read back, with no error allowed."""
    folder.mkdir(parents=True)
    module.write(source, Writer(folder))
    assert module.detect(folder)
    return module.read(folder)  # type: ignore[no-any-return]


def rle(mask: np.ndarray) -> Rle:
    """Run lengths, made the slow way."""
    runs, value = [0], False
    for v in mask.ravel(order="F").tolist():
        if v != value:
            runs.append(0)
            value = v
        runs[-1] += 1
    return Rle((mask.shape[0], mask.shape[1]), tuple(runs))


WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\"), min_size=1,
                max_size=12).filter(lambda t: t == t.strip() and t[0] != "." and t[-1] != ".")  # fmt: skip
STEMS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(["1", "true", "NaN", " a", "True"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
_OWN = {"iscrowd", "track_id", "handful:mask", "name", "bndbox"}
_KEYS = st.sampled_from(
    ["id", "area", "difficult", "truncated", "occluded", "pose", "source", "folder", "segmented"]
) | st.text(st.characters(exclude_categories=()), min_size=1, max_size=6).filter(lambda k: k not in _OWN)


@st.composite
def boxes(draw: st.DrawFn, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Boxes of one pixel, with whole numbers, with two decimals, and of the whole image."""
    found: list[float] = []
    step = draw(st.sampled_from([1, 100]))
    for side in size_wh:
        a = draw(st.integers(0, (side - 1) * step))
        b = draw(st.integers(a + step, side * step) | st.just(a + step))
        found += [a / step, b / step]
    return found[0], found[2], found[1], found[3]


@st.composite
def boxed_sets(draw: st.DrawFn, *, attributes: bool) -> Dataset:
    """Sets of boxes. attributes: objects and images have some, crowds and tracks."""
    names = draw(st.lists(WORDS, min_size=1, max_size=4, unique_by=lambda n: " ".join(n.split()).casefold()))
    splits = draw(st.sampled_from([[None], ["train", "val"], ["train", "test", "mine/own"], [None, "train"]]))
    stems = draw(st.lists(STEMS, max_size=6, unique_by=lambda n: n.casefold()))
    stems = [s for s in stems if not any(o.casefold().startswith(f"{s}/".casefold()) for o in stems)]
    samples = []
    for i, stem in enumerate(stems):
        size = draw(st.sampled_from([(40, 30), (17, 64)]))
        things = None
        if draw(st.integers(0, 4)):
            things = tuple(
                Object(draw(st.sampled_from(names)), draw(boxes(size)),
                       crowd=attributes and draw(st.booleans()),
                       track=draw(st.none() | st.integers(-5, 10**12)) if attributes else None,
                       attributes=draw(st.dictionaries(_KEYS, JSON, max_size=3)) if attributes else {})
                for _ in range(draw(st.integers(0, 4)))
            )  # fmt: skip
        of_photo = draw(st.dictionaries(_KEYS, JSON, max_size=3)) if attributes and things is not None else {}
        name = stem + draw(st.sampled_from(sorted(KINDS)))
        split = splits[i % len(splits)]
        name = f"xx{name}" if split is None and len(splits) > 1 else name  # not to be taken for a split's folder
        samples.append(Sample(Path(), objects=things, name=name, split=split, size_wh=size, attributes=of_photo))
    return dataset(samples, names)


def jittered(file: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Detections: a COCO file's boxes moved about, some dropped, some of another class, with scores."""
    rng = np.random.default_rng(seed)
    held = json.loads(file.read_text())
    names = {c["id"]: c["name"] for c in held["categories"]}
    files = {i["id"]: i["file_name"] for i in held["images"]}
    found = []
    for label in held["annotations"]:
        box = np.array(label["bbox"])
        for _ in range(int(rng.integers(0, 3))):
            x, y, w, h = (box + rng.normal(0, 0.08, 4) * box[[2, 3, 2, 3]]).tolist()
            wrong = rng.random() < 0.1
            name = names[rng.choice(sorted(names)) if wrong else label["category_id"]]
            found.append({"file": files[label["image_id"]], "name": name, "bbox": [x, y, max(w, 1), max(h, 1)],
                          "score": float(rng.random())})  # fmt: skip
    return found


def precision(file: Path, detections: Iterable[dict[str, Any]]) -> dict[str, list[float]]:
    """COCO's 12 box figures by pycocotools and by faster-coco-eval; ids are found by file name and class name."""
    from faster_coco_eval import COCO as Fast
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    held = json.loads(file.read_text())
    image = {i["file_name"]: i["id"] for i in held["images"]}
    category = {c["name"]: c["id"] for c in held["categories"]}
    rows = [{"image_id": image[d["file"]], "category_id": category[d["name"]], "bbox": d["bbox"], "score": d["score"]}
            for d in detections]  # fmt: skip
    stats = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for name, coco, evaluate in (("pycocotools", COCO, COCOeval), ("faster", Fast, COCOeval_faster)):
            truth = coco(str(file))
            result = evaluate(truth, truth.loadRes([dict(row) for row in rows]), "bbox")
            result.evaluate()
            result.accumulate()
            result.summarize()
            stats[name] = [float(v) for v in result.stats[:12]]
    return stats


def coco_again(module: ModuleType, source: Path, folder: Path) -> Dataset:
    """COCO -> a format -> COCO; the last one is in folder/coco."""
    there = through(module, format_coco.read(source), folder / "there")
    return through(format_coco, there, folder / "coco")


def without_shapes(dataset: Dataset, *, crowds: bool) -> Dataset:
    """The boxes of a data set only, so that COCO's areas are theirs, too."""

    def samples() -> Iterator[Sample]:
        for s in dataset:
            things = tuple(Object(t.label, t.box_px, crowd=t.crowd) for t in s.objects or () if crowds or not t.crowd)
            yield Sample(**{**s.__dict__, "objects": None if s.objects is None else things})

    return Dataset(dataset.format, dataset.root, dataset.categories, samples, dataset.count, dataset.info)


def a_mask(ids: np.ndarray) -> Any:
    """A mask that is already there, as a call."""
    return lambda: Mask(ids)
