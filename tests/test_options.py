"""One option, one meaning, in every verb; every default told; examples that parse; old names; names completed."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from handful.cli import HOME, cli, loaded
from handful.cli.options import MEANINGS
from handful.cli.places import Output, model_folders
from handful.cli.shared import Alias, Verb, modern
from tests.conftest import ROOT
from tests.test_cli import handful, walked

Capture = pytest.CaptureFixture[str]
VERBS = {words: c for words, c in walked().items() if isinstance(c, Verb)}
OLD = {words: c for words, c in walked().items() if isinstance(c, Alias)}


def faults(command: click.Command) -> list[str]:
    """What of a command's options is not as the table has it, or tells no default."""
    found = []
    for param in command.params:
        if not isinstance(param, click.Option) or "--help" in param.opts or "--version" in param.opts:
            continue
        flag = param.opts[-1]
        meaning, text = MEANINGS.get(flag), param.help or ""
        if meaning is None:
            found.append(f"{flag} is not in the table")
            continue
        kind = param.type if meaning.type is not None else None
        wanted = click.types.convert_type(meaning.type) if meaning.type is not None else None
        if flag == "--out":
            wanted = Output("file")  # of which kind is the verb's own; tests/test_outputs.py tries each
        if not text.startswith(meaning.help):
            found.append(f"{flag} has a help of its own")
        if param.is_flag != (meaning.type is None) or type(kind) is not type(wanted):
            found.append(f"{flag} takes something else")
        shown = (param.get_help_record(click.Context(command)) or ("", ""))[1]  # as people see it
        if not (param.required or param.is_flag or "[default: " in shown):
            found.append(f"{flag} tells no default")
    return found


@pytest.mark.parametrize("words", [*VERBS], ids=" ".join)
def test_options_are_those_of_the_table(words: tuple[str, ...]) -> None:
    assert faults(VERBS[words]) == []


def test_a_fault_of_an_option_is_found() -> None:
    held = [
        click.Option(["--mine"], help="Not in the table."),
        click.Option(["--seed"], type=int, default=0, show_default=True, help="Another meaning."),
        click.Option(["--format"], help=MEANINGS["--format"].help, default="coco", show_default=True),
        click.Option(["--split"], help=MEANINGS["--split"].help, show_default=True),
        click.Option(["--flat"], help=MEANINGS["--flat"].help + " [default: no]"),
    ]
    assert faults(click.Command("x", params=[*held])) == [
        "--mine is not in the table", "--seed has a help of its own", "--format takes something else",
        "--split tells no default", "--flat takes something else",
    ]  # fmt: skip


def test_the_table_has_nothing_that_no_verb_has() -> None:
    used = {opt for c in VERBS.values() for p in c.params if isinstance(p, click.Option) for opt in p.opts}
    assert sorted(MEANINGS.keys() - used) == []


@pytest.mark.parametrize("words", [*VERBS], ids=" ".join)
def test_two_examples_that_parse(words: tuple[str, ...]) -> None:
    command = VERBS[words]
    examples = command.examples
    assert len(examples) == 2 and len(set(examples)) == 2
    ctx = click.Context(command, info_name=words[-1])
    assert all(line in command.get_help(ctx) for line in examples), "an example is wrapped or left out"
    for line in examples:
        args = shlex.split(line)[1:]
        typed = list(words) if words != ("dream", "run") else ["dream"]  # `run` need not be typed
        assert args[: len(typed)] == typed, line
        args = args[len(typed) :]
        assert modern(args, command.renamed) == args, f"{line} has an old name"
        made = command.make_context(words[-1], args)  # nothing that it names is there, nor looked at
        assert not made.args, line


def test_a_broken_example_does_not_parse() -> None:
    for args, says in ((["model", "x.jpg", "--maskz"], "--maskz"), (["model"], "images"),
                       (["model", "x.jpg", "--top", "none"], "not a valid integer")):  # fmt: skip
        with pytest.raises(click.UsageError, match=says):
            VERBS["predict",].make_context("predict", args)


def test_help_lists_the_verbs_as_they_describe_themselves() -> None:
    for name, (_, _, line) in HOME.items():
        said = re.sub(r"\s+", " ", (loaded(name).help or "").split("\n\n")[0]).strip()
        assert said == line, name


