"""A backfill that is killed continues where it stopped; one of a large table stays small."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import Database
from hand_written import write_history
from project import Project
from waiting import wait_until, wait_until_alone

KEYS = {"a key": "PRIMARY KEY", "no key": ""}
BATCHES = {"ALEMBIC_SAFE_BATCH_SIZE": "50"}

TABLE = """
CREATE TABLE t (k int {key}, a text, b text, touched int DEFAULT 0, filler text);
INSERT INTO t SELECT i, 'a' || i, NULL, 0, repeat('x', 500) FROM generate_series(1, 1000) AS i;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_after_kill_9_it_continues_and_no_batch_is_done_twice(
    database: Database, alembic_project: Project, key: str
) -> None:
    database.execute(TABLE.format(key=key))
    write_history(
        alembic_project,
        "r1",
        upgrade='op.backfill("t", {"b": "a"}, where="b IS NULL")',
        marks="transactional = False",
    )
    with database.connect() as application:
        # It cannot get past this row, so that it is in the middle when it is killed.
        application.execute("BEGIN; SELECT FROM t WHERE k = 501 FOR UPDATE")
        process = alembic_project.popen("upgrade", "head", env=BATCHES)
        try:
            waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
            wait_until(database, f"{waits} AND locktype = 'transactionid'")
        finally:
            process.kill()
            process.communicate()
    wait_until_alone(database)
    filled = database.execute("SELECT k, xmin::text FROM t WHERE b IS NOT NULL ORDER BY k")
    assert 400 <= len(filled) <= 500
    assert database.execute("SELECT rows FROM alembic_safe_backfill") == [(len(filled),)]
    assert database.execute("SELECT * FROM alembic_version") == []

    continued = alembic_project.run("upgrade", "head", env=BATCHES)

    assert "goes on where an earlier run stopped" in continued.stderr
    assert "done, 1000 rows filled" in continued.stderr
    assert database.execute("SELECT touched, count(*) FROM t GROUP BY 1") == [(1, 1000)]
    assert database.execute("SELECT count(*) FROM t WHERE b = a") == [(1000,)]
    last = filled[-1][0]
    again = f"SELECT k, xmin::text FROM t WHERE k <= {last} ORDER BY k"
    assert database.execute(again) == filled
    assert database.execute("SELECT * FROM alembic_safe_backfill") == []
    assert database.execute("SELECT * FROM alembic_version") == [("r1",)]


_MEASURE = """
import resource
import sys

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from alembic_safe.operations import BackfillOp

with sa.create_engine(sys.argv[1]).connect() as connection:
    context = MigrationContext.configure(connection)
    with context.begin_transaction():
        Operations(context).invoke(BackfillOp("t", {"b": "a"}, "b IS NULL"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_the_memory_of_a_backfill_does_not_grow_with_the_table(database: Database) -> None:
    def most_memory(rows: int) -> int:
        """Return the most memory that the process had, in KiB on Linux and in bytes on macOS."""
        database.execute(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (k int PRIMARY KEY, a text, b text);"
            f"INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, {rows}) AS i"
        )
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, database.url()],
            capture_output=True,
            text=True,
            check=True,
        )
        assert database.execute("SELECT count(*) FROM t WHERE b = a") == [(rows,)]
        return int(done.stdout)

    small, large = most_memory(10_000), most_memory(200_000)
    # The keys alone, as Python objects, would be 10 MB more, the rows 50 MB.
    assert large < small * 1.1
