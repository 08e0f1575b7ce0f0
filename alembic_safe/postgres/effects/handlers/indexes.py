"""CREATE INDEX, DROP INDEX, REINDEX, ALTER INDEX.

Facts for rules in `details`: `index`, the `Index` that CREATE INDEX makes, and `table`, its table;
`dropped`, the dropped indexes as a list of (table, `Index`).
"""

from __future__ import annotations

from dataclasses import replace

from alembic_safe.postgres.effects.handlers.chosen_names import index_name
from alembic_safe.postgres.effects.handlers.definitions import LABELS
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Index, Relation


def add_index(
    tally: Tally,
    table: Relation,
    index: Index,
    constraint: Constraint | None = None,
    *,
    only: bool = False,
    concurrently: bool = False,
) -> None:
    """Give a table an index, and its partitions theirs: what they have already, or a new one.

    Args:
        tally: where the builds are noted.
        table: as it is now.
        index: with its name.
        constraint: the one that owns the index.
        only: leave the partitions alone.
        concurrently: the build blocks neither reads nor writes.
    """
    is_valid = not (table.is_partitioned and only and table.children)
    _put(tally, table, replace(index, is_valid=is_valid), constraint)
    if not table.is_partitioned or not table.complete:
        tally.build(table, index.name, concurrently=concurrently)
    if not only:
        for child in table.children:
            partition = tally.world.find(child)
            if partition is not None:
                give_partition_index(tally, table, index, constraint, partition)


def give_partition_index(
    tally: Tally,
    parent: Relation,
    index: Index,
    constraint: Constraint | None,
    partition: Relation,
) -> None:
    """Make an index of a partition part of one of its parent's: one that it has, or a new one."""
    name = parent.name.sibling(index.name)
    for existing in partition.indexes.values():
        if existing.parent is None and _is_equivalent(existing, index, constraint, partition):
            tally.world.put(partition.with_index(replace(existing, parent=name)))
            return
    label = LABELS[constraint.type] if constraint is not None else "idx"
    chosen = index_name(tally.world, partition.name, index.columns, label)
    owner = None
    if constraint is not None:
        owner = replace(constraint, name=chosen, index=chosen, inherited=True)
    copy = replace(index, name=chosen, parent=name, constraint=owner.name if owner else None)
    add_index(tally, partition, copy, owner)


def _put(tally: Tally, table: Relation, index: Index, constraint: Constraint | None) -> None:
    changed = table.with_index(index)
    if constraint is not None:
        changed = changed.with_constraint(constraint)
    tally.world.put(changed)


def _is_equivalent(
    one: Index, other: Index, constraint: Constraint | None, table: Relation
) -> bool:
    """Return whether an index of a partition can serve as that of its parent (`CompareIndexInfo`).

    Of expressions and predicates only the columns in them are compared.
    """
    if constraint is not None:
        owner = table.constraints.get(one.constraint or "")
        if owner is None or owner.type != constraint.type:
            return False
    return _shape(one) == _shape(other)


def _shape(index: Index) -> tuple[object, ...]:
    return (
        index.columns,
        index.included,
        index.expression_columns,
        index.operator_classes,
        index.collations,
        index.method,
        index.is_unique,
        index.is_partial,
        index.nulls_not_distinct,
    )
