"""Indexes of partitioned tables: for the partitions that are there while they are built."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from alembic.operations import Operations
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import SafetyError, VerificationFailed
from alembic_safe.operations.partitioned_indexes import (
    CreatePartitionedIndexOp,
    PartitionStatement,
    attach_index,
)
from alembic_safe.postgres.conditions import index_twin
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.partitions import (
    COLUMNS_QUERY,
    FOREIGN,
    KEYS_QUERY,
    PartitionIndex,
    PartitionTree,
    taken_query,
    tree_of,
    tree_query,
)
from alembic_safe.runtime.done import is_done
from alembic_safe.runtime.execution import (
    Executor,
    autocommit,
    executor_of,
    write_outside_transaction,
)
from alembic_safe.runtime.failures import explained
from alembic_safe.runtime.lookout import Chance
from alembic_safe.runtime.partitioned_script import partitioned_index_script
from alembic_safe.runtime.sessions import execute_sql, query_rows

log = logging.getLogger("alembic.safe")


@Operations.implementation_for(CreatePartitionedIndexOp)
def run_create_partitioned_index(
    operations: Operations, operation: CreatePartitionedIndexOp
) -> None:
    """Run the operation, or write it out in `--sql` mode."""
    context = operations.migration_context
    if context.as_sql:
        lock_timeout = executor_of(context).settings.lock_timeout
        write_outside_transaction(context, partitioned_index_script(operation, lock_timeout))
        return
    with autocommit(context) as connection:
        _Build(connection, operation, executor_of(context)).run()


@dataclass(frozen=True)
class _Build:
    """The build of an index of a partitioned table, on a connection in autocommit mode."""

    connection: Connection
    operation: CreatePartitionedIndexOp
    executor: Executor

    def run(self) -> None:
        """Do what is left to do, until nothing is.

        Raises:
            ObjectDiffers: an index of the wanted name is there and is another one.
            VerificationFailed: a unique index cannot be, or the server does not count it as valid.
            SafetyError: a statement failed for a partition that is still there.
        """
        self._refuse(self._tree())
        for create in self.operation.statements(None):
            is_done(self.connection, create)
        before: list[PartitionStatement] = []
        while statements := self.operation.statements_for(tree := self._tree()):
            if statements == before:
                raise VerificationFailed(
                    f"{self._where}: {statements[0].statement.sql[0]} was executed and changed "
                    "nothing. See who works on these partitions, then run the same command again."
                )
            before = statements
            for each in statements:
                if not self._run(each):
                    break
        self._verify(tree)

    def _run(self, each: PartitionStatement) -> bool:
        """Run a statement; return whether the next one can follow, for its partition was there."""
        try:
            self.executor.run_alone(self.connection, each.statement)
        except SafetyError as error:
            if self.connection.invalidated or self._tree().has(each.partition):
                raise
            log.warning(
                "%s: %s is no partition of %s any more, and is left out: %s",
                self.executor.revision,
                each.partition,
                self.operation.table,
                error,
            )
            return False
        return True

    def _tree(self) -> PartitionTree:
        """Return the partitions as they are now."""

        def once(_chance: Chance) -> PartitionTree:
            execute_sql(self.connection, "BEGIN")
            try:
                for sql in index_twin(
                    self.operation.table,
                    unique=self.operation.unique,
                    definition=self.operation.body,
                ):
                    execute_sql(self.connection, sql)
                rows = query_rows(self.connection, tree_query(self.operation.table))
                columns = [str(name) for (name,) in query_rows(self.connection, COLUMNS_QUERY)]
                keys = [(oid, name) for oid, name in query_rows(self.connection, KEYS_QUERY)]
            finally:
                if not self.connection.invalidated:
                    execute_sql(self.connection, "ROLLBACK")
            tree = tree_of(rows, columns, keys)
            # As the revision calls it, for messages.
            return replace(tree, root=replace(tree.root, name=self.operation.table))

        wanted = {self.operation.table: LockMode.ACCESS_SHARE}
        try:
            return self._with_taken_names(self.executor.until_locked(self.connection, wanted, once))
        except DBAPIError as error:
            raise explained(error, self._where) from error

    def _with_taken_names(self, tree: PartitionTree) -> PartitionTree:
        if not tree.partitions:
            return tree
        rows = query_rows(self.connection, taken_query(tree))
        return replace(tree, taken=frozenset(QualifiedName(name, schema) for schema, name in rows))

    @property
    def _where(self) -> str:
        name = f"index {self.operation.index_name} on {self.operation.table}"
        return f"Revision {self.executor.revision}, {name}"

    def _refuse(self, tree: PartitionTree) -> None:
        """Raise for a unique index that the server will refuse for one of the partitions."""
        if not self.operation.unique:
            return
        for table in (tree.root, *tree.partitions):
            missing = table.key.difference(tree.columns)
            if table.kind == FOREIGN:
                raise VerificationFailed(
                    f"{self._where}: it is unique, and {table.name} is a foreign table, on which "
                    "PostgreSQL has no indexes. Detach it, or do without the index. Nothing was "
                    "built."
                )
            if missing:
                raise VerificationFailed(
                    f"{self._where}: it is unique, and lacks {', '.join(sorted(missing))}, by "
                    f"which {table.name} is partitioned: PostgreSQL has no such index. Nothing was "
                    "built."
                )

    def _verify(self, tree: PartitionTree) -> None:
        """See that the server takes the index as valid.

        Where the last partition without an index went away, it does not notice by itself; attaching
        again makes it look (measured: not on PostgreSQL 13).

        Raises:
            VerificationFailed: it does not.
        """
        for parent, invalid, child in reversed(list(_invalid_parents(tree, self.operation))):
            again = replace(attach_index(parent.sibling(invalid.name), child), done=None)
            self.executor.run_alone(self.connection, again)
        root = self._tree().root
        index = next((i for i in root.indexes if i.name == self.operation.index_name), None)
        if index is None or not index.is_valid:
            raise VerificationFailed(
                f"{self._where}: PostgreSQL marks it INVALID. Look for the partitions whose index "
                "is INVALID and build these again with REINDEX INDEX CONCURRENTLY; if there is "
                "none, drop it with DROP INDEX. Then run the same command again."
            )


def _invalid_parents(
    tree: PartitionTree, operation: CreatePartitionedIndexOp
) -> Iterator[tuple[QualifiedName, PartitionIndex, QualifiedName]]:
    """Yield the tables whose index is not valid though those of all partitions are attached, with
    that index and one of these; a table stands before its partitions."""
    indexes: dict[int, PartitionIndex | None] = {
        tree.root.oid: next((i for i in tree.root.indexes if i.name == operation.index_name), None)
    }
    for table in (tree.root, *tree.partitions):
        index = indexes.setdefault(table.oid, table.attached_to(indexes.get(table.parent or 0)))
        children = [(each, each.attached_to(index)) for each in tree.partitions_of(table)]
        valid = [(each, found) for each, found in children if found is not None and found.is_valid]
        if index is not None and not index.is_valid and valid:
            partition, found = valid[0]
            yield table.name, index, partition.name.sibling(found.name)
