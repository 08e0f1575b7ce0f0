"""Supervision: a thread with a connection of its own looks at what a statement costs the others,
and ends its wait when that is too much."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.server_errors import sqlstate
from alembic_safe.runtime.second_connection import NoSecondConnection, SecondConnection, Session
from alembic_safe.runtime.wait_line import WaitLine
from alembic_safe.runtime.waiters import Damage, damage_of, read_locks

log = logging.getLogger("alembic.safe")

QUERY_CANCELED = "57014"
_OLDEST_SERVER = 14
"""The first with `pg_locks.waitstart`."""

_MOST_CONNECTIONS = 0.9
"""Of `max_connections`: where more are in use, others are about to be turned away."""


class Observer(Protocol):
    """Looks at a session while it executes one statement."""

    interval: float
    """Seconds between two looks."""
    fails_closed: bool
    """Whether the session must not go on where nobody can look."""

    def look(self, connection: Connection, pid: int) -> str | None:
        """Return why the session's wait for a lock should end; None where it may go on."""
        ...


@dataclass
class Allowance:
    """How much a wait for a lock may cost the others.

    Args:
        longest: the seconds that each of them may wait because of it; and that it may wait itself
            where its transaction holds what others wait for.
        together: the seconds that all of them may wait because of it.
        tell: is told what each look has found.
        interval: seconds between two looks.
        damage: the most that the wait has cost, as far as somebody has looked.
    """

    longest: float
    together: float
    tell: Callable[[Damage], None] | None = None
    interval: float = 0.01
    fails_closed: bool = True
    damage: Damage = field(default=Damage(), init=False)
    _connections: int | None = field(default=None, init=False)

    def look(self, connection: Connection, pid: int) -> str | None:
        """Return why the wait should end, if it should."""
        damage = damage_of(read_locks(connection, pid), pid)
        self.damage = max(self.damage, damage, key=lambda each: (each.together, each.waited or 0.0))
        if self.tell is not None:
            self.tell(damage)
        reason = self.exceeded_by(damage)
        if reason is None and damage.sessions and self._are_connections_used_up(connection):
            reason = f"{described(damage)}, and the server runs out of connections"
        return reason

    def _are_connections_used_up(self, connection: Connection) -> bool:
        """Return whether few connections are left, and there were more when the wait began."""
        used, most = connection.execute(_CONNECTIONS).one()
        if self._connections is None:
            self._connections = used
        return bool(used >= most * _MOST_CONNECTIONS and used > self._connections)

    def exceeded_by(self, damage: Damage) -> str | None:
        """Return why a wait should end that costs so much, if it should."""
        if damage.waited is None:
            return None
        if damage.longest >= self.longest or damage.together >= self.together:
            return described(damage)
        if damage.holds and damage.waited >= self.longest:
            return f"it waited for {damage.waited:.2f} s with locks that others need"
        return None


def described(damage: Damage) -> str:
    """Return what a wait costs others, for a message."""
    sessions = "session" if damage.sessions == 1 else "sessions"
    return (
        f"{damage.sessions} {sessions} waited behind it, the first for {damage.longest:.2f} s, "
        f"together for {damage.together:.2f} s"
    )


class Supervision:
    """Watches over the statements of one run.

    The session's wait is cancelled only while the thread holds `_lock` and the statement that is
    supervised has not ended: `end()` waits for the lock. A cancel that comes too late finds the
    session between two statements, where PostgreSQL ignores it.

    Args:
        session: the migration's.
        line: what shows a wait on a terminal.
    """

    def __init__(self, session: Session, line: WaitLine | None = None) -> None:
        self._session = session
        self._line = line if line is not None else WaitLine()
        self._second: SecondConnection | None = None
        self._is_impossible = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._observer: Observer | None = None
        self._is_closed = False
        self.reason: str | None = None
        """Why the last statement's wait was cancelled; None where it was not."""
        self.damage: Damage | None = None
        """What the last statement's wait cost others; None where nobody looked."""

    def is_ready(self) -> bool:
        """Return whether waits can be supervised; opens the second connection at the first call."""
        version = self._session.connection.dialect.server_version_info
        knows_waits = version is not None and int(version[0]) >= _OLDEST_SERVER
        can_cancel = hasattr(self._session.driver_connection, "cancel")
        return knows_waits and can_cancel and self._open()

    def _open(self) -> bool:
        if self._second is None and not self._is_impossible:
            try:
                self._second = SecondConnection(self._session)
            except NoSecondConnection as error:
                self._is_impossible = True
                log.info("Waits for locks are not supervised: %s", error)
        return self._second is not None

    def begin(self, observer: Observer | None) -> None:
        """Watch the next statement, or do not, and forget the last one."""
        self.end()
        self.reason = self.damage = None
        if observer is None:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        with self._lock:
            self._observer = observer
        self._changed.set()

    def end(self) -> None:
        """Watch no longer; once this returns, nothing is cancelled any more."""
        if self._observer is not None:
            with self._lock:
                self._observer = None
            self._changed.set()
        self._line.hide()

    def has_cancelled(self, error: DBAPIError) -> bool:
        """Return whether an error is what this supervision did."""
        # The error may be here before the thread has noted what it did.
        self.end()
        return self.reason is not None and sqlstate(error) == QUERY_CANCELED

    def close(self) -> None:
        """End the thread and close the second connection."""
        self.end()
        self._is_closed = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        if self._second is not None:
            self._second.close()

    def _watch(self) -> None:
        while not self._is_closed:
            with self._lock:
                observer = self._observer
            self._changed.wait(observer.interval if observer is not None else None)
            if self._changed.is_set():
                self._changed.clear()
                continue
            with self._lock:
                if observer is not None and self._observer is observer:
                    self._look(observer)

    def _look(self, observer: Observer) -> None:
        try:
            if not self._open() or self._second is None:
                self._observer = None
                return
            connection = self._second.connection
            reason = observer.look(connection, self._session.pid)
            if isinstance(observer, Allowance):
                self.damage = observer.damage
            if reason is None:
                return
            if connection.execute(_CANCEL, {"pid": self._session.pid}).one_or_none() is None:
                return  # It has got its lock meanwhile.
        except Exception as error:
            self._is_impossible, self._second = True, None
            reason = f"the second connection was lost ({error})"
            if observer.fails_closed:
                # Where the server went, the migration's connection is lost too.
                with contextlib.suppress(Exception):
                    self._session.driver_connection.cancel()
        self.reason = reason
        self._observer = None


@contextmanager
def watched(supervision: Supervision | None, observer: Observer | None) -> Iterator[None]:
    """Watch what is executed inside, where there is somebody to do so and something to see."""
    if supervision is None:
        yield
        return
    supervision.begin(observer)
    try:
        yield
    finally:
        supervision.end()


_CANCEL = text(
    "SELECT pg_cancel_backend(CAST(:pid AS integer)) FROM pg_catalog.pg_locks"
    " WHERE pid = CAST(:pid AS integer) AND NOT granted LIMIT 1"
)


_CONNECTIONS = text(
    "SELECT CAST(sum(numbackends) AS integer), CAST(current_setting('max_connections') AS integer)"
    " FROM pg_catalog.pg_stat_database"
)
