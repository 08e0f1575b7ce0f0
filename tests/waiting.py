"""Waiting for what the server does, instead of for a time to pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from conftest import Database

_DEADLINE_SECONDS = 60.0
"""Only a test that fails waits for so long."""


def wait_until(database: Database, query: str, params: Sequence[Any] = ()) -> Any:
    """Run a query until the first column of its first row is true, and return that.

    Args:
        database: where.
        query: SQL; no row counts as false.
        params: its parameters.
    """
    deadline = time.monotonic() + _DEADLINE_SECONDS
    with database.connect() as connection:
        while True:
            row = connection.execute(query.encode(), params or None).fetchone()
            if row is not None and row[0]:
                return row[0]
            assert time.monotonic() < deadline, f"still not so: {query}"
            time.sleep(0.005)


def wait_until_alone(database: Database) -> None:
    """Wait until no other session is left, such as that of a process that was killed."""
    wait_until(
        database,
        "SELECT count(*) = 0 FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
