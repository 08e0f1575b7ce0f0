"""Names of objects in parse trees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alembic_safe.postgres.effects.world import TypeName, World
from alembic_safe.postgres.identifiers import QualifiedName

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})


def strings(nodes: Iterable[Any]) -> list[str]:
    """Return the texts of `String` nodes."""
    return [node.string.sval for node in nodes]


def split_name(parts: list[str]) -> tuple[str, str | None]:
    """Return name and schema of a dotted name; a database before them is left out."""
    return parts[-1], parts[-2] if len(parts) > 1 else None


def type_name(nodes: Iterable[Any], world: World) -> QualifiedName:
    """Return the user's type that a dotted name means."""
    return world.qualified_type(*split_name(strings(nodes)))


def is_of_type(type_: TypeName | None, name: QualifiedName, world: World) -> bool:
    """Return whether a column's type is a user's type, and no array of it."""
    if type_ is None or type_.is_array or type_.name != name.name:
        return False
    return world.qualified_type(type_.name, type_.schema) == name


def is_system(name: str, schema: str | None) -> bool:
    """Return whether a relation or function is the system's; `pg_` begins no other's."""
    return schema in _SYSTEM_SCHEMAS or (schema is None and name.startswith("pg_"))


def object_name(node: Any) -> list[str]:
    """Return the parts of a dotted name that stands for an object, whichever node holds it."""
    kind = node.WhichOneof("node")
    if kind == "list":
        return strings(node.list.items)
    if kind == "string":
        return [node.string.sval]
    if kind == "type_name":
        return strings(node.type_name.names)
    if kind == "object_with_args":
        return strings(node.object_with_args.objname)
    return []
