"""Allowances: comments that let a finding through, each with a reason.

# alembic-safe: allow index-not-concurrent -- the table has 40 rows
-- alembic-safe: allow index-not-concurrent -- the table has 40 rows
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Container, Iterator
from dataclasses import dataclass

MARK = "alembic-safe:"
"""What every such comment has."""

_COMMENT = re.compile(r"(?:#|--)\s*alembic-safe:\s*(.*)$")
_ALLOW = re.compile(r"allow\s+([\w-]+(?:\s*,\s*[\w-]+)*)\s*(?:--\s*(.*))?$")
_LINE_OF_SQL = re.compile(r"^(.*?)(--\s*alembic-safe:.*)$")


@dataclass(frozen=True)
class Allowance:
    """A comment that lets findings through.

    Args:
        codes: of the rules; empty where the comment cannot be read.
        reason: empty where there is none.
        line: where the comment stands.
        about: the line of the code that it is about; None is the whole file.
    """

    codes: tuple[str, ...]
    reason: str
    line: int
    about: int | None

    def covers(self, code: str, lines: Container[int]) -> bool:
        """Return whether a finding is let through.

        Args:
            code: of its rule.
            lines: of the statement that it is about.
        """
        if code not in self.codes or not self.reason:
            return False
        return self.about is None or self.about in lines


def lines_of(source: str) -> list[str]:
    """Return the lines of a text as Python's parser and editors count them: a form feed, U+2028
    and the like, at which `splitlines` ends one too, stand in the middle of a line."""
    return source.removesuffix("\n").split("\n")


def allowances_in_python(source: str, head: Container[int]) -> list[Allowance]:
    """Return the allowances of a revision file.

    A comment on a line of its own is about the statement below it; in the head of the file, where
    it is not indented, it is about the whole file.

    Args:
        source: the file's text.
        head: the lines above its first function or class on which no statement stands.
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = lines_of(source)
    found = []
    for token in tokens:
        if token.type != tokenize.COMMENT or not _COMMENT.match(token.string):
            continue
        line, indent = token.start
        is_alone = not lines[line - 1][:indent].strip()
        about: int | None = _next_code(lines, line, "#") if is_alone else line
        # What is indented below an `if` belongs to it, also where no statement follows.
        if line in head and not indent:
            about = None
        found.append(_read(token.string, line, about))
    return found


def allowances_in_sql(source: str) -> list[Allowance]:
    """Return the allowances of an SQL file.

    A comment on a line of its own is about the statement below it; where an empty line follows
    it, before the first statement, it is about the whole file.
    """
    lines = lines_of(source)
    found = []
    for number, code, comment in _comments_in_sql(lines):
        about: int | None = number
        if not code:
            about = _next_code(lines, number, "--")
            block = _end_of_comments(lines, number)
            is_head = not any(_is_code(line, "--") for line in lines[: number - 1])
            if is_head and block < len(lines) and not lines[block].strip():
                about = None
        found.append(_read(comment, number, about))
    return found


def _comments_in_sql(lines: list[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, start=1):
        match = _LINE_OF_SQL.match(line)
        if match is not None:
            yield number, match[1].strip(), match[2]


def _read(comment: str, line: int, about: int | None) -> Allowance:
    match = _COMMENT.match(comment)
    allow = _ALLOW.match(match[1].strip()) if match is not None else None
    if allow is None:
        return Allowance((), "", line, about)
    codes = tuple(code.strip() for code in allow[1].split(","))
    return Allowance(codes, (allow[2] or "").strip(), line, about)


def _next_code(lines: list[str], line: int, mark: str) -> int:
    """Return the number of the next line that is neither empty nor a comment."""
    for number in range(line + 1, len(lines) + 1):
        if _is_code(lines[number - 1], mark):
            return number
    return line


def _end_of_comments(lines: list[str], line: int) -> int:
    while line < len(lines) and lines[line].strip().startswith("--"):
        line += 1
    return line


def _is_code(line: str, mark: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith(mark)
