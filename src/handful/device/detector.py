"""A compiled detector run on this PC, from detector.json and its graphs alone: what an app on a phone does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import handful.device.runtimes
from handful.detection import graphs
from handful.detection.contract import Proposals
from handful.detection.embedder import crop_boxes
from handful.detection.fusion import Fusion
from handful.detection.letterbox import frame_to_image, image_to_frame, letterbox, top_boxes
from handful.detection.scored import ScoredProposals, select_detections
from handful.device.runtimes.contract import PLAN, Session
from handful.errors import DataError
from handful.fewshot.nemo import GAIN, Solution, none_below
from handful.files import read_json
from handful.pick import need, pick, present
from handful.results import Detections


class OnDevice:
    """A detector as a phone has it. propose, score, select and detect are those of handful.detection.irene.Irene.

    plan: the whole of detector.json. sessions: of its graphs, by name. ms: milliseconds that each step of the last
    image took, by name, in order.
    """

    def __init__(
        self, plan: Mapping[str, Any], sessions: Mapping[str, Session], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.plan, self.sessions, self._clock, self.ms = dict(plan), dict(sessions), clock, dict[str, float]()
        try:
            self.side, self.boxes, self.crops = int(plan["frame"]["side_px"]), plan["boxes"], plan["crops"]
            answer, self.fusion = plan["answer"], Fusion(**plan["fusion"])
            self.classes, self.vigilance, self.gain = tuple(plan["classes"]), answer["vigilance"], answer["gain"]
            expected, self.score_threshold = float(answer["expected"]), float(answer["score_threshold"])
            self.batch = int(self.boxes["max_boxes"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{PLAN} is not what was written there ({error!r}); compile the detector again") from error
        if plan.get("schema_version") != graphs.SCHEMA_VERSION or self.gain != GAIN:
            raise DataError(f"{PLAN} has schema_version {plan.get('schema_version')!r} and gain {self.gain}; wanted "
                            f"{graphs.SCHEMA_VERSION} and {GAIN:g}; compile the detector again")  # fmt: skip
        none, nothing = none_below(expected, self.vigilance), np.zeros((0, 0))
        self._solution = Solution(self.classes, nothing, nothing, np.zeros(0), expected, none)

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> OnDevice:
        """From the folder of a compiled detector, which may lie anywhere (for the runtime torch, in its detector).

        Raises DataError for another folder, MissingPackage without the runtime, DeviceError from the runtime.
        """
        folder = Path(folder)
        if not (folder / PLAN).exists():
            raise DataError(f"{folder} is not a compiled detector: it has no {PLAN}; wanted a folder as `handful "
                            "device compile DETECTOR --runtime onnxruntime` makes")  # fmt: skip
        plan = read_json(folder / PLAN)
        runtime = pick(handful.device.runtimes, "runtime", str(plan.get("runtime")))
        for package in runtime.MODULES:
            if not present(package):
                need(package, runtime.EXTRA)
        names = [str(one["name"]) for one in plan.get("graphs", [])]
        return cls(plan, {name: runtime.load(folder / name, threads=threads) for name in names})

    def propose(self, rgb_u8: np.ndarray, max_boxes: int | None = None) -> Proposals:
        """At most `max_boxes` boxes of an image (h, w, 3) uint8 RGB, and no more than the graphs take; so with
        features."""
        self.ms.clear()
        size_wh = rgb_u8.shape[1], rgb_u8.shape[0]
        keep = {"nms_iou": self.boxes["nms_iou"], "max_boxes": min(max_boxes or self.batch, self.batch)}
        with self._timed("letterbox"):
            frame, factor, left_top = letterbox(rgb_u8, self.side)
        with self._timed("propose"):
            out = self.sessions["propose"].run({"image": frame[None]})
        maps = {name: value for name, value in out.items() if name.startswith("map_")}
        refine = self.boxes["refine"]
        with self._timed("boxes"):
            boxes, quality = frame_to_image(out["boxes"][0], factor, left_top), out["quality"][0]
            first = {**keep, "max_boxes": refine["max_boxes"]} if refine else keep
            top_k = self.boxes["pre_nms_top_k"]
            boxes, quality = top_boxes(boxes, quality, size_wh, pre_nms_top_k=top_k, **first)
        if refine and len(boxes):
            with self._timed("refine"):
                given = padded(image_to_frame(boxes, factor, left_top), refine["max_boxes"])
                out = self.sessions["refine"].run({**maps, "boxes": given})
                better = {name: value[: len(boxes)] for name, value in out.items()}
                boxes = frame_to_image(better["refined_boxes"], factor, left_top)
                boxes, quality = top_boxes(boxes, better["refined_quality"], size_wh, pre_nms_top_k=len(boxes), **keep)

        def features(wanted: np.ndarray) -> np.ndarray:
            with self._timed("features"):
                given = padded(image_to_frame(wanted, factor, left_top), self.batch)
                return self.sessions["features"].run({**maps, "boxes": given})["proposer_features"][: len(wanted)]

        return Proposals(boxes, quality, np.zeros(len(boxes), np.int64), features)

    def score(self, rgb_u8: np.ndarray, proposals: Proposals | None = None) -> ScoredProposals:
        """As Irene.score; proposals: as propose gave them."""
        if proposals is None:
            proposals = self.propose(rgb_u8)
        boxes, quality, scale = proposals.xyxy_px, proposals.quality, proposals.scale
        if not len(boxes):
            return ScoredProposals(boxes, quality, scale, np.zeros((0, 0)), np.zeros((0, len(self.classes))))
        feed: dict[str, np.ndarray] = {}
        if self.plan["features"]:
            feed["proposer_features"] = padded(proposals.features(boxes), self.batch)
        if self.crops is not None:
            feed["crop_features"] = padded(self._crop_features(rgb_u8, boxes), self.batch)
        with self._timed("head"):
            out = self.sessions["head"].run(feed)
        names = ("vectors", "logits", "cosine_floor")
        vectors, logits, floor = (out[name][: len(boxes)].astype(np.float64) for name in names)
        return ScoredProposals(boxes, quality, scale, vectors, logits, floor[:, 0])

    def select(
        self, scored: ScoredProposals, *, vigilance: float | None = None, ranking: bool = False,
        score_threshold: float | None = None, **options: Any,
    ) -> Detections:  # fmt: skip
        """As Irene.select."""
        with self._timed("select"):
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
        count = int(self.crops["batch"])
        with self._timed("cut"):
            frames = crop_boxes(rgb_u8, boxes, int(self.crops["side_px"]), float(self.crops["margin"]))
        rows = []
        with self._timed("crops"):
            for start in range(0, len(frames), count):
                own = frames[start : start + count]
                rows.append(
                    self.sessions["crops"].run({"crops": padded(own, count, np.uint8)})["crop_features"][: len(own)]
                )
        return np.concatenate(rows)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = self._clock()
        yield
        self.ms[name] = self.ms.get(name, 0.0) + 1000 * (self._clock() - began)


def padded(rows: np.ndarray, count: int, dtype: Any = np.float32) -> np.ndarray:
    """Rows (n, ...) filled up with zeros to (count, ...). Raises DataError for more rows than that."""
    if len(rows) > count:
        raise DataError(f"{len(rows)} boxes at once; this compiled detector takes {count}")
    out = np.zeros((count, *rows.shape[1:]), dtype)
    out[: len(rows)] = rows
    return out
