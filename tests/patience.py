"""Waiting for what another process says, or for a session to wait."""

from __future__ import annotations

import time
from collections.abc import Callable

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
