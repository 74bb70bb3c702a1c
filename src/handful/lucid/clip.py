"""A clip from one image and its mask: every frame is rendered from the image itself, never from the frame before.

Lucid Data Dreaming (Khoreva et al. 2017, arXiv 1703.09554) made pairs of frames, and filled the hole anew for each.
Here the hole is filled once for an image; objects and camera follow smooth random ways; and any frame can be made by
itself, in any order and on any machine, from a recipe of less than a kilobyte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from handful.errors import DataError
from handful.lucid import blend, light
from handful.lucid.corrupt import corrupted
from handful.lucid.cut import cut
from handful.lucid.fill import Inpainter, fill, hole_of
from handful.lucid.move import Warp, apply, inverse, remapped, upsampled
from handful.lucid.parts import Part, blob, camera, groups, passing, ways
from handful.lucid.seed import Seed
from handful.lucid.settings import Settings

SCHEMA = 1  # of recipes; raised whenever the same recipe would give other pixels
# of the diagonal, 12 px at 854x480: with the released 7 px, borders of the object and contact shadows stay behind
HOLE_SHARE = 0.012


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a clip and everything known about it.

    rgb_u8: (h, w, 3) uint8 RGB. ids: (h, w), the seed's ids, 255 or 65535 where the seed was not labeled.
    previous: the mask of the frame before, spoiled as a tracker would (corrupt.py); None unless settings.previous.
    params: every random quantity of this frame, JSON values only.
    With `motion`: alpha_u8 (h, w), how much of each pixel is object. flow_forward: (h, w, 2) float32, px: the pixel
    at p is at p + flow in the next frame; flow_backward: in the frame before. visible_forward, visible_backward:
    (h, w) bool, whether it can be seen there. The clip goes on past both its ends, so that all frames have both.
    """

    rgb_u8: np.ndarray
    ids: np.ndarray
    previous: np.ndarray | None
    params: Mapping[str, Any] = field(repr=False)
    alpha_u8: np.ndarray | None = None
    flow_forward: np.ndarray | None = None
    flow_backward: np.ndarray | None = None
    visible_forward: np.ndarray | None = None
    visible_backward: np.ndarray | None = None


