"""Statements on their way to the server: how long they wait, how they are repeated, how they
fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.operations import MigrateOperation
from conftest import Database
from direct import operations
from schema import schema_of
from sqlalchemy.pool import NullPool

from alembic_safe.errors import ConnectionLost, LockNotAcquired, MissingPrivilege, StatementFailed
from alembic_safe.operations import (
    AddColumnIfNotExistsOp,
    AddUniqueConstraintUsingIndexOp,
    CreateCheckConstraintNotValidOp,
    CreateSyncTriggerOp,
    DropSyncedColumnOp,
    SetNotNullOp,
    ValidateConstraintOp,
)
from alembic_safe.postgres.identifiers import quote
from alembic_safe.runtime.execution import Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.runtime.sessions import transaction
from alembic_safe.settings import Settings

TABLE = "CREATE TABLE t (id int PRIMARY KEY, a text, b text); INSERT INTO t VALUES (1, 'x', NULL);"
ADD = AddColumnIfNotExistsOp("t", "c", "text")
SETTINGS = Settings(lock_timeout=0.02, lock_deadline=30, retry_base=0.01, retry_cap=0.02)


@dataclass
class Pauses:
    """Takes the place of sleeping: what the run does while it pauses is what a test says.

    Args:
        during: called at each pause, with its number from 1.
    """

    during: Callable[[int], object] = lambda _number: None
    lengths: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self.during(len(self.lengths))


def _run(
    database: Database,
    step: MigrateOperation,
    pauses: Pauses | None = None,
    settings: Settings = SETTINGS,
    before: str = "",
) -> None:
    """Run an operation as in a revision whose statements commit one by one."""
    patience = Patience(settings, sleep=pauses or Pauses())
    with operations(database, patience=patience) as op, op.get_context().autocommit_block():
        if before:
            op.get_bind().exec_driver_sql(before)
        op.invoke(step)


@contextmanager
def _holding(database: Database, lock: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of an application that is in a transaction and has locked the table."""
    with database.connect() as connection:
        connection.execute("SET application_name = 'report job'")
        connection.execute(f"BEGIN; LOCK TABLE t IN {lock} MODE".encode())
        yield connection


# A lock that others have


def test_a_statement_is_repeated_until_the_lock_is_free(database: Database) -> None:
    database.execute(TABLE)
    with _holding(database, "ACCESS SHARE") as application:
        pauses = Pauses(lambda number: number == 3 and application.execute("COMMIT"))
        _run(database, ADD, pauses)
    assert len(pauses.lengths) == 3
    assert database.execute("SELECT c FROM t") == [(None,)]


def test_nothing_is_locked_while_it_pauses(database: Database) -> None:
    database.execute(TABLE)
    locks = []

    def look(_number: int) -> None:
        locks.extend(
            database.execute(
                "SELECT mode FROM pg_locks WHERE relation = 't'::regclass AND pid <> %s",
                [application.info.backend_pid],
            )
        )
        application.execute("COMMIT")

    with _holding(database, "ACCESS SHARE") as application:
        _run(database, ADD, Pauses(look))
    assert locks == []


def test_the_deadline_ends_it_and_names_who_is_in_the_way(database: Database) -> None:
    database.execute(TABLE)
    before = schema_of(database)
    settings = Settings(lock_timeout=0.02, lock_deadline=0.2, retry_base=0.01, retry_cap=0.02)
    with _holding(database, "ROW EXCLUSIVE") as application:
        pid = application.info.backend_pid
        with pytest.raises(LockNotAcquired) as caught:
            _run(database, ADD, settings=settings)
    message = str(caught.value)
    assert message.startswith("Revision r1: no lock on t within ")
    assert f"pid {pid} (report job, user postgres, idle in" in message
    assert "holds RowExclusiveLock on t" in message
    assert "lock_deadline" in message
    assert "What was committed before this statement stays." in message
    assert "run the same command again" in message
    assert schema_of(database) == before


def test_a_statement_waits_no_longer_than_the_lock_timeout_of_the_settings(
    database: Database,
) -> None:
    """A session without a limit of its own would wait for ever."""
    database.execute(TABLE)
    with _holding(database, "ACCESS SHARE") as application:
        pauses = Pauses(lambda _number: application.execute("COMMIT"))
        _run(database, ADD, pauses, before="SET lock_timeout = 0")
    assert len(pauses.lengths) == 1


def test_the_wait_of_a_validation_has_no_limit(database: Database) -> None:
    """It keeps only other schema changes away, so nobody queues behind it."""
    database.execute(TABLE + "ALTER TABLE t ADD CONSTRAINT ck CHECK (id > 0) NOT VALID")
    step = ValidateConstraintOp("ck", "t")
    with _holding(database, "ROW EXCLUSIVE"):
        _run(database, step, before="SET lock_timeout = '1ms'; SET statement_timeout = '1h'")
    assert database.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'ck'") == [
        (True,)
    ]


