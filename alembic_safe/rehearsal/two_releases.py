"""Two releases of an application at work in one database, and what they felt.

The harness tells whether a schema change is one that a rollout survives: no query of either
release fails, each reads what it wrote, and each sees the other's writes.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import URL, Engine
from sqlalchemy.pool import NullPool

from alembic_safe.rehearsal.clients import (
    Client,
    ExpectedError,
    Key,
    Pairing,
    ParentGoneError,
    Parents,
    Release,
    Row,
    Usage,
    differences,
    parents_first,
)

Side = Literal["old", "new"]

_KEPT = 200
"""Errors and differences that are kept in words; beyond that only their number grows."""

_AFTER_ERROR_SECONDS = 0.05
"""An application that fails at every query would otherwise fill the log and the processor."""

_PAUSED_LOOK_SECONDS = 0.05
"""How often a paused client looks whether it is to stop."""

_PAUSE_SECONDS = 60.0
"""How long `pause` waits for queries that are on their way."""


@dataclass(frozen=True)
class Failure:
    """A query that failed in a way that an application would notice."""

    release: str
    kind: str
    table: str
    error: str

    def __str__(self) -> str:
        return f"{self.release} {self.kind} {self.table}: {self.error}".rstrip()


@dataclass
class Figure:
    """The queries of one kind: how many, and the longest in milliseconds."""

    count: int = 0
    longest_ms: float = 0.0


@dataclass(frozen=True)
class Observations:
    """What the clients felt.

    The figures are those since the last `reset_worst`; a query that was under way then counts with
    its whole time on both sides. All else is since the harness was made.

    Args:
        figures: by release and kind of query.
        errors: the failures, the first 200 of them.
        differences: rows that were lost, stale or other than written; the first 200.
        error_count, difference_count: how many there were.
        longest_ever_ms: the longest query.
    """

    figures: Mapping[tuple[str, str], Figure]
    errors: tuple[Failure, ...]
    differences: tuple[str, ...]
    error_count: int
    difference_count: int
    longest_ever_ms: float

    @property
    def queries(self) -> int:
        """How many queries ended."""
        return sum(figure.count for figure in self.figures.values())

    @property
    def longest_ms(self) -> float:
        """The longest query, in milliseconds."""
        return max((figure.longest_ms for figure in self.figures.values()), default=0.0)

    @property
    def longest_by_kind(self) -> dict[str, float]:
        """The longest query of each kind, in milliseconds."""
        longest: dict[str, float] = {}
        for (_, kind), figure in self.figures.items():
            longest[kind] = max(longest.get(kind, 0.0), figure.longest_ms)
        return longest

    @property
    def by_release(self) -> dict[str, Figure]:
        """The queries of each release."""
        sums: dict[str, Figure] = {}
        for (release, _), figure in self.figures.items():
            total = sums.setdefault(release, Figure())
            total.count += figure.count
            total.longest_ms = max(total.longest_ms, figure.longest_ms)
        return sums

    def assert_clean(self) -> None:
        """Raise AssertionError with a list of what went wrong, if anything did."""
        if not self.error_count and not self.difference_count:
            return
        lines = [
            f"{self.error_count} failed queries and {self.difference_count} wrong rows "
            f"in {self.queries} queries:",
            *(f"  {failure}" for failure in self.errors[:20]),
            *(f"  {line}" for line in self.differences[:20]),
        ]
        raise AssertionError("\n".join(lines))


class Tally:
    """Adds up what the clients report, from all their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._longest_ever = 0.0
        self._figures: dict[tuple[str, str], Figure] = {}
        self._failures: list[Failure] = []
        self._differences: list[str] = []
        self._failure_count = 0
        self._difference_count = 0

    def reset_figures(self) -> None:
        """Start the figures anew. Failures and wrong rows stay: no step makes them good."""
        with self._lock:
            self._figures = {}

    def query(self, release: str, kind: str, seconds: float) -> None:
        """Count a query."""
        with self._lock:
            figure = self._figures.setdefault((release, kind), Figure())
            figure.count += 1
            figure.longest_ms = max(figure.longest_ms, seconds * 1000)
            self._longest_ever = max(self._longest_ever, seconds * 1000)

    def failure(self, release: str, kind: str, table: str, error: BaseException) -> None:
        """Count a failed query."""
        text = f"{type(error).__name__}: {error}".strip()
        with self._lock:
            self._failure_count += 1
            if len(self._failures) < _KEPT:
                self._failures.append(Failure(release, kind, table, text))

    def difference(self, text: str) -> None:
        """Count a wrong row."""
        with self._lock:
            self._difference_count += 1
            if len(self._differences) < _KEPT:
                self._differences.append(text)

    def observations(self, in_flight: Sequence[tuple[str, str, float]] = ()) -> Observations:
        """Return the sums, with (release, kind, seconds so far) of queries that still run."""
        with self._lock:
            figures = {
                place: Figure(figure.count, figure.longest_ms)
                for place, figure in self._figures.items()
            }
            for release, kind, seconds in in_flight:
                figure = figures.setdefault((release, kind), Figure())
                figure.longest_ms = max(figure.longest_ms, seconds * 1000)
            longest = max([self._longest_ever, *(figure.longest_ms for figure in figures.values())])
            return Observations(
                figures,
                tuple(self._failures),
                tuple(self._differences),
                self._failure_count,
                self._difference_count,
                longest,
            )


