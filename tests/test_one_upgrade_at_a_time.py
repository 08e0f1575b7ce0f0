"""One upgrade at a time on each database; who comes second waits, and takes over if need be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from commands import running
from conftest import Database
from hand_written import write_contract, write_history
from patience import wait_for
from project import Project
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from waiting import wait_until

from alembic_safe.errors import UpgradeRunning
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.runtime.sessions import noticed_if_gone, one_upgrade_at_a_time

STAYS_UNTIL_TOLD = """
import os, time
print("HERE", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
op.execute("INSERT INTO log (who) VALUES (pg_backend_pid())")
"""
OUTSIDE = "transactional = False"


@pytest.fixture
def project(tmp_path: Path, database: Database) -> Project:
    """r1 is quick; r2 stays in its transaction until there is a file `go`."""
    alembic_project = Project(tmp_path, database.url())
    database.execute("CREATE TABLE log (who int)")
    create, drop = (f'op.execute("{verb} TABLE t{rest}")' for verb, rest in CREATE_AND_DROP)
    write_history(alembic_project, "r1", upgrade=create, downgrade=drop)
    write_history(alembic_project, "r2", "r1", upgrade=STAYS_UNTIL_TOLD)
    return alembic_project


CREATE_AND_DROP = (("CREATE", " (id int PRIMARY KEY)"), ("DROP", ""))


def go(project: Project) -> None:
    (project.folder / "go").touch()


def ledger(database: Database) -> list[str]:
    """What was done, in order, and which line it belongs to where that is the contract line."""
    rows = database.execute(
        "SELECT concat_ws(' ', event, nullif(line, 'history'), revision) FROM alembic_safe_ledger"
        " WHERE revision IS NOT NULL ORDER BY id"
    )
    return [str(row[0]) for row in rows]


# Several at once.


def test_one_of_five_upgrades_applies_and_the_others_find_nothing_to_do(
    project: Project, database: Database
) -> None:
    write_history(
        project, "r3", "r2", upgrade='op.create_index_concurrently("i", "t", ["id"])', marks=OUTSIDE
    )
    project.connect_to(f"{database.url()}?application_name=deploy")
    with ExitStack() as stack:
        five = [stack.enter_context(running(project, "upgrade", "head")) for _ in range(5)]
        wait_for(lambda: sum(each.says("Waiting: pid ") for each in five) == 4)
        go(project)
        assert [each.wait() for each in five] == [0] * 5
    (winner,) = (each for each in five if each.says("Running upgrade"))
    ((pid,),) = database.execute("SELECT who FROM log")
    waiting = f"Waiting: pid {pid} (deploy, user postgres) is migrating this database"
    assert all(each.says(waiting) for each in five if each is not winner)
    assert ledger(database) == ["upgrade r1", "upgrade r2", "upgrade r3"]
    assert database.execute("SELECT version_num FROM alembic_version") == [("r3",)]


def test_a_downgrade_waits_for_an_upgrade_and_takes_back_what_that_did(
    project: Project, database: Database
) -> None:
    with running(project, "upgrade", "head") as first:
        first.wait_until_it_says("HERE")
        with running(project, "downgrade", "base") as second:
            second.wait_until_it_says("Waiting: pid ")
            go(project)
            assert (first.wait(), second.wait()) == (0, 0), second.said()
    assert ledger(database) == ["upgrade r1", "upgrade r2", "downgrade r2", "downgrade r1"]
    assert database.execute("SELECT to_regclass('t')") == [(None,)]


def test_an_upgrade_waits_for_a_downgrade_and_does_it_again(
    project: Project, database: Database
) -> None:
    write_history(project, "r2", "r1", downgrade=STAYS_UNTIL_TOLD)
    project.run("upgrade", "head")
    with running(project, "downgrade", "base") as first:
        first.wait_until_it_says("HERE")
        with running(project, "upgrade", "head") as second:
            second.wait_until_it_says("Waiting: pid ")
            go(project)
            assert (first.wait(), second.wait()) == (0, 0), second.said()
    assert ledger(database)[-4:] == ["downgrade r2", "downgrade r1", "upgrade r1", "upgrade r2"]
    assert database.execute("SELECT version_num FROM alembic_version") == [("r2",)]


def test_a_contract_waits_for_an_upgrade_and_completes_what_that_did(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "r1")
    write_contract(project, "c2", completes="r2", upgrade='op.execute("DROP TABLE t")')
    with running(project, "upgrade", "head") as first:
        first.wait_until_it_says("HERE")
        with running(project, "contract") as second:
            second.wait_until_it_says("Waiting: pid ")
            go(project)
            assert (first.wait(), second.wait()) == (0, 0), second.said()
    assert ledger(database) == ["upgrade r1", "upgrade r2", "upgrade contract c2"]


def test_an_upgrade_waits_for_a_contract(project: Project, database: Database) -> None:
    project.run("upgrade", "r1")
    write_history(project, "r2", "r1")
    write_contract(project, "c1", completes="r1", upgrade=STAYS_UNTIL_TOLD)
    with running(project, "contract") as first:
        first.wait_until_it_says("HERE")
        with running(project, "upgrade", "head") as second:
            second.wait_until_it_says("Waiting: pid ")
            go(project)
            assert (first.wait(), second.wait()) == (0, 0), second.said()
    assert ledger(database) == ["upgrade r1", "upgrade contract c1", "upgrade r2"]


def test_what_only_reads_does_not_wait(project: Project) -> None:
    with running(project, "upgrade", "head") as first:
        first.wait_until_it_says("HERE")
        assert project.run("current").stdout.split() == ["r1"]
        assert "Target database is not up to date" in project.run("check", check=False).stderr


def test_when_the_deadline_passes_the_error_names_the_session(
    project: Project, database: Database
) -> None:
    with running(project, "upgrade", "head") as first:
        first.wait_until_it_says("HERE")
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


# The winner is killed.


def test_another_takes_over_from_one_in_a_transaction(project: Project, database: Database) -> None:
    made = 'op.execute("CREATE TABLE made (id int)")'
    write_history(project, "r2", "r1", upgrade=f"{made}{STAYS_UNTIL_TOLD}")
    with running(project, "upgrade", "head") as first:
        first.wait_until_it_says("HERE")
        with running(project, "upgrade", "head") as second:
            second.wait_until_it_says("Waiting: pid ")
            first.kill()
            go(project)
            assert second.wait() == 0, second.said()
            assert not second.says("-> r1,")
    assert ledger(database) == ["upgrade r1", "upgrade r2"]
    assert database.execute("SELECT count(*) FROM log") == [(1,)]


INDEX = 'op.create_index_concurrently("i", "t", ["id"])'
INDEX_I = "SELECT indexrelid, indisvalid FROM pg_index WHERE indexrelid = to_regclass('i')"
BUILD_WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'virtualxid'"


@contextmanager
def writer(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A session that has written to the table and has not ended its transaction: the build of an
    index waits for it."""
    with database.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (-1)")
        yield connection


def test_another_takes_over_from_one_that_builds_an_index(
    project: Project, database: Database
) -> None:
    if database.server.version < 14:
        pytest.skip("PostgreSQL 14 brought client_connection_check_interval")
    project.run("upgrade", "r1")
    write_history(project, "r2", "r1", upgrade=INDEX, marks=OUTSIDE)
    with writer(database) as other, running(project, "upgrade", "head") as first:
        wait_until(database, BUILD_WAITS)
        ((left, _),) = database.execute(INDEX_I)
        with running(project, "upgrade", "head") as second:
            second.wait_until_it_says("Waiting: pid ")
            first.kill()
            # The server ends the build, for which another transaction is still in the way.
            second.wait_until_it_says("Running upgrade r1 -> r2")
            other.execute("ROLLBACK")
            assert second.wait() == 0, second.said()
    ((built, is_valid),) = database.execute(INDEX_I)
    assert is_valid
    assert built != left
    assert ledger(database) == ["upgrade r1", "upgrade r2"]


def test_where_the_server_does_not_notice_it_ends_the_build_and_then_another_takes_over(
    project: Project, database: Database
) -> None:
    if database.server.version >= 14:
        # Who has set it keeps it; so this is what PostgreSQL 13 does.
        name = database.name
        database.execute(f"ALTER DATABASE {name} SET client_connection_check_interval = '1h'")
    project.run("upgrade", "r1")
    write_history(project, "r2", "r1", upgrade=INDEX, marks=OUTSIDE)
    with writer(database) as other, running(project, "upgrade", "head") as first:
        wait_until(database, BUILD_WAITS)
        ((left, _),) = database.execute(INDEX_I)
        with running(project, "upgrade", "head") as second:
            second.wait_until_it_says("Waiting: pid ")
            first.kill()
            assert database.execute(BUILD_WAITS) == [(True,)]
            other.execute("ROLLBACK")
            assert second.wait() == 0, second.said()
    assert database.execute(INDEX_I) == [(left, True)]
    assert ledger(database) == ["upgrade r1", "upgrade r2"]


def test_another_takes_over_from_one_that_fills_rows(project: Project, database: Database) -> None:
    project.run("upgrade", "r1")
    database.execute(
        """
        ALTER TABLE t ADD v text, ADD touched int DEFAULT 0;
        INSERT INTO t (id) SELECT generate_series(1, 100);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
        """
    )
    fill = 'op.backfill("t", {"v": "id::text"}, where="v IS NULL")'
    write_history(project, "r2", "r1", upgrade=fill, marks=OUTSIDE)
    batches = {"ALEMBIC_SAFE_BATCH_SIZE": "10"}
    with database.connect() as other, running(project, "upgrade", "head", env=batches) as first:
        other.execute("BEGIN; SELECT FROM t WHERE id = 51 FOR UPDATE")
        wait_until(
            database,
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
        )
        with running(project, "upgrade", "head", env=batches) as second:
            second.wait_until_it_says("Waiting: pid ")
            first.kill()
            other.execute("ROLLBACK")
            assert second.wait() == 0, second.said()
            assert second.says("goes on where an earlier run stopped")
    assert database.execute("SELECT touched, v IS NULL, count(*) FROM t GROUP BY 1, 2") == [
        (1, False, 100)
    ]
    assert ledger(database) == ["upgrade r1", "upgrade r2"]


NOTICING = (
    "SELECT name, setting FROM pg_settings"
    " WHERE name LIKE 'tcp_keepalives%' OR name = 'client_connection_check_interval'"
)


def test_a_run_has_the_server_look_whether_it_is_still_there(
    project: Project, database: Database
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET tcp_keepalives_count = 9")
    database.execute("CREATE TABLE seen (name text, setting text)")
    see = f'op.execute("INSERT INTO seen {NOTICING}")'
    write_history(project, "r1", upgrade=f'op.execute("SET lock_timeout = 0")\n{see}')
    project.run("upgrade", "r1")
    seen = dict(database.execute("SELECT * FROM seen"))
    # 2 s, in milliseconds; PostgreSQL 13 has no such setting.
    assert seen.pop("client_connection_check_interval", "2000") == "2000"
    assert seen == {
        "tcp_keepalives_idle": "15",
        "tcp_keepalives_interval": "5",
        # What somebody has set stays.
        "tcp_keepalives_count": "9",
    }


def test_afterwards_it_looks_as_it_did_before(engine: sa.Engine) -> None:
    with engine.connect() as connection:

        def settings() -> dict[str, str]:
            rows = connection.execute(sa.text(NOTICING)).all()
            connection.commit()
            return {str(name): str(setting) for name, setting in rows}

        before = settings()
        with noticed_if_gone(connection):
            assert settings() != before
        assert settings() == before


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
