"""Dreams to look at: a sheet of frames and a short film."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from handful.data import formats
from handful.data.finding import stop
from handful.data.masks import open_values, voc_palette
from handful.data.video import write_video
from handful.data.writing import image_of
from handful.errors import DataError
from handful.files import replacing, write_json
from handful.image import read_image
from handful.lucid.clip import Dream
from handful.lucid.encode import jpeg
from handful.lucid.gates import measured, summary
from handful.lucid.outline import mask_in_box
from handful.lucid.seed import Seed
from handful.pick import present
from handful.places import MARK
from handful.progress import note
from handful.types import Sample

TILE_PX = 320
FPS = 10
VIDEO_WH = (640, 480)


def outlined(rgb_u8: np.ndarray, ids: np.ndarray, thickness: int = 2) -> np.ndarray:
    """A copy of a frame with every object's border drawn in its palette color."""
    picture = rgb_u8.copy()
    colors = np.frombuffer(voc_palette(), np.uint8).reshape(-1, 3)
    ignore = np.iinfo(ids.dtype).max
    for number in np.unique(ids).tolist():
        if number in (0, ignore):
            continue
        contours, _ = cv2.findContours((ids == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255, 255, 255), thickness + 2)
        cv2.drawContours(picture, contours, -1, colors[number % 255 or 1].tolist(), thickness)
    return picture


def sheet(rows: Sequence[Sequence[np.ndarray]], tile_px: int = TILE_PX, gap_px: int = 6) -> np.ndarray:
    """Pictures of any size in rows, each shrunk into a tile of tile_px width and its row's common height."""
    made = []
    columns = max(map(len, rows))
    for row in rows:
        fitted = [_fit(p, tile_px) for p in row]
        height = max(p.shape[0] for p in fitted)
        line = np.full((height + gap_px, columns * (tile_px + gap_px) + gap_px, 3), 255, np.uint8)
        for i, picture in enumerate(fitted):
            left = gap_px + i * (tile_px + gap_px)
            line[gap_px : gap_px + picture.shape[0], left : left + picture.shape[1]] = picture
        made.append(line)
    return np.concatenate([*made, np.full((gap_px, made[0].shape[1], 3), 255, np.uint8)])


def _fit(rgb_u8: np.ndarray, width_px: int) -> np.ndarray:
    scale = min(width_px / rgb_u8.shape[1], 1.5 * width_px / rgb_u8.shape[0])
    size = max(1, round(rgb_u8.shape[1] * scale)), max(1, round(rgb_u8.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb_u8, size, interpolation=method))


def _write_video(frames: Iterable[np.ndarray], folder: Path) -> str | None:
    """Write preview.mp4; None without the package for it, which nothing else needs."""
    if not present("av"):
        note("no preview.mp4: PyAV is not installed; run: pip install av")
        return None
    write_video(frames, folder / "preview.mp4", FPS)
    return str(folder / "preview.mp4")


def preview(dream: Dream, folder: Path) -> dict[str, Any]:
    """Write sheet.jpg, preview.mp4 and gates.json for one seed; the same figures as a dict, with the files' names."""
    folder = Path(folder)
    count = len(dream)
    frames = [dream.frame(t) for t in range(count)]
    shown = np.linspace(0, count - 1, min(6, count)).astype(int).tolist()
    rows = [
        [outlined(dream.seed.rgb_u8, dream.seed.ids), dream.background_u8, frames[0].rgb_u8],
        *([frames[t].rgb_u8 for t in shown[i : i + 3]] for i in range(0, len(shown), 3)),
        *([outlined(frames[t].rgb_u8, frames[t].ids) for t in shown[i : i + 3]] for i in range(0, len(shown), 3)),
    ]
    with replacing(folder / "sheet.jpg") as part:
        part.write_bytes(jpeg(sheet(rows, 420), 88, MARK))
    moving = _write_video((f.rgb_u8 for f in frames), folder)
    result = summary([measured(dream, t, frames[t]) for t in shown])
    write_json(folder / "gates.json", {"schema_version": 1, "recipe": dream.recipe(0), **result})
    return {"source": dream.seed.id, "frames": count, "sheet": str(folder / "sheet.jpg"),
            "video": moving, "gates": result}  # fmt: skip


def seed_of(photo: Path, mask: Path | None, box_px: tuple[float, float, float, float] | None = None) -> Seed:
    """An image and a mask file of its size, or a mask guessed from a box (outline.py). Raises DataError."""
    rgb = read_image(Path(photo)).rgb_u8
    name = Path(photo).name
    if mask is None:
        if box_px is None:
            raise DataError(f"{photo}: neither a mask nor a box was given")
        return Seed(name, rgb, mask_in_box(rgb, box_px).astype(np.uint8))
    ids = open_values(Path(mask), Path(mask).absolute().parent, stop)
    if ids is None or ids.ndim != 2 or ids.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{mask} is no mask; wanted a PNG of 8 or 16 bits with one value a pixel")
    values = np.unique(ids)
    if ids.dtype == np.uint8 and set(values.tolist()) <= {0, 255}:
        ids = (ids > 0).astype(np.uint8)  # drawn in black and white
    return Seed(name, rgb, ids)


def preview_run(folder: Path, max_clips: int = 6) -> dict[str, str | None]:
    """Of a finished run (farm.py), write sheet.jpg, its first clips with masks, and preview.mp4 into its folder."""
    folder = Path(folder)
    clips: dict[str, list[Sample]] = {}
    for sample in formats.read(folder, format="shards"):
        key = str(sample.clip)
        if key not in clips and len(clips) == max_clips:
            break
        clips.setdefault(key, []).append(sample)
    if not clips:
        return {}
    rows = []
    for samples in clips.values():
        chosen = [samples[i] for i in np.linspace(0, len(samples) - 1, min(6, len(samples))).astype(int)]
        rows.append(
            [outlined(image_of(s).rgb_u8, s.mask().ids if s.mask else np.zeros((1, 1), np.uint8)) for s in chosen]
        )
    with replacing(folder / "sheet.jpg") as part:
        part.write_bytes(jpeg(sheet(rows, 280), 88, MARK))
    shown = (_framed(image_of(s).rgb_u8, VIDEO_WH) for samples in clips.values() for s in samples)
    return {"sheet": str(folder / "sheet.jpg"), "video": _write_video(shown, folder)}


def _framed(rgb_u8: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """In the middle of a dark frame of that size, as large as fits."""
    scale = min(size_wh[0] / rgb_u8.shape[1], size_wh[1] / rgb_u8.shape[0])
    width, height = max(1, int(rgb_u8.shape[1] * scale)), max(1, int(rgb_u8.shape[0] * scale))
    frame = np.full((size_wh[1], size_wh[0], 3), 24, np.uint8)
    left, top = (size_wh[0] - width) // 2, (size_wh[1] - height) // 2
    frame[top : top + height, left : left + width] = cv2.resize(rgb_u8, (width, height), interpolation=cv2.INTER_AREA)
    return frame
