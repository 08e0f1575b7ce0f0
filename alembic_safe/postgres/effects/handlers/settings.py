"""Settings of the session: SET, SET LOCAL, RESET, SET CONSTRAINTS, and `set_config`."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.identifiers import quote

_MILLISECONDS = {"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}

_IN_MILLISECONDS = frozenset(
    {
        "deadlock_timeout",
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "statement_timeout",
        "transaction_timeout",
    }
)


def variable_set(node: Any, tally: Tally) -> None:
    """`SET`, `SET LOCAL`, `RESET`: the setting is remembered; no lock."""
    from postgast import pg_query_pb2 as grammar

    name = node.name.lower()
    if node.kind == grammar.VAR_RESET_ALL:
        for setting in list(tally.world.settings):
            tally.world.set(setting, None)
    elif node.kind == grammar.VAR_SET_VALUE:
        values = [_constant(argument) for argument in node.args]
        if name == "search_path":
            values = [quote(value) for value in values]
        _remember(name, ", ".join(values), node.is_local, tally)
    elif node.kind in (grammar.VAR_RESET, grammar.VAR_SET_DEFAULT):
        _remember(name, None, node.is_local, tally)


def set_by_function(texts: list[str | None], arguments: Any, tally: Tally) -> None:
    """Note `set_config(setting, value, is_local)`.

    Args:
        texts: the arguments that are text constants.
        arguments: their nodes.
        tally: where it is called.
    """
    setting = texts[0] if texts else None
    if setting is None:
        # It may have been any of them.
        for known in list(tally.world.settings):
            tally.world.set(known, None)
        return
    is_local = len(arguments) > 2 and bool(arguments[2].a_const.boolval.boolval)
    _remember(setting.lower(), texts[1] if len(texts) > 1 else None, is_local, tally)


def _remember(name: str, value: str | None, is_local: bool, tally: Tally) -> None:
    if value is not None and name in _IN_MILLISECONDS:
        milliseconds = _milliseconds(value)
        if milliseconds is None:
            tally.refuse(f'invalid value for parameter "{name}": "{value}"', "22023")
        value = str(milliseconds)
    block = tally.world.transaction
    if is_local and block is None:
        return  # the server warns and does nothing
    if is_local and block is not None:
        block.local_settings.setdefault(name, tally.world.settings.get(name))
    elif block is not None:
        # A SET after a SET LOCAL stays after the end of the transaction.
        block.local_settings.pop(name, None)
    tally.world.set(name, value)


def _constant(node: Any) -> str:
    if node.WhichOneof("node") == "type_cast":  # SET TIME ZONE INTERVAL '1' HOUR
        return _constant(node.type_cast.arg)
    constant = node.a_const
    kind = constant.WhichOneof("val")
    if kind == "ival":
        return str(constant.ival.ival)
    if kind == "fval":
        return str(constant.fval.fval)
    if kind == "boolval":
        return "on" if constant.boolval.boolval else "off"
    return str(constant.sval.sval)


def _milliseconds(value: str) -> int | None:
    text = value.strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    unit = text[len(number) :].strip() or "ms"
    try:
        return round(float(number) * _MILLISECONDS[unit])
    except (KeyError, ValueError, OverflowError):
        return None


def constraints_set(node: Any, tally: Tally) -> None:
    """`SET CONSTRAINTS`: no lock; what was deferred is checked at once with IMMEDIATE."""
    tally.details["deferred"] = bool(node.deferred)


HANDLERS: dict[str, Handler] = {
    "constraints_set_stmt": constraints_set,
    "variable_set_stmt": variable_set,
}
