"""A training as it stands, on disk: whole or absent, and resumed so that no bit differs from a run that never stopped.

RUN/step-00000120/ holds weights.safetensors, ema.safetensors, optimizer.safetensors and state.json, which has the hash
of each; the last two are kept. RUN/best-00000090/ holds the best weights so far. Nothing is pickled.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.errors import DataError
from handful.files import read_json, read_tensors, replacing_folder, sha256, to_json, write_tensors
from handful.progress import warn

SCHEMA_VERSION = 1
STATE = "state.json"
KEPT = 2
# what a setting was called before, so that a run which older versions began can go on
RENAMED = {"views": "augment", "zoom": "augment", "world": "world_size"}
_STEP, _BEST = re.compile(r"step-(\d{8})"), re.compile(r"best-(\d{8})")
Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """Where a training stands.

    epochs: how many there will be; epoch: the one being run, from 0; batch: the next batch in it; step: optimizer
    steps done. sums: what is added up over the epoch. history: a row an epoch done. best: {"step", "score", "epoch"}
    or None. seconds: spent so far. config, data_sha256: what it was started with. made_with: versions and threads,
    which may change last bits.
    """

    config: dict[str, Any]
    data_sha256: str
    made_with: dict[str, Any]
    epochs: int
    epoch: int = 0
    batch: int = 0
    step: int = 0
    ema_updates: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


def config_hash(config: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a configuration, whatever the order of its keys."""
    flat = sorted((key, to_json(value)) for key, value in config.items())
    return sha256_of(to_json(flat).encode()).hexdigest()


# -- random numbers -------------------------------------------------------------------------------------------------


def random_state() -> dict[str, Any]:
    """The states of torch's, NumPy's and Python's own generators, as JSON."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": _hex(torch.get_rng_state()),
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "python": [version, list(internal), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = [_hex(one) for one in torch.cuda.get_rng_state_all()]
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Take back what random_state gave."""
    torch.set_rng_state(_bytes(state["torch"]))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([_bytes(one) for one in state["cuda"]])


def _hex(value: torch.Tensor) -> str:
    return bytes(value.cpu().numpy()).hex()


def _bytes(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), dtype=np.uint8).copy())


# -- the optimizer --------------------------------------------------------------------------------------------------


