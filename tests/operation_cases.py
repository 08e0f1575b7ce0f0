"""Every operation, beside the DDL that a person would write for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conftest import Database

import alembic_safe.operations as safe
from alembic_safe.operations import SafeOperation
from alembic_safe.postgres.identifiers import QualifiedName, quote

COLUMNS = ("id", "parent_id", "a", "b", "c", "d", "fk", "ck", "ck2", "uq")


class Names:
    """What the objects of a test are called: plainly, or as oddly as PostgreSQL allows.

    Args:
        prefix: tells the tables of one case from another's in the same database.
        is_odd: names that need quotes, in a schema that does.
    """

    def __init__(self, prefix: str = "", *, is_odd: bool) -> None:
        self._prefix = prefix
        self._is_odd = is_odd
        self.schema = 'Schema "1" %s' if is_odd else None

    def __call__(self, name: str) -> str:
        """Return the name of a column or constraint."""
        return f'{name} "Ü" %s :x \\ \'' if self._is_odd else name

    def table(self, name: str) -> str:
        """Return the name of a table or index."""
        return self(self._prefix + name)

    def sql(self, text: str) -> str:
        """Return SQL in which `{name}` is a column or constraint, `{t.name}` a table or index
        and `{n.name}` the same without its schema."""
        quoted = {name: quote(self(name)) for name in COLUMNS}
        return text.format(t=_Tables(self, self.schema), n=_Tables(self, None), **quoted)


@dataclass(frozen=True)
class _Tables:
    _names: Names
    _schema: str | None

    def __getattr__(self, name: str) -> str:
        return QualifiedName(self._names.table(name), self._schema).sql


@dataclass(frozen=True)
class Case:
    """One operation beside the DDL that a person would write for it.

    Args:
        make: the operation.
        plain: the DDL.
        before: what has to be there.
        taken_back: DDL for what the reverse of the operation leaves otherwise than it was.
        is_kept: the reverse leaves everything as it is.
    """

    make: Callable[[Names], SafeOperation]
    plain: str
    before: str = ""
    taken_back: str = ""
    is_kept: bool = False


TABLES = """
CREATE TABLE {t.parent} ({id} int PRIMARY KEY);
CREATE TABLE {t.child} (
    {id} int PRIMARY KEY, {parent_id} int, {a} int DEFAULT 7, {b} text, {c} text NOT NULL);
