"""One file a family of changes; a recipe turns an operation into a plan, without a database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from alembic.operations import MigrateOperation, ops

from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.columns import add_column, drop_column
from alembic_safe.rewrite.recipes.foreign_keys import add_foreign_key
from alembic_safe.rewrite.recipes.indexes import (
    change_index,
    create_index,
    drop_index,
    plain_on_new_table,
)
from alembic_safe.rewrite.recipes.not_null import alter_column
from alembic_safe.rewrite.recipes.rename_column import rename_column
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.tables import create_table
from alembic_safe.rewrite.renames import RenameColumnOp

__all__ = ["Surroundings", "plans_for"]


def plans_for(operations: Sequence[MigrateOperation], surroundings: Surroundings) -> list[Plan]:
    """Return a plan for each change, in the order of the operations.

    Args:
        operations: what autogenerate found, without containers and with renames in place.
        surroundings: the snapshot.
    """
    rest = list(operations)
    # A rename takes what follows from it out of the diff, wherever that stands.
    renames: dict[MigrateOperation, Plan] = {
        operation: rename_column(operation, rest, surroundings)
        for operation in operations
        if isinstance(operation, RenameColumnOp)
    }
    changed = _changed_indexes(rest)
    surroundings = replace(
        surroundings,
        changed_indexes=frozenset(
            (QualifiedName(create.table_name, create.schema), str(create.index_name))
            for create in changed
        ),
    )

    def plan(operation: MigrateOperation) -> Plan:
        if isinstance(operation, ops.CreateIndexOp) and operation in changed:
            return change_index(changed[operation], operation, surroundings)
        return renames.get(operation) or plan_for(operation, surroundings)

    return [plan(operation) for operation in rest if operation not in changed.values()]


def _changed_indexes(
    operations: Sequence[MigrateOperation],
) -> dict[ops.CreateIndexOp, ops.DropIndexOp]:
    """Return the indexes that keep their name, each with the drop of its old form."""
    drops = {
        (operation.table_name, operation.schema, operation.index_name): operation
        for operation in operations
        if isinstance(operation, ops.DropIndexOp)
    }
    creates = [operation for operation in operations if isinstance(operation, ops.CreateIndexOp)]
    names = ((create.table_name, create.schema, create.index_name) for create in creates)
    return {
        create: drops[name] for create, name in zip(creates, names, strict=True) if name in drops
    }


def plan_for(operation: MigrateOperation, surroundings: Surroundings) -> Plan:
    """Return the plan of one operation; one without a recipe is passed on, with a comment."""
    plan: Plan | None = None
    rest: MigrateOperation | None = operation
    match operation:
        case ops.CreateTableOp():
            plan = create_table(operation, surroundings)
        case ops.CreateIndexOp():
            plan = create_index(operation, surroundings)
        case ops.DropIndexOp() if _goes_with_its_column(operation, surroundings):
            plan = ()
        case ops.DropIndexOp() if not _goes_with_its_table(operation, surroundings):
            plan = drop_index(operation, surroundings)
        case ops.CreateForeignKeyOp():
            plan = add_foreign_key(operation, surroundings)
        case ops.AddColumnOp():
            plan = add_column(operation, surroundings)
        case ops.DropColumnOp():
            plan = drop_column(operation, surroundings)
        case ops.AlterColumnOp():
            plan, rest = alter_column(operation, surroundings)
            if rest is not None:
                return (*plan, *unexamined(rest, surroundings))
        case _:
            pass
    return plan if plan is not None else unexamined(operation, surroundings)


def unexamined(operation: MigrateOperation, surroundings: Surroundings) -> Plan:
    """Return the operation as it is, marked so that a person looks at it."""
    name = getattr(operation, "table_name", None) or getattr(operation, "source_table", None)
    schema = getattr(operation, "schema", None) or getattr(operation, "source_schema", None)
    table = QualifiedName(str(name or "?"), schema)
    if table in surroundings.new_tables:
        return (plain_on_new_table(operation, table),)
    comment = CommentOp(
        "Not examined by alembic-safe: this may block queries, rewrite the table or break the "
        "release that is running."
    )
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(comment, operation),
            downgrade=_way_back(operation, comment),
            says=f"Has an operation on {table} that was not examined; see the comment.",
            locks=frozenset({table}),
            touches=tuple(_touched(operation, table, surroundings)),
        ),
    )


def _way_back(operation: MigrateOperation, comment: CommentOp) -> tuple[MigrateOperation, ...]:
    try:
        return (comment, operation.reverse())
    except (NotImplementedError, ValueError):
        what = f"{type(operation).__name__} of upgrade()"
        return (CommentOp(f"alembic-safe knows no way back for {what}: write it here."),)


def _touched(
    operation: MigrateOperation, table: QualifiedName, surroundings: Surroundings
) -> Iterator[str]:
    """Yield what an operation of any kind names, as far as that can be told."""
    columns = [getattr(operation, "column_name", None)]
    if isinstance(operation, ops.AddColumnOp):
        columns = [operation.column.name]
    elif isinstance(operation, ops.CreateUniqueConstraintOp):
        columns = [getattr(column, "name", column) for column in operation.columns]
    elif isinstance(operation, ops.DropTableOp):
        info = surroundings.catalog.table(table.name, table.schema)
        columns = [column.name for column in info.columns] if info is not None else []
    yield from (f"column {table}.{column}" for column in columns if column is not None)
    for kind in ("constraint", "index"):
        name = getattr(operation, f"{kind}_name", None)
        if name is not None:
            yield f"{kind} {name}"


def _goes_with_its_table(operation: ops.DropIndexOp, surroundings: Surroundings) -> bool:
    table = QualifiedName(operation.table_name or "", operation.schema)
    return table in surroundings.dropped_tables


def _goes_with_its_column(operation: ops.DropIndexOp, surroundings: Surroundings) -> bool:
    """Return whether the recipe that drops a column drops the index too."""
    table = QualifiedName(operation.table_name or "", operation.schema)
    info = surroundings.catalog.table(table.name, table.schema)
    if info is None or info.kind != "r":
        return False
    index = next((index for index in info.indexes if index.name == operation.index_name), None)
    columns = index.columns if index is not None else ()
    return any((table, column) in surroundings.dropped_columns for column in columns)
