"""What belongs together is never parted, every class gets its share, and the same seed gives the same split."""

from __future__ import annotations

import io
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.curate import near_duplicates
from handful.curate.balance import key_of
from handful.curate.split import Split, apply, curated_test, split
from handful.data import format_coco, formats
from handful.data.sample_images import SAMPLES, sample_photo
from handful.errors import DataError, UnknownName
from handful.image import fit, read_image
from handful.types import Category, Dataset, Image, Object, Sample
from tests.conftest import save

NAMES = ("cat", "dog", "bird", "fox")
CATEGORIES = tuple(Category(i + 1, name) for i, name in enumerate(NAMES))


def dataset(samples: Iterable[Sample]) -> Dataset:
    held = list(samples)
    return Dataset("coco", Path("made"), CATEGORIES, lambda: iter(held), len(held))


def labelled(name: str, labels: Iterable[str] | None, **more: object) -> Sample:
    things = None if labels is None else tuple(Object(label, (0, 0, 9, 9)) for label in labels)
    return Sample(Path(name), objects=things, name=name, size_wh=(90, 90), **more)  # type: ignore[arg-type]


@st.composite
def made(draw: st.DrawFn) -> Dataset:
    """Images with up to four classes, nobody's or empty ones among them, some from films and from sources."""
    rows = draw(st.lists(st.tuples(
        st.one_of(st.none(), st.lists(st.sampled_from(NAMES), max_size=4)),
        st.sampled_from([None, "a", "b", "c", "d", "e"]), st.sampled_from([None, 1, "x", "y", "z"]),
        st.sampled_from([None, "train", "val"]),
    ), min_size=12, max_size=40))  # fmt: skip
    samples = []
    for i, (labels, clip, source, old) in enumerate(rows):
        said = {} if source is None else {"from": source}
        samples.append(labelled(f"{source}/{i}.jpg", labels, clip=clip, split=old, attributes=said))
    return dataset(samples)


def together(whole: Dataset, by: str | None) -> list[set[str]]:
    """Keys that must not be parted."""
    held = defaultdict(set)
    for s in whole:
        value = {None: None, "clip": s.clip, "folder": s.name.split("/")[0], "from": s.attributes.get("from")}[by]
        if value is not None:
            held[str(value)].add(key_of(s))
    return list(held.values())


@settings(max_examples=60, deadline=None)
@given(made(), st.sampled_from([None, "clip", "folder", "from"]), st.integers(0, 5), st.booleans())
def test_a_split_is_whole_and_parts_no_group(whole: Dataset, by: str | None, seed: int, three: bool) -> None:
    parts = {"train": 0.6, "val": 0.3, "test": 0.1} if three else {"train": 0.8, "val": 0.2}
    groups = together(whole, by)
    if by is not None and not groups:
        with pytest.raises(DataError):
            split(whole, by=by, near=False)
        return
    if len(groups) + sum(key_of(s) not in set().union(*groups) for s in whole) < len(parts):
        with pytest.raises(DataError, match="groups that must stay together"):
            split(whole, by=by, near=False, parts=parts)
        return
    got = split(whole, by=by, near=False, parts=parts, seed=seed)
    assert sorted(got.of) == sorted(key_of(s) for s in whole)
    assert set(got.of.values()) == set(parts)  # no part is empty
    for group in groups:
        assert len({got.of[key] for key in group}) == 1
    assert sorted(map(sorted, got.groups)) == sorted(sorted(g) for g in groups if len(g) > 1)
    assert got.images == Counter(got.of.values())
    for name in NAMES:
        holds = Counter(got.of[key_of(s)] for s in whole if name in {o.label for o in s.objects or ()})
        assert got.classes[name] == {part: holds[part] for part in parts}


@settings(max_examples=40, deadline=None)
@given(made(), st.sampled_from([None, "clip", "from"]), st.integers(0, 5), st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_changes_a_split(
    whole: Dataset, by: str | None, seed: int, shuffler: random.Random
) -> None:
    samples = [*whole, *(labelled(f"more {i}", ["cat"], clip=f"{i}", attributes={"from": i}) for i in range(3))]
    shuffled = samples.copy()
    shuffler.shuffle(shuffled)
    one, other = (split(dataset(held), by=by, near=False, seed=seed) for held in (samples, shuffled))
    assert one == other


def test_another_seed_is_another_split() -> None:
    whole = dataset(labelled(f"{i}", [NAMES[i % 4]]) for i in range(60))
    assert len({tuple(split(whole, near=False, seed=seed).of.values()) for seed in range(4)}) == 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=4, max_size=4), st.integers(0, 3))
