"""The language of the setting `end_blockers`: which sessions in the way of a migration are ended.

idle in transaction > 5min
active > 1h and application = report* and user != etl
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from alembic_safe.durations import seconds_of

IDLE_IN_TRANSACTION = "idle in transaction"
ACTIVE = "active"
TRANSACTION = "transaction"
AUTOVACUUM = "autovacuum"
STATES = (IDLE_IN_TRANSACTION, ACTIVE, TRANSACTION, AUTOVACUUM)

_SHORTEST = 1.0
"""Who is ended after less has been nobody's problem; most likely a unit is missing."""


@dataclass(frozen=True)
class Condition:
    """What a name has to be, or must not be.

    Args:
        field: `application` or `user`.
        is_equal: False for `!=`.
        pattern: the name; `*` stands for any text.
    """

    field: str
    is_equal: bool
    pattern: str

    def holds(self, name: str) -> bool:
        """Return whether a name is as it has to be."""
        pattern = ".*".join(re.escape(part) for part in self.pattern.split("*"))
        return bool(re.fullmatch(pattern, name, re.DOTALL)) == self.is_equal


@dataclass(frozen=True)
class EndRule:
    """Which sessions may be ended.

    Args:
        state: `idle in transaction` or `active`: of the session, all of the time; `transaction`: in
            one, whatever the session does meanwhile; `autovacuum`: of one table.
        seconds: for how long at least.
        conditions: all have to hold.
        text: the rule as the user wrote it.
    """

    state: str
    seconds: float
    conditions: tuple[Condition, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def parse_end_rules(value: Any) -> tuple[EndRule, ...]:
    """Return rules.

    Args:
        value: one text, in which commas separate rules; or a list of texts.

    Raises:
        ValueError: what is wrong with which rule.
    """
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"give texts such as {_EXAMPLE!r}")
    return tuple(_parsed(" ".join(text.split())) for text in texts)


_EXAMPLE = "idle in transaction > 5min"
_CONDITION = re.compile(r"(application|user)\s*(=|!=)\s*(\S.*)")


def _parsed(text: str) -> EndRule:
    first, *rest = text.split(" and ")
    state, larger, age = (part.strip() for part in first.partition(">"))
    if not larger or state not in STATES:
        states = ", ".join(STATES)
        raise ValueError(
            f"a rule is written as {_EXAMPLE!r}, and what stands before > is one of {states}"
        )
    try:
        seconds = seconds_of(age)
    except ValueError as error:
        raise ValueError(f"behind > {error}") from None
    if seconds < _SHORTEST:
        raise ValueError("give at least 1s behind >")
    conditions = tuple(_condition(part, state) for part in rest)
    return EndRule(state, seconds, conditions, text)


def _condition(text: str, state: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is no condition; write application = name, or user = name, or != in place "
            "of =; * stands for any text"
        )
    if state == AUTOVACUUM:
        raise ValueError("an autovacuum has neither application nor user")
    return Condition(match[1], match[2] == "=", match[3])
