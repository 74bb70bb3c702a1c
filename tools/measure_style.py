"""Measure how a Python package is written: lengths of files, tests, types, docstrings. For docs/comparison-style.md.

    python tools/measure_style.py handful=src/handful,tests
    python tools/measure_style.py NAME=SOURCE[,TESTS] ... [--out FILE]

Lengths are physical lines of non-test Python files; files of fewer than 6 lines are left out. Typed: share of functions
and methods whose return type is annotated. Documented: share of public functions, methods and classes (no leading
underscore in the name, nor in a class around it) that have a docstring. Tests: lines of test files for each line of
source.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def python_files(folder: Path) -> list[Path]:
    """Every Python file below a folder, or the one that is named; caches left out."""
    return [folder] if folder.is_file() else sorted(p for p in folder.rglob("*.py") if "__pycache__" not in p.parts)


def is_test(path: Path) -> bool:
    return any(part in ("test", "tests") for part in path.parts) or path.name.startswith(("test_", "conftest"))


def definitions(body: list[ast.stmt], public: bool = True, method: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """(function or class, whether its name is public) of a module's body and of the classes in it."""
    for node in body:
        if isinstance(node, (*Function, ast.ClassDef)):
            open_ = public and not node.name.startswith("_")
            yield node, open_
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, open_, True)


def measure(source: Path, tests: Path | None) -> dict[str, object]:
    """What is told of a package. Raises SystemExit, naming the folder, where there is no source in it."""
    inside = [p for p in python_files(source) if not is_test(p.relative_to(source.parent))]
    lengths = {p: len(p.read_text(encoding="utf-8", errors="replace").splitlines()) for p in inside}
    long_enough = {p: n for p, n in lengths.items() if n >= 6}
    if not long_enough:
        raise SystemExit(f"{source} has no Python files of 6 lines or more; give the folder of a package")
    found = [one for p in inside for one in definitions(ast.parse(p.read_text(encoding="utf-8")).body)]
    functions = [node for node, _ in found if isinstance(node, Function)]
    public = [node for node, open_ in found if open_]
    ordered = sorted(long_enough.values())
    longest = max(long_enough, key=lambda p: long_enough[p])
    test_lines = sum(len(p.read_text(encoding="utf-8").splitlines()) for p in python_files(tests)) if tests else None
    return {
        "files": len(ordered),
        "lines": sum(lengths.values()),
        "median": round(statistics.median(ordered)),
        "p90": ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))],
        "max": long_enough[longest],
        "longest": str(longest.relative_to(source)) if source.is_dir() else source.name,
        "tests_per_line": round(test_lines / sum(lengths.values()), 2) if test_lines is not None else None,
        "typed": round(100 * sum(node.returns is not None for node in functions) / max(1, len(functions))),
        "documented": round(100 * sum(ast.get_docstring(node) is not None for node in public) / max(1, len(public))),
    }  # fmt: skip


ROWS = {
    "files": "files", "lines": "lines", "median": "file length, median", "p90": "file length, 90th percentile",
    "max": "longest file", "longest": "which", "typed": "functions with a return type, %",
    "documented": "public names with a docstring, %", "tests_per_line": "lines of tests for each line of source",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="+", metavar="NAME=SOURCE[,TESTS]")
    parser.add_argument("--out", type=Path, help="also write the table as JSON, as benchmarks/results/ keeps it")
    args = parser.parse_args()
    told = {}
    for package in args.packages:
        name, _, folders = package.partition("=")
        source, _, tests = folders.partition(",")
        told[name] = measure(Path(source), Path(tests) if tests else None)
    rows = [[ROWS[key], *(one[key] for one in told.values())] for key in ROWS]
    for row in rows:
        print(" | ".join(map(str, row)))
    if args.out:
        args.out.write_text(json.dumps({"columns": ["", *told], "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
