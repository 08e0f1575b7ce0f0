"""The sync trigger on tables as they are: with other triggers, odd names, partitions, roles; and
how it tells that it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import Database
from direct import operations, run
from schema import catalog_rows, schema_of

from alembic_safe.operations import CreateSyncTriggerOp, DropSyncTriggerOp
from alembic_safe.operations.sync import SyncTrigger
from alembic_safe.postgres.identifiers import QualifiedName, quote

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, full_name text, display_name text, other int DEFAULT 0);
"""
UP = CreateSyncTriggerOp("t", "full_name", "display_name")
"""As in the expand revision: the old column has the data."""
DOWN = CreateSyncTriggerOp("t", "display_name", "full_name")
"""As in the downgrade of the contract revision: the new column has the data."""


def _rows(database: Database, columns: str = "full_name, display_name") -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM t ORDER BY id")


# What else there is on a table


def test_it_sees_what_other_triggers_make_of_a_value(database: Database) -> None:
    database.execute(
        TABLE + "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.full_name := upper(NEW.full_name); RETURN NEW; END $$;"
        "CREATE TRIGGER zz_shout BEFORE INSERT OR UPDATE ON t"
        " FOR EACH ROW EXECUTE FUNCTION shout()"
    )
    run(database, UP)
    database.execute("INSERT INTO t (id, full_name) VALUES (1, 'x')")
    assert _rows(database) == [("X", "X")]
    database.execute("UPDATE t SET full_name = 'y'")
    assert _rows(database) == [("Y", "Y")]


NAMES = {
    "quotes": ('T "1"', 'old "name"', "it's new"),
    "60 bytes": ("t" * 60, "c" * 59 + "1", "c" * 59 + "2"),
    "unicode of 63 bytes": ("ü" * 31 + "t", "é" * 31 + "a", "é" * 31 + "b"),
    "separators": ("a_b", "c_d", "c"),
    "words": ("order", "user", "select"),
    "percent, colon, backslash": ("%s", ":x", "back\\slash"),
    "variables of the function": ("new", "old", "tg_op"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_odd_names_work(database: Database, names: tuple[str, str, str]) -> None:
    table, old, new = names
    schema = table + "s" if len(table) < 60 else table
    qualified = QualifiedName(table, schema).sql
    database.execute(f"CREATE SCHEMA {quote(schema)}")
    database.execute(f"CREATE TABLE {qualified} ({quote(old)} text, {quote(new)} text)")
    before = schema_of(database)
    run(database, CreateSyncTriggerOp(table, old, new, schema))
    made = catalog_rows(database)
    run(database, CreateSyncTriggerOp(table, old, new, schema))
    assert catalog_rows(database) == made

    database.execute(f"INSERT INTO {qualified} ({quote(new)}) VALUES ('n')")
    database.execute(f"INSERT INTO {qualified} ({quote(old)}) VALUES ('o')")
    assert database.execute(f"SELECT * FROM {qualified}") == [("n", "n"), ("o", "o")]

    run(database, DropSyncTriggerOp(table, old, new, schema))
    assert schema_of(database) == before


def test_two_pairs_with_long_names_of_one_table_do_not_meet(database: Database) -> None:
    columns = [f"{'c' * 58}{number}" for number in range(4)]
    database.execute(f"CREATE TABLE t (id int, {', '.join(f'{name} text' for name in columns)})")
    run(database, CreateSyncTriggerOp("t", columns[0], columns[1]))
    run(database, CreateSyncTriggerOp("t", columns[2], columns[3]))
    database.execute(f"INSERT INTO t (id, {columns[0]}, {columns[3]}) VALUES (1, 'a', 'b')")
    assert _rows(database, ", ".join(columns)) == [("a", "a", "b", "b")]
    run(database, DropSyncTriggerOp("t", columns[0], columns[1]))
    database.execute(f"UPDATE t SET {columns[0]} = 'c', {columns[2]} = 'd'")
    assert _rows(database, ", ".join(columns)) == [("c", "a", "d", "d")]


def test_a_partitioned_table_is_kept_equal_and_rows_may_move(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int, full_name text, display_name text) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (full_name);"
        "CREATE TABLE t21 PARTITION OF t2 DEFAULT"
    )
    run(database, UP)
    database.execute("CREATE TABLE t3 PARTITION OF t DEFAULT")
    database.execute("INSERT INTO t (id, full_name) VALUES (1, 'a'), (11, 'b'), (99, 'c')")
    database.execute("INSERT INTO t1 (id, display_name) VALUES (2, 'd')")
    database.execute("UPDATE t SET id = id + 10, full_name = 'moved' WHERE id = 1")
    database.execute("UPDATE t SET id = 3, display_name = 'back' WHERE id = 99")
    assert database.execute("SELECT * FROM t ORDER BY full_name") == [
        (11, "b", "b"),
        (3, "back", "back"),
        (2, "d", "d"),
        (11, "moved", "moved"),
    ]
    run(database, DropSyncTriggerOp("t", "full_name", "display_name"))
    assert database.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]


