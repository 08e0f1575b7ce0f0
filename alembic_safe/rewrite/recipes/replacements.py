"""Which operations of a diff belong together: something goes, and something takes its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from alembic.operations import MigrateOperation, ops

from alembic_safe.postgres.catalog import ConstraintInfo
from alembic_safe.rewrite.recipes.foreign_keys import is_same_key
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.unique_constraints import unique_columns
from alembic_safe.rewrite.recipes.uniqueness import Uniqueness

Replacements = Mapping[MigrateOperation, tuple[MigrateOperation, ConstraintInfo | None]]
"""What comes, with what goes for it, and for a constraint what the database has of it."""


def replacements(
    operations: Sequence[MigrateOperation], surroundings: Surroundings
) -> Replacements:
    """Return which operations take the place of which others.

    Args:
        operations: the diff.
        surroundings: the snapshot.
    """
    found: dict[MigrateOperation, tuple[MigrateOperation, ConstraintInfo | None]] = {}
    found.update((create, (drop, None)) for create, drop in _indexes(operations))
    found.update((create, (drop, None)) for create, drop in _constraints(operations, surroundings))
    for drop in operations:
        constraint = constraint_of(drop, surroundings)
        if not isinstance(drop, ops.DropConstraintOp) or constraint is None:
            continue
        if constraint.type == "f":
            for create in operations:
                if isinstance(create, ops.CreateForeignKeyOp) and is_same_key(
                    drop, create, constraint, surroundings
                ):
                    found[create] = (drop, constraint)
        elif constraint.type == "u":
            free = [operation for operation in operations if operation not in found]
            new = _unique(drop, constraint, free)
            if new is not None:
                found[new] = (drop, constraint)
    return found


def constraint_of(operation: MigrateOperation, surroundings: Surroundings) -> ConstraintInfo | None:
    """Return what an operation drops; None where it drops no constraint of the database."""
    if not isinstance(operation, ops.DropConstraintOp):
        return None
    info = surroundings.catalog.table(operation.table_name, operation.schema)
    constraints = info.constraints if info is not None else ()
    return next((c for c in constraints if c.name == operation.constraint_name), None)


def _indexes(
    operations: Sequence[MigrateOperation],
) -> Iterator[tuple[ops.CreateIndexOp, ops.DropIndexOp]]:
    """Yield the indexes that keep their name, each with the drop of its old form."""
    drops: dict[tuple[str | None, ...], ops.DropIndexOp] = {
        (operation.table_name, operation.schema, operation.index_name): operation
        for operation in operations
        if isinstance(operation, ops.DropIndexOp)
    }
    for create in operations:
        if isinstance(create, ops.CreateIndexOp):
            drop = drops.get((create.table_name, create.schema, create.index_name))
            if drop is not None:
                yield create, drop


def _constraints(
    operations: Sequence[MigrateOperation], surroundings: Surroundings
) -> Iterator[tuple[ops.CreateUniqueConstraintOp, ops.DropIndexOp]]:
    """Yield the unique constraints on the columns of a unique index that goes."""
    for create in operations:
        if not isinstance(create, ops.CreateUniqueConstraintOp):
            continue
        info = surroundings.catalog.table(create.table_name, create.schema)
        columns = set(unique_columns(create))
        unique = {
            index.name
            for index in (info.indexes if info is not None else ())
            if index.is_unique and index.columns == columns
        }
        for drop in operations:
            if (
                isinstance(drop, ops.DropIndexOp)
                and (drop.table_name, drop.schema) == (create.table_name, create.schema)
                and drop.index_name in unique
            ):
                yield create, drop


def _unique(
    drop: ops.DropConstraintOp, constraint: ConstraintInfo, operations: Sequence[MigrateOperation]
) -> ops.CreateUniqueConstraintOp | ops.CreateIndexOp | None:
    """Return what refuses all that a unique constraint refuses, or only such; best of all what
    does both. None where there is nothing of the kind."""
    old = Uniqueness.of_constraint(constraint)
    found: list[tuple[int, ops.CreateUniqueConstraintOp | ops.CreateIndexOp]] = []
    for create in operations:
        if not isinstance(create, (ops.CreateUniqueConstraintOp, ops.CreateIndexOp)):
            continue
        new = Uniqueness.of_operation(create)
        if new is None or (create.table_name, create.schema) != (drop.table_name, drop.schema):
            continue
        alike = new.refuses_all_of(old) + old.refuses_all_of(new)
        if alike:
            found.append((alike, create))
    return max(found, key=lambda each: each[0])[1] if found else None
