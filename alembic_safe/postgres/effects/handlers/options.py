"""Options in parentheses or after WITH: `DefElem` of parse trees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_OFF = frozenset({"false", "off", "no", "0"})


def is_on(nodes: Iterable[Any], name: str, *, default: bool = False) -> bool:
    """Return whether an option is on: it is written without a value, or with one that is not off.

    Args:
        nodes: the options of a statement.
        name: the option.
        default: what it is where it is not written.
    """
    for node in nodes:
        if node.def_elem.defname == name:
            return _is_on(node.def_elem)
    return default


def _is_on(option: Any) -> bool:
    if not option.HasField("arg"):
        return True
    kind = option.arg.WhichOneof("node")
    if kind == "boolean":
        return bool(option.arg.boolean.boolval)
    if kind == "integer":
        return bool(option.arg.integer.ival)
    # `off` is no reserved word, so that the grammar takes it for the name of a type.
    names = option.arg.type_name.names
    text = names[-1].string.sval if kind == "type_name" else option.arg.string.sval
    return text.lower() not in _OFF
