"""Partitions: made as a table of their own, then attached; and their indexes, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from alembic_safe.postgres.deparsing import statement_sql
from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.expressions import index_body
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.writing import (
    call,
    copy_of,
    exact,
    execute,
    fix,
    phase_of,
    sql_name,
)
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


def partitioned_index(effects: Effects, surroundings: Surroundings, table: Relation) -> Fix | None:
    """The index of a partitioned table, built for each partition beside the traffic.

    Args:
        effects: of the `CREATE INDEX`.
        surroundings: with the world behind it, which has the indexes of the partitions.
        table: the partitioned table.
    """
    node, shown = effects.node, written(table.name, surroundings.world)
    if not node.idxname or not node.relation.inh:
        return None
    operation = call(
        "create_partitioned_index",
        node.idxname,
        shown.name,
        unique=node.unique or None,
        definition=index_body(effects.sql),
        schema=shown.schema,
    )
    family = list(surroundings.world.family(table.name))
    are_known = all(each.complete and each.kind in "rp" for each in family)
    sql = _partition_by_partition(effects, surroundings, table, node.idxname) if are_known else ()
    return fix(operation, list(sql), surroundings, phase=phase_of(effects, surroundings))


def _partition_by_partition(
    effects: Effects, surroundings: Surroundings, table: Relation, index: str
) -> Iterator[str]:
    world = surroundings.world
    yield _built_on(effects, surroundings, table, index, only=True)
    parent = table.name.sibling(index)
    for partition in filter(None, map(world.find, table.children)):
        own = next(each.name for each in partition.indexes.values() if each.parent == parent)
        before = effects.before.get(partition.name, partition)
        if partition.is_partitioned:
            yield from _partition_by_partition(effects, surroundings, partition, own)
        elif own not in before.indexes:
            yield _built_on(effects, surroundings, partition, own, only=False)
        attached = sql_name(written(partition.name.sibling(own), world))
        yield f"ALTER INDEX {sql_name(written(parent, world))} ATTACH PARTITION {attached}"


def _built_on(
    effects: Effects, surroundings: Surroundings, table: Relation, index: str, *, only: bool
) -> str:
    name = written(table.name, surroundings.world)
    changed = copy_of(effects.node)
    changed.idxname = index
    changed.concurrent = not only
    changed.relation.inh = not only
    changed.relation.relname, changed.relation.schemaname = name.name, name.schema or ""
    return statement_sql("index_stmt", changed)
