"""Python source for calls in revision files, formatted as `ruff format` would leave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LINE_LENGTH = 88
_BODY_INDENT = 4


def call_source(function: str, positional: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """Return a call, on one line where it fits, else with one argument a line."""
    arguments = [value_source(value) for value in positional]
    arguments += [f"{name}={value_source(value)}" for name, value in keywords.items()]
    one_line = f"{function}({', '.join(arguments)})"
    if len(one_line) + _BODY_INDENT <= LINE_LENGTH:
        return one_line
    lines = []
    for name, value in [*((None, value) for value in positional), *keywords.items()]:
        prefix = "" if name is None else f"{name}="
        lines += _argument_lines(prefix, value)
    return f"{function}(\n" + "".join(f"    {line}\n" for line in lines) + ")"


def _argument_lines(prefix: str, value: Any) -> list[str]:
    """Return an argument; a container that does not fit into the line has one item a line."""
    one_line = f"{prefix}{value_source(value)},"
    if len(one_line) + 2 * _BODY_INDENT <= LINE_LENGTH or not value:
        return [one_line]
    if isinstance(value, Mapping):
        items = (f"{value_source(key)}: {value_source(item)}" for key, item in value.items())
        return [prefix + "{", *(f"    {item}," for item in items), "},"]
    if isinstance(value, (list, tuple)):
        return [prefix + "[", *(f"    {value_source(item)}," for item in value), "],"]
    return [one_line]


def value_source(value: Any) -> str:
    """Return the source of a constant: text in double quotes, containers of such."""
    if isinstance(value, str):
        return _text_source(value)
    if isinstance(value, Mapping):
        items = (f"{value_source(key)}: {value_source(item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(value_source(item) for item in value) + "]"
    return repr(value)


def _text_source(value: str) -> str:
    # The quotation mark at the end makes repr() use single ones around the text.
    in_single_quotes = repr(value + '"')[1:-2]
    plain = in_single_quotes.replace("\\'", "'")
    if plain.count('"') > plain.count("'"):
        return f"'{in_single_quotes}'"
    return '"' + plain.replace('"', '\\"') + '"'
