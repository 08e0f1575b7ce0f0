"""A connection that ends, a server that crashes, timeouts of a role, deadlocks: with every driver
the command ends in one clear message or completes, and run again it completes."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
from conftest import SERVER_SETTINGS, Database
from environments import ASYNC_ENV
from faults import Commands
from hand_written import write_history
from one_message import failure
from patience import wait_for_waiter
from project import ENV, Project
from psycopg.errors import DeadlockDetected
from waiting import wait_until, wait_until_alone
from wire import Wire

from alembic_safe.rehearsal.server import ScratchServer, installed_binaries

pytestmark = pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])

LOST = "the connection to the server was lost: "

TABLES = """
CREATE TABLE users (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, user_id int);
INSERT INTO users VALUES (1);
INSERT INTO orders SELECT n, 1 FROM generate_series(1, 10) AS n;
ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users NOT VALID;
CREATE TABLE gate (is_closed bool);
"""

RUNS = """
op.execute("ALTER TABLE users ADD note text")
op.execute("SELECT pg_sleep(600) FROM gate")
"""
THINKS = """
import pathlib, time
op.execute("ALTER TABLE users ADD note text")
while pathlib.Path("gate").exists():
    time.sleep(0.01)
op.execute("ALTER TABLE users ADD remark text")
"""
WAITS = """
op.execute("CREATE TABLE made (id int)")
op.execute("LOCK TABLE orders IN SHARE MODE")
op.execute("ALTER TABLE users ADD note text")
"""
ALONE = """
op.add_column_if_not_exists("users", "note", "text")
op.create_check_constraint_not_valid("positive", "orders", "id > 0")
op.validate_constraint("positive", "orders")
"""
OUTSIDE = "transactional = False"

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
IS_RUNNING = f"SELECT pid {OTHERS} AND wait_event = 'PgSleep'"
IS_THINKING = (
    f"SELECT pid {OTHERS} AND state = 'idle in transaction' AND query LIKE 'ALTER TABLE users%'"
)
IS_WAITING = f"SELECT pid {OTHERS} AND wait_event_type = 'Lock'"


@dataclass
class Shop:
    """A database, and commands that migrate it through a driver.

    Args:
        database: where.
        project: its environment.
        commands: runs its commands.
        driver: of SQLAlchemy.
        url: of the database, as the environment has it.
    """

    database: Database
    project: Project
    commands: Commands
    driver: str
    url: str

    def connect_through(self, url: str) -> None:
        self.url = url
        self.project.connect_to(url)

    def start(self, upgrade: str, marks: str = "") -> None:
        """Start an upgrade to a revision; an attempt may wait for long."""
        write_history(self.project, "r1", upgrade=upgrade, marks=marks)
        self.again()

    def again(self) -> None:
        """Start the same command."""
        settings = {"LOCK_TIMEOUT": "60s", "RETRY_BASE": "1ms"}
        env = {f"ALEMBIC_SAFE_{name}": value for name, value in settings.items()}
        self.commands.start("upgrade", "head", env=env)

    def told(self) -> str:
        """Return the one message with which the command failed."""
        life = self.commands.finish()
        return failure(subprocess.CompletedProcess("", life.returncode, life.output, ""))

    def completes(self) -> None:
        """The command that runs comes to its end, which is the one that it has to have."""
        life = self.commands.finish()
        assert life.returncode == 0, life.output
        assert self.database.execute("SELECT version_num FROM alembic_version") == [("r1",)]
        assert "note" in self.columns()

    def columns(self) -> list[str]:
        rows = self.database.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0"
        )
        return [name for (name,) in rows]

    def is_as_before(self) -> None:
        """Nothing of the revision is there."""
        wait_until_alone(self.database)
        assert self.columns() == ["id"]
        assert self.database.execute("SELECT to_regclass('made')") == [(None,)]

    @contextmanager
    def gate_closed(self) -> Iterator[None]:
        """A revision does not get through."""
        file = self.project.folder / "gate"
        file.touch()
        self.database.execute("INSERT INTO gate VALUES (true)")
        try:
            yield
        finally:
            file.unlink()
            self.database.execute("TRUNCATE gate")

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Somebody has a table."""
        other = self.database.connect()
        other.execute("BEGIN")
        other.execute(f"LOCK TABLE {table}".encode())
        try:
            yield
        finally:
            other.close()


@pytest.fixture(scope="module")
def crashing_server() -> Iterator[ScratchServer]:
    """A server of this module's own, which does not forget what was committed."""
    binaries = installed_binaries()
    settings = {**SERVER_SETTINGS, "synchronous_commit": "on"}
    with ScratchServer(binaries[max(binaries)], settings) as server:
        yield server


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Commands]]:
    project = Project(tmp_path_factory.mktemp("faults"), "x://")
    with Commands(project) as commands:
        yield project, commands


@pytest.fixture
def shop(
    crashing_server: ScratchServer, commands: tuple[Project, Commands], driver: str
) -> Iterator[Shop]:
    project, runs = commands
    name = f"shop_{uuid.uuid4().hex[:12]}"
    crashing_server.create_database(name)
    database = Database(crashing_server, name)
    database.execute(TABLES)
    (project.migrations / "env.py").write_text(ASYNC_ENV if driver == "asyncpg" else ENV)
    shop = Shop(database, project, runs, driver, database.url(driver))
    shop.connect_through(shop.url)
    yield shop
    crashing_server.start()
    crashing_server.drop_database(name)
    if runs.is_running:
        runs.finish()


# A session that the server ends.


