"""What a revision may do that was not seen, because it happens only where there are rows.

A revision that moves rows and no more leaves the schema as it was, so that what is known of it is
still true. Whatever is not certain to be of that kind counts as a change.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Collection, Iterator

from alembic_safe.rules.sources import Extent, RevisionSource

_ABOUT_ROWS = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_EXECUTING = frozenset({"execute", "exec_driver_sql", "scalar", "scalars"})
_CREATING = frozenset({"create", "create_all", "drop", "drop_all", "run_sync", "invoke"})
_OF_ROWS = frozenset({"select", "insert", "update", "delete"})
_OF_OP = frozenset({"bulk_insert", "f", "get_bind", "get_context"})
_UNKNOWN_BUILTINS = frozenset({"__import__", "eval", "exec"})
_KNOWN_PACKAGES = frozenset({"alembic", "sqlalchemy"}) | sys.stdlib_module_names


def may_change_schema(source: RevisionSource, other: Extent, seen: Collection[int]) -> bool:
    """Return whether something in a revision file that was not seen may change the schema.

    Args:
        source: the file.
        other: the function of the other direction, which does not count.
        seen: lines whose statements were seen.
    """
    callables, values = set(_callables(source.tree)), set(_values(source.tree))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and node.lineno not in other:
            is_seen = any(line in seen for line in range(node.lineno, _last_line(node) + 1))
            if not is_seen and not _is_harmless(node, callables, values):
                return True
    return False


def _is_harmless(call: ast.Call, callables: Collection[str], values: Collection[str]) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in callables
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr in _EXECUTING:
        return bool(call.args) and _is_about_rows(call.args[0])
    root = _root(function)
    if root == "op":
        return function.attr in _OF_OP
    # A method of a value that was made here; what another module does is not known.
    return function.attr not in _CREATING and (root is None or root in callables or root in values)


def _is_about_rows(given: ast.expr) -> bool:
    """Return whether what is executed reads or writes rows: a text that says so, or an expression
    of SQLAlchemy's."""
    for node in ast.walk(given):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return bool(_ABOUT_ROWS.match(node.value))
        if isinstance(node, ast.Attribute) and node.attr in _OF_ROWS:
            return True
        if isinstance(node, ast.Name) and node.id in _OF_ROWS:
            return True
    return False


def _callables(tree: ast.Module) -> Iterator[str]:
    """Yield names of functions that touch no database by themselves, or whose body is in the
    file."""
    yield from (name for name in dir(builtins) if name not in _UNKNOWN_BUILTINS)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _is_known(node.module or ""):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_known(alias.name):
                    yield (alias.asname or alias.name).partition(".")[0]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def _values(tree: ast.Module) -> Iterator[str]:
    """Yield names to which something is assigned in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _is_known(module: str) -> bool:
    return module.partition(".")[0] in _KNOWN_PACKAGES


def _root(function: ast.expr) -> str | None:
    """Return the name with which an expression begins; None where it begins with a value."""
    while isinstance(function, (ast.Attribute, ast.Call, ast.Subscript)):
        function = function.func if isinstance(function, ast.Call) else function.value
    return function.id if isinstance(function, ast.Name) else None


def _last_line(node: ast.Call) -> int:
    return node.end_lineno or node.lineno
