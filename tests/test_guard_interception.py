"""Every statement of a connection is seen before it is sent, whatever wrote it, and nothing else
changes: neither results nor errors, nor the driver's connection afterwards."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import psycopg2.extras
import psycopg2.sql
import pytest
import sqlalchemy as sa
from conftest import Database
from guarded import DRIVERS, connected, on_connection
from psycopg import sql
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from alembic_safe.runtime.interception import Outgoing, intercepted


@dataclass
class Recorder:
    """Notes what it sees; may refuse a text."""

    texts: list[str] = field(default_factory=list)
    executed: int = 0
    ends: list[bool] = field(default_factory=list)
    refused: str = ""

    def before(self, outgoing: Outgoing) -> None:
        self.texts.append(outgoing.text)
        if self.refused and self.refused in outgoing.text:
            raise Stopped(outgoing.text)

    def after(self) -> None:
        self.executed += 1

    def ended(self, *, keep: bool) -> None:
        self.ends.append(keep)


class Stopped(Exception):
    """What a watcher raises."""


def seen(database: Database, driver: str, run: Callable[[sa.Connection], Any]) -> list[str]:
    """Return the texts that a function sends."""
    recorder = Recorder()

    def watched(connection: sa.Connection) -> None:
        with intercepted(connection, recorder):
            run(connection)

    on_connection(database, driver, watched)
    assert recorder.executed == len(recorder.texts)
    return recorder.texts


class Base(DeclarativeBase):
    """Models of a data migration."""


class User(Base):
    """A table with a server default, for RETURNING."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def users(database: Database) -> Database:
    database.execute("CREATE TABLE users (id serial PRIMARY KEY, name text)")
    return database


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_sqlalchemy_sends(users: Database, driver: str) -> None:
    def run(connection: sa.Connection) -> None:
        connection.execute(sa.text("SELECT 1 -- 100%"))
        connection.exec_driver_sql("SELECT 2")
        connection.execute(sa.insert(User), [{"name": "a"}, {"name": "b"}])
        with Session(connection) as session:
            session.add(User(name="c"))
            session.flush()
            with session.begin_nested():
                session.scalars(sa.select(User).where(User.name == "50%")).all()

    texts = seen(users, driver, run)
    assert texts[:2] == ["SELECT 1 -- 100%", "SELECT 2"]
    assert [text.split()[0] for text in texts[2:]] == [
        "INSERT",
        "INSERT",
        "SAVEPOINT",
        "SELECT",
        "RELEASE",
    ]
    assert not any("%" in text for text in texts[2:])
    assert "$1" in texts[3]


