"""The whole road in one call: teach from a few photos, ask, compile for phone runtimes, compare, time, report."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from handful.fewshot.nemo import GAIN, VIGILANCE, Nemo
from handful.fewshot.teaching import checked_images, readable
from handful.fewshot.vigilance_range import over_range
from handful.files import write_json, write_page
from handful.image import data_uri, fit, read_image
from handful.pick import names, need, pick
from handful.progress import note, warn
from handful.types import Image
from handful.words import counted

TAUGHT = ("building", "cat", "coffee", "flower", "rocket")
TEACH_AT_MOST = 5
ASK_AT_MOST = 8
# (the larger thing, the one beside it): a picture gets one name, so these show what a classifier gets wrong
PAIRS = (("flower", "coffee"), ("motorcycle", "cat"), ("astronaut", "flower"), ("building", "rocket"))


class Asked(NamedTuple):
    """A picture to ask about, what it shows, and, of one made to be hard, in which way."""

    image: Image
    label: str
    how: str = ""


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
    phases: dict[str, float] = {}

    def done_with(name: str) -> None:
        phases[name] = round(time.monotonic() - began - sum(phases.values()), 1)

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

    done_with("teach")

    note(f"asking about {counted(len(ask_set), 'other picture')}")
    scores = np.stack([model.scores(one.image) for one in ask_set])
    truth = [one.label for one in ask_set]
    numbers = evaluate.measure(scores, truth, model.classes)
    answers = []
    for (image, label, harder), row in zip(ask_set, scores, strict=True):
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
                "how": harder,
                "scores": [round(float(v), 4) for v in row],
                "picture": _thumb(image),
                "where": None if image.path is None else image.path.name,
            }
        )

    done_with("ask")

    # those that are hard on purpose lie near the limit, where a bit may tip them: they would prove nothing of a runtime
    pictures = [image for image, _ in teach_set] + [one.image for one in ask_set if not one.how]
    wanted = [(runtime, precision) for runtime in chosen for precision in precisions]
    note(f"compiling {counted(len(wanted), 'bundle')}, two at a time")
    _compile_all(place, wanted)
    done_with("compile")
    note(f"comparing {counted(len(wanted), 'bundle')} with PyTorch on {counted(len(pictures), 'picture')}")
    rows = _compare_all(place, wanted, pictures)
    done_with("compare")
    _time_all(place, rows, pictures)
    done_with("time")

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
        "gain": GAIN,
        "vigilance_range": over_range(scores, truth, model.classes, model.expected),
        "backbone": backbone,
        "classes": list(model.classes),
        "learn_ms": learn_ms,
        "how": how,
        "rule": evaluate.RULE,
        "seed": seed,
        "handful": handful.__version__,
        "passed": bool(done) and all(row["verdict"] == "pass" for row in done),
        "runtimes": rows,
        "phases": phases,
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


def _compare_all(
    model: Path, wanted: Sequence[tuple[str, str]], pictures: Sequence[Image]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """A row for each, compared two at a time; a runtime whose package is absent is told, not hidden."""
    from concurrent.futures import ThreadPoolExecutor

    from handful.kinds.compiling import compare_model

    known: dict[str, dict[str, np.ndarray]] = {}

    def row(runtime: str, precision: str) -> dict[str, Any]:
        if precision not in pick(handful.device.runtimes, "runtime", runtime).PRECISIONS:
            return {"verdict": "not installed", "reasons": [f"{runtime} has no {precision}"], "layers": []}
        try:
            return compare_model(model, runtime, precision, pictures, layers=precision == "fp32", known=known)
        except MissingPackage as error:
            warn(str(error))
            return {"verdict": "not installed", "reasons": [str(error)], "layers": []}

    with ThreadPoolExecutor(2) as pool:
        # the first two ask PyTorch, with and without layers, and the others take its answers from `known`
        made = [one for some in (wanted[:2], wanted[2:]) for one in list(pool.map(lambda pair: row(*pair), some))]
    return {"-".join(pair): one for pair, one in zip(wanted, made, strict=True)}


def _time_all(model: Path, rows: dict[str, dict[str, Any]], pictures: Sequence[Image]) -> None:
    """Add to each row that was compared its times, taken one after another, and what an app takes of it."""
    from handful.device.lab.in_an_app import in_an_app
    from handful.kinds.compiling import measure_model

    for row in rows.values():
        if row["verdict"] != "not installed":
            note(f"{row['runtime']} {row['precision']}: timing")
            timing = measure_model(model, row["runtime"], row["precision"], runs=30, images=pictures)
            row |= {"timing": timing.to_json(), "app": in_an_app(Path(row["bundle"]))}


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
) -> tuple[list[tuple[Image, str]], list[Asked], str]:
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
    teach_set: list[tuple[Image, str]] = []
    ask_set: list[Asked] = []
    for label, paths in by_class.items():
        order = [paths[i] for i in rng.permutation(len(paths))]
        few = max(1, min(TEACH_AT_MOST, len(order) // 2))
        teach_set += [(read_image(path), label) for path in order[:few]]
        ask_set += [Asked(read_image(path), label) for path in order[few : few + ASK_AT_MOST]]
    if not ask_set:
        raise DataError(f"{folder} has one photo a class, so none is left to ask about; add a second one to a class")
    ask_set += [Asked(sample_photo(name), name) for name in SAMPLES if name not in by_class]
    how = (
        f"Half of each class in {Path(folder).name}, at most {TEACH_AT_MOST} photos, was taught; at most {ASK_AT_MOST} "
        "others were asked, with photos of other things from scikit-image, scikit-learn and matplotlib."
    )
    return teach_set, ask_set, how


def sample_views(rng: np.random.Generator) -> tuple[list[tuple[Image, str]], list[Asked], str]:
    """Three views of each of five photographs to teach; to ask, other views of them, easy and hard, photographs of
    other things, and pictures of two things."""
    teach_set, ask_set = [], []
    for name in TAUGHT:
        photo = sample_photo(name)
        teach_set += [(view(photo, rng), name) for _ in range(3)]
        ask_set += [Asked(view(photo, rng, changed=True), name) for _ in range(2)]
        ask_set += [Asked(close_up(photo, rng), name, "close and dim") for _ in range(2)]
    for name in SAMPLES:
        if name not in TAUGHT:
            photo = sample_photo(name)
            ask_set += [Asked(photo, name), Asked(view(photo, rng, changed=True), name)]
    for large, small in PAIRS:
        both = beside(sample_photo(large), sample_photo(small))
        ask_set.append(Asked(both, large, f"with {small} beside it"))
    how = (
        "One photograph a class: three views of it were taught. Asked were other views, mirrored and in other light; "
        "hard ones, close and dim, or with a second thing beside the first; and photographs of things never taught. "
        "This shows that the road works, and how it fails; it does not measure accuracy. For that, give photos of your "
        "own: handful demo --photos DIR."
    )
    return teach_set, ask_set, how


def close_up(photo: Image, rng: np.random.Generator) -> Image:
    """A mirrored crop of 25 to 40 % of each side, at 35 to 80 % of its light."""
    near = view(photo, rng, share=(0.25, 0.4))
    rgb = (near.rgb_u8[:, ::-1] * rng.uniform(0.35, 0.8)).astype(np.uint8)
    return Image(np.ascontiguousarray(rgb), photo.path)


def beside(large: Image, small: Image) -> Image:
    """Two photographs side by side, 600 x 400 px: the middle of the first has 60 % of the width."""
    parts = []
    for image, wide in ((large, 360), (small, 240)):
        left = (600 - wide) // 2
        parts.append(fit(image.rgb_u8, (400, 600))[:, left : left + wide])
    return Image(np.concatenate(parts, axis=1), large.path)


def view(
    photo: Image, rng: np.random.Generator, *, changed: bool = False, share: tuple[float, float] = (0.5, 0.9)
) -> Image:  # fmt: skip
    """A crop of 50 to 90 % of each side, or another share; changed: mirrored and in other light as well."""
    h, w = photo.rgb_u8.shape[:2]
    height, width = (int(side * rng.uniform(*share)) for side in (h, w))
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
