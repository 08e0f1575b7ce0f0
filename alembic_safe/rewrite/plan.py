"""Step and Plan: what a recipe returns, and how steps become revisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alembic.operations import MigrateOperation

from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


@dataclass(frozen=True)
class Step:
    """A part of a change that belongs into one revision.

    Args:
        phase: expand, migrate or contract.
        table: the table that it is about.
        upgrade: its operations.
        downgrade: the operations of the way back, in the order in which they run.
        says: what it does, in one sentence, for the docstring.
        requires: what must be true before it runs; empty for nothing.
        locks: existing tables on which it takes a lock that blocks reads or writes.
        lock: the first mode in which it takes them.
        touches: names of what it adds, changes or removes, as `column users.name`, `index ix`,
            `constraint ck`: later revisions that touch the same have to come after it. What
            makes columns unique has that too, as `unique_name` writes it.
        needs: what other steps may touch, and it does not: it has to come after those.
        commits_alone: an expand step whose operations commit one by one, as those of the other
            phases do.
    """

    phase: Phase
    table: QualifiedName
    upgrade: tuple[MigrateOperation, ...]
    downgrade: tuple[MigrateOperation, ...]
    says: str
    requires: str = ""
    locks: frozenset[QualifiedName] = frozenset()
    lock: LockMode = LockMode.ACCESS_EXCLUSIVE
    touches: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    commits_alone: bool = False


Plan = tuple[Step, ...]
"""The steps of one change, in order."""


@dataclass(frozen=True)
class RevisionDraft:
    """A revision to be written: its steps, all of one phase.

    Args:
        phase: the phase.
        steps: the steps, in order.
        number: its place among the revisions of this phase on the history, from 1.
    """

    phase: Phase
    steps: tuple[Step, ...] = ()
    number: int = 1

    @property
    def transactional(self) -> bool:
        """Whether its operations run in one transaction."""
        return self.phase is Phase.EXPAND and not any(step.commits_alone for step in self.steps)

    @property
    def upgrade(self) -> list[MigrateOperation]:
        """The operations of `upgrade()`."""
        return [operation for step in self.steps for operation in step.upgrade]

    @property
    def downgrade(self) -> list[MigrateOperation]:
        """The operations of `downgrade()`: the steps from the last to the first."""
        return [operation for step in reversed(self.steps) for operation in step.downgrade]

    @property
    def touches(self) -> tuple[str, ...]:
        """What the steps touch."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.touches))

    @property
    def follows(self) -> frozenset[str]:
        """What earlier revisions touch that it has to come after."""
        return frozenset(self.touches).union(*(step.needs for step in self.steps))


@dataclass(frozen=True)
class RevisionSequence:
    """The revisions of one `revision --autogenerate`."""

    history: tuple[RevisionDraft, ...]
    contracts: tuple[RevisionDraft, ...]


def arrange(plans: Iterable[Plan]) -> RevisionSequence:
    """Return the fewest revisions that keep the rules.

    A transactional revision takes blocking locks on one existing table, and never a stronger one
    after a weaker one: a client that has read the table and waits to write to it would deadlock
    with us. Everything that does not run in a transaction shares one migrate revision; contract
    revisions are one for each table, and steps that need what others of them do come in further
    ones after those.
    A contract revision has to complete a revision of the history, so that the gate can tell when
    the release that needs it came; where there would be none, an empty one is written.
    """
    steps = [step for plan in plans for step in plan]
    expand = _grouped_by_lock([step for step in steps if step.phase is Phase.EXPAND])
    migrate = tuple(step for step in steps if step.phase is Phase.MIGRATE)
    contract = _grouped_by_table([step for step in steps if step.phase is Phase.CONTRACT])
    history = expand
    if migrate:
        history = (*history, RevisionDraft(Phase.MIGRATE, migrate))
    if contract and not history:
        history = (RevisionDraft(Phase.EXPAND),)
    return RevisionSequence(history, contract)


def _grouped_by_lock(steps: Sequence[Step]) -> tuple[RevisionDraft, ...]:
    groups: list[list[Step]] = []
    locked: dict[QualifiedName, LockMode] = {}
    for step in steps:
        is_mixed = bool(groups) and groups[-1][-1].commits_alone != step.commits_alone
        is_crowded = len(locked.keys() | step.locks) > 1
        is_stronger = any(locked.get(table, step.lock) < step.lock for table in step.locks)
        if not groups or is_mixed or (not step.commits_alone and (is_crowded or is_stronger)):
            groups.append([])
            locked = {}
        groups[-1].append(step)
        locked |= dict.fromkeys(step.locks, step.lock)
    return tuple(
        RevisionDraft(Phase.EXPAND, tuple(group), number)
        for number, group in enumerate(groups, start=1)
    )


def _grouped_by_table(steps: Sequence[Step]) -> tuple[RevisionDraft, ...]:
    touched = {name for step in steps for name in step.touches}
    groups: dict[tuple[bool, QualifiedName], list[Step]] = {}
    for is_late in (False, True):
        for step in steps:
            if touched.isdisjoint(step.needs) is not is_late:
                groups.setdefault((is_late, step.table), []).append(step)
    return tuple(RevisionDraft(Phase.CONTRACT, tuple(group)) for group in groups.values())
