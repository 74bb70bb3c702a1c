"""`handful models flow`: the measure against networks small enough to work out by hand, and every network of ours."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PIL_Image
from torch import nn

from handful.errors import DataError
from handful.models.flow import flow, trace
from handful.models.flow_picture import draw
from handful.models.show import make
from tests.test_cli import handful

PHOTO = np.random.default_rng(0).integers(1, 256, (64, 64, 3), dtype=np.uint8)


class Two(nn.Module):
    """image -> left, right -> both meet in a concatenation -> head: every weight is known."""

    def __init__(self, skip: float = 1.0) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 1, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)
        self.head = nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            self.left.weight.copy_(torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1))
            self.right.weight.copy_(torch.tensor([0.0, 2, 0]).reshape(1, 3, 1, 1))
            self.head.weight.copy_(torch.tensor([[3.0, skip], [0, 0]]).reshape(2, 2, 1, 1))
            self.head.bias.copy_(torch.tensor([1e6, 0.0]))  # the first class wins everywhere

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float()
        out: torch.Tensor = self.head(torch.cat([self.left(x), self.right(x)], dim=1))
        return out


def shares(told: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(edge["from"], edge["to"]): edge["importance"] for edge in told["edges"]}


@pytest.mark.parametrize("skip", [1.0, 2.0, -2.0, 0.0])
def test_the_measure_by_hand(skip: float) -> None:
    found = shares(flow(Two(skip), PHOTO))
    red, green = (float(PHOTO[..., i].astype(np.float64).sum()) for i in (0, 1))
    left, right = 3 * red, abs(skip) * 2 * green
    assert found["left", "head"] == pytest.approx(left / (left + right), rel=1e-5)
    assert found["right", "head"] == pytest.approx(right / (left + right), rel=1e-5, abs=0)
    assert found["image", "right"] == found["right", "head"] and found["head", "answer"] == 1


class Added(Two):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).float()
        y = self.left(x)
        y += self.right(x)
        return torch.cat([y, y * 0], dim=1)


def test_a_sum_written_over_its_input_by_hand() -> None:
    found = shares(flow(Added(), PHOTO))
    red, green = (float(PHOTO[..., i].astype(np.float64).sum()) for i in (0, 1))
    assert found["right", "answer"] == pytest.approx(2 * green / (red + 2 * green), rel=1e-5)


def test_a_silenced_skip_carries_nothing_and_the_rest_stays_whole() -> None:
    torch.manual_seed(0)
    network = make("unet", 3, {"frame_hw": [32, 32], "base": 4, "scales": 3})
    before = shares(flow(network, PHOTO))
    assert before["encoder /2", "decoder /2"] > 0
    with torch.no_grad():
        network.core.decoder.stages[1][0][0].weight[:, 8:] = 0  # what the features of stride 2 are weighed with
    after = shares(flow(network, PHOTO))
    assert after["encoder /2", "decoder /2"] == 0 and after["bottom /4", "decoder /2"] > 0
    assert after["encoder /2", "bottom /4"] == pytest.approx(after["bottom /4", "decoder /2"])


NETS: list[tuple[str, dict[str, Any]]] = [
    ("exeggute", {}), ("exeggute:lite0", {}), ("exeggutor:small", {}), ("unet", {}), ("mobilenet_unet", {}),
    ("lraspp", {}), ("signet", {}), ("classifier:mobilenet", {"size_px": 64}), ("classifier:resnet", {"size_px": 64}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), NETS)
def test_every_network_is_followed_from_image_to_answer(name: str, args: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = make(name, 5, {"pretrained": False, "frame_hw": [64, 64], **args}).train()
    told = flow(network, PHOTO)
    assert network.training and all(w.grad is None for w in network.parameters())
    assert told == flow(network, PHOTO) and json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["schema_version"] == 1 and "gradient" in told["measure"] and told["trained"] is False
    into: dict[str, float] = defaultdict(float)
    out: dict[str, float] = defaultdict(float)
    local: dict[str, float] = defaultdict(float)
    for edge in told["edges"]:
        into[edge["to"]] += edge["importance"]
        out[edge["from"]] += edge["importance"]
        local[edge["to"]] += edge["share"]
        assert edge["channels"] > 0
    names = [node["name"] for node in told["nodes"]]
    assert len(set(names)) == len(names) >= 7 and names[0] == "image" and names[-1] == "answer"
    assert out["image"] == pytest.approx(1) and into["answer"] == pytest.approx(1)
    for node in told["nodes"][1:-1]:
        assert into[node["name"]] == pytest.approx(out[node["name"]]) == pytest.approx(node["importance"])
        assert local[node["name"]] == pytest.approx(1) and node["parameters"] > 0
    again = {node["name"] for node in told["nodes"] if node["kind"] == "again"}
    assert bool(again) == name.startswith("exegg")


def test_picture(tmp_path: Path) -> None:
    for name in ("exeggutor:small", "signet"):
        network = make(name, 5, {"pretrained": False, "frame_hw": [64, 64]})
        draw(trace(network, PHOTO, name=name), tmp_path / "flow.png")
        with PIL_Image.open(tmp_path / "flow.png") as picture:
            picture.load()
            assert picture.width >= 900 and picture.height >= 300
            assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 200
        assert [file.name for file in tmp_path.iterdir()] == ["flow.png"]


class Hides(Two):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(super().forward(image).detach().numpy().copy())


def test_what_cannot_be_followed_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be followed back"):
        trace(Hides(), PHOTO)
    with pytest.raises(DataError, match=r"must be uint8 \(h, w, 3\)"):
        trace(Two(), PHOTO.astype(np.float32))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PIL_Image.fromarray(PHOTO).save("photo.png")
    code, out, _ = handful(capsys, "models", "flow", "signet:wide", "photo.png", "--json")
    told = json.loads(out)
    assert code == 0 and told["picture"] == "signet-wide-flow.png" and Path(told["picture"]).stat().st_size > 10_000
    code, out, _ = handful(capsys, "models", "flow", "signet", "photo.png", "--out", "a.png")
    assert code == 0 and "RANDOM weights" in out and "picture: a.png" in out and Path("a.png").exists()


@pytest.mark.parametrize(
    ("model", "image", "words"),
    [
        ("signet", "none.png", "none.png does not exist"),
        ("sigent", "photo.png", "did you mean 'signet'"),
        ("signet:wid", "photo.png", "did you mean 'wide'"),
        ("./none", "photo.png", "did you mean"),
        (".", "photo.png", "wanted a model folder"),
    ],
)
def test_command_errors(
    model: str, image: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    PIL_Image.fromarray(PHOTO).save("photo.png")
    if model == "./none":
        words = "some/none does not exist"
        model = "some/none"
    code, out, err = handful(capsys, "models", "flow", model, image)
    assert code == 2 and words in err and out == "" and "Traceback" not in err
    assert not list(tmp_path.glob("*-flow.png"))
