"""Teach a classifier from a folder of images: check them, learn them, save the model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from handful.curate.check import ensure
from handful.data import format_folder
from handful.data.finding import Finding, known_codes, leaves_unreadable, stop
from handful.data.near_names import learned_as_named
from handful.errors import DataError
from handful.fewshot.classifier import BACKBONE, FRAME_HW, FewShotClassifier
from handful.fewshot.embeddings import default_cache
from handful.fewshot.left_out import Sampled
from handful.fewshot.nemo import VIGILANCE
from handful.fewshot.vigilance import check_vigilance
from handful.files import cache_home, sha256
from handful.image import read_image
from handful.locks import one_writer
from handful.models import folder as folders
from handful.progress import note, warn
from handful.training.source import split_of
from handful.types import Image, Sample
from handful.words import shell


def readable(path: Path, leave_out: bool) -> Image | None:
    """An image; None where it cannot be read and may be left out, else raises DataError."""
    try:
        return read_image(path)
    except DataError:
        if not leave_out:
            raise
        return None


def teach(
    data: Path,
    out: Path,
    *,
    backbone: str = BACKBONE,
    vigilance: float | None = None,
    frame_hw: tuple[int, int] = FRAME_HW,
    classes: Sequence[str] | None = None,
    flat: bool = False,
    add: bool = False,
    overwrite: bool = False,
    weights: Path | None = None,
    allow: Sequence[str] = (),
    cache: Path | None = None,
    split: str | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Teach a model from images: a folder a class (or, flat, one image a class named after it).

    Every image is checked before the first is learned (data.check); allow: codes of errors to go on with. add: teach
    an existing model more. overwrite: replace an existing one. vigilance: None keeps the model's own. split:
    which, of images that are split. again: count images again that were learned before; else each counts once a class.
    Returns a JSON object. Raises DataError or UnknownName; an existing model is then as it was.
    """
    out = Path(out)
    if add and overwrite:
        raise DataError("--add and --overwrite exclude each other: add to the model, or replace it?")
    if not add:
        folders.may_teach_into(out, overwrite=overwrite)
    if vigilance is not None:
        check_vigilance(vigilance)
    keep = cache is not None
    samples, warnings = checked_images(data, classes=classes, flat=flat, allow=allow, keep=keep, split=split)
    if split is None and any(sample.split for sample in samples):
        raise DataError(
            f"{data} is split into {', '.join(sorted({s.split or '' for s in samples}))}; name one of them: --split"
        )
    for text in warnings:
        warn(text)
    began = time.monotonic()
    with contextlib.ExitStack() as alone:
        if add:
            alone.enter_context(one_writer(out))
            model = FewShotClassifier.load(out, cache=cache)
            own = model.nemo.vigilance
            learned_as_named(data, sorted({str(s.label) for s in samples}), model.classes, known_codes(allow))
            if vigilance is not None:
                model.nemo.vigilance = vigilance
        else:
            model = FewShotClassifier.new(
                backbone,
                vigilance=VIGILANCE if vigilance is None else vigilance,
                frame_hw=frame_hw,
                weights=weights,
                cache=cache,
            )
        sampled = Sampled()
        leave_out = leaves_unreadable(allow)
        learned = model.learn_samples(samples, again=again, leave_out=leave_out, sampled=sampled)
        for text in learned.told():
            warnings = [*warnings, text]
            warn(text)
        same = add and not learned.images and (vigilance is None or vigilance == own)
        before, these = model.about.get("data_sha256", []), format_folder.digest(samples)
        if not add:
            alone.enter_context(one_writer(out))
            folders.may_teach_into(out, overwrite=overwrite, begun=True)
        compiled = [] if same else [place.name for place in folders.bundles(out)]
        if not same:
            model.save(out, data={"data_sha256": [*before, these]})
    left = sampled.leave_out(model.solution, model.nemo.counts, model.nemo.vigilance, model.seen)
    if compiled:
        note(f"must be compiled again: {', '.join(compiled)}")
    for text in left.told(str(out)):
        note(text)
    return {
        "schema_version": 1,
        "model": str(out),
        "data": str(data),
        "classes": list(model.classes),
        "samples": model.nemo.counts,
        "images": len(samples),
        "learned": learned.images,
        "already_learned": learned.known,
        "split": split,
        "vigilance": model.nemo.vigilance,
        "backbone": model.net.card.name,
        "bytes": (out / folders.WEIGHTS).stat().st_size,
        "left_out": left.to_json(),
        "warnings": warnings,
        "model_sha256": sha256(out / folders.WEIGHTS),
        "seconds": round(time.monotonic() - began, 2),
    }


def checked_images(
    data: Path,
    *,
    classes: Sequence[str] | None = None,
    flat: bool = False,
    allow: Sequence[str] = (),
    quiet: Sequence[str] = (),
    keep: bool = True,
    split: str | None = None,
) -> tuple[list[Sample], list[str]]:
    """The images of a folder per class after a check of all of them, and its warnings.

    allow: codes of errors to go on with; what they concern is left out. split: only this one. Raises DataError on any
    other error, for a split that there is not, and where no image is left.
    """
    allow = known_codes(allow)

    def on_finding(finding: Finding) -> None:
        if finding.code not in allow:
            stop(finding)

    warnings = ensure(data, format="folder", allow=allow, quiet=quiet, cache=cache_home() if keep else None, flat=flat)
    samples = format_folder.read(data, on_finding=on_finding, classes=classes, flat=flat)
    found = list(samples) if split is None else split_of(samples, split)
    if not found:
        raise DataError(f"{data} has no image left that can be used; see why: handful data check {shell(data)}")
    return found, warnings


def cache_folder(use: bool = True) -> Path | None:
    """The features' cache, or None."""
    return default_cache() if use else None
