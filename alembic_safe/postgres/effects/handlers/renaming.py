"""New names in the world: everything that refers to a renamed object follows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from alembic_safe.postgres.effects.world import (
    Column,
    Constraint,
    Index,
    Relation,
    TypeName,
    World,
)
from alembic_safe.postgres.expressions import rename_column_in_constraint
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.types import is_built_in

Value = TypeVar("Value")


def move_relation(world: World, relation: Relation, new: QualifiedName) -> None:
    """Give a relation another name or schema."""
    old = relation.name
    world.remove(old)
    world.put(replace(relation, name=new))
    for other in list(world.relations.values()):
        changed = _following_relation(other, old, new)
        if changed is not other:
            world.put(changed)


def _following_relation(relation: Relation, old: QualifiedName, new: QualifiedName) -> Relation:
    """Return a relation with its references to another one under that one's new name."""

    def moved(names: tuple[QualifiedName, ...]) -> tuple[QualifiedName, ...]:
        return tuple(new if name == old else name for name in names)

    if old in relation.parents or old in relation.children:
        relation = replace(
            relation, parents=moved(relation.parents), children=moved(relation.children)
        )
    if old in relation.dependents:
        relation = replace(relation, dependents=_renamed(relation.dependents, old, new))
    if any(constraint.referenced == old for constraint in relation.constraints.values()):
        constraints = {
            name: replace(each, referenced=new) if each.referenced == old else each
            for name, each in relation.constraints.items()
        }
        relation = replace(relation, constraints=constraints)
    for column in relation.columns.values():
        if column.sequence == old:
            relation = relation.with_column(replace(column, sequence=new))
    return relation


def rename_index_of(world: World, table: Relation, index: Index, new: str) -> None:
    """Give an index another name, and the constraint that owns it."""
    old = index.name
    without = world.remove_index(table, old)
    owner = index.constraint if index.constraint != old else new
    renamed = replace(index, name=new, constraint=owner)
    indexes = {new if key == old else key: each for key, each in table.indexes.items()}
    indexes[new] = renamed
    constraints = {
        new if key == old and index.constraint == old else key: _with_index(each, index, new)
        for key, each in without.constraints.items()
    }
    world.put(replace(without, indexes=indexes, constraints=constraints))
    before, after = table.name.sibling(old), table.name.sibling(new)
    for child in table.children:
        known = world.find(child)
        for part in known.indexes.values() if known is not None else ():
            if known is not None and part.parent == before:
                world.put(known.with_index(replace(part, parent=after)))


def _with_index(constraint: Constraint, index: Index, new: str) -> Constraint:
    if constraint.index != index.name or constraint.type == "f":
        return constraint
    name = new if constraint.name == index.constraint == index.name else constraint.name
    return replace(constraint, name=name, index=new)


def rename_column_of(world: World, table: Relation, old: str, new: str) -> None:
    """Give a column another name, in everything that uses it."""
    columns = {
        new if key == old else key: replace(column, name=new) if key == old else column
        for key, column in table.columns.items()
    }
    renamed = replace(
        table,
        columns={
            key: _generated_renamed(table, column, old, new) for key, column in columns.items()
        },
        indexes={key: _index_renamed(each, old, new) for key, each in table.indexes.items()},
        constraints={
            key: _constraint_renamed(each, old, new) for key, each in table.constraints.items()
        },
        partition_key=_in_tuple(table.partition_key, old, new),
        dependents=_in_sets(table.dependents, old, new),
        generated_from=_in_sets(_renamed(table.generated_from, old, new), old, new),
        extended_statistics=_in_sets(table.extended_statistics, old, new),
        other_dependents=_in_sets(table.other_dependents, old, new),
    )
    world.put(renamed)
    for other, constraint in list(world.referencing(table.name)):
        referenced = _in_tuple(constraint.referenced_columns, old, new)
        current = world.relations[other.name]
        world.put(
            current.with_constraint(
                replace(current.constraints[constraint.name], referenced_columns=referenced)
            )
        )


