"""Training of the mask head's decoder (masks_head.py) on images whose objects have masks; tools/make_masks.py runs
it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handful.data.shapes import box_of, painted
from handful.detection.masking import resample, tight_patch, windows
from handful.detection.masks_head import MARGIN, OUT_PX, SIDE_PX, MaskNet, box_map, fill
from handful.errors import DataError
from handful.files import read_tensors, to_json, write_tensors
from handful.progress import note, track
from handful.results import Patch
from handful.training.checkpoint import joined_optimizer, split_optimizer
from handful.training.loader import order
from handful.training.loss import Loss
from handful.training.metrics import IGNORE
from handful.training.schedule import factor
from handful.training.source import image_of
from handful.types import Sample
from handful.words import counted

MIN_PX = 6  # an object with a shorter side shows nothing that could be learned
STATE = "state.safetensors"
CHECKPOINT_EVERY = 50  # steps
MAX_JITTER = 0.15  # a jittered side is never further off, as a share of the box


@dataclass(frozen=True)
class Plan:
    """How the decoder is trained. jitter: standard deviation of how far each side of a box is off, as a share of its
    width or height, as a detector's are; color: share of the crops whose colors are changed."""

    steps: int = 400
    batch: int = 24
    lr: float = 2e-3
    decay: float = 1e-3
    warmup: int = 40
    dice: float = 1.0
    jitter: float = 0.06
    color: float = 0.8


@dataclass(frozen=True, eq=False)
class MaskSample:
    """One object in an image (h, w, 3) uint8 RGB: its drawn box (4,) float64 px, cut at the image's edges, and its
    pixels."""

    rgb_u8: np.ndarray
    box: np.ndarray
    mask: Patch


def mask_samples(samples: Iterable[Sample]) -> list[MaskSample]:
    """Every object with outlines or pixels that is no crowd."""
    found = []
    for sample in samples:
        rgb = image_of(sample).rgb_u8
        size_wh = (rgb.shape[1], rgb.shape[0])
        for thing in sample.objects or ():
            box, pixels = box_of(thing), None if thing.crowd else painted(thing, size_wh)
            if box is None or pixels is None or not pixels.any():
                continue
            cut = np.clip(np.array(box, np.float64), 0, [*size_wh, *size_wh])
            if (cut[2:] > cut[:2]).all():
                found.append(MaskSample(rgb, cut, tight_patch(pixels, (0, 0))))
    return found


def jitter_box(box: np.ndarray, by: float, rng: np.random.Generator) -> np.ndarray:
    """A box (4,) as a detector might have drawn it; it may reach over the image's edge."""
    off = np.clip(rng.normal(0, by, 4), -MAX_JITTER, MAX_JITTER)
    return np.asarray(box + off * np.tile(box[2:] - box[:2], 2))


def target_of(thing: MaskSample, window: np.ndarray) -> np.ndarray:
    """(OUT_PX, OUT_PX) int64: 1 where a cell of the window is mostly the object, 255 outside the image, else 0."""
    left, top = thing.mask.left_top
    own = resample(thing.mask.pixels.astype(np.uint8) * 255, window - [left, top, left, top], OUT_PX, outside=0)
    height, width = thing.rgb_u8.shape[:2]
    photo = box_map(window, np.array([0, 0, width, height], np.float64))
    return np.where(photo > 0, (own >= 128).astype(np.int64), IGNORE)


