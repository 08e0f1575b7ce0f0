"""SQL text to parse trees, with PostgreSQL's own grammar (`postgast`, version 18)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from alembic_safe.postgres.effects.nesting import has_too_many_blocks, is_too_deep

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Longer texts are not parsed: data does not belong into a statement's text."""


@dataclass(frozen=True)
class Parsed:
    """One statement of a text.

    Args:
        sql: its text, without the semicolon and the space around it.
        offset: where it begins, in characters.
        node: its parse tree; None where the text is not SQL.
        node_name: the name of that node in the grammar, as `alter_table_stmt`.
        problem: what is wrong with it, where there is no tree.
    """

    sql: str
    offset: int
    node: Any
    node_name: str
    problem: str = ""


def parse(sql: str) -> list[Parsed]:
    """Return the statements of a text in their order.

    What the parser does not take is returned as one statement with a `problem`; nothing is raised
    and nothing is left out.

    The parse trees are for reading: a short text is parsed once, since every revision begins with
    the same ones.
    """
    return list(_parse_short(sql)) if len(sql) <= _SHORT else _parse(sql)


_SHORT = 60


@functools.lru_cache(maxsize=256)
def _parse_short(sql: str) -> tuple[Parsed, ...]:
    return tuple(_parse(sql))


def _parse(sql: str) -> list[Parsed]:
    # Loading the parser takes about 70 ms.
    import postgast
    from google.protobuf.message import DecodeError

    problem = _unparsable(sql)
    if problem:
        return [Parsed(sql.strip(), 0, None, "", problem)]
    try:
        tree = postgast.parse(sql)
    except postgast.PgQueryError as error:
        return [Parsed(sql.strip(), 0, None, "", str(error))]
    except (DecodeError, RecursionError):
        return _parse_one_by_one(sql)
    encoded = sql.encode()
    is_ascii = len(encoded) == len(sql)
    statements = []
    for raw in tree.stmts:
        begin = raw.stmt_location
        end = begin + raw.stmt_len if raw.stmt_len else len(encoded)
        text = encoded[begin:end].decode()
        offset = begin if is_ascii else len(encoded[:begin].decode())
        begin_of_words = len(text) - len(text.lstrip())
        name = raw.stmt.WhichOneof("node") or ""
        node = getattr(raw.stmt, name) if name else None
        problem = "" if node is not None else "a statement of an unknown kind"
        statements.append(Parsed(text.strip(), offset + begin_of_words, node, name, problem))
    return statements


def _parse_one_by_one(sql: str) -> list[Parsed]:
    """Return the statements of a text of which one is nested too deeply to be read."""
    import postgast

    pieces = postgast.split(sql)
    if len(pieces) < 2:
        return [Parsed(sql.strip(), 0, None, "", "it is nested too deeply to be read")]
    statements = []
    place = 0
    for piece in pieces:
        place = sql.index(piece, place)
        statements += [replace(parsed, offset=parsed.offset + place) for parsed in parse(piece)]
        place += len(piece)
    return statements


def parse_plpgsql(definition: str, body: str) -> dict[str, Any]:
    """Return the tree of a PL/pgSQL body, as `PLpgSQL_function` of libpg_query's JSON.

    Args:
        definition: a DO or CREATE FUNCTION statement.
        body: what stands in its quotes.

    Raises:
        ValueError: it cannot be read.
    """
    import postgast

    problem = _unparsable(definition) or _unparsable(body)
    if problem:
        raise ValueError(problem)
    if has_too_many_blocks(body):
        raise ValueError("its blocks are nested too deeply")
    try:
        functions = postgast.parse_plpgsql(definition)
    except postgast.PgQueryError as error:
        raise ValueError(str(error)) from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise ValueError("nested too deeply, or no Unicode text") from error
    if not functions:
        raise ValueError("there is no PL/pgSQL in it")
    function: dict[str, Any] = functions[0]["PLpgSQL_function"]
    return function


def _unparsable(sql: str) -> str:
    if "\x00" in sql:
        # The parser would take what stands before it for the whole.
        return "it contains a NUL character"
    try:
        length = len(sql.encode())
    except UnicodeEncodeError:
        return "it contains characters that are not Unicode text"
    if length > MAX_TEXT_BYTES:
        return f"it is longer than {MAX_TEXT_BYTES // 1024 // 1024} MiB"
    if is_too_deep(sql):
        return "it is nested too deeply to be read"
    return ""
