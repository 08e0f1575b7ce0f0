"""RENAME, SET SCHEMA and OWNER TO, for whatever has a name.

Renaming a relation, a column or a constraint takes ACCESS EXCLUSIVE, `ALTER INDEX ... RENAME` SHARE
UPDATE EXCLUSIVE; types, functions and schemas are not locked at all. Nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable
from alembic_safe.postgres.effects.handlers.names import object_name, split_name
from alembic_safe.postgres.effects.handlers.renaming import (
    move_function,
    move_relation,
    move_schema,
    move_type,
    rename_column_of,
    rename_index_of,
)
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

_KINDS = {
    "FOREIGN_TABLE": "table",
    "INDEX": "index",
    "MATVIEW": "view",
    "SEQUENCE": "sequence",
    "TABLE": "table",
    "VIEW": "view",
}
"""Kinds of relations, and what `NameChange` calls them."""

_KINDS_BY_RELKIND = {
    "S": "sequence",
    "f": "table",
    "m": "view",
    "p": "table",
    "r": "table",
    "v": "view",
}


def rename(node: Any, tally: Tally) -> None:
    """`ALTER ... RENAME`.

    Raises:
        Refused: it is certainly not there, or the new name is taken.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ObjectType.Name(node.rename_type).removeprefix("OBJECT_")
    tally.command = f"ALTER {kind.replace('_', ' ')}"
    if kind in _KINDS:
        _rename_relation(node, kind, tally)
    elif kind in _PARTS:
        _rename_part(node, kind, tally)
    elif kind in _OTHERS:
        _OTHERS[kind](node, tally)


# Relations


def _rename_relation(node: Any, kind: str, tally: Tally) -> None:
    world, new = tally.world, node.newname
    name = world.qualified(node.relation.relname, node.relation.schemaname or None)
    if name in world.index_tables or (kind == "INDEX" and name not in world.relations):
        _rename_index(node, name, kind, tally)
        return
    relation = tally.relation(node.relation, missing_ok=node.missing_ok)
    if relation is None:
        return
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    target = relation.name.sibling(new)
    _need_free(target, tally)
    called = _KINDS_BY_RELKIND.get(relation.kind, _KINDS[kind])
    tally.change(Change.RENAMED, called, relation.name, born=relation.born, new_name=new)
    move_relation(world, relation, target)


def _rename_index(node: Any, name: QualifiedName, kind: str, tally: Tally) -> None:
    world = tally.world
    is_index = kind == "INDEX"
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if is_index else LockMode.ACCESS_EXCLUSIVE
    table = world.find(world.index_tables.get(name, name))
    if table is None:
        if world.is_gone(name):
            if node.missing_ok:
                return
            tally.refuse(f'relation "{name.name}" does not exist', "42P01")
        # ALTER INDEX renames a table too, and then locks it as a table.
        tally.assume(f"{name} may be a table")
        tally.lock(name, LockMode.ACCESS_EXCLUSIVE)
        tally.change(Change.RENAMED, "index", name, new_name=node.newname)
        return
    tally.lock(name, mode)
    _need_free(name.sibling(node.newname), tally)
    index = table.indexes[name.name]
    tally.change(Change.RENAMED, "index", name, born=index.born, new_name=node.newname)
    rename_index_of(world, table, index, node.newname)


def _need_free(name: QualifiedName, tally: Tally) -> None:
    found = tally.world.find(name)
    if (found is not None and found.kind != "?") or name in tally.world.index_tables:
        tally.refuse(f'relation "{name.name}" already exists', "42P07")


# Parts of relations


def _rename_part(node: Any, kind: str, tally: Tally) -> None:
    relation = tally.relation(node.relation, missing_ok=node.missing_ok)
    if relation is None:
        return
    alter = AlterTable(tally, relation.name, only=not node.relation.inh)
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    try:
        _PARTS[kind](alter, node)
    finally:
        tally.lock(relation.name, alter.mode, family=alter.recurses)


