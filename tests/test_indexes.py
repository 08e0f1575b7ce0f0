"""Indexes beside running traffic: built once, rebuilt after a failure, never mistaken."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from conftest import Database
from direct import operations, run
from schema import catalog_rows, schema_of
from waiting import wait_until

from alembic_safe.errors import ObjectDiffers, StatementFailed, VerificationFailed
from alembic_safe.operations import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from alembic_safe.postgres.duplicates import Duplicates
from alembic_safe.settings import Settings

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, a text, b text, tags text[]);
INSERT INTO t SELECT i, i::text, 'b' FROM generate_series(1, 100) AS i;
"""
DUPLICATES = "INSERT INTO t VALUES (1001, 'twice'), (1002, 'twice')"
UNIQUE = CreateIndexConcurrentlyOp("ix", "t", ["a"], unique=True)
UNREAD = CreateIndexConcurrentlyOp("ix", "t", unique=True, definition="(a text_pattern_ops)")
"""What it compares as equal is not read from the table before it is built."""
PLAIN = CreateIndexConcurrentlyOp("ix", "t", ["a"])


def _is_valid(database: Database, index: str = "ix") -> bool | None:
    found = database.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [index]
    )
    return bool(found[0][0]) if found else None


# What a failed attempt leaves


def test_duplicates_are_told_with_the_index_and_mended_data_lets_the_same_call_complete(
    database: Database,
) -> None:
    database.execute(TABLE + DUPLICATES)
    with pytest.raises(
        VerificationFailed,
        match=r"r1, index ix on t: 2 rows share 1 value that may be there only once: \(twice\) 2"
        r" times\. Nothing was built\.",
    ):
        run(database, UNIQUE)
    assert _is_valid(database) is None
    database.execute("DELETE FROM t WHERE id = 1002")

    run(database, UNIQUE)

    assert _is_valid(database)
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("INSERT INTO t VALUES (1003, 'twice')")


def test_a_duplicate_that_only_the_build_meets_leaves_no_index_behind(database: Database) -> None:
    """An invalid one may refuse what the application writes."""
    database.execute(TABLE + DUPLICATES)
    with pytest.raises(
        StatementFailed, match=r"r1, index ix on t: .*\(a\)=\(twice\) is duplicated"
    ):
        run(database, UNREAD)
    assert _is_valid(database) is None


COMPARED = {
    "(a)": "4 rows share 2 values that may be there only once: (one) 2 times, (two) 2 times.",
    "USING btree (a DESC NULLS FIRST) INCLUDE (b) WITH (fillfactor='70')": "4 rows share 2 values",
    "(lower(a))": "6 rows share 2 values that may be there only once: (one) 4 times, (two) 2 times",
    "(a, b)": "2 rows share 1 value that may be there only once: (one, x) 2 times.",
    "(a) WHERE id > 2": "2 rows share 1 value that may be there only once: (two) 2 times.",
    '(a COLLATE "C")': "4 rows share 2 values",
    "(id, a)": None,
    "(c)": None,
    "(a) WHERE a <> 'one' AND id < 4": None,
}


@pytest.mark.parametrize("body", COMPARED)
def test_what_is_a_duplicate_is_what_the_index_refuses(database: Database, body: str) -> None:
    database.execute(
        "CREATE TABLE t (id int, a text, b text, c int); INSERT INTO t VALUES (1, 'one', 'x'),"
        " (2, 'one', 'x'), (3, 'two', 'x'), (4, 'two', 'y'), (5, 'One', 'y'), (6, 'ONE', 'y')"
    )
    build = CreateIndexConcurrentlyOp("ix", "t", unique=True, definition=body)
    told = COMPARED[body]
    if told is None:
        run(database, build)
        assert _is_valid(database)
        return
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute(f"CREATE UNIQUE INDEX ON t {body}")
    with pytest.raises(VerificationFailed, match=re.escape(told)):
        run(database, build)


