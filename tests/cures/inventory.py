"""Every advice that handful gives: the options, commands and repairs that its messages propose, found in its source.

An advice is a string in src/handful, of a constant or an f-string, that names an option (`--fix`), a command (`handful
data check`) or a `pip install` line, or tells in plain words what to do (`; rename it`). Docstrings and the help of the
command line are none. Its key is the module, the function and what is proposed: `curate.check:ensure --allow`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from handful.data.finding import CODES, KEPT

SOURCE = Path(__file__).parents[2] / "src" / "handful"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
COMMAND = re.compile(r"\bhandful (?P<verb>data|dream|models|weights|device|train|teach|predict|evaluate|set|unlearn|"
                     r"heatmap|select|demo)(?: (?P<sub>[a-z]+))?\b")  # fmt: skip
GROUPS = ("data", "dream", "models", "weights", "device", "train")
PIP = re.compile(r"\bpip install\b")
# a clause that tells in plain words what to do: what stands behind a semicolon and begins with one of these
DO = ("rename", "remove", "replace", "choose", "give", "leave", "restore", "make", "put", "name", "use", "unpack",
      "export", "wait", "install", "reinstall", "convert", "move", "set", "shrink", "decide", "join", "pass", "take",
      "teach", "get", "copy", "add", "save", "fix", "mend", "clear", "undo", "load", "go", "try", "repair", "resume",
      "say", "write", "run", "check", "see", "delete", "look", "stop", "train", "ask", "keep", "send", "bring", "unset",
      "please report", "cut", "draw", "measure", "begin", "call", "point", "close", "change", "do not", "finish",
      "decide", "multiply")  # fmt: skip
PLAIN = re.compile(r"(?:; |\A; ?)(?:or |and )?(" + "|".join(DO) + r")\b")
# where a string is help, an example, a query, code or a picture's words, and no message
HELP = frozenset(("Meaning", "option", "verb", "command", "Output", "docstring", "text", "execute", "Code", "compile"))
HELP_ARGUMENTS = frozenset(("examples", "told", "help", "epilog"))
HELP_NAMES = frozenset(("HOME", "MEANINGS", "EXAMPLE", "TREE", "DESCRIPTION", "LAYOUT", "__all__"))


@dataclass(frozen=True)
class Advice:
    """key: see above. template: the string, {…} where a value is put in. line: of the source. guarded:
    whether it stands there only where the running verb has the option (handful.running)."""

    key: str
    module: str
    function: str
    proposes: str
    template: str
    file: str
    line: int
    guarded: bool

    def stands_in(self, text: str) -> bool:
        """Whether a message has this advice in it."""
        parts = [re.escape(part) for part in re.split(r"\{[^{}]*\}", self.template)]
        return re.search("(?s)" + ".*?".join(parts).replace(r"\ ", r"\s+"), text) is not None


def words_of(node: ast.expr) -> str | None:
    """A string as its source has it, {…} for a value; None for what is no string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = words_of(node.left), words_of(node.right)
        if all(side is None for side in sides):
            return None
        return "".join("{}" if side is None else side for side in sides)
    return None


Found = tuple[str, int, str, bool]


def _strings(node: ast.AST, function: str, guarded: bool = False) -> Iterator[Found]:
    """(function, line, words, guarded) of each string below a node that may be part of a message."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        inner = node.name if isinstance(node, ast.FunctionDef) else function
        for child in node.body:
            yield from _strings(child, inner)
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {t.id for t in targets if isinstance(t, ast.Name)}
        if names & HELP_NAMES:
            return
        if not function and len(names) == 1:
            function = next(iter(names))
    if isinstance(node, ast.IfExp | ast.If) and "running.has(" in ast.unparse(node.test):
        guarded = True
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in HELP:
            return
        guarded = guarded or called == "reading"
    if isinstance(node, ast.keyword) and node.arg in HELP_ARGUMENTS:
        return
    if isinstance(node, ast.expr) and (words := words_of(node)) is not None:
        yield function, node.lineno, words, guarded
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue):
                yield from _strings(part.value, function, guarded)
            elif isinstance(part, ast.BinOp):
                for side in (part.left, part.right):
                    if words_of(side) is None:
                        yield from _strings(side, function, guarded)
        return
    for child in ast.iter_child_nodes(node):
        yield from _strings(child, function, guarded)


def proposals(words: str) -> list[str]:
    """What a string proposes: options, commands, pip; in plain words only where it names none of these."""
    if " " not in words.strip():
        return []
    found = list(dict.fromkeys(OPTION.findall(words)))
    for match in COMMAND.finditer(words):
        sub = match["sub"] if match["verb"] in GROUPS else None
        found.append(f"handful {match['verb']}" + (f" {sub}" if sub else ""))
    if PIP.search(words):
        found.append("pip install")
        found = [name for name in found if name not in ("--upgrade", "--force-reinstall")]
    if not found and (plain := PLAIN.search(words)):
        found = [plain[1]]
    return list(dict.fromkeys(found))


@cache
def advices() -> dict[str, Advice]:
    """Every advice in the source, by its key."""
    found: dict[str, Advice] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for function, line, words, guarded in _strings(ast.parse(path.read_text(encoding="utf-8")), ""):
            for what in proposals(words):
                base = f"{module}:{function} {what}"
                key, n = base, 1
                while key in found:
                    n += 1
                    key = f"{base} #{n}"
                found[key] = Advice(key, module, function, what, words, str(path.relative_to(SOURCE)), line, guarded)
    return found


def repairs() -> list[str]:
    """The codes of findings about which --fix, or a person, does something."""
    return [code for code, kind in CODES.items() if kind.repair != KEPT]
