"""Two columns with one meaning: whatever a release writes, both columns say it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import psycopg
import pytest
from conftest import Database
from direct import run

from alembic_safe.operations import BackfillOp, CreateSyncTriggerOp, DropSyncTriggerOp
from alembic_safe.settings import Settings

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, full_name text, display_name text, other int DEFAULT 0);
"""
UP = CreateSyncTriggerOp("t", "full_name", "display_name")
"""As in the expand revision: the old column has the data."""
DOWN = CreateSyncTriggerOp("t", "display_name", "full_name")
"""As in the downgrade of the contract revision: the new column has the data."""

both_directions = pytest.mark.parametrize("step", [UP, DOWN], ids=["up", "down"])


def _rows(database: Database, columns: str = "full_name, display_name") -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM t ORDER BY id")


# What each release writes

# Both releases write in both directions, so that the names of the columns are those of the
# releases: `full_name` is what the old one knows, `display_name` what the new one knows.

INSERTS = [
    ("INSERT INTO t (id, full_name) VALUES (1, 'o')", ("o", "o")),
    ("INSERT INTO t (id, display_name) VALUES (2, 'n')", ("n", "n")),
    ("INSERT INTO t (id) VALUES (3)", (None, None)),
    ("INSERT INTO t (id, full_name) VALUES (4, NULL)", (None, None)),
    ("INSERT INTO t (id, display_name) VALUES (5, NULL)", (None, None)),
    ("INSERT INTO t (id, full_name) VALUES (6, '')", ("", "")),
    ("INSERT INTO t (id, full_name) SELECT 7, 'select'", ("select", "select")),
]

UPDATES = [
    ("UPDATE t SET full_name = 'o' WHERE id = {id}", ("o", "o")),
    ("UPDATE t SET display_name = 'n' WHERE id = {id}", ("n", "n")),
    ("UPDATE t SET full_name = NULL WHERE id = {id}", (None, None)),
    ("UPDATE t SET display_name = NULL WHERE id = {id}", (None, None)),
    ("UPDATE t SET full_name = full_name, other = 1 WHERE id = {id}", ("x", "x")),
    ("UPDATE t SET display_name = display_name, other = 1 WHERE id = {id}", ("x", "x")),
    ("UPDATE t SET full_name = full_name || '1' WHERE id = {id}", ("x1", "x1")),
    ("UPDATE t SET other = 1 WHERE id = {id}", ("x", "x")),
    (
        "INSERT INTO t (id, full_name) VALUES ({id}, 'o')"
        " ON CONFLICT (id) DO UPDATE SET full_name = excluded.full_name",
        ("o", "o"),
    ),
    (
        "INSERT INTO t (id, display_name) VALUES ({id}, 'n')"
        " ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name",
        ("n", "n"),
    ),
    (
        "INSERT INTO t (id, full_name) VALUES ({id}, 'o') ON CONFLICT (id) DO UPDATE SET other = 2",
        ("x", "x"),
    ),
    ("INSERT INTO t (id, full_name) VALUES ({id}, 'o') ON CONFLICT DO NOTHING", ("x", "x")),
]


@both_directions
def test_an_insert_of_either_release_fills_both_columns(
    database: Database, step: CreateSyncTriggerOp
) -> None:
    database.execute(TABLE)
    run(database, step)
    for sql, _ in INSERTS:
        database.execute(sql)
    statement = "COPY t (id, full_name) FROM STDIN"
    with database.connect() as connection, connection.cursor().copy(statement) as copy:
        copy.write("8\tcopied\n")
    assert _rows(database) == [expected for _, expected in INSERTS] + [("copied", "copied")]


@both_directions
def test_an_update_of_either_release_reaches_the_other_column(
    database: Database, step: CreateSyncTriggerOp
) -> None:
    database.execute(TABLE)
    run(database, step)
    for place, (sql, expected) in enumerate(UPDATES):
        database.execute(f"INSERT INTO t (id, full_name) VALUES ({place}, 'x')")
        database.execute(sql.format(id=place))
        assert _rows(database)[place] == expected, sql


@both_directions
def test_a_release_that_writes_both_columns_is_heard_by_the_one_that_is_being_filled(
    database: Database, step: CreateSyncTriggerOp
) -> None:
    database.execute(TABLE)
    run(database, step)
    database.execute(f"INSERT INTO t (id, {step.source}, {step.target}) VALUES (1, 's', 't')")
    database.execute(f"INSERT INTO t (id, {step.source}) VALUES (2, 'x')")
    database.execute(f"UPDATE t SET {step.source} = 's', {step.target} = 't' WHERE id = 2")
    assert _rows(database) == [("t", "t"), ("t", "t")]