def _index_renamed(index: Index, old: str, new: str) -> Index:
    if old not in index.uses:
        return index
    return replace(
        index,
        columns=_in_tuple(index.columns, old, new),
        included=_in_tuple(index.included, old, new),
        expression_columns=_in_set(index.expression_columns, old, new),
    )


def _constraint_renamed(constraint: Constraint, old: str, new: str) -> Constraint:
    if old not in constraint.columns:
        return constraint
    return replace(
        constraint,
        columns=_in_tuple(constraint.columns, old, new),
        proves_not_null=_in_set(constraint.proves_not_null, old, new),
        expression=_expression_renamed(constraint.expression, old, new),
    )


def _generated_renamed(table: Relation, column: Column, old: str, new: str) -> Column:
    uses = table.generated_from.get(old if column.name == new else column.name, frozenset())
    if old not in uses or column.default is None:
        return column
    return replace(column, default=_expression_renamed(column.default, old, new) or column.default)


def _expression_renamed(expression: str, old: str, new: str) -> str:
    """Return an expression with a column renamed; empty, not known, where it cannot be read."""
    if not expression:
        return ""
    try:
        definition = rename_column_in_constraint(f"CHECK ({expression})", old, new)
    except ValueError:
        return ""
    return definition.removeprefix("CHECK (").removesuffix(")")


def _in_tuple(names: tuple[Value, ...], old: Value, new: Value) -> tuple[Value, ...]:
    return tuple(new if name == old else name for name in names)


def _in_set(names: frozenset[str], old: str, new: str) -> frozenset[str]:
    return names - {old} | {new} if old in names else names


def _in_sets(
    sets: Mapping[Value, frozenset[str]], old: str, new: str
) -> dict[Value, frozenset[str]]:
    return {key: _in_set(names, old, new) for key, names in sets.items()}


def _renamed(
    mapping: Mapping[Value, frozenset[str]], old: Value, new: Value
) -> dict[Value, frozenset[str]]:
    return {new if key == old else key: value for key, value in mapping.items()}


# What is no relation


def move_type(world: World, old: QualifiedName, new: QualifiedName) -> None:
    """Give a type another name or schema."""
    found = world.types.get(old)
    if found is not None:
        world.remove_type(old)
        world.put_type(replace(found, name=new))
    for relation in list(world.relations.values()):
        using = [column for column in relation.columns.values() if _is(column.type, old, world)]
        for column in using:
            relation = relation.with_column(replace(column, type=_moved(column.type, new)))
        if using:
            world.put(relation)
    for type_ in list(world.types.values()):
        if _is(type_.base, old, world):
            world.put_type(replace(type_, base=_moved(type_.base, new)))


def _is(type_: TypeName | None, name: QualifiedName, world: World) -> bool:
    if type_ is None or type_.name != name.name or is_built_in(type_):
        return False
    return type_.schema == name.schema or type_.schema is None


def _moved(type_: TypeName | None, new: QualifiedName) -> TypeName | None:
    return replace(type_, name=new.name, schema=new.schema) if type_ is not None else None


def move_function(world: World, old: QualifiedName, new: QualifiedName) -> None:
    """Give a function another name or schema."""
    found = world.functions.get(old)
    if found is not None:
        world.remove_function(old)
        world.put_function(replace(found, name=new))


def move_schema(world: World, old: str, new: str) -> None:
    """Give a schema another name, with everything in it."""
    for name in [name for name in world.types if name.schema == old]:
        move_type(world, name, QualifiedName(name.name, new))
    for name in [name for name in world.functions if name.schema == old]:
        move_function(world, name, QualifiedName(name.name, new))
    for relation in _of_schema(world.relations.values(), old):
        current = world.relations[relation.name]
        move_relation(world, current, QualifiedName(relation.name.name, new))


def _of_schema(relations: Iterable[Relation], schema: str) -> list[Relation]:
    return [relation for relation in relations if relation.name.schema == schema]