def test_nulls_that_are_not_distinct_are_duplicates(database: Database) -> None:
    if database.server.version < 15:
        pytest.skip("PostgreSQL 15 brought NULLS NOT DISTINCT")
    database.execute("CREATE TABLE t (a int, b int); INSERT INTO t VALUES (1, NULL), (1, NULL)")
    build = CreateIndexConcurrentlyOp(
        "ix", "t", unique=True, definition="(a, b) NULLS NOT DISTINCT"
    )
    with pytest.raises(VerificationFailed, match=r"\(1, NULL\) 2 times"):
        run(database, build)


def test_rows_of_tables_that_inherit_are_no_duplicates(database: Database) -> None:
    database.execute(TABLE + "CREATE TABLE old () INHERITS (t); INSERT INTO old SELECT * FROM t")
    run(database, UNIQUE)
    assert _is_valid(database)


def test_columns_of_two_collations_are_told(database: Database) -> None:
    database.execute(
        'CREATE TABLE t (a text COLLATE "C", b text COLLATE "POSIX");'
        "INSERT INTO t VALUES ('x', 'y'), ('x', 'y')"
    )
    build = CreateIndexConcurrentlyOp("ix", "t", ["a", "b"], unique=True)
    with pytest.raises(VerificationFailed, match=r"\(x, y\) 2 times"):
        run(database, build)


