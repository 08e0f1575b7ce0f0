"""A connection under guard, without an Alembic environment around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from conftest import Database
from sqlalchemy.ext.asyncio import create_async_engine

from alembic_safe.phases import Phase
from alembic_safe.rules.settings import LintSettings
from alembic_safe.runtime.guard import Guard, Watch
from alembic_safe.runtime.place import Place
from alembic_safe.runtime.sessions import SessionSettings
from alembic_safe.settings import Settings

T = TypeVar("T")

NO_TABLE_IS_SMALL = LintSettings(small_table_bytes=0)
"""Tables of tests have few rows, and stand for large ones."""

DRIVERS = ["psycopg", "psycopg2", "pg8000", "asyncpg", "psycopg_async"]


@contextmanager
def connected(database: Database, driver: str = "psycopg") -> Iterator[sa.Connection]:
    """A connection of a driver that is not asynchronous."""
    engine = sa.create_engine(database.url(driver), poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


def on_connection(database: Database, driver: str, run: Callable[[sa.Connection], T]) -> T:
    """Return what a function returns that is given a connection of any driver."""
    if driver not in ("asyncpg", "psycopg_async"):
        with connected(database, driver) as connection:
            return run(connection)

    async def in_a_loop() -> T:
        url = database.url("psycopg" if driver == "psycopg_async" else driver)
        engine = create_async_engine(url, poolclass=sa.NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(run)

    return asyncio.run(in_a_loop())


def guard_on(
    connection: sa.Connection, lint_settings: LintSettings = NO_TABLE_IS_SMALL, **settings: Any
) -> Guard:
    """The guard of a run."""
    session = SessionSettings.read(connection)
    guard = Guard(Settings(**settings), lint_settings, session, connection)
    connection.rollback()
    return guard


def place_of(phase: Phase | None = None, *, is_upgrade: bool = True) -> Place:
    """An attempt of a revision `r1`, whose file is not there."""
    state = "Nothing was changed."
    return Place("r1", phase, is_upgrade, 0.5, lambda: state, Path("r1.py"), {})


@contextmanager
def guarded(
    connection: sa.Connection,
    *,
    phase: Phase | None = None,
    is_upgrade: bool = True,
    lint_settings: LintSettings = NO_TABLE_IS_SMALL,
    **settings: Any,
) -> Iterator[Watch]:
    """The attempt of a revision `r1`."""
    with guard_on(connection, lint_settings, **settings).watching(
        place_of(phase, is_upgrade=is_upgrade)
    ) as watch:
        yield watch
