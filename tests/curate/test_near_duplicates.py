"""The same image again is found, another one is not, and every pair that should be looked at is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PIL_Image

from handful.curate import near_duplicates
from handful.curate.near_duplicates import Fingerprint, clusters, fingerprint, groups, near_pairs
from handful.data.sample_images import SAMPLES, sample_photo
from handful.image import fit, read_image
from handful.types import Image


def jpeg(rgb: np.ndarray, quality: int = 50) -> np.ndarray:
    held = io.BytesIO()
    PIL_Image.fromarray(rgb).save(held, "JPEG", quality=quality)
    return np.asarray(PIL_Image.open(held))


def lit(rgb: np.ndarray, by: float) -> np.ndarray:
    return np.clip(rgb * by + 0.5, 0, 255).astype(np.uint8)


def trimmed(rgb: np.ndarray, share: float = 0.03) -> np.ndarray:
    y, x = (max(1, round(share * side)) for side in rgb.shape[:2])
    return rgb[y:-y, x:-x]


EDITS = {
    "again": lambda rgb: rgb.copy(),
    "jpeg": jpeg,
    "half": lambda rgb: fit(rgb, (rgb.shape[0] // 2, rgb.shape[1] // 2)),
    "squashed": lambda rgb: fit(rgb, (200, 200)),
    "trimmed": trimmed,
    "brighter": lambda rgb: lit(rgb, 1.1),
    "darker": lambda rgb: lit(rgb, 0.9),
}


def marked(rgb: np.ndarray) -> Fingerprint:
    return fingerprint(Image(np.ascontiguousarray(rgb)))


def smooth(top: tuple[int, int, int], bottom: tuple[int, int, int], bend: float = 1.0) -> np.ndarray:
    """A sky: one color running into another."""
    way = (np.linspace(0, 1, 120) ** bend)[:, None, None]
    return np.round((1 - way) * top + way * bottom).astype(np.uint8).repeat(160, axis=1)


def test_what_is_kept() -> None:
    print_ = marked(sample_photo("cat").rgb_u8)
    assert 0 <= print_.bits < 1 << 64 and 0 <= print_.flipped < 1 << 64
    assert print_.bits.bit_count() == 32  # half of the frequencies lie above their median
    assert (print_.gray.shape, print_.gray.dtype) == ((32, 32), np.uint8)
    assert (print_.chroma.shape, print_.chroma.dtype) == ((4, 4, 2), np.uint8)
    gray = marked(np.repeat(sample_photo("cat").rgb_u8[..., :1], 3, axis=2))
    assert (np.abs(gray.chroma.astype(int) - 128) <= 1).all()


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", SAMPLES)
def test_an_edited_photo_is_the_same(name: str, edit: str) -> None:
    rgb = sample_photo(name).rgb_u8
    assert near_pairs([marked(rgb), marked(EDITS[edit](rgb))]) == [(0, 1)]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_mirror_image_is_the_same_only_when_asked(name: str) -> None:
    rgb = sample_photo(name).rgb_u8
    prints = [marked(rgb), marked(jpeg(rgb[:, ::-1]))]
    assert near_pairs(prints) == []
    assert near_pairs(prints, mirrored=True) == [(0, 1)]


def test_different_photos_are_different() -> None:
    assert near_pairs([marked(sample_photo(name).rgb_u8) for name in SAMPLES]) == []


def test_another_color_is_another_thing() -> None:
    rgb = sample_photo("coffee").rgb_u8
    redder = np.clip(rgb + np.array([40, -20.4, 0]), 0, 255).astype(np.uint8)  # just as bright
    assert near_pairs([marked(rgb), marked(redder)]) == []
    assert near_pairs([marked(rgb), marked(redder)], color=255) == [(0, 1)]


def test_far_brighter_is_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = sample_photo("coffee").rgb_u8
    assert near_pairs([marked(rgb), marked(lit(rgb, 0.5))]) == []
    night, day = (marked((0.5 * rgb + more).astype(np.uint8)) for more in (5, 95))
    assert near_pairs([night, day]) == []
    monkeypatch.setattr(near_duplicates, "LIGHT", 255)
    assert near_pairs([night, day]) == [(0, 1)]


def test_white_around_different_things_does_not_make_them_alike() -> None:
    """Two objects on much white have nearly all pixels in common, and may have their hash in common too."""
    one, other = (np.full((300, 300, 3), 255, dtype=np.uint8) for _ in range(2))
    one[90:210, 80:220] = fit(sample_photo("cat").rgb_u8, (120, 140))
    other[90:210, 80:220] = fit(sample_photo("rocket").rgb_u8, (120, 140))
    prints = [marked(one), marked(other), marked(jpeg(one)), marked(trimmed(other))]
    assert near_pairs(prints, bits=64) == [(0, 2), (1, 3)]


def test_skies_are_alike_only_to_their_own_copies() -> None:
    skies = [smooth((90, 140, 210), (200, 220, 240)), smooth((90, 140, 210), (200, 220, 240), bend=2.5),
             smooth((200, 205, 210), (206, 211, 216)), smooth((214, 219, 224), (208, 213, 218))]  # fmt: skip
    prints = [marked(sky) for sky in skies]
    assert near_pairs(prints, bits=64) == []
    for sky in skies:
        assert near_pairs([marked(sky), marked(jpeg(sky, 90))], bits=64) == [(0, 1)]


def test_faint_patterns_are_told_apart() -> None:
    """A wall and another wall: a pattern of one gray level is all there is, and all that counts."""
    walls = []
    for seed in range(3):
        coarse = np.random.default_rng(seed).normal(0, 2, (8, 12))
        pattern = np.asarray(PIL_Image.fromarray(coarse).resize((180, 120), PIL_Image.Resampling.BICUBIC))
        walls.append(np.repeat(np.round(180 + pattern)[..., None], 3, axis=2).astype(np.uint8))
    assert all(0.7 < marked(wall).gray.std() < 1.4 for wall in walls)
    assert near_pairs([marked(wall) for wall in walls], bits=64) == []
    for wall in walls:
        assert near_pairs([marked(wall), marked(jpeg(wall, 98))], bits=64) == [(0, 1)]


def test_plain_colors_are_alike_only_to_themselves() -> None:
    colors = (0, 0, 0), (255, 255, 255), (250, 250, 250), (250, 240, 250)
    plain = [np.full((64, 64, 3), rgb, dtype=np.uint8) for rgb in colors]
    assert near_pairs([marked(p) for p in plain], bits=64) == []
    assert near_pairs([marked(plain[1]), marked(plain[1].copy())]) == [(0, 1)]


def made(rng: np.random.Generator, n: int) -> list[Fingerprint]:
    """Prints of a few families: codes a few bits apart, thumbnails the same but for noise or quite different."""
    prints = []
    bases = [(int(rng.integers(1 << 62)), rng.integers(0, 256, (32, 32)).astype(np.uint8)) for _ in range(3)]
    for _ in range(n):
        bits, gray = bases[rng.integers(3)]
        for bit in rng.integers(0, 62, rng.integers(0, 16)).tolist():
            bits ^= 1 << bit
        noise = rng.normal(0, rng.choice([1.0, 60.0]), (32, 32))
        gray = np.clip(gray + noise, 0, 255).astype(np.uint8)
        prints.append(Fingerprint(bits, bits ^ 255, gray, rng.integers(120, 130, (4, 4, 2)).astype(np.uint8)))
    return prints


def one_by_one(prints: list[Fingerprint], bits: int) -> list[tuple[int, int]]:
    """Every pair in turn, bit counts by Python's own integers."""
    found = []
    for i, a in enumerate(prints):
        for j, b in enumerate(prints[i + 1 :], i + 1):
            first, second = (a, b) if a.bits <= b.bits else (b, a)
            if bin(a.bits ^ b.bits).count("1") <= bits:
                both = (part[None] for p in (first, second) for part in (p.gray, p.chroma))
                if near_duplicates._difference(*both)[0] <= near_duplicates.ROUGH:
                    found.append((i, j))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 14), st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9))
