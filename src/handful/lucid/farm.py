"""Clips of thousands of seeds, as shards: goes on where it was stopped, and no bad seed stops it.

OUT/dream.json says what was begun (settings, seeds, versions), shard-00000.tar and .json are each whole or absent, and
OUT/manifest.json is written last. Nothing in a shard depends on how many made it, or where.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2

from handful.data.finding import SEE_ALL, Finding
from handful.data.label_names import FILE as LABELS
from handful.data.label_names import write_labels
from handful.data.writing import Writer
from handful.errors import DataError, HandfulError
from handful.files import read_json, replacing, write_json
from handful.lucid import gates
from handful.lucid.seed import Seed, SeedRef, first_frames, seeds_of
from handful.lucid.settings import Settings
from handful.lucid.shards import DreamClip, Open, Shard, made_with, per_shard, plan, reason, render, why_damaged
from handful.lucid.source import opened
from handful.parallel import RESUME as GO_ON
from handful.parallel import each, unwanted
from handful.progress import note, track, warn
from handful.types import Category
from handful.words import counted

PLAN, WHOLE = "dream.json", "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FREE_AFTER = 3  # shards, after which the size of all of them can be guessed


@dataclass
class _Run:
    """What has been done so far, in this run and before."""

    out: Path
    shards: list[Shard]
    settings: Settings
    finished: set[int] = field(default_factory=set)
    before: int = 0  # shards that were finished when this run began
    clips: int = 0
    refused: int = 0
    frames: int = 0
    bytes: int = 0
    start: float = field(default_factory=time.perf_counter)

    def state(self) -> str:
        return f"{len(self.finished)} of {counted(len(self.shards), 'shard')} done in {self.out}"

    def more_bytes(self) -> int | None:
        """What the clips still to be made will take, going by those that were; None when none was."""
        left = sum(s.count for s in self.shards if s.number not in self.finished)
        return None if not self.clips else left * self.bytes // self.clips


def dream_folder(
    place: str | Path,
    out: Path,
    settings: Settings | None = None,
    *,
    limit: int | None = None,
    all_frames: bool = False,
    format: str | None = None,
    masks: str | None = None,
    flat: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """`farm` over the images of a place: a folder in any format that data.formats reads, or a labeling store.

    limit: the first so many seeds. all_frames: of clips every frame is a seed, not only the first. format, masks,
    flat: which of the labels there. how: for farm (workers, ray, resume). Returns and raises as farm does.
    """
    options: dict[str, Any] = {**({"masks": masks} if masks else {}), **({"flat": True} if flat else {})}
    told: list[Finding] = []
    with opened(place, told.append, format=format, **options) as (dataset, source):
        refs = seeds_of(dataset if all_frames else first_frames(dataset))
        chosen = list(itertools.islice(refs, limit))
        about = {**source, "limit": limit, "all_frames": all_frames}
        return farm(chosen, out, settings, source=about, lost=told, categories=dataset.categories, **how)


def farm(
    refs: Sequence[SeedRef],
    out: Path,
    settings: Settings | None = None,
    *,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    shard_seeds: int | None = None,
    source: dict[str, Any] | None = None,
    lost: Sequence[Finding] = (),
    categories: Sequence[Category] = (),
) -> dict[str, Any]:
    """Dream a clip of every seed into shards in the folder `out`, which data.format_shards reads.

    workers, ray: where it is done, as in parallel.each. resume: go on in a folder that a run with the same seeds and
    settings began. shard_seeds: seeds a shard; None for about 640 frames. source: where the seeds are from, for the
    record. lost: what was told when they were listed, of images that became no seed; what is added to it while a seed
    is loaded is about that. categories: what the ids of seeds are when they are classes (Seed.whole is False).

    Returns {"frames", "images", "failed": [{"source", "error"}], "shards", "seconds", "frames_per_second" (of this run;
    0 when nothing was left to do), "sha256" (of all frames and masks in their order), "out", "gates"}. Raises DataError
    when there are no seeds, the folder is another run's or in use, or its disk is full; what is finished stays.
    """
    settings, out = settings or Settings(), Path(out)
    ids, early = [ref.id for ref in refs], tuple(lost)
    if not ids:
        raise DataError(f"there are no seeds: no image says which pixels are an object's; {SEE_ALL}")
    if workers is not None and workers < 1:
        raise DataError(f"workers is {workers}; wanted at least one")
    in_each = shard_seeds or per_shard(len(ids), settings.frames)
    shards = plan(len(ids), in_each)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out} cannot be made ({error.strerror or error}); choose another folder") from error
    with _alone(out):
        _begun(out, _plan(ids, settings, in_each, len(shards), source), resume)
        run = _Run(out, shards, settings)
        todo = [s for s in track(shards, "checking what is there") if not _finished(s, run, ids)]
        run.before = len(run.finished)
        if run.before:
            note(f"{run.state()} already")
        try:
            if todo:
                _make(todo, refs, run, lost, workers, ray)
            result = _whole(run, early, categories)
        except DataError as error:
            full = _full(error)
            if full is None:
                raise
            raise DataError(_room(run, full)) from error
        except KeyboardInterrupt:
            warn(f"stopped: {run.state()}; {GO_ON}")
            raise
    return result


def _plan(
    ids: Sequence[str], settings: Settings, in_each: int, shards: int, source: dict[str, Any] | None
) -> dict[str, Any]:
    digest = hashlib.sha256("".join(f"{name}\n" for name in ids).encode("utf-8", "surrogatepass")).hexdigest()
    return {
        "schema_version": 1,
        "settings": settings.as_dict(),
        "seeds": {"count": len(ids), "sha256": digest},
        "seeds_per_shard": in_each,
        "shards": shards,
        "made_with": made_with(),
        "source": source or {},
    }


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Only one run at a time writes into a folder. The lock goes with the process, however that ends."""
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise DataError(
                    f"{out} is being written to by another `handful dream`; wait for it or stop it"
                ) from None
            # a file system that knows no locks
        yield
    finally:
        os.close(handle)


