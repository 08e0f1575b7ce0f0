"""Nobody queues behind a transaction that will not end soon, because all others would queue too."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa
from conftest import Database
from guarded import DRIVERS, guard_on, on_connection, place_of
from hand_written import write_history
from patience import read_until, reader, wait_for
from project import Project

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime.blockers import AUTOVACUUM, PREPARED, WRAPAROUND, Blocker, blockers
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.lookout import Lookout, sight_of
from alembic_safe.runtime.queueing import Approach, WayBlocked, way_blocked
from alembic_safe.runtime.sessions import SessionSettings
from alembic_safe.runtime.transaction_state import TransactionState, transaction_state
from alembic_safe.settings import Settings

ORDERS = QualifiedName("orders")
ALTER = {ORDERS: LockMode.ACCESS_EXCLUSIVE}
ANY_IS_OLD = {"ALEMBIC_SAFE_OLD_TRANSACTION": "0", "ALEMBIC_SAFE_LOCK_DEADLINE": "30s"}
SHORT_WAITS = {"ALEMBIC_SAFE_OLD_TRANSACTION": "1h", "ALEMBIC_SAFE_LOCKING": "ladder"}
NOT_QUEUEING = "not queueing for the lock on orders"


# Who will not end soon.

SESSION = Blocker("client backend", "3/7", 4711, "shop", "app", "active", 1.0, "RowShareLock", "t")


@pytest.mark.parametrize(
    ("blocker", "seen_for", "stays"),
    [
        (SESSION, 0.0, False),
        (replace(SESSION, seconds=5.0), 0.0, True),
        (replace(SESSION, seconds=None), 0.0, False),
        (replace(SESSION, seconds=None), 5.0, True),
        (replace(SESSION, kind=AUTOVACUUM), 0.0, False),
        (replace(SESSION, kind=AUTOVACUUM, seconds=9.0), 0.0, True),
        (replace(SESSION, kind=WRAPAROUND), 0.0, True),
        (replace(SESSION, kind=PREPARED, pid=None), 0.0, True),
    ],
)
def test_age_and_kind_tell(blocker: Blocker, seen_for: float, stays: bool) -> None:
    sight = sight_of([blocker], {blocker.transaction: seen_for}, old=5.0)
    assert bool(sight.staying) == stays


# Who is in the way.


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE orders (id int) PARTITION BY LIST (id)")
    database.execute("CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1)")
    return database


@pytest.fixture
def connection(shop: Database) -> Iterator[sa.Connection]:
    engine = sa.create_engine(shop.url(), poolclass=sa.NullPool)
    with engine.connect() as connected:
        yield connected


@contextmanager
def holding(database: Database, *statements: str) -> Iterator[int]:
    """A session that has done something and has not ended its transaction; its pid."""
    with database.connect() as session:
        session.execute("BEGIN")
        for statement in statements:
            session.execute(statement.encode())
        yield session.info.backend_pid


def test_only_a_lock_that_conflicts_is_in_the_way(
    shop: Database, connection: sa.Connection
) -> None:
    with holding(shop, "LOCK TABLE orders IN ROW EXCLUSIVE MODE") as pid:
        for mode in LockMode:
            found = [blocker.pid for blocker in blockers(connection, {ORDERS: mode})]
            assert found == ([pid] if LockMode.ROW_EXCLUSIVE in mode.conflicts() else [])


def test_who_uses_a_partition_is_in_the_way_of_the_table(
    shop: Database, connection: sa.Connection
) -> None:
    with holding(shop, "LOCK TABLE orders_1 IN ACCESS SHARE MODE") as pid:
        (found,) = blockers(connection, ALTER)
    assert (found.pid, found.relation, found.kind) == (pid, "orders_1", "client backend")


def test_each_transaction_is_named_once_and_the_oldest_first(
    shop: Database, connection: sa.Connection
) -> None:
    both = "LOCK TABLE orders IN ROW SHARE MODE; LOCK TABLE orders IN SHARE MODE"
    with holding(shop, both) as first, holding(shop, "SELECT FROM orders") as second:
        assert [blocker.pid for blocker in blockers(connection, ALTER)] == [first, second]


def test_what_is_not_there_has_nobody_in_the_way(connection: sa.Connection) -> None:
    wanted = {QualifiedName('"; --'), QualifiedName("orders", "nowhere")}
    assert blockers(connection, dict.fromkeys(wanted, LockMode.ACCESS_EXCLUSIVE)) == ()


def test_a_role_that_may_not_see_sessions_sees_that_there_is_one(
    shop: Database, connection: sa.Connection
) -> None:
    shop.execute("CREATE ROLE migrator")
    try:
        connection.exec_driver_sql("SET ROLE migrator")
        with holding(shop, "SELECT FROM orders") as pid:
            (found,) = blockers(connection, ALTER)
        assert (found.pid, found.seconds, found.state) == (pid, None, "")
        assert "for an unknown time" in str(found)
    finally:
        connection.rollback()
        shop.execute("DROP ROLE migrator")


def test_a_prepared_transaction_is_in_the_way_and_has_no_session(
    shop: Database, connection: sa.Connection
) -> None:
    shop.execute("BEGIN; LOCK TABLE orders; PREPARE TRANSACTION 'it''s mine'")
    try:
        (found,) = blockers(connection, ALTER)
    finally:
        shop.execute("ROLLBACK PREPARED 'it''s mine'")
    assert (found.kind, found.pid) == (PREPARED, None)
    assert str(found).startswith('prepared transaction "it\'s mine" (user postgres, prepared for ')


def test_an_age_that_may_not_be_seen_is_counted_from_attempt_to_attempt(
    shop: Database, connection: sa.Connection
) -> None:
    shop.execute("CREATE ROLE unseeing")
    now = [100.0]
    patience = Patience(Settings(old_transaction=5.0), clock=lambda: now[0])
    try:
        connection.exec_driver_sql("SET ROLE unseeing")
        with holding(shop, "SELECT FROM orders") as pid:
            assert Lookout(patience, "r1").look(connection, ALTER).staying == ()
            now[0] += 5.0
            (found,) = Lookout(patience, "r1").look(connection, ALTER).staying
        assert found.pid == pid
    finally:
        connection.rollback()
        shop.execute("DROP ROLE unseeing")


# What is sent.


def test_ctrl_c_on_the_way_back_is_no_blocked_way() -> None:
    blocked = WayBlocked(ALTER, [SESSION])
    for error, found in ((ValueError(), blocked), (KeyboardInterrupt(), None)):
        error.__context__ = blocked
        assert way_blocked(error) is found


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_whole_transaction_is_given_up_before_it_queues(shop: Database, driver: str) -> None:
    def run(connection: sa.Connection) -> None:
        lookout = Lookout(Patience(Settings(old_transaction=0.0)), "r1")
        session = SessionSettings.read(connection)
        place = replace(place_of(), approach=Approach(lookout, session, lambda: True))
        guard = guard_on(connection)
        with guard.watching(place) as watch:
            connection.exec_driver_sql("SELECT 1")
            for statement in ("ALTER TABLE orders ADD note text", "SELECT 1"):
                with pytest.raises(WayBlocked, match="holds AccessShareLock on orders"):
                    connection.exec_driver_sql(statement)
            # Nothing was sent, so the transaction has not failed, and the session is there.
            assert not connection.invalidated
            assert transaction_state(connection) is TransactionState.OPEN
            with pytest.raises(WayBlocked):
                watch.end()

    with holding(shop, "SELECT FROM orders"):
        on_connection(shop, driver, run)


# An upgrade.


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    """A table that is in use, and an r1 that does not know it."""
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    write_history(alembic_project, "r1")
    return alembic_project


def columns(database: Database) -> list[str]:
    found = database.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    )
    return [row[0] for row in found]


class Queue:
    """Notes whether anybody ever waits for a lock on `orders`, looking all the time."""

    def __init__(self, database: Database) -> None:
        self.seen = 0
        self.looks = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
        with self._database.connect() as session:
            while not self._stop.is_set():
                self.seen += session.execute(query).fetchall()[0][0]
                self.looks += 1
                time.sleep(0.001)

    def __enter__(self) -> Queue:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


def ended(running: subprocess.Popen[str]) -> str:
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    return rest


ADD = {
    "plain": ('op.add_column("orders", sa.Column("note", sa.Text))', ""),
    "text": ('op.execute("ALTER TABLE orders ADD note text")', ""),
    "a cursor of the driver": (
        'op.get_bind().connection.cursor().execute("ALTER TABLE orders ADD note text")',
        "",
    ),
    "behind other work": (
        'op.execute("CREATE TABLE t (id int)")\nop.execute("ALTER TABLE orders ADD note text")',
        "",
    ),
    "one that swallows errors": (
        'try:\n    op.execute("ALTER TABLE orders ADD note text")\nexcept Exception:\n    pass',
        "",
    ),
    "one that swallows errors, and goes on": (
        'try:\n    op.execute("ALTER TABLE orders ADD note text")\nexcept Exception:\n    pass\n'
        'op.execute("CREATE TABLE t (id int)")',
        "",
    ),
    "one with errors of its own": (
        'try:\n    op.execute("ALTER TABLE orders ADD note text")\n'
        'except Exception as error:\n    raise ValueError("no note") from error',
        "",
    ),
    "a savepoint": (
        'with op.get_bind().begin_nested():\n    op.execute("ALTER TABLE orders ADD note text")',
        "",
    ),
    "an operation by itself": (
        'op.add_column_if_not_exists("orders", "note", "text")',
        "transactional = False",
    ),
    "plain, in autocommit": (
        'op.add_column("orders", sa.Column("note", sa.Text))',
        "transactional = False",
    ),
}


@pytest.mark.parametrize("name", ADD)
def test_nobody_queues_behind_an_old_transaction(
    project: Project, database: Database, name: str
) -> None:
    body, marks = ADD[name]
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    with reader(database) as busy:
        pid = busy.info.backend_pid
        with Queue(database) as queue:
            running = project.popen("upgrade", "head", env=ANY_IS_OLD)
            line = read_until(running, NOT_QUEUEING)
            since = queue.looks
            wait_for(lambda: queue.looks > since + 50)
        busy.execute("COMMIT")
        told = ended(running)
    assert queue.seen == 0
    assert f"pid {pid} (nightly report, user postgres" in line
    assert "is free after" in told
    assert columns(database) == ["id", "note"]


def test_who_waits_outside_has_given_up_what_the_transaction_had(
    project: Project, database: Database
) -> None:
    body = 'op.execute("CREATE TABLE t (id int)")\nop.execute("ALTER TABLE orders ADD note text")'
    write_history(project, "r2", "r1", upgrade=body)
    with reader(database) as busy:
        others = f"pid NOT IN (pg_backend_pid(), {busy.info.backend_pid})"
        running = project.popen("upgrade", "head", env=ANY_IS_OLD)
        read_until(running, NOT_QUEUEING)
        for _ in range(50):
            held = database.execute(
                f"SELECT relation::regclass FROM pg_locks WHERE {others} AND mode <> "
                "'AccessShareLock' AND relation IS NOT NULL"
            )
            ids = database.execute(
                f"SELECT count(backend_xid) FROM pg_stat_activity WHERE {others}"
            )
            assert (held, ids) == ([], [(0,)])
        busy.execute("COMMIT")
        ended(running)


def test_a_transaction_that_is_young_is_queued_behind(project: Project, database: Database) -> None:
    write_history(project, "r2", "r1", upgrade='op.execute("ALTER TABLE orders ADD note text")')
    with reader(database) as busy:
        env = {**SHORT_WAITS, "ALEMBIC_SAFE_LOCK_TIMEOUT": "1h"}
        running = project.popen("upgrade", "head", env=env)
        read_until(running, "attempt 1")
        busy.execute("COMMIT")
        assert NOT_QUEUEING not in ended(running)


def test_behind_one_that_lingers_an_attempt_is_made_from_time_to_time(
    project: Project, database: Database
) -> None:
    write_history(project, "r2", "r1", upgrade='op.execute("ALTER TABLE orders ADD note text")')
    env = {**SHORT_WAITS, "ALEMBIC_SAFE_LOCK_TIMEOUT": "1ms"}
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env={**env, "ALEMBIC_SAFE_RETRY_CAP": "100ms"})
        read_until(running, NOT_QUEUEING)
        read_until(running, "attempt 2")
        busy.execute("COMMIT")
        ended(running)
    assert columns(database) == ["id", "note"]


@pytest.mark.parametrize("name", ["text", "an operation by itself"])
def test_a_pause_ends_with_the_transaction_that_was_in_the_way(
    project: Project, database: Database, name: str
) -> None:
    body, marks = ADD[name]
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    # Every pause would go on to the end of the test.
    env = {"ALEMBIC_SAFE_RETRY_BASE": "10h", "ALEMBIC_SAFE_RETRY_CAP": "10h"}
    env |= {"ALEMBIC_SAFE_LOCK_DEADLINE": "20h", **SHORT_WAITS}
    env |= {"ALEMBIC_SAFE_LOCK_TIMEOUT": "5h", "ALEMBIC_SAFE_BLOCKING_TIMEOUT": "5h"}
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=env)
        read_until(running, "attempt 1, no lock on orders")
        busy.execute("COMMIT")
        ended(running)
    assert columns(database) == ["id", "note"]


@pytest.mark.parametrize("name", ["text", "an operation by itself", "plain, in autocommit"])
def test_the_deadline_holds_outside_too(project: Project, database: Database, name: str) -> None:
    body, marks = ADD[name]
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    env = {**ANY_IS_OLD, "ALEMBIC_SAFE_LOCK_DEADLINE": "300ms"}
    with reader(database):
        failed = project.run("upgrade", "head", env=env, check=False)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    assert "Revision r2: no lock on orders within" in failed.stderr
    assert "nightly report" in failed.stderr
    assert columns(database) == ["id"]
    project.run("upgrade", "head", env=env)
    assert columns(database) == ["id", "note"]


def test_what_is_done_already_needs_no_lock(project: Project, database: Database) -> None:
    body, marks = ADD["an operation by itself"]
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    database.execute("ALTER TABLE orders ADD note text")
    with reader(database):
        assert NOT_QUEUEING not in project.run("upgrade", "head", env=ANY_IS_OLD).stderr


def test_a_revision_that_has_committed_is_not_repeated(
    project: Project, database: Database
) -> None:
    write_history(
        project,
        "r2",
        "r1",
        upgrade="""
        op.execute("CREATE TABLE t (id int)")
        op.get_bind().commit()
        op.execute("ALTER TABLE orders ADD note text")
        """,
    )
    with reader(database):
        failed = project.run("upgrade", "head", env=ANY_IS_OLD, check=False)
    # It was given its short chance, as there is no way back to wait outside.
    assert "committed a part of its work and then failed: canceling statement" in failed.stderr
    assert columns(database) == ["id"]


def test_whose_transaction_blocks_already_goes_on(project: Project, database: Database) -> None:
    # To wait outside it would have to give up what it has; a short timeout makes it do so.
    database.execute("CREATE TABLE users (id int)")
    body = 'op.execute("ALTER TABLE users ADD a int")\nop.execute("ALTER TABLE orders ADD a int")'
    write_history(project, "r2", "r1", upgrade=body)
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=ANY_IS_OLD)
        read_until(running, "attempt 1, no lock on orders")
        busy.execute("COMMIT")
        ended(running)
    assert columns(database) == ["id", "a"]


def test_a_reader_of_a_row_or_a_backfill_is_no_reason_to_wait(
    project: Project, database: Database
) -> None:
    body = 'op.execute("UPDATE orders SET id = 2 WHERE id = 1")\nop.execute("ANALYZE orders")'
    write_history(project, "r2", "r1", upgrade=body)
    with reader(database):
        assert NOT_QUEUEING not in project.run("upgrade", "head", env=ANY_IS_OLD).stderr


def test_the_search_path_of_the_session_finds_the_table(
    project: Project, database: Database
) -> None:
    database.execute("CREATE SCHEMA first")
    database.execute("ALTER ROLE postgres SET search_path = first, public")
    write_history(project, "r2", "r1", upgrade='op.execute("ALTER TABLE orders ADD note text")')
    try:
        with reader(database, "public.orders") as busy:
            running = project.popen("upgrade", "head", env=ANY_IS_OLD)
            read_until(running, NOT_QUEUEING)
            busy.execute("COMMIT")
            ended(running)
    finally:
        database.execute("ALTER ROLE postgres RESET search_path")


def test_ctrl_c_ends_the_wait(project: Project, database: Database) -> None:
    write_history(project, "r2", "r1", upgrade='op.execute("ALTER TABLE orders ADD note text")')
    with reader(database):
        running = project.popen("upgrade", "head", env=ANY_IS_OLD)
        read_until(running, NOT_QUEUEING)
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Interrupted" in rest
    assert "Traceback" not in rest
    assert columns(database) == ["id"]


def test_when_the_session_is_ended_meanwhile_the_error_is_clear(
    project: Project, database: Database
) -> None:
    write_history(project, "r2", "r1", upgrade='op.execute("ALTER TABLE orders ADD note text")')
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=ANY_IS_OLD)
        read_until(running, NOT_QUEUEING)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
            " current_database() AND pid NOT IN"
            f" (pg_backend_pid(), {busy.info.backend_pid})"
        )
        _, rest = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Traceback" not in rest
    assert columns(database) == ["id"]