INSERT INTO {t.parent} VALUES (1), (2);
INSERT INTO {t.child} VALUES (1, 1, 10, 'x', 'y'), (2, 2, 20, 'z', 'y');
"""

FOREIGN_KEY = (
    "ALTER TABLE {t.child} ADD CONSTRAINT {fk} FOREIGN KEY ({parent_id})"
    " REFERENCES {t.parent} ({id}) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
)
CHECK = "ALTER TABLE {t.child} ADD CONSTRAINT {ck} CHECK ({a} > 0 AND {b} <> '%') NOT VALID"

PARTITIONED = (
    "CREATE TABLE {t.parted} ({id} int, {a} int, {b} text) PARTITION BY RANGE ({id});"
    "CREATE TABLE {t.part1} PARTITION OF {t.parted} FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE {t.part2} PARTITION OF {t.parted} DEFAULT PARTITION BY LIST ({a});"
    "CREATE TABLE {t.part3} PARTITION OF {t.part2} FOR VALUES IN (1);"
    "INSERT INTO {t.parted} VALUES (1, 1, 'x'), (20, 1, 'y');"
)


def _foreign_key(names: Names) -> safe.CreateForeignKeyNotValidOp:
    return safe.CreateForeignKeyNotValidOp(
        names("fk"),
        names.table("child"),
        names.table("parent"),
        [names("parent_id")],
        [names("id")],
        options="ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
        source_schema=names.schema,
        referent_schema=names.schema,
    )


def _check(names: Names) -> safe.CreateCheckConstraintNotValidOp:
    return safe.CreateCheckConstraintNotValidOp(
        names("ck"), names.table("child"), names.sql("{a} > 0 AND {b} <> '%'"), names.schema
    )


CASES = {
    "create_foreign_key_not_valid": Case(_foreign_key, FOREIGN_KEY),
    "create_check_constraint_not_valid": Case(_check, CHECK),
    "validate_constraint": Case(
        lambda n: safe.ValidateConstraintOp(n("fk"), n.table("child"), n.schema),
        "ALTER TABLE {t.child} VALIDATE CONSTRAINT {fk}",
        before=FOREIGN_KEY,
        is_kept=True,
    ),
    "drop_constraint_if_exists": Case(
        lambda n: safe.DropConstraintIfExistsOp(
            n("ck"), n.table("child"), n.schema, restore=_check(n)
        ),
        "ALTER TABLE {t.child} DROP CONSTRAINT {ck}",
        before=CHECK,
    ),
    "add_unique_constraint_using_index": Case(
        lambda n: safe.AddUniqueConstraintUsingIndexOp(
            n("uq"), n.table("child"), n.table("ix"), "DEFERRABLE", n.schema
        ),
        "DROP INDEX {t.ix};ALTER TABLE {t.child} ADD CONSTRAINT {uq} UNIQUE ({a}, {b}) DEFERRABLE",
        before="CREATE UNIQUE INDEX {n.ix} ON {t.child} ({a}, {b})",
        # An index that became a constraint goes with it.
        taken_back="DROP INDEX {t.ix}",
    ),
    "rename_constraint": Case(
        lambda n: safe.RenameConstraintOp(n("ck"), n("ck2"), n.table("child"), n.schema),
        "ALTER TABLE {t.child} RENAME CONSTRAINT {ck} TO {ck2}",
        before=CHECK,
    ),
    "create_index_concurrently": Case(
        lambda n: safe.CreateIndexConcurrentlyOp(
            n.table("ix"), n.table("child"), [n("b"), n("a")], schema=n.schema
        ),
        "CREATE INDEX {n.ix} ON {t.child} ({b}, {a})",
    ),
    "create_index_concurrently, unique": Case(
        lambda n: safe.CreateIndexConcurrentlyOp(
            n.table("ix"), n.table("child"), [n("b")], unique=True, schema=n.schema
        ),
        "CREATE UNIQUE INDEX {n.ix} ON {t.child} ({b})",
    ),
    "create_index_concurrently, by definition": Case(
        lambda n: safe.CreateIndexConcurrentlyOp(
            n.table("ix"),
            n.table("child"),
            definition=n.sql("USING btree (lower({b}) DESC) INCLUDE ({a}) WHERE ({b} <> '%')"),
            schema=n.schema,
        ),
        "CREATE INDEX {n.ix} ON {t.child} USING btree (lower({b}) DESC) INCLUDE ({a})"
        " WHERE ({b} <> '%')",
    ),
    "drop_index_concurrently": Case(
        lambda n: safe.DropIndexConcurrentlyOp(
            n.table("ix"), n.table("child"), [n("b")], schema=n.schema
        ),
        "DROP INDEX {t.ix}",
        before="CREATE INDEX {n.ix} ON {t.child} ({b})",
    ),
    "create_partitioned_index": Case(
        lambda n: safe.CreatePartitionedIndexOp(
            n.table("ix"), n.table("parted"), [n("b"), n("a")], schema=n.schema
        ),
        "CREATE INDEX {n.ix} ON {t.parted} ({b}, {a})",
        before=PARTITIONED,
    ),
    "create_partitioned_index, unique, by definition": Case(
        lambda n: safe.CreatePartitionedIndexOp(
            n.table("ix"),
            n.table("parted"),
            unique=True,
            definition=n.sql("({a}, {id}) INCLUDE ({b}) WHERE ({b} <> '%')"),
            schema=n.schema,
        ),
        "CREATE UNIQUE INDEX {n.ix} ON {t.parted} ({a}, {id}) INCLUDE ({b}) WHERE ({b} <> '%')",
        before=PARTITIONED,
    ),
    "drop_partitioned_index": Case(
        lambda n: safe.DropPartitionedIndexOp(
            n.table("ix"), n.table("parted"), [n("b")], schema=n.schema
        ),
        "DROP INDEX {t.ix}",
        before=PARTITIONED + "CREATE INDEX {n.ix} ON {t.parted} ({b})",
    ),
    "rename_index": Case(
        lambda n: safe.RenameIndexOp(
            n.table("ix"), n.table("ix2"), n.table("child"), schema=n.schema
        ),
        "ALTER INDEX {t.ix} RENAME TO {n.ix2}",
        before="CREATE INDEX {n.ix} ON {t.child} ({b})",
    ),
    "set_not_null": Case(
        lambda n: safe.SetNotNullOp(n.table("child"), n("b"), n.schema),
        "ALTER TABLE {t.child} ALTER COLUMN {b} SET NOT NULL",
    ),
    "drop_not_null": Case(
        lambda n: safe.DropNotNullOp(n.table("child"), n("c"), n.schema),
        "ALTER TABLE {t.child} ALTER COLUMN {c} DROP NOT NULL",
    ),
    "add_column_if_not_exists": Case(
        lambda n: safe.AddColumnIfNotExistsOp(
            n.table("child"), n("d"), 'character varying(9) COLLATE "C"', schema=n.schema
        ),
        'ALTER TABLE {t.child} ADD COLUMN {d} varchar(9) COLLATE "C"',
    ),
    "add_column_if_not_exists, with a default": Case(
        lambda n: safe.AddColumnIfNotExistsOp(
            n.table("child"), n("d"), "text", "'100%' || random()", n.schema
        ),
        "ALTER TABLE {t.child} ADD COLUMN {d} text;"
        "ALTER TABLE {t.child} ALTER COLUMN {d} SET DEFAULT '100%' || random()",
    ),
    "drop_column_if_exists": Case(
        lambda n: safe.DropColumnIfExistsOp(n.table("child"), n("d"), "int", "5", n.schema),
        "ALTER TABLE {t.child} DROP COLUMN {d}",
        before="ALTER TABLE {t.child} ADD COLUMN {d} int DEFAULT 5",
    ),
    "set_server_default": Case(
        lambda n: safe.SetServerDefaultOp(n.table("child"), n("a"), "8", "7", n.schema),
        "ALTER TABLE {t.child} ALTER COLUMN {a} SET DEFAULT 8",
    ),
    "set_server_default, to none": Case(
        lambda n: safe.SetServerDefaultOp(n.table("child"), n("a"), None, "7", n.schema),
        "ALTER TABLE {t.child} ALTER COLUMN {a} DROP DEFAULT",
    ),
}

OTHERS: dict[str, Callable[[Names], SafeOperation]] = {
    "create_sync_trigger": lambda n: safe.CreateSyncTriggerOp(
        n.table("child"), n("b"), n("c"), n.schema
    ),
    "drop_sync_trigger": lambda n: safe.DropSyncTriggerOp(
        n.table("child"), n("b"), n("c"), n.schema
    ),
    "verify_sync": lambda n: safe.VerifySyncOp(
        n.table("child"), n("b"), n("c"), [n.table("ix")], [n("ck")], True, n.schema
    ),
    "drop_synced_column": lambda n: safe.DropSyncedColumnOp(
        n.table("child"), n("b"), n("c"), "'100%'", n.schema
    ),
    "backfill": lambda n: safe.BackfillOp(
        n.table("child"), {n("b"): n.sql("{c} || '%'")}, n.sql("{b} IS NULL"), False, n.schema
    ),
}
"""Operations with a test file of their own; here only their form in a revision file is tested."""


def prepare(database: Database, names: Names, case: Case) -> None:
    """Create what a case needs before its operation runs."""
    if names.schema is not None:
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(names.schema)}")
    database.execute(names.sql(TABLES + case.before))
