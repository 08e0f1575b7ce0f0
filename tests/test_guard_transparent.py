"""Under guard a connection gives the same results, row counts and errors, and is in the same state
afterwards, whether the catalog was read in between or not."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from conftest import Database
from guarded import DRIVERS, connected, guard_on, guarded, on_connection, place_of
from sqlalchemy.ext.asyncio import AsyncConnection

import alembic_safe
from alembic_safe.assurance import current_reason
from alembic_safe.runtime.transaction_state import TransactionState, transaction_state

Work = Callable[[sa.Connection], Any]

USERS = sa.table("users", sa.column("id", sa.Integer), sa.column("name", sa.Text))


def _sql(statement: str, **parameters: Any) -> Work:
    def work(connection: sa.Connection) -> Any:
        result = connection.execute(sa.text(statement), parameters)
        return result.all() if result.returns_rows else result.rowcount

    return work


def _verbatim(statement: str) -> Work:
    def work(connection: sa.Connection) -> Any:
        options = {"no_parameters": True}
        return connection.exec_driver_sql(statement, execution_options=options).all()

    return work


def _many(connection: sa.Connection) -> Any:
    rows = [{"id": number, "name": "%s"} for number in range(10, 20)]
    result = connection.execute(sa.insert(USERS).returning(USERS.c.id), rows)
    return result.all()


def _executemany(connection: sa.Connection) -> Any:
    update = sa.text("UPDATE users SET name = :name WHERE id = :id")
    return connection.execute(update, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]).rowcount


def _streamed(connection: sa.Connection) -> Any:
    query = sa.text("SELECT id FROM users ORDER BY id")
    result = connection.execute(query, execution_options={"stream_results": True})
    return result.partitions(2).__next__()


def _cursor(connection: sa.Connection) -> Any:
    cursor = connection.connection.cursor()
    cursor.execute("SELECT name FROM users ORDER BY id")
    rows = cursor.fetchall()
    return [tuple(row) for row in rows], cursor.description[0][0], cursor.rowcount


def _after_an_error(connection: sa.Connection) -> Any:
    with pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("SELECT 1 / 0"))
    return _sql("CREATE INDEX i ON users (name)")(connection)


def _savepoint(connection: sa.Connection) -> Any:
    connection.execute(sa.text("INSERT INTO users VALUES (5, 'five')"))
    savepoint = connection.begin_nested()
    connection.execute(sa.text("INSERT INTO users VALUES (6, 'six')"))
    connection.execute(sa.text("CREATE INDEX i ON users (name)"))
    savepoint.rollback()
    return connection.execute(sa.text("SELECT id FROM users WHERE id > 4")).all()


def _commits(connection: sa.Connection) -> Any:
    connection.execute(sa.text("CREATE INDEX i ON users (name)"))
    connection.commit()
    connection.execute(sa.text("ALTER TABLE users RENAME name TO nick"))
    connection.rollback()
    return connection.execute(sa.text("SELECT name FROM users WHERE id = 1")).all()


def _autocommit(connection: sa.Connection) -> Any:
    connection.rollback()
    connection.execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(sa.text("CREATE INDEX CONCURRENTLY i ON users (name)"))
    connection.execute(sa.text("ALTER TABLE users RENAME name TO nick"))
    state = transaction_state(connection)
    connection.execute(sa.text("BEGIN"))
    connection.execute(sa.text("DROP INDEX i"))
    inside = transaction_state(connection)
    connection.execute(sa.text("ROLLBACK"))
    indexes = connection.execute(sa.text("SELECT count(*) FROM pg_indexes WHERE indexname = 'i'"))
    return state, inside, indexes.all()


def _locks(connection: sa.Connection) -> Any:
    connection.execute(sa.text("DROP INDEX IF EXISTS none"))
    connection.execute(sa.text("LOCK TABLE users IN SHARE MODE"))
    locks = sa.text(
        "SELECT relation::regclass::text, mode FROM pg_locks"
        " WHERE pid = pg_backend_pid() AND relation IS NOT NULL ORDER BY 1, 2"
    )
    return connection.execute(locks).all()


def _settings(connection: sa.Connection) -> Any:
    connection.execute(sa.text("SET LOCAL lock_timeout = '123ms'"))
    connection.execute(sa.text("CREATE INDEX i ON users (name)"))
    names = ("lock_timeout", "statement_timeout", "search_path", "application_name")
    shown = ", ".join(f"current_setting('{name}')" for name in names)
    return connection.execute(sa.text(f"SELECT {shown}")).all()


WORK: dict[str, Work] = {
    "a query": _sql("SELECT id, name, '100%' AS p FROM users ORDER BY id"),
    "with parameters": _sql("SELECT :a || '%' || :b", a="x%s", b="it's"),
    "verbatim": _verbatim("SELECT '100%', '%%', '%s'"),
    "a row count": _sql("UPDATE users SET name = upper(name)"),
    "rows back": _sql("DELETE FROM users WHERE id > 1 RETURNING id"),
    "many rows back": _many,
    "executemany": _executemany,
    "a streamed result": _streamed,
    "a cursor of the driver": _cursor,
    "an error of a value": _sql("SELECT 1 / 0"),
    "a duplicate": _sql("INSERT INTO users VALUES (1, 'again')"),
    "what is not there": _sql("SELECT * FROM nothing"),
    "an index on what is not there": _sql("CREATE INDEX i ON nothing (name)"),
    "what is there already": _sql("CREATE TABLE users (id int)"),
    "what cannot be in a transaction": _sql("CREATE INDEX CONCURRENTLY i ON users (name)"),
    "a failed transaction": _after_an_error,
    "a savepoint": _savepoint,
    "commit and rollback": _commits,
    "autocommit": _autocommit,
    "locks": _locks,
    "settings": _settings,
    "an index": _sql("CREATE INDEX i ON users (name)"),
    "a missing parameter": _sql("SELECT :a", b=1),
}


START = """
    DROP TABLE IF EXISTS users;
    CREATE TABLE users (id int PRIMARY KEY, name text);
    INSERT INTO users VALUES (1, 'one'), (2, 'two'), (3, 'three')
