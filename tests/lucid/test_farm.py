"""The farm: every frame exactly once and the same bytes, whoever makes them and however often they are stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handful.cli import main
from handful.data import formats
from handful.data.label_names import write_labels
from handful.data.writing import Writer
from handful.errors import DataError, HandfulError, MissingPackage
from handful.lucid import farm as farming
from handful.lucid import shards
from handful.lucid.farm import dream_folder, farm
from handful.lucid.seed import SeedRef
from handful.lucid.settings import Settings
from handful.parallel import each
from handful.pick import present
from handful.types import Category
from tests.lucid.seeds import clips, refs

SETTINGS = Settings(frames=4, fill="telea")
NAMES = [f"film{i:02d}" for i in range(10)]
needs_ray = pytest.mark.skipif(not present("ray"), reason="Ray is not installed: pip install 'handful[ray]'")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten sound seeds."""
    return clips(tmp_path_factory.mktemp("seeds"), NAMES)


@pytest.fixture(scope="module")
def alone(seeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of them, three seeds a shard."""
    out = tmp_path_factory.mktemp("alone") / "out"
    farm(refs(seeds), out, SETTINGS, workers=1, shard_seeds=3)
    return out


def hashes(out: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("shard-*"))}


def frames(out: Path) -> list[str]:
    """The names of all images in all shards, by an independent reader."""
    found: list[str] = []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as archive:
            found += [name for name in archive.getnames() if name.endswith(".jpg")]
    return found


def leftovers(out: Path) -> list[str]:
    return [name for name in os.listdir(out) if name.startswith(".")]


# --- the same bytes --------------------------------------------------------------------------------------------------


def test_two_processes_make_the_same_bytes(seeds: Path, alone: Path, tmp_path: Path) -> None:
    result = farm(refs(seeds), tmp_path / "out", SETTINGS, workers=2, shard_seeds=3)
    assert hashes(tmp_path / "out") == hashes(alone) and len(hashes(alone)) == 8
    assert (result["frames"], result["images"], result["shards"], result["failed"]) == (40, 10, 4, [])
    held = json.loads((alone / "manifest.json").read_text())
    assert result["sha256"] == held["sha256"] and held["gates"]["measured_frames"] == 2
    assert len(set(frames(alone))) == len(frames(alone)) == 40


@needs_ray
@pytest.mark.slow
def test_ray_makes_the_same_bytes(seeds: Path, alone: Path, tmp_path: Path) -> None:
    farm(refs(seeds), tmp_path / "out", SETTINGS, ray="local", shard_seeds=3)
    assert hashes(tmp_path / "out") == hashes(alone)


def test_shards_do_not_decide_the_hash_and_the_seed_does(seeds: Path, alone: Path, tmp_path: Path) -> None:
    known = json.loads((alone / "manifest.json").read_text())["sha256"]
    assert farm(refs(seeds), tmp_path / "a", SETTINGS, workers=1)["sha256"] == known
    assert len(list((tmp_path / "a").glob("*.tar"))) == 10
    other = Settings(frames=4, fill="telea", seed=1)
    assert farm(refs(seeds), tmp_path / "b", other, workers=1)["sha256"] != known


def test_names_that_differ_only_in_case_or_signs_stay_apart(tmp_path: Path) -> None:
    names = ["bear", "Bear", "BEAR", "bär", "bår", "b r", "b-r"]
    result = farm(refs(clips(tmp_path / "s", names)), tmp_path / "out", SETTINGS, workers=1)
    found = frames(tmp_path / "out")
    assert result["frames"] == 28 and len({name.lower() for name in found}) == 28
    assert {s.clip for s in formats.read(tmp_path / "out")} == {f"{name}/00000.jpg" for name in names}


def test_seeds_a_shard_depend_on_the_seeds_alone() -> None:
    assert [shards.per_shard(n, 20) for n in (1, 32, 300, 9834)] == [1, 1, 10, 32]
    assert shards.per_shard(10, 5000) == 1
    made = shards.plan(10, 3)
    assert [(s.first, s.count) for s in made] == [(0, 3), (3, 3), (6, 3), (9, 1)]


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_made_again(seeds: Path, tmp_path: Path) -> None:
    first = farm(refs(seeds), tmp_path / "out", SETTINGS, workers=1, shard_seeds=3)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    again = farm(refs(seeds), tmp_path / "out", SETTINGS, workers=2, shard_seeds=3, resume=True)
    assert times == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert again["sha256"] == first["sha256"] and again["frames_per_second"] == 0


def test_what_is_there_is_never_mixed_up(seeds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    farm(refs(seeds), out, SETTINGS, workers=1, shard_seeds=3)
    before = hashes(out)
    for settings, chosen, more, said in (
        (SETTINGS, refs(seeds), {"shard_seeds": 3}, "go on with --resume"),
        (
            Settings(frames=4, fill="telea", seed=3),
            refs(seeds),
            {"resume": True, "shard_seeds": 3},
            "seed was 0, now 3",
        ),
        (
            Settings(frames=5),
            refs(seeds),
            {"resume": True, "shard_seeds": 3},
            "frames was 4, now 5; fill was telea, now auto",
        ),
        (SETTINGS, refs(seeds)[:9], {"resume": True, "shard_seeds": 3}, r"the seeds are others \(10, now 9\)"),
        (SETTINGS, refs(seeds)[::-1], {"resume": True, "shard_seeds": 3}, "the seeds are others;"),
        (SETTINGS, refs(seeds), {"resume": True, "shard_seeds": 4}, "seeds per shard were 3, now 4"),
    ):
        with pytest.raises(DataError, match=said):
            farm(chosen, out, settings, workers=1, **more)  # type: ignore[arg-type]
    held = json.loads((out / "dream.json").read_text())
    held["made_with"]["opencv"] = "1.0"
    (out / "dream.json").write_text(json.dumps(held))
    with pytest.raises(DataError, match=r"opencv was 1\.0, now"):
        farm(refs(seeds), out, SETTINGS, workers=1, shard_seeds=3, resume=True)
    assert hashes(out) == before


def test_other_folders_are_left_alone(seeds: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"other files, such as thesis\.tex"):
        farm(refs(seeds), tmp_path, SETTINGS, workers=1)
    with pytest.raises(DataError, match="cannot be made"):
        farm(refs(seeds), tmp_path / "thesis.tex", SETTINGS, workers=1)
    assert os.listdir(tmp_path) == ["thesis.tex"]
    with pytest.raises(DataError, match="no seeds"):
        farm([], tmp_path / "none", SETTINGS)
    with pytest.raises(DataError, match="workers is 0"):
        farm(refs(seeds), tmp_path / "none", SETTINGS, workers=0)


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("shard-00001.tar", lambda d: d[:-700], "bytes, not"),
        ("shard-00001.tar", lambda d: d[:9000] + b"?" + d[9001:], "does not have its SHA-256"),
        ("shard-00001.tar", None, "is gone"),
        ("shard-00001.json", lambda d: d[: len(d) // 2], "is not readable"),
        ("shard-00001.json", lambda d: d.replace(b"film03", b"film99"), "is not the list of its seeds"),
        ("shard-00001.json", None, ""),
    ],
)
def test_a_damaged_shard_is_made_again(
    seeds: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, fault: Any, said: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for file in alone.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    if fault is None:
        (out / name).unlink()
    else:
        (out / name).write_bytes(fault((out / name).read_bytes()))
    (out / ".shard-00001.tar.abc.part").write_bytes(b"half")
    kept = (out / "shard-00002.tar").stat().st_mtime_ns
    result = farm(refs(seeds), out, SETTINGS, workers=1, shard_seeds=3, resume=True)
    err = capsys.readouterr().err
    assert (said in err and "made again" in err) if said else "made again" not in err
    assert hashes(out) == hashes(alone) and leftovers(out) == [] and result["frames"] == 40
    assert (out / "shard-00002.tar").stat().st_mtime_ns == kept


def command(seeds: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "handful", "dream", str(seeds), "--out", str(out), "--fill", "telea", *more]


def of_group(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, _, pgrp = Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()[:3]
            except (OSError, ValueError):
                continue
            if int(pgrp) == group and state != "Z":
                found.append(int(name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_killed_at_any_moment_and_resumed(tmp_path: Path) -> None:
    source = clips(tmp_path / "s", [f"f{i:02d}" for i in range(30)])
    settings = Settings(frames=60, fill="telea")
    whole = farm(refs(source), tmp_path / "whole", settings, workers=1)
    rng, out, kills, grown = random.Random(0), tmp_path / "out", 0, 0
    for turn in range(10):
        run = subprocess.Popen(command(source, out, "--frames", "60", "--workers", "2", "--resume", "--quiet"),
                               stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
        before = len(list(out.glob("shard-*.json")))
        if turn:  # the first comes while it starts
            wanted = before + rng.randint(1, 2)
            while run.poll() is None and len(list(out.glob("shard-*.json"))) < wanted:
                time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.15))
        if run.poll() is None:
            run.kill()
            kills += 1
        said = run.communicate()[1].decode()
        assert run.returncode in (-signal.SIGKILL, 0), said
        assert "made again" not in said  # no shard was ever half
        grown += len(list(out.glob("shard-*.json"))) > before
        end = time.monotonic() + 20
        while of_group(run.pid) and time.monotonic() < end:
            time.sleep(0.02)
        assert of_group(run.pid) == []  # no worker stays behind
    assert kills >= 5 and grown >= 5
    result = farm(refs(source), out, settings, workers=1, resume=True)
    assert result["sha256"] == whole["sha256"] and hashes(out) == hashes(tmp_path / "whole")
    assert len(frames(out)) == len(set(frames(out))) == 1800 and leftovers(out) == []


def test_ctrl_c_says_what_is_done(tmp_path: Path) -> None:
    source = clips(tmp_path / "s", [f"f{i}" for i in range(8)])
    out = tmp_path / "out"
    # a shell that runs the tests in the background has Ctrl-C ignored, which the child would inherit
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run = subprocess.Popen(command(source, out, "--frames", "600", "--workers", "2"), stderr=subprocess.PIPE,
                               start_new_session=True)  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    while run.poll() is None and not list(out.glob("shard-*.json")):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    said = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130, said
    assert "of 8 shards done" in said and "go on with --resume" in said and "Traceback" not in said
    assert leftovers(out) == []


def test_only_one_run_writes_into_a_folder(seeds: Path, tmp_path: Path) -> None:
    def late() -> Any:
        with pytest.raises(DataError, match="written to by another"):
            farm(refs(seeds), tmp_path / "out", SETTINGS, workers=1, resume=True)
        return refs(seeds)[0].load()

    chosen = [SeedRef(refs(seeds)[0].id, late)]
    assert farm(chosen, tmp_path / "out", SETTINGS, workers=1)["failed"] == []


# --- what can go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_seeds_are_listed_and_stop_nothing(tmp_path: Path, workers: int) -> None:
    bad = {"b": "photo", "c": "empty", "d": "full", "e": "size"}
    source = clips(tmp_path / "s", ["a", "b", "c", "d", "e", "f"], bad=bad)
    result = dream_folder(source, tmp_path / "out", SETTINGS, workers=workers)
    assert (result["images"], result["frames"]) == (2, 8)
    why = {row["source"]: row["error"] for row in result["failed"]}
    assert sorted(why) == [f"{name}/00000.jpg" for name in "bcde"]
    for name, word in (("b", "truncated"), ("c", "empty"), ("d", "covers the whole image"), ("e", "128x91")):
        assert word in why[f"{name}/00000.jpg"], why
    again = dream_folder(source, tmp_path / "out", SETTINGS, workers=1, resume=True)
    assert again["failed"] == result["failed"]
    assert len(list(formats.read(tmp_path / "out"))) == 8


def test_a_fault_nobody_foresaw_is_one_seeds_fault(seeds: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def load() -> Any:
        raise KeyError("masks")

    chosen = [*refs(seeds)[:2], SeedRef("odd", load)]
    result = farm(chosen, tmp_path / "out", SETTINGS, workers=1)
    assert result["images"] == 2 and result["failed"] == [{"source": "odd", "error": "KeyError: 'masks'"}]

    real, calls = shards.jpeg, iter(range(99))
    monkeypatch.setattr(shards, "jpeg", lambda rgb, quality: real(rgb, quality) if next(calls) != 5 else 1 / 0)
    result = farm(refs(seeds)[:3], tmp_path / "b", SETTINGS, workers=1, shard_seeds=3)
    assert result["frames"] == 8 and "ZeroDivisionError" in result["failed"][0]["error"]


def test_seeds_whose_ids_are_classes_keep_their_names(tmp_path: Path) -> None:
    source = clips(tmp_path / "s", ["a", "b"])
    photos = tmp_path / "m"
    (source / "JPEGImages/480p").rename(photos / "images" if photos.mkdir() is None else photos)
    (source / "Annotations/480p").rename(photos / "masks")
    write_labels(Writer(photos), (Category(0, "other"), Category(1, "cat"), Category(2, "dog")), ignore=255)
    result = dream_folder(photos, tmp_path / "out", SETTINGS, workers=1)
    assert result["images"] == 2
    assert [c.name for c in formats.read(tmp_path / "out").categories] == ["other", "cat", "dog"]


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that is full after 150 kB of shards."""
    room = [150_000]
    real = shards.Open._write

    def write(self: shards.Open, data: bytes) -> None:
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, data)

    monkeypatch.setattr(shards.Open, "_write", write)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_keeps_what_is_finished(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["dream", str(seeds), "--out", str(out), "--frames", "4", "--fill", "telea", "--workers", "1", "--quiet"])
    (line,) = [row for row in capsys.readouterr().err.splitlines() if "warning" not in row]
    assert stopped.value.code == 2
    done = len(list(out.glob("shard-*.json")))
    assert 0 < done < 10 and leftovers(out) == []
    assert f"{done} of 10 shards done" in line and "MB more are needed" in line and "--resume" in line
    monkeypatch.undo()
    assert farm(refs(seeds), out, SETTINGS, workers=1, resume=True)["frames"] == 40


