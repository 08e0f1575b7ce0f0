"""Catalog queries that tell whether a statement's work is already there."""

from __future__ import annotations

from collections.abc import Sequence

from alembic_safe.postgres.identifiers import QualifiedName, literal, quote
from alembic_safe.postgres.statement import Done

_TWIN = QualifiedName("alembic_safe_twin", "pg_temp")
"""An empty copy of a table, on which a wanted definition is built to be compared, and which is
rolled back."""
_TWIN_OBJECT = "alembic_safe_twin_object"
_REFERENCED_TWIN = QualifiedName("alembic_safe_twin_referenced", "pg_temp")


def done_when(condition: str) -> Done:
    """Return a condition that is `done` where the SQL expression is true."""
    return Done(f"SELECT CASE WHEN {condition} THEN 'done' ELSE 'todo' END")


def column_exists(table: QualifiedName, column: str) -> str:
    """Return an SQL expression: the table has the column."""
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = {table.regclass} AND attname = {literal(column)}"
        " AND NOT attisdropped)"
    )


def column_done(table: QualifiedName, column: str, type_sql: str) -> Done:
    """Return a condition: the table has a column of that name, type and collation."""
    return Done(
        query=f"SELECT CASE WHEN {column_exists(table, column)} THEN 'compare' ELSE 'todo' END",
        setup=(f"CREATE TEMP TABLE {quote(_TWIN.name)} ({quote(column)} {type_sql})",),
        comparison=(
            "SELECT CASE WHEN count(DISTINCT (atttypid, atttypmod, attcollation)) = 1"
            " THEN 'done' ELSE 'other' END FROM pg_catalog.pg_attribute"
            f" WHERE attrelid IN ({table.regclass}, {_TWIN.regclass})"
            f" AND attname = {literal(column)}"
        ),
    )


def column_is_not_null(table: QualifiedName, column: str) -> str:
    """Return an SQL expression: the column is proven NOT NULL.

    PostgreSQL 18 sets `attnotnull` for a NOT VALID constraint too, so that the constraint has to
    be asked as well.
    """
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_attribute AS a"
        f" WHERE a.attrelid = {table.regclass} AND a.attname = {literal(column)} AND a.attnotnull"
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS c"
        " WHERE c.conrelid = a.attrelid AND c.contype = 'n'"
        " AND c.conkey = ARRAY[a.attnum] AND NOT c.convalidated))"
    )


def column_has_not_null_constraint(table: QualifiedName, column: str, name: str = "") -> str:
    """Return an SQL expression: the column is marked NOT NULL, proven or not.

    Args:
        table: the table.
        column: the column.
        name: only by a constraint of this name (PostgreSQL 18 and newer).
    """
    if not name:
        return (
            "EXISTS (SELECT FROM pg_catalog.pg_attribute"
            f" WHERE attrelid = {table.regclass} AND attname = {literal(column)} AND attnotnull)"
        )
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_attribute AS a"
        " ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]"
        f" WHERE c.conrelid = {table.regclass} AND c.conname = {literal(name)}"
        f" AND c.contype = 'n' AND a.attname = {literal(column)})"
    )


def constraint_exists(table: QualifiedName, name: str, *, validated: bool = False) -> str:
    """Return an SQL expression: the table has the constraint, validated if asked for."""
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_constraint"
        f" WHERE conrelid = {table.regclass} AND conname = {literal(name)}"
        f"{' AND convalidated' if validated else ''})"
    )


def check_constraint_done(table: QualifiedName, name: str, condition: str) -> Done:
    """Return a condition: the table has a CHECK of that name and definition, valid or not."""
    return Done(
        query=_constraint_state(table, name, "'compare'", "c.contype = 'c'"),
        setup=(
            f"CREATE TEMP TABLE {quote(_TWIN.name)} (LIKE {table.sql})",
            f"ALTER TABLE {_TWIN.sql} ADD CONSTRAINT {_TWIN_OBJECT} CHECK ({condition})",
        ),
        comparison=(
            "SELECT CASE WHEN count(DISTINCT replace(pg_catalog.pg_get_constraintdef(oid),"
            " ' NOT VALID', '')) = 1 THEN 'done' ELSE 'other' END FROM pg_catalog.pg_constraint"
            f" WHERE (conrelid = {table.regclass} AND conname = {literal(name)})"
            f" OR (conrelid = {_TWIN.regclass} AND conname = {literal(_TWIN_OBJECT)})"
        ),
    )


def foreign_key_done(
    table: QualifiedName,
    name: str,
    columns: Sequence[str],
    referenced: QualifiedName,
    referenced_columns: Sequence[str],
    options: str,
) -> Done:
    """Return a condition: the table has a foreign key of that name and definition, valid or
    not."""
    wanted = (
        f"c.contype = 'f' AND c.confrelid = {referenced.regclass}"
        f" AND {_column_names('c.conrelid', 'c.conkey')} = {_text_array(columns)}"
        f" AND {_column_names('c.confrelid', 'c.confkey')} = {_text_array(referenced_columns)}"
    )
    local, remote = (", ".join(map(quote, names)) for names in (columns, referenced_columns))
    return Done(
        query=_constraint_state(table, name, "'compare'", wanted),
        setup=(
            f"CREATE TEMP TABLE {quote(_TWIN.name)} (LIKE {table.sql})",
            f"CREATE TEMP TABLE {quote(_REFERENCED_TWIN.name)}"
            f" (LIKE {referenced.sql}, UNIQUE ({remote}))",
            f"ALTER TABLE {_TWIN.sql} ADD CONSTRAINT {_TWIN_OBJECT} FOREIGN KEY ({local})"
            f" REFERENCES {_REFERENCED_TWIN.sql} ({remote}) {options}",
        ),
        comparison=(
            "SELECT CASE WHEN count(DISTINCT replace(replace(pg_catalog.pg_get_constraintdef(oid),"
            " ' REFERENCES ' || confrelid::regclass || '(', ' ('), ' NOT VALID', '')) = 1"
            " THEN 'done' ELSE 'other' END FROM pg_catalog.pg_constraint"
            f" WHERE (conrelid = {table.regclass} AND conname = {literal(name)})"
            f" OR (conrelid = {_TWIN.regclass} AND conname = {literal(_TWIN_OBJECT)})"
        ),
    )


