"""Definitions of columns as statements write them: type, default, identity, generated, NOT NULL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.expressions import is_null
from alembic_safe.postgres.effects.handlers.chosen_names import sequence_name
from alembic_safe.postgres.effects.handlers.definitions import needs_version, text_of
from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Column, Relation
from alembic_safe.postgres.identifiers import QualifiedName, literal, readable
from alembic_safe.postgres.types import SERIALS, type_of


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

    type_ = type_of(definition.type_name) if definition.HasField("type_name") else None
    serial = SERIALS.get(type_.name) if type_ is not None and type_.schema is None else None
    if type_ is not None and serial is not None:
        type_ = replace(type_, name=serial)
    found: dict[str, Any] = {"type": type_, "collation": _collation(definition)}
    if definition.HasField("raw_default"):
        found["default"] = text_of(definition.raw_default)
    if serial is not None:
        sequence = make_sequence(table, definition.colname, tally)
        name = literal(".".join(map(readable, (sequence.schema or "public", sequence.name))))
        default = f"nextval({name}::regclass)"
        found |= {"not_null": True, "sequence": sequence, "default": default}
    for item in definition.constraints:
        node = item.constraint
        kind = node.contype
        if kind in (grammar.CONSTR_NOTNULL, grammar.CONSTR_PRIMARY):
            found["not_null"] = True
        elif kind == grammar.CONSTR_DEFAULT:
            found["default"] = None if is_null(node.raw_expr) else text_of(node.raw_expr)
        elif kind == grammar.CONSTR_IDENTITY:
            sequence = make_sequence(table, definition.colname, tally)
            found |= {"not_null": True, "sequence": sequence, "identity": node.generated_when}
        elif kind == grammar.CONSTR_GENERATED:
            if node.generated_kind != "s":
                needs_version(tally, 18, "VIRTUAL")
            found["generated"] = node.generated_kind or "v"
            found["default"] = text_of(node.raw_expr)
    return Column(definition.colname, born=tally.world.batch, **found)


def constraints_of(definition: Any) -> list[Any]:
    """Return the `Constraint` nodes of a `ColumnDef`, each with the attributes that the grammar has
    as nodes of their own behind it: DEFERRABLE, NOT ENFORCED, ..."""
    from postgast import pg_query_pb2 as grammar

    found: list[Any] = []
    for item in definition.constraints:
        node = item.constraint
        change = _ATTRIBUTES.get(grammar.ConstrType.Name(node.contype))
        if change is None:
            found.append(node)
        elif found:
            changed = type(node)()
            changed.CopyFrom(found[-1])
            for field, value in change.items():
                setattr(changed, field, value)
            found[-1] = changed
    return found


_ATTRIBUTES: dict[str, dict[str, bool]] = {
    "CONSTR_ATTR_DEFERRABLE": {"deferrable": True},
    "CONSTR_ATTR_NOT_DEFERRABLE": {"deferrable": False},
    "CONSTR_ATTR_DEFERRED": {"deferrable": True, "initdeferred": True},
    "CONSTR_ATTR_IMMEDIATE": {"initdeferred": False},
    "CONSTR_ATTR_ENFORCED": {"is_enforced": True},
    "CONSTR_ATTR_NOT_ENFORCED": {"is_enforced": False, "initially_valid": False},
}


def generated_expression(definition: Any) -> Any:
    """Return the expression, a `Node`, of a generated column's `ColumnDef`; None of another."""
    from postgast import pg_query_pb2 as grammar

    for item in definition.constraints:
        if item.constraint.contype == grammar.CONSTR_GENERATED:
            return item.constraint.raw_expr
    return None


def _collation(definition: Any) -> str | None:
    if not definition.HasField("coll_clause"):
        return None
    return strings(definition.coll_clause.collname)[-1]


def make_sequence(table: QualifiedName, column: str, tally: Tally) -> QualifiedName:
    """Put the sequence of a serial or identity column into the world, and return its name."""
    world = tally.world
    name = table.sibling(sequence_name(world, table, column))
    persistence = "t" if table.schema == "pg_temp" else "p"
    world.put(Relation(name, kind="S", complete=True, persistence=persistence, born=world.batch))
    return name
