"""The rules: what each reports, what it leaves alone, and that nothing is said twice."""

from __future__ import annotations

import inspect
import runpy
from itertools import chain

import pytest
from markdown_blocks import DOCS
from rule_examples import (
    EXAMPLES,
    Example,
    codes,
    judged_example,
    judged_instead,
)

from alembic_safe.rules.catalogue import documented_rules
from alembic_safe.rules.finding import Finding

ALL = [(code, example) for code, examples in EXAMPLES.items() for example in examples]


def findings(example: Example) -> list[Finding]:
    return list(chain.from_iterable(j.findings for j in judged_example(example)))


def test_each_rule_has_an_example_and_a_page() -> None:
    assert set(EXAMPLES) == set(documented_rules())
    for rule in documented_rules().values():
        assert len((inspect.getdoc(rule) or "").split("\n\n")) > 1, rule


@pytest.mark.parametrize(("code", "example"), ALL, ids=str)
def test_what_is_bad_is_reported_once_for_each_problem(code: str, example: Example) -> None:
    assert sorted(codes(judged_example(example))) == sorted((code, *example.also))


@pytest.mark.parametrize("example", [example for _, example in ALL if example.good], ids=str)
def test_what_is_good_is_not_reported(example: Example) -> None:
    assert codes(judged_instead(example)) == []


@pytest.mark.parametrize(("code", "example"), ALL, ids=str)
def test_messages_are_one_sentence_with_real_names(code: str, example: Example) -> None:
    for finding in findings(example):
        for said in (finding.message, finding.advice):
            assert "  " not in said
            assert not said.endswith(".")
            assert "None" not in said
        assert finding.docs == f"docs/rules.md#{finding.code}"


def test_the_page_is_up_to_date() -> None:
    written = runpy.run_path(str(DOCS / "generate_rules.py"))["page"]()
    assert (DOCS / "rules.md").read_text() == written, (
        "run: PYTHONPATH=tests python docs/generate_rules.py"
    )
