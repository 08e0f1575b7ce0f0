"""Errors of the server, which each driver hands on in a way of its own."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError


def sqlstate(error: DBAPIError) -> str | None:
    """Return the server's error code.

    Drivers raise different classes for one code (psycopg and psycopg2 OperationalError, asyncpg
    its own, pg8000 ProgrammingError), so the class says nothing.
    """
    original = error.orig
    for attribute in ("sqlstate", "pgcode"):
        code = getattr(original, attribute, None)
        if isinstance(code, str):
            return code
    return _fields(original).get("C")


def server_message(error: DBAPIError) -> str:
    """Return what the server said, on one line and without a full stop."""
    # psycopg and psycopg2 tell the parts in `diag`; SQLAlchemy wraps what asyncpg raises. The
    # whole text would repeat the statement, or name a Python class.
    original = error.orig
    diagnostics = getattr(original, "diag", None) or getattr(original, "__cause__", None)
    fields = _fields(original)
    message = getattr(diagnostics, "message_primary", getattr(diagnostics, "message", None))
    detail = getattr(diagnostics, "message_detail", getattr(diagnostics, "detail", None))
    message, detail = message or fields.get("M"), detail or fields.get("D")
    said = f"{message} ({detail.rstrip('.')})" if message and detail else message or original
    return " ".join(str(said).split()).rstrip(".")


def _fields(original: BaseException | None) -> dict[str, str]:
    """Return the fields of a message as pg8000 has them (PostgreSQL documentation, 54.8 Error and
    Notice Message Fields); none of another driver's."""
    fields: Any = original.args[0] if original is not None and original.args else None
    return fields if isinstance(fields, dict) else {}
