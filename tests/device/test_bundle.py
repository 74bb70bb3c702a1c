"""A bundle alone is enough: its names are its files' own, it answers without torch, and its README's code is right."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PIL_Image

import handful
import handful.device.runtimes
from handful.bundle import Bundle, Graph, Port, read_bundle
from handful.data.sample_images import SAMPLES, sample_photo
from handful.device import manual
from handful.device.network import InTorch, graph_of
from handful.device.sessions import sessions_of
from handful.errors import CompileError, DataError, UsageError
from handful.fewshot.nemo import Nemo
from handful.files import to_json
from handful.kinds import exports, loading
from handful.kinds.bundled import BundledClassifier, BundledSegmenter, largest
from handful.models.folder import save_folder
from handful.models.show import card_of, make
from handful.pick import pick
from tests import lean
from tests.conftest import save

torch = pytest.importorskip("torch")
RUNTIMES = ("onnxruntime", "ncnn", "litert", "executorch")
Compiled = Callable[[str, str], Bundle]
each = pytest.mark.parametrize("runtime", RUNTIMES)
# executorch's own binding is built on torch
WITHOUT = {"onnxruntime": lean.HEAVY, "ncnn": lean.HEAVY, "litert": lean.HEAVY, "executorch": ()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photographs on disk, taught ones and others; one lies on its side, as its EXIF orientation says; one is gray."""
    place = tmp_path_factory.mktemp("files")
    names = sorted(SAMPLES)[:8]
    made = [save(sample_photo(name), place / f"{name}.png") for name in names]
    turned = PIL_Image.fromarray(np.rot90(sample_photo("rocket").rgb_u8).copy())
    exif = PIL_Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees clockwise to see it upright
    turned.save(place / "turned.jpg", quality=95, exif=exif)
    PIL_Image.fromarray(sample_photo("cat").rgb_u8).convert("L").save(place / "gray.png")
    return [*made, place / "turned.jpg", place / "gray.png"]


def moved(bundle: Bundle, to: Path) -> Path:
    """A copy that lies in no model folder, as on another machine."""
    shutil.copytree(bundle.folder, to / bundle.folder.name)
    return to / bundle.folder.name


@each
def test_names_are_those_of_the_file(runtime: str, compiled: Compiled) -> None:
    bundle = compiled(runtime, "fp32")
    (graph,) = bundle.graphs
    names = [port.file_name for port in (*graph.inputs, *graph.outputs)]
    if runtime == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(bundle.folder / "model.onnx", providers=["CPUExecutionProvider"])
        found = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
    elif runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        (own,) = Interpreter(model_path=str(bundle.folder / "model.tflite")).get_signature_list().values()
        found = [*own["inputs"], *own["outputs"]]
    elif runtime == "ncnn":
        import ncnn

        net = ncnn.Net()
        net.load_param(str(bundle.folder / "model.ncnn.param"))
        found = [*net.input_names(), *net.output_names()]
    else:
        found = ["", ""]  # a program's inputs and outputs have no names, and the bundle says so
    assert names == found
    assert names == (["image", "scores"] if runtime != "executorch" else ["", ""])


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn", "litert"])
def test_another_name_is_refused(runtime: str, compiled: Compiled) -> None:
    bundle = compiled(runtime, "fp32")
    (graph,) = bundle.graphs
    module: Any = pick(handful.device.runtimes, "runtime", runtime)
    assert module.named(bundle.folder, graph) == graph
    wrong = Graph("model", graph.inputs, (Port("score", (1, 6)),))
    with pytest.raises(CompileError, match="score"):
        module.named(bundle.folder, wrong)


ASK = """
import json, sys
import handful
model = handful.load(sys.argv[1])
found = model.predict(sys.argv[2:])
print(json.dumps({"kind": type(model).__name__, "found": [one.to_json() for one in found],
                  "torch": sorted({m.split(".")[0] for m in sys.modules} & {"torch", "scipy", "timm", "cv2"})}))
"""


def asked(folder: Path, files: list[Path], runtime: str) -> dict[str, Any]:
    lines = lean.run(ASK, folder, *files, refused=WITHOUT[runtime]).splitlines()
    told: dict[str, Any] = json.loads(lines[-1])
    assert told["torch"] == ([] if runtime != "executorch" else told["torch"])
    return told


@each
def test_it_answers_without_torch(
    runtime: str, compiled: Compiled, model: Path, files: list[Path], tmp_path: Path
) -> None:
    told = asked(moved(compiled(runtime, "fp32"), tmp_path), files, runtime)
    want = handful.load(model).predict([str(file) for file in files])
    assert told["kind"] == "BundledClassifier" and len({one.label for one in want}) > 3  # none of these among them
    assert [one["label"] for one in told["found"]] == [one.label for one in want]
    for got, one in zip(told["found"], want, strict=True):
        assert got["margin"] == pytest.approx(one.margin, abs=1e-2) and got["source"] == one.origin.name


