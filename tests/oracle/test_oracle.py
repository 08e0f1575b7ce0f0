"""What the effects engine says is what servers do, measured on a list of statements."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from alembic_safe.postgres.effects.world import World
from oracle.figures import figures
from oracle.laboratory import Laboratory
from oracle.page import PAGE, page
from oracle.predict import (
    Prediction,
    differences,
    optimism,
    optimism_of_file,
    predict,
    world_of_file,
    world_of_history,
)
from oracle.recorded import VERSIONS, answer_of, measured
from oracle.sequences import drawn
from oracle.statements import Case, cases
from oracle.truth import Truth

BEYOND = {
    "name_schema_missing": "the world has no list of schemas",
    "do_loop_over_tables": "what it executes is computed from rows",
}
"""Cases that the engine may get wrong, and why; what is not understood counts as a hazard."""

FALSE_ALARMS = {
    "tx_new_table_filled": "whether rows that the case itself writes have NULLs is not computed",
}
"""Harmless cases that the engine stops even with the catalog, and why."""

SEQUENCES = 40
"""Drawn cases on each server."""

every_case = pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)


@every_case
def test_with_the_catalog_the_engine_says_what_the_server_does(
    case: Case, laboratory: Laboratory
) -> None:
    recorded = measured()[case.id][laboratory.version]
    prediction = None if recorded is None else predict(case, laboratory.world(case))
    assert answer_of(laboratory, case) == recorded, "measure again: python -m oracle.recorded"
    if prediction is not None and recorded is not None and case.id not in BEYOND:
        found = {text: [laboratory.version] for text in differences(prediction, recorded)}
        assert not found, message(case, found)
        if case.id not in FALSE_ALARMS:
            assert prediction.is_hazard == any(truth.is_hazard for truth in recorded), case.sql


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_statements_in_any_order_are_foreseen(seed: int, laboratory: Laboratory) -> None:
    case = drawn(seed)
    prediction = predict(case, laboratory.world(case))
    found = {text: [laboratory.version] for text in differences(prediction, laboratory.truth(case))}
    assert not found, message(case, found)


@every_case
def test_from_history_the_engine_is_never_more_optimistic_than_the_server(case: Case) -> None:
    _assert_none(case, world_of_history, optimism)


@every_case
def test_from_the_file_alone_the_engine_is_never_more_optimistic_than_the_server(
    case: Case,
) -> None:
    _assert_none(case, world_of_file, optimism_of_file)


def test_from_history_every_hazard_is_found_and_few_warnings_are_wrong() -> None:
    found = figures(world_of_history, accepted_only=True)
    assert found.missed == ()
    assert found.precision >= 0.9, found.false


def test_from_the_file_alone_every_hazard_is_found() -> None:
    found = figures(world_of_file, accepted_only=True)
    assert found.missed == ()
    assert found.precision >= PRECISION_OF_THE_FILE_ALONE, found.false


PRECISION_OF_THE_FILE_ALONE = 0.7
"""What a file does not tell is taken for the worse."""


def _assert_none(
    case: Case,
    world: Callable[[Case, int], World],
    compare: Callable[[Prediction, list[Truth]], Iterator[str]],
) -> None:
    found: dict[str, list[int]] = {}
    for version in VERSIONS:
        truths = measured().get(case.id, {}).get(version)
        if truths is not None:
            if case.id in BEYOND:
                continue
            for difference in compare(predict(case, world(case, version)), truths):
                found.setdefault(difference, []).append(version)
    assert not found, message(case, found)


def message(case: Case, found: dict[str, list[int]]) -> str:
    """Return what went wrong, for who has to mend it."""
    before = f"  before: {case.before}\n" if case.before else ""
    lines = [f"  PostgreSQL {', '.join(map(str, v))}: {text}" for text, v in found.items()]
    return f"{case.id}\n{before}  {case.sql}\n" + "\n".join(lines)


def test_the_page_of_the_documentation_says_what_is_recorded() -> None:
    assert PAGE.read_text() == page(), "in the folder tests: python -m oracle.page"
