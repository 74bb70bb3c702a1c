"""Every bound on what is learned has been measured, with the margin that tests/bounds.py wants."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from handful.files import read_json
from tests.bounds import LEAST_MARGIN, bound, margin_of
from tests.conftest import ROOT

RESULTS = ROOT / "tests" / "learning_margins.json"


def asked() -> dict[str, tuple[float | None, float | None]]:
    """{name: (at_least, at_most)} of every bound() in the tests."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path.name == Path(__file__).name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bound":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}, line {node.lineno}: a name is a string"
                limits = {k.arg: eval(compile(ast.Expression(k.value), path.name, "eval")) for k in node.keywords}
                name = node.args[0].value
                assert name not in found, f"{path.name}, line {node.lineno}: {name} is another bound's name"
                found[name] = limits.get("at_least"), limits.get("at_most")
    return found


def faults(bounds: dict[str, tuple[float | None, float | None]], held: dict[str, Any]) -> list[str]:
    """What in the results does not hold up a bound, a line each."""
    found = [f"{name} is measured, and no test has it" for name in {r["name"] for r in held["bounds"]} - bounds.keys()]
    rows = {row["name"]: row for row in held["bounds"]}
    for name, (at_least, at_most) in bounds.items():
        if (row := rows.get(name)) is None:
            found.append(f"{name} was not measured")
            continue
        if (row["at_least"], row["at_most"]) != (at_least, at_most):
            found.append(f"{name} was measured against another bound")
            continue
        values = [v for seeds in row["values"].values() for many in seeds.values() for v in many]
        if len(row["values"]) < 3 or any(len(seeds) < 3 for seeds in row["values"].values()):
            found.append(f"{name} was measured with fewer than three seeds or instruction sets")
        margin, wanted = margin_of(values, at_least=at_least, at_most=at_most)
        if margin < wanted:
            found.append(f"{name} is thin: {margin:.3f} from the worst to the bound, wanted {wanted:.3f}")
    return found


def test_every_bound_has_its_margin() -> None:
    found = asked()
    assert len(found) >= 20
    held = read_json(RESULTS)
    assert "\n".join(faults(found, held)) == "", "run: python tools/learning_margins.py"
    assert held["failed"] == {}


def test_a_bound_without_one_is_caught() -> None:
    def held(*values: float, at_least: float = 0.5, name: str = "a", seeds: int = 3) -> dict[str, Any]:
        rows = {isa: {str(seed): list(values) for seed in range(seeds)} for isa in ("x", "y", "z")}
        return {"bounds": [{"name": name, "at_least": at_least, "at_most": None, "values": rows}]}

    assert faults({"a": (0.5, None)}, held(0.6, 0.7)) == []
    for bounds, results, said in [
        ({"a": (0.5, None)}, held(0.52, 0.55), "a is thin: 0.020"),
        ({"a": (0.5, None)}, held(0.6, 0.9), "a is thin: 0.100 from the worst to the bound, wanted 0.150"),
        ({"a": (0.5, None)}, held(0.4), "a is thin"),
        ({"a": (0.4, None)}, held(0.7), "another bound"),
        ({"a": (0.5, None), "b": (1.0, None)}, held(0.7), "b was not measured"),
        ({}, held(0.7), "a is measured, and no test has it"),
        ({"a": (0.5, None)}, held(0.7, seeds=2), "fewer than three"),
    ]:
        assert any(said in fault for fault in faults(bounds, results)), said
    assert margin_of([0.1, 0.2], at_most=0.5) == (pytest.approx(0.3), pytest.approx(LEAST_MARGIN))


def test_a_bound_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_BOUNDS", str(tmp_path / "told"))
    bound("a", 0.5, at_least=0.5)
    bound("b", 0.5, at_most=0.5)
    with pytest.raises(AssertionError, match=r"c: 0\.490, wanted at least 0\.5"):
        bound("c", 0.49, at_least=0.5)
    with pytest.raises(AssertionError, match=r"d: 0\.510, wanted at most 0\.5"):
        bound("d", 0.51, at_most=0.5)
    for wrong in ({}, {"at_least": 1, "at_most": 2}):
        with pytest.raises(ValueError, match="give at_least or at_most"):
            bound("e", 1, **wrong)
    with pytest.raises(AssertionError):
        bound("f", float("nan"), at_least=0.5)
    rows = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["a", "b", "c", "d", "f"]  # told before they fail
    assert rows[0]["test"].endswith("test_bounds.py::test_a_bound_is_one")
