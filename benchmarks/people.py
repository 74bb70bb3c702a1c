"""People in photos of anything: ours beside MediaPipe's Selfie and Meet, on the same photos in one run.

    python benchmarks/people.py [--models DIR ...] [--work DIR] [--peers DIR] [--pictures DIR] [--rounds 200]
                                [--quick] [--json] [--out FILE]

Ours is the model that comes with handful (tools/make_people.py says what it was trained on), and every other model
folder that is named: seeds of the same training, or one that saw more photos. Measured on the 27 photos with person
masks of coco-mini's val, and on photos that nothing was trained on (`held_out` of tools/make_people.py), in groups: one
person who fills a fifth of the photo or more, one who is smaller, several people, and street fashion.

Person IoU is over all pixels of a group, at the size of the labels; crowds do not count; beside it the mean of the
photos. Selfie and Meet, which were made for people close to a camera, take the photo squashed to their frame, RGB /
255; a pixel is a person from 0.5 on. Time: ONNX Runtime, fp32, one thread, a photo already of the frame's size, rounds
of all networks in turn; ours as `handful device compile` makes it, uint8 in, scores at the frame's size out. The fp16
row is the file that an app takes. --pictures: the 20 best and the 20 worst photos of the shipped model, drawn.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from common import ROOT, data_folder, save
from PIL import Image

from handful import shipped
from handful.files import cache_home, to_json
from handful.image import fit, read_image
from handful.kinds.compiling import compile_model
from handful.kinds.loading import load_bundle
from handful.models.folder import from_folder
from handful.training.evaluate_segment import predict

sys.path.insert(0, str(ROOT / "tools"))  # what is held out is said where the rest is trained on
import make_people

PEERS = {"selfie": (256, 256), "meet": (144, 256)}
GROUPS = ("all held out", "one person, close", "one person, far", "several people", "street fashion")
SHOWN = {"people-all": "people-all, not shipped", "selfie": "MediaPipe Selfie", "meet": "MediaPipe Meet"}
CLOSE = 0.2  # share of the photo from which a person is close
WANTED = {"coco-mini val": 68.0, "mb_fp16": 0.5, "times_selfie": 2.0}
Asked = Callable[[np.ndarray, tuple[int, int]], np.ndarray]  # photo, (h, w) of the answer -> class numbers


def one_thread(path: Path) -> Any:
    """A session of ONNX Runtime that uses one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def bundled(model: Any) -> Asked:
    """A compiled segmenter."""
    return lambda rgb, size_hw: np.asarray(model.predict(rgb)[0].ids)


