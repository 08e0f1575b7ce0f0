"""A proxy in front of the server: does the connection keep one session of the server?

A run has its upgrade lock and its timeouts in a session. A proxy that pools transactions, such as
PgBouncer with `pool_mode = transaction`, gives each transaction to any of its sessions: two runs
could both have the lock, and queries of the application would run with our timeouts.

The server announces the pid of its process when a connection begins, and drivers keep it for
cancelling. PgBouncer announces a number of its own in its place. So where the process that answers
is the announced one, nobody stands between, and no more is looked at. Otherwise a second
connection asks in turn with ours which process answers: in a session that is ours alone it is
always the same one, and never that of the other. A pool hands out first what was given back last,
so that this finds out also where nobody else uses the pool.

Source: PostgreSQL documentation, 55.2.1 Start-up (BackendKeyData); PgBouncer documentation,
pool_mode, server_round_robin.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import SessionShared
from alembic_safe.runtime.second_connection import (
    ANSWER_SECONDS,
    NoSecondConnection,
    ended_after,
    open_another,
)

log = logging.getLogger("alembic.safe")

_LOOKS = 10
"""Where others take what was just given back, one look may not see it: of three sessions in use by
many, all ten miss it once in ten million times."""


def refuse_shared_session(connection: Connection, pid: int) -> None:
    """Refuse a connection whose transactions run in sessions that other clients use too.

    On a direct connection nothing is sent. Nothing is ever set: the session may be anybody's.

    Args:
        connection: the migration's; a transaction that is open there ends.
        pid: of the server process that answered it.

    Raises:
        SessionShared: with what proves it.
    """
    if pid == announced_pid(connection):
        return
    connection.rollback()
    ours: list[int] = [pid]
    others: list[int] = []
    try:
        _ask_in_turn(connection, ours, others)
    except NoSecondConnection as error:
        log.info("Behind a proxy, where a second connection got no answer: %s", error)
    ours.append(_answering(connection))
    proof = proof_of_sharing(ours, others)
    if proof is not None:
        raise SessionShared(proof)


def _ask_in_turn(connection: Connection, ours: list[int], others: list[int]) -> None:
    """Note which server processes answer, until there is a proof or there have been enough looks.

    Raises:
        NoSecondConnection: only ours is answered.
    """
    pool, another = open_another(connection)
    try:
        for _ in range(_LOOKS):
            ours.append(_answering(connection))
            with ended_after(ANSWER_SECONDS, another):
                others.append(_answering(another))
            if proof_of_sharing(ours, others):
                break
    except DBAPIError as error:
        raise NoSecondConnection(" ".join(str(error.orig).split())) from error
    finally:
        another.close()
        pool.dispose()


def proof_of_sharing(ours: Sequence[int], others: Sequence[int]) -> str | None:
    """Return what proves that a session is shared; None where nothing does.

    Args:
        ours: the server processes that answered our connection, one for each transaction.
        others: those that answered another connection meanwhile.
    """
    different = list(dict.fromkeys(ours))
    if len(different) > 1:
        return f"its transactions ran in server processes {different[0]} and {different[1]}"
    if different[0] in others:
        return f"another connection was given its server process {different[0]} as well"
    return None


def announced_pid(connection: Connection) -> int | None:
    """Return the pid that was announced when the connection began; None where the driver does not
    tell."""
    driver: Any = connection.connection.driver_connection
    if hasattr(driver, "info"):  # psycopg, psycopg2
        return int(driver.info.backend_pid)
    if hasattr(driver, "get_server_pid"):  # asyncpg
        return int(driver.get_server_pid())
    data = getattr(driver, "_backend_key_data", None)  # pg8000
    return int(struct.unpack_from("!i", data)[0]) if data else None


def _answering(connection: Connection) -> int:
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    connection.rollback()
    return int(pid)