# Sessions and roles


def test_a_table_on_another_search_path_is_found_and_works_from_any(database: Database) -> None:
    database.execute(f"CREATE SCHEMA app; CREATE SCHEMA other; SET search_path = app; {TABLE}")
    for path in ("app, other", "other, app"):
        with operations(database, search_path=path) as op:
            op.invoke(UP)
            op.invoke(DOWN)
        for session in ("app", "other", "public", "''"):
            with database.connect() as connection:
                connection.execute(f"SET search_path = {session}".encode())
                connection.execute("TRUNCATE app.t")
                connection.execute("INSERT INTO app.t (id, display_name) VALUES (1, 'n')")
                found = connection.execute("SELECT full_name, display_name FROM app.t")
                assert found.fetchall() == [("n", "n")]
        with operations(database, search_path=path) as op:
            op.invoke(DropSyncTriggerOp("t", "full_name", "display_name"))
        assert database.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]


def test_objects_of_the_session_that_hide_the_servers_own_do_not_matter(
    database: Database,
) -> None:
    database.execute(TABLE)
    database.execute(
        "CREATE SCHEMA evil; CREATE FUNCTION evil.record_image_ne(record, record) RETURNS bool"
        " LANGUAGE plpgsql AS 'BEGIN RETURN false; END'"
    )
    path = "evil, public, pg_catalog"
    with operations(database, search_path=path) as op:
        op.invoke(CreateSyncTriggerOp("t", "full_name", "display_name", "public"))
    with database.connect() as connection:
        connection.execute(f"SET search_path = {path}".encode())
        connection.execute("INSERT INTO t (id, full_name) VALUES (1, 'x')")
        connection.execute("UPDATE t SET full_name = 'y'")
        exists = connection.execute(f"SELECT {UP.trigger.exists()}".encode())
        assert exists.fetchone() == (True,)
    assert _rows(database) == [("y", "y")]


def test_a_role_that_may_write_one_column_only_can_go_on(database: Database) -> None:
    role = quote(f"writer of {database.name}")
    database.execute(f"ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; {TABLE}")
    database.execute(f"CREATE ROLE {role}; GRANT SELECT (id) ON t TO {role}")
    try:
        database.execute(f"GRANT INSERT (id, full_name), UPDATE (full_name) ON t TO {role}")
        run(database, UP)
        with database.connect() as connection:
            connection.execute(f"SET ROLE {role}".encode())
            connection.execute("INSERT INTO t (id, full_name) VALUES (1, 'x')")
            connection.execute("UPDATE t SET full_name = 'y' WHERE id = 1")
        assert _rows(database) == [("y", "y")]
    finally:
        database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


# Both directions, one after the other


def test_the_way_back_turns_the_trigger_round(database: Database) -> None:
    database.execute(TABLE)
    run(database, UP)
    run(database, DOWN)
    assert database.execute("SELECT count(*) FROM pg_trigger") == [(2,)]
    database.execute("INSERT INTO t (id, full_name, display_name) VALUES (1, 'o', 'n')")
    assert _rows(database) == [("o", "o")]
    assert not _exists(database, UP.trigger)
    assert _exists(database, DOWN.trigger)


