"""The photos of one set held against one another: the same bytes twice, and what merely looks the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from handful.curate import near_duplicates
from handful.curate.image_metadata import ImageMetadata
from handful.data.finding import Finding, OnFinding
from handful.types import Sample


class Album:
    """The photos of one set, to be held against one another: exactly and by likeness."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.hashes: list[str] = []
        self.samples: list[tuple[str | None, str | None, str | None]] = []  # split, label, clip
        self.marks: list[near_duplicates.Fingerprint] = []
        self.marked: list[int] = []

    def add(self, sample: Sample, image_metadata: ImageMetadata, at: str) -> None:
        """Add a photo. at: its file as people read it."""
        mark = image_metadata.likeness
        if mark is not None:
            self.marks.append(mark)
            self.marked.append(len(self.files))
        self.files.append(at)
        self.hashes.append(image_metadata.sha256 if not image_metadata.error else "")
        self.samples.append((sample.split, sample.label, sample.clip))

    def same(self, on_finding: OnFinding) -> None:
        """Tell photos of the same bytes: in two splits, in two classes, or merely twice."""
        groups: dict[str, list[int]] = defaultdict(list)
        for i, digest in enumerate(self.hashes):
            if digest:
                groups[digest].append(i)
        for group in groups.values():
            if len({self.files[i] for i in group}) > 1:
                splits, labels = ({self.samples[i][k] for i in group} for k in (0, 1))
                code = "same_photo_across_splits" if len(splits) > 1 else "same_photo_twice"
                if len(labels) > 1:
                    code = "same_photo_in_two_classes"
                self._tell(code, group, "are the same photo", on_finding)

    def near(self, on_finding: OnFinding) -> None:
        """Tell photos that look the same; frames of one film are left alone."""
        pairs = []
        for a, b in near_duplicates.near(self.marks):
            i, j = self.marked[a], self.marked[b]
            (split_i, _, clip_i), (split_j, _, clip_j) = self.samples[i], self.samples[j]
            # frames of one film look alike, as they should
            if self.hashes[i] != self.hashes[j] and not (clip_i is not None and (clip_i, split_i) == (clip_j, split_j)):
                pairs.append((i, j))
        for group in (g for g in near_duplicates.groups(len(self.files), pairs) if len(g) > 1):
            splits = {self.samples[i][0] for i in group}
            code = "near_duplicate_across_splits" if len(splits) > 1 else "near_duplicate"
            self._tell(code, group, "look the same", on_finding)

    def _tell(self, code: str, group: Sequence[int], what: str, on_finding: OnFinding) -> None:
        files = [self.files[i] for i in group]
        few = " and ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        where = {str(label) for i in group if (label := self.samples[i][1]) is not None}
        classes = f" in two classes ({', '.join(sorted(where))})" if code == "same_photo_in_two_classes" else ""
        paths = tuple(Path(f) for f in files)
        on_finding(Finding(code, files[0], files[1:], len(files), f"{few} {what}{classes}", paths))
