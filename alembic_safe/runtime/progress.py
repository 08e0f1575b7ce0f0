"""Progress: what a long statement that blocks nobody is at, and for whom it waits."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from alembic_safe.runtime.events import PROGRESS, facts

log = logging.getLogger("alembic.safe")

_LOOKS_BETWEEN = 10


@dataclass
class Progress:
    """Tells every ten seconds how far a statement is: a concurrent index build, a validation.

    Args:
        revision: that is running.
        interval: seconds between two looks.
    """

    revision: str
    interval: float = 1.0
    fails_closed: bool = False
    _looks: int = field(default=0, init=False)

    def look(self, connection: Connection, pid: int) -> None:
        """Tell how far it is; it is never ended for that."""
        self._looks += 1
        if self._looks % _LOOKS_BETWEEN:
            return
        row = connection.execute(_PROGRESS, {"pid": pid}).one_or_none()
        if row is None:
            return
        log.info(
            "%s: after %.0f s %s",
            self.revision,
            row.seconds,
            line_of(row),
            extra=facts(PROGRESS, revision=self.revision, **facts_of(row)),
        )


def facts_of(row: Any) -> dict[str, Any]:
    """Return what is known about a statement, without what is not.

    Args:
        row: of the query below.
    """
    return {name: value for name, value in row._mapping.items() if value is not None}


def line_of(row: Any) -> str:
    """Return one line about a statement.

    Args:
        row: of the query below.
    """
    where = f" on {row.relation}" if row.relation else ""
    parts = [f"{row.command.lower()}{where}: {row.phase}" if row.phase else "at work"]
    for what, done, total in (
        ("blocks", row.blocks_done, row.blocks_total),
        ("rows", row.tuples_done, row.tuples_total),
        ("partitions", row.partitions_done, row.partitions_total),
    ):
        if total:
            parts.append(f"{100 * min(done, total) / total:.0f} % of {total} {what}")
    if row.waits_for:
        parts.append(f"waiting for {row.waits_for}")
    return ", ".join(parts)


_PROGRESS = text(
    """
    SELECT CAST(extract(epoch FROM clock_timestamp() - a.query_start) AS double precision)
               AS seconds,
           p.command, CAST(CAST(nullif(p.relid, 0) AS regclass) AS text) AS relation, p.phase,
           p.blocks_done, p.blocks_total, p.tuples_done, p.tuples_total,
           p.partitions_done, p.partitions_total,
           (SELECT string_agg(format('pid %s (%s, user %s, %s, in its transaction for %s s)', b.pid,
                                     coalesce(nullif(b.application_name, ''),
                                              'no application name'),
                                     b.usename, b.state,
                                     round(extract(epoch FROM clock_timestamp() - b.xact_start), 1)
                                    ), '; ' ORDER BY b.xact_start)
              FROM pg_catalog.pg_stat_activity AS b
             WHERE b.pid = ANY (pg_blocking_pids(a.pid))) AS waits_for
      FROM pg_catalog.pg_stat_activity AS a
      LEFT JOIN pg_catalog.pg_stat_progress_create_index AS p ON p.pid = a.pid
     WHERE a.pid = CAST(:pid AS integer) AND a.state = 'active'
    """
)
