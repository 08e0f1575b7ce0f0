"""Columns: added without work under a lock."""

from __future__ import annotations

from alembic_safe.postgres.deparsing import expression_sql, type_sql
from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.identifiers import (
    MAX_IDENTIFIER_BYTES,
    literal,
    readable,
)
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.not_null import not_null_sql, set_not_null_call
from alembic_safe.rules.fixes.rows import batched_update
from alembic_safe.rules.fixes.writing import (
    call,
    exact,
    execute,
    fix,
    one_by_one,
    sql_name,
)
from alembic_safe.rules.reading import (
    column_constraint,
    constraint_type,
    only_subcommand,
    strings,
    table_of,
    type_name,
    written,
)


@exact
def column_in_steps(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """A column without its default, the default, and the old rows in batches."""
    subcommand = only_subcommand(effects, "AddColumn")
    if subcommand is None or subcommand.node.missing_ok:
        return None
    column = subcommand.definition
    kinds = {constraint_type(node.constraint) for node in column.constraints}
    shown = written(table_of(effects, surroundings.world), surroundings.world)
    serial = _SERIAL.get(type_name(column))
    if not kinds <= {"DEFAULT", "NOTNULL", "NULL"} or (serial is None and "DEFAULT" not in kinds):
        return None
    collation = strings(column.coll_clause.collname) if column.HasField("coll_clause") else []
    type_ = serial or type_sql(column.type_name)
    if collation:
        type_ += " COLLATE " + ".".join(readable(part) for part in collation)
    before, after = [], []
    if serial is not None:
        sequence = shown.sibling(f"{shown.name}_{column.colname}_seq")
        if len(sequence.name.encode()) > MAX_IDENTIFIER_BYTES:
            return None
        before = [f"CREATE SEQUENCE {sql_name(sequence)} AS {serial}"]
        owner = f"{sql_name(shown)}.{readable(column.colname)}"
        after = [f"ALTER SEQUENCE {sql_name(sequence)} OWNED BY {owner}"]
        default = f"nextval({literal(sql_name(sequence))}::regclass)"
    else:
        default = expression_sql(column_constraint(column, "DEFAULT").raw_expr)
    name, alter = readable(column.colname), f"ALTER TABLE {sql_name(shown)}"
    calls = [
        *map(execute, before),
        call(
            "add_column_if_not_exists",
            shown.name,
            column.colname,
            type_,
            server_default=default,
            schema=shown.schema,
        ),
        call(
            "backfill",
            shown.name,
            {column.colname: default},
            where=f"{name} IS NULL",
            schema=shown.schema,
        ),
    ]
    statements = [
        *before,
        f"{alter} ADD COLUMN {name} {type_}",
        f"{alter} ALTER COLUMN {name} SET DEFAULT {default}",
        *batched_update(shown, f"{name} = {default}", f"{name} IS NULL"),
    ]
    if serial is not None or "NOTNULL" in kinds:
        calls.append(set_not_null_call(shown, column.colname))
        statements += not_null_sql(shown, column.colname, surroundings.world)
    calls += map(execute, after)
    return fix(one_by_one(*calls), [*statements, *after], surroundings)


_SERIAL = {
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
}
