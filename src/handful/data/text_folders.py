"""Formats of a text file an image, in a folder beside the images': which files there are, and what they say."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handful.data import sniff
from handful.data.finding import OnFinding
from handful.data.listed import Row
from handful.data.marks import Mark, Said
from handful.data.paths import Shelf
from handful.data.reading import label_text

Parse = Callable[[str, int], "Mark | None"]


@dataclass(frozen=True)
class TextFiles:
    """The text files of a format. is_it: whether one looks right. wanted: whether a folder is called as theirs are."""

    is_it: Callable[[bytes], bool]
    wanted: Callable[[str], bool]

    def below(self, folder: Path) -> Iterator[str]:
        """Those a little below a folder that lie in a folder of a wanted name and look right."""
        seen: dict[str, int] = {}
        for name in sniff.files(folder, ".txt"):
            at = posixpath.dirname(name)
            if self.wanted(posixpath.basename(at)):
                seen[at] = seen.get(at, 0) + 1
                if seen[at] <= sniff.EACH and self.is_it(sniff.ends(folder / name)):
                    yield name

    def there(self, folder: Path) -> bool:
        """Whether there is one."""
        return folder.is_dir() and next(self.below(folder), None) is not None


def rows_of(names: Sequence[str], shelf: Shelf, images: Callable[[str], str], parse: Parse) -> Iterator[Row]:
    """A row a file. images: the path of a label file -> that of its image without suffix. parse: a line and its number
    -> what it marks, None for a line that says nothing.
    """
    for name in names:

        def said(tell: OnFinding, name: str = name) -> Said | None:
            text = label_text(shelf.folder / name, shelf.root, tell) if shelf.inside(name, tell) else None
            if text is None:
                return None
            lines = ((line.strip(), i) for i, line in enumerate(text.split("\n"), 1))
            return Said([mark for line, i in lines if line and (mark := parse(line, i)) is not None])

        yield Row(images(name), name, said)
