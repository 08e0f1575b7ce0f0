"""Timeouts: what a statement runs with, by how long it may wait and whether it blocks others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, text

from alembic_safe.postgres.identifiers import literal
from alembic_safe.postgres.statement import Wait
from alembic_safe.runtime.sessions import execute_sql, milliseconds, transaction


@dataclass(frozen=True)
class Timeouts:
    """What a statement runs with.

    Args:
        lock: `lock_timeout` in seconds; 0 is none.
        statement: the longest `statement_timeout` in seconds, if the session has no shorter one;
            0 is none, whatever the session has; None is the session's.
    """

    lock: float
    statement: float | None = None

    def setting(self, base: str | None, *, is_local: bool) -> str:
        """Return a list of SQL expressions that set them.

        Args:
            base: the session's own `statement_timeout`; None for the one in force.
            is_local: for the transaction that is open, not for the session.
        """
        local = "true" if is_local else "false"
        lock = f"set_config('lock_timeout', {literal(milliseconds(self.lock))}, {local})"
        own = literal(base) if base is not None else "current_setting('statement_timeout')"
        if self.statement is None and base is None:
            return lock
        return f"{lock}, set_config('statement_timeout', {self._statement(own)}, {local})"

    def _statement(self, own: str) -> str:
        if self.statement is None:
            return own
        bound = literal(milliseconds(self.statement))
        if not self.statement:
            return bound
        # As intervals, because settings have units.
        seconds = f"CAST({own} AS interval)"
        is_shorter = f"{seconds} > '0' AND {seconds} < CAST({bound} AS interval)"
        return f"CASE WHEN {is_shorter} THEN {own} ELSE {bound} END"


def timeouts_for(
    wait: Wait, lock_timeout: float, blocking_timeout: float | None, concurrent: float
) -> Timeouts:
    """Return what a statement runs with.

    Args:
        wait: how long it may wait for its locks.
        lock_timeout: seconds that this attempt may wait, where there is a limit.
        blocking_timeout: seconds that it may take once it has its locks, because it makes reads or
            writes wait; None where it does not.
        concurrent: seconds that it may wait for a lock where nobody waits behind it.
    """
    if wait is Wait.UNBOUNDED:
        return Timeouts(concurrent, 0.0)
    if blocking_timeout is None:
        return Timeouts(lock_timeout)
    # The server counts from the beginning of the statement.
    return Timeouts(lock_timeout, lock_timeout + blocking_timeout)


@contextmanager
def statement_runs_with(
    connection: Connection, timeouts: Timeouts, *, transactional: bool
) -> Iterator[None]:
    """The timeouts of a statement on an autocommit connection, and its transaction if it can have
    one; what was set before comes back, also where the statement fails."""
    if transactional:
        with transaction(connection):
            set_timeouts(connection, timeouts, is_local=True)
            yield
        return
    previous = connection.execute(_READ_TIMEOUTS).one()
    set_timeouts(connection, timeouts, is_local=False)
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(_SET_BOTH, {"lock": previous[0], "statement": previous[1]})


def set_timeouts(
    connection: Connection, timeouts: Timeouts, *, is_local: bool, base: str | None = None
) -> None:
    """Set what the next statements run with.

    Args:
        connection: the migration's.
        timeouts: to set.
        is_local: for the transaction that is open, not for the session.
        base: the session's own `statement_timeout`; None for the one in force.
    """
    execute_sql(connection, f"SELECT {timeouts.setting(base, is_local=is_local)}")


_READ_TIMEOUTS = text(
    "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
)
_SET_BOTH = text(
    "SELECT set_config('lock_timeout', CAST(:lock AS text), false),"
    " set_config('statement_timeout', CAST(:statement AS text), false)"
)
