"""Timeouts: what a statement that commits by itself runs with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from alembic_safe.postgres.statement import Statement, Wait
from alembic_safe.runtime.sessions import milliseconds, transaction


@contextmanager
def timeouts(connection: Connection, statement: Statement, lock_timeout: float) -> Iterator[None]:
    """The timeouts of a statement, and its transaction if it can have one."""
    if statement.wait is Wait.UNBOUNDED:
        lock_timeout = 0.0
    if statement.transactional:
        with transaction(connection):
            set_timeouts(connection, lock_timeout, statement.wait, is_local=True)
            yield
        return
    previous = connection.execute(_READ_TIMEOUTS).one()
    set_timeouts(connection, lock_timeout, statement.wait, is_local=False)
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(
                _SET_BOTH, {"lock": previous[0], "statement": previous[1], "is_local": False}
            )


def set_timeouts(
    connection: Connection, lock_timeout: float, wait: Wait, *, is_local: bool
) -> None:
    """Set what the next statements run with.

    Args:
        connection: the migration's.
        lock_timeout: seconds; 0 is none.
        wait: what may wait without an end has no `statement_timeout` either.
        is_local: for the transaction that is open, not for the session.
    """
    lock = milliseconds(lock_timeout)
    if wait is Wait.UNBOUNDED:
        values = {"lock": lock, "statement": "0", "is_local": is_local}
        connection.execute(_SET_BOTH, values)
    else:
        connection.execute(_SET_LOCK, {"lock": lock, "is_local": is_local})


_READ_TIMEOUTS = text(
    "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
)
_SET_LOCK = text(
    "SELECT set_config('lock_timeout', CAST(:lock AS text), CAST(:is_local AS boolean))"
)
_SET_BOTH = text(
    "SELECT set_config('lock_timeout', CAST(:lock AS text), CAST(:is_local AS boolean)),"
    " set_config('statement_timeout', CAST(:statement AS text), CAST(:is_local AS boolean))"
)
