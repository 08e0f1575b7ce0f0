"""Backfill: fill a column of the rows that are there, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.postgres.identifiers import QualifiedName, quote

BACKFILL_TABLE = "alembic_safe_backfill"
"""Where the positions of unfinished backfills are, in the schema of the version table."""


@Operations.register_operation("backfill")
@dataclass(eq=False)
class BackfillOp(SafeOperation):
    """`UPDATE` of a whole table in short transactions."""

    operation_name: ClassVar[str] = "backfill"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"values", "where"})

    table_name: str
    values: Mapping[str, str]
    where: str
    until_none_left: bool = True
    schema: str | None = None

    @classmethod
    def backfill(
        cls,
        operations: Operations,
        table_name: str,
        values: Mapping[str, str],
        *,
        where: str,
        until_none_left: bool = True,
        schema: str | None = None,
    ) -> None:
        """Set columns of all rows that need it, in batches that commit one by one.

        The position is stored with each batch, so that a run that was killed goes on where it
        stopped. Row locks are held for one batch. Runs outside the revision's transaction.

        Args:
            table_name: the table; partitions are filled one after the other.
            values: for each column the SQL expression of its value.
            where: SQL condition of the rows that still need it; it has to be false for a row
                that was filled.
            until_none_left: whether to go on until no row needs it. False where a running release
                still writes such rows: then those that are there at the start are filled.
            schema: the table's schema.

        Raises:
            VerificationFailed: rows are left after several passes.
            LockNotAcquired: a row stayed locked by others until the deadline.

        Source: PostgreSQL documentation, 13.2.1 Read Committed Isolation Level: an UPDATE that
        waited for a row checks its condition again on the row's new version.
        """
        operations.invoke(cls(table_name, values, where, until_none_left, schema))

    @property
    def table(self) -> QualifiedName:
        """The table to fill."""
        return QualifiedName(self.table_name, self.schema)

    @property
    def assignments(self) -> str:
        """The `SET` list."""
        return ", ".join(f"{quote(column)} = {value}" for column, value in self.values.items())

    def reverse(self) -> MigrateOperation:
        """Return the operation itself: values that were filled in are never taken out."""
        return self