def test_with_one_class_a_photo_each_class_gets_its_share(sizes: list[int], seed: int) -> None:
    samples = [labelled(f"{n} {i}", [n]) for n, size in zip(NAMES, sizes, strict=True) for i in range(size)]
    got = split(dataset(samples), parts={"train": 0.75, "val": 0.25}, near=False, seed=seed)
    for name, size in zip(NAMES, sizes, strict=True):
        assert abs(got.classes[name]["val"] - 0.25 * size) < 2
    assert abs(got.images["val"] - 0.25 * len(samples)) < 1


def test_stratified_far_better_than_by_lot() -> None:
    rng = np.random.default_rng(0)
    names = tuple(f"{i}" for i in range(12))
    share = 0.7 ** np.arange(12) / sum(0.7 ** np.arange(12))
    samples = [labelled(f"{i:03d}", set(rng.choice(names, 2, p=share).tolist())) for i in range(300)]
    got = split(dataset(samples), near=False)
    lots = []
    for _ in range(50):
        chosen = set(rng.choice(300, 60, replace=False).tolist())
        of = {s.name: "val" if i in chosen else "train" for i, s in enumerate(samples)}
        counts = {n: Counter(of[s.name] for s in samples if n in {o.label for o in s.objects or ()}) for n in names}
        classes = {n: {p: counts[n][p] for p in ("train", "val")} for n in names}
        lots.append(replace(got, of=of, classes=classes).deviation["mean"])
    assert got.deviation["mean"] < 0.5 * min(lots)
    assert got.images == {"train": 240, "val": 60}


def test_empty_and_unlabelled_photos_are_shared_out_too() -> None:
    samples = [labelled(f"e{i}", []) for i in range(20)] + [labelled(f"u{i}", None) for i in range(20)]
    got = split(dataset(samples), near=False, parts={"train": 0.5, "val": 0.5})
    assert Counter((key[0], part) for key, part in got.of.items()) == {
        ("e", "train"): 10, ("e", "val"): 10, ("u", "train"): 10, ("u", "val"): 10}  # fmt: skip


def test_large_groups_do_not_turn_the_shares_round() -> None:
    """Of films of 60, 25 and 15 frames the short ones are the smaller part, whatever the classes say."""
    clips = ("a", 60), ("b", 25), ("c", 15)
    samples = [labelled(f"{c}{i}", [NAMES[i * k % 4]], clip=c) for k, (c, n) in enumerate(clips, 1) for i in range(n)]
    got = split(dataset(samples), by="clip", near=False)
    assert got.images in ({"train": 85, "val": 15}, {"train": 75, "val": 25})


def test_deviation_by_hand() -> None:
    got = Split({"a": 0.5, "b": 0.5}, {}, {}, (), {"a": 6, "b": 4}, {"cat": {"a": 3, "b": 1}, "dog": {"a": 0, "b": 0},
                "fox": {"a": 5, "b": 5}}, 0).deviation  # fmt: skip
    assert got["images"] == {"a": pytest.approx(0.1), "b": pytest.approx(-0.1)}
    assert got["per_class"] == {"cat": {"a": 0.25, "b": -0.25}, "fox": {"a": 0.0, "b": 0.0}}
    assert got["largest"] == 0.25 and got["mean"] == pytest.approx(0.25 * 4 / 14)