def test_the_hook_refuses() -> None:
    with pytest.raises(AssertionError, match="torch is refused here"):
        lean.run("import torch")
    with pytest.raises(AssertionError, match="handful is refused here"):
        lean.run("import handful", refused=("handful",))


def python_of(folder: Path) -> str:
    """The Python in a bundle's README that needs the runtime alone."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.M)
    (own,) = [part for part in section if part.startswith("Python\n")]
    return re.findall(r"```python\n(.*?)```", own, re.S)[0]


@each
def test_the_readmes_code_is_right(
    runtime: str, compiled: Compiled, model: Path, files: list[Path], tmp_path: Path
) -> None:
    folder = moved(compiled(runtime, "fp32"), tmp_path)
    (folder / "run.py").write_text(python_of(folder), encoding="utf-8")
    out = lean.script(folder / "run.py", *files, refused=(*WITHOUT[runtime], "handful"))
    found = dict(line.rpartition(": ")[::2] for line in out.splitlines() if ": " in line)
    want = {one.origin.name: one.label or "none of these" for one in handful.load(model).predict(list(map(str, files)))}
    assert {name: found.get(name) for name in want} == want
    read_bundle(folder)  # what is put beside it does not damage it


@pytest.mark.parametrize("runtime", [*RUNTIMES, "torch"])
def test_the_readme_is_of_this_model(runtime: str, compiled: Compiled) -> None:
    bundle = compiled(runtime, "fp16")
    text = (bundle.folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# five\n") and not re.findall(r"@[A-Z_]+@", text)
    assert "256 x 256 px" in text and "cat, coffee, flower, rocket, none of these" in text and "fp16: " in text
    languages = {"onnxruntime": 5, "litert": 5, "executorch": 4, "ncnn": 4, "torch": 1}[runtime]
    titles = {"Python", "Kotlin (Android)", "Swift (iOS)", "JavaScript (browser)", "C++"}
    assert len(titles & set(re.findall(r"^## (.*)$", text, re.M))) == languages
    assert text == manual.manual(bundle)


ODD = (" mug", "cup ", "two  spaces", "\ttab", "\u00a0")  # names as they are in a folder or a COCO file


def graph_of_names(*names: str) -> Graph:
    return Graph("g", (Port("image", (1, 9, 9, 3), "uint8"),), (Port("s", (1, len(names)), labels=names),))


def test_labels_are_lines_and_nothing_of_a_name_is_lost() -> None:
    assert manual.labels_text((graph_of_names(*ODD),), {}).split("\n")[:-1] == list(ODD)


@pytest.mark.parametrize("name", ["a\nb", "a\n", "\r", "a\u2028b", "", "a\x0bb"])
def test_a_name_that_is_no_line_is_refused_with_a_cure(name: str) -> None:
    with pytest.raises(DataError, match="rename the class in the data"):
        manual.labels_text((graph_of_names("a", name),), {})
    with pytest.raises(DataError, match="rename the class" if name else "must be a name"):
        Nemo(3).learn(np.ones(3) / 2, name)


def test_odd_names_are_the_same_everywhere(tmp_path: Path) -> None:
    """The model, its bundle loaded by handful, labels.txt, and what the README's code makes of it."""
    rng = np.random.default_rng(0)
    for name in ODD:
        save(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8), tmp_path / "photos" / name / "a.png")
    taught: Any = handful.teach(tmp_path / "photos", tmp_path / "model", backbone="lite0", frame_hw=(64, 64))
    assert sorted(ODD) == list(taught.classes)
    bundle = taught.compile("torch")
    assert handful.load(bundle.folder).classes == taught.classes == handful.load(tmp_path / "model").classes
    held = (bundle.folder / "labels.txt").read_text(encoding="utf-8")
    assert held.splitlines() == [*taught.classes, "none of these"]


def test_the_code_of_a_readme_trims_nothing() -> None:
    for page in manual.HOME.glob("*.md"):
        lines = [line for line in page.read_text().splitlines() if "labels" in line and "=" in line]
        assert [line for line in lines if re.search(r"trim|strip\(", line)] == []


def test_vigilance_is_asked_for_a_call_only(compiled: Compiled, model: Path) -> None:
    bundle: Any = handful.load(compiled("torch", "fp32").folder)
    own: Any = handful.load(model)
    photo = sample_photo("cat")
    plain = bundle.predict(photo)[0]
    for vigilance in (1.2, 3.0, 4.1):
        got, want = (one.predict(photo, vigilance=vigilance)[0] for one in (bundle, own))
        assert got.margin == pytest.approx(want.margin, abs=1e-4)
    assert (bundle.predict(photo)[0].scores == plain.scores).all() and bundle.vigilance == own.vigilance
    with pytest.raises(DataError, match="vigilance"):
        bundle.predict(photo, vigilance=float("nan"))


def saved(net: Any, classes: list[str], folder: Path) -> Path:
    save_folder(folder, net, kind=net.kind, args=net.args, classes=classes, preprocessing=net.preprocessing(),
                about={"task": net.task, "card": card_of(net.kind).to_json(), "about": {}})  # fmt: skip
    return folder


