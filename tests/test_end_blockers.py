"""Who is in the way is ended where a rule of the user says so, and nobody else ever is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from environments import use_driver
from guarded import DRIVERS, on_connection
from hand_written import write_history
from patience import reader
from project import Project
from waiting import wait_until

from alembic_safe.end_rules import EndRule, parse_end_rules
from alembic_safe.errors import SettingError
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime.blockers import (
    AUTOVACUUM,
    CLIENT,
    MIGRATION,
    PREPARED,
    WRAPAROUND,
    Blocker,
    blockers,
)
from alembic_safe.runtime.ending import Ending, rule_for
from alembic_safe.runtime.ledger import Ledger
from alembic_safe.runtime.sessions import one_upgrade_at_a_time
from alembic_safe.settings import Settings, load_settings

ORDERS = QualifiedName("orders")
ALTER = {ORDERS: LockMode.ACCESS_EXCLUSIVE}

# What a rule says.


@pytest.mark.parametrize(
    "text",
    [
        "idle in transaction > 5min",
        "idle in transaction>300",
        "  active   > 1h and application = nightly report ",
        "active > 1h and application = report* and user != etl",
        "transaction > 2d and user = app",
        "autovacuum > 30s",
    ],
)
def test_a_rule_is_a_state_an_age_and_names(text: str) -> None:
    (rule,) = parse_end_rules(text)
    assert rule.text == " ".join(text.split())


def test_several_are_separated_by_commas_or_are_a_list() -> None:
    two = ["active > 1h", "idle in transaction > 5min"]
    rules = parse_end_rules(two)
    assert parse_end_rules(", ".join(two)) == rules
    assert [rule.seconds for rule in rules] == [3600.0, 300.0]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "'idle in transaction > 5min'"),
        ("idle > 5min", "one of idle in transaction, active, transaction, autovacuum"),
        ("idle in transaction", "one of idle"),
        ("idle in transaction > soon", "behind > give seconds"),
        ("idle in transaction > 5 min application = x", "behind > give seconds"),
        ("idle in transaction > 5ms", "at least 1s"),
        ("active > 1h and app = x", "'app = x' is no condition"),
        ("active > 1h and application =", "is no condition"),
        ("autovacuum > 1h and user = x", "neither application nor user"),
        (["active > 1h", ""], "'idle in transaction > 5min'"),
        ([5], "give texts"),
        (True, "give texts"),
    ],
)
def test_what_is_no_rule_is_refused_and_the_error_says_why(value: Any, told: str) -> None:
    with pytest.raises(SettingError) as caught:
        load_settings(keywords={"end_blockers": value}, x_arguments={}, environment={})
    assert "'end_blockers' from alembic_safe.configure()" in str(caught.value)
    assert told in str(caught.value)


# Whom it means: arithmetic.

IDLE = Blocker(
    CLIENT, "3/7", 4711, "nightly report", "app", "idle in transaction", 400.0, "RowShareLock", "t",
    state_seconds=350.0,
)  # fmt: skip
ACTIVE = replace(IDLE, state="active")
VACUUM = replace(IDLE, kind=AUTOVACUUM, application="", user="", state="active")


@pytest.mark.parametrize(
    ("rule", "blocker", "is_meant"),
    [
        ("idle in transaction > 5min", IDLE, True),
        ("idle in transaction > 5min", replace(IDLE, state="idle in transaction (aborted)"), True),
        ("idle in transaction > 5min", ACTIVE, False),
        # What counts is for how long it has been idle.
        ("idle in transaction > 6min", IDLE, False),
        ("transaction > 6min", IDLE, True),
        ("transaction > 6min", replace(ACTIVE, state_seconds=0.0), True),
        ("transaction > 7min", IDLE, False),
        ("active > 5min", ACTIVE, True),
        ("active > 5min", IDLE, False),
        ("active > 6min", ACTIVE, False),
        ("active > 5min", VACUUM, False),
        ("transaction > 5min", VACUUM, False),
        ("autovacuum > 5min", VACUUM, True),
        ("autovacuum > 7min", VACUUM, False),
        ("autovacuum > 5min", IDLE, False),
        ("transaction > 5min and application = nightly*", IDLE, True),
        ("transaction > 5min and application = nightly", IDLE, False),
        ("transaction > 5min and application = *report", IDLE, True),
        ("transaction > 5min and application = n.*", IDLE, False),
        ("transaction > 5min and application != psql", IDLE, True),
        ("transaction > 5min and application = * and user != app", IDLE, False),
        ("transaction > 5min and user = app", IDLE, True),
    ],
)
def test_a_rule_means_who_is_so_for_so_long(rule: str, blocker: Blocker, is_meant: bool) -> None:
    assert (rule_for(blocker, parse_end_rules(rule)) is not None) == is_meant


@pytest.mark.parametrize(
    "blocker",
    [
        replace(VACUUM, kind=WRAPAROUND),
        replace(IDLE, kind=PREPARED, pid=None),
        replace(IDLE, kind="walsender"),
        replace(IDLE, kind=MIGRATION),
        replace(ACTIVE, kind="parallel worker"),
        replace(ACTIVE, kind="logical replication worker"),
        # This role may not see it.
        replace(IDLE, state="", seconds=None, state_seconds=None),
        replace(IDLE, seconds=None, state_seconds=None),
        replace(VACUUM, seconds=None),
    ],
    ids=lambda blocker: f"{blocker.kind} {blocker.state}",
)
def test_no_rule_means_who_must_not_be_ended(blocker: Blocker) -> None:
    texts = ["idle in transaction > 1s", "active > 1s", "transaction > 1s", "autovacuum > 1s"]
    assert rule_for(blocker, parse_end_rules(texts)) is None


def test_the_first_rule_that_means_it_is_named() -> None:
    rules = parse_end_rules(["active > 1s", "transaction > 5min", "idle in transaction > 1s"])
    found = rule_for(IDLE, rules)
    assert found is not None
    assert found.text == "transaction > 5min"


@pytest.mark.parametrize(
    ("rules", "seconds"),
    [
        (["idle in transaction > 6min"], 10.0),
        (["idle in transaction > 6min", "transaction > 401s"], 1.0),
        (["active > 6min"], inf),
        ([], inf),
    ],
)
def test_it_is_known_when_a_rule_will_mean_somebody(rules: list[str], seconds: float) -> None:
    ending = Ending(parse_end_rules(rules), Ledger(None))
    assert ending.due_in([IDLE, replace(IDLE, kind="walsender")]) == seconds


def test_by_default_there_is_no_rule() -> None:
    assert Settings().end_blockers == ()


# Real sessions.

NIGHTLY = "SET application_name = 'nightly report'"


def at_once(text: str) -> EndRule:
    """A rule that does not care for how long."""
    (rule,) = parse_end_rules(text)
    return replace(rule, seconds=0.0)


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE orders (id int)")
    return database


@contextmanager
def in_the_way(database: Database, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that holds a lock on `orders`; it may be ended."""
    session = database.connect()
    try:
        for statement in (NIGHTLY, "BEGIN", "LOCK TABLE orders IN ACCESS SHARE MODE", *statements):
            session.execute(statement.encode())
        yield session
    finally:
        session.close()


