"""Effects: what a statement does to running traffic, by server version and catalog.

    world = World(version=16)
    for effects in effects_of("ALTER TABLE orders ADD COLUMN note text", world):
        print(effects.command, effects.locks, effects.is_hazard)

Its truth is measured: `tests/oracle/` runs every statement it knows on real servers and compares.
"""

from __future__ import annotations

from alembic_safe.postgres.effects.analysis import begin, effects_of, end
from alembic_safe.postgres.effects.model import (
    Change,
    Effects,
    IndexWork,
    NameChange,
    ServerError,
    TransactionNeed,
)
from alembic_safe.postgres.effects.world import World

__all__ = [
    "Change",
    "Effects",
    "IndexWork",
    "NameChange",
    "ServerError",
    "TransactionNeed",
    "World",
    "begin",
    "effects_of",
    "end",
]
