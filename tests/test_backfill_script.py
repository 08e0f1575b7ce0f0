"""The script that `--sql` writes for a backfill does the same work."""

from __future__ import annotations

import pytest
from backfill_cases import (
    ARRIVING,
    COLUMNS,
    COUNT_TOUCHES,
    FILL,
    INTEGER,
    KEYS,
    batches,
    keyed,
    touched,
    unfilled,
)
from conftest import Database
from direct import script_of
from psql import psql

from alembic_safe.operations import BackfillOp
from alembic_safe.postgres.identifiers import quote


@pytest.mark.parametrize("kind", ["a table", "a partitioned table"])
def test_the_script_fills_the_same_rows(database: Database, kind: str) -> None:
    if kind == "a table":
        keyed(database, KEYS["text"], rows=500)
    else:
        database.execute(
            f"CREATE TABLE t (k int, {COLUMNS}) PARTITION BY RANGE (k); {COUNT_TOUCHES}"
            "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100);"
            "CREATE TABLE t2 PARTITION OF t DEFAULT;"
            "INSERT INTO t SELECT i, 'a' || i FROM generate_series(1, 500) AS i"
        )
    psql(database, script_of(FILL))
    assert unfilled(database) == 0
    assert touched(database) == [(1, 500)]


def test_the_script_takes_odd_names_and_values_as_they_are(database: Database) -> None:
    odd = 'Full "Name" %s :x it\'s \\ %L'
    table = f"{quote(odd)}.{quote(odd)}"
    database.execute(
        f"CREATE SCHEMA {quote(odd)}; CREATE TABLE {table} ({quote(odd)} int PRIMARY KEY, b text);"
        f"INSERT INTO {table} SELECT generate_series(1, 25)"
    )
    value = "'it''s 100% %s \\ ' || " + quote(odd)
    psql(database, script_of(BackfillOp(odd, {"b": value}, "b IS NULL", schema=odd)))
    rows = database.execute(f"SELECT b FROM {table}")
    assert sorted(rows) == sorted((f"it's 100% %s \\ {i}",) for i in range(1, 26))


@pytest.mark.parametrize(("until_none_left", "left"), [(True, 0), (False, 1)])
def test_the_script_goes_on_as_long_as_it_should(
    database: Database, until_none_left: bool, left: int
) -> None:
    database.execute(
        f"CREATE TABLE t (k int, {COLUMNS}) PARTITION BY RANGE (k);"
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE t2 PARTITION OF t DEFAULT;"
        "INSERT INTO t SELECT i, 'a' || i FROM generate_series(1, 500) AS i"
    )
    # A row comes to the first partition while the second one is filled.
    database.execute(ARRIVING.replace("NEW.k + 1000", "7").replace("= 5", "= 500"))
    psql(database, script_of(BackfillOp("t", {"b": "a"}, "b IS NULL", until_none_left)))
    assert unfilled(database) == left


def test_the_script_commits_batch_by_batch(database: Database) -> None:
    keyed(database, INTEGER, rows=60_000)
    psql(database, script_of(FILL))
    assert unfilled(database) == 0
    assert len(batches(database)) > 1
