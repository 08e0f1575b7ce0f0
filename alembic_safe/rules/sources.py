"""Sources: the files in which statements stand, for lines, comments, and what was not run."""

from __future__ import annotations

import ast
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import decode_source
from pathlib import Path
from types import FrameType
from typing import Any

from alembic_safe.rules.allowances import (
    MARK,
    Allowance,
    allowances_in_python,
    allowances_in_sql,
    lines_of,
)


@dataclass(frozen=True)
class Extent:
    """Lines of a file, both included; 0 where they are not known."""

    first: int
    last: int

    def __contains__(self, line: object) -> bool:
        return isinstance(line, int) and self.first <= line <= self.last


class Source(ABC):
    """A file with statements.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def text(self) -> str:
        """What the file has, without a byte order mark, with a newline alone behind each line."""
        return self._read()

    @cached_property
    def lines(self) -> list[str]:
        """The file's lines."""
        return lines_of(self.text)

    @cached_property
    def allowances(self) -> list[Allowance]:
        """The comments that let findings through."""
        # Most files have none, and need not be parsed.
        return self._read_allowances() if MARK in self.text else []

    @abstractmethod
    def _read(self) -> str: ...

    @abstractmethod
    def _read_allowances(self) -> list[Allowance]: ...

    def shown(self, extent: Extent) -> list[tuple[int, str]]:
        """Return lines with their numbers."""
        numbers = range(max(extent.first, 1), min(extent.last, len(self.lines)) + 1)
        return [(number, self.lines[number - 1]) for number in numbers]


class SqlSource(Source):
    """An `.sql` file."""

    def _read(self) -> str:
        return self.path.read_text(encoding="utf-8-sig", errors="replace")

    def _read_allowances(self) -> list[Allowance]:
        return allowances_in_sql(self.text)

    def extent(self, offset: int, length: int) -> Extent:
        """Return the lines of a statement that begins at a character of the file."""
        first = self.text.count("\n", 0, offset) + 1
        return Extent(first, first + self.text.count("\n", offset, offset + length))


class RevisionSource(Source):
    """A revision file."""

    @cached_property
    def tree(self) -> ast.Module:
        """The file's syntax tree. Alembic has loaded it, so that it can be parsed."""
        return ast.parse(self.text)

    def _read(self) -> str:
        return decode_source(self.path.read_bytes())

    def _read_allowances(self) -> list[Allowance]:
        return allowances_in_python(self.text, self._head)

    @property
    def _head(self) -> set[int]:
        """The lines above the first function or class on which no statement stands."""
        head = set(range(1, len(self.lines) + 1))
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                first = min(each.lineno for each in (node, *node.decorator_list))
                return {line for line in head if line < first}
            head.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return head

    def extent(self, line: int) -> Extent:
        """Return the lines of the Python statement to which a line belongs.

        What stands in a `with` belongs to its first line too: a batch is written at its end.
        """
        if not line:
            return Extent(0, 0)
        found = Extent(line, line)
        for node in self._statements:
            last = node.end_lineno or node.lineno
            if isinstance(node, ast.With):
                last = last if line == node.lineno else node.body[0].lineno - 1
            elif hasattr(node, "body") or isinstance(node, ast.Match):
                last = node.lineno
            if node.lineno <= line <= last:
                found = Extent(node.lineno, last)
        return found

    @cached_property
    def _statements(self) -> list[ast.stmt]:
        return list(_statements_in(self.tree))

    def line_of(self, sql: str, extent: Extent) -> int:
        """Return the line of a Python statement on which an SQL statement begins, where its text
        stands there; the first line otherwise."""
        beginning = sql.splitlines()[0].strip() if sql.strip() else ""
        lines = self.shown(extent)
        places = [number for number, line in lines if beginning and beginning in line]
        return places[0] if len(places) == 1 else extent.first

    def function(self, name: str) -> Extent:
        """Return the lines of a function; 0 where the file does not define it."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return Extent(node.lineno, node.end_lineno or node.lineno)
        return Extent(0, 0)

    def literals(self, *, without: Extent) -> Iterator[tuple[int, str, str]]:
        """Yield SQL that stands in the file as a plain text and is executed: the line, the name of
        what it is given to, and the text.

        Args:
            without: lines that are left out.
        """
        constants = dict(self._constants())
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.Call) or node.lineno in without or not node.args:
                continue
            name = _name(node.func)
            if name in _EXECUTING:
                given = node.args[0]
                if isinstance(given, ast.Name):
                    given = constants.get(given.id, given)
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    yield node.lineno, name, given.value

    def _constants(self) -> Iterator[tuple[str, ast.expr]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value


def _statements_in(block: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a block, each before those inside of it; expressions have none."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for node in getattr(block, name, ()):
            if isinstance(node, ast.stmt):
                yield node
            yield from _statements_in(node)


_EXECUTING = frozenset({"execute", "exec_driver_sql", "scalar", "scalars", "text", "DDL"})
"""Methods of connections and of `op`, and what wraps a text for them."""


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def frames_to(module: Mapping[str, Any] | None) -> Iterator[FrameType]:
    """Yield the frames that are running, from the innermost to the first of a module.

    Args:
        module: its global names. Where it has no part in what runs, all frames are yielded.
    """
    outer = _frames_of_outer_greenlets()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        if frame.f_globals is module:
            return
        frame = frame.f_back or next(outer, None)


def _frames_of_outer_greenlets() -> Iterator[FrameType]:
    """Yield where the greenlets wait that have begun this one, as `op.run_async` does."""
    greenlet = sys.modules.get("greenlet")
    current = greenlet.getcurrent().parent if greenlet is not None else None
    while current is not None:
        if current.gr_frame is not None:
            yield current.gr_frame
        current = current.parent


def running_line(module: Mapping[str, Any]) -> int:
    """Return the line of a module that is running; 0 where it has no part in what runs.

    Args:
        module: its global names.
    """
    lines = (frame.f_lineno for frame in frames_to(module) if frame.f_globals is module)
    return next(lines, 0)


class Sources:
    """The files in which something is judged, each read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Source] = {}

    def __getitem__(self, path: Path) -> Source:
        return self.sql(path) if path.suffix == ".sql" else self.revision(path)

    def revision(self, path: Path) -> RevisionSource:
        """Return the source of a Python file."""
        source = self._read.setdefault(path, RevisionSource(path))
        assert isinstance(source, RevisionSource)
        return source

    def sql(self, path: Path) -> SqlSource:
        """Return the source of an SQL file."""
        source = self._read.setdefault(path, SqlSource(path))
        assert isinstance(source, SqlSource)
        return source

    def read(self) -> list[Source]:
        """Return all that were asked for."""
        return list(self._read.values())
