"""Work on an empty table is no work: what the guard leaves out of findings, as it knows the sizes
in the very database that is migrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.data_loss import DATA_LOSS
from alembic_safe.rules.finding import Finding, Rule, Surroundings
from alembic_safe.rules.judge import RuleBook
from alembic_safe.rules.reading import as_it_was
from alembic_safe.rules.transactions import backfill_beside_ddl, unbatched_update

_ABOUT_ROWS: frozenset[Rule] = frozenset({*DATA_LOSS, unbatched_update})
"""Rules whose findings are about the rows of the relations that they name."""


def about_rows(rules: Sequence[Rule]) -> Rule:
    """Return one rule for all of them, which finds nothing in what happens to no row."""
    book = RuleBook(rules)

    def judge(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
        world = surroundings.world
        with_rows = _without_empty_tables(effects, world)
        for rule, finding in book.said_of(with_rows, surroundings):
            is_about_nothing = (
                _writes_to_empty_table(effects, world)
                if rule is backfill_beside_ddl
                else rule in _ABOUT_ROWS
                and bool(finding.relations)
                and all(_is_empty(each, effects, world) for each in finding.relations)
            )
            if not is_about_nothing:
                yield finding

    return judge


def _without_empty_tables(effects: Effects, world: World) -> Effects:
    def has_rows(name: QualifiedName) -> bool:
        return not _is_empty(name, effects, world)

    if not effects.works:
        return effects
    return replace(
        effects,
        rewrites=tuple(filter(has_rows, effects.rewrites)),
        scans=tuple(filter(has_rows, effects.scans)),
        index_builds=tuple(work for work in effects.index_builds if has_rows(work.table)),
        index_rebuilds=tuple(work for work in effects.index_rebuilds if has_rows(work.table)),
    )


def _is_empty(name: QualifiedName, effects: Effects, world: World) -> bool:
    """Return whether a relation, all its partitions included, is known to have no row."""
    relation = as_it_was(name, effects, world)
    if relation is None:
        return False
    if relation.is_partitioned:
        return relation.complete and all(
            _is_empty(child, effects, world) for child in relation.children
        )
    return relation.size == 0


def _writes_to_empty_table(effects: Effects, world: World) -> bool:
    if effects.node_name not in ("update_stmt", "delete_stmt"):
        return False
    target = effects.node.relation
    name = world.qualified(target.relname, target.schemaname or None)
    return _is_empty(name, effects, world)
