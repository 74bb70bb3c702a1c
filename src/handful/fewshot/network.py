"""The network of a taught classifier, on whichever engine runs it; PyTorch's own module is made when it is asked for.

It is backbone and head. The backbone is what takes the time, and runs on an engine (handful.engine); the head is two
small matrices, and NumPy does them.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handful import engine
from handful.errors import DataError
from handful.fewshot.front_end import product
from handful.fewshot.nemo import GAIN, Solution
from handful.models import lite
from handful.models.card import Card
from handful.models.folder import WEIGHTS, check_fit, read_meta
from handful.pick import present
from handful.threads import asked, inference

EPS = 1e-12  # of models.net_taught.Head
Features = Callable[[np.ndarray], np.ndarray]


class TaughtNetwork:
    """Card, frame, the backbone's weights and the head's.

    engine: what runs it, decided when the first photo comes; "" before. Fit for several threads at once.
    """

    def __init__(
        self, card: Card, frame_hw: tuple[int, int], rank: int, backbone: Mapping[str, np.ndarray] | None = None,
        head: Mapping[str, np.ndarray] | None = None, module: Any = None,
    ) -> None:  # fmt: skip
        """backbone: arrays by the names of Backbone.state_dict(). head: the same of Head, as it was saved; None before
        anything was learned. module: a net_taught.TaughtNet, instead of both."""
        if min(frame_hw) < 32:
            raise DataError(f"the frame must be at least 32 px a side, got {frame_hw[0]}x{frame_hw[1]}")
        self.card, self.rank, self.frame_hw = card, rank, (int(frame_hw[0]), int(frame_hw[1]))
        self._head: dict[str, np.ndarray] = {}
        self.head = dict(head or {})
        self.engine = ""
        self._wanted = engine.wanted()
        self._backbone, self._module = backbone, module
        self._features: Features | None = None
        self._lock = threading.RLock()

    @classmethod
    def new(cls, backbone: str, frame_hw: tuple[int, int], rank: int | None = None, *, weights: Path | None = None,
            card: Card | None = None) -> TaughtNetwork:  # fmt: skip
        """An untaught one with pre-trained weights; see models.backbone.build."""
        if backbone in lite.LITE and weights is None:
            return cls(lite.card(backbone), frame_hw, rank or lite.DIM, lite.weights(backbone))
        from handful.models import backbone as backbones
        from handful.models.net_taught import TaughtNet

        built = backbones.build(backbone, weights=weights)
        return cls(built.card, frame_hw, rank or built.card.dim,
                   module=TaughtNet(built, 1, frame_hw, rank or built.card.dim).eval())  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> tuple[TaughtNetwork, dict[str, Any]]:
        """From a model folder, with the whole of its handful.json. Raises DataError, naming the file that is wrong."""
        from handful.files import read_tensors
        from handful.models.folder import from_folder

        folder = Path(folder)
        meta = read_meta(folder)
        told, args = meta["network"], meta["network"].get("args", {})
        if told.get("kind") != "taught" or args.get("backbone") not in lite.LITE or set(args) != ARGS:
            model = from_folder(folder)  # says what is wrong, too
            if told["kind"] != "taught":
                raise DataError(f"{folder} holds a {told['kind']!r} network; wanted a taught model")
            # the card was made when the weights were first loaded, and saved
            model.network.backbone.card = Card.from_json(meta["card"])
            made = cls(model.network.backbone.card, model.network.frame_hw, args["rank"], module=model.network)
            made.head = {name: value.numpy() for name, value in model.network.head.state_dict().items()}
            return made, meta
        tensors, rank, classes = read_tensors(folder / WEIGHTS), int(args["rank"]), len(meta["classes"])
        shapes = {f"backbone.{name}": shape for name, shape in lite.shapes(args["backbone"]).items()}
        shapes |= {"head.whiten.weight": (rank, lite.DIM), "head.whiten.bias": (rank,),
                   "head.classify.weight": (classes + 1, rank), "head.classify.bias": (classes + 1,)}  # fmt: skip
        check_fit(folder, "taught", shapes, tensors)
        backbone, head = (
            {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
            for part in ("backbone.", "head.")
        )
        height, width = args["frame_hw"]
        return cls(Card.from_json(meta["card"]), (height, width), rank, backbone, head), meta

    @property
    def head(self) -> dict[str, np.ndarray]:
        """The head's weights, by the names of Head.state_dict(); none before anything was learned."""
        return {name: value for name, value in self._head.items() if not name.endswith(".turned")}

    @head.setter
    def head(self, weights: Mapping[str, np.ndarray]) -> None:
        turned = {name: np.ascontiguousarray(value.T) for name, value in weights.items() if name.endswith(".weight")}
        self._head = {**weights, **{name.replace(".weight", ".turned"): value for name, value in turned.items()}}

    @property
    def backbone(self) -> Mapping[str, np.ndarray]:
        """The backbone's weights."""
        if self._backbone is None:
            self._backbone = {k: v.cpu().numpy() for k, v in self._module.backbone.state_dict().items()}
        return self._backbone

    @property
    def digest(self) -> str:
        """SHA-256 of the backbone's weights and their names."""
        digest = hashlib.sha256()
        for name, value in sorted(self.backbone.items()):
            digest.update(name.encode() + value.tobytes())
        return digest.hexdigest()

    @property
    def pool(self) -> tuple[int, int]:
        """How many rows and columns of the frame are averaged before it is resized."""
        return max(1, self.frame_hw[0] // self.card.size_px), max(1, self.frame_hw[1] // self.card.size_px)

    @property
    def module(self) -> Any:
        """The same network as a net_taught.TaughtNet of torch, with the head as it is now."""
        import torch
        from torch import nn

        from handful.models import backbone as backbones
        from handful.models.net_taught import TaughtNet

        with self._lock, torch.inference_mode(False):  # its weights are written again later
            if self._module is None:
                built = backbones.build(self.card.name, pretrained=False)
                built.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in self.backbone.items()})
                built.card = self.card
                self._module = TaughtNet(built, 1, self.frame_hw, self.rank).eval()
            if self.head:
                own = self._module.head
                if own.classify.out_features != len(self.head["classify.bias"]):
                    own.classify = nn.Linear(self.rank, len(self.head["classify.bias"]))
                own.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in self.head.items()})
            return self._module

    def features(self, frames: np.ndarray, *, on: str | None = None) -> np.ndarray:
        """(n, h, w, 3) uint8 RGB, of frame_hw -> (n, card.dim) float32. on: "torch" for that engine, whichever is in
        use. Raises DataError for weights that are damaged, DeviceError or MissingPackage without an engine."""
        run = self._torch() if on == "torch" else self._features
        if run is None:
            with self._lock:
                run = self._features = self._features or self._chosen()
        # one image at a time: a batch's size may change the last bits, and then the answers with it
        made = np.concatenate([run(np.ascontiguousarray(frame[None])) for frame in frames])
        if not np.isfinite(made).all():
            raise DataError("the backbone gave NaN or infinity; its weights are damaged")
        return made

    @property
    def likely_engine(self) -> str:
        """The name of the engine that runs it, or else will, as far as one can say without loading it."""
        if self.engine or self._wanted != "auto":
            return self.engine or self._wanted
        return "onnxruntime" if self.card.name in lite.LITE and present("onnxruntime") else "torch"

    def _chosen(self) -> Features:
        known = self.card.name in lite.LITE
        return engine.choose(self._wanted, self._on_onnxruntime if known else None, self._on_torch, self.card.name)

    def _on_onnxruntime(self) -> Features:
        session = engine.onnx_session(lite.onnx(self.backbone, self.card, self.frame_hw), asked() or 1)
        self.engine = "onnxruntime"
        return lambda frames: np.asarray(session.run(None, {"image": frames})[0])

    def _on_torch(self) -> Features:
        run = self._torch()
        self.engine = "torch"
        return run

    def _torch(self) -> Features:
        import torch

        module = self.module

        def run(frames: np.ndarray) -> np.ndarray:
            with inference():
                return np.asarray(module.features(torch.from_numpy(frames)).numpy())

        return run

    def rewrite_head(self, solution: Solution, center: np.ndarray, projection: np.ndarray) -> None:
        """Make the head of what NEMO knows. center, projection: of the front end."""
        whiten = solution.whiten @ projection.T.astype(np.float64)
        # the cosine does not see how long the vector is, so the whole map may be scaled to sit well inside float16
        whiten /= np.abs(whiten).max()
        rows = np.concatenate([solution.prototypes * GAIN, np.zeros((1, len(solution.whiten)))])
        bias = np.array([0.0] * len(solution.classes) + [solution.none * GAIN])
        self.head = {
            "whiten.weight": whiten.astype(np.float32),
            "whiten.bias": (-whiten @ center.astype(np.float64)).astype(np.float32),
            "classify.weight": rows.astype(np.float32),
            "classify.bias": bias.astype(np.float32),
        }

    def scores(self, features: np.ndarray) -> np.ndarray:
        """(n, card.dim) float32 -> (n, k + 1) float32, "none of these" last: what net_taught.Head computes."""
        head, root = self._head, np.sqrt(np.maximum(features, 0))
        if self.card.signed:
            root = root - np.sqrt(np.maximum(-features, 0))
        white = product(root, head["whiten.turned"]) + head["whiten.bias"]
        length = np.sqrt(np.sum(white * white, axis=1, keepdims=True) + np.float32(EPS))
        scores: np.ndarray = product(white / length, head["classify.turned"]) + head["classify.bias"]
        return scores

    def state_dict(self) -> dict[str, np.ndarray]:
        """All weights, by the names of TaughtNet.state_dict(), in its order."""
        parts = {"backbone": self.backbone, "head": self.head}
        return {f"{part}.{name}": value for part, held in parts.items() for name, value in held.items()}


ARGS = {"backbone", "frame_hw", "rank"}
