"""Faults planted on purpose: the comparison must see each, and name the first layer that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful.device.lab.compare import GATES, compare_layers, compare_outputs
from handful.errors import CompileError, DataError
from handful.files import to_json
from handful.image import fit
from handful.kinds.compiling import compare_model

torch = pytest.importorskip("torch")
BLOCK = "backbone.network.blocks.3.0"


@pytest.fixture(scope="module")
def network(model: Path) -> Any:
    from handful.models.folder import from_folder

    return from_folder(model).network


@pytest.fixture(scope="module")
def values(network: Any, photos: list[np.ndarray]) -> Callable[[Any, bool], dict[str, np.ndarray]]:
    from handful.device.taps import Tapped, tap_names

    frames = np.stack([fit(photo, (256, 256)) for photo in photos[:2]])
    names = tap_names(network)

    def run(changed: Any, bgr: bool = False) -> dict[str, np.ndarray]:
        tapped = Tapped(copy.deepcopy(changed), names)
        given = frames[..., ::-1].copy() if bgr else frames
        with torch.no_grad():
            rows = [[out.numpy() for out in tapped(torch.from_numpy(frame[None]))] for frame in given]
        return {
            name: np.concatenate(column)
            for name, column in zip(tapped.output_names, zip(*rows, strict=True), strict=True)
        }

    return run


def verdict(got: dict[str, np.ndarray], want: dict[str, np.ndarray], precision: str) -> tuple[float, str | None]:
    report = compare_outputs({"scores": got["scores"]}, {"scores": want["scores"]})
    layers = [name for name in want if name != "scores"]
    bad = compare_layers({name: got[name] for name in layers}, {name: want[name] for name in layers}, layers, precision)
    return report["psnr_db"], bad["first_bad_layer"]


def transpose(network: Any) -> None:
    conv = network.get_submodule(BLOCK + ".conv_dw")
    conv.weight.data = conv.weight.data.transpose(2, 3).contiguous()


def scale(network: Any) -> None:
    bn = network.get_submodule(BLOCK + ".bn3")
    bn.weight.data *= 1.01
    bn.bias.data *= 1.01


def forget_mean(network: Any) -> None:
    network.normalize.shift.zero_()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("fault", "first"),
    [(transpose, BLOCK + ".bn2"), (scale, BLOCK), (forget_mean, "normalize"), (None, None)],
)
def test_the_first_bad_layer_is_named(
    fault: Callable[[Any], None] | None, first: str | None, precision: str, network: Any, values: Any
) -> None:
    changed = copy.deepcopy(network)
    if fault is not None:
        fault(changed)
    psnr_db, bad = verdict(values(changed), values(network), precision)
    if fault is None:
        assert psnr_db == 200 and bad is None
        return
    if fault is scale and precision == "fp16":
        # one layer 1 % too large hides in half precision's own error: look for faults in fp32
        assert psnr_db > GATES["fp16"]["psnr_db"] and bad is None
    else:
        assert psnr_db < GATES[precision]["psnr_db"] and bad == first


def test_swapped_channels_are_seen_at_the_first_layer(network: Any, values: Any) -> None:
    psnr_db, bad = verdict(values(network, bgr=True), values(network), "fp16")
    assert psnr_db < 40 and bad == "resize"


@pytest.mark.usefixtures("planted")
class TestWhole:
    """Through every process, as a user would."""

    def test_swapped_channels(self, model: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLANTED", "bgr")
        report = compare_model(model, "faulty", "fp32", photos[:4], layer_images=2)
        assert report["verdict"] == "fail" and report["first_bad_layer"] == "resize"
        assert len(report["reasons"]) >= 2 and "resize" in " ".join(report["reasons"])
        assert report["tapped_psnr_db"] == 200 and report["images"] == 4 and report["layer_images"] == 2
        assert report["metrics"].keys() >= report["outputs"]["scores"].keys()
        assert to_json(report)

        monkeypatch.setenv("PLANTED", "nan")
        with pytest.raises(DataError, match="NaN"):
            compare_model(model, "faulty", "fp32", photos[:1], layers=False)

    def test_a_runtime_that_cannot_compile(
        self, model: Path, photos: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import shutil

        copied = tmp_path / "five"
        shutil.copytree(model, copied, ignore=shutil.ignore_patterns("compiled"))
        monkeypatch.setenv("PLANTED", "compile")
        with pytest.raises(
            CompileError, match=r"faulty: the compile process .*'frobnicate' is not supported"
        ) as caught:
            compare_model(copied, "faulty", "fp32", photos[:1])
        shutil.rmtree(str(caught.value).split()[-1])
        assert not (copied / "compiled" / "faulty-fp32").exists()


def test_nothing_to_compare(compiled: Any, photos: list[np.ndarray]) -> None:
    model = compiled("torch", "fp32").model
    with pytest.raises(DataError, match="no photographs"):
        compare_model(model, "torch", "fp32", [])
    with pytest.raises(DataError, match="uint8"):
        compare_model(model, "torch", "fp32", [photos[0].astype(np.float32)])
    with pytest.raises(DataError, match="layer_images"):
        compare_model(model, "torch", "fp32", photos[:1], layer_images=0)
