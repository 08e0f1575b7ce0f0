"""What the queries of `from_catalog` gave, and the `World` that it describes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from alembic_safe.postgres.effects.modifiers import type_name
from alembic_safe.postgres.effects.proofs import columns_not_null_where
from alembic_safe.postgres.effects.world import (
    Column,
    Constraint,
    Function,
    Index,
    Relation,
    UserType,
    World,
)
from alembic_safe.postgres.identifiers import QualifiedName

Row = sa.Row[Any]


@dataclass
class CatalogRows:
    """The rows of each query of `world_queries`.

    Args:
        names: relations that the others only mention.
        expressions: None where a table could not be opened at once.
        bodies: of functions with an SQL-standard body; those that could be read.
    """

    session: Row
    relations: Sequence[Row]
    columns: Sequence[Row]
    indexes: Sequence[Row]
    constraints: Sequence[Row]
    dependents: Sequence[Row]
    types: Sequence[Row]
    functions: Sequence[Row]
    names: Sequence[Row] = ()
    expressions: Sequence[Row] | None = None
    bodies: Sequence[Row] = ()

    def unnamed_relations(self) -> set[int]:
        """Return the oids of relations that are mentioned and were not read themselves."""
        mentioned = {oid for row in self.relations for oid in (*row.parents, *row.children)}
        mentioned |= {row.sequence for row in self.columns}
        mentioned |= {row.parent for row in self.indexes}
        mentioned |= {row.referenced for row in self.constraints}
        mentioned |= {row.oid for row in self.dependents}
        return mentioned - {row.oid for row in self.relations} - {None}

    def free_relations(self) -> list[int]:
        """Return the oids of relations that can be opened without waiting."""
        kept = set(self.session.kept_by_others)
        return [row.oid for row in self.relations if row.oid not in kept]

    def world(self) -> World:
        """Return the world that the rows describe."""
        world = World(version=self.session.version, complete=True)
        world.settings = {
            "search_path": self.session.search_path or "",
            "timezone": self.session.timezone,
            "lock_timeout": self.session.lock_timeout,
            "statement_timeout": self.session.statement_timeout,
        }
        bodies = {row.oid: row.body for row in self.bodies}
        names = {row.oid: QualifiedName(row.name, row.schema) for row in self.relations}
        for function in self.functions:
            world.put_function(_function(function, bodies.get(function.oid), names))
        for type_ in self.types:
            world.put_type(_type(type_))
        for relation in _Relations(self).all(world.batch):
            world.put(relation)
        world.journal.clear()
        return world


class _Relations:
    """Puts relations together from the rows about them."""

    def __init__(self, rows: CatalogRows) -> None:
        self._rows = rows
        self._names = {
            row.oid: QualifiedName(row.name, row.schema) for row in (*rows.relations, *rows.names)
        }
        self._complete = set(rows.free_relations()) if rows.expressions is not None else set()
        self._expressions = {
            (row.what, row.oid, row.number): row.definition for row in rows.expressions or ()
        }

    def all(self, batch: int) -> Iterable[Relation]:
        """Return every relation that was read; those of this transaction are born in `batch`."""
        columns = _grouped(self._rows.columns)
        indexes = _grouped(self._rows.indexes)
        constraints = _grouped(self._rows.constraints)
        dependents = _grouped(self._rows.dependents)
        for row in self._rows.relations:
            born = batch if row.is_new else 0
            hanging = dependents[row.oid]
            yield Relation(
                self._names[row.oid],
                kind=row.kind,
                complete=row.oid in self._complete,
                columns={c.name: self._column(c, born) for c in columns[row.oid]},
                indexes={i.name: self._index(i, born) for i in indexes[row.oid]},
                constraints={c.name: self._constraint(c, born) for c in constraints[row.oid]},
                parents=self._named(row.parents),
                children=self._named(row.children),
                is_partition=row.is_partition,
                is_default_partition=row.is_default_partition,
                partition_key=tuple(row.partition_key),
                has_key_expressions=row.has_key_expressions,
                bound=self._expressions.get(("bound", row.oid, 0)) or "",
                triggers=frozenset(row.triggers),
                rules=frozenset(row.rules),
                policies=frozenset(row.policies),
                dependents={
                    self._names[d.oid]: frozenset(d.columns)
                    for d in hanging
                    if d.kind == "view" and d.oid in self._names
                },
                generated_from=_by_name(hanging, "generated"),
                extended_statistics=_by_name(hanging, "statistics"),
                other_dependents=_by_name(hanging, "other"),
                size=self._size(row),
                persistence=row.persistence,
                access_method=row.access_method,
                tablespace=row.tablespace,
                born=born,
            )

    def _named(self, oids: Iterable[int]) -> tuple[QualifiedName, ...]:
        return tuple(self._names[oid] for oid in oids if oid in self._names)

    def _size(self, row: Row) -> int | None:
        if row.kind == "p":
            return 0
        size = self._expressions.get(("size", row.oid, 0))
        return int(size) if size is not None else None

    def _column(self, row: Row, born: int) -> Column:
        return Column(
            row.name,
            type=type_name(row.type_name, row.type_schema, row.type_modifier, row.is_array),
            not_null=row.not_null,
            default=self._expressions.get(("default", row.table_oid, row.number)),
            identity=row.identity,
            generated=row.generated,
            collation=row.collation,
            sequence=self._names.get(row.sequence),
            inherited=row.inherited,
            born=born,
        )

    def _index(self, row: Row, born: int) -> Index:
        return Index(
            row.name,
            columns=tuple(row.columns[: row.key_count]),
            included=tuple(row.columns[row.key_count :]),
            expression_columns=frozenset(row.expression_columns),
            operator_classes=tuple(row.operator_classes),
            collations=tuple(row.collations),
            method=row.method,
            is_unique=row.is_unique,
            is_primary=row.is_primary,
            is_valid=row.is_valid,
            is_partial=row.is_partial,
            nulls_not_distinct=row.nulls_not_distinct,
            constraint=row.constraint_name,
            parent=self._names.get(row.parent),
            born=born,
        )

    def _constraint(self, row: Row, born: int) -> Constraint:
        expression = self._expressions.get(("check", row.oid, 0)) or ""
        return Constraint(
            row.name,
            type=row.type,
            columns=tuple(row.columns),
            proves_not_null=_not_null(row, expression),
            is_validated=row.is_validated,
            is_enforced=row.is_enforced,
            is_deferrable=row.is_deferrable,
            referenced=self._names.get(row.referenced),
            referenced_columns=tuple(row.referenced_columns),
            expression=expression,
            index=row.index_name,
            inherited=row.inherited,
            born=born,
        )


def _function(
    row: Row, parsed_body: str | None, relations: Mapping[int, QualifiedName]
) -> Function:
    triggers = list(zip(row.trigger_relations, row.trigger_names, strict=True))
    known = [(relations[oid], name) for oid, name in triggers if oid in relations]
    return Function(
        QualifiedName(row.name, row.schema),
        volatility=row.volatility,
        language=row.language,
        body="" if row.is_overloaded else parsed_body or row.body,
        arguments=tuple(name for name in row.arguments if name),
        argument_types=tuple(row.argument_types),
        returns="" if row.is_overloaded else row.returns,
        is_used=row.is_used or len(known) < len(triggers),
        triggers=frozenset(known),
        can_be_inlined=row.can_be_inlined and not row.is_overloaded,
    )


def _type(row: Row) -> UserType:
    base = None
    if row.base_name is not None:
        base = type_name(row.base_name, row.base_schema, row.base_modifier, row.base_is_array)
    # Labels of a type that is itself new can be used at once.
    is_new = len(row.new_labels) == len(row.labels)
    return UserType(
        QualifiedName(row.name, row.schema),
        kind=row.kind,
        base=base,
        has_constraints=row.has_constraints,
        has_default=row.default_ is not None and not row.default_.upper().startswith("NULL"),
        default=row.default_,
        labels=tuple(row.labels),
        new_labels=frozenset() if is_new else frozenset(row.new_labels),
        constraints={
            **dict.fromkeys(row.validated, True),
            **dict.fromkeys(row.not_validated, False),
        },
    )


def _grouped(rows: Iterable[Row]) -> Mapping[int, Sequence[Row]]:
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.table_oid].append(row)
    return groups


def _by_name(rows: Iterable[Row], kind: str) -> dict[str, frozenset[str]]:
    return {row.name: frozenset(row.columns) for row in rows if row.kind == kind}


def _not_null(row: Row, expression: str) -> frozenset[str]:
    if row.type in "np":
        return frozenset(row.columns)
    return columns_not_null_where(expression) if expression else frozenset()
