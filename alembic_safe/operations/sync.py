"""Two columns with one meaning: the sync trigger, and its end.

The direction of a copy is decided by which column changed, never by session state, so that it
works behind a pool of connections and needs no change in the application. `target` is the column
that is being filled; `source` is the one that has the data. On the way up the source is the old
column, on the way down it is the new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from alembic.operations import MigrateOperation, Operations

from alembic_safe.operations.base import SafeOperation
from alembic_safe.operations.columns import AddColumnIfNotExistsOp
from alembic_safe.postgres.conditions import column_exists, done_when
from alembic_safe.postgres.identifiers import QualifiedName, derived_name, literal, quote
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Statement


def differ(left: str, right: str) -> str:
    """Return an SQL condition: two values of one type are not the same to the byte.

    It works for types without an equality operator, and it sees changes that a type's own
    equality does not, such as the case of a citext (PostgreSQL documentation, 9.25.6 Composite
    Type Comparison, where the function is the operator `*<>`).
    """
    return f"pg_catalog.record_image_ne(ROW({left}), ROW({right}))"


@dataclass(frozen=True)
class SyncTrigger:
    """The function and the two triggers that keep two columns of a table equal."""

    table: QualifiedName
    source: str
    target: str

    @property
    def name(self) -> str:
        """The name of the function, and the beginning of the triggers' names.

        It does not tell the direction: on the way down the same pair is kept the other way
        round. Triggers fire in the order of their names; `~` sorts behind letters and digits, so
        that what other triggers write is copied too.
        """
        return derived_name("~alembic_safe_sync", self.table.name, *sorted(self._columns))

    @property
    def _columns(self) -> tuple[str, str]:
        return (self.source, self.target)

    @property
    def function(self) -> QualifiedName:
        """The function, in the table's schema."""
        return self.table.sibling(self.name)

    def trigger_name(self, event: str) -> str:
        """Return the name of the trigger for `INSERT` or `UPDATE`."""
        return derived_name("~alembic_safe_sync", self.table.name, *sorted(self._columns), event)

    @property
    def body(self) -> str:
        """The function's body.

        Values are compared by their bytes: see `differ`.
        """
        source, target = quote(self.source), quote(self.target)
        return (
            "\nBEGIN\n"
            "  IF TG_OP = 'INSERT' THEN\n"
            f"    IF NEW.{target} IS DISTINCT FROM NULL THEN\n"
            f"      NEW.{source} := NEW.{target};\n"
            "    ELSE\n"
            f"      NEW.{target} := NEW.{source};\n"
            "    END IF;\n"
            f"  ELSIF {differ(f'NEW.{target}', f'OLD.{target}')} THEN\n"
            f"    NEW.{source} := NEW.{target};\n"
            "  ELSE\n"
            f"    NEW.{target} := NEW.{source};\n"
            "  END IF;\n"
            "  RETURN NEW;\n"
            "END\n"
        )

    def create_sql(self) -> tuple[str, ...]:
        """Return the statements that create the function and the triggers, or replace them."""
        differs = differ(f"NEW.{quote(self.source)}", f"NEW.{quote(self.target)}")
        return (
            *self.drop_sql(),
            f"CREATE FUNCTION {self.function.sql}() RETURNS trigger LANGUAGE plpgsql"
            f" SET search_path = pg_catalog AS {literal(self.body)}",
            *(
                f"CREATE TRIGGER {quote(self.trigger_name(event))} BEFORE {event}"
                f" ON {self.table.sql} FOR EACH ROW WHEN ({differs})"
                f" EXECUTE FUNCTION {self.function.sql}()"
                for event in ("INSERT", "UPDATE")
            ),
        )

    def drop_sql(self) -> tuple[str, ...]:
        """Return the statements that drop both triggers and the function."""
        return (
            *(
                f"DROP TRIGGER IF EXISTS {quote(self.trigger_name(event))} ON {self.table.sql}"
                for event in ("INSERT", "UPDATE")
            ),
            f"DROP FUNCTION IF EXISTS {self.function.sql}()",
        )

    def exists(self) -> str:
        """Return an SQL expression: both triggers are there, enabled on every partition, and do
        what they should in this direction."""
        columns = f"{literal(self.source)}, {literal(self.target)}"
        when = "WHEN (record_image_ne(ROW(new.%I), ROW(new.%I))) EXECUTE"
        names = ", ".join(
            f"({literal(self.trigger_name(event))}, {kind})"
            for event, kind in _TRIGGER_TYPES.items()
        )
        return (
            "(SELECT count(*) = 2 FROM pg_catalog.pg_trigger AS t"
            " JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid"
            f" WHERE t.tgrelid = {self.table.regclass} AND (t.tgname, t.tgtype) IN ({names})"
            " AND t.tgattr::text = ''"
            # The server writes the schema of a function that another one of its name hides.
            " AND strpos(replace(pg_catalog.pg_get_triggerdef(t.oid), 'pg_catalog.', ''),"
            f" replace(format({literal(when)}, {columns}), 'pg_catalog.', '')) > 0"
            f" AND p.prosrc = {literal(self.body)}"
            " AND p.proconfig = ARRAY['search_path=pg_catalog']"
            " AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS each"
            " WHERE each.tgfoid = t.tgfoid AND each.tgenabled NOT IN ('O', 'A')))"
        )


