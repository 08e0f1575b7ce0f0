"""A wait in the queue of a lock lasts for as long as it costs others little, and no cancel hits
anything but that wait."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from environments import use_driver
from hand_written import write_history
from patience import read_until, reader, wait_for_no_waiter, wait_for_waiter
from project import Project
from waiting import wait_until

from alembic_safe.errors import LockNotAcquired
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement
from alembic_safe.runtime.execution import Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.second_connection import NoSecondConnection, SecondConnection, Session
from alembic_safe.runtime.supervision import Allowance, Supervision
from alembic_safe.runtime.waiters import Damage, LockRow, damage_of
from alembic_safe.settings import Settings

# What a wait costs: arithmetic.

ALTER, READ, WRITE = "AccessExclusiveLock", "AccessShareLock", "RowExclusiveLock"
US = 1


def row(pid: int, target: str, mode: str, waited: float | None = None) -> LockRow:
    """A lock that is held, or that is waited for."""
    return LockRow(pid, target, True, mode, waited is None, waited or 0.0)


def test_who_does_not_wait_costs_nothing() -> None:
    assert damage_of([row(US, "orders", READ), row(2, "orders", ALTER, 5.0)], US) == Damage()


def test_who_came_later_waits_behind_us() -> None:
    rows = [row(9, "orders", READ), row(US, "orders", ALTER, 0.5)]
    rows += [row(2, "orders", READ, 0.3), row(3, "orders", WRITE, 0.1)]
    damage = damage_of(rows, US)
    assert (damage.waited, damage.sessions, damage.longest) == (0.5, 2, 0.3)
    assert damage.together == pytest.approx(0.4)


def test_who_came_before_us_does_not() -> None:
    rows = [row(2, "orders", ALTER, 3.0), row(US, "orders", ALTER, 0.5)]
    assert damage_of(rows, US).sessions == 0


def test_who_waits_for_another_table_does_not() -> None:
    rows = [row(US, "orders", ALTER, 0.5), row(2, "users", READ, 0.1)]
    assert damage_of(rows, US).sessions == 0


def test_who_waits_for_what_we_hold_does_since_it_waits() -> None:
    rows = [row(US, "users", ALTER), row(US, "orders", ALTER, 0.5), row(2, "users", READ, 2.0)]
    damage = damage_of(rows, US)
    assert (damage.holds, damage.sessions, damage.longest) == (True, 1, 2.0)


def test_who_waits_for_one_that_waits_behind_us_does_too() -> None:
    of_row = LockRow(2, "transactionid 7", False, "ExclusiveLock", True)
    for_row = LockRow(3, "transactionid 7", False, "ShareLock", False, 9.0)
    rows = [row(US, "orders", ALTER, 0.5), row(2, "orders", READ, 0.2), of_row, for_row]
    damage = damage_of(rows, US)
    # It may have waited for longer, but not because of us.
    assert (damage.sessions, damage.longest) == (2, 0.2)


@pytest.mark.parametrize(
    ("damage", "ends"),
    [
        (Damage(), False),
        (Damage(waited=60.0), False),
        (Damage(waited=60.0, holds=True), True),
        (Damage(waited=0.01, holds=True), False),
        (Damage(waited=1.0, sessions=1, longest=0.1, together=0.1), True),
        (Damage(waited=1.0, sessions=1, longest=0.09, together=0.09), False),
        (Damage(waited=1.0, sessions=90, longest=0.02, together=1.0), True),
    ],
)
def test_the_wait_ends_when_it_costs_too_much(damage: Damage, ends: bool) -> None:
    reason = Allowance(longest=0.1, together=1.0).exceeded_by(damage)
    assert (reason is not None) == ends


# Real sessions.

ADD = 'op.execute("ALTER TABLE orders ADD note text")'
TRIES = {"ALEMBIC_SAFE_RETRY_CAP": "50ms", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}
"""An attempt is made although somebody is in the way."""


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    write_history(alembic_project, "r1")
    write_history(alembic_project, "r2", "r1", upgrade=ADD)
    return alembic_project


def columns(database: Database) -> list[str]:
    found = database.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    )
    return [row[0] for row in found]


def ended(running: subprocess.Popen[str]) -> str:
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    return rest


WAITS_LONG = (
    "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
    " AND mode = 'AccessExclusiveLock' AND clock_timestamp() - waitstart > '500ms'"
)


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("marks", ["", "transactional = False"])
def test_where_nobody_waits_behind_it_keeps_its_place(
    project: Project, database: Database, driver: str, marks: str
) -> None:
    use_driver(project, database.url(driver))
    write_history(
        project,
        "r2",
        "r1",
        upgrade='op.add_column_if_not_exists("orders", "note", "text")' if marks else ADD,
        marks=marks,
    )
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=TRIES)
        # Ten times as long as a short attempt.
        wait_until(database, WAITS_LONG)
        busy.execute("COMMIT")
        ended(running)
    assert columns(database) == ["id", "note"]


@pytest.mark.parametrize("marks", ["", "transactional = False"])
def test_when_somebody_waits_behind_the_wait_ends(
    project: Project, database: Database, marks: str
) -> None:
    own = 'op.add_column_if_not_exists("orders", "note", "text")'
    write_history(project, "r2", "r1", upgrade=own if marks else ADD, marks=marks)
    with reader(database), database.connect() as application:
        running = project.popen("upgrade", "head", env=TRIES)
        wait_until(database, WAITS_LONG)
        # Without an end of ours it would wait for ever.
        assert application.execute("SELECT count(*) FROM orders").fetchall() == [(1,)]
        line = read_until(running, "attempt")
        running.kill()
        running.communicate()
    assert "1 session waited behind it, the first for 0." in line
    assert "nightly report" in line


def test_the_budget_of_all_together_ends_it_too(project: Project, database: Database) -> None:
    env = {**TRIES, "ALEMBIC_SAFE_LOCK_BUDGET": "1ms"}
    with reader(database), database.connect() as application:
        running = project.popen("upgrade", "head", env=env)
        wait_until(database, WAITS_LONG)
        application.execute("SELECT count(*) FROM orders")
        line = read_until(running, "attempt")
        running.kill()
        running.communicate()
    assert "together for 0.0" in line


def test_who_holds_what_others_need_does_not_wait_long(
    project: Project, database: Database
) -> None:
    database.execute("CREATE TABLE users (id int)")
    body = 'op.execute("ALTER TABLE users ADD a int")\n' + ADD
    write_history(project, "r2", "r1", upgrade=body)
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=TRIES)
        read_until(running, "attempt 2")
        busy.execute("COMMIT")
        ended(running)


def test_without_a_watcher_the_wait_ends_and_short_ones_follow(
    project: Project, database: Database
) -> None:
    with reader(database) as busy:
        running = project.popen("upgrade", "head", env=TRIES)
        wait_until(database, WAITS_LONG)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'alembic-safe' AND datname = current_database()"
        )
        line = read_until(running, "attempt")
        assert "the second connection was lost" in line
        wait_for_waiter(database, "orders")
        wait_for_no_waiter(database, "orders")
        busy.execute("COMMIT")
        ended(running)
    assert columns(database) == ["id", "note"]


@pytest.mark.parametrize("kind", ["asyncpg", "setting", "no more connections"])
def test_where_there_is_no_second_connection_waits_are_short(
    project: Project, database: Database, kind: str
) -> None:
    env = dict(TRIES)
    if kind == "asyncpg":
        use_driver(project, database.url("asyncpg"))
    elif kind == "setting":
        env["ALEMBIC_SAFE_LOCKING"] = "ladder"
    else:
        database.execute("CREATE ROLE single LOGIN CONNECTION LIMIT 1 SUPERUSER")
        database.execute("ALTER ROLE single NOSUPERUSER")
        database.execute("GRANT ALL ON SCHEMA public TO single; ALTER TABLE orders OWNER TO single")
        url = sa.make_url(database.url()).set(username="single")
        use_driver(project, url.render_as_string(hide_password=False))
    try:
        with reader(database) as busy:
            running = project.popen("upgrade", "head", env=env)
            line = read_until(running, "attempt 2")
            busy.execute("COMMIT")
            ended(running)
    finally:
        if kind == "no more connections":
            database.execute("DROP OWNED BY single; DROP ROLE single")
    assert "canceling statement due to lock timeout" in line


def test_the_deadline_counts_for_supervised_waits(project: Project, database: Database) -> None:
    env = {**TRIES, "ALEMBIC_SAFE_LOCK_DEADLINE": "700ms"}
    with reader(database):
        failed = project.run("upgrade", "head", env=env, check=False)
    assert failed.returncode != 0
    assert "Revision r2: no lock on orders within" in failed.stdout
    assert columns(database) == ["id"]


# The second connection.


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    database.execute("CREATE TABLE orders (id int)")
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connected:
        yield connected


def test_the_second_connection_is_another_one_and_is_closed(
    database: Database, connection: sa.Connection
) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'alembic-safe'"
    second = SecondConnection(Session.of(connection))
    assert database.execute(count) == [(1,)]
    second.close()
    wait_until(database, f"SELECT ({count}) = 0")


class KeptByAProxy(psycopg.Connection[Any]):
    """A session that is not closed when its client goes."""

    def close(self) -> None:
        """Go, and leave the session to others."""


def test_what_it_sets_does_not_stay_with_a_session_that_a_proxy_keeps(database: Database) -> None:
    kept: list[psycopg.Connection[Any]] = []

    def connect() -> psycopg.Connection[Any]:
        url = database.url().replace("+psycopg", "")
        kept.append(KeptByAProxy.connect(url, autocommit=True))
        return kept[-1]

    engine = sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)
    names = ("application_name", "statement_timeout", "lock_timeout")
    with engine.connect() as connected:
        before = [kept[0].execute(f"SHOW {name}".encode()).fetchone() for name in names]
        SecondConnection(Session.of(connected)).close()
    after = [kept[1].execute(f"SHOW {name}".encode()).fetchone() for name in names]
    for connection in kept:
        psycopg.Connection.close(connection)
    assert after == before


def test_one_that_leads_elsewhere_is_refused(connection: sa.Connection) -> None:
    session = Session.of(connection)
    with pytest.raises(NoSecondConnection, match="not a connection to the same server"):
        SecondConnection(Session(connection, session.pid, "2001-01-01"))


def test_one_that_is_the_same_is_refused(database: Database) -> None:
    with database.connect() as only:
        engine = sa.create_engine(
            "postgresql+psycopg://", creator=lambda: only, poolclass=sa.StaticPool
        )
        with engine.connect() as connected:
            with pytest.raises(NoSecondConnection, match="one connection only"):
                SecondConnection(Session.of(connected))
            assert not only.closed


# What a cancel can hit.


def test_no_cancel_ever_hits_the_next_statement(
    database: Database, connection: sa.Connection
) -> None:
    # The lock becomes free at about the moment in which the wait is given up.
    supervision = Supervision(Session.of(connection))
    assert supervision.is_ready()
    outcomes = set()
    try:
        with database.connect() as other:
            for number in range(60):
                other.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")
                freeing = threading.Timer(0.001 * (number % 30), other.execute, ("COMMIT",))
                freeing.start()
                supervision.begin(_GivesUp())
                try:
                    connection.exec_driver_sql("LOCK TABLE orders; SELECT 1")
                    outcomes.add("done")
                except sa.exc.DBAPIError as error:
                    outcomes.add("ours" if supervision.has_cancelled(error) else str(error))
                finally:
                    supervision.end()
                for _ in range(3):
                    connection.exec_driver_sql("SELECT pg_sleep(0.001)")
                freeing.join()
    finally:
        supervision.close()
    assert outcomes == {"done", "ours"}


class _GivesUp:
    """Ends every wait at the first look."""

    interval = 0.01
    fails_closed = True

    def look(self, _connection: sa.Connection, _pid: int) -> str | None:
        return "enough"


def test_who_works_is_not_cancelled(connection: sa.Connection) -> None:
    supervision = Supervision(Session.of(connection))
    supervision.begin(_GivesUp())
    try:
        connection.exec_driver_sql("SELECT pg_sleep(0.2)")
    finally:
        supervision.close()
    assert supervision.reason is None


def test_a_cancel_of_somebody_else_is_an_error(
    database: Database, connection: sa.Connection
) -> None:
    supervision = Supervision(Session.of(connection))
    assert supervision.is_ready()
    with reader(database):
        threading.Thread(target=_cancel_waiter, args=(database,)).start()
        patience = Patience(Settings(old_transaction=60.0), supervision=supervision)
        sql = "ALTER TABLE orders ADD note text"
        statement = Statement((sql,), QualifiedName("orders"), LockMode.ACCESS_EXCLUSIVE)
        with pytest.raises(Exception, match="canceling statement due to user request") as caught:
            Executor(patience, "r1").run_alone(connection, statement)
    supervision.close()
    assert not isinstance(caught.value, LockNotAcquired)


def _cancel_waiter(database: Database) -> None:
    wait_for_waiter(database, "orders")
    database.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_locks"
        " WHERE NOT granted AND relation = 'orders'::regclass"
    )
