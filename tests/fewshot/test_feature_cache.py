"""Features are kept by content: bounded, for many threads and processes, and what is damaged is made again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful.fewshot import classifier, embeddings
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.feature_cache import FeatureCache
from handful.fewshot.network import TaughtNetwork
from handful.fewshot.teaching import teach
from handful.files import sha256
from handful.threads import over


def test_what_is_kept_comes_back_and_damage_does_not(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("a", b"1234")
    cache.put("a", b"12345")
    assert cache.get("a") == b"12345" and cache.get("b") is None
    db = sqlite3.connect(cache.file)
    db.execute("UPDATE features SET value = ? WHERE key = 'a'", (b"\0" * 13,))
    db.commit()
    assert cache.get("a") is None
    assert db.execute("SELECT COUNT(*) FROM features").fetchone() == (0,)  # dropped


def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    FeatureCache(tmp_path).close()
    cache = next(tmp_path.glob("*.sqlite"))
    cache.write_bytes(b"not a database" * 500)
    again = FeatureCache(tmp_path)
    again.put("a", b"1")
    assert again.get("a") == b"1"


def test_a_place_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = FeatureCache(tmp_path / "file" / "below")
    cache.put("a", b"1")
    assert cache.get("a") is None


def test_it_is_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, limit=2_000_000)
    for i in range(2048):
        cache.put(str(i), bytes(4000))
    assert cache.get("0") is None and cache.get("2047") == bytes(4000)
    assert cache.file.stat().st_size < 2_000_000 + 256 * 8192
    assert sum(cache.get(str(i)) is not None for i in range(2048)) > 150


def test_folders_of_older_versions_go_and_others_stay(tmp_path: Path) -> None:
    for name in ("0123456789abcdef", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.npy").touch()
    FeatureCache(tmp_path)
    assert not (tmp_path / "0123456789abcdef").exists() and (tmp_path / "mine" / "x.npy").exists()


def test_threads_and_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom handful.fewshot.feature_cache import FeatureCache\n"
        "cache = FeatureCache(Path(sys.argv[1]))\n"
        "for i in range(300): cache.put(f'{sys.argv[2]} {i % 100}', bytes([i % 100]) * 5000)\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in "ab"]
    cache = FeatureCache(tmp_path)
    list(over(lambda i: cache.put(f"a {i % 100}", bytes([i % 100]) * 5000), range(300), workers=4))
    assert [other.wait(60) for other in others] == [0, 0]
    assert all(cache.get(f"{name} {i}") == bytes([i]) * 5000 for name in "ab" for i in range(100))


def test_a_second_command_neither_decodes_nor_computes(
    photo_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, kept = photo_folder(n=1), tmp_path / "cache"

    def taught(out: str, cache: Path | None = kept) -> dict[str, str]:
        teach(photos, tmp_path / out, backbone="lite0", frame_hw=(64, 64), cache=cache)
        files = ("model.safetensors", "nemo.safetensors", "seen.safetensors")
        return {name: sha256(tmp_path / out / name) for name in files}  # pytest takes minutes to compare megabytes

    first = taught("first")
    assert first == taught("without", None)
    computed: list[int] = []
    whole = TaughtNetwork.features

    def counting(self: TaughtNetwork, frames: np.ndarray, **how: str) -> np.ndarray:
        computed.append(len(frames))
        return whole(self, frames, **how)

    monkeypatch.setattr(TaughtNetwork, "features", counting)
    with monkeypatch.context() as no_pixels:
        no_pixels.setattr(embeddings, "decode", None)
        assert taught("second") == first and computed == []
    db = sqlite3.connect(next(kept.glob("*.sqlite")))
    db.execute("UPDATE features SET value = zeroblob(100) WHERE at = 1")
    db.commit()
    assert taught("third") == first and computed == [2]  # the damaged one, and its mirror image
    (photos / "cat" / "0.png").write_bytes((photos / "coffee" / "0.png").read_bytes())
    with pytest.raises(AssertionError):  # by content, not by name
        assert taught("fourth") == first


def test_learning_in_parts_gives_the_same_bits(
    photo_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = photo_folder(n=2)
    for out, at_once in (("whole", 512), ("parts", 4)):
        monkeypatch.setattr(classifier, "AT_ONCE", at_once)
        teach(photos, tmp_path / out, backbone="lite0", frame_hw=(64, 64))
    assert (tmp_path / "whole" / "nemo.safetensors").read_bytes() == (
        tmp_path / "parts" / "nemo.safetensors"
    ).read_bytes()
    model = FewShotClassifier.load(tmp_path / "parts")
    assert sum(model.nemo.counts.values()) == len(model.seen or ()) == 6
