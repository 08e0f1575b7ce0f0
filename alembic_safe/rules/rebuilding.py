"""What is built, computed or checked again as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from alembic_safe.postgres.effects import Effects
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import indexes
from alembic_safe.rules.reading import (
    blocked_tables,
    shown,
    tables_among,
    words,
)


@only_for("reindex_stmt")
def reindex_not_concurrent(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """An index is built again while writes, and queries that want to use it, wait.

    `REINDEX` takes SHARE on the table and ACCESS EXCLUSIVE on each index, for which every query on
    the table waits when it is planned. `REINDEX ... CONCURRENTLY` blocks neither.
    """
    if effects.node_name != "reindex_stmt":
        return
    built = [each.table for each in effects.index_rebuilds if not each.concurrently]
    if built:
        names = words([shown(table, effects, surroundings.world) for table in dict.fromkeys(built)])
        yield Finding(
            "reindex-not-concurrent",
            Severity.ERROR,
            f"blocks every write to {names}, and every query that is planned meanwhile, until the"
            " index is built again",
            built[0],
            indexes.reindex_concurrently(effects, surroundings),
            others=tables_among(built, effects, surroundings.world),
        )


@only_for("vacuum_stmt", "cluster_stmt")
def vacuum_full(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table is written anew to make it smaller or to sort it, while nobody can use it.

    `VACUUM FULL` and `CLUSTER` take ACCESS EXCLUSIVE for as long as all rows are written again. A
    plain `VACUUM` makes the space usable again and blocks nobody; to give it back to the system
    there are extensions, `pg_repack` and `pg_squeeze`. This is no work for a migration.
    """
    if effects.node_name in ("vacuum_stmt", "cluster_stmt") and effects.rewrites:
        yield Finding(
            "vacuum-full",
            Severity.ERROR,
            f"blocks {blocked_tables(effects, surroundings.world)} while all rows are written"
            " again",
            effects.rewrites[0],
            advice="VACUUM makes the space usable again and blocks nobody; pg_repack and pg_squeeze"
            " give it back while the table is in use",
            others=tables_among(effects.blocking, effects, surroundings.world),
        )


@only_for("refresh_mat_view_stmt")
def refresh_not_concurrent(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A materialized view is computed again while nobody can read it.

    `REFRESH MATERIALIZED VIEW` takes ACCESS EXCLUSIVE on the view until its query has run. With
    CONCURRENTLY reads go on; that needs a unique index on columns of the view, for all rows.
    """
    if effects.node_name == "refresh_mat_view_stmt" and effects.rewrites:
        yield Finding(
            "refresh-not-concurrent",
            Severity.ERROR,
            f"blocks {blocked_tables(effects, surroundings.world)} while its query runs",
            effects.rewrites[0],
            indexes.refresh_concurrently(effects, surroundings),
            advice="refresh it CONCURRENTLY, for which it needs a unique index on columns, without"
            " WHERE",
            others=tables_among(effects.blocking, effects, surroundings.world),
        )


@only_for("alter_domain_stmt")
def domain_constraint(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A domain gets a constraint, and every table that has a column of it is read.

    Writes to all these tables wait meanwhile (SHARE), also while a constraint that was added NOT
    VALID is validated. NOT VALID alone holds for new values and reads nothing; a CHECK on each
    column can be validated while its table is written to.
    """
    if effects.node_name == "alter_domain_stmt" and effects.scans and effects.blocking:
        yield Finding(
            "domain-constraint",
            Severity.ERROR,
            f"blocks {blocked_tables(effects, surroundings.world)} while all rows are checked",
            effects.scans[0],
            advice="add it NOT VALID, which holds for new values, and do not validate it; or give"
            " each table a CHECK, NOT VALID, and validate that",
            others=tables_among(effects.blocking, effects, surroundings.world),
        )


REBUILDING: tuple[Rule, ...] = (
    reindex_not_concurrent,
    vacuum_full,
    refresh_not_concurrent,
    domain_constraint,
)
