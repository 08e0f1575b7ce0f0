"""Conditions of WHERE: whether an index can narrow a table down to what they leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from alembic_safe.postgres.effects.world import Relation

_NARROWING = frozenset({"=", "<", "<=", "BETWEEN", "&&", "@>", "<@", "@@"})
"""Operators for which a search in an index is likely. A lower bound alone is not among them: keys
grow, and it may leave nearly every row."""


def reads_everything(where: Any, relation: Relation, range_var: Any, *, alone: bool) -> bool:
    """Return whether a table is read from end to end, as far as its indexes are known.

    Args:
        where: the condition, a `Node`.
        relation: the table.
        range_var: how the query names it.
        alone: whether it is the only one, so that every column is its own.
    """
    keys = {index.columns[0] for index in relation.indexes.values() if _serves(index)}
    called = range_var.alias.aliasname or range_var.relname
    for condition in _all_of(where):
        for table, column in _narrowed(condition):
            if column in keys and (table == called or (table is None and alone)):
                return False
    return True


def _serves(index: Any) -> bool:
    return bool(index.columns) and index.is_valid and not index.is_partial


def _all_of(where: Any) -> Iterator[Any]:
    """Yield the conditions that all have to hold."""
    waiting = [where]
    while waiting:
        node = waiting.pop()
        if node.WhichOneof("node") == "bool_expr" and node.bool_expr.boolop == 1:  # AND_EXPR
            waiting += node.bool_expr.args
        else:
            yield node


def _narrowed(condition: Any) -> Iterator[tuple[str | None, str]]:
    """Yield the columns, with their qualifier, that a condition compares with something else."""
    if condition.WhichOneof("node") != "a_expr":
        return
    expression = condition.a_expr
    operator = expression.name[-1].string.sval if expression.name else ""
    left, right = _column(expression.lexpr), _column(expression.rexpr)
    if left is not None and right is not None:
        return  # a join: how it is done depends on both tables
    if left is not None and operator in _NARROWING:
        yield left
    elif right is not None and operator in ("=", ">", ">="):
        yield right


def _column(node: Any) -> tuple[str | None, str] | None:
    if node.WhichOneof("node") != "column_ref":
        return None
    parts = [field.string.sval for field in node.column_ref.fields]
    return (parts[-2] if len(parts) > 1 else None), parts[-1]
