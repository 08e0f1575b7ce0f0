"""A client of one release of an application: what it knows of the database, what it writes, and
whether it reads back what it wrote.

The first half decides (which values fit a column, which columns of two releases are the same, are
two values the same) and talks to no database. `Client` is the other half.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
import string
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import Column, Connection, MetaData, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import ARRAY, TypeDecorator, TypeEngine

Value = Any
Row = dict[str, Value]
"""The values of a row by column name."""
Key = tuple[Value, ...]
"""The values of a row's primary key."""
Source = Callable[[Random], Value]
"""Makes a value for a column."""

_FOREIGN_KEY_VIOLATION = "23503"
_UNIQUE_VIOLATION = "23505"
_NOT_THERE = ("42P01", "42703")
"""undefined_table, undefined_column: of a release that the schema is not ready for."""

# Unique values come from one counter for the whole process; its random start keeps two processes
# on one database apart.
_fresh = itertools.count(random.SystemRandom().randrange(10**8, 2 * 10**9))

_NULL_CHANCE = 0.2

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


@dataclass(frozen=True)
class Release:
    """One release of an application.

    Args:
        name: how reports call it.
        metadata: its models.
        values: by "table.column", what makes the values of a column for which its type does not
            say enough (a check constraint, an unusual type).
    """

    name: str
    metadata: MetaData
    values: Mapping[str, Source] = field(default_factory=dict)


class UnsupportedTypeError(Exception):
    """No values are known for a column type."""


@dataclass(frozen=True)
class Reference:
    """A foreign key, in the column names of one release."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """How a release uses one of its tables.

    Args:
        table: the release's own model.
        key: the columns of the primary key, empty if there is none.
        sources: what makes a value, for each column that the client writes.
        nullable: the columns in which the client writes NULL at times.
        may_be_filled: the columns in which the migration may turn NULL into a value.
        references: the foreign keys of both releases.
        collides: whether a generated row may violate a unique constraint.
    """

    table: Table
    key: tuple[str, ...]
    sources: Mapping[str, Source]
    nullable: frozenset[str]
    may_be_filled: frozenset[str]
    references: tuple[Reference, ...]
    collides: bool

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that an UPDATE may set."""
        referencing = (name for reference in self.references for name in reference.columns)
        names = dict.fromkeys([*self.sources, *referencing])
        return tuple(name for name in names if name not in self.key)


def parents_first(usages: Iterable[Usage]) -> list[Usage]:
    """Return `usages` so that a table comes after those that it refers to.

    The models' own order would not do: the other release may know more foreign keys.
    """
    waiting = {usage.table.key: usage for usage in usages}
    ordered: list[Usage] = []

    def place(name: str) -> None:
        usage = waiting.pop(name, None)
        if usage is not None:
            for reference in usage.references:
                place(reference.parent)
            ordered.append(usage)

    for name in [*waiting]:
        place(name)
    return ordered


