"""Progress as events: who hears them, what cancels, and what a terminal and a log show of them."""

from __future__ import annotations

import io
import itertools
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from handful import progress, threads
from handful.errors import Cancelled, HandfulError
from handful.progress import (
    Advanced,
    Event,
    Finished,
    Lines,
    Note,
    Started,
    Warned,
    cancellable,
    duration,
    far,
    listening,
    note,
    set_quiet,
    terminal,
    track,
    warn,
)
from tests.conftest import ROOT


def ticking(step: float) -> Callable[[], float]:
    """A clock that shows step seconds more each time somebody looks."""
    return itertools.count(0.0, step).__next__


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    set_quiet(False)
    yield
    set_quiet(False)


# --- events ----------------------------------------------------------------------------------------------------------


def test_work_is_told_as_events() -> None:
    heard: list[Event] = []
    with listening(heard.append):
        assert list(track("ab", "reading", clock=ticking(2.0))) == ["a", "b"]
        note("a note")
        warn("a warning")
    started, one, two, finished, noted, warned = heard
    task = started.task  # type: ignore[attr-defined]
    assert started == Started(0.0, task, "reading", 2)
    assert [one, two] == [Advanced(2.0, task, "reading", 2, 1), Advanced(4.0, task, "reading", 2, 2)]
    assert finished == Finished(6.0, task, "reading", 2, 2, True)
    assert isinstance(noted, Note) and noted.text == "a note"
    assert isinstance(warned, Warned) and warned.text == "a warning"
    assert one.to_json() == {"event": "advanced", "time": 2.0, "task": task, "what": "reading", "total": 2, "done": 1}


def test_totals() -> None:
    def some() -> Iterator[int]:
        yield from range(3)

    heard: list[Any] = []
    with listening(heard.append):
        for items, total in (([1, 2], None), (some(), None), (some(), 3), (range(0), None)):
            list(track(items, "x", total))
    assert [e.total for e in heard if isinstance(e, Started)] == [2, None, 3, 0]
    assert len({e.task for e in heard}) == 4


@pytest.mark.parametrize("ending", ["break", "error"])
def test_work_that_ends_early_says_so(ending: str) -> None:
    heard: list[Any] = []
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    def consume() -> None:
        for item in track(items(), "x", 10):
            if item == 3 and ending == "break":
                return
            if item == 3:
                raise ZeroDivisionError

    with listening(heard.append), pytest.raises(ZeroDivisionError) if ending == "error" else nullcontext():
        consume()
    assert [(e.done, e.whole) for e in heard if isinstance(e, Finished)] == [(3, False)] and closed == [True]


def test_listeners_are_those_of_the_context() -> None:
    outer: list[Event] = []
    inner: list[Event] = []
    second: list[Event] = []
    with listening(outer.append):
        with listening(inner.append, second.append):
            note("inside")
        note("outside")
        with listening():
            note("nobody hears this")
    assert [e.text for e in outer] == ["outside"]  # type: ignore[attr-defined]
    assert [e.text for e in inner] == [e.text for e in second] == ["inside"]  # type: ignore[attr-defined]


