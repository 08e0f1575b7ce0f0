"""INVALID indexes: what a failed attempt left goes, what somebody is building is waited for, and
what is not ours is told of and stays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from conftest import Database
from direct import run, script_of
from patience import wait_for
from schema import catalog_rows, schema_of
from waiting import wait_until

from alembic_safe.errors import ObjectDiffers, StatementFailed
from alembic_safe.operations import CreateIndexConcurrentlyOp, DropIndexConcurrentlyOp
from alembic_safe.postgres.identifiers import quote

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, a text, b text);
INSERT INTO t SELECT i, i::text, 'b' FROM generate_series(1, 100) AS i;
"""
PLAIN = CreateIndexConcurrentlyOp("ix", "t", ["a"])
UNIQUE = CreateIndexConcurrentlyOp("ix", "t", ["a"], unique=True)
LONG = 'an "index" % of sixty three bytes in the end, with ümlauts in '
"""63 bytes; of what REINDEX makes of it the server keeps less."""


def _indexes(database: Database, table: str = "t") -> dict[str, bool]:
    """The names of the indexes, and whether each is valid."""
    found = database.execute(
        "SELECT r.relname, i.indisvalid FROM pg_index AS i JOIN pg_class AS r"
        f" ON r.oid = i.indexrelid WHERE i.indrelid = '{table}'::regclass AND NOT i.indisprimary"
    )
    return dict(found)


def _make_invalid(database: Database, index: str, *, is_maintained: bool = True) -> None:
    database.execute(
        "UPDATE pg_index SET indisvalid = false, indisready = %s"
        " WHERE indexrelid = to_regclass(%s)",
        [is_maintained, quote(index)],
    )


@contextmanager
def _held_up(database: Database, statement: str) -> Iterator[tuple[Future[None], int]]:
    """A statement of another session that waits for a transaction that began before it, and its
    server process; the transaction ends with the block."""

    def execute() -> None:
        with database.connect() as session:
            session.execute("SET application_name = 'somebody else'")
            session.execute(statement.encode())

    waits = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'somebody else'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool, database.connect() as writer, writer.transaction():
        writer.execute("UPDATE t SET b = 'old' WHERE id = 50")
        running = pool.submit(execute)
        yield running, wait_until(database, waits)


def _fail(database: Database, statement: str) -> None:
    """Let a statement be cancelled while it waits."""
    with _held_up(database, statement) as (running, pid):
        database.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.result()


# What failed attempts left


@pytest.mark.parametrize("name", ["ix", LONG])
def test_what_reindex_left_goes_when_the_index_is_wanted(database: Database, name: str) -> None:
    database.execute(TABLE + f"CREATE INDEX {quote(name)} ON t (a)")
    wanted = schema_of(database)
    for _ in range(2):
        _fail(database, f"REINDEX INDEX CONCURRENTLY {quote(name)}")
    left = _indexes(database)
    assert len(left) == 3
    assert [valid for index, valid in left.items() if index != name] == [False, False]

    run(database, CreateIndexConcurrentlyOp(name, "t", ["a"]))

    assert schema_of(database) == wanted