def _rename_column(alter: AlterTable, node: Any) -> None:
    tally, table, old, new = alter.tally, alter.table, node.subname, node.newname
    if table.complete and old not in table.columns:
        tally.refuse(f'column "{old}" does not exist', "42703")
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = table.columns.get(old)
    if column is not None and column.inherited:
        tally.refuse(f'cannot rename inherited column "{old}"', "42P16")
    if alter.only and table.children:
        tally.refuse(f'inherited column "{old}" must be renamed in child tables too', "42P16")
    for member in alter.members():
        if new in member.columns:
            tally.refuse(f'column "{new}" of relation "{member.name.name}" already exists', "42701")
    born = column.born if column is not None else 0
    tally.change(Change.RENAMED, "column", table.name, old, born=born, new_name=new)
    for member in alter.members():
        rename_column_of(tally.world, member, old, new)


def _rename_constraint(alter: AlterTable, node: Any) -> None:
    tally, table, old, new = alter.tally, alter.table, node.subname, node.newname
    found = table.constraints.get(old)
    if found is None and table.complete:
        tally.refuse(f'constraint "{old}" for table "{table.name.name}" does not exist', "42704")
    if new in table.constraints:
        tally.refuse(f'constraint "{new}" for relation "{table.name.name}" already exists', "42710")
    if found is not None and found.inherited:
        tally.refuse(f'cannot rename inherited constraint "{old}"', "42P16")
    goes_down = found is None or found.type in "cn"
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=goes_down)
    born = found.born if found is not None else 0
    tally.change(Change.RENAMED, "constraint", table.name, old, born=born, new_name=new)
    for member in alter.members() if goes_down else [table]:
        own = member.constraints.get(old)
        if own is None:
            continue
        index = member.indexes.get(own.index or "")
        if index is not None and index.constraint == old:
            rename_index_of(tally.world, member, index, new)
        else:
            renamed = {
                new if key == old else key: replace(c, name=new) if key == old else c
                for key, c in member.constraints.items()
            }
            alter.put(replace(member, constraints=renamed))


def _renamed_in(names: frozenset[str], node: Any) -> frozenset[str]:
    return names - {node.subname} | {node.newname}


def _rename_trigger(alter: AlterTable, node: Any) -> None:
    tally, table = alter.tally, alter.table
    if table.complete and node.subname not in table.triggers:
        tally.refuse(
            f'trigger "{node.subname}" for table "{table.name.name}" does not exist', "42704"
        )
    # Since version 15 those of partitions go with it.
    alter.lock(
        LockMode.ACCESS_EXCLUSIVE, recurse=table.is_partitioned and tally.world.version >= 15
    )
    for member in alter.members() if table.is_partitioned else [table]:
        if node.subname in member.triggers:
            hanging = _renamed_dependent(member, "trigger", node)
            alter.put(replace(hanging, triggers=_renamed_in(member.triggers, node)))


def _rename_policy(alter: AlterTable, node: Any) -> None:
    table = alter.table
    if table.complete and node.subname not in table.policies:
        alter.tally.refuse(
            f'policy "{node.subname}" for table "{table.name.name}" does not exist', "42704"
        )
    hanging = _renamed_dependent(table, "policy", node)
    alter.put(replace(hanging, policies=_renamed_in(table.policies, node)))


def _rename_rule(alter: AlterTable, node: Any) -> None:
    table = alter.table
    if table.complete and table.kind != "v" and node.subname not in table.rules:
        alter.tally.refuse(
            f'rule "{node.subname}" for relation "{table.name.name}" does not exist', "42704"
        )
    alter.put(replace(table, rules=_renamed_in(table.rules, node)))


def _renamed_dependent(table: Relation, what: str, node: Any) -> Relation:
    old, new = f"{what} {node.subname}", f"{what} {node.newname}"
    if old not in table.other_dependents:
        return table
    hanging = {new if key == old else key: used for key, used in table.other_dependents.items()}
    return replace(table, other_dependents=hanging)


_PARTS: dict[str, Callable[[AlterTable, Any], None]] = {
    "COLUMN": _rename_column,
    "POLICY": _rename_policy,
    "RULE": _rename_rule,
    "TABCONSTRAINT": _rename_constraint,
    "TRIGGER": _rename_trigger,
}


# What is no relation


def _rename_type(node: Any, tally: Tally) -> None:
    name = tally.world.qualified_type(*split_name(object_name(node.object)))
    found = tally.world.types.get(name)
    born = found.born if found is not None else 0
    tally.change(Change.RENAMED, "type", name, born=born, new_name=node.newname)
    move_type(tally.world, name, name.sibling(node.newname))


