"""ALTER COLUMN but for its type: default, NOT NULL, identity, expression, storage, statistics.

Facts for rules in `details`:
    defaults: of SET and DROP DEFAULT, a list of (column, `Volatility` or None for DROP).
    not_null: columns that SET NOT NULL makes so and that were not, or may not have been.
    nullable: columns of DROP NOT NULL.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.expressions import value_of
from alembic_safe.postgres.effects.handlers import constraints
from alembic_safe.postgres.effects.handlers.add_column import refuse_expression, with_not_null
from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.columns import make_sequence
from alembic_safe.postgres.effects.handlers.definitions import (
    columns_used,
    needs_version,
    text_of,
)
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.world import Column, Relation
from alembic_safe.postgres.locks import LockMode

# DEFAULT


def column_default(alter: AlterTable, command: Any) -> None:
    """`SET DEFAULT`, `DROP DEFAULT`: ACCESS EXCLUSIVE; rows that are there keep what they have."""
    tally, name = alter.tally, command.name
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = alter.column(name)
    if column is not None and (column.identity or column.generated):
        what = "an identity" if column.identity else "a generated"
        _refuse_column(alter, name, f"is {what} column", "42601")
    if command.HasField("def"):
        node = getattr(command, "def")
        value = value_of(node, tally.world)
        refuse_expression(value, "DEFAULT expression", tally)
        if value.has_columns:
            tally.refuse("cannot use column reference in DEFAULT expression", "0A000")
        alter.change_column(name, default=text_of(node))
        tally.details.setdefault("defaults", []).append((name, value.volatility))
        return
    alter.change_column(name, default=None)
    tally.details.setdefault("defaults", []).append((name, None))
    if column is None:
        tally.assume(f"{name} is NOT NULL and has a default")
    if column is None or (column.not_null and column.default is not None):
        born = column.born if column is not None else 0
        detail = "NOT NULL, and no default any more"
        tally.change(Change.TIGHTENED, "column", alter.name, name, born=born, detail=detail)


# NOT NULL


def set_not_null(alter: AlterTable, command: Any) -> None:
    """`SET NOT NULL`: ACCESS EXCLUSIVE while every row is read, unless a valid CHECK proves it."""
    tally, name = alter.tally, command.name
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = alter.column(name)
    table = alter.table
    if alter.only and table.is_partitioned:
        _need_not_null_partitions(alter, name)
    is_tightened = column is None or not (column.not_null or _is_checked(table, name))
    for member in alter.members():
        if not constraints.proves_not_null(member, name):
            tally.scan(member)
            if member.size != 0 and not member.is_partitioned:
                message = f'column "{name}" of relation "{member.name.name}" contains null values'
                tally.may_fail(message, "23502")
            if not member.complete:
                tally.assume(f"no valid CHECK of {member.name.name} proves {name} NOT NULL")
        _make_not_null(alter, member, name)
    if is_tightened:
        tally.details.setdefault("not_null", []).append(name)
        born = column.born if column is not None else 0
        tally.change(Change.TIGHTENED, "column", alter.name, name, born=born, detail="NOT NULL")


def _need_not_null_partitions(alter: AlterTable, name: str) -> None:
    world = alter.tally.world
    for child in alter.table.children:
        known = world.find(child)
        column = known.columns.get(name) if known is not None else None
        if column is not None and not column.not_null:
            alter.tally.refuse("constraint must be added to child tables too", "42P16")


def _is_checked(table: Relation, column: str) -> bool:
    """Return whether no NULL can be written any more, whatever there is in the rows."""
    return any(
        column in constraint.proves_not_null and constraint.is_enforced
        for constraint in table.constraints.values()
    )


def _make_not_null(alter: AlterTable, table: Relation, name: str) -> None:
    world = alter.tally.world
    column = table.columns.get(name)
    if column is not None:
        table = table.with_column(replace(column, not_null=True))
    if world.version >= 18:
        own = constraints.not_null_of(table, name)
        if own is None:
            table = with_not_null(table, name, "", world)
        elif not own.is_validated:
            table = table.with_constraint(replace(own, is_validated=True))
    alter.put(table)


def drop_not_null(alter: AlterTable, command: Any) -> None:
    """`DROP NOT NULL`: ACCESS EXCLUSIVE."""
    name = command.name
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column, table = alter.column(name), alter.table
    if column is not None and column.identity:
        _refuse_column(alter, name, "is an identity column", "42601")
    keys = [key for key in table.constraints.values() if key.type == "p"]
    if any(name in key.columns for key in keys):
        alter.tally.refuse(f'column "{name}" is in a primary key', "42P16")
    if column is not None and column.not_null and _is_not_null_above(alter, name):
        alter.tally.refuse(f'column "{name}" is marked NOT NULL in parent table', "42P16")
    if alter.only and table.is_partitioned and table.children and alter.tally.world.version < 18:
        alter.tally.refuse(
            "cannot remove constraint from only the partitioned table when partitions exist",
            "42P16",
        )
    alter.tally.details.setdefault("nullable", []).append(name)
    for member in alter.members():
        own = constraints.not_null_of(member, name)
        if own is not None:
            left = {key: c for key, c in member.constraints.items() if c is not own}
            alter.put(replace(member, constraints=left))
    alter.change_column(name, not_null=False)


def _is_not_null_above(alter: AlterTable, name: str) -> bool:
    for parent in alter.table.parents:
        known = alter.tally.world.find(parent)
        column = known.columns.get(name) if known is not None else None
        is_partition = alter.table.is_partition or alter.tally.world.version >= 18
        if column is not None and column.not_null and is_partition:
            return True
    return False


# Identity


def add_identity(alter: AlterTable, command: Any) -> None:
    """`ADD GENERATED ... AS IDENTITY`: ACCESS EXCLUSIVE; makes a sequence."""
    name = command.name
    _lock_for_identity(alter)
    column = alter.column(name)
    if column is not None:
        if not column.not_null:
            detail = "must be declared NOT NULL before identity can be added"
            _refuse_column(alter, name, detail, "55000")
        if column.identity:
            _refuse_column(alter, name, "is already an identity column", "55000")
        if column.default is not None:
            _refuse_column(alter, name, "already has a default value", "55000")
    when = getattr(command, "def").constraint.generated_when
    sequence = make_sequence(alter.name, name, alter.tally)
    alter.change_column(name, identity=when, sequence=sequence)


def set_identity(alter: AlterTable, command: Any) -> None:
    """`SET GENERATED`, `RESTART`, ...: ACCESS EXCLUSIVE; SHARE ROW EXCLUSIVE on the sequence."""
    _lock_for_identity(alter)
    column = _identity_column(alter, command.name)
    _lock_sequence(alter, command.name, column, LockMode.SHARE_ROW_EXCLUSIVE)
    for item in getattr(command, "def").list.items:
        option = item.def_elem
        if option.defname == "generated":
            alter.change_column(command.name, identity=chr(option.arg.integer.ival))


def drop_identity(alter: AlterTable, command: Any) -> None:
    """`DROP IDENTITY`: ACCESS EXCLUSIVE, on the sequence too, which goes away."""
    tally, name = alter.tally, command.name
    _lock_for_identity(alter)
    column = alter.column(name)
    if command.missing_ok and column is not None and not column.identity:
        return
    column = _identity_column(alter, name)
    _lock_sequence(alter, name, column, LockMode.ACCESS_EXCLUSIVE)
    if column is not None and column.sequence is not None:
        tally.world.remove(column.sequence)
    alter.change_column(name, identity="", sequence=None)
    if column is not None:
        detail = "NOT NULL, and no default any more"
        tally.change(Change.TIGHTENED, "column", alter.name, name, born=column.born, detail=detail)


def _lock_for_identity(alter: AlterTable) -> None:
    # Partitions have identity columns since version 17.
    has_partitions = alter.table.is_partitioned or not alter.table.complete
    recurse = alter.tally.world.version >= 17 and has_partitions
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=recurse)


def _lock_sequence(alter: AlterTable, name: str, column: Column | None, mode: LockMode) -> None:
    if column is not None and column.sequence is not None:
        alter.tally.lock(column.sequence, mode)
    elif column is None:
        alter.tally.assume(f"the sequence of {name} is not known")
        alter.tally.details["unnamed_locks"] = mode


def _identity_column(alter: AlterTable, name: str) -> Column | None:
    column = alter.column(name)
    if column is not None and not column.identity:
        _refuse_column(alter, name, "is not an identity column", "55000")
    return column


# Generated columns


def set_expression(alter: AlterTable, command: Any) -> None:
    """`SET EXPRESSION` (17): ACCESS EXCLUSIVE; the rows are written again unless it is VIRTUAL."""
    tally, name = alter.tally, command.name
    needs_version(tally, 17, "EXPRESSION")
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = alter.column(name)
    node = getattr(command, "def")
    value = value_of(node, tally.world)
    refuse_expression(value, "column generation expression", tally)
    if not value.is_immutable:
        tally.refuse("generation expression is not immutable", "42P17")
    if column is not None and not column.generated:
        _refuse_column(alter, name, "is not a generated column", "55000")
    if column is None:
        tally.assume(f"{name} is a stored generated column")
    if column is None or column.generated == "s":
        alter.rewrite()
    elif any(name in c.columns for c in alter.table.constraints.values()):
        alter.scan()
    alter.change_column(name, default=text_of(node))
    used = columns_used(node)
    for member in alter.members():
        alter.put(replace(member, generated_from={**member.generated_from, name: used}))


def drop_expression(alter: AlterTable, command: Any) -> None:
    """`DROP EXPRESSION` (13): ACCESS EXCLUSIVE; the rows keep what they have."""
    name = command.name
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = alter.column(name)
    if column is not None and not column.generated:
        if command.missing_ok:
            return
        _refuse_column(alter, name, "is not a stored generated column", "55000")
    if column is not None and column.generated == "v":
        alter.tally.refuse(
            "ALTER TABLE / DROP EXPRESSION is not supported for virtual generated columns", "0A000"
        )
    if alter.only and alter.table.children:
        alter.tally.refuse(
            "ALTER TABLE / DROP EXPRESSION must be applied to child tables too", "42P16"
        )
    if column is not None and column.inherited:
        alter.tally.refuse("cannot drop generation expression from inherited column", "42P16")
    for member in alter.members():
        left = {key: used for key, used in member.generated_from.items() if key != name}
        alter.put(replace(member, generated_from=left))
    alter.change_column(name, default=None, generated="")


# How values are kept


def statistics(alter: AlterTable, command: Any) -> None:
    """`SET STATISTICS`: SHARE UPDATE EXCLUSIVE."""
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE)
    _need_column(alter, command.name)


def column_options(alter: AlterTable, command: Any) -> None:
    """`SET (n_distinct = ...)`, `RESET (...)`: SHARE UPDATE EXCLUSIVE."""
    alter.lock(LockMode.SHARE_UPDATE_EXCLUSIVE, recurse=False)
    _need_column(alter, command.name)


def storage(alter: AlterTable, command: Any) -> None:
    """`SET STORAGE`: ACCESS EXCLUSIVE; the rows stay as they are."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    _need_column(alter, command.name)