def test_no_pair_is_missed(n: int, bits: int, seed: int, rows: int, columns: int) -> None:
    prints = made(np.random.default_rng(seed), n)
    with pytest.MonkeyPatch.context() as patch:  # so that a few prints cross the edges of many blocks
        patch.setattr(near_duplicates, "_ROWS", rows)
        patch.setattr(near_duplicates, "_COLUMNS", columns)
        patch.setattr(near_duplicates, "_LOOKS", 7)
        found = near_pairs(prints, bits=bits)
        grouped = clusters(prints, bits=bits)
    assert found == one_by_one(prints, bits)
    assert grouped == groups(n, found)


def test_the_made_prints_have_both_kinds_of_pairs() -> None:
    prints = made(np.random.default_rng(0), 40)
    close = sum(bin(a.bits ^ b.bits).count("1") <= 12 for i, a in enumerate(prints) for b in prints[i + 1 :])
    assert 20 < len(one_by_one(prints, 12)) < close - 20


def test_full_size_blocks() -> None:
    """More prints than a block has rows and columns; the only close codes are those planted."""
    rng = np.random.default_rng(0)
    gray, chroma = rng.integers(0, 256, (32, 32)).astype(np.uint8), np.full((4, 4, 2), 128, np.uint8)
    codes = rng.integers(0, 1 << 63, 2600).tolist()
    planted = [(0, 1), (3, 2599), (255, 256), (300, 2048), (2047, 2100)]
    for a, b in planted:
        codes[b] = codes[a] ^ 0b1011
    assert near_pairs([Fingerprint(c, 0, gray, chroma) for c in codes], bits=4) == planted


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_photos_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prints = made(rng, 25)
    order = rng.permutation(25).tolist()
    again = {tuple(sorted((order[i], order[j]))) for i, j in near_pairs([prints[k] for k in order])}
    assert again == set(near_pairs(prints))


