"""How good a model is, for people: what `evaluate` and `train` print of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handful.words import counted, shell


def measured(r: dict[str, Any]) -> str:
    """The figures of any kind of model, by what its JSON object holds."""
    if "seen" not in r:
        return _figures(r)
    from handful.curate.seen import told  # not above: with it comes what reads images

    leak = told(r)
    return _figures(r) + (f"\n{leak}" if leak else "")


def _figures(r: dict[str, Any]) -> str:
    for key, text in (("open_f1", taught), ("ar_agnostic", found), ("boundary_f", segmented), ("AP", detected)):
        if key in r:
            return text(r)
    return classified(r)


def taught(r: dict[str, Any]) -> str:
    """Of a taught classifier."""
    lines = [
        f"accuracy      {r['accuracy']:.3f}   ({counted(r['known_images'], 'image')} of taught classes, "
        "'none of these' left out)",
        f"open-set F1   {r['open_f1']:.3f}   (at vigilance {r['vigilance']:g}; "
        f"{counted(r['unknown_images'], 'image')} of others)",
    ]
    if r["unknown_auroc"] is not None:
        lines.append(f"unknown AUROC {r['unknown_auroc']:.3f}")
    lines += ranged(r)
    worst = sorted(r["per_class"].items(), key=lambda item: (item[1]["accuracy"], item[0]))[:5]
    lines.append("worst classes " + ", ".join(f"{name} {v['accuracy']:.2f}" for name, v in worst))
    return "\n".join(lines)


def ranged(r: dict[str, Any]) -> list[str]:
    """What the answers would be over the range of vigilances, and which one is suggested."""
    rows = {row["vigilance"]: row for row in r["vigilance_range"]}
    suggested, own = r["suggested_vigilance"], round(r["vigilance"], 1)
    shown = sorted({min(rows), max(rows), *(v for v in (2.0, 3.0, own, suggested) if v is not None and v in rows)})
    lines = ["at vigilance     " + "".join(f"{v:6g}" for v in shown)]
    kinds = [("right", "right"), ("wrong", "wrong"), ("refused", "'none of these'")]
    if r["unknown_images"]:
        kinds.append(("unknown_accepted", "unknown, named"))
    lines += [f"  {name:<15}" + "".join(f"{rows[v][key]:6d}" for v in shown) for key, name in kinds]
    if suggested is not None and suggested != own:
        lines.append(f"suggested vigilance {suggested:g}: handful set {shell(r['model'])} --vigilance {suggested:g}")
    return lines


def found(r: dict[str, Any]) -> str:
    """Of a taught detector."""

    def told(value: float | None) -> str:
        return "  -  " if value is None else f"{100 * value:5.1f}"

    subset = ", a small set: not to be held against figures on COCO's 5,000" if r["subset"] else ""
    lines = [
        f"{counted(r['images'], 'image')}, {counted(r['objects'], 'object')} of "
        f"{counted(len(r['per_class']), 'taught class')}{subset}"
    ]
    lines.append("AP    AP50  AP75  small medium large | AR1   AR10  AR100 small medium large")
    lines.append(" ".join(told(r[k]) for k in ("AP", "AP50", "AP75", "APs", "APm", "APl")) + " | "
                 + " ".join(told(r[k]) for k in ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")))  # fmt: skip
    lines.append("recall without classes: "
                 + ", ".join(f"{told(v).strip()} at {n}" for n, v in r["ar_agnostic"].items()))  # fmt: skip
    lines.append(f"F1 {told(r['f1']).strip()} at vigilance {r['vigilance']:g}, from a score of "
                 f"{r['score_threshold']:.2f}; class of true boxes right {told(r['accuracy']).strip()} %; "
                 f"{r['seconds_per_image']:.2f} s an image")  # fmt: skip
    if "masks" in r:
        from handful.detection.evaluate_masks import text_of

        lines.append(text_of(r))
    if r["unknown_auroc"] is not None:
        lines.append(f"{counted(r['unknown_objects'], 'object')} of untaught classes: AUROC {r['unknown_auroc']:.3f}, "
                     f"FPR95 {r['unknown_fpr95']:.3f}")  # fmt: skip
    return "\n".join(lines)


def detected(r: dict[str, Any]) -> str:
    """COCO's table of a detector, for people."""
    from handful.training.coco_table import STATS

    def percent(value: float | None) -> str:
        return "   -  " if value is None else f"{100 * value:6.2f}"

    kinds = {"boxes": "", **({"masks": "mask_"} if "mask_AP" in r else {})}
    lines = [f"{'%':<14}" + "".join(f"{kind:>9}" for kind in kinds)]
    lines += [f"{name:<14}" + "".join(f"   {percent(r[before + name])}" for before in kinds.values()) for name in STATS]
    return "\n".join([*lines, f"{r['rule']['AP']}; {counted(r['images'], 'image')}, {counted(r['objects'], 'object')}"])


def classified(r: dict[str, Any]) -> str:
    """The measures of a classifier, for people."""
    lines = [
        f"accuracy           {100 * r['accuracy']:6.2f} %",
        f"mean accuracy      {100 * r['mean_accuracy']:6.2f} %",
    ]
    if "accuracy_mirrored" in r:
        lines.append(f"with mirror images {100 * r['accuracy_mirrored']:6.2f} %")
    there = {name: v["accuracy"] for name, v in r["per_class"].items() if v["accuracy"] is not None}
    worst = sorted(there.items(), key=lambda item: (item[1], item[0]))[:5]
    lines.append("worst classes      " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in worst))
    return "\n".join([*lines, f"rule {r['rule']['name']}: {r['rule']['accuracy']}; {counted(r['images'], 'image')}"])


def segmented(r: dict[str, Any]) -> str:
    """The measures of a segmentation model, for people."""

    def percent(value: float | None) -> str:
        return "   -  " if value is None else f"{100 * value:6.2f}"

    rows: Sequence[tuple[str, float | None]] = (
        ("mIoU with background", r["miou_with_background"]),
        ("mIoU without background", r["miou_without_background"]),
        ("pixel accuracy", r["pixel_accuracy"]),
        ("mean accuracy", r["mean_accuracy"]),
        ("boundary F", r["boundary_f"]),
    )
    lines = [f"{name:<24}{percent(value)} %" for name, value in rows]
    lines.append(f"{'class':<24}{'IoU':>6}  {'accuracy':>8}  {'boundary F':>10}  {'images':>6}")
    for name, v in r["per_class"].items():
        lines.append(f"{name[:23]:<24}{percent(v['iou'])}  {percent(v['accuracy']):>8}  "
                     f"{percent(v.get('boundary_f')):>10}  {v['images']:>6}")  # fmt: skip
    behind = f"background: {r['background']}" if r["background"] else "no class is the background"
    lines.append(f"rule {r['rule']['name']}: {r['rule']['miou']}; {behind}; {counted(r['images'], 'image')}")
    return "\n".join(lines)
