"""A connection that ends in the middle, and timeouts that somebody gave the role."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SERVER_SETTINGS, Database
from environments import use_driver
from hand_written import write_history
from one_message import failure
from project import Project
from waiting import wait_until

from alembic_safe.rehearsal.server import ScratchServer, installed_binaries

UP = ("upgrade", "head")
PATIENT = {
    "ALEMBIC_SAFE_LOCK_TIMEOUT": "60s",
    "ALEMBIC_SAFE_OLD_TRANSACTION": "1h",
    "ALEMBIC_SAFE_BATCH_SIZE": "10",
}

OUTSIDE = "transactional = False"
WAITING = {
    "in a transaction": (
        'op.execute("CREATE TABLE made (id int)")\nop.execute("ALTER TABLE t ADD c int")',
        "",
    ),
    "in a statement of its own": ('op.add_column_if_not_exists("t", "c", "int")', OUTSIDE),
    "in a plain statement among those": ('op.execute("ALTER TABLE t ADD c int")', OUTSIDE),
    "in a backfill": ('op.backfill("t", {"v": "id::text"}, where="v IS NULL")', OUTSIDE),
    "in the build of an index": ('op.create_index_concurrently("i", "t", ["v"])', OUTSIDE),
}
IS_WAITING = (
    " FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND state = 'active'"
)


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    database.execute("INSERT INTO t SELECT generate_series(1, 100)")
    return alembic_project


def finished(running: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = running.communicate(timeout=60)
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


@pytest.mark.parametrize(
    ("where", "driver"),
    [(where, "psycopg") for where in WAITING]
    + [
        (where, driver)
        for where in list(WAITING)[:2]
        for driver in ("psycopg2", "asyncpg", "pg8000")
    ],
)
def test_a_session_that_is_terminated(
    project: Project, database: Database, where: str, driver: str
) -> None:
    upgrade, marks = WAITING[where]
    use_driver(project, database.url(driver))
    write_history(project, "r1", upgrade=upgrade, marks=marks)
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN SHARE MODE")
        running = project.popen(*UP, env=PATIENT)
        # It comes and goes: an attempt that got no lock in time is followed by another.
        wait_until(database, f"SELECT pg_terminate_backend(pid) {IS_WAITING}")
        told = failure(finished(running))
    assert told.startswith("Revision r1")
    assert "the connection to the server was lost: " in told
    assert "Run the same command again to continue" in told
    assert database.execute("SELECT to_regclass('made')") == [(None,)]
    project.run(*UP, env=PATIENT)
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]
    assert database.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


@pytest.mark.parametrize("where", ["in a transaction", "in a backfill"])
def test_a_server_that_restarts(tmp_path: Path, database: Database, where: str) -> None:
    upgrade, marks = WAITING[where]
    with ScratchServer(installed_binaries()[database.server.version], SERVER_SETTINGS) as server:
        mine = Database(server, "postgres")
        mine.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        mine.execute("INSERT INTO t SELECT generate_series(1, 100)")
        project = Project(tmp_path, mine.url())
        write_history(project, "r1", upgrade=upgrade, marks=marks)
        other = mine.connect()
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN SHARE MODE")
        running = project.popen(*UP, env=PATIENT)
        wait_until(mine, f"SELECT EXISTS (SELECT {IS_WAITING})")
        server.stop()
        told = failure(finished(running))
        assert told.startswith("Revision r1")
        assert "the connection to the server was lost: " in told
        assert "Run the same command again to continue" in told
        told = failure(project.run(*UP, check=False))
        assert "Cannot connect to " in told
        server.start()
        project.run(*UP, env=PATIENT)
        assert mine.execute("SELECT version_num FROM alembic_version") == [("r1",)]


# Timeouts of the role.


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A superuser of this test's own."""
    name = f"role_of_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
    yield name
    database.execute(f"REASSIGN OWNED BY {name} TO postgres")
    database.execute(f"DROP ROLE {name}")


def test_a_statement_that_is_longer_than_the_role_may_take(
    project: Project, database: Database, role: str
) -> None:
    database.execute(f"ALTER ROLE {role} SET statement_timeout = '100ms'")
    project.connect_to(database.url(user=role))
    write_history(project, "r1", upgrade='op.execute("SELECT pg_sleep(600)")')
    told = failure(project.run(*UP, check=False))
    assert "Revision r1: canceling statement due to statement timeout" in told
    assert "SELECT pg_sleep(600)" in told
    assert "it took longer than it may: by the statement_timeout of the role" in told
    assert "then run the same command again" in told.lower()
    write_history(project, "r1", upgrade='op.execute("SELECT pg_sleep(0)")')
    project.run(*UP)


LONG = {
    "the check of a constraint": 'op.validate_constraint("passes", "t")',
    "the build of an index": 'op.create_index_concurrently("i", "t", definition="(passes(id))")',
}


@pytest.mark.parametrize("what", LONG)
def test_what_reads_a_whole_table_may_take_longer_than_the_role(
    project: Project, database: Database, role: str, what: str
) -> None:
    timeout = "INTERVAL '100 ms'"
    database.execute(f"ALTER ROLE {role} SET statement_timeout = '100ms'")
    database.execute("INSERT INTO t VALUES (0, '')")
    database.execute(
        """
        CREATE FUNCTION passes(id int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(7);
            RETURN true;
        END $$;
        ALTER TABLE t ADD CONSTRAINT passes CHECK (passes(id)) NOT VALID
        """
    )
    project.connect_to(database.url(user=role))
    write_history(project, "r1", upgrade=LONG[what], marks=OUTSIDE)
    with database.connect() as other:
        other.execute("SELECT pg_advisory_lock(7)")
        running = project.popen(*UP, env={"ALEMBIC_SAFE_LOCK_TIMEOUT": "60s"})
        waiting = f"{IS_WAITING} AND clock_timestamp() - query_start > 3 * {timeout}"
        wait_until(database, f"SELECT EXISTS (SELECT {waiting})")
    done = finished(running)
    assert done.returncode == 0, done.stderr
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]


def test_a_role_that_may_not_be_idle_in_a_transaction(
    project: Project, database: Database, role: str
) -> None:
    database.execute(f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '100ms'")
    project.connect_to(database.url(user=role))
    slow = "import time\ntime.sleep(0.3)"
    write_history(project, "r1", upgrade='op.execute("ALTER TABLE t ADD c int")', marks=slow)
    write_history(
        project,
        "r2",
        "r1",
        upgrade='op.backfill("t", {"c": "id"}, where="c IS NULL")\nimport time\ntime.sleep(0.3)\n'
        'op.create_index_concurrently("i", "t", ["c"])',
        marks=f"{slow}\n{OUTSIDE}",
    )
    write_history(project, "r3", "r2", upgrade='op.execute("ALTER TABLE t ADD d int")', marks=slow)
    project.run(*UP)
    assert database.execute("SELECT version_num FROM alembic_version") == [("r3",)]
