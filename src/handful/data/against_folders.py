"""Folders that are classes too, under images whose labels say another class: two sources that contradict each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from handful import running
from handful.data.finding import Finding, OnFinding
from handful.data.folder_names import PATH_HOLDERS, SPLIT_OF
from handful.data.near_names import spelled_alike
from handful.data.paths import relative
from handful.types import Dataset, Sample
from handful.words import counted

Said = tuple[Path, frozenset[str]]  # an image, and the classes that its labels say


def watched(dataset: Dataset, on_finding: OnFinding) -> Dataset:
    """The same set, which tells at its end the images that lie in the folder of a class and are said to be others."""

    def samples() -> Iterator[Sample]:
        said: list[Said] = []
        for sample in dataset:
            classes = {thing.label for thing in sample.objects or ()} | ({sample.label} - {None})
            if sample.pixels is None and classes:
                said.append((sample.path, frozenset(str(name) for name in classes)))
            yield sample
        _tell(dataset, said, on_finding)

    return replace(dataset, samples=samples)


def _tell(dataset: Dataset, said: list[Said], on_finding: OnFinding) -> None:
    names = {spelled_alike(c.name) for c in dataset.categories}
    below: dict[Path, set[str]] = defaultdict(set)  # a folder -> those in it that hold images and can be classes
    for path, _ in said:
        if path.parent.name.lower() not in SPLIT_OF and path.parent.name.lower() not in PATH_HOLDERS:
            below[path.parent.parent].add(path.parent.name)
    # one that is called like a class makes those beside it classes too; alone it is but a folder
    of_classes = {at / name for at, held in below.items()
                  if len(held) > 1 and any(spelled_alike(name) in names for name in held) for name in held}  # fmt: skip
    against = [(path, classes) for path, classes in said if path.parent in of_classes
               and spelled_alike(path.parent.name) not in {spelled_alike(name) for name in classes}]  # fmt: skip
    if not against:
        return
    path, classes = against[0]
    files = [relative(path, dataset.root) for path, _ in against]
    detail = (
        f"{counted(len(files), 'image lies', 'images lie')} in the folder of another class than the labels "
        f"({dataset.format}) say ({files[0]} is of {', '.join(sorted(classes))[:100]}); "
    )
    if running.has("--format"):
        detail += f"to go by the labels: --format {dataset.format}; to go by the folders, "
    detail += "move the labels away" if running.has("--format") else "move the labels away, or mend them"
    on_finding(Finding("folder_mismatch", files[0] if len(files) == 1 else ".", files[:20], len(files), detail))
