"""Constraints: added without a scan, validated without a lock, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.postgres.conditions import (
    check_constraint_done,
    constraint_exists,
    done_when,
    foreign_key_done,
    unique_constraint_done,
)
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement, Wait


@Operations.register_operation("create_foreign_key_not_valid")
@dataclass(eq=False)
class CreateForeignKeyNotValidOp(SafeOperation):
    """`ADD CONSTRAINT ... FOREIGN KEY ... NOT VALID`."""

    operation_name: ClassVar[str] = "create_foreign_key_not_valid"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"local_cols", "remote_cols"})

    constraint_name: str
    source_table: str
    referent_table: str
    local_cols: Sequence[str]
    remote_cols: Sequence[str]
    options: str = ""
    source_schema: str | None = None
    referent_schema: str | None = None

    @classmethod
    def create_foreign_key_not_valid(
        cls,
        operations: Operations,
        constraint_name: str,
        source_table: str,
        referent_table: str,
        local_cols: Sequence[str],
        remote_cols: Sequence[str],
        *,
        options: str = "",
        source_schema: str | None = None,
        referent_schema: str | None = None,
    ) -> None:
        """Add a foreign key that is enforced for new rows and not yet checked for old ones.

        Takes SHARE ROW EXCLUSIVE on both tables for an instant (measured on PostgreSQL 11 to 18):
        on the referenced one first, as a transaction does that writes a row and then others that
        refer to it, or deletes one with all that refer to it. The server by itself would take the
        referencing one first and then deadlock with those. The key checks of other foreign keys
        do not conflict with this mode.

        Args:
            constraint_name: its name.
            source_table: the referencing table.
            referent_table: the referenced table.
            local_cols: the referencing columns.
            remote_cols: the referenced columns.
            options: SQL behind the columns, for example `ON DELETE CASCADE DEFERRABLE`.
            source_schema: the referencing table's schema.
            referent_schema: the referenced table's schema.

        Raises:
            ObjectDiffers: another constraint of this name is there.

        Source: PostgreSQL documentation, ALTER TABLE, ADD table_constraint [ NOT VALID ].
        """
        operations.invoke(
            cls(
                constraint_name,
                source_table,
                referent_table,
                local_cols,
                remote_cols,
                options,
                source_schema,
                referent_schema,
            )
        )

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.source_table, self.source_schema)
        referenced = QualifiedName(self.referent_table, self.referent_schema)
        options = f" {self.options}" if self.options else ""
        return [
            Statement(
                sql=(
                    f"ALTER TABLE {table.sql} ADD CONSTRAINT {quote(self.constraint_name)}"
                    f" FOREIGN KEY ({_columns(self.local_cols)})"
                    f" REFERENCES {referenced.sql} ({_columns(self.remote_cols)})"
                    f"{options} NOT VALID",
                ),
                table=table,
                lock=LockMode.SHARE_ROW_EXCLUSIVE,
                done=foreign_key_done(
                    table,
                    self.constraint_name,
                    self.local_cols,
                    referenced,
                    self.remote_cols,
                    self.options,
                ),
                object_name=f"foreign key {self.constraint_name}",
                lock_first=(referenced, table) if referenced != table else (),
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropConstraintIfExistsOp(
            self.constraint_name, self.source_table, schema=self.source_schema, restore=self
        )


@Operations.register_operation("create_check_constraint_not_valid")
@dataclass(eq=False)
class CreateCheckConstraintNotValidOp(SafeOperation):
    """`ADD CONSTRAINT ... CHECK (...) NOT VALID`."""

    operation_name: ClassVar[str] = "create_check_constraint_not_valid"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"condition"})

    constraint_name: str
    table_name: str
    condition: str
    schema: str | None = None

    @classmethod
    def create_check_constraint_not_valid(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        condition: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Add a CHECK that is enforced for new rows and not yet checked for old ones.

        Takes ACCESS EXCLUSIVE for an instant.

        Args:
            constraint_name: its name.
            table_name: the table.
            condition: the SQL condition.
            schema: the table's schema.

        Raises:
            ObjectDiffers: another constraint of this name is there.

        Source: PostgreSQL documentation, ALTER TABLE, ADD table_constraint [ NOT VALID ].
        """
        operations.invoke(cls(constraint_name, table_name, condition, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        return [
            Statement(
                sql=(
                    f"ALTER TABLE {table.sql} ADD CONSTRAINT {quote(self.constraint_name)}"
                    f" CHECK ({self.condition}) NOT VALID",
                ),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=check_constraint_done(table, self.constraint_name, self.condition),
                object_name=f"check constraint {self.constraint_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropConstraintIfExistsOp(
            self.constraint_name, self.table_name, schema=self.schema, restore=self
        )


@Operations.register_operation("validate_constraint")
@dataclass(eq=False)
class ValidateConstraintOp(SafeOperation):
    """`VALIDATE CONSTRAINT`."""

    operation_name: ClassVar[str] = "validate_constraint"

    constraint_name: str
    table_name: str
    schema: str | None = None

    @classmethod
    def validate_constraint(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Check all rows against a constraint that was added NOT VALID.

        Takes SHARE UPDATE EXCLUSIVE, and ROW SHARE on the referenced table: rows are read and
        written meanwhile. It must not share a transaction with the statement that added the
        constraint, whose lock it would keep while it scans (measured).

        Args:
            constraint_name: the constraint; a valid one counts as done.
            table_name: its table.
            schema: the table's schema.

        Raises:
            StatementFailed: a row violates the constraint.

        Source: PostgreSQL documentation, ALTER TABLE, VALIDATE CONSTRAINT.
        """
        operations.invoke(cls(constraint_name, table_name, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        return [
            Statement(
                sql=(f"ALTER TABLE {table.sql} VALIDATE CONSTRAINT {quote(self.constraint_name)}",),
                table=table,
                lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
                wait=Wait.UNBOUNDED,
                done=done_when(constraint_exists(table, self.constraint_name, validated=True)),
                object_name=f"constraint {self.constraint_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        """Return the operation itself: to validate takes nothing away, so nothing comes back."""
        return self


@Operations.register_operation("drop_constraint_if_exists")
@dataclass(eq=False)
class DropConstraintIfExistsOp(SafeOperation):
    """`DROP CONSTRAINT IF EXISTS`."""

    operation_name: ClassVar[str] = "drop_constraint_if_exists"

    constraint_name: str
    table_name: str
    schema: str | None = None
    restore: MigrateOperation | None = None

    @classmethod
    def drop_constraint_if_exists(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Drop a constraint.

        Takes ACCESS EXCLUSIVE for an instant, for a foreign key then on the referenced table as
        well (measured on PostgreSQL 11 to 18): in the order of an INSERT, whose key check comes
        last and would conflict with this mode.

        Args:
            constraint_name: the constraint; one that is not there counts as done.
            table_name: its table.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE, DROP CONSTRAINT.
        """
        operations.invoke(cls(constraint_name, table_name, schema))

    def call_arguments(self) -> tuple[list[str], dict[str, str]]:
        keywords = {"schema": self.schema} if self.schema is not None else {}
        return [self.constraint_name, self.table_name], keywords

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        return [
            Statement(
                sql=(
                    f"ALTER TABLE {table.sql}"
                    f" DROP CONSTRAINT IF EXISTS {quote(self.constraint_name)}",
                ),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=done_when(f"NOT {constraint_exists(table, self.constraint_name)}"),
                object_name=f"constraint {self.constraint_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        if self.restore is None:
            raise ValueError(f"what constraint {self.constraint_name} was is not known")
        return self.restore


@Operations.register_operation("add_unique_constraint_using_index")
@dataclass(eq=False)
class AddUniqueConstraintUsingIndexOp(SafeOperation):
    """`ADD CONSTRAINT ... UNIQUE USING INDEX`."""

    operation_name: ClassVar[str] = "add_unique_constraint_using_index"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"index_name"})

    constraint_name: str
    table_name: str
    index_name: str
    options: str = ""
    schema: str | None = None

    @classmethod
    def add_unique_constraint_using_index(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        index_name: str,
        *,
        options: str = "",
        schema: str | None = None,
    ) -> None:
        """Make a unique constraint of a unique index, which takes the constraint's name.

        Takes ACCESS EXCLUSIVE for an instant and scans nothing (measured on PostgreSQL 11 to 18).

        Args:
            constraint_name: the constraint.
            table_name: its table.
            index_name: a valid unique index on plain columns.
            options: SQL behind it: `DEFERRABLE`, `INITIALLY DEFERRED`.
            schema: the table's schema.

        Raises:
            ObjectDiffers: another constraint of this name is there.

        Source: PostgreSQL documentation, ALTER TABLE, ADD table_constraint_using_index.
        """
        operations.invoke(cls(constraint_name, table_name, index_name, options, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        options = f" {self.options}" if self.options else ""
        return [
            Statement(
                sql=(
                    f"ALTER TABLE {table.sql} ADD CONSTRAINT {quote(self.constraint_name)}"
                    f" UNIQUE USING INDEX {quote(self.index_name)}{options}",
                ),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=unique_constraint_done(table, self.constraint_name, self.index_name),
                object_name=f"unique constraint {self.constraint_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropConstraintIfExistsOp(
            self.constraint_name, self.table_name, schema=self.schema, restore=self
        )


@Operations.register_operation("rename_constraint")
@dataclass(eq=False)
class RenameConstraintOp(SafeOperation):
    """`ALTER TABLE ... RENAME CONSTRAINT`."""

    operation_name: ClassVar[str] = "rename_constraint"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"table_name"})

    old_name: str
    new_name: str
    table_name: str
    schema: str | None = None

    @classmethod
    def rename_constraint(
        cls,
        operations: Operations,
        old_name: str,
        new_name: str,
        table_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Rename a constraint.

        Takes ACCESS EXCLUSIVE for an instant. Done where the table has a constraint of the new
        name: what has the old one was made after the rename, and before a crash.

        Args:
            old_name: its name now.
            new_name: its name afterwards.
            table_name: its table.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE, RENAME.
        """
        operations.invoke(cls(old_name, new_name, table_name, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        return [
            Statement(
                sql=(
                    f"ALTER TABLE {table.sql} RENAME CONSTRAINT {quote(self.old_name)}"
                    f" TO {quote(self.new_name)}",
                ),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=done_when(constraint_exists(table, self.new_name)),
                object_name=f"constraint {self.old_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return RenameConstraintOp(self.new_name, self.old_name, self.table_name, self.schema)


def _columns(names: Sequence[str]) -> str:
    return ", ".join(quote(name) for name in names)
