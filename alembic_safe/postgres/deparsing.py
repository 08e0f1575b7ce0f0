"""Parse trees back to SQL, checked: the text is parsed again and has to be the same tree."""

from __future__ import annotations

from typing import Any

_PLACES = ("location", "list_start", "list_end")


def statement_sql(node_name: str, node: Any) -> str:
    """Return a statement's SQL.

    Args:
        node_name: the name of the node in the grammar, `alter_table_stmt`.
        node: the protobuf message; it may have been made or changed by hand.

    Raises:
        ValueError: it cannot be written as SQL that means the same.
    """
    import postgast
    from google.protobuf.message import DecodeError
    from postgast import pg_query_pb2 as grammar

    tree = grammar.ParseResult()
    getattr(tree.stmts.add().stmt, node_name).CopyFrom(node)
    try:
        sql = str(postgast.deparse(tree))
        again = postgast.parse(sql)
    except (postgast.PgQueryError, DecodeError, RecursionError) as error:
        raise ValueError(f"{node_name} cannot be written as SQL") from error
    if len(again.stmts) != 1 or _bare(again.stmts[0].stmt) != _bare(tree.stmts[0].stmt):
        raise ValueError(f"{node_name} cannot be written as SQL that means the same")
    return sql


def says(sql: str, node_name: str, node: Any) -> bool:
    """Return whether a text is exactly the statement that a tree is."""
    import postgast

    try:
        again = postgast.parse(sql)
    except postgast.PgQueryError:
        return False
    if len(again.stmts) != 1 or again.stmts[0].stmt.WhichOneof("node") != node_name:
        return False
    return bool(_bare(getattr(again.stmts[0].stmt, node_name)) == _bare(node))


def expression_sql(node: Any) -> str:
    """Return the SQL of an expression, a `Node` of the tree.

    Raises:
        ValueError: it cannot be written as SQL that means the same.
    """
    from postgast import pg_query_pb2 as grammar

    select = grammar.SelectStmt(limit_option="LIMIT_OPTION_DEFAULT", op="SETOP_NONE")
    select.target_list.add().res_target.val.CopyFrom(node)
    return statement_sql("select_stmt", select).removeprefix("SELECT ")


def type_sql(type_name: Any) -> str:
    """Return the SQL of a `TypeName`.

    Raises:
        ValueError: it cannot be written as SQL that means the same.
    """
    from postgast import pg_query_pb2 as grammar

    cast = grammar.Node()
    cast.type_cast.arg.a_const.isnull = True
    cast.type_cast.type_name.CopyFrom(type_name)
    return expression_sql(cast).removeprefix("NULL::")


def _bare(root: Any) -> Any:
    """Return a copy of a tree without the places in the text."""
    copy = type(root)()
    copy.CopyFrom(root)
    waiting = [copy]
    while waiting:
        message = waiting.pop()
        for field, value in message.ListFields():
            if field.name.endswith(_PLACES):
                message.ClearField(field.name)
            elif field.message_type is not None:
                # The way to ask whether a field is repeated changed between protobuf releases.
                waiting += [value] if hasattr(value, "ListFields") else value
    return copy
