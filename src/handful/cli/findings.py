"""What `handful data check` and its --fix say for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import click

from handful.data.finding import by_hand, ways_on
from handful.words import counted

FEW = 20  # images whose state changed that are named


def checked(r: dict[str, Any]) -> str:
    """The sets of labels, what became of the files, and the findings."""
    lines = []
    for part in r["sets"]:
        splits = ", ".join(f"{name or 'no split'} {n}" for name, n in part["splits"].items())
        objects = sum(c["objects"] for c in part["per_class"].values())
        lines.append(
            f"{part['format']:<16} {part['folder']}: {counted(part['images'], 'image')} ({splits}), "
            f"{part['labeled']} labeled, {part['empty']} empty, {part['unlabeled']} unlabeled; "
            f"{counted(len(part['per_class']), 'class')}" + (f", {counted(objects, 'object')}" if objects else "")
        )
    lines += ["", *account(r["account"]), "", *table(r["findings"])]
    errors, warnings = (sum(f["severity"] == severity for f in r["findings"]) for severity in ("error", "warning"))
    if errors:
        said = f"not fit to train on: {counted(errors, 'error')}, {counted(warnings, 'warning')}"
        lines.append("; ".join([said, *ways_on(r["data"], r["findings"])]))
    elif not any(part["labeled"] for part in r["sets"]):
        lines.append(f"nothing to train on: no image is labeled; no errors, {counted(warnings, 'warning')}")
    else:
        lines.append(f"fit to train on: no errors, {counted(warnings, 'warning')}")
    return "\n".join(lines)


def account(account: dict[str, Any]) -> list[str]:
    """What became of the files: how many of each role, and the first that were not used."""
    counts = ", ".join(f"{role} {n}" for role, n in sorted(account["counts"].items()))
    lines = [f"{counted(account['files'], 'file')}: {counts}"] if account["files"] else []
    for role, rows in account["not_used"].items():
        few = ", ".join(row["file"] for row in rows[:3]) + (", ..." if account["counts"][role] > 3 else "")
        lines.append(f"        {role}: {few} ({rows[0]['why']})")
    return lines


def table(findings: Sequence[dict[str, Any]]) -> list[str]:
    """Findings by kind, the first three of each with their files."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in findings:
        kinds[row["severity"], row["code"]].append(row)
    lines = []
    for (severity, code), rows in kinds.items():
        style = {"error": "red", "warning": "yellow"}.get(severity)
        total = "" if len(rows) == 1 else f" ({len(rows)})"
        lines.append(click.style(f"{severity:<8}{code}{total}", fg=style, bold=severity == "error"))
        lines += [f"        {'' if row['file'] == '.' else row['file'] + ': '}{row['text']}" for row in rows[:3]]
        if len(rows) > 3:
            lines.append(f"        and {len(rows) - 3} more; all with --json")
        if severity == "error":
            do = by_hand(code)
            lines.append(f"        by hand: {do}" if do is not None else f"        --fix: {rows[0]['repair']}")
    return lines


def mended(r: dict[str, Any]) -> str:
    """What was repaired, and what the copy does not have any more."""
    lines = [
        f"{r['out']} written from {r['data']}; {counted(len(r['repairs']), 'repair')}, listed in "
        f"{r['out']}.repairs.json"
    ]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in r["repairs"]:
        kinds[row["code"]].append(row)
    lines += [f"  {len(rows):>5} {code}: {rows[0]['done']}" for code, rows in kinds.items()]
    for name, found in r["states"].items():
        for when in ("before", "after"):
            n = found[when]
            lines.append(f"  {name} {when}: {counted(n['images'], 'image')}, {n['labeled']} labeled, "
                         f"{n['empty']} empty, {n['unlabeled']} unlabeled; "
                         f"{counted(n['labels'], 'label')}")  # fmt: skip
        changed = found["changed"]
        lines += [f"    {row['image']}: {row['before']} -> {row['after']}" for row in changed[:FEW]]
        if len(changed) > FEW:
            lines.append(f"    and {len(changed) - FEW} more, in {r['out']}.repairs.json")
    for name, rows in r["differences"].items():
        lines += [f"  {name}: {d['how']} {d['count']} × {d['what']} (first: {d['example']})" for d in rows]
    if any(row["severity"] == "error" for row in r["findings"]):
        lines += ["the copy still has errors that only a person can fix:", *table(r["findings"])]
    elif not r["ok"]:
        lines.append("nothing to train on is left: no image of the copy is labeled")
    return "\n".join(lines)
