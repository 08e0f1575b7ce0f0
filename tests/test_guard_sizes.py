"""Work on a small table is told and not stopped: the guard asks how large a table is where the
statement stands, and not what has its name afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from conftest import Database
from guarded import connected, guarded

from alembic_safe.errors import UnsafeStatement
from alembic_safe.rules.finding import Severity
from alembic_safe.rules.settings import LintSettings

LOCKS_ALONE = LintSettings(
    severity=dict.fromkeys(("rename-table", "retype-column", "drop-table"), Severity.OFF)
)


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """One to a database with large and small tables, and an empty one."""
    database.execute(
        """
        CREATE TABLE large (id int PRIMARY KEY, a int, note text);
        CREATE DOMAIN weight AS int;
        CREATE TABLE empty (id int PRIMARY KEY);
        CREATE TABLE small (id int PRIMARY KEY, a int, note text);
        CREATE TABLE events_large (id int, note text) PARTITION BY RANGE (id);
        CREATE TABLE events_small (id int, note text) PARTITION BY RANGE (id);
        CREATE TABLE others_large PARTITION OF events_large DEFAULT;
        CREATE TABLE others_small PARTITION OF events_small DEFAULT;
        INSERT INTO events_large SELECT n, repeat('x', 1900) FROM generate_series(1, 800) AS n;
        INSERT INTO events_small SELECT n, 'x' FROM generate_series(1, 5) AS n;
        INSERT INTO large SELECT n, n, repeat('x', 1900) FROM generate_series(1, 800) AS n;
        INSERT INTO small SELECT n, n, 'x' FROM generate_series(1, 5) AS n;
        """
    )
    with connected(database) as connected_:
        yield connected_


def stopped(connection: sa.Connection, *statements: str) -> str:
    """Return what the guard says of the first statement that it stops; empty where all pass."""
    with guarded(connection, lint_settings=LOCKS_ALONE):
        for statement in statements:
            try:
                connection.exec_driver_sql(statement)
            except UnsafeStatement as error:
                return str(error)
    return ""


INDEX_ON_LARGE = "CREATE INDEX i ON large (a)"
ANOTHER_TAKES_ITS_NAME = "ALTER TABLE large RENAME TO old; ALTER TABLE small RENAME TO large"


WORK = [
    ("CREATE INDEX i ON {} (a)", "index-not-concurrent"),
    ("ALTER TABLE {} ADD CONSTRAINT c CHECK (a > 0)", "add-constraint-validated"),
    ("LOCK TABLE {0}; CREATE MATERIALIZED VIEW v AS SELECT a FROM {0}", "work-while-locked"),
    ("REINDEX TABLE {}", "reindex-not-concurrent"),
    ("CLUSTER {0} USING {0}_pkey", "vacuum-full"),
    (
        "CREATE TABLE parted (LIKE {}) PARTITION BY RANGE (id);"
        " ALTER TABLE parted ATTACH PARTITION {} FOR VALUES FROM (0) TO (9999)",
        "attach-partition-scan",
    ),
    (
        "CREATE TABLE next PARTITION OF events_{} FOR VALUES FROM (10000) TO (20000)",
        "partition-created-in-place",
    ),
    (
        "ALTER TABLE {} ALTER a TYPE weight; ALTER DOMAIN weight ADD CHECK (VALUE > 0)",
        "domain-constraint",
    ),
]


@pytest.mark.parametrize(("statement", "code"), WORK)
def test_work_on_a_small_table_is_told_and_on_a_large_one_stopped(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture, statement: str, code: str
) -> None:
    assert stopped(connection, statement.format("small", "small")) == ""
    assert f"[{code}]" in caplog.text
    connection.rollback()
    assert f"[{code}]" in stopped(connection, statement.format("large", "large"))


def test_a_materialized_view_of_few_rows_may_be_one_of_many(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE MATERIALIZED VIEW v AS SELECT count(*) FROM large")
    connection.commit()
    assert "[refresh-not-concurrent]" in stopped(connection, "REFRESH MATERIALIZED VIEW v")


@pytest.mark.parametrize(
    "text",
    [
        f"{INDEX_ON_LARGE}; {ANOTHER_TAKES_ITS_NAME}",
        f"{INDEX_ON_LARGE}; ALTER TABLE large RENAME TO old; CREATE TABLE large (a int)",
        "DO $$ BEGIN ALTER TABLE large ALTER a TYPE text; ALTER TABLE large RENAME TO old;"
        " CREATE TABLE large (a int); END $$",
        f"REINDEX TABLE large; {ANOTHER_TAKES_ITS_NAME}",
        "LOCK TABLE small; CREATE MATERIALIZED VIEW v AS SELECT a FROM large;"
        f" {ANOTHER_TAKES_ITS_NAME}",
        "DO $$ BEGIN LOCK TABLE small; CREATE MATERIALIZED VIEW v AS SELECT a FROM large;"
        f" {ANOTHER_TAKES_ITS_NAME}; END $$",
    ],
)
def test_a_large_table_does_not_become_small_by_what_follows(
    connection: sa.Connection, text: str
) -> None:
    assert stopped(connection, text)


def test_what_is_lost_beside_an_empty_table_counts(connection: sa.Connection) -> None:
    assert stopped(connection, "TRUNCATE empty") == ""
    assert "[truncate]" in stopped(connection, "TRUNCATE empty, large")


FILL = "INSERT INTO small SELECT n, n, repeat('x', 1900) FROM generate_series(10, 800) AS n"


@pytest.mark.parametrize("between", ["", "; "])
def test_a_small_table_that_is_filled_is_not_small(connection: sa.Connection, between: str) -> None:
    filled = [FILL, "CREATE INDEX i ON small (a)"]
    assert stopped(connection, *([between.join(filled)] if between else filled))


def test_the_message_has_the_size_of_the_table_that_is_worked_on(connection: sa.Connection) -> None:
    assert " large (2 MB) " in stopped(connection, f"{INDEX_ON_LARGE}; {ANOTHER_TAKES_ITS_NAME}")


def test_a_small_table_can_take_the_name_of_a_large_one(connection: sa.Connection) -> None:
    block = f"DO $$ BEGIN {ANOTHER_TAKES_ITS_NAME}; {INDEX_ON_LARGE}; END $$"
    assert stopped(connection, block) == ""
