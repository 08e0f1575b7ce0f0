"""What taking a lock costs the application, by strategy, on the same load.

    python benchmarks/locks.py

A table has a steady load of reads and writes, and readers that keep their snapshot for 1 to 4 s, so
that one is nearly always there. Then a column is added again and again: without a timeout; with the
`lock_timeout` of 5 s and retry that guides recommend; with 500 ms and exponential backoff without
end, as pgroll does; and by this package, with and without supervision. For each: how long queries
of the application waited, how much waiting they did together, and how long it took until the column
was there. Ten columns take a quarter of an hour or longer: who backs off without end may need
minutes for one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement
from alembic_safe.rehearsal.server import ScratchServer
from alembic_safe.runtime.execution import Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.second_connection import Session
from alembic_safe.runtime.supervision import Supervision
from alembic_safe.settings import Settings

CLIENTS = 8
READERS = 16
ROWS = 10_000
BETWEEN_READERS = 0.9
"""Mean seconds between two arrivals; with 2.5 s each, nobody is there 6 % of the time."""
THINK_SECONDS = 0.01
LOOK_SECONDS = 0.005

Strategy = Callable[[ScratchServer, str], None]
"""Executes a statement on the database `shop`."""


def without_timeout(server: ScratchServer, sql: str) -> None:
    """Wait as long as it takes."""
    server.execute(sql, database="shop")


def with_five_seconds(server: ScratchServer, sql: str) -> None:
    """The pattern of the guides: 5 s, then a second's pause, then again."""
    with server.connect("shop") as connection:
        connection.execute("SET lock_timeout = '5s'")
        while not _tried(connection, sql):
            time.sleep(1.0)


def with_backoff(server: ScratchServer, sql: str) -> None:
    """500 ms, then pauses of up to 1, 2, 4 ... 60 s without end."""
    bound = 1.0
    with server.connect("shop") as connection:
        connection.execute("SET lock_timeout = '500ms'")
        while not _tried(connection, sql):
            time.sleep(random.uniform(0, bound))
            bound = min(bound * 2, 60.0)


def _tried(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> bool:
    try:
        connection.execute(sql.encode())
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def with_the_ladder(server: ScratchServer, sql: str) -> None:
    """Short attempts that get longer, with a look before each; the settings are the defaults."""
    with _connected(server) as connection:
        _executed(connection, sql, Patience(Settings()))


def supervised(settings: Settings) -> Strategy:
    """Attempts that last for as long as they cost others little, with a look before each."""

    def strategy(server: ScratchServer, sql: str) -> None:
        with _connected(server) as connection:
            supervision = Supervision(Session.of(connection))
            try:
                _executed(connection, sql, Patience(settings, supervision=supervision))
            finally:
                supervision.close()

    return strategy


def _connected(server: ScratchServer) -> sa.Connection:
    engine = sa.create_engine(
        server.url("shop"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
    )
    return engine.connect()


def _executed(connection: sa.Connection, sql: str, patience: Patience) -> None:
    statement = Statement((sql,), QualifiedName("orders"), LockMode.ACCESS_EXCLUSIVE)
    Executor(patience, "benchmark").run_alone(connection, statement)


STRATEGIES: dict[str, Strategy] = {
    "no timeout": without_timeout,
    "5 s and retry": with_five_seconds,
    "500 ms and backoff": with_backoff,
    "alembic-safe, ladder": with_the_ladder,
    "alembic-safe, supervised": supervised(Settings()),
}

BUDGETS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds that a query may wait because of an attempt (setting `lock_timeout`)."""

CURVE: dict[str, Strategy] = {
    f"supervised, {budget:g} s": supervised(Settings(lock_timeout=budget)) for budget in BUDGETS
}


@dataclass
class Load:
    """An application at work: clients, readers that stay, and somebody who counts who waits."""

    server: ScratchServer
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    blocked_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._places = threading.Semaphore(READERS)
        works = [self._client] * CLIENTS + [self._readers, self._count]
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self) -> None:
        queries = (
            "SELECT total FROM orders WHERE id = %s",
            "UPDATE orders SET total = total + 1 WHERE id = %s",
        )
        with self.server.connect("shop") as connection:
            while not self._stop.is_set():
                query = random.choice(queries)
                self._timed(connection, query, (random.randint(1, ROWS),))
                time.sleep(THINK_SECONDS)

    def _timed(
        self,
        connection: psycopg.Connection[tuple[object, ...]],
        query: str,
        values: tuple[int, ...] = (),
    ) -> None:
        began = time.perf_counter()
        try:
            connection.execute(query.encode(), values)
        except psycopg.Error as error:
            self.failures.append(str(error))
        self.waits.append(time.perf_counter() - began)

    def _readers(self) -> None:
        with ExitStack() as stack:
            while not self._stop.wait(random.expovariate(1 / BETWEEN_READERS)):
                self._places.acquire()
                thread = threading.Thread(target=self._reader)
                thread.start()
                stack.callback(thread.join)

    def _reader(self) -> None:
        with self.server.connect("shop") as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            self._timed(connection, "SELECT count(*) FROM orders")
            self._stop.wait(random.uniform(1.0, 4.0))
            connection.execute("COMMIT")
        self._places.release()

    def _count(self) -> None:
        """Add up how many sessions of the application wait for a lock, and for how long.

        The migration is the one session that waits for ACCESS EXCLUSIVE.
        """
        query = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
            " AND mode <> 'AccessExclusiveLock'"
        )
        with self.server.connect("shop") as connection:
            last = time.perf_counter()
            while not self._stop.wait(LOOK_SECONDS):
                ((waiting,),) = connection.execute(query).fetchall()
                now = time.perf_counter()
                self.blocked_seconds += waiting * (now - last)
                last = now


def measured(server: ScratchServer, strategy: Strategy, columns: int) -> list[str]:
    """Return the figures of a strategy, as cells of a row."""
    server.create_database("shop")
    server.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, total int NOT NULL);"
        f" INSERT INTO orders SELECT n, 0 FROM generate_series(1, {ROWS}) AS n",
        database="shop",
    )
    seconds = []
    with Load(server) as load:
        for number in range(columns):
            time.sleep(random.uniform(0.5, 1.5))
            began = time.perf_counter()
            strategy(server, f"ALTER TABLE orders ADD COLUMN c{number} int")
            seconds.append(time.perf_counter() - began)
    server.drop_database("shop")
    waits = sorted(load.waits)
    return [
        f"{waits[-1] * 1000:.0f}",
        f"{waits[int(len(waits) * 0.999)] * 1000:.0f}",
        f"{load.blocked_seconds:.1f}",
        str(len(load.failures)),
        f"{statistics.median(seconds):.2f}",
        f"{max(seconds):.1f}",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--only", choices=list(STRATEGIES))
    parser.add_argument("--curve", action="store_true", help="budgets against time to success")
    options = parser.parse_args()
    strategies = CURVE if options.curve else STRATEGIES
    console = Console(width=110)
    table = Table(title=f"adding {options.columns} columns to a table in use")
    headings = (
        "strategy",
        "worst wait ms",
        "99.9 % ms",
        "blocked s x sessions",
        "failed queries",
        "until done s",
        "at most s",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    with ScratchServer() as server:
        for name, strategy in strategies.items():
            if options.only in (None, name):
                console.print(f"{name} ...")
                table.add_row(name, *measured(server, strategy, options.columns))
    console.print(table)


if __name__ == "__main__":
    main()
