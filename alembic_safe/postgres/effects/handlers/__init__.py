"""What each kind of statement does: one file a family of statements."""

from __future__ import annotations

from alembic_safe.postgres.effects.handlers import (
    alter_table,
    do_blocks,
    rows,
    settings,
    tables,
    transactions,
    wrapped,
)
from alembic_safe.postgres.effects.tally import Handler

HANDLERS: dict[str, Handler] = {
    **alter_table.HANDLERS,
    **do_blocks.HANDLERS,
    **rows.HANDLERS,
    **settings.HANDLERS,
    **tables.HANDLERS,
    **transactions.HANDLERS,
    **wrapped.HANDLERS,
}
"""By the name of the statement's node in the grammar."""