@contextmanager
def at_work(database: Database) -> Iterator[int]:
    """A session that is executing a query on `orders`; its pid."""
    with in_the_way(database) as session:
        session.pgconn.send_query(b"SELECT pg_sleep(600)")
        pid = session.info.backend_pid
        wait_until(database, f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}")
        yield pid


def is_there(database: Database, pid: int) -> bool:
    return bool(database.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)))


def wait_until_gone(database: Database, pid: int) -> None:
    wait_until(database, f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")


def end(
    database: Database,
    rule: str,
    *,
    driver: str = "psycopg",
    role: str = "postgres",
    meanwhile: Callable[[Blocker], Blocker] = lambda found: found,
) -> list[tuple[Any, ...]]:
    """Look, end, and return what the ledger says of it.

    Args:
        database: where.
        rule: whatever age it has.
        driver: of the migration's connection.
        role: of the migration.
        meanwhile: what happens between the look and the end, and what was seen.
    """
    ledger = Ledger(None)

    def run(connection: sa.Connection) -> None:
        ledger.create(connection)
        connection.exec_driver_sql("GRANT ALL ON alembic_safe_ledger TO PUBLIC")
        connection.exec_driver_sql(f"SET ROLE {role}")
        connection.commit()
        (found,) = blockers(connection, ALTER)
        connection.rollback()
        Ending([at_once(rule)], ledger, "v1").end(connection, [meanwhile(found)], "r1")
        # What was going on on the connection does not keep it.
        connection.rollback()

    on_connection(database, driver, run)
    return database.execute(
        "SELECT revision, release, command, reason FROM alembic_safe_ledger"
        " WHERE event = 'blocker ended'"
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_who_is_idle_in_a_transaction_is_ended(
    shop: Database, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = "idle in transaction > 1s and user = postgres"
    with in_the_way(shop) as session, caplog.at_level(logging.WARNING, "alembic.safe"):
        pid = session.info.backend_pid
        rows = end(shop, rule, driver=driver)
        wait_until_gone(shop, pid)
    ((revision, release, function, reason),) = rows
    assert (revision, release, function) == ("r1", "v1", "pg_terminate_backend")
    who = f"pid {pid} (nightly report, user postgres, idle in transaction, in its transaction for "
    assert reason.startswith(f"{rule}: {who}")
    assert reason.endswith(" s) holds AccessShareLock on orders")
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith(f"r1: ended by the rule '{rule}' of end_blockers: {who}")


def test_who_has_failed_in_a_transaction_is_ended_too(shop: Database) -> None:
    with in_the_way(shop, "SAVEPOINT s") as session:
        with pytest.raises(psycopg.Error):
            session.execute("SELECT 1 / 0")
        assert len(end(shop, "idle in transaction > 1s")) == 1
        wait_until_gone(shop, session.info.backend_pid)


@pytest.mark.parametrize("rule", ["active > 1s", "transaction > 1s"])
def test_who_works_is_ended_where_a_rule_says_so(shop: Database, rule: str) -> None:
    with at_work(shop) as pid:
        assert len(end(shop, rule)) == 1
        wait_until_gone(shop, pid)


def test_who_works_is_not_idle(shop: Database) -> None:
    with at_work(shop) as pid:
        assert end(shop, "idle in transaction > 1s") == []
        assert is_there(shop, pid)


# Who has moved on between the look and the end.


def test_another_transaction_of_the_same_session_is_not_ended(shop: Database) -> None:
    with in_the_way(shop) as session:

        def again(found: Blocker) -> Blocker:
            session.execute("COMMIT")
            session.execute("BEGIN")
            session.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
            return found

        for rule in ("idle in transaction > 1s", "transaction > 1s"):
            assert end(shop, rule, meanwhile=again) == []
        session.execute("COMMIT")


def test_who_works_again_is_not_ended(shop: Database) -> None:
    with in_the_way(shop) as session:

        def works(found: Blocker) -> Blocker:
            pid = session.info.backend_pid
            session.pgconn.send_query(b"SELECT pg_sleep(600)")
            wait_until(shop, f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}")
            return found

        assert end(shop, "idle in transaction > 1s", meanwhile=works) == []
        assert is_there(shop, session.info.backend_pid)


def test_who_has_worked_meanwhile_is_not_ended(shop: Database) -> None:
    hour = replace(at_once("idle in transaction > 1s"), seconds=3600.0)
    ledger = Ledger(None)

    def run(connection: sa.Connection) -> None:
        ledger.create(connection)
        connection.commit()
        (found,) = blockers(connection, ALTER)
        connection.rollback()
        # As if it had been idle for that long when it was seen.
        seen = replace(found, state_seconds=7200.0)
        assert rule_for(seen, [hour]) is hour
        Ending([hour], ledger).end(connection, [seen], "r1")

    with in_the_way(shop) as session:
        on_connection(shop, "psycopg", run)
        session.execute("COMMIT")


def test_who_has_the_process_number_now_is_not_ended(shop: Database) -> None:
    with shop.connect() as other:
        other.execute(NIGHTLY)
        other.execute("BEGIN")
        with in_the_way(shop):
            assert end(
                shop,
                "transaction > 1s",
                meanwhile=lambda found: replace(found, pid=other.info.backend_pid),
            ) == []  # fmt: skip
        other.execute("COMMIT")


def test_a_transaction_is_tried_once(shop: Database, caplog: pytest.LogCaptureFixture) -> None:
    shop.execute("CREATE ROLE onlooker IN ROLE pg_read_all_stats")
    ending = Ending([at_once("idle in transaction > 1s")], Ledger(None))

    def run(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET ROLE onlooker")
        connection.commit()
        found = blockers(connection, ALTER)
        connection.rollback()
        for _ in range(3):
            ending.end(connection, found, "r1")
        assert ending.rule_for(found[0]) is None

    try:
        with in_the_way(shop) as session, caplog.at_level(logging.WARNING, "alembic.safe"):
            on_connection(shop, "psycopg", run)
            session.execute("COMMIT")
    finally:
        shop.execute("DROP ROLE onlooker")
    (record,) = caplog.records
    assert "the role of this run must not" in record.getMessage()


# Rights.


def plain_url(database: Database, user: str = "postgres") -> str:
    url = sa.make_url(database.url(user=user)).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


@contextmanager
def roles(database: Database, **rights: str) -> Iterator[None]:
    with ExitStack() as stack:
        for name, right in rights.items():
            database.execute(f"CREATE ROLE {name} LOGIN {right}")
            stack.callback(database.execute, f"DROP OWNED BY {name}; DROP ROLE {name}")
        yield


@pytest.mark.parametrize(
    ("right", "user", "is_ended"),
    [
        ("IN ROLE pg_read_all_stats, pg_signal_backend", "app", True),
        ("IN ROLE pg_read_all_stats, pg_signal_backend", "postgres", False),
        ("IN ROLE pg_read_all_stats", "app", False),
        ("IN ROLE pg_signal_backend", "app", False),
    ],
)
@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_what_the_role_may_do_counts(
    shop: Database,
    right: str,
    user: str,
    is_ended: bool,
    driver: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with roles(shop, app="", migrator=right):
        shop.execute("GRANT ALL ON orders TO app")
        with closing(psycopg.connect(plain_url(shop, user), autocommit=True)) as session:
            session.execute("BEGIN")
            session.execute("SELECT FROM orders")
            pid = session.info.backend_pid
            with caplog.at_level(logging.WARNING, "alembic.safe"):
                rows = end(shop, "idle in transaction > 1s", driver=driver, role="migrator")
            assert len(rows) == is_ended
            if is_ended:
                wait_until_gone(shop, pid)
    # Whose age is not to be seen is not even tried.
    is_tried = "pg_read_all_stats" in right
    assert len(caplog.records) == is_tried
    if is_tried and not is_ended:
        assert "the role of this run must not" in caplog.text
        assert "permission denied" in caplog.text or "must be" in caplog.text


# Who is never ended, even if it were taken for another.


def test_a_prepared_transaction_stays(shop: Database) -> None:
    shop.execute("BEGIN; LOCK TABLE orders; PREPARE TRANSACTION 'of a manager'")
    try:
        assert end(shop, "transaction > 1s") == []
        assert len(shop.execute("SELECT FROM pg_prepared_xacts")) == 1
    finally:
        shop.execute("ROLLBACK PREPARED 'of a manager'")


def test_replication_stays(shop: Database) -> None:
    # What copies a table for a subscriber.
    walsender = psycopg.connect(plain_url(shop), replication="database", autocommit=True)
    with closing(walsender):
        walsender.pgconn.exec_(b"BEGIN")
        walsender.pgconn.exec_(b"SELECT count(*) FROM orders")
        pid, rule = walsender.info.backend_pid, "idle in transaction > 1s"
        assert end(shop, rule) == []
        assert end(shop, rule, meanwhile=lambda found: replace(found, kind=CLIENT)) == []
        assert is_there(shop, pid)


def test_another_run_of_this_package_stays(shop: Database) -> None:
    # It has another version table, or it would not run now.
    table = QualifiedName("alembic_version_of_the_other")
    engine = sa.create_engine(shop.url(), poolclass=sa.NullPool)
    with engine.connect() as other, one_upgrade_at_a_time(other, table, 60.0):
        other.exec_driver_sql("LOCK TABLE orders")
        with engine.connect() as connection:
            (found,) = blockers(connection, ALTER)
        assert found.kind == MIGRATION
        assert "an alembic-safe run" in str(found)
        assert end(shop, "transaction > 1s") == []
        other.commit()
    assert shop.execute("SELECT FROM pg_locks WHERE locktype = 'advisory'") == []


@pytest.fixture
def vacuumed(shop: Database) -> Iterator[Database]:
    """An autovacuum of `orders` takes long, and comes soon once it is let."""
    shop.execute("INSERT INTO orders SELECT generate_series(1, 50000)")
    shop.execute(
        "ALTER TABLE orders SET (autovacuum_vacuum_threshold = 0,"
        " autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100,"
        " autovacuum_vacuum_cost_limit = 1, autovacuum_freeze_max_age = 100000)"
    )
    shop.execute("ALTER TABLE orders SET (autovacuum_enabled = off)")
    yield shop
    shop.execute("ALTER SYSTEM RESET autovacuum_naptime")
    shop.execute("SELECT pg_reload_conf()")


def vacuum_of(database: Database) -> int:
    """Let the autovacuum come, and return its process."""
    database.execute("ALTER TABLE orders SET (autovacuum_enabled = on)")
    database.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
    database.execute("SELECT pg_reload_conf()")
    pid = wait_until(
        database,
        "SELECT a.pid FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid"
        " WHERE a.backend_type = 'autovacuum worker' AND a.query LIKE '%VACUUM%orders%'"
        " AND l.relation = 'orders'::regclass AND l.mode = 'ShareUpdateExclusiveLock'",
    )
    return int(pid)


def test_an_autovacuum_is_cancelled_where_a_rule_says_so(vacuumed: Database) -> None:
    vacuumed.execute("DELETE FROM orders WHERE id % 2 = 0")
    vacuum_of(vacuumed)
    assert end(vacuumed, "transaction > 1s") == []
    ((_, _, function, reason),) = end(vacuumed, "autovacuum > 1s")
    assert function == "pg_cancel_backend"
    assert "(autovacuum, user , active" in reason


def test_an_autovacuum_to_prevent_wraparound_stays(vacuumed: Database) -> None:
    # Each block with an exception handler takes a transaction number.
    vacuumed.execute(
        """
        DO $$ BEGIN
            FOR n IN 1..100100 LOOP
                BEGIN INSERT INTO orders VALUES (0); EXCEPTION WHEN OTHERS THEN NULL; END;
            END LOOP;
        END $$
        """
    )
    pid = vacuum_of(vacuumed)
    with sa.create_engine(vacuumed.url(), poolclass=sa.NullPool).connect() as connection:
        assert [found.kind for found in blockers(connection, ALTER)] == [WRAPAROUND]
    assert end(vacuumed, "autovacuum > 1s") == []
    forged = end(
        vacuumed, "autovacuum > 1s", meanwhile=lambda found: replace(found, kind=AUTOVACUUM)
    )
    assert forged == []
    assert is_there(vacuumed, pid)


# An upgrade.

ADD = 'op.execute("ALTER TABLE orders ADD note text")'
RULE = "idle in transaction > 1s and application = nightly*"
RULES = {"ALEMBIC_SAFE_END_BLOCKERS": RULE}
ALONE = ('op.add_column_if_not_exists("orders", "note", "text")', "transactional = False")


@pytest.fixture
def project(alembic_project: Project, shop: Database) -> Project:
    shop.execute("INSERT INTO orders VALUES (1)")
    write_history(alembic_project, "r1")
    write_history(alembic_project, "r2", "r1", upgrade=ADD)
    return alembic_project


def columns(database: Database) -> list[str]:
    found = database.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0"
    )
    return [row[0] for row in found]


def ends(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT revision, reason FROM alembic_safe_ledger WHERE event = 'blocker ended'"
    )


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
@pytest.mark.parametrize("is_alone", [False, True])
def test_the_upgrade_goes_on_and_the_ledger_tells(
    project: Project, shop: Database, driver: str, is_alone: bool
) -> None:
    if is_alone:
        write_history(project, "r2", "r1", upgrade=ALONE[0], marks=ALONE[1])
    use_driver(project, shop.url(driver))
    with in_the_way(shop) as session:
        pid = session.info.backend_pid
        done = project.run("upgrade", "head", env=RULES)
        wait_until_gone(shop, pid)
    assert columns(shop) == ["id", "note"]
    assert f"r2: ended by the rule '{RULE}' of end_blockers: pid" in done.stderr
    ((revision, reason),) = ends(shop)
    assert revision == "r2"
    assert reason.startswith(f"{RULE}: pid {pid} (nightly report, ")


def test_what_the_ledger_tells_outlives_the_revision(project: Project, shop: Database) -> None:
    write_history(project, "r2", "r1", upgrade=f"{ADD}\nraise ValueError('no')")
    with in_the_way(shop):
        failed = project.run("upgrade", "head", env=RULES, check=False)
    assert "ValueError: no" in failed.stdout + failed.stderr
    assert columns(shop) == ["id"]
    assert len(ends(shop)) == 1


def test_without_a_rule_nobody_is_ended(project: Project, shop: Database) -> None:
    env = {"ALEMBIC_SAFE_OLD_TRANSACTION": "0", "ALEMBIC_SAFE_LOCK_DEADLINE": "2s"}
    with reader(shop) as session:
        failed = project.run("upgrade", "head", env=env, check=False)
        assert failed.returncode != 0
        session.execute("COMMIT")
    assert ends(shop) == []


def test_whom_no_rule_means_is_waited_for(project: Project, shop: Database) -> None:
    env = {**RULES, "ALEMBIC_SAFE_OLD_TRANSACTION": "0", "ALEMBIC_SAFE_LOCK_DEADLINE": "2s"}
    with reader(shop) as session:
        session.execute("SET application_name = 'payments'")
        failed = project.run("upgrade", "head", env=env, check=False)
        assert failed.returncode != 0
        session.execute("COMMIT")
    assert ends(shop) == []


def test_a_row_of_the_ledger_about_it_is_no_step(project: Project, shop: Database) -> None:
    with in_the_way(shop):
        project.run("upgrade", "head", env=RULES)
    assert "r2 (head)" in project.run("current").stdout
    project.run("downgrade", "r1")
    assert "r1" in project.run("current").stdout
