"""The contract line as data: who comes after whom, and which revisions imply others."""

from __future__ import annotations

import pytest

from alembic_safe.lines import Revision, builders_on, heads_among, in_dependency_order

HISTORY = ("e1", "e2", "e3")


def contract(name: str, completes: str, *depends_on: str) -> Revision:
    return Revision(name, completes=completes, depends_on=depends_on)


def ordered(*contracts: Revision) -> list[str]:
    return [c.revision for c in in_dependency_order(contracts, HISTORY.index)]


def test_contract_revisions_stand_as_what_they_complete_stands_in_the_history() -> None:
    assert ordered(contract("a", "e3"), contract("b", "e1"), contract("c", "e2")) == ["b", "c", "a"]


def test_two_that_complete_one_revision_stand_by_name_in_every_environment() -> None:
    assert ordered(contract("b", "e1"), contract("a", "e1")) == ["a", "b"]


def test_what_is_built_upon_stands_first_whatever_its_name() -> None:
    assert ordered(contract("a", "e1", "b"), contract("b", "e1")) == ["b", "a"]


def test_what_is_built_upon_stands_first_even_if_it_completes_something_later() -> None:
    assert ordered(contract("a", "e1", "b"), contract("b", "e3"), contract("c", "e2")) == [
        *("c", "b", "a")
    ]


def test_a_dependency_outside_of_the_line_holds_nothing_up() -> None:
    assert ordered(contract("a", "e1", "gone"), contract("b", "e2")) == ["a", "b"]


CHAIN = (contract("a", "e1"), contract("b", "e1", "a"), contract("c", "e2", "b"))


@pytest.mark.parametrize(
    ("applied", "heads"),
    [
        ((), []),
        (("a",), ["a"]),
        (("a", "b"), ["b"]),
        (("a", "c"), ["c"]),
        (("a", "b", "c", "other"), ["c", "other"]),
    ],
)
def test_a_version_table_keeps_what_nothing_builds_on(
    applied: tuple[str, ...], heads: list[str]
) -> None:
    assert heads_among(applied, CHAIN) == heads


def test_all_that_builds_on_one_is_found_through_others() -> None:
    assert builders_on("a", CHAIN) == ["a", "b", "c"]
    assert builders_on("c", CHAIN) == ["c"]
