"""Locks: work in proportion to a table while reads or writes of a table wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alembic_safe.postgres.effects import Effects
from alembic_safe.rules.compatibility import required_column
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import columns, constraints, indexes, not_null
from alembic_safe.rules.partitioning import PARTITIONING
from alembic_safe.rules.reading import (
    added_columns,
    blocked_tables,
    column_constraint,
    constraint_type,
    new_constraints,
    subcommands,
    table_of,
    tables_among,
    unless,
    words,
    written,
)
from alembic_safe.rules.rebuilding import REBUILDING


@only_for("index_stmt")
def index_not_concurrent(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """An index is built while writes to its table wait.

    `CREATE INDEX` takes SHARE and keeps it until the index is built, and until the end of the
    transaction. `CREATE INDEX CONCURRENTLY` takes SHARE UPDATE EXCLUSIVE, which blocks neither
    reads nor writes. Indexes on tables that the same revision creates are not reported.
    """
    if effects.node_name != "index_stmt" or effects.node.concurrent or not effects.index_builds:
        return
    world = surroundings.world
    name = effects.node.idxname
    yield Finding(
        "index-not-concurrent",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while {f'index {name}' if name else 'the index'}"
        f" is built",
        table_of(effects, world),
        indexes.index_concurrently(effects, surroundings),
        advice=_of_partitions(
            effects,
            surroundings,
            "build it ON ONLY the partitioned table, concurrently on each partition, and attach"
            " each with ALTER INDEX ... ATTACH PARTITION",
        ),
        others=tables_among(effects.blocking, effects, world),
    )


def _of_partitions(effects: Effects, surroundings: Surroundings, advice: str) -> str:
    """Return what to do where the table is partitioned; empty where it is not."""
    table = surroundings.world.find(table_of(effects, surroundings.world))
    return advice if table is not None and table.is_partitioned else ""


@only_for("alter_table_stmt", needs="works")
def set_not_null_scan(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column becomes NOT NULL, and all rows are read while nobody can use the table.

    `SET NOT NULL` takes ACCESS EXCLUSIVE and reads the whole table, unless a valid CHECK that was
    committed before proves that there is no NULL. `op.set_not_null` makes that proof, or on
    PostgreSQL 18 adds the NOT NULL as NOT VALID and validates it: rows are read and written
    meanwhile.
    """
    names = [each.name for each in subcommands(effects) if each.kind == "SetNotNull"]
    if not names or not effects.scans or not effects.blocking:
        return
    world = surroundings.world
    table = table_of(effects, world)
    yield Finding(
        "set-not-null-scan",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while all rows are searched for a NULL in"
        f" {words(names)}{unless('a valid CHECK proves it', table, effects, world)}",
        table,
        not_null.set_not_null(effects, surroundings),
        others=tables_among(effects.blocking, effects, world),
    )