def _rename_attribute(node: Any, tally: Tally) -> None:
    name = tally.world.qualified_type(node.relation.relname, node.relation.schemaname or None)
    tally.change(Change.RENAMED, "type", name, node.subname, new_name=node.newname)


def _rename_domain_constraint(node: Any, tally: Tally) -> None:
    name = tally.world.qualified_type(*split_name(object_name(node.object)))
    found = tally.world.types.get(name)
    if found is not None and node.subname in found.constraints:
        renamed = {
            node.newname if key == node.subname else key: is_valid
            for key, is_valid in found.constraints.items()
        }
        tally.world.put_type(replace(found, constraints=renamed))


def _rename_function(node: Any, tally: Tally) -> None:
    name = tally.world.qualified_function(*split_name(object_name(node.object)))
    found = tally.world.functions.get(name)
    born = found.born if found is not None else 0
    tally.change(Change.RENAMED, "function", name, born=born, new_name=node.newname)
    move_function(tally.world, name, name.sibling(node.newname))


def _rename_schema(node: Any, tally: Tally) -> None:
    schema = QualifiedName(node.subname)
    tally.change(Change.RENAMED, "schema", schema, new_name=node.newname)
    move_schema(tally.world, node.subname, node.newname)


_OTHERS: dict[str, Handler] = {
    "AGGREGATE": _rename_function,
    "ATTRIBUTE": _rename_attribute,
    "DOMAIN": _rename_type,
    "DOMCONSTRAINT": _rename_domain_constraint,
    "FUNCTION": _rename_function,
    "PROCEDURE": _rename_function,
    "ROUTINE": _rename_function,
    "SCHEMA": _rename_schema,
    "TYPE": _rename_type,
}


# SET SCHEMA, OWNER TO


def set_schema(node: Any, tally: Tally) -> None:
    """`ALTER ... SET SCHEMA`: ACCESS EXCLUSIVE on a relation and on its sequences, which move too;
    no lock for what is no relation.

    Raises:
        Refused: it is certainly not there, or the schema has one of that name.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ObjectType.Name(node.object_type).removeprefix("OBJECT_")
    tally.command = f"ALTER {kind.replace('_', ' ')}"
    world, schema = tally.world, node.newschema
    if kind in _KINDS:
        _move_relation(node, kind, tally)
    elif kind in ("TYPE", "DOMAIN"):
        name = world.qualified_type(*split_name(object_name(node.object)))
        tally.change(Change.HIDDEN, "type", name, detail=f"in the schema {schema}")
        move_type(world, name, QualifiedName(name.name, schema))
    elif kind in ("FUNCTION", "PROCEDURE", "ROUTINE", "AGGREGATE"):
        name = world.qualified_function(*split_name(object_name(node.object)))
        tally.change(Change.HIDDEN, "function", name, detail=f"in the schema {schema}")
        move_function(world, name, QualifiedName(name.name, schema))
    elif kind == "EXTENSION":
        tally.assume(f"nothing of the extension is used by its name without {schema}")


def _move_relation(node: Any, kind: str, tally: Tally) -> None:
    world = tally.world
    relation = tally.relation(node.relation, missing_ok=node.missing_ok)
    if relation is None:
        return
    tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
    target = QualifiedName(relation.name.name, node.newschema)
    if target == relation.name:
        return
    _need_free(target, tally)
    detail = f"in the schema {node.newschema}"
    called = _KINDS_BY_RELKIND.get(relation.kind, _KINDS[kind])
    tally.change(Change.HIDDEN, called, relation.name, born=relation.born, detail=detail)
    for column in relation.columns.values():
        sequence = world.find(column.sequence) if column.sequence is not None else None
        if sequence is not None:
            tally.lock(sequence, LockMode.ACCESS_EXCLUSIVE)
            move_relation(world, sequence, QualifiedName(sequence.name.name, node.newschema))
    move_relation(world, world.relations[relation.name], target)


def change_owner(node: Any, tally: Tally) -> None:
    """`ALTER ... OWNER TO` of what is no relation: no lock."""


HANDLERS: dict[str, Handler] = {
    "alter_object_schema_stmt": set_schema,
    "alter_owner_stmt": change_owner,
    "rename_stmt": rename,
}