class Pairing:
    """Which columns of two releases are the same.

    Args:
        one, other: the releases.
        same: by table, the columns of `one` that `other` calls differently: {old: new}.
    """

    def __init__(self, one: Release, other: Release, same: Mapping[str, Mapping[str, str]]) -> None:
        self._one = one
        self._other = other
        self._same = same

    def reversed(self) -> Pairing:
        """Return the pairing seen from the other release."""
        turned = {
            table: {new: old for old, new in names.items()} for table, names in self._same.items()
        }
        return Pairing(self._other, self._one, turned)

    def columns(self, table: str) -> dict[str, str]:
        """Return {column of one release: the same column of the other} of a table."""
        one, other = self._one.metadata.tables.get(table), self._other.metadata.tables.get(table)
        if one is None or other is None:
            return {}
        renamed = self._same.get(table, {})
        theirs = {column.name for column in other.columns}
        taken = set(renamed.values())
        pairs = {}
        for column in one.columns:
            name = renamed.get(column.name, column.name)
            if name in theirs and (column.name in renamed or name not in taken):
                pairs[column.name] = name
        return pairs

    def usage(self, table: str) -> Usage:
        """Return how the first release uses `table`, with regard to the second: its foreign keys
        are kept too, and values fit the narrower of two types."""
        model = self._one.metadata.tables[table]
        partner = self._other.metadata.tables.get(table)
        pairs = self.columns(table)
        references = self._references(table)
        referencing = {name for reference in references for name in reference.columns}
        unique = _unique_columns(model)
        sources: dict[str, Source] = {}
        nullable, may_be_filled = set(), set()
        for column in model.columns:
            twin = None
            if partner is not None and column.name in pairs:
                twin = _column(partner, pairs[column.name])
            if column.nullable and twin is not None and not twin.nullable:
                may_be_filled.add(column.name)
            if column.nullable and column.default is None and column.server_default is None:
                nullable.add(column.name)
            if column.name in referencing or _server_writes(column):
                continue
            source = self._one.values.get(f"{table}.{column.name}")
            if source is None:
                source = _source_of(column, twin, unique=column.name in unique)
            if source is not None:
                sources[column.name] = source
        return Usage(
            model,
            tuple(column.name for column in model.primary_key.columns),
            sources,
            frozenset(nullable),
            frozenset(may_be_filled),
            references,
            bool(unique & referencing) or any(_few_values(model, name) for name in unique),
        )

    def _references(self, table: str) -> tuple[Reference, ...]:
        found = dict.fromkeys(_references_of(self._one.metadata.tables[table]))
        partner = self._other.metadata.tables.get(table)
        # A key that only the other release knows binds this one too: the migration that adds it
        # would fail on rows that this release writes.
        for reference in _references_of(partner) if partner is not None else ():
            here = {theirs: ours for ours, theirs in self.columns(table).items()}
            there = {theirs: ours for ours, theirs in self.columns(reference.parent).items()}
            if set(reference.columns) <= set(here) and set(reference.parent_columns) <= set(there):
                turned = Reference(
                    tuple(here[name] for name in reference.columns),
                    reference.parent,
                    tuple(there[name] for name in reference.parent_columns),
                )
                found.setdefault(turned)
        # A column of two keys cannot follow two parents that are picked independently.
        chosen: list[Reference] = []
        for reference in found:
            if not any(set(reference.columns) & set(other.columns) for other in chosen):
                chosen.append(reference)
        return tuple(chosen)


def values_for(
    kind: TypeEngine[Any], twin: TypeEngine[Any] | None = None, *, unique: bool = False
) -> Source:
    """Return what makes values of a column type; with `twin`, values that fit both types.

    Raises:
        UnsupportedTypeError: nothing is known about the type.
    """
    kind, twin = _plain(kind), _plain(twin) if twin is not None else None
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


class Recorder(Protocol):
    """Where a client reports what happened to it."""

    def query(self, release: str, kind: str, seconds: float) -> None:
        """A query ended, well or not."""

    def failure(self, release: str, kind: str, table: str, error: BaseException) -> None:
        """A query failed in a way that an application would notice."""

    def difference(self, text: str) -> None:
        """A row is not what was written."""


