"""Every network: builds, answers in the right shape, learns everywhere, fits its size, and comes back from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import handful.models
from handful.errors import DataError, UnknownName
from handful.models import backbone
from handful.models.blocks import BLOCKS, with_global_means
from handful.models.encoder import Lite
from handful.models.folder import from_folder, save_folder
from handful.models.show import card_of, counts_of, make
from handful.pick import names, pick
from tests.bounds import SEED, bound

SEGMENT: dict[str, dict[str, Any]] = {
    "exeggute": {},
    "exeggutor": {},
    "exeggutor:small": {},
    "exeggutor:people": {"frame_hw": (64, 96), "pretrained": False},
    "exeggute:lite0": {"pretrained": False},
    "exeggutor:lite0": {"pretrained": False},
    "unet": {"base": 8},
    "mobilenet_unet:half": {},
    "lraspp": {},
    "lraspp:lite0": {"pretrained": False},
    "unet:lite0": {"pretrained": False},
}
CLASSIFY: dict[str, dict[str, Any]] = {
    "signet": {},
    "signet:cascade": {},
    "signet:lite0": {"pretrained": False},
    "classifier": {"name": "timm:mobilenetv3_small_050", "frame_hw": (64, 64), "size_px": 64},
    "classifier:squeezenet": {"frame_hw": (64, 64), "size_px": 64},
    "classifier:lite0": {"frame_hw": (64, 64), "size_px": 64, "pretrained": False},
}
MINE = {*SEGMENT, *CLASSIFY}
AUXILIARIES = {"exeggute": 4, "exeggutor": 4, "exeggutor:small": 4, "exeggutor:people": 2, "exeggute:lite0": 3,
               "exeggutor:lite0": 3, "unet": 0, "mobilenet_unet:half": 4, "lraspp": 0, "lraspp:lite0": 0,
               "unet:lite0": 0, "signet": 0, "signet:cascade": 2, "signet:lite0": 0, "classifier": 0,
               "classifier:squeezenet": 0, "classifier:lite0": 0}  # fmt: skip


def network(name: str, classes: int = 3, seed: int = 0, **args: Any) -> Any:
    torch.manual_seed(seed)
    given = {"frame_hw": (64, 96), **args} if name in SEGMENT else args
    return make(name, classes, {**{**SEGMENT, **CLASSIFY}.get(name, {}), **given})


def frame(net: Any, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, *net.frame_hw, 3), generator=made, dtype=torch.uint8)


def batch(net: Any, n: int = 2) -> torch.Tensor:
    side = (net.size_px, net.size_px) if net.task == "classify" else (64, 96)
    return torch.randn(n, 3, *side, generator=torch.Generator().manual_seed(1))


def test_every_network_is_tested_and_has_a_card() -> None:
    here = {name.partition(":")[0] for name in MINE} | {"taught"}
    assert {"exeggute", "exeggutor", "unet", "mobilenet_unet", "lraspp", "signet", "classifier"} <= here
    for kind in here:
        card = card_of(kind)
        assert pick(handful.models, "net", kind).CARD is card
        assert card.task in ("segment", "classify") and card.paper and card.license and card.what
    assert here <= set(names(handful.models, "net"))


@pytest.mark.parametrize("classes", [2, 11])
@pytest.mark.parametrize("name", [*SEGMENT, *CLASSIFY])
def test_shapes(name: str, classes: int) -> None:
    net = network(name, classes)
    assert not net.training and net.input_names == ("image",) and net.output_names == ("scores",)
    with torch.no_grad():
        out = net(frame(net))
    assert out.dtype == torch.float32 and bool(out.isfinite().all())
    assert out.shape == ((1, classes, *net.frame_hw) if net.task == "segment" else (1, classes))
    assert net.task == card_of(net.kind).task


@pytest.mark.parametrize("name", [*SEGMENT, *CLASSIFY])
def test_training_gives_auxiliaries_and_reaches_every_parameter(name: str) -> None:
    net = network(name, 3).train()
    x = batch(net)
    logits = net.core(x)
    assert len(logits) == 1 + AUXILIARIES[name]
    if net.task == "segment":
        strides = [net.core.output_stride, *getattr(net.core, "auxiliary_strides", ())]
        assert [tuple(y.shape) for y in logits] == [(2, 3, 64 // s, 96 // s) for s in strides]
        assert [tuple(y.shape) for y in net.dense(x)] == [(2, 3, 64 // s, 96 // s) for s in (1, *strides[1:])]
        # a size that no stride divides: the cells that hold a pixel
        assert [tuple(y.shape) for y in net.dense(x[:, :, :61, :83])] == [
            (2, 3, -(-61 // s), -(-83 // s)) for s in (1, *strides[1:])
        ]
    else:
        assert [tuple(y.shape) for y in logits] == [(2, 3)] * len(logits)
    # the square, for a sum through batch norm has no gradient
    sum((y**2).sum() for y in logits).backward()
    trained = [(key, p) for key, p in net.named_parameters() if p.requires_grad]
    assert len(trained) > 0.7 * len(list(net.parameters()))
    dead = [key for key, p in trained if p.grad is None or not bool((p.grad != 0).any())]
    assert dead == []
    with torch.no_grad():
        assert len(net.eval().core(x)) == 1


@pytest.mark.parametrize("name", [*SEGMENT, *CLASSIFY])
def test_the_seed_decides(name: str) -> None:
    first, again, other = network(name).state_dict(), network(name).state_dict(), network(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", [*SEGMENT, *CLASSIFY])
def test_comes_back_from_its_folder(name: str, tmp_path: Path) -> None:
    net = network(name, 3, **({"resize": False} if name in ("exeggutor", "lraspp") else {}))
    with torch.no_grad():
        for part in net.modules():  # statistics other than those every new network has
            if isinstance(part, torch.nn.BatchNorm2d):
                assert part.running_mean is not None
                part.running_mean.uniform_(-0.1, 0.1)
    save_folder(
        tmp_path / "m",
        net,
        kind=net.kind,
        args=net.args,
        classes=["a", "b", "c"],
        preprocessing=net.preprocessing(),
        about={"task": net.task, "card": card_of(net.kind).to_json()},
    )
    back = from_folder(tmp_path / "m")
    assert back.frame_hw == net.frame_hw
    with torch.no_grad():
        assert torch.equal(back.network(frame(net)), net(frame(net)))


@pytest.mark.parametrize(
    ("name", "most_mb", "most_parameters"),
    [
        ("exeggutor", 5.5, None),
        ("exeggutor:lite0", 5.5, None),
        ("exeggute", 3.3, None),
        ("exeggute:lite0", 3.3, None),
        ("exeggutor:small", None, 400_000),
        ("exeggutor:people", None, 250_000),
    ],
)
def test_sizes(name: str, most_mb: float | None, most_parameters: int | None, tmp_path: Path) -> None:
    """What is promised of the file that is kept, statistics, auxiliary heads and header included."""
    net = make(name, 11, {"pretrained": False})
    nothing: dict[str, Any] = {"preprocessing": {}, "about": {}, "classes": ["x"] * 11}
    save_folder(tmp_path / "m", net, kind=net.kind, args=net.args, **nothing)
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    if most_mb is not None:
        assert 0.9 * most_mb * 1e6 < size <= most_mb * 1e6
    if most_parameters is not None:
        assert sum(p.numel() for p in net.parameters()) <= most_parameters


def test_the_people_preset_is_cheap() -> None:
    counts = counts_of(make("exeggutor:people", 2, {"pretrained": False}))
    assert counts.macs < 220e6 and counts.weight_bytes / 2 < 0.45e6 and counts.peak_activation_bytes < 9e6


@pytest.mark.parametrize("kind", ["exeggutor", "exeggute"])
def test_blocks(kind: str) -> None:
    found: dict[tuple[str, bool], list[tuple[int, ...]]] = {}
    sizes = {}
    for block in BLOCKS:
        for separable in (True, False):
            net = network(kind, width=0.25, block=block, separable=separable).train()
            sum((y**2).sum() for y in net.core(batch(net))).backward()
            assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters()), (block, separable)
            found[block, separable] = [tuple(p.shape) for p in net.parameters()]
            sizes[block, separable] = sum(p.numel() for p in net.parameters())
            separate = any(getattr(m, "groups", 1) > 1 for m in net.modules())
            assert separate == separable, (block, separable)
    assert len({str(shapes) for shapes in found.values()}) == len(found)
    # 1x9 and 9x1 weigh what 3x3 weighs; all others differ
    assert len(set(sizes.values())) == len(sizes) - 2
    tall = {m.kernel_size for m in network(kind, block="factorised").modules() if isinstance(m, torch.nn.Conv2d)}
    assert {(1, 9), (9, 1)} <= tall


@pytest.mark.parametrize("name", ["exeggutor", "exeggute", "exeggutor:lite0"])
def test_the_image_is_fed_again_at_every_scale(name: str) -> None:
    """The maps made of the image alone change the answer, each scale's by itself; with refeed=0 there are none."""
    net = network(name)
    core = net.core
    refeed = core.refeed if core.refeed is not None and name.endswith("lite0") else core.encoder.refeed
    assert refeed.strides == ((2, 4, 8, 16) if name.endswith("lite0") else (2, 4, 8, 16, 32))
    with torch.no_grad():
        before = net(frame(net))
        for i, stride in enumerate(refeed.strides):
            seen: list[torch.Tensor] = []
            hook = refeed.convs[i].register_forward_hook(
                lambda m, given, out, seen=seen: seen.append(given[0]) or out + 1
            )
            after = net(frame(net))
            hook.remove()
            assert not torch.equal(before, after), stride
            small = torch.nn.functional.avg_pool2d(net.normalize(frame(net).permute(0, 3, 1, 2).float()), stride)
            assert torch.allclose(seen[0], small, atol=1e-5)
    assert len(network(name, refeed=0).state_dict()) < len(net.state_dict())


