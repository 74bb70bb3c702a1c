"""What every trained model is: one network, read from its folder and not changed again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

from handful.arrays import JSONObject, StrPath
from handful.bundle import Bundle
from handful.files import replacing_folder
from handful.kinds import shared
from handful.models.folder import check_replaceable, own_names


class Trained:
    """A network and what its folder says of it. meta: the whole of handful.json."""

    kind: str
    task: str

    def __init__(self, network: Any, meta: dict[str, Any], folder: Path | None = None) -> None:
        self.network, self.meta, self.folder = network, meta, folder

    @classmethod
    def read(cls, folder: Path) -> Self:
        """From a model folder. Raises DataError, naming the file, when anything is not as saved."""
        from handful.models.folder import from_folder

        model = from_folder(folder)
        return cls(model.network, model.meta, folder)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the network's scores."""
        return tuple(self.meta["classes"])

    @property
    def card(self) -> JSONObject:
        """See Model.card."""
        left_out = ("files", "made_on", "schema_version")
        return {"kind": self.kind, **{key: value for key, value in self.meta.items() if key not in left_out}}

    def on_disk(self, verb: str) -> Path:
        """The folder. Raises UsageError for a model in memory only."""
        return shared.on_disk(self.folder, verb)

    def compile(self, runtime: str, precision: str = "fp32") -> Bundle:
        """As Model.compile."""
        return shared.compiled(self.folder, runtime, precision)

    def save(self, folder: StrPath) -> Path:
        """A copy of the model, without what was compiled or else lies in its folder.

        Raises DataError where something else lies there.
        """
        own, to = self.on_disk("copy"), Path(folder)
        check_replaceable(to)
        if to.resolve() != own.resolve():
            ours = own_names(own)
            with replacing_folder(to, own_names) as part:
                for name in sorted(ours):
                    if "/" not in name and (own / name).is_file():
                        shutil.copy2(own / name, part / name)
        self.folder = to
        return to