def split_optimizer(state: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """An optimizer's state_dict as tensors by "PARAMETER.KEY" and the rest as JSON."""
    tensors: Tensors = {}
    plain: dict[str, Any] = {}
    for number, values in state["state"].items():
        for key, value in values.items():
            name = f"{number}.{key}"
            if isinstance(value, torch.Tensor):
                tensors[name] = value
            else:
                plain[name] = value
    return tensors, {"values": plain, "groups": state["param_groups"]}


def joined_optimizer(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The state_dict of split_optimizer's two halves."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain["values"].items()]:
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    # JSON has no tuples, and AdamW's betas are one
    groups = [{k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
              for group in plain["groups"]]  # fmt: skip
    return {"state": state, "param_groups": groups}


# -- on disk --------------------------------------------------------------------------------------------------------


def save(run: Path, state: State, weights: Tensors, ema: Tensors | None, optimizer: Mapping[str, Any]) -> Path:
    """Write a checkpoint; older ones than the last two, and older best weights, are then removed.

    Raises DataError when it cannot be written, naming the last good checkpoint, which stays.
    """
    folder = run / f"step-{state.step:08d}"
    tensors, plain = split_optimizer(optimizer)
    try:
        with replacing_folder(folder) as part:
            write_tensors(part / "weights.safetensors", _numpy(weights))
            write_tensors(part / "optimizer.safetensors", _numpy(tensors))
            if ema is not None:
                write_tensors(part / "ema.safetensors", _numpy(ema))
            record = {
                "schema_version": SCHEMA_VERSION,
                **vars(state),
                "config_sha256": config_hash(state.config),
                "optimizer": plain,
                "scaler": None,  # bfloat16 has float32's range, so no loss is scaled
                "random": random_state(),
                "files": {file.name: sha256(file) for file in sorted(part.iterdir())},
            }
            (part / STATE).write_text(to_json(record) + "\n", encoding="utf-8")
    except DataError as error:
        raise _unwritten(run, error) from error
    _prune(run, state)
    return folder


def _unwritten(run: Path, error: DataError) -> DataError:
    last = next(iter(checkpoints(run)), None)
    stays = f"the last good checkpoint is {last}" if last else "there is no earlier checkpoint"
    return DataError(f"{error}; {stays}; make room and go on with --resume")


def save_best(run: Path, step: int, weights: Tensors) -> None:
    """Write the best weights so far; those before stay until a checkpoint knows of these. Raises as `save` does."""
    try:
        with replacing_folder(run / f"best-{step:08d}") as part:
            write_tensors(part / "weights.safetensors", _numpy(weights))
    except DataError as error:
        raise _unwritten(run, error) from error


def load_best(run: Path, state: State) -> Tensors:
    """The weights of state.best. Raises DataError when they are not there."""
    assert state.best is not None
    return _torch(read_tensors(run / f"best-{state.best['step']:08d}" / "weights.safetensors"))


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, latest first, unread."""
    if not run.is_dir():
        return []
    return sorted((p for p in run.iterdir() if _STEP.fullmatch(p.name) and p.is_dir()), reverse=True)


def _prune(run: Path, state: State) -> None:
    best = None if state.best is None else int(state.best["step"])
    for old in checkpoints(run)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    known = {best, *(_best_of(p) for p in checkpoints(run))}
    for path in run.iterdir():
        match = _BEST.fullmatch(path.name)
        if match and int(match[1]) not in known:
            shutil.rmtree(path, ignore_errors=True)


def _best_of(folder: Path) -> int | None:
    try:
        best = read_json(folder / STATE).get("best")
    except DataError:
        return None
    return int(best["step"]) if best else None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What `load` gives: where training stood, and every tensor of it."""

    folder: Path
    state: State
    weights: Tensors
    ema: Tensors | None
    optimizer: dict[str, Any]
    random: dict[str, Any]


def load(run: Path) -> Checkpoint:
    """The latest whole checkpoint of a run; a damaged one is said and the one before is taken.

    Raises DataError when there is none.
    """
    found = checkpoints(run)
    for folder in found:
        try:
            return _read(folder)
        except DataError as error:
            warn(f"{error}; the checkpoint before it is taken")
    raise DataError(f"{run} has no {'whole ' if found else ''}checkpoint to resume from; use --overwrite to start over")


def _read(folder: Path) -> Checkpoint:
    record = read_json(folder / STATE)
    if record.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{folder / STATE} has schema_version {record.get('schema_version')!r}; wanted "
                        f"{SCHEMA_VERSION}; resume with the version of handful that wrote it")  # fmt: skip
    try:
        state = State(**{name: record[name] for name in State.__dataclass_fields__})
        files, plain, chances = record["files"], record["optimizer"], record["random"]
        whole = record["config_sha256"] == config_hash(state.config) and "weights.safetensors" in files
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / STATE} lacks {error}") from error
    if not whole:
        raise DataError(f"{folder / STATE} is damaged, or was changed")
    for name, wanted in files.items():
        file = folder / Path(name).name
        if not file.exists() or sha256(file) != wanted:
            raise DataError(f"{file} is missing or not as it was written")
    ema = folder / "ema.safetensors"
    return Checkpoint(
        folder, state, _torch(read_tensors(folder / "weights.safetensors")),
        _torch(read_tensors(ema)) if ema.name in files else None,
        joined_optimizer(_torch(read_tensors(folder / "optimizer.safetensors")), plain), chances,
    )  # fmt: skip


def same_config(state: State, config: Mapping[str, Any], data_sha256: str, made_with: Mapping[str, Any]) -> None:
    """Raises DataError, saying what differs, when a run is resumed with another configuration or other data.

    Other versions or threads are only warned of: the result is as good, but its last bits may differ.
    """
    before = {RENAMED.get(key, key): value for key, value in state.config.items()}
    keys = [k for k in {**before, **config} if to_json(before.get(k)) != to_json(config.get(k))]
    if keys:
        what = "; ".join(f"{k} is {config.get(k)!r}, was {before.get(k)!r}" for k in keys)
        raise DataError(
            f"the run to resume has other settings: {what}; give the same settings, or choose another --out"
            + _further(keys)
        )
    if state.data_sha256 != data_sha256:
        parts = {"the images to train on": slice(64), "the images of val": slice(64, None)}  # a SHA-256 each
        for what, part in parts.items():
            if (now := data_sha256[part]) != (was := state.data_sha256[part]):
                told = f"{what} (sha256 {now[:12] or 'none'}..., was {was[:12] or 'none'}...)"
                raise DataError(
                    f"the data have changed since the run was started: {told}; restore them, or choose another --out"
                )
    for key, was in state.made_with.items():
        if made_with.get(key) != was:
            warn(f"{key} is {made_with.get(key)}, was {was}: the last bits of the result may differ")


def _further(keys: Sequence[str]) -> str:
    """What to do for more epochs: the learning rate falls over all of them, so none can be put behind the last."""
    if not {"epochs", "minutes"} & set(keys):
        return ""
    return "; to train the model that it made further, begin another with its weights: --from MODEL --out OTHER"


def _numpy(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def _torch(arrays: Mapping[str, np.ndarray]) -> Tensors:
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
