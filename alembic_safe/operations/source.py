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
    return f"{function}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


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
    source = repr(value)
    if source.startswith("'") and '"' not in source:
        return '"' + source[1:-1].replace("\\'", "'") + '"'
    return source