@only_for("alter_table_stmt", needs="works")
def add_constraint_validated(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A CHECK, foreign key or NOT NULL is added, and all rows are checked under its lock.

    A CHECK takes ACCESS EXCLUSIVE, a foreign key SHARE ROW EXCLUSIVE on both tables, and both are
    kept while the rows are read. Add it `NOT VALID`, which holds for new rows at once, commit,
    and validate it: `VALIDATE CONSTRAINT` takes SHARE UPDATE EXCLUSIVE.
    """
    if not effects.scans or not effects.blocking:
        return
    checked = [
        constraint
        for constraint in new_constraints(effects)
        if constraint_type(constraint) in _CHECKED and not constraint.skip_validation
    ]
    checked += [
        found
        for column in added_columns(effects)
        for kind in ("CHECK", "FOREIGN")
        if (found := column_constraint(column, kind)) is not None
    ]
    if checked:
        world = surroundings.world
        names = words([_CHECKED[constraint_type(each)] + _named(each.conname) for each in checked])
        not_valid = constraints.constraint_not_valid(effects, surroundings)
        yield Finding(
            "add-constraint-validated",
            Severity.ERROR,
            f"blocks {blocked_tables(effects, world)} while all rows are checked against {names}",
            table_of(effects, world),
            not_valid,
            advice=""
            if not_valid is not None
            else _of_partitions(
                effects,
                surroundings,
                "before PostgreSQL 18 add it NOT VALID on each partition and validate it there;"
                " then the partitioned table takes it without a scan",
            ),
            others=tables_among(effects.blocking, effects, world),
        )


_CHECKED = {"CHECK": "the check", "FOREIGN": "the foreign key", "NOTNULL": "the NOT NULL"}


def _named(name: str) -> str:
    return f" {name}" if name else ""


@only_for("alter_table_stmt", needs="works")
def constraint_builds_index(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A unique constraint or primary key builds its index while nobody can use the table.

    It takes ACCESS EXCLUSIVE, which blocks reads as well. Build a unique index concurrently, then
    make it the constraint with `USING INDEX`, which takes an instant. The columns of a primary key
    have to be NOT NULL before, or all rows are read once more.
    """
    if not effects.index_builds:
        return
    names = {constraint_type(each): each.conname for each in new_constraints(effects)}
    for column in added_columns(effects):
        for kind in _BUILT:
            if column_constraint(column, kind) is not None:
                names[kind] = ""
    built = [_BUILT[kind] + _named(name) for kind, name in names.items() if kind in _BUILT]
    if built:
        world = surroundings.world
        yield Finding(
            "constraint-builds-index",
            Severity.ERROR,
            f"blocks {blocked_tables(effects, world)} while the index of {words(built)} is built",
            table_of(effects, world),
            indexes.constraint_using_index(effects, surroundings),
            advice=_of_partitions(
                effects,
                surroundings,
                "build a unique index concurrently on each partition, and make it the constraint"
                " there; then the partitioned table takes it over",
            ),
            others=tables_among(effects.blocking, effects, world),
        )


_BUILT = {"UNIQUE": "the unique constraint", "PRIMARY": "the primary key"}


@only_for("alter_table_stmt", needs="works")
def primary_key_scan(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A primary key takes a ready index, and all rows are still read under its lock.

    Its columns become NOT NULL. Where they are not already, all rows are searched for a NULL under
    ACCESS EXCLUSIVE. Make the columns NOT NULL first, with `op.set_not_null`.
    """
    if not effects.scans or not effects.blocking:
        return
    for constraint in new_constraints(effects):
        if constraint_type(constraint) == "PRIMARY" and constraint.indexname:
            world = surroundings.world
            table = table_of(effects, world)
            yield Finding(
                "primary-key-scan",
                Severity.ERROR,
                f"blocks {blocked_tables(effects, world)} while all rows are searched for a NULL in"
                f" the columns of {constraint.indexname}"
                f"{unless('they are NOT NULL', table, effects, world)}",
                table,
                not_null.primary_key_of_not_null(effects, surroundings),
                others=tables_among(effects.blocking, effects, world),
            )


@only_for("alter_table_stmt", needs="works")
def exclusion_constraint(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """An exclusion constraint builds its index while nobody can use the table.

    PostgreSQL has no other way to add one to a table that has rows: it takes ACCESS EXCLUSIVE and
    cannot use an index that is there. Add it while the table is small or unused, or to a new table
    that takes the place of this one.
    """
    if not effects.index_builds:
        return
    for constraint in new_constraints(effects):
        if constraint_type(constraint) == "EXCLUSION":
            world = surroundings.world
            yield Finding(
                "exclusion-constraint",
                Severity.ERROR,
                f"blocks {blocked_tables(effects, world)} while the index of the exclusion"
                f" constraint{_named(constraint.conname)} is built",
                table_of(effects, world),
                advice="PostgreSQL has no online form: add it while nobody uses the table, or to a"
                " new table that takes its place",
                others=tables_among(effects.blocking, effects, world),
            )


@only_for("alter_table_stmt", needs="works")
def table_rewrite(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Every row of a table is written again while nobody can use it.

    What does so under ACCESS EXCLUSIVE: a new column with a volatile default (`random()`,
    `gen_random_uuid()`), `serial`, an identity, a stored generated column, a domain with a
    constraint; `SET UNLOGGED` and `SET LOGGED`, another tablespace or access method. A constant or
    `now()` as default does not. Add the column without the default, set the default for new rows,
    and fill the old ones in batches.
    """
    kinds = {each.kind for each in subcommands(effects)}
    if not kinds or not effects.rewrites or "AlterColumnType" in kinds:
        return
    world = surroundings.world
    added = effects.details.get("added_columns", ())
    reasons = [f"{each.column.name}: {each.rewrites}" for each in added if each.rewrites]
    reasons += [reason for kind, reason in _REWRITING.items() if kind in kinds]
    why = f" ({words(reasons)})" if reasons else ""
    yield Finding(
        "table-rewrite",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while all rows of"
        f" {words([str(written(name, world)) for name in effects.rewrites])} are written"
        f" again{why}",
        table_of(effects, world),
        columns.column_in_steps(effects, surroundings),
        others=tables_among(effects.blocking, effects, world),
    )


_REWRITING = {
    "SetUnLogged": "the table becomes unlogged",
    "SetLogged": "the table becomes logged",
    "SetTableSpace": "the table moves to another tablespace",
    "SetAccessMethod": "the table gets another access method",
    "SetExpression": "a generated column is computed again",
}


@only_for("alter_table_stmt", needs="works")
def column_type_change(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column's type changes, and rows are written, read or indexed again meanwhile.

    Most changes write every row again under ACCESS EXCLUSIVE. Others only read all rows, because a
    CHECK uses the column, or build its indexes again. What is free (a longer `varchar`, `varchar`
    to `text`, a `numeric` with more digits before the point) is not reported. The way that blocks
    nobody is a new column of the new type, kept equal by triggers, filled in batches, and put in
    the place of the old one.
    """
    kinds = {each.kind for each in subcommands(effects)}
    retyped = effects.details.get("retyped_columns", ())
    if not retyped or not effects.works or not effects.blocking:
        return
    reasons = [each.rewrites for each in retyped if each.rewrites]
    if effects.rewrites and reasons:
        work = f"all rows are written again ({words(list(dict.fromkeys(reasons)))})"
    elif effects.scans and not kinds & {"SetNotNull", "AddConstraint", "AddColumn"}:
        work = "all rows are read"
    elif not effects.index_rebuilds:
        return
    else:
        rebuilt = [each.name for each in effects.index_rebuilds if each.name]
        work = f"{words(rebuilt)} is built again" if rebuilt else "its indexes are built again"
    world = surroundings.world
    yield Finding(
        "column-type-change",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while {work} for the new type of"
        f" {words([each.name for each in retyped])}{_unless_the_same(retyped)}",
        table_of(effects, world),
        advice="add a column of the new type, keep the two equal with a trigger, fill it in"
        " batches, and swap them once everything uses the new one",
        others=tables_among(effects.blocking, effects, world),
    )


def _unless_the_same(retyped: Sequence[Any]) -> str:
    unknown = [each.name for each in retyped if each.old_type is None]
    return f", unless {words(unknown)} can stay as it is" if unknown else ""


_ELSEWHERE = frozenset(
    {
        "truncate_stmt",
        "insert_stmt",
        "update_stmt",
        "delete_stmt",
        "merge_stmt",
        "copy_stmt",
        "refresh_mat_view_stmt",
    }
)
"""They have rules of their own, beside locks; and nobody writes into a materialized view but
REFRESH."""

_UNDER_ITS_OWN_LOCK: tuple[Callable[[Effects, Surroundings], Iterator[Finding]], ...] = (
    index_not_concurrent,
    set_not_null_scan,
    add_constraint_validated,
    constraint_builds_index,
    primary_key_scan,
    exclusion_constraint,
    table_rewrite,
    column_type_change,
)

_SAID = (*_UNDER_ITS_OWN_LOCK, *PARTITIONING, *REBUILDING, required_column)
"""What says all there is to say of a statement's work."""


@only_for(needs="works", unless_said=_SAID)
def work_while_locked(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A statement reads or builds in proportion to a table while reads or writes wait.

    Either by its own lock, in one of the rarer ways that have no rule of their own, or because
    an earlier statement of the transaction keeps one: VALIDATE CONSTRAINT after the statement that
    added it, anything that reads a table after ALTER TABLE. Commit in between: put the work into a
    revision of its own.
    """
    if not effects.works or not effects.blocking or effects.node_name in _ELSEWHERE:
        return
    world = surroundings.world
    built = [each.table for each in (*effects.index_builds, *effects.index_rebuilds)]
    worked = dict.fromkeys([*effects.rewrites, *effects.scans, *built])
    is_own = any(mode.blocks_reads_or_writes for mode in effects.locks.values())
    kept = "" if is_own else ", by locks that earlier statements of the transaction keep"
    yield Finding(
        "work-while-locked",
        Severity.ERROR,
        f"blocks {blocked_tables(effects, world)} while all of"
        f" {words([str(written(name, world)) for name in worked])} is read or built"
        f"{kept}",
        next(iter(effects.blocking)),
        advice=""
        if is_own
        else "put it into a revision of its own, so that what it follows is committed before",
        others=tables_among([*effects.blocking, *worked], effects, world),
    )


LOCKING: tuple[Rule, ...] = (*_UNDER_ITS_OWN_LOCK, work_while_locked)