@dataclass
class _Side:
    """One of the two releases, with its threads and the clients that have stopped."""

    release: Release
    pairing: Pairing
    workers: list[_Worker] = field(default_factory=list)
    stopped: list[Client] = field(default_factory=list)

    def usages(self, tables: Sequence[str] | None = None) -> list[Usage]:
        known = list(self.release.metadata.tables)
        if tables is not None and (unknown := set(tables) - set(known)):
            raise ValueError(f"release {self.release.name} has no tables {sorted(unknown)}")
        return parents_first(
            self.pairing.usage(name) for name in known if tables is None or name in tables
        )

    @property
    def clients(self) -> list[Client]:
        return [*self.stopped, *(worker.client for worker in self.workers)]


class _Worker(threading.Thread):
    """A thread that lets one client work until it is told to stop."""

    def __init__(
        self,
        client: Client,
        engine: Engine,
        tally: Tally,
        running: threading.Event,
        think_seconds: float,
        rng: Random,
    ) -> None:
        super().__init__(name=f"client of {client.release.name}", daemon=True)
        self.client = client
        self.stopping = threading.Event()
        self.at_work = threading.Lock()
        """Held during each act, so that whoever takes it knows that none is under way."""
        self._engine = engine
        self._tally = tally
        self._running = running
        self._think_seconds = think_seconds
        self._rng = rng
        self._cancelled = False

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                connection = self._engine.connect()
            except Exception as error:
                self._tally.failure(self.client.release.name, "connect", "", error)
                self.stopping.wait(_AFTER_ERROR_SECONDS)
                continue
            self.client.connection = connection
            try:
                self._work()
            finally:
                connection.close()

    def _work(self) -> None:
        """Act until told to stop, or until the connection is lost."""
        while not self.stopping.is_set():
            with self.at_work:
                if self._running.is_set() and not self._try(self._act):
                    self.client.forget_uncertain()
                    return
            if self._running.is_set():
                self.stopping.wait(self._think_seconds)
            else:
                self._running.wait(_PAUSED_LOOK_SECONDS)
        if not self._cancelled:
            self._try(self.client.check_all)

    def _act(self) -> None:
        if self._rng.random() < 0.2:
            self.client.transaction(self._rng.randint(2, 4))
        else:
            self.client.act()

    def _try(self, act: Callable[[], None]) -> bool:
        """Return whether the connection is still good."""
        try:
            try:
                act()
            except ExpectedError:
                pass
            except ParentGoneError as gone:
                # Refused because of a row that somebody else deleted: no fault of the schema's.
                if self.client.still_refers_to_rows(gone.usage):
                    raise
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ParentGoneError) else error
            name, (kind, table) = self.client.release.name, self.client.last
            self._tally.failure(name, kind, table, cause or error)
            self.stopping.wait(_AFTER_ERROR_SECONDS)
            try:
                self.client.connection.exec_driver_sql("SELECT 1")
            except Exception:
                return False
        return True

    def cancel(self) -> None:
        """End the query that the client waits for, and let it begin no other."""
        self._cancelled = True
        with contextlib.suppress(Exception):
            driver: Any = self.client.connection.connection.dbapi_connection
            driver.cancel()


