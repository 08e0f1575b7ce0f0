"""Names that the server chooses for indexes, constraints and sequences that were given none."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable

from alembic_safe.postgres.effects.world import Relation, World
from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName


def index_name(
    world: World,
    table: QualifiedName,
    columns: Iterable[str | None],
    label: str = "idx",
) -> str:
    """Return the name of an index, or of the constraint that owns one (`ChooseIndexName`).

    Args:
        world: where the name must not be taken.
        table: the index's table.
        columns: the key columns; None stands for an expression.
        label: `idx`, `pkey`, `key` of a unique constraint, `excl`.
    """
    addition = None if label == "pkey" else _addition(columns)
    return _free(table.name, addition, label, _Relations(world, table))


def sequence_name(world: World, table: QualifiedName, column: str) -> str:
    """Return the name of the sequence of a `serial` or identity column."""
    return _free(table.name, column, "seq", _Relations(world, table))


def constraint_name(table: Relation, columns: Iterable[str], label: str) -> str:
    """Return the name of a constraint without an index (`ChooseConstraintName`).

    The server looks for the name in the whole schema; here only the table's own constraints count,
    as names that it chooses begin with that of the table.

    Args:
        table: with the constraints that it has so far.
        columns: empty where the name has none.
        label: `check`, `fkey`, `not_null`.
    """
    return _free(table.name.name, _addition(columns) or None, label, table.constraints)


class _Relations:
    """The names of relations and indexes in the schema of a table."""

    def __init__(self, world: World, table: QualifiedName) -> None:
        self._world, self._table = world, table

    def __contains__(self, name: object) -> bool:
        qualified = self._table.sibling(str(name))
        return qualified in self._world.relations or qualified in self._world.index_tables


def _addition(columns: Iterable[str | None]) -> str:
    """Return the names joined as the server does (`ChooseIndexNameAddition`)."""
    joined = "_".join("expr" if column is None else column for column in columns)
    return _clipped(joined, MAX_IDENTIFIER_BYTES)


def _free(first: str, second: str | None, label: str, taken: Container[object]) -> str:
    for number in itertools.count():
        name = _composed(first, second, f"{label}{number}" if number else label)
        if name not in taken:
            return name
    raise AssertionError("numbers do not end")


def _composed(first: str, second: str | None, label: str) -> str:
    """Return the parts with `_` between, the longer one cut where it is too long
    (`makeObjectName`)."""
    room = MAX_IDENTIFIER_BYTES - len(label) - 1 - (second is not None)
    a, b = len(first.encode()), len((second or "").encode())
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    parts = [_clipped(first, a), *([_clipped(second, b)] if second is not None else []), label]
    return "_".join(parts)


def _clipped(name: str, length: int) -> str:
    encoded = name.encode()
    return name if len(encoded) <= length else encoded[:length].decode(errors="ignore")
