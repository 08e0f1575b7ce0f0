"""What a recipe is handed, made by hand, and what it returns, as text: no server is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from alembic.operations import MigrateOperation
from direct import source_of
from sqlalchemy import make_url

from alembic_safe.postgres.catalog import Catalog, ColumnInfo, TableInfo
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.hook import sql_compiler
from alembic_safe.rewrite.plan import Plan
from alembic_safe.rewrite.recipes import Surroundings, plans_for

USERS = QualifiedName("users")
ORDERS = QualifiedName("orders")

Written = tuple[str, list[str], list[str]]
"""A step: its phase, and the source of its operations up and down."""


def table(name: QualifiedName = USERS, *columns: ColumnInfo, **facts: Any) -> TableInfo:
    """A table of the database; without columns it has `id` and `name`.

    Args:
        name: the table.
        columns: its columns.
        facts: further fields of `TableInfo`.
    """
    columns = columns or (ColumnInfo("id", "integer", not_null=True), ColumnInfo("name", "text"))
    return TableInfo(name=name, columns=columns, **facts)


def surroundings(
    *tables: TableInfo,
    version: int = 18,
    models: Iterable[sa.Table] = (),
    new_tables: Iterable[QualifiedName] = (),
    dropped_tables: Iterable[QualifiedName] = (),
    new_columns: Iterable[tuple[QualifiedName, str]] = (),
    dropped_columns: Iterable[tuple[QualifiedName, str]] = (),
    renamed_columns: Iterable[tuple[QualifiedName, str]] = (),
) -> Surroundings:
    """A snapshot of a database with `tables`, by default `users` and `orders`.

    Args:
        tables: what the database has.
        version: PostgreSQL's major version.
        models: what the models have, as far as a recipe asks for it.
        new_tables, dropped_tables, new_columns, dropped_columns, renamed_columns: what the same
            diff adds, drops and renames. A new column that no model has is nullable.
    """
    tables = tables or (table(USERS), table(ORDERS))
    new = {(table, name): sa.Column(name, sa.Text) for table, name in new_columns}
    columns: Mapping[tuple[QualifiedName, str], sa.Column[Any]] = new | {
        (QualifiedName(model.name, model.schema), column.name): column
        for model in models
        for column in model.columns
    }
    return Surroundings(
        catalog=Catalog(version * 10000, {info.name: info for info in tables}),
        model_column=lambda name, column: columns.get((name, column)),
        new_tables=frozenset(new_tables),
        dropped_tables=frozenset(dropped_tables),
        new_columns=frozenset(new),
        dropped_columns=tuple(dropped_columns),
        renamed_columns=frozenset(renamed_columns),
        compile_sql=sql_compiler(make_url("postgresql://").get_dialect()()),
    )


def plan_of(operation: MigrateOperation, snapshot: Surroundings | None = None) -> Plan:
    """Return the plan of a diff of one operation."""
    (plan,) = plans_for([operation], snapshot or surroundings())
    return plan


def written(plan: Plan) -> list[Written]:
    """Return a plan as revision files would show it, one step after the other."""
    return [(step.phase.value, sources(step.upgrade), sources(step.downgrade)) for step in plan]


def sources(operations: Iterable[MigrateOperation]) -> list[str]:
    """Return the calls of a revision file, each on one line."""
    return [one_line(source_of(operation)) for operation in operations]


def one_line(source: str) -> str:
    """Return a call on one line, however it was wrapped."""
    joined = re.sub(r"\s*\n\s*", " ", source.strip())
    return re.sub(r",? \)$", ")", joined.replace("( ", "("))
