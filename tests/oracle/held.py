"""Locks of a statement that no transaction block may contain: other sessions make it stop at each
of its locks, and look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

_POLL_SECONDS = 0.001

_WAITS_FOR = "select pg_blocking_pids(%s)"

_ITS_LOCKS = """
select relation, mode from pg_locks
where pid = %s and locktype = 'relation'
    and database = (select oid from pg_database where datname = current_database())
"""


def locks_while_running(
    session: psycopg.Connection[Any],
    statement: str,
    connect: Callable[[], psycopg.Connection[Any]],
    tables: list[str],
    held: str,
) -> dict[int, set[str]]:
    """Run a statement in autocommit and return the lock modes that it was seen to hold or wait for,
    by relation.

    One session for each table holds it in the mode `held`, and one holds an old snapshot, for which
    concurrent index builds wait. Each lets go when the statement waits for it. It is looked at only
    while it waits, so that every run sees the same.

    Args:
        session: where it runs.
        connect: makes a connection to the same database.
        tables: as SQL.
        held: a lock mode, as SQL.

    Raises:
        psycopg.Error: the statement fails.
    """
    observer, snapshot = connect(), connect()
    snapshot.execute("begin isolation level repeatable read")
    snapshot.execute("select 1")
    holders = {snapshot.info.backend_pid: snapshot}
    for table in tables:
        holder = connect()
        holder.execute("begin")
        holder.execute(f"lock table only {table} in {held} mode".encode())
        holders[holder.info.backend_pid] = holder
    failures: list[psycopg.Error] = []
    runs = threading.Thread(target=_run, args=(session, statement, failures))
    pid = session.info.backend_pid
    seen: dict[int, set[str]] = {}
    try:
        runs.start()
        while runs.is_alive():
            waited_for = set(observer.execute(_WAITS_FOR, [pid]).fetchall()[0][0]) & set(holders)
            if waited_for:
                for relation, mode in observer.execute(_ITS_LOCKS, [pid]):
                    seen.setdefault(relation, set()).add(mode)
            for blocker in waited_for:
                holders.pop(blocker).close()
            time.sleep(_POLL_SECONDS)
        runs.join()
    finally:
        for connection in (observer, *holders.values()):
            connection.close()
    if failures:
        raise failures[0]
    return seen


def _run(session: psycopg.Connection[Any], statement: str, failures: list[psycopg.Error]) -> None:
    try:
        session.execute(statement.encode())
    except psycopg.Error as error:
        failures.append(error)
