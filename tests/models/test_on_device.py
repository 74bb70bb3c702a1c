"""A segmentation network on a phone runtime: the compiled file answers as PyTorch does, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import handful.device.runtimes
from handful.device.network import graph_of
from handful.kinds.compiling import compare_model
from handful.models.folder import save_folder
from handful.models.show import card_of, make
from handful.pick import pick, present

needs_onnxruntime = pytest.mark.skipif(
    not (present("onnxruntime") and present("onnxscript")), reason="pip install 'handful[compile-onnxruntime]'"
)


def trained(frame_hw: tuple[int, int]) -> Any:
    """With statistics as a trained network has them, so that folding them away is put to the test."""
    torch.manual_seed(0)
    net = make("exeggutor:small", 11, {"frame_hw": frame_hw}).train()
    with torch.no_grad():
        for _ in range(3):
            net.core(torch.randn(2, 3, 64, 96))
    return net.eval()


@pytest.mark.slow
@needs_onnxruntime
def test_exeggutor_on_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    net = trained((64, 96))
    save_folder(
        tmp_path / "m",
        net,
        kind=net.kind,
        args=net.args,
        classes=[f"class {i}" for i in range(11)],
        preprocessing=net.preprocessing(),
        about={"task": net.task, "card": card_of(net.kind).to_json()},
    )
    report = compare_model(tmp_path / "m", "onnxruntime")
    assert report["psnr_db"] > 100 and report["top1_agreement"] > 0.999, report["reasons"]
    assert len(report["layers"]) > 30 and report["first_bad_layer"] is None


@pytest.mark.slow
@needs_onnxruntime
def test_padding_and_cropping_are_in_the_file(tmp_path: Path) -> None:
    net = trained((72, 90))
    assert net.padded_px == (24, 6)
    runtime: Any = pick(handful.device.runtimes, "runtime", "onnxruntime")
    runtime.compile(net, tmp_path, "fp32")
    graph = runtime.named(tmp_path, graph_of(net, "model"))
    image = np.random.default_rng(0).integers(0, 256, (1, 72, 90, 3), dtype=np.uint8)
    got = runtime.load(tmp_path, graph, threads=1).run({"image": image})["scores"]
    with torch.no_grad():
        want = net(torch.from_numpy(image)).numpy()
    assert got.shape == (1, 11, 72, 90)
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
