"""Indexes of partitioned tables: what plain CREATE INDEX makes, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from conftest import Database
from direct import operations, run
from patience import wait_for
from schema import catalog_rows, schema_of
from sqlalchemy import Connection
from waiting import wait_until

from alembic_safe.errors import (
    LockNotAcquired,
    ObjectDiffers,
    StatementFailed,
    VerificationFailed,
)
from alembic_safe.operations import CreatePartitionedIndexOp, DropPartitionedIndexOp
from alembic_safe.operations.partitioned_indexes import attach_index
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime import execution, sessions
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings

TABLE = """
CREATE TABLE t (id int NOT NULL, a text, b text) PARTITION BY RANGE (id);
CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20) PARTITION BY LIST (b);
CREATE TABLE t2x PARTITION OF t2 FOR VALUES IN ('x');
CREATE TABLE t2_rest PARTITION OF t2 DEFAULT;
CREATE TABLE t_rest PARTITION OF t DEFAULT;
INSERT INTO t SELECT i, 'a' || i, 'x' FROM generate_series(0, 40) AS i;
INSERT INTO t VALUES (15, 'a', 'y');
"""
INDEX = CreatePartitionedIndexOp("ix", "t", ["a"])
UNIQUE = CreatePartitionedIndexOp("ix", "t", ["a", "id", "b"], unique=True)

LONG = "p_" + "ä" * 30
"""62 bytes."""


def _of_tree(database: Database) -> dict[str, tuple[bool, str | None]]:
    """For each table of the tree whether its index is valid, and the one it is attached to."""
    found = database.execute(
        "WITH RECURSIVE tree AS (SELECT 't'::regclass::oid AS oid UNION ALL"
        " SELECT h.inhrelid FROM pg_inherits AS h JOIN tree AS t ON t.oid = h.inhparent)"
        " SELECT t.oid::regclass::text, i.indisvalid, h.inhparent::regclass::text"
        " FROM tree AS t LEFT JOIN pg_index AS i ON i.indrelid = t.oid"
        " LEFT JOIN pg_inherits AS h ON h.inhrelid = i.indexrelid"
    )
    assert len({name for name, *_ in found}) == len(found), found
    return {name: (valid, parent) for name, valid, parent in found}


def _is_complete(database: Database) -> bool:
    return all(
        valid and (parent is not None or name == "t")
        for name, (valid, parent) in _of_tree(database).items()
    )


class _Died(BaseException):
    """The process is gone."""


@contextmanager
def _at(
    monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], object]
) -> Iterator[list[str]]:
    """Let something happen before a statement of an operation is sent, counted from 0; gives the
    statements that were sent."""
    sent: list[str] = []

    def send(connection: Connection, sql: str) -> None:
        if len(sent) == number:
            happens()
        sent.append(sql)
        sessions.execute_sql(connection, sql)

    with monkeypatch.context() as patched:
        patched.setattr(execution, "execute_sql", send)
        yield sent


def _statements(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with _at(monkeypatch, -1, lambda: None) as sent:
        run(database, INDEX)
    run(database, INDEX.reverse())
    return sent


def _die() -> None:
    raise _Died


# The end is what plain CREATE INDEX makes


TREES = {
    "without partitions": "CREATE TABLE t (id int, a text, b text) PARTITION BY RANGE (id);",
    "two levels, and default partitions": TABLE,
    "a level without partitions": TABLE
    + "CREATE TABLE t3 PARTITION OF t FOR VALUES FROM (50) TO (60) PARTITION BY RANGE (id);",
    "three levels": TABLE
    + "CREATE TABLE t2z PARTITION OF t2 FOR VALUES IN ('z') PARTITION BY HASH (id);"
    "CREATE TABLE t2z1 PARTITION OF t2z FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
    "CREATE TABLE t2z2 PARTITION OF t2z FOR VALUES WITH (MODULUS 2, REMAINDER 1);",
    "other schemas and names": TABLE
    + 'CREATE SCHEMA "S 2"; CREATE TABLE "S 2"."T "" \' % :x" PARTITION OF t'
    " FOR VALUES FROM (60) TO (70);"
    'CREATE TABLE "S 2".t1 PARTITION OF t FOR VALUES FROM (70) TO (80);',
    "names that are cut alike, and taken": TABLE
    + f'CREATE TABLE "{LONG}1" PARTITION OF t FOR VALUES FROM (60) TO (70);'
    f'CREATE TABLE "{LONG}2" PARTITION OF t FOR VALUES FROM (70) TO (80);'
    "CREATE VIEW t1_a_idx AS SELECT 1; CREATE SEQUENCE t1_a_idx1;",
    "columns in another order": TABLE
    + "CREATE TABLE t9 (b text, gone int, a text, id int NOT NULL);"
    "ALTER TABLE t9 DROP COLUMN gone;"
    "ALTER TABLE t ATTACH PARTITION t9 FOR VALUES FROM (90) TO (99);",
}
BODIES = [
    "(lower(a), (id + 1) DESC, b) INCLUDE (a) WHERE a <> '%'",
    "USING brin (id) WITH (pages_per_range = '2')",
]


@pytest.mark.parametrize(
    ("tree", "body"), [*((tree, "(a)") for tree in TREES), *(("three levels", b) for b in BODIES)]
)
def test_it_is_what_plain_create_index_makes(database: Database, tree: str, body: str) -> None:
    database.execute(TREES[tree])
    before = schema_of(database)
    wanted = schema_of(database, after=f"CREATE INDEX ix ON t {body}")
    index = CreatePartitionedIndexOp("ix", "t", definition=body)

    run(database, index)
    assert schema_of(database) == wanted
    rows = catalog_rows(database)
    run(database, index)
    assert catalog_rows(database) == rows

    run(database, index.reverse())
    assert schema_of(database) == before


def test_a_unique_one_is_unique_in_each_partition(database: Database) -> None:
    database.execute(TABLE)
    wanted = schema_of(database, after="CREATE UNIQUE INDEX ix ON t (a, id, b)")
    run(database, UNIQUE)
    assert schema_of(database) == wanted
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("INSERT INTO t VALUES (15, 'a', 'y')")
    database.execute("INSERT INTO t VALUES (15, 'a', 'y') ON CONFLICT (a, id, b) DO NOTHING")


def test_it_is_found_in_the_tables_schema(database: Database) -> None:
    database.execute(
        TABLE + "CREATE SCHEMA s; CREATE TABLE s.t (a text) PARTITION BY LIST (a);"
        "CREATE TABLE s.t1 PARTITION OF s.t DEFAULT; CREATE INDEX ix ON t (b)"
    )
    wanted = schema_of(database, after="CREATE INDEX ix ON s.t (a)")
    run(database, CreatePartitionedIndexOp("ix", "t", ["a"], schema="s"))
    assert schema_of(database) == wanted


def test_a_table_that_is_not_partitioned_gets_its_index_too(database: Database) -> None:
    """What is partitioned in production need not be so on a developer's machine."""
    database.execute("CREATE TABLE t (a text)")
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    run(database, INDEX)
    assert schema_of(database) == wanted


