"""A compiled detector finds what the taught one finds; every planted fault is seen, and the graph with it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.detection
import handful.device.runtimes
from handful.bundle import MANIFEST, Bundle, Session, read_bundle
from handful.cli import main
from handful.data.sample_images import sample_photo
from handful.detection import compiled as on
from handful.detection import graphs
from handful.detection.compiled import CompiledDetector, Stopwatch, padded
from handful.detection.embedder import CropSettings
from handful.detection.irene import Irene
from handful.detection.multiscale import Scales
from handful.detection.scoring import MIN_SCORE
from handful.device.lab.agreement import agreement, packed, unpacked
from handful.device.lab.beside import Beside
from handful.device.lab.compare_detections import GATES, reasons_of
from handful.device.network import InTorch
from handful.errors import CompileError, DataError, MissingPackage, UnknownName, UsageError
from handful.kinds.compiling import compare_model, compile_model
from handful.pick import pick
from handful.results import Detections
from tests import lean
from tests.conftest import ROOT, save
from tests.skips import need_runtime

torch = pytest.importorskip("torch")
PROPOSERS = str(ROOT / "tests" / "detection" / "proposers")
NAMES = ("astronaut", "cat", "coffee", "flower")
Photos = list[np.ndarray]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])


@pytest.fixture(scope="module")
def eyes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handful.detection, "__path__", [*handful.detection.__path__, PROPOSERS])
        yield


def taught(proposer: str = "dots", scales: Scales | None = None, **look: Any) -> Irene:
    irene = Irene.new(proposer, crop=CropSettings(**{"backbone": "lite0", "side_px": 32, **look}), scales=scales)
    rng = np.random.default_rng(0)
    for name in NAMES:
        rgb = sample_photo(name).rgb_u8
        high, wide = rgb.shape[:2]
        low = rng.uniform(0, 0.5, (4, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.2, 0.5, (4, 2))], 1) * [wide, high, wide, high]
        irene.learn(rgb, boxes, [name, name, name, f"{name}'s corner"], name)
    return irene


@pytest.fixture(scope="module")
def irene(eyes: None) -> Irene:
    return taught()


@pytest.fixture(scope="module")
def pictures() -> Photos:
    return [sample_photo(name).rgb_u8 for name in (*NAMES, "rocket", "motorcycle")]


@pytest.fixture(scope="module")
def want(irene: Irene, pictures: Photos) -> list[Detections]:
    return [irene.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures]


class Turned:
    """A session whose inputs' colors are swapped."""

    def __init__(self, inner: Session, turned: tuple[str, ...]) -> None:
        self.inner, self.turned = inner, turned

    def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self.inner.run({n: v[..., ::-1].copy() if n in self.turned else v for n, v in feed.items()})


def device_of(irene: Irene, turned: tuple[str, ...] = (), **other: Any) -> CompiledDetector:
    found = {**graphs.parts(irene), **other}
    sessions = {name: Turned(InTorch(part), turned) for name, part in found.items()}
    return CompiledDetector(graphs.plan(irene), sessions, Stopwatch())


def graphs_beside(detector: CompiledDetector, reference: dict[str, Any], photos: Photos) -> list[dict[str, Any]]:
    """Each graph held against the torch module of the same name, as photos run through them."""
    beside = {name: Beside(name, InTorch(reference[name]), detector.sessions[name]) for name in reference}
    both = CompiledDetector(detector.plan, beside)
    for rgb in photos:
        both.score(rgb)
    return [one.told() for one in beside.values()]


