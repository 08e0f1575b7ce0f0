"""Which generated sequences a history has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alembic_safe.lines import Revision, marks_of
from alembic_safe.lint.ranges import in_ranges, revisions_of
from alembic_safe.lint.recording import RecordedStep, record
from alembic_safe.operations.sync import CreateSyncTriggerOp, DropSyncedColumnOp
from alembic_safe.phases import Phase
from alembic_safe.testing.migrations import Migrations, in_folder_of

if TYPE_CHECKING:
    from alembic.script import Script

Renamed = Mapping[str, Mapping[str, str]]
"""By table, {old column: new column} where a sync trigger keeps the two equal."""


@dataclass(frozen=True)
class RevisionSequence:
    """The revisions of one change, or of changes that followed each other without an end between.

    Args:
        scripts: revisions of the history, in their order.
        contracts: contract revisions that complete them, in their order.
        renamed: columns that the two releases call differently.
    """

    scripts: tuple[Script, ...]
    contracts: tuple[str, ...] = ()
    renamed: Renamed = field(default_factory=dict)

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The revisions before it."""
        below = self.scripts[0].down_revision
        if below is None:
            return ()
        return (below,) if isinstance(below, str) else tuple(below)

    @property
    def last(self) -> str:
        """Its last revision of the history."""
        return self.scripts[-1].revision


def sequences_of(migrations: Migrations, start_after: str | None) -> list[RevisionSequence]:
    """Return the sequences after the baseline, in the order of the history.

    Revisions without a phase, which were not generated, belong to none.
    """
    with in_folder_of(migrations.config):
        revisions = revisions_of(migrations.scripts)
        judged = in_ranges(revisions, (), start_after)
        scripts = [script for script in revisions.scripts if script.revision in judged]
        groups = grouped(scripts, revisions.contracts)
        if not groups:
            return []
        recordings = record(migrations.config, migrations.scripts, revisions.scripts, ())
    steps = [step for recording in recordings for step in recording.steps]
    found = []
    for group in groups:
        names = {script.revision for script in group}
        contracts = tuple(c.revision for c in revisions.contracts if c.completes in names)
        renamed = _renamed(steps, names.union(contracts))
        found.append(RevisionSequence(tuple(group), contracts, renamed))
    return found


def groups_of(migrations: Migrations) -> list[list[Script]]:
    """Return the revisions of the history that were generated, in groups that belong together."""
    with in_folder_of(migrations.config):
        revisions = revisions_of(migrations.scripts)
        return grouped(revisions.scripts, revisions.contracts)


def grouped(scripts: Iterable[Script], contracts: Sequence[Revision]) -> list[list[Script]]:
    """Return revisions of the history in groups that belong together.

    What one `revision --autogenerate` wrote has one message. A change is at its end, too, where a
    contract revision completes it, and where an expand revision follows a migrate revision.
    """
    completed = {contract.completes for contract in contracts}
    groups: list[list[Script]] = []
    before: Script | None = None
    for script in scripts:
        phase = marks_of(script).phase
        if phase is None:
            before = None
            continue
        goes_on = (
            before is not None
            and before.revision not in completed
            and _message(before) == _message(script)
            and (marks_of(before).phase, phase) != (Phase.MIGRATE, Phase.EXPAND)
        )
        if not goes_on:
            groups.append([])
        groups[-1].append(script)
        before = script
    return groups


def _message(script: Script) -> str:
    """Return what the user gave as message: it stands behind the phase."""
    return script.doc.partition(": ")[2]


def _renamed(steps: Iterable[RecordedStep], revisions: Collection[str]) -> Renamed:
    found: dict[str, dict[str, str]] = {}
    for step in steps:
        if step.revision not in revisions or not step.is_upgrade:
            continue
        for written in step.written:
            operation = written.operation
            if isinstance(operation, (CreateSyncTriggerOp, DropSyncedColumnOp)):
                table = operation.table_name
                if operation.schema is not None:
                    table = f"{operation.schema}.{table}"
                found.setdefault(table, {})[operation.source] = operation.target
    return found
