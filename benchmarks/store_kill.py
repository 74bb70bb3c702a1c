"""The labelling store under `kill -9`: is every acknowledged label there, and the history whole?

    python benchmarks/store_kill.py [--kills 100] [--seed 0] [--place FOLDER-OR-URL] [--break]

A writer adds, changes, removes and undoes labels, one step after another, and tells its parent of each step after the
commit, through a pipe. The parent kills it at a random moment, opens the store and holds it against what it was told:
the file's integrity, the labels after the last acknowledged step, all steps and labels against the replayed history.
One step more than was told is as it must be: killed between the commit and the telling. Every tenth kill is on a
store of its own and comes anywhere from the start of the process, so that the making of the tables is hit too.

--break: the writer tells before the commit, as a store must not; the losses that follow prove that they are seen. A
kill ends a process, not the machine: what the databases do about a power cut (fsync) is not tried here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, save

from handful.device.runtimes.contract import versions_of
from handful.store.store import Label, Store
from handful.types import Object

CLASSES = ("cat", "dog")
IMAGES = 5
State = dict[int, list[Any]]  # label id -> [image, class, left, top, right, bottom]


def said(label: Label) -> list[Any]:
    return [label.image, label.annotation.label, *(label.annotation.box_px or ())]


def write(place: str, seed: int, early: bool) -> None:
    """The writer: never ends by itself. early: tell before the commit (the planted fault)."""
    rng = random.Random(seed)

    def tell(**what: Any) -> None:
        os.write(1, json.dumps(what).encode() + b"\n")  # one write, so that no line is ever half

    def thing() -> Object:
        left, top = rng.uniform(0, 500), rng.uniform(0, 400)
        return Object(rng.choice(CLASSES), (left, top, left + rng.uniform(1, 100), top + rng.uniform(1, 100)))

    with Store.open(place) as store:
        for name in CLASSES:
            store.add_category(name)
        have = {photo.name for photo in store.images()}
        images = [
            store.find(name) if name in have else store.add_image(f"s3://photos/{name}", name=name, size_wh=(640, 500))
            for name in map(str, range(IMAGES))
        ]
        known = {label.id: label for label in store.as_of(store.last_revision())}
        tell(ready=True)
        while True:
            what = rng.choice(["add", "add", "change", "remove", "several", "undo"]) if known else "add"
            if what == "undo":
                undone = store.undo(by="writer")
                tell(step=store.last_revision(), undone=undone)
                known = {label.id: label for label in store.as_of(store.last_revision())}
                continue
            gone: list[int] = []
            new: list[Label] = []
            old = rng.choice(list(known.values())) if known else None
            with store.revision("writer") as step:
                if what == "add" or old is None:
                    new = [step.add(rng.choice(images), thing())]
                elif what == "several":
                    new = [step.add(rng.choice(images), thing()) for _ in range(3)]
                    step.remove(old.id, version=old.version)
                    gone = [old.id]
                elif what == "change":
                    new = [step.change(old.id, thing(), version=old.version)]
                else:
                    step.remove(old.id, version=old.version)
                    gone = [old.id]
                told = {"step": step.number, "set": {label.id: said(label) for label in new}, "gone": gone}
                if early:
                    tell(**told)
                    time.sleep(0.05)
            if not early:
                tell(**told)
            known.update({label.id: label for label in new})
            for id in gone:
                del known[id]


class Told:
    """What the store must hold, from what was acknowledged alone."""

    def __init__(self) -> None:
        self.step, self.changes = 0, 0
        self.labels: State = {}
        self._before: dict[int, dict[int, list[Any] | None]] = {}  # step -> how to undo it

    def take(self, line: dict[str, Any]) -> None:
        if "step" not in line:
            return
        if line.get("undone") is not None:
            new = self._before[line["undone"]]
        else:
            new = {int(id): value for id, value in line["set"].items()} | dict.fromkeys(line["gone"])
        self.step = line["step"]
        self.changes += len(new)
        self._apply(new)

    def adopt(self, step: int, labels: State) -> None:
        """Go on from what the store holds: a step kept that nobody told of, or a loss, which counts once."""
        new = step > self.step
        self.step = step
        if new:
            ids = labels.keys() | self.labels.keys()
            self._apply({id: labels.get(id) for id in ids if labels.get(id) != self.labels.get(id)})
        self.labels = labels

    def _apply(self, new: dict[int, list[Any] | None]) -> None:
        self._before[self.step] = {id: self.labels.get(id) for id in new}
        self.labels = {id: v for id, v in (self.labels | new).items() if v is not None}


OTHERS = {
    "sqlite": None,
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    "mariadb": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}
OTHERS["mysql"] = OTHERS["mariadb"]


def alone(place: str) -> str:
    """Wait until the server has noticed that the killed client is gone. Returns the kind of database."""
    if "://" not in place:
        return "sqlite"
    from sqlalchemy import create_engine, text

    engine = create_engine(place)
    with engine.connect() as db:
        kind = "mariadb" if getattr(engine.dialect, "is_mariadb", False) else engine.dialect.name
        until = time.monotonic() + 60
        while OTHERS[kind] and db.scalar(text(OTHERS[kind])) and time.monotonic() < until:
            db.rollback()
            time.sleep(0.01)
    engine.dispose()
    return kind


def kill_one(place: str, seed: int, early: bool, told: Told, wait: Callable[[subprocess.Popen[bytes]], None]) -> None:
    """Start a writer, kill it when `wait` returns, and take in what it told."""
    command = [sys.executable, __file__, "--writer", place, "--seed", str(seed), *(["--break"] if early else [])]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        wait(writer)
    finally:
        if writer.poll() is not None:
            raise RuntimeError(f"the writer ended by itself with {writer.returncode}")
        writer.kill()
        writer.wait()
    assert writer.stdout
    for line in writer.stdout:
        told.take(json.loads(line))
    writer.stdout.close()


def look(place: str, told: Told) -> dict[str, Any]:
    """Hold the store against what was told."""
    alone(place)
    with Store.open(place) as store:
        breaks = list(store.check())
        last = store.last_revision()
        then = {label.id: said(label) for label in store.as_of(min(told.step, last))}
        now = {label.id: said(label) for label in store.as_of(last)}
    ids = then.keys() | told.labels.keys()
    lost = [id for id in ids if then.get(id) != told.labels.get(id)]
    # with the acknowledged step itself lost, at least one of its changes is, whatever the labels look like
    missing = max(0, told.step - last)
    extra = max(0, last - told.step)
    if extra > 1:
        breaks.append(f"{extra} steps were kept and not told; one can be")
    return {"lost": max(len(lost), missing), "extra": extra, "breaks": breaks, "last": last, "now": now}


def run(kills: int, seed: int, place: str | None, early: bool) -> dict[str, Any]:
    rng = random.Random(seed)
    sums: dict[str, Any] = {"acknowledged": 0, "lost": 0, "unacknowledged_but_committed": 0, "history_breaks": []}
    with tempfile.TemporaryDirectory() as folder:
        main_place, told, young = place or f"{folder}/main", Told(), 0
        for i in range(kills):
            fresh = place is None and i % 10 == 9
            where, about = (f"{folder}/{i}", Told()) if fresh else (main_place, told)
            delay = rng.uniform(0.0, 1.2) if fresh else rng.uniform(0.0, 0.25)

            def wait(writer: subprocess.Popen[bytes], at_once: bool = fresh, delay: float = delay) -> None:
                if not at_once:
                    assert writer.stdout
                    writer.stdout.readline()
                time.sleep(delay)

            before = about.changes
            kill_one(where, rng.randrange(1 << 30), early, about, wait)
            found = look(where, about)
            young += fresh and not about.step
            sums["acknowledged"] += about.changes - before
            sums["lost"] += found["lost"]
            sums["unacknowledged_but_committed"] += found["extra"]
            sums["history_breaks"] += [f"kill {i}: {text}" for text in found["breaks"]]
            if found["lost"] or found["extra"] or found["breaks"]:
                about.adopt(found["last"], found["now"])
    return {
        "database": alone(place or ""),
        "seed": seed,
        "break": early,
        "kills": kills,
        "killed_before_the_first_step": young,
        **sums,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--place", help="an empty store, kept; a temporary SQLite file otherwise")
    parser.add_argument(
        "--break", dest="early", action="store_true", help="tell before the commit; losses must be seen"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results" / "store_kill.json")
    parser.add_argument("--writer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        write(options.writer, options.seed, options.early)
    result = run(options.kills, options.seed, options.place, options.early)
    save(options.out, {"versions": versions_of("sqlalchemy", "alembic", "pg8000", "pymysql", "numpy"), **result})
    print(
        f"{result['kills']} kills ({result['database']}): {result['acknowledged']} label changes acknowledged, "
        f"{result['lost']} lost, {result['unacknowledged_but_committed']} steps committed unacknowledged, "
        f"{len(result['history_breaks'])} history breaks"
    )
    for text in result["history_breaks"][:5]:
        print(text)
    if (result["lost"] > 0 or bool(result["history_breaks"])) != options.early:
        sys.exit("the planted fault was not seen" if options.early else 1)


if __name__ == "__main__":
    main()