def test_graphs_alone_find_the_same(irene: Irene, pictures: Photos, want: list[Detections]) -> None:
    device = device_of(irene)
    got = [device.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures]
    found = agreement(got, want)
    assert found["matched_of_want"] == found["matched_of_got"] == 1 and found["boxes_want"] >= 40
    assert found["largest_score_difference"] < 1e-4
    steps = ["letterbox", "propose", "boxes", "features", "cut", "crops", "head", "select"]
    assert list(device.watch.ms) == steps and min(device.watch.ms.values()) >= 0
    assert np.abs(got[0].vectors - want[0].vectors).max() < 1e-5
    for vigilance in (2.0, 5.0):
        one, other = (side.detect(pictures[0], vigilance=vigilance) for side in (device, irene))
        assert len(one) == len(other)
    assert len(device.detect(pictures[0], score_threshold=1.0)) == 0


def test_a_photo_in_which_nothing_is_proposed(irene: Irene, pictures: Photos) -> None:
    class Blind(InTorch):
        def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            out = super().run(feed)
            return {**out, "boxes": out["boxes"] * 0}

    device = device_of(irene)
    device.sessions["propose"] = Blind(graphs.parts(irene)["propose"])
    assert (
        len(device.detect(pictures[0], unknown=True, score_threshold=MIN_SCORE)) == 0 and "crops" not in device.watch.ms
    )


def test_a_second_look_finds_the_same(monkeypatch: pytest.MonkeyPatch, pictures: Photos) -> None:
    plain = [taught(backbone=None, share=1).detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures]
    monkeypatch.setattr(pick(handful.detection, "proposer", "dots").Proposer, "refined", True)
    irene = taught(backbone=None, share=1)
    want = [irene.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures]
    got = [device_of(irene).detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures]
    told = agreement(got, want)
    assert told["matched_of_want"] == 1 and told["largest_score_difference"] < 1e-4
    assert agreement(plain, want)["matched_of_want"] < 0.9


