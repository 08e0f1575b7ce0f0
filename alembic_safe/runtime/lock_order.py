"""Lock order: the locks of a statement on several tables, taken as the application takes them."""

from __future__ import annotations

from sqlalchemy import Connection

from alembic_safe.postgres.statement import Statement
from alembic_safe.runtime.sessions import query_scalar


def in_lock_order(connection: Connection, statement: Statement) -> tuple[str, ...]:
    """Return what to send for a statement: its locks in their order, where it has one, then itself.

    To lock a table by name needs a right to change its rows; to refer to it does not. Where the
    role has no such right the server takes the locks in its own order.

    Args:
        connection: the migration's.
        statement: what is to be sent.

    Source: PostgreSQL documentation, LOCK.
    """
    may_lock = " AND ".join(
        f"coalesce(has_table_privilege({table.regclass}, 'UPDATE, DELETE, TRUNCATE'), false)"
        for table in statement.lock_first
    )
    if may_lock and query_scalar(connection, f"SELECT {may_lock}"):
        return statement.in_lock_order
    return statement.sql
