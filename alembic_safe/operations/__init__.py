"""The custom Alembic operations, one family a file.

An operation is data: what a revision file calls, the statements that it means, its reverse. How
the statements reach the server is the business of `runtime` and `backfill`.
"""

from alembic_safe.operations.backfill import BackfillOp
from alembic_safe.operations.base import SafeOperation
from alembic_safe.operations.columns import (
    AddColumnIfNotExistsOp,
    DropColumnIfExistsOp,
    SetServerDefaultOp,
)
from alembic_safe.operations.constraints import (
    AddUniqueConstraintUsingIndexOp,
    CreateCheckConstraintNotValidOp,
    CreateForeignKeyNotValidOp,
    DropConstraintIfExistsOp,
    RenameConstraintOp,
    ValidateConstraintOp,
)
from alembic_safe.operations.indexes import (
    CreateIndexConcurrentlyOp,
    DropIndexConcurrentlyOp,
    RenameIndexOp,
)
from alembic_safe.operations.not_null import DropNotNullOp, SetNotNullOp
from alembic_safe.operations.partitioned_indexes import (
    CreatePartitionedIndexOp,
    DropPartitionedIndexOp,
)
from alembic_safe.operations.sync import (
    CreateSyncTriggerOp,
    DropSyncedColumnOp,
    DropSyncTriggerOp,
    VerifySyncOp,
)

__all__ = [
    "AddColumnIfNotExistsOp",
    "AddUniqueConstraintUsingIndexOp",
    "BackfillOp",
    "CreateCheckConstraintNotValidOp",
    "CreateForeignKeyNotValidOp",
    "CreateIndexConcurrentlyOp",
    "CreatePartitionedIndexOp",
    "CreateSyncTriggerOp",
    "DropColumnIfExistsOp",
    "DropConstraintIfExistsOp",
    "DropIndexConcurrentlyOp",
    "DropNotNullOp",
    "DropPartitionedIndexOp",
    "DropSyncTriggerOp",
    "DropSyncedColumnOp",
    "RenameConstraintOp",
    "RenameIndexOp",
    "SafeOperation",
    "SetNotNullOp",
    "SetServerDefaultOp",
    "ValidateConstraintOp",
    "VerifySyncOp",
]
