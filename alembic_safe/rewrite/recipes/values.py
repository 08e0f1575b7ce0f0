"""The value for rows that lack one, as the models tell it, and which rows have none."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from alembic_safe.errors import ValueNeeded
from alembic_safe.hints import FILLED_WITH, hint
from alembic_safe.postgres.expressions import check_expression, is_constant_or_stable
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rewrite.recipes.surroundings import CompileSQL, Surroundings


class Verbatim(sa.ColumnElement[Any]):
    """SQL that arrives in a revision file as the `sa.text()` that means the same.

    Alembic writes an expression as text in `sa.text()`, without regard to what that reads: `:name`
    as a parameter, and `%%`, which some drivers need, as two signs.

    Args:
        sql: the SQL.
    """

    def __init__(self, sql: str) -> None:
        self.sql = sql


@compiles(Verbatim)
def _write(element: Verbatim, _compiler: Any, **_options: Any) -> str:
    return escaped(element.sql)


def escaped(sql: str) -> str:
    """Return SQL as `sa.text()` takes it: `:` means nothing special in it."""
    return re.sub(r"(?<!:):(?=\w)", r"\\:", sql)


def fill_value(column: sa.Column[object], compile_sql: CompileSQL) -> str | None:
    """Return the SQL of the value for rows that lack one; None where the models tell none.

    It is the hint `filled_with`, the server default, or a Python default that is a constant or a
    SQL expression, whichever comes first. A Python function is not called: it may well give each
    row another value.

    Raises:
        ValueNeeded: the hint is not an SQL expression.
    """
    expression = hint(column.info, FILLED_WITH)
    if expression is not None:
        try:
            check_expression(expression)
        except ValueError as error:
            raise ValueNeeded(
                f"filled_with({expression!r}) of column {column} is not an SQL expression: {error}."
                " Correct it in the model, then run the same command again. No file was written."
            ) from None
        return expression
    if column.server_default is not None:
        return server_default_sql(column, compile_sql)
    return _python_default(column, compile_sql)


def are_left_null(
    table: QualifiedName, columns: Collection[str], surroundings: Surroundings
) -> bool:
    """Return whether some columns are NULL in all that the old release writes: they are new, and
    the server fills none of them, so that nothing that is said of their values can fail it."""
    if not surroundings.are_new(table, columns):
        return False
    found = [surroundings.model_column(table, column) for column in columns]
    return all(column is not None and _is_left_null(column, surroundings) for column in found)


def _is_left_null(column: sa.Column[object], surroundings: Surroundings) -> bool:
    if column.server_default is not None:
        return False
    value = None if column.nullable else fill_value(column, surroundings.compile_sql)
    # A constant value of a NOT NULL column is its server default until contract.
    return value is None or not is_constant_or_stable(value)


def server_default_sql(column: sa.Column[object], compile_sql: CompileSQL) -> str | None:
    """Return the SQL of a column's server default; None where it has none or it is generated."""
    default = column.server_default
    if not isinstance(default, sa.DefaultClause):
        return None
    if isinstance(default.arg, str):
        return compile_sql(sa.literal(default.arg, sa.Text()))
    return compile_sql(default.arg)


def _python_default(column: sa.Column[object], compile_sql: CompileSQL) -> str | None:
    default = column.default
    if default is None:
        return None
    value = getattr(default, "arg", None)
    if isinstance(value, sa.ClauseElement):
        return compile_sql(value)
    if not default.is_scalar or value is None:
        return None
    try:
        return compile_sql(sa.literal(value, column.type))
    except (sa.exc.CompileError, NotImplementedError):
        return None
