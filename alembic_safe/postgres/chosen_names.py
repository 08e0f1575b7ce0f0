"""How PostgreSQL composes the names that it chooses itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES


def numbered_names(first: str, second: str | None, label: str) -> Iterator[str]:
    """Yield the names that the server tries, one after the other, until it finds one that is free
    (`ChooseRelationName`)."""
    for number in itertools.count():
        yield _composed(first, second, f"{label}{number}" if number else label)


def joined_columns(columns: Iterable[str | None]) -> str:
    """Return the names of columns joined as the server does (`ChooseIndexNameAddition`); None
    stands for an expression."""
    joined = "_".join("expr" if column is None else column for column in columns)
    return _clipped(joined, MAX_IDENTIFIER_BYTES)


def _composed(first: str, second: str | None, label: str) -> str:
    """Return the parts with `_` between, the longer one cut where it is too long
    (`makeObjectName`)."""
    room = MAX_IDENTIFIER_BYTES - len(label) - 1 - (second is not None)
    a, b = len(first.encode()), len((second or "").encode())
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    parts = [_clipped(first, a), *([_clipped(second, b)] if second is not None else []), label]
    return "_".join(parts)


def _clipped(name: str, length: int) -> str:
    encoded = name.encode()
    return name if len(encoded) <= length else encoded[:length].decode(errors="ignore")
