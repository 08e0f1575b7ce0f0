"""DROP INDEX, REINDEX, ALTER INDEX.

Facts for rules in `details`: `dropped_indexes`, a list of (table, `Index`); `unnamed_locks`, the
strongest mode on tables whose names are not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.definitions import needs_version
from alembic_safe.postgres.effects.handlers.indexes import with_parent
from alembic_safe.postgres.effects.handlers.names import object_name, split_name
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Index, Relation, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def _find(world: World, name: QualifiedName) -> tuple[Relation, Index] | None:
    table = world.find(world.index_tables.get(name, name))
    if table is None or name.name not in table.indexes:
        return None
    return table, table.indexes[name.name]


def _named(
    tally: Tally, name: QualifiedName, *, missing_ok: bool = False
) -> tuple[Relation, Index] | None:
    """Return an index with its table; None where it is not known, or gone and that is right.

    Raises:
        Refused: it is certainly not there.
    """
    world = tally.world
    found = _find(world, name)
    if found is None and name in world.relations:
        if world.relations[name].kind != "?":
            tally.refuse(f'"{name.name}" is not an index', "42809")
    elif found is None and world.is_gone(name) and not missing_ok:
        tally.refuse(f'index "{name.name}" does not exist', "42704")
    return found


def _assume_table(tally: Tally, name: QualifiedName, mode: LockMode) -> None:
    tally.assume(f"the table of {name} is not known")
    known = tally.details.get("unnamed_locks", LockMode.NONE)
    tally.details["unnamed_locks"] = max(mode, known)


# DROP INDEX


def drop_index(node: Any, tally: Tally) -> None:
    """`DROP INDEX`: ACCESS EXCLUSIVE on the table and its partitions.

    With CONCURRENTLY SHARE UPDATE EXCLUSIVE. The ACCESS EXCLUSIVE that it takes on the index in the
    end, when nobody uses it any more, holds nobody up and is not counted.

    Raises:
        Refused: an index is not there, or something needs it.
    """
    from postgast import pg_query_pb2 as grammar

    cascade = node.behavior == grammar.DROP_CASCADE
    if node.concurrent:
        tally.only_outside_transaction()
        if len(node.objects) > 1:
            tally.refuse(f"{tally.command} does not support dropping multiple objects", "0A000")
        if cascade:
            tally.refuse(f"{tally.command} does not support CASCADE", "0A000")
    for item in node.objects:
        name = tally.world.qualified(*split_name(object_name(item)))
        found = _named(tally, name, missing_ok=node.missing_ok)
        if found is not None:
            _drop(tally, *found, concurrently=node.concurrent, cascade=cascade)
        elif not tally.world.is_gone(name):
            _drop_unknown(tally, name, concurrently=node.concurrent)


def _drop(
    tally: Tally, table: Relation, index: Index, *, concurrently: bool, cascade: bool
) -> None:
    name = table.name.sibling(index.name)
    _refuse_where_needed(tally, table, index, cascade=cascade)
    if concurrently and table.is_partitioned:
        tally.refuse(f'cannot drop partitioned index "{name.name}" concurrently', "0A000")
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.ACCESS_EXCLUSIVE
    tally.lock(table, mode, family=table.kind in "p?")
    if not concurrently:
        tally.lock(name, LockMode.ACCESS_EXCLUSIVE)
    tally.change(Change.DROPPED, "index", name, born=index.born)
    tally.details.setdefault("dropped_indexes", []).append((table.name, index))
    for other, part in list(with_partition_indexes(tally.world, table, index)):
        tally.world.remove_index(other, part.name)


def _refuse_where_needed(tally: Tally, table: Relation, index: Index, *, cascade: bool) -> None:
    name = index.name
    if index.constraint is not None:
        tally.refuse(
            f"cannot drop index {name} because constraint {index.constraint} on table"
            f" {table.name.name} requires it",
            "2BP01",
        )
    if index.parent is not None:
        tally.refuse(
            f"cannot drop index {name} because index {index.parent.name} requires it", "2BP01"
        )
    references = list(tally.world.referencing(table.name)) if index.is_unique else []
    for other, constraint in references:
        if constraint.index == name:
            if not cascade:
                tally.refuse(
                    f"cannot drop index {name} because other objects depend on it", "2BP01"
                )
            tally.lock(other, LockMode.ACCESS_EXCLUSIVE)
            left = {k: c for k, c in other.constraints.items() if k != constraint.name}
            tally.world.put(replace(other, constraints=left))


def _drop_unknown(tally: Tally, name: QualifiedName, *, concurrently: bool) -> None:
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.ACCESS_EXCLUSIVE
    _assume_table(tally, name, mode)
    tally.lock(name, mode)
    tally.change(Change.DROPPED, "index", name)
    tally.world.remove(name)


def with_partition_indexes(
    world: World, table: Relation, index: Index
) -> Iterator[tuple[Relation, Index]]:
    """Yield an index with its table, and those of partitions that are parts of it."""
    yield table, index
    name = table.name.sibling(index.name)
    for child in table.children:
        partition = world.find(child)
        for part in partition.indexes.values() if partition is not None else ():
            if part.parent == name and partition is not None:
                yield from with_partition_indexes(world, partition, part)


# REINDEX


def reindex(node: Any, tally: Tally) -> None:
    """`REINDEX`: SHARE on the table and ACCESS EXCLUSIVE on the index.

    Readers wait too, since the planner looks at every index of a table. With CONCURRENTLY neither
    reads nor writes wait.

    Raises:
        Refused: the index or table is not there, or the form needs to stand outside a transaction.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.ReindexObjectType.Name(node.kind).removeprefix("REINDEX_OBJECT_")
    options = {option.def_elem.defname for option in node.params}
    concurrently = "concurrently" in options
    if "tablespace" in options:
        needs_version(tally, 14, "tablespace")
    if concurrently or kind in ("SCHEMA", "DATABASE", "SYSTEM"):
        tally.only_outside_transaction()
    if kind == "INDEX":
        _reindex_index(node, tally, concurrently=concurrently)
    elif kind == "TABLE":
        table = tally.existing(node.relation)
        if table.kind not in "rpm?":
            tally.refuse(f'"{table.name.name}" is not a table or materialized view', "42809")
        _reindex_table(table, tally, concurrently=concurrently)
    elif kind != "SYSTEM":
        _reindex_many(node.name if kind == "SCHEMA" else None, tally, concurrently=concurrently)


