"""What the loaders and the measures propose about labels that do not fit, followed; nothing is trained here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from handful.data import formats
from handful.training import distributed, loader_detect, loader_segment
from handful.types import Mask
from tests.conftest import save
from tests.cures.desk import Desk, cures
from tests.kinds.worlds import World
from tests.training import test_detect
from tests.training.made import NAMES, SIZE_HW, small

Models = Callable[[str], World]
CLASSES = tuple(NAMES.values())


@cures("training.evaluate_segment:measured check")
def test_masks_that_are_not_those_of_the_model(desk: Desk, model_of: Models) -> None:
    model, mask = model_of("segmenter").model, desk.at("set/masks/val/0.png")
    root = small(desk.at("set"), {"val": 1})
    right = mask.read_bytes()
    save(np.full(SIZE_HW, 255, np.uint8), mask)
    desk.no("evaluate", model, root)
    mask.write_bytes(right)
    assert "box" in desk.yes("evaluate", model, root)


@cures("training.loader_segment:gather check", "training.loader_segment:read make",
       "training.loader_segment:_checked repair")  # fmt: skip
def test_masks_that_do_not_fit_their_images(desk: Desk) -> None:
    """A reader makes pixels without a label of what does not fit; who makes a data set of his own may not."""
    read = formats.read(small(desk.at("set"), {"train": 2}))

    def gathered(change: Callable[[np.ndarray], np.ndarray], classes: tuple[str, ...] = CLASSES) -> int:
        def changed(mask: Mask) -> Mask:
            return replace(mask, ids=change(mask.ids))

        samples = [replace(s, mask=lambda s=s: changed(s.mask())) for s in read]  # type: ignore[misc]
        return len(loader_segment.gather(replace(read, samples=samples.__iter__), "train", classes, (32, 48)))

    desk.raises(gathered, np.copy, ("cup", "plate"))  # not its classes
    assert gathered(np.copy) == 2
    desk.raises(gathered, lambda ids: ids[::2, ::2])
    assert gathered(lambda ids: np.kron(ids[::2, ::2], np.ones((2, 2), np.uint8))) == 2
    desk.raises(gathered, lambda ids: np.where(ids == 2, 7, ids).astype(np.uint8))
    assert gathered(lambda ids: np.where(ids == 2, 0, ids).astype(np.uint8)) == 2


@cures("training.loader_detect:gather check")
def test_boxes_of_other_classes(desk: Desk) -> None:
    root = test_detect.small(desk.at("set"), {"train": 2})
    read = formats.read(root)
    desk.raises(loader_detect.gather, read, "train", ["cup"], (64, 96))
    assert len(loader_detect.gather(read, "train", ["box"], (64, 96)).boxes[0]) == 1


@cures("training.distributed:__init__ choose")
def test_a_batch_that_cannot_be_shared(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes are trained with in tests/training/test_distributed.py."""
    one = SimpleNamespace(device="cpu", process_index=0)
    monkeypatch.setattr(distributed, "need", lambda *a: SimpleNamespace(Accelerator=lambda cpu: one))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    desk.raises(distributed.Distributed, "cpu", 5)
    assert distributed.Distributed("cpu", 6).world_size == 2
