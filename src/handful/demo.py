"""The whole road in one call: teach from a few photos, ask, compile for phone runtimes, compare, time, report."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import handful
import handful.device.runtimes
from handful.curate.seen import mark
from handful.data.finding import leaves_unreadable
from handful.data.sample_images import SAMPLES, sample_photo
from handful.errors import DataError, MissingPackage, UnknownName
from handful.fewshot import classifier, evaluate
from handful.fewshot.answer import answer
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.nemo import VIGILANCE, Nemo
from handful.fewshot.teaching import checked_images, readable
from handful.files import write_json, write_page
from handful.image import data_uri, fit, read_image
from handful.pick import names, need, pick
from handful.progress import note, warn
from handful.types import Image
from handful.words import counted

TAUGHT = ("building", "cat", "coffee", "flower", "rocket")
TEACH_AT_MOST = 5
ASK_AT_MOST = 8


def run(
    *,
    photos: Path | None = None,
    out: Path = Path("demo-report"),
    backbone: str = classifier.BACKBONE,
    vigilance: float | None = None,
    runtimes: Sequence[str] | None = None,
    precisions: Sequence[str] = ("fp32", "fp16"),
    seed: int = 0,
    allow: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the demo; write OUT/report.html, OUT/report.json and OUT/model.

    photos: a folder a class; None: the photographs inside scikit-image, scikit-learn and matplotlib. allow: codes of
    errors in photos to go on with.
    Returns {"report", "accuracy", "runtimes": {...}, "seconds", ...}. Raises DataError or MissingPackage.
    """
    began = time.monotonic()
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file; wanted a folder for the report (--out)")
    if out.exists() and any(out.iterdir()) and not (out / "report.json").exists():
        raise DataError(
            f"{out} is not empty and holds no earlier report; wanted a new or empty folder, or that of an older "
            "report (--out)"
        )
    chosen = _runtimes(runtimes)
    rng = np.random.default_rng(seed)
    teach_set, ask_set, how = own_photos(photos, rng, allow) if photos is not None else sample_views(rng)

    note(
        f"teaching {counted(len({label for _, label in teach_set}), 'class')} from {counted(len(teach_set), 'picture')}"
    )
    model = FewShotClassifier.new(backbone, vigilance=VIGILANCE if vigilance is None else vigilance)
    vectors = [model.embedder.teach_vector(image) for image, _ in teach_set]
    marks = [mark(image.rgb_u8) for image, _ in teach_set]
    labels = [label for _, label in teach_set]
    # once for nothing: loading the linear algebra is not learning, so it is not timed as such
    rehearsal = Nemo(model.nemo.dim)
    rehearsal.learn_many(np.stack(vectors), labels)
    rehearsal.solve()
    learning = time.perf_counter()
    model.learn_vectors(vectors, marks, labels)
    learn_ms = (time.perf_counter() - learning) * 1e3
    place = out / "model"
    model.save(place, data={"taught_by": "handful demo", "seed": seed})

    note(f"asking about {counted(len(ask_set), 'other picture')}")
    scores = np.stack([model.scores(image) for image, _ in ask_set])
    numbers = evaluate.measure(scores, [label for _, label in ask_set], model.classes)
    answers = []
    for (image, label), row in zip(ask_set, scores, strict=True):
        said = answer(row, model.classes)
        right = said.label == label or (said.label is None and label not in model.classes)
        answers.append(
            {
                "truth": label,
                "predicted": said.label,
                "nearest": said.nearest,
                "probability": said.probability,
                "margin": said.margin,
                "right": right,
                "picture": _thumb(image),
                "where": None if image.path is None else image.path.name,
            }
        )

    pictures = [image for image, _ in [*teach_set, *ask_set]]
    wanted = [(runtime, precision) for runtime in chosen for precision in precisions]
    note(f"compiling {counted(len(wanted), 'bundle')}, two at a time")
    _compile_all(place, wanted)
    kept: dict[str, dict[str, np.ndarray]] = {}
    rows = {
        f"{runtime}-{precision}": _prove(place, runtime, precision, pictures, kept) for runtime, precision in wanted
    }

    done = [row for row in rows.values() if row["verdict"] != "not installed"]
    result = {
        "schema_version": 1,
        "report": str(out / "report.html"),
        "model": str(place),
        "accuracy": numbers["accuracy"],
        "open_f1": numbers["open_f1"],
        "unknown_auroc": numbers["unknown_auroc"],
        "right": sum(bool(a["right"]) for a in answers),
        "images": len(answers),
        "vigilance": model.nemo.vigilance,
        "backbone": backbone,
        "classes": list(model.classes),
        "learn_ms": learn_ms,
        "how": how,
        "rule": evaluate.RULE,
        "seed": seed,
        "handful": handful.__version__,
        "passed": bool(done) and all(row["verdict"] == "pass" for row in done),
        "runtimes": rows,
        "seconds": round(time.monotonic() - began, 1),
    }
    result["summary"] = _summary(result)
    teach_grid: dict[str, list[str]] = defaultdict(list)
    for image, label in teach_set:
        teach_grid[label].append(_thumb(image))
    whole = {**result, "taught_pictures": teach_grid, "answers": answers}
    from handful.device.lab.report import render

    write_json(out / "report.json", whole)
    write_page(out / "report.html", render(whole))
    return result


