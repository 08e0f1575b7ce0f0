"""The second connection: what a run watches itself with while its own connection waits or works."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Pool, text
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger("alembic.safe")


ANSWER_SECONDS = 2.0
"""Behind a proxy whose pool is full a second connection gets no answer until a session ends."""


class NoSecondConnection(Exception):
    """A second connection is not to be had; the run does without it."""


@dataclass(frozen=True)
class Session:
    """The server's side of the migration's connection.

    Args:
        connection: the migration's connection.
        pid: of its backend.
        began: when that began, as text; a process number alone is soon another's.
    """

    connection: Connection
    pid: int
    began: str

    @classmethod
    def of(cls, connection: Connection) -> Session:
        """Return the session of a connection that is in no transaction."""
        pid, began = connection.execute(_WHO).one()
        connection.rollback()
        return cls(connection, pid, began)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection."""
        return self.connection.connection.driver_connection


def open_another(connection: Connection) -> tuple[Pool, Connection]:
    """Connect once more, as the environment does.

    Returns:
        The connection, and a pool of its own: the engine's may have room for one connection only.

    Raises:
        NoSecondConnection: there is none to be had.
    """
    pool = connection.engine.pool.recreate()
    try:
        pooled = pool.connect()
    except Exception as error:
        # What opens it may be the user's own function.
        pool.dispose()
        raise NoSecondConnection(str(error)) from error
    if pooled.driver_connection is connection.connection.driver_connection:
        # A pool around one connection: it must be neither reset nor closed.
        pooled.detach()
        raise NoSecondConnection("the engine has one connection only")
    return pool, Connection(connection.engine, pooled, _has_events=False)


@contextmanager
def ended_after(seconds: float, connection: Connection) -> Iterator[None]:
    """End a connection that gets no answer; a driver would wait without an end.

    pg8000 gives no means to do so, and waits as long as the other side lets it.
    """
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "terminate"):  # asyncpg
        handle = asyncio.get_running_loop().call_later(seconds, driver.terminate)
        try:
            yield
        finally:
            handle.cancel()
    elif hasattr(driver, "fileno"):
        # A descriptor of its own: the driver's may be another file's by then.
        with socket.socket(fileno=os.dup(driver.fileno())) as line:
            timer = threading.Timer(seconds, _hang_up, (line,))
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()
    else:
        yield


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class SecondConnection:
    """Another connection to a session's server, in autocommit mode; it reads, and changes nothing.

    Args:
        session: what opened its connection opens this one.

    Raises:
        NoSecondConnection: there is none to be had.
    """

    def __init__(self, session: Session) -> None:
        if session.connection.engine.dialect.is_async:
            raise NoSecondConnection("the driver is asynchronous")
        self._pool, self.connection = open_another(session.connection)
        try:
            with ended_after(ANSWER_SECONDS, self.connection):
                self.connection.execution_options(isolation_level="AUTOCOMMIT")
                self.connection.execute(_SETTINGS)
                seen = self.connection.execute(_SEES, {"pid": session.pid, "began": session.began})
                leads_there = seen.scalar_one()
        except Exception as error:
            # What opens it may be the user's own function.
            self.close()
            raise NoSecondConnection(str(error)) from error
        if not leads_there:
            self.close()
            raise NoSecondConnection("what was opened is not a connection to the same server")

    def close(self) -> None:
        """Close it, however it is; a proxy may hand its session to others, without our settings."""
        try:
            with ended_after(ANSWER_SECONDS, self.connection):
                for name in _SET:
                    self.connection.exec_driver_sql(f"RESET {name}")
        except Exception as error:
            # Also the driver's own, of a connection that is closed.
            log.debug("The second connection was lost: %s", error)
        try:
            self.connection.invalidate()
            self.connection.close()
        except (SQLAlchemyError, OSError) as error:
            log.debug("The second connection could not be closed: %s", error)
        self._pool.dispose()


_WHO = text(
    "SELECT pid, CAST(backend_start AS text) FROM pg_catalog.pg_stat_activity"
    " WHERE pid = pg_backend_pid()"
)
_SETTINGS = text(
    "SELECT set_config('application_name', 'alembic-safe', false),"
    " set_config('statement_timeout', '2s', false), set_config('lock_timeout', '2s', false)"
)
_SET = ("application_name", "statement_timeout", "lock_timeout")
_SEES = text(
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity"
    " WHERE pid = CAST(:pid AS integer) AND backend_start = CAST(:began AS timestamptz))"
)
