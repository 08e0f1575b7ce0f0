"""Waiting for locks without an end that hurts: how long, how often, and who was in the way."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.settings import Settings

log = logging.getLogger("alembic.safe")

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
RETRIED = frozenset({LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED})
"""PostgreSQL documentation, Appendix A. Error Codes."""

_MOST_DOUBLINGS = 64
"""Beyond every cap that makes sense, and before floating point numbers end."""


def sqlstate(error: DBAPIError) -> str | None:
    """Return the server's error code.

    Drivers raise different classes for one code (psycopg and psycopg2 OperationalError, asyncpg
    its own, pg8000 ProgrammingError), so the class says nothing.
    """
    original = error.orig
    for attribute in ("sqlstate", "pgcode"):
        code = getattr(original, attribute, None)
        if isinstance(code, str):
            return code
    details = original.args[0] if original is not None and original.args else None
    if isinstance(details, dict) and isinstance(details.get("C"), str):
        return str(details["C"])
    return None


def server_message(error: DBAPIError) -> str:
    """Return what the server said, on one line and without a full stop."""
    # psycopg and psycopg2 tell the parts in `diag`; SQLAlchemy wraps what asyncpg raises. The
    # whole text would repeat the statement, or name a Python class.
    diagnostics = getattr(error.orig, "diag", None) or getattr(error.orig, "__cause__", None)
    message = getattr(diagnostics, "message_primary", getattr(diagnostics, "message", None))
    detail = getattr(diagnostics, "message_detail", getattr(diagnostics, "detail", None))
    said = f"{message} ({detail.rstrip('.')})" if message and detail else message or error.orig
    return " ".join(str(said).split()).rstrip(".")


_FIRST_LOCK_TIMEOUT = 0.05


@dataclass
class Patience:
    """The time that one run may spend on waiting for locks, and the pauses between attempts.

    Args:
        settings: `lock_deadline`, `retry_base` and `retry_cap` are read.
        sleep: waits for seconds.
        uniform: a random number between two bounds.
        clock: seconds since any fixed moment.
    """

    settings: Settings
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    clock: Callable[[], float] = time.monotonic
    spent: float = 0.0

    def lock_timeout(self, attempt: int) -> float:
        """Return how long an attempt may wait for its lock, in seconds.

        The first attempts are short: mostly the lock is free, and where it is not, all queries
        that come behind wait as long. Above all, two transactions that lock two tables in
        opposite order end their deadlock by it.

        Args:
            attempt: from 1.
        """
        doubled = 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return min(self.settings.lock_timeout, _FIRST_LOCK_TIMEOUT * doubled)

    def pause(self, attempt: int, since: float) -> bool:
        """Wait before another attempt; the caller holds no lock and no transaction.

        The pause is drawn from zero to an upper bound that doubles ("full jitter"), so that
        several waiters do not come back together.

        Args:
            attempt: how many attempts have failed, from 1.
            since: the clock when the failed attempt began.

        Returns:
            False, without waiting, when the deadline leaves no time for another attempt.
        """
        doubled = 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        bound = min(self.settings.retry_cap, self.settings.retry_base * doubled)
        delay = self.uniform(0.0, bound)
        self.spent += self.clock() - since
        if self.spent + delay >= self.settings.lock_deadline:
            return False
        self.sleep(delay)
        self.spent += delay
        return True


@dataclass(frozen=True)
class Blocker:
    """A session that holds a lock on a relation."""

    pid: int
    application: str
    user: str
    state: str
    seconds: float
    mode: str
    relation: str
    is_vacuum: bool

    def __str__(self) -> str:
        kind = "autovacuum" if self.is_vacuum else (self.application or "no application name")
        return (
            f"pid {self.pid} ({kind}, user {self.user}, {self.state},"
            f" in its transaction for {self.seconds:.1f} s) holds {self.mode} on {self.relation}"
        )


def blockers(connection: Connection, relations: Iterable[QualifiedName]) -> tuple[Blocker, ...]:
    """Return who holds locks on relations, their partitions and their indexes, the oldest first.

    Args:
        connection: a connection that holds no lock itself.
        relations: what the failed statement needed.

    Source: PostgreSQL documentation, 53.12 pg_locks, 27.2.3 pg_stat_activity.
    """
    names = [name.sql for name in relations]
    if not names:
        return ()
    rows = connection.execute(_BLOCKERS, {"names": names}).all()
    return tuple(Blocker(*row) for row in rows)


_BLOCKERS = text(
    """
    WITH RECURSIVE wanted AS (
        SELECT to_regclass(name)::oid AS oid FROM unnest(CAST(:names AS text[])) AS name
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i JOIN wanted AS w ON w.oid = i.inhparent
    )
    SELECT DISTINCT ON (a.xact_start, a.pid)
           a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
           coalesce(a.state, a.backend_type),
           coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8,
           l.mode, l.relation::regclass::text, a.backend_type = 'autovacuum worker'
      FROM pg_catalog.pg_locks AS l
      JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
       AND l.relation IN (SELECT oid FROM wanted)
     ORDER BY a.xact_start, a.pid, l.mode
    """
)
