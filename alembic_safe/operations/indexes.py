"""Indexes: built and dropped beside running traffic, and renamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.postgres.conditions import done_when, index_done, no_index
from alembic_safe.postgres.duplicates import Duplicates
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.postgres.leftovers import Leftovers, drop_index
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement, Wait


@Operations.register_operation("create_index_concurrently")
@dataclass(eq=False)
class CreateIndexConcurrentlyOp(SafeOperation):
    """`CREATE INDEX CONCURRENTLY`."""

    operation_name: ClassVar[str] = "create_index_concurrently"

    index_name: str
    table_name: str
    columns: Sequence[str] = ()
    unique: bool = False
    definition: str | None = None
    schema: str | None = None

    @classmethod
    def create_index_concurrently(
        cls,
        operations: Operations,
        index_name: str,
        table_name: str,
        columns: Sequence[str] = (),
        *,
        unique: bool = False,
        definition: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Build an index while the table is read and written.

        Takes SHARE UPDATE EXCLUSIVE, which blocks other schema changes only, and waits for all
        older transactions. It runs outside a transaction: what the revision did before is
        committed first. A valid index of this name and definition counts as done. An `INVALID`
        one of this name that a failed attempt left behind, and what a failed `REINDEX
        CONCURRENTLY` of it left (`_ccnew`, `_ccold`), are dropped concurrently; where another
        session is building on the table, that is waited for first. Other `INVALID` indexes of
        the table are reported, and stay.

        For a unique index the table is first read for duplicates, so that these are told before
        anything is built. A build that meets one nevertheless leaves nothing behind.

        Args:
            index_name: its name; it is in the table's schema.
            table_name: the table; not a partitioned one, for which PostgreSQL has no such form.
            columns: column names. For anything more give `definition`.
            unique: whether it is a unique index.
            definition: SQL of what stands behind the table's name in `CREATE INDEX`, for example
                `USING gin (tags) WHERE (active)`.
            schema: the table's schema.

        Raises:
            ObjectDiffers: an index of this name and with another definition is there.
            VerificationFailed: for a unique index, rows are duplicates.
            StatementFailed: the server refused it, or a duplicate was written meanwhile.

        Source: PostgreSQL documentation, CREATE INDEX, Building Indexes Concurrently.
        """
        operations.invoke(cls(index_name, table_name, columns, unique, definition, schema))

    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().call_arguments()
        columns = keywords.pop("columns", None)
        return ([*positional, columns] if columns else positional), keywords

    @property
    def table(self) -> QualifiedName:
        """The indexed table."""
        return QualifiedName(self.table_name, self.schema)

    @property
    def body(self) -> str:
        """What stands behind the table's name in `CREATE INDEX`."""
        if self.definition is not None:
            return self.definition
        return "(" + ", ".join(quote(column) for column in self.columns) + ")"

    def statements(self, server_version: int | None) -> list[Statement]:
        kind = "UNIQUE INDEX" if self.unique else "INDEX"
        return [
            Statement(
                sql=(
                    f"CREATE {kind} CONCURRENTLY {quote(self.index_name)}"
                    f" ON {self.table.sql} {self.body}",
                ),
                table=self.table,
                lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
                wait=Wait.UNBOUNDED,
                done=index_done(
                    self.table, self.index_name, unique=self.unique, definition=self.body
                ),
                transactional=False,
                object_name=f"index {self.index_name}",
                leftovers=Leftovers(self.table, self.index_name),
                duplicates=Duplicates(self.table, self.body) if self.unique else None,
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropIndexConcurrentlyOp(
            self.index_name,
            self.table_name,
            columns=self.columns,
            unique=self.unique,
            definition=self.definition,
            schema=self.schema,
        )


@Operations.register_operation("drop_index_concurrently")
@dataclass(eq=False)
class DropIndexConcurrentlyOp(SafeOperation):
    """`DROP INDEX CONCURRENTLY`."""

    operation_name: ClassVar[str] = "drop_index_concurrently"

    index_name: str
    table_name: str
    columns: Sequence[str] = ()
    unique: bool = False
    definition: str | None = None
    schema: str | None = None

    @classmethod
    def drop_index_concurrently(
        cls, operations: Operations, index_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop an index while its table is read and written.

        Takes SHARE UPDATE EXCLUSIVE on the table and waits for the queries that use the index; at
        its end it takes ACCESS EXCLUSIVE on the index alone (measured on PostgreSQL 11 to 18).
        Runs outside a transaction. An index that is not there counts as done. What a failed
        `REINDEX CONCURRENTLY` of it left goes with it.

        Args:
            index_name: the index.
            table_name: its table; an index of this name on another table is left alone.
            schema: the table's schema.

        Source: PostgreSQL documentation, DROP INDEX.
        """
        operations.invoke(cls(index_name, table_name, schema=schema))

    def call_arguments(self) -> tuple[list[str], dict[str, str]]:
        keywords = {"schema": self.schema} if self.schema is not None else {}
        return [self.index_name, self.table_name], keywords

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        leftovers = Leftovers(table, self.index_name, of_build=False)
        return [drop_index(table, self.index_name, no_index(table, self.index_name), leftovers)]

    def reverse(self) -> MigrateOperation:
        return CreateIndexConcurrentlyOp(
            self.index_name,
            self.table_name,
            self.columns,
            self.unique,
            self.definition,
            self.schema,
        )


@Operations.register_operation("rename_index")
@dataclass(eq=False)
class RenameIndexOp(SafeOperation):
    """`ALTER INDEX ... RENAME TO`."""

    operation_name: ClassVar[str] = "rename_index"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"table_name"})

    old_name: str
    new_name: str
    table_name: str
    schema: str | None = None

    @classmethod
    def rename_index(
        cls,
        operations: Operations,
        old_name: str,
        new_name: str,
        table_name: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Rename an index.

        Takes SHARE UPDATE EXCLUSIVE on the index (measured on PostgreSQL 12 to 18). Done where
        the table has an index of the new name: what has the old one was made after the rename,
        and before a crash.

        Args:
            old_name: its name now.
            new_name: its name afterwards.
            table_name: its table.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER INDEX.
        """
        operations.invoke(cls(old_name, new_name, table_name, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        old = table.sibling(self.old_name)
        return [
            Statement(
                sql=(f"ALTER INDEX {old.sql} RENAME TO {quote(self.new_name)}",),
                table=old,
                lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
                done=done_when(_index_on(table, self.new_name)),
                object_name=f"index {self.old_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return RenameIndexOp(self.new_name, self.old_name, self.table_name, self.schema)


def _index_on(table: QualifiedName, name: str) -> str:
    return (
        "EXISTS (SELECT FROM pg_catalog.pg_index"
        f" WHERE indrelid = {table.regclass} AND indexrelid = {table.sibling(name).regclass})"
    )
