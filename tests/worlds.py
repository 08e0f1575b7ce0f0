"""Worlds as plain values, so that what the engine thinks of a database and what a server's catalog
says can be compared."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from conftest import Database

from alembic_safe.postgres.effects.analysis import effects_of
from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.effects.model import Effects
from alembic_safe.postgres.effects.world import Column, Constraint, Index, Relation, World
from alembic_safe.postgres.identifiers import QualifiedName


def known(sql: str, version: int = 18) -> World:
    """Return the world of someone who saw every statement since the empty database; what they made
    is in use."""
    world = World(complete=True, version=version)
    for effects in effects_of(sql, world):
        assert (effects.errors, effects.unknown) == ((), ()), effects
    world.settle()
    return world


def only_effects(sql: str, world: World) -> Effects:
    """Return the effects of the one statement of a text."""
    (effects,) = effects_of(sql, world)
    return effects


def locks(effects: Effects) -> dict[str, str]:
    """Return the locks by the names of the relations."""
    return {name.name: mode.sql for name, mode in effects.locks.items()}


def in_catalog(database: Database) -> World:
    """Return the world as the server's catalog describes it."""
    engine = sa.create_engine(database.url())
    try:
        with engine.connect() as connection:
            return read_world(connection)
    finally:
        engine.dispose()


def described(world: World) -> dict[str, Any]:
    """Return what a world says of its relations, without the texts of expressions, which a server
    writes in its own way."""
    return {str(name): _relation(relation) for name, relation in world.relations.items()}


def _relation(relation: Relation) -> dict[str, Any]:
    if relation.kind == "S":
        return {"kind": relation.kind}
    is_table = relation.kind in "rpf"
    return {
        "kind": relation.kind,
        "columns": {
            name: _column(column) if is_table else () for name, column in relation.columns.items()
        },
        "indexes": {name: _index(index) for name, index in relation.indexes.items()},
        "constraints": {name: _constraint(each) for name, each in relation.constraints.items()},
        "parents": [str(name) for name in relation.parents],
        "children": sorted(str(name) for name in relation.children),
        "partition": (relation.is_partition, relation.is_default_partition),
        "key": (relation.partition_key, relation.has_key_expressions),
        "bound": relation.bound,
        "generated": dict(relation.generated_from),
    }


def _column(column: Column) -> tuple[Any, ...]:
    return (
        column.type,
        f"not null {column.not_null}",
        f"default {column.default is not None}",
        column.identity,
        column.generated,
        column.collation,
        str(column.sequence),
        f"inherited {column.inherited}",
    )


def _index(index: Index) -> tuple[Any, ...]:
    return (
        index.columns,
        index.included,
        index.expression_columns,
        index.operator_classes,
        index.method,
        f"unique {index.is_unique}",
        f"primary {index.is_primary}",
        f"valid {index.is_valid}",
        f"partial {index.is_partial}",
        f"nulls not distinct {index.nulls_not_distinct}",
        index.constraint,
        str(index.parent),
    )


def _constraint(constraint: Constraint) -> tuple[Any, ...]:
    return (
        constraint.type,
        sorted(constraint.columns) if constraint.type == "c" else constraint.columns,
        constraint.proves_not_null,
        f"valid {constraint.is_validated}",
        f"enforced {constraint.is_enforced}",
        f"deferrable {constraint.is_deferrable}",
        str(constraint.referenced),
        constraint.referenced_columns,
        constraint.index,
        f"inherited {constraint.inherited}",
    )


def assert_as_in_catalog(sql: str, database: Database) -> None:
    """Check that after the statements the engine knows what the server's catalog says.

    Raises:
        AssertionError: they differ.
    """
    database.execute(sql)
    server = described(in_catalog(database))
    engine = described(known(sql, database.server.version))
    assert sorted(engine) == sorted(server)
    for name, relation in server.items():
        for part, value in relation.items():
            assert engine[name][part] == value, f"{name} {part}: {engine[name][part]} for {value}"


def name_of(relation: str, schema: str = "public") -> QualifiedName:
    """Return a relation's name with its schema."""
    return QualifiedName(relation, schema)
