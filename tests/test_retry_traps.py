"""A retry that calls Alembic once more is wrong in many ways; each of them has its test here.

A sequence counts attempts, because a transaction that rolls back does not take its numbers back.
"""

from __future__ import annotations

import textwrap
import threading
from pathlib import Path

import pytest
from conftest import Database
from environments import replace_in_env, use_driver
from hand_written import write_history
from patience import wait_for_waiter
from project import Project

DRIVERS = ["psycopg", "psycopg2", "asyncpg", "pg8000"]
QUICK = {"ALEMBIC_SAFE_RETRY_BASE": "1ms", "ALEMBIC_SAFE_LOCK_TIMEOUT": "40ms"}


def busy(times: int, code: str = "55P03") -> str:
    """Python for a revision that fails as often as that, as if a lock could not be had."""
    return (
        "op.execute(\"DO $$ BEGIN IF nextval('attempts') <="
        f" {times} THEN RAISE EXCEPTION 'busy' USING ERRCODE = '{code}'; END IF; END $$\")"
    )


def show(*names: str) -> str:
    """Python for a revision that prints what settings are in force."""
    settings = " || ' ' || ".join(f"current_setting('{name}')" for name in names)
    return f'print("SETTINGS", op.get_bind().scalar(sa.text("SELECT {settings}")))'


def shown(stdout: str) -> list[str]:
    marker = "SETTINGS "
    return [line[len(marker) :] for line in stdout.splitlines() if line.startswith(marker)]


def attempts(database: Database) -> int:
    ((value, is_called),) = database.execute("SELECT last_value, is_called FROM attempts")
    return int(value) if is_called else 0