def unique_constraint_done(table: QualifiedName, name: str, index: str) -> Done:
    """Return a condition: the table has a unique constraint of that name, made of the index.

    The index takes the constraint's name, so one that is still there was not used.
    """
    left = (
        "SELECT FROM pg_catalog.pg_index AS i"
        f" WHERE i.indrelid = {table.regclass} AND i.indexrelid = {table.sibling(index).regclass}"
        " AND i.indexrelid <> c.conindid"
    )
    return Done(
        _constraint_state(table, name, "'done'", f"c.contype = 'u' AND NOT EXISTS ({left})")
    )


INDEX_SHAPE = (
    "jsonb_build_array(r.relam, i.indisunique, to_jsonb(i) -> 'indnullsnotdistinct',"
    " i.indnkeyatts, i.indoption, i.indclass, i.indcollation,"
    " pg_catalog.pg_get_expr(i.indpred, i.indrelid),"
    " ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k, false)"
    " FROM generate_series(1, i.indnatts) AS k ORDER BY k))"
)
"""An SQL expression: what an index is, whatever the numbers of its table's columns; `i` is its row
in `pg_index` and `r` in `pg_class`. Storage parameters are left out."""


def index_twin(table: QualifiedName, *, unique: bool, definition: str) -> tuple[str, ...]:
    """Return the statements that build an index on an empty copy of its table, to be compared and
    rolled back.

    Args:
        table: the table.
        unique: whether it is a unique index.
        definition: what stands behind the table's name in `CREATE INDEX`.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return (
        f"CREATE TEMP TABLE {quote(_TWIN.name)} (LIKE {table.sql})",
        f"CREATE {kind} {_TWIN_OBJECT} ON {_TWIN.sql} {definition}",
    )


INDEX_TWIN = _TWIN.sibling(_TWIN_OBJECT)
"""The index that `index_twin` builds."""


def index_done(table: QualifiedName, name: str, *, unique: bool, definition: str) -> Done:
    """Return a condition: the table has a valid index of that name and definition. That of a
    partitioned table need not be valid: it has no entries of its own.

    Args:
        table: the table.
        name: the index; it is in the table's schema.
        unique: whether it is a unique index.
        definition: what stands behind the table's name in `CREATE INDEX`.
    """
    state = "CASE WHEN i.indisvalid OR r.relkind = 'I' THEN 'compare' ELSE 'todo' END"
    return Done(
        query=(
            "SELECT coalesce((SELECT CASE"
            f" WHEN i.indrelid IS DISTINCT FROM {table.regclass} THEN 'other' ELSE {state} END"
            " FROM pg_catalog.pg_class AS r LEFT JOIN pg_catalog.pg_index AS i"
            f" ON i.indexrelid = r.oid WHERE {_is_named(table, name, 'r')}), 'todo')"
        ),
        setup=index_twin(table, unique=unique, definition=definition),
        comparison=(
            "SELECT CASE WHEN count(*) = 2 AND count(DISTINCT s.shape) = 1"
            " THEN 'done' ELSE 'other' END FROM"
            f" (SELECT jsonb_build_array(r.reloptions, {INDEX_SHAPE}) AS shape"
            " FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
            f" WHERE (i.indrelid = {table.regclass} AND r.relname = {literal(name)})"
            f" OR (i.indrelid = {_TWIN.regclass} AND r.relname = {literal(_TWIN_OBJECT)})) AS s"
        ),
    )


def no_invalid_index(table: QualifiedName, name: str) -> Done:
    """Return a condition: no unfinished index of that name is left behind on the table."""
    return done_when(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i"
        " JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
        f" WHERE i.indrelid = {table.regclass} AND r.relname = {literal(name)}"
        " AND NOT i.indisvalid)"
    )


def no_index(table: QualifiedName, name: str) -> Done:
    """Return a condition: the table has no index of that name."""
    return done_when(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i"
        " JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
        f" WHERE i.indrelid = {table.regclass} AND r.relname = {literal(name)})"
    )


def _is_named(table: QualifiedName, name: str, alias: str) -> str:
    return (
        f"{alias}.relname = {literal(name)} AND {alias}.relnamespace ="
        f" (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = {table.regclass})"
    )


def _constraint_state(table: QualifiedName, name: str, found: str, wanted: str) -> str:
    return (
        f"SELECT coalesce((SELECT CASE WHEN {wanted} THEN {found} ELSE 'other' END"
        " FROM pg_catalog.pg_constraint AS c"
        f" WHERE c.conrelid = {table.regclass} AND c.conname = {literal(name)}), 'todo')"
    )


def _column_names(relation: str, keys: str) -> str:
    return (
        "ARRAY(SELECT a.attname::text FROM unnest("
        f"{keys}) WITH ORDINALITY AS k(number, place) JOIN pg_catalog.pg_attribute AS a"
        f" ON a.attrelid = {relation} AND a.attnum = k.number ORDER BY k.place)"
    )


def _text_array(values: Sequence[str]) -> str:
    return "ARRAY[" + ", ".join(literal(value) for value in values) + "]::text[]"