@both_directions
def test_what_was_written_is_what_the_statement_returns(
    database: Database, step: CreateSyncTriggerOp
) -> None:
    database.execute(TABLE)
    run(database, step)
    insert = "INSERT INTO t (id, display_name) VALUES (1, 'n') RETURNING full_name, display_name"
    assert database.execute(insert) == [("n", "n")]
    update = "UPDATE t SET full_name = 'o' RETURNING full_name, display_name"
    assert database.execute(update) == [("o", "o")]
    delete = "DELETE FROM t WHERE display_name = 'o' RETURNING full_name"
    assert database.execute(delete) == [("o",)]
    assert _rows(database) == []


def test_merge_is_kept_equal_too(database: Database) -> None:
    if database.server.version < 15:
        pytest.skip("PostgreSQL 15 brought MERGE")
    database.execute(TABLE)
    run(database, UP)
    merge = (
        "MERGE INTO t USING (VALUES (1, 'o'), (2, 'p')) AS s (id, name) ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET full_name = s.name"
        " WHEN NOT MATCHED THEN INSERT (id, display_name) VALUES (s.id, s.name)"
    )
    database.execute("INSERT INTO t (id, full_name) VALUES (1, 'x')")
    database.execute(merge)
    assert _rows(database) == [("o", "o"), ("p", "p")]


# Rows that were there before


@both_directions
def test_a_row_that_was_never_filled_heals_with_any_update(
    database: Database, step: CreateSyncTriggerOp
) -> None:
    database.execute(TABLE)
    database.execute(
        f"INSERT INTO t (id, {step.source}) SELECT i, 'x' FROM generate_series(1, 5) i"
    )
    run(database, step)
    database.execute("UPDATE t SET other = 1 WHERE id = 1")
    database.execute(f"UPDATE t SET {step.source} = {step.source} WHERE id = 2")
    database.execute(f"UPDATE t SET {step.target} = NULL WHERE id = 3")
    database.execute(f"UPDATE t SET {step.target} = 'new' WHERE id = 4")
    rows = _rows(database, f"{step.source}, {step.target}")
    assert rows == [("x", "x"), ("x", "x"), ("x", "x"), ("new", "new"), ("x", None)]


def test_an_update_that_leaves_both_equal_does_not_call_the_function(database: Database) -> None:
    database.execute(TABLE)
    run(database, UP)
    database.execute("INSERT INTO t (id, full_name) VALUES (1, 'x')")

    def calls(*statements: str) -> int:
        with database.connect() as connection, connection.transaction():
            connection.execute("SET LOCAL track_functions = 'all'")
            for sql in statements:
                connection.execute(sql.encode())
            counted = "SELECT coalesce(sum(calls), 0)::int FROM pg_stat_xact_user_functions"
            return int(connection.execute(counted.encode()).fetchall()[0][0])

    assert calls("UPDATE t SET other = other + 1") == 0
    assert calls("UPDATE t SET full_name = full_name, other = 7") == 0
    assert calls("UPDATE t SET full_name = 'y', display_name = 'y'") == 0
    assert calls("INSERT INTO t (id) VALUES (2)") == 0
    assert calls("UPDATE t SET full_name = 'z' WHERE id = 1") == 1
    assert calls("INSERT INTO t (id, full_name) VALUES (3, 'x')") == 1


# Columns as they are found


def test_the_default_of_the_old_column_reaches_the_new_one_and_never_hides_it(
    database: Database,
) -> None:
    database.execute(TABLE + "ALTER TABLE t ALTER full_name SET DEFAULT 'nobody'")
    run(database, UP)
    database.execute("INSERT INTO t (id) VALUES (1)")
    database.execute("INSERT INTO t (id, display_name) VALUES (2, 'n')")
    database.execute("INSERT INTO t (id, full_name) VALUES (3, 'o')")
    database.execute("INSERT INTO t (id, full_name) VALUES (4, NULL)")
    assert _rows(database) == [("nobody", "nobody"), ("n", "n"), ("o", "o"), (None, None)]


def test_the_new_release_need_not_write_an_old_column_that_is_not_null(database: Database) -> None:
    database.execute(TABLE + "ALTER TABLE t ALTER full_name SET NOT NULL")
    run(database, UP)
    database.execute("INSERT INTO t (id, display_name) VALUES (1, 'n')")
    assert _rows(database) == [("n", "n")]
    with pytest.raises(psycopg.errors.NotNullViolation):
        database.execute("UPDATE t SET display_name = NULL")