# What is there already


def test_an_index_that_a_partition_has_is_attached_and_not_built_again(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX mine ON t1 (a); CREATE INDEX sub ON t2 (a)")
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    own = "SELECT 'mine'::regclass::oid, 'sub'::regclass::oid"
    before = database.execute(own)
    run(database, INDEX)
    assert schema_of(database) == wanted
    assert database.execute(own) == before
    assert _is_complete(database)


@pytest.mark.parametrize(
    "other",
    [
        "CREATE INDEX other ON t1 (a DESC)",
        "CREATE INDEX other ON t1 (a) WHERE id > 0",
        'CREATE INDEX other ON t1 (a COLLATE "C")',
        "CREATE UNIQUE INDEX other ON t1 (a)",
        "CREATE INDEX other ON t1 (a, b)",
    ],
)
def test_an_index_that_differs_is_left_alone(database: Database, other: str) -> None:
    database.execute(TABLE + other)
    run(database, INDEX)
    found = database.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't1'::regclass ORDER BY 1"
    )
    assert found == [("other",), ("t1_a_idx",)]
    run(database, INDEX.reverse())
    assert database.execute("SELECT to_regclass('other') IS NOT NULL") == [(True,)]


def test_the_index_of_a_constraint_stays_with_its_constraint(database: Database) -> None:
    """Attached, it could not be dropped again."""
    database.execute(TABLE + "ALTER TABLE t1 ADD CONSTRAINT uq UNIQUE (a, id, b)")
    before = schema_of(database)
    run(database, UNIQUE)
    run(database, UNIQUE.reverse())
    assert schema_of(database) == before


