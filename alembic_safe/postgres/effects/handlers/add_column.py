"""ADD COLUMN: ACCESS EXCLUSIVE, and for some defaults, types and constraints much more.

Since PostgreSQL 11 a default that is not VOLATILE is kept once for all rows that are there.

Facts for rules in `details`: `added_columns`, a list of `AddedColumn`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from alembic_safe.postgres.effects.expressions import Value, Volatility, value_of
from alembic_safe.postgres.effects.handlers import constraints
from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.chosen_names import constraint_name
from alembic_safe.postgres.effects.handlers.columns import (
    column_of,
    constraints_of,
    generated_expression,
)
from alembic_safe.postgres.effects.handlers.definitions import columns_used, constraint_type
from alembic_safe.postgres.effects.handlers.writes import lock_sequence
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Column, Constraint, Relation, TypeName, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.types import domain_has_constraints, type_sql, user_type

SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"})
"""Columns that every table has."""


@dataclass(frozen=True)
class AddedColumn:
    """A column that ADD COLUMN adds.

    Args:
        table: the table.
        column: as it is then.
        default: the expression of DEFAULT, a `Node`; None without.
        volatility: of the default, its own or that of its domain; None where it has none.
        rewrites: why every row is written again, to follow `because`; empty where it is not.
    """

    table: QualifiedName
    column: Column
    default: Any
    volatility: Volatility | None
    rewrites: str


def add_column(alter: AlterTable, command: Any) -> None:
    """`ADD COLUMN`."""
    node = getattr(command, "def").column_def
    tally, table = alter.tally, alter.table
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    if _is_there(tally, table, node.colname, missing_ok=command.missing_ok):
        return
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    _refuse_here(alter, table)
    column = column_of(node, alter.name, tally)
    parts = constraints_of(node)
    default, expression = _default(parts), generated_expression(node)
    value = _value(column, default, expression, tally)
    reason = _why_rewritten(column, value, tally) if table.kind != "f" else ""
    _put(alter, column, expression, _not_null_name(parts))
    if reason:
        alter.rewrite()
        for text in value.sequences if value is not None else ():
            lock_sequence(text, tally)
    if column.not_null:
        _check_not_null(alter, column, value)
    # An identity column has no DEFAULT to the server here, and its foreign keys are not checked.
    has_default = default is not None or expression is not None
    is_null = not has_default and (column.sequence is None or bool(column.identity))
    for constraint in parts:
        if constraint_type(constraint) != "n":
            constraints.add(alter, constraint, column.name, is_null=is_null)
    volatility = value.volatility if value is not None else None
    added = AddedColumn(alter.name, column, default, volatility, reason)
    tally.details.setdefault("added_columns", []).append(added)


def _is_there(tally: Tally, table: Relation, name: str, *, missing_ok: bool) -> bool:
    """Return whether IF NOT EXISTS finds the column.

    Raises:
        Refused: without IF NOT EXISTS; or no table can have such a column.
    """
    if name in SYSTEM_COLUMNS:
        tally.refuse(f'column name "{name}" conflicts with a system column name', "42701")
    if name not in table.columns:
        if missing_ok and not table.complete:
            tally.assume(f"{table.name.name} has no column {name} yet")
        return False
    if not missing_ok:
        tally.refuse(f'column "{name}" of relation "{table.name.name}" already exists', "42701")
    return True


def _refuse_here(alter: AlterTable, table: Relation) -> None:
    tally = alter.tally
    if table.kind not in "rpf?":
        tally.refuse(
            f'ALTER action ADD COLUMN cannot be performed on relation "{table.name.name}"', "42809"
        )
    if table.is_partition:
        tally.refuse("cannot add column to a partition", "42809")
    if alter.only and table.children:
        tally.refuse("column must be added to child tables too", "42P16")


# The column


def _default(parts: Iterable[Any]) -> Any:
    from postgast import pg_query_pb2 as grammar

    for constraint in parts:
        if constraint.contype == grammar.CONSTR_DEFAULT:
            return constraint.raw_expr
    return None


def _not_null_name(parts: Iterable[Any]) -> str:
    return next((each.conname for each in parts if constraint_type(each) == "n"), "")


def _put(alter: AlterTable, column: Column, expression: Any, not_null_name: str) -> None:
    """Give the column to the table and to what inherits from it and lacks it."""
    world = alter.tally.world
    used = columns_used(expression) if expression is not None else None
    for member in alter.members():
        if column.name in member.columns:
            continue
        own = member.name == alter.name
        changed = member.with_column(column if own else replace(column, inherited=True))
        if used is not None:
            generated = {**changed.generated_from, column.name: used}
            changed = replace(changed, generated_from=generated)
        if column.not_null and world.version >= 18:
            changed = with_not_null(changed, column.name, not_null_name, world)
        alter.put(changed)


def with_not_null(table: Relation, column: str, name: str, world: World) -> Relation:
    """Return the table with the NOT NULL constraint that the column has since version 18."""
    chosen = name or constraint_name(table, (column,), "not_null")
    proves = frozenset({column})
    return table.with_constraint(
        Constraint(chosen, "n", (column,), proves_not_null=proves, born=world.batch)
    )


# What it costs


def _value(column: Column, default: Any, expression: Any, tally: Tally) -> Value | None:
    """Return what the rows that are there get; None where that is NULL for want of a default.

    Raises:
        Refused: no column can have such an expression.
    """
    if expression is not None:
        value = value_of(expression, tally.world)
        refuse_expression(value, "column generation expression", tally)
        if not value.is_immutable:
            tally.refuse("generation expression is not immutable", "42P17")
        return value
    if default is not None:
        value = value_of(default, tally.world)
        refuse_expression(value, "DEFAULT expression", tally)
        if value.has_columns:
            tally.refuse("cannot use column reference in DEFAULT expression", "0A000")
        return value
    if column.sequence is not None:
        return Value(Volatility.VOLATILE)
    assert column.type is not None  # ADD COLUMN gives one
    return _default_of_domain(column.type, tally.world)


def refuse_expression(value: Value, what: str, tally: Tally) -> None:
    """Refuse what no expression of a column may have.

    Args:
        value: the expression.
        what: what the server calls it.
        tally: of the statement.

    Raises:
        Refused: it has a sub-select, or calls a function that the server's version does not have.
    """
    if value.has_subquery:
        tally.refuse(f"cannot use subquery in {what}", "0A000")
    if value.missing:
        tally.refuse(f"function {value.missing[0]}() does not exist", "42883")


def _default_of_domain(type_: TypeName, world: World) -> Value | None:
    found = None if type_.is_array else user_type(type_, world)
    if found is None or found.kind != "d" or not found.has_default:
        return None
    return read_value(found.default, world)


def read_value(expression: str | None, world: World) -> Value:
    """Return what an expression gives whose text is known; VOLATILE where it cannot be read."""
    import postgast

    try:
        select = postgast.parse(f"SELECT {expression}").stmts[0].stmt.select_stmt
    except (postgast.PgQueryError, RecursionError):
        return Value(Volatility.VOLATILE)
    if expression is None or len(select.target_list) != 1:
        return Value(Volatility.VOLATILE)
    return value_of(select.target_list[0].res_target.val, world)


def _why_rewritten(column: Column, value: Value | None, tally: Tally) -> str:
    if column.generated == "v":
        return ""
    if column.generated:
        return "the value of a stored generated column is computed for every row"
    if column.sequence is not None:
        return "every row gets a number of its own"
    assert column.type is not None  # ADD COLUMN gives one
    written = type_sql(column.type)
    checks = domain_has_constraints(column.type, tally.world)
    if checks:
        return f"the domain {written} has constraints"
    if value is not None and value.volatility is Volatility.VOLATILE:
        for unknown in value.unknown:
            tally.assume(f"{unknown} is VOLATILE")
            if tally.world.complete and unknown.endswith("()"):
                tally.may_fail(f"function {unknown} does not exist", "42883")
        return "its default is VOLATILE"
    if checks is None:
        tally.assume(f"{written} is a domain with constraints")
        if tally.world.complete and user_type(column.type, tally.world) is None:
            tally.may_fail(f'type "{written}" does not exist', "42704")
        return f"{written} may be a domain with constraints"
    return ""


def _check_not_null(alter: AlterTable, column: Column, value: Value | None) -> None:
    tally = alter.tally
    if column.generated == "v":
        alter.scan()
    elif value is None or value.is_null:
        alter.scan()
        if alter.may_have_rows():
            message = f'column "{column.name}" of relation "{alter.name.name}" contains null values'
            tally.may_fail(message, "23502")
        tally.change(
            Change.TIGHTENED,
            "column",
            alter.name,
            column.name,
            detail="NOT NULL without a default",
        )


SUBCOMMANDS: dict[str, Subcommand] = {
    "AT_AddColumn": add_column,
}
