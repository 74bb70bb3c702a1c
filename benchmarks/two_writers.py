"""Two commands at once on one model folder, killed at random: is every class there that a command said it learned?

python benchmarks/two_writers.py --runs 200 --out benchmarks/results/two_writers.json
Each run copies a small taught model, with a file of the user's in it, and starts two commands of one of the four pairs
below, the second a random time after the first; in half of the runs one of them is killed (SIGKILL) at a random moment.
Then: the model loads; what a command that ended with 0 has taught is there, unless an --overwrite that ended with 0 too
may have replaced it; the user's files are there.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import save
from PIL import Image as PIL_Image

import handful
from handful.cli import main

PAIRS = {
    "add x add": (["teach", "lamp", "--out", "m", "--add"], ["teach", "pen", "--out", "m", "--add"]),
    "add x compile": (["teach", "lamp", "--out", "m", "--add"], ["device", "compile", "m", "--runtime", "torch"]),
    "overwrite x add": (["teach", "base", "--out", "m", "--overwrite", "--backbone", "lite0", "--frame", "64x64"],
                        ["teach", "lamp", "--out", "m", "--add"]),
    "set x predict": (["set", "m", "--vigilance", "2.2"], ["predict", "m", "base", "--json"]),
}  # fmt: skip
NOTES = "what I want to remember of this model"


def begin(words: list[str], place: Path, delay_s: float) -> int:
    """The process of a command, forked from this one, which has PyTorch in it."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.chdir(place)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        time.sleep(delay_s)
        main(words)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def run(rng: random.Random, pair: str, base: Path, place: Path) -> dict[str, Any]:
    """One interleaving; what the commands said, and what is wrong with what is left."""
    shutil.copytree(base, place, symlinks=True)
    commands = list(PAIRS[pair])
    rng.shuffle(commands)
    delays = (0.0, rng.uniform(0, 0.5))
    pids = [begin(words, place, delay) for words, delay in zip(commands, delays, strict=True)]
    killed = None
    if rng.random() < 0.5:
        killed = rng.randrange(2)
        time.sleep(rng.uniform(0.02, 1.2))
        try:
            os.kill(pids[killed], signal.SIGKILL)
        except ProcessLookupError:
            killed = None
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = dict(zip((words[1] if words[0] == "teach" else words[0] for words in commands), codes, strict=True))
    wrong: list[str] = []
    if any(code not in (0, 2, -signal.SIGKILL) for code in codes):
        wrong.append("a command ended oddly")
    if -signal.SIGKILL not in codes and 0 not in codes:
        wrong.append("both commands said no")
    try:
        model: Any = handful.load(place / "m")
    except handful.HandfulError as error:
        return {"codes": said, "wrong": [*wrong, f"the model does not load: {error}"]}
    known = set(model.classes)
    for name in ("lamp", "pen"):
        if said.get(name) == 0 and name not in known and said.get("base") != 0:
            wrong.append(f"{name} was learned and is gone")
    if not {"mug", "cup"} <= known:
        wrong.append("a class of before is gone")
    if said.get("set") == 0 and model.vigilance != 2.2:
        wrong.append("the vigilance is not what was set")
    if said.get("predict") == 2:
        wrong.append("predict failed beside set")
    notes = place / "m" / "NOTES.md"
    if not notes.exists() or notes.read_text() != NOTES or not (place / "m" / "mine" / "a.txt").exists():
        wrong.append("the user's files are gone")
    return {"codes": said, "killed": killed is not None, "wrong": wrong}


def folder_of(place: Path, names: tuple[str, ...], rng: np.random.Generator) -> None:
    for name in names:
        (place / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 255, (1, 1, 3)) + rng.integers(-40, 40, (64, 64, 3))
            PIL_Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / name / f"{i}.png")


def world(place: Path) -> Path:
    """A taught model with a user's files in it, and images to teach."""
    rng = np.random.default_rng(0)
    folder_of(place / "base", ("mug", "cup"), rng)
    folder_of(place / "lamp", ("lamp",), rng)
    folder_of(place / "pen", ("pen",), rng)
    handful.teach(place / "base", place / "m", backbone="lite0", frame_hw=(64, 64))
    (place / "m" / "NOTES.md").write_text(NOTES)
    (place / "m" / "mine").mkdir()
    (place / "m" / "mine" / "a.txt").write_text("a")
    return place


def measured(runs: int, seed: int) -> dict[str, Any]:
    """Runs of every pair in turn; counts, and all that was wrong."""
    import torch

    os.environ["HANDFUL_CACHE"] = ""
    torch.set_num_threads(1)
    rng, wrong, counts = random.Random(seed), [], Counter[str]()
    with tempfile.TemporaryDirectory() as made:
        base = world(Path(made) / "base")
        for i in range(runs):
            pair = list(PAIRS)[i % len(PAIRS)]
            place = Path(made) / str(i)
            found = run(rng, pair, base, place)
            counts[pair] += 1
            counts[f"{pair}: killed"] += bool(found.get("killed"))
            counts[f"{pair}: both done"] += list(found["codes"].values()) == [0, 0]
            counts[f"{pair}: said no"] += 2 in found["codes"].values()
            if found["wrong"]:
                log = (place / "log.txt").read_text() if (place / "log.txt").exists() else ""
                wrong.append({"run": i, "pair": pair, **found, "log": log[-2000:]})
            shutil.rmtree(place)
    return {"runs": runs, "seeds": [seed], "counts": dict(counts), "wrong": wrong}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("two_writers.json"))
    return parser.parse_args()


if __name__ == "__main__":
    given = parsed()
    result = measured(given.runs, given.seed)
    wrong = result["wrong"]
    save(given.out, {**result, "spread": "none: counts", "figures": {"wrong": len(wrong)}})
    for one in wrong:
        print(one)
    sys.exit(1 if wrong else 0)