def test_what_reindex_replaced_goes_too(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON t (a); CREATE INDEX ix_ccold3 ON t (a)")
    _make_invalid(database, "ix_ccold3", is_maintained=False)
    run(database, PLAIN)
    assert _indexes(database) == {"ix": True}


def test_what_reindex_left_goes_with_the_index(database: Database) -> None:
    database.execute(TABLE + "CREATE UNIQUE INDEX ix ON t (a)")
    _fail(database, "REINDEX INDEX CONCURRENTLY ix")
    run(database, DropIndexConcurrentlyOp("ix", "t"))
    assert _indexes(database) == {}
    database.execute("INSERT INTO t VALUES (101, '1')")


def test_what_reindex_left_of_an_index_that_is_gone_goes(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix_ccnew ON t (a)")
    _make_invalid(database, "ix_ccnew")
    run(database, DropIndexConcurrentlyOp("ix", "t"))
    assert _indexes(database) == {}


def test_what_another_definition_left_under_the_name_goes_and_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE + "INSERT INTO t VALUES (101, '1')")
    with database.connect() as session, pytest.raises(psycopg.errors.UniqueViolation):
        session.execute("CREATE UNIQUE INDEX CONCURRENTLY ix ON t (lower(a)) WHERE id > 0")
    wanted = schema_of(database, after="DROP INDEX ix; CREATE INDEX ix ON t (a)")

    run(database, PLAIN)

    assert schema_of(database) == wanted
    assert (
        "r1: index ix on t was left INVALID (no query uses it, and writes do not maintain it), and"
        " is dropped. It was: CREATE UNIQUE INDEX ix ON public.t USING btree (lower(a)) WHERE"
        " (id > 0)" in caplog.text
    )


def test_names_that_only_look_like_leftovers_are_left_alone(database: Database) -> None:
    database.execute(
        TABLE + "CREATE TABLE other (a text); CREATE INDEX ix_ccnew ON other (a);"
        "CREATE INDEX ix_ccold ON t (a); CREATE INDEX ix_ccnew_2 ON t (a);"
        "CREATE INDEX ix2_ccnew ON t (a)"
    )
    for name in ("ix_ccnew", "ix_ccnew_2", "ix2_ccnew"):
        _make_invalid(database, name)
    run(database, PLAIN, DropIndexConcurrentlyOp("ix", "t"))
    assert _indexes(database) == {"ix_ccold": True, "ix_ccnew_2": False, "ix2_ccnew": False}
    assert _indexes(database, "other") == {"ix_ccnew": False}


def test_a_valid_index_of_another_definition_is_still_refused(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON t (b)")
    before = catalog_rows(database)
    with pytest.raises(ObjectDiffers):
        run(database, PLAIN)
    assert catalog_rows(database) == before


def test_a_script_tells_what_to_drop_if_it_failed_before() -> None:
    drop = 'DROP INDEX CONCURRENTLY IF EXISTS "ix";'
    assert f"-- If an earlier attempt failed: {drop}" in script_of(PLAIN)
    assert "earlier attempt" not in script_of(DropIndexConcurrentlyOp("ix", "t"))


# What somebody is building


def test_a_build_of_the_wanted_index_is_waited_for_and_not_dropped(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A server process goes on with a build after its client was killed."""
    database.execute(TABLE)
    with ThreadPoolExecutor(1) as pool:
        with _held_up(database, "CREATE INDEX CONCURRENTLY ix ON t (a)") as (_, pid):
            index = database.execute("SELECT 'ix'::regclass::oid")
            ours = pool.submit(run, database, PLAIN)
            wait_for(lambda: "waiting for the index build" in caplog.text)
            assert not ours.done()
        ours.result()
    assert database.execute("SELECT 'ix'::regclass::oid") == index
    assert _indexes(database) == {"ix": True}
    assert (
        f"r1: waiting for the index build on t that pid {pid} (somebody else, user postgres) runs;"
        f" if nobody wants it any more, end it with SELECT pg_cancel_backend({pid});" in caplog.text
    )


def test_a_build_that_ends_without_an_index_is_made_up_for(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE)
    with ThreadPoolExecutor(1) as pool:
        with _held_up(database, "CREATE INDEX CONCURRENTLY ix ON t (a)") as (other, pid):
            ours = pool.submit(run, database, PLAIN)
            wait_for(lambda: "waiting for the index build" in caplog.text)
            database.execute("SELECT pg_terminate_backend(%s)", [pid])
            with pytest.raises(psycopg.OperationalError):
                other.result()
        ours.result()
    assert _indexes(database) == {"ix": True}


def test_a_rebuild_of_the_index_is_waited_for(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON t (a)")
    wanted = schema_of(database)
    with ThreadPoolExecutor(1) as pool:
        with _held_up(database, "REINDEX INDEX CONCURRENTLY ix"):
            ours = pool.submit(run, database, PLAIN)
            wait_for(lambda: "waiting for the index build" in caplog.text)
        ours.result()
    assert schema_of(database) == wanted


# What is not ours


@pytest.mark.parametrize(
    ("kind", "is_maintained", "costs"),
    [
        (
            "UNIQUE INDEX",
            True,
            "no query uses it, but every write maintains it, and a duplicate of its values is"
            " refused",
        ),
        ("INDEX", True, "no query uses it, but every write maintains it"),
        ("INDEX", False, "no query uses it, and writes do not maintain it"),
    ],
)
def test_an_invalid_index_that_is_not_ours_is_told_of_and_stays(
    database: Database,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    is_maintained: bool,
    costs: str,
) -> None:
    database.execute(TABLE + f'CREATE {kind} "Mine" ON t (a)')
    _make_invalid(database, "Mine", is_maintained=is_maintained)
    run(database, PLAIN)
    assert _indexes(database) == {"ix": True, "Mine": False}
    assert (
        f"r1: index Mine on t is INVALID: {costs}. This revision has nothing to do with it, so it"
        ' stays. Drop it with DROP INDEX CONCURRENTLY "Mine"; or build it again with REINDEX INDEX'
        ' CONCURRENTLY "Mine";' in caplog.text
    )


def test_what_is_told_of_an_invalid_unique_index_is_so(database: Database) -> None:
    database.execute(TABLE + "CREATE UNIQUE INDEX ix ON t (a)")
    _make_invalid(database, "ix")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("INSERT INTO t VALUES (101, '1')")
    _make_invalid(database, "ix", is_maintained=False)
    database.execute("INSERT INTO t VALUES (101, '1')")


def test_where_all_indexes_are_valid_nothing_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE + "CREATE INDEX other ON t (b)")
    run(database, PLAIN)
    assert "INVALID" not in caplog.text


# What our own failure leaves


def test_a_cancelled_build_tells_what_it_left(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    database.execute(TABLE)
    waits = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'CREATE % CONCURRENTLY %' AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool, database.connect() as writer, writer.transaction():
        writer.execute("UPDATE t SET b = 'old' WHERE id = 50")
        build = pool.submit(run, database, UNIQUE)
        database.execute("SELECT pg_cancel_backend(%s)", [wait_until(database, waits)])
        with pytest.raises(StatementFailed):
            build.result()
    assert "r1: index ix on t is left INVALID: no query uses it" in caplog.text
    assert "The next attempt drops it." in caplog.text
    run(database, UNIQUE)
    assert _indexes(database) == {"ix": True}