def test_the_timeouts_of_one_statement_do_not_reach_the_next(database: Database) -> None:
    database.execute(TABLE)
    with operations(database, settings=SETTINGS) as op, op.get_context().autocommit_block():
        connection = op.get_bind()
        connection.exec_driver_sql("SET lock_timeout = '7s'; SET statement_timeout = '8s'")
        op.invoke(ADD)
        op.invoke(CreateCheckConstraintNotValidOp("ck", "t", "id > 0"))
        op.invoke(ValidateConstraintOp("ck", "t"))
        with pytest.raises(StatementFailed):
            op.invoke(SetNotNullOp("t", "b"))
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("lock_timeout", "statement_timeout")
        ]
    assert shown == ["7s", "8s"]


def test_a_lock_that_is_missing_for_the_done_check_is_waited_for_like_any(
    database: Database,
) -> None:
    """Comparing definitions reads the table, which another session may have locked."""
    database.execute(TABLE + "ALTER TABLE t ADD CONSTRAINT ck CHECK (id > 0)")
    with _holding(database, "ACCESS EXCLUSIVE") as application:
        pauses = Pauses(lambda _number: application.execute("COMMIT"))
        step = CreateCheckConstraintNotValidOp("ck", "t", "id > 0")
        _run(database, step, pauses, before="SET lock_timeout = '20ms'")
    assert len(pauses.lengths) == 1


# Other failures


def test_what_the_server_refuses_is_told_once_with_the_statement(database: Database) -> None:
    database.execute(TABLE)
    pauses = Pauses()
    step = CreateCheckConstraintNotValidOp("ck", "t", "nothing > 0")
    with pytest.raises(StatementFailed) as caught:
        _run(database, step, pauses)
    message = str(caught.value)
    assert message.startswith('Revision r1, check constraint ck on t: column "nothing" does not')
    assert 'ALTER TABLE "t" ADD CONSTRAINT "ck" CHECK (nothing > 0) NOT VALID' in message
    assert "the command continues here" in message
    assert message.endswith("then run the same command again.")
    assert pauses.lengths == []


def test_statements_that_belong_together_are_all_done_or_none(database: Database) -> None:
    database.execute(TABLE)
    _run(database, CreateSyncTriggerOp("t", "a", "b"))
    before = schema_of(database)
    with pytest.raises(StatementFailed, match="no_such_function"):
        _run(database, DropSyncedColumnOp("t", "a", "b", server_default="no_such_function()"))
    assert schema_of(database) == before


def test_an_interrupt_between_two_statements_leaves_nothing_of_them(database: Database) -> None:
    database.execute(TABLE)
    engine = sa.create_engine(database.url(), isolation_level="AUTOCOMMIT", poolclass=NullPool)

    def interrupted(connection: sa.Connection) -> None:
        with transaction(connection):
            connection.exec_driver_sql("UPDATE t SET a = 'half'")
            raise KeyboardInterrupt

    with engine.connect() as connection:
        with pytest.raises(KeyboardInterrupt):
            interrupted(connection)
        assert connection.exec_driver_sql("SELECT a FROM t").scalar_one() == "x"


def test_a_failure_in_a_transaction_leaves_nothing_of_it(database: Database) -> None:
    database.execute(TABLE)
    before = schema_of(database)

    def revision() -> None:
        with operations(database) as op:
            op.invoke(ADD)
            op.invoke(SetNotNullOp("t", "b"))

    with pytest.raises(sa.exc.DBAPIError):
        revision()
    assert schema_of(database) == before


def test_comparing_in_a_transaction_keeps_what_the_transaction_did(database: Database) -> None:
    database.execute(TABLE + "ALTER TABLE t ADD CONSTRAINT ck CHECK (id > 0)")
    with operations(database) as op:
        op.invoke(ADD)
        op.invoke(CreateCheckConstraintNotValidOp("ck", "t", "id > 0"))
    assert database.execute("SELECT c FROM t") == [(None,)]
    assert database.execute("SELECT count(*) FROM pg_class WHERE relname ~ 'twin'") == [(0,)]


def test_a_lost_connection_is_not_taken_for_a_refusal(database: Database) -> None:
    database.execute(TABLE)

    def end_it(_number: int) -> None:
        database.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name <> 'report job'"
            " AND pid <> pg_backend_pid()"
        )

    engine = sa.create_engine(database.url(), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    executor = Executor(Patience(SETTINGS, sleep=Pauses(end_it)), revision="r1")
    (statement,) = ADD.statements(database.server.version)
    with (
        _holding(database, "ACCESS SHARE"),
        engine.connect() as connection,
        pytest.raises(ConnectionLost, match="Revision r1, column c on t: the connection to the"),
    ):
        executor.run_alone(connection, statement)


@pytest.mark.parametrize("step", [ADD, AddUniqueConstraintUsingIndexOp("uq", "t", "ix")])
def test_a_missing_right_is_not_taken_for_wrong_data(
    database: Database, step: MigrateOperation
) -> None:
    role = quote(f"guest of {database.name}")
    database.execute(TABLE + f"CREATE UNIQUE INDEX ix ON t (a); CREATE ROLE {role}")
    try:
        with pytest.raises(MissingPrivilege, match="must be owner of table t"):
            _run(database, step, before=f"SET ROLE {role}")
    finally:
        database.execute(f"DROP ROLE {role}")
