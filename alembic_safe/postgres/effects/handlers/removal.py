"""DROP TABLE, with everything that goes with a table or stands in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.names import object_name, split_name
from alembic_safe.postgres.effects.handlers.views import drop_with_dependents
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

_KINDS = {"OBJECT_TABLE": "rp", "OBJECT_FOREIGN_TABLE": "f"}


def drop_table(node: Any, tally: Tally) -> None:
    """`DROP TABLE`, `DROP FOREIGN TABLE`: ACCESS EXCLUSIVE on more than the tables.

    On their partitions and owned sequences, the parent of a partition and its default partition,
    and the other table of every foreign key.

    With CASCADE on the views that use them and the tables that inherit from them too.

    Raises:
        Refused: a table is not there, is something else, or is used and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    kinds = _KINDS[grammar.ObjectType.Name(node.remove_type)]
    named = []
    for item in node.objects:
        relation = tally.named(*split_name(object_name(item)), missing_ok=node.missing_ok)
        if relation is None:
            continue
        if relation.kind not in kinds + "?":
            what = "table" if "r" in kinds else "foreign table"
            tally.refuse(f'"{relation.name.name}" is not a {what}', "42809")
        named.append(relation)
    drop_tables(named, tally, cascade=node.behavior == grammar.DROP_CASCADE)


def drop_tables(named: list[Relation], tally: Tally, *, cascade: bool) -> None:
    """Note that tables are dropped, and take them out of the world.

    Args:
        named: the tables, of which none is dropped because of another.
        tally: of the statement.
        cascade: whether what depends on them is dropped too.

    Raises:
        Refused: something depends on them, without `cascade`.
    """
    world = tally.world
    doomed = {
        member.name: member
        for table in named
        for member in world.family(table.name)
        if cascade or table.is_partitioned or member.name == table.name
    }
    if not cascade:
        for table in named:
            _refuse_where_used(table, doomed, tally)
    for table in named:
        _lock_parent(table, tally)
    for table in doomed.values():
        if not table.complete:
            _assume_partners(table.name, tally)
        tally.lock(table, LockMode.ACCESS_EXCLUSIVE)
        for partner in _partners(table):
            _lock_partner(partner, tally)
        for other, constraint in list(world.referencing(table.name)):
            if other.name not in doomed:
                _drop_foreign_key(other, constraint, tally)
    for table in doomed.values():
        if table.name in {each.name for each in named}:
            tally.change(Change.DROPPED, "table", table.name, born=table.born)
        for view in table.dependents:
            found = world.find(view)
            if found is not None:
                drop_with_dependents(found, tally)
        _remove(table, tally)


def _refuse_where_used(
    table: Relation, doomed: dict[QualifiedName, Relation], tally: Tally
) -> None:
    heirs = any(child not in doomed for child in table.children)
    referenced = [member.name for member in tally.world.family(table.name) if member.name in doomed]
    keys = any(
        other.name not in doomed
        for name in [*referenced, *(table.parents if table.is_partition else ())]
        for other, _ in tally.world.referencing(name)
    )
    if heirs or keys or table.dependents:
        tally.refuse(
            f"cannot drop table {table.name.name} because other objects depend on it", "2BP01"
        )


def _lock_parent(table: Relation, tally: Tally) -> None:
    if not table.is_partition:
        return
    for parent in table.parents:
        tally.lock(parent, LockMode.ACCESS_EXCLUSIVE)
        above = tally.world.find(parent)
        for sibling in above.children if above is not None else ():
            found = tally.world.find(sibling)
            if found is not None and found.is_default_partition:
                tally.lock(found, LockMode.ACCESS_EXCLUSIVE)


def _assume_partners(table: QualifiedName, tally: Tally) -> None:
    tally.assume(f"other tables that foreign keys connect with {table} are not known")
    tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE


def _partners(table: Relation) -> Iterator[QualifiedName]:
    for constraint in table.constraints.values():
        # That of a partition has no triggers on the other table.
        is_own = constraint.type == "f" and not constraint.inherited
        if is_own and constraint.referenced is not None:
            yield constraint.referenced


def _lock_partner(name: QualifiedName, tally: Tally) -> None:
    """Lock what a foreign key references: where its triggers are, up to version 14 on tables with
    rows alone."""
    partner = tally.world.find(name)
    if tally.world.version >= 15 or partner is None or not partner.is_partitioned:
        tally.lock(name, LockMode.ACCESS_EXCLUSIVE, family=True)
        return
    for member in tally.world.family(name):
        if not member.is_partitioned:
            tally.lock(member, LockMode.ACCESS_EXCLUSIVE)


def _drop_foreign_key(table: Relation, constraint: Constraint, tally: Tally) -> None:
    current = tally.world.relations[table.name]
    tally.lock(current, LockMode.ACCESS_EXCLUSIVE)
    tally.change(Change.DROPPED, "constraint", table.name, constraint.name, born=constraint.born)
    kept = {name: each for name, each in current.constraints.items() if name != constraint.name}
    tally.world.put(replace(current, constraints=kept))


def _remove(table: Relation, tally: Tally) -> None:
    world = tally.world
    for column in table.columns.values():
        if column.sequence is not None and world.find(column.sequence) is not None:
            tally.lock(column.sequence, LockMode.ACCESS_EXCLUSIVE)
            world.remove(column.sequence)
    for parent in table.parents:
        above = world.find(parent)
        if above is not None:
            left = tuple(child for child in above.children if child != table.name)
            world.put(replace(above, children=left))
    world.remove(table.name)
