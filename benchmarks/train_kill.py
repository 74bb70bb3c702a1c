"""A training that is killed again and again, against one that is not: are the weights the same to the bit?

    python benchmarks/train_kill.py [--kills 20] [--seed 0] [--threads 1] [--json] [--out FILE]

`handful train segment` (Exeggutor small, with dropout of photos into random crops, a running mean of the weights, on
CamVid's photos made small) runs once to its end. Then it runs again in a process of its own that gets SIGKILL after a
time drawn at random, from the moment it starts to train to a few checkpoints later, and goes on with `--resume`; after
the last kill it is left to end. Counted: kills that hit a running process, where each hit, and whether the weights
file has the same SHA-256.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import data_folder, save

from handful.files import sha256, to_json


def command(out: Path, threads: int) -> list[str]:
    """As one would type it."""
    return [
        sys.executable, "-m", "handful", "train", "segment", str(data_folder() / "camvid"), "--net", "exeggutor:small",
        "--size", "96x128", "--crop", "64x96", "--epochs", "6", "--batch", "8", "--ema", "0.9", "--save-every", "7",
        "--threads", str(threads), "--out", str(out), "--resume", "--quiet",
    ]  # fmt: skip


def steps(out: Path) -> list[str]:
    """Checkpoints there are."""
    return sorted(p.name for p in out.with_name(f"{out.name}.run").glob("step-*"))


def killed(out: Path, threads: int, rng: random.Random) -> dict[str, Any] | None:
    """Start it, kill it once it has trained for a while; None when it ended before."""
    before = steps(out)
    child = subprocess.Popen(command(out, threads), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait = rng.uniform(0.0, 6.0)
    while steps(out) == before and child.poll() is None:  # until the first checkpoint of its own
        if not before and rng.random() < 0.002:
            break  # now and then before there is any
        time.sleep(0.02)
    time.sleep(wait)
    if child.poll() is not None:
        if child.returncode:
            sys.exit(child.stderr.read().decode() if child.stderr else "it failed")
        return None
    child.send_signal(signal.SIGKILL)
    child.wait()
    place = out.with_name(f"{out.name}.run")
    half = sorted(p.name.split(".")[1] for p in place.glob(".*") if p.name.endswith((".part", ".old")))
    return {"waited_s": round(wait, 2), "checkpoints": steps(out), "half_written": half}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        whole, kills, rounds, same = Path(scratch) / "whole", [], 0, 0
        subprocess.run(command(whole, options.threads), check=True, stdout=subprocess.DEVNULL)
        wanted = sha256(whole / "model.safetensors")
        while len(kills) < options.kills:
            broken, rounds = Path(scratch) / f"broken-{rounds}", rounds + 1
            while len(kills) < options.kills:
                kill = killed(broken, options.threads, rng)
                if kill is None:
                    break
                kills.append({**kill, "round": rounds})
                print(f"kill {len(kills)}: {kill}", file=sys.stderr, flush=True)
            subprocess.run(command(broken, options.threads), check=True, stdout=subprocess.DEVNULL)
            same += sha256(broken / "model.safetensors") == wanted
            shutil.rmtree(broken)
    result = {
        "kills": len(kills), "while_writing": sum(bool(k["half_written"]) for k in kills), "trainings": rounds,
        "identical": same, "model_sha256": wanted, "threads": options.threads, "seed": options.seed, "each": kills,
    }  # fmt: skip
    print(to_json(result) if options.json else
          f"{len(kills)} kills in {rounds} trainings ({result['while_writing']} while something was being written): "
          f"{same} of {rounds} ended with the unbroken run's weights, to the bit")  # fmt: skip
    if options.out:
        save(options.out, result)
    if same != rounds:
        sys.exit(1)


if __name__ == "__main__":
    main()
