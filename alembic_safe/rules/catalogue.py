"""The rules that the package has, in the order in which they are documented.

A rule's code is the name of its function with hyphens; its docstring is its page in the
documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic_safe.rules import (
    column_types,
    compatibility,
    data_loss,
    locking,
    partitioning,
    rebuilding,
    schema_design,
    transactions,
    waiting,
)
from alembic_safe.rules.finding import RevisionRule, Rule, code_of

RULES: Sequence[Rule] = (
    *transactions.TRANSACTIONS,
    *locking.LOCKING,
    *rebuilding.REBUILDING,
    *partitioning.PARTITIONING,
    *waiting.WAITING,
    *compatibility.COMPATIBILITY,
    *data_loss.DATA_LOSS,
    *column_types.COLUMN_TYPES,
    *schema_design.SCHEMA_DESIGN,
)

REVISION_RULES: Sequence[RevisionRule] = (
    waiting.lock_timeout_missing,
    transactions.transaction_left_open,
    compatibility.rename_table_without_view,
    schema_design.foreign_key_without_index,
    schema_design.foreign_key_types_differ,
    schema_design.table_without_primary_key,
    schema_design.duplicate_index,
)


def documented_rules() -> dict[str, Rule | RevisionRule]:
    """Return for each code the function whose docstring explains it."""
    functions: tuple[Rule | RevisionRule, ...] = (*RULES, *REVISION_RULES)
    # The other half of `rename_table`, with the same code.
    return {code_of(f): f for f in functions if f is not compatibility.rename_table_without_view}


CODES = frozenset(documented_rules())
"""What findings of this package's rules can be called."""
