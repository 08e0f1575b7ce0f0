"""Ranges of a table: by its key, or by its blocks where it has none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from alembic_safe.postgres.identifiers import literal, quote

Rows = Callable[[str], Sequence[Sequence[object]]]
"""Runs a query and returns its rows."""

ROWS_PER_BLOCK = 50
"""A cautious guess for tables without a key; it only sets how many blocks one batch takes."""


class Ranges(Protocol):
    """How a table is cut. Positions are texts, so that they can be stored."""

    def end(self, rows: Rows) -> str | None:
        """Return the last position of the table as it is now; None for an empty table."""

    def next(self, rows: Rows, after: str | None, end: str, batch_size: int) -> str | None:
        """Return the last position of the range that follows; None where nothing follows."""

    def condition(self, after: str | None, upto: str) -> str:
        """Return the SQL condition of the rows behind one position and up to another."""


@dataclass(frozen=True)
class KeyRanges:
    """Ranges of a unique key that is never NULL.

    A row stays in its range when it is updated, and the end of a range is found by an index scan
    from its beginning, so that no batch looks at the rows of another.

    Args:
        table_sql: the table.
        columns: the key's columns, in the index's order.
        types: their types, as PostgreSQL writes them.
    """

    table_sql: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    def end(self, rows: Rows) -> str | None:
        found = rows(
            f"SELECT {self._as_text} FROM {self.table_sql} AS k"
            f" ORDER BY {self._ordered('DESC')} LIMIT 1"
        )
        return _position(found)

    def next(self, rows: Rows, after: str | None, end: str, batch_size: int) -> str | None:
        found = rows(
            f"SELECT {self._as_text} FROM (SELECT {self._list} FROM {self.table_sql} AS k"
            f" WHERE {self.condition(after, end)} ORDER BY {self._ordered('ASC')}"
            f" LIMIT {batch_size}) AS k ORDER BY {self._ordered('DESC')} LIMIT 1"
        )
        return _position(found)

    def condition(self, after: str | None, upto: str) -> str:
        upper = f"({self._list}) <= ({self._values(upto)})"
        if after is None:
            return upper
        return f"({self._list}) > ({self._values(after)}) AND {upper}"

    @property
    def _list(self) -> str:
        return ", ".join(quote(column) for column in self.columns)

    @property
    def _as_text(self) -> str:
        return ", ".join(f"{quote(column)}::text" for column in self.columns)

    def _ordered(self, direction: str) -> str:
        # Qualified, because an output column of the same name, the text, would come first.
        return ", ".join(f"k.{quote(column)} {direction}" for column in self.columns)

    def _values(self, position: str) -> str:
        pairs = zip(json.loads(position), self.types, strict=True)
        return ", ".join(f"{literal(value)}::{type_sql}" for value, type_sql in pairs)


@dataclass(frozen=True)
class BlockRanges:
    """Ranges of physical blocks, for a table without a key.

    An updated row may move to a block that was passed already; whoever needs every row goes over
    the table again until none is left. PostgreSQL 14 and newer read only the blocks of a range.

    Args:
        table_sql: the table.
    """

    table_sql: str

    def end(self, rows: Rows) -> str | None:
        size = f"pg_catalog.pg_relation_size({literal(self.table_sql)}::regclass)"
        blocks = int(str(rows(f"SELECT {size} / current_setting('block_size')::bigint")[0][0]))
        return str(blocks) if blocks else None

    def next(self, rows: Rows, after: str | None, end: str, batch_size: int) -> str | None:
        start = int(after or 0)
        if start >= int(end):
            return None
        return str(min(start + max(1, batch_size // ROWS_PER_BLOCK), int(end)))

    def condition(self, after: str | None, upto: str) -> str:
        return f"ctid >= '({int(after or 0)},0)'::tid AND ctid < '({int(upto)},0)'::tid"


def _position(found: Sequence[Sequence[object]]) -> str | None:
    return json.dumps([str(value) for value in found[0]]) if found else None
