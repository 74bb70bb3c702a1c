"""What `make docs` adds to MkDocs: the reference of commands, made from the commands; docstrings as Markdown.

MkDocs calls `on_page_markdown` for each page (see mkdocs.yml); mkdocstrings gives `Parameters` what griffe has read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click
import griffe

HERE = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page, with every command in place of HERE, and figures that stay on one line with their spread."""
    markdown = re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", markdown)
    if HERE not in markdown:
        return markdown
    from handful.cli import cli

    return markdown.replace(HERE, "\n".join(commands(cli, "handful")))


def commands(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """A command and those below it as lines of Markdown: what --help says of each, hidden ones left out."""
    ctx = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    yield from page_of(command, ctx)
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            if found is not None and not found.hidden:
                yield from commands(found, below, ctx)


def page_of(command: click.Command, ctx: click.Context) -> Iterator[str]:
    depth = min(2 + len(ctx.command_path.split()) - 1, 3)
    yield from ["", f"{'#' * depth} {ctx.command_path}", ""]
    yield from prose(command.help or "")
    yield from ["```text", ctx.command_path + " " + " ".join(command.collect_usage_pieces(ctx)), "```", ""]
    yield from prose(command.epilog or "")
    options = [one for one in command.get_params(ctx) if isinstance(one, click.Option) and "--help" not in one.opts]
    rows = [found for one in options if (found := one.get_help_record(ctx))]
    if isinstance(command, click.Group) or not rows:
        return
    yield from ["| option | what it does |", "|---|---|"]
    for names, said in rows:
        yield f"| {', '.join(f'<code>{cell(one)}</code>' for one in names.split(', '))} | {cell(said)} |"
    yield ""


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return re.sub(r"\s+", " ", text).translate({ord(one): f"&#{ord(one)};" for one in "|<>[]*_`"})


def prose(text: str) -> Iterator[str]:
    """click's help as Markdown: a paragraph that begins with \\b is kept line by line, others are wrapped anew."""
    import inspect

    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        if lines[:1] == ["\b"] and lines[1].strip() == "Examples:":
            yield from ["```sh", *(line.strip() for line in lines[2:]), "```", ""]
        elif lines[:1] == ["\b"]:
            yield from ["```text", *(line.rstrip() for line in lines[1:]), "```", ""]
        elif lines:
            yield from [re.sub(r"<(?=\w)", "&lt;", " ".join(line.strip() for line in lines)), ""]


class Parameters(griffe.Extension):
    """Docstrings as pages show them: a list of parameters where a paragraph tells of several, examples as code."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Names of a function's parameters."""
        self.mark(func, [one.name for one in func.parameters])

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Names of a class's attributes."""
        self.mark(cls, [name for name, member in cls.members.items() if member.is_attribute])

    def mark(self, thing: griffe.Object, names: list[str]) -> None:
        if thing.docstring is not None:
            thing.docstring.value = "\n\n".join(
                marked(paragraph, names) for paragraph in re.split(r"\n\s*\n", thing.docstring.value)
            )


def marked(paragraph: str, names: list[str]) -> str:
    """A paragraph of a docstring as Markdown. `seed: which. out: where.`, where these are names, becomes a list."""
    if paragraph.startswith(">>> "):
        return f"```python\n{re.sub(r'^(>>>|[.]{3}) ?', '', paragraph, flags=re.M)}\n```"
    text = " ".join(line.strip() for line in paragraph.splitlines())
    one = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    parts = re.split(rf"(?:^|(?<=[.;]) )((?:{one})(?:, (?:{one}))*): ", text) if names else [text]
    if len(parts) < 3:
        return paragraph
    rows = [f"- **{name}**: {said}" for name, said in zip(parts[1::2], parts[2::2], strict=True)]
    last, *rest = re.split(r" (?=Raises )", rows[-1], maxsplit=1)
    return "\n".join([parts[0], "", *rows[:-1], last, "", *rest]).strip()
