"""Statements on their way to the server: skipped when done, with their timeouts, retried."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from alembic.operations import Operations
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import VerificationFailed
from alembic_safe.operations import SafeOperation
from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.server_errors import server_message, sqlstate
from alembic_safe.postgres.statement import Statement, Wait
from alembic_safe.runtime.blockers import Only, blockers
from alembic_safe.runtime.done import is_done
from alembic_safe.runtime.events import LOCK_NOT_ACQUIRED, facts
from alembic_safe.runtime.failures import explained
from alembic_safe.runtime.leftovers import clear_leftovers, tidy_up
from alembic_safe.runtime.lock_order import in_lock_order
from alembic_safe.runtime.locking import RETRIED, Patience
from alembic_safe.runtime.lookout import Chance, Lookout, Wanted
from alembic_safe.runtime.queueing import looked, wanted_by
from alembic_safe.runtime.sessions import (
    execute_sql,
    in_driver_autocommit,
    milliseconds,
    transaction,
)
from alembic_safe.runtime.supervision import watched
from alembic_safe.runtime.timeouts import (
    Timeouts,
    set_timeouts,
    statement_runs_with,
    timeouts_for,
)
from alembic_safe.settings import Settings

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

log = logging.getLogger("alembic.safe")

T = TypeVar("T")

_CANCELLED = "57014"

EXECUTOR_OPTION = "alembic_safe_executor"
"""Where the runner leaves its executor in the options of a migration context."""


@Operations.implementation_for(SafeOperation)
def run_operation(operations: Operations, operation: SafeOperation) -> None:
    """Run any operation that is made of statements."""
    context = operations.migration_context
    statements = operation.statements(server_version(context))
    executor_of(context).run(context, statements)


def server_version(context: MigrationContext) -> int | None:
    """Return PostgreSQL's major version; None in `--sql` mode."""
    version = None if context.as_sql else context.dialect.server_version_info
    return int(version[0]) if version else None


def executor_of(context: MigrationContext) -> Executor:
    """Return the runner's executor, or one with default settings where there is no runner."""
    executor = context.opts.get(EXECUTOR_OPTION)
    if not isinstance(executor, Executor):
        executor = Executor(Patience(Settings()), revision="(outside of the runner)")
        context.opts[EXECUTOR_OPTION] = executor
    return executor


