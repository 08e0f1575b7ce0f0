"""BEGIN, COMMIT, ROLLBACK, savepoints, two-phase commit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Savepoint, Transaction, World


def transaction(node: Any, tally: Tally) -> None:
    """Begin or end a transaction block or a part of one; no lock on relations.

    Details:
        is_others: the block around it was begun by whoever runs the text.

    Raises:
        Refused: it needs a transaction block or a savepoint that is not there, or must not stand
            in a block.
    """
    from postgast import pg_query_pb2 as grammar

    kind = grammar.TransactionStmtKind.Name(node.kind).removeprefix("TRANS_STMT_")
    world = tally.world
    tally.details["is_others"] = (
        world.transaction is not None and not world.transaction.begun_by_text
    )
    if kind in ("BEGIN", "START"):
        if world.transaction is None:  # otherwise the server only warns
            world.transaction = Transaction(mark=len(world.journal))
    elif kind in ("COMMIT", "ROLLBACK"):
        _end(kind, node.chain, tally)
    elif kind == "PREPARE":
        if world.transaction is not None:
            tally.unknown("a prepared transaction keeps its locks until another session ends it")
        end_transaction(world, keep=world.transaction is None)
    elif kind in ("COMMIT_PREPARED", "ROLLBACK_PREPARED"):
        tally.only_outside_transaction()
        tally.unknown(f"{tally.command} ends a transaction that is not seen here")
    else:
        _savepoint(kind, node.savepoint_name, tally)


def _end(kind: str, chain: bool, tally: Tally) -> None:
    world = tally.world
    if world.transaction is None and chain:
        tally.refuse(f"{kind} AND CHAIN can only be used in transaction blocks", "25P01")
    end_transaction(world, keep=kind == "COMMIT")
    if chain:
        world.transaction = Transaction(mark=len(world.journal))


def end_transaction(world: World, *, keep: bool) -> None:
    """End the open transaction block, if there is one; without `keep` as ROLLBACK does."""
    block = world.transaction
    if block is None:
        return
    if not keep:
        world.undo(block.mark)
    world.transaction = None
    for name, value in block.local_settings.items():
        world.set(name, value)
    for type_ in [type_ for type_ in world.types.values() if type_.new_labels]:
        world.put_type(replace(type_, new_labels=frozenset()))


def _savepoint(kind: str, name: str, tally: Tally) -> None:
    block = tally.world.transaction
    if block is None:
        tally.refuse(f"{_WORDS[kind]} can only be used in transaction blocks", "25P01")
    if kind == "SAVEPOINT":
        block.savepoints.append(Savepoint(name, len(tally.world.journal), dict(block.locks)))
        return
    places = [i for i, savepoint in enumerate(block.savepoints) if savepoint.name == name]
    if not places:
        tally.refuse(f'savepoint "{name}" does not exist', "3B001")
    place = places[-1]
    if kind == "ROLLBACK_TO":
        # Locks taken since are released (PostgreSQL documentation, 13.3 Explicit Locking).
        savepoint = block.savepoints[place]
        tally.world.undo(savepoint.mark)
        block.locks = dict(savepoint.locks)
        del block.savepoints[place + 1 :]
    else:
        del block.savepoints[place:]


_WORDS = {
    "SAVEPOINT": "SAVEPOINT",
    "RELEASE": "RELEASE SAVEPOINT",
    "ROLLBACK_TO": "ROLLBACK TO SAVEPOINT",
}


HANDLERS: dict[str, Handler] = {"transaction_stmt": transaction}