@pytest.mark.parametrize(
    "other",
    [
        "CREATE INDEX ix ON t (b)",
        "CREATE INDEX ix ON ONLY t (b)",
        "CREATE INDEX ix ON t (a) WITH (fillfactor = 50)",
        "CREATE UNIQUE INDEX ix ON t (a, id, b)",
    ],
)
def test_another_index_of_that_name_is_not_taken_for_it(database: Database, other: str) -> None:
    database.execute(TABLE + other)
    before = catalog_rows(database)
    with pytest.raises(ObjectDiffers, match="index ix on t exists already with another"):
        run(database, INDEX)
    assert catalog_rows(database) == before


def test_an_invalid_index_of_a_partition_that_is_not_ours_is_told_of(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE + "CREATE INDEX mine ON t1 (a)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    run(database, INDEX)
    assert "index mine on public.t1 is INVALID" in caplog.text
    assert database.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix'::regclass"
    ) == [(True,)]


# Foreign tables


FOREIGN = """
CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE {table}_far PARTITION OF {table} FOR VALUES {bound} SERVER elsewhere;
"""


@pytest.mark.parametrize(
    ("table", "bound"), [("t", "FROM (50) TO (60)"), ("t2", "IN ('far')")], ids=["first", "second"]
)
def test_foreign_tables_are_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch, table: str, bound: str
) -> None:
    database.execute(TABLE + FOREIGN.format(table=table, bound=bound))
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    with _at(monkeypatch, -1, lambda: None) as sent:
        run(database, INDEX)
    assert schema_of(database) == wanted
    # Nothing is built where it would block.
    built = [sql for sql in sent if "CONCURRENTLY" in sql]
    assert len(built) == 4


def test_a_unique_one_is_refused_where_there_are_foreign_tables(database: Database) -> None:
    database.execute(TABLE + FOREIGN.format(table="t2", bound="IN ('far')"))
    before = catalog_rows(database)
    with pytest.raises(VerificationFailed, match=r"public\.t2_far is a foreign table.*was built"):
        run(database, UNIQUE)
    assert catalog_rows(database) == before


def test_a_unique_one_is_refused_that_lacks_a_partition_key_of_any_level(
    database: Database,
) -> None:
    database.execute(TABLE)
    before = catalog_rows(database)
    for columns, message in ((["a"], "lacks id, by which t is"), (["a", "id"], "lacks b")):
        with pytest.raises(VerificationFailed, match=message):
            run(database, CreatePartitionedIndexOp("ix", "t", columns, unique=True))
    assert catalog_rows(database) == before


# Interrupted


