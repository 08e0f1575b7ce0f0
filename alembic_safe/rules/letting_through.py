"""Letting through: why a finding counts no longer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alembic_safe.rules.allowances import Allowance
from alembic_safe.rules.finding import Finding
from alembic_safe.rules.settings import Ignored
from alembic_safe.rules.sources import Extent


def cover_of(
    finding: Finding,
    extent: Extent,
    allowances: Sequence[Allowance],
    ignored: Sequence[Ignored],
    *,
    revision: str,
    path: Path,
) -> Allowance | Ignored | None:
    """Return what lets a finding through, with its reason; None where nothing does.

    A comment comes before the settings, because it stands nearer to the statement.

    Args:
        finding: what was found.
        extent: the lines of the statement in its file; 0 where none are known.
        allowances: the comments of the file.
        ignored: of the settings.
        revision: its identifier; empty for an SQL file.
        path: the file.
    """
    for allowance in allowances:
        if allowance.covers(finding.code, extent):
            return allowance
    names = (revision, path.name, str(path))
    return next((each for each in ignored if each.covers(finding, names)), None)
