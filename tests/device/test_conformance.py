"""Every runtime in every precision: the same names, the same shapes, PyTorch's answers, and clear refusals."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import handful.device.runtimes
from handful.device.compile import Artefact, compile_model
from handful.device.lab.compare import GATES, compare_layers, compare_outputs, gates_of
from handful.device.lab.measure import measure_model
from handful.device.runtimes.contract import Checked, Graph, Port
from handful.device.targets.worker import Job, run_job
from handful.errors import DataError, DeviceError
from handful.image import fit
from handful.pick import names, pick

PAIRS = [
    (name, precision)
    for name in names(handful.device.runtimes, "runtime")
    for precision in pick(handful.device.runtimes, "runtime", name).PRECISIONS
]
Compiled = Callable[[str, str], Artefact]
Outputs = dict[str, np.ndarray]
each = pytest.mark.parametrize(("runtime", "precision"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


@pytest.fixture(scope="session")
def frames(photos: list[np.ndarray]) -> np.ndarray:
    return np.stack([fit(photo, (256, 256)) for photo in photos])


@pytest.fixture(scope="session")
def reference(model: Path, frames: np.ndarray) -> Outputs:
    """What PyTorch gives: outputs of all frames, and layers of the first two."""
    from handful.device.taps import tap_names
    from handful.models.folder import from_folder

    layers = tuple(tap_names(from_folder(model).network))
    return run_job(Job("reference", "torch", str(model), layers=layers, layer_frames=2), frames).outputs


def run(artefact: Artefact, frames: np.ndarray, folder: Path | None = None, threads: int = 1) -> Outputs:
    where = str(artefact.model), str(folder or artefact.folder)
    return run_job(Job("run", artefact.runtime, *where, artefact.precision, threads=threads), frames).outputs


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


@each
def test_layers_are_pytorchs(
    runtime: str,
    precision: str,
    compiled: Compiled,
    answers: Callable[[str, str], Outputs],
    frames: np.ndarray,
    reference: Outputs,
) -> None:
    artefact = compiled(runtime, precision)
    if not artefact.layers:
        pytest.skip(f"{runtime} {precision} is compiled without its layers here, to save half a minute")
    few = frames[:2]
    got = run(artefact, few, artefact.taps)
    assert list(got) == ["scores", *artefact.layers]
    tapped = {"scores": got.pop("scores")}
    shipped = {name: out[:2] for name, out in answers(runtime, precision).items()}
    assert compare_outputs(tapped, shipped)["psnr_db"] >= GATES[precision]["layer_psnr_db"]
    want = {name: reference[name] for name in artefact.layers}
    report = compare_layers(got, want, artefact.layers, precision)
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

    graph = Graph((Port("image", (1, 2, 2, 3), "uint8"),), ("a", "b"), ((1, 3), (1, 1)))
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
    artefact = compiled(runtime, precision)
    file = artefact.folder / "artefact.json"
    before = file.stat().st_mtime_ns
    again = compile_model(artefact.model, runtime, precision, taps=bool(artefact.layers))
    assert again.meta == artefact.meta and file.stat().st_mtime_ns == before


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS}))
def test_is_measured(runtime: str, compiled: Compiled, photos: list[np.ndarray]) -> None:
    artefact = compiled(runtime, "fp32")
    timing = measure_model(artefact.model, runtime, runs=20, images=photos[:3])
    assert timing.n == 20 and timing.threads == 1 and timing.versions == artefact.meta["versions"]
    assert timing.peak_rss_mb is None or 20 < timing.peak_rss_mb < 4000


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS} - {"executorch"}))
def test_fp16_is_smaller(runtime: str, compiled: Compiled) -> None:
    # not executorch: XNNPACK stores the weights of convolutions as fp32 whatever they are
    assert compiled(runtime, "fp16").bytes < 0.55 * compiled(runtime, "fp32").bytes
    assert compiled(runtime, "fp32").bytes < 1.05 * compiled(runtime, "fp32").meta["weights_bytes"]


@pytest.mark.parametrize("runtime", sorted({name for name, _ in PAIRS} - {"torch"}))
def test_tells_nothing_of_the_machine_it_was_made_on(runtime: str, compiled: Compiled) -> None:
    artefact = compiled(runtime, "fp32")
    home = str(Path(handful.device.__file__).parents[2]).encode()
    files = [file for file in artefact.folder.rglob("*") if file.is_file()]
    assert files and artefact.bytes <= sum(file.stat().st_size for file in files)
    assert [file.name for file in files if home in file.read_bytes()] == []


@pytest.fixture(scope="session")
def shelves(model: Path, real_photos: list[np.ndarray]) -> tuple[np.ndarray, Outputs]:
    frames = np.stack([fit(photo, (256, 256)) for photo in real_photos])
    return frames, run_job(Job("reference", "torch", str(model)), frames).outputs


@each
def test_on_shelves(runtime: str, precision: str, compiled: Compiled, shelves: tuple[np.ndarray, Outputs]) -> None:
    """Photographs of nothing that was taught: small scores, so the hardest case for half precision."""
    frames, want = shelves
    report = compare_outputs(run(compiled(runtime, precision), frames), want)
    assert report["top1_agreement"] == 1.0
    assert report["psnr_db"] >= gates_of(runtime, precision)["psnr_db"], report
