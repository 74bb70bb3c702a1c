"""What nobody foresaw: one line for the user, and a file with the trace for us. No traceback on the terminal."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "cannot allocate memory", "unable to allocate")


def settle_terminal() -> None:
    """What a terminal or pipe cannot show is escaped, and the bytes of a file's name go out as they are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            utf = stream.encoding.lower().replace("-", "").startswith("utf")
            stream.reconfigure(errors="surrogateescape" if utf and stream is sys.stdout else "backslashreplace")


def told(error: Exception, typed: Sequence[str]) -> tuple[str, int]:
    """What to say of an error that no verb has answered, and the exit code. A pipe that nobody reads any more, and a
    full disk behind stdout, leave nothing to be flushed at the end."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in MEMORY):
        return f"there is not enough memory for this ({text}); give a smaller --batch, --frame or --workers", 2
    if isinstance(error, OSError) and error.filename is None and not _takes():
        _nowhere()
        return f"the answer could not be printed ({error.strerror or error}); send stdout to another place", 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename!r} cannot be read or written ({error.strerror or error}); {_kept(typed)}", 2
    return f"a fault of handful itself: {text}; {_kept(typed)}; please report it with that file", 70


def _takes() -> bool:
    """Whether stdout still takes what is printed. A failed write may leave nothing to be flushed: so one more line."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _nowhere() -> None:
    """Let stdout go nowhere: what it holds cannot be written, and Python would say so once more at the end."""
    import contextlib

    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _kept(typed: Sequence[str]) -> str:
    """Keep the trace in a file; where it is."""
    from handful import __version__

    about = f"handful {__version__}, Python {sys.version.split()[0]}, {sys.platform}\n{list(typed)}\n\n"
    try:
        handle, name = tempfile.mkstemp(prefix="handful-trace-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(about + traceback.format_exc())
    except OSError as error:
        return f"its trace could not be kept ({error.strerror or error})"
    return f"the trace is in {name}"
