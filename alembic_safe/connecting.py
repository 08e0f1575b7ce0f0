"""A connection that cannot be made, told in one message.

`env.py` connects before it calls anything of this package, so that SQLAlchemy has to be asked to
raise another error. Outside of a running Alembic environment nothing changes: an application may
well import this package for its models.
"""

from __future__ import annotations

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext

from alembic_safe.errors import CannotConnect


@event.listens_for(Engine, "handle_error")
def explain(failure: ExceptionContext) -> CannotConnect | None:
    """Return what to raise in place of a driver's error, or None for the error itself."""
    if failure.connection is not None or not _in_an_environment():
        return None
    engine = failure.engine
    url = engine.url.render_as_string(hide_password=True) if engine is not None else "the database"
    error = failure.original_exception
    # pg8000 says only in the cause why it could not.
    said = f"{error} {error.__cause__ or ''}"
    reason = " ".join(said.split())
    return CannotConnect(url, reason if reason.endswith((".", "?")) else f"{reason}.")


def _in_an_environment() -> bool:
    from alembic import context

    try:
        return context.config is not None
    except (NameError, AttributeError):
        return False
