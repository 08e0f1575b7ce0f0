"""Where one transaction needs two tables, it takes them as the clients do: nobody deadlocks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from hand_written import write_history
from patience import wait_for, wait_for_waiter
from project import Project
from psycopg.errors import DeadlockDetected
from waiting import wait_until

from alembic_safe.operations import CreateForeignKeyNotValidOp
from alembic_safe.runtime.execution import Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings

PATIENT = Settings(lock_timeout=60.0)
PATIENT_RUN = {"ALEMBIC_SAFE_LOCK_TIMEOUT": "60s", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}

SHOP = """
CREATE TABLE users (id int PRIMARY KEY, v int);
CREATE TABLE orders (id serial, user_id int REFERENCES users ON DELETE CASCADE, buyer_id int);
INSERT INTO users SELECT generate_series(1, 10);
"""
ADD = 'op.create_foreign_key_not_valid("fk", "orders", "users", ["buyer_id"], ["id"])'
DROP = 'op.drop_constraint_if_exists("orders_user_id_fkey", "orders")'


@pytest.fixture
def shop(database: Database) -> Database:
    """Tables, and a server that looks for deadlocks at once: with its default of one second a short
    lock timeout would come first, and hide them."""
    database.execute(SHOP)
    database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '5ms'")
    return database


# One client at the worst moment.


@contextmanager
def upgrading(project: Project, upgrade: str, *, transactional: bool) -> Iterator[None]:
    """An upgrade that is running; in the end it has to succeed."""
    marks = "" if transactional else "transactional = False"
    write_history(project, "r1", upgrade=upgrade, marks=marks)
    running = project.popen("upgrade", "head", env=PATIENT_RUN)
    yield
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    assert "deadlock detected" not in stderr


@pytest.mark.parametrize(
    ("first", "then", "transactional"),
    [
        ("INSERT INTO users VALUES (11)", "INSERT INTO orders (buyer_id) VALUES (11)", True),
        ("INSERT INTO users VALUES (11)", "INSERT INTO orders (buyer_id) VALUES (11)", False),
        ("UPDATE users SET v = 1 WHERE id = 1", "UPDATE orders SET buyer_id = 1", False),
    ],
)
def test_a_foreign_key_comes_between_the_statements_of_a_transaction(
    alembic_project: Project, shop: Database, first: str, then: str, transactional: bool
) -> None:
    with shop.connect() as client:
        client.execute("BEGIN")
        client.execute(first.encode())
        with upgrading(alembic_project, ADD, transactional=transactional):
            wait_for_waiter(shop, "users")
            client.execute(then.encode())
            client.execute("COMMIT")


@pytest.fixture
def slow_insert(shop: Database) -> None:
    """An INSERT into `orders` has its lock on that table, and waits before it checks its key."""
    shop.execute(
        """
        CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock_shared(7);
            RETURN NEW;
        END $$;
        CREATE TRIGGER waits BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION waits()
        """
    )


@pytest.mark.usefixtures("slow_insert")
@pytest.mark.parametrize(("upgrade", "transactional"), [(ADD, True), (DROP, True), (DROP, False)])
def test_a_foreign_key_comes_or_goes_in_the_middle_of_an_insert(
    alembic_project: Project, shop: Database, upgrade: str, transactional: bool
) -> None:
    with shop.connect() as gate, shop.connect() as client:
        gate.execute("SELECT pg_advisory_lock(7)")
        insert = "INSERT INTO orders (user_id) VALUES (1)"
        inserting = threading.Thread(target=client.execute, args=(insert.encode(),))
        inserting.start()
        wait_until(
            shop, "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        )
        with upgrading(alembic_project, upgrade, transactional=transactional):
            wait_for_waiter(shop, "orders")
            gate.execute("SELECT pg_advisory_unlock(7)")
            inserting.join(timeout=60)
    assert shop.execute("SELECT count(*) FROM orders") == [(1,)]


# Many clients.


@dataclass
class Load:
    """Clients that write, and the deadlocks that they end in.

    Args:
        database: where.
        transaction: what a client sends, over and over; `{id}` is its own number.
    """

    database: Database
    transaction: str
    deadlocks: int = 0
    done: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1000))

    @contextmanager
    def running(self) -> Iterator[None]:
        clients = [threading.Thread(target=self._write) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def wait_for_more_than(self, done: int) -> None:
        wait_for(lambda: self.done > done)

    def _write(self) -> None:
        with self.database.connect() as connection:
            while not self._stop.is_set():
                statements = self.transaction.format(id=next(self._numbers)).split("; ")
                with suppress(DeadlockDetected):
                    self._send(connection, statements)

    def _send(self, connection: psycopg.Connection[Any], statements: list[str]) -> None:
        try:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement.encode())
        except DeadlockDetected:
            self.deadlocks += 1
            raise
        self.done += 1


ROUNDS = 10
BOTH = "INSERT INTO users VALUES ({id}); INSERT INTO orders (buyer_id) VALUES ({id})"
TRANSACTIONS = {
    "a row, and one that refers to it": BOTH,
    "a row that refers to one": "INSERT INTO orders (user_id) VALUES (1 + {id} % 10)",
    "a row that goes with those that refer to it": (
        "INSERT INTO users VALUES ({id}); DELETE FROM users WHERE id = {id}"
    ),
}


def add_keys(load: Load, *, in_order: bool, is_enough: Callable[[], bool] = lambda: False) -> None:
    """Add foreign keys while clients write, one after the other."""
    engine = sa.create_engine(
        load.database.url(), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    with load.running(), engine.connect() as connection:
        # The clients find the deadlocks.
        connection.exec_driver_sql("SET deadlock_timeout = '10min'")
        executor = Executor(Patience(PATIENT), "r1")
        for number in range(ROUNDS):
            key = CreateForeignKeyNotValidOp(f"fk{number}", "orders", "users", ["buyer_id"], ["id"])
            (statement,) = key.statements(None)
            before = load.done
            executor.run_alone(
                connection, statement if in_order else replace(statement, lock_first=())
            )
            load.wait_for_more_than(before + 10)
            if is_enough():
                return


@pytest.mark.parametrize("transaction", TRANSACTIONS)
def test_no_client_that_writes_ends_in_a_deadlock_with_a_new_foreign_key(
    shop: Database, transaction: str
) -> None:
    load = Load(shop, TRANSACTIONS[transaction])
    add_keys(load, in_order=True)
    assert load.deadlocks == 0


def test_in_the_servers_own_order_the_same_clients_do(shop: Database) -> None:
    load = Load(shop, BOTH)
    add_keys(load, in_order=False, is_enough=lambda: load.deadlocks > 0)
    assert load.deadlocks > 0


# The rest of it.


def test_a_role_that_may_only_refer_to_a_table_adds_its_key_all_the_same(shop: Database) -> None:
    role = f"role_of_{shop.name}"
    shop.execute(f"CREATE ROLE {role} LOGIN")
    try:
        shop.execute(
            f"ALTER TABLE orders OWNER TO {role}; GRANT REFERENCES, SELECT ON users TO {role}"
        )
        engine = sa.create_engine(
            shop.url(user=role), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        (statement,) = CreateForeignKeyNotValidOp(
            "fk", "orders", "users", ["buyer_id"], ["id"]
        ).statements(None)
        with engine.connect() as connection:
            Executor(Patience(PATIENT), "r1").run_alone(connection, statement)
        assert shop.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'fk'") == [(1,)]
    finally:
        shop.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_key_of_a_table_to_itself_needs_no_order(shop: Database) -> None:
    key = CreateForeignKeyNotValidOp("fk", "users", "users", ["v"], ["id"])
    (statement,) = key.statements(None)
    assert statement.in_lock_order == statement.sql


@pytest.mark.parametrize("marks", ["", "transactional = False"])
def test_the_script_takes_the_locks_in_the_same_order(
    alembic_project: Project, shop: Database, marks: str
) -> None:
    write_history(alembic_project, "r1", upgrade="pass", downgrade=ADD, marks=marks)
    script = alembic_project.run("downgrade", "r1:base", "--sql").stdout
    timeout, lock, add = (
        script.index(text)
        for text in (
            "SET LOCAL lock_timeout",
            'LOCK TABLE "users", "orders" IN SHARE ROW EXCLUSIVE MODE;',
            'ALTER TABLE "orders" ADD CONSTRAINT "fk"',
        )
    )
    assert timeout < lock < add
    alembic_project.run("stamp", "r1")
    alembic_project.run("downgrade", "base")
    assert shop.execute("SELECT count(*) FROM pg_constraint WHERE conname = 'fk'") == [(1,)]
