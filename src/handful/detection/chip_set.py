"""A data set cut into chips to train a detector on, so that it learns large and small objects alike (SNIPER).

Each image is taken at several scales, and of each scale only the chips that hold objects of a fitting size, and some in
which a proposer sees objects where nothing is: the rest teaches little (Singh 2018, arXiv:1805.09300). An object whose
size does not fit a chip's scale, or of which less than VISIBLE is in it, is a crowd there: neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import handful.detection
from handful.data import formats
from handful.data.shapes import box_of
from handful.detection.chips import Scale, negative_chips, positive_chips, pyramid, valid
from handful.detection.contract import clip_to_image
from handful.detection.fusion import area
from handful.errors import DataError
from handful.files import replacing_folder
from handful.image import fit
from handful.pick import pick
from handful.progress import track
from handful.training.source import checked, image_of, split_of, without_unreadable
from handful.types import Category, Dataset, Image, Object, Sample
from handful.words import counted

SIDE_PX = 320
VISIBLE = 0.5
MAX_PROPOSALS = 300  # boxes of an image that the proposer is asked for
NOTHING = "none"


def chip_set(
    data: Path, out: Path, *, side_px: int = SIDE_PX, max_scales: int = 3, proposer: str = "objectness", draws: int = 1,
    one: str | None = None, seed: int = 0, split: str = "train", format: str | None = None, allow: Sequence[str] = (),
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Write a COCO data set of side_px x side_px chips of the images of `split`; other splits are copied as they are.

    most: scales at most; how many, and which sizes belong to each, follows from the data (chips.pyramid). proposer:
    the source of boxes that says where negative chips are worth it, or "none" for no such chips. draws: how often each
    image's chips are drawn, each time from windows laid anew. one: a name for objects of all classes, as a proposer is
    trained on them. format, allow, options: as in teaching.teach. Returns a
    JSON object. Raises DataError, also when `out` exists or no object has a box; UnknownName.
    """
    out = Path(out)
    if out.exists():
        raise DataError(f"{out} exists; choose another place, or remove it")
    if side_px < 32 or draws < 1 or max_scales < 1:
        raise DataError(f"chips of {side_px} px, drawn {draws} times, at most {counted(max_scales, 'scale')}; wanted "
                        "32 px or more, and 1 or more of the others")  # fmt: skip
    source = pick(handful.detection, "proposer", proposer).load() if proposer != NOTHING else None
    dataset, warnings = checked(data, format=format or formats.with_boxes(data), allow=allow, main=True, **options)
    dataset = without_unreadable(dataset, allow)
    if one is not None:
        dataset = _of_one_class(dataset, one)
    photos = [sample for sample in split_of(dataset, split) if sample.objects is not None]
    sizes, longs = [], []
    for sample in photos:
        wide_high = sample.size_wh or image_of(sample).size_wh
        boxes = _boxes(sample, wide_high)[0]
        sizes += np.sqrt(area(boxes)).tolist()
        longs += [max(wide_high)] * len(boxes)
    levels = pyramid(np.array(sizes), np.array(longs), side_px, max_scales=max_scales)
    found: list[Sample] = []
    for number, sample in enumerate(track(photos, "cutting chips", len(photos))):
        found += list(_of_photo(sample, number, levels, side_px, source, draws, seed))
    others = [sample for sample in dataset if sample.split != split and sample.split is not None]
    chips = replace(dataset, format="coco", samples=lambda: iter([*found, *others]), count=len(found) + len(others))
    with replacing_folder(out) as part:
        formats.write(chips, part, "coco")
    negative = sum(bool(s.attributes["negative"]) for s in found)
    by_scale = [sum(s.attributes["scale"] == i for s in found) for i in range(len(levels))]
    things = sum(not thing.crowd for s in found for thing in s.objects or ())
    return {
        "schema_version": 1, "data": str(data), "out": str(out), "images": len(photos), "chips": len(found),
        "negative": negative, "by_scale": by_scale, "objects": things, "objects_in_images": len(sizes),
        "side_px": side_px, "seed": seed,
        "sizes_px": [[low, None if high == float("inf") else high] for low, high in (s.train_range for s in levels)],
        "copied": len(others), "warnings": warnings,
    }  # fmt: skip


def _of_one_class(dataset: Dataset, name: str) -> Dataset:
    def renamed() -> Iterator[Sample]:
        for sample in dataset:
            things = None if sample.objects is None else tuple(replace(o, label=name) for o in sample.objects)
            yield replace(sample, objects=things)

    return replace(dataset, categories=(Category(1, name),), samples=renamed)


