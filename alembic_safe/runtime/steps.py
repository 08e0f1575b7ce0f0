"""Running revisions: one revision, one transaction, and again from a clean start after a lock
timeout."""

from __future__ import annotations

import functools
import logging
import re
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.util import CommandError
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import HalfApplied, Interrupted, InvalidRevision, RevisionFailed
from alembic_safe.lines import Line, marks_of
from alembic_safe.postgres.identifiers import literal
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Wait
from alembic_safe.runtime.execution import (
    EXECUTOR_OPTION,
    NOTHING_CHANGED,
    Executor,
    connection_of,
)
from alembic_safe.runtime.failures import explained, is_interrupt, origin
from alembic_safe.runtime.held_locks import tell_held_locks
from alembic_safe.runtime.ledger import Ledger
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.lookout import Lookout
from alembic_safe.runtime.place import Place
from alembic_safe.runtime.queueing import Approach, WayBlocked, wanted_by, way_blocked
from alembic_safe.runtime.sessions import SessionSettings, in_driver_autocommit, milliseconds
from alembic_safe.runtime.timeouts import Timeouts, timeouts_for

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import Script

    from alembic_safe.runtime.guard import Guard

log = logging.getLogger("alembic.safe")

_TRANSACTION_CONTROL = re.compile(r"\s*(commit|end|rollback(?!\s+to))\b", re.IGNORECASE)


