"""What paths on the command line are: a model folder, data, images.

A type says how a value is spelled; its `check` looks at what it names, before the verb begins and anything heavy is
loaded (see handful.cli.shared.Verb).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from handful import shipped


class Place(click.Path):
    """A path; ~ is the home folder also where the shell left it as it is, as in --out=~/model."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As a path."""
        return super().convert(home(value), param, ctx)


def home(value: Any) -> Any:
    """With the home folder for ~, unless a thing of that name is here or nobody has such a home."""
    return os.path.expanduser(value) if str(value).startswith("~") and not os.path.lexists(value) else value


PATH = Place(path_type=Path)


class Output(click.ParamType):  # type: ignore[type-arg]
    """Where a verb writes. How: "model", a folder that is made or replaced as one, but for what its owner put there;
    "data", a new folder; "files", a folder for files with these names, or any; "bundles", a folder for compiled models;
    "file", a file. What is read is known once all is typed, so it is checked by handful.cli.shared.Verb (clear)."""

    name = "path"

    def __init__(self, how: str, *names: str) -> None:
        self.how, self.names = how, names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """As a path."""
        return Path(home(value))

    def clear(self, place: Path, reads: Sequence[Path]) -> None:
        """Raises DataError, in one line, where the verb would write over what it reads or what handful did not make,
        and where nothing can be written."""
        from handful import places
        from handful.errors import DataError

        if self.how == "file":
            places.check_file(place, reads)
            return
        places.check_folder(place, reads, whole=self.how in ("model", "data"), names=self.names)
        if self.how == "data":
            if os.path.lexists(place):
                raise DataError(f"{place} exists; choose another place, or remove it")
            within = next((read for read in reads if read.is_dir() and places.holds(read, place)), None)
            if within is not None:
                raise DataError(f"{place} lies inside {within}, which this command reads; choose another place")
        if self.how == "files":
            model = next((name for name in ("handful.json", "bundle.json") if (place / name).exists()), None)
            if model is not None:
                raise DataError(f"{place} is a model, which other files do not belong in; choose another place")
            for read in reads:
                if read.is_file() and places.same(read.parent, place) and _is_image(read):
                    raise DataError(f"{place} is the folder of {read}, where no pictures are put; choose another place")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and folders, by the shell."""
        return [CompletionItem(incomplete, type="file")]


def _is_image(path: Path) -> bool:
    """By its suffix; what draws puts no picture among images, where the next command would take it for one of them."""
    from handful.image import HEIC_SUFFIXES, SUFFIXES

    return path.suffix.lower() in SUFFIXES | HEIC_SUFFIXES


class ModelFolder(click.ParamType):  # type: ignore[type-arg]
    """A model folder, of any kind, or a model that comes with handful, by its name; `bundle`: or a compiled one."""

    name = "folder"
    reads = True

    def __init__(self, *, bundle: bool = False) -> None:
        self.bundle = bundle

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """As a path."""
        return shipped.found(home(value))

    def check(self, place: Path) -> None:
        """Raises DataError or UsageError, in one line, for a path that is something else."""
        import handful.kinds
        from handful.errors import DataError

        if not place.exists():  # told before even NumPy is loaded
            raise DataError(f"{place} does not exist; wanted a model folder: {handful.kinds.MADE_BY}; of models that "
                            f"come with handful there is {' and '.join(shipped.known())}")  # fmt: skip
        from handful.kinds import registry

        registry.look_at(place, bundle=self.bundle)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Model folders, folders that may lead to one, and the models that come with handful."""
        return model_folders(incomplete) + [CompletionItem(n) for n in shipped.known() if n.startswith(incomplete)]


class Data(click.ParamType):  # type: ignore[type-arg]
    """A folder or file with images and labels: it is there, and no model folder."""

    name = "path"
    reads = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """As a path."""
        return Path(home(value))

    def check(self, place: Path) -> None:
        """Raises DataError, in one line, where nothing is, and for a model folder."""
        from handful.errors import DataError

        if not place.exists():
            raise DataError(f"{place} does not exist; wanted images there")
        from handful.kinds import registry

        registry.no_model(place)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files and folders, by the shell."""
        return [CompletionItem(incomplete, type="file")]


class ImageFile(click.ParamType):  # type: ignore[type-arg]
    """One image."""

    name = "image"
    reads = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """As a path."""
        return Path(home(value))

    def check(self, place: Path) -> None:
        """Raises DataError where there is none; whether it can be read is seen later."""
        from handful.errors import DataError

        if not place.is_file():
            raise DataError(f"{place} {'is a folder' if place.is_dir() else 'does not exist'}; wanted an image")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Files, by the shell."""
        return [CompletionItem(incomplete, type="file")]


class PathOrAddress(click.types.StringParamType):
    """A path, or the address of a store."""

    reads = True


def model_folders(incomplete: str) -> list[CompletionItem]:
    """Folders with a model, and folders around them, for the word so far."""
    start = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    head = "" if start == Path() and not incomplete.startswith("./") else f"{incomplete.rpartition('/')[0]}/"
    found = []
    for place in _folders(start):
        text = head + place.name
        if not text.startswith(incomplete):
            continue
        model = any((place / name).exists() for name in ("handful.json", "bundle.json"))
        if model or any(_folders(place)):
            found.append(CompletionItem(text + ("" if model else "/")))
    return found


def _folders(place: Path) -> Iterable[Path]:
    try:
        return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return ()
