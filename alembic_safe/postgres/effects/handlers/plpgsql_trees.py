"""Trees of PL/pgSQL as libpg_query gives them: JSON, in which a key names the kind of an object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alembic_safe.postgres.effects.handlers.constant_text import NotConstant, constant_text

STATEMENTS = 0
ASSIGNMENT = 3
"""`parseMode` of an expression: whole statements, and assignments."""


def statements_of(wrapped: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a statement as its kind, without `PLpgSQL_stmt_`, and its fields."""
    for key, value in wrapped.items():
        yield key.removeprefix("PLpgSQL_stmt_"), value


def query_of(expression: Mapping[str, Any]) -> str:
    """Return the text of an expression."""
    return str(expression.get("PLpgSQL_expr", {}).get("query", ""))


def expressions_in(tree: Any) -> list[Mapping[str, Any]]:
    """Return the expressions in a part of the tree that holds no statements."""
    found: list[Mapping[str, Any]] = []
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += reversed(item)
        elif isinstance(item, dict):
            if "PLpgSQL_expr" in item:
                found.append(item)
            else:
                waiting += reversed(list(item.values()))
    return found


def may_leave(statement: Mapping[str, Any], kind: str) -> bool:
    """Return whether statements after this one may not be reached."""
    leaving = ("PLpgSQL_stmt_return", "PLpgSQL_stmt_exit", "PLpgSQL_stmt_raise")
    inside = any(key in item for item in _objects(statement) for key in leaving)
    return inside or kind in ("return", "exit")


def constant_variables(function: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that have a constant value which nothing changes."""
    datums = function["datums"]
    variables = [datum["PLpgSQL_var"] for datum in datums if "PLpgSQL_var" in datum]
    names = [variable["refname"] for variable in variables]
    written = variables_written(function.get("action"), datums)
    # What CALL writes into is not in the tree.
    calls = _has_call(function.get("action"))
    values: dict[str, str] = {}
    for variable in variables:
        name = variable["refname"]
        may_change = name in written or (calls and not variable.get("isconst"))
        if "default_val" not in variable or may_change or names.count(name) > 1:
            continue
        try:
            values[name] = constant_text(query_of(variable["default_val"]), values)
        except NotConstant:
            continue
    return values


def variables_written(tree: Any, datums: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of variables that statements of a tree write."""
    found: set[str] = set()
    for item in _objects(tree):
        for key in ("varno", "target"):
            number = item.get(key)
            if isinstance(number, int) and number < len(datums):
                found.add(datums[number].get("PLpgSQL_var", {}).get("refname", ""))
        for key in ("var", "target"):
            if isinstance(item.get(key), dict):
                found.add(item[key].get("PLpgSQL_var", {}).get("refname", ""))
    return found


def _has_call(tree: Any) -> bool:
    return any("PLpgSQL_stmt_call" in item for item in _objects(tree))


def _objects(tree: Any) -> Iterator[Mapping[str, Any]]:
    waiting: list[Any] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            yield item
            waiting += item.values()
