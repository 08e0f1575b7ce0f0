"""Waiters: who waits because we wait or hold, and for how long; from one reading of `pg_locks`."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from alembic_safe.postgres.locks import LockMode


@dataclass(frozen=True)
class LockRow:
    """A row of `pg_locks`.

    Args:
        pid: whose it is.
        target: what is locked, as one text.
        is_relation: whether that is a relation of this database.
        mode: as the view shows it.
        granted: False while it is waited for.
        waited: seconds since the wait began; 0 where it has not been noted yet.
    """

    pid: int
    target: str
    is_relation: bool
    mode: str
    granted: bool
    waited: float = 0.0


@dataclass(frozen=True)
class Damage:
    """What a session costs the others at a moment.

    Args:
        waited: for how many seconds the session itself has been waiting; None where it does not.
        holds: whether it holds a lock that blocks reads or writes, while it waits.
        sessions: how many wait because of it, also by way of others.
        longest: the seconds that the first of them has waited because of it.
        together: the seconds that all of them have waited because of it.
    """

    waited: float | None = None
    holds: bool = False
    sessions: int = 0
    longest: float = 0.0
    together: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Return who waited behind, for a program."""
        return {"sessions": self.sessions, "longest": self.longest, "together": self.together}


def damage_of(rows: Sequence[LockRow], pid: int) -> Damage:
    """Return what the session `pid` costs the others.

    Args:
        rows: the locks of the session, and of all sessions that wait, granted ones too.
        pid: of the session.
    """
    ours = [row for row in rows if row.pid == pid]
    wait = next((row for row in ours if not row.granted), None)
    waits = [row for row in rows if not row.granted and row.pid != pid]
    holds = {row.target for row in ours if row.granted and _blocks(row)}
    behind: dict[int, float] = {}
    # Who waits for what we hold, or came after us to what we wait for ...
    for row in waits:
        is_behind = wait is not None and row.target == wait.target and row.waited < wait.waited
        if is_behind or row.target in holds:
            behind[row.pid] = row.waited
    # ... and who waits for what those hold. They may have waited for it before we came.
    grows = True
    while grows:
        held = _held_by(rows, behind.keys())
        more = {
            row.pid: min(row.waited, max(behind.values(), default=0.0))
            for row in waits
            if row.pid not in behind and row.target in held
        }
        behind |= more
        grows = bool(more)
    return Damage(
        waited=wait.waited if wait is not None else None,
        holds=bool(holds),
        sessions=len(behind),
        longest=max(behind.values(), default=0.0),
        together=sum(behind.values()),
    )


_BLOCKING_MODES = frozenset(mode.pg_locks_name for mode in LockMode if mode.blocks_reads_or_writes)


def _blocks(row: LockRow) -> bool:
    return row.is_relation and row.mode in _BLOCKING_MODES


def _held_by(rows: Sequence[LockRow], pids: Set[int]) -> set[str]:
    return {row.target for row in rows if row.granted and row.pid in pids}


def read_locks(connection: Connection, pid: int) -> list[LockRow]:
    """Return the locks that `damage_of` needs; takes no lock that anybody waits for.

    Needs PostgreSQL 14 or newer.

    Args:
        connection: another than that of the session.
        pid: of the session.

    Source: PostgreSQL documentation, 53.13 pg_locks.
    """
    return [LockRow(*row) for row in connection.execute(_LOCKS, {"pid": pid})]


_LOCKS = text(
    """
    WITH l AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks)
    SELECT l.pid,
           concat_ws(' ', l.locktype, l.database, l.relation, l.page, l.tuple, l.virtualxid,
                     l.transactionid, l.classid, l.objid, l.objsubid),
           l.locktype = 'relation' AND l.relation >= 16384,
           l.mode, l.granted,
           CAST(coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), 0)
                AS double precision)
      FROM l
     WHERE l.pid = CAST(:pid AS integer) OR l.pid IN (SELECT w.pid FROM l AS w WHERE NOT w.granted)
    """
)
