"""One file a family of changes; a recipe turns an operation into a plan, without a database."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from alembic.operations import MigrateOperation, ops

from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import ConstraintInfo
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.columns import add_column, drop_column
from alembic_safe.rewrite.recipes.foreign_keys import (
    add_foreign_key,
    change_foreign_key,
    drop_foreign_key,
)
from alembic_safe.rewrite.recipes.indexes import (
    change_index,
    create_index,
    drop_index,
    plain_on_new_table,
)
from alembic_safe.rewrite.recipes.names import with_final_name
from alembic_safe.rewrite.recipes.not_null import alter_column
from alembic_safe.rewrite.recipes.rename_column import rename_column
from alembic_safe.rewrite.recipes.replacements import Replacements, constraint_of, replacements
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.tables import create_table
from alembic_safe.rewrite.recipes.unique_constraints import (
    add_unique_constraint,
    change_unique_constraint,
    drop_unique_constraint,
    index_becomes_constraint,
)
from alembic_safe.rewrite.recipes.uniqueness import Uniqueness, unique_name
from alembic_safe.rewrite.renames import RenameColumnOp

__all__ = ["Surroundings", "plans_for"]


def plans_for(operations: Sequence[MigrateOperation], surroundings: Surroundings) -> list[Plan]:
    """Return a plan for each change, in the order of the operations, but for constraints: those
    that are dropped go first, and foreign keys come last.

    Args:
        operations: what autogenerate found, without containers and with renames in place.
        surroundings: the snapshot.
    """
    operations = [
        with_final_name(operation)
        for operation in operations
        if not _goes_with_another_key(operation, operations, surroundings)
    ]
    rest = list(operations)
    # A rename takes what follows from it out of the diff, wherever that stands.
    renames: dict[MigrateOperation, Plan] = {
        operation: rename_column(operation, rest, surroundings)
        for operation in operations
        if isinstance(operation, RenameColumnOp)
    }
    rest.sort(key=_rank)
    replaced = replacements(rest, surroundings)
    gone = {drop for drop, _ in replaced.values()}
    surroundings = replace(
        surroundings,
        made_unique=frozenset(_made_unique(rest, surroundings)),
        dropped_foreign_keys=frozenset(_dropped_foreign_keys(rest, gone)),
        changed_indexes=frozenset(_changed_indexes(replaced)),
        removed_columns=frozenset(
            (QualifiedName(operation.table_name, operation.schema), operation.column_name)
            for operation in rest
            if isinstance(operation, ops.DropColumnOp)
        ),
    )

    def plan(operation: MigrateOperation) -> Plan:
        if operation in renames:
            return renames[operation]
        if operation in replaced:
            drop, constraint = replaced[operation]
            return change_of(drop, operation, constraint, surroundings)
        return plan_for(operation, surroundings)

    return [plan(operation) for operation in rest if operation not in gone]


def _goes_with_another_key(
    operation: MigrateOperation,
    operations: Sequence[MigrateOperation],
    surroundings: Surroundings,
) -> bool:
    """Return whether what Alembic takes for a foreign key that goes is a part of another one: the
    server has one for each partition of the referenced table, which the models never have, and one
    of each partition of the referencing table, which goes with that of the whole."""
    if not isinstance(operation, ops.DropConstraintOp):
        return False
    info = surroundings.catalog.table(operation.table_name, operation.schema)
    if info is not None and operation.constraint_name in info.keys_to_partitions:
        return True
    constraint = constraint_of(operation, surroundings)
    if constraint is None or constraint.type != "f" or not constraint.inherited:
        return False
    of_the_whole = (other for other in operations if isinstance(other, ops.DropConstraintOp))
    return any(
        other.constraint_name == constraint.name and _is_partitioned(other, surroundings)
        for other in of_the_whole
    )


def _is_partitioned(operation: ops.DropConstraintOp, surroundings: Surroundings) -> bool:
    info = surroundings.catalog.table(operation.table_name, operation.schema)
    return info is not None and info.kind == "p"


def _rank(operation: MigrateOperation) -> int:
    """Return the place of an operation among all: a foreign key is dropped before the unique
    constraint that it relies on, and added after it."""
    match operation:
        case ops.DropConstraintOp(constraint_type="foreignkey"):
            return 0
        case ops.DropConstraintOp(constraint_type="unique"):
            return 1
        case ops.CreateForeignKeyOp():
            return 3
        case _:
            return 2


def _made_unique(
    operations: Sequence[MigrateOperation], surroundings: Surroundings
) -> Iterator[str]:
    for operation in operations:
        if not isinstance(operation, (ops.CreateUniqueConstraintOp, ops.CreateIndexOp)):
            continue
        table = QualifiedName(operation.table_name, operation.schema)
        unique = Uniqueness.of_operation(operation)
        if unique is not None and table not in surroundings.new_tables:
            yield unique_name(table, unique.columns)


def _dropped_foreign_keys(
    operations: Sequence[MigrateOperation], replaced: Collection[MigrateOperation]
) -> Iterator[tuple[QualifiedName, str]]:
    for operation in operations:
        if isinstance(operation, ops.DropConstraintOp) and operation not in replaced:
            table = QualifiedName(operation.table_name, operation.schema)
            yield table, str(operation.constraint_name)


def _changed_indexes(replaced: Replacements) -> Iterator[tuple[QualifiedName, str]]:
    for create, (drop, _) in replaced.items():
        if isinstance(create, ops.CreateIndexOp) and isinstance(drop, ops.DropIndexOp):
            yield QualifiedName(create.table_name, create.schema), str(create.index_name)


def change_of(
    drop: MigrateOperation,
    create: MigrateOperation,
    constraint: ConstraintInfo | None,
    surroundings: Surroundings,
) -> Plan:
    """Return the plan of two operations of which the one takes the place of the other.

    Args:
        drop: what goes.
        create: what comes.
        constraint: what goes, as the database has it; None for an index.
        surroundings: the snapshot.
    """
    match (drop, create, constraint):
        case (ops.DropIndexOp(), ops.CreateIndexOp(), None):
            return change_index(drop, create, surroundings)
        case (ops.DropIndexOp(), ops.CreateUniqueConstraintOp(), None):
            return index_becomes_constraint(drop, create, surroundings)
        case (ops.DropConstraintOp(), ops.CreateForeignKeyOp(), ConstraintInfo()):
            return change_foreign_key(drop, create, constraint, surroundings)
        case (_, ops.CreateUniqueConstraintOp() | ops.CreateIndexOp(), ConstraintInfo()):
            return change_unique_constraint(create, constraint, surroundings)
        case _:
            raise TypeError(f"{create} does not take the place of {drop}")


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
        case ops.CreateUniqueConstraintOp():
            plan = add_unique_constraint(operation, surroundings)
        case ops.DropConstraintOp():
            plan = _drop_constraint(operation, surroundings)
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


def _drop_constraint(operation: ops.DropConstraintOp, surroundings: Surroundings) -> Plan | None:
    """Return the plan for a foreign key or a unique constraint; None for another one, and for one
    that the database does not have."""
    constraint = constraint_of(operation, surroundings)
    if constraint is None or constraint.type not in "fu":
        return None
    table = QualifiedName(operation.table_name, operation.schema)
    if constraint.type == "f":
        return drop_foreign_key(operation, constraint, surroundings)
    return drop_unique_constraint(table, constraint, surroundings)


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