def test_killed_between_any_two_statements_it_completes(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(TABLE)
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    sent = _statements(database, monkeypatch)
    assert len(sent) == 2 + 4 + 5
    for moment in range(len(sent)):
        with pytest.raises(_Died), _at(monkeypatch, moment, _die):
            run(database, INDEX)
        run(database, INDEX)
        assert schema_of(database) == wanted, sent[moment]
        run(database, INDEX.reverse())


def test_killed_again_and_again_it_goes_on_where_it_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(TABLE)
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    sent = _statements(database, monkeypatch)
    again: list[str] = []
    for _ in sent[1:]:
        with pytest.raises(_Died), _at(monkeypatch, 1, _die) as one:
            run(database, INDEX)
        again += one
    assert sorted(again) == sorted(sent[: len(again)])
    run(database, INDEX)
    assert schema_of(database) == wanted


def test_a_partition_whose_build_was_ended_is_built_again(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE)
    wanted = schema_of(database, after="CREATE INDEX ix ON t (a)")
    with _waiting_build(database, INDEX, "t2x") as (build, pid):
        database.execute("SELECT pg_cancel_backend(%s)", [pid])
        with pytest.raises(StatementFailed):
            build()
    assert not _is_complete(database)
    run(database, INDEX)
    assert schema_of(database) == wanted
    assert "index t2x_a_idx on public.t2x was left INVALID" in caplog.text


def test_duplicates_in_a_partition_are_told_and_the_same_call_completes(
    database: Database,
) -> None:
    database.execute(TABLE + "INSERT INTO t VALUES (15, 'a', 'y')")
    with pytest.raises(
        VerificationFailed,
        match=r"index t2_rest_a_id_b_idx on public\.t2_rest: 2 rows share 1 value",
    ):
        run(database, UNIQUE)
    database.execute("DELETE FROM t WHERE a = 'a'")
    run(database, UNIQUE)
    assert _is_complete(database)


# Partitions that come and go


EVENTS = {
    "created below": "CREATE TABLE t2_new PARTITION OF t2 FOR VALUES IN ('new')",
    "attached": "ALTER TABLE t ATTACH PARTITION ready FOR VALUES FROM (60) TO (70)",
    "detached": "ALTER TABLE t DETACH PARTITION t1",
    "dropped below": "DROP TABLE t2_rest",
    "a level dropped": "DROP TABLE t2",
    "the last dropped": "DROP TABLE t_rest",
}


@pytest.mark.parametrize("event", EVENTS)
def test_partitions_come_and_go_between_any_two_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    database.execute(TABLE)
    moments = len(_statements(database, monkeypatch))
    for moment in range(moments):
        database.execute("DROP TABLE t; DROP TABLE IF EXISTS t1, ready;" + TABLE)
        database.execute("CREATE TABLE ready (id int NOT NULL, a text, b text)")
        with _at(monkeypatch, moment, lambda: database.execute(EVENTS[event])) as sent:
            run(database, INDEX)
        assert _is_complete(database), sent[: moment + 1]


@pytest.mark.parametrize("event", ["created below", "attached", "the last dropped"])
def test_partitions_come_and_go_after_a_kill(
    database: Database, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    database.execute(TABLE)
    moments = len(_statements(database, monkeypatch))
    for moment in range(moments):
        database.execute("DROP TABLE t; DROP TABLE IF EXISTS t1, ready;" + TABLE)
        database.execute("CREATE TABLE ready (id int NOT NULL, a text, b text)")
        with pytest.raises(_Died), _at(monkeypatch, moment, _die):
            run(database, INDEX)
        database.execute(EVENTS[event])
        run(database, INDEX)
        assert _is_complete(database), moment


def test_a_statement_that_fails_for_another_reason_is_told(database: Database) -> None:
    database.execute(
        TABLE + "CREATE FUNCTION f(text) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'"
    )
    broken = CreatePartitionedIndexOp("ix", "t", definition="((1 / (id - 15)))")
    with pytest.raises(StatementFailed, match="division by zero"):
        run(database, broken)


def test_an_index_that_stays_invalid_is_told(database: Database) -> None:
    """Attached by somebody, before it was whole."""
    database.execute(
        "CREATE TABLE t (id int, a text) PARTITION BY RANGE (id);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE INDEX ix ON ONLY t (a); CREATE INDEX mine ON t1 (a)"
    )
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    database.execute("ALTER INDEX ix ATTACH PARTITION mine")
    with pytest.raises(VerificationFailed, match=r"marks it INVALID.*REINDEX INDEX CONCURRENTLY"):
        run(database, INDEX)


# Beside traffic


@contextmanager
def _waiting_build(
    database: Database, step: CreatePartitionedIndexOp, table: str
) -> Iterator[tuple[Callable[[], None], int]]:
    """A build that waits at a partition for a transaction that began before it: what waits for its
    end, and its server process. The transaction ends with the block."""
    waits = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE 'CREATE % CONCURRENTLY %' AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool, database.connect() as writer, writer.transaction():
        writer.execute(f"UPDATE {table} SET a = a || '!'".encode())
        build = pool.submit(run, database, step)
        yield build.result, wait_until(database, waits)


def test_nobody_waits_while_a_partition_is_built(database: Database) -> None:
    database.execute(TABLE)
    with database.connect() as application:
        with _waiting_build(database, UNIQUE, "t2x") as (build, _):
            application.execute("SET lock_timeout = '1ms'")
            application.execute("INSERT INTO t VALUES (16, 'new', 'x'), (1, 'new', 'x')")
            application.execute("UPDATE t SET a = 'changed' WHERE id = 15 AND b = 'y'")
            application.execute("SELECT count(*) FROM t")
        build()
        application.execute("SET enable_seqscan = off")
        found = application.execute("SELECT id FROM t WHERE a IN ('new', 'changed') ORDER BY 1")
        assert found.fetchall() == [(1,), (15,), (16,)]


def test_many_writers_and_a_build_end_with_every_row_in_the_index(database: Database) -> None:
    database.execute(TABLE)
    stop = threading.Event()

    def write(place: int) -> int:
        written = 0
        with database.connect() as connection:
            while not stop.is_set():
                values = [written % 40, f"w{place}-{written}", "xyz"[written % 3]]
                connection.execute("INSERT INTO t VALUES (%s, %s, %s)", values)
                connection.execute("UPDATE t SET a = a || 'x' WHERE a = %s", [values[1]])
                written += 1
        return written

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, place) for place in range(3)]
        try:
            for unique in (INDEX, INDEX.reverse(), UNIQUE):
                run(database, unique)
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    assert written > 0
    assert _is_complete(database)
    with database.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        found = connection.execute("SELECT count(*) FROM t WHERE a >= ''").fetchone()
        assert found == (42 + written,)


