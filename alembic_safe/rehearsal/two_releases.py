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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import URL, Engine
from sqlalchemy.pool import NullPool

from alembic_safe.rehearsal.clients import (
    Client,
    ExpectedError,
    ParentGoneError,
    Parents,
)
from alembic_safe.rehearsal.exchange import Exchange, compare_row
from alembic_safe.rehearsal.observations import Observations, Tally
from alembic_safe.rehearsal.releases import Pairing, Release, Usage, parents_first

Side = Literal["old", "new"]

_AFTER_ERROR_SECONDS = 0.05
"""An application that fails at every query would otherwise fill the log and the processor."""

_PAUSED_LOOK_SECONDS = 0.05
"""How often a paused client looks whether it is to stop."""

_PAUSE_SECONDS = 60.0
"""How long `pause` waits for queries that are on their way."""


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

    @property
    def is_at_work(self) -> bool:
        """Whether any clients were started and not stopped again."""
        return any(each.workers for each in self._sides.values())

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
            Exchange(old, new, pairing, found).run()
            old.forget()
            new.forget()
            Exchange(new, old, pairing.reversed(), found).run()
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
                            compare_row(client, reader, table, key, wrote, pairs, filled, found)
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
