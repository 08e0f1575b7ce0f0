"""Statements one after another: what each does, given what those before it did."""

from __future__ import annotations

import logging

from alembic_safe.postgres.effects.command_tags import command_tag
from alembic_safe.postgres.effects.handlers import HANDLERS
from alembic_safe.postgres.effects.handlers.enum_labels import check_new_labels
from alembic_safe.postgres.effects.handlers.transactions import end_transaction
from alembic_safe.postgres.effects.model import Effects
from alembic_safe.postgres.effects.parsing import Parsed, parse
from alembic_safe.postgres.effects.tally import Refused, Tally
from alembic_safe.postgres.effects.world import Relation, Transaction, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

log = logging.getLogger("alembic.safe")

FAULT = "alembic-safe fails to judge it, please report that"
"""What `unknown` begins with where the engine itself is at fault."""


def effects_of(sql: str, world: World) -> list[Effects]:
    """Return the effects of each statement of a text, and change `world` accordingly.

    Nothing is raised: what cannot be parsed, is of an unknown kind or is too much for this engine
    is returned with `unknown` set, and the world then forgets what it cannot be sure of any more.

    Args:
        sql: one or more statements.
        world: the database before them. Its open transaction, if there is one, is the one in
            which they run.
    """
    return [_effects_of(parsed, world) for parsed in parse(sql)]


def begin(world: World) -> None:
    """Open a transaction block on behalf of whoever runs the statements."""
    world.transaction = Transaction(begun_by_text=False, mark=len(world.journal))


def end(world: World, *, keep: bool = True) -> None:
    """End the open transaction block, if there is one; without `keep` as ROLLBACK does."""
    end_transaction(world, keep=keep)


def _effects_of(parsed: Parsed, world: World, outer: Tally | None = None) -> Effects:
    held = dict(world.transaction.locks) if world.transaction is not None else {}
    tally = Tally(world, parsed.sql, parsed.offset, run=_effects_inside)
    if outer is not None:
        tally.depth, tally.called = outer.depth + 1, outer.called
    mark = len(world.journal)
    transaction = world.transaction
    handler = HANDLERS.get(parsed.node_name)
    if parsed.problem:
        tally.unknown(parsed.problem)
    elif handler is None:
        tally.command = parsed.node_name.removesuffix("_stmt").replace("_", " ").upper()
        tally.unknown(f"{tally.command} is not among the statements that are understood")
    else:
        tally.command = command_tag(parsed.node_name, parsed.node)
        try:
            check_new_labels(parsed.node, tally)
            handler(parsed.node, tally)
        except Refused:
            world.undo(mark)
        except Exception as fault:
            # Whoever upgrades is not to meet a traceback of ours, and the statement is not to pass.
            log.debug("The effects of a statement are not known: %s", parsed.sql, exc_info=True)
            world.undo(mark)
            tally.unknown(f"{FAULT} ({type(fault).__name__}: {fault})")
    _keep_locks(tally, transaction)
    before = _before(tally, mark)
    effects = tally.effects(parsed.node, parsed.node_name, held, before)
    if tally.forgets:
        world.forget()
    return effects


def _before(tally: Tally, mark: int) -> dict[QualifiedName, Relation]:
    """Return the relations that a statement changed, locked or worked through, as they were."""
    world = tally.world
    changed = world.relations_before(mark)
    before = {name: relation for name, relation in changed.items() if relation is not None}
    seen: set[QualifiedName] = set()
    pending = tally.touched()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        relation = world.find(name)
        if name in changed:
            # One that was not known is now known as it was changed.
            relation = changed[name] or Relation(name)
        if relation is not None:
            before[name] = relation
            pending += relation.children
    return before


def _effects_inside(parsed: Parsed, outer: Tally) -> Effects:
    return _effects_of(parsed, outer.world, outer)


def _keep_locks(tally: Tally, transaction: Transaction | None) -> None:
    if transaction is None or tally.world.transaction is not transaction:
        return
    for relation, mode in tally.locks.items():
        transaction.locks[relation] = max(mode, transaction.locks.get(relation, LockMode.NONE))
