"""NOT NULL by a proof that blocks nobody."""

from __future__ import annotations

from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import (
    MAX_IDENTIFIER_BYTES,
    QualifiedName,
    derived_name,
    readable,
)
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.writing import (
    call,
    exact,
    execute,
    fix,
    one_by_one,
    phase_of,
    sql_name,
)
from alembic_safe.rules.reading import (
    only_subcommand,
    table_of,
    written,
)

NATIVE_NOT_NULL = 18
"""The first version with `ADD CONSTRAINT ... NOT NULL ... NOT VALID`."""


@exact
def set_not_null(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """NOT NULL by a proof that blocks nobody."""
    subcommand = only_subcommand(effects, "SetNotNull")
    if subcommand is None:
        return None
    table = written(table_of(effects, surroundings.world), surroundings.world)
    return fix(
        one_by_one(set_not_null_call(table, subcommand.name)),
        not_null_sql(table, subcommand.name, surroundings.world),
        surroundings,
        phase=phase_of(effects, surroundings),
    )


@exact
def primary_key_of_not_null(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """NOT NULL by a proof, then the same statement."""
    world = surroundings.world
    subcommand = only_subcommand(effects, "AddConstraint")
    table = table_of(effects, world)
    before = effects.before.get(table)
    if subcommand is None or before is None:
        return None
    index = before.indexes.get(subcommand.definition.indexname)
    if index is None or None in index.columns:
        return None
    shown = written(table, world)
    columns = [column for column in index.columns if column is not None]
    missing = [column for column in columns if not is_not_null(before, column)]
    calls = [set_not_null_call(shown, column) for column in missing]
    proofs = [sql for column in missing for sql in not_null_sql(shown, column, world)]
    return fix(
        one_by_one(*calls, execute(effects.sql)),
        [*proofs, effects.sql],
        surroundings,
        phase=phase_of(effects, surroundings),
    )


def not_null_sql(table: QualifiedName, column: str, world: World) -> list[str]:
    """Return the statements that make a column NOT NULL without blocking anybody for long."""
    alter = f"ALTER TABLE {sql_name(table)}"
    if world.version >= NATIVE_NOT_NULL:
        usual = f"{table.name}_{column}_not_null"
        if len(usual.encode()) > MAX_IDENTIFIER_BYTES:
            usual = derived_name(table.name, column, "not_null")
        name = readable(usual)
        return [
            f"{alter} ADD CONSTRAINT {name} NOT NULL {readable(column)} NOT VALID",
            f"{alter} VALIDATE CONSTRAINT {name}",
        ]
    check = readable(derived_name(f"{table.name}_{column}_is_not_null"))
    return [
        f"{alter} ADD CONSTRAINT {check} CHECK ({readable(column)} IS NOT NULL) NOT VALID",
        f"{alter} VALIDATE CONSTRAINT {check}",
        f"{alter} ALTER COLUMN {readable(column)} SET NOT NULL",
        f"{alter} DROP CONSTRAINT {check}",
    ]


def set_not_null_call(table: QualifiedName, column: str) -> str:
    return call("set_not_null", table.name, column, schema=table.schema)


def is_not_null(relation: Relation | None, column: str) -> bool:
    found = relation.columns.get(column) if relation is not None else None
    return found is not None and found.not_null
