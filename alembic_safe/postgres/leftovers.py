"""What failed builds of indexes leave behind: indexes that are INVALID.

Source: PostgreSQL documentation, CREATE INDEX, Building Indexes Concurrently; REINDEX, Rebuilding
Indexes Concurrently.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from alembic_safe.postgres.chosen_names import numbered_names
from alembic_safe.postgres.conditions import no_invalid_index
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Done, Statement, Wait

_MOST_OF_REINDEX = 10
"""How many rebuilds of one index may have failed one after the other."""


@dataclass(frozen=True)
class InvalidIndex:
    """An index that no query uses.

    Args:
        name: unquoted; the schema is the table's.
        definition: `pg_get_indexdef`.
        is_unique: whether it is a unique index.
        is_maintained: whether writes add to it nevertheless (`indisready`).
        is_attached: whether it belongs to the index of a partitioned table, and goes with it only.
    """

    name: str
    definition: str
    is_unique: bool
    is_maintained: bool
    is_attached: bool = False

    @property
    def costs(self) -> str:
        """What it does while it is there, as a part of a sentence."""
        if not self.is_maintained:
            return "no query uses it, and writes do not maintain it"
        if self.is_unique:
            return (
                "no query uses it, but every write maintains it, and a duplicate of its values is"
                " refused"
            )
        return "no query uses it, but every write maintains it"


@dataclass(frozen=True)
class Leftovers:
    """What may be left of earlier attempts at an index.

    Args:
        table: the index's table.
        index_name: the index.
        of_build: whether an INVALID index of that very name is one; otherwise only what `REINDEX
            CONCURRENTLY` of it left.
    """

    table: QualifiedName
    index_name: str
    of_build: bool = True

    @property
    def names(self) -> frozenset[str]:
        """The names that leftovers have: the index's own, and those that the server chooses for
        what `REINDEX CONCURRENTLY` builds (`_ccnew`) and replaces (`_ccold`)."""
        chosen = (
            name
            for label in ("ccnew", "ccold")
            for name in itertools.islice(
                numbered_names(self.index_name, None, label), _MOST_OF_REINDEX
            )
        )
        return frozenset((*chosen, self.index_name) if self.of_build else chosen)

    def include(self, index: InvalidIndex) -> bool:
        """Return whether an INVALID index of the table is one of them."""
        return index.name in self.names and not index.is_attached

    @property
    def query(self) -> str:
        """A query of the INVALID indexes of the table: the fields of `InvalidIndex`."""
        return (
            "SELECT CAST(r.relname AS text), pg_catalog.pg_get_indexdef(i.indexrelid),"
            " i.indisunique, i.indisready, r.relispartition"
            " FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
            f" WHERE i.indrelid = {self.table.regclass} AND NOT i.indisvalid AND r.relkind = 'i'"
            " ORDER BY r.relname"
        )

    @property
    def builds_query(self) -> str:
        """A query of the sessions that build an index of the table right now: process, application
        name and role. All that it reads can be seen by every role."""
        mode = LockMode.SHARE_UPDATE_EXCLUSIVE.pg_locks_name
        return (
            "SELECT l.pid, coalesce(a.application_name, ''), coalesce(CAST(a.usename AS text), '')"
            " FROM pg_catalog.pg_locks AS l"
            " JOIN pg_catalog.pg_stat_progress_create_index AS p ON p.pid = l.pid"
            " LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid"
            f" WHERE l.locktype = 'relation' AND l.relation = {self.table.regclass}"
            " AND l.database = p.datid AND p.datname = pg_catalog.current_database()"
            f" AND l.mode = '{mode}' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()"
            " ORDER BY l.pid"
        )

    def drop(self, name: str) -> Statement:
        """Return the statement that drops one of them, where it is still INVALID."""
        return drop_index(self.table, name, no_invalid_index(self.table, name))


def drop_index(
    table: QualifiedName, name: str, done: Done, leftovers: Leftovers | None = None
) -> Statement:
    """Return the statement that drops an index concurrently.

    Args:
        table: its table.
        name: the index.
        done: how to tell that it is gone.
        leftovers: what goes with it.
    """
    return Statement(
        sql=(f"DROP INDEX CONCURRENTLY IF EXISTS {table.sibling(name).sql}",),
        table=table,
        lock=LockMode.SHARE_UPDATE_EXCLUSIVE,
        wait=Wait.UNBOUNDED,
        done=done,
        transactional=False,
        object_name=f"index {name}",
        leftovers=leftovers,
    )


def remedy(table: QualifiedName, index: InvalidIndex) -> str:
    """Return what a person can do about an INVALID index that is not ours."""
    name = table.sibling(index.name).sql
    rebuild = f"REINDEX INDEX CONCURRENTLY {name}"
    if index.is_attached:
        return f"Build it again with {rebuild};"
    return f"Drop it with DROP INDEX CONCURRENTLY {name}; or build it again with {rebuild};"
