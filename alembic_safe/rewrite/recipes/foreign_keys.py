"""Add a foreign key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alembic.operations import ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import CreateForeignKeyNotValidOp, ValidateConstraintOp
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName, derived_name
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.indexes import plain_on_new_table
from alembic_safe.rewrite.recipes.surroundings import Surroundings

_PARTITIONED_NOT_VALID_VERSION = 18


def add_foreign_key(operation: ops.CreateForeignKeyOp, surroundings: Surroundings) -> Plan:
    """C: NOT VALID, then VALIDATE: the old release may still write rows that violate it. Where
    the old release does not know the column, E and M."""
    table = QualifiedName(operation.source_table, operation.kw.get("source_schema"))
    if table in surroundings.new_tables:
        referenced = QualifiedName(operation.referent_table, operation.kw.get("referent_schema"))
        step = plain_on_new_table(operation, table)
        existing = frozenset({referenced}) - surroundings.new_tables
        return (replace(step, locks=existing, lock=LockMode.SHARE_ROW_EXCLUSIVE),)
    key = not_valid_key(operation, table)
    _refuse_partitioned(table, surroundings, key.constraint_name)
    validate = ValidateConstraintOp(key.constraint_name, table.name, table.schema)
    referenced = QualifiedName(key.referent_table, key.referent_schema)
    says = f"foreign key {key.constraint_name} from {table} to {referenced}"
    touches = (
        f"constraint {key.constraint_name}",
        *_columns(table, key.local_cols),
        # What makes them unique may be the work of a contract revision.
        *_columns(referenced, key.remote_cols),
    )
    if all((table, column) in surroundings.new_columns for column in key.local_cols):
        locks = {table, referenced} - surroundings.new_tables
        return (
            Step(
                phase=Phase.EXPAND,
                table=table,
                upgrade=(key,),
                downgrade=(key.reverse(),),
                says=f"Adds {says}, for new rows only as yet.",
                locks=frozenset(locks),
                lock=LockMode.SHARE_ROW_EXCLUSIVE,
                touches=touches,
            ),
            Step(
                phase=Phase.MIGRATE,
                table=table,
                upgrade=(validate,),
                downgrade=(),
                says=f"Checks the rows that are there against {says}.",
            ),
        )
    return (
        Step(
            phase=Phase.CONTRACT,
            table=table,
            upgrade=(key, validate),
            downgrade=(key.reverse(),),
            says=f"Adds {says}, then checks the rows that are there while the table is in use.",
            requires=f"no release writes rows of {table} that {referenced} has no row for.",
            touches=touches,
        ),
    )


def not_valid_key(
    operation: ops.CreateForeignKeyOp, table: QualifiedName
) -> CreateForeignKeyNotValidOp:
    """Return the NOT VALID form of a foreign key of the models."""
    local = list(operation.local_cols)
    return CreateForeignKeyNotValidOp(
        str(operation.constraint_name or default_name(table, local, "fkey")),
        table.name,
        operation.referent_table,
        local,
        list(operation.remote_cols),
        options=_options(operation),
        source_schema=table.schema,
        referent_schema=operation.kw.get("referent_schema"),
    )


def _options(operation: ops.CreateForeignKeyOp) -> str:
    options = []
    if match := operation.kw.get("match"):
        options.append(f"MATCH {match}")
    if ondelete := operation.kw.get("ondelete"):
        options.append(f"ON DELETE {ondelete}")
    if onupdate := operation.kw.get("onupdate"):
        options.append(f"ON UPDATE {onupdate}")
    deferrable = operation.kw.get("deferrable")
    if deferrable is not None:
        options.append("DEFERRABLE" if deferrable else "NOT DEFERRABLE")
    if initially := operation.kw.get("initially"):
        options.append(f"INITIALLY {initially}")
    return " ".join(options)


def default_name(table: QualifiedName, columns: list[str], kind: str) -> str:
    """Return the name that PostgreSQL would give a constraint, where it is short enough.

    Args:
        table: the table.
        columns: the columns of the constraint.
        kind: `fkey` or `key`.
    """
    name = "_".join([table.name, *columns, kind])
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return name
    return derived_name(f"alembic_safe_{kind}", table.name, *columns)


def _columns(table: QualifiedName, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"column {table}.{column}" for column in columns)


def _refuse_partitioned(table: QualifiedName, surroundings: Surroundings, name: str) -> None:
    is_partitioned = surroundings.table(table).kind == "p"
    if is_partitioned and surroundings.catalog.major < _PARTITIONED_NOT_VALID_VERSION:
        raise CannotRewrite(
            f"Foreign key {name} on {table}: the table is partitioned, and before PostgreSQL 18 "
            "such a key cannot be added NOT VALID. Add it NOT VALID on each partition, validate "
            "those, then add it on the parent, and leave it out of this revision. No file was "
            "written."
        )