def test_global_means_are_the_same_sums() -> None:
    head = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1)))
    x = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        before = head(x)
        assert torch.allclose(with_global_means(head)(x), before, atol=1e-6)
    assert not any(isinstance(m, torch.nn.AdaptiveAvgPool2d) for m in head.modules())


def test_first_stride_and_output_stride() -> None:
    full = network("exeggutor", width=0.25, first_stride=1, output_stride=1, resize=False)
    quarter = network("exeggutor", width=0.25, output_stride=4, resize=False)
    with torch.no_grad():
        assert full(frame(full)).shape == (1, 3, 64, 96)
        assert quarter(frame(quarter)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("name", ["exeggutor:small", "exeggute:lite0", "unet", "lraspp"])
def test_odd_frames_are_padded_inside_and_cropped(name: str) -> None:
    odd = network(name, frame_hw=(97, 131))
    stride = odd.core.stride
    assert odd.padded_px == (-97 % stride, -131 % stride) and odd.preprocessing()["padded_px"] == list(odd.padded_px)
    whole = network(name, frame_hw=(97 + odd.padded_px[0], 131 + odd.padded_px[1]))
    assert whole.padded_px == (0, 0)
    image = frame(odd)
    # the frame with the mean color below and to the right, as an image of its own: the same scores, pixel for pixel
    grey = torch.tensor(odd.mean) * 255
    x = torch.empty((1, 3, *whole.frame_hw))
    x[:] = grey.reshape(1, 3, 1, 1)
    x[:, :, :97, :131] = image.permute(0, 3, 1, 2)
    with torch.no_grad():
        padded = whole.dense(whole.normalize(x))[0][:, :, :97, :131]
        out = odd(image)
    assert out.shape == (1, 3, 97, 131)
    assert torch.allclose(out, padded, atol=1e-4)
    cells = network(name, frame_hw=(97, 131), resize=False)
    own = cells.core.output_stride
    with torch.no_grad():
        assert cells(image).shape == (1, 3, -(-97 // own), -(-131 // own))


def test_scores_lie_over_their_pixels() -> None:
    """Moving the frame by the stride moves the scores by as much, far from the borders."""
    net = network("exeggutor", 2, width=0.25, frame_hw=(480, 480), refeed=4, first_stride=2)
    image = frame(net)
    moved = torch.roll(image, (32, 64), dims=(1, 2))
    with torch.no_grad():
        still, there = net(image), torch.roll(net(moved), (-32, -64), dims=(2, 3))
    inside = slice(208, 240)
    error = (still - there)[:, :, inside, inside].abs().max() / still[:, :, inside, inside].std()
    assert error < 0.05
    wrong = torch.roll(there, 3, dims=3)
    assert (still - wrong)[:, :, inside, inside].abs().max() / still[:, :, inside, inside].std() > 1


def test_blocks_left_off_the_last_stage() -> None:
    whole, less = Lite("lite0", pretrained=True), Lite("lite0", pretrained=True, less=1)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        all_of_it, most = whole.eval()(x), less.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(all_of_it[:3], most[:3], strict=True))
    assert most[3].shape == all_of_it[3].shape and not torch.equal(most[3], all_of_it[3])
    assert set(less.state_dict()) < set(whole.state_dict())
    assert 160_000 < sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in less.parameters()) < 175_000
    # whole stages go too, down to the one block that halves; what is left is what the whole one has there
    for gone, channels in ((2, 112), (3, 80), (4, 80), (5, 80)):
        short = Lite("lite0", pretrained=True, less=gone).eval()
        assert short.channels == (16, 24, 40, channels)
        seen: list[torch.Tensor] = []
        left = [part for stage in whole.blocks for part in stage][: 13 - gone - 2]
        hook = left[-1].register_forward_hook(lambda m, given, out, seen=seen: seen.append(out))
        with torch.no_grad():
            whole(x)
            found = short(x)
        hook.remove()
        assert torch.equal(found[3], seen[0]) and found[3].shape == (1, channels, 4, 4)
    for wrong, stride, most_of in ((6, 16, 5), (-1, 16, 5), (True, 16, 5), (2, 8, 1), (5, 32, 4)):
        with pytest.raises(DataError, match=f"less must be 0 to {most_of} blocks of lite0 cut at stride {stride}"):
            Lite("lite0", pretrained=False, last_stride=stride, less=wrong)


def test_a_lite_classifier_has_imagenets_features_and_a_last_layer_of_its_own() -> None:
    net = make("classifier:lite0", 5)
    assert net.size_px == 224 and net.mean == backbone.build("lite0").card.mean
    theirs = backbone.imagenet_classifier("lite0").state_dict()
    ours = {key.removeprefix("core.network."): value for key, value in net.state_dict().items()}
    own = {key for key in theirs if not key.startswith("classifier")}
    assert len(own) > 200 and all(torch.equal(ours[key], theirs[key]) for key in own)
    assert ours["classifier.weight"].shape == (5, 1280)


def test_a_pretrained_encoder_gives_the_backbones_own_features() -> None:
    theirs = backbone.build("lite0")
    ours = Lite("lite0", pretrained=True)
    x = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    seen: dict[int, torch.Tensor] = {}
    stages: Any = theirs.network.blocks
    for i in ours.taken:
        stages[i].register_forward_hook(lambda m, given, out, i=i: seen.update({i: out}))
    with torch.no_grad():
        theirs(x)
        found = ours.eval()(x)
        core = make("exeggutor:lite0", 3, {"frame_hw": (96, 128)}).core
        in_net = core.encoder(x)
    assert [tuple(y.shape[1:]) for y in found] == [(16, 48, 64), (24, 24, 32), (40, 12, 16), (112, 6, 8)]
    for i, y, z in zip(ours.taken, found, in_net, strict=True):
        assert torch.equal(y, seen[i]) and torch.equal(z, seen[i])
    assert ours.mean == theirs.card.mean and ours.std == theirs.card.std
    assert tuple(c for c in ours.channels) == (16, 24, 40, 112)


@pytest.mark.parametrize(
    ("name", "args"), [("exeggute", {}), ("exeggutor", {"width": 0.375, "refeed": 4, "output_stride": 4})]
)
def test_learns_discs(name: str, args: dict[str, Any]) -> None:
    """Thirty steps on four images of two kinds of discs in noise: the loss falls to less than a third."""
    made = torch.Generator().manual_seed(SEED)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    y = torch.zeros(4, 64, 96, dtype=torch.long)
    for i in range(4):
        for kind in (1, 2):
            at = torch.randint(16, 48, (2,), generator=made)
            y[i][(rows - at[0]) ** 2 + (columns - at[1] * 2 + 16) ** 2 < 12**2] = kind
    x = torch.nn.functional.one_hot(y, 3).permute(0, 3, 1, 2) * 1.2 + torch.randn(4, 3, 64, 96, generator=made) / 2
    net = network(name, seed=SEED, **args).train()
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        found = [
            torch.nn.functional.cross_entropy(logits, y[:, s // 2 :: s, s // 2 :: s])
            for logits in net.dense(x)
            for s in [64 // logits.shape[2]]
        ]
        losses.append(float(found[0].detach()))
        optimiser.zero_grad()
        torch.stack(found).sum().backward()
        optimiser.step()
    bound("networks: last loss of the first, discs", losses[-1] / losses[0], at_most=1 / 3)


def test_init() -> None:
    he = network("exeggute", init="he").core.encoder.stages[4][1][0].weight.detach()
    assert float(he.std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.03)
    deep = network("exeggutor", init="he").core.encoder.stages[4][1]
    assert float(deep[0].weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.05)
    assert float(deep[3].weight.detach().std()) == pytest.approx((2 / 528) ** 0.5, rel=0.02)
    assert (
        len({float(network("exeggute", init=i).core.head.weight.detach().std()) for i in ("he", "xavier", "default")})
        == 3
    )


@pytest.mark.parametrize(
    ("name", "args", "error", "words"),
    [
        ("exegutor", {}, UnknownName, "did you mean 'exeggutor'"),
        ("exeggutor:peeple", {}, UnknownName, "did you mean 'people'"),
        ("exeggutor", {"widht": 0.5}, UnknownName, "did you mean 'width'"),
        ("exeggutor", {"block": "residal"}, UnknownName, "did you mean 'residual'"),
        ("exeggutor", {"init": "hee"}, UnknownName, "did you mean 'he'"),
        ("exeggutor", {"encoder": "lite3"}, UnknownName, "did you mean 'lite"),
        ("exeggutor", {"encoder": "lite0", "pretrained": False, "first_stride": 1}, DataError, "first_stride"),
        ("exeggutor", {"width": 0.0}, DataError, "width must be"),
        ("exeggutor", {"width": "wide"}, DataError, "width of exeggutor must be a number"),
        ("exeggutor", {"resize": "yes"}, DataError, "true or false"),
        ("exeggutor", {"refeed": -1}, DataError, "refeed"),
        ("exeggutor", {"output_stride": 3}, DataError, r"one of \(2, 4, 8, 16\)"),
        ("exeggutor", {"first_stride": 4}, DataError, "first_stride must be 1 or 2"),
        ("exeggutor", {"frame_hw": (16, 96)}, DataError, "at least 32"),
        ("exeggutor", {"frame_hw": 96}, DataError, "height, width"),
        ("exeggute", {"weights": Path("x")}, DataError, "takes no weights"),
        ("unet", {"base": 0}, DataError, "base must be"),
        ("lraspp", {"pretrained": True}, DataError, "no package brings"),
        ("lraspp", {"weights": Path("absent.safetensors")}, DataError, "absent.safetensors is missing"),
        ("mobilenet_unet", {"encoder": "timm:mobilenetv2_10"}, UnknownName, "did you mean 'mobilenetv2_1"),
        ("mobilenet_unet", {"encoder": "timm:vit_tiny_patch16_224"}, DataError, "encoder with strides|has strides"),
        ("classifier", {"name": "timm:resnet19"}, UnknownName, "did you mean"),
        ("classifier", {"name": "torchvision:resnet19"}, UnknownName, "did you mean"),
        ("classifier", {"name": "resnet18"}, UnknownName, "timm:NAME"),
        ("signet", {"exits": 3}, DataError, "exits must be"),
        ("signet", {"act": "glue"}, UnknownName, "gelu"),
        ("signet", {"encoder": "lite9"}, UnknownName, "lite0"),
        ("signet", {"size_px": 64}, DataError, "size_px=64 is not for encoder='scratch'"),
        ("signet:lite0", {"width": 2.0}, DataError, "width=2.0 is not for encoder='lite0'"),
        ("taught", {"backbone": "lite0"}, DataError, "taught needs frame_hw, rank"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, args: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make(name, 3, args)


@pytest.mark.parametrize("name", [*SEGMENT, *CLASSIFY])
def test_one_class_is_too_few(name: str) -> None:
    with pytest.raises(DataError, match="at least two classes"):
        network(name, 1)