class Parents:
    """Rows that were there before the clients, by table and columns: what a foreign key may
    point to. No client deletes them, so nobody's choice vanishes."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[str, ...]], list[Key]] = {}

    def load(self, connection: Connection, usages: Iterable[Usage], limit: int = 200) -> None:
        """Read up to `limit` rows of each table that a foreign key points to and that exists."""
        for usage in usages:
            for reference in usage.references:
                place = (reference.parent, reference.parent_columns)
                parent = usage.table.metadata.tables[reference.parent]
                if place in self._rows:
                    continue
                columns = [_column(parent, name) for name in reference.parent_columns]
                try:
                    rows = connection.execute(sa.select(*columns).limit(limit)).all()
                except DBAPIError as error:
                    if sqlstate(error) not in _NOT_THERE:
                        raise
                    continue
                self._rows[place] = [tuple(row) for row in rows if None not in row]

    def of(self, reference: Reference) -> list[Key]:
        """Return the rows that `reference` may point to."""
        return self._rows.get((reference.parent, reference.parent_columns), [])

    def forget(self, reference: Reference, key: Key) -> None:
        """Take back a row that is gone."""
        rows = self.of(reference)
        if key in rows:
            rows.remove(key)


class Client:
    """One connection of one release, with the rows that it created and what it knows of them.

    It names only the columns of its own release. What it wrote last in its rows is what it must
    read in them: nobody else writes them.

    Args:
        release: the release that it belongs to.
        usages: its tables, parents before children.
        connection: a connection in autocommit mode.
        recorder: told of every query, failure and difference.
        parents: rows to reference besides its own.
        rng: its random numbers.
    """

    def __init__(
        self,
        release: Release,
        usages: Sequence[Usage],
        connection: Connection,
        recorder: Recorder,
        parents: Parents,
        rng: Random,
    ) -> None:
        self.release = release
        self.usages = {usage.table.key: usage for usage in usages}
        self.connection = connection
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in self.usages}
        self.in_flight: tuple[str, float] | None = None
        self.last = ("connect", "")
        self._uncertain: set[tuple[str, Key]] = set()
        self._graves: dict[str, list[Key]] = {name: [] for name in self.usages}
        self._recorder = recorder
        self._parents = parents
        self._rng = rng

    def insert(self, table: str, *, null_chance: float = _NULL_CHANCE) -> Key | None:
        """Insert a row; return its key, or None where no parent is there for it."""
        usage = self.usages[table]
        values = self._values(
            usage, (*usage.sources, *_referencing(usage)), null_chance=null_chance
        )
        if values is None:
            return None
        statement = sa.insert(usage.table).values(_by_column(usage, values))
        returned = self._run("insert", usage, statement.returning(*usage.table.columns))
        if not returned:
            self._recorder.difference(f"{self.release.name} insert {table}: no row came back")
            return None
        key = _key_of(usage, returned[0])
        self._compare("insert", usage, key, values, returned[0])
        self.rows[table][key] = returned[0]
        return key

    def update(
        self, table: str, key: Key, columns: Sequence[str], *, null_chance: float = _NULL_CHANCE
    ) -> None:
        """Set `columns` of a row to new values."""
        usage = self.usages[table]
        values = self._values(usage, columns, null_chance=null_chance)
        if not values:
            return
        self.set(table, key, values)

    def set(self, table: str, key: Key, values: Row) -> None:
        """Set columns of a row to `values`."""
        usage = self.usages[table]
        self._uncertain.add((table, key))
        statement = sa.update(usage.table).where(_is(usage, key)).values(_by_column(usage, values))
        returned = self._run("update", usage, statement.returning(*usage.table.columns))
        self._wrote("update", usage, key, values, returned)

    def upsert(self, table: str, key: Key, columns: Sequence[str] | None = None) -> None:
        """INSERT ... ON CONFLICT (key) DO UPDATE of `columns`, or of all of them."""
        usage = self.usages[table]
        values = self._values(usage, (*usage.sources, *_referencing(usage)))
        changed = [name for name in usage.written if columns is None or name in columns]
        if values is None or not changed:
            return
        values |= dict(zip(usage.key, key, strict=True))
        self._uncertain.add((table, key))
        statement = insert(usage.table).values(_by_column(usage, values))
        conflict = statement.on_conflict_do_update(
            index_elements=[_column(usage.table, name) for name in usage.key],
            set_={
                _column(usage.table, name): statement.excluded[_column(usage.table, name).key]
                for name in changed
            },
        )
        returned = self._run("upsert", usage, conflict.returning(*usage.table.columns))
        if key in self.rows[table]:
            values = {name: values[name] for name in changed if name in values}
        self._wrote("upsert", usage, key, values, returned)

    def delete(self, table: str, key: Key) -> None:
        """Delete a row of this client, unless it has children."""
        usage = self.usages[table]
        if self._has_children(table, key):
            return
        self._uncertain.add((table, key))
        row = self.rows[table].pop(key, None)
        statement = sa.delete(usage.table).where(_is(usage, key))
        try:
            gone = self._run("delete", usage, statement.returning(*_key_columns(usage)))
        except DBAPIError as error:
            if sqlstate(error) != _FOREIGN_KEY_VIOLATION or row is None:
                raise
            self.rows[table][key] = row
            raise ExpectedError from error
        if not gone:
            self._recorder.difference(
                f"{self.release.name} delete {table} {key}: the row was gone already"
            )
        self._graves[table].append(key)

    def read(self, table: str, key: Key) -> Row | None:
        """Read one row."""
        usage = self.usages[table]
        statement = sa.select(*usage.table.columns).where(_is(usage, key))
        rows = self._run("select", usage, statement)
        return rows[0] if rows else None

    def check(self, table: str, key: Key) -> None:
        """Read a row of this client and compare it with what it wrote."""
        usage, known = self.usages[table], self.rows[table][key]
        row = self.read(table, key)
        if row is None:
            self._recorder.difference(f"{self.release.name} {table} {key}: the row is lost")
            del self.rows[table][key]
            return
        self._compare("select", usage, key, known, row)
        self.rows[table][key] = row

    def browse(self, table: str) -> None:
        """Read some rows of anybody."""
        usage = self.usages[table]
        statement = sa.select(*usage.table.columns).limit(20)
        if usage.key and self.rows[table]:
            start = self._rng.choice([*self.rows[table]])
            columns = _key_columns(usage)
            statement = statement.where(columns[0] <= start[0]).order_by(columns[0].desc())
        self._run("browse", usage, statement)

    def act(self, most_rows: int = 100) -> None:
        """Do one thing that an application does, in one table chosen by chance."""
        self._act(most_rows)
        self._uncertain.clear()

    def _act(self, most_rows: int) -> None:
        table = self._rng.choice([*self.usages])
        usage, mine = self.usages[table], self.rows[table]
        choice = self._rng.random()
        if not usage.key or choice < 0.1:
            self.browse(table)
        elif not mine or (choice < 0.3 and len(mine) < most_rows):
            self.insert(table)
        else:
            key = self._rng.choice([*mine])
            most = len(usage.written)
            several = self._rng.sample(usage.written, self._rng.randint(min(1, most), most))
            if choice < 0.5:
                self.update(table, key, several[:1])
            elif choice < 0.6:
                self.update(table, key, several)
            elif choice < 0.7 and self.can_upsert(table):
                graves = self._graves[table]
                key = graves.pop() if graves and self._rng.random() < 0.5 else key
                self.upsert(table, key, several if key in mine else None)
            elif choice < 0.85 or len(mine) < 2:
                self.check(table, key)
            else:
                self.delete(table, key)

    def transaction(self, acts: int) -> None:
        """Do several things in one transaction."""
        rows = {name: dict(known) for name, known in self.rows.items()}
        graves = {name: list(keys) for name, keys in self._graves.items()}
        self._plain("begin")
        try:
            for _ in range(acts):
                self._act(most_rows=100)
            self._plain("commit")
        except Exception:
            self.rows, self._graves = rows, graves
            # Where the connection is lost too, this raises, and the first error is its context.
            self._plain("rollback")
            raise
        self._uncertain.clear()

    def _plain(self, command: str) -> None:
        self.last = (command, "")

        def execute() -> list[Row]:
            self.connection.exec_driver_sql(command.upper())
            return []

        self._timed(command, execute)

    def forget_uncertain(self) -> None:
        """Forget the rows of which a lost connection leaves open whether they were written."""
        for table, key in self._uncertain:
            self.rows[table].pop(key, None)
        self._uncertain.clear()

    def check_all(self) -> None:
        """Read every row of this client and compare."""
        for table, rows in self.rows.items():
            for key in [*rows]:
                self.check(table, key)

    def can_upsert(self, table: str) -> bool:
        """Return whether rows of `table` may be inserted with a key of the client's choice."""
        usage = self.usages[table]
        identity = [_column(usage.table, name).identity for name in usage.key]
        return not any(found is not None and found.always for found in identity)

    def forget(self) -> None:
        """Forget all rows of this client."""
        for rows in self.rows.values():
            rows.clear()

    def adopt(self, table: str, key: Key) -> None:
        """Take over a row that another client created."""
        row = self.read(table, key)
        if row is not None:
            self.rows[table][key] = row

    def _values(
        self, usage: Usage, columns: Sequence[str], *, null_chance: float = _NULL_CHANCE
    ) -> Row | None:
        """Return new values for `columns`, or None where a parent row is needed and missing."""
        values: Row = {}
        for name in columns:
            if name in usage.sources:
                null = name in usage.nullable and self._rng.random() < null_chance
                values[name] = None if null else usage.sources[name](self._rng)
        for reference in usage.references:
            if not set(reference.columns) & set(columns):
                continue
            optional = usage.nullable.issuperset(reference.columns)
            if optional and self._rng.random() < null_chance:
                values |= dict.fromkeys(reference.columns)
                continue
            parent = self._parent(reference)
            if parent is None and not optional:
                return None
            chosen = parent if parent is not None else (None,) * len(reference.columns)
            values |= dict(zip(reference.columns, chosen, strict=True))
        return values

    def _parent(self, reference: Reference) -> Key | None:
        own = [
            tuple(row[name] for name in reference.parent_columns)
            for row in self.rows.get(reference.parent, {}).values()
        ]
        pool = own if own and self._rng.random() < 0.7 else [*self._parents.of(reference), *own]
        return self._rng.choice(pool) if pool else None

    def _has_children(self, table: str, key: Key) -> bool:
        row = self.rows[table].get(key)
        if row is None:
            return False
        for name, usage in self.usages.items():
            for reference in usage.references:
                if reference.parent != table:
                    continue
                target = tuple(row[column] for column in reference.parent_columns)
                for child in self.rows[name].values():
                    if tuple(child[column] for column in reference.columns) == target:
                        return True
        return False

    def _wrote(self, kind: str, usage: Usage, key: Key, values: Row, returned: list[Row]) -> None:
        table = usage.table.key
        known = self.rows[table].get(key, {})
        if not returned:
            self._recorder.difference(f"{self.release.name} {kind} {table} {key}: the row is lost")
            self.rows[table].pop(key, None)
            return
        # Columns that the client did not set keep what it knows, unless something computes them.
        computed = {column.name for column in usage.table.columns if _changes_itself(column)}
        kept = {name: value for name, value in known.items() if name not in computed}
        self._compare(kind, usage, key, {**kept, **values}, returned[0])
        self.rows[table][key] = returned[0]

    def _compare(self, kind: str, usage: Usage, key: Key, wrote: Row, read: Row) -> None:
        columns = {name: name for name in wrote}
        for line in differences(wrote, read, columns, usage.may_be_filled):
            self._recorder.difference(f"{self.release.name} {kind} {usage.table.key} {key}, {line}")

    def _run(self, kind: str, usage: Usage, statement: sa.Executable) -> list[Row]:
        def execute() -> list[Row]:
            result = self.connection.execute(statement).mappings()
            return [
                {column.name: row[column] for column in usage.table.columns if column in row}
                for row in result
            ]

        self.last = (kind, usage.table.key)
        try:
            return self._timed(kind, execute)
        except DBAPIError as error:
            if sqlstate(error) == _UNIQUE_VIOLATION and usage.collides:
                raise ExpectedError from error
            if sqlstate(error) == _FOREIGN_KEY_VIOLATION and kind != "delete":
                raise ParentGoneError(usage) from error
            raise

    def _timed(self, kind: str, execute: Callable[[], list[Row]]) -> list[Row]:
        started = time.perf_counter()
        self.in_flight = (kind, started)
        try:
            return execute()
        finally:
            self.in_flight = None
            self._recorder.query(self.release.name, kind, time.perf_counter() - started)

    def still_refers_to_rows(self, usage: Usage) -> bool:
        """Return whether every row that the client would reference is there; forget the others.

        Rows of its own are not asked for: only the client deletes them.
        """
        complete = True
        for reference in usage.references:
            parent = self.release.metadata.tables[reference.parent]
            columns = [_column(parent, name) for name in reference.parent_columns]
            wanted = self._parents.of(reference)
            if not wanted:
                continue
            there = sa.select(*columns).where(sa.tuple_(*columns).in_(wanted))
            present = {tuple(row) for row in self.connection.execute(there)}
            for key in [key for key in wanted if key not in present]:
                complete = False
                self._parents.forget(reference, key)
        return complete


