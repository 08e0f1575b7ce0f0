"""A connection that cannot be made, told in one message.

`env.py` connects before it calls anything of this package, so that SQLAlchemy has to be asked to
raise another error. Outside of a running Alembic environment nothing changes: an application may
well import this package for its models.
"""

from __future__ import annotations

import re

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from alembic_safe.errors import CannotConnect, SessionShared

_SHARED = re.compile(
    "transaction blocks not allowed in statement pooling mode"
    r'|prepared statement "(?:_pg3_|__asyncpg_|pg8000_)\w+" already exists'
)
"""What SQLAlchemy is told where a proxy shares sessions, as soon as it asks something by itself:
PgBouncer allows no transaction, or a driver meets what another has prepared under the same name."""


@event.listens_for(Engine, "handle_error")
def explain(failure: ExceptionContext) -> CannotConnect | SessionShared | None:
    """Return what to raise in place of a driver's error, or None for the error itself."""
    if not _in_an_environment():
        return None
    error = failure.original_exception
    # pg8000 says only in the cause why it could not.
    reason = " ".join(f"{error} {error.__cause__ or ''}".split())
    if (shared := _SHARED.search(reason)) is not None:
        return SessionShared(f"it said: {shared[0]}")
    if failure.connection is not None:
        return None
    engine = failure.engine
    url = engine.url.render_as_string(hide_password=True) if engine is not None else "the database"
    return CannotConnect(url, reason if reason.endswith((".", "?")) else f"{reason}.")


def _in_an_environment() -> bool:
    from alembic import context

    try:
        return context.config is not None
    except (NameError, AttributeError):
        return False
