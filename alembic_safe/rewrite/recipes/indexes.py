"""Create and drop an index."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.schema import CreateIndex

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import (
    CreateIndexConcurrentlyOp,
    CreatePartitionedIndexOp,
    DropIndexConcurrentlyOp,
    DropPartitionedIndexOp,
    RenameIndexOp,
)
from alembic_safe.phases import Phase
from alembic_safe.postgres.expressions import index_body
from alembic_safe.postgres.identifiers import QualifiedName, derived_name
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.uniqueness import Uniqueness, ignores_null, unique_name
from alembic_safe.rewrite.recipes.values import are_left_null

_IGNORED = frozenset({"postgresql_concurrently", "if_not_exists"})
"""Options that say how the index is built, not what it is."""


def create_index(operation: ops.CreateIndexOp, surroundings: Surroundings) -> Plan:
    """M: build it beside the traffic. A unique one may fail the old release's writes, so that it
    belongs into C, unless the old release leaves its columns NULL."""
    table = QualifiedName(operation.table_name, operation.schema)
    if table in surroundings.new_tables:
        return (plain_on_new_table(operation, table),)
    concurrent = concurrently(operation, surroundings)
    unique = Uniqueness.of_operation(operation)
    if unique is not None:
        refuse_without_partition_key(table, surroundings, concurrent.index_name, unique.columns)
    is_new = are_left_null(table, _columns(operation), surroundings)
    tightens = concurrent.unique and not (is_new and ignores_null(operation))
    return (
        Step(
            phase=Phase.CONTRACT if tightens else Phase.MIGRATE,
            table=table,
            upgrade=(concurrent,),
            downgrade=(concurrent.reverse(),),
            says=f"Builds index {concurrent.index_name} on {table} while the table is in use.",
            requires=(
                f"{table} has no duplicates in the columns of {concurrent.index_name}."
                if concurrent.unique
                else ""
            ),
            touches=(
                f"index {concurrent.index_name}",
                *(f"column {table}.{column}" for column in _columns(operation)),
                *((unique_name(table, unique.columns),) if unique is not None else ()),
            ),
        ),
    )


def drop_index(operation: ops.DropIndexOp, surroundings: Surroundings) -> Plan:
    """C: the queries of the old release may rely on it for their speed."""
    table = QualifiedName(operation.table_name or "", operation.schema)
    refuse_replica_identity(table, surroundings, {str(operation.index_name)})
    refuse_referenced(table, surroundings, str(operation.index_name))
    drop = dropped_concurrently(str(operation.index_name), table, surroundings)
    is_partitioned = _is_partitioned(table, surroundings)
    how = "with those of its partitions" if is_partitioned else "while the table is in use"
    return (
        Step(
            phase=Phase.CONTRACT,
            table=table,
            upgrade=(drop,),
            downgrade=(drop.reverse(),),
            says=f"Drops index {drop.index_name} of {table} {how}.",
            locks=frozenset({table} if is_partitioned else ()),
            touches=(f"index {drop.index_name}",),
        ),
    )


def change_index(
    drop: ops.DropIndexOp, create: ops.CreateIndexOp, surroundings: Surroundings
) -> Plan:
    """For an index that keeps its name. M: build the new one under a passing name, in C if it
    tightens. C: drop the old one and rename."""
    (build,) = create_index(create, surroundings)
    (going,) = drop_index(drop, surroundings)
    new = concurrently(create, surroundings)
    name = new.index_name
    new.index_name = derived_name("alembic_safe_new", name)
    rename = RenameIndexOp(new.index_name, name, new.table_name, new.schema)
    return (
        replace(
            build,
            upgrade=(new,),
            downgrade=(new.reverse(),),
            says=f"Builds what becomes index {name} of {build.table} while the table is in use.",
        ),
        replace(
            going,
            upgrade=(*going.upgrade, rename),
            downgrade=(rename.reverse(), *going.downgrade),
            says=f"Puts the new index {name} of {build.table} in the place of the old one.",
        ),
    )


def concurrently(
    operation: ops.CreateIndexOp, surroundings: Surroundings
) -> CreateIndexConcurrentlyOp | CreatePartitionedIndexOp:
    """Return the concurrent form of an index of the models."""
    index = _index_of(operation)
    options = {
        name
        for name, value in operation.kw.items()
        # The truth of an expression is not defined, and False, None and [] say nothing.
        if name not in _IGNORED and (isinstance(value, sa.ClauseElement) or value)
    }
    is_plain = not options and all(isinstance(part, sa.Column) for part in index.expressions)
    table = QualifiedName(operation.table_name, operation.schema)
    is_partitioned = _is_partitioned(table, surroundings)
    kind = CreatePartitionedIndexOp if is_partitioned else CreateIndexConcurrentlyOp
    return kind(
        str(operation.index_name),
        operation.table_name,
        [column.name for column in index.columns] if is_plain else (),
        unique=bool(operation.unique),
        definition=None if is_plain else index_body(surroundings.compile_sql(CreateIndex(index))),
        schema=operation.schema,
    )


def _index_of(operation: ops.CreateIndexOp) -> sa.Index:
    """Return the index, on a table that has the columns of INCLUDE too: compiling needs them."""
    index = operation.to_index()
    for name in operation.kw.get("postgresql_include") or ():
        if index.table is not None and isinstance(name, str) and name not in index.table.c:
            index.table.append_column(sa.Column(name, sa.types.NULLTYPE))
    return index


def dropped_concurrently(
    name: str, table: QualifiedName, surroundings: Surroundings
) -> DropIndexConcurrentlyOp | DropPartitionedIndexOp:
    """Return the concurrent drop of an index, as far as there is one; its way back comes from the
    catalog."""
    info = next((i for i in surroundings.table(table).indexes if i.name == name), None)
    is_partitioned = _is_partitioned(table, surroundings)
    kind = DropPartitionedIndexOp if is_partitioned else DropIndexConcurrentlyOp
    if info is None:
        return kind(name, table.name, schema=table.schema)
    return kind(
        name,
        table.name,
        unique=info.is_unique,
        definition=index_body(info.definition),
        schema=table.schema,
    )


def plain_on_new_table(operation: ops.MigrateOperation, table: QualifiedName) -> Step:
    """Return the step for an operation on a table that the same sequence creates: nobody uses
    it yet, so that nothing can wait. It goes with its table."""
    return Step(Phase.EXPAND, table, (operation,), (), says="")


def refuse_partitioned(table: QualifiedName, surroundings: Surroundings, what: str) -> None:
    """Raise for a unique constraint of a partitioned table, which no index can become."""
    if _is_partitioned(table, surroundings):
        raise CannotRewrite(
            f"{what} on {table}: the table is partitioned, and PostgreSQL makes no constraint of "
            "an index there. A unique index, Index(..., unique=True) in the models, says the same. "
            "No file was written."
        )


def refuse_without_partition_key(
    table: QualifiedName, surroundings: Surroundings, name: str, columns: Collection[str]
) -> None:
    """Raise for a unique index that lacks a column of the partition key: each partition has an
    index of its own, and nothing compares two of them."""
    missing = surroundings.table(table).partition_key_columns.difference(columns)
    if missing:
        raise CannotRewrite(
            f"Index {name} is to make {', '.join(columns)} of {table} unique, and lacks "
            f"{', '.join(sorted(missing))}, by which the table is partitioned: PostgreSQL has no "
            "such index. Add these columns, then run the same command again. No file was written."
        )


def refuse_replica_identity(
    table: QualifiedName, surroundings: Surroundings, going: Collection[str]
) -> None:
    """Raise for an index that is the replica identity of its table. Once it is gone, a published
    table refuses every UPDATE and DELETE (PostgreSQL documentation, 29.1 Publication)."""
    for index in surroundings.table(table).indexes:
        if index.is_replica_identity and index.name in going:
            raise CannotRewrite(
                f"Index {index.name} is the replica identity of {table} and would go. Give the "
                f"table another one first, with ALTER TABLE {table.sql} REPLICA IDENTITY ..., then "
                "run the same command again. No file was written."
            )


def refuse_referenced(table: QualifiedName, surroundings: Surroundings, going: str) -> None:
    """Raise for the index of a key on which foreign keys rely that the same diff does not drop."""
    staying = [
        f"foreign key {key.name} of {key.table}"
        for key in surroundings.table(table).referenced_by
        if key.index == going and not surroundings.drops_foreign_key(key)
    ]
    if staying:
        raise CannotRewrite(
            f"Cannot drop {going}, which makes rows of {table} unique: {', '.join(staying)} relies "
            "on it. Drop that in the models too, or first, then run the same command again. No "
            "file was written."
        )


def _columns(operation: ops.CreateIndexOp) -> list[str]:
    return [column.name for column in operation.to_index().columns]


def _is_partitioned(table: QualifiedName, surroundings: Surroundings) -> bool:
    return surroundings.table(table).kind == "p"
