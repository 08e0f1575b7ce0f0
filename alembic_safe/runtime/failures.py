"""What an error of the server means to the user: one message with the next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, PendingRollbackError

from alembic_safe.errors import (
    ConnectionLost,
    Interrupted,
    MissingPrivilege,
    SafetyError,
    StatementFailed,
)
from alembic_safe.postgres.server_errors import server_message, sqlstate
from alembic_safe.runtime.locking import (
    DEADLOCK_DETECTED,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
)

_BUSY = "Another session has a lock on what it needs. Run the same command again"

_NEXT_STEPS = {
    LOCK_NOT_AVAILABLE: _BUSY,
    DEADLOCK_DETECTED: _BUSY,
    "53100": "The server has no room left. Make room, then run the same command again",
    "57014": "Somebody cancelled it, or it took longer than it may: by the statement_timeout of "
    "the role, or, where it makes reads or writes wait, by the setting blocking_timeout (for a "
    "backfill a lower batch_size helps too). Then run the same command again",
}
_CORRECT = "Correct the data or the schema, then run the same command again"


def explained(
    error: DBAPIError, where: str, *, state: str = "", statement: str | None = None
) -> SafetyError:
    """Return what the user should see of a driver's error.

    Args:
        error: what SQLAlchemy raised.
        where: what was running.
        state: a sentence about what is committed and what is not.
        statement: the SQL; by default the one that SQLAlchemy names.
    """
    message = server_message(error)
    if error.connection_invalidated:
        return ConnectionLost(where, message)
    code = sqlstate(error)
    if code == INSUFFICIENT_PRIVILEGE:
        return MissingPrivilege(where, message)
    sql = " ".join((statement or error.statement or "").split())
    parts = (
        f"{where}: {message}",
        f"The statement was: {sql}" if sql else "",
        state.rstrip("."),
        _NEXT_STEPS.get(code or "", _CORRECT),
    )
    return StatementFailed(". ".join(part for part in parts if part) + ".")


def is_of_the_data(error: DBAPIError) -> bool:
    """Return whether the server refused values of rows: a constraint is violated, or an
    expression cannot be computed (PostgreSQL documentation, appendix A, classes 22 and 23)."""
    return (sqlstate(error) or "")[:2] in ("22", "23")


@contextmanager
def one_message(where: str, *, on_command_line: bool) -> Iterator[None]:
    """Tell what fails, outside of a revision too, in one message.

    Args:
        where: the command.
        on_command_line: whether Ctrl-C has to end in a message; a program gets it as it is.
    """
    try:
        yield
    except BaseException as error:
        first = origin(error)
        if isinstance(first, DBAPIError):
            raise explained(first, where) from first
        if on_command_line and is_interrupt(first):
            raise Interrupted(where) from None
        raise


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is Ctrl-C. In an async environment the running task is cancelled."""
    from asyncio import CancelledError

    return isinstance(error, (KeyboardInterrupt, CancelledError))


def origin(error: BaseException) -> BaseException:
    """Return what happened first, where SQLAlchemy complains about the connection it ended.

    When a connection is lost in an autocommit block, the end of the block fails as well.
    """
    while isinstance(error, PendingRollbackError) and error.__context__ is not None:
        error = error.__context__
    return error
