"""The findings report: each finding once, the worst first; frequent notes are counted, not repeated."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from handful.data.finding import CODES, SEVERITIES, Finding, OnFinding
from handful.data.paths import relative

EXAMPLES = 20  # files named for what is only counted
PLACES = 3  # places named of findings that have one cause
AT_MOST = 1000  # findings of one kind that are listed one by one


@dataclass
class _Cause:
    """Findings of one cause. at: where in the report; places: what the first of them say; files: theirs, once each."""

    first: Finding
    at: int
    times: int = 0
    count: int = 0
    places: list[str] = field(default_factory=list)
    files: dict[str, None] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """One more."""
        self.times += 1
        self.count += finding.count
        if len(self.places) < PLACES:
            self.places.append(finding.detail)
        if len(self.files) <= PLACES:
            self.files[finding.file] = None

    def told(self) -> Finding:
        """The one finding that stands for all of them."""
        if self.times == 1:
            return self.first
        one = len(self.files) == 1
        places = self.places if one else list(self.files)[:PLACES]
        more = ", ..." if self.count > len(places) else ""
        detail = f"{self.first.cause}: {self.count} times ({', '.join(places)}{more})"
        return replace(self.first, file=self.first.file if one else ".", count=self.count, detail=detail)


class FindingsReport:
    """Findings of one folder, each once, whichever thread reports them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: list[Finding] = []
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._causes: dict[tuple[str, str], _Cause] = {}

    def below(self, place: Path) -> OnFinding:
        """An on_finding for a set in a folder below: its files are named from the root."""
        prefix = relative(place, self.root)
        if prefix in (".", str(place)):
            return self.on_finding

        def on_finding(finding: Finding) -> None:
            inside = finding.file if finding.file != "." else ""
            file = finding.file if Path(finding.file).is_absolute() else str(PurePosixPath(prefix) / inside)
            self.on_finding(replace(finding, file=file))

        return on_finding

    def on_finding(self, finding: Finding) -> None:
        """Add a finding, unless it is there; one of a cause that is there is counted with it."""
        key = json.dumps([finding.code, finding.file, finding.value, finding.detail], default=str)
        with self._lock:
            if key in self._seen:
                return
            self._seen.add(key)
            if finding.cause:
                cause = self._causes.setdefault((finding.code, finding.cause), _Cause(finding, len(self.found)))
                cause.add(finding)
                self.found[cause.at : cause.at + 1] = [cause.told()]
                return
            self.found.append(finding)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.found)

    def rows(self) -> list[dict[str, Any]]:
        """JSON rows, the most severe first; of one code at most AT_MOST one by one, the rest as a last row."""
        order = {code: i for i, code in enumerate(CODES)}
        rows, counts, rest = [], Counter[str](), Counter[str]()
        for finding in sorted(self.found, key=lambda f: (SEVERITIES.index(f.severity), order[f.code], f.file)):
            counts[finding.code] += 1
            if counts[finding.code] <= AT_MOST:
                rows.append(finding.as_json())
            else:
                rest[finding.code] += finding.count
        return rows + [Finding(c, "...", None, n, f"{n} more of this kind").as_json() for c, n in rest.items()]


class FindingCounts:
    """Findings that are counted and reported once, with a few examples."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, code: str, file: str, kind: str = "", count: int = 1) -> None:
        """Count one more. kind: tells it apart from others of the same code."""
        self.counts[code, kind] += count
        if len(self.found[code, kind]) < EXAMPLES:
            self.found[code, kind].append(file)

    def on_finding(self, on_finding: OnFinding) -> None:
        """Report each kind once, with its count."""
        for (code, kind), files in self.found.items():
            count = self.counts[code, kind]
            detail = f"{count} times: {CODES[code].text}{f' ({kind})' if kind else ''}" if count > 1 else ""
            detail = detail or (f"{CODES[code].text} ({kind})" if kind else "")
            on_finding(Finding(code, files[0] if len(files) == 1 else ".", kind or files, count, detail))
