"""Partitions: CREATE TABLE ... PARTITION OF, ATTACH PARTITION, DETACH PARTITION."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.definitions import text_of
from alembic_safe.postgres.effects.handlers.indexes import give_partition_index
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def bound_of(node: Any) -> str:
    """Return the text of a `PartitionBoundSpec`, as `FOR VALUES FROM (1) TO (2)`."""
    if node.is_default:
        return "DEFAULT"
    if node.strategy == "h":
        return f"FOR VALUES WITH (modulus {node.modulus}, remainder {node.remainder})"
    if node.strategy == "l":
        return f"FOR VALUES IN ({_values(node.listdatums)})"
    return f"FOR VALUES FROM ({_values(node.lowerdatums)}) TO ({_values(node.upperdatums)})"


def _values(nodes: Any) -> str:
    return ", ".join(
        # MINVALUE and MAXVALUE are read as columns.
        text_of(node).upper() if node.HasField("column_ref") else text_of(node)
        for node in nodes
    )


def default_partition(tally: Tally, parent: Relation) -> Relation | None:
    """Return the partition of a table for what no other takes."""
    for child in parent.children:
        found = tally.world.find(child)
        if found is not None and found.is_default_partition:
            return found
    return None


def adopt(tally: Tally, parent: QualifiedName, name: QualifiedName, bound: str) -> None:
    """Make a table a partition of another: its default partition is checked, its foreign keys and
    indexes are handed down.

    Args:
        tally: of the statement.
        parent: the partitioned table.
        name: the partition, which has the columns already.
        bound: its bound, as `bound_of` says it.
    """
    world = tally.world
    above = world.relations[parent]
    default = default_partition(tally, above)
    if default is not None:
        tally.lock(default, LockMode.ACCESS_EXCLUSIVE, family=True)
        tally.scan(default)
    elif not above.complete:
        tally.assume(f"{above.name} may have a default partition, which is then read")
        tally.scans[above.name] = None
    partition = replace(
        world.relations[name],
        parents=(parent,),
        is_partition=True,
        is_default_partition=bound == "DEFAULT",
        bound=bound,
    )
    world.put(partition)
    world.put(replace(above, children=(*above.children, name)))
    for index in above.indexes.values():
        owner = above.constraints.get(index.constraint or "")
        give_partition_index(tally, above, index, owner, world.relations[name])
    _hand_down_foreign_keys(tally, above, name)


def _hand_down_foreign_keys(tally: Tally, parent: Relation, name: QualifiedName) -> None:
    for constraint in parent.constraints.values():
        if constraint.type != "f" or constraint.referenced is None:
            continue
        tally.lock(constraint.referenced, LockMode.SHARE_ROW_EXCLUSIVE, family=True)
        for member in list(tally.world.family(name)):
            tally.world.put(member.with_constraint(replace(constraint, inherited=True)))
