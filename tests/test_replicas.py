"""A primary with a real standby: who replays the locks of a run is told; the standby refuses it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import psycopg2.extras
import pytest
from conftest import SERVER_SETTINGS, Database
from hand_written import write_history
from one_message import failure
from project import Project
from standby import Standby
from waiting import wait_until

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rehearsal.server import ScratchServer, installed_binaries
from alembic_safe.runtime.replicas import Replica, notice

UP = ("upgrade", "head")
TOLD = "the ACCESS EXCLUSIVE lock on t is replayed on"
ADD = 'op.execute("ALTER TABLE t ADD c int")'


@pytest.fixture(scope="module")
def pair(server: ScratchServer) -> Iterator[tuple[ScratchServer, ScratchServer]]:
    """A primary and its standby."""
    binaries = installed_binaries()[server.version]
    settings = {**SERVER_SETTINGS, "wal_level": "logical", "synchronous_commit": "local"}
    with ExitStack() as stack:
        primary = stack.enter_context(ScratchServer(binaries, settings))
        delays = {"max_standby_streaming_delay": "100ms", "wal_receiver_status_interval": "1s"}
        standby = Standby(binaries, primary, "reports", {**settings, **delays})
        yield primary, stack.enter_context(standby)


@pytest.fixture
def primary(pair: tuple[ScratchServer, ScratchServer]) -> Iterator[Database]:
    """The primary's database, with one table; the standby is attached and has it too."""
    database = Database(pair[0], "postgres")
    database.execute("CREATE TABLE t (id int)")
    database.execute("INSERT INTO t VALUES (1)")
    wait_until(database, "SELECT state = 'streaming' FROM pg_stat_replication")
    catch_up(database)
    yield database
    database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    database.execute("GRANT ALL ON SCHEMA public TO PUBLIC")


@pytest.fixture
def standby(pair: tuple[ScratchServer, ScratchServer]) -> Database:
    """The standby's database."""
    return Database(pair[1], "postgres")


@pytest.fixture
def project(tmp_path: Path, primary: Database) -> Project:
    """Two revisions for the primary, after a first one that is done."""
    project = Project(tmp_path, primary.url())
    write_history(project, "r1")
    project.run(*UP)
    default = 'op.execute("ALTER TABLE t ALTER c SET DEFAULT 1")'
    write_history(project, "r2", "r1", upgrade=ADD, downgrade=default)
    write_history(project, "r3", "r2", upgrade='op.execute("ALTER TABLE t ADD d int")')
    return project


def catch_up(primary: Database) -> None:
    """Wait until the standby has replayed all that was done."""
    ((written,),) = primary.execute("SELECT pg_current_wal_lsn()::text")
    replayed = (
        "SELECT replay_lsn >= %s::pg_lsn FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"
    )
    wait_until(primary, replayed, (written,))


# What is told.


@pytest.mark.parametrize(
    ("replica", "words"),
    [
        (Replica("a", "10.0.0.7", "streaming", False), "a (10.0.0.7, streaming)"),
        (Replica("a", None, "catchup", True), "a (catchup, with hot_standby_feedback)"),
        (Replica("", None, "streaming", False), "no application name (streaming)"),
        (Replica("a", None, None, False), "a (in a state that this role may not see)"),
    ],
)
def test_a_replica_in_words(replica: Replica, words: str) -> None:
    told = notice([replica, replica], ON_T, "r1")
    assert told is not None
    assert told.startswith(f"r1: {TOLD} {words}; {words}. A query there")
    assert notice([], ON_T, "r1") is None


T = QualifiedName("t")
ON_T = {T: LockMode.ACCESS_EXCLUSIVE}


@pytest.mark.parametrize("mode", [mode for mode in LockMode if mode < LockMode.ACCESS_EXCLUSIVE])
def test_no_weaker_lock_is_told(mode: LockMode) -> None:
    assert notice([Replica("a", None, "streaming", False)], {T: mode}, "r1") is None


WAYS = {
    "a text": (ADD, ""),
    "an operation": ('op.add_column_if_not_exists("t", "c", "int")', "transactional = False"),
}


@pytest.mark.parametrize("way", WAYS)
def test_before_the_first_such_lock_of_a_run_it_is_told_once(project: Project, way: str) -> None:
    upgrade, marks = WAYS[way]
    write_history(project, "r2", "r1", upgrade=upgrade, marks=marks)
    said = project.run(*UP).stderr
    assert said.count("is replayed on") == 1
    assert f"r2: {TOLD} reports (127.0.0.1, streaming). " in said
    assert "max_standby_streaming_delay" in said
    # Nothing to do, nothing to tell.
    assert TOLD not in project.run(*UP).stderr


def test_so_it_is_on_the_way_back(project: Project) -> None:
    project.run(*UP)
    assert f"r2: {TOLD} reports" in project.run("downgrade", "r1").stderr


def test_a_run_without_such_a_lock_tells_nothing(project: Project) -> None:
    index = 'op.create_index_concurrently("i", "t", ["id"])'
    write_history(project, "r2", "r1", upgrade=index, marks="transactional = False")
    assert "is replayed on" not in project.run("upgrade", "r2").stderr


def test_without_a_replica_nothing_is_told(tmp_path: Path, database: Database) -> None:
    alembic_project = Project(tmp_path, database.url())
    write_history(alembic_project, "r1")
    alembic_project.run(*UP)
    write_history(alembic_project, "r2", "r1")
    assert TOLD not in alembic_project.run(*UP).stderr


