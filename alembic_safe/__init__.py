"""Alembic migrations that a busy PostgreSQL does not notice.

Importing the package registers its operations with Alembic.
"""

import alembic_safe.backfill.engine
import alembic_safe.connecting
import alembic_safe.runtime.execution
import alembic_safe.runtime.partitioned_indexes
import alembic_safe.runtime.verification  # noqa: F401
from alembic_safe.assurance import assured
from alembic_safe.configuration import configure
from alembic_safe.environment import run_migrations
from alembic_safe.errors import SafetyError
from alembic_safe.hints import filled_with, renamed_from
from alembic_safe.phases import Phase

__all__ = [
    "Phase",
    "SafetyError",
    "assured",
    "configure",
    "filled_with",
    "renamed_from",
    "run_migrations",
]