@pytest.mark.parametrize(
    ("upgrade", "is_there"), [(RUNS, IS_RUNNING), (THINKS, IS_THINKING)], ids=["runs", "thinks"]
)
def test_a_session_that_is_terminated(shop: Shop, upgrade: str, is_there: str) -> None:
    with shop.gate_closed():
        shop.start(upgrade)
        pid = wait_until(shop.database, is_there)
        shop.database.execute(f"SELECT pg_terminate_backend({pid})")
        wait_until(shop.database, f"SELECT NOT EXISTS (SELECT {OTHERS} AND pid = {pid})")
    assert LOST in shop.told()
    shop.is_as_before()
    shop.again()
    shop.completes()


@pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.slow), "immediate"])
@pytest.mark.parametrize(("upgrade", "marks"), [(WAITS, ""), (ALONE, OUTSIDE)], ids=["one", "many"])
def test_a_server_that_restarts_while_a_lock_is_waited_for(
    shop: Shop, mode: Literal["fast", "immediate"], upgrade: str, marks: str
) -> None:
    with shop.locked("orders"):
        shop.start(upgrade, marks)
        wait_until(shop.database, IS_WAITING)
        shop.database.server.restart(mode)
    assert LOST in shop.told()
    if not marks:
        shop.is_as_before()
    shop.again()
    shop.completes()


# A wire that is cut: nobody says a word.


@pytest.fixture
def wire(crashing_server: ScratchServer) -> Iterator[Wire]:
    with Wire(crashing_server.port) as wire:
        yield wire


def through(shop: Shop, wire: Wire) -> None:
    url = shop.url.replace(f":{shop.database.server.port}/", f":{wire.port}/")
    assert url != shop.url
    shop.connect_through(url)


def test_a_wire_that_is_cut_while_a_statement_waits(shop: Shop, wire: Wire) -> None:
    through(shop, wire)
    with shop.locked("orders"):
        shop.start(WAITS)
        wait_until(shop.database, IS_WAITING)
        wire.cut()
        assert LOST in shop.told()
    shop.again()
    shop.completes()


def test_a_wire_that_is_cut_between_two_statements(shop: Shop, wire: Wire) -> None:
    through(shop, wire)
    with shop.gate_closed():
        shop.start(THINKS)
        wait_until(shop.database, IS_THINKING)
        wire.cut()
        wait_until_alone(shop.database)
    assert LOST in shop.told()
    shop.is_as_before()
    shop.again()
    shop.completes()


# Timeouts that somebody gave the role.


@pytest.fixture
def role(shop: Shop) -> Iterator[Callable[[str], None]]:
    """Runs the commands as a role with a setting of its own."""
    name = f"role_of_{shop.database.name}"
    shop.database.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")

    def has(setting: str) -> None:
        shop.database.execute(f"ALTER ROLE {name} SET {setting}")
        shop.connect_through(shop.database.url(shop.driver, name))

    yield has
    shop.database.execute(f"REASSIGN OWNED BY {name} TO postgres; DROP ROLE {name}")


def test_a_statement_that_takes_longer_than_the_role_may(
    shop: Shop, role: Callable[[str], None]
) -> None:
    role("statement_timeout = '1s'")
    with shop.gate_closed():
        shop.start(RUNS)
        told = shop.told()
    assert "Revision r1: canceling statement due to statement timeout" in told
    assert "SELECT pg_sleep(600) FROM gate" in told
    shop.is_as_before()
    shop.again()
    shop.completes()


def test_a_transaction_that_thinks_for_longer_than_the_role_may(
    shop: Shop, role: Callable[[str], None]
) -> None:
    role("idle_in_transaction_session_timeout = '1s'")
    with shop.gate_closed():
        shop.start(THINKS)
        wait_until(shop.database, IS_THINKING)
        wait_until_alone(shop.database)
    assert LOST in shop.told()
    shop.is_as_before()
    shop.again()
    shop.completes()


def test_a_lock_timeout_of_the_role_is_not_waited_out(
    shop: Shop, role: Callable[[str], None]
) -> None:
    # Alembic reads its version table before anything of ours is set.
    role("lock_timeout = '10ms'")
    shop.database.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    with shop.locked("alembic_version"):
        shop.start("op.execute('ALTER TABLE users ADD note text')")
        told = shop.told()
    assert "canceling statement due to lock timeout" in told
    assert "Run the same command again" in told
    shop.is_as_before()
    shop.again()
    shop.completes()


# Deadlocks.

VALIDATES = (
    'op.validate_constraint("fk", "orders")\nop.add_column_if_not_exists("users", "note", "text")'
)


@pytest.mark.parametrize("victim", ["ours", "theirs"])
def test_a_deadlock(shop: Shop, victim: str) -> None:
    # Who looks for a deadlock and finds one gives way; each looks once, after so long a wait. We
    # have `orders` and want `users`.
    ours, theirs = ("1s", "10min") if victim == "ours" else ("10min", "5ms")
    shop.database.execute(f"ALTER DATABASE {shop.database.name} SET deadlock_timeout = '{ours}'")
    caught: list[DeadlockDetected] = []
    with shop.database.connect() as other:

        def cross() -> None:
            try:
                other.execute("LOCK TABLE orders IN SHARE MODE")
            except DeadlockDetected as error:
                caught.append(error)
            other.execute("ROLLBACK")

        other.execute(f"SET deadlock_timeout = '{theirs}'".encode())
        other.execute("BEGIN")
        other.execute("LOCK TABLE users")
        shop.start(VALIDATES, OUTSIDE)
        wait_for_waiter(shop.database, "users")
        crossing = threading.Thread(target=cross)
        crossing.start()
        shop.completes()
        crossing.join(timeout=60)
    assert len(caught) == (victim == "theirs")
    assert shop.database.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'fk'") == [
        (True,)
    ]
