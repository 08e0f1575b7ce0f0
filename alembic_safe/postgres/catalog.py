"""What hangs on tables and columns, as plain data that a recipe can be handed.

`catalog_queries.read_catalog` fills it from a server (PostgreSQL 13 to 18). Texts come from the
server's own functions (`format_type`, `pg_get_indexdef`, ...), so names in them are qualified
only as far as the `search_path` of the reading session makes it necessary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alembic_safe.postgres.identifiers import QualifiedName

Grant = tuple[str, str, bool]
"""Privilege, grantee as SQL (`PUBLIC`, or a role in quotes if it needs them), WITH GRANT OPTION."""


@dataclass(frozen=True)
class ColumnInfo:
    """A column.

    Args:
        name: unquoted.
        type: as `format_type` writes it, with length or precision: `numeric(12,2)`.
        not_null: NOT NULL, also by the primary key. A NOT NULL that is NOT VALID counts (18).
        default: the expression of the default or of the generated column.
        identity: `a` ALWAYS, `d` BY DEFAULT, empty where it is none.
        generated: `s` STORED, `v` VIRTUAL (18), empty where it is none.
        comment: text of COMMENT ON COLUMN.
        grants: privileges on the column itself; those on the table are not repeated.
        statistics_target: SET STATISTICS; None is the server's default.
        storage: SET STORAGE as SQL (`EXTERNAL`); None is the default of the type.
        compression: SET COMPRESSION (`pglz`, `lz4`; 14); None is the server's default.
        options: SET (...), each as `n_distinct=-0.5`.
        collation: quoted and with its schema; None is the default of the type.
        equality: whether values can be compared and sorted: the type, the types of its elements
            and fields included, has a default btree operator class. `json`, `xml` and `point`
            have none.
        inherited: whether a parent table has it too, so that it cannot be dropped or renamed here.
    """

    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    identity: str = ""
    generated: str = ""
    comment: str | None = None
    grants: tuple[Grant, ...] = ()
    statistics_target: int | None = None
    storage: str | None = None
    compression: str | None = None
    options: tuple[str, ...] = ()
    collation: str | None = None
    equality: bool = True
    inherited: bool = False


@dataclass(frozen=True)
class IndexInfo:
    """An index.

    Args:
        name: unquoted; the schema is the table's.
        definition: `pg_get_indexdef`. It tells neither the tablespace nor the statistics targets.
        columns: every column it uses: keys, INCLUDE, expressions and predicate.
        is_valid: False for what a failed CREATE INDEX CONCURRENTLY left, and for an index of a
            partitioned table that some partition lacks.
        constraint: the primary key, unique or exclusion constraint that owns it.
        tablespace: None is the database's default.
        statistics_targets: (position from 1, target) of ALTER INDEX ... ALTER COLUMN ... SET
            STATISTICS.
        parent: the index of the partitioned table that it is a partition of.
    """

    name: str
    definition: str
    columns: frozenset[str] = frozenset()
    is_unique: bool = False
    is_primary: bool = False
    is_valid: bool = True
    is_exclusion: bool = False
    constraint: str | None = None
    is_replica_identity: bool = False
    is_clustered: bool = False
    comment: str | None = None
    tablespace: str | None = None
    statistics_targets: tuple[tuple[int, int], ...] = ()
    parent: QualifiedName | None = None


@dataclass(frozen=True)
class ConstraintInfo:
    """A constraint of a table.

    Args:
        name: unquoted.
        type: `p` primary key, `u` unique, `f` foreign key, `c` check, `x` exclusion, `n` NOT NULL
            (18; earlier servers keep that on the column only).
        definition: `pg_get_constraintdef`.
        columns: every column of this table that it uses, INCLUDE and expressions too.
        key_columns: the columns of the key, in its order.
        referenced_table: with its schema; foreign keys only.
        referenced_columns: in the order of `key_columns`; foreign keys only.
        index: the index that belongs to it; primary key, unique and exclusion only.
        inherited: whether it comes from a parent table, so that it cannot be dropped here.
    """

    name: str
    type: str
    definition: str
    columns: frozenset[str] = frozenset()
    key_columns: tuple[str, ...] = ()
    is_validated: bool = True
    deferrable: bool = False
    initially_deferred: bool = False
    referenced_table: QualifiedName | None = None
    referenced_columns: tuple[str, ...] = ()
    index: str | None = None
    comment: str | None = None
    inherited: bool = False


@dataclass(frozen=True)
class ForeignKeyInfo:
    """A foreign key of some table (it may be the same one) that references this table.

    Args:
        name: of the constraint.
        table: the referencing table, with its schema.
        columns: the columns of this table that it references.
        referencing_columns: the columns of `table`, in the order of the key.
        definition: `pg_get_constraintdef`.
        index: the index of this table that it relies on.
    """

    name: str
    table: QualifiedName
    columns: frozenset[str]
    referencing_columns: tuple[str, ...] = ()
    definition: str = ""
    index: str | None = None


@dataclass(frozen=True)
class Dependent:
    """Something else that names the table or its columns, and that no recipe carries along.

    Args:
        kind: `view`, `materialized view`, `rule`, `generated column`, `policy`, `trigger`,
            `publication`, `statistics`, `function`, `procedure`, `sequence` (OWNED BY) or
            `identity sequence`.
        name: for messages, quoted where it needs quotes.
        columns: the columns it names. Empty for a view, rule or function that uses only the
            table as a whole; a whole-row reference names no column (pg_depend has none).
    """

    kind: str
    name: str
    columns: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class TableInfo:
    """A table and what hangs on it.

    Args:
        name: as it was asked for.
        kind: `r` plain, `p` partitioned.
        columns: in the order of the table.
        referenced_by: foreign keys from other tables and from itself.
        keys_to_partitions: names of the foreign keys that the server has for each partition of a
            table that a key of this one references. They come and go with that, and not alone.
        partition_key_columns: empty where `kind` is not `p`.
        is_partition: whether it is a partition of another table.
        has_inheritance_children: whether tables inherit from it; partitions count.
        dependents: see `Dependent`.
        estimated_rows: the planner's number, -1 where it was never counted. For a partitioned
            table the sum of the partitions that were.
        size_bytes: with indexes and TOAST; for a partitioned table the sum of its partitions.
        replica_identity: `d` default, `n` nothing, `f` full, `i` an index.
    """

    name: QualifiedName
    kind: str = "r"
    columns: tuple[ColumnInfo, ...] = ()
    indexes: tuple[IndexInfo, ...] = ()
    constraints: tuple[ConstraintInfo, ...] = ()
    referenced_by: tuple[ForeignKeyInfo, ...] = ()
    keys_to_partitions: frozenset[str] = frozenset()
    partition_key_columns: frozenset[str] = frozenset()
    is_partition: bool = False
    has_inheritance_children: bool = False
    dependents: tuple[Dependent, ...] = ()
    estimated_rows: int = -1
    size_bytes: int = 0
    replica_identity: str = "d"

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key in the order of the key; empty where there is none."""
        return next((c.key_columns for c in self.constraints if c.type == "p"), ())

    def column(self, name: str) -> ColumnInfo | None:
        """Return the column, or None where there is none of that name."""
        return next((column for column in self.columns if column.name == name), None)

    def indexes_on(self, column: str) -> tuple[IndexInfo, ...]:
        """Return the indexes that use `column` anywhere."""
        return tuple(index for index in self.indexes if column in index.columns)

    def constraints_on(self, column: str) -> tuple[ConstraintInfo, ...]:
        """Return the constraints of this table that use `column`."""
        return tuple(c for c in self.constraints if column in c.columns)

    def dependents_on(self, column: str) -> tuple[Dependent, ...]:
        """Return the dependents that name `column`."""
        return tuple(d for d in self.dependents if column in d.columns)


@dataclass(frozen=True)
class Catalog:
    """A snapshot of some tables of a database.

    Args:
        server_version: the server's `server_version_num`, as 160004 for 16.4.
        tables: those that exist, by the name that was asked for.
    """

    server_version: int
    tables: Mapping[QualifiedName, TableInfo]

    @property
    def major(self) -> int:
        """The major version of the server."""
        return self.server_version // 10000

    def table(self, name: str, schema: str | None = None) -> TableInfo | None:
        """Return the table asked for as `name` and `schema`, or None where it does not exist."""
        return self.tables.get(QualifiedName(name, schema))