def _reindex_index(node: Any, tally: Tally, *, concurrently: bool) -> None:
    world = tally.world
    name = world.qualified(node.relation.relname, node.relation.schemaname or None)
    found = _named(tally, name)
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.SHARE
    if found is None:
        _assume_table(tally, name, mode)
        tally.lock(name, mode if concurrently else LockMode.ACCESS_EXCLUSIVE)
        unknown = Relation(name)
        tally.rebuild(unknown, name.name, concurrently=concurrently)
        return
    table, index = found
    if table.is_partitioned:
        _only_each_by_itself(tally, "partitioned index")
        tally.lock(table, mode)
    for owner, part in with_partition_indexes(world, table, index):
        if not owner.is_partitioned:
            _rebuild(owner, part, tally, concurrently=concurrently)


def _only_each_by_itself(tally: Tally, what: str) -> None:
    """Partitions are done one by one since version 14, each in a transaction of its own."""
    if tally.world.version < 14:
        tally.refuse(f"REINDEX is not yet implemented for {what}es", "0A000")
    tally.only_outside_transaction()


def _reindex_table(table: Relation, tally: Tally, *, concurrently: bool) -> None:
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.SHARE
    tally.lock(table, mode)
    if table.is_partitioned:
        if tally.world.version < 14:
            return  # the server warns and does nothing more
        tally.only_outside_transaction()
        for member in tally.world.family(table.name):
            if member.name != table.name:
                # To list them, before the work and also for CONCURRENTLY.
                tally.lock(member, LockMode.SHARE)
            if not member.is_partitioned:
                _reindex_table(member, tally, concurrently=concurrently)
        return
    for index in table.indexes.values():
        _rebuild(table, index, tally, concurrently=concurrently)
    if not table.complete:
        tally.assume(f"the indexes of {table.name} are not known")
        tally.rebuild(table, None, concurrently=concurrently)


