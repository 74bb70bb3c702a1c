"""handful: teach a camera something new from a handful of images, and prove it on the phone.

    import handful

    model = handful.teach("photos", "model")  # a folder of images for each class
    model.predict("new.jpg")[0].plot()

Importing this package imports nothing heavy, not even NumPy: each name below is loaded when it is first used.
Import it before torch, so that threads without work sleep (see handful.threads).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from handful.threads import settle

__version__ = "0.3.0"

_HOME = {
    "load": "api", "teach": "api", "train": "api", "predict": "api", "evaluate": "api", "dream": "api", "Dreams": "api",
    "Image": "image",
    "Classification": "results", "Detections": "results", "Segmentation": "results", "Evaluation": "evaluation",
    "Detection": "results", "Patch": "results",
    "Model": "kinds.contract", "Classifier": "kinds.contract", "Segmenter": "kinds.contract",
    "Detector": "kinds.contract",
    "Bundle": "bundle",
    "HandfulError": "errors", "DataError": "errors", "UnknownName": "errors", "UsageError": "errors",
    "MissingPackage": "errors", "CompileError": "errors", "DeviceError": "errors",
}  # fmt: skip

settle()  # thread pools read how to wait when they are loaded, so before NumPy or torch is

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from handful.api import Dreams as Dreams
    from handful.api import dream as dream
    from handful.api import evaluate as evaluate
    from handful.api import load as load
    from handful.api import predict as predict
    from handful.api import teach as teach
    from handful.api import train as train
    from handful.bundle import Bundle as Bundle
    from handful.errors import CompileError as CompileError
    from handful.errors import DataError as DataError
    from handful.errors import DeviceError as DeviceError
    from handful.errors import HandfulError as HandfulError
    from handful.errors import MissingPackage as MissingPackage
    from handful.errors import UnknownName as UnknownName
    from handful.errors import UsageError as UsageError
    from handful.evaluation import Evaluation as Evaluation
    from handful.image import Image as Image
    from handful.kinds.contract import Classifier as Classifier
    from handful.kinds.contract import Detector as Detector
    from handful.kinds.contract import Model as Model
    from handful.kinds.contract import Segmenter as Segmenter
    from handful.results import Classification as Classification
    from handful.results import Detection as Detection
    from handful.results import Detections as Detections
    from handful.results import Patch as Patch
    from handful.results import Segmentation as Segmentation


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'handful' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    found = getattr(importlib.import_module(f"handful.{home}"), name)
    globals()[name] = found
    return found  # type: ignore[no-any-return]


def __dir__() -> list[str]:
    return sorted(__all__)
