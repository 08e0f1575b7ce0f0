"""The migration's session: its timeouts, its advisory lock, and what it must be connected to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import UnsupportedServer, UpgradeRunning
from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.runtime.blockers import RUN_MARKER
from alembic_safe.runtime.events import UPGRADE_RUNNING, facts
from alembic_safe.runtime.proxies import refuse_shared_session

log = logging.getLogger("alembic.safe")

OLDEST_SERVER = 13
"""The oldest major version that is tested."""

_POLL_SECONDS = 0.5
_MESSAGE_SECONDS = 10.0


def execute_sql(connection: Connection, sql: str) -> None:
    """Execute SQL without parameters, as it stands: `%` and `:` mean nothing special."""
    connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


def query_scalar(connection: Connection, sql: str) -> Any:
    """Return the one value of a query without parameters, taken as it stands."""
    result = connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
    return result.scalar_one()


def query_rows(connection: Connection, sql: str) -> Sequence[Sequence[Any]]:
    """Return the rows of a query without parameters, taken as it stands."""
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True}).all()


def in_driver_autocommit(connection: Connection) -> bool:
    """Return whether each statement on the connection commits by itself.

    `Connection.get_isolation_level()` asks the server, which knows nothing of the driver's mode.
    """
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """A transaction on a connection in autocommit mode."""
    execute_sql(connection, "BEGIN")
    try:
        yield
    except BaseException:
        if not connection.invalidated:
            execute_sql(connection, "ROLLBACK")
        raise
    execute_sql(connection, "COMMIT")


def check_server(connection: Connection) -> None:
    """Refuse a server on which revisions cannot run.

    Raises:
        UnsupportedServer: it is too old, a standby, or read-only for this role.
        SessionShared: a proxy pools transactions.
    """
    version = int((connection.dialect.server_version_info or (0,))[0])
    if version < OLDEST_SERVER:
        raise UnsupportedServer(
            f"The server is PostgreSQL {version}; alembic-safe needs {OLDEST_SERVER} or newer. "
            "Upgrade the server, or run these revisions with plain Alembic. Nothing was changed."
        )
    is_standby, is_read_only, pid = connection.execute(_SERVER).one()
    if is_standby:
        raise UnsupportedServer(
            "The server is a standby, which cannot be changed. Point the URL of your Alembic "
            "environment to the primary, then run the same command again. Nothing was changed."
        )
    if is_read_only:
        raise UnsupportedServer(
            "The database is read-only for this role (setting default_transaction_read_only). "
            "Connect as a role that may write, then run the same command again. Nothing was "
            "changed."
        )
    refuse_shared_session(connection, pid)


_SERVER = text(
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', pg_backend_pid()"
)


@dataclass(frozen=True)
class SessionSettings:
    """Session settings as they were before the run, to go back to.

    A revision that runs `SET statement_timeout = 0` would change all revisions behind it.
    """

    lock_timeout: str
    statement_timeout: str
    idle_in_transaction_session_timeout: str
    search_path: str

    @classmethod
    def read(cls, connection: Connection) -> SessionSettings:
        """Return the settings in force."""
        names = ", ".join(f"current_setting('{name}')" for name in cls.__dataclass_fields__)
        return cls(*connection.execute(text(f"SELECT {names}")).one())

    def of_step(self, timeouts: str) -> str:
        """Return a query that sets what one transaction runs with; it has to come before the
        transaction's first lock.

        Args:
            timeouts: SQL expressions that set the transaction's timeouts.
        """
        others = ", ".join(
            f"set_config('{name}', {literal(getattr(self, name))}, false)" for name in _OTHERS
        )
        return f"SELECT {others}, {timeouts}"

    def restore(self, connection: Connection, lock_timeout: float | None = None) -> None:
        """Put the session's settings back.

        Args:
            connection: it is in no transaction, or one that will commit.
            lock_timeout: seconds to set in place of what it was.
        """
        values = dict(self.__dict__)
        if lock_timeout is not None:
            values["lock_timeout"] = milliseconds(lock_timeout)
        settings = ", ".join(
            f"set_config('{name}', {literal(value)}, false)" for name, value in values.items()
        )
        execute_sql(connection, f"SELECT {settings}")


_OTHERS = ("statement_timeout", "idle_in_transaction_session_timeout", "search_path")


def milliseconds(seconds: float) -> str:
    """Return a duration as a PostgreSQL setting takes it."""
    return f"{round(seconds * 1000)}ms"


@contextmanager
def one_upgrade_at_a_time(
    connection: Connection,
    version_table: QualifiedName,
    deadline: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[None]:
    """Hold the database's upgrade lock.

    It is an advisory lock of the migration's own session, so that it ends with the session,
    however that ends. It is polled: a session that waits inside `pg_advisory_lock` holds a
    snapshot for which `CREATE INDEX CONCURRENTLY` would wait, and both would wait for ever.

    Args:
        connection: the migration's connection, in no transaction.
        version_table: two environments with different version tables do not meet.
        deadline: seconds to wait while another session has it.
        sleep: waits for seconds.
        clock: seconds since any fixed moment.

    Raises:
        UpgradeRunning: the deadline passed.
    """
    key = {"key": f"alembic_safe upgrade of {version_table}"}
    started = clock()
    told = started - _MESSAGE_SECONDS
    while not _polled(connection, _TRY_LOCK, key):
        waited = clock() - started
        if waited >= deadline:
            raise UpgradeRunning(
                f"Another session is migrating this database ({_holder(connection, key)}), and it "
                f"did not end within {waited:.0f} s (setting upgrade_deadline). Wait for it, then "
                "run the same command again. Nothing was changed."
            )
        if clock() - told >= _MESSAGE_SECONDS:
            holder = _holder(connection, key)
            log.info(
                "Waiting: %s is migrating this database",
                holder,
                extra=facts(UPGRADE_RUNNING, holder=holder, seconds=waited),
            )
            told = clock()
        sleep(min(_POLL_SECONDS, max(deadline - waited, 0.01)))
    _polled(connection, _MARK, {"key": RUN_MARKER})
    try:
        yield
    finally:
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            _polled(connection, _UNMARK, {"key": RUN_MARKER})
            _polled(connection, _UNLOCK, key)


@contextmanager
def noticed_if_gone(connection: Connection) -> Iterator[None]:
    """Have the server notice when this process is gone, and end what it runs for it.

    Otherwise a statement of a process that was killed goes on to its end, with its locks and with
    the upgrade lock, and nobody can continue meanwhile; and where the whole machine is gone, or the
    network, the session stays for two hours. The first needs PostgreSQL 14 or newer, on a system
    that can tell. A value that somebody has set stays.

    Args:
        connection: the migration's connection, in no transaction.

    Source: PostgreSQL documentation, 19.3.2 TCP Settings (client_connection_check_interval,
    tcp_keepalives_idle).
    """
    changed: list[str] = []
    for values in (_IF_PROCESS_GONE, _IF_MACHINE_GONE):
        try:
            changed += connection.execute(_SET_UNSET, values).scalars()
            connection.commit()
        except DBAPIError:
            # The server's system cannot tell.
            connection.rollback()
    try:
        yield
    finally:
        if changed and not connection.closed and not connection.invalidated:
            connection.rollback()
            connection.execute(_UNSET, {"names": changed})
            connection.commit()


_IF_PROCESS_GONE = {"names": ["client_connection_check_interval"], "values": ["2s"]}
_IF_MACHINE_GONE = {
    "names": ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"],
    "values": ["15", "5", "3"],
}
"""Noticed after 15 s of silence and 3 questions without an answer, 5 s apart."""

_SET_UNSET = text(
    """
    SELECT s.name, set_config(w.name, w.value, false)
      FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS w(name, value)
      JOIN pg_catalog.pg_settings AS s ON s.name = w.name
     WHERE s.source = 'default' OR s.setting = '0'
    """
)
_UNSET = text("SELECT set_config(name, '0', false) FROM unnest(CAST(:names AS text[])) AS w(name)")


def _polled(connection: Connection, query: TextClause, key: dict[str, str]) -> bool:
    held = connection.execute(query, key).scalar_one()
    connection.commit()
    return bool(held)


def _holder(connection: Connection, key: dict[str, str]) -> str:
    row = connection.execute(_HOLDER, key).one_or_none()
    connection.commit()
    if row is None:
        return "a session that has just ended"
    return f"pid {row[0]} ({row[1] or 'no application name'}, user {row[2]})"


_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended(CAST(:key AS text), 0))")
_UNLOCK = text("SELECT pg_advisory_unlock(hashtextextended(CAST(:key AS text), 0))")
# For all runs, whatever their version table, so that they know each other.
_MARK = text("SELECT pg_try_advisory_lock_shared(hashtextextended(CAST(:key AS text), 0))")
_UNMARK = text("SELECT pg_advisory_unlock_shared(hashtextextended(CAST(:key AS text), 0))")
_HOLDER = text(
    """
    SELECT a.pid, a.application_name, a.usename
      FROM pg_catalog.pg_locks AS l
      JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND (l.classid::bigint << 32 | l.objid::bigint)
           = hashtextextended(CAST(:key AS text), 0)
    """
)
