"""What the effects engine says about a case, and how that compares with what a server did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import cache

from alembic_safe.postgres.effects.analysis import begin, effects_of, end
from alembic_safe.postgres.effects.model import Effects, TransactionNeed
from alembic_safe.postgres.effects.world import World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from oracle.statements import FIXTURE, Case
from oracle.truth import Truth

_READ_AS_THE_PLANNER_LIKES = frozenset(
    {
        "select_stmt",
        "insert_stmt",
        "update_stmt",
        "delete_stmt",
        "merge_stmt",
        "copy_stmt",
        "create_table_as_stmt",
        "refresh_mat_view_stmt",
    }
)
"""Whether such a statement reads a table from end to end nobody can know from its text."""


def world_of_history(case: Case, version: int) -> World:
    """Return the world as it is known from all statements since the empty database."""
    world = copied(_fixture(version))
    effects_of(case.before, world)
    world.settle()
    return world


@cache
def _fixture(version: int) -> World:
    world = World(complete=True, version=version)
    effects_of(FIXTURE, world)
    world.settle()
    return world


def copied(world: World) -> World:
    """Return a copy that can be changed: what a world holds are values."""
    return replace(world, **{each.name: copy(getattr(world, each.name)) for each in fields(world)})


def world_of_file(case: Case, version: int) -> World:
    """Return the world of someone who has but this file."""
    world = World(version=version)
    effects_of(case.before, world)
    world.settle()
    return world


@dataclass
class Prediction:
    """What the engine says about a case.

    Args:
        effects: of each statement.
        indexes: the tables of the indexes that the engine knew, before and after.
        held: the relations that the transaction holds locks on at the end.
    """

    effects: list[Effects]
    indexes: dict[QualifiedName, QualifiedName]
    held: set[QualifiedName] = field(default_factory=set)

    @property
    def is_hazard(self) -> bool:
        """Whether the engine would stop it."""
        return any(effects.is_hazard for effects in self.effects)


def predict(case: Case, world: World) -> Prediction:
    """Ask the engine, for a world as it is before the case."""
    indexes = dict(world.index_tables)
    if not case.alone:
        begin(world)
    effects = effects_of(case.sql, world)
    indexes.update(world.index_tables)
    held = set(world.transaction.locks) if world.transaction is not None else set()
    if not case.alone:
        end(world)
    return Prediction(effects, indexes, held)


@dataclass
class _Total:
    """A statement with those inside of it."""

    locks: dict[QualifiedName, LockMode] = field(default_factory=dict)
    rewrites: set[str] = field(default_factory=set)
    scans: set[str] = field(default_factory=set)
    possible_scans: set[str] = field(default_factory=set)
    builds: Counter[str] = field(default_factory=Counter)
    rebuilds: set[tuple[str, str | None]] = field(default_factory=set)


def _total(effects: Effects, truth: Truth) -> _Total:
    total = _Total()

    def names(relations: Iterable[QualifiedName]) -> set[str]:
        return {_original(relation, truth) for relation in relations}

    total.locks = dict(effects.locks)
    total.rewrites = names(effects.rewrites)
    total.builds.update(_original(work.table, truth) for work in effects.index_builds)
    total.rebuilds = {(_original(w.table, truth), w.name) for w in effects.index_rebuilds}
    for each in _with_children(effects):
        if not each.children:
            planned = each.node_name in _READ_AS_THE_PLANNER_LIKES
            (total.possible_scans if planned else total.scans).update(names(each.scans))
    return total


def _original(name: QualifiedName, truth: Truth) -> str:
    """Return what a relation was called before the case."""
    return truth.renamed.get(_short(name), _short(name))


def _with_children(effects: Effects) -> Iterator[Effects]:
    yield effects
    for child in effects.children:
        yield from _with_children(child)


def _short(name: QualifiedName) -> str:
    return name.name if name.schema in (None, "public") else f"{name.schema}.{name.name}"


def locks_after(prediction: Prediction, truths: list[Truth]) -> list[dict[str, LockMode]]:
    """Return what the engine says that the session holds after each statement, by the names before
    the case, without indexes that are of no interest: those of a table whose lock is as strong, or
    that is locked while the statement does not name them."""
    noted: list[tuple[int, QualifiedName, str, LockMode]] = []
    found = []
    for number, (effects, truth) in enumerate(zip(prediction.effects, truths, strict=False)):
        for name, mode in _total(effects, truth).locks.items():
            noted.append((number, name, _original(name, truth), mode))
        following = prediction.effects[number + 1 : number + 2]
        kept = set(following[0].held) if following else prediction.held
        locks: dict[str, LockMode] = {}
        for place, name, original, mode in noted:
            if mode >= LockMode.ROW_SHARE and (place == number or name in kept):
                locks[original] = max(mode, locks.get(original, LockMode.NONE))
        found.append(_of_interest(locks, effects, prediction, truth))
    return found


def _of_interest(
    locks: dict[str, LockMode], effects: Effects, prediction: Prediction, truth: Truth
) -> dict[str, LockMode]:
    tables = {_short(index): _original(table, truth) for index, table in prediction.indexes.items()}
    # Outside a transaction block locks on indexes are not measured.
    is_measured = effects.transaction is TransactionNeed.ANY
    kept = {}
    for name, mode in locks.items():
        of_table = locks.get(tables.get(name, ""), LockMode.NONE)
        is_minor = of_table >= mode or (of_table and not is_named(name, effects.sql))
        if not is_minor and (is_measured or name not in tables):
            kept[name] = mode
    return kept


def is_named(relation: str, sql: str) -> bool:
    """Return whether a statement names a relation."""
    return re.search(rf"(?<!\w){re.escape(relation.rpartition('.')[2])}(?!\w)", sql) is not None


def differences(prediction: Prediction, truths: list[Truth]) -> Iterator[str]:
    """Yield where the engine, which knows everything, does not say what the server did."""
    after = locks_after(prediction, truths)
    if len(prediction.effects) < len(truths):
        yield f"{len(truths)} statements, the engine sees {len(prediction.effects)}"
    prunable: set[str] = set()
    for number, truth in enumerate(truths[: len(after)]):
        effects = prediction.effects[number]
        where = f"statement {number + 1}: " if len(truths) > 1 else ""
        if effects.node_name in _READ_AS_THE_PLANNER_LIKES:
            prunable |= {_original(name, truth) for name in effects.locks}
        # The planner leaves out partitions that it does not need for the values.
        locks = {
            name: mode
            for name, mode in after[number].items()
            if name in truth.locks or name not in prunable or mode > LockMode.ROW_EXCLUSIVE
        }
        for difference in _differences_of_one(effects, locks, truth):
            yield where + difference


def _differences_of_one(
    effects: Effects, locks: dict[str, LockMode], truth: Truth
) -> Iterator[str]:
    if effects.unknown:
        if truth.error is None or truth.error[0] != _SYNTAX_ERROR:
            yield f"not understood: {'; '.join(effects.unknown)}"
        return
    yield from _differences_in_errors(effects, truth)
    if truth.error is not None:
        return
    if locks != truth.locks:
        yield _unequal("locks held after it", _said(truth.locks), _said(locks))
    total = _total(effects, truth)
    if total.rewrites != set(truth.rewrites):
        yield _unequal("rewrites", sorted(truth.rewrites), sorted(total.rewrites))
    # What is read for an index is said by the index.
    indexed = {*total.builds, *(table for table, _name in total.rebuilds), *total.rewrites}
    if truth.scans is not None:
        possible = (total.scans | total.possible_scans) - indexed
        certain = total.scans - indexed - _joined(truth)
        if not certain <= set(truth.scans) <= possible:
            yield _unequal("scans", sorted(truth.scans), sorted(possible))
    if total.builds != truth.builds:
        yield _unequal("index builds", truth.builds, dict(total.builds))
    rebuilds = {(table, name) for table, names in truth.rebuilds.items() for name in names}
    if total.rebuilds != rebuilds:
        yield _unequal("index rebuilds", sorted(rebuilds), sorted(total.rebuilds, key=str))
    if effects.transaction is not truth.need:
        yield _unequal("in a transaction block", truth.need.value, effects.transaction.value)


_SYNTAX_ERROR = "42601"


def _joined(truth: Truth) -> set[str]:
    """Return the tables that a foreign key was checked against: the join reads neither where the
    other has nothing to join."""
    partners = (LockMode.ROW_SHARE, LockMode.SHARE_ROW_EXCLUSIVE)
    return {name for name, mode in truth.locks.items() if truth.scans and mode in partners}


def _differences_in_errors(effects: Effects, truth: Truth) -> Iterator[str]:
    errors = [error for each in _with_children(effects) for error in each.errors]
    if truth.error is None:
        for error in errors:
            if error.certain:
                yield f"the server accepts it, the engine says: {error.message} ({error.sqlstate})"
    elif not _is_of_rows(truth) and not any(_is_alike(e.sqlstate, truth.error[0]) for e in errors):
        said = ", ".join(f"{error.message} ({error.sqlstate})" for error in errors) or "nothing"
        yield _unequal("error", f"{truth.error[1]} ({truth.error[0]})", said)


def _is_alike(one: str, other: str) -> bool:
    # The index of a constraint has its name; which of the two is missed first says nothing.
    there_already = ("42P07", "42710")
    return one == other or (one in there_already and other in there_already)


def _is_of_rows(truth: Truth) -> bool:
    """Whether a statement failed because of what stands in the rows, which nobody can foresee."""
    return truth.error is not None and truth.error[0][:2] in ("22", "23")


def optimism(prediction: Prediction, truths: list[Truth]) -> Iterator[str]:
    """Yield where the engine, which knows the whole history, says less than the server did."""
    hazards = [truth for truth in truths if truth.is_hazard]
    if hazards and not prediction.is_hazard:
        yield f"a hazard that the engine lets through: {describe(hazards[0])}"
    after = locks_after(prediction, truths)
    held: dict[str, LockMode] = {}
    for number, truth in enumerate(truths[: len(after)]):
        effects = prediction.effects[number]
        if effects.unknown or truth.error is not None:
            return
        missed = {
            name: mode
            for name, mode in truth.locks.items()
            if mode > max(after[number].get(name, LockMode.NONE), held.get(name, LockMode.NONE))
            and (is_named(name, effects.sql) or not effects.assumed)
        }
        held = truth.locks
        where = f"statement {number + 1}: " if len(truths) > 1 else ""
        if missed:
            yield where + _unequal("locks held after it", _said(missed), _said(after[number]))
        if truth.need is not effects.transaction and not effects.is_hazard:
            need = effects.transaction.value
            yield where + _unequal("in a transaction block", truth.need.value, need)


def optimism_of_file(prediction: Prediction, truths: list[Truth]) -> Iterator[str]:
    """Yield where the engine, which knows nothing but a file, says less than the server did and the
    file tells.

    No file tells that a name is there already or is not there, or in which schema of the search
    path it is.
    """
    told = [truth for truth in truths if truth.error is None or _is_told_by_a_text(truth.error)]
    in_other_schema = [_with_the_schema_that_was_said(truth, prediction) for truth in told]
    yield from optimism(prediction, in_other_schema)


def _is_told_by_a_text(error: tuple[str, str]) -> bool:
    sqlstate, message = error
    return sqlstate in ("25001", "55P04") or message.startswith("syntax error")


def _with_the_schema_that_was_said(truth: Truth, prediction: Prediction) -> Truth:
    locked = {name for effects in prediction.effects for name in effects.locks}
    said = {name.name: _short(name) for name in locked}
    exact = set(map(_short, locked))
    locks = {n if n in exact else said.get(n, n): mode for n, mode in truth.locks.items()}
    return replace(truth, locks=locks)


def describe(truth: Truth) -> str:
    """Return what a statement did, as a short sentence."""
    if truth.error is not None:
        return f"fails with {truth.error[1]} ({truth.error[0]})"
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("rewrites", truth.rewrites),
            ("scans", truth.scans or ()),
            ("builds indexes on", tuple(truth.builds)),
            ("rebuilds indexes of", tuple(truth.rebuilds)),
        )
        if names
    ]
    return "; ".join([*parts, f"holds {_said(truth.locks)}"])


def _said(locks: dict[str, LockMode]) -> str:
    return ", ".join(f"{name} {mode.sql}" for name, mode in sorted(locks.items())) or "none"


def _unequal(what: str, truth: object, said: object) -> str:
    return f"{what}:\n      the server: {truth}\n      the engine: {said}"
