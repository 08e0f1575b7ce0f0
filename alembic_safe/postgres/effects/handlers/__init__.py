"""What each kind of statement does: one file a family of statements."""

from __future__ import annotations

from alembic_safe.postgres.effects.handlers import (
    access,
    alter_statements,
    do_blocks,
    drops,
    functions,
    index_commands,
    indexes,
    maintenance,
    renames,
    rows,
    schemas,
    sequences,
    settings,
    tables,
    transactions,
    triggers,
    types,
    views,
    wrapped,
)
from alembic_safe.postgres.effects.tally import Handler

HANDLERS: dict[str, Handler] = {
    **access.HANDLERS,
    **alter_statements.HANDLERS,
    **do_blocks.HANDLERS,
    **drops.HANDLERS,
    **functions.HANDLERS,
    **index_commands.HANDLERS,
    **indexes.HANDLERS,
    **maintenance.HANDLERS,
    **renames.HANDLERS,
    **rows.HANDLERS,
    **schemas.HANDLERS,
    **sequences.HANDLERS,
    **settings.HANDLERS,
    **tables.HANDLERS,
    **transactions.HANDLERS,
    **triggers.HANDLERS,
    **types.HANDLERS,
    **views.HANDLERS,
    **wrapped.HANDLERS,
}
"""By the name of the statement's node in the grammar."""