class ExpectedError(Exception):
    """A query was refused for a reason that is none of the migration's."""


class ParentGoneError(Exception):
    """A foreign key was violated; whether the parent vanished is still to be seen."""

    def __init__(self, usage: Usage) -> None:
        super().__init__(usage.table.key)
        self.usage = usage


def sqlstate(error: DBAPIError) -> str | None:
    """Return the SQLSTATE of a driver's error."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


def _column(table: Table, name: str) -> Column[Any]:
    # Table.columns goes by key, which the model may have set to something else than the name.
    return next(column for column in table.columns if column.name == name)


def _by_column(usage: Usage, values: Row) -> dict[Column[Any], Value]:
    columns = {name: _column(usage.table, name) for name in values}
    # None in a JSON column would be the JSON value null.
    return {columns[name]: sa.null() if value is None else value for name, value in values.items()}


def _key_columns(usage: Usage) -> list[Column[Any]]:
    return [_column(usage.table, name) for name in usage.key]


def _key_of(usage: Usage, row: Row) -> Key:
    return tuple(row[name] for name in usage.key)


def _is(usage: Usage, key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(
        *(column == value for column, value in zip(_key_columns(usage), key, strict=True))
    )


def _referencing(usage: Usage) -> tuple[str, ...]:
    return tuple(name for reference in usage.references for name in reference.columns)


def _references_of(table: Table) -> Iterable[Reference]:
    # In the order of their columns: the constraints of a table are a set.
    constraints = sorted(table.foreign_key_constraints, key=lambda key: tuple(key.column_keys))
    for constraint in constraints:
        yield Reference(
            tuple(element.parent.name for element in constraint.elements),
            constraint.referred_table.key,
            tuple(element.column.name for element in constraint.elements),
        )


def _unique_columns(table: Table) -> frozenset[str]:
    names = {column.name for column in table.columns if column.unique}
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            names |= {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            names |= {column.name for column in index.columns}
    return frozenset(names | {column.name for column in table.primary_key.columns})


def _few_values(table: Table, name: str) -> bool:
    column = _column(table, name)
    if _server_writes(column):
        return False
    many = (sa.String, sa.Integer, sa.Uuid, sa.DateTime)
    return not isinstance(_plain(column.type), many) or isinstance(column.type, sa.SmallInteger)


def _server_writes(column: Column[Any]) -> bool:
    """Return whether the application leaves the column to the server."""
    if column.computed is not None or column.identity is not None:
        return True
    return column.primary_key and (
        column.server_default is not None or column is column.table.autoincrement_column
    )


def _changes_itself(column: Column[Any]) -> bool:
    return (
        column.onupdate is not None
        or column.server_onupdate is not None
        or column.computed is not None
    )


def _source_of(column: Column[Any], twin: Column[Any] | None, *, unique: bool) -> Source | None:
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


def _plain(kind: TypeEngine[Any]) -> TypeEngine[Any]:
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