def _runtimes(wanted: Sequence[str] | None) -> list[str]:
    known = [name for name in names(handful.device.runtimes, "runtime") if name != "torch"]
    for name in wanted or []:
        pick(handful.device.runtimes, "runtime", name)
    return list(wanted or known)


def _compile_all(model: Path, wanted: Sequence[tuple[str, str]]) -> None:
    """Compile ahead, two at a time: each is a process of its own and mostly one thread."""
    from concurrent.futures import Future, ThreadPoolExecutor, wait

    from handful.kinds.compiling import compile_model

    # the slowest first, so that the last one does not run alone; fp32 before the others, which some are made of
    order = sorted(wanted, key=lambda pair: pair[0] not in ("litert", "executorch"))
    made: list[Future[Any]] = []
    with ThreadPoolExecutor(2) as pool:
        for some in ([p for p in order if p[1] == "fp32"], [p for p in order if p[1] != "fp32"]):
            own = [pool.submit(compile_model, model, *pair, taps=pair[1] == "fp32") for pair in some]
            wait(own)
            made += own
    for future in made:
        error = future.exception()
        if error is not None and not isinstance(error, (MissingPackage, UnknownName)):
            raise error


def _prove(
    model: Path, runtime: str, precision: str, pictures: Sequence[Image], kept: dict[str, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Compare and time one compiled model; a runtime whose package is absent is told, not hidden."""
    from handful.kinds.compiling import compare_model, measure_model

    module = pick(handful.device.runtimes, "runtime", runtime)
    if precision not in module.PRECISIONS:
        return {"verdict": "not installed", "reasons": [f"{runtime} has no {precision}"], "layers": []}
    note(f"{runtime} {precision}: comparing on {counted(len(pictures), 'picture')}, timing")
    try:
        row = compare_model(model, runtime, precision, pictures, layers=precision == "fp32", known=kept)
        timing = measure_model(model, runtime, precision, runs=30, images=pictures)
    except MissingPackage as error:
        warn(str(error))
        return {"verdict": "not installed", "reasons": [str(error)], "layers": []}
    return {**row, "timing": timing.to_json()}


def _summary(r: dict[str, Any]) -> str:
    lines = [
        f"{r['right']} of {counted(r['images'], 'picture')} answered right; learned in {r['learn_ms']:.0f} ms "
        f"once embedded"
    ]
    for name, row in r["runtimes"].items():
        if row["verdict"] == "not installed":
            lines.append(f"  {name:18s} {row['reasons'][0]}")
            continue
        lines.append(
            f"  {name:18s} {row['verdict']}  {row['psnr_db']:6.1f} dB  same answer {100 * row['top1_agreement']:.0f} %"
            f"  {row['bytes'] / 1e6:5.1f} MB  {row['timing']['median_ms']:6.1f} ms"
        )
    return "\n".join([*lines, f"report: {r['report']}   ({r['seconds']:.0f} s)"])


def own_photos(
    folder: Path, rng: np.random.Generator, allow: Sequence[str] = ()
) -> tuple[list[tuple[Image, str]], list[tuple[Image, str]], str]:
    """Half of each class, at most 5, is taught; at most 8 of the rest are asked, with photos of other things.

    allow: codes of errors to go on with; photos that cannot be read are then left out and counted."""
    samples, warnings = checked_images(folder, allow=allow)
    if leaves_unreadable(allow):
        read = [sample for sample in samples if readable(sample.path, True) is not None]
        if lost := len(samples) - len(read):
            warn(f"{lost} of {counted(len(samples), 'image')} could not be read and left out")
        samples = read
    for text in warnings:
        warn(text)
    by_class: dict[str, list[Path]] = defaultdict(list)
    for sample in samples:
        by_class[sample.label or ""].append(sample.path)
    teach_set, ask_set = [], []
    for label, paths in by_class.items():
        order = [paths[i] for i in rng.permutation(len(paths))]
        few = max(1, min(TEACH_AT_MOST, len(order) // 2))
        teach_set += [(read_image(path), label) for path in order[:few]]
        ask_set += [(read_image(path), label) for path in order[few : few + ASK_AT_MOST]]
    if not ask_set:
        raise DataError(f"{folder} has one photo a class, so none is left to ask about; add a second one to a class")
    ask_set += [(sample_photo(name), name) for name in SAMPLES if name not in by_class]
    how = (
        f"Half of each class in {Path(folder).name}, at most {TEACH_AT_MOST} photos, was taught; at most {ASK_AT_MOST} "
        "others were asked, with photos of other things from scikit-image, scikit-learn and matplotlib."
    )
    return teach_set, ask_set, how


def sample_views(rng: np.random.Generator) -> tuple[list[tuple[Image, str]], list[tuple[Image, str]], str]:
    """Three views of each of five photographs to teach, three others to ask, and five photographs of other things."""
    teach_set, ask_set = [], []
    for name in TAUGHT:
        photo = sample_photo(name)
        teach_set += [(view(photo, rng), name) for _ in range(3)]
        ask_set += [(view(photo, rng, changed=True), name) for _ in range(3)]
    for name in SAMPLES:
        if name not in TAUGHT:
            photo = sample_photo(name)
            ask_set += [(photo, name), (view(photo, rng, changed=True), name)]
    how = (
        "One photograph a class: three views of it were taught, three other views, mirrored and in other light, were "
        "asked, and so were photographs of things never taught. This shows that the road works; it does not measure "
        "accuracy. For that, give photos of your own: handful demo --photos DIR."
    )
    return teach_set, ask_set, how


def view(photo: Image, rng: np.random.Generator, *, changed: bool = False) -> Image:
    """A crop of 50 to 90 % of each side; changed: mirrored and in other light as well."""
    h, w = photo.rgb_u8.shape[:2]
    height, width = (int(side * rng.uniform(0.5, 0.9)) for side in (h, w))
    top, left = int(rng.integers(0, h - height + 1)), int(rng.integers(0, w - width + 1))
    rgb = photo.rgb_u8[top : top + height, left : left + width]
    if changed:
        light = rng.uniform(0.75, 1.2) * rng.uniform((0.95, 0.95, 0.85), (1.05, 1.0, 1.05))
        rgb = np.clip(rgb[:, ::-1] * light, 0, 255).astype(np.uint8)
    return Image(np.ascontiguousarray(rgb), photo.path)


def _thumb(image: Image, side: int = 144) -> str:
    """A data URI: the middle square as a small JPEG."""
    PIL_Image = need("PIL.Image", "teach")
    h, w = image.rgb_u8.shape[:2]
    edge = min(h, w)
    top, left = (h - edge) // 2, (w - edge) // 2
    small = fit(image.rgb_u8[top : top + edge, left : left + edge], (side, side))
    return data_uri(PIL_Image.fromarray(small), 82)
