"""What every verb is made of: a command with examples, whose old names and options work for one version more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

RUNTIMES = "torch, onnxruntime, litert, executorch or ncnn"
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# an option's old name -> what it is now; "" for nothing, its value stays as an argument; "!--flag" for a flag that
# takes the place of the option and its value
Renamed = Mapping[str, str]


class Verb(click.Command):
    """A command with two examples below its help. Names that its options had before are taken for one version more, and
    what they are called now is told on stderr."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), renamed: Renamed | None = None, **more: Any) -> None:
        self.examples, self.renamed = tuple(examples), dict(renamed or {})
        told = "\n".join(f"  {line}" for line in self.examples)
        more["epilog"] = f"\b\nExamples:\n{told}" if told else None
        super().__init__(*args, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put today's names where yesterday's stand."""
        return super().parse_args(ctx, modern(args, self.renamed))

    def invoke(self, ctx: click.Context) -> Any:
        """Look at what was named, once all that was typed is understood and before anything heavy is loaded."""
        for param in self.params:
            check, value = getattr(param.type, "check", None), ctx.params.get(str(param.name))
            if check is not None and value is not None:
                for one in _each(param, value):
                    check(one)
        self._clear(ctx)
        from handful import running

        with running.verb(flag for param in self.params for flag in param.opts):
            return super().invoke(ctx)

    def _clear(self, ctx: click.Context) -> None:
        """Raises DataError where what is written would fall on what is read."""
        from handful.cli.places import Output

        given = [(param, ctx.params.get(str(param.name))) for param in self.params]
        reads = [Path(one) for param, value in given if value is not None and _is_read(param)
                 for one in _each(param, value) if _there(one)]  # fmt: skip
        for param, value in given:
            if isinstance(param.type, Output) and value is not None:
                param.type.clear(value, reads)


def _each(param: click.Parameter, value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) and (param.nargs != 1 or _many(param)) else (value,)


def _is_read(param: click.Parameter) -> bool:
    """Whether a parameter's value is a path, or may be one, of what the verb reads."""
    return bool(getattr(param.type, "reads", isinstance(param.type, click.Path)))


def _there(value: Path | str) -> bool:
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False


def _many(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and param.multiple


def modern(args: Sequence[str], renamed: Renamed) -> list[str]:
    """Arguments with today's names of options. What is behind a -- is no option."""
    end = args.index("--") if "--" in args else len(args)
    found: list[str] = []
    rest = iter(args[:end])
    for arg in rest:
        name, equals, value = arg.partition("=")
        new = renamed.get(name)
        if new is None:
            found.append(arg)
            continue
        flag = new.removeprefix("!")
        told = f"is {flag} now" if new else "is not needed any more"
        click.echo(f"handful: {name} {told}; the old name will be removed in the next version", err=True)
        if flag != new:
            found.append(flag)
            None if equals else next(rest, None)
        else:
            found += [value] * bool(equals) if not new else [f"{new}{equals}{value}"]
    return [*found, *args[end:]]


def verb(
    name: str | None = None, *, examples: Sequence[str], renamed: Renamed | None = None, **more: Any
) -> Callable[[Callable[..., Any]], Verb]:  # fmt: skip
    """A decorator that makes a Verb of a function."""
    return click.command(name, cls=Verb, examples=examples, renamed=renamed, **more)


class Verbs(click.Group):
    """A group that answers a mistyped verb with the nearest one, and lists its verbs in the order of their use."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or a usage error that names the nearest."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            from handful.pick import unknown

            shown = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
            raise click.UsageError(str(unknown("command", cmd_name, shown)))
        return found


class Alias(click.Command):
    """A verb's old name: hidden, and for one version more the same as the new one.

    load: gives the new verb. called: how it is called now. renamed: options that only the old name had.
    """

    def __init__(
        self, name: str, load: Callable[[], click.Command], called: str, renamed: Renamed | None = None
    ) -> None:
        super().__init__(name, hidden=True, help=f"The old name of `handful {called}`.")
        self.load, self.called, self.renamed = load, called, dict(renamed or {})

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """That of the new verb."""
        click.echo(f"handful: `handful {self.name}` is `handful {self.called}` now; the old name will be removed in "
                   "the next version", err=True)  # fmt: skip
        return self.load().make_context(self.called, modern(args, self.renamed), parent, **extra)


def say(result: Mapping[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """Print a result: as JSON, or as `text` puts it."""
    from handful.files import to_json

    utf = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")
    click.echo(to_json(result, ascii=not utf) if as_json else text(dict(result)))


def refuse(place: Path, what: str, owner: type, method: str, given: Mapping[str, Any]) -> None:
    """Raises UsageError, in one line that names the kinds of model which take it, for an option that this kind lacks.

    place: the model folder; what: which kind it is, in words; owner: the class of its models; method: of that class,
    whose arguments are the options; given: those that were typed, by name in Python.
    """
    from handful.errors import UsageError
    from handful.kinds import registry

    for name in given:
        if name in registry.options(owner, method):
            continue
        found = [registry.kind(kind) for kind in registry.kinds()]
        takers = [k.DESCRIPTION for k, n in zip(found, registry.kinds(), strict=True)
                  if name in registry.options(registry.model_class(n), method)]  # fmt: skip
        flag = "--" + name.strip("_").replace("_", "-")
        raise UsageError(f"{place} is {what}; {flag} is for {listed(takers)}")


def listed(words: Sequence[str], last: str = "or") -> str:
    """["a", "b", "c"] -> "a, b or c"."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


def typed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Only the options that were given: not None, no flag left alone, nothing that may be repeated and was not."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


def leave(code: int = 1) -> None:
    """Leave with an exit code."""
    sys.exit(code)


def decorated(command: Callable[..., Any], options: Iterable[Callable[..., Any]]) -> Callable[..., Any]:
    """A command with options, the first on top."""
    for option in reversed(tuple(options)):
        command = option(command)
    return command
