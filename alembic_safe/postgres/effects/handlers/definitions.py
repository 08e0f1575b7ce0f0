"""Definitions as statements write them: expressions, constraints and indexes of parse trees."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cache
from typing import Any

from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.handlers.trees import messages
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.proofs import columns_proved_not_null
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Index, Relation

TYPES = {
    "CONSTR_PRIMARY": "p",
    "CONSTR_UNIQUE": "u",
    "CONSTR_FOREIGN": "f",
    "CONSTR_CHECK": "c",
    "CONSTR_EXCLUSION": "x",
    "CONSTR_NOTNULL": "n",
}
"""`pg_constraint.contype` by the name of the `ConstrType`."""

LABELS = {"p": "pkey", "u": "key", "x": "excl", "f": "fkey", "c": "check", "n": "not_null"}
"""How a name that the server chooses ends, by type of constraint."""


def constraint_type(node: Any) -> str:
    """Return the type of a `Constraint` node as `pg_constraint.contype` has it; empty for what is
    no constraint there: DEFAULT, IDENTITY, DEFERRABLE, ..."""
    return _types().get(node.contype, "")


@cache
def _types() -> dict[int, str]:
    from postgast import pg_query_pb2 as grammar

    return {grammar.ConstrType.Value(name): type_ for name, type_ in TYPES.items()}


def columns_used(expression: Any) -> frozenset[str]:
    """Return the names of the columns in an expression."""
    return frozenset(
        message.fields[-1].string.sval
        for message in messages(expression)
        if message.DESCRIPTOR.name == "ColumnRef"
    )


def text_of(expression: Any) -> str:
    """Return the SQL of an expression, a `Node`; empty where it cannot be written."""
    import postgast
    from google.protobuf.message import DecodeError
    from postgast import pg_query_pb2 as grammar

    # Most defaults are plain numbers, and the way through the parser takes its time.
    if expression.HasField("a_const") and expression.a_const.HasField("ival"):
        return str(expression.a_const.ival.ival)
    tree = grammar.ParseResult()
    select = tree.stmts.add().stmt.select_stmt
    select.limit_option = grammar.LIMIT_OPTION_DEFAULT
    select.op = grammar.SETOP_NONE
    select.target_list.add().res_target.val.CopyFrom(expression)
    try:
        return str(postgast.deparse(tree)).removeprefix("SELECT ")
    except (postgast.PgQueryError, DecodeError, RecursionError):
        return ""


def constraint_of(
    node: Any, name: str, columns: tuple[str, ...], born: int, index: str | None = None
) -> Constraint:
    """Return the constraint that a `Constraint` node describes.

    Args:
        node: of a table, or of a column.
        name: its name, chosen where it was given none.
        columns: of a column's constraint that column; of a check what its expression uses.
        born: the batch in which it is made.
        index: the one that it owns.
    """
    type_ = constraint_type(node)
    proves: frozenset[str] = frozenset()
    if type_ in "np":
        proves = frozenset(columns)
    elif type_ == "c":
        proves = columns_proved_not_null(node.raw_expr)
    return Constraint(
        name,
        type_,
        columns=columns,
        proves_not_null=proves,
        # The tree says it only of those that can be otherwise.
        is_validated=node.initially_valid or type_ not in "fcn",
        is_enforced=node.is_enforced or type_ not in "fc",
        is_deferrable=node.deferrable,
        referenced_columns=tuple(strings(node.pk_attrs)),
        expression=text_of(node.raw_expr) if type_ == "c" else "",
        index=index,
        born=born,
    )


def index_of(node: Any, name: str, born: int) -> Index:
    """Return the index that a `CREATE INDEX` describes.

    Args:
        node: `IndexStmt`.
        name: its name, chosen where it was given none.
        born: the batch in which it is made.
    """
    elements = [element.index_elem for element in node.index_params]
    expressions = [e.expr for e in elements if e.HasField("expr")]
    if node.HasField("where_clause"):
        expressions.append(node.where_clause)
    return Index(
        name,
        columns=tuple(e.name or None for e in elements),
        included=tuple(e.index_elem.name for e in node.index_including_params),
        expression_columns=frozenset().union(*map(columns_used, expressions)),
        operator_classes=tuple(_last(e.opclass) for e in elements),
        collations=tuple(_last(e.collation) for e in elements),
        method=node.access_method or "btree",
        is_unique=node.unique,
        is_partial=node.HasField("where_clause"),
        nulls_not_distinct=node.nulls_not_distinct,
        born=born,
    )


def key_index_of(node: Any, name: str, columns: tuple[str | None, ...], born: int) -> Index:
    """Return the index that a PRIMARY KEY, UNIQUE or EXCLUDE constraint makes."""
    type_ = constraint_type(node)
    expressions = [
        item.list.items[0].index_elem.expr
        for item in node.exclusions
        if item.list.items[0].index_elem.HasField("expr")
    ]
    if node.HasField("where_clause"):
        expressions.append(node.where_clause)
    return Index(
        name,
        columns=columns,
        included=tuple(strings(node.including)),
        expression_columns=frozenset().union(*map(columns_used, expressions)),
        operator_classes=(None,) * len(columns),
        collations=(None,) * len(columns),
        method=node.access_method or ("gist" if node.without_overlaps else "btree"),
        is_unique=type_ != "x",
        is_primary=type_ == "p",
        is_partial=node.HasField("where_clause"),
        nulls_not_distinct=node.nulls_not_distinct,
        constraint=name,
        born=born,
    )


def key_columns(node: Any) -> tuple[str | None, ...]:
    """Return the columns of a PRIMARY KEY, UNIQUE or EXCLUDE constraint; None is an expression."""
    if node.exclusions:
        return tuple(item.list.items[0].index_elem.name or None for item in node.exclusions)
    return tuple(strings(node.keys))


def _last(parts: Iterable[Any]) -> str | None:
    names = strings(parts)
    return names[-1] if names else None


def element_names(elements: Iterable[Any]) -> list[str]:
    """Return the names of an index's columns, as the server chooses them for expressions too
    (`ChooseIndexColumnNames`).

    Args:
        elements: `IndexElem` nodes.
    """
    names: list[str] = []
    for element in elements:
        wanted = element.index_elem.name or _expression_name(element.index_elem.expr)
        numbered = (f"{wanted}{number or ''}" for number in itertools.count())
        names.append(next(name for name in numbered if name not in names))
    return names


def _expression_name(expression: Any) -> str:
    """Return what the server calls an expression in an index (`FigureIndexColname`)."""
    kind = expression.WhichOneof("node")
    if kind == "func_call":
        return strings(expression.func_call.funcname)[-1]
    if kind == "column_ref":
        return strings(expression.column_ref.fields)[-1]
    if kind == "coalesce_expr":
        return "coalesce"
    if kind == "type_cast":
        inner = _expression_name(expression.type_cast.arg)
        return inner if inner != "expr" else strings(expression.type_cast.type_name.names)[-1]
    if kind == "collate_clause":
        return _expression_name(expression.collate_clause.arg)
    return "expr"


def needs_version(tally: Tally, version: int, word: str) -> None:
    """Refuse a statement that says what the server's grammar does not have yet.

    Args:
        tally: of the statement.
        version: the first that has it.
        word: where the server stops reading.

    Raises:
        Refused: the server is older.
    """
    if tally.world.version < version:
        tally.refuse(f'syntax error at or near "{word}"', "42601")


_SYSTEM_COLUMNS = frozenset({"tableoid", "ctid", "xmin", "xmax", "cmin", "cmax", ""})
"""Columns that every table has; a whole row (`t.*`) has no name."""


def need_columns(tally: Tally, table: Relation, columns: Iterable[str], message: str) -> None:
    """Refuse a definition that uses a column that is certainly not there.

    Args:
        tally: of the statement.
        table: with the columns.
        columns: their names.
        message: what the server says, with `{}` for the column.

    Raises:
        Refused: one is not there.
    """
    if table.complete:
        for column in columns:
            if column not in table.columns and column not in _SYSTEM_COLUMNS:
                tally.refuse(message.format(column), "42703")


def need_partition_key(
    tally: Tally, table: Relation, columns: Iterable[str | None], word: str
) -> None:
    """Refuse a unique key of a partitioned table that lacks a column of the partition key.

    Raises:
        Refused: it does.
    """
    if table.is_partitioned and not set(table.partition_key) <= set(columns):
        tally.refuse(
            f'{word} constraint on table "{table.name.name}" lacks column of the partition key',
            "0A000",
        )


def are_new(tally: Tally, table: Relation, columns: Iterable[str]) -> bool:
    """Return whether the running release cannot know, nor write, any of the columns; False of
    none."""
    found = [table.columns.get(column) for column in columns]
    return bool(found) and all(
        column is not None and tally.world.is_unreleased(column.born) for column in found
    )


def need_free_name(tally: Tally, table: Relation, name: str) -> None:
    """Refuse a constraint whose name the table has already.

    Raises:
        Refused: it has.
    """
    if name in table.constraints:
        tally.refuse(
            f'constraint "{name}" for relation "{table.name.name}" already exists', "42710"
        )


def note_added(tally: Tally, table: Relation, constraint: Constraint, tightens: str) -> None:
    """Note a new constraint, and where it may refuse what the running release writes that it does.

    Args:
        tally: of the statement.
        table: with its columns.
        constraint: the new one.
        tightens: what it is, for a message; empty where it refuses nothing new.
    """
    tally.details.setdefault("constraints_added", []).append((table.name, constraint))
    if tightens and constraint.is_enforced and not are_new(tally, table, constraint.columns):
        tally.change(Change.TIGHTENED, "constraint", table.name, constraint.name, detail=tightens)