def jpeg(rgb: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL_Image.fromarray(rgb).save(path, "JPEG", quality=60)
    return path


@pytest.fixture
def twins(tmp_path: Path) -> Dataset:
    """Ten photographs in train, and each again in val: trimmed and encoded anew, under the same name."""
    samples = []
    for name in SAMPLES:
        rgb = sample_photo(name).rgb_u8
        first = save(rgb, tmp_path / "train" / f"{name}.png")
        second = jpeg(fit(rgb[3:-3, 3:-3], (200, 300)), tmp_path / "val" / f"{name}.jpg")
        samples += [Sample(p, label=name, name=p.name, split=p.parent.name) for p in (first, second)]
    return Dataset("folder", tmp_path, (), lambda: iter(samples), len(samples))


def test_photos_that_look_the_same_stay_together(twins: Dataset) -> None:
    for seed in range(5):
        got = split(twins, seed=seed, parts={"train": 0.5, "val": 0.5})
        assert all(got.of[f"train/{name}.png"] == got.of[f"val/{name}.jpg"] for name in SAMPLES)
        assert sorted(got.groups) == sorted((f"train/{name}.png", f"val/{name}.jpg") for name in SAMPLES)
        assert got.images == {"train": 10, "val": 10}
    apart = split(twins, near=False)
    assert apart.groups == () and any(apart.of[f"train/{n}.png"] != apart.of[f"val/{n}.jpg"] for n in SAMPLES)


def test_names_stay_unique_when_old_splits_meet(twins: Dataset) -> None:
    got = split(twins, parts={"all": 1})
    # a.png and a.jpg are in each other's way, for formats that name labels by the stem
    both = [f"{old}/{name}{end}" for name in SAMPLES for old, end in (("train", ".png"), ("val", ".jpg"))]
    assert got.renamed == {key: key for key in both}
    samples = list(apply(twins, got))
    assert {s.split for s in samples} == {"all"}
    assert {s.name for s in samples} == set(got.renamed.values())
    assert all(s.path.is_file() for s in samples)


def test_only_what_is_in_the_way_is_renamed() -> None:
    train, val = ("a.jpg", "val/c.jpg"), ("A.PNG", "b.jpg", "c.jpg")
    old = [("train", name) for name in train] + [("val", name) for name in val] + [(None, "c.jpg")]
    whole = dataset(labelled(name, [], split=split_) for split_, name in old)
    got = split(whole, parts={"all": 1}, near=False)
    assert got.renamed["train/a.jpg"] == "train/a.jpg" and got.renamed["val/A.PNG"] == "val/A.PNG"
    assert "val/b.jpg" not in got.renamed and "c.jpg" not in got.renamed
    assert len({s.name.casefold() for s in apply(whole, got)}) == 6


@settings(max_examples=40, deadline=None)
@given(made(), st.integers(0, 3))
def test_applied_names_are_unique_in_each_part(whole: Dataset, seed: int) -> None:
    ends = ".jpg", ".png"
    short = dataset(replace(s, name=f"{i % 5}{ends[i % 2]}", split=f"old {i // 5}") for i, s in enumerate(whole))
    applied = list(apply(short, split(short, near=False, seed=seed)))
    stems = Counter((s.split, s.name.rsplit(".", 1)[0].casefold()) for s in applied)
    assert len(applied) == len(short) and set(stems.values()) == {1}


def test_apply_is_lazy_and_knows_its_samples() -> None:
    whole = dataset(labelled(f"{i}", ["cat"]) for i in range(10))
    got = split(whole, near=False)
    reads = []
    lazy = replace(whole, samples=lambda: (reads.append(1), iter(whole))[1])
    view = apply(lazy, got)
    assert reads == [] and len(view) == 10
    assert Counter(s.split for s in view) == {"train": 8, "val": 2}
    with pytest.raises(DataError, match="new is not in the split"):
        list(apply(dataset([labelled("new", [])]), got))


def test_photos_in_an_archive_are_compared_too() -> None:
    def pixels(rgb: np.ndarray) -> Callable[[], Image]:
        return lambda: Image(rgb)

    rgb = {name: sample_photo(name).rgb_u8 for name in ("cat", "coffee")}
    held = io.BytesIO()
    PIL_Image.fromarray(rgb["cat"]).save(held, "JPEG", quality=50)
    views = {"cat": rgb["cat"], "cat again": np.asarray(PIL_Image.open(held)), "coffee": rgb["coffee"]}
    samples = [Sample(Path("all.tar"), label="x", name=name, pixels=pixels(a)) for name, a in views.items()]
    got = split(dataset(samples), parts={"a": 0.5, "b": 0.5})
    assert got.groups == (("cat", "cat again"),)


def test_what_photos_look_like_is_remembered(twins: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = split(twins, cache=tmp_path / "cache")
    monkeypatch.setattr(
        "handful.curate.image_metadata.read_metadata", lambda path: pytest.fail(f"{path} was opened again")
    )
    assert split(twins, cache=tmp_path / "cache") == first


def test_curated_test_set_has_as_many_of_each() -> None:
    of = {"cat": 50, "dog": 20, "bird": 7, "fox": 1}
    whole = dataset([labelled(f"{n} {i}", [n]) for n, k in of.items() for i in range(k)] + [labelled("none", None)])
    got = curated_test(whole, 5, near=False)
    assert {n: row["test"] for n, row in got.classes.items()} == {"cat": 5, "dog": 5, "bird": 3, "fox": 0}
    assert got.of["none"] == "train" and set(got.of.values()) == {"train", "test"}
    assert got == curated_test(dataset(reversed(list(whole))), 5, near=False)
    assert got.of != curated_test(whole, 5, near=False, seed=1).of


@settings(max_examples=40, deadline=None)
@given(made(), st.integers(1, 6), st.sampled_from([None, "clip"]))
def test_curated_test_never_takes_more_than_half_of_a_class(whole: Dataset, per_class: int, by: str | None) -> None:
    alone = (labelled(f"alone {i}", ["cat"], clip=f"alone {i}") for i in range(2))  # so that there is one to take
    whole = dataset([*whole, *alone])
    got = curated_test(whole, per_class, near=False, by=by)
    assert "test" in got.of.values()
    assert sorted(got.of) == sorted(key_of(s) for s in whole)
    for row in got.classes.values():
        assert row["test"] <= row["train"]
    for group in together(whole, by):
        assert len({got.of[key] for key in group}) == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: split(d, parts={"train": 0.8, "val": 0.3}, near=False), "shares sum to 1.1"),
        (lambda d: split(d, parts={"train": 1.5, "val": -0.5}, near=False), "share of train is 1.5"),
        (lambda d: split(d, parts={"../up": 1}, near=False), "cannot name a part"),
        (lambda d: split(d, parts={}, near=False), "shares sum to 0"),
        (lambda d: split(d, by="sorce", near=False), "did you mean 'source'"),
        (lambda d: split(d, by="clip", near=False), "no sample of made has a clip"),
        (lambda d: split(d, by="source", near=False), "falls into 1 group "),
        (lambda d: split(dataset([]), near=False), "has no images to divide"),
        (lambda d: split(d), "0 does not exist|0 cannot be read"),
        (lambda d: curated_test(d, 0, near=False), "per_class is 0"),
        (lambda d: curated_test(d, 3, near=False, by="source"), "that may be parted"),
        (lambda d: split(dataset([*d, *d]), near=False), "two samples named 0"),
    ],
)
def test_what_cannot_be_split_is_said(call: Callable[[Dataset], object], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        call(dataset(labelled(f"{i}", ["cat"], attributes={"source": "here"}) for i in range(4)))


def test_real_photos(data: Path) -> None:
    whole = format_coco.read(data / "coco-mini")
    got = split(whole)
    assert max(map(abs, got.deviation["images"].values())) < 0.01
    assert got.deviation["mean"] < 0.04  # by lot: 0.07 to 0.08
    by_source = split(whole, by="source_repo", near=False)
    for repo in {s.attributes["source_repo"] for s in whole}:
        assert len({by_source.of[key_of(s)] for s in whole if s.attributes["source_repo"] == repo}) == 1


def test_real_films_are_not_torn(data: Path) -> None:
    """Frames that look the same stay together without being told of films; with by="clip" whole films do."""
    whole = formats.read(data / "davis2016")
    by_clip = split(whole, by="clip", near=False, parts={"train": 0.6, "test": 0.4})
    for clip in {s.clip for s in whole}:
        assert len({by_clip.of[key_of(s)] for s in whole if s.clip == clip}) == 1
    camel = [s for s in whole if s.clip == "camel"]
    prints = [near_duplicates.fingerprint(read_image(s.path)) for s in camel]
    assert near_duplicates.clusters(prints) == [list(range(len(camel)))]
