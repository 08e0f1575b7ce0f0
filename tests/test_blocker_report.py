"""Whoever waits, or keeps others waiting, is told of: to people as text, to programs as facts."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Database
from in_process import Environment
from patience import reader, wait_for_waiter
from waiting import wait_until

from alembic_safe.errors import LockNotAcquired
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime import events
from alembic_safe.runtime.blockers import blockers
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.progress import Progress
from alembic_safe.runtime.second_connection import Session
from alembic_safe.runtime.supervision import Allowance, Supervision
from alembic_safe.settings import Settings

ALTER = {QualifiedName("orders"): LockMode.ACCESS_EXCLUSIVE}
DOCUMENTED = Path(__file__).parent.parent / "docs" / "blockers.md"


class Told(logging.Handler):
    """Keeps the facts of all records, and does something as soon as it hears of an event."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.then: dict[str, Callable[[], object]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        event = getattr(record, "alembic_safe", {}).get("event")
        if event in self.then:
            self.then.pop(event)()

    def facts(self, event: str) -> list[dict[str, Any]]:
        """Return what was told of an event; each has a text and can be written as JSON."""
        found = [
            getattr(record, "alembic_safe")  # noqa: B009 - the class does not know it
            for record in self.records
            if getattr(record, "alembic_safe", {}).get("event") == event and record.getMessage()
        ]
        return [dict(json.loads(json.dumps(each))) for each in found]

    def text(self) -> str:
        """Return all messages."""
        return "\n".join(record.getMessage() for record in self.records)


@pytest.fixture
def told() -> Iterator[Told]:
    handler, logger = Told(), logging.getLogger("alembic.safe")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


_REVISION = """
from alembic import op
import sqlalchemy as sa

revision = {revision!r}
down_revision = {after!r}


def upgrade():
    {upgrade}
"""
ADD = 'op.execute("ALTER TABLE orders ADD note text")'


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE orders (id int)")
    database.execute("INSERT INTO orders VALUES (1)")
    return database


@pytest.fixture
def environment(shop: Database, tmp_path: Path) -> Environment:
    """A revision r2 that changes the table."""
    made = Environment(tmp_path, shop.url(), sa.MetaData())
    for revision, after, upgrade in (("r1", None, "pass"), ("r2", "r1", ADD)):
        source = _REVISION.format(revision=revision, after=after, upgrade=upgrade)
        (made.folder / "versions" / f"{revision}.py").write_text(source)
    made.upgrade("r1")
    return made


@contextmanager
def ended_soon(
    told: Told, event: str, session: Any, database: Database, after: str = "true"
) -> Iterator[None]:
    """End the session's transaction once this was told of, and a query says true."""
    threads = []

    def end() -> None:
        wait_until(database, f"SELECT {after}")
        session.execute("COMMIT")

    def begin() -> None:
        threads.append(threading.Thread(target=end))
        threads[0].start()

    told.then[event] = begin
    yield
    for thread in threads:
        thread.join()


def has_waited(pid: int) -> str:
    return (
        f"clock_timestamp() - (SELECT state_change FROM pg_stat_activity WHERE pid = {pid}) > '2s'"
    )


# The facts of a wait.


def test_a_wait_outside_of_the_queue(environment: Environment, shop: Database, told: Told) -> None:
    with reader(shop) as busy:
        pid = busy.info.backend_pid
        with ended_soon(told, events.WAITING_OUTSIDE, busy, shop, has_waited(pid)):
            environment.upgrade("head", "old_transaction=0")
    (waiting,) = told.facts(events.WAITING_OUTSIDE)
    (blocker,) = waiting.pop("blockers")
    assert waiting.pop("seconds") >= 0
    assert waiting == {"event": "waiting_outside", "revision": "r2", "tables": ["orders"]}
    seconds = blocker.pop("seconds"), blocker.pop("state_seconds")
    assert 0 <= seconds[1] <= seconds[0]
    assert blocker.pop("transaction")
    assert blocker == {
        "kind": "client backend",
        "pid": pid,
        "application": "nightly report",
        "user": "postgres",
        "state": "idle in transaction",
        "mode": "AccessShareLock",
        "relation": "orders",
    }
    (trying,) = told.facts(events.TRYING)
    assert (trying["tables"], trying["is_free"]) == (["orders"], True)
    (acquired,) = told.facts(events.LOCK_ACQUIRED)
    assert (acquired["revision"], acquired["tables"]) == ("r2", ["orders"])
    assert acquired["seconds"] > 0
    assert "r2: got the lock on orders after " in told.text()


