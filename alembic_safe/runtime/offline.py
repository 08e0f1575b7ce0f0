"""`--sql`: the revisions that were asked for, as a script."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep

from alembic_safe.lines import (
    Line,
    LineName,
    Revision,
    contract_revisions,
    contract_scripts,
    contract_table,
    contracts_path,
    marks_of,
)
from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.runtime.execution import EXECUTOR_OPTION, TRANSACTIONAL_OPTION, Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import Script


def write_script(
    environment: EnvironmentContext,
    context: MigrationContext,
    settings: Settings,
    arguments: dict[str, Any],
) -> None:
    """Write the script of an upgrade or downgrade.

    There is no ledger to ask, so contract revisions are left out unless `contract=now` asks for
    them, and a comment says so.
    """
    script = _OfflineScript(context, settings, contracts_of(context))

    def steps(heads: tuple[str, ...], context: MigrationContext) -> Iterator[RevisionStep]:
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
    if history is None or not contracts_path(history).is_dir():
        return None
    table = contract_table(QualifiedName(context.version_table, context.version_table_schema))
    line = Line(LineName.CONTRACT, contract_scripts(history), table)
    return line, contract_revisions(line, history)


@dataclass
class _OfflineScript:
    context: MigrationContext
    settings: Settings
    contracts: tuple[Line, tuple[Revision, ...]] | None

    def steps(self, steps: Sequence[RevisionStep]) -> Iterator[RevisionStep]:
        """Give Alembic the steps; what stands before and behind a `yield` is outside of the
        step's transaction."""
        for step in steps:
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
        output = self.context.impl.static_output
        direction = "upgrade" if is_upgrade else "downgrade"
        output(f"-- Running contract {direction} {revision.revision}\n")
        self.context.opts[TRANSACTIONAL_OPTION] = False
        getattr(script.module, direction)()
        self.context.opts[TRANSACTIONAL_OPTION] = True
        table = line.version_table.sql
        output(
            f"CREATE TABLE IF NOT EXISTS {table} (version_num varchar(32) NOT NULL PRIMARY KEY);\n"
        )
        if is_upgrade:
            output(f"INSERT INTO {table} (version_num) VALUES ({literal(revision.revision)});\n")
        else:
            output(f"DELETE FROM {table} WHERE version_num = {literal(revision.revision)};\n")