def test_two_requests_in_two_threads_do_not_mix(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its own sink and its own token; both work at the same time, and one is cancelled."""
    heard: dict[str, list[Any]] = {"a": [], "b": []}
    tokens = {name: threading.Event() for name in heard}
    meet = threading.Barrier(2, timeout=60)
    ended: dict[str, str] = {}

    def request(name: str) -> None:
        with listening(heard[name].append), cancellable(tokens[name]):
            try:
                for number in track(range(50), name):
                    if number <= 5:
                        meet.wait()  # both are at it
                    note(f"{name} {number}")
                    if number == 5:
                        tokens["a"].set()
                        meet.wait()
                ended[name] = "done"
            except Cancelled:
                ended[name] = "cancelled"

    pair = [threading.Thread(target=request, args=(name,)) for name in heard]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join(60)
    assert ended == {"a": "cancelled", "b": "done"}
    for name, count in (("a", 6), ("b", 50)):
        assert {e.what for e in heard[name] if isinstance(e, Started | Advanced | Finished)} == {name}
        assert [e.text for e in heard[name] if isinstance(e, Note)] == [f"{name} {i}" for i in range(count)]
    assert capsys.readouterr().err == ""


def test_helper_threads_tell_who_asked() -> None:
    heard: list[Any] = []

    def work(item: int) -> int:
        warn(f"item {item}")
        return item

    with listening(heard.append):
        assert list(threads.over(work, range(5), workers=3)) == [0, 1, 2, 3, 4]
    assert sorted(e.text for e in heard) == [f"item {i}" for i in range(5)]


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_a_token_ends_the_work_between_two_items() -> None:
    token = threading.Event()
    seen: list[int] = []
    closed: list[bool] = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    def consume() -> None:
        for item in track(items(), "reading"):
            seen.append(item)
            if item == 2:
                token.set()

    with cancellable(token), pytest.raises(Cancelled, match="reading was cancelled") as caught:
        consume()
    assert caught.value.__traceback__ is not None and closed == [True]  # whoever holds the error
    assert seen == [0, 1, 2] and issubclass(Cancelled, HandfulError)
    assert list(track(range(3), "reading")) == [0, 1, 2]  # outside, it means nothing


def test_a_token_that_is_set_before_begins_nothing() -> None:
    token = threading.Event()
    token.set()
    with cancellable(token), cancellable(threading.Event()), pytest.raises(Cancelled):
        next(track(range(10), "reading"))


# --- lines -----------------------------------------------------------------------------------------------------------


def test_a_line_every_half_minute() -> None:
    lines: list[str] = []
    with listening(Lines(lines.append)):
        list(track(range(360), "checking photos", clock=ticking(0.5)))
    assert lines == [
        "checking photos: 60 of 360, about 2 min left",
        "checking photos: 120 of 360, about 2 min left",
        "checking photos: 180 of 360, about 2 min left",
        "checking photos: 240 of 360, about 60 s left",
        "checking photos: 300 of 360, about 30 s left",
        "checking photos: 360 of 360",
        "checking photos: 360 done in 3 min",
    ]


def test_quick_work_says_nothing() -> None:
    lines: list[str] = []
    with listening(Lines(lines.append)):
        list(track(range(20), "x", clock=ticking(1.0)))
    assert lines == []


def test_work_without_a_total_and_work_that_fails() -> None:
    lines: list[str] = []

    def consume() -> None:
        for item in track((i for i in range(50)), "unpacking", clock=ticking(10.0)):
            if item == 7:
                raise ZeroDivisionError

    with listening(Lines(lines.append)), pytest.raises(ZeroDivisionError):
        consume()
    assert lines == ["unpacking: 3 so far", "unpacking: 6 so far"]


def test_words() -> None:
    assert far(0, 10, 5.0) == "0 of 10" and far(10, 10, 5.0) == "10 of 10"
    assert [duration(s) for s in (0, 45, 89, 130, 5399, 9000)] == ["1 s", "45 s", "89 s", "2 min", "90 min", "2.5 h"]


# --- the terminal ----------------------------------------------------------------------------------------------------


def test_where_nobody_watches_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(100), "checking photos", clock=ticking(1.0)))
    note("a note")
    warn("a warning")
    assert capsys.readouterr().err.splitlines() == [
        "checking photos: 30 of 100, about 70 s left",
        "checking photos: 60 of 100, about 40 s left",
        "checking photos: 90 of 100, about 10 s left",
        "checking photos: 100 done in 2 min",
        "a note",
        "warning: a warning",
    ]


def test_quiet_leaves_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Event] = []
    set_quiet(True)
    list(track(range(100), "checking photos", clock=ticking(1.0)))
    note("a note")
    warn("a warning")
    assert capsys.readouterr().err == "warning: a warning\n"
    with listening(heard.append, terminal):  # a browser hears what the terminal need not show
        note("a note")
    assert len(heard) == 1 and capsys.readouterr().err == ""


def test_a_program_without_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", out)
    list(track(range(100), "x", clock=ticking(1.0)))
    warn("a warning")
    assert out.getvalue() == ""


BARS = """
import threading, time
from handful import progress
def work(name):
    for i in progress.track(range(8), name):
        time.sleep(0.12)
        if i == 4:
            progress.note(f"a note of {name}")
pair = [threading.Thread(target=work, args=(name,)) for name in ("peeling", "coring")]
[t.start() for t in pair]
[t.join() for t in pair]
for i in progress.track(range(2), "outer"):
    for j in progress.track(range(2), "inner"):
        time.sleep(0.12)
"""


def test_a_terminal_shows_bars() -> None:
    """Two threads at once, then one bar inside another, on a real terminal of its own."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    run = subprocess.Popen([sys.executable, "-c", BARS], stderr=theirs, stdout=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert run.wait(60) == 0 and "Traceback" not in text, text
    for wanted in ("peeling", "coring", "outer", "inner", "a note of peeling", "a note of coring"):
        assert wanted in text, wanted
    assert re.search(r"peeling .* [4-7]/8", text), text
    assert "8 done" not in text  # no lines where there are bars


def test_a_sink_of_ones_own_breaks_nothing_silently() -> None:
    def broken(event: Event) -> None:
        raise ZeroDivisionError

    with listening(broken), pytest.raises(ZeroDivisionError):
        list(track(range(3), "x"))
    assert progress._sinks.get() is None
