"""Blockers: who holds a lock that keeps us from taking ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, text

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

CLIENT = "client backend"
PREPARED = "prepared transaction"
AUTOVACUUM = "autovacuum"
WRAPAROUND = "autovacuum to prevent wraparound"
MIGRATION = "alembic-safe run"

RUN_MARKER = "alembic_safe run"
"""The text of the advisory lock that every run of this package has, in shared mode, whatever its
version table."""


@dataclass(frozen=True)
class Blocker:
    """A transaction that holds a lock on a relation.

    Args:
        kind: `client backend`, or another type of `pg_stat_activity`; `autovacuum`, `autovacuum to
            prevent wraparound`, `prepared transaction`, `alembic-safe run`.
        transaction: its virtual transaction, which no other has at the same time.
        pid: of its session; None for a prepared transaction, which has none.
        application: the session's `application_name`; of a prepared transaction the identifier.
        user: its role.
        state: of the session, `active`, `idle in transaction`; empty where this role may not see.
        seconds: since its transaction began; None where this role may not see.
        mode: of the lock, as `pg_locks` shows it.
        relation: the table, partition or index that is locked.
        state_seconds: since it is in its state; None where this role may not see.
        query: its current or last query, on one line and cut off; empty where nobody asked for it,
            or this role may not see it.
    """

    kind: str
    transaction: str
    pid: int | None
    application: str
    user: str
    state: str
    seconds: float | None
    mode: str
    relation: str
    state_seconds: float | None = None
    query: str = ""

    @property
    def in_short(self) -> str:
        """Who it is, in a few words."""
        if self.kind == PREPARED:
            return f"prepared transaction {self.application!r}"
        return f"pid {self.pid} ({', '.join(filter(None, (self._name, self.state)))})"

    @property
    def _name(self) -> str:
        if self.kind in (AUTOVACUUM, WRAPAROUND):
            return self.kind
        name = self.application or "no application name"
        return f"{name}, an {self.kind}" if self.kind == MIGRATION else name

    def facts(self) -> dict[str, Any]:
        """Return what is known, by the names of the fields; a query only if it was asked for."""
        known = asdict(self)
        if not self.query:
            del known["query"]
        return known

    def __str__(self) -> str:
        age = f"for {self.seconds:.1f} s" if self.seconds is not None else "for an unknown time"
        held = f"holds {self.mode} on {self.relation}"
        if self.kind == PREPARED:
            return (
                f"prepared transaction {self.application!r} (user {self.user}, prepared {age})"
                f" {held}"
            )
        state = f", {self.state}" if self.state else ""
        query = f", query: {self.query}" if self.query else ""
        return (
            f"pid {self.pid} ({self._name}, user {self.user}{state}, in its transaction {age})"
            f" {held}{query}"
        )


class Only(QualifiedName):
    """A table that is locked without its partitions."""


def blockers(
    connection: Connection,
    wanted: Mapping[QualifiedName, LockMode],
    *,
    with_queries: bool = False,
) -> tuple[Blocker, ...]:
    """Return who holds locks that conflict with ours, the oldest transaction first.

    Args:
        connection: the query takes no lock that anybody waits for.
        wanted: the mode that we need on each relation; partitions and inheriting tables are
            looked at with it, unless it is an `Only`. What is not there is left out.
        with_queries: whether to read what they execute, or have executed last.

    Source: PostgreSQL documentation, 53.13 pg_locks, 53.17 pg_prepared_xacts, 27.2.3
    pg_stat_activity.
    """
    if not wanted:
        return ()
    conflicting = [
        ",".join(mode.pg_locks_name for mode in wanted[name].conflicts()) for name in wanted
    ]
    names = [name.sql for name in wanted]
    modes = sorted({mode for each in conflicting for mode in each.split(",")})
    if not connection.execute(_MAY_BE_BLOCKED, {"names": names, "modes": modes}).scalar_one():
        return ()
    families = [not isinstance(name, Only) for name in wanted]
    values = {
        "names": names,
        "conflicting": conflicting,
        "families": families,
        "with_queries": with_queries,
    }
    rows = connection.execute(_BLOCKERS, values | {"marker": RUN_MARKER}).all()
    return tuple(Blocker(*row) for row in rows)


# A quarter of the time that the server needs only to plan the whole query. It finds more: locks on
# any partition.
_MAY_BE_BLOCKED = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
         WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.mode = ANY (CAST(:modes AS text[]))
           AND (l.relation = ANY (SELECT CAST(to_regclass(w.name) AS oid)
                                    FROM unnest(CAST(:names AS text[])) AS w(name))
                OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = l.relation)))
    """
)
_QUERY_CHARACTERS = 100
_BLOCKERS = text(
    rf"""
    WITH RECURSIVE l AS MATERIALIZED (
        SELECT * FROM pg_catalog.pg_locks
    ), wanted AS (
        SELECT CAST(to_regclass(w.name) AS oid) AS oid, w.conflicting, w.family
          FROM unnest(CAST(:names AS text[]), CAST(:conflicting AS text[]),
                      CAST(:families AS boolean[])) AS w(name, conflicting, family)
         UNION
        SELECT i.inhrelid, w.conflicting, w.family
          FROM pg_catalog.pg_inherits AS i JOIN wanted AS w ON w.oid = i.inhparent AND w.family
    ), held AS (
        SELECT DISTINCT ON (l.virtualtransaction, l.pid)
               l.virtualtransaction, l.pid, l.mode, CAST(l.relation AS regclass) AS relation
          FROM l JOIN wanted AS w
            ON w.oid = l.relation AND l.mode = ANY (string_to_array(w.conflicting, ','))
         WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.database
               = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
         ORDER BY l.virtualtransaction, l.pid, l.relation, l.mode
    )
    SELECT CASE WHEN h.pid IS NULL THEN '{PREPARED}'
                WHEN a.backend_type = 'autovacuum worker'
                THEN CASE WHEN a.query LIKE '%(to prevent wraparound)' THEN '{WRAPAROUND}'
                          ELSE '{AUTOVACUUM}' END
                WHEN EXISTS (
                    SELECT FROM l AS m
                     WHERE m.pid = h.pid AND m.locktype = 'advisory' AND m.objsubid = 1
                       AND (CAST(m.classid AS bigint) << 32 | CAST(m.objid AS bigint))
                           = hashtextextended(CAST(:marker AS text), 0)) THEN '{MIGRATION}'
                ELSE coalesce(a.backend_type, '{CLIENT}') END,
           h.virtualtransaction, h.pid,
           coalesce(a.application_name, p.gid, ''),
           coalesce(CAST(a.usename AS text), CAST(p.owner AS text), ''),
           coalesce(a.state, ''),
           CAST(extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))
                AS double precision) AS seconds,
           h.mode, CAST(h.relation AS text),
           CAST(extract(epoch FROM clock_timestamp() - a.state_change) AS double precision),
           CASE WHEN CAST(:with_queries AS boolean) AND a.query <> '<insufficient privilege>'
                THEN left(btrim(regexp_replace(a.query, '\s+', ' ', 'g')), {_QUERY_CHARACTERS})
                ELSE '' END
      FROM held AS h
      LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = h.pid
      LEFT JOIN l AS own
        ON h.pid IS NULL AND own.pid IS NULL AND own.locktype = 'transactionid' AND own.granted
       AND own.virtualtransaction = h.virtualtransaction
      LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON p.transaction = own.transactionid
     ORDER BY seconds DESC NULLS FIRST, h.pid
    """
)