@dataclass
class StepRunner:
    """Runs revisions of either line through Alembic.

    Args:
        environment: the Alembic environment; each attempt configures it anew, because a migration
            context remembers what an attempt did that was rolled back (ENUM types, for one).
        options: what the user passed to `context.configure()`.
        connection: the migration's connection, in no transaction.
        ledger: where each step is written down.
        patience: the time that the run has for taking locks.
        session: the session's settings before the run.
        guard: judges what revisions send; None where nobody does.
        arguments: what is passed to each `upgrade()` and `downgrade()`.
    """

    environment: EnvironmentContext
    options: dict[str, Any]
    connection: Connection
    ledger: Ledger
    patience: Patience
    session: SessionSettings
    guard: Guard | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def run(self, line: Line, scripts: Sequence[Script], *, is_upgrade: bool) -> None:
        """Run revisions of one line, in the order given.

        Raises:
            LockNotAcquired: a lock was not to be had within the deadline; the database is in the
                state before that revision, or after the last statement of a revision whose
                statements commit one by one.
            HalfApplied: a revision committed a part of its work and failed.
            StatementFailed, RevisionFailed: the server, or Python, found a fault in a revision.
            MissingPrivilege, ConnectionLost, Interrupted: as they say.
        """
        pending = deque(scripts)
        attempt = 1
        is_finished = False
        while pending:
            script = pending[0]
            watch = _Watch(is_finished, self.patience.clock())
            try:
                with watch.commits_of(self.connection):
                    self._attempt(line, pending, is_upgrade, attempt, watch)
            except BaseException as error:
                failed, is_finished = pending[0], watch.finished
                if (blocked := way_blocked(error)) is not None:
                    attempt = attempt if failed is script else 1
                    self._wait_until_free(failed, watch, blocked, attempt)
                    continue
                attempt = attempt + 1 if failed is script else 2
                self._recover(failed, watch, origin(error), attempt - 1)
            else:
                attempt = 1

    def _attempt(
        self,
        line: Line,
        pending: deque[Script],
        is_upgrade: bool,
        attempt: int,
        watch: _Watch,
    ) -> None:
        def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
            for place, script in enumerate(list(pending)):
                watch.committed, watch.began = False, self.patience.clock()
                watch.finished = watch.finished and place == 0
                yield self._step(line, script, is_upgrade, attempt if place == 0 else 1, watch)
                # Alembic asks for the next step once this one is committed. A revision that
                # committed by itself leaves the stamp in a transaction of its own.
                if self.connection.in_transaction():
                    self.connection.commit()
                self.patience.start_over()
                pending.popleft()

        self.configure(line, fn=steps)
        self.environment.run_migrations(**self.arguments)

    def configure(self, line: Line, **options: Any) -> MigrationContext:
        """Give the environment a new migration context for one of the lines."""
        self.environment.configure(
            connection=self.connection,
            **{
                **self.options,
                "script": line.scripts,
                "version_table": line.version_table.name,
                "version_table_schema": line.version_table.schema,
                "transaction_per_migration": True,
                **options,
            },
        )
        return self.environment.get_context()

    def _step(
        self, line: Line, script: Script, is_upgrade: bool, attempt: int, watch: _Watch
    ) -> RevisionStep:
        marks = marks_of(script)
        step = RevisionStep(line.scripts.revision_map, script, is_upgrade)
        context = self.environment.get_context()
        executor = Executor(self.patience, script.revision)
        executor.lookout.attempt = attempt
        context.opts[EXECUTOR_OPTION] = executor
        write_down = functools.partial(
            self.ledger.note_step,
            self.connection,
            event="upgrade" if is_upgrade else "downgrade",
            line=line.name.value,
            revision=script.revision,
            phase=marks.phase.value if marks.phase is not None else None,
            release=self.patience.settings.release,
            attempts=attempt,
        )
        lock_timeout = self.patience.lock_timeout(attempt)
        timeouts = Timeouts(lock_timeout)
        migrate = step.migration_fn
        if self.guard is not None:
            # As the statements of most revisions need them.
            blocking_timeout = self.patience.settings.blocking_timeout
            timeouts = timeouts_for(Wait.SHORT, lock_timeout, blocking_timeout, 0.0)
            can_repeat = functools.partial(watch.can_repeat, marks.transactional)
            in_force = timeouts if marks.transactional else None
            place = Place(
                script.revision,
                marks.phase,
                is_upgrade,
                lock_timeout if marks.transactional else self.patience.settings.lock_timeout,
                functools.partial(watch.state, script),
                Path(script.path),
                vars(script.module),
                Approach(executor.lookout, self.session, can_repeat, in_force),
            )
            migrate = functools.partial(self._guarded, self.guard, place, migrate)
        run = (
            functools.partial(self._transactional, timeouts)
            if marks.transactional
            else self._statement_by_statement
        )
        step.migration_fn = functools.partial(run, context, migrate, write_down, watch)
        # Alembic logs the function's name.
        step.migration_fn.__name__ = "upgrade" if is_upgrade else "downgrade"
        return step

    def _transactional(
        self,
        timeouts: Timeouts,
        context: MigrationContext,
        migrate: Callable[..., None],
        write_down: Callable[..., None],
        watch: _Watch,
        **arguments: Any,
    ) -> None:
        setting = timeouts.setting(self.session.statement_timeout, is_local=True)
        write_down(beside=self.session.of_step(setting))
        watch.committed = False
        with watch.later_transactions(self.connection, timeouts.lock):
            migrate(**arguments)

    def _statement_by_statement(
        self,
        context: MigrationContext,
        migrate: Callable[..., None],
        write_down: Callable[[], None],
        watch: _Watch,
        **arguments: Any,
    ) -> None:
        if not watch.finished:
            self._body(context, migrate, **arguments)
            # What is left is to write it down, which can be repeated.
            watch.finished, watch.committed = True, False
        write_down()

    def _body(
        self, context: MigrationContext, migrate: Callable[..., None], **arguments: Any
    ) -> None:
        with context.autocommit_block():
            connection = connection_of(context)
            # For plain operations, should a person have added some. They are not repeated.
            self.session.restore(connection, self.patience.settings.lock_timeout)
            try:
                migrate(**arguments)
            finally:
                if not connection.invalidated:
                    self.session.restore(connection)

    def _guarded(
        self, guard: Guard, place: Place, migrate: Callable[..., None], **arguments: Any
    ) -> None:
        with guard.watching(place) as judged:
            migrate(**arguments)
            judged.end()
        if not in_driver_autocommit(self.connection):
            tell_held_locks(self.connection, place.revision)
        for assured in judged.assured:
            self.ledger.note_assured(
                self.connection,
                revision=place.revision,
                release=self.patience.settings.release,
                command=assured.command,
                codes=assured.codes,
                reason=assured.reason,
            )

    def _wait_until_free(
        self, script: Script, watch: _Watch, blocked: WayBlocked, attempt: int
    ) -> None:
        """Wait outside of the queue, in no transaction, for those who are in the way."""
        if watch.committed:
            self._abandon()
            raise HalfApplied(script.revision, script.path, str(blocked)) from blocked
        lookout = Lookout(self.patience, script.revision, attempt)
        try:
            self._abandon()
            lookout.wait_until_free(self.connection, blocked.wanted, NOTHING_CHANGED)
        except BaseException as later:
            raise self._retryable(script, watch, origin(later)) from None

    def _recover(self, script: Script, watch: _Watch, error: BaseException, attempt: int) -> None:
        """Get ready for another attempt, or raise what the user should see."""
        busy = self._retryable(script, watch, error)
        executor = Executor(self.patience, script.revision)
        try:
            wanted = wanted_by(busy.statement or "", LockMode.ACCESS_EXCLUSIVE)
            executor.wait(self.connection, wanted, attempt, watch.began, busy)
            self.connection.rollback()
        except BaseException as later:
            # Ctrl-C in the pause, or the end of the connection.
            raise self._retryable(script, watch, origin(later)) from None

    def _retryable(self, script: Script, watch: _Watch, error: BaseException) -> DBAPIError:
        """Return an error after which another attempt makes sense, or raise what the user should
        see."""
        where = f"Revision {script.revision}"
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise explained(error, where) from error
        self._abandon()
        if not isinstance(error, DBAPIError):
            # A program that calls Alembic gets what was raised.
            if isinstance(error, CommandError) or self.environment.config.cmd_opts is None:
                raise error
            if is_interrupt(error):
                raise Interrupted(f"revision {script.revision}") from None
            if isinstance(error, Exception):
                raise _python_failure(error, script, watch.state(script)) from error
            raise error
        if not self.patience.is_busy(error):
            raise explained(error, where, state=watch.state(script)) from error
        if watch.committed:
            reason = self.patience.reason(error)
            raise HalfApplied(script.revision, script.path, reason) from error
        return error

    def _abandon(self) -> None:
        if not self.connection.closed and not self.connection.invalidated:
            self.connection.rollback()


