"""A compiled detector, from its plan and its graphs alone: what an app on a phone does. NumPy and Pillow, no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from handful.bundle import Session
from handful.detection.contract import Proposals
from handful.detection.crops import crop_boxes, share_crops
from handful.detection.fusion import Fusion
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, on_image, top_boxes
from handful.detection.multiscale import MultiScaleProposer, Scales
from handful.detection.scored import ScoredProposals, select_detections
from handful.errors import DataError
from handful.fewshot.nemo import GAIN, Solution, none_below
from handful.results import Detections
from handful.words import counted

SCHEMA_VERSION = 4  # of the plan; 3: a crop a box


class Stopwatch:
    """Milliseconds that each step of an image took, by name, in order; for one thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.ms: dict[str, float] = {}
        self._clock = clock

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds what is done inside."""
        began = self._clock()
        yield
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * (self._clock() - began)


class Untimed(Stopwatch):
    """Counts nothing, so that several threads may share it."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """As Stopwatch.step."""
        yield


class CompiledProposer:
    """A compiled proposer, see handful.detection.contract.Proposer: the graphs propose, refine and features."""

    network: Any = None

    def __init__(self, plan: Mapping[str, Any], sessions: Mapping[str, Session], watch: Stopwatch) -> None:
        self.sessions, self.watch = sessions, watch
        # of the frame of the graph, and of the canvases of finer scales, which are laid into that
        self.frame_px, self.side_px = int(plan["frame"]["side_px"]), int(plan["scales"]["side_px"])
        boxes = plan["boxes"]
        self.top_k, self.nms_iou, self.refine = int(boxes["pre_nms_top_k"]), float(boxes["nms_iou"]), boxes["refine"]
        self.max_boxes = int(boxes["max_boxes"])
        self.dim = int(plan["features"]["dim"]) if plan["features"] else 0
        self.about = dict(plan["proposer"])

    def propose(self, rgb_u8: np.ndarray, max_boxes: int = 100) -> Proposals:
        """At most `max_boxes` boxes of an image (h, w, 3) uint8 RGB, and no more than the graphs take; so with
        features."""
        size_wh, watch, refine = (rgb_u8.shape[1], rgb_u8.shape[0]), self.watch, self.refine
        wanted = min(max_boxes, self.max_boxes)
        keep: dict[str, Any] = {"pre_nms_top_k": self.top_k, "nms_iou": self.nms_iou}
        with watch.step("letterbox"):
            frame, factor, left_top = letterbox(rgb_u8, self.frame_px)
        with watch.step("propose"):
            out = self.sessions["propose"].run({"image": frame[None]})
        maps = {name: value for name, value in out.items() if name.startswith("map_")}
        with watch.step("boxes"):
            first = int(refine["max_boxes"]) if refine else wanted
            boxes = frame_to_image(out["boxes"][0], factor, left_top)
            boxes, quality = top_boxes(boxes, out["quality"][0], size_wh, max_boxes=first, **keep)
        if refine and len(boxes):
            with watch.step("refine"):
                given = padded(image_to_frame(boxes, factor, left_top), first)
                found = self.sessions["refine"].run({**maps, "boxes": given})
                better = {name: value[: len(boxes)] for name, value in found.items()}
                boxes = frame_to_image(better["refined_boxes"], factor, left_top)
                boxes, quality = top_boxes(boxes, better["refined_quality"], size_wh, max_boxes=wanted, **keep)

        def features(wanted: np.ndarray) -> np.ndarray:
            rows = [np.zeros((0, self.dim), np.float32)]
            with watch.step("features"):
                on = image_to_frame(wanted, factor, left_top)
                for start in range(0, len(on), self.max_boxes):
                    own = on[start : start + self.max_boxes]
                    found = self.sessions["features"].run({**maps, "boxes": padded(own, self.max_boxes)})
                    rows.append(found["proposer_features"][: len(own)])
            return np.concatenate(rows)

        focus = on_image(out["focus"][0], left_top, self.frame_px) if "focus" in out else None
        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features, focus)


class CompiledDetector:
    """A detector as a phone has it. propose, score, select and detect are those of handful.detection.irene.Irene.

    plan: as handful.detection.graphs.plan gives it. sessions: of the graphs, by name. watch: how long each step takes
    is counted there; none is unless one is given. Raises DataError for a plan that is of another version or damaged.
    """

    def __init__(
        self, plan: Mapping[str, Any], sessions: Mapping[str, Session], watch: Stopwatch | None = None
    ) -> None:  # fmt: skip
        self.plan, self.sessions, self.watch = dict(plan), dict(sessions), watch or Untimed()
        try:
            version, answer = plan["schema_version"], plan["answer"]
            self.crops, self.fusion = plan["crops"], Fusion(**plan["fusion"])
            self.classes, self.vigilance, self.gain = tuple(plan["classes"]), answer["vigilance"], answer["gain"]
            expected, self.score_threshold = float(answer["expected"]), float(answer["score_threshold"])
            own = CompiledProposer(plan, self.sessions, self.watch)
            scales = Scales(**{key: value for key, value in plan["scales"].items() if key != "side_px"})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the plan is not what was written ({error!r}); compile the detector again") from error
        if version not in (3, SCHEMA_VERSION) or self.gain != GAIN:
            raise DataError(f"the plan has schema_version {version!r} and gain {self.gain}; wanted 3 or "
                            f"{SCHEMA_VERSION} and {GAIN:g}; compile the detector again")  # fmt: skip
        self.proposer, self.max_boxes = MultiScaleProposer(own, scales), own.max_boxes
        none, nothing = none_below(expected, self.vigilance), np.zeros((0, 0))
        self._solution = Solution(self.classes, nothing, nothing, np.zeros(0), expected, none)

    def propose(self, rgb_u8: np.ndarray) -> Proposals:
        """The proposals of an image (h, w, 3) uint8 RGB, at all scales it is looked at."""
        return self.proposer.propose(rgb_u8, self.max_boxes)

    def score(self, rgb_u8: np.ndarray, proposals: Proposals | None = None) -> ScoredProposals:
        """As Irene.score; proposals: as propose gave them."""
        if proposals is None:
            proposals = self.propose(rgb_u8)
        boxes, quality, scale = proposals.xyxy_px, proposals.quality, proposals.scale
        if not len(boxes):
            return ScoredProposals(boxes, quality, scale, np.zeros((0, 0)), np.zeros((0, len(self.classes))))
        feed: dict[str, np.ndarray] = {}
        if self.plan["features"]:
            feed["proposer_features"] = padded(proposals.features(boxes), self.max_boxes)
        if self.crops is not None:
            feed["crop_features"] = padded(self._crop_features(rgb_u8, boxes), self.max_boxes)
        with self.watch.step("head"):
            out = self.sessions["head"].run(feed)
        names = ("vectors", "logits", "cosine_floor")
        vectors, logits, floor = (out[name][: len(boxes)].astype(np.float64) for name in names)
        return ScoredProposals(boxes, quality, scale, vectors, logits, floor[:, 0])

    def select(
        self, scored: ScoredProposals, *, vigilance: float | None = None, ranking: bool = False,
        score_threshold: float | None = None, **options: Any,
    ) -> Detections:  # fmt: skip
        """As Irene.select."""
        with self.watch.step("select"):
            vigilance = self.vigilance if vigilance is None else vigilance
            score_threshold = self.score_threshold if score_threshold is None and not ranking else score_threshold
            return select_detections(
                scored, self._solution, self.fusion, vigilance, ranking=ranking, score_threshold=score_threshold,
                **options,
            )  # fmt: skip

    def detect(self, rgb_u8: np.ndarray, **options: Any) -> Detections:
        """Detections in an image (h, w, 3) uint8 RGB of any size; `options` as in select."""
        return self.select(self.score(rgb_u8), **options)

    def _crop_features(self, rgb_u8: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        count, most = int(self.crops["batch"]), self.crops.get("max_crops")
        taken: np.ndarray | None = None
        if most is not None:
            limits = (float(self.crops[name]) for name in ("least_iou", "shared_iou"))
            own, taken = share_crops(boxes, int(most), *limits)
            boxes = boxes[own]
        with self.watch.step("cut"):
            frames = crop_boxes(rgb_u8, boxes, int(self.crops["side_px"]), float(self.crops["margin"]))
        rows = []
        with self.watch.step("crops"):
            for start in range(0, len(frames), count):
                own = frames[start : start + count]
                out = self.sessions["crops"].run({"crops": padded(own, count, np.uint8)})
                rows.append(out["crop_features"][: len(own)])
        found = np.concatenate(rows)
        return found if taken is None else np.where(taken[:, None] < 0, np.float32(0), found[taken])


def padded(rows: np.ndarray, count: int, dtype: Any = np.float32) -> np.ndarray:
    """Rows (n, ...) filled up with zeros to (count, ...). Raises DataError for more rows than that."""
    if len(rows) > count:
        raise DataError(f"{counted(len(rows), 'box')} at once; this compiled detector takes {count}")
    out = np.zeros((count, *rows.shape[1:]), dtype)
    out[: len(rows)] = rows
    return out
