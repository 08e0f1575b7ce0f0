"""A fresh database: nothing in it can be hurt yet."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.server_errors import sqlstate
from alembic_safe.runtime.ledger import EMPTY_DATABASE, Ledger
from alembic_safe.runtime.locking import RETRIED
from alembic_safe.runtime.sessions import execute_sql


def note_if_empty(
    connection: Connection, ledger: Ledger, own_tables: Collection[str], release: str | None
) -> bool:
    """Return whether all rows of a database, if it has any, come from its first upgrade.

    A first upgrade that was cut short has left tables and rows, so the ledger keeps that there were
    none at first.

    Args:
        connection: the migration's connection, in no transaction, to a database to which nothing
            was ever applied, or whose first upgrade did not come to its end.
        ledger: it exists.
        own_tables: tables that do not count.
        release: the release that runs it, if one was given.
    """
    if ledger.began_empty(connection):
        return True
    if _has_rows(connection, own_tables):
        return False
    ledger.note_event(connection, EMPTY_DATABASE, release)
    return True


def _has_rows(connection: Connection, own_tables: Collection[str]) -> bool:
    execute_sql(connection, f"SET LOCAL lock_timeout = '{_MOST_WAITING}'")
    try:
        found = connection.execute(_HAS_ROWS, {"own_tables": list(own_tables)})
        return bool(found.scalar_one())
    except DBAPIError as error:
        if sqlstate(error) not in RETRIED:
            raise
        # Somebody locked a table meanwhile, and so has a use for it.
        connection.rollback()
        return True


_MOST_WAITING = "50ms"
_HAS_ROWS = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
           AND n.nspname NOT IN ('pg_catalog', 'information_schema')
           AND c.relname <> ALL (CAST(:own_tables AS text[]))
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                            WHERE d.classid = 'pg_catalog.pg_class'::regclass
                              AND d.objid = c.oid AND d.deptype = 'e')
           AND CASE WHEN c.oid IN (SELECT relation FROM pg_catalog.pg_locks
                                    WHERE mode = 'AccessExclusiveLock'
                                      AND pid <> pg_catalog.pg_backend_pid())
                    THEN true ELSE pg_catalog.pg_relation_size(c.oid) > 0 END)
    """
)
