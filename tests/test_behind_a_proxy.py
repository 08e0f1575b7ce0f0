"""Behind a proxy that keeps sessions everything works; behind one that shares them nothing is done,
and nothing is left in a session that others use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from commands import running
from conftest import Database
from environments import use_driver
from hand_written import write_history
from one_message import failure
from patience import reader, wait_for_waiter
from pgbouncer import PgBouncer, needs_pgbouncer
from project import Project
from rename_story import V1, V2, fill
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from waiting import wait_until

from alembic_safe.errors import SessionShared
from alembic_safe.runtime.proxies import (
    announced_pid,
    proof_of_sharing,
    refuse_shared_session,
)

DRIVERS = ["psycopg", "psycopg2", "asyncpg", "pg8000"]
SYNCHRONOUS = ["psycopg", "psycopg2", "pg8000"]


@pytest.fixture
def alembic_project(tmp_path: Path, database: Database) -> Project:
    """An Alembic environment for the fresh database."""
    return Project(tmp_path, database.url())


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=NullPool)


def answering(connection: sa.Connection) -> int:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    connection.commit()
    return int(pid)


def look(connection: sa.Connection) -> None:
    refuse_shared_session(connection, answering(connection))


@contextmanager
def traffic(connect: Callable[[], Any], clients: int = 8) -> Iterator[None]:
    """Clients that run one short transaction after the other."""
    ended = threading.Event()

    def work() -> None:
        with connect() as connection:
            # Prepared statements belong to one session.
            connection.prepare_threshold = None
            while not ended.is_set():
                connection.execute("SELECT count(*) FROM pg_class")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


# What proves that a session is shared.


@pytest.mark.parametrize(
    ("ours", "others", "proof"),
    [
        ([1, 1, 1], [], None),
        ([1, 1, 1], [2, 3], None),
        ([1, 2, 1], [], "its transactions ran in server processes 1 and 2"),
        ([1, 1], [2, 1], "another connection was given its server process 1 as well"),
        ([1, 2], [1], "its transactions ran in server processes 1 and 2"),
    ],
)
def test_proof(ours: list[int], others: list[int], proof: str | None) -> None:
    assert proof_of_sharing(ours, others) == proof


# A direct connection.


@pytest.mark.parametrize("driver", SYNCHRONOUS)
def test_on_a_direct_connection_nothing_is_sent(database: Database, driver: str) -> None:
    sent: list[str] = []
    engine = engine_of(database.url(driver))
    with engine.connect() as connection:
        pid = answering(connection)
        sa.event.listen(engine, "connect", lambda *_: sent.append("a connection"))
        sa.event.listen(
            connection, "before_cursor_execute", lambda _c, _k, sql, *_: sent.append(sql)
        )
        assert announced_pid(connection) == pid
        refuse_shared_session(connection, pid)
    assert sent == []


def test_nor_on_an_asynchronous_one(database: Database) -> None:
    async def announced_and_answering() -> tuple[int | None, int]:
        engine = create_async_engine(database.url("asyncpg"), poolclass=NullPool)
        async with engine.connect() as connection:
            return await connection.run_sync(lambda c: (announced_pid(c), answering(c)))

    announced, answered = asyncio.run(announced_and_answering())
    assert announced == answered


def test_a_driver_that_tells_no_pid_is_no_proof(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alembic_safe.runtime.proxies.announced_pid", lambda _: None)
    with engine_of(database.url()).connect() as connection, traffic(database.connect):
        look(connection)


# A pool that shares sessions.


@needs_pgbouncer
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_pool_that_shares_sessions_is_refused(
    alembic_project: Project, database: Database, driver: str
) -> None:
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    with PgBouncer(database, "transaction") as pool:
        use_driver(alembic_project, pool.url(driver))
        told = failure(alembic_project.run("upgrade", "head", check=False))
    assert "shares the server's sessions among clients" in told
    assert "another connection was given its server process" in told
    assert "Point the URL of your Alembic environment to the server itself" in told
    assert "pool_mode = session" in told
    assert "Nothing was changed" in told
    assert database.execute("SELECT to_regclass('t'), to_regclass('alembic_safe_ledger')") == [
        (None, None)
    ]


@needs_pgbouncer
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_so_is_one_that_shares_within_a_transaction(
    alembic_project: Project, database: Database, driver: str
) -> None:
    write_history(alembic_project, "r1")
    with PgBouncer(database, "statement") as pool:
        use_driver(alembic_project, pool.url(driver))
        told = failure(alembic_project.run("upgrade", "head", check=False))
    assert "shares the server's sessions among clients" in told
    assert "not allowed in statement pooling mode" in told


@needs_pgbouncer
def test_so_is_one_where_a_driver_meets_the_statements_of_another(
    alembic_project: Project, database: Database
) -> None:
    write_history(alembic_project, "r1")
    with PgBouncer(database, "transaction", default_pool_size="1") as pool:
        use_driver(alembic_project, pool.url("asyncpg"))
        alembic_project.run("upgrade", "head", check=False)
        told = failure(alembic_project.run("upgrade", "head", check=False))
    assert "shares the server's sessions among clients: it said: prepared statement" in told


@needs_pgbouncer
def test_every_command_that_changes_something_is_refused_and_others_work(
    alembic_project: Project, database: Database
) -> None:
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    alembic_project.run("upgrade", "head")
    write_history(alembic_project, "r2", "r1")
    with PgBouncer(database, "transaction") as pool:
        alembic_project.connect_to(pool.url())
        for command in ("upgrade", "head"), ("downgrade", "base"), ("stamp", "r2"):
            told = failure(alembic_project.run(*command, check=False))
            assert "shares the server's sessions among clients" in told
        told = failure(alembic_project.run_safe("contract", check=False))
        assert "shares the server's sessions among clients" in told
        assert alembic_project.run("current").stdout.split() == ["r1"]
        assert "r2" in alembic_project.run("upgrade", "head", "--sql").stdout
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


POOLS = {
    "of one session": {"default_pool_size": "1"},
    "of three sessions": {"default_pool_size": "3"},
    "that takes its sessions in turn": {"default_pool_size": "3", "server_round_robin": "1"},
}


@needs_pgbouncer
@pytest.mark.parametrize("settings", POOLS.values(), ids=POOLS.keys())
def test_it_is_found_out_whether_others_use_the_pool_or_not(
    database: Database, settings: dict[str, str]
) -> None:
    with PgBouncer(database, "transaction", **settings) as pool:
        engine = engine_of(pool.url())
        for _ in range(5):
            with engine.connect() as connection, pytest.raises(SessionShared):
                look(connection)
        with traffic(pool.connect):
            for _ in range(20):
                with engine.connect() as connection, pytest.raises(SessionShared):
                    look(connection)


SESSION = """
    SELECT (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name !~ '[.]'),
           (SELECT count(*) FROM pg_prepared_statements),
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
           (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())