def test_a_failed_attempt_and_the_one_that_follows(
    environment: Environment, shop: Database, told: Told
) -> None:
    with reader(shop) as busy:
        pid = busy.info.backend_pid
        with ended_soon(told, events.LOCK_NOT_ACQUIRED, busy, shop, has_waited(pid)):
            environment.upgrade(
                "head", "locking=ladder", "old_transaction=1h", "lock_timeout=1h",
                "blocking_timeout=1h", "retry_base=1h", "retry_cap=1h", "lock_deadline=5h",
            )  # fmt: skip
    failed, *later = told.facts(events.LOCK_NOT_ACQUIRED)
    (blocker,) = failed.pop("blockers")
    assert blocker["pid"] == pid
    assert failed == {
        "event": "lock_not_acquired",
        "revision": "r2",
        "attempt": 1,
        "tables": ["orders"],
        "reason": "canceling statement due to lock timeout",
        "behind": None,
    }
    (acquired,) = told.facts(events.LOCK_ACQUIRED)
    assert acquired["attempt"] == 2 + len(later)


def test_a_wait_in_the_queue_that_gets_the_lock(
    environment: Environment, shop: Database, told: Told
) -> None:
    with reader(shop) as busy:
        waits = (
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
            " AND clock_timestamp() - waitstart > '1s'"
        )

        def end() -> None:
            wait_until(shop, waits)
            busy.execute("COMMIT")

        thread = threading.Thread(target=end)
        thread.start()
        environment.upgrade("head", "retry_cap=50ms", "old_transaction=1h")
        thread.join()
    acquired = told.facts(events.LOCK_ACQUIRED)[-1]
    assert acquired["seconds"] > 0.5
    assert acquired["behind"] == {"sessions": 0, "longest": 0.0, "together": 0.0}


def test_the_end_of_all_attempts(environment: Environment, shop: Database, told: Told) -> None:
    with reader(shop) as busy:
        for settings in (["old_transaction=0"], ["old_transaction=1h", "retry_cap=50ms"]):
            with pytest.raises(LockNotAcquired):
                environment.upgrade("head", "lock_deadline=500ms", *settings)
        busy.execute("COMMIT")
    for given_up in told.facts(events.GIVEN_UP):
        assert (given_up["revision"], given_up["tables"]) == ("r2", ["orders"])
        assert given_up["seconds"] > 0
        assert [blocker["application"] for blocker in given_up["blockers"]] == ["nightly report"]
    assert len(told.facts(events.GIVEN_UP)) == 2


def test_without_a_wait_nothing_is_told(environment: Environment, told: Told) -> None:
    environment.upgrade("head")
    assert not [record for record in told.records if hasattr(record, "alembic_safe")]


# How many waited behind.


def test_who_waited_behind_is_told_also_where_that_did_not_end_the_wait(shop: Database) -> None:
    engine = sa.create_engine(shop.url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, reader(shop) as busy:
        supervision = Supervision(Session.of(connection))
        patience = Patience(Settings(), supervision=supervision)
        assert supervision.is_ready()
        generous = Allowance(longest=600.0, together=600.0)
        supervision.begin(generous)

        def behind() -> None:
            wait_for_waiter(shop, "orders")
            with shop.connect() as application:
                application.execute("SELECT FROM orders")

        def cancel() -> None:
            wait_until(
                shop,
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'"
                " AND clock_timestamp() - waitstart > '100ms'",
            )
            shop.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted"
                " AND mode = 'AccessExclusiveLock'"
            )

        threads = [threading.Thread(target=behind), threading.Thread(target=cancel)]
        for thread in threads:
            thread.start()
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql("ALTER TABLE orders ADD note text")
        for thread in threads:
            thread.join()
        busy.execute("COMMIT")
        supervision.end()
        assert not patience.is_busy(caught.value)
        assert "user request; 1 session waited behind it, the first for 0." in (
            patience.reason(caught.value)
        )
        assert patience.damage is not None
        assert patience.damage.facts()["sessions"] == 1
        # The next statement is another one.
        supervision.begin(None)
        assert patience.damage is None
        supervision.close()


