"""NOT NULL, set and dropped."""

from __future__ import annotations

import copy

from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import ValueNeeded
from alembic_safe.operations import BackfillOp, DropNotNullOp, SetNotNullOp
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.values import fill_value


def alter_column(
    operation: ops.AlterColumnOp, surroundings: Surroundings
) -> tuple[Plan, MigrateOperation | None]:
    """Return the plan for the nullability, and what is left of the operation."""
    if operation.modify_nullable is None:
        return (), operation
    rest = copy.copy(operation)
    rest.modify_nullable = None
    rest.existing_nullable = operation.modify_nullable
    plan = (
        drop_not_null(operation)
        if operation.modify_nullable
        else set_not_null(operation, surroundings)
    )
    return plan, rest if rest.has_changes() else None


def drop_not_null(operation: ops.AlterColumnOp) -> Plan:
    """E: it loosens. The way back has to prove that no row has NULL, outside of a transaction."""
    table = QualifiedName(operation.table_name, operation.schema)
    drop = DropNotNullOp(table.name, operation.column_name, table.schema)
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(drop,),
            downgrade=(drop.reverse(),),
            commits_alone=True,
            says=f"Lets {table}.{operation.column_name} be NULL.",
            locks=frozenset({table}),
            touches=(f"column {table}.{operation.column_name}",),
        ),
    )


def set_not_null(operation: ops.AlterColumnOp, surroundings: Surroundings) -> Plan:
    """M: fill the NULLs that are there. C: fill those that the old release wrote since, prove that
    none is left, set NOT NULL."""
    table = QualifiedName(operation.table_name, operation.schema)
    column = operation.column_name
    model_column = surroundings.model_column(table, column)
    value = None
    if model_column is not None:
        value = fill_value(model_column, surroundings.compile_sql)
    return not_null_steps(table, column, value)


def not_null_steps(table: QualifiedName, column: str, value: str | None) -> Plan:
    """Return the steps for a column that is there and nullable.

    Args:
        table: the table.
        column: the column.
        value: SQL of the value for rows that lack one; None if the rows have to have theirs.
    """
    set_op = SetNotNullOp(table.name, column, table.schema)
    needs_value = "" if value is not None else f" Rows of {table} without {column} stop it."
    last = Step(
        phase=Phase.CONTRACT,
        table=table,
        upgrade=(*_backfill(table, column, value, until_none_left=True), set_op),
        downgrade=(set_op.reverse(),),
        says=f"Sets {table}.{column} NOT NULL, proven while the table is in use.",
        requires=f"no release writes {table}.{column} as NULL.{needs_value}",
        touches=(f"column {table}.{column}",),
    )
    if value is None:
        return (last,)
    first = Step(
        phase=Phase.MIGRATE,
        table=table,
        upgrade=_backfill(table, column, value, until_none_left=False),
        downgrade=(),
        says=f"Fills {table}.{column} where it is NULL, in batches.",
        touches=(f"column {table}.{column}",),
    )
    return (first, last)


def refuse_without_value(table: QualifiedName, column: str) -> None:
    """Raise for a new NOT NULL column for which old rows have no value."""
    raise ValueNeeded(
        f"{table}.{column} is new and NOT NULL, and no value is known for the rows that are there. "
        f"In the model give the column server_default=... or a constant default=..., or say "
        f'info=alembic_safe.filled_with("<SQL expression>"), then run the same command again. No '
        "file was written."
    )


def _backfill(
    table: QualifiedName, column: str, value: str | None, *, until_none_left: bool
) -> tuple[MigrateOperation, ...]:
    if value is None:
        return ()
    return (
        BackfillOp(
            table.name,
            {column: value},
            where=f"{readable(column)} IS NULL",
            until_none_left=until_none_left,
            schema=table.schema,
        ),
    )
