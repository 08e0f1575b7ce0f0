"""Revision files as SQL: what Alembic's offline mode writes, and the place where it comes from."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import TYPE_CHECKING, Any

from alembic.config import Config
from alembic.ddl.impl import DefaultImpl
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import make_url

from alembic_safe.alembic_private import configure_through, set_connection, write_no_versions
from alembic_safe.assurance import current_reason
from alembic_safe.configuration import RUNNER_OPTION, settings_of
from alembic_safe.errors import EnvironmentFailed, OtherDatabase
from alembic_safe.lines import marks_of
from alembic_safe.lint.readings import ReadingConnection
from alembic_safe.operations import SafeOperation
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.sources import frames_to
from alembic_safe.runtime.offline import EACH_REVISION_OPTION

if TYPE_CHECKING:
    from alembic.script import Script


@dataclass(frozen=True)
class Written:
    """SQL that one operation, or one call of `execute`, has written.

    Args:
        text: one or more statements.
        line: of the call in the revision file; 0 where the file has no part in it.
        operation: the operation of this package that wrote it.
        assured: the reason of the `alembic_safe.assured` block in which it stands.
        is_control: whether it is the begin or end of a transaction that an `autocommit_block()`
            stands for, and no text of the revision.
    """

    text: str
    line: int = 0
    operation: SafeOperation | None = None
    assured: str | None = None
    is_control: bool = False


@dataclass(frozen=True)
class Unreadable:
    """A place where a revision needs a database.

    Args:
        line: in the revision file; 0 where it is not known.
        reason: what happened, as the end of a sentence.
        stopped: whether the rest of the revision was not run.
    """

    line: int
    reason: str
    stopped: bool


@dataclass
class RecordedStep:
    """One upgrade or downgrade of a revision.

    Args:
        revision: its identifier.
        path: its file.
        phase: None where it has none.
        is_upgrade: False for a downgrade.
        is_contract: whether it is on the contract line.
        before: what was written outside of revisions since the last one: transactions, settings,
            and the version table.
        written: what the revision wrote.
        unreadable: where it needs a database.
    """

    revision: str
    path: str
    phase: Phase | None
    is_upgrade: bool
    is_contract: bool
    before: tuple[str, ...] = ()
    written: list[Written] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass
class Recording:
    """What one call of `run_migrations` in `env.py` would have executed.

    Args:
        has_runner: whether it is `alembic_safe.run_migrations`.
        transaction_per_migration: whether each revision has a transaction of its own.
        version_table: Alembic's.
        rules: of the user, from the settings.
        steps: in the order in which they run.
    """

    has_runner: bool
    transaction_per_migration: bool
    version_table: QualifiedName
    rules: Sequence[object] = ()
    steps: list[RecordedStep] = field(default_factory=list)


def record(
    config: Config,
    history: ScriptDirectory,
    upgrades: Sequence[Script],
    downgrades: Sequence[Script],
) -> list[Recording]:
    """Run revisions in offline mode, each after the other, contract revisions where they are due.

    Nothing is sent to a database. A revision that cannot run without one does not stop the rest.

    Args:
        config: Alembic's configuration.
        history: the revisions.
        upgrades: revisions of the history to upgrade to, from the base on.
        downgrades: revisions of the history to go back from, after that.

    Returns:
        One recording for each database of the environment; nearly always there is one.

    Raises:
        EnvironmentFailed: `env.py` does not run in offline mode.
        OtherDatabase: `env.py` configures a database other than PostgreSQL.
    """
    recorder = Recorder(history, upgrades, downgrades)
    environment = EnvironmentContext(
        _with_contracts(config),
        history,
        fn=recorder.steps,
        as_sql=True,
        destination_rev="heads",
        **{EACH_REVISION_OPTION: recorder.recorded},
    )
    configure = functools.partial(_configure_offline, environment.configure, recorder)
    configure_through(environment, configure)
    with environment, quiet_migrations(), contextlib.redirect_stdout(sys.stderr):
        try:
            history.run_env()
        except CommandError:
            raise
        except Exception as error:
            raise EnvironmentFailed(history.dir, f"{type(error).__name__}: {error}") from error
    return recorder.recordings


def _with_contracts(config: Config) -> Config:
    """Return the configuration with `-x contract=now`, so that contract revisions are written."""
    changed = copy.copy(config)
    options = dict(vars(config.cmd_opts)) if config.cmd_opts is not None else {}
    options["x"] = [*(options.get("x") or ()), "contract=now"]
    changed.cmd_opts = Namespace(**options)
    return changed


def _configure_offline(
    configure: Callable[..., None],
    recorder: Recorder,
    connection: Any = None,
    url: Any = None,
    dialect_name: Any = None,
    **options: Any,
) -> None:
    """Configure a context that has the dialect of `env.py` and nothing of its connection."""
    if connection is not None:
        dialect_name = connection.dialect.name
    elif url is not None:
        dialect_name = make_url(url).get_backend_name()
    if dialect_name != "postgresql":
        raise OtherDatabase(str(dialect_name))
    options |= {
        # `$1` is the one style of parameters that is PostgreSQL's grammar; the others would also
        # double every percent sign.
        "dialect_opts": {"paramstyle": "numeric_dollar"},
        "literal_binds": False,
        "output_buffer": recorder,
    }
    options.pop("output_encoding", None)
    configure(dialect_name=dialect_name, **options)


@dataclass
class Recorder:
    """The file to which offline mode writes; knows which revision is running."""

    history: ScriptDirectory
    upgrades: Sequence[Script]
    downgrades: Sequence[Script]
    recordings: list[Recording] = field(default_factory=list)
    _step: RecordedStep | None = None
    _module: dict[str, Any] | None = None
    _outside: list[str] = field(default_factory=list)

    def write(self, text: str) -> None:
        """Take what offline mode writes."""
        if self._step is None:
            self._outside.append(text)
            return
        line, operation, is_control = self._caller()
        self._step.written.append(Written(text, line, operation, current_reason(), is_control))

    def flush(self) -> None:
        """Do what a file has to be able to do."""

    def steps(self, _heads: object, context: MigrationContext) -> Iterable[RevisionStep]:
        """Give Alembic its steps: the function of an Alembic command."""
        recording = Recording(
            has_runner=RUNNER_OPTION in context.opts,
            transaction_per_migration=bool(context.opts.get("transaction_per_migration")),
            version_table=QualifiedName(context.version_table, context.version_table_schema),
            rules=settings_of(context).rules,
        )
        self.recordings.append(recording)
        set_connection(context, ReadingConnection(context, self._read))
        write_no_versions(context)
        steps = [
            *((script, True) for script in self.upgrades),
            *((script, False) for script in self.downgrades),
        ]
        for script, is_upgrade in steps:
            step = RevisionStep(self.history.revision_map, script, is_upgrade)
            step.migration_fn = self.recorded(script, step.migration_fn, is_upgrade)
            yield step

    def recorded(
        self, script: Script, migrate: Callable[..., None], is_upgrade: bool
    ) -> Callable[..., None]:
        """Return an `upgrade()` or `downgrade()` that records what it does, and never fails."""

        @functools.wraps(migrate)
        def run(**arguments: Any) -> None:
            marks = marks_of(script)
            self._step = RecordedStep(
                script.revision,
                script.path,
                marks.phase,
                is_upgrade,
                is_contract=marks.completes is not None,
                before=tuple(self._outside),
            )
            self._outside.clear()
            self.recordings[-1].steps.append(self._step)
            self._module = vars(script.module)
            try:
                migrate(**arguments)
            except Exception as error:
                self._step.unreadable.append(
                    Unreadable(self._line_of(error), _reason(error), stopped=True)
                )
            finally:
                self._step = self._module = None

        return run

    def _read(self, what: str) -> None:
        """Note that the running revision looked at the rows of a query."""
        if self._step is not None:
            line, _, _ = self._caller()
            self._step.unreadable.append(Unreadable(line, what, stopped=False))

    def _caller(self) -> tuple[int, SafeOperation | None, bool]:
        """Return the line of the revision file that is running, our operation, if it is one, and
        whether Alembic begins or ends a transaction."""
        operation, is_control, line = None, False, 0
        for frame in frames_to(self._module):
            if frame.f_code is _INVOKE:
                operation = frame.f_locals.get("operation")
            elif frame.f_globals is self._module:
                line = frame.f_lineno
            is_control = is_control or frame.f_code in _CONTROL
        own = operation if isinstance(operation, SafeOperation) else None
        return line, own, is_control

    def _line_of(self, error: Exception) -> int:
        line, traceback = 0, error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_globals is self._module:
                line = traceback.tb_lineno
            traceback = traceback.tb_next
        return line


_INVOKE: CodeType = Operations.invoke.__code__
_CONTROL = frozenset({DefaultImpl.emit_begin.__code__, DefaultImpl.emit_commit.__code__})


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@contextlib.contextmanager
def quiet_migrations() -> Iterator[None]:
    """Keep Alembic from telling about each revision that it is running."""

    def is_not_information(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    # A filter, because the configuration of logging in env.py sets levels and handlers anew.
    logger = logging.getLogger("alembic.runtime.migration")
    logger.addFilter(is_not_information)
    try:
        yield
    finally:
        logger.removeFilter(is_not_information)
