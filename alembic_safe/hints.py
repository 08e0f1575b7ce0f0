"""What a model says of a change, in the `info` of its columns.

    display_name = mapped_column(Text, info=alembic_safe.renamed_from("full_name"))
    note = mapped_column(Text, info=alembic_safe.filled_with("''"))

The values are dictionaries and combine with `|`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED_FROM = "alembic_safe.renamed_from"
FILLED_WITH = "alembic_safe.filled_with"


def renamed_from(old_name: str) -> dict[str, Any]:
    """Return `info` for a column or table that used to have another name.

    Once the old name is gone from the database, the hint is ignored.

    Args:
        old_name: the old name, without quotes and without the table.
    """
    return {RENAMED_FROM: _text(old_name, "renamed_from")}


def filled_with(expression: str) -> dict[str, Any]:
    """Return `info` for a column that becomes NOT NULL: the value of rows that lack one.

    Args:
        expression: an SQL expression; it may name other columns of the row.
    """
    return {FILLED_WITH: _text(expression, "filled_with")}


def hint(info: Mapping[Any, Any], key: str) -> str | None:
    """Return a hint, or None where there is none."""
    value = info.get(key)
    return value if isinstance(value, str) else None


def _text(value: str, function: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{function}() takes a text that is not empty, not {value!r}")
    return value
