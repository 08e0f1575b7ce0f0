"""One upgrade at a time on each database; who comes second waits, and takes over if need be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from conftest import Database
from hand_written import write_history
from patience import wait_for
from project import Project
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from alembic_safe.errors import UpgradeRunning
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.runtime.sessions import one_upgrade_at_a_time

STAYS_UNTIL_TOLD = """
import os, time
print("HERE", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
op.execute("INSERT INTO log (who) VALUES (pg_backend_pid())")
"""


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    """r1 is quick; r2 stays in its transaction until there is a file `go`."""
    database.execute("CREATE TABLE log (who int)")
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    write_history(alembic_project, "r2", "r1", upgrade=STAYS_UNTIL_TOLD)
    return alembic_project


def go(project: Project) -> None:
    (project.folder / "go").touch()


class Upgrade:
    """`alembic upgrade head` in a process of its own, and what it has said so far."""

    def __init__(self, project: Project, **env: str) -> None:
        self.process = project.popen("upgrade", "head", env=env)
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self.out.extend, args=(self.process.stdout,)),
            threading.Thread(target=self.err.extend, args=(self.process.stderr,)),
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> int:
        code = self.process.wait(timeout=60)
        for reader in self._readers:
            reader.join()
        return code

    def says(self, text: str) -> bool:
        return any(text in line for line in [*self.out, *self.err])


@contextmanager
def upgrades(project: Project, count: int) -> Iterator[list[Upgrade]]:
    """So many of them at once; none outlives the test."""
    started = [Upgrade(project) for _ in range(count)]
    try:
        yield started
    finally:
        for upgrade in started:
            upgrade.process.kill()
            upgrade.wait()


def test_one_of_three_upgrades_applies_and_the_others_find_nothing_to_do(
    project: Project, database: Database
) -> None:
    with upgrades(project, 3) as started:
        wait_for(lambda: sum(upgrade.says("Waiting: pid ") for upgrade in started) == 2)
        go(project)
        assert [upgrade.wait() for upgrade in started] == [0, 0, 0]
        assert sum(upgrade.says("Running upgrade r1 -> r2") for upgrade in started) == 1
        assert sum(upgrade.says("Running upgrade") for upgrade in started) == 1
        (waiting, _) = (upgrade for upgrade in started if upgrade.says("Waiting: pid "))
    ((winner,),) = database.execute("SELECT who FROM log")
    assert waiting.says(f"Waiting: pid {winner} ")
    assert database.execute("SELECT version_num FROM alembic_version") == [("r2",)]


def test_when_the_winner_is_killed_another_takes_over(project: Project, database: Database) -> None:
    with upgrades(project, 1) as (first,):
        wait_for(lambda: first.says("HERE"))
        with upgrades(project, 1) as (second,):
            wait_for(lambda: second.says("Waiting: pid "))
            first.process.kill()
            go(project)
            assert second.wait() == 0
            assert second.says("Running upgrade r1 -> r2")
            assert not second.says("-> r1,")
    assert database.execute("SELECT version_num FROM alembic_version") == [("r2",)]


def test_when_the_deadline_passes_the_error_names_the_session(
    project: Project, database: Database
) -> None:
    with upgrades(project, 1) as (first,):
        wait_for(lambda: first.says("HERE"))
        holder = database.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")[0][0]
        env = {"ALEMBIC_SAFE_UPGRADE_DEADLINE": "100ms"}
        for command in (("upgrade", "head"), ("downgrade", "base"), ("stamp", "base")):
            done = project.run(*command, env=env, check=False)
            assert done.returncode != 0
            assert "Traceback" not in done.stderr
            assert f"Another session is migrating this database (pid {holder} " in done.stderr
            assert "upgrade_deadline" in done.stderr
            assert "Nothing was changed" in done.stderr
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


def test_what_only_reads_does_not_wait(project: Project) -> None:
    with upgrades(project, 1) as (first,):
        wait_for(lambda: first.says("HERE"))
        assert project.run("current").stdout.split() == ["r1"]
        assert "Target database is not up to date" in project.run("check", check=False).stderr


# The lock itself.

TABLE = QualifiedName("alembic_version", None)


@pytest.fixture
def engine(database: Database) -> sa.Engine:
    return sa.create_engine(database.url(), poolclass=NullPool)


@pytest.fixture
def holder(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A session that has the upgrade lock."""
    with engine.connect() as connection, one_upgrade_at_a_time(connection, TABLE, 0.0):
        yield connection


def test_the_lock_ends_with_the_block_however_that_ends(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        with pytest.raises(DBAPIError), one_upgrade_at_a_time(first, TABLE, 0.0):
            first.execute(sa.text("SELECT 1 / 0"))
        _enter(second, TABLE)


def test_it_is_held_across_the_transactions_of_the_migration(
    holder: sa.Connection, engine: sa.Engine
) -> None:
    holder.execute(sa.text("SELECT 1"))
    holder.rollback()
    with engine.connect() as second, pytest.raises(UpgradeRunning):
        _enter(second, TABLE)


def test_environments_with_other_version_tables_do_not_meet(
    holder: sa.Connection, engine: sa.Engine
) -> None:
    for table in (QualifiedName("versions", None), QualifiedName("alembic_version", "shop")):
        with engine.connect() as second:
            _enter(second, table)


def test_who_waits_is_in_no_transaction_so_that_an_index_can_be_built(
    database: Database, holder: sa.Connection, engine: sa.Engine
) -> None:
    # CREATE INDEX CONCURRENTLY waits for everybody who holds a snapshot.
    database.execute("CREATE TABLE t (id int)")
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        states = database.execute(f"SELECT state FROM pg_stat_activity WHERE pid = {pid}")
        assert states == [("idle",)]
        with database.connect() as builder:
            builder.execute("SET statement_timeout = '30s'")
            builder.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (id)")

    with engine.connect() as second:
        # Who waited inside of the server would wait for ever.
        second.exec_driver_sql("SET statement_timeout = '30s'")
        pid = second.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        second.commit()
        lock = one_upgrade_at_a_time(second, TABLE, 1.2, sleep=sleep, clock=lambda: now)
        with pytest.raises(UpgradeRunning, match="did not end within 1 s"), lock:
            pass
    assert now == pytest.approx(1.2, abs=0.011)


def test_who_waits_says_so_at_once_and_then_every_ten_seconds(
    holder: sa.Connection, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    caplog.set_level("INFO", "alembic.safe")
    with engine.connect() as second:
        lock = one_upgrade_at_a_time(second, TABLE, 25.0, sleep=sleep, clock=lambda: now)
        with pytest.raises(UpgradeRunning), lock:
            pass
    waiting = [record.getMessage() for record in caplog.records]
    assert len(waiting) == 3
    assert all("Waiting: pid " in message for message in waiting)


def _enter(connection: sa.Connection, table: QualifiedName) -> None:
    with one_upgrade_at_a_time(connection, table, 0.0):
        pass
