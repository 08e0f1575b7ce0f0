"""A connection under guard, without an Alembic environment around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from conftest import Database
from sqlalchemy.ext.asyncio import create_async_engine

from alembic_safe.phases import Phase
from alembic_safe.runtime.guard import Guard, Watch
from alembic_safe.runtime.place import Place
from alembic_safe.runtime.sessions import SessionSettings
from alembic_safe.settings import Settings

T = TypeVar("T")

DRIVERS = ["psycopg", "psycopg2", "asyncpg", "psycopg_async"]


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


def guard_on(connection: sa.Connection, **settings: Any) -> Guard:
    """The guard of a run."""
    guard = Guard(Settings(**settings), SessionSettings.read(connection), connection)
    connection.rollback()
    return guard


@contextmanager
def guarded(
    connection: sa.Connection,
    *,
    phase: Phase | None = None,
    is_upgrade: bool = True,
    **settings: Any,
) -> Iterator[Watch]:
    """The attempt of a revision `r1`."""
    place = Place("r1", phase, is_upgrade, 0.5, lambda: "Nothing was changed.")
    with guard_on(connection, **settings).watching(place) as watch:
        yield watch
