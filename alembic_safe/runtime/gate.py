"""The gate: which revisions a run applies, in which order, and which it holds back.

Everything here is a pure function of what the revision files, the version tables and the ledger
say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from alembic_safe.errors import ContractNeeded
from alembic_safe.lines import LineName, Revision
from alembic_safe.settings import Settings


@dataclass(frozen=True)
class Applied:
    """When a revision was applied, and by which release (None: none was given)."""

    release: str | None
    at: datetime


@dataclass(frozen=True)
class Evidence:
    """What the database tells about the past.

    Args:
        history: applied revisions of the history.
        contracts: applied contract revisions.
        applied: the ledger's record of each applied revision of the history, where it has one.
        release_first_seen: when each release first ran `upgrade`.
        untouched: nothing is applied to this database, or its first upgrade was cut short, so
            that no release works with it yet.
        now: the time of the decision, by the database's clock.
    """

    history: Collection[str]
    contracts: Collection[str]
    applied: Mapping[str, Applied]
    release_first_seen: Mapping[str, datetime]
    untouched: bool
    now: datetime


@dataclass(frozen=True)
class Due:
    """The contract revision may run now."""


@dataclass(frozen=True)
class Held:
    """The contract revision has to wait, and why."""

    reason: str


@dataclass(frozen=True)
class Planned:
    """One step of a run."""

    line: LineName
    revision: str
    is_upgrade: bool


@dataclass(frozen=True)
class RunPlan:
    """What a run will do, in order, and which contract revisions it leaves."""

    steps: tuple[Planned, ...]
    held: tuple[tuple[Revision, Held], ...] = ()


def due(contract: Revision, evidence: Evidence, settings: Settings) -> Due | Held:
    """Decide whether a contract revision, whose completed revision is applied, may run.

    The release that still needs the old schema is gone when a release that came after the one
    that applied the completed revision is being deployed.
    """
    if settings.contract == "hold":
        return Held("contract=hold was asked for")
    if evidence.untouched or settings.contract == "now":
        return Due()
    if settings.release is None:
        return Held("no release was given (ALEMBIC_SAFE_RELEASE or -x release=)")
    completed = contract.completes or ""
    applied = evidence.applied.get(completed)
    if applied is None:
        return Held(f"the ledger does not tell which release applied {completed}")
    return _due_after(applied, completed, evidence, settings)


def _due_after(
    applied: Applied, completed: str, evidence: Evidence, settings: Settings
) -> Due | Held:
    if applied.release is None:
        return Held(f"{completed} was applied without a release")
    if applied.release == settings.release:
        return Held(
            f"release {applied.release} applied {completed} itself; the next one may run it"
        )
    first_seen = evidence.release_first_seen.get(settings.release or "")
    if first_seen is not None and first_seen < applied.at:
        return Held(
            f"release {settings.release} is older than {applied.release}, which applied {completed}"
        )
    ready_at = applied.at + timedelta(seconds=settings.soak)
    if evidence.now < ready_at:
        return Held(
            f"{completed} has to be applied for {settings.soak:g} s; ready at {ready_at:%c}"
        )
    return Due()


def plan_upgrade(
    history_steps: Sequence[Revision],
    contracts: Sequence[Revision],
    evidence: Evidence,
    settings: Settings,
) -> RunPlan:
    """Return the steps of an upgrade.

    Contract revisions that are due run right after the revision that they complete, or at the
    beginning where that was applied earlier, so that the order of creation is the order of
    execution.

    Args:
        history_steps: the revisions of the history that were asked for, in order.
        contracts: all contract revisions, each after those it depends on.

    Raises:
        ContractNeeded: a revision needs a contract revision that would not be applied before it.
    """
    planner = _UpgradePlanner(contracts, evidence, settings)
    planner.take_due()
    for step in history_steps:
        planner.take_history(step)
        planner.take_due()
    return RunPlan(tuple(planner.steps), tuple(planner.held.values()))


class _UpgradePlanner:
    def __init__(
        self, contracts: Sequence[Revision], evidence: Evidence, settings: Settings
    ) -> None:
        self.contracts = contracts
        self.evidence = evidence
        self.settings = settings
        self.history = set(evidence.history)
        self.done = set(evidence.contracts)
        self.applied = dict(evidence.applied)
        self.steps: list[Planned] = []
        self.held: dict[str, tuple[Revision, Held]] = {}

    def take_history(self, step: Revision) -> None:
        for needed in step.needs_contract:
            if needed not in self.done:
                raise ContractNeeded(_needed_message(step, needed, self.held.get(needed)))
        self.steps.append(Planned(LineName.HISTORY, step.revision, is_upgrade=True))
        self.history.add(step.revision)
        self.applied[step.revision] = Applied(self.settings.release, self.evidence.now)

    def take_due(self) -> None:
        for contract in self.contracts:
            if contract.revision in self.done or contract.completes not in self.history:
                continue
            decision = self._decide(contract)
            if isinstance(decision, Due):
                self.steps.append(Planned(LineName.CONTRACT, contract.revision, is_upgrade=True))
                self.done.add(contract.revision)
                self.held.pop(contract.revision, None)
            else:
                self.held[contract.revision] = (contract, decision)

    def _decide(self, contract: Revision) -> Due | Held:
        waiting_for = [name for name in contract.depends_on if name not in self.done]
        if waiting_for:
            return Held(f"it builds on {', '.join(waiting_for)}, which is held")
        evidence = Evidence(
            history=self.history,
            contracts=self.done,
            applied=self.applied,
            release_first_seen=self.evidence.release_first_seen,
            untouched=self.evidence.untouched,
            now=self.evidence.now,
        )
        return due(contract, evidence, self.settings)


def _needed_message(step: Revision, needed: str, held: tuple[Revision, Held] | None) -> str:
    reason = f" That one is held: {held[1].reason}." if held is not None else ""
    completes = held[0].completes if held is not None else None
    first = (
        f" First deploy the release that has {completes}, without {step.revision}; then the one"
        " after it."
        if completes is not None
        else ""
    )
    return (
        f"Revision {step.revision} ({step.doc}) needs contract revision {needed}, which is not"
        f" applied.{reason}{first} Or run `alembic-safe contract {needed}` once the old release is"
        " gone. Nothing was applied."
    )


def plan_contracts(
    wanted: Collection[str],
    contracts: Sequence[Revision],
    evidence: Evidence,
) -> RunPlan:
    """Return the steps of `alembic-safe contract`: the wanted ones and what they build on.

    Args:
        wanted: contract revisions; empty for all whose completed revision is applied.
        contracts: all contract revisions, each after those it depends on.
    """
    chosen = set(wanted) or {contract.revision for contract in contracts}
    for contract in reversed(contracts):
        if contract.revision in chosen:
            chosen.update(contract.depends_on)
    done = set(evidence.contracts)
    steps = []
    held = []
    for contract in contracts:
        if contract.revision not in chosen or contract.revision in done:
            continue
        if contract.completes not in evidence.history:
            held.append((contract, Held(f"{contract.completes} is not applied")))
            continue
        missing = [name for name in contract.depends_on if name not in done]
        if missing:
            held.append((contract, Held(f"it builds on {', '.join(missing)}, not applied")))
            continue
        steps.append(Planned(LineName.CONTRACT, contract.revision, is_upgrade=True))
        done.add(contract.revision)
    return RunPlan(tuple(steps), tuple(held))


def plan_downgrade(
    history_steps: Sequence[Revision], contracts: Sequence[Revision], applied: Collection[str]
) -> RunPlan:
    """Return the steps of a downgrade: before a revision, the contract revisions completing it.

    Args:
        history_steps: the revisions of the history that were asked for, the latest first.
        contracts: all contract revisions, each after those it depends on.
        applied: applied contract revisions.
    """
    steps: list[Planned] = []
    remaining = set(applied)
    for step in history_steps:
        going = {
            contract.revision
            for contract in contracts
            if contract.completes == step.revision and contract.revision in remaining
        }
        for contract in contracts:
            if contract.revision in remaining and going.intersection(contract.depends_on):
                going.add(contract.revision)
        steps.extend(
            Planned(LineName.CONTRACT, contract.revision, is_upgrade=False)
            for contract in reversed(contracts)
            if contract.revision in going
        )
        remaining -= going
        steps.append(Planned(LineName.HISTORY, step.revision, is_upgrade=False))
    return RunPlan(tuple(steps))