def test_to_attach_locks_the_index_of_that_partition_and_no_other(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON ONLY t (a); CREATE INDEX t1_a_idx ON t1 (a)")
    attach = attach_index(QualifiedName("ix"), QualifiedName("t1_a_idx"))
    with database.connect() as connection, connection.transaction():
        connection.execute(attach.sql[0].encode())
        found = connection.execute(
            "SELECT l.relation::regclass::text, l.mode FROM pg_locks AS l JOIN pg_class AS c"
            " ON c.oid = l.relation WHERE l.pid = pg_backend_pid() AND c.oid >= 16384"
            " AND c.relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
    assert found == [
        ("ix", "ShareUpdateExclusiveLock"),
        ("t", "AccessShareLock"),
        ("t1", "AccessShareLock"),
        ("t1_a_idx", "AccessExclusiveLock"),
    ]
    assert attach.table == QualifiedName("t1_a_idx")
    assert attach.lock is LockMode.ACCESS_EXCLUSIVE


def test_a_long_query_of_another_partition_holds_nothing_up(database: Database) -> None:
    database.execute(TABLE + "CREATE INDEX ix ON ONLY t (a); CREATE INDEX t1_a_idx ON t1 (a)")
    database.execute("ALTER INDEX ix ATTACH PARTITION t1_a_idx")
    patience = Patience(Settings(old_transaction=0.001, lock_deadline=0.5))
    with database.connect() as reader, reader.transaction():
        reader.execute("SELECT FROM t1 WHERE a = 'x'")
        with operations(database, patience=patience) as op, op.get_context().autocommit_block():
            op.invoke(INDEX)
    assert _is_complete(database)


def test_a_long_transaction_that_writes_to_a_partition_alone_holds_up_no_other(
    database: Database,
) -> None:
    """`ON ONLY` does not touch the partition; its own build has to wait."""
    database.execute(TABLE)
    patience = Patience(Settings(old_transaction=0.001, lock_deadline=0.5))

    def build() -> None:
        with operations(database, patience=patience) as op, op.get_context().autocommit_block():
            op.invoke(INDEX)

    with ThreadPoolExecutor(1) as pool:
        with database.connect() as writer, writer.transaction():
            writer.execute("UPDATE t_rest SET b = 'long'")
            building = pool.submit(build)
            waits = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONC%' AND"
            wait_until(
                database, f"{waits} datname = current_database() AND wait_event = 'virtualxid'"
            )
        building.result()
    assert _is_complete(database)


def test_the_drop_waits_outside_of_the_queue_and_says_for_whom(database: Database) -> None:
    database.execute(TABLE)
    run(database, INDEX)
    settings = Settings(old_transaction=0.001, lock_deadline=0.2)
    drop = DropPartitionedIndexOp("ix", "t")
    with database.connect() as reader, reader.transaction():
        reader.execute("SET application_name = 'nightly report'")
        reader.execute("SELECT FROM t2x")
        with pytest.raises(LockNotAcquired, match=r"nightly report.*AccessShareLock on t2x"):
            run(database, drop, settings=settings)
        assert _is_complete(database)
    run(database, drop)
    assert database.execute("SELECT to_regclass('ix')") == [(None,)]


def test_a_build_by_somebody_else_is_waited_for(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLE)
    with ThreadPoolExecutor(2) as pool:
        with database.connect() as writer, writer.transaction():
            writer.execute("UPDATE t1 SET a = a || '!'")
            other = pool.submit(database.execute, "CREATE INDEX CONCURRENTLY t1_a_idx ON t1 (a)")
            wait_until(database, "SELECT to_regclass('t1_a_idx') IS NOT NULL")
            built = database.execute("SELECT 't1_a_idx'::regclass::oid")
            ours = pool.submit(run, database, INDEX)
            wait_for(lambda: "waiting for the index build on public.t1" in caplog.text)
        other.result()
        ours.result()
    assert _is_complete(database)
    assert database.execute("SELECT 't1_a_idx'::regclass::oid") == built
