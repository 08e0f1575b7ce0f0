"""Create a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import ops

from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.surroundings import Surroundings


def create_table(operation: ops.CreateTableOp, surroundings: Surroundings) -> Plan:
    """E: nobody uses it yet. Its foreign keys lock the tables that they reference, for an
    instant (SHARE ROW EXCLUSIVE, measured)."""
    table = QualifiedName(operation.table_name, operation.schema)
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(operation,),
            downgrade=(operation.reverse(),),
            says=f"Creates table {table}.",
            locks=_referenced(operation) - surroundings.new_tables,
            lock=LockMode.SHARE_ROW_EXCLUSIVE,
        ),
    )


def _referenced(operation: ops.CreateTableOp) -> frozenset[QualifiedName]:
    keys = operation.to_table().foreign_keys
    return frozenset(_target_table(key) for key in keys)


def _target_table(key: sa.ForeignKey) -> QualifiedName:
    # The text is [schema.]table.column; resolving it would need the models' metadata.
    *schema, table, _column = key.target_fullname.split(".")
    return QualifiedName(table, ".".join(schema) or None)