TYPES = {
    "text": ("x", "y"),
    "varchar(5)": ("x", "x "),
    "char(5)": ("x", "y"),
    "int": ("1", "2"),
    "boolean": ("true", "false"),
    "numeric": ("1.0", "1.00"),
    "numeric(12, 2)": ("1", "2"),
    "double precision": ("0", "-0"),
    "date": ("2024-01-01", "infinity"),
    "timestamptz": ("2024-01-01 00:00+00", "2024-01-02 00:00+00"),
    "interval": ("24:00:00", "1 day"),
    "bytea": ("\\x00", "\\x0000"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "10000000-0000-0000-0000-000000000000"),
    "json": ('{"a": 1}', '{"a":  1}'),
    "jsonb": ('{"a": 1}', '{"a": 1.0}'),
    "jsonb[]": ("{}", '{"{}"}'),
    "point": ("(1,2)", "(1,3)"),
    "polygon": ("((0,0),(1,1))", "((1,1),(0,0))"),
    "int4range": ("[1,2)", "empty"),
    "tsvector": ("'a'", "'b'"),
    "inet": ("10.0.0.1", "10.0.0.1/8"),
    "text[]": ("{}", "{NULL}"),
    "mood": ("sad", "happy"),
    "pair": ("(1,x)", "(,)"),
    "positive": ("1", "2"),
}
"""For each type two values, where there are such: equal by the type's own equality, and yet not
the same to a client."""


def test_every_type_is_kept_the_same_to_the_last_byte(database: Database) -> None:
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (i int, t text);"
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)"
    )
    for type_sql, (first, second) in TYPES.items():
        _check_type(database, type_sql, first, second)


def test_a_change_of_case_is_a_change_even_where_the_type_ignores_it(database: Database) -> None:
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'"
    if database.execute(available) == [(0,)]:
        pytest.skip("this server was built without citext")
    database.execute("CREATE EXTENSION citext")
    _check_type(database, "citext", "Anna", "ANNA")


def _check_type(database: Database, type_sql: str, first: str, second: str) -> None:
    database.execute(
        f"DROP TABLE IF EXISTS v; CREATE TABLE v (id int, a {type_sql}, b {type_sql});"
        f"INSERT INTO v (id) VALUES (0)"
    )
    run(database, CreateSyncTriggerOp("v", "a", "b"))
    with database.connect() as connection:
        for column in ("a", "b"):
            for value in (first, second, first, None, second):
                update = f"UPDATE v SET {column} = %s::{type_sql}"
                connection.execute(update.encode(), [value])
                found = connection.execute("SELECT a::text, b::text FROM v").fetchone()
                plain = f"SELECT (%s::{type_sql})::text"
                expected = connection.execute(plain.encode(), [value]).fetchone()
                assert expected is not None
                assert found == (expected[0], expected[0]), (type_sql, column, value)
    run(database, DropSyncTriggerOp("v", "a", "b"))


# All at once


def test_writers_of_both_releases_beside_a_backfill_never_leave_a_row_that_differs(
    database: Database,
) -> None:
    database.execute(TABLE)
    database.execute(
        "INSERT INTO t (id, full_name) SELECT i, 'f' || i FROM generate_series(1, 2000) i"
    )
    run(database, UP)

    def write(seed: int, column: str) -> None:
        random = Random(seed)
        with database.connect() as connection:
            for number in range(300):
                key, value = random.randint(1, 2500), random.choice([None, f"{seed}.{number}"])
                kind = random.choice(["insert", "update", "upsert", "delete", "other"])
                insert = f"INSERT INTO t (id, {column}) VALUES (%s, %s) ON CONFLICT"
                sql = {
                    "insert": f"{insert} DO NOTHING",
                    "update": f"UPDATE t SET {column} = %s WHERE id = %s",
                    "upsert": f"{insert} (id) DO UPDATE SET {column} = excluded.{column}",
                    "delete": "DELETE FROM t WHERE id = %s AND %s::text IS NULL",
                    "other": "UPDATE t SET other = other + 1 WHERE id = %s OR id::text = %s",
                }[kind]
                params = [value, key] if kind == "update" else [key, value]
                connection.execute(sql.encode(), params)

    backfill = BackfillOp(
        "t", {"display_name": "full_name"}, "display_name IS NULL AND full_name IS NOT NULL"
    )
    with ThreadPoolExecutor(4) as pool:
        columns = ["full_name", "display_name"] * 2
        writers = [pool.submit(write, seed, column) for seed, column in enumerate(columns)]
        run(database, backfill, settings=Settings(batch_size=50))
        for writer in writers:
            writer.result()
    differing = "SELECT * FROM t WHERE full_name IS DISTINCT FROM display_name"
    assert database.execute(differing) == []
