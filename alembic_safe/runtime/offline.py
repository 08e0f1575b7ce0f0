"""`--sql`: the revisions that were asked for, as a script."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep

from alembic_safe.errors import InvalidRevision
from alembic_safe.lines import (
    Line,
    LineName,
    Revision,
    builders_on,
    contract_revisions,
    contract_scripts,
    contract_table,
    has_contracts,
    heads_among,
    marks_of,
    readable_files,
)
from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.runtime.execution import EXECUTOR_OPTION, TRANSACTIONAL_OPTION, Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import Script

_Step = RevisionStep | StampStep

EACH_REVISION_OPTION = "alembic_safe_each_revision"
"""Where lint leaves what gives the function to call in place of an `upgrade()` or `downgrade()` of
a contract revision: it is given the script, that function, and whether it is an upgrade."""


def write_script(
    environment: EnvironmentContext,
    context: MigrationContext,
    settings: Settings,
    arguments: dict[str, Any],
) -> None:
    """Write the script of an upgrade, a downgrade or a stamp.

    There is no ledger to ask, so contract revisions are left out unless `contract=now` asks for
    them, and a comment says so.
    """
    script = _OfflineScript(context, settings, contracts_of(context), arguments)

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[_Step]:
        return script.steps(list(original(heads, context)))

    original = context.opts["fn"]
    script.context = MigrationContext.configure(
        dialect=context.dialect,
        environment_context=environment,
        opts={**context.opts, "fn": steps, "transaction_per_migration": True},
    )
    with Operations.context(script.context):
        script.context.run_migrations(**arguments)


def contracts_of(context: MigrationContext) -> tuple[Line, tuple[Revision, ...]] | None:
    """Return the contract line and its revisions; None where there is none."""
    history = context.script
    if history is None or not has_contracts(history):
        return None
    table = contract_table(QualifiedName(context.version_table, context.version_table_schema))
    line = Line(LineName.CONTRACT, contract_scripts(history), table)
    with readable_files(history):
        return line, contract_revisions(line, history)


@dataclass
class _OfflineScript:
    context: MigrationContext
    settings: Settings
    contracts: tuple[Line, tuple[Revision, ...]] | None
    arguments: dict[str, Any]

    def steps(self, steps: Sequence[_Step]) -> Iterator[_Step]:
        """Give Alembic the steps; what stands before and behind a `yield` is outside of the
        step's transaction."""
        for step in steps:
            if isinstance(step, StampStep):
                yield step
                continue
            script = step.revision
            if not step.is_upgrade:
                self._contracts(script, is_upgrade=False)
            marks = marks_of(script)
            self.context.opts[EXECUTOR_OPTION] = Executor(Patience(self.settings), script.revision)
            wrap = self._transactional if marks.transactional else self._statement_by_statement
            name = step.name
            step.migration_fn = functools.partial(wrap, step.migration_fn)
            step.migration_fn.__name__ = name
            yield step
            if step.is_upgrade:
                self._contracts(script, is_upgrade=True)
        if any(isinstance(step, StampStep) for step in steps):
            self._stamp_contracts()

    def _transactional(self, migrate: Callable[..., None], **arguments: Any) -> None:
        self.context.opts[TRANSACTIONAL_OPTION] = True
        timeout = round(self.settings.lock_timeout * 1000)
        self.context.impl.static_output(f"SET LOCAL lock_timeout = '{timeout}ms';\n")
        migrate(**arguments)

    def _statement_by_statement(self, migrate: Callable[..., None], **arguments: Any) -> None:
        with self.context.autocommit_block():
            self.context.opts[TRANSACTIONAL_OPTION] = False
            migrate(**arguments)
        self.context.opts[TRANSACTIONAL_OPTION] = True

    def _contracts(self, script: Script, *, is_upgrade: bool) -> None:
        if self.contracts is None:
            return
        line, revisions = self.contracts
        chosen = [revision for revision in revisions if revision.completes == script.revision]
        for revision in chosen if is_upgrade else reversed(chosen):
            if self.settings.contract == "now":
                self._contract(line, revision, is_upgrade)
            else:
                self.context.impl.static_output(
                    f"-- Left out: contract revision {revision.revision} ({revision.doc}), which "
                    f"completes {script.revision}. Give -x contract=now to have it.\n"
                )

    def _contract(self, line: Line, revision: Revision, is_upgrade: bool) -> None:
        script = line.scripts.get_revision(revision.revision)
        if script is None:
            raise InvalidRevision(revision.revision, "it is not there any more")
        direction = "upgrade" if is_upgrade else "downgrade"
        migrate = getattr(script.module, direction)
        each_revision = self.context.opts.get(EACH_REVISION_OPTION)
        if each_revision is not None:
            migrate = each_revision(script, migrate, is_upgrade)
        self.context.impl.static_output(f"-- Running contract {direction} {revision.revision}\n")
        self.context.opts[EXECUTOR_OPTION] = Executor(Patience(self.settings), script.revision)
        if marks_of(script).transactional:
            self.context.impl.emit_begin()
            self._transactional(migrate, **self.arguments)
            self._note_contract(line, revision, is_upgrade)
            self.context.impl.emit_commit()
            return
        self.context.opts[TRANSACTIONAL_OPTION] = False
        migrate(**self.arguments)
        self.context.opts[TRANSACTIONAL_OPTION] = True
        self.context.impl.emit_begin()
        self._note_contract(line, revision, is_upgrade)
        self.context.impl.emit_commit()

    def _note_contract(self, line: Line, revision: Revision, is_upgrade: bool) -> None:
        """Write what Alembic would do to the version table, which keeps the heads only."""
        _, contracts = self.contracts or (line, ())
        below = heads_among(revision.depends_on, contracts)
        table = line.version_table.sql
        self._create_contract_table(table)
        if is_upgrade:
            self._output_delete(table, below)
            self._output_insert(table, revision.revision, ())
            return
        self._output_delete(table, [revision.revision])
        for name in below:
            self._output_insert(table, name, builders_on(name, contracts))

    def _stamp_contracts(self) -> None:
        """Mark the contract revisions of what is stamped, as the runner does."""
        scripts = self.context.script
        if self.contracts is None or scripts is None or self.settings.contract == "hold":
            return
        line, contracts = self.contracts
        target = scripts.get_revisions(self.context.opts.get("destination_rev") or ())
        names = [script.revision for script in target if script is not None]
        history = Line(LineName.HISTORY, scripts, line.version_table).applied(names)
        applied = [c.revision for c in contracts if c.completes in history]
        table = line.version_table.sql
        self.context.impl.emit_begin()
        self._create_contract_table(table)
        self.context.impl.static_output(f"DELETE FROM {table};\n")
        for name in heads_among(applied, contracts):
            self._output_insert(table, name, ())
        self.context.impl.emit_commit()

    def _create_contract_table(self, table: str) -> None:
        self.context.impl.static_output(
            f"CREATE TABLE IF NOT EXISTS {table} (version_num varchar(32) NOT NULL PRIMARY KEY);\n"
        )

    def _output_delete(self, table: str, names: Sequence[str]) -> None:
        if names:
            listed = ", ".join(literal(name) for name in names)
            self.context.impl.static_output(
                f"DELETE FROM {table} WHERE version_num IN ({listed});\n"
            )

    def _output_insert(self, table: str, name: str, implied_by: Sequence[str]) -> None:
        condition = ""
        if implied_by:
            listed = ", ".join(literal(other) for other in implied_by)
            condition = f" WHERE NOT EXISTS (SELECT FROM {table} WHERE version_num IN ({listed}))"
        self.context.impl.static_output(
            f"INSERT INTO {table} (version_num) SELECT {literal(name)}{condition};\n"
        )
