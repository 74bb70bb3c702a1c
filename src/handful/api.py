"""The functions of the package: load, teach, train, predict, evaluate, dream. Each imports what it needs when
called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from handful import engine as engines
from handful import shipped
from handful.arrays import JSON, JSONObject, StrPath
from handful.errors import DataError
from handful.evaluation import Evaluation
from handful.kinds import loading, registry
from handful.kinds.contract import Classifier, Detector, Segmenter
from handful.pick import unknown
from handful.results import Classification, Detections, Result, Segmentation

if TYPE_CHECKING:
    from handful.data.sources import Source

AnyModel = Classifier | Segmenter | Detector
Engine = Literal["auto", "onnxruntime", "torch"]
Mode = Literal["accurate", "fast"]
Task = Literal["segment", "classify", "detect", "instance"]
TASKS: tuple[Task, ...] = ("segment", "classify", "detect", "instance")
CLASSES: dict[str, type] = {"classifier": Classifier, "segmenter": Segmenter, "detector": Detector}


@overload
def load(folder: StrPath, *, engine: Engine | None = None) -> AnyModel: ...
@overload
def load(folder: StrPath, kind: Literal["classifier"], *, engine: Engine | None = None) -> Classifier: ...
@overload
def load(folder: StrPath, kind: Literal["segmenter"], *, engine: Engine | None = None) -> Segmenter: ...
@overload
def load(folder: StrPath, kind: Literal["detector"], *, engine: Engine | None = None) -> Detector: ...


def load(
    folder: StrPath,
    kind: Literal["classifier", "segmenter", "detector"] | None = None,
    *,
    engine: Engine | None = None,
) -> AnyModel:
    """The model in a folder: taught, trained, or compiled (a bundle, which needs no torch); or one that comes with
    handful, by its name: "people".

    kind: what it must be, so that a type checker knows what it answers. engine: what computes what a taught model sees,
    "onnxruntime", "torch", or "auto", the first of them that is installed and works; None: as HANDFUL_ENGINE says, else
    auto. Raises DataError, naming the file, for a folder that holds no model or a damaged one, or another kind of
    model; UnknownName for another `kind`.

    >>> model = handful.load("shop-model", "classifier")
    >>> model.predict("new.jpg")[0].label
    """
    if kind is not None and kind not in CLASSES:
        raise unknown("kind", kind, CLASSES)
    with engines.using(engine):
        model: AnyModel = loading.load(folder)  # type: ignore[assignment]
    if kind is not None and not isinstance(model, CLASSES[kind]):
        raise DataError(f"{folder} is {registry.describe(folder)}; wanted a {kind}")
    return model


def teach(
    data: StrPath,
    out: StrPath,
    *,
    backbone: str | None = None,
    backbone_weights: StrPath | None = None,
    vigilance: float | None = None,
    classes: Sequence[str] | None = None,
    frame_hw: tuple[int, int] | None = None,
    flat: bool = False,
    max_samples: int | None = None,
    proposer: str | None = None,
    scales: int | None = None,
    mode: Mode | None = None,
    seed: int = 0,
    split: str | None = None,
    format: str | None = None,
    partial: bool = False,
    images: StrPath | None = None,
    add: bool = False,
    again: bool = False,
    overwrite: bool = False,
    allow: Sequence[str] = (),
    cache: bool = True,
    engine: Engine | None = None,
) -> AnyModel:
    """Teach a model from a handful of images, and keep it in the folder `out`: in seconds, without gradients.

    data: a folder of images for each class makes a classifier; images with boxes (COCO, VOC, YOLO) a detector.
    backbone: lite0, lite1, lite2 or timm:NAME. vigilance: how careful, 0 to 10, in practice 1.2 to 4.1; higher says
    "none of these" more often. classes: only these. add: teach the model in `out` more; overwrite: replace it. again:
    count images again that were learned before as the same class. allow: go on although the check of the data finds
    errors of these codes. cache: keep what was computed for the next time. engine: as in `load`.

    Of a classifier: frame_hw, the frame the phone will give, (height, width) px; flat, images lie in the folder itself;
    backbone_weights, for timm:NAME, a safetensors file with timm's key names.
    Of a detector: max_samples boxes a class; proposer, what finds things of any kind; scales, at how many an image is
    looked at; mode, how many boxes and crops an image is worth ("accurate" unless given); seed, which boxes are
    learned; split, format, images (the folder of COCO's images), partial (not every thing is marked).

    Raises DataError, naming the file and the cure, or UnknownName; an existing model is then as it was.
    """
    from handful.data import formats

    place = Path(data)
    registry.no_model(place)
    found = None if flat else formats.with_boxes(place, format)
    registry.can_be_taught(Path(out), boxes=bool(found), add=add)
    if not found:
        for_boxes = {"max_samples": max_samples, "proposer": proposer, "scales": scales, "mode": mode, "images": images}
        for name in (name for name, value in {**for_boxes, "partial": partial or None}.items() if value is not None):
            raise DataError(f"{name} is for images with boxes; {data} has none")
        from handful.fewshot import classifier
        from handful.fewshot.teaching import cache_folder
        from handful.fewshot.teaching import teach as teach_classifier

        with engines.using(engine):
            teach_classifier(
                place, Path(out), backbone=backbone or classifier.BACKBONE, vigilance=vigilance,
                frame_hw=frame_hw or classifier.FRAME_HW, classes=classes, flat=flat, add=add, overwrite=overwrite,
                allow=allow, cache=cache_folder(cache), split=split, again=again,
                weights=None if backbone_weights is None else Path(backbone_weights),
            )  # fmt: skip
        return load(out, engine=engine)
    for name, value in (("frame_hw", frame_hw), ("backbone_weights", backbone_weights)):
        if value is not None:
            raise DataError(f"{data} has boxes, so a detector is taught; {name} is for images with one class each")
    from handful.detection import teaching
    from handful.detection.embedder import crop_settings

    options: dict[str, Any] = {} if images is None else {"images": str(images)}
    with engines.using(engine):
        teaching.teach(
            place, Path(out), max_samples=max_samples or teaching.MAX_SAMPLES, classes=classes, proposer=proposer,
            crop=crop_settings(backbone, mode),
            vigilance=vigilance, scales=scales, seed=seed, exhaustive=not partial, split=split, format=format or found,
            allow=allow, overwrite=overwrite, add=add, **options,
        )  # fmt: skip
    return load(out, engine=engine)


def train(
    task: Task,
    data: StrPath,
    out: StrPath,
    *,
    net: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch: int | None = None,
    lr: float | None = None,
    classes: Sequence[str] | None = None,
    frame_hw: tuple[int, int] | None = None,
    from_: StrPath | None = None,
    format: str | None = None,
    seed: int = 0,
    torch_device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    settings: dict[str, JSON] | None = None,
) -> AnyModel:
    """Train a compact network, and keep it in the folder `out`; resume=True goes on from the checkpoints in OUT.run.

    task: "segment", "classify", "detect" or "instance". net: NAME or NAME:PRESET of `handful models list`. epochs, or
    minutes from which the epochs are reckoned. What is None is as the network was tuned. classes: names to learn, in
    order. frame_hw: the frame the phone will give, (height, width) px. from_: a model folder, or the name of a model
    that comes with handful, whose fitting weights are taken. settings: any other keyword of
    handful.training.recipe_TASK.run.

    Raises DataError, UnknownName or MissingPackage, naming the file and the cure; an existing model is then as it was.
    """
    import importlib

    if task not in TASKS:
        raise unknown("task", task, TASKS)
    registry.no_model(Path(data))
    given: dict[str, Any] = {
        "net": net, "epochs": epochs, "minutes": minutes, "batch": batch, "lr": lr, "classes": classes,
        "size_hw": frame_hw, "from_": None if from_ is None else shipped.found(from_), "format": format,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None} | (settings or {})
    run = importlib.import_module(f"handful.training.recipe_{task}").run
    run(Path(data), Path(out), seed=seed, device=torch_device, resume=resume, overwrite=overwrite, **given)
    return load(out)


@overload
def predict(model: Classifier, source: Source) -> list[Classification]: ...
@overload
def predict(model: Segmenter, source: Source) -> list[Segmentation]: ...
@overload
def predict(model: Detector, source: Source) -> list[Detections]: ...
@overload
def predict(model: StrPath, source: Source) -> list[Classification] | list[Segmentation] | list[Detections]: ...


def predict(model: AnyModel | StrPath, source: Source) -> Sequence[Result]:
    """What a model, or the model in a folder, says of images: one result each, in order. See Model.predict.

    source: a path to an image, a folder or a video; a Pillow image; an array (h, w, 3) uint8 RGB; or a list of these.
    """
    return _model(model).predict(source)


def evaluate(
    model: AnyModel | StrPath, data: StrPath, *, split: str | None = None, report: StrPath | None = None
) -> Evaluation:
    """Measure a model, or the model in a folder, on labelled images it has not seen. See Model.evaluate.

    split: which; test or else val where there is one, else all images. report: also write an HTML page there.
    """
    return _model(model).evaluate(data, split=split, report=report)


@dataclass(frozen=True)
class Dreams:
    """What was dreamed.

    out: the folder of shards, which every data verb reads. frames: how many were made. images: of how many. failed:
    the images that could not be used, and why. details: the whole JSON object of `handful dream`.
    """

    out: Path
    frames: int
    images: int
    failed: tuple[tuple[str, str], ...]
    details: JSONObject = field(repr=False)

    def to_json(self) -> JSONObject:
        """The whole JSON object."""
        return self.details


def dream(
    seeds: StrPath,
    out: StrPath,
    *,
    frames: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    format: str | None = None,
) -> Dreams:
    """Lucid Data Dreaming (Khoreva et al. 2017): from each image and its mask a clip of new frames with exact masks.

    seeds: images with masks or outlines, in any format, or a labeling store. out: a folder for the shards. frames: of
    each clip. limit: the first so many seeds only. workers: processes, one a processor unless told; ray: a Ray cluster
    instead, "auto", "local" or HOST:PORT. resume: go on where a run with the same seeds and settings was stopped.
    Raises DataError, naming what is wrong; what is finished stays.
    """
    from handful.lucid.farm import dream_folder
    from handful.lucid.settings import Settings

    how = Settings(seed=seed) if frames is None else Settings(seed=seed, frames=frames)
    made = dream_folder(
        str(seeds), Path(out), how, workers=workers, ray=ray, resume=resume, limit=limit, format=format
    )  # fmt: skip
    failed = tuple((str(row["source"]), str(row["error"])) for row in made["failed"])
    return Dreams(Path(made["out"]), made["frames"], made["images"], failed, made)


def _model(model: AnyModel | StrPath) -> AnyModel:
    return model if isinstance(model, (Classifier, Segmenter, Detector)) else load(model)
