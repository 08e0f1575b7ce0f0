"""What a driver is given, as text that PostgreSQL's parser takes.

Drivers have placeholders of their own, take bytes and objects of their own, and are given rows by
the megabyte. Nothing here changes what is sent.
"""

from __future__ import annotations

import re
from typing import Any

LONG_TEXT = 16 * 1024
"""Characters from which rows behind VALUES are left out: the parser takes 0.3 s for a million."""


def text_of(query: Any, context: Any) -> str:
    """Return the text of a query as drivers take it: a text, bytes, or an object that writes it.

    Args:
        query: what was given to a cursor.
        context: that cursor, which psycopg's objects ask for quoting.
    """
    if isinstance(query, str):
        return query
    if isinstance(query, (bytes, bytearray, memoryview)):
        # Names apart, which are then not known, SQL is the same in every encoding.
        return bytes(query).decode("utf-8", errors="replace")
    if hasattr(query, "as_string"):
        return str(query.as_string(context))
    # Not known what it is; no parser takes this.
    return f"?? {type(query).__name__}"


_PLACEHOLDER = re.compile(r"%(?:%|(?:\([^)]*\))?[sbt])")


def without_placeholders(sql: str) -> str:
    """Return text for a driver with `%s` and `%(name)s`, with `$1` in their places.

    The drivers of this kind look for them only where parameters are given, were it none; `%%` is
    then a `%`, in a literal too.
    """
    return _PLACEHOLDER.sub(lambda found: "%" if found[0] == "%%" else "$1", sql)


_ROW_STATEMENT = re.compile(r"\s*(?:insert|update|delete)\s", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"""["$;\\]|--|/\*""")
_VALUE = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")


def shape_of(sql: str) -> str:
    """Return a text that is the same for statements that write other values in the same way, as a
    revision does that goes through rows one by one."""
    if len(sql) >= LONG_TEXT or not _ROW_STATEMENT.match(sql) or _NOT_PLAIN.search(sql):
        return sql
    return _VALUE.sub("?", sql)


_LITERAL = r"""
    \b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | (?P<dollars>\$(?:[^\W\d]\w*)?\$).*?(?P=dollars)
    | --[^\n]* | (?P<nests>/\*)
"""
_OUTSIDE = re.compile(
    rf"{_LITERAL} | (?P<values>\bvalues\s*(?=\())", re.VERBOSE | re.DOTALL | re.IGNORECASE
)
_INSIDE = re.compile(rf"(?P<parenthesis>[()]) | {_LITERAL}", re.VERBOSE | re.DOTALL)
_NEXT_ROW = re.compile(r"\s*,\s*(?=\()")
_PLAIN = r"""[^()'"$/\-]*"""
_SIMPLE_ROW = re.compile(rf"\({_PLAIN}(?:(?:'[^'\\]*'|\({_PLAIN}\)|-(?!-)){_PLAIN})*\)")
"""A row without anything that has to be looked at more closely, ten times as fast."""


def without_rows(sql: str) -> str:
    """Return a long text with only the first row behind each VALUES.

    What stands in a row can call functions and read; it cannot change what the statement is.
    """
    if len(sql) < LONG_TEXT:
        return sql
    kept = []
    place = searched = 0
    while (found := _OUTSIDE.search(sql, searched)) is not None:
        searched = found.end()
        if found["nests"]:
            # Where a comment ends is for the parser to say.
            return sql
        if found["values"]:
            first = end = _end_of_row(sql, searched)
            while end is not None and (comma := _NEXT_ROW.match(sql, end)):
                end = _end_of_row(sql, comma.end())
            if end is None:
                return sql
            kept.append(sql[place:first])
            place = searched = end
    return "".join([*kept, sql[place:]])


def _end_of_row(sql: str, start: int) -> int | None:
    """Return the place behind the parenthesis that closes the one at `start`; None where that is
    for the parser to say."""
    if simple := _SIMPLE_ROW.match(sql, start):
        return simple.end()
    depth = 0
    for found in _INSIDE.finditer(sql, start):
        parenthesis = found["parenthesis"]
        if parenthesis == "(":
            depth += 1
        elif parenthesis == ")":
            depth -= 1
            if depth == 0:
                return found.end()
        elif found["nests"]:
            return None
    return None
