"""One release writes, the other reads and changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from alembic_safe.rehearsal.clients import (
    Client,
    ExpectedError,
    Key,
    ParentGoneError,
)
from alembic_safe.rehearsal.observations import Tally
from alembic_safe.rehearsal.releases import Pairing
from alembic_safe.rehearsal.values import Row, differences


class Exchange:
    """One release writes, the other reads and changes, and both must see the same."""

    def __init__(self, writer: Client, reader: Client, pairing: Pairing, found: Tally) -> None:
        self._writer = writer
        self._reader = reader
        self._pairing = pairing
        self._found = found
        self._created: list[tuple[str, Key]] = []

    def run(self) -> None:
        for table in self._writer.usages:
            # A table of one release only gets its row too: others may refer to it.
            for null_chance in (0.0, 1.0):
                self._try(partial(self._insert, table, null_chance))
        for table, key in [*self._created]:
            if table in self._reader.usages:
                self._try(partial(self._update, table, key))
        for table, key in reversed(self._created):
            self._try(partial(self._delete, table, key))

    def _insert(self, table: str, null_chance: float) -> None:
        if not self._writer.usages[table].key:
            return
        key = self._writer.insert(table, null_chance=null_chance)
        if key is None:
            self._found.difference(f"{table}: not checked, there is no row that it could refer to")
            return
        self._created.append((table, key))
        self._forth(table, key, "insert")

    def _update(self, table: str, key: Key) -> None:
        here, there = self._writer.usages[table], self._reader.usages[table]
        pairs = self._pairing.columns(table)
        for name in here.written:
            for null_chance in (0.0, 1.0) if name in here.nullable else (0.0,):
                self._writer.update(table, key, [name], null_chance=null_chance)
                self._forth(table, key, f"update of {name}")
        self._reader.adopt(table, key)
        for name in there.written:
            if name not in pairs.values():
                continue
            for null_chance in (0.0, 1.0) if name in there.nullable else (0.0,):
                self._reader.update(table, key, [name], null_chance=null_chance)
                self._back(table, key, f"update of {name}")
        for client, follow in ((self._writer, self._forth), (self._reader, self._back)):
            if client.can_upsert(table):
                client.adopt(table, key)
                client.upsert(table, key)
                follow(table, key, "upsert")

    def _delete(self, table: str, key: Key) -> None:
        self._writer.adopt(table, key)
        self._writer.delete(table, key)
        if table in self._reader.usages and self._reader.read(table, key) is not None:
            self._found.difference(
                f"{self._writer.release.name} deleted {table} {key}, "
                f"{self._reader.release.name} still reads it"
            )

    def _forth(self, table: str, key: Key, what: str) -> None:
        pairs = self._pairing.columns(table)
        filled = self._writer.usages[table].may_be_filled
        wrote = self._writer.rows[table].get(key)
        if wrote is not None and table in self._reader.usages and pairs:
            compare_row(
                self._writer, self._reader, table, key, wrote, pairs, filled, self._found, what
            )

    def _back(self, table: str, key: Key, what: str) -> None:
        pairs = self._pairing.reversed().columns(table)
        filled = self._reader.usages[table].may_be_filled
        wrote = self._reader.rows[table].get(key)
        if wrote is not None:
            compare_row(
                self._reader, self._writer, table, key, wrote, pairs, filled, self._found, what
            )

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except ExpectedError:
            pass
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ParentGoneError) else error
            names = f"{self._writer.release.name} or {self._reader.release.name}"
            self._found.failure(names, *self._writer.last, cause or error)


def compare_row(
    writer: Client,
    reader: Client,
    table: str,
    key: Key,
    wrote: Row,
    pairs: Mapping[str, str],
    may_be_filled: Collection[str],
    found: Tally,
    what: str = "rows",
) -> None:
    names = f"{table} {key}, {what} of {writer.release.name} read by {reader.release.name}"
    try:
        read = reader.read(table, key)
    except Exception as error:
        found.failure(reader.release.name, "select", table, error)
        return
    if read is None:
        found.difference(f"{names}: the row is not there")
        return
    for line in differences(wrote, read, pairs, may_be_filled):
        found.difference(f"{names}, {line}")
