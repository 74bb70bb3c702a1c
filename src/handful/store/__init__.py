"""The labeling store: who said what about which image, when, and what it was before."""

from handful.store.annotations import Annotation, Change, Keyframe, Label
from handful.store.store import Store

__all__ = ["Annotation", "Change", "Keyframe", "Label", "Store"]
