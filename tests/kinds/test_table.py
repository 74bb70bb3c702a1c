"""What each kind of model can do, tried cell by cell; docs/kinds.md is the table of what came of it.

To write the page anew after a kind was added or has learned a verb: HANDFUL_ACCEPT=1 pytest tests/kinds/test_table.py
"""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handful
import handful.device.runtimes
from handful.errors import UsageError
from handful.kinds import registry
from handful.kinds.compiling import compare_model, compile_model
from handful.pick import names
from tests import lean
from tests.conftest import ROOT
from tests.kinds.test_conformance import same
from tests.kinds.worlds import MAKERS, World
from tests.skips import need_runtime

PAGE = ROOT / "docs" / "kinds.md"
RUNTIMES = tuple(name for name in names(handful.device.runtimes, "runtime") if name != "torch")
VERBS = ("load", "predict", "evaluate", "learn", "unlearn", "set", "save")
YES = "yes"
# what a runtime or kind lacks here, and why: a cell is `YES`, or one of these, and never anything else
NEEDS_TORCH = "with torch"  # ExecuTorch's Python binding is built on torch
MANY_INPUTS = "no"
REASONS = {
    NEEDS_TORCH: "ExecuTorch's Python binding needs PyTorch's libraries; on a phone it does not.",
    MANY_INPUTS: "ncnn here takes networks of one image input, and a detector's other graphs take boxes and maps.",
}
EXPECTED = {
    ("taught_detector", "ncnn"): {"compile": MANY_INPUTS, "compare": MANY_INPUTS, "bundle": MANY_INPUTS},
    **{(kind, "executorch"): {"bundle": NEEDS_TORCH} for kind in MAKERS},
}
ALONE = """
import json, sys
import handful
model = handful.load(sys.argv[1])
assert model.kind == sys.argv[2] and model.runtime == sys.argv[3]
print(json.dumps([one.to_json() for one in model.predict(sys.argv[4])]))
"""

cells: dict[tuple[str, str], str] = {}


def lacks(kind: str, verb: str) -> bool:
    return registry.kind(kind).VERBS.why_not(verb) is not None


def tried(world: World, verb: str, folder: Path) -> None:
    """Do a verb with a copy of a kind's model; raises when it does not do what it says."""
    model: Any = handful.load(folder)
    if verb == "predict":
        assert len(model.predict(world.images)) >= 2
    elif verb == "evaluate":
        assert model.evaluate(world.data, split=world.split).images > 0
    elif verb == "save":
        assert same(handful.load(model.save(folder.parent / "other")).predict(world.images)[0],
                    model.predict(world.images)[0])  # fmt: skip
    elif verb == "set":
        model.set_vigilance(1.5)
        model.save(folder)
        assert handful.load(folder).card["vigilance"] == 1.5
    elif verb in ("learn", "unlearn"):
        before = dict(model.samples)
        image = sorted(world.images.glob("*.png"))[0]
        if world.kind == "taught_classifier":
            model.learn(np.array(handful.Image.open(image).rgb_u8[::-1]), "new")
        else:
            model.learn(image, np.array([[4, 4, 20, 20]]), ["new"])
        assert model.samples == {**before, "new": 1}
        if verb == "unlearn":
            model.forget("new")
            assert model.samples == before


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb(kind: str, verb: str, world_of: Callable[[str], World], tmp_path: Path) -> None:
    if lacks(kind, verb):
        with pytest.raises(UsageError, match=registry.kind(kind).DESCRIPTION):
            registry.wanted(handful.load(world_of(kind).model), verb)
        cells[kind, verb] = "no"
        return
    world = world_of(kind)
    shutil.copytree(world.model, tmp_path / "model", ignore=shutil.ignore_patterns("compiled"))
    tried(world, verb, tmp_path / "model")
    cells[kind, verb] = YES


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime(kind: str, runtime: str, world_of: Callable[[str], World], tmp_path: Path) -> None:
    """Compiled, compared with PyTorch, and asked without torch: as the table says, with the reason where not."""
    need_runtime(runtime)
    world, expected = world_of(kind), EXPECTED.get((kind, runtime), {})
    if lacks(kind, "compile"):
        with pytest.raises(UsageError, match="follows from the image"):
            handful.load(world.model).compile(runtime)
        cells[kind, runtime] = "no"
        return
    if expected.get("compile") == MANY_INPUTS:
        with pytest.raises(handful.CompileError, match=r"one frame|one input|one image"):
            compile_model(world.model, runtime)
        cells[kind, runtime] = MANY_INPUTS
        return
    bundle = compile_model(world.model, runtime, taps=False)
    images = [handful.Image.open(f) for f in sorted(world.images.glob("*.png"))[:2]]
    assert compare_model(world.model, runtime, images=images, layers=False)["verdict"] == "pass"
    shutil.copytree(bundle.folder, tmp_path / "app")
    needs_torch = expected.get("bundle") == NEEDS_TORCH
    if needs_torch:  # the exact reason: it is the binding that asks for torch
        with pytest.raises(AssertionError, match="torch is refused here"):
            lean.run(ALONE, tmp_path / "app", kind, runtime, world.images)
    refused = tuple(n for n in lean.HEAVY if n != "torch") if needs_torch else lean.HEAVY
    told = json.loads(lean.run(ALONE, tmp_path / "app", kind, runtime, world.images, refused=refused).splitlines()[-1])
    want = [json.loads(json.dumps(one.to_json())) for one in handful.load(world.model).predict(world.images)]
    assert len(told) == len(want) >= 2
    for one, other in zip(told, want, strict=True):
        key = next(k for k in ("label", "shares", "found") if k in one)
        if key == "found":
            assert [row["class"] for row in one[key]] == [row["class"] for row in other[key]]
        elif key == "shares":
            assert one[key] == pytest.approx(other[key], abs=0.01)
        else:
            assert one[key] == other[key]
    cells[kind, runtime] = f"{YES}, {NEEDS_TORCH}" if needs_torch else YES


