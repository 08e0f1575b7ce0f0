"""Indexes of partitioned tables: built partition by partition, dropped as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.operations.indexes import CreateIndexConcurrentlyOp
from alembic_safe.postgres.conditions import done_when, index_done, no_index
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.partitions import (
    FOREIGN,
    PARTITIONED,
    Partition,
    PartitionIndex,
    PartitionTree,
)
from alembic_safe.postgres.statement import Statement


@Operations.register_operation("create_partitioned_index")
@dataclass(eq=False)
class CreatePartitionedIndexOp(SafeOperation):
    """`CREATE INDEX` of a partitioned table, without blocking its partitions."""

    operation_name: ClassVar[str] = "create_partitioned_index"

    index_name: str
    table_name: str
    columns: Sequence[str] = ()
    unique: bool = False
    definition: str | None = None
    schema: str | None = None

    @classmethod
    def create_partitioned_index(
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
        """Build an index of a partitioned table while its partitions are read and written.

        `CREATE INDEX ON ONLY` the partitioned table comes first, then for each partition `CREATE
        INDEX CONCURRENTLY`, as `op.create_index_concurrently` does it, and `ALTER INDEX ... ATTACH
        PARTITION`; a partition that is partitioned itself is treated alike. Each commits by itself,
        and what is there already is not done again. The partitions are those that the table has
        while this runs: one that is created meanwhile gets its index from the server, one that
        goes is left out. A valid index of the same definition that a partition has already is
        attached. Other ones get the names that the server would choose.

        Takes SHARE on the partitioned table alone for an instant, which blocks writes that go
        through it; SHARE UPDATE EXCLUSIVE on each partition while its index is built; ACCESS
        EXCLUSIVE on the index of each partition for an instant, which blocks queries of that
        partition (measured on PostgreSQL 13 to 18).

        A foreign table has no index. Where one is among the partitions of a table, that table's
        index is created when those of its other partitions are there, with SHARE on it and its
        partitions for an instant: otherwise it would stay INVALID. A unique index is refused then,
        as PostgreSQL does.

        Args:
            index_name: its name; it is in the table's schema.
            table_name: the partitioned table.
            columns: column names. For anything more give `definition`.
            unique: whether it is a unique index; its columns must include the partition key.
            definition: SQL of what stands behind the table's name in `CREATE INDEX`.
            schema: the table's schema.

        Raises:
            ObjectDiffers: an index of this name and with another definition is there.
            VerificationFailed: for a unique index, rows are duplicates; or PostgreSQL does not
                count the index as valid in the end.
            StatementFailed: the server refused a statement.

        Source: PostgreSQL documentation, 5.12.2.2 Partition Maintenance.
        """
        operations.invoke(cls(index_name, table_name, columns, unique, definition, schema))

    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().call_arguments()
        columns = keywords.pop("columns", None)
        return ([*positional, columns] if columns else positional), keywords

    @property
    def table(self) -> QualifiedName:
        """The partitioned table."""
        return QualifiedName(self.table_name, self.schema)

    @property
    def body(self) -> str:
        """What stands behind the table's name in `CREATE INDEX`."""
        return self.on(self.table, self.index_name).body

    def on(self, table: QualifiedName, name: str) -> CreateIndexConcurrentlyOp:
        """Return the operation that builds the same index on one table."""
        return CreateIndexConcurrentlyOp(
            name, table.name, self.columns, self.unique, self.definition, table.schema
        )

    def statements(self, server_version: int | None) -> list[Statement]:
        """Return what comes first; `statements_for` returns the rest, which depends on the
        partitions that are there."""
        return [self.create_on(self.table, self.index_name, only=True)]

    def create_on(self, table: QualifiedName, name: str, *, only: bool) -> Statement:
        """Return the statement that creates the index of a partitioned table.

        Args:
            table: the table.
            name: of the index.
            only: leave its partitions alone.
        """
        kind = "UNIQUE INDEX" if self.unique else "INDEX"
        return Statement(
            sql=(
                f"CREATE {kind} {quote(name)} ON {'ONLY ' if only else ''}{table.sql} {self.body}",
            ),
            table=table,
            lock=LockMode.SHARE,
            done=index_done(table, name, unique=self.unique, definition=self.body),
            object_name=f"index {name}",
            only_table=only,
        )

    def statements_for(self, tree: PartitionTree) -> list[PartitionStatement]:
        """Return what is left to do, in order.

        Args:
            tree: the partitions as they are now.
        """
        return list(_Plan(self, tree).of_root())

    def reverse(self) -> MigrateOperation:
        return DropPartitionedIndexOp(
            self.index_name,
            self.table_name,
            columns=self.columns,
            unique=self.unique,
            definition=self.definition,
            schema=self.schema,
        )