def peer(name: str, session: Any) -> Asked:
    """Selfie gives the chance of a person, Meet two logits."""

    def asked(rgb: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        frame = fit(rgb, PEERS[name])[None].astype(np.float32) / 255
        out = session.run(None, {session.get_inputs()[0].name: frame})[0][0]
        chance = out[..., 0] if out.shape[-1] == 1 else 1 / (1 + np.exp(out[..., 0] - out[..., 1]))
        return np.asarray(cv2.resize(chance, size_hw[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5, dtype=np.uint8)

    return asked


@dataclass(frozen=True)
class Held:
    """A photo that is measured on: (h, w, 3) uint8 RGB, and (h, w) uint8, 1 a person, 255 not counted."""

    name: str
    group: str
    rgb: np.ndarray
    truth: np.ndarray


def held(data: Path) -> list[Held]:
    """All photos that are measured on."""
    found = []
    for mask in sorted((data / "coco-mini" / "person_masks" / "val").iterdir()):
        path = data / "coco-mini" / "images" / "val" / f"{mask.stem}.jpg"
        photo = make_people.Photo(mask.stem, path, mask, False, 1)
        found.append((photo, "coco-mini val"))
    found += [(photo, "") for photo in make_people.held_out(data)]
    rows = []
    for photo, group in found:
        rgb = read_image(photo.path).rgb_u8
        truth = make_people.labels_of(photo, rgb.shape[:2])
        assert (truth == 1).any(), f"{photo.path} shows nobody"
        share = (truth == 1).sum() / (truth != 255).sum()
        one = "one person, close" if share >= CLOSE else "one person, far"
        other = "street fashion" if photo.name.startswith("people-more") else one
        rows.append(Held(photo.name, group or ("several people" if photo.people > 1 else other), rgb, truth))
    return rows


def measured(ask: Asked, photos: list[Held]) -> tuple[dict[str, Any], dict[str, float]]:
    """By group, and for all that was held out, in %: IoU over all pixels, and the mean of the photos; and the IoU of
    each photo by name."""
    both: dict[str, list[tuple[int, int]]] = {}
    alone = {}
    for photo in photos:
        answer, counts = ask(photo.rgb, photo.truth.shape) == 1, photo.truth != 255
        meant = photo.truth == 1
        pair = int((answer & meant & counts).sum()), int(((answer | meant) & counts).sum())
        alone[photo.name] = pair[0] / pair[1]
        both.setdefault(photo.group, []).append(pair)
        if photo.group != "coco-mini val":
            both.setdefault("all held out", []).append(pair)
    return {
        group: {"iou": 100 * sum(i for i, _ in pairs) / sum(u for _, u in pairs),
                "iou_of_a_photo": 100 * statistics.fmean(i / u for i, u in pairs), "photos": len(pairs)}
        for group, pairs in both.items()
    }, alone  # fmt: skip


def pictures(ask: Asked, photos: list[Held], alone: dict[str, float], to: Path) -> None:
    """best.png and worst.png: 20 photos each, what is taken for a person in green, what was missed in red."""
    order = sorted(photos, key=lambda photo: -alone[photo.name])
    to.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("best", order[:20]), ("worst", order[-20:])):
        sheet = np.full((4 * 200, 5 * 260, 3), 255, np.uint8)
        for at, photo in enumerate(chosen):
            answer, drawn = ask(photo.rgb, photo.truth.shape) == 1, photo.rgb.astype(np.float32)
            for where, color in ((answer, (0, 200, 0)), ((photo.truth == 1) & ~answer, (255, 0, 0))):
                drawn[where] = 0.55 * drawn[where] + 0.45 * np.array(color)
            high, wide = photo.truth.shape
            scale = min(176 / high, 256 / wide)
            small = cv2.resize(drawn.round().astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            top, left = at // 5 * 200, at % 5 * 260
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
            text = f"{100 * alone[photo.name]:.0f} %, {photo.group}"
            cv2.putText(sheet, text, (left, top + 192), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        Image.fromarray(sheet).save(to / f"{name}.png")


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
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="further model folders")
    parser.add_argument("--work", type=Path, help="where bundles are made  [default: the cache folder]")
    parser.add_argument("--peers", type=Path, default=ROOT.parent / "shared" / "peers")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="10 photos and 5 rounds, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = options.work or (cache_home() or Path("people.work")) / "people"
    photos = held(data_folder())
    if options.quick:  # two of each group
        photos = [photo for group in dict.fromkeys(p.group for p in photos)
                  for photo in [p for p in photos if p.group == group][:2]]  # fmt: skip
    table: dict[str, Any] = {}
    calls: dict[str, Callable[[], Any]] = {}

    def add(name: str, ask: Asked, session: Any, frame: np.ndarray, mb: float) -> dict[str, float]:
        groups, alone = measured(ask, photos)
        table[name] = {"groups": groups, "mb": mb}
        calls[name] = functools.partial(session.run, None, {session.get_inputs()[0].name: frame})
        return alone

    own = shipped.found("people")
    for folder in (own, *options.models):
        model = from_folder(folder)
        name = "people" if folder == own else folder.name
        ask = functools.partial(predict, model.network)
        frame = np.zeros((1, *model.frame_hw, 3), dtype=np.uint8)
        fp32 = compile_model(folder, "onnxruntime", "fp32", into=work / name)
        alone = add(name, ask, one_thread(fp32.folder / "model.onnx"), frame, fp32.bytes / 1e6)
        if folder == own:
            fp16 = compile_model(folder, "onnxruntime", "fp16", into=work / name)
            session = one_thread(fp16.folder / "model.onnx")
            add("people, fp16", bundled(load_bundle(fp16.folder)), session, frame, fp16.bytes / 1e6)
            if options.pictures:
                pictures(ask, photos, alone, options.pictures)
    for name, hw in PEERS.items():
        path = options.peers / f"{name}.onnx"
        if not path.exists():
            print(f"no {path}, so {name} is not beside ours; give --peers DIR", flush=True)
            continue
        session = one_thread(path)
        add(name, peer(name, session), session, np.zeros((1, *hw, 3), dtype=np.float32), path.stat().st_size / 1e6)
    ms = timed(calls, 5 if options.quick else options.rounds)
    for name, row in table.items():
        row |= ms[name]
        groups = ", ".join(f"{group} {one['iou']:.1f} ({one['photos']})" for group, one in row["groups"].items())
        print(f"{name}: person IoU {groups}; {row['median_ms']:.2f} ms ({row['p10_ms']:.2f} to {row['p90_ms']:.2f}), "
              f"{row['mb']:.2f} MB", flush=True)  # fmt: skip
    columns = {"coco-mini val": "coco-mini: val", **{name: name for name in GROUPS}}
    rows = [
        [SHOWN.get(name, name), *(row["groups"][group]["iou"] for group in columns), f"{row['mb']:.2f} MB",
         f"{row['median_ms']:.1f} ms"]
        for name, row in table.items()
    ]  # fmt: skip
    counts = {group: table["people"]["groups"][group]["photos"] for group in columns}
    result: dict[str, Any] = {
        "seeds": [0], "spread": "one seed of training", "unit": "IoU in %", "networks": table, "wanted": WANTED,
        "tables": {"people": {"columns": ["network", *columns.values(), "file", "time"], "rows": rows}},
        "figures": {"photos": counts},
    }  # fmt: skip
    if "selfie" in table:
        times = ms["people"]["median_ms"] / ms["selfie"]["median_ms"]
        result["figures"]["times Selfie's time"] = times
        print(f"{times:.2f} times Selfie's time")
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
