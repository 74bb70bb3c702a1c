"""How a photo's boxes are made few: every way within a scale and across scales, on coco-mini's val photos.

    python benchmarks/fusion.py [--count 2] [--look pyramid] [--seeds 0 1 2] [--samples 20] [--backbone lite0] [--tune]
                                [--work DIR] [--quick] [--json] [--out FILE]

A detector taught at most --samples boxes a class of the train photos, drawn by each seed, sees each photo at --count
scales; boxes, vectors and NEMO's scores are those that benchmarks/focus.py keeps, so the ways differ in nothing else.
The 2018 report saw large things lost by Soft-NMS across scales; `large_lost` is AP of large things by Soft-NMS across
scales (SNIPER's: nothing within, Gaussian, sigma 0.55) minus that of the same boxes by NMS within a scale alone and
merging across. --tune is that of focus.py. Last, F1 at the vigilance of 3.0 when
a thing may have several names and when it has one (Fusion.one_name).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import save
from focus import Bench, spread

from handful.detection.evaluate import DetectionCounts
from handful.detection.fusion import Fusion
from handful.detection.multiscale import MODES, Scales
from handful.files import cache_home, to_json

WAYS: dict[str, Fusion] = {
    "nothing at all": Fusion("none", "none"),
    "NMS within": Fusion("hard", "none"),
    "NMS within, NMS across": Fusion("hard", "hard"),
    "NMS over all scales at once": Fusion("none", "hard"),
    "linear Soft-NMS within": Fusion("soft_linear", "none", nms_iou=0.3),
    "Gaussian Soft-NMS within": Fusion("soft_gaussian", "none"),
    "strongest suppressor within": Fusion("matrix", "none"),
    "linear Soft-NMS over all scales at once": Fusion("none", "soft_linear", nms_iou=0.3),
    "Gaussian Soft-NMS over all scales at once (SNIPER)": Fusion("none", "soft_gaussian", sigma=0.55),
    "strongest suppressor over all scales at once": Fusion("none", "matrix"),
    "NMS within, Gaussian Soft-NMS across": Fusion("hard", "soft_gaussian", sigma=0.55),
    "NMS within, strongest suppressor across": Fusion("hard", "matrix"),
    "NMS within, merged across": Fusion("hard", "wbf"),
    "NMS within, merged across by vote": Fusion("hard", "wbf_vote"),
    "Gaussian Soft-NMS within, merged across": Fusion("soft_gaussian", "wbf"),
    "strongest suppressor within, merged across": Fusion("matrix", "wbf"),
    "NMS within, merged across, part in whole": Fusion("hard", "wbf", containment_power=0.5),
    "strongest suppressor within, merged across, part in whole": Fusion("matrix", "wbf", containment_power=0.5),
}
SNIPER, OURS = "Gaussian Soft-NMS over all scales at once (SNIPER)", "NMS within, merged across"
SHOWN = ("AP", "AP50", "APs", "APm", "APl", "AR100")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2, help="of scales")
    parser.add_argument("--look", choices=MODES, default="pyramid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--backbone", default="lite0", help="of the crops, or none")
    parser.add_argument("--tune", action="store_true", help="on train photos alone")
    parser.add_argument("--work", type=Path, help="where benchmarks/focus.py keeps what was seen")
    parser.add_argument("--quick", action="store_true", help="a few photos, to see that it runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work or (cache_home() or Path("focus.work")) / "focus"
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work, options.backbone, tune=options.tune, quick=options.quick)
    scales = Scales(options.count, options.look)
    seen, _ = bench.seen(options.look, scales)
    asked = [bench.asked(options.count, seen, seed, options.samples) for seed in options.seeds]
    each = {name: [bench.table(irene, about, way) for irene, about in asked] for name, way in WAYS.items()}
    rows = {name: spread(found) for name, found in each.items()}
    for name, row in rows.items():
        print(f"{name:58s}" + "  ".join(f"{k} {100 * row[k]['mean']:5.2f}" for k in SHOWN if k in row), flush=True)
    lost = [(one["APl"] or 0.0) - (other["APl"] or 0.0) for one, other in zip(each[SNIPER], each[OURS], strict=True)]
    print("AP of large things, Soft-NMS over all scales less merged: "
          + ", ".join(f"{100 * v:+.2f}" for v in lost) + " (each seed)", flush=True)  # fmt: skip
    named: dict[str, Any] = {}
    for overlap in (1.0, 0.9, 0.8, 0.7, 0.6):
        found = []
        for irene, about in asked:
            irene.fusion, answers = Fusion(cross_class_iou=overlap), DetectionCounts(irene.classes)
            for (truth, _), one in zip(bench.truth(), about, strict=True):
                answers.add(truth, irene.select(one))
            found.append(answers.summary())
        named[str(overlap)] = spread(found)
        f1 = named[str(overlap)]["f1"]
        print(f"one name above IoU {overlap}: F1 {100 * f1['mean']:.1f} ({100 * f1['least']:.1f} to "
              f"{100 * f1['most']:.1f})", flush=True)  # fmt: skip
    result: dict[str, Any] = {
        "one_name": named,
        "ways": rows, "each": each, "large_lost": lost, "seeds": options.seeds, "samples": options.samples,
        "count": options.count, "look": options.look, "backbone": options.backbone, "tune": options.tune,
    }  # fmt: skip
    if options.json:
        print(to_json(result))
    if options.out:
        save(options.out, result)


if __name__ == "__main__":
    main()
