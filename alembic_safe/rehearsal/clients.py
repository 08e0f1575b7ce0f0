"""A client of one release of an application: it writes what the release knows, and reads back what
it wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import Column, Connection
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.server_errors import sqlstate
from alembic_safe.rehearsal.releases import (
    Reference,
    Release,
    Usage,
    changes_itself,
    column_named,
)
from alembic_safe.rehearsal.values import Row, Value, differences

Key = tuple[Value, ...]
"""The values of a row's primary key."""

_FOREIGN_KEY_VIOLATION = "23503"
_UNIQUE_VIOLATION = "23505"
_NOT_THERE = ("42P01", "42703")
"""undefined_table, undefined_column: of a release that the schema is not ready for."""

_NULL_CHANCE = 0.2


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
                columns = [column_named(parent, name) for name in reference.parent_columns]
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
            index_elements=[column_named(usage.table, name) for name in usage.key],
            set_={
                column: statement.excluded[column.key]
                for column in (column_named(usage.table, name) for name in changed)
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
        identity = [column_named(usage.table, name).identity for name in usage.key]
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
        computed = {column.name for column in usage.table.columns if changes_itself(column)}
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
            columns = [column_named(parent, name) for name in reference.parent_columns]
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


def _by_column(usage: Usage, values: Row) -> dict[Column[Any], Value]:
    columns = {name: column_named(usage.table, name) for name in values}
    # None in a JSON column would be the JSON value null.
    return {columns[name]: sa.null() if value is None else value for name, value in values.items()}


def _key_columns(usage: Usage) -> list[Column[Any]]:
    return [column_named(usage.table, name) for name in usage.key]


def _key_of(usage: Usage, row: Row) -> Key:
    return tuple(row[name] for name in usage.key)


def _is(usage: Usage, key: Key) -> sa.ColumnElement[bool]:
    return sa.and_(
        *(column == value for column, value in zip(_key_columns(usage), key, strict=True))
    )


def _referencing(usage: Usage) -> tuple[str, ...]:
    return tuple(name for reference in usage.references for name in reference.columns)
