"""`handful models`: what it tells, and that what phone runtimes do not take is found where it is."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from handful.models.count import count
from handful.models.show import RULES, describe, unsupported
from tests.test_cli import handful


def test_show_as_json_and_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["models", "show", "exeggutor", "--classes", "4", "--frame", "97x131", "--arg", "width=0.25"]
    code, out, _ = handful(capsys, *args, "--arg", "resize=false", "--json")
    told = json.loads(out)
    assert code == 0 and told["schema_version"] == 1 and told["args"]["width"] == 0.25
    assert told["output_shape"] == [1, 4, 49, 66] and told["padded_px"] == [31, 29] and told["unsupported"] == []
    assert sum(layer["macs"] for layer in told["layers"]) == told["macs"]
    assert told["params"] - told["training_only_params"] == sum(row["params"] for row in told["layers"])
    assert told["rules"].startswith("Parameters:") and told["card"]["paper"]
    code, out, _ = handful(capsys, *args)
    assert code == 0 and "padded inside by 31 rows below and 29 columns" in out
    assert "core.decoder.stages.0.1.3" in out and "none known" in out and f"{told['params']:,} parameters" in out


def test_show_says_what_a_runtime_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = handful(capsys, "models", "show", "classifier:inception", "--frame", "299x299")
    assert code == 0 and "executorch: avg_pool2d runs outside the delegate" in out
    assert "(9x: core.network.Mixed_5b/avg_pool2d" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "exegute"], "did you mean 'exeggute'"),
        (["show", "exeggute", "--arg", "width"], "wanted KEY=VALUE"),
        (["show", "exeggute", "--arg", "widht=1"], "did you mean 'width'"),
        (["show", "exeggute", "--classes", "1"], "at least two classes"),
        (["shwo"], "did you mean 'show'"),
    ],
)
def test_bad_usage(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = handful(capsys, "models", *args)
    assert code == 2 and words in err and out == "" and "Traceback" not in err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = handful(capsys, "models", "list", "--json")
    assert code == 0
    rows = {row["net"]: row for row in json.loads(out)["nets"]}
    assert rows["exeggutor"]["params"] == describe("exeggutor", 11)["params"]
    assert rows["taught"]["params"] is None and "people" in rows["exeggutor"]["presets"]


class Op(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.norm = {"native_group_norm": nn.GroupNorm(2, 8), "native_batch_norm": nn.InstanceNorm2d(8)}.get(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.norm is not None:
            out: torch.Tensor = self.norm(x)
            return out
        run = OPERATIONS[self.name]
        assert run is not None
        return run(x)


OPERATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor] | None] = {
    "upsample_nearest2d": lambda x: F.interpolate(x, scale_factor=2),
    "upsample_bicubic2d": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "elu": F.elu,
    "mish": F.mish,
    "_softmax": lambda x: F.softmax(x, 1),
    "as_strided": lambda x: F.adaptive_avg_pool2d(x.contiguous(memory_format=torch.channels_last), 1),
    "_adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 5),
    "reflection_pad2d": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "replication_pad2d": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "native_group_norm": None,
    "native_batch_norm": None,
    "native_layer_norm": lambda x: F.layer_norm(x, (16,)),
    "avg_pool3d": lambda x: F.local_response_norm(x, 3),
    "split": lambda x: x.chunk(2, 1)[0],
    "split_with_sizes": lambda x: x.split([3, 5], 1)[0],
    "flip": lambda x: x.flip(1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "slice": lambda x: x[:, :, ::2],
    "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "_scaled_dot_product_flash_attention_for_cpu": lambda x: F.scaled_dot_product_attention(x, x, x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_rule_finds_its_operation(name: str) -> None:
    found = unsupported(count(nn.Sequential(nn.Conv2d(8, 8, 1), Op(name)), torch.zeros(1, 8, 16, 16)).operations)
    assert {row["operation"] for row in found} == {name}
    assert all(layer.startswith("1") for row in found for layer in row["layers"])
    assert all(row["runtimes"] and row["reason"] and row["advice"] for row in found)


def test_every_rule_is_tried() -> None:
    assert {rule.operation for rule in RULES} == set(OPERATIONS)
    ceil = count(nn.AvgPool2d(3, 2, ceil_mode=True), torch.zeros(1, 8, 16, 16)).operations
    assert [(row["operation"], row["effect"]) for row in unsupported(ceil)] == [
        ("avg_pool2d", "cuts"),
        ("avg_pool2d", "wrong"),
    ]


@pytest.mark.parametrize("name", ["exeggute", "exeggutor", "unet", "mobilenet_unet", "lraspp", "signet", "classifier"])
def test_our_own_networks_are_taken_whole(name: str) -> None:
    assert describe(name)["unsupported"] == []
    if name == "exeggutor":
        assert describe(name, args={"block": "squeeze_excite"})["unsupported"] == []


@pytest.mark.parametrize(
    "part",
    [nn.Upsample(scale_factor=2, mode="bilinear"), nn.AvgPool2d(2), nn.AvgPool2d(3, 1, 1, count_include_pad=False),
     nn.MaxPool2d(2, ceil_mode=True), nn.Hardswish(), nn.GELU(), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.ZeroPad2d(1),
     nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.Softmax(-1)],
)  # fmt: skip
def test_what_runtimes_take_is_not_blamed(part: nn.Module) -> None:
    assert unsupported(count(part, torch.zeros(1, 8, 16, 16)).operations) == []
