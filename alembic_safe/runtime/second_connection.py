"""The second connection: what a run watches itself with while its own connection waits or works."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger("alembic.safe")


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


class SecondConnection:
    """Another connection to a session's server, in autocommit mode; it reads, and changes nothing.

    Args:
        session: what opened its connection opens this one.

    Raises:
        NoSecondConnection: there is none to be had.
    """

    def __init__(self, session: Session) -> None:
        engine = session.connection.engine
        if engine.dialect.is_async:
            raise NoSecondConnection("the driver is asynchronous")
        # A pool of its own: the migration's may have room for one connection only.
        self._pool = engine.pool.recreate()
        try:
            pooled = self._pool.connect()
            if pooled.driver_connection is session.driver_connection:
                # A pool around one connection: it must be neither reset nor closed.
                pooled.detach()
                raise NoSecondConnection("the engine has one connection only")
            opened = Connection(engine, pooled, _has_events=False)
            self.connection = opened.execution_options(isolation_level="AUTOCOMMIT")
            self.connection.execute(_SETTINGS)
            is_seen = self.connection.execute(_SEES, {"pid": session.pid, "began": session.began})
            leads_there = is_seen.scalar_one()
        except Exception as error:
            # What opens it may be the user's own function.
            self._pool.dispose()
            raise NoSecondConnection(str(error)) from error
        if not leads_there:
            self.close()
            raise NoSecondConnection("what was opened is not a connection to the same server")

    def close(self) -> None:
        """Close it, however it is."""
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
_SEES = text(
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity"
    " WHERE pid = CAST(:pid AS integer) AND backend_start = CAST(:began AS timestamptz))"
)
