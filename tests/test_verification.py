"""Nothing is removed before it is proven that nothing would be lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Database
from direct import operations, run, script_of
from psql import ScriptFailed, psql
from schema import catalog_rows
from waiting import wait_until

from alembic_safe.errors import VerificationFailed
from alembic_safe.operations import CreateSyncTriggerOp, DropSyncedColumnOp, VerifySyncOp
from alembic_safe.postgres.identifiers import quote
from alembic_safe.settings import Settings

UP = CreateSyncTriggerOp("t", "full_name", "display_name")
VERIFY = VerifySyncOp(
    "t", "full_name", "display_name", indexes=["ix"], constraints=["ck"], not_null=True
)
DROP = DropSyncedColumnOp("t", "full_name", "display_name")

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, full_name text, display_name text NOT NULL);
CREATE INDEX ix ON t (display_name);
ALTER TABLE t ADD CONSTRAINT ck CHECK (display_name <> 'x');
INSERT INTO t SELECT i, i::text, i::text FROM generate_series(1, 100) AS i;
"""

INSERT, UPDATE = (quote(UP.trigger.trigger_name(event)) for event in ("INSERT", "UPDATE"))
TRIGGER = r"sync trigger of t\.full_name and display_name is missing, disabled or changed"

DAMAGES = {
    "a trigger is disabled": (f"ALTER TABLE t DISABLE TRIGGER {UPDATE}", TRIGGER),
    "all triggers are disabled": ("ALTER TABLE t DISABLE TRIGGER ALL", TRIGGER),
    "a trigger is gone": (f"DROP TRIGGER {INSERT} ON t", TRIGGER),
    "the function is gone": (f"DROP FUNCTION {UP.trigger.function.sql} CASCADE", TRIGGER),
    "the function does another thing": (
        f"CREATE OR REPLACE FUNCTION {UP.trigger.function.sql}() RETURNS trigger"
        " LANGUAGE plpgsql SET search_path = pg_catalog AS 'BEGIN RETURN NEW; END'",
        TRIGGER,
    ),
    "a row differs": (
        "SET session_replication_role = replica; UPDATE t SET full_name = 'other' WHERE id = 7",
        r"t\.full_name and display_name differ in at least one row",
    ),
    "a row lacks the old value": (
        "SET session_replication_role = replica; UPDATE t SET full_name = NULL WHERE id = 7",
        r"t\.full_name and display_name differ in at least one row",
    ),
    "an index is gone": ("DROP INDEX ix", "index ix on t is missing or invalid"),
    "an index is invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix'::regclass",
        "index ix on t is missing or invalid",
    ),
    "the index is on another table": (
        "DROP INDEX ix; CREATE TABLE other (a int); CREATE INDEX ix ON other (a)",
        "index ix on t is missing or invalid",
    ),
    "a constraint is gone": (
        "ALTER TABLE t DROP CONSTRAINT ck",
        "constraint ck on t is missing or not validated",
    ),
    "a constraint is not validated": (
        "ALTER TABLE t DROP CONSTRAINT ck;"
        "ALTER TABLE t ADD CONSTRAINT ck CHECK (display_name <> 'x') NOT VALID",
        "constraint ck on t is missing or not validated",
    ),
    "the column can be NULL": (
        "ALTER TABLE t ALTER display_name DROP NOT NULL",
        "column display_name of t is not NOT NULL",
    ),
}


def _synced(database: Database) -> None:
    database.execute(TABLE)
    run(database, UP)


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES.keys())
def test_it_refuses_and_nothing_is_removed(database: Database, damage: str, problem: str) -> None:
    _synced(database)
    database.execute(damage)
    before = catalog_rows(database)

    with pytest.raises(
        VerificationFailed, match=f"^Revision r1 does not run: .*{problem}"
    ) as caught:
        run(database, VERIFY, DROP)

    assert str(caught.value).endswith("Nothing was removed.")
    with pytest.raises(ScriptFailed, match=problem):
        psql(database, script_of(VERIFY, DROP))
    assert catalog_rows(database) == before


def test_it_refuses_a_not_null_that_is_not_proven(database: Database) -> None:
    if database.server.version < 18:
        pytest.skip("PostgreSQL 18 brought NOT NULL constraints that are not valid")
    _synced(database)
    database.execute(
        "ALTER TABLE t ALTER display_name DROP NOT NULL;"
        "ALTER TABLE t ADD CONSTRAINT nn NOT NULL display_name NOT VALID"
    )
    with pytest.raises(VerificationFailed, match="column display_name of t is not NOT NULL"):
        run(database, VERIFY)


def test_the_error_shows_how_to_find_the_rows_that_differ(database: Database) -> None:
    _synced(database)
    database.execute(DAMAGES["a row differs"][0])
    with pytest.raises(VerificationFailed) as caught:
        run(database, VERIFY)
    _, _, rest = str(caught.value).partition("Find them with ")
    query, _, _ = rest.partition(";")
    assert [row[0] for row in database.execute(query)] == [7]


