"""Partitions: made, attached and detached while the partitioned table is in use."""

from __future__ import annotations

from collections.abc import Iterator

from alembic_safe.postgres.effects import Effects
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import partitions
from alembic_safe.rules.reading import (
    blocked_tables,
    shown,
    subcommands,
    table_of,
    tables_among,
    unless,
    words,
    written,
)

_CONCURRENT_DETACH = 14
"""The first version with `DETACH PARTITION ... CONCURRENTLY`."""


@only_for("alter_table_stmt")
def attach_partition_scan(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table becomes a partition, and its rows are read or indexed while nobody can use it.

    Every row is checked against the partition's bounds, and missing indexes are built, under
    ACCESS EXCLUSIVE on the new partition; the rows of a default partition are checked as well. A
    valid CHECK that says the same as the bounds (with IS NOT NULL), and the indexes of the parent,
    made before, leave nothing to do.
    """
    kinds = {each.kind for each in subcommands(effects)}
    if "AttachPartition" not in kinds or not effects.works or not effects.blocking:
        return
    world = surroundings.world
    read = [str(written(name, world)) for name in effects.scans]
    work = f"all rows of {words(read)} are checked" if read else "its indexes are built"
    _parent, partition = effects.details["attached"]
    yield Finding(
        "attach-partition-scan",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while {work}"
        f"{unless('a CHECK proves what they hold', partition, effects, world)}",
        table_of(effects, world),
        advice="before, give the table a CHECK that says what the bounds say, NOT VALID, validate"
        " it, and build the parent's indexes on it concurrently; a default partition needs a CHECK"
        " that says the opposite",
        others=tables_among(effects.blocking, effects, world),
    )


@only_for("create_stmt")
def partition_created_in_place(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A partition is created as such, which locks its parent against everything.

    `CREATE TABLE ... PARTITION OF` takes ACCESS EXCLUSIVE on the parent. A table that is made like
    it and then attached takes SHARE UPDATE EXCLUSIVE on the parent, which blocks nobody. Where
    there is a default partition, its rows are read either way, unless a CHECK proves that none
    belongs into the new one.
    """
    if effects.node_name != "create_stmt" or not effects.node.HasField("partbound"):
        return
    world = surroundings.world
    read = [str(written(name, world)) for name in effects.scans]
    how_long = f"while all rows of {words(read)} are read" if read else "for an instant, and before"
    wait = "" if read else " that for as long as other queries on it last"
    for parent in [name for name, mode in effects.locks.items() if mode.blocks_reads_or_writes][:1]:
        yield Finding(
            "partition-created-in-place",
            Severity.ERROR if read else Severity.WARNING,
            f"blocks {blocked_tables(effects, world)} {how_long}{wait}",
            parent,
            partitions.created_and_attached(effects, surroundings),
            others=tables_among(effects.blocking, effects, world),
        )


@only_for("alter_table_stmt")
def detach_not_concurrent(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A partition is detached under a lock that stops everything on the partitioned table.

    `DETACH PARTITION` takes ACCESS EXCLUSIVE on both for an instant, after all queries on the
    partitioned table have ended. `DETACH PARTITION ... CONCURRENTLY` (PostgreSQL 14) takes SHARE
    UPDATE EXCLUSIVE on the partitioned table; it cannot run in a transaction, nor where there is a
    default partition.
    """
    world = surroundings.world
    if world.version < _CONCURRENT_DETACH:
        return
    for subcommand in subcommands(effects):
        if subcommand.kind != "DetachPartition" or subcommand.definition.concurrent:
            continue
        parent = table_of(effects, world)
        has_default = any(each.is_default_partition for each in world.family(parent))
        if parent in effects.blocking and not has_default:
            yield Finding(
                "detach-not-concurrent",
                Severity.WARNING,
                f"waits for every query on {shown(parent, effects, world)}, and whatever comes"
                " after waits behind it",
                parent,
                advice="outside of a transaction use"
                " ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY",
            )


PARTITIONING: tuple[Rule, ...] = (
    attach_partition_scan,
    partition_created_in_place,
    detach_not_concurrent,
)
