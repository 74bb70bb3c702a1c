"""Every error handful raises on purpose. Each message says what was found, what was wanted and what to do."""


class HandfulError(Exception):
    """The root: catch this to catch everything below."""


class DataError(HandfulError):
    """Input that cannot be used: a photo, a label, a folder, a model file. The message names the file."""


class UnknownName(HandfulError):
    """A backbone, runtime, format or class that does not exist; the message lists what does."""


class UsageError(HandfulError):
    """Something that this kind of model, or this place, cannot do; the message says which verb or place can."""


class MissingPackage(HandfulError):
    """An optional package is absent; the message holds the exact pip line."""


class CompileError(HandfulError):
    """A phone runtime could not take the network."""


class DeviceError(HandfulError):
    """A compiled model could not be loaded or run, or its process died."""


class Cancelled(HandfulError):
    """Somebody no longer wants the result of a call; nothing half-written is left."""