@dataclass
class _Watch:
    """Notices that a revision commits before it has ended.

    Such a revision is not repeated: its first part would be done twice.

    Args:
        finished: whether all that the running revision does is done, statement by statement, and
            is not written down yet.
        began: the patience's clock when the attempt, or the running revision, began.
        committed: whether the running revision has committed something, and not all.
    """

    finished: bool
    began: float
    committed: bool = False

    def can_repeat(self, transactional: bool) -> bool:
        """Return whether the running revision can be rolled back as a whole."""
        return transactional and not self.committed

    def state(self, script: Script) -> str:
        """Return a sentence about the database after the revision has failed."""
        if not self.committed and not self.finished:
            return "The database is in the state before this revision."
        if marks_of(script).transactional:
            return "What the revision committed before stays: undo it by hand."
        return "What was committed before stays."

    @contextmanager
    def commits_of(self, connection: Connection) -> Iterator[None]:
        def on_commit(_connection: Connection) -> None:
            self.committed = True

        def on_statement(
            _connection: Connection, _cursor: Any, statement: str, *_details: Any
        ) -> None:
            if _TRANSACTION_CONTROL.match(statement):
                self.committed = True

        listeners = (("commit", on_commit), ("before_cursor_execute", on_statement))
        for name, listener in listeners:
            event.listen(connection, name, listener)
        try:
            yield
        finally:
            for name, listener in listeners:
                event.remove(connection, name, listener)

    @contextmanager
    def later_transactions(self, connection: Connection, lock_timeout: float) -> Iterator[None]:
        """Set the lock timeout also in what a revision begins after a commit of its own.

        Args:
            connection: the migration's connection.
            lock_timeout: seconds.
        """
        statement = f"SET LOCAL lock_timeout = {literal(milliseconds(lock_timeout))}"

        def on_begin(begun: Connection) -> None:
            # SQLAlchemy begins something in autocommit mode too, where LOCAL has no meaning.
            if not in_driver_autocommit(begun):
                # The connection's own `execute` would begin again.
                cursor = begun.connection.cursor()
                cursor.execute(statement)
                cursor.close()

        event.listen(connection, "begin", on_begin)
        try:
            yield
        finally:
            event.remove(connection, "begin", on_begin)


def check_function(script: Script, *, is_upgrade: bool) -> None:
    """Refuse a revision file that has nothing to run.

    Raises:
        InvalidRevision: it has no such function.
    """
    name = "upgrade" if is_upgrade else "downgrade"
    if not callable(getattr(script.module, name, None)):
        raise InvalidRevision(script.path, f"it has no function {name}()")


def _python_failure(error: Exception, script: Script, state: str) -> RevisionFailed:
    """Return what the user should see of an error in the Python code of a revision."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == script.path
    ]
    place = f"{script.path}, line {lines[-1]}" if lines else script.path
    reason = f"{type(error).__name__}: {error}"
    return RevisionFailed(f"Revision {script.revision}", place, reason, state)
