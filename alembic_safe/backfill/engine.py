"""The backfill engine: batches that commit one by one, with a position that survives a crash."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from alembic.operations import Operations
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.assurance import unjudged
from alembic_safe.backfill.keys import BlockRanges, KeyRanges, Ranges
from alembic_safe.backfill.script import backfill_script
from alembic_safe.errors import VerificationFailed
from alembic_safe.operations import BackfillOp
from alembic_safe.operations.backfill import BACKFILL_TABLE
from alembic_safe.postgres.identifiers import QualifiedName, literal, quote
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime.execution import (
    Executor,
    autocommit,
    executor_of,
    write_outside_transaction,
)
from alembic_safe.runtime.failures import explained
from alembic_safe.runtime.lookout import Chance
from alembic_safe.runtime.sessions import execute_sql, milliseconds, transaction

log = logging.getLogger("alembic.safe")

_MOST_PASSES = 5
_PROGRESS_SECONDS = 5.0


@Operations.implementation_for(BackfillOp)
def run_backfill(operations: Operations, operation: BackfillOp) -> None:
    """Run the operation, or write it out in `--sql` mode."""
    context = operations.migration_context
    if context.as_sql:
        write_outside_transaction(context, backfill_script(operation))
        return
    control = QualifiedName(BACKFILL_TABLE, context.version_table_schema)
    with autocommit(context) as connection:
        Backfill(connection, operation, executor_of(context), control).run()


@dataclass(frozen=True)
class Backfill:
    """One backfill of one table, on a connection in autocommit mode."""

    connection: Connection
    operation: BackfillOp
    executor: Executor
    control: QualifiedName

    def run(self) -> None:
        """Fill every row that needs it.

        Raises:
            VerificationFailed: rows are left after several passes.
            LockNotAcquired: a row stayed locked by others until the deadline.
            StatementFailed: the server refused an expression, or a value.
        """
        try:
            self._create_control_table()
            for _ in range(_MOST_PASSES):
                self._pass()
                if not self.operation.until_none_left or not self._rows_left():
                    return
        except DBAPIError as error:
            raise explained(
                error,
                f"Revision {self.executor.revision}, backfill of {self.operation.table}",
                state="What was filled stays, and the command continues where it stopped.",
            ) from error
        raise VerificationFailed(
            f"Revision {self.executor.revision}: {self.operation.table} still has rows where "
            f"{self.operation.where} after {_MOST_PASSES} passes. Something still writes such "
            "rows, or the values do not make the condition false. Stop the writer, then run the "
            "same command again."
        )

    @property
    def identity(self) -> str:
        """What tells this backfill from others in the control table."""
        parts = [str(self.operation.table), self.operation.assignments, self.operation.where]
        return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]

    def _pass(self) -> None:
        for leaf_sql, ranges in self._leaves():
            self._fill(leaf_sql, ranges)

    def _fill(self, leaf_sql: str, ranges: Ranges) -> None:
        after, end, filled = self._load(leaf_sql)
        if end is None:
            end = ranges.end(self._rows)
            if end is None:
                return
        told = time.monotonic()
        while True:
            upto = ranges.next(self._rows, after, end, self.executor.settings.batch_size)
            if upto is None:
                break
            filled += self._batch(leaf_sql, ranges.condition(after, upto), upto, end, filled)
            after = upto
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("backfill %s: %d rows filled, at %s of %s", leaf_sql, filled, after, end)
        self._execute(f"DELETE FROM {self.control.sql} WHERE {self._is(leaf_sql)}")
        log.info("backfill %s: done, %d rows filled", leaf_sql, filled)

    def _batch(self, leaf_sql: str, condition: str, upto: str, end: str, filled: int) -> int:
        update = (
            f"UPDATE {leaf_sql} SET {self.operation.assignments}"
            f" WHERE {condition} AND ({self.operation.where})"
        )

        def once(chance: Chance) -> int:
            with transaction(self.connection):
                timeout = milliseconds(chance.lock_timeout)
                execute_sql(self.connection, f"SET LOCAL lock_timeout = '{timeout}'")
                # How many rows a range has cannot be read from the statement.
                with unjudged():
                    result = self.connection.exec_driver_sql(
                        update, execution_options={"no_parameters": True}
                    )
                self._save(leaf_sql, upto, end, filled + result.rowcount)
            return int(result.rowcount)

        # Whoever has locked rows is in the way as well.
        wanted = {self.operation.table: LockMode.EXCLUSIVE}
        return self.executor.until_locked(self.connection, wanted, once)

    def _leaves(self) -> Iterator[tuple[str, Ranges]]:
        for leaf_sql, keys in self._rows(_LEAVES.format(table=literal(self.operation.table.sql))):
            columns = json.loads(str(keys)) if keys is not None else []
            if columns:
                names, types = zip(*columns, strict=True)
                yield str(leaf_sql), KeyRanges(str(leaf_sql), tuple(names), tuple(types))
            else:
                yield str(leaf_sql), BlockRanges(str(leaf_sql))

    def _rows_left(self) -> bool:
        table = self.operation.table
        query = f"SELECT EXISTS (SELECT FROM {table.sql} WHERE {self.operation.where})"
        return bool(self._rows(query)[0][0])

    def _rows(self, query: str) -> Sequence[Sequence[object]]:
        return self.executor.read(self.connection, query, self.operation.table)

    def _execute(self, sql: str) -> None:
        """Execute a statement on the control table, as soon as nobody is in the way."""
        wanted = {self.control: LockMode.ROW_EXCLUSIVE}
        self.executor.until_locked(
            self.connection, wanted, lambda _wait: execute_sql(self.connection, sql)
        )

    def _create_control_table(self) -> None:
        # IF NOT EXISTS asks for the right to create tables even where there is nothing to create.
        if self._rows(f"SELECT {self.control.regclass} IS NOT NULL")[0][0]:
            return
        self._execute(
            f"CREATE TABLE IF NOT EXISTS {self.control.sql} (backfill text, relation text,"
            " statement text NOT NULL, position text NOT NULL, bound text NOT NULL,"
            " rows bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),"
            " PRIMARY KEY (backfill, relation))",
        )

    def _is(self, leaf_sql: str) -> str:
        return f"backfill = {literal(self.identity)} AND relation = {literal(leaf_sql)}"

    def _load(self, leaf_sql: str) -> tuple[str | None, str | None, int]:
        found = self._rows(
            f"SELECT position, bound, rows FROM {self.control.sql} WHERE {self._is(leaf_sql)}"
        )
        if not found:
            return None, None, 0
        log.info("backfill %s: goes on where an earlier run stopped", leaf_sql)
        return str(found[0][0]), str(found[0][1]), int(str(found[0][2]))

    def _save(self, leaf_sql: str, position: str, bound: str, filled: int) -> None:
        values = [self.identity, leaf_sql, self.operation.assignments, position, bound]
        execute_sql(
            self.connection,
            f"INSERT INTO {self.control.sql} AS c"
            " (backfill, relation, statement, position, bound, rows)"
            f" VALUES ({', '.join(literal(value) for value in values)}, {filled})"
            " ON CONFLICT (backfill, relation) DO UPDATE SET position = excluded.position,"
            f" {quote('rows')} = excluded.rows, at = clock_timestamp()",
        )


_LEAVES = """
    SELECT r.oid::regclass::text, k.columns
      FROM (SELECT {table}::regclass::oid AS oid) AS root
      CROSS JOIN LATERAL (
          SELECT root.oid AS oid
           WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class
                              WHERE oid = root.oid AND relkind = 'p')
          UNION ALL
          SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(root.oid::regclass) AS p
            JOIN pg_catalog.pg_class AS c ON c.oid = p.relid
           WHERE p.isleaf AND c.relkind = 'r'
      ) AS r
      LEFT JOIN LATERAL (
          SELECT (SELECT json_agg(json_build_array(a.attname,
                              pg_catalog.format_type(a.atttypid, a.atttypmod)) ORDER BY c.place)
                    FROM unnest(i.indkey) WITH ORDINALITY AS c(number, place)
                    JOIN pg_catalog.pg_attribute AS a
                      ON a.attrelid = i.indrelid AND a.attnum = c.number
                   WHERE c.place <= i.indnkeyatts)::text AS columns
            FROM pg_catalog.pg_index AS i
           WHERE i.indrelid = r.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
             AND i.indpred IS NULL AND i.indexprs IS NULL
             AND NOT EXISTS (SELECT FROM unnest(i.indkey) WITH ORDINALITY AS c(number, place)
                               JOIN pg_catalog.pg_attribute AS a
                                 ON a.attrelid = i.indrelid AND a.attnum = c.number
                              WHERE c.place <= i.indnkeyatts AND NOT a.attnotnull)
           ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1
      ) AS k ON true
     ORDER BY r.oid
"""
