"""How the steps of changes become revisions: as few as the rules allow."""

from __future__ import annotations

from alembic.operations import MigrateOperation

from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.plan import RevisionDraft, Step, arrange

EXPAND, MIGRATE, CONTRACT = Phase.EXPAND, Phase.MIGRATE, Phase.CONTRACT


def step(
    phase: Phase,
    name: str,
    table: str = "users",
    *,
    locks: str = "",
    lock: LockMode = LockMode.ACCESS_EXCLUSIVE,
    touches: tuple[str, ...] = (),
    alone: bool = False,
) -> Step:
    """A step whose operations are called `+name` and `-name`."""
    return Step(
        phase=phase,
        table=QualifiedName(table),
        upgrade=(CommentOp(f"+{name}"),),
        downgrade=(CommentOp(f"-{name}"),),
        says=name,
        locks=frozenset(QualifiedName(lock) for lock in locks.split()),
        lock=lock,
        touches=touches,
        commits_alone=alone,
    )


def said(drafts: tuple[RevisionDraft, ...]) -> list[tuple[str, int, str]]:
    """Revisions as (phase, number, the names of their steps)."""
    return [
        (draft.phase.value, draft.number, " ".join(step.says for step in draft.steps))
        for draft in drafts
    ]


def texts(operations: list[MigrateOperation]) -> list[str]:
    return [operation.text for operation in operations if isinstance(operation, CommentOp)]


def test_no_change_is_no_revision() -> None:
    sequence = arrange([])
    assert (sequence.history, sequence.contracts) == ((), ())


def test_a_transactional_revision_locks_one_table() -> None:
    sequence = arrange(
        [
            (step(EXPAND, "a", locks="users"),),
            (step(EXPAND, "b", locks="orders"),),
            (step(EXPAND, "c", locks="orders"),),
        ]
    )
    assert said(sequence.history) == [("expand", 1, "a"), ("expand", 2, "b c")]
    assert sequence.contracts == ()


def test_steps_without_a_lock_join_what_stands_before_them() -> None:
    sequence = arrange(
        [
            (step(EXPAND, "new table"),),
            (step(EXPAND, "a", locks="users"),),
            (step(EXPAND, "its index"),),
            (step(EXPAND, "b", locks="users"),),
        ]
    )
    assert said(sequence.history) == [("expand", 1, "new table a its index b")]


def test_steps_keep_their_order_even_where_another_would_need_fewer_revisions() -> None:
    locks = ("users", "orders", "users")
    sequence = arrange(
        [(step(EXPAND, name, locks=lock),) for name, lock in zip("abc", locks, strict=True)]
    )
    assert said(sequence.history) == [("expand", 1, "a"), ("expand", 2, "b"), ("expand", 3, "c")]


def test_a_revision_never_asks_for_a_stronger_lock_than_it_has() -> None:
    weak = LockMode.SHARE_ROW_EXCLUSIVE
    sequence = arrange(
        [
            (step(EXPAND, "a", locks="orders", lock=weak),),
            (step(EXPAND, "b", locks="orders"),),
            (step(EXPAND, "c", locks="orders", lock=weak),),
        ]
    )
    assert said(sequence.history) == [("expand", 1, "a"), ("expand", 2, "b c")]


def test_a_step_that_locks_two_tables_stands_alone() -> None:
    sequence = arrange(
        [
            (step(EXPAND, "a", locks="users"),),
            (step(EXPAND, "key", locks="users orders"),),
            (step(EXPAND, "b", locks="orders"),),
            (step(EXPAND, "c", locks="orders"),),
        ]
    )
    assert said(sequence.history) == [
        ("expand", 1, "a"),
        ("expand", 2, "key"),
        ("expand", 3, "b c"),
    ]


def test_an_expand_that_commits_by_itself_is_kept_from_those_in_a_transaction() -> None:
    sequence = arrange(
        [
            (step(EXPAND, "a", locks="users"),),
            (step(EXPAND, "b", locks="users", alone=True),),
            (step(EXPAND, "c", "orders", locks="orders", alone=True),),
            (step(EXPAND, "d", locks="users"),),
        ]
    )
    assert said(sequence.history) == [
        ("expand", 1, "a"),
        ("expand", 2, "b c"),
        ("expand", 3, "d"),
    ]
    assert [draft.transactional for draft in sequence.history] == [True, False, True]


def test_what_does_not_run_in_a_transaction_shares_one_revision_behind_all_expands() -> None:
    sequence = arrange(
        [
            (step(MIGRATE, "index"),),
            (step(EXPAND, "a", locks="users"), step(MIGRATE, "fill", locks="users")),
            (step(EXPAND, "b", locks="orders"), step(MIGRATE, "fill 2", "orders")),
        ]
    )
    assert said(sequence.history) == [
        ("expand", 1, "a"),
        ("expand", 2, "b"),
        ("migrate", 1, "index fill fill 2"),
    ]


def test_contract_revisions_are_one_for_each_table() -> None:
    sequence = arrange(
        [
            (step(MIGRATE, "m"), step(CONTRACT, "a", "users")),
            (step(CONTRACT, "b", "orders"),),
            (step(CONTRACT, "c", "users"),),
        ]
    )
    assert said(sequence.contracts) == [("contract", 1, "a c"), ("contract", 1, "b")]
    assert said(sequence.history) == [("migrate", 1, "m")]


def test_tables_of_one_name_in_two_schemas_are_two() -> None:
    first = step(CONTRACT, "a")
    second = Step(CONTRACT, QualifiedName("users", "shop"), (), (), says="b")
    assert said(arrange([(first, second)]).contracts) == [
        ("contract", 1, "a"),
        ("contract", 1, "b"),
    ]


def test_only_contract_gets_an_empty_revision_that_it_can_complete() -> None:
    sequence = arrange([(step(CONTRACT, "drop"),)])
    assert said(sequence.history) == [("expand", 1, "")]
    assert (sequence.history[0].upgrade, sequence.history[0].downgrade) == ([], [])
    assert said(sequence.contracts) == [("contract", 1, "drop")]


def test_the_way_back_goes_from_the_last_step_to_the_first() -> None:
    (draft,) = arrange([(step(EXPAND, "a"), step(EXPAND, "b")), (step(EXPAND, "c"),)]).history
    assert texts(draft.upgrade) == ["+a", "+b", "+c"]
    assert texts(draft.downgrade) == ["-c", "-b", "-a"]


def test_a_revision_touches_what_its_steps_touch_each_once() -> None:
    steps = (
        step(CONTRACT, "a", touches=("column users.a", "index ix")),
        step(CONTRACT, "b", touches=("column users.b", "column users.a")),
    )
    assert arrange([steps]).contracts[0].touches == ("column users.a", "index ix", "column users.b")
