"""The rules that the package has, in the order in which they are documented."""

from __future__ import annotations

from collections.abc import Sequence

from alembic_safe.rules.finding import RevisionRule, Rule

RULES: Sequence[Rule] = ()
REVISION_RULES: Sequence[RevisionRule] = ()
