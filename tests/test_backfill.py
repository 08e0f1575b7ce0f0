"""Every row is filled once, in short transactions, whatever the table's key is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from backfill_cases import (
    ARRIVING,
    COLUMNS,
    COUNT_TOUCHES,
    FILL,
    INTEGER,
    KEYS,
    NO_KEYS,
    Key,
    batches,
    keyed,
    positions,
    touched,
    unfilled,
)
from conftest import Database
from direct import operations, run

from alembic_safe.errors import LockNotAcquired, StatementFailed, VerificationFailed
from alembic_safe.operations import BackfillOp
from alembic_safe.postgres.identifiers import quote
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings

SMALL = Settings(batch_size=10)

# Keys


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_a_table_is_filled_by_its_key_in_batches_that_commit(database: Database, key: Key) -> None:
    keyed(database, key)
    run(database, FILL, settings=SMALL)
    assert unfilled(database) == 0
    assert touched(database) == [(1, 57)]
    assert batches(database) == [10, 10, 10, 10, 10, 7]
    assert positions(database) == []


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_a_table_without_a_key_is_filled_by_its_blocks(database: Database, key: Key) -> None:
    keyed(database, key, rows=2000)
    size = "SELECT pg_relation_size('t') / current_setting('block_size')::int"
    [(blocks,)] = database.execute(size)
    # One pass has to be enough, where nobody else writes.
    run(database, replace(FILL, until_none_left=False), settings=SMALL)
    assert unfilled(database) == 0
    assert touched(database) == [(1, 2000)]
    assert len(batches(database)) == blocks > 5
    assert positions(database) == []


@pytest.mark.parametrize("type_sql", ["int", "numeric"])
def test_numbers_are_passed_in_their_own_order_and_not_in_that_of_their_text(
    database: Database, type_sql: str
) -> None:
    database.execute(f"CREATE TABLE t (k {type_sql} PRIMARY KEY, {COLUMNS}); {COUNT_TOUCHES}")
    database.execute("INSERT INTO t SELECT i, 'a' || i FROM generate_series(1, 20000) AS i")
    run(database, FILL, settings=Settings(batch_size=3000))
    assert touched(database) == [(1, 20000)]
    ranges = database.execute("SELECT min(k), max(k) FROM t GROUP BY xmin ORDER BY 1")
    starts = range(1, 20001, 3000)
    assert ranges == [(start, min(start + 2999, 20000)) for start in starts]


def test_rows_that_do_not_need_it_are_nottouched(database: Database) -> None:
    keyed(database, INTEGER)
    database.execute("UPDATE t SET b = 'own' WHERE k % 2 = 0")
    run(database, FILL, settings=SMALL)
    counts = database.execute("SELECT count(*) FROM t WHERE b = 'own' AND touched = 1")
    assert counts == [(28,)]
    assert touched(database) == [(1, 57)]


# Kinds of tables


def test_an_empty_table_is_done_at_once(database: Database) -> None:
    database.execute(f"CREATE TABLE t (k int PRIMARY KEY, {COLUMNS})")
    run(database, FILL)
    assert positions(database) == []


def test_a_table_that_lost_its_last_rows_while_it_was_filled_is_done(database: Database) -> None:
    """The end was found, and nothing is left before it."""
    keyed(database, INTEGER)
    database.execute(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM t WHERE k > 20; RETURN NULL; END $$;"
        "CREATE TRIGGER lose AFTER UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION lose()"
    )
    run(database, FILL, settings=SMALL)
    assert database.execute("SELECT count(*), max(k) FROM t WHERE b IS NOT NULL") == [(20, 20)]
    assert positions(database) == []


def test_partitions_are_filled_one_after_the_other_each_by_its_own_key(database: Database) -> None:
    database.execute(
        f"CREATE TABLE t (k int, {COLUMNS}) PARTITION BY RANGE (k); {COUNT_TOUCHES}"
        "CREATE TABLE t1 PARTITION OF t (PRIMARY KEY (k)) FOR VALUES FROM (0) TO (100);"
        'CREATE TABLE "T 2" (touched int DEFAULT 0, b text, gone int, a text, k int);'
        'ALTER TABLE "T 2" DROP COLUMN gone;'
        'ALTER TABLE t ATTACH PARTITION "T 2" FOR VALUES FROM (100) TO (200);'
        "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (200) TO (300) PARTITION BY LIST (a);"
        "CREATE TABLE t31 PARTITION OF t3 (k UNIQUE NOT NULL) DEFAULT;"
        "CREATE TABLE t4 PARTITION OF t DEFAULT;"
        "INSERT INTO t SELECT i, 'a' || i FROM generate_series(0, 399) AS i"
    )
    run(database, FILL, settings=SMALL)
    assert unfilled(database) == 0
    assert touched(database) == [(1, 400)]
    by_key = "SELECT max(c) FROM (SELECT count(*) AS c FROM {} GROUP BY xmin) AS x"
    assert database.execute(by_key.format("t1")) == [(10,)]
    assert database.execute(by_key.format("t31")) == [(10,)]
    assert positions(database) == []


def test_odd_names_and_values_are_taken_as_they_are(database: Database) -> None:
    odd = 'Full "Name" %s :x it\'s {0} \\'
    table = f"{quote(odd)}.{quote(odd)}"
    database.execute(
        f"CREATE SCHEMA {quote(odd)}; CREATE TABLE {table} ({quote(odd)} int PRIMARY KEY, b text);"
        f"INSERT INTO {table} SELECT generate_series(1, 25)"
    )
    value = "'it''s 100% :sure %s \\ {x} ' || " + quote(odd)
    step = BackfillOp(odd, {"b": value}, f"b IS NULL AND {quote(odd)}::text <> '%'", schema=odd)
    run(database, step, settings=SMALL)
    rows = database.execute(f"SELECT b FROM {table} ORDER BY 1")
    assert sorted(rows) == sorted((f"it's 100% :sure %s \\ {{x}} {i}",) for i in range(1, 26))


def test_several_columns_are_set_at_once(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text, c int)")
    database.execute("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20) AS i")
    run(database, BackfillOp("t", {"b": "a || id", "c": "id * 2"}, "b IS NULL"), settings=SMALL)
    assert database.execute("SELECT b, c FROM t WHERE id = 20") == [("x20", 40)]


def test_the_positions_are_kept_beside_the_version_table(database: Database) -> None:
    keyed(database, INTEGER)
    database.execute("CREATE SCHEMA meta")
    with operations(database, version_table_schema="meta") as op:
        op.invoke(FILL)
    tables = "SELECT oid::regclass::text FROM pg_class WHERE relname = 'alembic_safe_backfill'"
    assert database.execute(tables) == [("meta.alembic_safe_backfill",)]


def test_what_a_revision_did_before_is_committed_first(database: Database) -> None:
    keyed(database, INTEGER)
    with operations(database) as op:
        op.execute("ALTER TABLE t ADD COLUMN c text")
        op.invoke(BackfillOp("t", {"c": "a"}, "c IS NULL"))
    assert database.execute("SELECT count(*) FROM t WHERE c = a") == [(57,)]


# Rows that come while it runs


def test_it_goes_on_until_no_row_is_left(database: Database) -> None:
    keyed(database, INTEGER)
    database.execute(ARRIVING)
    run(database, FILL, settings=SMALL)
    assert unfilled(database) == 0
    assert touched(database) == [(1, 58)]


def test_it_fills_what_was_there_at_the_start_where_others_still_write_such_rows(
    database: Database,
) -> None:
    keyed(database, INTEGER)
    database.execute(ARRIVING)
    step = BackfillOp("t", {"b": "a"}, "b IS NULL", until_none_left=False)
    run(database, step, settings=SMALL)
    assert database.execute("SELECT k FROM t WHERE b IS NULL") == [(1005,)]
    assert positions(database) == []


def test_values_that_leave_the_condition_true_are_told_and_do_not_go_on_for_ever(
    database: Database,
) -> None:
    keyed(database, INTEGER)
    step = BackfillOp("t", {"b": "NULL"}, "b IS NULL")
    with pytest.raises(VerificationFailed, match="t still has rows where b IS NULL after 5 passes"):
        run(database, step, settings=SMALL)


# What goes wrong


def test_a_value_that_cannot_be_computed_stops_it_and_it_continues_there(
    database: Database,
) -> None:
    keyed(database, INTEGER)
    value = "CASE k WHEN 35 THEN (1 / (length(a) - 3))::text ELSE a END"
    step = BackfillOp("t", {"b": value}, "b IS NULL")
    with pytest.raises(StatementFailed) as caught:
        run(database, step, settings=SMALL)
    assert str(caught.value).startswith("Revision r1, backfill of t: division by zero")
    assert "What was filled stays" in str(caught.value)
    assert database.execute("SELECT max(k) FROM t WHERE b IS NOT NULL") == [(30,)]
    assert positions(database) == [("t", '["30"]')]

    database.execute("UPDATE t SET a = 'mended' WHERE k = 35")
    run(database, step, settings=SMALL)
    assert database.execute("SELECT count(b) FROM t") == [(57,)]
    assert touched(database) == [(1, 56), (2, 1)]
    assert positions(database) == []


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({"b": "nothing"}, "b IS NULL", 'column "nothing" does not exist'),
        ({"nothing": "a"}, "b IS NULL", 'column "nothing" of relation "t" does not exist'),
        ({"b": "a"}, "nothing IS NULL", 'column "nothing" does not exist'),
        ({"b": "a ("}, "b IS NULL", "syntax error"),
        ({"touched": "a"}, "b IS NULL", "is of type integer but expression is of type text"),
    ],
)
def test_a_wrong_expression_is_told_with_what_the_server_says(
    database: Database, values: dict[str, str], where: str, message: str
) -> None:
    keyed(database, INTEGER)
    with pytest.raises(StatementFailed, match=f"Revision r1, backfill of t: .*{message}"):
        run(database, BackfillOp("t", values, where), settings=SMALL)
    assert touched(database) == [(0, 57)]


def test_a_table_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(StatementFailed, match=r"backfill of s\.nowhere: .*nowhere. does not exist"):
        run(database, BackfillOp("nowhere", {"b": "a"}, "b IS NULL", schema="s"))


def test_a_row_that_breaks_a_constraint_stops_it(database: Database) -> None:
    keyed(database, INTEGER)
    database.execute("ALTER TABLE t ADD CONSTRAINT short CHECK (length(b) < 3)")
    with pytest.raises(StatementFailed, match='violates check constraint "short"'):
        run(database, FILL, settings=Settings(batch_size=5))
    assert database.execute("SELECT count(b) FROM t") == [(5,)]


# Rows that others have locked

IMPATIENT = Settings(
    batch_size=10, lock_timeout=0.02, lock_deadline=0.2, retry_base=0.01, retry_cap=0.02
)
PATIENT = replace(IMPATIENT, lock_deadline=60)


def _patience(during: Callable[[], object]) -> Patience:
    """Take the place of sleeping: do what the application does meanwhile."""

    def sleep(_seconds: float) -> None:
        during()

    return Patience(PATIENT, sleep=sleep)


def test_a_batch_with_a_locked_row_is_tried_again(database: Database) -> None:
    keyed(database, INTEGER)
    with database.connect() as application:
        application.execute("BEGIN; SELECT FROM t WHERE k = 25 FOR UPDATE")
        patience = _patience(lambda: application.execute("COMMIT"))
        with operations(database, patience=patience) as op:
            op.invoke(FILL)
    assert patience.spent > 0
    assert unfilled(database) == 0
    assert touched(database) == [(1, 57)]


def test_a_row_that_stays_locked_is_told_with_who_has_it(database: Database) -> None:
    keyed(database, INTEGER)
    with database.connect() as application:
        application.execute("SET application_name = 'report job'")
        application.execute("BEGIN; UPDATE t SET a = 'mine' WHERE k = 25")
        pid = application.info.backend_pid
        with pytest.raises(LockNotAcquired) as caught:
            run(database, FILL, settings=IMPATIENT)
        assert str(caught.value).startswith("Revision r1: no lock on t within ")
        assert f"pid {pid} (report job" in str(caught.value)
        assert database.execute("SELECT count(b) FROM t") == [(20,)]
        application.execute("COMMIT")
    run(database, FILL, settings=PATIENT)
    assert unfilled(database) == 0
    assert touched(database) == [(1, 56), (2, 1)]


def test_a_table_that_is_locked_when_it_begins_is_waited_for(database: Database) -> None:
    keyed(database, INTEGER)
    with database.connect() as application:
        application.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        patience = _patience(lambda: application.execute("COMMIT"))
        with operations(database, patience=patience) as op, op.get_context().autocommit_block():
            op.invoke(FILL)
    assert unfilled(database) == 0


def test_two_backfills_of_one_table_have_positions_of_their_own(database: Database) -> None:
    keyed(database, INTEGER)
    database.execute("ALTER TABLE t ADD COLUMN c text")
    other = BackfillOp("t", {"c": "a"}, "c IS NULL AND k <> 25")
    with database.connect() as application:
        application.execute("BEGIN; SELECT FROM t WHERE k = 25 FOR UPDATE")
        with pytest.raises(LockNotAcquired):
            run(database, FILL, settings=IMPATIENT)
        run(database, other, settings=PATIENT)
    assert positions(database) == [("t", '["20"]')]
    assert database.execute("SELECT count(c), count(b) FROM t") == [(56, 20)]
    run(database, FILL, settings=PATIENT)
    assert unfilled(database) == 0
    assert positions(database) == []
