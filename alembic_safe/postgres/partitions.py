"""The partitions of a table, and their indexes of one definition.

Source: PostgreSQL documentation, 5.12.2.2 Partition Maintenance; ALTER INDEX, ATTACH PARTITION.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic_safe.postgres.chosen_names import joined_columns, numbered_names
from alembic_safe.postgres.conditions import INDEX_SHAPE, INDEX_TWIN
from alembic_safe.postgres.identifiers import QualifiedName, literal

PARTITIONED, TABLE, FOREIGN = "p", "r", "f"
"""Values of `pg_class.relkind`."""

_LABEL = "idx"


@dataclass(frozen=True)
class PartitionIndex:
    """An index of a partition that has the wanted definition.

    Args:
        oid: its identity.
        name: unquoted; the schema is the partition's.
        is_valid: whether queries may use it.
        parent: the oid of the index that it is attached to.
        of_constraint: whether it belongs to a constraint, with which it would stay.
    """

    oid: int
    name: str
    is_valid: bool
    parent: int | None = None
    of_constraint: bool = False


@dataclass(frozen=True)
class Partition:
    """A partition of any level, or the table itself.

    Args:
        oid: its identity.
        name: with its schema.
        kind: `p` partitioned, `r` a table, `f` a foreign table.
        parent: the oid of the table of which it is a partition; None for the table itself.
        indexes: those of the wanted definition.
        key: the columns by which it is partitioned; those in expressions are left out.
    """

    oid: int
    name: QualifiedName
    kind: str = TABLE
    parent: int | None = None
    indexes: tuple[PartitionIndex, ...] = ()
    key: frozenset[str] = frozenset()

    def attached_to(self, parent: PartitionIndex | None) -> PartitionIndex | None:
        """Return the index that is attached to an index of the parent."""
        if parent is None:
            return None
        return next((index for index in self.indexes if index.parent == parent.oid), None)

    def free(self) -> PartitionIndex | None:
        """Return an index that can be attached as it is: that of a partitioned table without being
        valid, for it has no entries of its own."""
        return next(
            (
                index
                for index in self.indexes
                if index.parent is None
                and not index.of_constraint
                and (index.is_valid or self.kind == PARTITIONED)
            ),
            None,
        )


@dataclass(frozen=True)
class PartitionTree:
    """A table with its partitions of every level.

    Args:
        root: the table.
        partitions: all others; each stands behind the one that it is a partition of.
        columns: what the columns of the wanted index are called.
        taken: names that relations have, as far as the server could choose them for an index.
    """

    root: Partition
    partitions: tuple[Partition, ...] = ()
    columns: tuple[str, ...] = ()
    taken: frozenset[QualifiedName] = field(default_factory=frozenset)

    def partitions_of(self, table: Partition) -> list[Partition]:
        """Return the partitions of a table, without those of the next level."""
        return [partition for partition in self.partitions if partition.parent == table.oid]

    def has(self, name: QualifiedName) -> bool:
        """Return whether a table is the root or one of the partitions."""
        return any(name == each.name for each in (self.root, *self.partitions))

    def index_name(self, partition: Partition, planned: Collection[QualifiedName]) -> QualifiedName:
        """Return the name of an index that is to be built: the one that `CREATE INDEX` on the
        partitioned table would choose, or that an attempt that failed has left.

        Args:
            partition: its table.
            planned: names that are taken besides.
        """
        left = {partition.name.sibling(i.name) for i in partition.indexes if not i.is_valid}
        return next(
            name
            for name in map(
                partition.name.sibling,
                numbered_names(partition.name.name, joined_columns(self.columns), _LABEL),
            )
            if name not in planned and (name in left or name not in self.taken)
        )


def tree_query(table: QualifiedName) -> str:
    """Return a query of a table and its partitions, where `index_twin` has built the wanted index:
    a row for each index of the wanted definition, at least one for each table. It locks nothing."""
    return (
        "WITH RECURSIVE tree AS ("
        f"SELECT CAST({table.regclass} AS oid) AS oid, NULL::oid AS parent, 0 AS level"
        " UNION ALL SELECT h.inhrelid, h.inhparent, t.level + 1"
        " FROM pg_catalog.pg_inherits AS h JOIN tree AS t ON t.oid = h.inhparent"
        " JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid AND c.relispartition"
        # DETACH PARTITION ... CONCURRENTLY (14) has begun: it is as good as gone.
        " WHERE to_jsonb(h) ->> 'inhdetachpending' IS DISTINCT FROM 'true'"
        "), wanted AS ("
        f"SELECT {INDEX_SHAPE} AS shape FROM pg_catalog.pg_index AS i"
        " JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
        f" WHERE i.indexrelid = {INDEX_TWIN.regclass}"
        ") SELECT CAST(t.oid AS bigint), CAST(n.nspname AS text), CAST(c.relname AS text),"
        " CAST(c.relkind AS text), CAST(t.parent AS bigint), CAST(x.oid AS bigint), x.name,"
        " x.indisvalid, CAST(x.parent AS bigint), x.of_constraint"
        " FROM tree AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.oid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " LEFT JOIN LATERAL ("
        "SELECT r.oid, CAST(r.relname AS text) AS name, i.indisvalid, h.inhparent AS parent,"
        " EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conindid = r.oid"
        " AND k.contype IN ('p', 'u', 'x')) AS of_constraint"
        " FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS r ON r.oid = i.indexrelid"
        " LEFT JOIN pg_catalog.pg_inherits AS h ON h.inhrelid = r.oid"
        f" WHERE i.indrelid = t.oid AND {INDEX_SHAPE} = (SELECT shape FROM wanted)"
        ") AS x ON true ORDER BY t.level, n.nspname, c.relname, x.name"
    )


KEYS_QUERY = (
    "SELECT CAST(p.partrelid AS bigint), CAST(a.attname AS text)"
    " FROM pg_catalog.pg_partitioned_table AS p"
    " JOIN pg_catalog.pg_attribute AS a"
    " ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs)"
)
"""By which columns each partitioned table is partitioned."""

COLUMNS_QUERY = (
    "SELECT CAST(attname AS text) FROM pg_catalog.pg_attribute"
    f" WHERE attrelid = {INDEX_TWIN.regclass} ORDER BY attnum"
)
"""What the columns of the wanted index are called, where `index_twin` has built it."""


def taken_query(tree: PartitionTree) -> str:
    """Return a query of the schema and name of all relations in the schemas of the partitions that
    are called as the server calls an index that is given no name."""
    schemas = {literal(str(partition.name.schema)) for partition in tree.partitions}
    return (
        "SELECT CAST(n.nspname AS text), CAST(c.relname AS text) FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE n.nspname IN ({', '.join(sorted(schemas))}) AND c.relname ~ '{_LABEL}[0-9]*$'"
    )


def tree_of(
    rows: Sequence[Sequence[Any]], columns: Sequence[str], keys: Sequence[tuple[int, str]]
) -> PartitionTree:
    """Return the tree that the rows of queries describe.

    Args:
        rows: of `tree_query`.
        columns: of `COLUMNS_QUERY`.
        keys: of `KEYS_QUERY`.
    """
    tables = [
        Partition(
            oid,
            QualifiedName(name, schema),
            kind,
            parent,
            tuple(PartitionIndex(*row[5:]) for row in found if row[5] is not None),
            frozenset(column for table, column in keys if table == oid),
        )
        for (oid, schema, name, kind, parent), found in (
            (key, list(group))
            for key, group in itertools.groupby(rows, key=lambda row: tuple(row[:5]))
        )
    ]
    return PartitionTree(tables[0], tuple(tables[1:]), tuple(columns))
