"""Report: what lint found, where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic_safe.lint.sources import Extent
from alembic_safe.rules.finding import Finding, Severity


@dataclass(frozen=True)
class Located:
    """A finding and the place that it is about.

    Args:
        finding: its severity is the one in force for its table.
        path: the file, relative to the current folder where it is below it.
        extent: the lines to show; the first is the finding's own.
        sql: the statement; empty where it is not about one.
        revision: its identifier; empty for an SQL file.
        is_upgrade: False for a downgrade.
        lines: the text of those lines, each with its number.
        allowed: the reason for which it is let through; empty where it is not.
    """

    finding: Finding
    path: Path
    extent: Extent
    sql: str = ""
    revision: str = ""
    is_upgrade: bool = True
    lines: tuple[tuple[int, str], ...] = ()
    allowed: str = ""

    @property
    def line(self) -> int:
        """The line that it is about; 1 where none is known."""
        return max(self.extent.first, 1)


@dataclass(frozen=True)
class Report:
    """What a run of lint found.

    Args:
        found: all findings, in the order of the statements, those that are let through included.
        revisions: how many revisions were judged.
        files: how many SQL files were judged.
        statements: how many statements were judged.
        postgres: the major version of the server that was assumed, or asked.
    """

    found: Sequence[Located]
    revisions: int
    files: int
    statements: int
    postgres: int

    @property
    def findings(self) -> list[Located]:
        """Findings that are not let through."""
        return [located for located in self.found if not located.allowed]

    @property
    def allowed(self) -> list[Located]:
        """Findings that are let through, each with its reason."""
        return [located for located in self.found if located.allowed]

    @property
    def errors(self) -> list[Located]:
        """Findings that are errors."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> list[Located]:
        """Findings that are warnings."""
        return self._of(Severity.WARNING)

    def is_clean(self, *, strict: bool = False) -> bool:
        """Return whether there are no errors; with `strict` no warnings either."""
        return not self.findings if strict else not self.errors

    def _of(self, severity: Severity) -> list[Located]:
        return [located for located in self.findings if located.finding.severity is severity]
