"""Columns in contract revisions: dropped, brought back, and their server default changed.

Each can be run again after a crash; a plain `op.drop_column` could not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.postgres.conditions import column_done, column_exists, done_when
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement


@Operations.register_operation("add_column_if_not_exists")
@dataclass(eq=False)
class AddColumnIfNotExistsOp(SafeOperation):
    """`ALTER TABLE ... ADD COLUMN` of a nullable column."""

    operation_name: ClassVar[str] = "add_column_if_not_exists"

    table_name: str
    column_name: str
    type_sql: str
    server_default: str | None = None
    schema: str | None = None
    details: Sequence[str] = ()

    @classmethod
    def add_column_if_not_exists(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_sql: str,
        *,
        server_default: str | None = None,
        schema: str | None = None,
        details: Sequence[str] = (),
    ) -> None:
        """Add a nullable column where it is missing.

        Takes ACCESS EXCLUSIVE for an instant. The default is set in a statement of its own, so
        that the table is never rewritten; rows that are there keep NULL.

        Args:
            table_name: the table.
            column_name: the column.
            type_sql: its type as PostgreSQL writes it, with a collation if it has one.
            server_default: SQL of the default for rows to come.
            schema: the table's schema.
            details: SQL statements for what else the column has, such as its comment or grants;
                they run in the same transaction, so that it is never seen without them.

        Raises:
            ObjectDiffers: a column of this name and another type is there.

        Source: PostgreSQL documentation, ALTER TABLE, Notes; measured on PostgreSQL 11 to 18.
        """
        operations.invoke(cls(table_name, column_name, type_sql, server_default, schema, details))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        column = quote(self.column_name)
        sql = [f"ALTER TABLE {table.sql} ADD COLUMN IF NOT EXISTS {column} {self.type_sql}"]
        if self.server_default is not None:
            sql.append(
                f"ALTER TABLE {table.sql} ALTER COLUMN {column} SET DEFAULT {self.server_default}"
            )
        return [
            Statement(
                sql=(*sql, *self.details),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=column_done(table, self.column_name, self.type_sql),
                object_name=f"column {self.column_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropColumnIfExistsOp(
            self.table_name,
            self.column_name,
            self.type_sql,
            self.server_default,
            self.schema,
            self.details,
        )


@Operations.register_operation("drop_column_if_exists")
@dataclass(eq=False)
class DropColumnIfExistsOp(SafeOperation):
    """`ALTER TABLE ... DROP COLUMN IF EXISTS`."""

    operation_name: ClassVar[str] = "drop_column_if_exists"

    table_name: str
    column_name: str
    type_sql: str = ""
    server_default: str | None = None
    schema: str | None = None
    details: Sequence[str] = ()

    @classmethod
    def drop_column_if_exists(
        cls, operations: Operations, table_name: str, column_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a column and its data.

        Takes ACCESS EXCLUSIVE for an instant, on the partner table too if a foreign key hangs on
        the column (measured on PostgreSQL 11 to 18).

        Args:
            table_name: the table.
            column_name: the column; one that is not there counts as done.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE, Notes.
        """
        operations.invoke(cls(table_name, column_name, schema=schema))

    def call_arguments(self) -> tuple[list[str], dict[str, str]]:
        keywords = {"schema": self.schema} if self.schema is not None else {}
        return [self.table_name, self.column_name], keywords

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        return [
            Statement(
                sql=(f"ALTER TABLE {table.sql} DROP COLUMN IF EXISTS {quote(self.column_name)}",),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                # Without this a second run would take the lock for nothing.
                done=done_when(f"NOT {column_exists(table, self.column_name)}"),
                object_name=f"column {self.column_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return AddColumnIfNotExistsOp(
            self.table_name,
            self.column_name,
            self.type_sql,
            self.server_default,
            self.schema,
            self.details,
        )


@Operations.register_operation("set_server_default")
@dataclass(eq=False)
class SetServerDefaultOp(SafeOperation):
    """`ALTER COLUMN ... SET DEFAULT` or `DROP DEFAULT`."""

    operation_name: ClassVar[str] = "set_server_default"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"server_default"})

    table_name: str
    column_name: str
    server_default: str | None
    existing_server_default: str | None = None
    schema: str | None = None

    @classmethod
    def set_server_default(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        server_default: str | None,
        *,
        existing_server_default: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Set or drop a column's server default.

        Takes ACCESS EXCLUSIVE for an instant.

        Args:
            table_name: the table.
            column_name: the column.
            server_default: SQL of the default, or None for no default.
            existing_server_default: SQL of the default before, for the way back.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE.
        """
        operations.invoke(
            cls(table_name, column_name, server_default, existing_server_default, schema)
        )

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        action = (
            "DROP DEFAULT" if self.server_default is None else f"SET DEFAULT {self.server_default}"
        )
        return [
            Statement(
                sql=(f"ALTER TABLE {table.sql} ALTER COLUMN {quote(self.column_name)} {action}",),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                object_name=f"the default of column {self.column_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return SetServerDefaultOp(
            self.table_name,
            self.column_name,
            self.existing_server_default,
            self.server_default,
            self.schema,
        )
