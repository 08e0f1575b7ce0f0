"""What a recipe is handed beside its operation."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import sqlalchemy as sa

from alembic_safe.errors import CannotRewrite
from alembic_safe.postgres.catalog import Catalog, ForeignKeyInfo, TableInfo
from alembic_safe.postgres.identifiers import QualifiedName

CompileSQL = Callable[[sa.ClauseElement], str]
"""Writes a SQLAlchemy expression as PostgreSQL's SQL, with its values in it."""


@dataclass(frozen=True)
class Surroundings:
    """A snapshot: recipes do not talk to a database.

    Args:
        catalog: what hangs on the tables of the diff.
        model_column: finds a column of the models.
        new_tables: tables that the same diff creates.
        dropped_tables: tables that the same diff drops.
        new_columns: columns that the same diff adds, the targets of renames included.
        dropped_columns: columns that the same diff drops or renames, in its order.
        changed_indexes: indexes that the same diff replaces by others of their name.
        compile_sql: writes an expression as SQL.
        renamed_columns: those of `new_columns` that are the targets of renames: by the trigger the
            old release writes them too.
        made_unique: columns that the same diff makes unique, on tables that are there, as
            `unique_name` writes them.
        dropped_foreign_keys: foreign keys that the same diff drops, by table and name.
        removed_columns: those of `dropped_columns` that are not renamed.
        default_schema: where a new table without a schema comes to stand.
    """

    catalog: Catalog
    model_column: Callable[[QualifiedName, str], sa.Column[object] | None]
    new_tables: frozenset[QualifiedName]
    dropped_tables: frozenset[QualifiedName]
    new_columns: frozenset[tuple[QualifiedName, str]]
    compile_sql: CompileSQL
    dropped_columns: tuple[tuple[QualifiedName, str], ...] = ()
    changed_indexes: frozenset[tuple[QualifiedName, str]] = frozenset()
    renamed_columns: frozenset[tuple[QualifiedName, str]] = frozenset()
    made_unique: frozenset[str] = frozenset()
    dropped_foreign_keys: frozenset[tuple[QualifiedName, str]] = frozenset()
    removed_columns: frozenset[tuple[QualifiedName, str]] = frozenset()
    default_schema: str = "public"

    def are_new(self, table: QualifiedName, columns: Collection[str]) -> bool:
        """Return whether the old release writes none of some columns; the server may."""
        new = self.new_columns - self.renamed_columns
        return bool(columns) and all((table, column) in new for column in columns)

    def drops_foreign_key(self, key: ForeignKeyInfo) -> bool:
        """Return whether the same diff drops a foreign key, or the table that it belongs to."""
        dropped = {(self.with_schema(table), name) for table, name in self.dropped_foreign_keys}
        tables = set(map(self.with_schema, self.dropped_tables))
        return (key.table, key.name) in dropped or key.table in tables

    def with_schema(self, table: QualifiedName) -> QualifiedName:
        """Return a table with the schema that the models leave to the search path, as the catalog
        tells it."""
        return QualifiedName(table.name, table.schema or self.default_schema)

    def table(self, name: QualifiedName) -> TableInfo:
        """Return what hangs on a table that exists.

        Raises:
            CannotRewrite: the database has no such table.
        """
        info = self.catalog.table(name.name, name.schema)
        if info is None:
            raise CannotRewrite(
                f"The models change {name}, and the database has no such table. Bring the database "
                "to the head of the history with `alembic upgrade head`. No file was written."
            )
        return info
