"""The comparison with other tools says what our rules say."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from markdown_blocks import DOCS, blocks_of
from rule_examples import codes, judged

from alembic_safe.rules.catalogue import CODES

PAGE = DOCS / "compare.md"

TOOLS = (
    "strong_migrations",
    "squawk",
    "eugene",
    "Atlas",
    "django-migration-linter",
    "pgfence",
    "safemigrate-lint",
)


@dataclass(frozen=True)
class Row:
    """A row of the page.

    Args:
        tool: whose rule it is.
        rule: its name there.
        statement: SQL; empty where the rule is about something else.
        answer: what the page says of it.
    """

    tool: str
    rule: str
    statement: str
    answer: str

    def __str__(self) -> str:
        return f"{self.tool}: {self.rule}"

    @property
    def answered_by(self) -> set[str]:
        """The codes of our rules."""
        return set(re.findall(r"\(rules\.md#([\w-]+)\)", self.answer))


def rows() -> list[Row]:
    found = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        tool = section.partition("\n")[0]
        for line in re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[1:]:
            rule, statement, answer, _on_the_server = line.split(" | ")
            found.append(Row(tool, rule, statement.strip("` "), answer))
    return found


def test_every_tool_is_there_and_no_rule_twice() -> None:
    assert tuple(dict.fromkeys(row.tool for row in rows())) == TOOLS
    assert len(rows()) == len({(row.tool, row.rule) for row in rows()})


@pytest.mark.parametrize("row", rows(), ids=str)
def test_a_rule_is_answered_or_rejected(row: Row) -> None:
    assert row.answered_by <= CODES
    if not row.answered_by:
        assert row.answer == "not reported" or row.answer.startswith("rejected: ")


@pytest.mark.parametrize("row", [row for row in rows() if row.statement], ids=str)
def test_the_answer_is_what_the_rules_say(row: Row) -> None:
    (tables,) = (block.text for block in blocks_of(PAGE))
    found = judged(
        row.statement,
        before=tables,
        in_transaction=False,
        has_runner="lock-timeout-missing" not in row.answered_by,
    )
    assert set(codes(found)) == row.answered_by
