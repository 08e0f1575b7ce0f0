"""Report: what lint found, where."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic_safe.rules.finding import Finding, Severity
from alembic_safe.rules.sources import Extent

NOT_READABLE = "not-readable-offline"
SHARED_TRANSACTION = "revisions-share-a-transaction"
ALLOW_WITHOUT_REASON = "allow-without-reason"
ALLOW_UNKNOWN_CODE = "allow-unknown-code"
ALLOW_UNUSED = "allow-unused"

OWN_CODES = frozenset(
    {NOT_READABLE, SHARED_TRANSACTION, ALLOW_WITHOUT_REASON, ALLOW_UNKNOWN_CODE, ALLOW_UNUSED}
)
"""Codes of what lint itself finds, beside those of the rules."""


@dataclass(frozen=True)
class Located:
    """A finding and the place that it is about.

    Args:
        finding: its severity is the one in force for its table.
        path: the file; in a report relative to the current folder where it is below it.
        extent: the lines of the statement in that file; 0 where none are known.
        line: the one that the finding is about; 0 where none is known.
        sql: the statement; empty where it is not about one.
        revision: its identifier; empty for an SQL file.
        is_upgrade: False for a downgrade.
        allowed: the reason for which it is let through; empty where it is not.
    """

    finding: Finding
    path: Path
    extent: Extent
    line: int
    sql: str = ""
    revision: str = ""
    is_upgrade: bool = True
    allowed: str = ""

    @property
    def docs(self) -> str:
        """Where the rule is explained."""
        if self.finding.code in OWN_CODES:
            return f"docs/lint.md#{self.finding.code}"
        return self.finding.docs

    @property
    def explanation(self) -> str:
        """The message with what to do instead, for a place without a file beside it."""
        finding, fix = self.finding, self.finding.fix
        parts = [finding.message]
        if fix is not None:
            is_sql = self.path.suffix == ".sql"
            parts.append(f"Instead:\n{fix.sql if is_sql else fix.operations or fix.sql}")
        if finding.advice:
            parts.append(f"Instead: {finding.advice}")
        return "\n".join((*parts, f"See {self.docs}"))


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


def fingerprints(found: Sequence[Located]) -> list[str]:
    """Return for each finding a text that stays the same when lines move."""
    seen: Counter[tuple[str, ...]] = Counter()
    texts = []
    for located in found:
        sql = " ".join(located.sql.split())
        direction = "upgrade" if located.is_upgrade else "downgrade"
        key = (located.finding.code, located.path.as_posix(), located.revision, direction, sql)
        seen[key] += 1
        whole = "\0".join((*key, str(seen[key])))
        texts.append(hashlib.sha256(whole.encode()).hexdigest())
    return texts