@dataclass
class Executor:
    """Runs statements on a migration context's connection.

    Args:
        patience: the time that the run has for taking locks.
        revision: the revision that is running, for messages.
    """

    patience: Patience
    revision: str

    def __post_init__(self) -> None:
        self.lookout = Lookout(self.patience, self.revision)

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.patience.settings

    def run(self, context: MigrationContext, statements: Iterable[Statement]) -> None:
        """Run statements, or write them out in `--sql` mode.

        In a revision that is one transaction, a transactional statement becomes part of it, and
        the runner repeats the whole of it after a lock timeout. Anything else is committed by
        itself and repeated by itself.

        Raises:
            LockNotAcquired: the deadline passed.
            ObjectDiffers: an object of the wanted name is there and is another one.
            VerificationFailed: rows are duplicates that a statement needs to be unique.
            StatementFailed: the server refused the statement.
        """
        for statement in statements:
            if context.as_sql:
                self._write(context, statement)
            elif statement.transactional and not in_autocommit(context):
                self._join_transaction(connection_of(context), statement)
            else:
                with autocommit(context) as connection:
                    self.run_alone(connection, statement)

    def run_alone(self, connection: Connection, statement: Statement) -> None:
        """Run a statement on an autocommit connection until it succeeds or the deadline passes."""
        wanted = _wanted(statement)

        def once(chance: Chance) -> None:
            if statement.leftovers is not None:
                clear_leftovers(self, connection, statement.leftovers)
            if is_done(connection, statement):
                return
            self._refuse_duplicates(connection, statement)
            with self._prepared(connection, statement, chance):
                for sql in in_lock_order(connection, statement):
                    execute_sql(connection, sql)

        try:
            self.until_locked(
                connection, wanted, once, before=lambda: self._look(connection, statement, wanted)
            )
        except DBAPIError as error:
            if statement.leftovers is not None and not error.connection_invalidated:
                tidy_up(self, connection, statement.leftovers, error)
            raise explained(
                error,
                self._where(statement),
                state="What was committed before stays, and the command continues here.",
                statement="; ".join(statement.sql),
            ) from error

    @contextmanager
    def _prepared(
        self, connection: Connection, statement: Statement, chance: Chance
    ) -> Iterator[None]:
        """The timeouts of a statement, somebody who watches it, and its transaction if it can have
        one."""
        settings = self.settings
        timeouts = timeouts_for(
            statement.wait,
            chance.lock_timeout,
            settings.blocking_timeout if statement.lock.blocks_reads_or_writes else None,
            settings.concurrent_lock_timeout,
        )
        is_one = statement.transactional
        watching = watched(self.patience.supervision, self.lookout.observer(statement.wait, chance))
        with statement_runs_with(connection, timeouts, transactional=is_one), watching:
            yield

    def _look(self, connection: Connection, statement: Statement, wanted: Wanted) -> Chance:
        """Wait where the statement would make others queue behind one who will not end soon, and
        return how an attempt may wait."""
        if statement.wait is not Wait.SHORT or not statement.lock.blocks_reads_or_writes:
            return self.lookout.ladder(statement="; ".join(statement.sql))
        sight = self.lookout.look(connection, wanted)
        if self.lookout.is_blocked(sight) and not _needs_no_lock(connection, statement):
            self.lookout.wait_until_free(connection, wanted, _COMMITTED_STAYS)
        return self.lookout.chance(sight, "; ".join(statement.sql))

    def _where(self, statement: Statement) -> str:
        table = f" on {statement.table}" if statement.table is not None else ""
        return f"Revision {self.revision}, {statement.object_name}{table}"

    def _refuse_duplicates(self, connection: Connection, statement: Statement) -> None:
        """Raise where rows are duplicates that the statement needs to be unique. That they are told
        early is a service: where the look fails, the statement runs nevertheless."""
        duplicates = statement.duplicates
        query = duplicates.query() if duplicates is not None else None
        if duplicates is None or query is None:
            return
        try:
            values, rows, first = self.read(connection, query, statement.table)[0]
        except DBAPIError as error:
            if error.connection_invalidated or sqlstate(error) == _CANCELLED:
                raise
            log.warning(
                "%s: its rows could not be looked through for duplicates, the build tells of them "
                "too: %s",
                self._where(statement),
                server_message(error),
            )
            return
        if values:
            told = duplicates.told(int(str(values)), int(str(rows)), str(first))
            raise VerificationFailed(f"{self._where(statement)}: {told}")

    def read(
        self, connection: Connection, query: str, table: QualifiedName | None
    ) -> Sequence[Sequence[object]]:
        """Return the rows of a query that may read all of a table, on an autocommit connection.

        However long it reads, it holds nobody up, so that the role's `statement_timeout` does not
        count; the lock that lets it begin is waited for as any other.
        """

        def once(chance: Chance) -> Sequence[Sequence[object]]:
            with transaction(connection):
                set_timeouts(connection, Timeouts(chance.lock_timeout, 0.0), is_local=True)
                options = {"no_parameters": True}
                return connection.exec_driver_sql(query, execution_options=options).all()

        return self.until_locked(connection, wanted_by(query, LockMode.ACCESS_SHARE, table), once)

    def until_locked(
        self,
        connection: Connection,
        wanted: Wanted,
        once: Callable[[Chance], T],
        *,
        before: Callable[[], Chance] | None = None,
    ) -> T:
        """Return what `once` returns, as soon as it has got its locks.

        Args:
            connection: a connection in autocommit mode.
            wanted: what `once` locks.
            once: one attempt; it is told how long it may wait, and leaves nothing behind where
                it fails.
            before: tells how long an attempt may wait; what it waits itself counts for itself.

        Raises:
            LockNotAcquired: the deadline passed.
            DBAPIError: it failed for another reason than a lock.
        """
        attempt = 0
        while True:
            attempt += 1
            self.lookout.attempt = attempt
            chance = before() if before is not None else self.lookout.ladder()
            began = self.patience.clock()
            try:
                with looked():
                    result = once(chance)
            except DBAPIError as error:
                if not self.patience.is_busy(error):
                    raise
                self.wait(connection, wanted, attempt, began, error)
            else:
                self.patience.start_over()
                self.lookout.tell_acquired(wanted)
                return result

    def wait(
        self,
        connection: Connection,
        wanted: Wanted,
        attempt: int,
        began: float,
        error: DBAPIError,
    ) -> None:
        """Say who was in the way, then pause, until they are gone at the longest.

        Args:
            connection: it is in no transaction of its own.
            wanted: what the statement that failed locks.
            attempt: how many attempts have failed.
            began: the patience's clock when the last attempt began.
            error: how it failed.

        Raises:
            LockNotAcquired: the deadline leaves no time for another attempt.
        """
        # What is sent next makes the supervision forget.
        reason, damage = self.patience.reason(error), self.patience.damage
        found = blockers(connection, wanted, with_queries=self.settings.show_queries)
        if not in_driver_autocommit(connection):
            # The look began a transaction, and nothing waits in one.
            connection.rollback()
        tables = [str(relation) for relation in wanted]
        log.info(
            "%s: attempt %d, no lock on %s (%s); in the way: %s",
            self.revision,
            attempt,
            ", ".join(tables) or "an object",
            reason,
            "; ".join(str(blocker) for blocker in found) or "nobody any more",
            extra=facts(
                LOCK_NOT_ACQUIRED,
                revision=self.revision,
                attempt=attempt,
                tables=tables,
                reason=reason,
                blockers=[blocker.facts() for blocker in found],
                behind=damage.facts() if damage is not None else None,
            ),
        )
        # Where nobody holds what we need, rows are locked, or it was a deadlock.
        is_free = (lambda: self.lookout.is_free(connection, wanted)) if found else None
        self.lookout.attempt = attempt
        self.patience.line.show(self.revision, f"after attempt {attempt}", found)
        try:
            goes_on = self.patience.pause(attempt, began, is_free)
        finally:
            self.patience.line.hide()
        if not goes_on:
            alone = in_driver_autocommit(connection)
            state = _COMMITTED_STAYS if alone else NOTHING_CHANGED
            raise self.lookout.given_up(tables, found, state) from error

    def _join_transaction(self, connection: Connection, statement: Statement) -> None:
        if is_done(connection, statement):
            return
        for sql in in_lock_order(connection, statement):
            execute_sql(connection, sql)

    def _write(self, context: MigrationContext, statement: Statement) -> None:
        output = context.impl.static_output
        if statement.transactional and context.opts.get(TRANSACTIONAL_OPTION, True):
            for sql in [_as_one(statement)] if statement.lock_first else statement.sql:
                output(f"{sql};\n")
            return
        lock_timeout = self.settings.lock_timeout if statement.wait is Wait.SHORT else 0.0
        timeout = f"lock_timeout = '{milliseconds(lock_timeout)}'"
        with _outside_transaction(context):
            if statement.leftovers is not None and statement.leftovers.of_build:
                (drop,) = statement.leftovers.drop(statement.leftovers.index_name).sql
                output(f"-- If an earlier attempt failed: {drop};")
            if statement.transactional:
                body = "".join(f"{sql};\n" for sql in statement.in_lock_order)
                output(f"BEGIN;\nSET LOCAL {timeout};\n{body}COMMIT;\n")
            else:
                output(f"SET {timeout};\n{statement.sql[0]};\nRESET lock_timeout;\n")