@pytest.mark.parametrize("look", ["focus", "pyramid"])
def test_several_scales_find_the_same(look: str, pictures: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a proposer that has a focus map of its own, which is then an output; and a long photo in pieces."""
    long = np.ascontiguousarray(np.concatenate([pictures[0]] * 4, axis=1))
    photos = [*pictures[1:4], long]
    irene = taught("objectness", backbone=None, share=1, scales=Scales(2, look))
    want = [irene.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in photos]
    parts, plan = graphs.parts(irene), graphs.plan(irene)
    assert parts["propose"].output_names[2] == "focus" and plan["scales"]["count"] == 2
    sessions = {name: InTorch(part) for name, part in parts.items()}

    def found(plan: dict[str, Any], sessions: dict[str, Any], most: int = 2) -> dict[str, Any]:
        device = CompiledDetector(plan, sessions)
        got = [device.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in photos[:most]]
        return agreement(got, want[:most])

    same = found(json.loads(json.dumps(plan)), sessions, len(photos))
    assert same["matched_of_want"] == same["matched_of_got"] == 1 and same["boxes_want"] >= 100
    assert same["largest_score_difference"] < 1e-4
    once = found({**plan, "scales": {**plan["scales"], "count": 1, "mode": "whole"}}, sessions)
    assert once["matched_of_want"] < 0.95  # the second scale was worth having

    class Everywhere(InTorch):
        def run(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            out = super().run(feed)
            return {**out, "focus": np.ones_like(out["focus"])}

    blind = found(plan, {**sessions, "propose": Everywhere(parts["propose"])})
    assert (blind["matched_of_want"] < 1) == (look == "focus")


def test_a_long_photo_is_looked_at_in_pieces(irene: Irene, pictures: Photos) -> None:
    long = np.ascontiguousarray(np.concatenate([pictures[0]] * 4, axis=1))
    want = [irene.detect(long, unknown=True, score_threshold=MIN_SCORE)]
    told = agreement([device_of(irene).detect(long, unknown=True, score_threshold=MIN_SCORE)], want)
    assert told["matched_of_want"] == told["matched_of_got"] == 1 and told["boxes_want"] > 10
    assert len(np.unique(irene.score(long).scale)) > 1


def test_photos_with_few_boxes_and_many_crops(irene: Irene, pictures: Photos, want: list[Detections]) -> None:
    """How many crops go in at once changes nothing, nor what fills up the rest."""
    for at_once in (1, 7, 64):
        parts, plan = graphs.parts(irene, batch=at_once), graphs.plan(irene, batch=at_once)
        device = CompiledDetector(plan, {name: InTorch(part) for name, part in parts.items()})
        assert (
            agreement([device.detect(pictures[0], unknown=True, score_threshold=MIN_SCORE)], want[:1])[
                "matched_of_want"
            ]
            == 1
        )


def corner(rgb: np.ndarray, side_px: int) -> Any:
    frame, factor, (left, top) = on_letterbox(rgb, side_px)
    return np.roll(frame, (-int(top), -int(left)), (0, 1)), factor, (left, top)


on_letterbox = on.letterbox


def halved(irene: Irene) -> Any:
    part = graphs.parts(irene)["features"]
    part.module.features.strides = tuple(2 * s for s in part.module.features.strides)
    return part


def shifted(irene: Irene) -> Any:
    """As RoIAlign without `aligned`: half a cell off."""
    part = graphs.parts(irene)["features"]
    means = part.module.features
    plain = means.shares
    means.shares = lambda low, high, cells, stride: plain(low + stride / 2, high + stride / 2, cells, stride)
    return part


FAULTS: dict[str, Callable[[Irene, pytest.MonkeyPatch], CompiledDetector]] = {
    "the photo in the corner": lambda irene, patch: (patch.setattr(on, "letterbox", corner), device_of(irene))[1],
    "blue first in the frame": lambda irene, patch: device_of(irene, ("image",)),
    "blue first in the crops": lambda irene, patch: device_of(irene, ("crops",)),
    "boxes on the wrong scale": lambda irene, patch: device_of(irene, features=halved(irene)),
    "boxes half a cell off": lambda irene, patch: device_of(irene, features=shifted(irene)),
    "another margin": lambda irene, patch: _changed(device_of(irene), "crops", margin=0.0),
    "another overlap": lambda irene, patch: _changed(device_of(irene), "boxes", nms_iou=0.2),
}


def _changed(device: CompiledDetector, part: str, **values: Any) -> CompiledDetector:
    return CompiledDetector({**device.plan, part: {**device.plan[part], **values}}, device.sessions)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(
    fault: str, irene: Irene, pictures: Photos, want: list[Detections], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FAULTS[fault](irene, monkeypatch)
    found = agreement([device.detect(rgb, unknown=True, score_threshold=MIN_SCORE) for rgb in pictures], want)
    assert reasons_of({**found, "graphs": []}, GATES["fp32"]), found


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("blue first in the frame", "propose"),
        ("blue first in the crops", "crops"),
        ("boxes on the wrong scale", "features"),
        ("boxes half a cell off", "features"),
    ],
)
def test_the_graph_with_the_fault_is_named(
    fault: str, named: str, irene: Irene, pictures: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, whole = FAULTS[fault](irene, monkeypatch), graphs.parts(irene)
    rows = graphs_beside(device, whole, pictures[:2])
    fine = {"matched_of_want": 1.0, "matched_of_got": 1.0}
    assert [row["name"] for row in rows if row["psnr_db"] < GATES["fp32"]["graph_psnr_db"]] == [named]
    assert reasons_of({**fine, "graphs": rows}, GATES["fp32"])[0].startswith(f"the graph {named} is ")
    sound = graphs_beside(device_of(irene), whole, pictures[:1])
    assert reasons_of({**fine, "graphs": sound}, GATES["fp32"]) == []
    with pytest.raises(DataError, match="was never run"):
        graphs_beside(device, whole, [])


def found(boxes: list[list[float]], labels: list[int], scores: list[float], margin: float = 1.0) -> Detections:
    n = len(labels)
    whole = np.array(boxes, np.float64).reshape(-1, 4)
    return Detections(("a", "b"), whole, np.array(scores), np.array(labels), np.full(n, margin), np.zeros((n, 0)))


def test_what_agreement_means() -> None:
    box, near, far = [0, 0, 100, 100.0], [0, 0, 100, 91.0], [0, 0, 100, 89.0]
    one = found([box], [0], [0.8])
    assert agreement([found([near], [0], [0.7])], [one])["largest_score_difference"] == pytest.approx(0.1)
    unlike = found([far], [0], [0.8]), found([box], [1], [0.8]), found([box], [0], [0.8], -1.0), found([], [], [])
    for other in unlike:
        told = agreement([other], [one])
        assert told["matched"] == 0 and told["matched_of_want"] == told["matched_of_got"] == 0
    twice = found([box, near], [0, 0], [0.8, 0.7])
    told = agreement([twice], [one])
    assert told["matched_of_want"] == 1 and told["matched_of_got"] == 0.5
    told = agreement([one], [twice])
    assert told["matched_of_want"] == 0.5 and told["matched_of_got"] == 1
    with pytest.raises(DataError, match="found nothing in 1 photo"):
        agreement([one], [found([], [], [])])
    with pytest.raises(DataError, match="1 and 2 photos"):
        agreement([one], [one, one])
    again = unpacked(packed([twice, found([], [], []), one]), ("a", "b"))
    assert [len(a) for a in again] == [2, 0, 1] and (again[0].xyxy_px == twice.xyxy_px).all()
    assert again[2].score.tolist() == [0.8] and again[0].label.tolist() == [0, 0]


def test_rows_are_filled_up() -> None:
    assert padded(np.ones((2, 3)), 4).tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(DataError, match="5 boxes at once; this compiled detector takes 4"):
        padded(np.ones((5, 3)), 4)


@pytest.fixture(scope="module")
def folder(irene: Irene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("detector") / "found"
    irene.save(place)
    return place


@pytest.fixture(scope="module")
def small(eyes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without crops: three small graphs."""
    place = tmp_path_factory.mktemp("detector") / "small"
    taught(backbone=None, share=1).save(place)
    return place


@pytest.fixture
def jobs(planted: None) -> None:
    """Children of jobs know the tests' sources of boxes."""


@pytest.fixture
def in_torch(jobs: None, folder: Path) -> Bundle:
    return compile_model(folder, "torch")


def test_what_is_written(in_torch: Bundle, folder: Path) -> None:
    meta: Any = json.loads((in_torch.folder / MANIFEST).read_text())
    assert (meta["kind"], meta["task"]) == ("taught_detector", "detect")
    plan, steps = meta["plan"], meta["plan"]["steps"]
    assert {"steps", "frame", "boxes", "crops", "scales", "answer", "fusion"} <= plan.keys() and len(steps) >= 9
    assert meta["preprocessing"]["steps"][1] == steps[0] and meta["postprocessing"]["steps"][-1] == steps[-1]
    names = [one["name"] for one in meta["graphs"]]
    assert names == ["propose", "features", "crops", "head"] == [one["folder"] for one in meta["graphs"]]
    assert meta["graphs"][0]["inputs"] == [
        {"name": "image", "shape": [1, 64, 64, 3], "dtype": "uint8", "file_name": "", "color_order": "RGB"}
    ]
    assert meta["graphs"][2]["inputs"][0]["shape"] == [plan["crops"]["batch"], 32, 32, 3]
    logits, below = meta["graphs"][3]["outputs"][1:]
    assert (logits["name"], logits["shape"], logits["labels"]) == ("logits", [100, 8], meta["classes"])
    assert (below["name"], below["labels"]) == ("cosine_floor", ["none of these"])
    assert (in_torch.folder / "labels.txt").read_text().splitlines() == [*meta["classes"], "none of these"]
    assert set(meta["facts"]) == set(names) and not (in_torch.folder.parent / ".taps").exists()
    assert read_bundle(in_torch.folder).meta == in_torch.meta
    before = (in_torch.folder / MANIFEST).stat().st_mtime_ns
    assert compile_model(folder, "torch").meta == in_torch.meta  # not again
    assert (in_torch.folder / MANIFEST).stat().st_mtime_ns == before
    assert len(meta["versions"]["detection/graphs.py"]) == 8


def agree_on(folder: Path, runtime: str, precision: str, pictures: Photos) -> dict[str, Any]:
    result = compare_model(folder, runtime, precision, pictures, graph_images=1)
    assert result["boxes_want"] >= 20 and len(result["graphs"]) == len(result["facts"])
    assert result["verdict"] == "pass" and result["reasons"] == [], result["reasons"]
    return result


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_torch_agrees(jobs: None, folder: Path, pictures: Photos, precision: str) -> None:
    result = agree_on(folder, "torch", precision, pictures)
    assert (result["largest_score_difference"] < 1e-5) == (precision == "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnxruntime_agrees(jobs: None, folder: Path, pictures: Photos, precision: str, need: Any) -> None:
    need("onnxruntime")
    agree_on(folder, "onnxruntime", precision, pictures)


ALONE = """
import json, sys
import handful
model = handful.load(sys.argv[1])
found = model.predict(sys.argv[2:], unknown=True, score_threshold=0.02)
print(json.dumps([type(model).__name__, [one.to_json()["found"] for one in found]]))
"""


@pytest.mark.slow
def test_a_detectors_bundle_alone(jobs: None, folder: Path, tmp_path: Path, need: Any) -> None:
    """Without torch, without the model folder, and without what found its boxes."""
    need("onnxruntime")
    to = tmp_path / "elsewhere" / "onnxruntime-fp32"
    shutil.copytree(compile_model(folder, "onnxruntime").folder, to)
    photos = [str(save(sample_photo(name), tmp_path / f"{name}.png")) for name in ("cat", "rocket")]
    kind, found = json.loads(lean.run(ALONE, to, *photos).splitlines()[-1])
    own: Any = handful.load(folder)
    want = [one.rows() for one in own.predict(photos, unknown=True, score_threshold=MIN_SCORE)]
    assert kind == "BundledDetector" and [len(one) for one in found] == [len(one) for one in want]
    assert sum(map(len, want)) >= 10
    for got, row in zip((row for one in found for row in one), (row for one in want for row in one), strict=True):
        assert (got["class"], got["unknown"]) == (row["class"], row["unknown"])
        assert got["box_px"] == pytest.approx(row["box_px"], abs=0.1)
        assert got["score"] == pytest.approx(row["score"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["litert", "executorch"])
def test_others_agree(jobs: None, small: Path, pictures: Photos, runtime: str, need: Any) -> None:
    need(runtime)
    agree_on(small, runtime, "fp32", pictures)


@pytest.fixture
def need() -> Callable[[str], None]:
    """tests.skips.need_runtime, for a runtime by name."""
    return need_runtime


def test_a_fault_in_the_runtime_fails_the_comparison(
    jobs: None, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLANTED", "bgr")
    with pytest.raises(SystemExit) as stop:
        main(["device", "compare", str(small), "--runtime", "faulty"])
    out = capsys.readouterr().out
    assert stop.value.code == 1 and "faulty fp32: fail" in out and "the graph propose is " in out
    assert "of the detector's boxes are found again; wanted 99%" in out
    monkeypatch.setenv("PLANTED", "none")
    main(["device", "compare", str(small), "--runtime", "faulty", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "pass" and told["matched_of_want"] == 1


def test_it_runs_in_this_process_too(in_torch: Bundle, pictures: Photos, want: list[Detections]) -> None:
    device: Any = handful.load(in_torch.folder)
    own = device.predict(pictures[:2], unknown=True, score_threshold=MIN_SCORE)
    assert agreement(own, want[:2])["matched_of_want"] == 1
    assert device.classes == want[0].classes and device.runtime == "torch" and device.kind == "taught_detector"
    assert own[0].origin.name == "array 0" and own[0].plot().shape == pictures[0].shape
    with pytest.raises(UsageError, match="gives boxes and no masks; for masks give the model"):
        device.predict(pictures[0], masks=True)


def test_detect_asks_what_was_compiled(
    in_torch: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = str(save(sample_photo("cat"), tmp_path / "cat.png"))
    told = []
    for more in ([], ["--runtime", "torch"]):
        main(
            ["predict", str(in_torch.model), photo, "--json", "--explain", "--unknown", "--score-threshold", "0", *more]
        )
        told.append(json.loads(capsys.readouterr().out)["results"][0]["found"])
    plain, compiled = told
    assert plain and [row["class"] for row in plain] == [row["class"] for row in compiled]
    assert [row["like"][0]["image"] for row in plain] == [row["like"][0]["image"] for row in compiled]
    monkeypatch.setattr(CompiledDetector, "select", lambda self, scored, **how: 1 / 0)
    main(["predict", str(in_torch.model), photo])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # for the trace
    with pytest.raises(SystemExit, match="70"):
        main(["predict", str(in_torch.model), photo, "--runtime", "torch"])
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_another_plan_is_refused(irene: Irene) -> None:
    plan = graphs.plan(irene)
    for change, says in (({"schema_version": 9}, "schema_version 9"), ({"boxes": {}}, "is not what was written"),
                         ({"scales": {**plan["scales"], "mode": "askance"}}, "named 'askance'"),
                         ({"answer": {**plan["answer"], "gain": 3.0}}, "gain 3.0")):  # fmt: skip
        with pytest.raises((DataError, UnknownName), match=says):
            CompiledDetector({**plan, **change}, {})


def test_a_bundle_without_its_runtime_or_model(
    in_torch: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "torch-fp32"
    shutil.copytree(in_torch.folder, copy)
    with pytest.raises(DataError, match="holds weights alone, for the runtime torch"):
        handful.load(copy)
    told = json.loads((copy / MANIFEST).read_text())
    monkeypatch.setattr(pick(handful.device.runtimes, "runtime", "litert"), "RUNS", ("surely_not_installed",))
    (copy / MANIFEST).write_text(json.dumps({**told, "runtime": "litert"}))
    with pytest.raises(MissingPackage, match=r"pip install 'handful\[litert\]'"):
        handful.load(copy)
    (copy / MANIFEST).write_text(json.dumps({**told, "kind": "tracker"}))
    with pytest.raises(
        DataError, match="is a bundle of the kind 'tracker', which this version of handful does not know"
    ):
        handful.load(copy)


def test_what_cannot_be_compiled_says_so(
    jobs: None, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taught("blobs", backbone=None, share=1).save(tmp_path / "blobs")
    with pytest.raises(SystemExit) as stop:
        main(["device", "compile", str(tmp_path / "blobs"), "--runtime", "torch"])
    assert stop.value.code == 2 and "the proposer 'blobs' cannot be compiled" in capsys.readouterr().err
    assert not list((tmp_path / "blobs").glob("compiled/*"))
    with pytest.raises(CompileError, match="ncnn here takes one frame and no other input"):
        compile_model(small, "ncnn")
    monkeypatch.setattr(pick(handful.device.runtimes, "runtime", "litert"), "MODULES", ("surely_not_installed",))
    with pytest.raises(MissingPackage, match="surely_not_installed"):
        compile_model(small, "litert")


def test_a_graph_that_fails_is_named(jobs: None, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", "compile")
    with pytest.raises(CompileError, match=r"the compile process of the graph propose ended .*frobnicate"):
        compile_model(small, "faulty", force=True)
    assert compile_model(small, "torch").folder.exists()
