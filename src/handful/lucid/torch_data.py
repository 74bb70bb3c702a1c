"""Dreams for PyTorch: rendered as they are asked for, or read from shards. Items are the same in every worker.

Both are map-style datasets: they have `__len__` and `__getitem__`, which is all that torch.utils.data.DataLoader asks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from handful.data import shard_tar
from handful.data.finding import stop
from handful.data.format_shards import PLAN, Held, ids_of
from handful.data.shard_lists import absent, again, listed
from handful.errors import DataError
from handful.lucid.clip import Dream, Frame
from handful.lucid.seed import SeedRef, first_frames, seeds_of
from handful.lucid.settings import Settings
from handful.pick import need
from handful.types import Sample

KEPT = 4  # clips at hand: the cut-outs and the background of a 854x480 px one have 3 MB


class DreamDataset:
    """Frames rendered when they are asked for, so that nothing is kept on disk: item i is frame i % frames of seed
    i // frames. seeds: a data set, of whose clips the first frames are taken, or seeds from `seeds_of`.

    An item is {"rgb": (3, h, w) uint8 RGB, "ids": (h, w) int64, 0 background, 255 (65535) not labeled, "previous":
    (h, w) int64, the spoiled mask of the frame before, with settings.previous only, "seed": its id, "frame": int}.
    motion: also "flow_forward" and "flow_backward" (2, h, w) float32 px (x, y) and "visible_..." (h, w) bool.
    kept: how many clips each worker keeps at hand; to make a clip costs as much as several frames, so read the frames
    of a clip one after the other (`ClipSampler`), or keep many. Raises MissingPackage without torch, and from an item
    DataError, naming the seed, when its image cannot be used.
    """

    def __init__(
        self,
        seeds: Iterable[Sample] | Sequence[SeedRef],
        settings: Settings | None = None,
        *,
        motion: bool = False,
        kept: int = KEPT,
    ) -> None:
        need("torch", "teach")
        given = list(seeds)
        refs = [ref for ref in given if isinstance(ref, SeedRef)]
        self.seeds = refs or list(seeds_of(first_frames(s for s in given if isinstance(s, Sample))))
        self.settings, self.motion, self.kept = settings or Settings(), motion, max(1, kept)
        self._clips: OrderedDict[int, Dream] = OrderedDict()

    def __len__(self) -> int:
        return len(self.seeds) * self.settings.frames

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, t = divmod(_checked(index, len(self)), self.settings.frames)
        clip = self._clips.pop(number, None)
        if clip is None:
            while len(self._clips) >= self.kept:
                self._clips.popitem(last=False)
            clip = Dream(self.seeds[number].load(), self.settings)
        self._clips[number] = clip
        return {**_item(clip.frame(t, motion=self.motion)), "seed": clip.seed.id, "frame": t}

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are started anew: clips at hand are not sent along."""
        return {**self.__dict__, "_clips": OrderedDict()}


class ClipSampler:
    """The order of a DreamDataset's items for a DataLoader: clips in random order, frames of a clip in random order,
    so that each clip is made once. seed and `epoch` (set it before each) decide the order.
    """

    def __init__(self, dataset: DreamDataset, seed: int = 0) -> None:
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Any:
        rng = np.random.default_rng([self.seed, self.epoch])
        frames = self.dataset.settings.frames
        for number in rng.permutation(len(self.dataset.seeds)).tolist():
            yield from (number * frames + rng.permutation(frames)).tolist()


class ShardDataset:
    """The frames of a folder that `handful dream` wrote, in their order, read from the tar files by their place.

    An item is {"rgb", "ids"} as DreamDataset has them, "previous" where it was kept, "key" and "shard". Each item's
    bytes are held against their SHA-256. Raises DataError for a folder without shards, one that was never finished, or
    a damaged shard, naming it.
    """

    def __init__(self, folder: Path) -> None:
        need("torch", "teach")
        self.folder = Path(folder)
        self.shards = sorted(self.folder.glob("shard-*.tar"))
        if not self.shards:
            raise DataError(f"{folder} has no shard-00000.tar in it; wanted a folder that `handful dream` wrote")
        absent(self.folder / PLAN, len(self.shards), stop)

    def __getstate__(self) -> dict[str, Any]:
        """For workers that are started anew: each makes its own index."""
        return {"folder": self.folder, "shards": self.shards}

    @cached_property
    def _lists(self) -> list[dict[str, dict[str, str]]]:
        return [listed(self.folder, shard.name, stop)["hashes"] or {} for shard in self.shards]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._lists)))

    @cached_property
    def _places(self) -> dict[int, list[dict[str, Held]]]:
        return {}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = _checked(index, len(self))
        which = int(np.searchsorted(self._ends, index, side="right"))
        if which not in self._places:
            self._places[which] = self._index(which)
        held = self._places[which][index - (self._ends[which - 1] if which else 0)]
        torch = need("torch", "teach")
        item: dict[str, Any] = {"rgb": torch.from_numpy(held["jpg"]().rgb_u8.transpose(2, 0, 1).copy())}
        for kind, name in (("png", "ids"), ("prev.png", "previous")):
            if kind in held:
                item[name] = torch.from_numpy(ids_of(held[kind].data(), held[kind].name).astype(np.int64))
        return {**item, "key": held["jpg"].member.key, "shard": self.shards[which].name}

    def _index(self, which: int) -> list[dict[str, Held]]:
        """Where each sample of a shard lies, in the order of its list."""
        path, hashes = self.shards[which], self._lists[which]
        found: dict[str, dict[str, Held]] = {key: {} for key in hashes}
        try:
            for member in shard_tar.members(path):
                if member.key in found:
                    held = Held(path, member, hashes[member.key].get(member.kind))
                    found[member.key][member.kind] = held
        except shard_tar.Damaged as error:
            raise DataError(f"{path} {error}; make it again: {again(path.parent)}") from error
        lacking = next((key for key, held in found.items() if not {"jpg", "png"} <= held.keys()), None)
        if lacking is not None:
            raise DataError(f"{path} lacks the image or mask of {lacking}; make it again: {again(path.parent)}")
        return list(found.values())


def _checked(index: int, count: int) -> int:
    if not -count <= index < count:
        raise IndexError(f"item {index} of {count}")
    return index % count


def _item(frame: Frame) -> dict[str, Any]:
    torch = need("torch", "teach")
    item = {"rgb": torch.from_numpy(frame.rgb_u8.transpose(2, 0, 1).copy())}
    for name, ids in (("ids", frame.ids), ("previous", frame.previous)):
        if ids is not None:
            item[name] = torch.from_numpy(ids.astype(np.int64))
    for way in ("forward", "backward"):
        flow, visible = getattr(frame, f"flow_{way}"), getattr(frame, f"visible_{way}")
        if flow is not None:
            item[f"flow_{way}"] = torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))
            item[f"visible_{way}"] = torch.from_numpy(visible)
    return item