def _begun(out: Path, now: dict[str, Any], resume: bool) -> None:
    """Begin, or go on if what was begun is the same. Raises DataError, saying what differs."""
    for name in os.listdir(out):
        if name.endswith(".part") and name.startswith((".shard-", f".{PLAN}.", f".{WHOLE}.", f".{LABELS}.")):
            (out / name).unlink(missing_ok=True)  # a killed run's; there is no other now
    there = [name for name in os.listdir(out) if not name.startswith(".")]
    if there and PLAN not in there:
        raise DataError(f"{out} holds other files, such as {sorted(there)[0]}; choose a new or empty folder")
    if not any(name.startswith("shard-") for name in there):  # nothing yet that could be lost
        write_json(out / PLAN, now, own=True)
        return
    if not resume:
        raise DataError(f"{out} holds an earlier run; {GO_ON}, choose another folder or remove this one")
    begun = read_json(out / PLAN)
    differs = list(_differences({**begun, "source": None}, {**now, "source": None}))
    if differs:
        raise DataError(
            f"the run in {out} has other settings: {'; '.join(differs)}; give the same settings, or choose another "
            "folder"
        )


def _differences(begun: Any, now: Any, what: str = "") -> Iterator[str]:
    if isinstance(begun, dict) and isinstance(now, dict) and what != "seeds":
        for key in {**begun, **now}:
            yield from _differences(begun.get(key), now.get(key), key)
    elif begun != now and what == "seeds":
        counts = [value.get("count") if isinstance(value, dict) else None for value in (begun, now)]
        yield "the seeds are others" + (f" ({counts[0]}, now {counts[1]})" if counts[0] != counts[1] else "")
    elif begun != now and what not in ("seeds_per_shard", "shards"):
        yield f"{what} was {begun}, now {now}"
    elif begun != now and what == "seeds_per_shard":
        yield f"seeds per shard were {begun}, now {now}"


def _finished(shard: Shard, run: _Run, ids: Sequence[str]) -> bool:
    why = why_damaged(shard, run.out, ids)
    if why is None:
        run.finished.add(shard.number)
        return True
    if why:
        warn(f"{why}; {shard.stem} is made again")
    return False


def _dream_job(settings: Settings, job: tuple[int, Seed]) -> DreamClip:
    return render(*job, settings, unwanted)


def _lost_clip(job: tuple[int, Seed], why: str) -> DreamClip:
    number, seed = job
    return DreamClip(number, seed.id, refused=f"{why}; shrink the image, and dream into another folder")


def _same_versions(clip: DreamClip) -> DreamClip:
    """Raises HandfulError when it was made with other versions of what decides a frame's bytes."""
    mine, other = made_with(), clip.made_with
    if other != mine:
        said = ", ".join(f"{k} {other[k]} (here {mine[k]})" for k in mine if other[k] != mine[k])
        raise HandfulError(f"a node of the Ray cluster has {said}, so its frames could differ; install the same")
    return clip


