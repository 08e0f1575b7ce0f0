"""Which columns a check proves to be not null."""

from __future__ import annotations

from typing import Any


def columns_not_null_where(expression: str) -> frozenset[str]:
    """Return the columns that are not null in every row in which a check of that expression holds.

    As in PostgreSQL's own proof (`predicate_implied_by`) only `column IS NOT NULL` counts, alone or
    in AND, OR and NOT: that `column > 0` holds for no NULL is not asked.
    """
    import postgast
    from google.protobuf.message import DecodeError

    try:
        tree = postgast.parse(f"SELECT {expression}")
    except (postgast.PgQueryError, DecodeError, RecursionError):
        return frozenset()
    targets = tree.stmts[0].stmt.select_stmt.target_list
    return columns_proved_not_null(targets[0].res_target.val) if len(targets) == 1 else frozenset()


def columns_proved_not_null(node: Any, *, holds: bool = True) -> frozenset[str]:
    """Return the same for an expression of a parse tree, a `Node`.

    Args:
        node: the expression.
        holds: False where the columns are asked for that are not null where it does not hold, as
            below NOT.
    """
    from postgast import pg_query_pb2 as grammar

    kind = node.WhichOneof("node")
    if kind == "bool_expr" and node.bool_expr.boolop == grammar.NOT_EXPR:
        return columns_proved_not_null(node.bool_expr.args[0], holds=not holds)
    if kind == "bool_expr":
        proofs = [columns_proved_not_null(arg, holds=holds) for arg in node.bool_expr.args]
        all_hold = (node.bool_expr.boolop == grammar.AND_EXPR) is holds
        return frozenset.union(*proofs) if all_hold else frozenset.intersection(*proofs)
    if kind == "null_test":
        is_not_null = node.null_test.nulltesttype == grammar.IS_NOT_NULL
        return _tested(node.null_test.arg, is_not_null, holds) if is_not_null is holds else _NONE
    return _NONE


_NONE: frozenset[str] = frozenset()


def _tested(argument: Any, is_not_null: bool, holds: bool) -> frozenset[str]:
    """Return the column of a test, or those of `(a, b) IS NOT NULL`."""
    if argument.WhichOneof("node") == "row_expr" and is_not_null and holds:
        return _NONE.union(*(_tested(each, True, True) for each in argument.row_expr.args))
    fields = argument.column_ref.fields
    return frozenset({fields[-1].string.sval} if fields else ())
