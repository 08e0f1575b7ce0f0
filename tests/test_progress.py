"""Who applies a revision sees how far a long statement is, and for whom it waits."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from conftest import Database
from hand_written import write_history
from patience import read_until, reader
from project import Project
from waiting import wait_until

from alembic_safe.runtime.progress import Progress
from alembic_safe.runtime.second_connection import SecondConnection, Session


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders SELECT generate_series(1, 10000)")
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connected:
        yield connected


def looked_at(connection: sa.Connection, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is told while ten times as much time passes as between two looks."""
    session = Session.of(connection)
    second = SecondConnection(session)
    caplog.set_level(logging.INFO, logger="alembic.safe")
    progress = Progress("r1")
    for _ in range(10):
        progress.look(second.connection, session.pid)
    second.close()
    return caplog.messages


def test_a_build_that_waits_for_a_snapshot_names_whose_it_is(
    database: Database, connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    engine = connection.engine
    with reader(database) as busy, engine.connect() as building:
        busy.execute("INSERT INTO orders VALUES (1)")
        pid = busy.info.backend_pid
        session = Session.of(building)
        second = SecondConnection(session)
        work = threading.Thread(
            target=building.exec_driver_sql, args=("CREATE INDEX CONCURRENTLY ix ON orders (id)",)
        )
        work.start()
        wait_until(database, "SELECT phase LIKE 'waiting%' FROM pg_stat_progress_create_index")
        caplog.set_level(logging.INFO, logger="alembic.safe")
        progress = Progress("r1")
        for _ in range(10):
            progress.look(second.connection, session.pid)
        busy.execute("COMMIT")
        work.join()
        second.close()
    (message,) = caplog.messages
    assert re.match(r"r1: after \d+ s create index concurrently on orders: waiting for", message)
    assert f"waiting for pid {pid} (nightly report, user postgres" in message


def test_nothing_is_told_of_a_session_that_does_nothing(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    assert looked_at(connection, caplog) == []


@pytest.mark.slow  # It is told after ten seconds.
@pytest.mark.parametrize(
    ("body", "marks"),
    [
        ('op.execute("ALTER TABLE orders VALIDATE CONSTRAINT ck")', ""),
        ('op.validate_constraint("ck", "orders")', "transactional = False"),
    ],
)
def test_an_upgrade_tells(
    alembic_project: Project, database: Database, body: str, marks: str
) -> None:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    database.execute("ALTER TABLE orders ADD CONSTRAINT ck CHECK (id > 0) NOT VALID")
    write_history(alembic_project, "r1")
    write_history(alembic_project, "r2", "r1", upgrade=body, marks=marks)
    with database.connect() as busy:
        busy.execute("BEGIN; LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE")
        running = alembic_project.popen("upgrade", "head")
        pid = busy.info.backend_pid
        line = read_until(running, "r2: after")
        busy.execute("COMMIT")
        running.communicate(timeout=60)
    assert running.returncode == 0
    assert f"at work, waiting for pid {pid}" in line
