"""Objectness: what comes out, which point learns which thing, that every weight learns, and a training to the end."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from handful.errors import DataError
from handful.models import net_objectness as net
from handful.models.show import describe
from tests.bounds import SEED, bound


def network(seed: int = 0, **args: Any) -> Any:
    torch.manual_seed(seed)
    return net.build(frame_hw=(128, 128), pretrained=False, channels=16, hidden=24, proposals=40, detections=20, **args)


def target(*boxes: list[float]) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.zeros(len(boxes), dtype=torch.int64)}


def test_what_comes_out() -> None:
    made = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        boxes, scores, labels = network()(torch.randint(0, 256, (1, 128, 128, 3), generator=made, dtype=torch.uint8))
    n = len(boxes)
    assert 0 < n <= 20 and boxes.shape == (n, 4) and not labels.any() and labels.dtype == torch.int64
    assert bool((boxes >= 0).all()) and bool((boxes <= 128).all()) and bool((boxes[:, 2:] > boxes[:, :2]).all())
    assert bool((scores.diff() <= 0).all()) and float(scores.min()) >= 0 and float(scores.max()) <= 1
    over = net.overlap(boxes, boxes)
    assert float((over - torch.eye(n)).max()) <= net.ALIKE + 1e-5


def test_points_of_a_grid() -> None:
    assert net.points(2, 3, 8, torch.device("cpu")).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_each_thing_is_learned_where_its_size_fits_and_the_smaller_of_two_wins() -> None:
    spots = [net.points(128 // s, 128 // s, s, torch.device("cpu")) for s in (8, 16, 32, 64)]
    stride = torch.cat([p.new_full((len(p),), float(s)) for p, s in zip(spots, (8, 16, 32, 64), strict=True)])
    spot = torch.cat(spots)
    small, large, thin = [40.0, 40, 64, 64], [0.0, 0, 120, 120], [100.0, 3, 101, 90]
    which = net.assigned(spot, stride, torch.tensor([small, large, thin]))
    on = {k: set(stride[which == k].tolist()) for k in range(3)}
    assert on[0] == {8.0} and on[1] == {32.0}  # 24 px are 3 strides of 8, 120 px 3.8 of 32 and 1.9 of 64
    assert bool(net.within(spot, torch.tensor([small]))[which == 0, 0].all())
    assert int((which == 2).sum()) == 1  # between two columns of points: the nearest learns it
    both = net.assigned(spot, stride, torch.tensor([small, [30.0, 30, 74, 74]]))
    inside = (spot[:, 0] > 48) & (spot[:, 0] < 56) & (spot[:, 1] > 48) & (spot[:, 1] < 56) & (stride == 8)
    assert bool((both[inside] == 0).all()) and bool(inside.any())
    assert bool((net.assigned(spot, stride, torch.zeros(0, 4)) == -1).all())


def test_where_to_look_closer() -> None:
    label = net.focus_target(torch.tensor([[0.0, 0, 32, 16], [64, 64, 67, 67], [0, 48, 80, 128], [0, 0, 2, 2]]), (8, 8))
    assert label[0, :2].tolist() == [1, 1] and label[0, 2] == 0  # a tiny thing inside a small one does not matter
    assert label[4, 4] == -1 and label[5, 1] == -1  # too small to see, and nearly large
    large = net.focus_target(torch.tensor([[0.0, 0, 128, 128]]), (8, 8))
    assert not large.any()


def test_moved_boxes_have_a_width() -> None:
    box = torch.tensor([[10.0, 10, 30, 50]])
    assert net.moved(box, torch.tensor([[0.1, 0.0, 0.5, -0.25]])).tolist() == [[12, 10, 40, 40]]
    crossed = net.moved(box, torch.tensor([[2.0, 0, -2, 0]]))
    assert float(crossed[0, 2] - crossed[0, 0]) > 0


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_every_weight_learns_and_background_counts_only_when_asked(background: float) -> None:
    model = network(background=background).train()
    rgb = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 255
    losses = model.losses(rgb, [target([10, 10, 60, 90], [70, 70, 100, 100]), target()])
    assert all(math.isfinite(float(v.detach())) for v in losses.values())
    assert set(losses) == {"quality", "sides", "focus", "again", "better"}
    sum(losses.values()).backward()
    still = [k for k, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not [k for k in still if "encoder" not in k], still
    model.zero_grad()
    empty = model.losses(rgb, [target(), target()])
    told = float(empty["quality"].detach()) + float(empty["again"].detach())
    assert told > 0 if background else told == 0


def test_it_learns_a_white_square() -> None:
    torch.manual_seed(SEED)
    model = net.build(frame_hw=(128, 128), pretrained=True, channels=24, hidden=32, proposals=50, detections=20)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    made = torch.Generator().manual_seed(SEED)
    model.train()

    def photo() -> tuple[torch.Tensor, list[float]]:
        x, y, w, h = (int(v) for v in torch.randint(20, 60, (4,), generator=made))
        rgb = torch.rand(3, 128, 128, generator=made) * 60
        rgb[:, y : y + h, x : x + w] += 180
        return rgb, [float(x), float(y), float(x + w), float(y + h)]

    for _ in range(80):
        rgb, boxes = zip(*(photo() for _ in range(4)), strict=True)
        optimizer.zero_grad()
        sum(model.losses(torch.stack(rgb), [target(b) for b in boxes]).values()).backward()
        optimizer.step()
    model.eval()
    best = []
    for _ in range(10):
        rgb, box = photo()
        with torch.inference_mode():
            found = model(rgb.permute(1, 2, 0)[None].round().to(torch.uint8))[0]
        best.append(float(net.overlap(found[:5], torch.tensor([box])).max()))
    bound("objectness: IoU of a white square", sum(best) / len(best), at_least=0.6)


def test_what_is_refused() -> None:
    for wrong, said in (
        ({"classes": 3}, "has one class, a thing; got 3"),
        ({"frame_hw": (100, 128)}, "multiples of 64 px"),
        ({"background": -1.0}, "background is -1.0"),
        ({"channels": 0}, "channels must be"),
    ):
        with pytest.raises(DataError, match=said):
            net.build(**{"pretrained": False, **wrong})


def test_what_it_costs_is_counted() -> None:
    told = describe("objectness")
    assert told["params"] <= 5_000_000 and told["macs"] > 1e8