def color_jitter(crop_u8: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another gamma, white balance and contrast, by chance."""
    y = (crop_u8.astype(np.float32) / 255) ** np.float32(np.exp(rng.normal(0, 0.2)))
    y = y * np.exp(rng.normal(0, 0.1, 3)).astype(np.float32)
    y = (y - y.mean()) * np.float32(np.exp(rng.normal(0, 0.15))) + y.mean()
    return np.asarray((y.clip(0, 1) * 255).round().astype(np.uint8))


def batch(things: Sequence[MaskSample], plan: Plan, seed: int, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops (n, SIDE_PX, SIDE_PX, 3) uint8, boxes (n, 1, OUT_PX, OUT_PX) float32 and targets (n, OUT_PX, OUT_PX) int64
    of a step. It follows from the seed and the step alone."""
    rows = []
    for place in range(step * plan.batch, (step + 1) * plan.batch):
        epoch, at = divmod(place, len(things))
        thing = things[int(order(len(things), seed, epoch)[at])]
        rng = np.random.default_rng((seed, place))
        box = jitter_box(thing.box, plan.jitter, rng)
        window = windows(box, MARGIN)[0]
        crop, given, target = resample(thing.rgb_u8, window, SIDE_PX), box_map(window, box), target_of(thing, window)
        if rng.random() < 0.5:
            crop, given, target = crop[:, ::-1], given[:, ::-1], target[:, ::-1]
        rows.append((color_jitter(crop, rng) if rng.random() < plan.color else crop, given[None], target))
    crops, given, target = (np.stack(part) for part in zip(*rows, strict=True))
    return crops, given, target


def train(things: Sequence[MaskSample], run: Path, *, plan: Plan | None = None, seed: int = 0) -> MaskNet:
    """A trained network, in eval mode. On one thread the same objects, plan and seed give the same weights.

    run: a folder for the checkpoint, from which a stopped training goes on. Raises DataError without objects to learn
    from, or when the checkpoint is of another training.
    """
    plan = plan or Plan()
    learned = [thing for thing in things if (thing.box[2:] - thing.box[:2]).min() >= MIN_PX]
    if not learned:
        raise DataError(
            f"none of {counted(len(things), 'object')} has a mask and a box with sides of {MIN_PX} px or more"
        )
    torch.manual_seed(seed)
    network = MaskNet(pretrained=True).to(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.AdamW(network.decoder.parameters(), lr=plan.lr, weight_decay=plan.decay)
    identity = to_json({"plan": asdict(plan), "seed": seed, "things": len(learned)})
    begun = _resume(run / STATE, identity, network, optimizer)
    loss, sum_of = Loss(auxiliary=0, dice=plan.dice), 0.0
    for step in track(range(begun, plan.steps), "training", plan.steps - begun):
        crops, given, target = batch(learned, plan, seed, step)
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * factor(step, plan.steps, kind="cosine", warmup=min(plan.warmup, plan.steps - 1))
        x, maps = network.encode(crops)
        value = loss([network.decode(x, maps, torch.from_numpy(given))], torch.from_numpy(target))
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        sum_of += value.item()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == plan.steps:
            _save_checkpoint(run / STATE, identity, step + 1, network, optimizer)
            note(f"step {step + 1} of {plan.steps}: loss {sum_of / (step % CHECKPOINT_EVERY + 1):.3f}")
            sum_of = 0.0
    return network.eval()


def _save_checkpoint(path: Path, identity: str, step: int, network: MaskNet, optimizer: torch.optim.Optimizer) -> None:
    tensors, plain = split_optimizer(optimizer.state_dict())
    text = to_json({"of": identity, "step": step, "plain": plain}).encode()
    held = {f"decoder.{key}": value.numpy() for key, value in network.decoder.state_dict().items()}
    held |= {f"optimiser.{key}": value.numpy() for key, value in tensors.items()}
    write_tensors(path, {**held, "about": np.frombuffer(text, np.uint8)})


def _resume(path: Path, identity: str, network: MaskNet, optimizer: torch.optim.Optimizer) -> int:
    import json

    if not path.exists():
        return 0
    held = read_tensors(path)
    about = json.loads(bytes(held.pop("about")))
    if about["of"] != identity:
        raise DataError(f"{path} is of another training ({about['of']}), wanted {identity}; choose another folder")
    tensors = {key: torch.from_numpy(value.copy()) for key, value in held.items()}

    def part(name: str) -> Mapping[str, torch.Tensor]:
        return {k.removeprefix(name): value for k, value in tensors.items() if k.startswith(name)}

    fill(network.decoder, part("decoder."), str(path))
    optimizer.load_state_dict(joined_optimizer(part("optimiser."), about["plain"]))
    return int(about["step"])


def weights_of(network: MaskNet) -> dict[str, np.ndarray]:
    """What is shipped: the decoder's tensors as float16."""
    state = network.decoder.state_dict()
    return {key: value.numpy().astype(np.float16) for key, value in state.items() if value.dtype.is_floating_point}


def mask_quality(
    segment: Any, things: Sequence[MaskSample], *, jitter: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Of each object the IoU of its pixels with what `segment` (Masker.segment) gives for its box, and its area in
    px^2: two (n,) float64. jitter: how far the boxes are off, as Plan's; none then reaches over the image."""
    from handful.detection.masking import mask_iou

    found = []
    for number, thing in enumerate(track(things, "measuring", len(things))):
        height, width = thing.rgb_u8.shape[:2]
        box = thing.box
        if jitter:
            rng = np.random.default_rng((seed, number))
            box = np.clip(jitter_box(box, jitter, rng), 0, [width, height, width, height])
            box = box if (box[2:] > box[:2]).all() else thing.box
        own = segment(thing.rgb_u8, box[None])[0]
        found.append((mask_iou(own, thing.mask.whole((width, height))), float(np.count_nonzero(thing.mask.pixels))))
    both = np.array(found, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
