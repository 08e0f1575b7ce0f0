"""Events: what a record of the logger `alembic.safe` tells a program, beside its text for people.

A record that has such facts has them in its attribute `alembic_safe`, a dictionary of what JSON can
hold. Its key `event` is one of the names below; they stay as they are.
"""

from __future__ import annotations

from typing import Any

WAITING_OUTSIDE = "waiting_outside"
TRYING = "trying"
LOCK_NOT_ACQUIRED = "lock_not_acquired"
LOCK_ACQUIRED = "lock_acquired"
GIVEN_UP = "given_up"
PROGRESS = "progress"
BLOCKER_ENDED = "blocker_ended"
BLOCKER_NOT_ENDED = "blocker_not_ended"
UPGRADE_RUNNING = "upgrade_running"
CONTRACT_HELD = "contract_held"
REPLICAS_ATTACHED = "replicas_attached"


def facts(event: str, **values: Any) -> dict[str, Any]:
    """Return the argument `extra` of a call of the logger.

    Args:
        event: one of the names of this module.
        values: what is known.
    """
    return {"alembic_safe": {"event": event, **values}}
