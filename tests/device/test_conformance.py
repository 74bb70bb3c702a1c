"""Every runtime in every precision: the same names, the same shapes, PyTorch's answers, and clear refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful.device.runtimes
from handful.bundle import MANIFEST, Bundle, Graph, Port, read_bundle
from handful.device import manual
from handful.device.compile import layers_of, taps_folder
from handful.device.lab.compare import GATES, compare_layers, compare_outputs, gates_of
from handful.device.runtimes.contract import Checked
from handful.device.targets import target_here
from handful.device.targets.job import Job, run_job
from handful.errors import DataError, DeviceError
from handful.image import fit
from handful.kinds.compiling import EXPORTER, compile_model, measure_model
from handful.pick import names, pick
from tests.device.conftest import SLOW
from tests.skips import need_runtime

PAIRS = [
    (name, precision)
    for name in names(handful.device.runtimes, "runtime")
    for precision in pick(handful.device.runtimes, "runtime", name).PRECISIONS
]
Compiled = Callable[[str, str], Bundle]
Outputs = dict[str, np.ndarray]
TAPPED = [pair for pair in PAIRS if pair[0] not in SLOW]  # the others' layers: tests/kinds/test_precisions.py
each, each_tapped = (
    pytest.mark.parametrize(("runtime", "precision"), pairs, ids=["-".join(pair) for pair in pairs])
    for pairs in (PAIRS, TAPPED)
)


@pytest.fixture(scope="session")
def frames(photos: list[np.ndarray]) -> np.ndarray:
    return np.stack([fit(photo, (256, 256)) for photo in photos])


@pytest.fixture(scope="session")
def reference(model: Path, frames: np.ndarray) -> Outputs:
    """What PyTorch gives: outputs of all frames, and layers of the first two."""
    from handful.device.taps import tap_names
    from handful.models.folder import from_folder

    layers = tuple(tap_names(from_folder(model).network))
    return in_torch(model, frames, layers=layers, layer_feeds=2)


def in_torch(model: Path, frames: np.ndarray, **how: Any) -> Outputs:
    return run_job(Job("reference", model=str(model), exporter=EXPORTER, **how), feeds(frames)).outputs


def feeds(frames: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"image": frame[None]} for frame in frames]


def run(bundle: Bundle, frames: np.ndarray, threads: int = 1) -> Outputs:
    return dict(target_here.run(bundle, feeds(frames), threads=threads, exporter=EXPORTER).outputs)


@pytest.fixture(scope="session")
def answers(compiled: Compiled, frames: np.ndarray) -> Callable[[str, str], Outputs]:
    """answers(runtime, precision) -> its outputs for all frames, computed once."""
    return functools.cache(lambda runtime, precision: run(compiled(runtime, precision), frames))


def test_every_runtime_is_here() -> None:
    assert {"torch", "onnxruntime", "litert", "executorch", "ncnn"} <= {name for name, _ in PAIRS}


@pytest.mark.parametrize("name", names(handful.device.runtimes, "runtime"))
def test_contract(name: str) -> None:
    module = pick(handful.device.runtimes, "runtime", name)
    assert set(module.PRECISIONS) <= set(GATES) and "fp32" in module.PRECISIONS
    assert module.MODULES and module.EXTRA and callable(module.compile) and callable(module.load)
    assert "fp16" in (module.__doc__ or ""), "say what fp16 means"
    assert module.RUNS and module.RUN_EXTRA and module.TAKES and callable(module.named)
    assert (manual.HOME / f"{name}.md").exists(), "say how an app runs it"
    versions = module.versions()
    assert versions and all(isinstance(version, str) for version in versions.values())


@each
def test_answers_are_pytorchs(
    runtime: str, precision: str, answers: Callable[[str, str], Outputs], frames: np.ndarray, reference: Outputs
) -> None:
    want = {"scores": reference["scores"]}
    got = answers(runtime, precision)
    assert list(got) == ["scores"]
    assert got["scores"].shape == (len(frames), 6)
    assert all(out.dtype == np.float32 for out in got.values())
    report = compare_outputs(got, want)
    assert report["psnr_db"] >= gates_of(runtime, precision)["psnr_db"], report
    assert report["top1_agreement"] == 1.0
    # the answers were worth comparing: the photographs taught are recognised, and not all alike
    assert list(want["scores"][:5].argmax(axis=1)) == [0, 1, 2, 3, 4]


@each_tapped
def test_layers_are_pytorchs(
    runtime: str,
    precision: str,
    compiled: Compiled,
    answers: Callable[[str, str], Outputs],
    frames: np.ndarray,
    reference: Outputs,
) -> None:
    bundle = compiled(runtime, precision)
    tapped = read_bundle(taps_folder(bundle.folder))
    few, layers = frames[:2], layers_of(tapped)
    got = run(tapped, few)
    assert list(got) == ["scores", *layers]
    own = {"scores": got.pop("scores")}
    shipped = {name: out[:2] for name, out in answers(runtime, precision).items()}
    assert compare_outputs(own, shipped)["psnr_db"] >= GATES[precision]["layer_psnr_db"]
    want = {name: reference[name] for name in layers}
    report = compare_layers(got, want, layers, precision)
    assert report["first_bad_layer"] is None, min(report["layers"], key=lambda row: float(row["psnr_db"]))
    assert len(report["layers"]) > 40


@pytest.mark.parametrize("runtime", names(handful.device.runtimes, "runtime"))
def test_two_threads_answer_alike(
    runtime: str, compiled: Compiled, answers: Callable[[str, str], Outputs], frames: np.ndarray
) -> None:
    one = {name: out[:2] for name, out in answers(runtime, "fp32").items()}
    two = run(compiled(runtime, "fp32"), frames[:2], threads=2)
    assert compare_outputs(two, one)["psnr_db"] >= 110


@pytest.mark.parametrize("runtime", names(handful.device.runtimes, "runtime"))
def test_refuses_another_frame_size(runtime: str, compiled: Compiled, frames: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"image must be uint8 \(1, 256, 256, 3\)"):
        run(compiled(runtime, "fp32"), frames[:1, :128])


class TestChecked:
    """What every session refuses, whatever is behind it."""

    graph = Graph("model", (Port("image", (1, 2, 2, 3), "uint8"),), (Port("a", (1, 3)), Port("b", (1, 1))))
    image = np.zeros((1, 2, 2, 3), np.uint8)
    good = np.arange(3.0), np.ones((1, 1))

    def test_gives_copies_in_the_networks_layout(self) -> None:
        out = Checked(self.graph, lambda image: self.good).run({"image": self.image})
        assert [(name, a.shape) for name, a in out.items()] == [("a", (1, 3)), ("b", (1, 1))]
        assert all(a.dtype == np.float32 for a in out.values())
        assert not np.shares_memory(out["b"], self.good[1])

    @pytest.mark.parametrize(
        "feed",
        [{}, {"picture": image}, {"image": image, "more": image}, {"image": image.astype(np.float32)},
         {"image": image[0]}, {"image": image[:, :1]}, {"image": image.transpose(0, 3, 1, 2)}],
    )  # fmt: skip
    def test_refuses_another_feed(self, feed: dict[str, np.ndarray]) -> None:
        with pytest.raises(DataError):
            Checked(self.graph, lambda image: self.good).run(feed)

    @pytest.mark.parametrize("outputs", [(), good[:1], (*good, good[0]), (good[1], good[0]), (np.ones(4), good[1])])
    def test_refuses_other_outputs(self, outputs: tuple[np.ndarray, ...]) -> None:
        with pytest.raises(DeviceError):
            Checked(self.graph, lambda image: outputs).run({"image": self.image})


@each
def test_is_reused(runtime: str, precision: str, compiled: Compiled) -> None:
    bundle = compiled(runtime, precision)
    file = bundle.folder / MANIFEST
    before = file.stat().st_mtime_ns
    assert bundle.model is not None
    again = compile_model(bundle.model, runtime, precision, taps=taps_folder(bundle.folder).exists())
    assert again.meta == bundle.meta and again.graphs == bundle.graphs and file.stat().st_mtime_ns == before


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS}))
def test_is_measured(runtime: str, compiled: Compiled, photos: list[np.ndarray]) -> None:
    bundle = compiled(runtime, "fp32")
    assert bundle.model is not None
    timing = measure_model(bundle.model, runtime, runs=20, images=photos[:3])
    assert timing.n == 20 and timing.threads == 1 and timing.versions == bundle.meta["versions"]
    assert timing.peak_rss_mb is None or 20 < timing.peak_rss_mb < 4000


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS} - {"executorch"}))
def test_fp16_is_smaller(runtime: str, compiled: Compiled) -> None:
    # not executorch: XNNPACK stores the weights of convolutions as fp32 whatever they are
    assert compiled(runtime, "fp16").bytes < 0.55 * compiled(runtime, "fp32").bytes
    weights: Any = compiled(runtime, "fp32").meta["weights_bytes"]
    assert compiled(runtime, "fp32").bytes < 1.05 * weights


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS} - {"torch"}))
def test_tells_nothing_of_the_machine_it_was_made_on(runtime: str, compiled: Compiled) -> None:
    bundle = compiled(runtime, "fp32")
    homes = [str(place).encode() for place in (Path(handful.device.__file__).parents[2], bundle.model, Path.home())]
    files = [file for file in bundle.folder.rglob("*") if file.is_file()]
    assert files and bundle.bytes <= sum(file.stat().st_size for file in files)
    assert [file.name for file in files if any(home in file.read_bytes() for home in homes)] == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_fp16_made_of_fp32_is_the_same(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time of converting is saved, and nothing else changes."""
    need_runtime(runtime)
    module: Any = pick(handful.device.runtimes, "runtime", runtime)
    for name in ("fp32", "plain", "made"):
        (tmp_path / name).mkdir()
    network = tiny()
    module.compile(network, tmp_path / "fp32", "fp32")
    module.compile(network, tmp_path / "plain", "fp16")
    monkeypatch.setattr(module, {"onnxruntime": "_export", "litert": "_convert"}[runtime], None)
    module.compile(network, tmp_path / "made", "fp16", tmp_path / "fp32")
    plain, made, whole = ((tmp_path / name / module.FILE).read_bytes() for name in ("plain", "made", "fp32"))
    assert made == plain and len(plain) < 0.7 * len(whole)


def tiny() -> Any:
    import torch
    from torch import nn

    class Tiny(nn.Module):
        input_names, output_names, frame_hw = ("image",), ("scores",), (32, 32)

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.last = nn.Conv2d(3, 64, 5, 4), nn.Linear(64, 300)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.last(self.conv(image.permute(0, 3, 1, 2).float()).relu().mean((2, 3)))
            return out

    return Tiny().eval()


@pytest.fixture(scope="session")
def shelves(model: Path, real_photos: list[np.ndarray]) -> tuple[np.ndarray, Outputs]:
    frames = np.stack([fit(photo, (256, 256)) for photo in real_photos])
    return frames, in_torch(model, frames)


@each
def test_on_shelves(runtime: str, precision: str, compiled: Compiled, shelves: tuple[np.ndarray, Outputs]) -> None:
    """Photographs of nothing that was taught: small scores, so the hardest case for half precision."""
    frames, want = shelves
    report = compare_outputs(run(compiled(runtime, precision), frames), want)
    assert report["top1_agreement"] == 1.0
    assert report["psnr_db"] >= gates_of(runtime, precision)["psnr_db"], report