def test_nor_on_a_fresh_database(tmp_path: Path, primary: Database) -> None:
    primary.execute("DROP TABLE t")
    project = Project(tmp_path, primary.url())
    write_history(project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    assert TOLD not in project.run(*UP).stderr


def test_whether_a_replica_reports_its_snapshot_is_told(
    project: Project, primary: Database, standby: Database
) -> None:
    with feedback(primary, standby):
        said = project.run(*UP).stderr
    assert f"{TOLD} reports (127.0.0.1, streaming, with hot_standby_feedback). " in said


@contextmanager
def feedback(primary: Database, standby: Database) -> Iterator[None]:
    standby.execute("ALTER SYSTEM SET hot_standby_feedback = on")
    standby.execute("SELECT pg_reload_conf()")
    try:
        wait_until(primary, "SELECT backend_xmin IS NOT NULL FROM pg_stat_replication")
        yield
    finally:
        standby.execute("ALTER SYSTEM RESET hot_standby_feedback")
        standby.execute("SELECT pg_reload_conf()")
        wait_until(primary, "SELECT backend_xmin IS NULL FROM pg_stat_replication")


def test_a_role_that_sees_little_tells_what_it_sees(project: Project, primary: Database) -> None:
    primary.execute("CREATE ROLE deploy LOGIN")
    try:
        tables = "t, alembic_version, alembic_safe_ledger"
        for table in tables.split(", "):
            primary.execute(f"ALTER TABLE {table} OWNER TO deploy")
        project.connect_to(primary.url(user="deploy"))
        said = project.run(*UP).stderr
        assert f"{TOLD} reports (in a state that this role may not see). " in said
        # Even that can be taken away.
        primary.execute("REVOKE SELECT ON pg_stat_replication FROM PUBLIC")
        assert TOLD not in project.run("downgrade", "r1").stderr
    finally:
        primary.execute("GRANT SELECT ON pg_stat_replication TO PUBLIC")
        primary.execute("DROP OWNED BY deploy CASCADE")
        primary.execute("DROP ROLE deploy")


@pytest.mark.parametrize("kind", ["a subscriber", "a copy of the log"])
def test_who_replays_no_locks_is_not_named(project: Project, primary: Database, kind: str) -> None:
    is_logical = kind == "a subscriber"
    factory = (
        psycopg2.extras.LogicalReplicationConnection
        if is_logical
        else psycopg2.extras.PhysicalReplicationConnection
    )
    other = psycopg2.connect(
        host="127.0.0.1",
        port=primary.server.port,
        user="postgres",
        dbname="postgres",
        application_name="other",
        connection_factory=factory,
    )
    with closing(other), other.cursor() as cursor:
        if is_logical:
            primary.execute("CREATE PUBLICATION p FOR TABLE t")
            cursor.execute("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL pgoutput")
            options = {"proto_version": "1", "publication_names": "p"}
            cursor.start_replication("s", options=options)
            # As a subscriber says that it has applied what it got.
            cursor.send_feedback(apply_lsn=1, force=True)
            wait_until(primary, "SELECT bool_and(replay_lsn IS NOT NULL) FROM pg_stat_replication")
        else:
            cursor.start_replication()
        wait_until(primary, "SELECT count(*) = 2 FROM pg_stat_replication")
        assert f"{TOLD} reports (127.0.0.1, streaming). " in project.run(*UP).stderr


# What a standby does.


class Reader(threading.Thread):
    """A long query on a standby."""

    def __init__(self, standby: Database) -> None:
        super().__init__()
        self._connection = standby.connect()
        self.pid = self._connection.info.backend_pid
        self.error: psycopg.Error | None = None

    def run(self) -> None:
        try:
            self._connection.execute("SELECT pg_sleep(600) FROM t")
        except psycopg.Error as error:
            self.error = error

    def end(self) -> None:
        self._connection.cancel()
        self.join()
        self._connection.close()


@contextmanager
def reading(standby: Database) -> Iterator[Reader]:
    reader = Reader(standby)
    reader.start()
    try:
        locked = "SELECT count(*) > 0 FROM pg_locks WHERE pid = %s AND relation = 't'::regclass"
        wait_until(standby, locked, (reader.pid,))
        yield reader
    finally:
        reader.end()


@pytest.mark.parametrize("reports", [False, True])
def test_a_query_there_is_cancelled_whether_snapshots_are_reported_or_not(
    project: Project, primary: Database, standby: Database, reports: bool
) -> None:
    with ExitStack() as stack:
        if reports:
            stack.enter_context(feedback(primary, standby))
        reader = stack.enter_context(reading(standby))
        project.run(*UP)
        reader.join(timeout=60)
        assert "conflict with recovery" in str(reader.error)


def test_no_weaker_lock_cancels_it(tmp_path: Path, primary: Database, standby: Database) -> None:
    project = Project(tmp_path, primary.url())
    upgrade = 'op.create_index_concurrently("i", "t", ["id"])'
    write_history(project, "r1", upgrade=upgrade, marks="transactional = False")
    # Otherwise rows of the catalog that go away are a conflict of another kind.
    with feedback(primary, standby), reading(standby) as reader:
        project.run(*UP)
        primary.execute("BEGIN; LOCK TABLE t IN EXCLUSIVE MODE; INSERT INTO t VALUES (2); COMMIT")
        catch_up(primary)
        assert reader.is_alive(), reader.error


def test_on_a_standby_every_command_that_changes_something_is_refused(
    project: Project, primary: Database, standby: Database
) -> None:
    catch_up(primary)
    project.connect_to(standby.url())
    commands: list[Any] = [
        project.run(*UP, check=False),
        project.run("downgrade", "base", check=False),
        project.run("stamp", "head", check=False),
        project.run_safe("contract", check=False),
    ]
    for done in commands:
        told = failure(done)
        assert "The server is a standby, which cannot be changed" in told
        assert "Point the URL of your Alembic environment to the primary" in told
    assert project.run("current").stdout.split() == ["r1"]