# -- old names --------------------------------------------------------------------------------------------------------


def test_old_verbs_are_hidden_and_say_the_new_name(capsys: Capture) -> None:
    assert {words[0] for words in OLD} == {"recognise", "recognize", "detect", "evaluate-detect", "regimen"}
    code, out, _ = handful(capsys, "--help")
    for (name,), command in OLD.items():
        assert isinstance(command, Alias) and command.hidden and not re.search(rf"^  {name} ", out, re.M)
        code, said, err = handful(capsys, name, "--help")
        assert code == 0 and f"Usage: handful {command.called}" in said
        assert f"`handful {name}` is `handful {command.called}` now" in err and len(err.splitlines()) == 1


def test_every_old_option_is_a_new_one_of_the_same_verb(capsys: Capture) -> None:
    seen = 0
    for command in [*VERBS.values(), *OLD.values()]:
        own = command if isinstance(command, Verb) else command.load()  # type: ignore[union-attr]
        flags = {opt for p in own.params for opt in p.opts}
        for old, new in command.renamed.items():  # type: ignore[union-attr]
            seen += 1
            assert old not in flags or isinstance(command, Alias), f"{command.name}: {old} is both old and new"
            assert not new or new.lstrip("!") in flags, f"{command.name}: {new} is not there"
    assert seen > 20


def test_old_options_are_read_as_new_ones(capsys: Capture) -> None:
    renamed = {"--size": "--frame", "--video": "", "--proposer": "!--true-boxes"}
    args = ["a", "--size", "3x4", "--size=5x6", "--video", "x.mp4", "--video=y.mp4", "--proposer", "boxes", "b", "--",
            "--size"]  # fmt: skip
    assert modern(args, renamed) == [
        "a", "--frame", "3x4", "--frame=5x6", "x.mp4", "y.mp4", "--true-boxes", "b", "--", "--size",
    ]  # fmt: skip
    err = capsys.readouterr().err
    assert err.count("--size is --frame now") == 2 and "--video is not needed any more" in err
    assert "--proposer is --true-boxes now" in err and len(err.splitlines()) == 5


# -- completion -------------------------------------------------------------------------------------------------------


def completed(line: str, cwd: Path) -> tuple[list[str], list[str]]:
    """What bash is offered for the last word of a line; and the heavy modules that were loaded for it."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    env = {**os.environ, "_HANDFUL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
           "PYTHONPATH": os.pathsep.join(sys.path)}  # fmt: skip
    code = (
        "import sys, atexit; from handful.cli import cli\n"
        "atexit.register(lambda: print(*sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy'}), "
        "file=sys.stderr))\ncli(prog_name='handful')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True)
    return [row.partition(",")[2] for row in done.stdout.splitlines()], done.stderr.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("handful pre", ["predict"]),
        ("handful predict ", ["shop-model", "other/", "people"]),  # the last comes with handful
        ("handful predict other/", ["other/second"]),
        ("handful predict shop-model --runt", ["--runtime"]),
        ("handful device compile shop-model --runtime l", ["litert"]),
        ("handful models show exeg", ["exeggute", "exeggutor"]),
        ("handful train segment x --net sig", ["signet"]),
        ("handful data check x --format vo", ["voc"]),
        ("handful teach x --backbone lite", ["lite0", "lite1", "lite2"]),
        ("handful teach x --proposer nano", ["nanodet"]),
        ("handful weights get nano", ["nanodet"]),
        ("handful evaluate-d", [""]),  # old names are taken, and not offered
    ],
)
def test_names_are_completed_without_torch(line: str, wanted: list[str], tmp_path: Path) -> None:
    for place in ("shop-model", "other/second", "empty"):
        (tmp_path / place).mkdir(parents=True)
        if place != "empty":
            (tmp_path / place / "handful.json").write_text("{}")
    got, loaded_for_it = completed(line, tmp_path)
    assert sorted(got) == sorted(wanted) and "torch" not in loaded_for_it


def test_model_folders_of_a_place_that_is_not_there(tmp_path: Path) -> None:
    assert model_folders(f"{tmp_path}/absent/x") == []


def test_defaults_told_in_words_are_the_code_s_own() -> None:
    """Where a default is not click's own but the library's, the help repeats it."""
    from handful.detection.scoring import VIGILANCE as OF_BOXES
    from handful.detection.teaching import MAX_SAMPLES
    from handful.fewshot.classifier import BACKBONE, FRAME_HW
    from handful.fewshot.nemo import VIGILANCE
    from handful.kinds.kind_detector import SCORE_THRESHOLD

    def told(verb: str, flag: str) -> str:
        params = {p.opts[-1]: p for p in VERBS[verb,].params if isinstance(p, click.Option)}
        return str(params[flag].help).rpartition("[default: ")[2].rstrip("]")

    assert told("teach", "--vigilance") == f"{VIGILANCE:g}" == f"{OF_BOXES:g}" == told("select", "--vigilance")
    assert told("demo", "--vigilance") == f"{VIGILANCE:g}" and told("select", "--vigilance") == f"{OF_BOXES:g}"
    assert told("teach", "--max-samples") == str(MAX_SAMPLES)
    assert told("teach", "--frame") == f"{FRAME_HW[0]}x{FRAME_HW[1]}" and told("teach", "--backbone")[:5] == BACKBONE
    assert told("predict", "--score-threshold").endswith(f"{SCORE_THRESHOLD:g}")


def named(*words: str) -> set[str]:
    """A verb's options and arguments by their names in Python."""
    return {str(p.name) for p in VERBS[words].params if p.expose_value} - {"as_json"}


