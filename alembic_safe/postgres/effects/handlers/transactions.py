"""BEGIN, COMMIT, ROLLBACK, savepoints, SET and RESET."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Transaction, World

_UNITS = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def transaction(node: Any, tally: Tally) -> None:
    """`BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`, `PREPARE`."""
    from postgast import pg_query_pb2 as grammar

    kind = grammar.TransactionStmtKind.Name(node.kind).removeprefix("TRANS_STMT_")
    world = tally.world
    tally.command = kind.replace("_", " ")
    if kind in ("BEGIN", "START"):
        if world.transaction is None:
            world.transaction = Transaction(mark=len(world.journal))
    elif kind in ("COMMIT", "ROLLBACK", "PREPARE"):
        if kind == "PREPARE":
            tally.unknown("a prepared transaction keeps its locks until another session ends it")
        end_transaction(world, keep=kind != "ROLLBACK")
    elif kind in ("SAVEPOINT", "RELEASE", "ROLLBACK_TO"):
        _savepoint(kind, node.savepoint_name, tally)
    else:
        tally.unknown(f"{kind.replace('_', ' ')} ends a transaction that is not seen here")


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


def _savepoint(kind: str, name: str, tally: Tally) -> None:
    block = tally.world.transaction
    if block is None:
        tally.refuse(f"{kind.replace('_', ' ')} can only be used in transaction blocks", "25P01")
        return
    if kind == "SAVEPOINT":
        block.savepoints.append((name, len(tally.world.journal)))
        return
    places = [i for i, (savepoint, _) in enumerate(block.savepoints) if savepoint == name]
    place = places[-1] if places else None
    if place is None:
        tally.refuse(f'savepoint "{name}" does not exist', "3B001")
        return
    if kind == "ROLLBACK_TO":
        # The locks taken since stay until the end in the server's books of a savepoint that is
        # not released, so they are kept here too.
        tally.world.undo(block.savepoints[place][1])
        del block.savepoints[place + 1 :]
    else:
        del block.savepoints[place:]


def variable_set(node: Any, tally: Tally) -> None:
    """`SET`, `SET LOCAL`, `RESET`."""
    from postgast import pg_query_pb2 as grammar

    kind = grammar.VariableSetKind.Name(node.kind).removeprefix("VAR_")
    name = node.name.lower()
    tally.command = "RESET" if kind.startswith("RESET") else "SET"
    if kind == "RESET_ALL":
        for setting in list(tally.world.settings):
            tally.world.set(setting, None)
    elif kind == "SET_VALUE":
        values = [_constant(argument) for argument in node.args]
        value = ", ".join(str(value) for value in values)
        if name in ("lock_timeout", "statement_timeout"):
            value = str(_milliseconds(value))
        _remember(name, value, node.is_local, tally)
    elif kind in ("RESET", "SET_DEFAULT"):
        _remember(name, None, node.is_local, tally)


def _remember(name: str, value: str | None, is_local: bool, tally: Tally) -> None:
    block = tally.world.transaction
    if is_local and block is None:
        return  # the server warns and does nothing
    if is_local and block is not None:
        block.local_settings.setdefault(name, tally.world.settings.get(name))
    tally.world.set(name, value)


def _constant(node: Any) -> Any:
    constant = node.a_const
    kind = constant.WhichOneof("val")
    if kind == "ival":
        return constant.ival.ival
    if kind == "fval":
        return constant.fval.fval
    if kind == "boolval":
        return "on" if constant.boolval.boolval else "off"
    return constant.sval.sval


def _milliseconds(value: str) -> int:
    text = value.strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "ms"
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        return 0


HANDLERS: dict[str, Handler] = {
    "transaction_stmt": transaction,
    "variable_set_stmt": variable_set,
}
