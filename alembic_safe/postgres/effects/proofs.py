"""Which columns a check proves to be not null."""

from __future__ import annotations

from typing import Any


def columns_not_null_where(expression: str) -> frozenset[str]:
    """Return the columns that are not null in every row in which a check of that expression holds.

    As in PostgreSQL's own proof only `column IS NOT NULL` counts, alone or joined with AND.
    """
    import postgast
    from google.protobuf.message import DecodeError

    try:
        tree = postgast.parse(f"SELECT {expression}")
    except (postgast.PgQueryError, DecodeError, RecursionError):
        return frozenset()
    targets = tree.stmts[0].stmt.select_stmt.target_list
    return columns_proved_not_null(targets[0].res_target.val) if len(targets) == 1 else frozenset()


def columns_proved_not_null(node: Any) -> frozenset[str]:
    """Return the same for an expression of a parse tree, a `Node`."""
    from postgast import pg_query_pb2 as grammar

    kind = node.WhichOneof("node")
    if kind == "bool_expr" and node.bool_expr.boolop == grammar.AND_EXPR:
        return frozenset().union(*(columns_proved_not_null(arg) for arg in node.bool_expr.args))
    if kind == "null_test" and node.null_test.nulltesttype == grammar.IS_NOT_NULL:
        fields = node.null_test.arg.column_ref.fields
        return frozenset({fields[-1].string.sval} if fields else ())
    return frozenset()