def test_raw_cursors_of_psycopg(users: Database) -> None:
    def run(connection: sa.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        cursor = connection.connection.cursor()
        cursor.execute("SELECT '100%'")
        cursor.execute(b"SELECT %s::int", (1,))
        cursor.execute(
            sql.SQL("SELECT {}").format(sql.Identifier("x%") + sql.SQL(' FROM (SELECT 1 AS "x%")'))
        )
        cursor.executemany("INSERT INTO users (name) VALUES (%(name)s)", [{"name": "a"}] * 2)
        driver.execute(query="SELECT '%%', %(a)s::int", params={"a": 1})
        with driver.cursor().copy("COPY users (name) FROM STDIN") as copy:
            copy.write_row(["b"])
        with driver.cursor(name="c") as server_side:
            server_side.execute("SELECT * FROM users")
        assert list(driver.cursor().stream("SELECT 3")) == [(3,)]

    assert seen(users, "psycopg", run) == [
        "SELECT '100%'",
        "SELECT $1::int",
        'SELECT "x%" FROM (SELECT 1 AS "x%")',
        "INSERT INTO users (name) VALUES ($1)",
        "SELECT '%', $1::int",
        "COPY users (name) FROM STDIN",
        "SELECT * FROM users",
        "SELECT 3",
    ]


def test_raw_cursors_of_psycopg2(users: Database) -> None:
    def run(connection: sa.Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT '100%'")
        cursor.execute(b"SELECT %s", (1,))
        cursor.execute(psycopg2.sql.SQL("SELECT 1 AS {}").format(psycopg2.sql.Identifier("x")))
        cursor.executemany("INSERT INTO users (name) VALUES (%s)", [("a",), ("b",)])
        cursor.copy_expert("COPY users (name) FROM STDIN", io.StringIO("c\n"))
        cursor.callproc("pg_backend_pid")
        connection.connection.cursor("named").execute("SELECT * FROM users")
        psycopg2.extras.execute_values(
            cursor, "INSERT INTO users (name) VALUES %s", [("d",), ("e",)]
        )

    assert seen(users, "psycopg2", run) == [
        "SELECT '100%'",
        "SELECT $1",
        'SELECT 1 AS "x"',
        "INSERT INTO users (name) VALUES ($1)",
        "COPY users (name) FROM STDIN",
        "SELECT * FROM pg_backend_pid()",
        "SELECT * FROM users",
        "INSERT INTO users (name) VALUES ('d'),('e')",
    ]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg_async"])
def test_raw_cursors_of_adapters(users: Database, driver: str) -> None:
    def run(connection: sa.Connection) -> None:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]

    assert seen(users, driver, run) == ["SELECT 1"]


def test_a_driver_connection_in_a_coroutine(users: Database) -> None:
    texts: list[str] = []

    async def run() -> None:
        engine = create_async_engine(users.url("psycopg"), poolclass=sa.NullPool)
        async with engine.connect() as connection:
            recorder = Recorder(texts)
            assert connection.sync_connection is not None
            with intercepted(connection.sync_connection, recorder):
                raw = await connection.get_raw_connection()
                driver = raw.driver_connection
                assert isinstance(driver, psycopg.AsyncConnection)
                cursor = await driver.execute("SELECT 1")
                assert await cursor.fetchall() == [(1,)]

    asyncio.run(run())
    assert texts == ["SELECT 1"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_is_refused_is_not_sent(users: Database, driver: str) -> None:
    def run(connection: sa.Connection) -> list[int]:
        with intercepted(connection, Recorder(refused="DELETE")):
            connection.execute(sa.text("INSERT INTO users (name) VALUES ('a')"))
            with pytest.raises(Stopped):
                connection.execute(sa.text("DELETE FROM users"))
            with pytest.raises(Stopped):
                connection.connection.cursor().execute("DELETE FROM users")
            return list(connection.execute(sa.text("SELECT count(*) FROM users")).scalars())

    assert on_connection(users, driver, run) == [1]


@pytest.mark.parametrize("driver", DRIVERS)
def test_commit_and_rollback(users: Database, driver: str) -> None:
    recorder = Recorder()

    def run(connection: sa.Connection) -> None:
        with intercepted(connection, recorder):
            connection.execute(sa.text("SELECT 1"))
            connection.commit()
            connection.execute(sa.text("SELECT 1"))
            connection.rollback()

    on_connection(users, driver, run)
    assert recorder.ends == [True, False]


def test_factories_of_the_user_stay(users: Database) -> None:
    class Counting(psycopg.Cursor[Any]):
        count = 0

        def execute(self, *args: Any, **keywords: Any) -> Any:
            Counting.count += 1
            return super().execute(*args, **keywords)

    with connected(users) as connection:
        driver: Any = connection.connection.driver_connection
        driver.cursor_factory = Counting
        recorder = Recorder()
        with intercepted(connection, recorder):
            cursor = driver.cursor()
            assert isinstance(cursor, Counting)
            cursor.execute("SELECT 1")
            connection.execute(sa.text("SELECT 2"))
        assert driver.cursor_factory is Counting
    assert Counting.count == 2
    assert recorder.texts == ["SELECT 1", "SELECT 2"]


def test_a_factory_set_meanwhile_stays(users: Database) -> None:
    with connected(users, "psycopg2") as connection:
        driver: Any = connection.connection.driver_connection
        with intercepted(connection, Recorder()):
            driver.cursor_factory = psycopg2.extras.RealDictCursor
        assert driver.cursor_factory is psycopg2.extras.RealDictCursor


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_drivers_connection_is_as_before(users: Database, driver: str) -> None:
    def classes(connection: sa.Connection) -> list[Any]:
        dbapi_connection: Any = connection.connection.dbapi_connection
        inner = connection.connection.driver_connection
        names = ("cursor_factory", "server_cursor_factory")
        return [type(dbapi_connection), *(getattr(inner, name, None) for name in names)]

    def run(connection: sa.Connection) -> None:
        before = classes(connection)
        with pytest.raises(Stopped), intercepted(connection, Recorder(refused="SELECT")):
            connection.execute(sa.text("SELECT 1"))
        assert classes(connection) == before
        connection.execute(sa.text("SELECT 1"))

    on_connection(users, driver, run)


def test_a_connection_that_is_replaced(users: Database) -> None:
    def run(connection: sa.Connection) -> None:
        connection.invalidate()
        connection.rollback()
        connection.execute(sa.text("SELECT 1"))
        connection.connection.cursor().execute("SELECT 2")

    assert seen(users, "psycopg", run) == ["SELECT 1", "SELECT 2"]


def test_another_connection_of_the_engine_is_not_seen(users: Database) -> None:
    def run(connection: sa.Connection) -> None:
        with connection.engine.connect() as other:
            other.execute(sa.text("SELECT 1"))

    assert seen(users, "psycopg", run) == []


def test_a_cursor_that_failed_is_not_trusted_any_more(users: Database) -> None:
    recorder = Recorder()
    with connected(users) as connection, intercepted(connection, recorder):
        with pytest.raises(sa.exc.ProgrammingError):
            connection.execute(sa.text("SELECT nothing"))
        connection.rollback()
        connection.connection.cursor().execute("SELECT 1")
    assert recorder.texts == ["SELECT nothing", "SELECT 1"]
    assert recorder.executed == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_change_of_the_isolation_level_is_nobodys_statement(users: Database, driver: str) -> None:
    def run(connection: sa.Connection) -> None:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("SELECT 1")
        connection.commit()
        connection.execution_options(isolation_level="READ COMMITTED")
        connection.exec_driver_sql("SELECT 2")

    assert seen(users, driver, run) == ["SELECT 1", "SELECT 2"]
