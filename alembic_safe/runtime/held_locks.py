"""Held locks: which tables a revision that is one transaction keeps from others until its end.

While a transaction waits for the lock on a second table, all who need the first one wait with it,
and whoever takes the two in the other order waits for ever: a deadlock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, text

from alembic_safe.postgres.effects.world_queries import WRITTEN_HERE
from alembic_safe.postgres.locks import LockMode

log = logging.getLogger("alembic.safe")

Held = Mapping[str, LockMode]
"""The strongest mode in which each table is held."""

Key = tuple[str, str]
"""A foreign key: the referencing table and the referenced one."""


def tell_held_locks(connection: Connection, revision: str) -> None:
    """Warn where a revision holds locks on several tables that others may want.

    Args:
        connection: in the transaction of the revision, at its end. The queries take no lock that
            anybody waits for.
        revision: for the message.

    Source: PostgreSQL documentation, 53.13 pg_locks.
    """
    if not connection.execute(_HOLDS_SEVERAL).scalar_one():
        return
    held: dict[str, LockMode] = {}
    keys: list[Key] = []
    for table, mode, partner in connection.execute(_HELD):
        if partner is not None:
            keys.append((table, partner))
        else:
            held[table] = max(_MODES[mode], held.get(table, LockMode.NONE))
    if (warning := about(held, keys)) is not None:
        log.warning("Revision %s: %s", revision, warning)


def about(held: Held, new_keys: Iterable[Key]) -> str | None:
    """Return what is to be said about the locks of a transaction; None for nothing.

    A foreign key cannot be added without a lock on both of its tables. In no stronger mode than it
    needs they count as one.

    Args:
        held: the tables that were there before the transaction, held in a mode that makes reads or
            writes wait.
        new_keys: the foreign keys that the transaction has added.
    """
    groups = {table: {table} for table in held}
    for key in new_keys:
        if all(held.get(table, LockMode.NONE) <= LockMode.SHARE_ROW_EXCLUSIVE for table in key):
            together = set().union(*(groups.get(table, {table}) for table in key))
            groups.update(dict.fromkeys(together, together))
    if len({frozenset(groups[table]) for table in held}) < 2:
        return None
    listed = ", ".join(f"{table} ({mode.sql})" for table, mode in sorted(held.items()))
    return (
        f"its transaction keeps others from several tables until it ends: {listed}. While it waits "
        "for one of them, all who need another wait as well, and who takes them in another order "
        "can end in a deadlock with it. Split the revision, so that each locks one table; leave a "
        "foreign key that is dropped to op.drop_constraint_if_exists() in a revision with "
        "transactional = False."
    )


_MODES = {mode.pg_locks_name: mode for mode in LockMode if mode.blocks_reads_or_writes}

_TABLE = """CAST(CAST(
    CASE WHEN {0}.relispartition THEN pg_partition_root({0}.oid) ELSE {0}.oid END AS regclass
) AS text)"""

_FIRST_USER_OID = 16384
"""PostgreSQL's FirstNormalObjectId: below are the system's own tables."""

_MODE_NAMES = ", ".join(f"'{name}'" for name in _MODES)

# Most revisions lock one table, and the server needs longer to plan the whole query than to answer
# this one. It counts indexes and new tables too.
_HOLDS_SEVERAL = text(
    f"""
    SELECT count(DISTINCT l.relation) > 1 FROM pg_catalog.pg_locks AS l
     WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.granted
       AND l.mode IN ({_MODE_NAMES}) AND l.relation >= {_FIRST_USER_OID}
    """
)

_HELD = text(
    f"""
    SELECT {_TABLE.format("c")}, l.mode, CAST(NULL AS text)
      FROM pg_catalog.pg_locks AS l
      JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
     WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND l.granted
       AND l.mode IN ({_MODE_NAMES})
       AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
       AND c.oid >= {_FIRST_USER_OID}
       AND NOT EXISTS (
           -- Rows of system columns are written once and never changed.
           SELECT FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum = -1 AND {WRITTEN_HERE.format("a")})
     UNION ALL
    SELECT {_TABLE.format("c")}, 'foreign key', {_TABLE.format("r")}
      FROM pg_catalog.pg_constraint AS k
      JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
      JOIN pg_catalog.pg_class AS r ON r.oid = k.confrelid
     WHERE k.contype = 'f' AND {WRITTEN_HERE.format("k")}
    """
)
