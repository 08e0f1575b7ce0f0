"""The runner: what `upgrade`, `downgrade`, `stamp` and `contract` do with a database."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.alembic_private import command_of, in_external_transaction
from alembic_safe.errors import (
    ContractPending,
    ExternalTransaction,
    GuardUnavailable,
    InvalidRevision,
    UnknownContract,
)
from alembic_safe.lines import (
    Line,
    LineName,
    Revision,
    contract_revisions,
    contract_scripts,
    contract_table,
    described,
    has_contracts,
    heads_among,
    readable_files,
)
from alembic_safe.operations.backfill import BACKFILL_TABLE
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.runtime.ending import Ending
from alembic_safe.runtime.events import CONTRACT_HELD, facts
from alembic_safe.runtime.failures import explained
from alembic_safe.runtime.fresh import note_if_empty
from alembic_safe.runtime.gate import (
    Evidence,
    Planned,
    RunPlan,
    plan_contracts,
    plan_downgrade,
    plan_upgrade,
)
from alembic_safe.runtime.ledger import (
    FIRST_UPGRADE,
    FIRST_UPGRADE_DONE,
    LEDGER_TABLE,
    RELEASE,
    Ledger,
)
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.replicas import ReplicaNotice, attached_replicas
from alembic_safe.runtime.retry_hook import load_retry_hook
from alembic_safe.runtime.second_connection import Session
from alembic_safe.runtime.sessions import (
    SessionSettings,
    check_server,
    in_driver_autocommit,
    noticed_if_gone,
    one_upgrade_at_a_time,
    query_scalar,
)
from alembic_safe.runtime.steps import StepRunner, check_function
from alembic_safe.runtime.supervision import Supervision
from alembic_safe.runtime.transaction_state import none_left_open
from alembic_safe.runtime.wait_line import WaitLine, terminal
from alembic_safe.settings import Settings, project_file

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import Script

    from alembic_safe.runtime.guard import Guard

log = logging.getLogger("alembic.safe")


@dataclass
class Runner:
    """One run of a command on a database.

    Args:
        environment: the Alembic environment.
        context: its migration context, as `env.py` configured it.
        settings: the settings in force.
        arguments: what is passed to each `upgrade()` and `downgrade()`.
    """

    environment: EnvironmentContext
    context: MigrationContext
    settings: Settings
    arguments: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def history(self) -> Line:
        """The user's own line of revisions."""
        scripts = self.context.script
        if scripts is None:
            raise TypeError("the migration context has no script directory")
        table = QualifiedName(self.context.version_table, self.context.version_table_schema)
        return Line(LineName.HISTORY, scripts, table)

    @cached_property
    def contract(self) -> Line | None:
        """The contract line; None as long as it has no folder."""
        if not has_contracts(self.history.scripts):
            return None
        table = contract_table(self.history.version_table)
        return Line(LineName.CONTRACT, contract_scripts(self.history.scripts), table)

    @cached_property
    def contracts(self) -> tuple[Revision, ...]:
        """All contract revisions, each after those it depends on."""
        if self.contract is None:
            return ()
        with readable_files(self.history.scripts):
            return contract_revisions(self.contract, self.history.scripts)

    @property
    def connection(self) -> Connection:
        """The migration's connection."""
        connection = self.context.connection
        if connection is None:
            raise TypeError("the runner needs a connection")
        return connection

    @property
    def own_tables(self) -> frozenset[str]:
        """The tables that this package keeps in the user's database."""
        contract_versions = contract_table(self.history.version_table).name
        return frozenset({LEDGER_TABLE, BACKFILL_TABLE, contract_versions})

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, beside the version table."""
        return Ledger(self.history.version_table.schema)

    def migrate(self) -> None:
        """Run `upgrade`, `downgrade` or `stamp`, whichever Alembic was asked for."""
        with self._prepared():
            heads = () if self.context.purge else self._heads(self.history)
            # Loading many files takes a while, in which no transaction should be open.
            self.connection.commit()
            with readable_files(self.history.scripts):
                steps = list(self.context.opts["fn"](heads, self.context))
            self.connection.commit()
            match _kind(command_of(self.context), steps):
                case "stamp":
                    self._stamp(steps)
                case "downgrade":
                    self._downgrade([step.revision for step in steps])
                case "upgrade":
                    self._upgrade(heads, [step.revision for step in steps])

    def _upgrade(self, heads: Sequence[str], scripts: Sequence[Script]) -> None:
        revisions = [described(script) for script in scripts]
        self._check_needs(scripts, revisions)
        evidence = self._evidence(heads)
        plan = plan_upgrade(revisions, self.contracts, evidence, self.settings)
        if self.settings.release not in (None, *evidence.release_first_seen):
            self._note(RELEASE)
        is_first = evidence.untouched and bool(plan.steps)
        is_fresh = is_first and self._note_first_upgrade()
        self._run(plan, guarded=not is_fresh)
        if is_first:
            self._note(FIRST_UPGRADE_DONE)
        self._tell_held(plan)

    def _note_first_upgrade(self) -> bool:
        """Write down that the first upgrade begins; return whether the database is a fresh one."""
        self._note(FIRST_UPGRADE)
        names = {*self.own_tables, self.history.version_table.name}
        is_fresh = note_if_empty(self.connection, self.ledger, names, self.settings.release)
        self.connection.commit()
        return is_fresh

    def _downgrade(self, scripts: Sequence[Script]) -> None:
        revisions = [described(script) for script in scripts]
        self._run(plan_downgrade(revisions, self.contracts, self._applied_contracts()))

    def contract_now(self, wanted: Collection[str]) -> None:
        """Run `alembic-safe contract`: the wanted contract revisions, or all that can be."""
        with self._prepared():
            names = [self._contract_named(name) for name in wanted]
            evidence = self._evidence(self._heads(self.history))
            plan = plan_contracts(names, self.contracts, evidence)
            if not plan.steps:
                log.info("No contract revision to apply")
            self._run(plan)
            self._tell_held(plan)

    def refuse_pending(self) -> None:
        """Raise if contract revisions wait on this database.

        Raises:
            ContractPending: models and database differ by what those would change, so that
                autogenerate would write it a second time.
        """
        history = self.history.applied(self._heads(self.history))
        done = self._applied_contracts()
        if not in_external_transaction(self.context):
            self.connection.rollback()
        pending = [
            contract
            for contract in self.contracts
            if contract.completes in history and contract.revision not in done
        ]
        if pending:
            names = ", ".join(f"{contract.revision} ({contract.doc})" for contract in pending)
            raise ContractPending(
                f"Contract revisions are not applied to this database: {names}. Models and "
                "database differ by what they change. Apply them here with `alembic-safe contract`"
                ", or `alembic -x contract=now upgrade head`, then run the same command again."
            )

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        if in_external_transaction(self.context):
            raise ExternalTransaction
        if in_driver_autocommit(self.connection):
            # An engine in autocommit mode would make each statement of a revision its own commit.
            self.connection.execution_options(isolation_level="READ COMMITTED")
        check_server(self.connection)
        session = SessionSettings.read(self.connection)
        self.connection.commit()
        lock = one_upgrade_at_a_time(
            self.connection, self.history.version_table, self.settings.upgrade_deadline
        )
        with lock, noticed_if_gone(self.connection), none_left_open(self.connection):
            hook = load_retry_hook(self.settings.retry)
            line = WaitLine(terminal())
            supervision = self._supervision(line)
            self._steps = StepRunner(
                self.environment,
                dict(self.context.opts),
                self.connection,
                self.ledger,
                Patience(
                    self.settings,
                    supervision=supervision,
                    hook=hook,
                    ending=self._ending(),
                    line=line,
                ),
                session,
                arguments=self.arguments,
            )
            try:
                yield
            finally:
                if supervision is not None:
                    supervision.close()
                if not self.connection.closed and not self.connection.invalidated:
                    self.connection.rollback()
                    session.restore(self.connection)
                    self.connection.commit()

    def _supervision(self, line: WaitLine) -> Supervision | None:
        if self.settings.locking == "ladder":
            return None
        return Supervision(Session.of(self.connection), line)

    def _ending(self) -> Ending | None:
        if not self.settings.end_blockers:
            return None
        return Ending(self.settings.end_blockers, self.ledger, self.settings.release)

    def _run(self, plan: RunPlan, *, guarded: bool = True) -> None:
        if not plan.steps:
            return
        for step in plan.steps:
            script = _found(self._line(step.line), step.revision)
            check_function(script, is_upgrade=step.is_upgrade)
        if guarded:
            self._steps.guard = self._guard()
            self._steps.patience.replicas = ReplicaNotice(attached_replicas(self.connection))
        self._create_ledger()
        for (line_name, is_upgrade), group in groupby(
            plan.steps, key=lambda step: (step.line, step.is_upgrade)
        ):
            line = self._line(line_name)
            self._steps.run(line, self._scripts(line, group), is_upgrade=is_upgrade)

    def _guard(self) -> Guard | None:
        # Only what runs revisions needs the rules and, with them, the SQL parser.
        from alembic_safe.rules.settings import load_lint_settings
        from alembic_safe.runtime.guard import Guard

        project = project_file(self.environment.config.config_file_name)
        lint_settings = load_lint_settings(project)
        try:
            return Guard(self.settings, lint_settings, self._steps.session, self.connection)
        except GuardUnavailable:
            if self.settings.guard == "off":
                return None
            raise

    def _check_needs(self, scripts: Sequence[Script], revisions: Sequence[Revision]) -> None:
        known = {contract.revision for contract in self.contracts}
        for script, revision in zip(scripts, revisions, strict=True):
            for needed in revision.needs_contract:
                if needed not in known:
                    raise InvalidRevision(
                        script.path,
                        f"it needs contract revision {needed}, which is not in contracts/",
                    )

    def _line(self, name: LineName) -> Line:
        if name is LineName.HISTORY or self.contract is None:
            return self.history
        return self.contract

    def _scripts(self, line: Line, steps: Iterable[Planned]) -> list[Script]:
        return [_found(line, step.revision) for step in steps]

    def _heads(self, line: Line) -> tuple[str, ...]:
        exists = query_scalar(self.connection, f"SELECT {line.version_table.regclass} IS NOT NULL")
        if not exists:
            return ()
        rows = self.connection.execute(text(f"SELECT version_num FROM {line.version_table.sql}"))
        return tuple(rows.scalars())

    def _applied_contracts(self) -> frozenset[str]:
        if self.contract is None:
            return frozenset()
        return self.contract.applied(self._heads(self.contract))

    def _evidence(self, heads: Sequence[str]) -> Evidence:
        self.connection.commit()
        history = self.history.applied(heads)
        record = self.ledger.read(self.connection)
        evidence = Evidence(
            history=history,
            contracts=self._applied_contracts(),
            applied=record.applied,
            release_first_seen=record.release_first_seen,
            untouched=not history or record.is_unfinished,
            now=record.now,
        )
        self.connection.commit()
        return evidence

    def _create_ledger(self) -> None:
        try:
            self.ledger.create(self.connection)
            self.connection.commit()
        except DBAPIError as error:
            raise explained(error, f"Creating the ledger table {self.ledger.table}") from error

    def _note(self, event: str) -> None:
        self._create_ledger()
        self.ledger.note_event(self.connection, event, self.settings.release)
        self.connection.commit()

    def _tell_held(self, plan: RunPlan) -> None:
        for contract, held in plan.held:
            log.warning(
                "Held: contract revision %s (%s): %s. To apply it once the old release is gone: "
                "alembic-safe contract %s",
                contract.revision,
                contract.doc,
                held.reason,
                contract.revision,
                extra=facts(CONTRACT_HELD, revision=contract.revision, reason=held.reason),
            )

    def _contract_named(self, name: str) -> str:
        matches = [c.revision for c in self.contracts if c.revision.startswith(name)]
        if len(matches) != 1:
            known = ", ".join(f"{c.revision} ({c.doc})" for c in self.contracts) or "none"
            raise UnknownContract(name, known)
        return matches[0]

    def _stamp(self, steps: Sequence[StampStep]) -> None:
        """Stamp the history, and the contract line by what the stamped history completes."""
        # Before anything is stamped: one of their files may be one that cannot be read.
        contracts = self.contracts
        self._create_ledger()
        self._steps.configure(self.history, fn=lambda _heads, _context: steps)
        self.environment.run_migrations(**self.arguments)
        heads = self._heads(self.history)
        for revision in heads:
            self.ledger.note_step(
                self.connection,
                event="stamp",
                line=LineName.HISTORY.value,
                revision=revision,
                phase=None,
                release=self.settings.release,
                attempts=1,
            )
        if self.contract is not None and self.settings.contract != "hold":
            history = self.history.applied(heads)
            self._set_contracts({c.revision for c in contracts if c.completes in history})
        self.connection.commit()

    def _set_contracts(self, applied: set[str]) -> None:
        table = contract_table(self.history.version_table).sql
        self.connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {table} (version_num varchar(32) NOT NULL PRIMARY KEY)"
            )
        )
        self.connection.execute(text(f"DELETE FROM {table}"))
        for revision in heads_among(applied, self.contracts):
            self.connection.execute(
                text(f"INSERT INTO {table} (version_num) VALUES (CAST(:revision AS text))"),
                {"revision": revision},
            )


def _kind(command: str, steps: Sequence[RevisionStep | StampStep]) -> str:
    """Return what to do: a command without steps may still be an upgrade that owes contract
    revisions, and a program may run steps without any command of Alembic's."""
    if command in ("stamp", "downgrade", "upgrade"):
        return command
    if any(isinstance(step, StampStep) for step in steps):
        return "stamp"
    if steps:
        return "upgrade" if steps[0].is_upgrade else "downgrade"
    return ""


def _found(line: Line, revision: str) -> Script:
    script = line.scripts.get_revision(revision)
    if script is None:
        raise InvalidRevision(revision, "it is not there any more")
    return script
