"""Waiting for what another process says, or for a session to wait."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from conftest import Database
from waiting import wait_until

_DEADLINE_SECONDS = 60.0
"""Only a test that fails waits for so long."""


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition()` holds; fail the test if it never does."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)


def wait_for_waiter(database: Database, table: str) -> None:
    """Return when a session waits for a lock on `table`."""
    wait_until(
        database,
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        f" AND relation = '{table}'::regclass",
    )


def wait_for_no_waiter(database: Database, table: str) -> None:
    """Return when no session waits for a lock on `table`."""
    wait_until(
        database,
        "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        f" AND relation = '{table}'::regclass",
    )


@contextmanager
def reader(database: Database, table: str = "orders") -> Iterator[psycopg.Connection[Any]]:
    """A session that has read from `table` and has not ended its transaction."""
    with database.connect() as connection:
        connection.execute("SET application_name = 'nightly report'")
        connection.execute("BEGIN")
        connection.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE".encode())
        yield connection


def read_until(running: subprocess.Popen[str], text: str) -> str:
    """Read what the process says until a line has `text`, and return that line."""
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if text in line:
            return line
    raise AssertionError("".join(said))
