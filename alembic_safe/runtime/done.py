"""Done: whether the catalog says that a statement's work is there already."""

from __future__ import annotations

from sqlalchemy import Connection

from alembic_safe.errors import ObjectDiffers
from alembic_safe.postgres.statement import Done, Statement
from alembic_safe.runtime.sessions import execute_sql, in_driver_autocommit, query_scalar


def is_done(connection: Connection, statement: Statement) -> bool:
    """Return whether the catalog says that a statement's work is there.

    Raises:
        ObjectDiffers: something else of that name is there.
    """
    if statement.done is None:
        return False
    state = _scalar(connection, statement.done.query)
    if state == "compare":
        state = _compare(connection, statement.done)
    if state == "other":
        raise ObjectDiffers(statement.object_name, str(statement.table))
    return state == "done"


def _compare(connection: Connection, done: Done) -> str:
    """Build the wanted object on an empty twin and let the server compare the two."""
    begin, end = ("BEGIN", "ROLLBACK")
    if not in_driver_autocommit(connection):
        begin, end = (f"SAVEPOINT {_SAVEPOINT}", f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
    execute_sql(connection, begin)
    try:
        for sql in done.setup:
            execute_sql(connection, sql)
        return _scalar(connection, done.comparison)
    finally:
        execute_sql(connection, end)


_SAVEPOINT = "alembic_safe_twin"


def _scalar(connection: Connection, query: str) -> str:
    return str(query_scalar(connection, query))
