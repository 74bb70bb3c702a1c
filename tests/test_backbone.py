"""The backbones are the real ones: proven by what they call real photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handful.data.sample_images import sample_photo
from handful.errors import DataError, UnknownName
from handful.files import write_tensors
from handful.image import fit
from handful.models import backbone

# what ImageNet's thousand classes call these photographs; any of the names will do, among the first two answers
CALLED = {
    "cat": ("tiger cat", "Egyptian cat", "tabby"),
    "coffee": ("espresso", "cup", "coffee mug"),
    "rocket": ("missile", "projectile", "space shuttle"),
    "building": ("palace", "bell cote", "monastery", "stupa"),
    "flower": ("daisy", "bee"),
    "motorcycle": ("moped", "motor scooter"),
}


def first_two(name: str, photo: str, *, faulty: bool = False) -> list[str]:
    from timm.data import ImageNetInfo

    model = backbone.imagenet_classifier(name)
    side = backbone.LITE[name].trained_px
    rgb = sample_photo(photo).rgb_u8
    h, w = rgb.shape[:2]
    edge = int(min(h, w) * 0.95)
    top, left = (h - edge) // 2, (w - edge) // 2
    x = fit(rgb[top : top + edge, left : left + edge], (side, side)).astype(np.float32)
    x = (x - 127) / 128
    if faulty:
        x = x / 128  # as if the photo had been scaled twice
    with torch.inference_mode():
        scores = model(torch.from_numpy(x).permute(2, 0, 1)[None])[0]
    return [ImageNetInfo().index_to_description(int(i)).split(",")[0] for i in scores.topk(2).indices]


@pytest.mark.parametrize("name", backbone.LITE)
def test_real_photographs_get_their_names(name: str) -> None:
    right = {photo: bool(set(first_two(name, photo)) & set(words)) for photo, words in CALLED.items()}
    assert sum(right.values()) >= 5, right


def test_the_check_fails_on_wrong_preprocessing() -> None:
    right = [bool(set(first_two("lite0", photo, faulty=True)) & set(words)) for photo, words in CALLED.items()]
    assert sum(right) < 5


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'lite2'"):
        backbone.build("lite22")
    with pytest.raises(UnknownName, match="did you mean"):
        backbone.build("timm:mobilenetv3_large_10")


def test_a_timm_network_with_its_weights_from_a_file(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    there = timm.create_model("mobilenetv3_small_050", num_classes=0)
    path = tmp_path / "w.safetensors"
    write_tensors(path, {k: v.numpy() for k, v in there.state_dict().items()})
    here = backbone.build("timm:mobilenetv3_small_050", weights=path)
    x = torch.randn(1, 3, here.card.size_px, here.card.size_px)
    with torch.inference_mode():
        assert torch.equal(here(x), there.eval()(x))
    assert here(x).shape == (1, here.card.dim)
    write_tensors(path, {"a": np.zeros(1)})
    with pytest.raises(DataError, match="lacks"):
        backbone.build("timm:mobilenetv3_small_050", weights=path)


def test_other_weights_than_those_measured_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setitem(backbone.LITE, "lite0", replace(backbone.LITE["lite0"], sha256="0" * 64))
    with pytest.raises(DataError, match="not the file that was measured"):
        backbone.build("lite0")
