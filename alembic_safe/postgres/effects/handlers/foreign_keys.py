"""FOREIGN KEY: what it references, locks and reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable
from alembic_safe.postgres.effects.handlers.chosen_names import constraint_name
from alembic_safe.postgres.effects.handlers.definitions import (
    constraint_of,
    need_columns,
    need_free_name,
    needs_version,
    note_added,
)
from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.locks import LockMode


def add_foreign_key(alter: AlterTable, node: Any, column: str | None, is_null: bool) -> None:
    """Add a foreign key: SHARE ROW EXCLUSIVE on both tables, which are read unless it is NOT VALID.

    Args:
        alter: the statement.
        node: `Constraint` of the parse tree.
        column: the column in whose definition it stands.
        is_null: that column is new and NULL in every row.

    Raises:
        Refused: the server certainly refuses it.
    """
    tally, world, table = alter.tally, alter.tally.world, alter.table
    if not node.is_enforced:
        needs_version(tally, 18, "ENFORCED")
    if node.fk_with_period:
        needs_version(tally, 18, "PERIOD")
    if node.fk_del_set_cols:
        needs_version(tally, 15, "(")
    alter.lock(LockMode.SHARE_ROW_EXCLUSIVE, recurse=table.kind in "p?")
    partner = _partner(alter, node)
    if table.is_partitioned:
        _refuse_on_partitioned(alter, node, partner)
    columns = (column,) if column is not None else tuple(strings(node.fk_attrs))
    need_columns(
        tally,
        table,
        columns,
        'column "{}" referenced in foreign key constraint does not exist',
    )
    name = node.conname or constraint_name(table, columns, "fkey")
    need_free_name(tally, table, name)
    # One of the same name that was dropped before was perhaps one to the same table.
    was_unknown = (table.name, name) in tally.details.get("unknown_constraints_dropped", ())
    mode = LockMode.ACCESS_EXCLUSIVE if was_unknown else LockMode.SHARE_ROW_EXCLUSIVE
    tally.lock(partner, mode, family=partner.kind in "p?")
    constraint = _referencing(tally, partner, constraint_of(node, name, columns, world.batch))
    _refuse_other_type(tally, table, partner, constraint)
    if constraint.is_validated and not is_null:
        tally.scan(table)
        members = world.family(table.name) if table.is_partitioned else [table]
        if any(member.size != 0 for member in members if not member.is_partitioned):
            tally.scan(partner)
    for member in list(alter.members()) if table.is_partitioned else [table]:
        own = constraint if member.name == table.name else replace(constraint, inherited=True)
        world.put(member.with_constraint(own))
    note_added(tally, table, constraint, "FOREIGN KEY")


def _partner(alter: AlterTable, node: Any) -> Relation:
    tally = alter.tally
    name = tally.world.qualified(node.pktable.relname, node.pktable.schemaname or None)
    partner = alter.table if name == alter.name else tally.existing(node.pktable)
    if partner.kind not in "rp?":
        tally.refuse(f'referenced relation "{partner.name.name}" is not a table', "42809")
    return partner


def _refuse_on_partitioned(alter: AlterTable, node: Any, partner: Relation) -> None:
    where = f'partitioned table "{alter.name.name}" referencing relation "{partner.name.name}"'
    if alter.only:
        alter.tally.refuse(f"cannot use ONLY for foreign key on {where}", "42809")
    if not node.initially_valid and alter.tally.world.version < 18:
        alter.tally.refuse(f"cannot add NOT VALID foreign key on {where}", "42809")


def _referencing(tally: Tally, partner: Relation, constraint: Constraint) -> Constraint:
    """Return the foreign key with what it references, refused where there is no such key."""
    columns = constraint.referenced_columns
    if columns:
        _refuse_other_number(tally, constraint.columns, columns)
    keys = [index for index in partner.indexes.values() if index.is_unique]
    if not columns:
        keys = [index for index in keys if index.is_primary]
        if not keys and partner.complete:
            tally.refuse(
                f'there is no primary key for referenced table "{partner.name.name}"', "42704"
            )
    else:
        need_columns(
            tally,
            partner,
            columns,
            'column "{}" referenced in foreign key constraint does not exist',
        )
        keys = [index for index in keys if _is_key_on(index.columns, columns, index.is_partial)]
        if not keys and partner.complete:
            tally.refuse(
                "there is no unique constraint matching given keys for referenced table"
                f' "{partner.name.name}"',
                "42830",
            )
    index = keys[0] if keys else None
    if index is not None and not columns:
        columns = tuple(column for column in index.columns if column is not None)
        _refuse_other_number(tally, constraint.columns, columns)
    return replace(
        constraint,
        referenced=partner.name,
        referenced_columns=columns,
        index=index.name if index is not None else None,
    )


def _refuse_other_number(
    tally: Tally, columns: tuple[str, ...], referenced: tuple[str, ...]
) -> None:
    if len(columns) != len(referenced):
        tally.refuse(
            "number of referencing and referenced columns for foreign key disagree", "42830"
        )


def _refuse_other_type(
    tally: Tally, table: Relation, partner: Relation, constraint: Constraint
) -> None:
    for own_name, name in zip(constraint.columns, constraint.referenced_columns, strict=False):
        own, other = table.columns.get(own_name), partner.columns.get(name)
        if own is None or other is None or own.type is None or other.type is None:
            continue
        if own.type.is_array or other.type.is_array or own.type.schema or other.type.schema:
            continue
        known = own.type.name in _COMPARABLE and other.type.name in _COMPARABLE
        if known and other.type.name not in _COMPARABLE[own.type.name]:
            tally.refuse(
                f'foreign key constraint "{constraint.name}" cannot be implemented', "42804"
            )


_INTEGERS = frozenset({"int2", "int4", "int8"})
_TEXTS = frozenset({"text", "varchar", "bpchar"})
_COMPARABLE = {
    **dict.fromkeys(_INTEGERS, _INTEGERS | {"numeric", "float4", "float8"}),
    "numeric": frozenset({"numeric", "float4", "float8"}),
    **dict.fromkeys(_TEXTS, _TEXTS),
    "uuid": frozenset({"uuid"}),
    "bool": frozenset({"bool"}),
    "bytea": frozenset({"bytea"}),
}
"""Which types a column of a type can reference, of the most usual ones."""


def _is_key_on(keys: tuple[str | None, ...], columns: tuple[str, ...], is_partial: bool) -> bool:
    return not is_partial and len(keys) == len(columns) and set(keys) == set(columns)