def test_a_limit_of_the_system_is_a_full_disk(seeds: Path, tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    run = subprocess.run(command(seeds, tmp_path / "out", "--frames", "4", "--workers", "2"), capture_output=True,
                         text=True, preexec_fn=limit, timeout=120)  # fmt: skip
    assert run.returncode == 2 and "is full" in run.stderr and "Traceback" not in run.stderr, run.stderr
    assert leftovers(tmp_path / "out") == []


def test_a_warning_comes_before_the_disk_is_full(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stat:
        f_bavail, f_frsize = 100, 1

    monkeypatch.setattr(farming.os, "statvfs", lambda place: Stat)
    farm(refs(seeds), tmp_path / "out", SETTINGS, workers=1)
    assert capsys.readouterr().err.count("more will be needed, 0.0 MB are free") == 1


def test_a_worker_that_dies_is_said(seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> Iterator[tuple[int, Any]]:
        for number, ref in enumerate(refs(seeds)):
            if number == 3:
                for child in multiprocessing.active_children():
                    child.kill()
            yield number, ref.load()

    with pytest.raises(HandfulError, match="died, perhaps because memory ran out"):
        list(each(farming._dream_job, SETTINGS, die(), workers=2))


# --- Ray -------------------------------------------------------------------------------------------------------------


@needs_ray
def test_no_cluster_at_the_address(seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    for address, said in ((f"127.0.0.1:{port}", "no Ray cluster answers"), ("nonsense", "no address of a Ray cluster")):
        with pytest.raises(SystemExit) as stopped:
            main(["dream", str(seeds), "--out", str(tmp_path / "out"), "--ray", address])
        err = capsys.readouterr().err
        assert stopped.value.code == 2 and said in err and "--workers N" in err and err.count("\n") == 1
    assert time.monotonic() - start < 20
    assert farm(refs(seeds)[:1], tmp_path / "out", SETTINGS, workers=1)["frames"] == 4  # nothing was begun there


def test_without_ray(seeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackage, match=r"handful\[ray\]"):
        farm(refs(seeds), tmp_path / "out", SETTINGS, ray="auto")


def test_a_node_with_other_versions_is_refused() -> None:
    clip = shards.DreamClip(3, "a")
    assert farming._same_versions(clip) is clip
    other = shards.DreamClip(3, "a", made_with={**shards.made_with(), "opencv": "4.9"})
    with pytest.raises(HandfulError, match=r"opencv 4\.9 \(here"):
        farming._same_versions(other)


def test_a_seed_whose_workers_died_is_refused(seeds: Path) -> None:
    clip = farming._lost_clip((3, refs(seeds)[3].load()), "its worker died")
    assert (clip.number, clip.seed) == (3, refs(seeds)[3].id)
    assert clip.refused == "its worker died; shrink the image, and dream into another folder"


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_frame(tmp_path: Path) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    source = clips(tmp_path / "s", [f"f{i:02d}" for i in range(40)])
    settings = Settings(frames=60, fill="telea")
    whole = farm(refs(source), tmp_path / "whole", settings, workers=1)
    small = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    nodes = [cluster.add_node(**small) for _ in range(2)]
    out, killed = tmp_path / "out", []

    def kill() -> None:
        while len(list(out.glob("shard-*.json"))) < 2:
            time.sleep(0.005)
        cluster.remove_node(nodes[0], allow_graceful=False)
        killed.append(len(list(out.glob("shard-*.json"))))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = farm(refs(source), out, settings, ray=cluster.address)
    finally:
        killer.join(60)
        cluster.shutdown()
    assert killed and killed[0] < 20
    assert result["failed"] == [] and result["sha256"] == whole["sha256"]
    assert hashes(out) == hashes(tmp_path / "whole")
    assert len(frames(out)) == len(set(frames(out))) == 2400


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command(seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--frames", "3", "--fill", "telea", "--workers", "1", "--limit", "4", "--json", "--quiet"]
    main(["dream", str(seeds), "--out", str(out), *options])
    result = json.loads(capsys.readouterr().out)
    assert set(result) >= {
        "frames",
        "images",
        "failed",
        "shards",
        "seconds",
        "frames_per_second",
        "sha256",
        "out",
        "gates",
    }
    assert (result["frames"], result["images"], result["out"]) == (12, 4, str(out))
    main(["dream", "--out", str(tmp_path / "two"), *options, str(seeds)])  # options first
    main(["dream", "run", str(seeds), "--out", str(tmp_path / "three"), *options, "--previous"])
    capsys.readouterr()
    assert hashes(out) == hashes(tmp_path / "two")
    assert any(m.kind == "prev.png" for m in shards_of(tmp_path / "three"))
    main(["dream", str(seeds), "--out", str(out), "--resume", *options[:-2]])
    assert "12 frames of 4 seeds in 4 shards" in capsys.readouterr().out


def shards_of(out: Path) -> list[Any]:
    from handful.data.shard_tar import members

    return [m for path in sorted(out.glob("*.tar")) for m in members(path)]


def test_the_command_when_nothing_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clips(tmp_path / "s", ["a", "b"], bad={"a": "full", "b": "full"})
    with pytest.raises(SystemExit) as stopped:
        main(["dream", str(source), "--out", str(tmp_path / "out"), "--workers", "1"])
    out = capsys.readouterr().out
    assert stopped.value.code == 1 and "2 seeds could not be used" in out and "a/00000.jpg: " in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runn", "x"], "did you mean 'run'"),
        (["nowhere", "--out", "o"], "nowhere does not exist"),
        (["x"], "Missing option '--out'"),
        (["x", "--out", "o", "--workers", "2", "--ray", "auto"], "exclude each other"),
    ],
)
def test_what_is_mistyped(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["dream", *words])
    assert stopped.value.code == 2 and said in capsys.readouterr().err