def test_who_waited_behind_is_told_where_that_ended_the_wait(
    environment: Environment, shop: Database, told: Told
) -> None:
    with reader(shop) as busy:

        def read() -> None:
            wait_until(
                shop,
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation ="
                " 'orders'::regclass AND clock_timestamp() - waitstart > '300ms'",
            )
            with shop.connect() as application:
                application.execute("SELECT FROM orders")
            busy.execute("COMMIT")

        thread = threading.Thread(target=read)
        thread.start()
        environment.upgrade("head", "retry_cap=50ms", "old_transaction=1h")
        thread.join()
    behind = [each["behind"] for each in told.facts(events.LOCK_NOT_ACQUIRED) if each["behind"]]
    assert any(each["sessions"] == 1 and each["longest"] > 0 for each in behind)


# Queries.


def test_no_query_is_shown_unless_asked_for(
    environment: Environment, shop: Database, told: Told
) -> None:
    for setting, is_shown in (("false", False), ("true", True)):
        told.records.clear()
        with reader(shop) as busy:
            busy.execute("SELECT\n  'of a customer'   AS name, '" + "x" * 200 + "' FROM orders")
            with pytest.raises(LockNotAcquired) as caught:
                environment.upgrade(
                    "head", "lock_deadline=300ms", "old_transaction=0", f"show_queries={setting}"
                )
            busy.execute("COMMIT")
        query = "SELECT 'of a customer' AS name, 'xxxx"
        (waiting, *_) = told.facts(events.WAITING_OUTSIDE)
        assert (query in told.text()) == is_shown
        assert (query in str(caught.value)) == is_shown
        assert ("query" in waiting["blockers"][0]) == is_shown
        if is_shown:
            assert len(waiting["blockers"][0]["query"]) == 100


def test_a_query_that_the_role_may_not_see_is_not_shown(shop: Database) -> None:
    shop.execute("CREATE ROLE onlooker")
    engine = sa.create_engine(shop.url(), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection, reader(shop) as busy:
            connection.exec_driver_sql("SET ROLE onlooker")
            (found,) = blockers(connection, ALTER, with_queries=True)
            busy.execute("COMMIT")
    finally:
        shop.execute("DROP ROLE onlooker")
    assert found.query == ""
    assert "privilege" not in str(found)


# Other events.


def test_one_that_is_ended(environment: Environment, shop: Database, told: Told) -> None:
    session = shop.connect()
    session.execute("BEGIN; LOCK TABLE orders")
    environment.upgrade("head", "end_blockers=transaction > 1s")
    session.close()
    (ended,) = told.facts(events.BLOCKER_ENDED)
    assert (ended["revision"], ended["rule"]) == ("r2", "transaction > 1s")
    assert ended["blocker"]["mode"] == "AccessExclusiveLock"


def test_a_statement_that_takes_long(shop: Database, told: Told) -> None:
    engine = sa.create_engine(shop.url(), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, engine.connect() as second, reader(shop) as busy:
        pid = Session.of(connection).pid
        build = "CREATE INDEX CONCURRENTLY i ON orders (id)"
        building = threading.Thread(target=connection.exec_driver_sql, args=(build,))
        with shop.connect() as snapshot:
            snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM orders")
            building.start()
            wait_until(
                shop,
                "SELECT count(*) > 0 FROM pg_stat_progress_create_index AS p"
                " WHERE cardinality(pg_blocking_pids(p.pid)) > 0",
            )
            progress = Progress("r2")
            for _ in range(10):
                progress.look(second, pid)
            snapshot.execute("COMMIT")
        busy.execute("COMMIT")
        building.join()
    (fact,) = told.facts(events.PROGRESS)
    assert (fact["revision"], fact["relation"]) == ("r2", "orders")
    assert fact["command"] == "CREATE INDEX CONCURRENTLY"
    assert "pid" in fact["waits_for"]


def test_a_contract_revision_that_is_held(environment: Environment, told: Told) -> None:
    source = _REVISION.format(revision="c1", after=None, upgrade="pass")
    marks = 'phase = "contract"\ntransactional = False\ncompletes = "r2"\n'
    (environment.folder / "contracts").mkdir()
    (environment.folder / "contracts" / "c1.py").write_text(source + marks)
    environment.upgrade("head")
    (held,) = told.facts(events.CONTRACT_HELD)
    assert held["revision"] == "c1"
    assert held["reason"]


def test_each_event_is_documented() -> None:
    names = {
        value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)
    }
    page = DOCUMENTED.read_text()
    assert {name for name in names if f"| `{name}` |" not in page} == set()