"""


def sessions(pool: PgBouncer, count: int) -> dict[int, Any]:
    """What is set in each of the pool's sessions."""
    found = {}
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(pool.connect())
            client.execute("BEGIN")
            (pid,) = client.execute("SELECT pg_backend_pid()").fetchone() or (0,)
            found[int(pid)] = client.execute(SESSION).fetchone()
    return found


@needs_pgbouncer
def test_nothing_is_left_in_a_shared_session(alembic_project: Project, database: Database) -> None:
    write_history(alembic_project, "r1")
    with PgBouncer(database, "transaction", default_pool_size="3") as pool:
        before = sessions(pool, 3)
        assert len(before) == 3
        alembic_project.connect_to(pool.url())
        failure(alembic_project.run("upgrade", "head", check=False))
        assert sessions(pool, 3) == before


# A pool that keeps sessions.


@needs_pgbouncer
@pytest.mark.parametrize("driver", SYNCHRONOUS)
def test_a_pool_that_keeps_sessions_is_not_refused(database: Database, driver: str) -> None:
    with PgBouncer(database, "session") as pool:
        engine = engine_of(pool.url(driver))
        with engine.connect() as connection:
            assert announced_pid(connection) != answering(connection)
            look(connection)
            with traffic(pool.connect):
                for _ in range(5):
                    look(connection)


@needs_pgbouncer
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_pool_of_one_session_is_enough(
    alembic_project: Project, database: Database, driver: str
) -> None:
    """Nothing answers a second connection there."""
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    with PgBouncer(database, "session", default_pool_size="1") as pool:
        use_driver(alembic_project, pool.url(driver))
        done = alembic_project.run("upgrade", "head")
    assert "a second connection got no answer" in done.stderr
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


