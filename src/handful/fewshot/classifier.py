"""The few-shot classifier: taught from folders of images, saved as one ordinary network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handful.curate.seen import Learned, Mark, Seen, mark
from handful.errors import DataError
from handful.fewshot.answer import Answer, answer
from handful.fewshot.embeddings import Embedder
from handful.fewshot.front_end import FrontEnd, standard_front_end, unit
from handful.fewshot.left_out import Sampled
from handful.fewshot.nemo import GAIN, VIGILANCE, Nemo, Solution, none_below
from handful.fewshot.network import TaughtNetwork
from handful.fewshot.vigilance import check_vigilance
from handful.image import fit
from handful.models import folder as folders
from handful.pick import present
from handful.progress import track
from handful.threads import over
from handful.types import Image, Sample

BACKBONE = "lite2"
FRAME_HW = (448, 448)
AT_ONCE = 512  # images whose vectors wait to be learned
RULE = (
    "the answer is the class with the largest score, or none of these when that score is larger; "
    "scores are cosines to whitened class means times 20"
)


class FewShotClassifier:
    """A model in memory: the network that goes to the phone, and the NEMO that made its head."""

    def __init__(
        self, net: TaughtNetwork, nemo: Nemo, embedder: Embedder, about: dict[str, Any] | None = None
    ) -> None:  # fmt: skip
        self.net, self.nemo, self.embedder = net, nemo, embedder
        self.about = about or {}
        self.seen: Seen | None = Seen()  # what was learned; None for a folder that does not say
        self._solution: Solution | None = None

    @classmethod
    def new(
        cls,
        backbone: str = BACKBONE,
        *,
        vigilance: float = VIGILANCE,
        frame_hw: tuple[int, int] = FRAME_HW,
        weights: Path | None = None,
        cache: Path | None = None,
        front_end: FrontEnd | None = None,
    ) -> FewShotClassifier:
        """An untaught model. backbone: lite0, lite1, lite2 or timm:NAME; frame_hw: the frame the phone will give."""
        net = TaughtNetwork.new(backbone, frame_hw, weights=weights)
        chosen = front_end or standard_front_end(net.card)
        net.rank = chosen.rank
        embedder = Embedder(net, cache=cache, front_end=chosen)
        nemo = Nemo(chosen.rank, features=embedder.name, vigilance=vigilance)
        return cls(net, nemo, embedder, {"backbone": backbone})

    @classmethod
    def load(cls, folder: Path, *, cache: Path | None = None) -> FewShotClassifier:
        """From a model folder. Raises DataError, naming the file, if anything in it is missing or not as saved."""
        net, meta = TaughtNetwork.load(folder)
        embedder = Embedder(net, cache=cache)
        nemo = Nemo.load(Path(folder), features=embedder.name)
        if list(nemo.classes) != meta["classes"]:
            raise DataError(f"{folder}: nemo.json and handful.json name different classes; teach the model again")
        found = cls(net, nemo, embedder, meta["about"])
        found.seen = Seen.load(Path(folder))
        return found

    @property
    def network(self) -> Any:
        """The network that goes to the phone, as a net_taught.TaughtNet of torch."""
        return self.net.module

    @property
    def classes(self) -> tuple[str, ...]:
        """Taught classes in order of name, as the network's scores are."""
        return self.nemo.classes

    def learn(self, image: Image, label: str) -> None:
        """Learn one image (uint8 RGB). The head is rewritten; nothing is trained."""
        self.learn_vectors([self.embedder.teach_vector(image)], [mark(image.rgb_u8)], [label])

    def learn_vectors(self, vectors: Sequence[np.ndarray], marks: Sequence[Mark], labels: Sequence[str]) -> None:
        """Learn images by what Embedder.teach_vector and seen.mark made of them, all or none of them."""
        self.nemo.learn_many(np.stack(vectors), list(labels))
        for one, label in zip(marks, labels, strict=True):
            if self.seen is not None:
                self.seen.add(one, label)
        self.refresh()

    def learn_samples(
        self, samples: Sequence[Sample], *, again: bool = False, leave_out: bool = False, sampled: Sampled | None = None
    ) -> Learned:
        """Learn many images from disk, all or none of them.

        again: count the same pixels as often as they come; else once a class. leave_out: go on without images that
        cannot be read. sampled: is given what was learned.
        """
        labels = []
        for sample in samples:
            if sample.label is None:
                raise DataError(f"{sample.path} has no label; wanted one to learn it as")
            labels.append(sample.label)

        def vector(sample: Sample) -> tuple[np.ndarray, Mark] | None:
            try:
                return self.embedder.of_file(sample.path)
            except DataError:
                if not leave_out:
                    raise
                return None

        there = set(self.seen.rows) if self.seen is not None else set()
        # they are learned as they come, aside, so that their number costs no memory and a failure changes nothing
        aside = Nemo(self.nemo.dim, features=self.nemo.features, vigilance=self.nemo.vigilance, ridge=self.nemo.ridge)
        marks: list[tuple[Mark, str]] = []
        waiting: list[tuple[np.ndarray, str]] = []
        known = unreadable = 0

        def learn() -> None:
            if waiting:
                aside.learn_many(np.stack([z for z, _ in waiting]), [label for _, label in waiting])
                waiting.clear()

        rows = track(over(vector, samples), "learning", len(samples))
        for row, label, sample in zip(rows, labels, samples, strict=True):
            if row is None:
                unreadable += 1
                continue
            z, one = row
            if not again and (one[0], label) in there:
                known += 1
                continue
            there.add((one[0], label))
            marks.append((one, label))
            waiting.append((z, label))
            if sampled is not None:
                sampled.add(z, label, str(sample.path), one)
            if len(waiting) >= AT_ONCE:
                learn()
        learn()
        if unreadable == len(samples):
            raise DataError("no image can be read; wanted one at least to learn from")
        if marks:
            self.nemo = self.nemo.merge(aside)
            for one, label in marks:
                if self.seen is not None:
                    self.seen.add(one, label)
            self.refresh()
        return Learned(len(marks), known, unreadable)

    def unlearn(self, image: Image, label: str) -> np.ndarray:
        """Take one image back, as if it had never been learned; a class without images is gone. Returns its vector, as
        it was learned."""
        taken = self.take_back(image, label)
        if self.seen is not None:
            self.seen.drop(mark(image.rgb_u8), label)
        self.changed()
        return taken

    def take_back(self, image: Image, label: str) -> np.ndarray:
        """What `unlearn` does to NEMO alone; returns the vector that was learned."""
        vector = self.embedder.teach_vector(image)
        if not self.nemo.knows(vector, label) and self.nemo.only_exact(label) and present("torch"):
            # a folder of 0.3 was taught on PyTorch, and does not say more of a sample than its hash
            exact = unit(self.embedder.front_end(self._on_torch(image)).mean(axis=0))
            vector = exact if self.nemo.knows(exact, label) else vector
        return self.nemo.unlearn(vector, label)

    def _on_torch(self, image: Image) -> np.ndarray:
        frame = fit(image.rgb_u8, self.net.frame_hw)
        return self.net.features(np.stack([frame, frame[:, ::-1]]), on="torch")

    def forget(self, label: str) -> None:
        """Take a whole class back, without its images at hand; see Nemo.forget."""
        self.nemo.forget(label)
        if self.seen is not None:
            self.seen.forget(label)
        self.changed()

    def changed(self) -> None:
        """Follow what was done to NEMO; one that knows nothing any more leaves the head as it is."""
        self._solution = None
        if len(self.nemo):
            self.refresh()

    def refresh(self) -> Solution:
        """Rewrite the network's head from what NEMO knows now."""
        self._solution = solution = self.nemo.solve()
        front = self.embedder.front_end
        self.net.rewrite_head(solution, front.center, front.projection)
        return solution

    def scores(self, image: Image, vigilance: float | None = None) -> np.ndarray:
        """(k + 1,) float32: the network's scores of an image of any size, "none of these" last.

        vigilance: for this call, instead of the model's own, which stays as it is. Raises DataError for a model that
        was taught nothing.
        """
        if not len(self.nemo):
            raise DataError(
                "the model was taught nothing yet; learn at least one image: handful teach PHOTOS --out DIR"
            )
        row: np.ndarray = self.net.scores(self.net.features(fit(image.rgb_u8, self.net.frame_hw)[None]))[0]
        if vigilance is not None:
            row[-1] = GAIN * none_below(self.expected, check_vigilance(vigilance))
        return row

    @property
    def solution(self) -> Solution:
        """NEMO's constants for what it knows now. Raises DataError when nothing has been learned."""
        if self._solution is None:
            self._solution = self.nemo.solve()
        return self._solution

    @property
    def expected(self) -> float:
        """The cosine that taught samples have to their own class, from which vigilance is counted down."""
        return self.solution.expected

    def recognize(self, image: Image) -> Answer:
        """The prediction for one image."""
        return answer(self.scores(image), self.classes)

    def save(self, folder: Path, *, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the model folder, whole or not at all. data: what it was taught from, for the record."""
        self.refresh()
        card = self.net.card
        height, width = self.net.frame_hw

        def beside(part: Path) -> None:
            self.nemo.save(part)
            if self.seen:  # one that is empty though something was learned knows nothing
                self.seen.save(part)

        return folders.save_folder(
            folder,
            self.net,
            kind="taught",
            args={
                "backbone": card.name,
                "frame_hw": [height, width],
                "rank": self.embedder.front_end.rank,
            },
            classes=list(self.classes),
            preprocessing={
                "frame_hw": [height, width],
                "color_order": "RGB",
                "dtype": "uint8",
                "layout": "NHWC",
                "before_the_graph": "resize the image to frame_hw: bilinear, antialiased, aspect not kept",
                "in_the_graph": f"average pooling by {self.net.pool}, bilinear to {card.size_px}x"
                f"{card.size_px} (half-pixel centers), then (x / 255 - mean) / std",
                "mean": list(card.mean),
                "std": list(card.std),
            },
            about={
                "outputs": {"scores": "one a class in order of `classes`, then none of these; logits; softmax allowed"},
                "rule": RULE,
                "card": card.to_json(),
                "about": {**self.about, "vigilance": self.nemo.vigilance, "samples": self.nemo.counts, **(data or {})},
            },
            beside=beside,
        )