def version(database: Database) -> str | None:
    if database.execute("SELECT to_regclass('alembic_version')") == [(None,)]:
        return None
    rows = database.execute("SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    database.execute("CREATE SEQUENCE attempts")
    return alembic_project


def test_an_enum_of_an_attempt_that_was_rolled_back_is_created_again(
    project: Project, database: Database
) -> None:
    write_history(
        project,
        "r1",
        upgrade=f"""
        op.create_table("t", sa.Column("mood", sa.Enum("good", "bad", name="mood")))
        {busy(1)}
        """,
    )
    project.run("upgrade", "head", env=QUICK)
    assert attempts(database) == 2
    assert database.execute("SELECT 'good'::mood::text") == [("good",)]


def test_a_relative_upgrade_does_not_overshoot(project: Project, database: Database) -> None:
    write_history(project, "r1")
    write_history(project, "r2", "r1", upgrade=busy(1))
    write_history(project, "r3", "r2")
    project.run("upgrade", "+2", env=QUICK)
    assert (version(database), attempts(database)) == ("r2", 2)


def test_a_relative_downgrade_does_not_overshoot(project: Project, database: Database) -> None:
    write_history(project, "r1")
    write_history(project, "r2", "r1", downgrade=busy(1))
    write_history(project, "r3", "r2")
    project.run("upgrade", "head")
    project.run("downgrade", "-2", env=QUICK)
    assert (version(database), attempts(database)) == ("r1", 2)


def test_the_stamp_of_a_revision_that_commits_by_itself_is_kept(
    project: Project, database: Database
) -> None:
    write_history(project, "r1")
    project.run("upgrade", "head")
    write_history(
        project,
        "r2",
        "r1",
        upgrade="""
        op.execute("CREATE TABLE t (id int)")
        op.get_bind().commit()
        """,
    )
    project.run("upgrade", "head")
    assert version(database) == "r2"


COMMITS = {
    "autocommit block": """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY i ON t (id)")
        """,
    "commit of the connection": "op.get_bind().commit()",
    "commit as text": 'op.execute("COMMIT")',
}


@pytest.mark.parametrize("how", COMMITS)
def test_a_revision_that_committed_half_of_itself_is_not_run_again(
    project: Project, database: Database, how: str
) -> None:
    path = project.migrations / "versions" / "r2.py"
    write_history(project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    write_history(
        project,
        "r2",
        "r1",
        upgrade='op.execute("ALTER TABLE t ADD c int")\n' + _dedented(COMMITS[how]) + busy(1),
    )
    done = project.run("upgrade", "head", env=QUICK, check=False)
    _is_half_applied(done.stderr, done.returncode, path)
    assert (version(database), attempts(database)) == ("r1", 1)


def test_a_plain_operation_among_those_that_commit_one_by_one_is_not_run_again(
    project: Project, database: Database
) -> None:
    path = write_history(
        project,
        "r1",
        upgrade=f"""
        op.execute("CREATE TABLE t (id int)")
        {busy(1)}
        """,
        marks="transactional = False",
    )
    done = project.run("upgrade", "head", env=QUICK, check=False)
    _is_half_applied(done.stderr, done.returncode, path)
    assert (version(database), attempts(database)) == (None, 1)


def _is_half_applied(stderr: str, returncode: int, path: Path) -> None:
    assert returncode != 0
    assert "Traceback" not in stderr
    assert f"Revision {path.stem} committed a part of its work and then failed: busy" in stderr
    assert str(path) in stderr


def _dedented(source: str) -> str:
    return textwrap.dedent(source).strip("\n") + "\n"


def test_a_commit_in_one_revision_does_not_stop_the_retry_of_the_next(
    project: Project, database: Database
) -> None:
    write_history(project, "r1", upgrade="op.get_bind().commit()")
    write_history(project, "r2", "r1", upgrade=busy(2))
    project.run("upgrade", "head", env=QUICK)
    assert (version(database), attempts(database)) == ("r2", 3)


LEAKED = ("statement_timeout", "idle_in_transaction_session_timeout", "search_path")
SET_ALL = """
op.execute("SET statement_timeout = '77s'")
op.execute("SET lock_timeout = '77s'")
op.execute("SET idle_in_transaction_session_timeout = '77s'")
op.execute("SET search_path = pg_temp, public")
"""


def test_what_a_revision_sets_does_not_leak_into_the_next(project: Project) -> None:
    marks = "transactional = False"
    write_history(project, "r1", upgrade=show(*LEAKED) + SET_ALL)
    write_history(project, "r2", "r1", upgrade=show("lock_timeout", *LEAKED) + SET_ALL)
    write_history(project, "r3", "r2", upgrade=show(*LEAKED) + SET_ALL, marks=marks)
    write_history(project, "r4", "r3", upgrade=show("lock_timeout", *LEAKED))
    before, *after = shown(project.run("upgrade", "head", env=QUICK).stdout)
    assert after == [f"40ms {before}", before, f"40ms {before}"]


def test_the_session_is_left_as_it_was_found(project: Project) -> None:
    look = "print('SETTINGS', connection.exec_driver_sql(\"SHOW lock_timeout\").scalar_one())"
    replace_in_env(
        project,
        "        context.configure(\n            connection=connection",
        "        connection.exec_driver_sql(\"SET lock_timeout = '7s'\")\n"
        "        connection.commit()\n"
        "        context.configure(\n            connection=connection",
    )
    replace_in_env(
        project,
        "        alembic_safe.run_migrations(context)\n\n\nif",
        f"        alembic_safe.run_migrations(context)\n        {look}\n\n\nif",
    )
    write_history(project, "r1", upgrade=SET_ALL, marks="transactional = False")
    write_history(project, "r2", "r1", upgrade=show("lock_timeout") + SET_ALL)
    assert shown(project.run("upgrade", "head", env=QUICK).stdout) == ["40ms", "7s"]


def test_the_lock_timeout_is_in_force_in_every_attempt(project: Project) -> None:
    write_history(project, "r1", upgrade=show("lock_timeout") + "\n" + busy(4))
    env = {**QUICK, "ALEMBIC_SAFE_LOCK_TIMEOUT": "75ms"}
    told = shown(project.run("upgrade", "head", env=env).stdout)
    assert told == ["50ms", "50ms", "50ms", "75ms", "75ms"]


@pytest.mark.parametrize("how", ["autocommit block", "commit of the connection"])
def test_the_lock_timeout_is_in_force_after_a_commit_in_the_revision(
    project: Project, how: str
) -> None:
    write_history(project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    body = _dedented(COMMITS[how])
    write_history(project, "r2", "r1", upgrade=body + show("lock_timeout"))
    assert shown(project.run("upgrade", "head", env=QUICK).stdout) == ["40ms"]


OPEN_TRANSACTIONS = {
    "engine.begin()": ("engine.connect()", "engine.begin()"),
    "a query before": (
        "        context.configure(\n            connection=connection",
        '        connection.exec_driver_sql("SELECT 1")\n'
        "        context.configure(\n            connection=connection",
    ),
}


@pytest.mark.parametrize("how", OPEN_TRANSACTIONS)
def test_a_transaction_of_the_users_is_refused(
    project: Project, database: Database, how: str
) -> None:
    replace_in_env(project, *OPEN_TRANSACTIONS[how])
    write_history(project, "r1")
    done = project.run("upgrade", "head", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "already in a transaction when context.configure() was called" in done.stderr
    assert "engine.connect()" in done.stderr
    assert database.execute("SELECT to_regclass('alembic_version')") == [(None,)]


def test_a_transaction_of_the_users_does_no_harm_to_what_only_reads(project: Project) -> None:
    write_history(project, "r1")
    project.run("upgrade", "head")
    replace_in_env(project, *OPEN_TRANSACTIONS["engine.begin()"])
    assert project.run("current").stdout.split() == ["r1", "(head)"]
    assert "No new upgrade operations" in project.run("check").stdout


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("code", ["55P03", "40P01"])
def test_a_lock_that_was_not_to_be_had_is_known_by_its_code(
    project: Project, database: Database, driver: str, code: str
) -> None:
    use_driver(project, database.url(driver))
    write_history(project, "r1", upgrade=busy(1, code))
    project.run("upgrade", "head", env=QUICK)
    assert (version(database), attempts(database)) == ("r1", 2)


@pytest.mark.parametrize("driver", DRIVERS)
def test_any_other_error_is_not_tried_again(
    project: Project, database: Database, driver: str
) -> None:
    use_driver(project, database.url(driver))
    write_history(project, "r1", upgrade=busy(1, "22012"))
    done = project.run("upgrade", "head", env=QUICK, check=False)
    assert done.returncode != 0
    assert "busy" in done.stderr
    assert (version(database), attempts(database)) == (None, 1)


@pytest.mark.parametrize("driver", DRIVERS)
def test_with_an_engine_in_autocommit_mode_a_revision_is_still_one_transaction(
    project: Project, database: Database, driver: str
) -> None:
    use_driver(project, database.url(driver))
    replace_in_env(project, "pool.NullPool,", 'pool.NullPool, isolation_level="AUTOCOMMIT",')
    write_history(
        project,
        "r1",
        upgrade=f"""
        op.execute("CREATE TABLE t (id int)")
        {busy(1)}
        """,
    )
    project.run("upgrade", "head", env=QUICK)
    assert (version(database), attempts(database)) == ("r1", 2)


def test_the_ledger_counts_the_attempts(project: Project, database: Database) -> None:
    write_history(project, "r1", upgrade=busy(2))
    write_history(project, "r2", "r1")
    project.run("upgrade", "head", env=QUICK)
    rows = database.execute(
        "SELECT revision, attempts FROM alembic_safe_ledger WHERE revision IS NOT NULL ORDER BY id"
    )
    assert rows == [("r1", 3), ("r2", 1)]


def test_the_victim_of_a_deadlock_comes_back(project: Project, database: Database) -> None:
    database.execute("CREATE TABLE first (id int); CREATE TABLE second (id int)")
    # Only the migration's session looks for deadlocks, so that it is the one to give way.
    database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '1s'")
    write_history(
        project,
        "r1",
        upgrade="""
        op.get_bind().execute(sa.text("SELECT nextval('attempts')"))
        op.execute("LOCK TABLE first")
        op.execute("LOCK TABLE second")
        """,
    )
    with database.connect() as other:
        other.execute("SET deadlock_timeout = '10min'")
        other.execute("BEGIN")
        other.execute("LOCK TABLE second")
        running = project.popen("upgrade", "head", env={**QUICK, "ALEMBIC_SAFE_LOCK_TIMEOUT": "1h"})
        wait_for_waiter(database, "second")
        crossing = threading.Thread(target=other.execute, args=("LOCK TABLE first",))
        crossing.start()
        crossing.join(timeout=60)
        assert not crossing.is_alive()
        other.execute("COMMIT")
        _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    assert (version(database), attempts(database)) == ("r1", 2)
