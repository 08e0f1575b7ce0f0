"""The wait line: on a terminal, one line that shows what is waited for, and goes when that ends.

Not a live display of `rich`: that hides the cursor, which stays hidden where a process is killed,
and keeps lines apart only where it has taken the stream over, which log handlers do not notice.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TextIO

from alembic_safe.runtime.blockers import Blocker

_ERASE = "\r\x1b[K"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
"""A line that is longer than the terminal is cut off there, whatever its characters' widths."""


class WaitLine:
    """One line at the bottom of a terminal.

    While it is there, all that logging handlers write goes above it.

    Args:
        stream: the terminal; None where there is none, and nothing is shown.
        clock: seconds since any fixed moment.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.RLock()
        self._filtered: list[logging.Handler] = []
        self._drawn = ""
        self._of: str | None = None
        self._since = 0.0

    def show(self, revision: str, how: str, found: Sequence[Blocker]) -> None:
        """Show a wait, or that it goes on.

        Args:
            revision: that is running; how long it waits is counted from the first call for it.
            how: where it waits, in a few words.
            found: who is in the way.
        """
        if self._stream is None:
            return
        with self._lock:
            if self._of != revision:
                self._of, self._since = revision, self._clock()
            text = line_of(revision, how, found, self._clock() - self._since)
            if text == self._drawn:
                return
            if not self._write(f"{_ERASE}{_NO_WRAP}{text}{_WRAP}"):
                return
            self._drawn = text
            if not self._filtered:
                self._filtered = list(_handlers())
                for handler in self._filtered:
                    handler.addFilter(self._make_room)

    def hide(self) -> None:
        """Remove the line, if there is one."""
        if not self._filtered:
            return
        with self._lock:
            for handler in self._filtered:
                handler.removeFilter(self._make_room)
            self._filtered = []
            self._erase()

    def _make_room(self, _record: logging.LogRecord) -> bool:
        with self._lock:
            self._erase()
        return True

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = ""
            self._write(_ERASE)

    def _write(self, text: str) -> bool:
        """Return whether it was written; a terminal that somebody has stopped (Ctrl-S) is not
        waited for, least of all by who watches what a wait costs."""
        if self._stream is None:
            return False
        try:
            if not _takes_more(self._stream):
                return False
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # The terminal is gone, or cannot show a name. The migration goes on.
            self._stream = None
            return False
        return True


def line_of(revision: str, how: str, found: Sequence[Blocker], seconds: float) -> str:
    """Return the text of the line.

    Args:
        revision: that is running.
        how: where it waits, in a few words.
        found: who is in the way.
        seconds: for how long it has been waiting.
    """
    text = f"{revision}: {seconds:.0f} s {how}"
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        text += f"; in the way: {found[0].in_short}{more}"
    # A name is the other program's; it must not write to this terminal.
    return "".join(character if character.isprintable() else "?" for character in text)


def terminal(
    stream: TextIO | None = None, environment: Mapping[str, str] | None = None
) -> TextIO | None:
    """Return the stream if it is a terminal on which a line can be redrawn, or None.

    Args:
        stream: standard error by default.
        environment: environment variables; `os.environ` by default.
    """
    stream = sys.stderr if stream is None else stream
    environment = os.environ if environment is None else environment
    # Consoles of Windows take the sequences only where somebody has asked for it.
    is_plain = environment.get("TERM") in (None, "", "dumb") or os.name == "nt"
    if stream is None or is_plain or environment.get("NO_COLOR") or not stream.isatty():
        return None
    return stream


def _takes_more(stream: TextIO) -> bool:
    try:
        return bool(select.select([], [stream.fileno()], [], 0)[1])
    except io.UnsupportedOperation:
        return True


def _handlers() -> Iterator[logging.Handler]:
    """The handlers that get what the logger of this package is told."""
    logger: logging.Logger | None = logging.getLogger("alembic.safe")
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