def in_torch(export: Any, place: Path) -> tuple[Bundle, dict[str, Any]]:
    """A bundle that was never compiled, and its sessions."""
    graphs = tuple(graph_of(net, name, "", export.manifest["labels"]) for name, net in export.graphs.items())
    bundle = Bundle(place, graphs, json.loads(to_json({**export.manifest, "runtime": "torch", "precision": "fp32"})))
    return bundle, {name: InTorch(net) for name, net in export.graphs.items()}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = make("exeggutor:small", 4, {"frame_hw": (64, 96)})
    return saved(net.eval(), ["background", "cat", "dog", "sky"], tmp_path_factory.mktemp("seg") / "pixels")


def test_a_trained_segmenter(segmenter: Path, files: list[Path], tmp_path: Path) -> None:
    bundle, sessions = in_torch(exports.export(segmenter), tmp_path)
    model, own = BundledSegmenter(bundle, sessions), handful.load(segmenter)
    got, want = (side.predict(list(map(str, files))) for side in (model, own))
    for one, other in zip(got, want, strict=True):
        assert one.ids.shape == other.ids.shape and (one.ids == other.ids).mean() > 0.9999
        assert one.classes == other.classes and one.background == other.background == "background"
    assert max(len(np.unique(one.ids)) for one in want) > 1
    assert bundle.meta["plan"] is None and bundle.graphs[0].outputs[0].labels == own.classes


@pytest.mark.parametrize("size", [(128, 192), (31, 47), (64, 96), (300, 97), (1, 1)])
def test_enlarging_is_torchs(size: tuple[int, int]) -> None:
    scores = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32)
    there = torch.nn.functional.interpolate(torch.from_numpy(scores[None]), size=size, mode="bilinear")[0]
    want = there.argmax(0).numpy()
    assert (largest(scores, size) == want).mean() > 0.9995 and largest(scores, size).dtype == np.uint8
    assert size == (1, 1) or len(np.unique(want)) == 3


def test_a_trained_classifier(files: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = make("classifier", 3, {"name": "timm:mobilenetv3_small_050", "frame_hw": (64, 64), "size_px": 64})
    folder = saved(net.eval(), ["a", "b", "c"], tmp_path / "whole")
    bundle, sessions = in_torch(exports.export(folder), tmp_path)
    model, own = BundledClassifier(bundle, sessions), handful.load(folder)
    got, want = (side.predict(list(map(str, files))) for side in (model, own))
    assert [one.label for one in got] == [one.label for one in want]
    assert all(np.abs(a.scores - b.scores).max() < 1e-4 for a, b in zip(got, want, strict=True))
    assert got[0].margin is None and model.vigilance is None and bundle.graphs[0].outputs[0].labels == ("a", "b", "c")
    with pytest.raises(UsageError, match="has no vigilance"):
        model.predict(str(files[0]), vigilance=2.0)


@pytest.mark.slow
def test_a_segmenters_bundle_alone(segmenter: Path, files: list[Path], tmp_path: Path) -> None:
    from handful.kinds.compiling import compile_model
    from tests.skips import need_runtime

    need_runtime("onnxruntime")
    folder = moved(compile_model(segmenter, "onnxruntime"), tmp_path)
    told = asked(folder, files, "onnxruntime")
    want = handful.load(segmenter).predict(list(map(str, files)))
    for got, one in zip(told["found"], want, strict=True):
        assert got["shares"] == pytest.approx(one.to_json()["shares"], abs=1e-3)
    (folder / "run.py").write_text(python_of(folder), encoding="utf-8")
    photo = save(sample_photo("motorcycle"), tmp_path / "wide.png")
    out = lean.run(f"import os; os.chdir({str(tmp_path)!r}); import runpy; runpy.run_path({str(folder / 'run.py')!r})",
                   photo, refused=(*lean.HEAVY, "handful"))  # fmt: skip
    ids = np.asarray(PIL_Image.open(tmp_path / "wide-classes.png"))
    own = handful.load(segmenter).predict(str(photo))[0]
    assert (ids == own.ids).mean() > 0.999 and "background" in out


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn"])
def test_several_threads_may_ask(runtime: str, compiled: Compiled) -> None:
    from concurrent.futures import ThreadPoolExecutor

    bundle = compiled(runtime, "fp32")
    (session,) = sessions_of(bundle, 1).values()
    frames = [np.random.default_rng(i).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8) for i in range(8)]
    want = [session.run({"image": frame})["scores"] for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda frame: session.run({"image": frame})["scores"], frames * 3))
    assert all((a == b).all() for a, b in zip(got, want * 3, strict=True))
    assert len({w.tobytes() for w in want}) == 8


def test_a_bundle_says_what_it_is(compiled: Compiled) -> None:
    model = loading.load_bundle(compiled("torch", "fp32").folder)
    card: Any = model.card
    assert card["runtime"] == "torch" and card["classes"] == list(model.classes) and card["kind"] == "taught_classifier"
    assert (model.kind, model.task, model.runtime) == ("taught_classifier", "classify", "torch")
    assert isinstance(model, handful.Classifier)
