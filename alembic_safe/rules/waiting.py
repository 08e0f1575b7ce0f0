"""Locks that last an instant, and are waited for: whoever comes later waits behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import indexes
from alembic_safe.rules.fixes.writing import fix
from alembic_safe.rules.reading import (
    blocked_tables,
    locked_tables,
    shown,
    tables_among,
    words,
)


@only_for("drop_stmt")
def drop_index_not_concurrent(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """An index is dropped under a lock that stops everything on its table.

    `DROP INDEX` takes ACCESS EXCLUSIVE on the table, for an instant: but first it waits for every
    query that reads it, and whatever comes later waits behind it. `DROP INDEX CONCURRENTLY` waits
    without blocking. The index of a partitioned table has no such form and is not reported.
    """
    from postgast import pg_query_pb2 as grammar

    node = effects.node
    if effects.node_name != "drop_stmt" or node.remove_type != grammar.OBJECT_INDEX:
        return
    world = surroundings.world
    tables = locked_tables(effects, world)
    known = [world.find(name) for name in tables]
    if node.concurrent or any(
        relation is not None and relation.is_partitioned for relation in known
    ):
        return
    if not tables and not effects.changes:
        return
    names = words([shown(name, effects, world) for name in tables]) if tables else "its table"
    yield Finding(
        "drop-index-not-concurrent",
        Severity.WARNING,
        f"waits for every query on {names}, and whatever comes after waits behind it",
        tables[0] if tables else None,
        indexes.drop_index_concurrently(effects, surroundings),
        others=tables_among(tables, effects, world),
    )


def several_tables_locked(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A transaction that locks one table waits for the lock on another.

    Until it gets it, reads or writes of the first wait; and with anybody who takes the two in the
    other order it ends in a deadlock. A revision should lock one table that is in use. New tables
    do not count.
    """
    world = surroundings.world
    held = [
        name
        for name, mode in effects.held.items()
        if mode.blocks_reads_or_writes and world.find(name) is not None
    ]
    known = {member.name for name in held for member in world.family(name)}
    more = [
        name
        for name in locked_tables(effects, world)
        if name not in known and not {member.name for member in world.family(name)} & known
    ]
    if held and more:
        yield Finding(
            "several-tables-locked",
            Severity.WARNING,
            f"while it waits for {words([shown(name, effects, world) for name in more])}, reads or"
            f" writes of {words([shown(name, effects, world) for name in held])} wait too",
            more[0],
            advice="put it into a revision of its own",
            others=tables_among([*more, *held], effects, world),
        )


@only_for("lock_stmt")
def lock_table(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table is locked by hand, until the transaction ends.

    `LOCK TABLE` without a mode is ACCESS EXCLUSIVE. Statements take the locks that they need by
    themselves; a lock by hand lasts for as long as everything that follows. Several tables in a
    mode in which they can be read are not reported: so a foreign key gets its two locks in the
    order in which the application takes them.
    """
    node = effects.node
    tables = locked_tables(effects, surroundings.world)
    if effects.node_name != "lock_stmt" or not tables:
        return
    if len(node.relations) == 1 or node.mode > LockMode.SHARE_ROW_EXCLUSIVE:
        yield Finding(
            "lock-table",
            Severity.WARNING,
            f"blocks {blocked_tables(effects, surroundings.world)} until the transaction ends",
            tables[0],
            others=tables_among(tables, effects, surroundings.world),
        )


def lock_timeout_missing(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """A lock is waited for without limit, and everybody else waits behind it.

    A lock request that waits for a long query makes every later query on the table wait too. With
    a `lock_timeout` it gives up and can be tried again. `alembic_safe.run_migrations` sets one and
    tries again by itself; only revisions that are run without it are reported, once each.
    """
    if surroundings.has_runner:
        return
    for effects in seen:
        tables = locked_tables(effects, surroundings.world)
        if tables and not effects.lock_timeout:
            names = words([shown(name, effects, surroundings.world) for name in tables])
            finding = Finding(
                "lock-timeout-missing",
                Severity.WARNING,
                f"may wait for {names} without limit, and reads and writes wait behind it",
                tables[0],
                fix("", [effects.sql], surroundings),
                others=tables_among(tables, effects, surroundings.world),
            )
            yield effects, finding
            return


WAITING: tuple[Rule, ...] = (
    drop_index_not_concurrent,
    several_tables_locked,
    lock_table,
)