def test_pairs_are_laid_over_the_same_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laying a over b does not quite give what laying b over a does: the codes decide which, not the order."""
    one, other = marked(sample_photo("cat").rgb_u8), marked(trimmed(sample_photo("cat").rgb_u8))
    first = min(one, other, key=lambda p: p.bits)
    assert one.bits != other.bits
    monkeypatch.setattr(
        near_duplicates, "_difference", lambda a, *rest: np.where((a == first.gray).all((1, 2)), 0.0, np.inf)
    )
    assert near_pairs([one, other]) == near_pairs([other, one]) == [(0, 1)]


@settings(deadline=None)
@given(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_groups_are_what_pairs_connect(n: int, pairs: list[tuple[int, int]]) -> None:
    pairs = [(a, b) for a, b in pairs if max(a, b) < n]
    label = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    wanted = [[i for i in range(n) if label[i] == first] for first in sorted(set(label))]
    assert groups(n, pairs) == wanted


def test_nothing_to_compare() -> None:
    assert near_pairs([]) == [] and clusters([]) == [] and groups(0, []) == []
    assert near_pairs([marked(sample_photo("cat").rgb_u8)]) == []


def test_a_film_of_one_scene_is_one_group() -> None:
    """600 frames of a still camera have 179,700 pairs; grouping them looks at few."""
    rgb = fit(sample_photo("coffee").rgb_u8, (60, 90))
    frames = [marked(lit(rgb, 1 + 0.02 * np.sin(i / 20))) for i in range(600)]
    looked = []
    difference = near_duplicates._difference
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_difference", lambda *a: (looked.append(len(a[0])), difference(*a))[1])
        assert clusters(frames) == [list(range(600))]
    assert sum(looked) < 20_000


def test_real_photos(data: Path) -> None:
    """Held against a folder of products on white, where a hash alone calls many the same."""
    folder = data / "office-amazon/images"
    paths = sorted((folder / "monitor").glob("*.jpg")) + sorted((folder / "mug").glob("*.jpg"))
    prints = [fingerprint(read_image(p)) for p in paths]
    found = {(paths[i].stem, paths[j].stem) for i, j in near_pairs(prints)}
    same = ("0004", "0006"), ("0004", "0018"), ("0006", "0018"), ("0020", "0022")  # looked at: one picture each
    assert found == {(f"frame_{a}", f"frame_{b}") for a, b in same}
    photos = [read_image(p) for p in sorted((data / "product-iconic/images").glob("*.jpg"))]
    icons = [fingerprint(photo) for photo in photos]
    assert len(icons) == 81 and near_pairs(icons) == []
    pairs = near_pairs([*icons, *(marked(jpeg(trimmed(photo.rgb_u8))) for photo in photos)])
    assert all(j == i + 81 for i, j in pairs) and len(pairs) >= 76