class TwoReleases:
    """The harness: clients of two releases of an application in one database.

    Use it in a `with` block; its end stops all clients.

    Args:
        old, new: the releases.
        url: the database; an engine is taken for its URL.
        same: by table, {old column: new column} where the two releases call one column
            differently.
        seed: start of the clients' random numbers.
        think_seconds: how long a client waits between two acts.
    """

    def __init__(
        self,
        old: Release,
        new: Release,
        url: str | URL | Engine,
        same: Mapping[str, Mapping[str, str]] | None = None,
        *,
        seed: int = 0,
        think_seconds: float = 0.002,
    ) -> None:
        pairing = Pairing(old, new, same or {})
        self._sides: dict[Side, _Side] = {
            "old": _Side(old, pairing),
            "new": _Side(new, pairing.reversed()),
        }
        place = url.url if isinstance(url, Engine) else sa.make_url(url)
        # One connection for each client, and a connection that is lost stays lost: a pool would
        # hide both.
        self._engine = sa.create_engine(
            place.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": 10, "application_name": "alembic_safe clients"},
        )
        self._tally = Tally()
        self._parents: Parents | None = None
        self._running = threading.Event()
        self._running.set()
        self._seeds = itertools.count(seed * 10_000)
        self._think_seconds = think_seconds

    def __enter__(self) -> TwoReleases:
        # A garbage collection that walks over everything the program has loaded stops all clients
        # for 60 ms or more, which would count as a wait for the database.
        gc.collect()
        gc.freeze()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._engine.dispose()
        gc.unfreeze()

    def start(self, side: Side, clients: int = 1, tables: Sequence[str] | None = None) -> None:
        """Start clients of a release, in all its tables or in those that are named.

        Raises:
            sqlalchemy.exc.OperationalError: no connection to the database.
            ValueError: the release has no such table.
        """
        usages = self._sides[side].usages(tables)
        for _ in range(clients):
            client = self._client(side, usages, self._tally)
            rng = Random(next(self._seeds))
            worker = _Worker(
                client, self._engine, self._tally, self._running, self._think_seconds, rng
            )
            client.connection.close()  # the worker opens its own
            self._sides[side].workers.append(worker)
            worker.start()

    def stop(self, side: Side | None = None, timeout: float = 10.0) -> None:
        """Stop the clients of a release, or of both; each reads all its rows once more.

        A query that is not done after `timeout` seconds is cancelled, which counts as a failure.
        """
        sides = [self._sides[side]] if side is not None else [*self._sides.values()]
        workers = [worker for each in sides for worker in each.workers]
        for worker in workers:
            worker.stopping.set()
        deadline = time.monotonic() + timeout
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        for worker in (late := [worker for worker in workers if worker.is_alive()]):
            worker.cancel()
        for worker in late:
            worker.join(5.0)
            if worker.is_alive():
                error = TimeoutError("the client did not stop")
                name, (kind, table) = worker.client.release.name, worker.client.last
                self._tally.failure(name, kind, table, error)
        for each in sides:
            each.stopped += [worker.client for worker in each.workers]
            each.workers.clear()

    def pause(self) -> None:
        """Keep all clients from beginning anything, and wait until each has ended what it does.

        Raises:
            TimeoutError: a query did not end within a minute.
        """
        self._running.clear()
        for each in self._sides.values():
            for worker in each.workers:
                if not worker.at_work.acquire(timeout=_PAUSE_SECONDS):
                    raise TimeoutError(f"{worker.name} is still in {worker.client.last}")
                worker.at_work.release()

    def resume(self) -> None:
        """Let the clients go on after `pause`."""
        self._running.set()

    def reset_worst(self) -> None:
        """Begin a new step: the figures of `observations` count from here."""
        self._tally.reset_figures()

    def observations(self) -> Observations:
        """Return what the clients felt, queries under way included."""
        now = time.perf_counter()
        in_flight = [
            (worker.client.release.name, flight[0], now - flight[1])
            for each in self._sides.values()
            for worker in each.workers
            if (flight := worker.client.in_flight) is not None
        ]
        return self._tally.observations(in_flight)

    def cross_check(self, tables: Sequence[str] | None = None) -> list[str]:
        """Let each release write rows that the other reads and changes; return what differs.

        In every table that both know (or in those that are named): insert with and without NULLs,
        update of each column, upsert, delete. The rows are deleted again.
        """
        found = Tally()
        old_usages, new_usages = (
            side.usages([name for name in tables if name in side.release.metadata.tables])
            if tables is not None
            else side.usages()
            for side in self._sides.values()
        )
        old = self._client("old", old_usages, found)
        new = self._client("new", new_usages, found)
        try:
            pairing = self._sides["old"].pairing
            _Exchange(old, new, pairing, found).run()
            old.forget()
            new.forget()
            _Exchange(new, old, pairing.reversed(), found).run()
        finally:
            old.connection.close()
            new.connection.close()
        seen = found.observations()
        return [*map(str, seen.errors), *seen.differences]

    def check_rows(self, side: Side) -> list[str]:
        """Read, as `side` does, every row that any client so far left behind; return what differs.

        Columns that only one release knows are skipped. Clients at work are paused meanwhile.
        """
        was_running = self._running.is_set()
        self.pause()
        found = Tally()
        reader = self._client(side, self._sides[side].usages(), found)
        try:
            for writer, each in self._sides.items():
                for client in each.clients:
                    for table, rows in client.rows.items():
                        pairs = each.pairing.columns(table)
                        if writer == side:
                            pairs = {name: name for name in pairs}
                        filled = client.usages[table].may_be_filled
                        for key, wrote in rows.items() if pairs else ():
                            _compare(client, reader, table, key, wrote, pairs, filled, found)
        finally:
            reader.connection.close()
            if was_running:
                self.resume()
        seen = found.observations()
        return [*map(str, seen.errors), *seen.differences]

    def _client(self, side: Side, usages: list[Usage], recorder: Tally) -> Client:
        connection = self._engine.connect()
        if self._parents is None:
            self._parents = Parents()
            for each in self._sides.values():
                self._parents.load(connection, each.usages())
        release, rng = self._sides[side].release, Random(next(self._seeds))
        return Client(release, usages, connection, recorder, self._parents, rng)


class _Exchange:
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
            _compare(
                self._writer, self._reader, table, key, wrote, pairs, filled, self._found, what
            )

    def _back(self, table: str, key: Key, what: str) -> None:
        pairs = self._pairing.reversed().columns(table)
        filled = self._reader.usages[table].may_be_filled
        wrote = self._reader.rows[table].get(key)
        if wrote is not None:
            _compare(
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


def _compare(
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