def _make(
    todo: Sequence[Shard], refs: Sequence[SeedRef], run: _Run, lost: Sequence[Finding], workers: int | None,
    ray: str | None,
) -> None:  # fmt: skip
    """The shards of `todo`, each written as its clips come."""
    of = {number: shard for shard in todo for number in range(shard.first, shard.first + shard.count)}
    bad: list[DreamClip] = []

    def loaded() -> Iterator[tuple[int, Seed]]:
        for number in of:
            before = len(lost)
            try:
                yield number, refs[number].load()
            except Exception as error:  # whatever is wrong with one image, the others are dreamed
                # the reader told its list what is wrong before it raised, and more closely
                why = "; ".join(dict.fromkeys(f.text for f in lost[before:])) or reason(error)
                bad.append(DreamClip(number, refs[number].id, refused=why))

    def clips() -> Iterator[DreamClip]:
        threads = cv2.getNumThreads()  # rendering sets it
        made = each(_dream_job, run.settings, loaded(), workers=workers, ray=ray, lost=_lost_clip, resumable=True)
        try:
            with closing(made):  # type: ignore[type-var]
                for _, clip in made:
                    yield _same_versions(clip)
                    while bad:
                        yield bad.pop()
        finally:
            cv2.setNumThreads(threads)
        yield from bad

    open_: dict[int, Open] = {}
    with ExitStack() as stack:
        for clip in track(clips(), "dreaming", len(of)):
            shard = of[clip.number]
            if shard.number not in open_:
                open_[shard.number] = Open(shard, run.out, stack)
            run.clips, run.bytes = run.clips + 1, run.bytes + len(clip.tar)
            run.frames, run.refused = run.frames + len(clip.rows), run.refused + bool(clip.refused)
            if clip.refused:
                note(f"{clip.seed}: {clip.refused}")
            if open_[shard.number].add(clip):
                open_.pop(shard.number).end()
                run.finished.add(shard.number)
                _foresee(run)


def _foresee(run: _Run) -> None:
    """Warn once, early, when the disk will not hold what is still to come."""
    more = run.more_bytes()
    if more is None or len(run.finished) - run.before != min(_FREE_AFTER, len(run.shards)):
        return
    stat = os.statvfs(run.out)
    free = stat.f_bavail * stat.f_frsize
    if more > free:
        warn(f"about {_size(more)} more will be needed, {_size(free)} are free in {run.out}")


def _full(error: BaseException) -> OSError | None:
    """The disk's own error, when that is what another came from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _room(run: _Run, error: OSError) -> str:
    more = run.more_bytes()
    wanted = "" if more is None else f"; about {_size(max(more, 1))} more are needed"
    return f"the disk of {run.out} is full ({error.strerror}): {run.state()} and stay{wanted}; make room and {GO_ON}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _whole(run: _Run, lost: Sequence[Finding], categories: Sequence[Category]) -> dict[str, Any]:
    """Write manifest.json over all shards; the result of farm()."""
    digest = hashlib.sha256()
    frames = seeds = whole = 0
    failed: list[dict[str, str]] = []
    measured: list[dict[str, float | None]] = []
    for shard in run.shards:
        held = read_json(shard.list(run.out))
        for row in held["frames"]:
            digest.update(f"{row['key']} {row['jpg']} {row['png']} {row.get('prev.png', '')}\n".encode())
        frames += len(held["frames"])
        for row in held["seeds"]:
            if "refused" in row:
                failed.append({"source": row["seed"], "error": row["refused"]})
            else:
                seeds, whole = seeds + 1, whole + row["whole"]
                measured += row["gates"]
    known = {row["source"] for row in failed}
    failed += [{"source": f.file, "error": f.text} for f in _lost(lost) if f.file not in known]
    if not whole and seeds and categories:  # every id is a class of the data set the seeds are from
        _name(run.out, categories)
    elif 0 < whole < seeds and categories:
        warn(f"ids are objects in the clips of {counted(whole, 'seed')} and classes in those of {seeds - whole}; "
             "they are named as objects, by number")  # fmt: skip
    seconds = time.perf_counter() - run.start
    result = {
        "frames": frames,
        "images": seeds,
        "failed": failed,
        "shards": len(run.shards),
        "sha256": digest.hexdigest(),
        "gates": gates.summary(measured) if measured else {},
    }
    if not (run.out / WHOLE).exists() or len(run.finished) > run.before:
        write_json(run.out / WHOLE, {"schema_version": 1, **result}, own=True)
    speed = run.frames / seconds if run.frames else 0.0
    return {**result, "seconds": round(seconds, 3), "frames_per_second": round(speed, 2), "out": str(run.out)}


def _name(out: Path, categories: Sequence[Category]) -> None:
    with replacing(out / LABELS, own=True) as part, tempfile.TemporaryDirectory(prefix="handful-") as folder:
        write_labels(Writer(Path(folder)), categories, ignore=65535 if any(c.id >= 255 for c in categories) else 255)
        shutil.copyfile(Path(folder) / LABELS, part)


def _lost(lost: Sequence[Finding]) -> list[Finding]:
    """Findings that cost an image its place among the seeds, the first of each file."""
    found: dict[str, Finding] = {}
    for finding in lost:
        if "left out" in finding.repair or "kept as unlabeled" in finding.repair:
            found.setdefault(finding.file, finding)
    return list(found.values())
