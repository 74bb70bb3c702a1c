"""Every advice has a row that follows it, and what it names is there: options, commands, extras."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest

from tests.conftest import ROOT
from tests.cures.desk import ROWS, Desk, Said
from tests.cures.inventory import COMMAND, GROUPS, OPTION, PIP, Advice, advices
from tests.cures.left import NOT_RUN
from tests.cures.spoken import options_of, parsers, verbs_of

EXTRA = re.compile(r"handful\[([a-z-]+)\]")
INSTALLED = re.compile(r"pip install (?:--[a-z-]+ )?'?([a-z][a-z-]*)")
END = re.compile(r"[;`\n]|: |, | and |\. | \(|\)|$")


def verb_of(match: re.Match[str]) -> str:
    """The verb of a command: "data check" and so on."""
    return f"{match['verb']} {match['sub']}" if match["verb"] in GROUPS and match["sub"] else match["verb"]


def faults(advice: Advice) -> list[str]:
    """What an advice names that is not there, and commands that lack what they need."""
    words, found = advice.template, []
    commands = list(COMMAND.finditer(words))
    for match in commands:
        name = verb_of(match)
        if name not in parsers() and not any(verb.startswith(f"{name} ") for verb in parsers()):
            found.append(f"there is no `handful {name}`")
        elif not _mentioned(words, match):
            found += _lacks(words, match)
    for match in OPTION.finditer(words):
        if PIP.search(words[: match.start()]) or match[0] == "--json":
            continue
        last = next((c for c in reversed(commands) if c.end() <= match.start()), None)
        if last is not None and not re.search("[;`]", words[last.end() : match.start()]):
            verbs = [verb for verb in parsers() if verb == verb_of(last) or verb.startswith(f"{verb_of(last)} ")]
            if not any(match[0] in options_of(verb) for verb in verbs):
                found.append(f"`handful {verb_of(last)}` has no {match[0]}")
            continue
        verbs = list(verbs_of(advice.module, advice.function))
        lack = [verb for verb in verbs if match[0] not in options_of(verb)]
        if lack and not (advice.guarded and len(lack) < len(verbs)):
            found.append(f"{match[0]} is no option of {', '.join(lack)}")
    return found


def _mentioned(words: str, match: re.Match[str]) -> bool:
    """Whether a command is spoken of, and not proposed as it stands."""
    before, after = words[: match.start()], words[match.end() :]
    as_it_is = re.search(r"(\bas|\banother|\bwhat|\bthat|\bone that) `$", before) or before == "`"
    return bool(as_it_is) or after.startswith(("` takes", " ...", "` holds", " MODEL` holds"))


def _lacks(words: str, match: re.Match[str]) -> list[str]:
    """What a command needs and does not have; {} stands for anything."""
    end = END.search(words, match.end())
    text = words[match.start() : end.start() if end else None].replace("{}", "x")
    typed = shlex.split(text)[1:]
    verb = verb_of(match).replace("train TASK", "train")
    verb = {"dream": "dream run", "train": "train segment"}.get(verb, verb)
    rest = typed[len(verb.split()) - (verb == "dream run") :]
    command = parsers()[verb]
    try:
        given, left, _ = command.make_parser(click.Context(command)).parse_args(rest)
    except click.UsageError as error:
        return [f"`{text}`: {error.message}"]
    lacking = [
        str(p.name) for p in command.params if p.required and not isinstance(given.get(str(p.name)), str | tuple)
    ]
    left = [word for word in left if word != "x"]  # options that are put in
    return [f"`{text}` lacks {', '.join(lacking)}"] * bool(lacking) + [f"`{text}` has {left} too many"] * bool(left)


@pytest.mark.parametrize("key", advices())
def test_what_an_advice_names_is_there(key: str) -> None:
    assert faults(advices()[key]) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("x; run: handful data chek x", "there is no"),
        ("x; repair a copy with `handful data check --fix`", "requires an argument"),
        ("see `handful data check`", "lacks folder"),
        ("run: handful data check {} --fixx COPY", "no such option"),
        ("give it with --nothing", "--nothing is no option of teach"),
    ],
)
def test_a_fault_in_an_advice_is_seen(words: str, says: str) -> None:
    advice = Advice("k", "cli.verbs_teach", "f", "", words, "f.py", 1, False)
    assert any(says.lower() in fault.lower() for fault in faults(advice)), faults(advice)


def test_every_extra_that_is_named_is_there() -> None:
    there = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for advice in advices().values() for name in EXTRA.findall(advice.template)}
    need = re.compile(r"""need\(\s*["'][\w.]+["'],\s*["']([\w-]+)["']""")
    for path in (ROOT / "src" / "handful").rglob("*.py"):
        named |= set(need.findall(path.read_text()))
    assert len(named) > 5 and named <= there.keys()


def test_a_package_to_install_is_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = [*project["dependencies"], *(row for one in project["optional-dependencies"].values() for row in one)]
    known = {re.split(r"[<>=\[]", row)[0] for row in rows} | {"handful", "cryptography"}
    named = [name for a in advices().values() for name in INSTALLED.findall(a.template)]
    assert len(named) > 8 and set(named) <= known, set(named) - known


def test_every_advice_has_a_row_and_every_row_an_advice() -> None:
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        importlib.import_module(f"tests.cures.{path.stem}")
    known = ROWS.keys() | NOT_RUN.keys()
    assert sorted(advices().keys() - known) == [], "an advice that no test follows"
    assert sorted(known - advices().keys()) == [], "a row whose advice is gone"
    assert not ROWS.keys() & NOT_RUN.keys()


def test_a_row_that_does_not_follow_is_seen(tmp_path: Path) -> None:
    """A desk on which the message was not seen, or the option not typed afterwards with success."""
    key = "curate.check:ensure --allow"
    desk = Desk(tmp_path, None)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="was not seen"):
        desk.held_to((key,), ())
    desk.typed.append((0, ["teach", "--allow", "x"]))  # before the message
    desk.told("go on all the same: --allow box_outside")
    with pytest.raises(AssertionError, match="was not typed"):
        desk.held_to((key,), ())
    desk.typed.append((2, ["teach", "--allow", "box_outside"]))
    desk.held_to((key,), ())


def test_advice_is_taken_out_of_a_message() -> None:
    said = Said("x; see all: handful data check '/a b/c'; repair a copy: handful data check '/a b/c' --fix COPY; go on "
                "all the same: --allow box_outside --allow empty_file")  # fmt: skip
    assert said.command("data check") == ["data", "check", "/a b/c"]
    assert said.commands("data check", COPY="/d e")[1] == ["data", "check", "/a b/c", "--fix", "/d e"]
    assert said.value("--allow") == ["--allow", "box_outside"]
    assert said.after("same: ") == ["--allow", "box_outside", "--allow", "empty_file"]
    assert Said("handful data check /a b").command() == ["data", "check", "/a", "b"]  # and so is told by what it does
