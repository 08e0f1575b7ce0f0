"""A release of an application by its models, and which columns of two releases are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, MetaData, Table, UniqueConstraint

from alembic_safe.rehearsal.values import Source, plain_type, source_of


@dataclass(frozen=True)
class Release:
    """One release of an application.

    Args:
        name: how reports call it.
        metadata: its models.
        values: by "table.column", what makes the values of a column for which its type does not
            say enough (a check constraint, an unusual type).
    """

    name: str
    metadata: MetaData
    values: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A foreign key, in the column names of one release."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """How a release uses one of its tables.

    Args:
        table: the release's own model.
        key: the columns of the primary key, empty if there is none.
        sources: what makes a value, for each column that the client writes.
        nullable: the columns in which the client writes NULL at times.
        may_be_filled: the columns in which the migration may turn NULL into a value.
        references: the foreign keys of both releases.
        collides: whether a generated row may violate a unique constraint.
    """

    table: Table
    key: tuple[str, ...]
    sources: Mapping[str, Source]
    nullable: frozenset[str]
    may_be_filled: frozenset[str]
    references: tuple[Reference, ...]
    collides: bool

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that an UPDATE may set."""
        referencing = (name for reference in self.references for name in reference.columns)
        names = dict.fromkeys([*self.sources, *referencing])
        return tuple(name for name in names if name not in self.key)


def parents_first(usages: Iterable[Usage]) -> list[Usage]:
    """Return `usages` so that a table comes after those that it refers to.

    The models' own order would not do: the other release may know more foreign keys.
    """
    waiting = {usage.table.key: usage for usage in usages}
    ordered: list[Usage] = []

    def place(name: str) -> None:
        usage = waiting.pop(name, None)
        if usage is not None:
            for reference in usage.references:
                place(reference.parent)
            ordered.append(usage)

    for name in [*waiting]:
        place(name)
    return ordered


class Pairing:
    """Which columns of two releases are the same.

    Args:
        one, other: the releases.
        same: by table, the columns of `one` that `other` calls differently: {old: new}.
    """

    def __init__(self, one: Release, other: Release, same: Mapping[str, Mapping[str, str]]) -> None:
        self._one = one
        self._other = other
        self._same = same

    def reversed(self) -> Pairing:
        """Return the pairing seen from the other release."""
        turned = {
            table: {new: old for old, new in names.items()} for table, names in self._same.items()
        }
        return Pairing(self._other, self._one, turned)

    def columns(self, table: str) -> dict[str, str]:
        """Return {column of one release: the same column of the other} of a table."""
        one, other = self._one.metadata.tables.get(table), self._other.metadata.tables.get(table)
        if one is None or other is None:
            return {}
        renamed = self._same.get(table, {})
        theirs = {column.name for column in other.columns}
        taken = set(renamed.values())
        pairs = {}
        for column in one.columns:
            name = renamed.get(column.name, column.name)
            if name in theirs and (column.name in renamed or name not in taken):
                pairs[column.name] = name
        return pairs

    def usage(self, table: str) -> Usage:
        """Return how the first release uses `table`, with regard to the second: its foreign keys
        are kept too, and values fit the narrower of two types."""
        model = self._one.metadata.tables[table]
        partner = self._other.metadata.tables.get(table)
        pairs = self.columns(table)
        references = self._references(table)
        referencing = {name for reference in references for name in reference.columns}
        unique = _unique_columns(model)
        sources: dict[str, Source] = {}
        nullable, may_be_filled = set(), set()
        for column in model.columns:
            twin = None
            if partner is not None and column.name in pairs:
                twin = column_named(partner, pairs[column.name])
            if column.nullable and twin is not None and not twin.nullable:
                may_be_filled.add(column.name)
            if column.nullable and column.default is None and column.server_default is None:
                nullable.add(column.name)
            if column.name in referencing or _server_writes(column):
                continue
            source = self._one.values.get(f"{table}.{column.name}")
            if source is None:
                source = source_of(column, twin, unique=column.name in unique)
            if source is not None:
                sources[column.name] = source
        return Usage(
            model,
            tuple(column.name for column in model.primary_key.columns),
            sources,
            frozenset(nullable),
            frozenset(may_be_filled),
            references,
            bool(unique & referencing) or any(_few_values(model, name) for name in unique),
        )

    def _references(self, table: str) -> tuple[Reference, ...]:
        found = dict.fromkeys(_references_of(self._one.metadata.tables[table]))
        partner = self._other.metadata.tables.get(table)
        # A key that only the other release knows binds this one too: the migration that adds it
        # would fail on rows that this release writes.
        for reference in _references_of(partner) if partner is not None else ():
            here = {theirs: ours for ours, theirs in self.columns(table).items()}
            there = {theirs: ours for ours, theirs in self.columns(reference.parent).items()}
            if set(reference.columns) <= set(here) and set(reference.parent_columns) <= set(there):
                turned = Reference(
                    tuple(here[name] for name in reference.columns),
                    reference.parent,
                    tuple(there[name] for name in reference.parent_columns),
                )
                found.setdefault(turned)
        # A column of two keys cannot follow two parents that are picked independently.
        chosen: list[Reference] = []
        for reference in found:
            if not any(set(reference.columns) & set(other.columns) for other in chosen):
                chosen.append(reference)
        return tuple(chosen)


def column_named(table: Table, name: str) -> Column[Any]:
    # Table.columns goes by key, which the model may have set to something else than the name.
    return next(column for column in table.columns if column.name == name)


def _references_of(table: Table) -> Iterable[Reference]:
    # In the order of their columns: the constraints of a table are a set.
    constraints = sorted(table.foreign_key_constraints, key=lambda key: tuple(key.column_keys))
    for constraint in constraints:
        yield Reference(
            tuple(element.parent.name for element in constraint.elements),
            constraint.referred_table.key,
            tuple(element.column.name for element in constraint.elements),
        )


def _unique_columns(table: Table) -> frozenset[str]:
    names = {column.name for column in table.columns if column.unique}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            names |= {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            names |= {column.name for column in index.columns}
    return frozenset(names | {column.name for column in table.primary_key.columns})


def _few_values(table: Table, name: str) -> bool:
    column = column_named(table, name)
    if _server_writes(column):
        return False
    many = (sa.String, sa.Integer, sa.Uuid, sa.DateTime)
    return not isinstance(plain_type(column.type), many) or isinstance(column.type, sa.SmallInteger)


def _server_writes(column: Column[Any]) -> bool:
    """Return whether the application leaves the column to the server."""
    if column.computed is not None or column.identity is not None:
        return True
    return column.primary_key and (
        column.server_default is not None or column is column.table.autoincrement_column
    )


def changes_itself(column: Column[Any]) -> bool:
    return (
        column.onupdate is not None
        or column.server_onupdate is not None
        or column.computed is not None
    )
