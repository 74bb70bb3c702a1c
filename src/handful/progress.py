"""Long work says how far it is, as events; whoever listens shows them: a terminal, a browser, a test.

    with listening(print), cancellable(token):
        handful.teach("photos", "model")  # Started, Advanced, ..., Finished; Cancelled once token.set() was called

Who listens, and what can cancel, belong to the context they are set in (contextvars): two requests in two threads do
not mix, and `threads.over` takes the context along to its own threads. Without a listener it is the terminal.
"""

from __future__ import annotations

import itertools
import operator
import sys
import time as clocks
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from threading import Lock
from types import GeneratorType
from typing import Any, ClassVar, Protocol, TypeVar

from handful.errors import Cancelled

T = TypeVar("T")
Clock = Callable[[], float]
LINE_S = 30.0  # between lines where stderr is no terminal
DRAW_S = 0.1  # between changes of a bar


@dataclass(frozen=True)
class Event:
    """What happened. time: seconds of a clock that only goes forward, so that differences of times mean something."""

    kind: ClassVar[str]
    time: float

    def to_json(self) -> dict[str, Any]:
        """{"event": "advanced", "time": ..., ...}: the event as a JSON object."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Started(Event):
    """Work on `total` items begins, None when nobody knows how many. task: a number that its other events share."""

    kind = "started"
    task: int
    what: str
    total: int | None
    done: int = 0


@dataclass(frozen=True)
class Advanced(Event):
    """`done` items are done."""

    kind = "advanced"
    task: int
    what: str
    total: int | None
    done: int


@dataclass(frozen=True)
class Finished(Event):
    """The work has ended. whole: all of it; False: an error, a cancel or whoever asked ended it before."""

    kind = "finished"
    task: int
    what: str
    total: int | None
    done: int
    whole: bool


@dataclass(frozen=True)
class Note(Event):
    """One line about what is being done."""

    kind = "note"
    text: str


@dataclass(frozen=True)
class Warned(Event):
    """One line the user must see."""

    kind = "warning"
    text: str


Sink = Callable[[Event], None]


class Token(Protocol):
    """What can cancel: a threading.Event, or anything that answers is_set()."""

    def is_set(self) -> bool:
        """Whether the work is to end."""
        ...


_tokens: ContextVar[tuple[Token, ...]] = ContextVar("handful.progress.tokens", default=())
_sinks: ContextVar[tuple[Sink, ...] | None] = ContextVar("handful.progress.sinks", default=None)
_numbers = itertools.count(1)


@contextmanager
def listening(*sinks: Sink) -> Iterator[None]:
    """What happens inside is told to these sinks instead of those outside; `terminal` may be one. What a sink raises
    comes out of the work it listens to; a sink is called by the thread that does the work, and must return soon."""
    before = _sinks.set(sinks)
    try:
        yield
    finally:
        _sinks.reset(before)


@contextmanager
def cancellable(token: Token) -> Iterator[None]:
    """Inside, `track` and `check_cancelled` raise Cancelled once the token, or one of those outside, is set."""
    before = _tokens.set((*_tokens.get(), token))
    try:
        yield
    finally:
        _tokens.reset(before)


def check_cancelled(what: str = "the work") -> None:
    """Raises Cancelled once somebody has set a token; for long work that `track` does not see."""
    if any(token.is_set() for token in _tokens.get()):
        raise Cancelled(f"{what} was cancelled; no partial files are left")


def track(items: Iterable[T], what: str, total: int | None = None, *, clock: Clock = clocks.monotonic) -> Iterator[T]:
    """Yield the items, and tell how far it is after each. total: how many, where the items themselves do not know.

    Raises Cancelled between two items.
    """
    if total is None:
        total = operator.length_hint(items, -1)
        total = None if total < 0 else total
    task, done, whole = next(_numbers), 0, False
    emit(Started(clock(), task, what, total))
    try:
        check_cancelled(what)
        for item in items:
            yield item
            done += 1
            emit(Advanced(clock(), task, what, total, done))
            check_cancelled(what)
        whole = True
    finally:
        if isinstance(items, GeneratorType):
            items.close()  # now, not when the error's traceback is gone
        emit(Finished(clock(), task, what, total, done, whole))


def note(text: str) -> None:
    """One line about what is being done, on stderr; nothing under --quiet."""
    emit(Note(clocks.monotonic(), text))


def warn(text: str) -> None:
    """One line the user must see, on stderr."""
    emit(Warned(clocks.monotonic(), text))


def emit(event: Event) -> None:
    """Tell whoever listens here."""
    sinks = _sinks.get()
    for sink in (terminal,) if sinks is None else sinks:
        sink(event)


def set_quiet(quiet: bool) -> None:
    """Silence bars, lines and notes on the terminal (--quiet). Warnings and errors are still shown."""
    terminal.quiet = quiet


class Lines:
    """Plain lines, at most one in LINE_S for each task: for logs, and wherever nobody watches a bar."""

    def __init__(self, write: Callable[[str], None], every: float = LINE_S) -> None:
        self.write, self.every = write, every
        self._since: dict[int, tuple[float, float]] = {}  # task -> when it began, when it last said something

    def __call__(self, event: Event) -> None:
        """Write what the event asks for, if anything."""
        if isinstance(event, Note):
            self.write(event.text)
        elif isinstance(event, Warned):
            self.write(f"warning: {event.text}")
        elif isinstance(event, Started):
            self._since[event.task] = event.time, event.time
        elif isinstance(event, Advanced):
            began, last = self._since.get(event.task, (event.time, event.time))
            if event.time - last >= self.every:
                self._since[event.task] = began, event.time
                self.write(f"{event.what}: {far(event.done, event.total, event.time - began)}")
        elif isinstance(event, Finished):
            began, last = self._since.pop(event.task, (event.time, event.time))
            if last > began and event.whole:  # who was told how far it is wants to know that it is done
                self.write(f"{event.what}: {event.done} done in {duration(event.time - began)}")


def far(done: int, total: int | None, seconds: float) -> str:
    """far(120, 360, 60.0) -> "120 of 360, about 2 min left"."""
    if total is None:
        return f"{done} so far"
    if not 0 < done < total:
        return f"{done} of {total}"
    return f"{done} of {total}, about {duration(seconds * (total - done) / done)} left"


def duration(seconds: float) -> str:
    """duration(130) -> "2 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Terminal:
    """stderr: a bar for each task where somebody watches, plain lines elsewhere."""

    def __init__(self) -> None:
        self.quiet = False
        self._lock = Lock()  # tasks of several threads share one display
        self._lines = Lines(self._write)
        self._bar: Any = None
        self._rows: dict[int, tuple[Any, float]] = {}  # task -> its row of the display, when it last changed

    def __call__(self, event: Event) -> None:
        """Show it."""
        if isinstance(event, Note | Warned):
            if isinstance(event, Warned) or not self.quiet:
                self._lines(event)
        elif not self.quiet or event.task in self._rows:  # type: ignore[attr-defined]
            with self._lock:
                self._show(event)

    def _show(self, event: Any) -> None:
        if isinstance(event, Started) and sys.stderr is not None and sys.stderr.isatty():
            self._bar = self._bar or _started_bar()
            self._rows[event.task] = self._bar.add_task(event.what, total=event.total), event.time
        elif event.task not in self._rows:
            self._lines(event)
        elif isinstance(event, Advanced):
            row, last = self._rows[event.task]
            if event.time - last >= DRAW_S:
                self._bar.update(row, completed=event.done)
                self._rows[event.task] = row, event.time
        else:
            self._bar.remove_task(self._rows.pop(event.task)[0])
            if not self._rows:
                self._bar.stop()
                self._bar = None

    @staticmethod
    def _write(text: str) -> None:
        if sys.stderr is not None:  # as in a program without a console
            print(text, file=sys.stderr, flush=True)


def _started_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.start()
    return bar


terminal = Terminal()
