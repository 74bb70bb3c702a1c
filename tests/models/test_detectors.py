"""Faster and Mask R-CNN: what comes out, that every weight learns, what is counted, and back from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from handful.errors import DataError, UnknownName
from handful.models.detector import BoxPredictor, MaskPredictor
from handful.models.folder import from_folder, save_folder
from handful.models.show import card_of, counts_of, describe, listing, make

NETS = ("faster_rcnn", "mask_rcnn")
TINY: dict[str, Any] = {"pretrained": False, "channels": 16, "hidden": 24, "proposals": 30, "detections": 12,
                        "least_score": 0.0, "frame_hw": (64, 96)}  # fmt: skip


def network(name: str, classes: int = 3, seed: int = 0, **args: Any) -> Any:
    torch.manual_seed(seed)
    return make(name, classes, {**TINY, **args})


def frame(net: Any) -> torch.Tensor:
    made = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, *net.frame_hw, 3), generator=made, dtype=torch.uint8)


def targets(hw: tuple[int, int] = (64, 96), masks: bool = True) -> list[dict[str, torch.Tensor]]:
    layer = torch.zeros(2, *hw, dtype=torch.uint8)
    layer[0, 10:50, 8:40] = layer[1, 20:60, 50:80] = 1
    one = {"boxes": torch.tensor([[8.0, 10, 40, 50], [50, 20, 80, 60]]), "labels": torch.tensor([0, 2])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    return [{**one, "masks": layer}, {**none, "masks": layer[:0]}] if masks else [one, none]


@pytest.mark.parametrize("frame_hw", [(64, 96), (65, 97)])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_what_comes_out(name: str, classes: int, frame_hw: tuple[int, int]) -> None:
    net = network(name, classes, frame_hw=frame_hw)
    with torch.no_grad():
        boxes, scores, labels, *masks = net(frame(net))
    n = len(boxes)
    assert 0 < n <= 12 and boxes.shape == (n, 4) and scores.shape == labels.shape == (n,)
    assert boxes.dtype == scores.dtype == torch.float32 and labels.dtype == torch.int64
    height, width = frame_hw
    assert bool((boxes[:, 2:] > boxes[:, :2]).all()) and bool((boxes >= 0).all())
    assert bool((boxes <= torch.tensor([width, height, width, height])).all())
    assert bool((labels >= 0).all()) and bool((labels < classes).all()) and bool((scores.diff() <= 0).all())
    assert net.task == card_of(name).task and not net.training and net.padded_px == (-height % 32, -width % 32)
    assert len(net.output_names) == 3 + len(masks) and len(masks) == (name == "mask_rcnn")
    for mask in masks:
        assert mask.shape == (n, *frame_hw) and mask.dtype == torch.float32
        assert bool((mask >= 0).all()) and bool((mask <= 1).all())
        for own, box in zip(mask, boxes, strict=True):  # nothing of a thing lies outside its box, but for rounding
            y, x = torch.nonzero(own > 0.5, as_tuple=True)
            if len(x):
                assert x.min() >= box[0] - 3 and x.max() <= box[2] + 3 and y.min() >= box[1] - 3
    none = network(name, classes, frame_hw=frame_hw, least_score=0.999)
    with torch.no_grad():
        assert [len(one) for one in none(frame(net))] == [0] * len(net.output_names)


@pytest.mark.parametrize("name", NETS)
def test_every_weight_learns(name: str) -> None:
    net = network(name).train()
    rgb = torch.rand(2, 3, 64, 96) * 255
    losses = net.losses(rgb, targets())
    parts = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert set(losses) == parts | ({"loss_mask"} if name == "mask_rcnn" else set())
    if name == "mask_rcnn":  # every pixel begins as a perhaps
        assert float(losses["loss_mask"].detach()) == pytest.approx(0.693, abs=0.02)
    torch.stack(list(losses.values())).sum().backward()
    dead = [key for key, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # no thing is of class 1, but score and background see all; the pyramid's coarsest map may hold no thing here
    assert [key for key in dead if "backbone.fpn" not in key] == []
    given = targets()
    before = [one["labels"].clone() for one in given]
    net.losses(rgb, given)
    assert all(torch.equal(a, one["labels"]) for a, one in zip(before, given, strict=True))


def test_boxes_are_as_exact_in_bfloat16() -> None:
    net = network("mask_rcnn").train()
    torch.manual_seed(1)
    rgb = torch.rand(2, 3, 64, 96) * 255
    with torch.autocast("cpu", torch.bfloat16):
        losses = net.losses(rgb, targets())
    assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in losses.values())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert net.eval()(frame(net))[0].dtype == torch.float32


def test_the_predictors_are_torchvisions_with_rows_by_class() -> None:
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

    torch.manual_seed(0)
    ours, theirs = BoxPredictor(8, 3), FastRCNNPredictor(8, 4)
    with torch.no_grad():
        theirs.cls_score.weight.copy_(torch.cat([ours.background.weight, ours.score.weight]))
        theirs.cls_score.bias.copy_(torch.cat([ours.background.bias, ours.score.bias]))
        for i, layer in enumerate(ours.delta):
            theirs.bbox_pred.weight[4 + i :: 4] = layer.weight
            theirs.bbox_pred.bias[4 + i :: 4] = layer.bias
        x = torch.randn(5, 8)
        logits, deltas = ours(x)
        wanted, all_deltas = theirs(x)
        assert torch.allclose(logits, wanted, atol=1e-6) and deltas.shape == all_deltas.shape == (5, 16)
        assert torch.allclose(deltas[:, 4:], all_deltas[:, 4:], atol=1e-6) and not bool(deltas[:, :4].any())
        masks = MaskPredictor(8, 3)(torch.randn(2, 8, 14, 14))
        assert masks.shape == (2, 4, 28, 28) and not bool(masks[:, 0].any()) and bool(masks[:, 1:].any())


@pytest.mark.parametrize("name", NETS)
def test_what_is_counted_is_the_most(name: str) -> None:
    net = network(name)
    counts = counts_of(net)
    assert counts.training_only == 0 and counts.parameters == sum(p.numel() for p in net.parameters())
    assert counts.output_shapes[:3] == [(12, 4), (12,), (12,)]
    more = counts_of(network(name, proposals=31)).macs - counts.macs
    assert more == 16 * 49 * 24 + 24 * 24 + 24 * (1 + 3 + 4 * 3)
    answer = counts_of(network(name, detections=13)).macs - counts.macs
    assert answer == (4 * 196 * 9 * 16 * 16 + 196 * 16 * 16 * 4 + 784 * 16 * 3 if name == "mask_rcnn" else 0)


@pytest.mark.parametrize("name", NETS)
def test_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    net = network(name)
    save_folder(tmp_path / "m", net, kind=net.kind, args=net.args, classes=["a", "b", "c"],
                preprocessing=net.preprocessing(), about={"task": net.task})  # fmt: skip
    again = from_folder(tmp_path / "m").network
    with torch.no_grad():
        for one, other in zip(net(frame(net)), again(frame(net)), strict=True):
            assert torch.equal(one, other)


def test_the_list_and_what_phones_do_not_take() -> None:
    rows = {row["net"]: row for row in listing()}
    for name in NETS:
        assert rows[name]["params"] > 1e6 and rows[name]["macs"] > 1e8 and rows[name]["class_count"] == 80
        assert "nms" in {row["operation"] for row in describe(name, 3, TINY)["unsupported"]}
        assert "frame may have" in card_of(name).what


@pytest.mark.parametrize(
    ("args", "said"),
    [({"backbone": "lite9"}, "no encoder named 'lite9'"), ({"finest": 5}, "finest is"), ({"anchor": 0.1}, "anchor is"),
     ({"proposals": 0}, "proposals must be"), ({"least_score": 1.0}, "least_score is"), ({"overlap": -1.0}, "overlap"),
     ({"frame_hw": (8, 8)}, "frame_hw must be"), ({"chanels": 3}, "did you mean 'channels'")],
)  # fmt: skip
def test_wrong_arguments(args: dict[str, Any], said: str) -> None:
    with pytest.raises((DataError, UnknownName), match=said):
        network("faster_rcnn", 2, **args)
    with pytest.raises(DataError, match="one class or more"):
        network("mask_rcnn", 0)


def test_another_encoder_and_finer_maps() -> None:
    net = network("faster_rcnn", 2, backbone="timm:mobilenetv3_small_050", finest=4)
    with torch.no_grad():
        assert len(net(frame(net))) == 3
    assert net.core.backbone.strides == (4, 8, 16, 32, 64)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")  # deprecated, and still what converters use
def test_a_compiler_is_told_why_not() -> None:
    net = network("faster_rcnn", 2)
    with pytest.raises(DataError, match="number of boxes depends on the photo"):
        torch.jit.trace(net, (frame(net),))
    with pytest.raises(Exception, match="number of boxes depends on the photo"):
        torch.export.export(net, (frame(net),))
