"""What a recipe is handed beside its operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from alembic_safe.errors import CannotRewrite
from alembic_safe.postgres.catalog import Catalog, TableInfo
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
    """

    catalog: Catalog
    model_column: Callable[[QualifiedName, str], sa.Column[object] | None]
    new_tables: frozenset[QualifiedName]
    dropped_tables: frozenset[QualifiedName]
    new_columns: frozenset[tuple[QualifiedName, str]]
    compile_sql: CompileSQL
    dropped_columns: tuple[tuple[QualifiedName, str], ...] = ()
    changed_indexes: frozenset[tuple[QualifiedName, str]] = frozenset()

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
