"""What a unique constraint or index refuses, and how two of them compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_safe.postgres.catalog import ConstraintInfo
from alembic_safe.postgres.identifiers import QualifiedName

_OTHER_KINDS = ("postgresql_where", "postgresql_ops", "postgresql_using")
"""Options of an index that refuses other rows than a constraint of its columns."""


def unique_name(table: QualifiedName, columns: Iterable[str]) -> str:
    """Return the name, among those that steps touch and need, of some columns being unique: a step
    that makes them so touches it, and a foreign key that refers to them needs it."""
    return f"unique {table}({', '.join(sorted(columns))})"


@dataclass(frozen=True)
class Uniqueness:
    """What a unique constraint or a unique index says.

    Args:
        columns: the columns that have to be unique together, in the order of the index.
        include: further columns in the index.
        nulls_not_distinct: whether NULLs are duplicates too (15).
        deferrable: whether the check can be put off to the end of the transaction.
        initially_deferred: whether it is put off without being told.
    """

    columns: tuple[str, ...]
    include: frozenset[str] = frozenset()
    nulls_not_distinct: bool = False
    deferrable: bool = False
    initially_deferred: bool = False

    @classmethod
    def of_constraint(cls, constraint: ConstraintInfo) -> Uniqueness:
        """Return what a unique constraint of the database says."""
        return cls(
            constraint.key_columns,
            constraint.columns.difference(constraint.key_columns),
            constraint.definition.startswith("UNIQUE NULLS NOT DISTINCT"),
            constraint.deferrable,
            constraint.initially_deferred,
        )

    @classmethod
    def of_operation(
        cls, operation: ops.CreateUniqueConstraintOp | ops.CreateIndexOp
    ) -> Uniqueness | None:
        """Return what a constraint or an index of the models says; None for an index that is not
        unique or not on plain columns of all rows."""
        if isinstance(operation, ops.CreateUniqueConstraintOp):
            columns = [str(getattr(column, "name", column)) for column in operation.columns]
            return cls(tuple(columns), *_options(operation.kw))
        is_plain = _is_on_columns(operation) and not any(
            isinstance(operation.kw.get(name), sa.ClauseElement) or operation.kw.get(name)
            for name in _OTHER_KINDS
        )
        if not operation.unique or not is_plain:
            return None
        columns = [column.name for column in operation.to_index().columns]
        return cls(tuple(columns), *_options(operation.kw))

    def refuses_all_of(self, other: Uniqueness) -> bool:
        """Return whether it refuses whatever `other` refuses, and as early."""
        return (
            set(self.columns) <= set(other.columns)
            and self.nulls_not_distinct >= other.nulls_not_distinct
            and self.deferrable <= other.deferrable
            and self.initially_deferred <= other.initially_deferred
        )


def ignores_null(operation: ops.CreateUniqueConstraintOp | ops.CreateIndexOp) -> bool:
    """Return whether rows with NULL in the columns are no duplicates of each other. In an
    expression anything may become of NULL."""
    if operation.kw.get("postgresql_nulls_not_distinct"):
        return False
    return isinstance(operation, ops.CreateUniqueConstraintOp) or _is_on_columns(operation)


def _is_on_columns(operation: ops.CreateIndexOp) -> bool:
    return all(isinstance(part, sa.Column) for part in operation.to_index().expressions)


def _options(arguments: Mapping[str, Any]) -> tuple[frozenset[str], bool, bool, bool]:
    include = arguments.get("postgresql_include") or ()
    is_deferred = str(arguments.get("initially") or "").upper() == "DEFERRED"
    return (
        frozenset(str(getattr(column, "name", column)) for column in include),
        bool(arguments.get("postgresql_nulls_not_distinct")),
        bool(arguments.get("deferrable")) or is_deferred,
        is_deferred,
    )
