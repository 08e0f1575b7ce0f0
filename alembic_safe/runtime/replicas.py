"""Replicas: who replays the ACCESS EXCLUSIVE locks of a run, and what that does to queries there.

A standby replays the lock when it replays the transaction. A query there that uses the table is in
the way; it is cancelled after the standby's `max_standby_streaming_delay`, and until then nothing
else is replayed. No weaker lock is replayed. The primary knows which replicas are attached, and
nothing of their queries but the oldest snapshot, where `hot_standby_feedback` is on.

Source: PostgreSQL documentation, 26.4.2 Handling Query Conflicts, 27.2.4 pg_stat_replication.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.server_errors import sqlstate
from alembic_safe.runtime.events import REPLICAS_ATTACHED, facts
from alembic_safe.runtime.locking import INSUFFICIENT_PRIVILEGE

log = logging.getLogger("alembic.safe")


@dataclass(frozen=True)
class Replica:
    """A standby that is attached to the server.

    Args:
        name: its `application_name`.
        address: of its host; None for a local socket, or where this role may not see it.
        state: `streaming`, `catchup`; None where this role may not see it.
        reports_snapshot: whether it reports its oldest snapshot (`hot_standby_feedback`).
    """

    name: str
    address: str | None
    state: str | None
    reports_snapshot: bool

    def __str__(self) -> str:
        known = [self.address, self.state or "in a state that this role may not see"]
        if self.reports_snapshot:
            known.append("with hot_standby_feedback")
        return f"{self.name or 'no application name'} ({', '.join(filter(None, known))})"


@dataclass
class ReplicaNotice:
    """Says, once in a run, who replays a lock that is about to be taken.

    Args:
        replicas: the standbys that are attached.
    """

    replicas: Sequence[Replica]
    _is_told: bool = field(default=False, init=False)

    def before(self, wanted: Mapping[QualifiedName, LockMode], revision: str) -> None:
        """Say it if one of these locks is the first that is replayed."""
        message = notice(self.replicas, wanted, revision)
        if message is not None and not self._is_told:
            self._is_told = True
            told = [asdict(replica) for replica in self.replicas]
            log.info(message, extra=facts(REPLICAS_ATTACHED, revision=revision, replicas=told))


def notice(
    replicas: Sequence[Replica], wanted: Mapping[QualifiedName, LockMode], revision: str
) -> str | None:
    """Return what to say of the replicas before locks are taken; None where nothing is replayed."""
    tables = [str(name) for name, mode in wanted.items() if mode is LockMode.ACCESS_EXCLUSIVE]
    if not replicas or not tables:
        return None
    names = "; ".join(str(replica) for replica in replicas)
    return (
        f"{revision}: the ACCESS EXCLUSIVE lock on {', '.join(tables)} is replayed on {names}. A "
        "query there that uses it is cancelled after that server's max_standby_streaming_delay, "
        "with hot_standby_feedback too, and replay waits until then. So it is with every such lock "
        "of this run"
    )


def attached_replicas(connection: Connection) -> tuple[Replica, ...]:
    """Return the standbys that are attached, by name.

    Args:
        connection: the migration's, in no transaction; one query, which waits for nothing.
    """
    try:
        rows = connection.execute(_ATTACHED).all()
    except DBAPIError as error:
        # The views are everybody's, unless somebody took them away.
        if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
        rows = []
    connection.rollback()
    return tuple(Replica(*row) for row in rows)


# Logical replication takes no locks over; what only receives or copies files reports no replay.
# Who may not see the state may not see that either.
_ATTACHED = text(
    """
    SELECT coalesce(r.application_name, ''), host(r.client_addr), r.state,
           r.backend_xmin IS NOT NULL OR s.xmin IS NOT NULL
      FROM pg_catalog.pg_stat_replication AS r
      LEFT JOIN pg_catalog.pg_replication_slots AS s ON s.active_pid = r.pid
     WHERE s.slot_type IS DISTINCT FROM 'logical'
       AND (r.state IS NULL OR r.replay_lsn IS NOT NULL)
     ORDER BY 1, 2
    """
)
