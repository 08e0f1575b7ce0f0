"""What the operations of this package execute where `--sql` writes a program in its place.

A backfill and a verification become a `DO` block in a script, because a script has no Python, and
an index of a partitioned table queries for psql. An upgrade sends their statements one by one, and
these are judged. Which operation wrote a text is known from the call, so that no text can pass for
one.
"""

from __future__ import annotations

from alembic_safe.lint.recording import Written
from alembic_safe.operations import (
    BackfillOp,
    CreatePartitionedIndexOp,
    SafeOperation,
    VerifySyncOp,
)
from alembic_safe.runtime.partitioned_script import FOR_PSQL
from alembic_safe.runtime.verification import checks_of

_PROGRAMS = ("DO ", FOR_PSQL)


def executed(written: Written) -> tuple[str, ...]:
    """Return the statements that an upgrade sends for what was written."""
    if written.operation is not None and written.text.startswith(_PROGRAMS):
        return _statements(written.operation) or (written.text,)
    return (written.text,)


def _statements(operation: SafeOperation) -> tuple[str, ...]:
    if isinstance(operation, BackfillOp):
        table = operation.table.sql
        return (
            # A batch: so many rows, and no more.
            f"UPDATE {table} SET {operation.assignments} WHERE ctid = ANY (ARRAY("
            f"SELECT ctid FROM {table} WHERE {operation.where} LIMIT 1))",
        )
    if isinstance(operation, CreatePartitionedIndexOp):
        # What follows for each partition blocks nobody for longer than an instant either.
        return operation.statements(None)[0].sql
    if isinstance(operation, VerifySyncOp):
        return tuple(f"SELECT {check.holds}" for check in checks_of(operation))
    return ()
