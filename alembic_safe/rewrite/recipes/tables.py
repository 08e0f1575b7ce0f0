"""Create a table."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import sqlalchemy as sa
from alembic.operations import ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.foreign_keys import add_foreign_key
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.uniqueness import unique_name


def create_table(operation: ops.CreateTableOp, surroundings: Surroundings) -> Plan:
    """E: nobody uses it yet. Its foreign keys lock the tables that they reference, for an
    instant (SHARE ROW EXCLUSIVE, measured). C: those to columns that the same diff makes unique."""
    table = QualifiedName(operation.table_name, operation.schema)
    keys = [part for part in operation.columns if isinstance(part, sa.ForeignKeyConstraint)]
    late = [key for key in keys if _needed(key) in surroundings.made_unique]
    early = [key for key in keys if _needed(key) not in surroundings.made_unique]
    if late and "postgresql_partition_by" in operation.kw:
        raise CannotRewrite(
            f"Table {table} is new and partitioned, and refers to {_target(late[0])}, where columns"
            " become unique in the same change. Make them unique first, in a change of its own, "
            "then create the table. No file was written."
        )
    created = _without(operation, late) if late else operation
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(created,),
            downgrade=(created.reverse(),),
            says=f"Creates table {table}.",
            locks=frozenset(map(_target, early)) - surroundings.new_tables,
            lock=LockMode.SHARE_ROW_EXCLUSIVE,
            needs=tuple(map(_needed, early)),
        ),
        *_added_later(late, surroundings),
    )


def _without(
    operation: ops.CreateTableOp, keys: list[sa.ForeignKeyConstraint]
) -> ops.CreateTableOp:
    """Return the same operation without some foreign keys. A column of the models does not bring
    its own: they are among the constraints."""
    created = copy.copy(operation)
    # Columns compare to SQL.
    created.columns = [part for part in operation.columns if not any(part is key for key in keys)]
    return created


def _added_later(keys: list[sa.ForeignKeyConstraint], surroundings: Surroundings) -> Iterator[Step]:
    for key in keys:
        operation = ops.AddConstraintOp.from_constraint(key)
        if isinstance(operation, ops.CreateForeignKeyOp):
            yield from add_foreign_key(operation, surroundings)


def _needed(key: sa.ForeignKeyConstraint) -> str:
    columns = [element.target_fullname.rpartition(".")[2] for element in key.elements]
    return unique_name(_target(key), columns)


def _target(key: sa.ForeignKeyConstraint) -> QualifiedName:
    # The text is [schema.]table.column; resolving it would need the models' metadata.
    *schema, table, _column = key.elements[0].target_fullname.split(".")
    return QualifiedName(table, ".".join(schema) or None)
