"""Weights: how much a finding counts, by its rule and by its table."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Severity, code_of
from alembic_safe.rules.locking import LOCKING
from alembic_safe.rules.settings import LintSettings, is_among

_ABOUT_LOCKS = frozenset(code_of(rule) for rule in LOCKING)
_LOWER = {Severity.ERROR: Severity.WARNING, Severity.WARNING: Severity.OFF}


@dataclass(frozen=True)
class Weights:
    """What the settings say about severities.

    Args:
        settings: of lint.
        knows_sizes: whether sizes in the world are those of a database.
    """

    settings: LintSettings
    knows_sizes: bool = False

    def weigh(self, finding: Finding, effects: Effects, world: World) -> Finding | None:
        """Return a finding with the severity that it has here; None where it is turned off."""
        severity = self.settings.severity.get(finding.code, finding.severity)
        relation = finding.relation
        if relation is not None:
            is_hot = is_among(relation, self.settings.hot_tables)
            if is_hot and severity is Severity.WARNING:
                severity = Severity.ERROR
            is_work = finding.code in _ABOUT_LOCKS and effects.works
            if is_work and not is_hot and self._is_small(relation, world):
                severity = _LOWER.get(severity, severity)
        return None if severity is Severity.OFF else replace(finding, severity=severity)

    def _is_small(self, name: QualifiedName, world: World) -> bool:
        if is_among(name, self.settings.small_tables):
            return True
        found = world.find(name)
        if not self.knows_sizes or found is None or found.size is None:
            return False
        return found.size <= self.settings.small_table_bytes