def _boxes(sample: Sample, size_wh: tuple[int, int]) -> tuple[np.ndarray, list[Object], np.ndarray, list[Object]]:
    """Objects with their boxes (n, 4) inside the image, and crowds with theirs."""
    parts: list[Any] = []
    for crowd in (False, True):
        rows = [(thing, box) for thing in sample.objects or () if thing.crowd == crowd and (box := box_of(thing))]
        boxes, there = clip_to_image(np.array([box for _, box in rows], np.float64).reshape(-1, 4), size_wh)
        parts += [boxes[there], [thing for (thing, _), ok in zip(rows, there, strict=True) if ok]]
    return parts[0], parts[1], parts[2], parts[3]


def _of_photo(
    sample: Sample, number: int, levels: Sequence[Scale], side_px: int, proposer: Any, draws: int, seed: int
) -> Iterator[Sample]:  # fmt: skip
    image = image_of(sample)
    size_wh = image.size_wh
    boxes, things, crowds, masses = _boxes(sample, size_wh)
    proposals = proposer.propose(image.rgb_u8, MAX_PROPOSALS).xyxy_px if proposer is not None else np.zeros((0, 4))
    stem = Path(sample.name or sample.path.name).with_suffix("").as_posix()
    for draw in range(draws):
        for level, scale in enumerate(levels):
            rng = np.random.default_rng((seed, number, draw, level, 11))
            good = positive_chips(boxes, size_wh, scale, side_px, rng)
            bad = negative_chips(proposals, good, size_wh, scale, side_px, rng)
            fits = valid(boxes, scale.train_range)
            for i, window in enumerate([*good, *bad]):
                own = [_in_chip(thing, box, window, ok) for thing, box, ok in zip(things, boxes, fits, strict=True)]
                own += [_in_chip(thing, box, window, False) for thing, box in zip(masses, crowds, strict=True)]
                factor = scale.of(size_wh, side_px)
                marked = tuple(_enlarged(one, window, factor) for one in own if one is not None)
                at = tuple(float(v) for v in window)
                about = {"chip_of": sample.name or sample.path.name, "window_px": list(at),
                         "scale": level, "negative": i >= len(good)}  # fmt: skip
                yield Sample(
                    sample.path, name=f"{stem}-{draw}-{level}-{i}.png", split=sample.split, objects=marked,
                    size_wh=(side_px, side_px), license=sample.license, attributes=about,
                    pixels=partial(_cut, sample, at, factor, side_px),
                )  # fmt: skip


def _in_chip(thing: Object, box: np.ndarray, window: np.ndarray, fits: bool) -> Object | None:
    """An object as a chip shows it, box in px of the image; a crowd where it is not to be learned, None where it is not
    there."""
    cut = np.concatenate([np.maximum(box[:2], window[:2]), np.minimum(box[2:], window[2:])])
    if (cut[2:] - cut[:2] <= 0).any():
        return None
    share = float(area(cut[None])[0] / area(box[None])[0])
    learned = fits and share >= VISIBLE
    return Object(thing.label, (cut[0], cut[1], cut[2], cut[3]), crowd=not learned)


def _enlarged(thing: Object, window: np.ndarray, factor: float) -> Object:
    assert thing.box_px is not None
    left, top, right, bottom = ((np.array(thing.box_px) - np.tile(window[:2], 2)) * factor).tolist()
    wide_high = {"area": (right - left) * (bottom - top)}
    return replace(thing, box_px=(left, top, right, bottom), attributes=wide_high)


def _cut(sample: Sample, window: tuple[float, ...], factor: float, side_px: int) -> Image:
    """A chip's pixels: the window at the scale, black where it reaches over the image's edge."""
    rgb = image_of(sample).rgb_u8
    left, top = (round(v) for v in window[:2])
    right, bottom = min(rgb.shape[1], round(window[2])), min(rgb.shape[0], round(window[3]))
    size_hw = tuple(min(side_px, max(1, round((b - a) * factor))) for a, b in ((top, bottom), (left, right)))
    canvas = np.zeros((side_px, side_px, 3), np.uint8)
    canvas[: size_hw[0], : size_hw[1]] = fit(rgb[top:bottom, left:right], (size_hw[0], size_hw[1]))
    return Image(canvas)
