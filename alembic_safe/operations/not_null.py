"""NOT NULL: proven while rows are read and written, then set without a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.postgres.conditions import (
    column_has_not_null_constraint,
    column_is_not_null,
    constraint_exists,
    done_when,
)
from alembic_safe.postgres.identifiers import (
    MAX_IDENTIFIER_BYTES,
    QualifiedName,
    derived_name,
    quote,
)
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Done, Statement, Wait

NATIVE_NOT_NULL_VERSION = 18
"""The first version with `ADD CONSTRAINT ... NOT NULL ... NOT VALID`."""


@Operations.register_operation("set_not_null")
@dataclass(eq=False)
class SetNotNullOp(SafeOperation):
    """NOT NULL without a scan under a lock that blocks."""

    operation_name: ClassVar[str] = "set_not_null"

    table_name: str
    column_name: str
    schema: str | None = None

    @classmethod
    def set_not_null(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Make a column NOT NULL.

        On PostgreSQL 18 a NOT NULL constraint is added NOT VALID and validated. Before, a CHECK
        is added NOT VALID and validated, SET NOT NULL relies on it, and the CHECK is dropped,
        each in a transaction of its own. The locks that block (ACCESS EXCLUSIVE) last an
        instant; the scan runs under SHARE UPDATE EXCLUSIVE.

        Args:
            table_name: the table.
            column_name: the column; one that is NOT NULL counts as done.
            schema: the table's schema.

        Raises:
            StatementFailed: a row has NULL.

        Source: PostgreSQL documentation, ALTER TABLE, SET/DROP NOT NULL; measured on 12 to 18.
        """
        operations.invoke(cls(table_name, column_name, schema))

    @property
    def table(self) -> QualifiedName:
        """The column's table."""
        return QualifiedName(self.table_name, self.schema)

    def statements(self, server_version: int | None) -> list[Statement]:
        if server_version is not None and server_version >= NATIVE_NOT_NULL_VERSION:
            return self._native_statements()
        return self._check_statements()

    def _native_statements(self) -> list[Statement]:
        not_null = column_is_not_null(self.table, self.column_name)
        alter = f"ALTER TABLE {self.table.sql}"
        usual, other = _native_names(self.table_name, self.column_name)
        # After a RENAME COLUMN the usual name may belong to another column's constraint.
        marked = column_has_not_null_constraint(self.table, self.column_name)
        taken = constraint_exists(self.table, usual)
        is_usual = column_has_not_null_constraint(self.table, self.column_name, usual)

        def add(name: str, done: str) -> Statement:
            column = quote(self.column_name)
            sql = f"{alter} ADD CONSTRAINT {quote(name)} NOT NULL {column} NOT VALID"
            return self._statement(sql, done_when(done))

        def validate(name: str, done: str) -> Statement:
            sql = f"{alter} VALIDATE CONSTRAINT {quote(name)}"
            lock = LockMode.SHARE_UPDATE_EXCLUSIVE
            return self._statement(sql, done_when(done), lock, Wait.UNBOUNDED)

        return [
            add(usual, f"{marked} OR {taken}"),
            add(other, marked),
            validate(usual, f"{not_null} OR NOT {is_usual}"),
            validate(other, not_null),
        ]

    def _check_statements(self) -> list[Statement]:
        column = quote(self.column_name)
        check = derived_name("alembic_safe_nn", self.table_name, self.column_name)
        not_null = column_is_not_null(self.table, self.column_name)
        alter = f"ALTER TABLE {self.table.sql}"
        return [
            self._statement(
                f"{alter} ADD CONSTRAINT {quote(check)} CHECK ({column} IS NOT NULL) NOT VALID",
                done_when(f"{not_null} OR {constraint_exists(self.table, check)}"),
            ),
            self._statement(
                f"{alter} VALIDATE CONSTRAINT {quote(check)}",
                done_when(f"{not_null} OR {constraint_exists(self.table, check, validated=True)}"),
                LockMode.SHARE_UPDATE_EXCLUSIVE,
                Wait.UNBOUNDED,
            ),
            self._statement(f"{alter} ALTER COLUMN {column} SET NOT NULL", done_when(not_null)),
            self._statement(
                f"{alter} DROP CONSTRAINT {quote(check)}",
                done_when(f"NOT {constraint_exists(self.table, check)}"),
            ),
        ]

    def _statement(
        self,
        sql: str,
        done: Done,
        lock: LockMode = LockMode.ACCESS_EXCLUSIVE,
        wait: Wait = Wait.SHORT,
    ) -> Statement:
        return Statement(
            sql=(sql,),
            table=self.table,
            lock=lock,
            wait=wait,
            done=done,
            object_name=f"NOT NULL of column {self.column_name}",
        )

    def reverse(self) -> MigrateOperation:
        return DropNotNullOp(self.table_name, self.column_name, self.schema)


@Operations.register_operation("drop_not_null")
@dataclass(eq=False)
class DropNotNullOp(SafeOperation):
    """`ALTER COLUMN ... DROP NOT NULL`."""

    operation_name: ClassVar[str] = "drop_not_null"

    table_name: str
    column_name: str
    schema: str | None = None

    @classmethod
    def drop_not_null(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Let a column be NULL.

        Takes ACCESS EXCLUSIVE for an instant.

        Args:
            table_name: the table.
            column_name: the column.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE, SET/DROP NOT NULL.
        """
        operations.invoke(cls(table_name, column_name, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        check = derived_name("alembic_safe_nn", self.table_name, self.column_name)
        alter = f"ALTER TABLE {table.sql}"
        return [
            Statement(
                # A SET NOT NULL that stopped half way leaves its CHECK behind.
                sql=(
                    f"{alter} DROP CONSTRAINT IF EXISTS {quote(check)}",
                    f"{alter} ALTER COLUMN {quote(self.column_name)} DROP NOT NULL",
                ),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                object_name=f"NOT NULL of column {self.column_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return SetNotNullOp(self.table_name, self.column_name, self.schema)


def _native_names(table_name: str, column_name: str) -> tuple[str, str]:
    """Return the name that SET NOT NULL would give the constraint, where it is short enough,
    and the one to take where another constraint has that."""
    usual = f"{table_name}_{column_name}_not_null"
    if len(usual.encode()) > MAX_IDENTIFIER_BYTES:
        usual = derived_name(table_name, column_name, "not_null")
    return usual, derived_name(table_name, column_name, "not_null", "2")