def test_a_look_for_duplicates_that_fails_does_not_stop_the_build(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is there to tell early; the build tells too."""
    database.execute(TABLE)
    monkeypatch.setattr(Duplicates, "query", lambda _: "SELECT 1 / 0")
    run(database, UNIQUE)
    assert _is_valid(database)
    assert "ix on t: its rows could not be looked through for duplicates" in caplog.text
    assert "division by zero" in caplog.text


def test_many_duplicates_are_counted_and_the_first_of_them_shown(database: Database) -> None:
    database.execute(
        TABLE + "INSERT INTO t SELECT i, repeat('x', 99) FROM generate_series(201, 299) i"
    )
    database.execute("UPDATE t SET a = 'v' || id % 40 WHERE id <= 80")
    with pytest.raises(
        VerificationFailed,
        match=r"179 rows share 41 values .*: \(x{60}\) 99 times, \(v0\) 2 times, \(v1\) 2 times,"
        r" \.\.\.\. Nothing",
    ):
        run(database, UNIQUE)


def test_an_invalid_index_is_dropped_and_built_again(database: Database) -> None:
    database.execute(TABLE)
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    database.execute(DUPLICATES)
    with database.connect() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY ix ON t (a)")
    assert _is_valid(database) is False

    run(database, PLAIN)

    assert schema_of(database) == wanted


def test_an_invalid_index_of_another_table_is_left_alone(database: Database) -> None:
    database.execute(TABLE + "CREATE TABLE other (a int); CREATE INDEX ix ON other (a)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix'::regclass")
    before = catalog_rows(database)
    with pytest.raises(ObjectDiffers, match="index ix on t exists already"):
        run(database, PLAIN)
    assert catalog_rows(database) == before


def test_a_build_that_was_cancelled_completes_when_it_is_called_again(database: Database) -> None:
    database.execute(TABLE)
    with _waiting_build(database, PLAIN) as (build, pid):
        database.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(StatementFailed, match="canceling statement due to user request"):
            build.result()
    assert _is_valid(database) is False

    run(database, PLAIN)

    assert _is_valid(database)


# The same name, another definition


OTHERS = [
    "CREATE INDEX ix ON t (b)",
    "CREATE INDEX ix ON t (a, b)",
    "CREATE INDEX ix ON t (lower(a))",
    "CREATE INDEX ix ON t (a DESC)",
    "CREATE INDEX ix ON t (a NULLS FIRST)",
    'CREATE INDEX ix ON t (a COLLATE "POSIX")',
    "CREATE INDEX ix ON t (a text_pattern_ops)",
    "CREATE INDEX ix ON t (a) WHERE b = 'b'",
    "CREATE INDEX ix ON t (a) INCLUDE (b)",
    "CREATE INDEX ix ON t (a) WITH (fillfactor = 50)",
    "CREATE INDEX ix ON t USING hash (a)",
    "CREATE UNIQUE INDEX ix ON t (a)",
    "CREATE INDEX ix ON other (a)",
    "CREATE TABLE ix (a text)",
    "CREATE VIEW ix AS SELECT a FROM t",
    "CREATE SEQUENCE ix",
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_from_the_wanted_index_is_not_taken_for_it(
    database: Database, other: str
) -> None:
    database.execute(TABLE + "CREATE TABLE other (a text);" + other)
    before = catalog_rows(database)
    with pytest.raises(ObjectDiffers, match="index ix on t exists already with another definition"):
        run(database, PLAIN)
    assert catalog_rows(database) == before


BODIES = [
    ("(lower(a))", "(upper(a))"),
    ("(lower(a)) INCLUDE (b)", "(lower(a)) INCLUDE (id)"),
    ("(a) WHERE id > 1", "(a) WHERE id > 2"),
    ("(a, b)", "(b, a)"),
    ("USING gin (tags)", "USING gin (tags) WITH (fastupdate = off)"),
    ("(id int4_ops, a)", "(id, a varchar_pattern_ops)"),
]


@pytest.mark.parametrize(("wanted", "there"), BODIES)
def test_indexes_that_differ_in_a_detail_are_told_apart(
    database: Database, wanted: str, there: str
) -> None:
    database.execute(TABLE + f"CREATE INDEX ix ON t {there}")
    with pytest.raises(ObjectDiffers):
        run(database, CreateIndexConcurrentlyOp("ix", "t", definition=wanted))


def test_whether_nulls_are_distinct_is_part_of_the_definition(database: Database) -> None:
    if database.server.version < 15:
        pytest.skip("PostgreSQL 15 brought NULLS NOT DISTINCT")
    database.execute(TABLE + "CREATE UNIQUE INDEX ix ON t (a) NULLS NOT DISTINCT")
    with pytest.raises(ObjectDiffers):
        run(database, UNIQUE)
    body = "(a) NULLS NOT DISTINCT"
    run(database, CreateIndexConcurrentlyOp("ix", "t", unique=True, definition=body))


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("(a)", "USING btree (a ASC NULLS LAST)"),
        ("(a text_ops)", "(a)"),
        ("(lower(a))", "((LOWER(t.a::text)))"),
        ("(a) WHERE id = ANY (ARRAY[1, 2])", "(a) WHERE id IN (1, 2)"),
        ("USING gin (tags)", "USING gin (tags array_ops)"),
    ],
)
def test_the_same_index_counts_as_done_however_it_is_written(
    database: Database, wanted: str, there: str
) -> None:
    # A column that is gone makes the numbers of the others differ from those of a copy.
    database.execute("CREATE TABLE t (gone int, id int, a text, tags text[])")
    database.execute(f"ALTER TABLE t DROP COLUMN gone; CREATE INDEX ix ON t {there}")
    before = catalog_rows(database)
    run(database, CreateIndexConcurrentlyOp("ix", "t", definition=wanted))
    assert catalog_rows(database) == before


def test_an_index_is_looked_for_in_its_tables_schema(database: Database) -> None:
    database.execute(TABLE + "CREATE SCHEMA s; CREATE TABLE s.t (a text); CREATE INDEX ix ON t (b)")
    run(database, CreateIndexConcurrentlyOp("ix", "t", ["a"], schema="s"))
    assert _is_valid(database, "s.ix")
    run(database, DropIndexConcurrentlyOp("ix", "t", schema="s"))
    assert _is_valid(database, "s.ix") is None
    assert _is_valid(database, "ix")


def test_comparing_leaves_nothing_behind(database: Database) -> None:
    database.execute(TABLE)
    with operations(database) as op, op.get_context().autocommit_block():
        for _ in range(3):
            op.invoke(PLAIN)
        temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'"
        assert op.get_bind().exec_driver_sql(temporary).scalar_one() == 0


# Dropping


def test_an_index_of_another_table_is_not_dropped(database: Database) -> None:
    database.execute(TABLE + "CREATE TABLE other (a int); CREATE INDEX ix ON other (a)")
    run(database, DropIndexConcurrentlyOp("ix", "t"))
    assert _is_valid(database)


def test_an_invalid_index_can_be_dropped(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON t (a)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix'::regclass")
    run(database, DropIndexConcurrentlyOp("ix", "t"))
    assert _is_valid(database) is None


# Beside traffic


def test_writers_are_not_blocked_while_an_index_is_built(database: Database) -> None:
    database.execute(TABLE)
    with database.connect() as application:
        with _waiting_build(database, UNIQUE) as (build, _):
            application.execute("SET lock_timeout = '1ms'")
            application.execute("INSERT INTO t VALUES (2001, 'new')")
            application.execute("UPDATE t SET a = 'changed' WHERE id = 1")
            application.execute("DELETE FROM t WHERE id = 2")
            assert not build.done()
        build.result()
        application.execute("SET enable_seqscan = off")
        found = application.execute("SELECT id FROM t WHERE a IN ('new', 'changed', '2')")
        assert sorted(found.fetchall()) == [(1,), (2001,)]


def test_many_writers_and_a_build_end_with_every_row_in_the_index(database: Database) -> None:
    database.execute(TABLE)
    stop = threading.Event()

    def write(place: int) -> int:
        written = 0
        with database.connect() as connection:
            while not stop.is_set():
                key = 10_000 * (place + 1) + written
                connection.execute("INSERT INTO t VALUES (%s, %s)", [key, f"w{key}"])
                connection.execute("UPDATE t SET a = a || 'x' WHERE id = %s", [key])
                written += 1
        return written

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, place) for place in range(3)]
        try:
            for place in range(3):
                run(database, CreateIndexConcurrentlyOp(f"ix{place}", "t", ["a"], unique=True))
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    assert written > 0
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        for place in range(3):
            assert _is_valid(database, f"ix{place}")
        found = connection.execute("SELECT count(*) FROM t WHERE a IS NOT NULL").fetchone()
        assert found == (100 + written,)


def test_no_timeout_ends_a_build_that_waits_for_an_old_transaction(database: Database) -> None:
    database.execute(TABLE)
    database.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '100ms'")
    settings = Settings(lock_timeout=0.02)
    with _waiting_build(database, PLAIN, settings) as (build, pid):
        age = "SELECT now() - query_start > '300ms' FROM pg_stat_activity WHERE pid = %s"
        wait_until(database, age, [pid])
    build.result()
    assert _is_valid(database)


def test_the_sessions_timeouts_are_as_before_after_a_build(database: Database) -> None:
    database.execute(TABLE + DUPLICATES)
    with operations(database) as op, op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.exec_driver_sql("SET lock_timeout = '1234ms'; SET statement_timeout = '56s'")
        with pytest.raises(StatementFailed):
            op.invoke(UNREAD)
        op.invoke(PLAIN)
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("lock_timeout", "statement_timeout")
        ]
    assert shown == ["1234ms", "56s"]


def test_what_a_revision_did_before_a_build_is_committed_first(database: Database) -> None:
    database.execute(TABLE + DUPLICATES)

    def revision() -> None:
        with operations(database) as op:
            op.execute("CREATE TABLE earlier ()")
            op.invoke(UNIQUE)

    with pytest.raises(VerificationFailed):
        revision()
    assert database.execute("SELECT to_regclass('earlier') IS NOT NULL") == [(True,)]


@contextmanager
def _waiting_build(
    database: Database, step: CreateIndexConcurrentlyOp, settings: Settings | None = None
) -> Iterator[tuple[Future[None], int]]:
    """A build that waits for a transaction that began before it, and its server process; the
    transaction ends with the block."""
    waits = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'CREATE % CONCURRENTLY %' AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool, database.connect() as writer, writer.transaction():
        writer.execute("UPDATE t SET b = 'old' WHERE id = 50")
        build = pool.submit(run, database, step, settings=settings)
        yield build, wait_until(database, waits)
