"""Names that the server chooses for indexes, constraints and sequences that were given none."""

from __future__ import annotations

from collections.abc import Container, Iterable

from alembic_safe.postgres.chosen_names import joined_columns, numbered_names
from alembic_safe.postgres.effects.world import Relation, World
from alembic_safe.postgres.identifiers import QualifiedName


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
    addition = None if label == "pkey" else joined_columns(columns)
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
    return _free(table.name.name, joined_columns(columns) or None, label, table.constraints)


class _Relations:
    """The names of relations and indexes in the schema of a table."""

    def __init__(self, world: World, table: QualifiedName) -> None:
        self._world, self._table = world, table

    def __contains__(self, name: object) -> bool:
        qualified = self._table.sibling(str(name))
        return qualified in self._world.relations or qualified in self._world.index_tables


def _free(first: str, second: str | None, label: str, taken: Container[object]) -> str:
    return next(name for name in numbered_names(first, second, label) if name not in taken)