@dataclass(frozen=True)
class PartitionStatement:
    """A statement for a partition.

    Args:
        partition: the table that has to be there for it.
        statement: the statement.
    """

    partition: QualifiedName
    statement: Statement


@dataclass
class _Plan:
    """What is left to do for an index of a partitioned table."""

    operation: CreatePartitionedIndexOp
    tree: PartitionTree
    _planned: set[QualifiedName] = field(default_factory=set)

    def of_root(self) -> Iterator[PartitionStatement]:
        root, name = self.tree.root, self.operation.index_name
        there = next((index for index in root.indexes if index.name == name), None)
        if root.kind == PARTITIONED:
            yield from self._of_partitioned(root, name, there)
        elif there is None or not there.is_valid:
            yield from self._built(root, name)

    def _of_partitioned(
        self, table: Partition, name: str, there: PartitionIndex | None
    ) -> Iterator[PartitionStatement]:
        """Yield what makes the index of a partitioned table.

        Args:
            table: the table.
            name: of its index.
            there: the index, if there is one.
        """
        partitions = self.tree.partitions_of(table)
        # The server takes the index of a table as valid once those of all its partitions are
        # attached; a foreign table has none. `CREATE INDEX` without ONLY leaves them out.
        at_last = there is None and any(each.kind == FOREIGN for each in partitions)
        create = self.operation.create_on(table.name, name, only=not at_last)
        if there is None and not at_last:
            yield PartitionStatement(table.name, create)
        for partition in partitions:
            if partition.kind != FOREIGN:
                parent = None if at_last else table.name.sibling(name)
                yield from self._of_partition(partition, parent, there)
        if at_last:
            yield PartitionStatement(table.name, create)

    def _of_partition(
        self, partition: Partition, parent: QualifiedName | None, there: PartitionIndex | None
    ) -> Iterator[PartitionStatement]:
        """Yield what makes the index of a partition, and attaches it.

        Args:
            partition: the partition.
            parent: the index to attach it to; None where it is left as it is.
            there: the same, if it is there already.
        """
        attached = partition.attached_to(there)
        index = attached or partition.free()
        name = (
            partition.name.sibling(index.name)
            if index is not None
            else self.tree.index_name(partition, self._planned)
        )
        self._planned.add(name)
        if partition.kind == PARTITIONED:
            yield from self._of_partitioned(partition, name.name, index)
        elif index is None:
            yield from self._built(partition, name.name)
        if attached is None and parent is not None:
            yield PartitionStatement(partition.name, attach_index(parent, name))

    def _built(self, table: Partition, name: str) -> Iterator[PartitionStatement]:
        for statement in self.operation.on(table.name, name).statements(None):
            yield PartitionStatement(table.name, statement)


def attach_index(parent: QualifiedName, index: QualifiedName) -> Statement:
    """Return the statement that makes the index of a partition a part of that of its parent.

    ACCESS EXCLUSIVE is taken on `index`, SHARE UPDATE EXCLUSIVE on `parent` (measured on
    PostgreSQL 13 to 18).
    """
    return Statement(
        sql=(f"ALTER INDEX {parent.sql} ATTACH PARTITION {index.sql}",),
        table=index,
        lock=LockMode.ACCESS_EXCLUSIVE,
        done=done_when(
            "EXISTS (SELECT FROM pg_catalog.pg_inherits"
            f" WHERE inhrelid = {index.regclass} AND inhparent = {parent.regclass})"
        ),
        object_name=f"index {index.name}",
        only_table=True,
    )


@Operations.register_operation("drop_partitioned_index")
@dataclass(eq=False)
class DropPartitionedIndexOp(SafeOperation):
    """`DROP INDEX` of a partitioned table."""

    operation_name: ClassVar[str] = "drop_partitioned_index"

    index_name: str
    table_name: str
    columns: Sequence[str] = ()
    unique: bool = False
    definition: str | None = None
    schema: str | None = None

    @classmethod
    def drop_partitioned_index(
        cls, operations: Operations, index_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop an index of a partitioned table with those of its partitions.

        Takes ACCESS EXCLUSIVE on the partitioned table and on all its partitions for an instant
        (measured on PostgreSQL 13 to 18), which blocks everything and waits for every query of any
        of them: PostgreSQL has no concurrent form for it, and the index of a partition cannot go
        alone. It is taken as that of any statement that blocks: with a short timeout, again and
        again. An index that is not there counts as done.

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
        return [
            Statement(
                sql=(f"DROP INDEX IF EXISTS {table.sibling(self.index_name).sql}",),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=no_index(table, self.index_name),
                object_name=f"index {self.index_name}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return CreatePartitionedIndexOp(
            self.index_name,
            self.table_name,
            self.columns,
            self.unique,
            self.definition,
            self.schema,
        )
