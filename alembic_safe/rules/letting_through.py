"""Letting through: why a finding counts no longer."""

from __future__ import annotations

from collections.abc import Sequence

from alembic_safe.rules.allowances import Allowance
from alembic_safe.rules.finding import Finding
from alembic_safe.rules.settings import Ignored
from alembic_safe.rules.sources import Extent, Source


def cover_of(
    finding: Finding, source: Source, extent: Extent, revision: str, ignored: Sequence[Ignored]
) -> Allowance | Ignored | None:
    """Return what lets a finding through, with its reason; None where nothing does.

    A comment comes before the settings, because it stands nearer to the statement.

    Args:
        finding: what was found.
        source: the file in which the statement stands.
        extent: its lines in that file; 0 where none are known.
        revision: its identifier; empty for an SQL file.
        ignored: of the settings.
    """
    for allowance in source.allowances:
        if allowance.covers(finding.code, extent):
            return allowance
    names = (revision, source.path.name, str(source.path))
    return next((each for each in ignored if each.covers(finding, names)), None)
