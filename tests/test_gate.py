"""The gate, one line for each case: which revisions a run applies, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone

import pytest

from alembic_safe.errors import ContractNeeded
from alembic_safe.lines import Revision
from alembic_safe.runtime.gate import (
    Applied,
    Due,
    Evidence,
    Held,
    RunPlan,
    due,
    plan_contracts,
    plan_downgrade,
    plan_upgrade,
)
from alembic_safe.settings import Settings

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)

E1, E2, E3 = Revision("e1"), Revision("e2"), Revision("e3")
C1, C2 = Revision("c1", completes="e1"), Revision("c2", completes="e2")


def ago(**time: float) -> datetime:
    return NOON - timedelta(**time)


def by(release: str | None, at: datetime | None = None) -> Applied:
    return Applied(release, at or ago(days=1))


def seen(
    applied: Mapping[str, Applied] | None = None,
    *,
    history: Sequence[str] | None = None,
    contracts: Sequence[str] = (),
    first_seen: Mapping[str, datetime] | None = None,
    untouched: bool = False,
) -> Evidence:
    applied = applied or {}
    return Evidence(
        history=tuple(applied) if history is None else history,
        contracts=contracts,
        applied=applied,
        release_first_seen=first_seen or {},
        untouched=untouched,
        now=NOON,
    )


def reason(decision: Due | Held) -> str:
    assert isinstance(decision, Held)
    return decision.reason


def order(plan: RunPlan) -> str:
    """The plan as one line: `+e1` applies, `-e1` takes back."""
    return " ".join(("+" if step.is_upgrade else "-") + step.revision for step in plan.steps)


def held(plan: RunPlan) -> list[str]:
    return [contract.revision for contract, _why in plan.held]


# The table: no release given, a release given.

R1_DID = seen({"e1": by("r1")})


def test_without_a_release_contract_is_held() -> None:
    assert "no release was given" in reason(due(C1, R1_DID, Settings()))


def test_the_next_release_makes_it_due() -> None:
    assert due(C1, R1_DID, Settings(release="r2")) == Due()


def test_the_release_that_applied_the_completed_revision_does_not() -> None:
    assert "r1 applied e1 itself" in reason(due(C1, R1_DID, Settings(release="r1")))


def test_now_makes_it_due_without_a_release() -> None:
    assert due(C1, R1_DID, Settings(contract="now")) == Due()


def test_now_makes_it_due_with_the_same_release() -> None:
    assert due(C1, R1_DID, Settings(contract="now", release="r1")) == Due()


def test_now_does_not_wait_for_the_soak() -> None:
    assert due(C1, R1_DID, Settings(contract="now", soak=1e9)) == Due()


def test_hold_holds_what_would_be_due() -> None:
    assert "hold" in reason(due(C1, R1_DID, Settings(contract="hold", release="r2")))


def test_on_a_fresh_database_it_is_due_with_and_without_a_release() -> None:
    fresh = seen({"e1": by("r1")}, untouched=True)
    assert due(C1, fresh, Settings()) == Due()
    assert due(C1, fresh, Settings(release="r1", soak=1e9)) == Due()


def test_hold_is_said_aloud_and_so_holds_on_a_fresh_database_too() -> None:
    fresh = seen({"e1": by("r1")}, untouched=True)
    assert "hold" in reason(due(C1, fresh, Settings(contract="hold")))


# What the ledger does not know.


def test_a_revision_that_was_applied_without_a_release_holds_its_contract() -> None:
    without = seen({"e1": by(None)})
    assert "e1 was applied without a release" in reason(due(C1, without, Settings(release="r2")))


def test_a_revision_the_ledger_does_not_know_holds_its_contract() -> None:
    unknown = seen(history=["e1"])
    assert "does not tell" in reason(due(C1, unknown, Settings(release="r2")))


# An older release, deployed again, is not the release after.

ROLLED_BACK = seen(
    {"e1": by("r2", ago(hours=1))},
    first_seen={"r1": ago(hours=9), "r2": ago(hours=1), "r3": ago(minutes=5)},
)


def test_an_older_release_deployed_again_does_not_make_it_due() -> None:
    assert "r1 is older than r2" in reason(due(C1, ROLLED_BACK, Settings(release="r1")))


def test_a_release_that_came_after_does_even_if_it_was_seen_before() -> None:
    assert due(C1, ROLLED_BACK, Settings(release="r3")) == Due()


def test_a_release_nobody_has_seen_is_a_new_one() -> None:
    assert due(C1, ROLLED_BACK, Settings(release="r4")) == Due()


# Soak.


@pytest.mark.parametrize(
    ("applied", "is_due"),
    [
        (ago(minutes=59, seconds=59), False),
        (ago(hours=1), True),
        (ago(hours=1, seconds=1), True),
    ],
)
def test_soak_counts_from_the_completed_revision(applied: datetime, is_due: bool) -> None:
    decision = due(C1, seen({"e1": by("r1", applied)}), Settings(release="r2", soak=3600))
    assert isinstance(decision, Due) is is_due


def test_the_reason_for_a_soak_says_when_it_is_over() -> None:
    young = seen({"e1": by("r1", ago(minutes=20))})
    assert "12:40:00" in reason(due(C1, young, Settings(release="r2", soak=3600)))


# The order of an upgrade.


def test_a_fresh_database_gets_everything_in_the_order_of_creation() -> None:
    plan = plan_upgrade([E1, E2, E3], [C1, C2], seen(untouched=True), Settings())
    assert (order(plan), held(plan)) == ("+e1 +c1 +e2 +c2 +e3", [])


def test_an_upgrade_that_ends_earlier_takes_no_contract_from_behind_it() -> None:
    plan = plan_upgrade([E1], [C1, C2], seen(untouched=True), Settings())
    assert (order(plan), held(plan)) == ("+e1 +c1", [])


def test_without_a_release_the_history_goes_on_and_contract_is_listed() -> None:
    plan = plan_upgrade([E2], [C1, C2], seen({"e1": by("r1")}), Settings())
    assert (order(plan), held(plan)) == ("+e2", ["c1", "c2"])


def test_what_is_due_from_earlier_runs_before_the_history() -> None:
    plan = plan_upgrade([E2], [C1, C2], seen({"e1": by("r1")}), Settings(release="r2"))
    assert (order(plan), held(plan)) == ("+c1 +e2", ["c2"])


def test_what_is_due_runs_with_no_new_revision_at_all() -> None:
    plan = plan_upgrade([], [C1], seen({"e1": by("r1")}), Settings(release="r2"))
    assert order(plan) == "+c1"


def test_an_applied_contract_revision_is_not_run_again() -> None:
    done = seen({"e1": by("r1")}, contracts=["c1"])
    plan = plan_upgrade([], [C1], done, Settings(release="r2"))
    assert (order(plan), held(plan)) == ("", [])


def test_now_runs_each_right_after_what_it_completes() -> None:
    plan = plan_upgrade([E1, E2], [C1, C2], seen({"e0": by("r0")}), Settings(contract="now"))
    assert order(plan) == "+e1 +c1 +e2 +c2"


def test_hold_runs_the_history_alone() -> None:
    settings = Settings(contract="hold", release="r2")
    plan = plan_upgrade([E2], [C1], seen({"e1": by("r1")}), settings)
    assert (order(plan), held(plan)) == ("+e2", ["c1"])


def test_several_that_complete_one_revision_all_run() -> None:
    other = Revision("c0", completes="e1")
    plan = plan_upgrade([E1, E2], [other, C1], seen(untouched=True), Settings())
    assert order(plan) == "+e1 +c0 +c1 +e2"


# Contract revisions that build on each other.

ON_C1 = Revision("c2", completes="e2", depends_on=("c1",))


def test_a_contract_revision_runs_after_the_one_it_builds_on() -> None:
    both = seen({"e1": by("r1"), "e2": by("r1")})
    plan = plan_upgrade([], [C1, ON_C1], both, Settings(release="r2"))
    assert order(plan) == "+c1 +c2"


def test_a_contract_revision_is_held_with_the_one_it_builds_on() -> None:
    mixed = seen({"e1": by("r2"), "e2": by("r1")}, first_seen={"r1": ago(days=2)})
    plan = plan_upgrade([], [C1, ON_C1], mixed, Settings(release="r2"))
    assert (order(plan), held(plan)) == ("", ["c1", "c2"])
    assert "builds on c1, which is held" in plan.held[1][1].reason


# A revision of the history that needs contract.

NEEDS_C1 = Revision("e2", doc="drops a table", needs_contract=("c1",))


def test_what_is_needed_and_due_runs_first() -> None:
    plan = plan_upgrade([NEEDS_C1], [C1], seen({"e1": by("r1")}), Settings(release="r2"))
    assert order(plan) == "+c1 +e2"


def test_what_is_needed_and_applied_lets_the_history_go_on() -> None:
    done = seen({"e1": by("r1")}, contracts=["c1"])
    assert order(plan_upgrade([NEEDS_C1], [C1], done, Settings())) == "+e2"


def test_on_a_fresh_database_what_is_needed_is_there_in_time() -> None:
    plan = plan_upgrade([E1, NEEDS_C1], [C1], seen(untouched=True), Settings())
    assert order(plan) == "+e1 +c1 +e2"


def test_what_is_needed_and_held_stops_the_run_and_says_which_release_goes_first() -> None:
    with pytest.raises(ContractNeeded) as caught:
        plan_upgrade([NEEDS_C1, E3], [C1], seen({"e1": by("r1")}), Settings(release="r1"))
    message = str(caught.value)
    assert "e2 (drops a table) needs contract revision c1" in message
    assert "r1 applied e1 itself" in message
    assert "First deploy the release that has e1, without e2; then the one after it" in message
    assert "alembic-safe contract c1" in message
    assert "Nothing was applied" in message


def test_one_release_that_has_both_the_change_and_what_needs_its_contract_is_stopped() -> None:
    with pytest.raises(ContractNeeded, match="First deploy the release that has e1"):
        plan_upgrade([E1, NEEDS_C1], [C1], seen({"e0": by("r0")}), Settings(release="r1"))


# `alembic-safe contract`.


def test_contract_without_a_name_runs_all_whose_completed_revision_is_applied() -> None:
    plan = plan_contracts([], [C1, C2], seen(history=["e1"]))
    assert (order(plan), held(plan)) == ("+c1", ["c2"])
    assert "e2 is not applied" in plan.held[0][1].reason


def test_contract_with_a_name_runs_that_one() -> None:
    assert order(plan_contracts(["c2"], [C1, C2], seen(history=["e1", "e2"]))) == "+c2"


def test_contract_with_a_name_runs_what_that_one_builds_on() -> None:
    last = Revision("c3", completes="e3", depends_on=("c2",))
    plan = plan_contracts(["c3"], [C1, ON_C1, last], seen(history=["e1", "e2", "e3"]))
    assert order(plan) == "+c1 +c2 +c3"


def test_contract_does_not_run_one_without_what_it_builds_on() -> None:
    plan = plan_contracts(["c2"], [C1, ON_C1], seen(history=["e2"]))
    assert (order(plan), held(plan)) == ("", ["c1", "c2"])


def test_contract_runs_nothing_twice() -> None:
    assert order(plan_contracts([], [C1], seen(history=["e1"], contracts=["c1"]))) == ""


# The order of a downgrade.


def test_a_downgrade_takes_contract_back_before_what_it_completes() -> None:
    plan = plan_downgrade([E2, E1], [C1, C2], ["c1", "c2"])
    assert order(plan) == "-c2 -e2 -c1 -e1"


def test_a_downgrade_leaves_the_contract_of_revisions_that_stay() -> None:
    assert order(plan_downgrade([E2], [C1, C2], ["c1", "c2"])) == "-c2 -e2"


def test_a_downgrade_does_not_take_back_what_is_not_applied() -> None:
    assert order(plan_downgrade([E2, E1], [C1, C2], ["c1"])) == "-e2 -c1 -e1"


def test_a_downgrade_takes_back_first_what_builds_on_what_goes() -> None:
    on_c2 = Revision("c1", completes="e1", depends_on=("c2",))
    assert order(plan_downgrade([E2], [C2, on_c2], ["c1", "c2"])) == "-c1 -c2 -e2"
