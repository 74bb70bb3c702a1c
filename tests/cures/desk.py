"""What a row of cures works with: the command as a person types it, what it said, and the advice taken out of that."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful.cli import main
from handful.errors import HandfulError
from tests.cures.inventory import advices

ROWS: dict[str, str] = {}  # key of an advice -> the test that follows it
END = re.compile(r"[;`\n)]|: |, or |, which | \(|$")  # where a proposed command ends
WORD = re.compile(r"""'[^']*'|"[^"]*"|[^\s;,`()]+""")
Test = Callable[..., None]


def cures(*advice: str, leaves_out: tuple[str, ...] = ()) -> Callable[[Test], Test]:
    """A test that makes the situation, sees the message, and does what it says. advice: "MODULE:FUNCTION WHAT", or, of
    one function, several: "MODULE:FUNCTION --this --that". leaves_out: options that are followed by dropping them."""
    keys: list[str] = []
    for text in advice:
        where, _, what = text.partition(" ")
        parts = re.split(r" (?=--)", what) if what.startswith("--") else [what]
        keys += [f"{where} {part}" for part in parts]

    def mark(test: Test) -> Test:
        for key in keys:
            assert key not in ROWS, f"{key} has two rows"
            ROWS[key] = test.__name__
        test.cures, test.leaves_out = tuple(keys), leaves_out  # type: ignore[attr-defined]
        return test

    return mark


class Said(str):
    """What a command printed, or an error says."""

    code: int

    def option(self, name: str, **places: object) -> list[str]:
        """An option as the message has it, with its value. places: what stands for a word in capitals."""
        found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self)
        assert found, f"{name} is not proposed in: {self}"
        word = WORD.match(self, found.end() + 1) if self[found.end() : found.end() + 1] == " " else None
        return [name, *(_filled(word[0], places) or ())] if word and (places or word[0][0] in "'\"") else [name]

    def value(self, name: str) -> list[str]:
        """An option with the value that the message gives it, as it stands there."""
        found = re.search(rf"(?<![\w-]){re.escape(name)} ", self)
        assert found, f"{name} is not proposed with a value in: {self}"
        word = WORD.match(self, found.end())
        assert word, self
        return [name, *shlex.split(word[0])]

    def after(self, words: str, **places: object) -> list[str]:
        """What is to be typed, which stands behind some words of the message."""
        _, there, rest = self.partition(words)
        assert there, f"{words!r} is not in: {self}"
        end = END.search(rest)
        filled = _filled(rest[: end.start() if end else None].strip(), places)
        assert filled, rest
        return filled

    def commands(self, verb: str = "", **places: object) -> list[list[str]]:
        """The words behind `handful` of every command the message proposes that begins with `verb`."""
        found = []
        for start in re.finditer(r"\bhandful (?=[a-z])", self):
            end = END.search(self, start.end())
            words = self[start.end() : end.start() if end else None]
            filled = _filled(words, places) if words.startswith(verb) else None
            if filled is not None:
                found.append(filled)
        assert found, f"handful {verb} is not proposed in: {self}"
        return found

    def command(self, verb: str = "", **places: object) -> list[str]:
        """The first of them."""
        return self.commands(verb, **places)[0]


def _filled(words: str, places: dict[str, object]) -> list[str] | None:
    """The words of a command; None where one in capitals stands for something that is not said."""
    found = [str(places.get(word, word)) for word in shlex.split(words.rstrip(".,"))]
    return None if any(re.fullmatch(r"[A-Z]{2,}", word) for word in found) else found


class Desk:
    """A folder to work in, whose name has a space in it, and the command.

    `seen` are all messages, `typed` all that succeeded afterwards; each with its place in the order of things.
    """

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.place, self.capsys = place, capsys
        self.seen: list[tuple[int, str]] = []
        self.typed: list[tuple[int, list[str]]] = []
        self.clock = 0

    def at(self, *parts: str) -> Path:
        """A path in the folder."""
        return self.place.joinpath(*parts)

    def run(self, *words: object) -> Said:
        """Type a command; its exit code, and all it printed."""
        self.capsys.readouterr()
        code, args = 0, [str(word) for word in words]
        try:
            main(args)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self.capsys.readouterr()
        said = self.told(out + err)
        said.code = code
        assert "a fault of handful itself" not in said and "Traceback" not in said, said
        if code == 0:
            self.typed.append((self.clock, args))
        return said

    def told(self, text: object) -> Said:
        """Note a message that came otherwise than by a command."""
        self.clock += 1
        self.seen.append((self.clock, str(text)))
        said = Said(text)
        said.code = 0
        return said

    def no(self, *words: object) -> Said:
        """Type a command that says no."""
        said = self.run(*words)
        assert said.code in (1, 2), said
        return said

    def yes(self, *words: object) -> Said:
        """Type a command that does it."""
        said = self.run(*words)
        assert said.code == 0, f"{' '.join(map(str, words))}\n{said}"
        return said

    def tells(self, *words: object) -> Said:
        """Type a command that does its work and says no: a check that lists what is wrong."""
        said = self.run(*words)
        assert said.code == 1, said
        self.typed.append((self.clock, [str(word) for word in words]))
        return said

    def raises(self, call: Callable[..., Any], *args: Any, **more: Any) -> Said:
        """What an error of handful says."""
        with pytest.raises(HandfulError) as caught:
            call(*args, **more)
        return self.told(caught.value)

    def held_to(self, keys: tuple[str, ...], leaves_out: tuple[str, ...]) -> None:
        """Every advice was seen, and what it proposes was typed later, and worked."""
        for key in keys:
            advice = advices()[key]
            first = next((at for at, text in self.seen if advice.stands_in(text)), None)
            assert first is not None, f"{key} was not seen: {advice.template!r}\nin {[text for _, text in self.seen]}"
            if advice.proposes in leaves_out or not advice.proposes.startswith(("--", "handful ")):
                continue
            words = advice.proposes.removeprefix("handful ").split()
            later = [typed for at, typed in self.typed if at > first]
            if words[0].startswith("--"):
                assert any(words[0] in typed for typed in later), f"{key}: {words[0]} was not typed with success"
            else:
                assert any(typed[: len(words)] == words for typed in later), f"{key}: was not typed with success"
