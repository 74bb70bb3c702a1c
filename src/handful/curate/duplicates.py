"""Exact duplicates and near-duplicates among the images of one set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from handful.curate import near_duplicates
from handful.curate.image_metadata import ImageMetadata
from handful.data.finding import Finding, OnFinding
from handful.types import Sample


class DuplicateIndex:
    """The images of one set by hash and fingerprint."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.hashes: list[str] = []
        self.samples: list[tuple[str | None, str | None, str | None]] = []  # split, label, clip
        self.fingerprints: list[near_duplicates.Fingerprint] = []
        self.fingerprinted: list[int] = []

    def add(self, sample: Sample, meta: ImageMetadata, at: str) -> None:
        """Add an image. at: its file as people read it."""
        fingerprint = meta.fingerprint
        if fingerprint is not None:
            self.fingerprints.append(fingerprint)
            self.fingerprinted.append(len(self.files))
        self.files.append(at)
        self.hashes.append(meta.sha256 if not meta.error else "")
        self.samples.append((sample.split, sample.label, sample.clip))

    def report_exact(self, on_finding: OnFinding) -> None:
        """Report images of the same bytes: in two splits, in two classes, or merely twice."""
        groups: dict[str, list[int]] = defaultdict(list)
        for i, digest in enumerate(self.hashes):
            if digest:
                groups[digest].append(i)
        for group in groups.values():
            if len({self.files[i] for i in group}) > 1:
                splits, labels = ({self.samples[i][k] for i in group} for k in (0, 1))
                code = "same_image_across_splits" if len(splits) > 1 else "same_image_twice"
                if len(labels) > 1:
                    code = "same_image_in_two_classes"
                self._report(code, group, "are the same image", on_finding)

    def report_near(self, on_finding: OnFinding) -> None:
        """Report images that look the same, except frames of one clip."""
        pairs = []
        for a, b in near_duplicates.near_pairs(self.fingerprints):
            i, j = self.fingerprinted[a], self.fingerprinted[b]
            (split_i, _, clip_i), (split_j, _, clip_j) = self.samples[i], self.samples[j]
            # frames of one clip look alike, as they should
            if self.hashes[i] != self.hashes[j] and not (clip_i is not None and (clip_i, split_i) == (clip_j, split_j)):
                pairs.append((i, j))
        for group in (g for g in near_duplicates.groups(len(self.files), pairs) if len(g) > 1):
            splits = {self.samples[i][0] for i in group}
            code = "near_duplicate_across_splits" if len(splits) > 1 else "near_duplicate"
            self._report(code, group, "look the same", on_finding)

    def _report(self, code: str, group: Sequence[int], what: str, on_finding: OnFinding) -> None:
        files = [self.files[i] for i in group]
        few = " and ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        where = {str(label) for i in group if (label := self.samples[i][1]) is not None}
        classes = f" in two classes ({', '.join(sorted(where))})" if code == "same_image_in_two_classes" else ""
        paths = tuple(Path(f) for f in files)
        on_finding(Finding(code, files[0], files[1:], len(files), f"{few} {what}{classes}", paths))
