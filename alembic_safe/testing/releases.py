"""The models that a release would have, read from the schema it works with."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace

import sqlalchemy as sa

from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.testing.migrations import Migrations


@dataclass(frozen=True)
class Tables:
    """The tables of a database.

    Args:
        metadata: their models, without partitions, which an application does not name.
        definitions: all that is known of each, by its key in the models.
    """

    metadata: sa.MetaData
    definitions: dict[str, object]

    def changed(self, after: Tables) -> set[str]:
        """Return the keys of tables that are in one of the two only, or defined differently."""
        keys = self.definitions.keys() | after.definitions.keys()
        return {key for key in keys if self.definitions.get(key) != after.definitions.get(key)}

    def with_parents(self, keys: Collection[str]) -> set[str]:
        """Return those of the tables that are here, and all to which they refer."""
        found: set[str] = set()
        waiting = [key for key in keys if key in self.metadata.tables]
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                references = self.metadata.tables[key].foreign_keys
                waiting += [reference.column.table.key for reference in references]
        return found


def read_tables(migrations: Migrations) -> Tables:
    """Read the tables of a database, those of Alembic and of this package left out."""
    metadata = sa.MetaData()
    with migrations.connect() as connection:
        world = read_world(connection)
        default = connection.dialect.default_schema_name
        found = {
            name: relation
            for name, relation in world.relations.items()
            if relation.kind in ("r", "p")
            and not relation.is_partition
            and name.name not in migrations.own_tables
        }
        definitions: dict[str, object] = {}
        for name, relation in found.items():
            types = [
                world.types.get(QualifiedName(column.type.name, column.type.schema))
                for column in relation.columns.values()
                if column.type is not None
            ]
            definitions[_key(name, default)] = (_without_rows(relation), types)
        with warnings.catch_warnings():
            # A type that SQLAlchemy does not know is left to the values that the user gives.
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            for schema in {name.schema for name in found}:
                names = [name.name for name in found if name.schema == schema]
                metadata.reflect(
                    connection, schema=None if schema == default else schema, only=names
                )
    return Tables(metadata, definitions)


def _key(name: QualifiedName, default: str | None) -> str:
    return name.name if name.schema == default else f"{name.schema}.{name.name}"


def _without_rows(relation: Relation) -> Relation:
    return replace(relation, size=None, children=(), dependents={})
