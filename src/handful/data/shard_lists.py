"""What lies beside shards: the list of each one's members with their hashes, and the plan of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handful.data.finding import Finding, OnFinding, stop
from handful.data.reading import label_text
from handful.words import counted, shell

MOST_BYTES = 1 << 29


class Once:
    """A tell that reports the same thing of the same file once, however often the samples are gone through."""

    def __init__(self, on_finding: OnFinding) -> None:
        self.on_finding, self.said = on_finding, set[tuple[str, str]]()

    def __call__(self, finding: Finding) -> None:
        """Pass a finding on, unless it was."""
        if (finding.code, finding.file) not in self.said or self.on_finding is stop:
            self.said.add((finding.code, finding.file))
            self.on_finding(finding)


def again(folder: Path) -> str:
    """The command that makes what a folder of shards lacks; of what is whole nothing is made twice."""
    return f"handful dream SEEDS --out {shell(folder)} --resume (and the settings it was begun with)"


def absent(plan: Path, there: int, on_finding: OnFinding) -> None:
    """Tell shards that dream.json plans and that are not there: a run that was never finished."""
    if not plan.is_file():
        return
    planned = json_object(plan, plan.parent, on_finding).get("shards")
    if isinstance(planned, int) and planned > there:
        missing = planned - there
        detail = f"lacks {missing} of {counted(planned, 'shard')}; go on: {again(plan.parent)}"
        on_finding(Finding("missing_image", plan.name, missing, missing, detail))


def json_object(path: Path, root: Path, on_finding: OnFinding) -> dict[str, Any]:
    """A JSON object from a file; empty after telling why not."""
    text = label_text(path, root, on_finding, most=MOST_BYTES, empty=False)
    if text is None:
        return {}
    try:
        return parsed(text)
    except ValueError as error:
        on_finding(
            Finding("unreadable_labels", path.name, str(error)[:200], detail=f"is not usable JSON ({error})"[:300])
        )
        return {}


def parsed(text: str) -> dict[str, Any]:
    """A JSON object without NaN or infinity. Raises ValueError."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"holds {constant}")

    try:
        value = json.loads(text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999, half a pair of surrogates
    except RecursionError:
        raise ValueError("nested beyond use") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}; wanted an object")
    return value


def listed(folder: Path, shard: str, on_finding: OnFinding) -> dict[str, Any]:
    """{"hashes": {key: {kind: sha256}} or None, "top": largest object id} from a shard's own list."""
    path = (folder / shard).with_suffix(".json")
    if not path.is_file():
        on_finding(
            Finding("missing_image", shard, detail=f"has no {path.name} beside it, so it is not known to be whole")
        )
        return {"hashes": None, "top": 0}
    held = json_object(path, folder, on_finding)
    rows, top = held.get("frames"), held.get("top", 0)
    hashes: dict[str, dict[str, str]] | None = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("key"), str):
            hashes[row["key"]] = {k: v for k, v in row.items() if k != "key" and isinstance(v, str)}  # type: ignore[index]
        elif hashes is not None:
            on_finding(Finding("broken_label", path.name, str(row)[:60], detail="has a frame without a key"))
    if not isinstance(rows, list):
        if held:
            on_finding(Finding("broken_label", path.name, detail="has no list of frames"))
        hashes = None
    return {"hashes": hashes, "top": top if type(top) is int and 0 <= top < 65535 else 0}