NOTHING_CHANGED = "The database is in the state before this revision."
_COMMITTED_STAYS = "What was committed before this statement stays."

TRANSACTIONAL_OPTION = "alembic_safe_transactional"
"""In `--sql` mode: whether the revision that is being written is one transaction."""


def _as_one(statement: Statement) -> str:
    """Return the statements as one: LOCK needs a transaction, and in an autocommit block, of which
    Alembic tells nothing in `--sql` mode, there is none."""
    lines = "".join(f"  {sql};\n" for sql in statement.in_lock_order)
    body = f"BEGIN\n{lines}END"
    tag = "$locks$"
    return f"DO {tag}{body}{tag}" if tag not in body else f"DO {literal(body)}"


@contextmanager
def _outside_transaction(context: MigrationContext) -> Iterator[None]:
    if context.opts.get(TRANSACTIONAL_OPTION, True):
        with context.autocommit_block():
            yield
    else:
        yield


def write_outside_transaction(context: MigrationContext, sql: str) -> None:
    """Write SQL in `--sql` mode where no transaction is open."""
    with _outside_transaction(context):
        context.impl.static_output(sql)


def connection_of(context: MigrationContext) -> Connection:
    """Return the connection of a context that has one."""
    connection = context.connection
    if connection is None:
        raise TypeError("a migration context in --sql mode has no connection")
    return connection


def in_autocommit(context: MigrationContext) -> bool:
    """Return whether the context is inside of an autocommit block."""
    return in_driver_autocommit(connection_of(context))


@contextmanager
def autocommit(context: MigrationContext) -> Iterator[Connection]:
    """Give the context's connection in autocommit mode; what it did before is committed."""
    if in_autocommit(context):
        yield connection_of(context)
        return
    with context.autocommit_block():
        yield connection_of(context)


def _needs_no_lock(connection: Connection, statement: Statement) -> bool:
    """Return whether a statement is known to be done; to compare may need a lock of its own."""
    try:
        return is_done(connection, statement)
    except DBAPIError as error:
        if sqlstate(error) not in RETRIED or error.connection_invalidated:
            raise
        return False


def _wanted(statement: Statement) -> Wanted:
    if statement.only_table and statement.table is not None:
        return {Only(*statement.table): statement.lock}
    wanted: dict[QualifiedName, LockMode] = {}
    for sql in statement.sql:
        wanted |= wanted_by(sql, statement.lock, statement.table)
    return wanted
