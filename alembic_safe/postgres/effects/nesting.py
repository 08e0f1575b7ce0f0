"""How deep a text is nested, bounded from above, before the parser sees it.

The parser writes its tree by recursion in C, where a stack that is too small ends the process. It
needs up to 900 bytes for each level that two tokens make (measured: 512 KiB, the stack of a thread
on macOS, are too small for 600 levels of `(select`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_TOKENS = 600
"""Tokens that may stand between a place in the text and the beginning of its statement, those not
counted that belong to lists and parentheses already closed."""

MAX_BLOCKS = 100
"""Blocks, loops and conditions of PL/pgSQL that may stand in one another."""

_NESTING = re.compile(
    r"[-+*/~!@#%^&|?:\[(]|\b(?:at|begin|between|case|collate|except|if|in|intersect|is|isnull|"
    r"i?like|join|loop|not|notnull|over|similar|union|with)\b",
    re.IGNORECASE,
)
"""What a level of an expression or query needs; no statement is deeper than it has of these."""

_FEW = 150

_OPENING = frozenset({"(", "[", "case"})
_CLOSING = frozenset({")", "]", "end"})
_SEPARATING = frozenset({",", "and", "or", "when", "then", "else"})
_BLOCKS = frozenset({"begin", "case", "if", "loop"})


def is_too_deep(sql: str) -> bool:
    """Return whether statements may be nested so deep that parsing them is dangerous."""
    if len(sql) < _FEW or len(_NESTING.findall(sql)) < _FEW:
        return False
    # The tokens before the place where each list or parenthesis was opened, and since then.
    outer: list[int] = []
    before = count = 0
    for word in _words(sql):
        if word in _OPENING:
            outer.append(count + 1)
            before += count + 1
            count = 0
        elif word in _CLOSING:
            if outer:
                count = outer.pop()
                before -= count
        elif word in _SEPARATING:
            count = 0
        elif word == ";":
            count = 0
            if not outer:
                before = 0
        else:
            count += 1
        if before + count > MAX_TOKENS:
            return True
    return False


def has_too_many_blocks(body: str) -> bool:
    """Return whether the blocks of a PL/pgSQL body are nested too deep."""
    depth = 0
    previous = ""
    for word in _words(body):
        if word in _BLOCKS and previous != "end":
            depth += 1
        elif word == "end":
            depth = max(0, depth - 1)
        if depth > MAX_BLOCKS:
            return True
        previous = word
    return False


def _words(sql: str) -> Iterator[str]:
    """Yield the tokens in lower case; none where the text cannot be cut into tokens, which the
    parser then refuses before it makes a tree."""
    import postgast

    try:
        tokens = postgast.scan(sql).tokens
    except postgast.PgQueryError:
        return
    encoded = sql.encode()
    for token in tokens:
        yield encoded[token.start : token.end].decode().lower()