def compression(alter: AlterTable, command: Any) -> None:
    """`SET COMPRESSION` (14): ACCESS EXCLUSIVE; the rows stay as they are."""
    needs_version(alter.tally, 14, "COMPRESSION")
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    _need_column(alter, command.name)


def foreign_options(alter: AlterTable, command: Any) -> None:
    """`OPTIONS (...)` of a foreign table's column: ACCESS EXCLUSIVE."""
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    _need_column(alter, command.name)


def _need_column(alter: AlterTable, name: str) -> None:
    if name:  # columns of an index are numbered
        alter.column(name)


def _refuse_column(alter: AlterTable, column: str, what: str, sqlstate: str) -> None:
    alter.tally.refuse(f'column "{column}" of relation "{alter.name.name}" {what}', sqlstate)


SUBCOMMANDS: dict[str, Subcommand] = {
    "AT_ColumnDefault": column_default,
    "AT_SetNotNull": set_not_null,
    "AT_DropNotNull": drop_not_null,
    "AT_AddIdentity": add_identity,
    "AT_SetIdentity": set_identity,
    "AT_DropIdentity": drop_identity,
    "AT_SetExpression": set_expression,
    "AT_DropExpression": drop_expression,
    "AT_SetStatistics": statistics,
    "AT_SetOptions": column_options,
    "AT_ResetOptions": column_options,
    "AT_SetStorage": storage,
    "AT_SetCompression": compression,
    "AT_AlterColumnGenericOptions": foreign_options,
}