@needs_pgbouncer
def test_migrations_can_have_a_pool_of_their_own(
    alembic_project: Project, database: Database
) -> None:
    write_history(alembic_project, "r1")
    with PgBouncer(database, "transaction", of_database="pool_mode=session pool_size=2") as pool:
        alembic_project.connect_to(pool.url())
        alembic_project.run("upgrade", "head")
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


@needs_pgbouncer
def test_the_story_of_a_rename(alembic_project: Project, database: Database) -> None:
    project = alembic_project
    # Nothing resets the pool's sessions but the run itself.
    with PgBouncer(database, "session", server_reset_query="") as pool:
        before = sessions(pool, 1)
        project.connect_to(pool.url())
        project.models(V1)
        project.run("revision", "--autogenerate", "-m", "start")
        project.run("upgrade", "head")
        start = project.head()
        assert start is not None
        fill(database)
        project.models(V2)
        project.run("revision", "--autogenerate", "-m", "display name")
        project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r1"})
        project.run_safe("contract")
        assert "No new upgrade operations" in project.run("check").stdout
        names = database.execute("SELECT display_name FROM users ORDER BY id")
        project.run("downgrade", start)
        assert database.execute("SELECT full_name FROM users ORDER BY id") == names
        assert sessions(pool, 1) == before


@needs_pgbouncer
def test_statements_that_the_driver_prepares(alembic_project: Project, database: Database) -> None:
    insert = 'op.get_bind().exec_driver_sql("INSERT INTO t VALUES (%s)", (n,))'
    prepared = "SELECT count(*) > 0 FROM pg_prepared_statements"
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    write_history(
        alembic_project,
        "r2",
        "r1",
        upgrade=f"""
        for n in range(20):
            {insert}
        assert op.get_bind().exec_driver_sql("{prepared}").scalar_one()
        """,
    )
    write_history(
        alembic_project,
        "r3",
        "r2",
        upgrade=f"""
        for n in range(20):
            {insert}
        """,
    )
    with PgBouncer(database, "session") as pool:
        alembic_project.connect_to(pool.url())
        alembic_project.run("upgrade", "head")
    assert database.execute("SELECT count(*) FROM t") == [(40,)]


@needs_pgbouncer
def test_when_a_run_is_killed_its_lock_is_free(
    alembic_project: Project, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int)")
    write_history(alembic_project, "r1", upgrade='op.execute("ALTER TABLE t ADD c int")')
    with PgBouncer(database, "session") as pool, database.connect() as other:
        alembic_project.connect_to(pool.url())
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN SHARE MODE")
        patient = {"ALEMBIC_SAFE_LOCK_TIMEOUT": "60s"}
        with running(alembic_project, "upgrade", "head", env=patient) as first:
            wait_until(database, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted")
            with running(alembic_project, "upgrade", "head") as second:
                second.wait_until_it_says("Waiting: pid ")
                first.kill()
                other.execute("ROLLBACK")
                assert second.wait() == 0, second.said()
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


@needs_pgbouncer
@pytest.mark.parametrize("size", ["1", "20"], ids=["of one session", "of many"])
def test_a_wait_for_a_lock(alembic_project: Project, database: Database, size: str) -> None:
    """It is supervised where the pool has a session for that (and the server tells how long each
    session waits, from PostgreSQL 14 on)."""
    database.execute("CREATE TABLE orders (id int)")
    write_history(alembic_project, "r1")
    alembic_project.run("upgrade", "head")
    add = 'op.execute("ALTER TABLE orders ADD note text")'
    write_history(alembic_project, "r2", "r1", upgrade=add)
    with ExitStack() as stack:
        pool = stack.enter_context(PgBouncer(database, "session", default_pool_size=size))
        alembic_project.connect_to(pool.url())
        busy = stack.enter_context(reader(database))
        # An attempt is made although somebody is in the way.
        env = {"ALEMBIC_SAFE_RETRY_CAP": "50ms", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}
        run = stack.enter_context(running(alembic_project, "upgrade", "head", env=env))
        wait_for_waiter(database, "orders")
        application = stack.enter_context(database.connect())
        assert application.execute("SELECT count(*) FROM orders").fetchall() == [(0,)]
        run.wait_until_it_says("attempt 1, no lock on orders")
        busy.execute("COMMIT")
        assert run.wait() == 0, run.said()
        is_supervised = size != "1" and database.server.version >= 14
        assert run.says("waited behind it") == is_supervised
    assert database.execute("SELECT version_num FROM alembic_version") == [("r2",)]
