"""The schema of a database as data: what two databases, or two moments of one, are compared by."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from conftest import Database

Schema = dict[str, list[tuple[Any, ...]]]

OWN_TABLES = ("alembic_safe_backfill", "alembic_safe_ledger", "alembic_version_contract")
"""What the package keeps in the user's database, and nothing else may stay behind."""

_USER = "NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND nspname !~ '^pg_(temp|toast)'"
_NAMESPACE = f"(SELECT oid FROM pg_namespace WHERE nspname {_USER})"

_SHAPES = {
    "relations": f"""
        SELECT oid::regclass::text, relkind, reloptions, relispartition
          FROM pg_class WHERE relnamespace IN {_NAMESPACE}""",
    "columns": f"""
        SELECT r.oid::regclass::text, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum),
               a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attcollation::regcollation::text, pg_get_expr(d.adbin, d.adrelid),
               a.attidentity, a.attgenerated, col_description(r.oid, a.attnum)
          FROM pg_class AS r JOIN pg_attribute AS a ON a.attrelid = r.oid
          LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum
         WHERE r.relnamespace IN {_NAMESPACE} AND r.relkind IN ('r', 'p', 'v')
           AND a.attnum > 0 AND NOT a.attisdropped""",
    "indexes": f"""
        SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid,
               i.indisready, i.indisreplident
          FROM pg_index AS i JOIN pg_class AS r ON r.oid = i.indexrelid
         WHERE r.relnamespace IN {_NAMESPACE}""",
    "constraints": f"""
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
          FROM pg_constraint WHERE connamespace IN {_NAMESPACE}""",
    "triggers": f"""
        SELECT pg_get_triggerdef(t.oid), t.tgenabled
          FROM pg_trigger AS t JOIN pg_class AS r ON r.oid = t.tgrelid
         WHERE r.relnamespace IN {_NAMESPACE} AND NOT t.tgisinternal""",
    "functions": f"""
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace IN {_NAMESPACE}""",
}

_ROWS = {
    "pg_class": "relnamespace",
    "pg_constraint": "connamespace",
    "pg_proc": "pronamespace",
    "pg_attribute": "(SELECT relnamespace FROM pg_class AS r WHERE r.oid = attrelid)",
    "pg_index": "(SELECT relnamespace FROM pg_class AS r WHERE r.oid = indexrelid)",
    "pg_trigger": "(SELECT relnamespace FROM pg_class AS r WHERE r.oid = tgrelid)",
}


def schema_of(database: Database, *, without: Collection[str] = (), after: str = "") -> Schema:
    """Return what is defined in a database, without identifiers that differ between two.

    Args:
        database: the database.
        without: tables that are left out, with what belongs to them.
        after: SQL that is run first, and taken back afterwards.
    """
    found: Schema = {}
    with database.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute((after or "SELECT").encode())
        for kind, query in _SHAPES.items():
            rows = connection.execute(query.encode()).fetchall()
            found[kind] = sorted(
                (row for row in rows if not any(name in str(row[0]) for name in without)), key=repr
            )
    return found


def catalog_rows(database: Database) -> set[tuple[Any, ...]]:
    """Return the identity of every catalog row of the user's objects: a statement that changed
    one, or made it anew, changes the set."""
    query = " UNION ALL ".join(
        f"SELECT '{catalog}', t.ctid::text, t.xmin::text FROM {catalog} AS t"
        f" WHERE {namespace} IN {_NAMESPACE}"
        for catalog, namespace in _ROWS.items()
    )
    return set(database.execute(query))
