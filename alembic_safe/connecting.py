"""A connection that cannot be made, or that breaks, told in one message.

`env.py` connects before it calls anything of this package, so that SQLAlchemy has to be asked to
raise another error. Outside of a running Alembic environment nothing changes: an application may
well import this package for its models.
"""

from __future__ import annotations

import logging
import re

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import OperationalError

from alembic_safe.errors import CannotConnect, SessionShared

_SHARED = re.compile(
    "transaction blocks not allowed in statement pooling mode"
    r'|prepared statement "(?:_pg3_|__asyncpg_|pg8000_)\w+" already exists'
)
"""What SQLAlchemy is told where a proxy shares sessions, as soon as it asks something by itself:
PgBouncer allows no transaction, or a driver meets what another has prepared under the same name."""


@event.listens_for(Engine, "handle_error")
def explain(failure: ExceptionContext) -> Exception | None:
    """Return what to raise in place of a driver's error, or None for the error itself."""
    if not _in_an_environment():
        return None
    if (shared := _SHARED.search(_said(failure))) is not None:
        return SessionShared(f"it said: {shared[0]}")
    if failure.connection is None:
        return _cannot_connect(failure)
    error = failure.original_exception
    is_raw = isinstance(error, ConnectionError)
    failure.is_disconnect = failure.is_disconnect or is_raw
    if failure.is_disconnect:
        _close_quietly(failure)
    if not is_raw:
        return None
    # pg8000 lets some errors of its socket through as they are.
    return OperationalError(failure.statement, None, error, connection_invalidated=True)


def _cannot_connect(failure: ExceptionContext) -> CannotConnect:
    engine = failure.engine
    url = engine.url.render_as_string(hide_password=True) if engine is not None else "the database"
    reason = _said(failure)
    return CannotConnect(url, reason if reason.endswith((".", "?")) else f"{reason}.")


def _said(failure: ExceptionContext) -> str:
    error = failure.original_exception
    # pg8000 says only in the cause why it could not connect.
    return " ".join(f"{error} {error.__cause__ or ''}".split())


def _close_quietly(failure: ExceptionContext) -> None:
    """Keep the pool from writing a traceback where the driver cannot even close what is broken."""
    if failure.engine is not None:
        logger = failure.engine.pool.logger
        named = logger if isinstance(logger, logging.Logger) else logger.logger
        named.addFilter(_tells_of_something_else)


def _tells_of_something_else(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("Exception terminating connection")


def _in_an_environment() -> bool:
    from alembic import context

    try:
        return context.config is not None
    except (NameError, AttributeError):
        return False
