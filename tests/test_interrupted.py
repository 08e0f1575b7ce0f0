"""Ctrl-C and `kill -9` in the middle of each phase: the same command continues, no row is lost, and
nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Database
from environments import use_driver
from hand_written import write_history
from interrupted_story import FIRST, IN_ORDERS, IN_SCAN, IN_USERS, SECOND, Story, is_complete
from one_message import failure
from project import Project
from schema import schema_of
from waiting import wait_until, wait_until_alone

from alembic_safe.rehearsal.server import ScratchServer


@pytest.fixture(scope="module")
def stories(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[ScratchServer], Story]]:
    """The story on each server, told when it is first asked for."""
    with ExitStack() as stack:
        found: dict[int, Story] = {}

        def story(server: ScratchServer) -> Story:
            if server.version not in found:
                folder = tmp_path_factory.mktemp("story")
                found[server.version] = stack.enter_context(Story(server, folder))
            return found[server.version]

        yield story


QUEUES = {
    "ALEMBIC_SAFE_RETRY_CAP": "50ms",
    "ALEMBIC_SAFE_OLD_TRANSACTION": "1h",
}
"""It queues for a lock soon, whoever is in the way."""


@dataclass(frozen=True)
class Moment:
    """Somewhere in the middle of a phase.

    Args:
        phase: expand, migrate or contract.
        hold: what another session does in a transaction, so that it takes as long as we want.
        is_there: an SQL condition: the upgrade has come to the moment.
        is_half_done: an SQL condition on what it leaves.
        before: what is done before the upgrade.
    """

    phase: str
    hold: str
    is_there: str
    is_half_done: str
    before: str = "SELECT"


def waits_for_table(table: str, mode: str) -> str:
    return (
        f"EXISTS (SELECT FROM pg_locks WHERE relation = '{table}'::regclass"
        f" AND mode = '{mode}' AND NOT granted)"
    )


def waits_in(statement: str) -> str:
    return (
        "EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        f" AND query LIKE '{statement}%' AND wait_event_type = 'Lock')"
    )


def waits_for_us(key: int) -> str:
    return (
        "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        f" AND classid = 0 AND objid = {key})"
    )


def is_half_filled(table: str, name: str) -> str:
    return (
        f"EXISTS (SELECT FROM {table} WHERE {name} IS NOT NULL)"
        f" AND EXISTS (SELECT FROM {table} WHERE {name} IS NULL)"
        f" AND EXISTS (SELECT FROM alembic_safe_backfill WHERE relation = '{table}' AND rows > 0)"
    )


def column(table: str, name: str) -> str:
    return (
        f"EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{table}'::regclass"
        f" AND attname = '{name}' AND NOT attisdropped)"
    )


MOMENTS = {
    "expand, at the lock for the new column": Moment(
        "expand",
        hold="LOCK TABLE users IN ACCESS SHARE MODE",
        is_there=waits_for_table("users", "AccessExclusiveLock"),
        is_half_done=f"NOT {column('users', 'display_name')}",
    ),
    "migrate, in the backfill": Moment(
        "migrate",
        hold=f"SELECT pg_advisory_xact_lock({IN_USERS})",
        is_there=waits_for_us(IN_USERS),
        is_half_done=is_half_filled("users", "display_name"),
    ),
    "migrate, in the build of an index": Moment(
        "migrate",
        hold="SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        is_there=waits_in("CREATE INDEX CONCURRENTLY"),
        is_half_done="EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)",
    ),
    "migrate, in the scan of a constraint": Moment(
        "migrate",
        hold=f"SELECT pg_advisory_xact_lock({IN_SCAN})",
        is_there=waits_for_us(IN_SCAN),
        is_half_done="EXISTS (SELECT FROM pg_constraint WHERE NOT convalidated)",
    ),
    "contract, in the proof": Moment(
        "contract",
        hold="LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
        is_there=waits_for_table("users", "AccessShareLock"),
        is_half_done=column("users", "full_name"),
    ),
    "contract, in the drop of an index": Moment(
        "contract",
        hold="LOCK TABLE users IN ACCESS SHARE MODE",
        is_there=waits_in("DROP INDEX CONCURRENTLY"),
        is_half_done="to_regclass('ix_users_full_name') IS NOT NULL",
    ),
    "contract, at the lock for the drop of the column": Moment(
        "contract",
        before="DROP INDEX ix_users_full_name",
        hold="LOCK TABLE users IN ACCESS SHARE MODE",
        is_there=waits_for_table("users", "AccessExclusiveLock"),
        is_half_done=column("users", "full_name"),
    ),
    "contract, in its backfill": Moment(
        "contract",
        hold=f"SELECT pg_advisory_xact_lock({IN_ORDERS})",
        is_there=waits_for_us(IN_ORDERS),
        is_half_done=is_half_filled("orders", "note"),
    ),
}


@contextmanager
def held_up(database: Database, moment: Moment) -> Iterator[psycopg.Connection[Any]]:
    """Another session in the way."""
    with database.connect() as other:
        other.execute("BEGIN")
        for statement in moment.hold.split("; "):
            other.execute(statement.encode())
        yield other


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill"])
@pytest.mark.parametrize("when", MOMENTS)
def test_the_same_command_continues(
    stories: Callable[[ScratchServer], Story],
    server: ScratchServer,
    tmp_path: Path,
    when: str,
    how: signal.Signals,
) -> None:
    moment, story = MOMENTS[when], stories(server)
    is_contract = moment.phase == "contract"
    env = (SECOND if is_contract else FIRST) | QUEUES
    with story.copy(tmp_path, story.between if is_contract else story.before) as copied:
        project, database = copied
        database.execute(moment.before)
        with held_up(database, moment):
            running = project.popen("upgrade", "head", env=env)
            wait_until(database, f"SELECT {moment.is_there}")
            running.send_signal(how)
            out, err = running.communicate(timeout=60)
            assert database.execute(f"SELECT {moment.is_half_done}") == [(True,)]
        if how is signal.SIGINT:
            done = subprocess.CompletedProcess(running.args, running.returncode, out, err)
            told = failure(done)
            assert told.startswith("Interrupted in revision ")
            assert "run the same command again to continue" in told
            assert story.phase_of(told.split()[3].rstrip(".")) == moment.phase
        else:
            assert running.returncode == -signal.SIGKILL
        # What is left of a killed one still has the upgrade lock, for as long as it takes the
        # server to notice.
        project.run("upgrade", "head", env=env)
        _is_whole(story, database, is_contract)


def _is_whole(story: Story, database: Database, is_contract: bool) -> None:
    wait_until_alone(database)
    assert schema_of(database) == (story.schema_after if is_contract else story.schema_between)
    if is_contract:
        assert is_complete(database)
    assert database.execute("SELECT count(*) FROM users WHERE display_name = 'user ' || id") == [
        (100_000,)
    ]
    assert database.execute("SELECT * FROM alembic_safe_backfill") == []
    assert database.execute("SELECT version_num FROM alembic_version") == [("checked",)]
    applied = database.execute(
        "SELECT revision FROM alembic_safe_ledger WHERE event = 'upgrade' ORDER BY id"
    )
    assert len(applied) == len(set(applied))
    assert database.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    ) == [(0,)]


# Away from the story.


def interrupted(running: subprocess.Popen[str]) -> str:
    """Send Ctrl-C and return the message."""
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    return failure(subprocess.CompletedProcess(running.args, running.returncode, out, err))


def test_what_a_killed_upgrade_ran_ends_though_nothing_else_would_end_it(
    alembic_project: Project, database: Database
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    index = 'op.create_index_concurrently("i", "t", ["id"])'
    write_history(alembic_project, "r1", upgrade=index, marks="transactional = False")
    with database.connect() as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT 1")
        running = alembic_project.popen("upgrade", "head")
        wait_until(database, f"SELECT {waits_in('CREATE INDEX CONCURRENTLY')}")
        running.kill()
        running.communicate(timeout=60)
        wait_until(
            database,
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()"
            f" AND pid NOT IN (pg_backend_pid(), {old.info.backend_pid})",
        )
        assert invalid_indexes(database) == ["i"]
    alembic_project.run("upgrade", "head")
    assert invalid_indexes(database) == []


def invalid_indexes(database: Database) -> list[str]:
    rows = database.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    return [row[0] for row in rows]


def test_ctrl_c_while_another_upgrade_runs(alembic_project: Project, database: Database) -> None:
    write_history(alembic_project, "r1", upgrade='op.execute("LOCK TABLE t IN ACCESS SHARE MODE")')
    database.execute("CREATE TABLE t (id int)")
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t")
        first = alembic_project.popen("upgrade", "head")
        wait_until(database, f"SELECT {waits_for_table('t', 'AccessShareLock')}")
        second = alembic_project.popen("upgrade", "head")
        said = second.stderr
        assert said is not None
        assert any("is migrating this database" in line for line in iter(said.readline, ""))
        told = interrupted(second)
        assert told == (
            "Interrupted in alembic upgrade. What was committed stays; run the same command again"
            " to continue."
        )
    assert first.wait(timeout=60) == 0
    first.communicate()
    alembic_project.run("upgrade", "head")


def test_ctrl_c_between_two_attempts_to_get_a_lock(
    alembic_project: Project, database: Database
) -> None:
    write_history(alembic_project, "r1", upgrade='op.execute("ALTER TABLE t ADD c int")')
    database.execute("CREATE TABLE t (id int)")
    long_pauses = {
        f"ALEMBIC_SAFE_{name}": "10h"
        for name in ("RETRY_BASE", "RETRY_CAP", "LOCK_DEADLINE", "OLD_TRANSACTION", "LOCK_TIMEOUT")
    }
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t")
        running = alembic_project.popen(
            "upgrade", "head", env={**long_pauses, "ALEMBIC_SAFE_LOCKING": "ladder"}
        )
        said = running.stderr
        assert said is not None
        assert any("attempt 1, no lock on t" in line for line in iter(said.readline, ""))
        told = interrupted(running)
    assert told.startswith("Interrupted in revision r1. ")
    wait_until_alone(database)
    alembic_project.run("upgrade", "head")
    assert database.execute("SELECT c FROM t") == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.run() ends in a traceback there")
@pytest.mark.parametrize("marks", ["", "transactional = False"])
def test_ctrl_c_in_an_async_environment(
    alembic_project: Project, database: Database, marks: str
) -> None:
    use_driver(alembic_project, database.url("asyncpg"))
    database.execute("CREATE TABLE t (id int)")
    upgrade = (
        'op.execute("LOCK TABLE t IN SHARE MODE")'
        if not marks
        else ('op.create_check_constraint_not_valid("c", "t", "id > 0")')
    )
    write_history(alembic_project, "r1", upgrade=upgrade, marks=marks)
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t")
        running = alembic_project.popen("upgrade", "head", env={"ALEMBIC_SAFE_LOCK_TIMEOUT": "60s"})
        wait_until(
            database,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted)",
        )
        told = interrupted(running)
        assert told.startswith("Interrupted in revision r1. ")
    alembic_project.run("upgrade", "head")