"""


@pytest.fixture
def users(database: Database) -> Database:
    database.execute(START)
    return database


def outcome(connection: sa.Connection, work: Work) -> Any:
    """Return what a work returns or raises, and in what state it leaves the connection."""
    try:
        result = work(connection)
    except sa.exc.StatementError as error:
        message = str(error.orig).splitlines()[0]
        result = type(error), type(error.orig), message, error.statement, error.params
    return result, connection.in_transaction(), transaction_state(connection)


@pytest.mark.parametrize("what", WORK)
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_same_happens(users: Database, driver: str, what: str) -> None:
    if driver == "psycopg_async" and what == "a cursor of the driver":
        pytest.skip("its cursor has no description once it is read")

    def plainly(connection: sa.Connection) -> Any:
        return outcome(connection, WORK[what])

    def under_guard(connection: sa.Connection) -> Any:
        with guarded(connection, guard="warn"):
            return outcome(connection, WORK[what])

    def assured(connection: sa.Connection) -> Any:
        with guarded(connection), alembic_safe.assured("test"):
            return outcome(connection, WORK[what])

    outcomes = []
    for run in (plainly, under_guard, assured):
        users.execute(START)
        outcomes.append(on_connection(users, driver, run))
    assert outcomes[1:] == outcomes[:1] * 2


def test_nothing_is_read_while_a_copy_or_a_pipeline_goes_on(users: Database) -> None:
    with connected(users) as connection, guarded(connection, guard="warn"):
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.pipeline():
            assert transaction_state(connection) is TransactionState.BUSY
            driver.execute("CREATE INDEX i ON users (name)")
            cursor = driver.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'i'")
            assert cursor.fetchall() == [(1,)]
        with driver.cursor().copy("COPY users FROM STDIN") as copy:
            copy.write_row((4, "four"))


def test_a_stream_that_is_read_meanwhile(users: Database) -> None:
    with connected(users) as connection, guarded(connection, guard="warn"):
        query = sa.text("SELECT n FROM generate_series(1, 3) AS n")
        streamed = connection.execute(query, execution_options={"stream_results": True})
        first = streamed.fetchone()
        connection.execute(sa.text("CREATE INDEX i ON users (name)"))
        assert [first, *streamed] == [(1,), (2,), (3,)]


def test_an_idle_connection_stays_idle(users: Database) -> None:
    with connected(users) as connection, guarded(connection):
        cursor = connection.connection.cursor()
        with pytest.raises(alembic_safe.SafetyError):
            cursor.execute("CREATE INDEX i ON users (name)")
        assert transaction_state(connection) is TransactionState.IDLE
        assert not connection.in_transaction()


def test_assured_reaches_into_run_async(users: Database) -> None:
    async def build(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("CREATE INDEX i ON users (name)"))

    def run(connection: sa.Connection) -> None:
        op = Operations(MigrationContext.configure(connection))
        with guarded(connection):
            with pytest.raises(alembic_safe.SafetyError):
                op.run_async(build)
            with alembic_safe.assured("3 rows"):
                op.run_async(build)

    on_connection(users, "asyncpg", run)


def test_a_comment_is_found_in_run_async(users: Database) -> None:
    async def build(connection: AsyncConnection) -> None:
        await connection.execute(sa.text("CREATE INDEX i ON users (name)"))
        # alembic-safe: allow index-not-concurrent -- 3 rows
        await connection.execute(sa.text("CREATE INDEX j ON users (name)"))

    def run(connection: sa.Connection) -> None:
        op = Operations(MigrationContext.configure(connection))
        # This file stands for the revision's.
        place = replace(place_of(), path=Path(__file__), module=globals())
        with guard_on(connection, guard="warn").watching(place) as watch:
            op.run_async(build)
        assert [each.reason for each in watch.assured] == ["3 rows"]

    on_connection(users, "asyncpg", run)


def test_assured_belongs_to_its_thread() -> None:
    with alembic_safe.assured("here"), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_reason).result() is None
        assert current_reason() == "here"
    assert current_reason() is None
