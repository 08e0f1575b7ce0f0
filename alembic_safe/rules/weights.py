"""Weights: how much a finding counts, by its rule and by its table."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Severity, code_of
from alembic_safe.rules.locking import LOCKING
from alembic_safe.rules.partitioning import attach_partition_scan, partition_created_in_place
from alembic_safe.rules.reading import as_it_was
from alembic_safe.rules.rebuilding import (
    domain_constraint,
    reindex_not_concurrent,
    vacuum_full,
)
from alembic_safe.rules.settings import LintSettings, is_among

_AS_LONG_AS_TABLES_ARE_LARGE = frozenset(
    code_of(rule)
    for rule in (
        *LOCKING,
        reindex_not_concurrent,
        vacuum_full,
        domain_constraint,
        attach_partition_scan,
        partition_created_in_place,
    )
)
"""What blocks others for as long as it works through tables. REFRESH is none of it: how long its
query takes, the size of its materialized view does not tell."""

_LOWER = {Severity.ERROR: Severity.WARNING, Severity.WARNING: Severity.OFF}


@dataclass(frozen=True)
class Weights:
    """What the settings say about severities.

    Args:
        settings: of lint.
        knows_sizes: whether sizes in the world are those of a database.
    """

    settings: LintSettings
    knows_sizes: bool = False

    def weigh(self, finding: Finding, effects: Effects, world: World) -> Finding | None:
        """Return a finding with the severity that it has here; None where it is turned off."""
        severity = self.settings.severity.get(finding.code, finding.severity)
        hot = self.settings.hot_tables
        is_hot = any(_is_named(each, hot, effects, world) for each in finding.relations)
        if is_hot and severity is Severity.WARNING:
            severity = Severity.ERROR
        is_work = finding.code in _AS_LONG_AS_TABLES_ARE_LARGE and effects.works
        if is_work and not is_hot and self._is_over_in_an_instant(effects, world):
            severity = _LOWER.get(severity, severity)
        return None if severity is Severity.OFF else replace(finding, severity=severity)

    def _is_over_in_an_instant(self, effects: Effects, world: World) -> bool:
        """Return whether all tables that a statement works through are small together. It may
        block others than these."""
        tables = _worked_through(effects, world)
        small = self.settings.small_tables
        rest = [each for each in tables if not _is_named(each.name, small, effects, world)]
        if not rest or not self.knows_sizes:
            return not rest
        sizes = [size for table in rest if (size := _size(table)) is not None]
        return len(sizes) == len(rest) and sum(sizes) <= self.settings.small_table_bytes


def _is_named(table: QualifiedName, names: tuple[str, ...], effects: Effects, world: World) -> bool:
    """Return whether a setting names a table, or one of which it is a partition."""
    if is_among(table, names):
        return True
    found = as_it_was(table, effects, world)
    # What inherits from a table otherwise is another table.
    parents = found.parents if found is not None and found.is_partition else ()
    return any(_is_named(parent, names, effects, world) for parent in parents)


def _size(table: Relation) -> int | None:
    # That of a partitioned table is the size of its partitions, which are not all known here.
    return None if table.is_partitioned else table.size


def _worked_through(effects: Effects, world: World) -> list[Relation]:
    """Return the tables that a statement works through, as they were before it, with partitions
    for what has them."""
    # One name can be that of another table from one statement of a DO block to the next.
    inside = [each for child in effects.children for each in _worked_through(child, world)]
    counted = {table.name for table in inside}
    indexes = (*effects.index_builds, *effects.index_rebuilds)
    built = [index.table for index in indexes if not index.concurrently]
    tables: dict[QualifiedName, Relation] = {}
    pending = [*effects.rewrites, *effects.scans, *built]
    while pending:
        name = pending.pop()
        if name in counted:
            continue
        table = as_it_was(name, effects, world) or Relation(name)
        if table.is_partitioned and table.complete:
            pending += table.children
        else:
            tables[name] = table
    return [*inside, *tables.values()]
