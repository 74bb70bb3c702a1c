"""People in photos of anything: ours beside MediaPipe's Selfie and Meet, on the same photos in one run.

    python benchmarks/people.py [--seeds 0 1 2] [--epochs 12] [--scenes 400] [--work DIR] [--peers DIR] [--quick]
                                [--json] [--out FILE]

Trained on coco-mini's train photos with person masks (116), those without a person (131), MSRC's with one (44) and a
quarter of those without, and as many scenes again dreamed from them (people of some photos pasted into others,
handful.lucid.scenes), by `handful train segment`, weights of the last epoch; measured on the 27 photos with person
masks of coco-mini's val. Person IoU is over all pixels of the split, at the size of the labels; crowds do not count.
Selfie and Meet, which were made for people close to a camera, take the photo squashed to their frame, RGB / 255; a
pixel is a person from 0.5 on. Time: ONNX Runtime, fp32, one thread, a photo already of the frame's size, rounds of all
networks in turn; ours as `handful device compile` makes it, uint8 in, scores at the frame's size out. Bytes: the same
in fp16.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from common import ROOT, data_folder, save
from PIL import Image

from handful.data import formats
from handful.files import cache_home, read_json, replacing_folder, to_json, write_json
from handful.image import fit, read_image
from handful.kinds.compiling import compile_model
from handful.lucid import scenes
from handful.lucid.seed import Seed
from handful.models.folder import from_folder
from handful.training.evaluate_segment import predict
from handful.training.loader_segment import labels_of
from handful.training.metrics import Confusion
from handful.training.recipe_segment import run
from handful.training.source import split_of

CLASSES = ("background", "person")
PEERS = {"selfie": (256, 256), "meet": (144, 256)}
WANTED = {"iou": 0.55, "mb_fp16": 0.5, "times_selfie": 2.0}
ScoredProposals = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # photo, (h, w) of the answer -> class numbers


def one_thread(path: Path) -> Any:
    """A session of ONNX Runtime that uses one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def peer(name: str, session: Any) -> ScoredProposals:
    """Selfie gives the chance of a person, Meet two logits."""

    def asked(rgb: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        frame = fit(rgb, PEERS[name])[None].astype(np.float32) / 255
        out = session.run(None, {session.get_inputs()[0].name: frame})[0][0]
        chance = out[..., 0] if out.shape[-1] == 1 else 1 / (1 + np.exp(out[..., 0] - out[..., 1]))
        return np.asarray(cv2.resize(chance, size_hw[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5, dtype=np.uint8)

    return asked


def dreamed(root: Path, count: int) -> None:
    """Add scenes: persons of the train photos, each a connected part of a mask, pasted into any of them."""
    rng = np.random.default_rng(0)
    bases: list[tuple[np.ndarray, np.ndarray]] = []
    items: list[scenes.Item] = []
    for photo in sorted((root / "images" / "train").iterdir()):
        rgb = read_image(photo).rgb_u8
        ids = np.array(Image.open(root / "masks" / "train" / f"{photo.stem}.png"))
        bases.append((rgb, ids))
        if (ids == 1).any() and (ids != 1).any():
            parts = cv2.connectedComponents((ids == 1).astype(np.uint8))[1].astype(np.uint16)
            parts[ids == 255] = 65535
            items += scenes.items_of(Seed(photo.stem, rgb, parts), min_px=1500, rng=rng)
    for number in range(count):
        rgb, ids = bases[int(rng.integers(len(bases)))]
        made = scenes.scene(rgb, items, rng=rng, count=(1, 4), scale=(0.5, 3.0))
        Image.fromarray(made.rgb_u8).save(root / "images" / "train" / f"scene-{number}.jpg", quality=92)
        both = np.where(made.ids > 0, 1, ids).astype(np.uint8)
        Image.fromarray(both).save(root / "masks" / "train" / f"scene-{number}.png")


def photos(work: Path, dreams: int) -> Path:
    """One data set of two classes, copied once: train as said above, val as in coco-mini."""
    root = work / f"photos-{dreams}"
    if root.exists():
        return root
    coco, msrc = data_folder() / "coco-mini", data_folder() / "msrc-seg"
    said = read_json(coco / "instances_train.json")
    person = next(c["id"] for c in said["categories"] if c["name"] == "person")
    shown = {a["image_id"] for a in said["annotations"] if a["category_id"] == person}
    with replacing_folder(root) as part:

        def put(photo: Path, ids: np.ndarray, split: str, name: str) -> None:
            for kind in ("images", "masks"):
                (part / kind / split).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo, part / "images" / split / f"{name}.jpg")
            Image.fromarray(ids).save(part / "masks" / split / f"{name}.png")

        for split in ("train", "val"):
            for mask in sorted((coco / "person_masks" / split).iterdir()):
                value = np.array(Image.open(mask))  # 255 is a person, 128 a crowd
                ids = np.where(value == 128, 255, value == 255).astype(np.uint8)
                put(coco / "images" / split / f"{mask.stem}.jpg", ids, split, f"coco-{mask.stem}")
        for image in said["images"]:
            if image["id"] not in shown:
                nobody = np.zeros((image["height"], image["width"]), dtype=np.uint8)
                name = Path(image["file_name"]).stem
                put(coco / "images" / "train" / f"{name}.jpg", nobody, "train", f"nobody-{name}")
        for number, mask in enumerate(sorted((msrc / "seg10" / "train").iterdir())):
            ids = np.array(Image.open(mask))
            ids = np.where(ids == 255, 255, ids == 1).astype(np.uint8)
            if (ids == 1).any() or number % 4 == 0:
                put(msrc / "images" / "train" / f"{mask.stem}.jpg", ids, "train", f"msrc-{mask.stem}")
        dreamed(part, dreams)
        write_json(part / "labels.json", {"labels": {str(i): name for i, name in enumerate(CLASSES)}, "ignore": 255})
    return root


def measured(ask: ScoredProposals, data: Path) -> dict[str, Any]:
    """Person IoU over all pixels of val, and its mean over the photos, each of which shows someone."""
    dataset = formats.read(data)
    read, whole, each = labels_of(dataset, CLASSES), Confusion(2), []
    for sample in split_of(dataset, "val"):
        rgb = read_image(sample.path).rgb_u8
        truth = read(sample, (rgb.shape[1], rgb.shape[0]))
        assert truth is not None and (truth == 1).any(), f"{sample.path} shows nobody"
        answer, alone = ask(rgb, truth.shape), Confusion(2)
        whole.add(truth, answer)
        alone.add(truth, answer)
        each.append(alone.iou()[1] or 0.0)
    return {"iou": whole.iou()[1], "iou_of_a_photo": statistics.fmean(each), "photos": len(each)}


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each call: median and 10th, 90th percentile, rounds of all in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 5):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= 5:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: {"median_ms": statistics.median(ms), "p10_ms": float(np.percentile(ms, 10)),
                   "p90_ms": float(np.percentile(ms, 90))} for name, ms in taken.items()}  # fmt: skip


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--net", default="exeggutor:people")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=400, help="dreamed ones, 0 for none")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--work", type=Path, help="where runs are kept  [default: the cache folder]")
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers")
    parser.add_argument("--quick", action="store_true", help="1 epoch and 5 rounds, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("people.work")) / ("people-quick" if options.quick else "people")
    work.mkdir(parents=True, exist_ok=True)
    epochs, rounds = (1, 5) if options.quick else (options.epochs, options.rounds)
    data = photos(work, 8 if options.quick else options.scenes)
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        out = work / f"{options.net.replace(':', '-')}-{data.name}-{epochs}-{seed}"
        if not (out / "handful.json").exists():
            run(data, out, net=options.net, epochs=epochs, seed=seed, threads=options.threads,
                every=max(1, epochs // 4), keep="last", workers=1, allow=["empty_mask"], resume=True)  # fmt: skip
        model = from_folder(out)
        found = measured(functools.partial(predict, model.network), data)
        runs.append({"seed": seed, **found, "minutes": model.meta["minutes"]})
    artefacts = {p: compile_model(out, "onnxruntime", p) for p in ("fp32", "fp16")}
    calls: dict[str, Callable[[], Any]] = {}
    table: dict[str, Any] = {}
    session = one_thread(artefacts["fp32"].folder / "model.onnx")
    frame = np.zeros((1, *model.frame_hw, 3), dtype=np.uint8)
    calls["ours"] = functools.partial(session.run, None, {session.get_inputs()[0].name: frame})
    for name, hw in PEERS.items():
        path = options.peers / f"{name}.onnx"
        if not path.exists():
            print(f"no {path}, so {name} is not beside ours; give --peers DIR", flush=True)
            continue
        session, empty = one_thread(path), np.zeros((1, *hw, 3), dtype=np.float32)
        table[name] = {**measured(peer(name, session), data), "mb_fp32": path.stat().st_size / 1e6}
        calls[name] = functools.partial(session.run, None, {session.get_inputs()[0].name: empty})
    ms = timed(calls, rounds)
    iou = [r["iou"] for r in runs]
    table["ours"] = {
        "iou": statistics.fmean(iou), "least": min(iou), "most": max(iou),
        "iou_of_a_photo": statistics.fmean(r["iou_of_a_photo"] for r in runs), "params": model.meta["params"],
        "mb_fp16": artefacts["fp16"].bytes / 1e6, "minutes": statistics.fmean(r["minutes"] for r in runs), "runs": runs,
    }  # fmt: skip
    for name, row in table.items():
        row |= ms[name]
        about = f" ({100 * row['least']:.1f} to {100 * row['most']:.1f}, {len(runs)} seeds)" if name == "ours" else ""
        size = f"{row['mb_fp16']:.2f} MB fp16" if name == "ours" else f"{row['mb_fp32']:.2f} MB fp32"
        print(f"{name}: person IoU {100 * row['iou']:.1f} %{about}, of a photo {100 * row['iou_of_a_photo']:.1f} %, "
              f"{row['median_ms']:.2f} ms ({row['p10_ms']:.2f} to {row['p90_ms']:.2f}), {size}",
              flush=True)  # fmt: skip
    result: dict[str, Any] = {"net": options.net, "epochs": epochs, "networks": table, "wanted": WANTED}
    if "selfie" in table:
        result["times_selfie"] = ms["ours"]["median_ms"] / ms["selfie"]["median_ms"]
        print(f"{result['times_selfie']:.2f} times Selfie's time")
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
