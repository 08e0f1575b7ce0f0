"""What each kind of statement does: one file a family of statements."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers import transactions
from alembic_safe.postgres.effects.tally import Handler

HANDLERS: dict[str, Handler] = {**transactions.HANDLERS}
"""By the name of the statement's node in the grammar."""

_TAGS = {
    "index_stmt": "CREATE INDEX",
    "create_stmt": "CREATE TABLE",
    "transaction_stmt": "TRANSACTION",
    "variable_set_stmt": "SET",
}


def command_tag(node_name: str, node: Any) -> str:
    """Return the command that a statement is, for messages; a handler may say it better."""
    return _TAGS.get(node_name) or node_name.removesuffix("_stmt").replace("_", " ").upper()
