"""The table of lock conflicts is the server's own."""

from __future__ import annotations

import psycopg
from conftest import Database

from alembic_safe.postgres.locks import LockMode

MODES = [mode for mode in LockMode if mode is not LockMode.NONE]

READS_AND_WRITES = (
    "SELECT FROM t",
    "SELECT FROM t FOR UPDATE",
    "INSERT INTO t DEFAULT VALUES",
    "UPDATE t SET id = id",
    "DELETE FROM t",
)


def _lock(mode: LockMode) -> bytes:
    return f"LOCK TABLE t IN {mode.sql} MODE NOWAIT".encode()


def test_two_sessions_meet_exactly_where_the_table_says(database: Database) -> None:
    database.execute("CREATE TABLE t (id int)")
    met = {}
    with database.connect() as first, database.connect() as second:
        for held in MODES:
            with first.transaction():
                first.execute(_lock(held))
                for wanted in MODES:
                    try:
                        with second.transaction():
                            second.execute(_lock(wanted))
                    except psycopg.errors.LockNotAvailable:
                        met[held, wanted] = True
                    else:
                        met[held, wanted] = False
    said = {(held, wanted): wanted in held.conflicts() for held in MODES for wanted in MODES}
    assert len(met) == 64
    assert met == said


def test_no_lock_conflicts_with_nothing() -> None:
    assert LockMode.NONE.conflicts() == ()
    assert all(LockMode.NONE not in mode.conflicts() for mode in LockMode)


def test_the_view_pg_locks_shows_each_mode_by_its_other_name(database: Database) -> None:
    database.execute("CREATE TABLE t (id int)")
    shown = "SELECT mode FROM pg_locks WHERE relation = 't'::regclass"
    with database.connect() as connection:
        for mode in MODES:
            with connection.transaction():
                connection.execute(_lock(mode))
                assert connection.execute(shown).fetchall() == [(mode.pg_locks_name,)]


def test_what_blocks_reads_or_writes_does_so_on_the_server(database: Database) -> None:
    database.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    blocks = {}
    with database.connect() as holder, database.connect() as application:
        application.execute("SET lock_timeout = '20ms'")
        for mode in MODES:
            with holder.transaction():
                holder.execute(_lock(mode))
                blocks[mode] = any(_waits(application, query) for query in READS_AND_WRITES)
    assert blocks == {mode: mode.blocks_reads_or_writes for mode in MODES}


def _waits(application: psycopg.Connection, query: str) -> bool:
    try:
        application.execute(query.encode())
    except psycopg.errors.LockNotAvailable:
        return True
    return False