def test_options_have_the_same_names_in_python() -> None:
    import inspect

    import handful
    from handful.kinds import registry

    def takes(function: Callable[..., Any]) -> set[str]:
        return set(inspect.signature(function).parameters)

    def of_kinds(method: str) -> set[str]:
        return {name for kind in registry.kinds() for name in registry.options(registry.model_class(kind), method)}

    assert named("teach") - {"no_cache"} == takes(handful.teach) - {"cache", "engine"}
    assert "engine" in takes(handful.load)  # the command's holds for all that the verb does
    assert all(any("--engine" in p.opts for p in VERBS[v,].params) for v in ("teach", "predict", "evaluate", "unlearn"))
    own = {"arg", "args", "settings"}  # the rest of the recipe's settings
    assert takes(handful.train) - {"task"} - own <= named("train", "segment")
    assert takes(handful.dream) <= named("dream", "run")
    assert named("predict") == of_kinds("stream") | {
        "model", "images", "out", "top", "explain", "masks_by", "runtime", "precision",
    }  # fmt: skip
    assert named("evaluate") == of_kinds("evaluate") | {"model", "data", "masks_by"}
    assert named("unlearn") == of_kinds("unlearn_data") | {"model", "data", "classes"}


def test_version(capsys: Capture) -> None:
    from handful import __version__

    code, out, _ = handful(capsys, "--version")
    assert code == 0 and out.strip() == f"handful, version {__version__}"
    assert cli.get_command(click.Context(cli), "predict") is not None


# -- messages ---------------------------------------------------------------------------------------------------------

NOT_OURS = {"--help", "--version", "--json", "--ignore-scripts", "--pack-destination", "--silent", "--upgrade",
            "--force-reinstall"}  # fmt: skip


def advised(source: str) -> set[str]:
    """The options that the texts of a file name; a string that is nothing but an option is a table's, not a text."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    words = [text for text in texts if isinstance(text, str) and not re.fullmatch(r"!?--[\w-]+", text)]
    return {flag for text in words for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text)}


def test_a_message_advises_only_options_that_there_are() -> None:
    texts = {str(p.relative_to(ROOT)): p.read_text() for p in (ROOT / "src").rglob("*.py")}
    known = MEANINGS.keys() | NOT_OURS
    assert {name: left for name, text in texts.items() if (left := advised(text) - known)} == {}
    assert sum(bool(advised(text)) for text in texts.values()) > 40
    assert advised('raise E(f"give {x} with --from FILE")\nrenamed = {"--size": "--frame"}') == {"--from"}
    assert advised('"use --device cpu"') - known == {"--device"}
