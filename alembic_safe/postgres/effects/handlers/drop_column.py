"""DROP COLUMN: ACCESS EXCLUSIVE, on the partners of its foreign keys too; no row is touched.

Indexes and constraints that use the column go with it, and its sequence.

Facts for rules in `details`: `dropped_columns`, a list of `DroppedColumn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.views import drop_with_dependents
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Column, Constraint, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


@dataclass(frozen=True)
class DroppedColumn:
    """A column that DROP COLUMN drops.

    Args:
        table: the table.
        name: of the column.
        column: as it was; None where it is not known.
        indexes: names of the indexes that go with it.
    """

    table: QualifiedName
    name: str
    column: Column | None
    indexes: tuple[str, ...]


def drop_column(alter: AlterTable, command: Any) -> None:
    """`DROP COLUMN`."""
    tally, name, table = alter.tally, command.name, alter.table
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    if command.missing_ok and table.complete and name not in table.columns:
        return
    column = alter.column(name)
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    _refuse_here(alter, name, column)
    indexes = tuple(index.name for index in table.indexes.values() if name in index.uses)
    for member in alter.members():
        _drop_dependents(tally, member, name, cascade=_is_cascade(command))
    for member in alter.members():
        _without(tally, member, name)
    if alter.only:
        _keep_in_children(alter, name)
    dropped = DroppedColumn(alter.name, name, column, indexes)
    tally.details.setdefault("dropped_columns", []).append(dropped)
    born = column.born if column is not None else 0
    tally.change(Change.DROPPED, "column", alter.name, name, born=born)


def _is_cascade(command: Any) -> bool:
    from postgast import pg_query_pb2 as grammar

    return bool(command.behavior == grammar.DROP_CASCADE)


def _refuse_here(alter: AlterTable, name: str, column: Column | None) -> None:
    tally = alter.tally
    if column is not None and column.inherited:
        tally.refuse(f'cannot drop inherited column "{name}"', "42P16")
    for member in alter.members():
        if name in member.partition_key:
            tally.refuse(
                f'cannot drop column "{name}" because it is part of the partition key of'
                f' relation "{member.name.name}"',
                "42P16",
            )
    if alter.only and alter.table.is_partitioned and alter.table.children:
        tally.refuse(
            "cannot drop column from only the partitioned table when partitions exist", "42P16"
        )


def _keep_in_children(alter: AlterTable, name: str) -> None:
    for child in alter.table.children:
        known = alter.tally.world.find(child)
        column = known.columns.get(name) if known is not None else None
        if known is not None and column is not None:
            alter.put(known.with_column(replace(column, inherited=False)))


# What depends on the column


def _drop_dependents(tally: Tally, table: Relation, name: str, *, cascade: bool) -> None:
    """Drop what CASCADE drops; without it nothing must depend on the column.

    Raises:
        Refused: something does.
    """
    views = [view for view, columns in table.dependents.items() if name in columns]
    keys = [
        (other, constraint)
        for other, constraint in tally.world.referencing(table.name)
        if name in constraint.referenced_columns and other.name != table.name
    ]
    generated = [
        column
        for column, columns in table.generated_from.items()
        if name in columns and column != name
    ]
    others = [what for what, columns in table.other_dependents.items() if name in columns]
    depends = bool(views or keys or others or (generated and tally.world.version >= 15))
    if depends and not cascade:
        tally.refuse(
            f"cannot drop column {name} of table {table.name.name} because other objects depend"
            " on it",
            "2BP01",
        )
    if not table.complete:
        tally.assume(f"no other object depends on {name}")
        tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE
    for view in views:
        found = tally.world.find(view)
        if found is not None:
            drop_with_dependents(found, tally)
    for other, constraint in keys:
        tally.lock(other, LockMode.ACCESS_EXCLUSIVE)
        _without_constraint(tally, other.name, constraint.name)
    for column in generated:
        _without(tally, tally.world.relations[table.name], column)


def _without_constraint(tally: Tally, table: QualifiedName, name: str) -> None:
    relation = tally.world.relations[table]
    left = {key: value for key, value in relation.constraints.items() if key != name}
    tally.world.put(replace(relation, constraints=left))


# What goes with the column


def _without(tally: Tally, table: Relation, name: str) -> None:
    """Take the column out of a table, with its indexes, constraints and sequence."""
    world, column = tally.world, table.columns.get(name)
    table = world.relations[table.name]
    for constraint in _constraints_with(table, name):
        if constraint.type == "f" and constraint.referenced is not None:
            tally.lock(constraint.referenced, LockMode.ACCESS_EXCLUSIVE)
    for index in [index for index in table.indexes.values() if name in index.uses]:
        table = world.remove_index(table, index.name)
    gone = {constraint.name for constraint in _constraints_with(table, name)}
    if column is not None and column.sequence is not None:
        tally.lock(column.sequence, LockMode.ACCESS_EXCLUSIVE)
        world.remove(column.sequence)
    world.put(
        replace(
            table,
            columns={key: value for key, value in table.columns.items() if key != name},
            constraints={k: v for k, v in table.constraints.items() if k not in gone},
            generated_from={k: v for k, v in table.generated_from.items() if k != name},
            extended_statistics={
                k: v for k, v in table.extended_statistics.items() if name not in v
            },
            other_dependents={k: v for k, v in table.other_dependents.items() if name not in v},
        )
    )


def _constraints_with(table: Relation, column: str) -> Iterator[Constraint]:
    return (each for each in table.constraints.values() if column in each.columns)


SUBCOMMANDS: dict[str, Subcommand] = {"AT_DropColumn": drop_column}
