"""CREATE INDEX, and how indexes of a partitioned table come to its partitions.

Facts for rules in `details`: `index`, the `Index` that CREATE INDEX makes, and `table`, its table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.expressions import value_of
from alembic_safe.postgres.effects.handlers.chosen_names import index_name
from alembic_safe.postgres.effects.handlers.definitions import (
    LABELS,
    are_new,
    element_names,
    index_of,
    need_columns,
    need_partition_key,
    needs_version,
)
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Constraint, Index, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def create_index(node: Any, tally: Tally) -> None:
    """`CREATE INDEX`: SHARE on the table, which blocks writes while it is read; with CONCURRENTLY
    SHARE UPDATE EXCLUSIVE, which blocks neither. Partitions are locked alike, and get theirs.

    Raises:
        Refused: the name is taken, or the server certainly refuses it for another reason.
    """
    if node.concurrent:
        tally.only_outside_transaction()
    if node.nulls_not_distinct:
        needs_version(tally, 15, "NULLS")
    world, only = tally.world, not node.relation.inh
    table = tally.existing(node.relation)
    if table.kind not in "rpmf?":
        tally.refuse(f'cannot create index on relation "{table.name.name}"', "42809")
    if table.kind == "f":
        tally.refuse(f'cannot create index on foreign table "{table.name.name}"', "42809")
    if table.is_partitioned and node.concurrent:
        tally.refuse(
            f'cannot create index on partitioned table "{table.name.name}" concurrently', "0A000"
        )
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if node.concurrent else LockMode.SHARE
    tally.lock(table, mode)
    if _is_there(node, table, tally):
        return
    tally.lock(table, mode, family=table.kind in "p?" and not only)
    names = element_names([*node.index_params, *node.index_including_params])
    name = node.idxname or index_name(world, table.name, names)
    index = index_of(node, name, world.batch)
    _refuse_not_immutable(node, tally)
    need_columns(tally, table, index.uses, 'column "{}" does not exist')
    refuse_method(tally, table, index)
    if index.is_unique:
        need_partition_key(tally, table, index.columns, "UNIQUE")
        if not are_new(tally, table, index.uses):
            tally.change(Change.TIGHTENED, "index", table.name.sibling(name), detail="UNIQUE")
    tally.details |= {"index": index, "table": table.name}
    add_index(tally, table, index, only=only, concurrently=node.concurrent)


def _refuse_not_immutable(node: Any, tally: Tally) -> None:
    keys = [item.index_elem.expr for item in node.index_params if item.index_elem.HasField("expr")]
    if not all(value_of(key, tally.world).is_immutable for key in keys):
        tally.refuse("functions in index expression must be marked IMMUTABLE", "42P17")
    if node.HasField("where_clause") and not value_of(node.where_clause, tally.world).is_immutable:
        tally.refuse("functions in index predicate must be marked IMMUTABLE", "42P17")


def refuse_method(tally: Tally, table: Relation, index: Index) -> None:
    """Refuse an index of a method that cannot do what is asked of it.

    Raises:
        Refused: it is unique and not a btree, or one of a column whose type has no order.
    """
    if index.is_unique and index.method in _NOT_UNIQUE:
        tally.refuse(f'access method "{index.method}" does not support unique indexes', "0A000")
    for name, operator_class in zip(index.columns, index.operator_classes, strict=False):
        column = table.columns.get(name or "")
        if column is None or column.type is None or column.type.is_array:
            continue
        is_plain = index.method == "btree" and operator_class is None
        if is_plain and column.type.schema is None and column.type.name in _WITHOUT_ORDER:
            tally.refuse(
                f"data type {column.type.name} has no default operator class for access method"
                ' "btree"',
                "42704",
            )


_NOT_UNIQUE = frozenset({"brin", "gin", "gist", "hash", "spgist"})

_WITHOUT_ORDER = frozenset(
    {"box", "circle", "json", "line", "lseg", "path", "point", "polygon", "xml"}
)


def _is_there(node: Any, table: Relation, tally: Tally) -> bool:
    if not node.idxname:
        return False
    world, name = tally.world, table.name.sibling(node.idxname)
    if name in world.index_tables or name in world.relations:
        if not node.if_not_exists:
            tally.refuse(f'relation "{name.name}" already exists', "42P07")
        return True
    if node.if_not_exists and not world.is_gone(name):
        tally.assume(f"there is no {name} yet")
    return False


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
    if table.is_partitioned and not only:
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
            tally.world.put(with_parent(partition, existing, name))
            return
    label = LABELS[constraint.type] if constraint is not None else "idx"
    chosen = index_name(tally.world, partition.name, (*index.columns, *index.included), label)
    owner = None
    if constraint is not None:
        owner = replace(constraint, name=chosen, index=chosen, inherited=True)
    copy = replace(index, name=chosen, parent=name, constraint=owner.name if owner else None)
    add_index(tally, partition, copy, owner)


def with_parent(table: Relation, index: Index, parent: QualifiedName) -> Relation:
    """Return a partition whose index, with the constraint that owns it, is part of its parent's."""
    table = table.with_index(replace(index, parent=parent))
    owner = table.constraints.get(index.constraint or "")
    return table.with_constraint(replace(owner, inherited=True)) if owner is not None else table


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


HANDLERS: dict[str, Handler] = {"index_stmt": create_index}
