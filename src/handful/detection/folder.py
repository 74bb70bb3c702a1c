"""A detector's folder: what is written, and how folders of older versions are read.

handful.json names the proposer ("proposer"), how boxes are embedded ("crop"), the fusion, the scales and the masks;
model.safetensors holds their networks, nemo.* what was learned, examples.safetensors the taught boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import handful.detection
from handful.curate.seen import Seen
from handful.detection.background import BackgroundBank
from handful.detection.contract import Proposer
from handful.detection.embedder import BoxEmbedder, CropSettings
from handful.detection.examples import Examples
from handful.detection.fusion import Fusion
from handful.detection.masking import Masker, load_saved
from handful.detection.multiscale import MultiScaleProposer, Scales
from handful.detection.scoring import DEFAULT_SCORE_THRESHOLD
from handful.errors import DataError
from handful.fewshot.nemo import Nemo
from handful.files import read_tensors, write_tensors
from handful.models import folder as folders
from handful.pick import pick

KIND = "irene"
EXAMPLES = "examples.safetensors"
RULE = "sqrt(quality x softmax(NEMO's scores, none of these among them)); boxes of a class fused"
PARTS = ("proposer", "crop", "masks")  # of model.safetensors: the beginnings of its tensors' names
# words of handful 0.3: {where: {old: new}}
OLD_KEYS = {
    "": {"eye": "proposer", "look": "crop"},
    "fusion": {"overlap": "nms_iou", "merge": "merge_iou", "part": "containment_power", "one_name": "cross_class_iou",
               "most": "max_boxes"},
    "scales": {"look": "mode", "threshold": "focus_threshold", "least": "min_cells"},
    "examples": {"photos": "images"},
    "about": {"told_from": "score_threshold", "photos": "images", "most": "max_samples"},
}  # fmt: skip
OLD_METHODS = {"strongest": "matrix", "merged": "wbf", "merged_vote": "wbf_vote"}
OLD_PARTS = {"eye": "proposer"}


@dataclass(frozen=True)
class Saved:
    """What a folder keeps of a detector. masks, masker: name of the mask method and the method; None, where the first
    detectors had none of their own."""

    proposer: Proposer
    embedder: BoxEmbedder
    nemo: Nemo
    fusion: Fusion
    examples: Examples
    bank: BackgroundBank
    about: dict[str, Any]
    score_threshold: float
    masks: str | None = None
    masker: Masker | None = None
    seen: Seen | None = None


def translate(meta: Mapping[str, Any]) -> dict[str, Any]:
    """handful.json of a detector in today's words, whichever version wrote it; what is not known stays as it is."""
    if "eye" not in meta:
        return dict(meta)
    found = _renamed(meta, OLD_KEYS[""])
    for key, words in OLD_KEYS.items():
        if key and isinstance(found.get(key), Mapping):
            found[key] = _renamed(found[key], words)
    fusion = found.get("fusion", {})
    for key in ("within", "across"):
        if fusion.get(key) in OLD_METHODS:
            fusion[key] = OLD_METHODS[fusion[key]]
    return found


def _renamed(held: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    return {words.get(key, key): value for key, value in held.items()}


def save(saved: Saved, folder: Path, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write a detector's folder, whole or not at all; it needs nothing else. data: what it was taught from."""
    from torch import nn

    parts = nn.ModuleDict()
    masker, nemo = saved.masker, saved.nemo
    networks = (saved.proposer.network, saved.embedder.backbone, None if masker is None else masker.network)
    for name, module in zip(PARTS, networks, strict=True):
        if module is not None:
            parts[name] = module
    background, images = saved.bank.state(nemo.dim)
    examples = saved.examples

    def beside(place: Path) -> None:
        nemo.save(place)
        if saved.seen:
            saved.seen.save(place)
        held = np.stack(examples.vectors) if examples.vectors else np.zeros((0, nemo.dim), np.float16)
        boxes = np.array(examples.boxes, np.float64).reshape(-1, 4)
        write_tensors(place / EXAMPLES, {"vectors": held, "boxes": boxes, **background})

    about = {
        "rule": RULE, "proposer": saved.proposer.about, "crop": asdict(saved.embedder.settings),
        "fusion": asdict(saved.fusion), **({} if masker is None else {"masks": {**masker.about, "name": saved.masks}}),
        "scales": asdict(getattr(saved.proposer, "scales", Scales())),
        "examples": {"labels": examples.labels, "images": examples.images, "background": images},
        "about": {**saved.about, "vigilance": nemo.vigilance, "score_threshold": saved.score_threshold,
                  "samples": nemo.counts, **(data or {})},
    }  # fmt: skip
    frame = {"before_the_graph": "see rule, proposer and crop", "color_order": "RGB", "dtype": "uint8"}
    return folders.save_folder(folder, parts, kind=KIND, args={}, classes=list(nemo.classes), preprocessing=frame,
                               about=about, beside=beside)  # fmt: skip


def load(folder: Path, scale_mode: str | None = None, *, whole: bool = True) -> Saved:
    """See Irene.load."""
    folder = Path(folder)
    meta = folders.read_meta(folder, whole=whole)
    if meta["network"].get("kind") != KIND:
        raise DataError(f"{folder} holds a {meta['network'].get('kind')!r} network; wanted a taught detector, as "
                        "`handful teach COCO.json --out DETECTOR` makes")  # fmt: skip
    meta = translate(meta)
    try:
        parts = _parts(folder / folders.WEIGHTS)
        base = pick(handful.detection, "proposer", str(meta["proposer"]["name"]))
        scales = Scales(**meta.get("scales", {}))
        scales = replace(scales, mode=scale_mode) if scale_mode else scales
        proposer = MultiScaleProposer(base.load(parts["proposer"], meta["proposer"]), scales)
        embedder = BoxEmbedder(proposer, CropSettings(**{"max_crops": None, **meta["crop"]}), parts["crop"])
        fusion = Fusion(**meta["fusion"])
    except (RuntimeError, TypeError, KeyError) as error:
        raise DataError(f"{folder / folders.WEIGHTS} does not fit what {folders.META} says of it ({error}); "
                        "restore it or teach the detector again") from error  # fmt: skip
    nemo = Nemo.load(folder, features=embedder.name, whole=whole)
    masks, masker = None, None
    if "masks" in meta:  # the first detectors have no masks of their own
        masks = str(meta["masks"].get("name"))
        masker = load_saved(parts["masks"], meta["masks"], folder / folders.WEIGHTS)
    held = read_tensors(folder / EXAMPLES)
    labels, images = meta["examples"]["labels"], meta["examples"]["images"]
    if not len(labels) == len(images) == len(held["vectors"]) == len(held["boxes"]):
        raise DataError(f"{folder / EXAMPLES} and {folders.META} name different examples; teach the detector again")
    examples = Examples(list(held["vectors"]), labels, images, held["boxes"].tolist())
    bank = BackgroundBank.from_state(held, meta["examples"].get("background", []))
    threshold = float(meta["about"].get("score_threshold", DEFAULT_SCORE_THRESHOLD))
    return Saved(
        proposer, embedder, nemo, fusion, examples, bank, meta["about"], threshold, masks, masker, Seen.load(folder)
    )


def _parts(weights: Path) -> dict[str, dict[str, Any]]:
    """{part: {parameter: tensor}}, one for each of PARTS."""
    import torch

    found: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for key, value in read_tensors(weights).items():
        part, _, name = key.partition(".")
        found[OLD_PARTS.get(part, part)][name] = torch.from_numpy(value)
    return found
