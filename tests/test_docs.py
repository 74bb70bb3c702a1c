"""What the documents say works: every command and snippet is checked with its options, and run on small data."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from handful.cli import cli, main
from handful.cli.options import Net, Vigilance
from handful.cli.places import Data, ImageFile, ModelFolder
from handful.errors import HandfulError
from tests.conftest import ROOT
from tests.docs_world import World, lines_of

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# commands that are not run, and why; one that no page shows any more has to go from here
NOT_RUN = {
    "make demo": "installs what it needs over the network; tests/test_demo.py runs the demo",
    "make test": "is what runs this",
    "handful weights get nanodet": "downloads 140 MB with npm; tests/models/test_fetch.py has it with a planted npm",
}
COMPILED = "a second scale is a second network to compile; tests/device/test_detector.py compiles two"
FILLED = "filling the ground as well as it can takes seconds; docs/tutorials/dreams.md has that"
LAYERS = "layers are one more conversion; the quick start's commands compare them"
# commands that are run with more words behind them (the last of two wins), and why
SHORTER = {
    "handful teach photos --out model": (
        "--backbone lite0 --frame 96x128",
        "a larger network compiles for longer; tests/test_demo.py has the one that is the default",
    ),
    "handful teach shop --out detector": ("--scales 1 --proposer objectness", COMPILED),
    "handful train segment scenes --net exeggutor:lite0 --epochs 40 --out model": (
        "--frame 64x96 --epochs 1 --batch 4",
        "forty epochs of whole frames take minutes",
    ),
    "handful train segment scenes --net exeggutor:lite0 --frame 240x320 --epochs 12 --batch 4 --out model": (
        "--net exeggutor:small --frame 64x96 --epochs 1",
        "twelve epochs take half a minute",
    ),
    "handful train detect shop-chips --net objectness --out proposer --epochs 12 --frame 320x320": (
        "--frame 64x64 --epochs 1 --batch 2 --arg pretrained=false",
        "twelve epochs of whole frames take minutes",
    ),
    "handful teach shop --out detector --proposer objectness --max-samples 10": (
        "--scales 1 --max-samples 3",
        COMPILED,
    ),
    # the detector of the tutorial too, so that it is compiled once for both pages
    "handful teach shop --out detector --max-samples 20": (
        "--scales 1 --proposer objectness --max-samples 3",
        COMPILED,
    ),
    "handful device compare model --runtime litert --precision fp16 --photos test-photos": ("--no-layers", LAYERS),
    "handful device compare model --runtime onnxruntime --precision fp16 --photos new-photos": ("--no-layers", LAYERS),
    "handful device compare model --runtime onnxruntime --precision fp16 --photos test-photos --json": (
        "--no-layers",
        LAYERS,
    ),
    "handful device compare detector --runtime onnxruntime --photos shop/images/val": ("--no-layers", LAYERS),
    "handful device compare detector --runtime onnxruntime --photos shop": (
        "--no-layers --photos shop/images/val",
        f"{LAYERS}; six photographs take six seconds",
    ),
    "handful heatmap shop --out map": ("--seeds 1 --no-classes", "ten seeds take 20 s"),
    "handful select shop --out next": ("--seeds 1", "ten seeds take half a minute"),
    "handful dream labelled --out dreams --frames 20 --workers 2": ("--frames 4 --fill telea", FILLED),
    "handful dream labelled --out dreams --frames 20 --workers 2 --resume": ("--frames 4 --fill telea", FILLED),
    "handful dream labelled-repaired --out dreams --frames 20 --workers 2": (
        "--frames 4 --fill telea --workers 1",
        FILLED,
    ),
    "handful dream preview flower.jpg --box 120,20,560,420 --out look": ("--fill telea", FILLED),
}


def blocks(text: str, language: str) -> list[str]:
    return [body for one, body in pieces(text) if one == language]


def pieces(text: str) -> list[tuple[str, str]]:
    """(language, text) of a page's blocks, in order."""
    return [(one, body) for one, body in re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", text, re.M | re.S)]


def shell(text: str) -> list[str]:
    """Every command in the shell blocks of a page."""
    return [line for language, body in pieces(text) if language in ("sh", "bash", "console", "shell")
            for line in lines_of(body)]  # fmt: skip


def commands(text: str) -> list[str]:
    """Those that are handful's."""
    return [line for line in shell(text) if line.startswith("handful ")]


def installed(command: str) -> set[str] | None:
    """The extras of `pip install "handful[...]"`; None of any other command."""
    found = re.fullmatch(r"""pip install ["']?handful(?:\[([\w,]*)\])?["']?""", command)
    return found and set(filter(None, (found[1] or "").split(",")))


def mentioned(text: str) -> list[str]:
    """Commands in the running text: `handful teach photos`; what stands for something else is left out."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    found = [re.split(r" \||\.\.\.", one)[0] for one in re.findall(r"`(handful [^`]+)`", prose)]
    return [one for one in found if not re.search(r"\b(VERB|NAME|COMMAND)\b", one)]


@contextlib.contextmanager
def nothing_is_looked_for() -> Iterator[io.StringIO]:
    """Paths on the command line are taken as they stand, so that commands are looked at where no file is. Gives what is
    said meanwhile."""
    net = Net.convert
    with pytest.MonkeyPatch.context() as patch:
        for kind in (ModelFolder, Data, ImageFile):
            patch.setattr(kind, "convert", lambda self, value, param, ctx: Path(value))
        patch.setattr(Net, "convert", lambda self, *given: given[0] if self.folder else net(self, *given))
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            yield said


def problem(command: str, *, whole: bool = True) -> str | None:
    """What is wrong with a command as it is typed: verb, option, choice, number or missing word; None where nothing is.

    whole: an argument that is missing is wrong too; in running text it is not. An old name is wrong in a document.
    """
    at: click.Command = cli
    context, rest = None, shlex.split(command)[1:]
    name: str | None = "handful"
    try:
        with nothing_is_looked_for() as told:
            while True:
                context = at.make_context(name, list(rest), parent=context)
                if not isinstance(at, click.Group):
                    for one in at.params:  # numbers that no model can use; files are not looked for
                        value = context.params.get(one.name or "")
                        if isinstance(one.type, Vigilance) and value is not None:
                            one.type.check(value)
                    return told.getvalue() or None
                rest = [*context._protected_args, *context.args]
                if not rest:
                    return f"{context.command_path} wants a verb" if whole else None
                name, found, rest = at.resolve_command(context, rest)
                assert found is not None
                at = found
    except click.exceptions.NoArgsIsHelpError:
        return "wants a verb" if whole else None
    except click.MissingParameter as error:
        return error.format_message() if whole else None
    except click.UsageError as error:
        return error.format_message()
    except HandfulError as error:
        return str(error)
    except click.exceptions.Exit:
        return None  # --help, --version


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("handful teach photos --out m", None),
        ("handful teach photos --out m --vigilance 2.2 --class a --class b", None),
        ("handful --version", None),
        ("handful dream labelled --out d", None),
        ("handful teech photos --out m", "did you mean 'teach'"),
        ("handful teach photos --ot m", "--out"),
        ("handful teach photos --out m --vigilance high", "wanted a number from 0 to 10"),
        ("handful teach shop --out m --scales 9", "'9' is not one of"),
        ("handful teach shop --out m --max-samples 0", "not in the range"),
        ("handful teach photos --out m --frame big", "HEIGHTxWIDTH"),
        ("handful teach --out m", "Missing argument 'DATA'"),
        ("handful teach photos", "Missing option '--out'"),
        ("handful teach photos more --out m", "unexpected extra argument (more)"),
        ("handful teach photos --out m --vigilance nan", "wanted a number from 0 to 10"),
        ("handful recognise model new.jpg", "`handful recognise` is `handful predict` now"),
        ("handful detect m x.jpg --look focus", "is --scale-mode now"),
        ("handful device", "wants a verb"),
        ("handful device compyle m", "did you mean 'compile'"),
    ],
)
def test_a_wrong_command_is_caught(command: str, said: str | None) -> None:
    found = problem(command)
    assert found is None if said is None else said in (found or ""), found
    if found and ("issing" in found or "wants a verb" in found):
        assert problem(command, whole=False) is None


def test_blocks_and_commands_are_found() -> None:
    text = "```sh\nhandful x a \\\n  --b c  # why\n\n# no\nmake y\n```\n`handful z | w` `handful VERB`\n"
    text += "```python\n1\n```\n"
    assert pieces(text)[1] == ("python", "1\n") and shell(text) == ["handful x a --b c", "make y"]
    assert installed('pip install "handful[a,b]"') == {"a", "b"} and installed("pip install handful") == set()
    assert installed("pip install torch") is None is installed("make test")
    assert commands(text) == ["handful x a --b c"] and mentioned(text) == ["handful z"]
    assert len(commands((ROOT / "docs/quickstart.md").read_text())) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_is_one(page: Path) -> None:
    text = page.read_text()
    wrong = [f"{command}: {why}" for command in commands(text) if (why := problem(command))]
    wrong += [f"{command}: {why}" for command in mentioned(text) if (why := problem(command, whole=False))]
    assert "\n".join(wrong) == ""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for command in shell(text):
        assert (installed(command) or set()) <= extras.keys(), command
    for script, words in re.findall(r"python ((?:benchmarks|tools)/\w+\.py)([^`\n]*)", text):
        source = (ROOT / script).read_text()
        for option in re.findall(r"(?<= )--[\w-]+", words):
            assert f'"{option}"' in source, f"{page.name}: {script} has no {option}"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def run_page(text: str, name: str, world: World, folder: Path) -> int:
    """Type all of a page; the number of commands and snippets. Fails at the first that does not work."""
    space: dict[str, object] = {"__name__": name}
    done = 0
    for language, body in pieces(text):
        if language == "python":
            world.before_snippet(body, folder)
            exec(compile(body, name, "exec"), space)
            done += 1
        for command in lines_of(body) if language in ("sh", "bash", "console", "shell") else ():
            if command in NOT_RUN:
                continue
            if installed(command) is not None:  # test_every_command_is_one holds it to the extras there are
                done += 1
                continue
            if re.search(r"_HANDFUL_COMPLETE=|mkdir -p ~/", command):  # for the reader's shell, and home
                env = {**os.environ, "HOME": str(folder), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
                subprocess.run(["bash", "-euc", command], env=env, check=True)
                done += 1
                continue
            assert command.startswith("handful "), f"{name}: {command!r} is neither run nor in NOT_RUN"
            words = shlex.split(command)[1:] + shlex.split(SHORTER.get(command, ("", ""))[0])
            world.before_command(words, folder)
            try:
                main(words)
            except SystemExit as stop:
                if stop.code:
                    pytest.fail(f"{name}: {command}: exit {stop.code}")
            world.after_command(words, folder)
            done += 1
    return done


def test_what_a_shell_is_told_to_keep_works(world: World, tmp_path: Path) -> None:
    """The lines that set up completion, in a home of their own; bash reads what they wrote."""
    page = (ROOT / "docs/reference/cli.md").read_text()
    assert run_page(page, "cli.md", world, tmp_path) >= 3
    kept = (tmp_path / ".bashrc", tmp_path / ".zshrc", tmp_path / ".config/fish/completions/handful.fish")
    assert all("_HANDFUL_COMPLETE" in path.read_text() for path in kept)
    env = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = subprocess.run(
        ["bash", "-c", "source ~/.bashrc; complete -p handful"], env=env, capture_output=True, text=True
    )
    assert "_handful_completion" in told.stdout, told.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if "```sh" in p.read_text() or "```python" in p.read_text()],
                         ids=lambda p: str(p.relative_to(ROOT)))  # fmt: skip
def test_the_page_runs(page: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page.read_text(), page.name, world, tmp_path) or page.name in ("CONTRIBUTING.md",)


def test_what_does_not_run_is_caught(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pytest.fail.Exception, match=r"x\.md: handful evaluate absent photos: exit 2"):
        run_page("```sh\nhandful evaluate absent photos\n```\n", "x.md", world, tmp_path)
    assert (tmp_path / "photos" / "mug").is_dir()
    with pytest.raises(AssertionError, match="neither run nor in NOT_RUN"):
        run_page("```sh\nmake coffee\n```\n", "x.md", world, tmp_path)
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "x.md", world, tmp_path)
    assert run_page("```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n", "x.md", world, tmp_path) == 2


def test_what_is_not_run_is_still_documented() -> None:
    shown = {command for page in PAGES for command in shell(page.read_text())}
    assert set(NOT_RUN) | set(SHORTER) <= shown, "an entry that no page shows any more"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_and_script_named_exists(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+?)\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for script in re.findall(r"(?:python )((?:benchmarks|tools)/\w+\.py)", text):
        assert (ROOT / script).exists(), f"{page.name} names {script}"


def test_every_benchmark_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for script in (ROOT / "benchmarks").glob("*.py"):
        if not script.name.startswith("common"):
            assert f"benchmarks/{script.name}" in text, f"no page says what {script.name} measures"
