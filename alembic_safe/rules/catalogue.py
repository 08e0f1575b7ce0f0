"""The rules that the package has, in the order in which they are documented.

A rule's code is the name of its function with hyphens; its docstring is its page in the
documentation.
"""

from __future__ import annotations

from collections.abc import Sequence

from alembic_safe.rules import (
    compatibility,
    data_loss,
    locking,
    schema_design,
    transactions,
    waiting,
)
from alembic_safe.rules.finding import RevisionRule, Rule

RULES: Sequence[Rule] = (
    *transactions.TRANSACTIONS,
    *locking.LOCKING,
    *waiting.WAITING,
    *compatibility.COMPATIBILITY,
    *data_loss.DATA_LOSS,
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


def code_of(rule: object) -> str:
    """Return the code of a rule of this package."""
    return str(getattr(rule, "__name__", "")).replace("_", "-")


CODES = frozenset(code_of(rule) for rule in (*RULES, *REVISION_RULES))
"""What findings of this package's rules can be called."""
