"""Schemas and extensions: what holds many objects."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.access import lock_named
from alembic_safe.postgres.effects.handlers.names import object_name
from alembic_safe.postgres.effects.handlers.views import forget_dependent
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.postgres.locks import LockMode

_KINDS = {"S": "sequence", "v": "view", "m": "view"}


def create_schema(node: Any, tally: Tally) -> None:
    """`CREATE SCHEMA`: no lock, besides what its own statements do, each of them a child."""
    if not node.schema_elts:
        return
    path = tally.world.settings.get("search_path")
    schema = node.schemaname or node.authrole.rolename
    tally.world.set("search_path", f"{quote(schema)}, {path or 'public'}")
    for item in node.schema_elts:
        tally.absorb(tally.inside_node(item))
    tally.world.set("search_path", path)


def drop_schemas(node: Any, tally: Tally) -> None:
    """`DROP SCHEMA`: with CASCADE everything in it, each relation under ACCESS EXCLUSIVE.

    Raises:
        Refused: something is in it and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    for item in node.objects:
        schema = item.string.sval
        inside = [
            relation for relation in world.relations.values() if relation.name.schema == schema
        ]
        if inside and node.behavior != grammar.DROP_CASCADE:
            message = f"cannot drop schema {schema} because other objects depend on it"
            tally.refuse(message, "2BP01")
        for relation in inside:
            tally.lock(relation, LockMode.ACCESS_EXCLUSIVE)
            for other, constraint in world.referencing(relation.name):
                if other.name.schema != schema:
                    tally.lock(other, LockMode.ACCESS_EXCLUSIVE)
                    tally.change(Change.DROPPED, "constraint", other.name, constraint.name)
            kind = _KINDS.get(relation.kind, "table")
            tally.change(Change.DROPPED, kind, relation.name, born=relation.born)
        for relation in inside:
            forget_dependent(relation.name, tally)
            world.remove(relation.name)
        for type_ in [type_ for type_ in world.types if type_.schema == schema]:
            world.remove_type(type_)
        for function in [function for function in world.functions if function.schema == schema]:
            world.remove_function(function)
        tally.change(Change.DROPPED, "schema", QualifiedName(schema))
        if node.behavior == grammar.DROP_CASCADE and not world.complete:
            tally.unknown(f"what is in the schema {schema}, and all of it is dropped, is not known")


def create_extension(node: Any, tally: Tally) -> None:
    """`CREATE EXTENSION`: its script makes new objects; no lock on what was there before."""


def alter_extension(node: Any, tally: Tally) -> None:
    """`ALTER EXTENSION ... UPDATE`: its script changes the extension's own objects."""
    tally.assume(f"the update of {node.extname} changes nothing but its own objects")


def alter_extension_contents(node: Any, tally: Tally) -> None:
    """`ALTER EXTENSION ... ADD`, `DROP`: SHARE UPDATE EXCLUSIVE on a relation."""
    from postgast import pg_query_pb2 as grammar

    if grammar.ObjectType.Name(node.objtype).removeprefix("OBJECT_") in _RELATIONS:
        parts = object_name(node.object)
        lock_named(parts, LockMode.SHARE_UPDATE_EXCLUSIVE, tally)


_RELATIONS = frozenset({"TABLE", "VIEW", "MATVIEW", "SEQUENCE", "FOREIGN_TABLE"})


def drop_extensions(node: Any, tally: Tally) -> None:
    """`DROP EXTENSION`: with CASCADE what uses its types and functions goes too."""
    from postgast import pg_query_pb2 as grammar

    for item in node.objects:
        name = QualifiedName(item.string.sval)
        tally.change(Change.DROPPED, "extension", name)
        if node.behavior == grammar.DROP_CASCADE:
            tally.unknown(f"what goes away with the extension {name} is not known")


def import_foreign_schema(node: Any, tally: Tally) -> None:
    """`IMPORT FOREIGN SCHEMA`: makes foreign tables, of which only the foreign server knows."""
    tally.unknown("which foreign tables it makes is not known")


HANDLERS: dict[str, Handler] = {
    "alter_extension_contents_stmt": alter_extension_contents,
    "alter_extension_stmt": alter_extension,
    "create_extension_stmt": create_extension,
    "create_schema_stmt": create_schema,
    "import_foreign_schema_stmt": import_foreign_schema,
}
