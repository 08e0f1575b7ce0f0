"""Values that fit a column, and whether two releases read the same one."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import string
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column
from sqlalchemy.types import ARRAY, TypeDecorator, TypeEngine

Value = Any
Row = dict[str, Value]
"""The values of a row by column name."""
Source = Callable[[Random], Value]
"""Makes a value for a column."""

# Unique values come from one counter for the whole process; its random start keeps two processes
# on one database apart.
_fresh = itertools.count(random.SystemRandom().randrange(10**8, 2 * 10**9))

_TEXTS = (
    "",
    "plain",
    "O'Brien",
    'back\\slash "quoted"',
    "100% %s :name",
    "Größe 漢字 🐘",
    "two\nlines",
    "NULL",
)


class UnsupportedTypeError(Exception):
    """No values are known for a column type."""


def values_for(
    kind: TypeEngine[Any], twin: TypeEngine[Any] | None = None, *, unique: bool = False
) -> Source:
    """Return what makes values of a column type; with `twin`, values that fit both types.

    Raises:
        UnsupportedTypeError: nothing is known about the type.
    """
    kind, twin = plain_type(kind), plain_type(twin) if twin is not None else None
    if isinstance(kind, sa.String) and twin is not None and not isinstance(twin, sa.String):
        other = values_for(twin)
        return lambda rng: _as_text(other(rng))
    if isinstance(kind, sa.Enum):
        return _enum_values(kind, twin if isinstance(twin, sa.Enum) else None)
    if isinstance(kind, sa.Boolean):
        return lambda rng: rng.random() < 0.5
    if isinstance(kind, sa.Integer):
        limit = min(_integer_limit(kind), _integer_limit(twin) if twin is not None else 2**63)
        if unique and limit > 2**31 - 2:
            return lambda rng: next(_fresh)
        return lambda rng: rng.randint(-limit, limit)
    if isinstance(kind, sa.Float):
        return lambda rng: rng.randint(-(2**20), 2**20) / 8  # exact in 4 bytes as well
    if isinstance(kind, sa.Numeric):
        if isinstance(twin, sa.Integer):
            return lambda rng: Decimal(rng.randrange(10**4))
        return _numeric_values(kind, twin if isinstance(twin, sa.Numeric) else None)
    if isinstance(kind, sa.String):
        lengths = (kind.length, twin.length if isinstance(twin, sa.String) else None)
        length = min((length for length in lengths if length is not None), default=None)
        return _text_values(length, padded=isinstance(kind, sa.CHAR), unique=unique)
    if isinstance(kind, sa.DateTime):
        zone = dt.timezone.utc if kind.timezone else None
        start = dt.datetime(2000, 1, 1, tzinfo=zone)
        return lambda rng: start + dt.timedelta(microseconds=rng.randrange(10**15))
    if isinstance(kind, sa.Date):
        return lambda rng: dt.date(2000, 1, 1) + dt.timedelta(days=rng.randrange(10**4))
    if isinstance(kind, sa.Time):
        return lambda rng: (
            dt.datetime.min + dt.timedelta(microseconds=rng.randrange(86_400 * 10**6))
        ).time()
    if isinstance(kind, sa.JSON):
        return lambda rng: {"n": rng.randrange(100), "text": rng.choice(_TEXTS), "list": [None, 1]}
    if isinstance(kind, sa.Uuid):
        as_uuid = kind.as_uuid
        return lambda rng: (value := uuid.UUID(int=rng.getrandbits(128))) if as_uuid else str(value)
    if isinstance(kind, sa.LargeBinary):
        return lambda rng: rng.randbytes(rng.randrange(20))
    if isinstance(kind, ARRAY):
        item = values_for(kind.item_type)
        return lambda rng: [item(rng) for _ in range(rng.randrange(4))]
    if isinstance(kind, sa.Interval) or _python_type(kind) is dt.timedelta:
        return lambda rng: dt.timedelta(seconds=rng.randrange(10**6))
    raise UnsupportedTypeError(repr(kind))


def same_value(one: Value, other: Value) -> bool:
    """Return whether two releases see the same value, each through its own column type."""
    if isinstance(one, dt.datetime) and isinstance(other, dt.datetime):
        utc = dt.timezone.utc
        one, other = (
            value if value.tzinfo is not None else value.replace(tzinfo=utc)
            for value in (one, other)
        )
    if one == other:
        return True
    if one is None or other is None:
        return False
    numbers = (int, float, Decimal)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return float(one) == float(other) and (isinstance(one, float) or isinstance(other, float))
    # A changed type: what an int, a UUID or an enum member is as text.
    if isinstance(one, str) or isinstance(other, str):
        return _as_text(one) == _as_text(other)
    return False


def differences(
    wrote: Row,
    read: Row,
    columns: Mapping[str, str],
    may_be_filled: Iterable[str] = (),
) -> list[str]:
    """Return one line for each column in which a row differs from what was written.

    Args:
        wrote: the row in the names of its writer.
        read: the row in the names of its reader.
        columns: {column of the writer: the same column of the reader}.
        may_be_filled: columns of the writer in which NULL may have become a value.
    """
    found = []
    for name, theirs in columns.items():
        if name not in wrote or theirs not in read:
            continue
        if wrote[name] is None and name in may_be_filled:
            continue
        if not same_value(wrote[name], read[theirs]):
            called = name if name == theirs else f"{name} (read as {theirs})"
            found.append(f"{called}: wrote {wrote[name]!r}, read {read[theirs]!r}")
    return found


def source_of(column: Column[Any], twin: Column[Any] | None, *, unique: bool) -> Source | None:
    """Return what makes values of a column, or None where it can be left out."""
    try:
        return values_for(column.type, twin.type if twin is not None else None, unique=unique)
    except UnsupportedTypeError:
        if column.nullable or column.server_default is not None or column.default is not None:
            return None
        raise UnsupportedTypeError(
            f"{column.table.key}.{column.name}: no values are known for {column.type!r}; "
            f'give them with Release(values={{"{column.table.key}.{column.name}": ...}})'
        ) from None


def plain_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    # Interval decorates a timestamp only where a database has no intervals.
    if isinstance(kind, TypeDecorator) and not isinstance(kind, sa.Interval):
        return kind.impl_instance
    return kind


def _python_type(kind: TypeEngine[Any]) -> type | None:
    try:
        return kind.python_type
    except NotImplementedError:
        return None


def _integer_limit(kind: TypeEngine[Any]) -> int:
    if isinstance(kind, sa.SmallInteger):
        return 2**15 - 1
    return 2**63 - 1 if isinstance(kind, sa.BigInteger) else 2**31 - 1


def _enum_values(kind: sa.Enum, twin: sa.Enum | None) -> Source:
    # A label that one release does not know is an error when that release reads it.
    labels = [label for label in kind.enums if twin is None or label in twin.enums]
    members = kind.enum_class
    if members is None:
        return lambda rng: rng.choice(labels)
    by_label = dict(zip(kind.enums, members, strict=True))
    return lambda rng: by_label[rng.choice(labels)]


def _numeric_values(kind: sa.Numeric[Any], twin: sa.Numeric[Any] | None) -> Source:
    kinds = [kind, *([twin] if twin is not None else [])]
    scale = min(each.scale if each.scale is not None else 2 for each in kinds)
    whole = min(
        each.precision - (each.scale or 0) if each.precision is not None else 8 for each in kinds
    )
    limit = 10 ** (max(whole, 0) + scale) - 1
    if not kind.asdecimal:
        return lambda rng: float(Decimal(rng.randint(-limit, limit)).scaleb(-scale))
    return lambda rng: Decimal(rng.randint(-limit, limit)).scaleb(-scale)


def _text_values(length: int | None, *, padded: bool, unique: bool) -> Source:
    letters = string.ascii_letters + string.digits
    if padded:  # CHAR(n): the server would pad anything shorter
        return lambda rng: "".join(rng.choices(letters, k=length or 1))
    if unique:
        return lambda rng: f"{next(_fresh):x}"[-(length or 16) :]
    return lambda rng: (rng.choice(_TEXTS) + rng.choice(("", f" {rng.randrange(10**6)}")))[:length]


def _as_text(value: Value) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    return str(getattr(value, "name", value))
