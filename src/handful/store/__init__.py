"""The labelling store: who said what about which photo, when, and what it was before."""

from handful.store.annotations import Change, Keyframe, Label, Mark
from handful.store.store import Store

__all__ = ["Change", "Keyframe", "Label", "Mark", "Store"]