@pytest.mark.parametrize(
    "trigger",
    [UP, CreateSyncTriggerOp("t", "display_name", "full_name")],
    ids=["as it was expanded", "after a downgrade and back"],
)
def test_it_passes_where_nothing_is_wrong(database: Database, trigger: CreateSyncTriggerOp) -> None:
    _synced(database)
    run(database, trigger)
    run(database, VERIFY, DROP)
    assert database.execute("SELECT * FROM t WHERE id = 7") == [(7, "7")]
    assert database.execute("SELECT count(*) FROM pg_trigger") == [(0,)]
    assert database.execute("SELECT count(*) FROM pg_proc WHERE proname ~ 'alembic'") == [(0,)]


def test_the_script_passes_where_nothing_is_wrong(database: Database) -> None:
    _synced(database)
    psql(database, script_of(VERIFY, DROP))
    assert database.execute("SELECT * FROM t WHERE id = 7") == [(7, "7")]


def test_what_is_not_asked_for_is_not_checked(database: Database) -> None:
    _synced(database)
    database.execute(
        "DROP INDEX ix; ALTER TABLE t DROP CONSTRAINT ck; ALTER TABLE t ALTER display_name"
        " DROP NOT NULL"
    )
    run(database, VerifySyncOp("t", "full_name", "display_name"))


def test_there_is_nothing_to_verify_once_the_source_is_gone(database: Database) -> None:
    """The run was killed behind the drop and before the revision was marked as applied."""
    _synced(database)
    database.execute("DROP INDEX ix")
    run(database, DROP)
    run(database, VERIFY, DROP)
    psql(database, script_of(VERIFY))


def test_writers_and_it_do_not_wait_for_each_other(database: Database) -> None:
    _synced(database)
    with database.connect() as application:
        application.execute("BEGIN; UPDATE t SET full_name = 'changed' WHERE id = 1")
        run(database, VERIFY, settings=Settings(lock_timeout=0.05, lock_deadline=0.1))
        application.execute("COMMIT")


def test_no_timeout_of_the_role_ends_it(database: Database) -> None:
    _synced(database)
    settings = Settings(lock_timeout=60, retry_base=0.01, retry_cap=0.01)

    def verify() -> None:
        with operations(database, settings=settings) as op, op.get_context().autocommit_block():
            op.get_bind().exec_driver_sql("SET statement_timeout = '100ms'")
            op.invoke(VERIFY)

    waits = (
        "SELECT now() - query_start > '300ms' FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'relation'"
    )
    with ThreadPoolExecutor(1) as pool, database.connect() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        verification = pool.submit(verify)
        wait_until(database, waits)
    verification.result()


@pytest.mark.parametrize("values", ["(1, NULL::json, NULL::json)", "(1, '{}'::json, '{}'::json)"])
def test_a_type_without_an_equality_is_compared_too(database: Database, values: str) -> None:
    database.execute(f"CREATE TABLE j AS SELECT * FROM (VALUES {values}) AS v (id, a, b)")
    run(database, CreateSyncTriggerOp("j", "a", "b"))
    run(database, VerifySyncOp("j", "a", "b"))
    database.execute("SET session_replication_role = replica; UPDATE j SET b = '{ }'")
    with pytest.raises(VerificationFailed, match="differ in at least one row"):
        run(database, VerifySyncOp("j", "a", "b"))


def test_every_partition_is_compared(database: Database) -> None:
    database.execute(
        "CREATE TABLE p (id int, a text, b text) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p DEFAULT"
    )
    run(database, CreateSyncTriggerOp("p", "a", "b"))
    database.execute("INSERT INTO p (id, a) VALUES (1, 'x'), (11, 'y')")
    run(database, VerifySyncOp("p", "a", "b"))
    database.execute("SET session_replication_role = replica; UPDATE p2 SET a = 'z'")
    with pytest.raises(VerificationFailed, match="differ in at least one row"):
        run(database, VerifySyncOp("p", "a", "b"))


def test_odd_names_are_verified(database: Database) -> None:
    odd = 'Full "Name" %s :x it\'s'
    database.execute(f"CREATE SCHEMA {quote(odd)}")
    table = f"{quote(odd)}.{quote(odd)}"
    database.execute(f"CREATE TABLE {table} ({quote(odd)} text, b text)")
    database.execute(f"CREATE INDEX {quote(odd + '!')} ON {table} (b)")
    run(database, CreateSyncTriggerOp(odd, odd, "b", odd))
    database.execute(f"INSERT INTO {table} (b) VALUES ('100%')")
    run(database, VerifySyncOp(odd, odd, "b", [odd + "!"], schema=odd))
    database.execute(f"DROP INDEX {quote(odd)}.{quote(odd + '!')}")
    with pytest.raises(VerificationFailed, match="is missing or invalid"):
        run(database, VerifySyncOp(odd, odd, "b", [odd + "!"], schema=odd))