_TRIGGER_TYPES = {"INSERT": 7, "UPDATE": 19}
"""`tgtype` of BEFORE ... FOR EACH ROW (PostgreSQL source, catalog/pg_trigger.h)."""


@Operations.register_operation("create_sync_trigger")
@dataclass(eq=False)
class CreateSyncTriggerOp(SafeOperation):
    """The function and triggers that keep two columns equal."""

    operation_name: ClassVar[str] = "create_sync_trigger"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"source", "target"})

    table_name: str
    source: str
    target: str
    schema: str | None = None

    @classmethod
    def create_sync_trigger(
        cls,
        operations: Operations,
        table_name: str,
        source: str,
        target: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Keep two columns of a table equal, whichever of them a client writes.

        INSERT: the target, where it is given, wins; otherwise it is copied from the source.
        UPDATE: the target, where it changed, wins; otherwise it is copied from the source, which
        also fills rows that were never filled. An update that leaves both equal does not call
        the function.

        Takes SHARE ROW EXCLUSIVE for an instant, ACCESS EXCLUSIVE where triggers of an earlier
        attempt are replaced.

        Args:
            table_name: the table.
            source: the column that has the data.
            target: the column to be filled; it must be nullable and without a default.
            schema: the table's schema.

        Source: PostgreSQL documentation, CREATE TRIGGER.
        """
        operations.invoke(cls(table_name, source, target, schema))

    @property
    def trigger(self) -> SyncTrigger:
        """The trigger that the operation creates."""
        return SyncTrigger(QualifiedName(self.table_name, self.schema), self.source, self.target)

    def statements(self, server_version: int | None) -> list[Statement]:
        return [
            Statement(
                sql=self.trigger.create_sql(),
                table=self.trigger.table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=done_when(self.trigger.exists()),
                object_name=f"sync trigger of {self.source} and {self.target}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return DropSyncTriggerOp(self.table_name, self.source, self.target, self.schema)


@Operations.register_operation("drop_sync_trigger")
@dataclass(eq=False)
class DropSyncTriggerOp(SafeOperation):
    """The end of a sync trigger; both columns stay."""

    operation_name: ClassVar[str] = "drop_sync_trigger"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"source", "target"})

    table_name: str
    source: str
    target: str
    schema: str | None = None

    @classmethod
    def drop_sync_trigger(
        cls,
        operations: Operations,
        table_name: str,
        source: str,
        target: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Drop the triggers and the function that keep two columns equal, in either direction.

        Takes ACCESS EXCLUSIVE for an instant.

        Args:
            table_name: the table.
            source: one column.
            target: the other column.
            schema: the table's schema.

        Source: PostgreSQL documentation, DROP TRIGGER.
        """
        operations.invoke(cls(table_name, source, target, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        trigger = SyncTrigger(QualifiedName(self.table_name, self.schema), self.source, self.target)
        return [
            Statement(
                sql=trigger.drop_sql(),
                table=trigger.table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                object_name=f"sync trigger of {self.source} and {self.target}",
            )
        ]

    def reverse(self) -> MigrateOperation:
        return CreateSyncTriggerOp(self.table_name, self.source, self.target, self.schema)


@Operations.register_operation("verify_sync")
@dataclass(eq=False)
class VerifySyncOp(SafeOperation):
    """The proof that a column can be dropped because another one has all of its data."""

    operation_name: ClassVar[str] = "verify_sync"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"source", "target"})

    table_name: str
    source: str
    target: str
    indexes: Sequence[str] = ()
    constraints: Sequence[str] = ()
    not_null: bool = False
    schema: str | None = None

    @classmethod
    def verify_sync(
        cls,
        operations: Operations,
        table_name: str,
        source: str,
        target: str,
        *,
        indexes: Sequence[str] = (),
        constraints: Sequence[str] = (),
        not_null: bool = False,
        schema: str | None = None,
    ) -> None:
        """Refuse to go on unless the target column can take the source's place.

        The sync triggers have to be there, enabled and unmodified; no row may differ; every
        index and constraint that was carried over has to be there and valid. Reads the whole
        table under ACCESS SHARE. Where the source is gone already there is nothing to verify.

        Args:
            table_name: the table.
            source: the column that is about to go.
            target: the column that stays.
            indexes: indexes on the target that have to be valid.
            constraints: constraints on the target that have to be valid.
            not_null: whether the target has to be NOT NULL.
            schema: the table's schema.

        Raises:
            VerificationFailed: what is missing or differs.
        """
        operations.invoke(cls(table_name, source, target, indexes, constraints, not_null, schema))

    @property
    def trigger(self) -> SyncTrigger:
        """The trigger that has to be in force."""
        return SyncTrigger(QualifiedName(self.table_name, self.schema), self.source, self.target)

    def reverse(self) -> MigrateOperation:
        """Return the operation itself: it changes nothing."""
        return self


@Operations.register_operation("drop_synced_column")
@dataclass(eq=False)
class DropSyncedColumnOp(SafeOperation):
    """Trigger and old column go at once, so that at no instant a write fails."""

    operation_name: ClassVar[str] = "drop_synced_column"
    always_keywords: ClassVar[frozenset[str]] = frozenset({"source", "target"})

    table_name: str
    source: str
    target: str
    server_default: str | None = None
    schema: str | None = None
    type_sql: str = ""

    @classmethod
    def drop_synced_column(
        cls,
        operations: Operations,
        table_name: str,
        source: str,
        target: str,
        *,
        server_default: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Drop the sync trigger and the column that another one replaces, in one transaction.

        Takes ACCESS EXCLUSIVE for an instant, on the partner table too if a foreign key hangs on
        the column.

        Args:
            table_name: the table.
            source: the column to drop; one that is not there counts as done.
            target: the column that stays.
            server_default: SQL of the default that the column that stays gets.
            schema: the table's schema.

        Source: PostgreSQL documentation, ALTER TABLE, DROP TRIGGER.
        """
        operations.invoke(cls(table_name, source, target, server_default, schema))

    def statements(self, server_version: int | None) -> list[Statement]:
        table = QualifiedName(self.table_name, self.schema)
        sql = [
            *SyncTrigger(table, self.source, self.target).drop_sql(),
            f"ALTER TABLE {table.sql} DROP COLUMN {quote(self.source)}",
        ]
        if self.server_default is not None:
            sql.append(
                f"ALTER TABLE {table.sql} ALTER COLUMN {quote(self.target)}"
                f" SET DEFAULT {self.server_default}"
            )
        return [
            Statement(
                sql=tuple(sql),
                table=table,
                lock=LockMode.ACCESS_EXCLUSIVE,
                done=done_when(f"NOT {column_exists(table, self.source)}"),
                object_name=f"column {self.source}",
            )
        ]

    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        positional, keywords = super().call_arguments()
        keywords.pop("type_sql", None)
        return positional, keywords

    def reverse(self) -> MigrateOperation:
        """Return the operation that brings the column back, empty; what fills it again is a sync
        trigger the other way round, and a backfill."""
        if not self.type_sql:
            raise ValueError(f"what type column {self.source} had is not known")
        return AddColumnIfNotExistsOp(
            self.table_name, self.source, self.type_sql, schema=self.schema
        )
