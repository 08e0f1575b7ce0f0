"""Definitions of columns as statements write them: type, default, identity, generated, NOT NULL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.chosen_names import sequence_name
from alembic_safe.postgres.effects.handlers.definitions import needs_version, text_of
from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Column, Relation, TypeName
from alembic_safe.postgres.identifiers import QualifiedName, literal, readable

_SERIALS = {
    "smallserial": "int2",
    "serial2": "int2",
    "serial": "int4",
    "serial4": "int4",
    "bigserial": "int8",
    "serial8": "int8",
}


def type_of(node: Any) -> TypeName:
    """Return the type that a `TypeName` of the parse tree is; of `serial` the integer type."""
    names = strings(node.names)
    schema = names[-2] if len(names) > 1 and names[-2] != "pg_catalog" else None
    name = names[-1]
    if len(names) == 1:
        name = _SERIALS.get(name, name)
    modifiers = tuple(
        item.a_const.ival.ival for item in node.typmods if item.a_const.HasField("ival")
    )
    return TypeName(name, modifiers, is_array=len(node.array_bounds) > 0, schema=schema)


def is_serial(node: Any) -> bool:
    """Return whether a `TypeName` of the parse tree is `serial`, `bigserial` or `smallserial`."""
    names = strings(node.names)
    return len(names) == 1 and names[0] in _SERIALS


def column_of(definition: Any, table: QualifiedName, tally: Tally) -> Column:
    """Return the column that a `ColumnDef` of the parse tree describes, born in this batch.

    The sequence of a serial or identity column is put into the world.

    Args:
        definition: its constraints of other kinds than NOT NULL are left to the caller.
        table: to which it belongs.
        tally: of the statement.

    Raises:
        Refused: the server's version does not have it.
    """
    from postgast import pg_query_pb2 as grammar

    column = Column(
        definition.colname,
        type=type_of(definition.type_name) if definition.HasField("type_name") else None,
        collation=_collation(definition),
        born=tally.world.batch,
    )
    if definition.HasField("raw_default"):
        column = replace(column, default=text_of(definition.raw_default))
    if is_serial(definition.type_name):
        sequence = _make_sequence(table, column.name, tally)
        name = literal(".".join(map(readable, (sequence.schema or "public", sequence.name))))
        default = f"nextval({name}::regclass)"
        column = replace(column, not_null=True, sequence=sequence, default=default)
    for item in definition.constraints:
        node = item.constraint
        kind = grammar.ConstrType.Name(node.contype).removeprefix("CONSTR_")
        if kind in ("NOTNULL", "PRIMARY"):
            column = replace(column, not_null=True)
        elif kind == "DEFAULT":
            is_null = _is_null(node.raw_expr)
            column = replace(column, default=None if is_null else text_of(node.raw_expr))
        elif kind == "IDENTITY":
            sequence = _make_sequence(table, column.name, tally)
            identity = node.generated_when
            column = replace(column, not_null=True, sequence=sequence, identity=identity)
        elif kind == "GENERATED":
            if node.generated_kind != "s":
                needs_version(tally, 18, "VIRTUAL")
            generated = node.generated_kind or "v"
            column = replace(column, generated=generated, default=text_of(node.raw_expr))
    return column


def generated_expression(definition: Any) -> Any:
    """Return the expression, a `Node`, of a generated column's `ColumnDef`; None of another."""
    from postgast import pg_query_pb2 as grammar

    for item in definition.constraints:
        if item.constraint.contype == grammar.CONSTR_GENERATED:
            return item.constraint.raw_expr
    return None


def _is_null(expression: Any) -> bool:
    return bool(expression.WhichOneof("node") == "a_const" and expression.a_const.isnull)


def _collation(definition: Any) -> str | None:
    if not definition.HasField("coll_clause"):
        return None
    return strings(definition.coll_clause.collname)[-1]


def _make_sequence(table: QualifiedName, column: str, tally: Tally) -> QualifiedName:
    world = tally.world
    name = table.sibling(sequence_name(world, table, column))
    persistence = "t" if table.schema == "pg_temp" else "p"
    world.put(Relation(name, kind="S", complete=True, persistence=persistence, born=world.batch))
    return name
