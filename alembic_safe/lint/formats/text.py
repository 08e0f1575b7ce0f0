"""A report for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from alembic_safe.lint.report import Located, Report
from alembic_safe.rules.finding import Fix
from alembic_safe.rules.sources import Extent, Source, Sources

_MOST_LINES = 6
"""Lines of a statement that are shown."""


def text(report: Report) -> str:
    """Return a report with the lines of the files, what follows from them, and what to do."""
    sources = Sources()
    lines: list[str] = []
    for located in report.findings:
        lines += [*_finding(located, sources[located.path]), ""]
    for located in report.allowed:
        lines.append(f"{_place(located)}: allowed [{located.finding.code}] {located.allowed}")
    lines.append(summary(report))
    return "".join(f"{line}\n" for line in lines)


def summary(report: Report) -> str:
    """Return one line about the whole."""
    judged = [
        _count(number, what)
        for number, what in (
            (report.revisions, "revision"),
            (report.files, "SQL file"),
            (report.statements, "statement"),
        )
        if number or what == "statement"
    ]
    found = [_count(len(report.errors), "error"), _count(len(report.warnings), "warning")]
    if report.allowed:
        found.append(f"{len(report.allowed)} allowed")
    return f"{', '.join(found)} in {', '.join(judged)} (PostgreSQL {report.postgres})"


def _finding(located: Located, source: Source) -> Iterator[str]:
    finding = located.finding
    way_back = "" if located.is_upgrade else " (downgrade)"
    yield (
        f"{_place(located)}: {finding.severity.value} [{finding.code}]{way_back} {finding.message}"
    )
    yield from _source_lines(located, source)
    if finding.fix is not None:
        yield from _fix(finding.fix, located.path.suffix == ".sql")
    if finding.advice:
        yield f"  instead: {finding.advice}"
    yield f"  see {located.docs}"


def _place(located: Located) -> str:
    return f"{located.path}:{located.line}" if located.line else str(located.path)


def _source_lines(located: Located, source: Source) -> Iterator[str]:
    if not located.line:
        return
    last = min(located.extent.last, located.line + _MOST_LINES - 1)
    shown = source.shown(Extent(located.line, last))
    width = len(str(last))
    for number, line in shown:
        yield f"  {number:>{width}} | {line.rstrip()}"
    if last < located.extent.last:
        yield f"  {'':>{width}} | ..."


def _fix(fix: Fix, is_sql: bool) -> Iterator[str]:
    code = fix.sql if is_sql else fix.operations or fix.sql
    where = f", in a {fix.phase.value} revision" if fix.phase is not None else ""
    yield f"  instead{where}:"
    yield from textwrap.indent(code, "      ").splitlines()


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
