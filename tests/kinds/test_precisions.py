"""Trained classifiers and segmenters on every runtime, in every precision it has: PyTorch's answers.

tests/kinds/test_table.py compiles the same models in fp32; what it made is used again here, and fp16 is made of it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import handful
import handful.device.runtimes
from handful.kinds.compiling import compare_model, compile_model
from handful.pick import names, pick
from tests.kinds.worlds import World
from tests.skips import need_runtime

RUNTIMES = tuple(name for name in names(handful.device.runtimes, "runtime") if name != "torch")

# half of a network is half of its backbone there: input and answer stay in fp32
REFUSED = {("executorch", "fp16"): "needs a network with a part named backbone; compile it as fp32"}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["classifier", "segmenter"])
def test_a_trained_model_answers_as_in_pytorch(kind: str, runtime: str, world_of: Callable[[str], World]) -> None:
    need_runtime(runtime)
    world = world_of(kind)
    images = [handful.Image.open(file) for file in sorted(world.images.glob("*.png"))]
    tried = []
    for precision in pick(handful.device.runtimes, "runtime", runtime).PRECISIONS:
        tried.append(precision)
        if (runtime, precision) in REFUSED:
            with pytest.raises(handful.CompileError, match=REFUSED[runtime, precision]):
                compile_model(world.model, runtime, precision)
            continue
        compile_model(world.model, runtime, precision)
        layers = kind == "classifier" and precision == "fp32"
        report = compare_model(world.model, runtime, precision, images=images, layers=layers, layer_images=1)
        assert report["verdict"] == "pass" and report["first_bad_layer"] is None, report["reasons"]
        assert len(report["layers"]) >= 9 or not layers
        # not by the gate alone: what is stored in half has lost something, and fp32 next to nothing
        assert (report["psnr_db"] > 110) == (precision == "fp32"), report
    assert tried == ["fp32", "fp16"]