class Dream:
    """The clip of one seed. Making it costs the cut-outs and the fill; each frame then costs milliseconds.

    inpaint: fills the hole instead of settings.fill, as fill.fill's `method` when it is a function; its recipes name
    it, and need it again. Raises DataError, naming the seed, for one that nothing can be dreamed from.
    """

    def __init__(self, seed: Seed, settings: Settings | None = None, *, inpaint: Inpainter | None = None) -> None:
        self.settings, self.inpaint = settings or Settings(), inpaint
        self.digest = _digest(seed)
        self.seed = seed.fitted(max_px=self.settings.max_px, max_side_px=self.settings.max_side_px)
        ranges = self.settings.bounds
        rng = self._rng("film")
        flip, flip_background = rng.uniform(size=2) < (ranges.flip, ranges.flip_background)
        if flip:
            mirrored = np.ascontiguousarray(self.seed.rgb_u8[:, ::-1]), np.ascontiguousarray(self.seed.ids[:, ::-1])
            self.seed = Seed(self.seed.id, *mirrored, self.seed.whole)
        self.flipped = bool(flip), bool(flip_background)
        self._steps = self.settings.frames + 2  # one before and one after, for what the ends move from and to
        self._size_wh = self.seed.ids.shape[1], self.seed.ids.shape[0]

        labels = self._moving(rng)
        moving = labels > 0
        untouchable = self.seed.foreground & ~moving
        radius = max(7, round(HOLE_SHARE * float(np.hypot(*self._size_wh))))
        hole = hole_of(moving, radius) & ~untouchable
        behind = self.background_u8 = fill(
            self.seed.rgb_u8, hole, inpaint or self.settings.fill, rng=self._rng("fill"), avoid=untouchable
        )  # fmt: skip
        self._background_ids = np.where(moving, self.seed.ids.dtype.type(0), self.seed.ids)
        if flip_background:
            self.background_u8 = np.ascontiguousarray(self.background_u8[:, ::-1])
            self._background_ids = np.ascontiguousarray(self._background_ids[:, ::-1])
        self._plain_background = not self._background_ids.any()
        self.cameras = camera(self._rng("camera"), self._steps, ranges, self._size_wh)
        self.parts = self._cast(labels, behind)
        self._shutter = float(self._rng("shutter").uniform()) * ranges.shutter
        self._light = light.curves(self._rng("light"), self._steps, ranges)

    def __len__(self) -> int:
        return self.settings.frames

    def frame(self, t: int, *, motion: bool = False) -> Frame:
        """Frame t, from 0. motion: also alpha, flow and visibility, which cost several times the frame itself."""
        if not 0 <= t < len(self):
            raise IndexError(f"seed {self.seed.id}: frame {t} of a clip of {len(self)}")
        rgb, ids, owner, alpha = self._composed(t, motion)
        rgb = self._lit(rgb, t)
        previous = None
        if self.settings.previous:
            previous = corrupted(self.ids_at(t - 1), self._rng(f"previous {t}"))
        more: dict[str, Any] = {}
        if motion:
            more["alpha_u8"] = alpha
            for name, to in (("forward", t + 1), ("backward", t - 1)):
                more[f"flow_{name}"], more[f"visible_{name}"] = self._flow(t, to, owner)
        return Frame(rgb, ids, previous, self._params(t), **more)

    def ids_at(self, t: int) -> np.ndarray:
        """The ids of frame t alone; t from -1 to the clip's length."""
        return self._masks(t)[0]

    def recipe(self, t: int) -> dict[str, Any]:
        """What `frame_of` needs besides the image to make frame t again: JSON values, less than 1 KB."""
        own = {} if self.inpaint is None else {"inpaint": getattr(self.inpaint, "__name__", "a function")}
        return {
            **own,
            "dream": SCHEMA,
            "seed": self.seed.id,
            "sha256": self.digest,
            "frame": t,
            "settings": self.settings.as_dict(),
        }

    def _rng(self, what: str) -> np.random.Generator:
        """Random numbers of their own for every use, from the seed's id and settings.seed (Philox, counter-based)."""
        key = hashlib.sha256(f"{self.settings.seed}\0{self.seed.id}\0{what}".encode()).digest()
        return np.random.Generator(np.random.Philox(key=np.frombuffer(key[:16], np.uint64)))

    def _moving(self, rng: np.random.Generator) -> np.ndarray:
        """(h, w): the number of the part that each pixel moves with; 0 for the background and all that stays in it."""
        labels = groups(self.seed.ids, self.seed.foreground, whole=self.seed.whole)
        sizes = np.bincount(labels.ravel())[1:]
        large = np.flatnonzero(sizes >= self.settings.min_object_px) + 1
        if not large.size:
            raise DataError(
                f"seed {self.seed.id}: its largest object has {int(sizes.max())} px; wanted at least "
                f"{self.settings.min_object_px} (min_object_px)"
            )
        stays = rng.uniform(size=len(large)) < self.settings.bounds.still
        if stays.all():
            stays[int(rng.integers(len(large)))] = False
        lookup = np.zeros(len(sizes) + 1, np.int32)
        lookup[large[~stays]] = np.arange(1, (~stays).sum() + 1)
        return np.asarray(lookup[labels])

    def _cast(self, labels: np.ndarray, background: np.ndarray) -> tuple[Part, ...]:
        """The parts, farthest first. background: (h, w, 3), what lay behind them, not mirrored."""
        ranges, height = self.settings.bounds, self._size_wh[1]
        made = []
        for label in range(1, int(labels.max()) + 1):
            rng = self._rng(f"part {label}")
            photo, behind = self.seed.rgb_u8, background
            if ranges.object_light:
                curve = light.curves(rng, 1, ranges, ranges.object_light)[0]
                photo, behind = light.relit(photo, curve), light.relit(behind, curve)
            cutout = cut(photo, self.seed.ids, labels == label, behind)
            # what stands lower in an image is nearly always nearer
            depth = cutout.xy[1] + cutout.mask_u8.shape[0] + float(rng.uniform(-0.1, 0.1)) * height
            made.append(Part(label, cutout, ways(rng, cutout, self.cameras, ranges, self._size_wh), depth))
        made.sort(key=lambda part: part.depth)
        rng = self._rng("occluder")
        if rng.uniform() < ranges.occluder:
            target = made[int(rng.integers(len(made)))]
            side = float(rng.uniform(0.4, 0.8)) * max(target.cutout.mask_u8.shape)
            cover = blob(rng, self.background_u8, min(side, 0.5 * height))
            made.append(Part(0, cover, passing(rng, cover, target, self._steps, self._size_wh), np.inf))
        return tuple(made)

    def _composed(self, t: int, motion: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Frame t before its light: pixels, ids, and with `motion` the part that owns each pixel, and alpha."""
        shutter = self._shutter
        frame = cv2.warpAffine(self.background_u8, self.cameras[t + 1], self._size_wh, flags=cv2.INTER_LINEAR,
                               borderMode=cv2.BORDER_REFLECT_101)  # fmt: skip
        if shutter:
            kernel = self._streak(Warp(self.cameras[t + 1]), Warp(self.cameras[t]), np.array(self._size_wh) / 2)
            frame = frame if kernel is None else cv2.filter2D(frame, -1, kernel)
        ids, owner = self._ids_plane(t), np.zeros(frame.shape[:2], np.int16) if motion else None
        alpha = np.zeros(frame.shape[:2], np.uint8) if motion else None
        for index, part, box, maps, mask in self._layers(t):
            layer = remapped(part.cutout.rgba_u8, maps)
            if shutter:
                middle = np.array(part.cutout.xy) + np.array(part.cutout.mask_u8.shape[::-1]) / 2
                kernel = self._streak(part.at(t), part.at(t - 1), middle)
                layer = layer if kernel is None else cv2.filter2D(layer, -1, kernel, borderType=cv2.BORDER_CONSTANT)
            self._blend(frame, layer, mask, part, maps, box[:2])
            self._overlay(ids, owner, part, index, maps, mask, box)
            if alpha is not None:
                view = alpha[box[1] : box[3], box[0] : box[2]]
                a = layer[..., 3].astype(np.uint16)
                over = a if part.label else np.zeros_like(a)  # what passes in front is no object
                view[:] = over + (view * (255 - a) + 127) // 255
        return frame, ids, owner, alpha

    def _blend(self, frame: np.ndarray, layer: np.ndarray, mask: np.ndarray, part: Part, maps: np.ndarray,
               xy: tuple[int, int]) -> None:  # fmt: skip
        how = self.settings.blend if part.label else "feather"
        if how == "feather":
            blend.feather(frame, layer, xy)
            return
        left, top = part.cutout.xy
        origin = maps + np.array([left, top], np.float32)
        source = remapped(self.seed.rgb_u8, origin, beyond=cv2.BORDER_REPLICATE)
        _, solid = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)
        (blend.ring if how == "ring" else blend.poisson)(frame, layer, solid, source_u8=source, xy=xy)

    def _ids_plane(self, t: int) -> np.ndarray:
        """What the background says of each pixel of frame t: 0, what was not labeled, and objects that stay."""
        if self._plain_background:
            return np.zeros_like(self._background_ids)
        return np.asarray(cv2.warpAffine(self._background_ids, self.cameras[t + 1], self._size_wh,
                                         flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101))  # fmt: skip

    def _masks(self, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and owners of frame t, without its pixels."""
        ids, owner = self._ids_plane(t), np.zeros(self.seed.ids.shape, np.int16)
        for index, part, box, maps, mask in self._layers(t):
            self._overlay(ids, owner, part, index, maps, mask, box)
        return ids, owner

    def _layers(self, t: int) -> Iterator[tuple[int, Part, tuple[int, int, int, int], np.ndarray, np.ndarray]]:
        """What can be seen in frame t, farthest first: number from 1, part, its box, its maps, its mask (0..255)."""
        for index, part in enumerate(self.parts, start=1):
            box = part.box(t, self._size_wh)
            if box is not None:
                maps = part.at(t).maps(box, part.cutout.xy)
                yield index, part, box, maps, remapped(part.cutout.mask_u8, maps)

    def _overlay(self, ids: np.ndarray, owner: np.ndarray | None, part: Part, index: int, maps: np.ndarray,
                 mask: np.ndarray, box: tuple[int, int, int, int]) -> None:  # fmt: skip
        inside = mask >= 128
        window = slice(box[1], box[3]), slice(box[0], box[2])
        number = self._only_id[part.label]
        if number is None:
            numbers = remapped(part.cutout.ids, maps, nearest=True, beyond=cv2.BORDER_REPLICATE)
            np.copyto(ids[window], numbers, where=inside)
        else:
            np.copyto(ids[window], ids.dtype.type(number), where=inside)
        if owner is not None:
            np.copyto(owner[window], np.int16(index), where=inside)

    @cached_property
    def _only_id(self) -> dict[int, int | None]:
        """Of each part, its one id, or None when it has several."""
        found = {part.label: np.unique(part.cutout.ids[part.cutout.mask_u8 > 0]) for part in self.parts}
        return {label: int(numbers[0]) if len(numbers) == 1 else None for label, numbers in found.items()}

    def _lit(self, rgb: np.ndarray, t: int) -> np.ndarray:
        ranges = self.settings.bounds
        rgb = light.relit(rgb, self._light[t + 1])
        if ranges.noise or ranges.jpeg < 100:
            rng = self._rng(f"sensor {t}")
            at = int(rng.integers(64)), int(rng.integers(64))
            quality = int(rng.integers(ranges.jpeg, 101))
            if ranges.noise:
                rgb = light.noisy(rgb, self._noise, at)
            if quality < self.settings.quality:
                rgb = light.compressed(rgb, quality)
        return rgb

    @cached_property
    def _noise(self) -> np.ndarray:
        rng = self._rng("noise")
        return light.noise_tile(rng, self._size_wh, float(rng.uniform()) * self.settings.bounds.noise)

    def _streak(self, now: Warp, before: Warp, middle: np.ndarray) -> np.ndarray | None:
        dx, dy = now.forth(middle) - before.forth(middle)
        return light.streak(float(np.hypot(dx, dy)) * self._shutter, float(np.arctan2(dy, dx)))

    def _flow(self, t: int, to: int, owner: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel of frame t is in frame `to` (as a displacement), and whether it can be seen there."""
        assert owner is not None
        width, height = self._size_wh
        whole = 0, 0, width, height
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        here = np.stack([x, y], -1)
        onward = self.cameras[to + 1]
        back = inverse(self.cameras[t + 1])
        there = upsampled(lambda p: apply(onward, apply(back, p)), whole)
        for index, part in enumerate(self.parts, start=1):
            box = part.box(t, self._size_wh)
            if box is None:
                continue
            window = slice(box[1], box[3]), slice(box[0], box[2])
            mine = owner[window] == index
            if mine.any():
                place = upsampled(lambda p, part=part: part.at(to).forth(part.at(t).back(p)), box)  # type: ignore[misc]
                np.copyto(there[window], place, where=mine[..., None])
        _, owner_there = self._masks(to)
        nearest = np.rint(there).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < (width, height))).all(-1)
        clipped = np.clip(nearest, 0, (width - 1, height - 1))
        seen = inside & (owner_there[clipped[..., 1], clipped[..., 0]] == owner)
        return (there - here).astype(np.float32), seen

    def _params(self, t: int) -> dict[str, Any]:
        return {
            "flipped": self.flipped,
            "camera": self.cameras[t + 1].tolist(),
            "light": self._light[t + 1].tolist(),
            "parts": [
                {
                    "part": part.label,
                    "affine": part.at(t).affine.tolist(),
                    "bend_centres": None if (bend := part.at(t).bend) is None else bend.centres.tolist(),
                    "bend_weights": None if bend is None else bend.weights.tolist(),
                    "bend_plane": None if bend is None else bend.plane.tolist(),
                }
                for part in self.parts
            ],
        }


def frame_of(recipe: Mapping[str, Any], seed: Seed, *, motion: bool = False, inpaint: Inpainter | None = None) -> Frame:
    """The frame of a recipe, bit for bit, given its image and mask, and the function that filled the hole if one did.

    Raises DataError when the image or mask are not those the recipe was written for, or another handful wrote it.
    """
    if recipe.get("dream") != SCHEMA:
        raise DataError(
            f"recipe of seed {recipe.get('seed')}: version {recipe.get('dream')}, this version of handful has {SCHEMA}"
        )
    if recipe["seed"] != seed.id or recipe["sha256"] != _digest(seed):
        raise DataError(
            f"recipe of seed {recipe['seed']}: it was written for another image or mask than {seed.id}'s as it is now"
        )
    if ("inpaint" in recipe) != (inpaint is not None):
        given = "none was given" if inpaint is None else "it was written without one"
        raise DataError(f"recipe of seed {recipe['seed']}: its hole was filled by {recipe.get('inpaint')}; {given}")
    return Dream(seed, Settings.of(recipe["settings"]), inpaint=inpaint).frame(int(recipe["frame"]), motion=motion)


def _digest(seed: Seed) -> str:
    found = hashlib.sha256()
    for array in (seed.rgb_u8, seed.ids):
        found.update(f"{array.dtype} {array.shape} {seed.whole}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
