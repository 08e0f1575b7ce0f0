"""Waiting for a lock: with an end, from a clean start, and without anybody else waiting for us."""

from __future__ import annotations

import threading

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from hand_written import write_history
from patience import read_until, reader
from project import Project
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from alembic_safe.errors import LockNotAcquired
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement, Wait
from alembic_safe.runtime.execution import Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.queueing import wanted_by
from alembic_safe.settings import Settings


class Clock:
    """Time that passes only when somebody sleeps, or the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def highest(_low: float, high: float) -> float:
    return high


def patience(clock: Clock, **settings: float) -> Patience:
    return Patience(Settings(**settings), clock.sleep, highest, clock)  # type: ignore[arg-type]  # all of these settings are numbers


# The arithmetic.


def test_the_bound_of_a_pause_doubles_up_to_the_cap() -> None:
    clock = Clock()
    patient = patience(clock, retry_base=0.1, retry_cap=0.5)
    assert all(patient.pause(attempt, clock()) for attempt in (1, 2, 3, 4, 5))
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_a_pause_is_drawn_from_all_of_it_so_that_waiters_part() -> None:
    asked = []

    def lowest(low: float, high: float) -> float:
        asked.append((low, high))
        return low

    clock = Clock()
    Patience(Settings(retry_base=0.2), clock.sleep, lowest, clock).pause(1, 0.0)
    assert asked == [(0.0, 0.2)]
    assert clock.slept == [0.0]


def test_a_thousand_attempts_pause_no_longer_than_the_cap() -> None:
    clock = Clock()
    assert patience(clock, retry_cap=2.0).pause(5000, 0.0)
    assert clock.slept == [2.0]


def test_attempts_and_pauses_use_the_deadline_up_together() -> None:
    clock = Clock()
    patient = patience(clock, retry_base=1.0, retry_cap=1.0, lock_deadline=10.0)
    clock.now = 3.0
    assert patient.pause(1, since=0.0)  # 3 of waiting, 1 of sleeping
    assert patient.spent == pytest.approx(4.0)
    clock.now += 4.0
    assert patient.pause(2, since=clock.now - 4.0)
    clock.now += 0.5
    assert not patient.pause(3, since=clock.now - 0.5)
    assert len(clock.slept) == 2


def test_no_pause_goes_past_the_deadline() -> None:
    clock = Clock()
    assert not patience(clock, retry_base=5.0, lock_deadline=5.0).pause(1, 0.0)
    assert clock.slept == []


def test_three_attempts_are_alike_before_the_next_wait_longer() -> None:
    patient = patience(Clock(), lock_timeout=0.5)
    timeouts = [patient.lock_timeout(attempt) for attempt in range(1, 14)]
    assert timeouts == pytest.approx([0.05] * 3 + [0.1] * 3 + [0.2] * 3 + [0.4] * 3 + [0.5])
    assert patient.lock_timeout(10**6) == 0.5


def test_a_pause_ends_when_the_way_is_free() -> None:
    clock = Clock()
    answers = [False, False, True]
    patient = patience(clock, retry_base=8.0)
    assert patient.pause(1, clock(), lambda: answers.pop(0))
    assert clock.slept == pytest.approx([0.05] * 3)
    assert patient.spent == pytest.approx(0.15)


def test_a_pause_in_which_the_way_is_never_free_is_as_long_as_any() -> None:
    clock = Clock()
    patient = patience(clock, retry_base=0.12)
    assert patient.pause(1, clock(), lambda: False)
    assert sum(clock.slept) == pytest.approx(0.12)


def test_what_happens_between_two_waits_is_not_waiting() -> None:
    clock = Clock()
    patient = patience(clock, retry_base=0.1, lock_deadline=10.0)
    assert patient.pause(1, since=clock())
    clock.now += 3600.0
    assert patient.pause(1, since=clock())


# Real locks.

QUICK = {
    "ALEMBIC_SAFE_LOCK_TIMEOUT": "50ms",
    "ALEMBIC_SAFE_RETRY_BASE": "10ms",
    "ALEMBIC_SAFE_RETRY_CAP": "50ms",
    "ALEMBIC_SAFE_OLD_TRANSACTION": "1h",
}
GIVES_UP = {**QUICK, "ALEMBIC_SAFE_LOCK_DEADLINE": "400ms"}


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    """r2 alters a table that r1 does not know."""
    database.execute("CREATE TABLE orders (id int)")
    write_history(alembic_project, "r1")
    write_history(
        alembic_project,
        "r2",
        "r1",
        upgrade="""
        op.execute("CREATE TABLE first_part (id int)")
        op.execute("ALTER TABLE orders ADD note text")
        """,
    )
    return alembic_project


def columns(database: Database) -> list[str]:
    rows = database.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders' ORDER BY 1"
    )
    return [row[0] for row in rows]


def test_the_upgrade_goes_on_when_the_lock_is_free(project: Project, database: Database) -> None:
    with reader(database) as busy:
        pid = busy.info.backend_pid
        running = project.popen("upgrade", "head", env=QUICK)
        line = read_until(running, "attempt 3")
        busy.execute("COMMIT")
        _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert columns(database) == ["id", "note"]
    for part in ("r2", "orders", f"pid {pid}", "nightly report", "AccessShare"):
        assert part in line


def test_when_the_deadline_passes_the_error_names_table_blocker_and_revision(
    project: Project, database: Database
) -> None:
    with reader(database) as busy:
        pid = busy.info.backend_pid
        done = project.run("upgrade", "head", env=GIVES_UP, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if "no lock on" in line][-1:]
    for part in (
        "Revision r2",
        "orders",
        f"pid {pid}",
        "nightly report",
        "lock_deadline",
        "in the state before this revision",
        "run the same command again",
    ):
        assert part in message
    assert columns(database) == ["id"]
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]
    assert database.execute("SELECT to_regclass('first_part')") == [(None,)]


def test_after_the_deadline_the_same_command_continues(
    project: Project, database: Database
) -> None:
    with reader(database):
        assert project.run("upgrade", "head", env=GIVES_UP, check=False).returncode != 0
    project.run("upgrade", "head", env=GIVES_UP)
    assert columns(database) == ["id", "note"]


def test_no_reader_waits_for_the_one_that_waits(project: Project, database: Database) -> None:
    # An ALTER TABLE that queues makes all readers queue behind it, for as long as it does.
    stop = threading.Event()
    failures: list[str] = []
    reads = 0

    def read() -> None:
        nonlocal reads
        with database.connect() as probe:
            # A small multiple of the migration's 50 ms; the blocker stays for ever.
            probe.execute("SET lock_timeout = '1s'")
            while not stop.is_set():
                try:
                    probe.execute("SELECT count(*) FROM orders")
                    reads += 1
                except psycopg.errors.LockNotAvailable as error:
                    failures.append(str(error))

    with reader(database):
        running = project.popen("upgrade", "head", env=QUICK)
        read_until(running, "attempt 1")
        probing = threading.Thread(target=read)
        probing.start()
        before = reads
        read_until(running, "attempt 12")
        stop.set()
        probing.join()
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest
    assert failures == []
    assert reads > before


def test_the_work_of_earlier_revisions_is_not_time_spent_on_locks(
    project: Project, database: Database
) -> None:
    write_history(project, "r1", upgrade="""op.execute("SELECT pg_sleep(2.1)")""")
    with reader(database) as busy:
        env = {**QUICK, "ALEMBIC_SAFE_LOCK_DEADLINE": "2s"}
        running = project.popen("upgrade", "head", env=env)
        read_until(running, "attempt 1")
        busy.execute("COMMIT")
        _, rest = running.communicate(timeout=60)
    assert running.returncode == 0, rest


class Watchful:
    """In place of sleeping, looks at what the session that should sleep holds."""

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        self.database = database
        self.pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        self.states: list[tuple[str, int]] = []

    def sleep(self, _seconds: float) -> None:
        self.states += self.database.execute(
            "SELECT state, (SELECT count(*) FROM pg_locks WHERE pid = a.pid)"
            f" FROM pg_stat_activity AS a WHERE pid = {self.pid}"
        )


@pytest.fixture
def engine(database: Database) -> sa.Engine:
    return sa.create_engine(database.url(), poolclass=NullPool)


def test_nobody_sleeps_in_a_transaction_that_was_rolled_back(
    database: Database, engine: sa.Engine
) -> None:
    database.execute("CREATE TABLE orders (id int)")
    with reader(database), engine.connect() as connection:
        watchful = Watchful(database, connection)
        executor = Executor(Patience(Settings(), sleep=watchful.sleep), revision="r1")
        connection.rollback()
        connection.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
        sql = "ALTER TABLE orders ADD note text"
        with pytest.raises(DBAPIError) as caught:
            connection.exec_driver_sql(sql)
        connection.rollback()
        wanted = wanted_by(sql, LockMode.ACCESS_EXCLUSIVE)
        executor.wait(connection, wanted, 1, executor.patience.clock(), caught.value)
    assert set(watchful.states) == {("idle", 0)}


def test_nobody_sleeps_between_the_attempts_of_one_statement(
    database: Database, engine: sa.Engine
) -> None:
    database.execute("CREATE TABLE orders (id int)")
    alter = Statement(
        sql=("ALTER TABLE orders ADD note text",),
        table=QualifiedName("orders", None),
        lock=LockMode.ACCESS_EXCLUSIVE,
        wait=Wait.SHORT,
    )
    settings = Settings(lock_timeout=0.02, lock_deadline=0.5, retry_base=0.01, retry_cap=0.01)
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    with reader(database), autocommit.connect() as connection:
        watchful = Watchful(database, connection)
        executor = Executor(Patience(settings, sleep=watchful.sleep), revision="r1")
        with pytest.raises(LockNotAcquired, match="orders"):
            executor.run_alone(connection, alter)
    assert set(watchful.states) == {("idle", 0)}