DAMAGES = {
    "one is disabled": "ALTER TABLE t DISABLE TRIGGER {insert}",
    "all are disabled": "ALTER TABLE t DISABLE TRIGGER USER",
    "one is for replicas only": "ALTER TABLE t ENABLE REPLICA TRIGGER {update}",
    "INSERT is gone": "DROP TRIGGER {insert} ON t",
    "UPDATE is gone": "DROP TRIGGER {update} ON t",
    "the function is gone": "DROP FUNCTION {function} CASCADE",
    "the function does another thing": "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger"
    " LANGUAGE plpgsql SET search_path = pg_catalog AS 'BEGIN RETURN NEW; END'",
    "the function follows the session": "ALTER FUNCTION {function}() RESET ALL",
    "another condition": "DROP TRIGGER {update} ON t; CREATE TRIGGER {update} BEFORE UPDATE ON t"
    " FOR EACH ROW WHEN (false) EXECUTE FUNCTION {function}()",
    "one column only": "DROP TRIGGER {update} ON t; CREATE TRIGGER {update} BEFORE UPDATE OF other"
    " ON t FOR EACH ROW {when} EXECUTE FUNCTION {function}()",
    "too late": "DROP TRIGGER {update} ON t; CREATE TRIGGER {update} AFTER UPDATE ON t"
    " FOR EACH ROW {when} EXECUTE FUNCTION {function}()",
    "another event": "DROP TRIGGER {update} ON t; CREATE TRIGGER {update} BEFORE INSERT ON t"
    " FOR EACH ROW {when} EXECUTE FUNCTION {function}()",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_trigger_that_somebody_changed_does_not_count_and_is_made_anew(
    database: Database, damage: str
) -> None:
    database.execute(TABLE)
    run(database, UP)
    wanted = schema_of(database)
    assert _exists(database, UP.trigger)
    trigger = UP.trigger
    names = {
        "insert": quote(trigger.trigger_name("INSERT")),
        "update": quote(trigger.trigger_name("UPDATE")),
        "function": trigger.function.sql,
        "when": "WHEN (pg_catalog.record_image_ne(ROW(NEW.full_name), ROW(NEW.display_name)))",
    }
    database.execute(damage.format(**names))
    assert not _exists(database, trigger)
    run(database, UP)
    assert schema_of(database) == wanted
    assert _exists(database, trigger)


def test_a_trigger_that_is_disabled_on_one_partition_does_not_count(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int, full_name text, display_name text) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t DEFAULT"
    )
    run(database, UP)
    assert _exists(database, UP.trigger)
    database.execute("ALTER TABLE t1 DISABLE TRIGGER ALL")
    assert not _exists(database, UP.trigger)
    run(database, UP)
    assert _exists(database, UP.trigger)


def _exists(database: Database, trigger: SyncTrigger) -> bool:
    return bool(database.execute(f"SELECT {trigger.exists()}")[0][0])


@pytest.mark.parametrize(
    ("before", "strongest"), [([], "ShareRowExclusiveLock"), ([UP], "AccessExclusiveLock")]
)
def test_reads_go_on_while_the_trigger_is_created_for_the_first_time(
    database: Database, before: Sequence[CreateSyncTriggerOp], strongest: str
) -> None:
    database.execute(TABLE)
    run(database, *before)
    with operations(database) as op:
        op.invoke(DOWN)
        modes = op.get_bind().exec_driver_sql(
            "SELECT mode FROM pg_locks WHERE relation = 't'::regclass AND pid = pg_backend_pid()"
        )
        taken = set(modes.scalars()) - {"AccessShareLock", "RowExclusiveLock"}
    assert strongest in taken
    assert ("AccessExclusiveLock" in taken) is (strongest == "AccessExclusiveLock")
