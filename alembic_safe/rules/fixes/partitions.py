"""Partitions: made as a table of their own, then attached."""

from __future__ import annotations

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.writing import exact, execute, fix, sql_name
from alembic_safe.rules.reading import written


@exact
def created_and_attached(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """A table made like its parent, then attached."""
    node, world = effects.node, surroundings.world
    if node.table_elts or node.HasField("partspec") or node.if_not_exists or effects.scans:
        return None
    if len(node.inh_relations) != 1:
        return None
    parent = node.inh_relations[0].range_var
    bound = effects.sql[effects.sql.upper().index(" PARTITION OF ") :]
    place = max(bound.upper().find(" FOR VALUES "), bound.upper().find(" DEFAULT"))
    if place < 0 or node.options or node.tablespacename or node.access_method:
        return None
    relation, found = node.relation, world.qualified(parent.relname, parent.schemaname or None)
    new = sql_name(QualifiedName(relation.relname, relation.schemaname or None))
    of = sql_name(written(found, world))
    statements = [
        f"CREATE TABLE {new} (LIKE {of} INCLUDING ALL)",
        f"ALTER TABLE {of} ATTACH PARTITION {new}{bound[place:]}",
    ]
    return fix([*map(execute, statements)], statements, surroundings)
