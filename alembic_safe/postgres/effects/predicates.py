"""Whether the checks of a table prove what a partition's bound asks of its rows.

A small part of PostgreSQL's own prover (predtest.c): comparisons of columns with constants, IN, IS
NULL, joined with AND, OR and NOT. What it does not prove counts as not proven, so that the rows are
taken to be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from alembic_safe.postgres.effects.world import Column

_NEGATED = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "=": "<>", "<>": "="}
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "<>": "<>"}


@dataclass(frozen=True)
class Atom:
    """A column compared with a constant; `is null` and `is not null` have none."""

    column: str
    operator: str
    value: Any = None


@dataclass(frozen=True)
class And:
    """Conditions joined with AND."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """Conditions joined with OR."""

    parts: tuple[Condition, ...]


Condition = Atom | And | Or | None
"""None is a condition of which nothing is known."""


Columns = Mapping[str, Column]
"""The columns of a table: how a constant is compared depends on the type."""


def condition_of(node: Any, columns: Columns, *, negated: bool = False) -> Condition:
    """Return the condition that an expression of a parse tree is, a `Node`."""
    from postgast import pg_query_pb2 as grammar

    kind = node.WhichOneof("node")
    if kind == "bool_expr":
        operator = node.bool_expr.boolop
        if operator == grammar.NOT_EXPR:
            return condition_of(node.bool_expr.args[0], columns, negated=not negated)
        parts = tuple(condition_of(each, columns, negated=negated) for each in node.bool_expr.args)
        return And(parts) if (operator == grammar.AND_EXPR) != negated else Or(parts)
    if kind == "null_test":
        column = _column(node.null_test.arg)
        is_null = (node.null_test.nulltesttype == grammar.IS_NULL) != negated
        return Atom(column, "is null" if is_null else "is not null") if column else None
    if kind == "a_expr":
        found = _comparison(node.a_expr, columns)
        return negation(found) if negated else found
    return None


def _comparison(expression: Any, columns: Columns) -> Condition:
    from postgast import pg_query_pb2 as grammar

    kind = grammar.A_Expr_Kind.Name(expression.kind)
    column, operator = _column(expression.lexpr), expression.name[-1].string.sval
    operands = _items(expression.rexpr)
    if kind == "AEXPR_OP" and not column:
        column, operator = _column(expression.rexpr), _TURNED.get(operator, "")
        operands = [expression.lexpr]
    values = [constant(each, columns.get(column)) for each in operands]
    if not column or None in values:
        return None
    if kind == "AEXPR_OP":
        return Atom(column, operator, values[0]) if operator in _NEGATED else None
    if kind == "AEXPR_BETWEEN":
        return And((Atom(column, ">=", values[0]), Atom(column, "<=", values[1])))
    # `= ANY (ARRAY[...])` is what the server makes of IN.
    if kind in ("AEXPR_IN", "AEXPR_OP_ANY") and operator == "=":
        return Or(tuple(Atom(column, "=", value) for value in values))
    return None


def _items(node: Any) -> list[Any]:
    kind = node.WhichOneof("node")
    if kind == "list":
        return list(node.list.items)
    if kind == "type_cast" and node.type_cast.arg.WhichOneof("node") == "a_array_expr":
        node, kind = node.type_cast.arg, "a_array_expr"
    return list(node.a_array_expr.elements) if kind == "a_array_expr" else [node]


def _column(node: Any) -> str:
    """Return the column that is meant, a `varchar` as text too; empty of anything else."""
    kind = node.WhichOneof("node")
    if kind == "column_ref":
        return str(node.column_ref.fields[-1].string.sval)
    if kind == "type_cast" and node.type_cast.type_name.names[-1].string.sval == "text":
        return _column(node.type_cast.arg)
    return ""


def constant(node: Any, column: Column | None) -> Any:
    """Return the value of a literal that a column is compared with; None of anything else.

    A number, or a time where the column is one; any other is text, which is only compared for
    equality, since its order depends on the collation.
    """
    kind = node.WhichOneof("node")
    if kind == "type_cast":
        return constant(node.type_cast.arg, column)
    if kind == "a_expr" and not node.a_expr.HasField("lexpr"):
        value = constant(node.a_expr.rexpr, column)
        is_minus = node.a_expr.name[-1].string.sval == "-"
        return -value if is_minus and isinstance(value, Decimal) else None
    if kind != "a_const" or node.a_const.isnull:
        return None
    value = node.a_const
    which = value.WhichOneof("val")
    if which == "ival":
        text = str(value.ival.ival)
    elif which == "fval":
        text = value.fval.fval
    else:
        text = value.sval.sval if which == "sval" else str(value.boolval.boolval)
    type_ = column.type.name if column is not None and column.type is not None else ""
    try:
        if type_ in _NUMBERS:
            return Decimal(text)
        if type_ in _TIMES:
            return datetime.fromisoformat(_SHORT_OFFSET.sub(r"\1:00", text))
    except (ValueError, InvalidOperation):
        return text
    return text


_NUMBERS = frozenset({"int2", "int4", "int8", "numeric", "float4", "float8"})
_TIMES = frozenset({"date", "timestamp", "timestamptz"})
_SHORT_OFFSET = re.compile(r"(:\d\d(?:\.\d+)?[+-]\d\d)$")
"""`+00`, as the server writes it; Python 3.10 wants `+00:00`."""


def implies(clause: Condition, predicate: Condition) -> bool:
    """Return whether `predicate` is known to hold where `clause` does.

    A CHECK also holds where it is NULL, so that only IS NOT NULL proves IS NOT NULL.
    """
    if clause is None or predicate is None:
        return False
    if isinstance(predicate, And):
        return all(implies(clause, part) for part in predicate.parts)
    if isinstance(clause, Or):
        return all(implies(part, predicate) for part in clause.parts)
    if isinstance(predicate, Or) and any(implies(clause, part) for part in predicate.parts):
        return True
    if isinstance(clause, And):
        return any(implies(part, predicate) for part in clause.parts)
    return isinstance(predicate, Atom) and _atom_implies(clause, predicate)


def _atom_implies(one: Atom, other: Atom) -> bool:
    if one.column != other.column:
        return False
    if "null" in one.operator or "null" in other.operator:
        return one.operator == other.operator
    if one.value == other.value:
        return other.operator in _SAME_VALUE[one.operator]
    if not _are_comparable(one.value, other.value):
        return False
    if other.operator in ("<", "<="):
        return one.operator in ("<", "<=", "=") and one.value < other.value
    if other.operator in (">", ">="):
        return one.operator in (">", ">=", "=") and one.value > other.value
    if other.operator == "<>":
        below = one.operator in ("<", "<=") and one.value < other.value
        above = one.operator in (">", ">=") and one.value > other.value
        return below or above or one.operator == "="
    return False


_SAME_VALUE = {
    "=": ("=", "<=", ">="),
    "<": ("<", "<=", "<>"),
    ">": (">", ">=", "<>"),
    "<=": ("<=",),
    ">=": (">=",),
    "<>": ("<>",),
}
"""What a comparison implies with the same constant."""


def _are_comparable(one: Any, other: Any) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        return (one.tzinfo is None) == (other.tzinfo is None)
    return isinstance(one, Decimal) and isinstance(other, Decimal)


def negation(condition: Condition) -> Condition:
    """Return the condition that holds where another does not."""
    if isinstance(condition, And):
        return Or(tuple(negation(part) for part in condition.parts))
    if isinstance(condition, Or):
        return And(tuple(negation(part) for part in condition.parts))
    if condition is None:
        return None
    if condition.operator == "is null":
        return Atom(condition.column, "is not null")
    if condition.operator == "is not null":
        return Atom(condition.column, "is null")
    return Atom(condition.column, _NEGATED[condition.operator], condition.value)


def overlap(one: Condition, other: Condition) -> bool:
    """Return whether it is certain that some value fulfils both conditions.

    Args:
        one: of one column, a range or a choice of values.
        other: the same of the same column.
    """
    if _is_unknown(one) or _is_unknown(other):
        return False
    values, others = _choice(one), _choice(other)
    if values or others:
        return bool(set(values) & set(others))
    bounds = [part for part in (*_parts(one), *_parts(other)) if part.operator in (">=", "<")]
    if not bounds or not all(_are_comparable(part.value, bounds[0].value) for part in bounds):
        return False
    lows = [part.value for part in bounds if part.operator == ">="]
    highs = [part.value for part in bounds if part.operator == "<"]
    return not lows or not highs or bool(max(lows) < min(highs))


def _is_unknown(condition: Condition) -> bool:
    return not isinstance(condition, And) or None in condition.parts


def _parts(condition: Condition) -> list[Atom]:
    parts = condition.parts if isinstance(condition, And) else ()
    return [part for part in parts if isinstance(part, Atom)]


def _choice(condition: Condition) -> list[Any]:
    parts = condition.parts if isinstance(condition, And) else ()
    return [
        atom.value
        for part in parts
        if isinstance(part, Or)
        for atom in part.parts
        if isinstance(atom, Atom)
    ]