def wrapped(text: str) -> list[str]:
    """Prose at 100 characters, as every page here; a row of a table stays one line."""
    if text.startswith("|") or not text:
        return [text]
    return textwrap.wrap(text, 100, subsequent_indent="  " if text.startswith("- ") else "", break_on_hyphens=False)


def page() -> str:
    """docs/kinds.md from the cells."""
    kinds = sorted(MAKERS)
    about = {k: registry.kind(k) for k in kinds}
    head = "| | " + " | ".join(m.DESCRIPTION.removeprefix("a ") for m in about.values()) + " |"
    rows = [f"| {verb} | " + " | ".join(cells[k, verb] for k in kinds) + " |" for verb in VERBS]
    rows += [f"| {runtime} | " + " | ".join(cells[k, runtime] for k in kinds) + " |" for runtime in RUNTIMES]
    why = [f"- **{verb}, {about[k].DESCRIPTION}**: {reason}." for verb in (*VERBS, "compile") for k in kinds
           if (reason := about[k].VERBS.why_not(verb)) is not None]  # fmt: skip
    return "\n".join(line for text in [
        "# Kinds of models", "",
        "What a model folder can be, and what can be done with it. This page is written by "
        "`tests/kinds/test_table.py`, which tries every cell.", "",
        head, "|---" * (len(kinds) + 1) + "|", *rows, "",
        "A runtime's row: the model is compiled for it in fp32, compared with PyTorch on images, and the bundle "
        "alone, moved elsewhere, answers the same through `handful.load` in a Python without torch. On real "
        "photographs Python, command line and bundle are compared by `benchmarks/everywhere.py`.", "",
        "How one is made:", "",
        *[f"- **{m.DESCRIPTION}**: {' or '.join(f'`{one}`' for one in m.MADE_BY)}" for m in about.values()], "",
        "Where the answer is no:", "", *why,
        f"- **ncnn, a taught detector**: {REASONS[MANY_INPUTS]}",
        f"- **executorch, {NEEDS_TORCH}**: {REASONS[NEEDS_TORCH]}", "",
    ] for line in wrapped(text))  # fmt: skip


def test_the_page_says_what_came_of_it() -> None:
    wanted = {(k, c) for k in MAKERS for c in (*VERBS, *RUNTIMES)}
    if wanted - cells.keys():
        pytest.skip(f"{len(wanted - cells.keys())} of {len(wanted)} cells of the table were not tried in this run")
    if os.environ.get("HANDFUL_ACCEPT"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "write it: HANDFUL_ACCEPT=1 pytest tests/kinds/test_table.py"