def _rebuild(table: Relation, index: Index, tally: Tally, *, concurrently: bool) -> None:
    owner = table.constraints.get(index.constraint or "")
    if concurrently and owner is not None and owner.type == "x":
        if tally.command == "REINDEX INDEX":
            tally.refuse(
                "concurrent index creation for exclusion constraints is not supported", "0A000"
            )
        return
    mode = LockMode.SHARE_UPDATE_EXCLUSIVE if concurrently else LockMode.SHARE
    tally.lock(table, mode)
    if not concurrently:
        tally.lock(table.name.sibling(index.name), LockMode.ACCESS_EXCLUSIVE)
    tally.rebuild(table, index.name, concurrently=concurrently)


def _reindex_many(schema: str | None, tally: Tally, *, concurrently: bool) -> None:
    if not tally.world.complete:
        tally.unknown("which tables it works on is not known", forgets=False)
    for table in list(tally.world.relations.values()):
        if table.kind in "rm" and (schema is None or table.name.schema == schema):
            _reindex_table(table, tally, concurrently=concurrently)


# ALTER INDEX


def alter_index(node: Any, tally: Tally) -> None:
    """`ALTER INDEX ... ATTACH PARTITION`, `SET`, `RESET`, `SET TABLESPACE`, `SET STATISTICS`.

    SHARE UPDATE EXCLUSIVE on the index; ACCESS EXCLUSIVE on one that is attached, or copied into
    another tablespace.

    Raises:
        Refused: the index is certainly not there.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    name = world.qualified(node.relation.relname, node.relation.schemaname or None)
    found = _named(tally, name, missing_ok=node.missing_ok)
    if found is None and world.is_gone(name):
        return
    if found is None:
        tally.assume(f"the table of {name} is not known")
    for item in node.cmds:
        command = item.alter_table_cmd
        kind = grammar.AlterTableType.Name(command.subtype)
        if kind == "AT_AttachPartition":
            _attach(tally, name, found, getattr(command, "def").partition_cmd.name)
        elif kind == "AT_SetTableSpace":
            tally.lock(name, LockMode.ACCESS_EXCLUSIVE)
            tally.rebuild(found[0] if found else Relation(name), name.name)
        elif kind in _LIGHT:
            if kind != "AT_SetStatistics" and found is not None and found[0].is_partitioned:
                tally.refuse(
                    f'ALTER action SET cannot be performed on relation "{name.name}"', "42809"
                )
            if kind == "AT_SetStatistics" and found is not None:
                _refuse_statistics_of_column(tally, found[1], command.num)
            tally.lock(name, LockMode.SHARE_UPDATE_EXCLUSIVE)
        else:
            tally.lock(name, LockMode.ACCESS_EXCLUSIVE)
            tally.unknown(f"ALTER INDEX with {kind} is not understood", forgets=False)


def _refuse_statistics_of_column(tally: Tally, index: Index, number: int) -> None:
    if number <= len(index.columns) and (column := index.columns[number - 1]) is not None:
        tally.refuse(
            f'cannot alter statistics on non-expression column "{column}" of index "{index.name}"',
            "0A000",
        )


_LIGHT = frozenset({"AT_SetRelOptions", "AT_ResetRelOptions", "AT_SetStatistics"})


def _attach(
    tally: Tally, name: QualifiedName, found: tuple[Relation, Index] | None, range_var: Any
) -> None:
    world = tally.world
    tally.lock(name, LockMode.SHARE_UPDATE_EXCLUSIVE)
    part_name = world.qualified(range_var.relname, range_var.schemaname or None)
    part = _named(tally, part_name)
    tally.lock(part_name, LockMode.ACCESS_EXCLUSIVE)
    if found is None or part is None:
        return
    table, index = found
    partition, attached = part
    if partition.name not in table.children:
        tally.refuse(
            f'cannot attach index "{attached.name}" as a partition of index "{index.name}"', "22023"
        )
    world.put(with_parent(partition, attached, name))
    parts = [each for child in table.children if (each := _part(world, child, name))]
    is_valid = len(parts) == len(table.children) and all(own.is_valid for own in parts)
    world.put(world.relations[table.name].with_index(replace(index, is_valid=is_valid)))


def _part(world: World, partition: QualifiedName, parent: QualifiedName) -> Index | None:
    found = world.find(partition)
    for index in found.indexes.values() if found is not None else ():
        if index.parent == parent:
            return index
    return None


HANDLERS: dict[str, Handler] = {"reindex_stmt": reindex}
