"""Add, drop and change a foreign key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from alembic.operations import ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import (
    CreateForeignKeyNotValidOp,
    DropConstraintIfExistsOp,
    RenameConstraintOp,
    ValidateConstraintOp,
)
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import ConstraintInfo
from alembic_safe.postgres.expressions import foreign_key_options
from alembic_safe.postgres.identifiers import QualifiedName, derived_name
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.details import constraint_details
from alembic_safe.rewrite.recipes.indexes import plain_on_new_table
from alembic_safe.rewrite.recipes.names import default_name
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.uniqueness import unique_name
from alembic_safe.rewrite.recipes.values import are_left_null

_PARTITIONED_NOT_VALID_VERSION = 18


def add_foreign_key(operation: ops.CreateForeignKeyOp, surroundings: Surroundings) -> Plan:
    """C: NOT VALID, then VALIDATE: the old release may still write rows that violate it. Where
    the old release leaves the columns NULL, E and M, but for those that this diff makes unique:
    what they refer to has to be unique before."""
    table = QualifiedName(operation.source_table, operation.kw.get("source_schema"))
    referenced = QualifiedName(operation.referent_table, operation.kw.get("referent_schema"))
    # What makes them unique may be the work of a contract revision.
    needs = (unique_name(referenced, operation.remote_cols),)
    refers_to_new = not surroundings.made_unique.isdisjoint(needs)
    existing = frozenset({table, referenced}) - surroundings.new_tables
    if table in surroundings.new_tables and not refers_to_new:
        step = plain_on_new_table(operation, table)
        return (replace(step, locks=existing, lock=LockMode.SHARE_ROW_EXCLUSIVE, needs=needs),)
    key = not_valid_key(operation, table)
    if table not in surroundings.new_tables:
        _refuse_partitioned(table, surroundings, key.constraint_name, "added")
    validate = ValidateConstraintOp(key.constraint_name, table.name, table.schema)
    says = f"foreign key {key.constraint_name} from {table} to {referenced}"
    touches = (f"constraint {key.constraint_name}", *_columns(table, key.local_cols))
    if are_left_null(table, key.local_cols, surroundings) and not refers_to_new:
        return (
            Step(
                phase=Phase.EXPAND,
                table=table,
                upgrade=(key,),
                downgrade=(key.reverse(),),
                says=f"Adds {says}, for new rows only as yet.",
                locks=existing,
                lock=LockMode.SHARE_ROW_EXCLUSIVE,
                touches=touches,
                needs=needs,
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
            needs=needs,
        ),
    )


def drop_foreign_key(
    operation: ops.DropConstraintOp, constraint: ConstraintInfo, surroundings: Surroundings
) -> Plan:
    """E: it loosens. The way back adds it NOT VALID and validates it: the revision is no
    transaction, so that each commits by itself, and the scan does not run under the lock of the
    other.

    The server locks the referencing table, then the referenced one, and waits for the second while
    it has the first (measured on PostgreSQL 16 and 18). It is the order of a client that inserts.
    A wait that is not over in time ends, and begins anew.
    """
    table = QualifiedName(operation.table_name, operation.schema)
    name = constraint.name
    refuse_inherited(table, constraint)
    _refuse_partitioned(table, surroundings, name, "brought back")
    referenced = _referenced(operation, constraint)
    key = key_by_definition(
        table, constraint, referenced, constraint.key_columns, constraint.definition
    )
    validate = (ValidateConstraintOp(name, table.name, table.schema),)
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(DropConstraintIfExistsOp(name, table.name, table.schema),),
            downgrade=(
                key,
                *(validate if constraint.is_validated else ()),
                *constraint_details(table, constraint, name),
            ),
            commits_alone=True,
            says=f"Drops foreign key {name} from {table} to {referenced}. On the way back rows "
            f"without their row of {referenced} stop it.",
            requires=_relied_on(constraint),
            locks=frozenset({table, referenced}),
            touches=(f"constraint {name}", *_columns(table, constraint.key_columns)),
        ),
    )


def change_foreign_key(
    drop: ops.DropConstraintOp,
    create: ops.CreateForeignKeyOp,
    constraint: ConstraintInfo,
    surroundings: Surroundings,
) -> Plan:
    """For a key of the same columns with other options: add the new one beside the old one, under
    a passing name if it keeps its name, and drop the old one when the new one is validated, so that
    the rows are never without a key. C if the old release may rely on what the old one does when a
    row goes or changes, or on when it is checked, and if the new one writes rows or refuses some
    where the old one did not; else M, for the new release may rely on the new one."""
    (going,) = drop_foreign_key(drop, constraint, surroundings)
    table, old_name = going.table, constraint.name
    new = not_valid_key(create, table)
    name = new.constraint_name
    drop_new = DropConstraintIfExistsOp(name, table.name, table.schema)
    rename: tuple[RenameConstraintOp, ...] = ()
    if name == old_name:
        new.constraint_name = drop_new.constraint_name = derived_name("alembic_safe_new", name)
        rename = (RenameConstraintOp(new.constraint_name, name, table.name, table.schema),)
    validate = (ValidateConstraintOp(new.constraint_name, table.name, table.schema),)
    is_enforced = not constraint.definition.endswith("NOT ENFORCED")
    waits = _refuses_or_writes(foreign_key_options(constraint.definition), new.options)
    return (
        replace(
            going,
            phase=Phase.CONTRACT if waits else Phase.MIGRATE,
            upgrade=(
                new,
                *(validate if constraint.is_validated or not is_enforced else ()),
                *going.upgrade,
                *rename,
            ),
            downgrade=(*(each.reverse() for each in rename), *going.downgrade, drop_new),
            commits_alone=False,
            says=f"Puts foreign key {name} from {table} to {new.referent_table} in the place of "
            f"{'the old one' if rename else old_name}.",
            requires=(
                f"no release relies on what {old_name} does: {constraint.definition}."
                if waits
                else ""
            ),
            touches=(*going.touches, f"constraint {name}"),
        ),
    )


def _relied_on(constraint: ConstraintInfo) -> str:
    """Return what must be true before a key goes that writes rows; empty for one that does not."""
    if not re.search("CASCADE|SET", foreign_key_options(constraint.definition)):
        return ""
    return f"no release relies on what {constraint.name} does: {constraint.definition}."


def _refuses_or_writes(old: str, new: str) -> bool:
    """Return whether a release that was written for a foreign key may notice the one that takes its
    place.

    Args:
        old: the options of the key that it was written for.
        new: those of the other one.
    """
    relies = re.search("CASCADE|SET|DEFERRABLE", old)
    is_written_to = re.search("CASCADE|SET", new)
    is_refused = ("MATCH FULL" in new and "MATCH FULL" not in old) or "NOT ENFORCED" in old
    return bool(relies or is_written_to or is_refused)


def is_same_key(
    drop: ops.DropConstraintOp,
    create: ops.CreateForeignKeyOp,
    constraint: ConstraintInfo,
    surroundings: Surroundings,
) -> bool:
    """Return whether a foreign key of the models has the columns of one that is dropped."""
    table = QualifiedName(create.source_table, create.kw.get("source_schema"))
    referenced = QualifiedName(create.referent_table, create.kw.get("referent_schema"))
    return (
        table == QualifiedName(drop.table_name, drop.schema)
        and (
            referenced == _referenced(drop, constraint)
            or surroundings.with_schema(referenced) == constraint.referenced_table
        )
        and tuple(create.local_cols) == constraint.key_columns
        and tuple(create.remote_cols) == constraint.referenced_columns
    )


def _referenced(operation: ops.DropConstraintOp, constraint: ConstraintInfo) -> QualifiedName:
    """Return the referenced table, with a schema only where Alembic saw one: the catalog always
    tells it, and another database may find the table elsewhere on its search path."""
    found = constraint.referenced_table or QualifiedName(operation.table_name, operation.schema)
    key = operation._reverse
    if isinstance(key, ops.CreateForeignKeyOp) and key.referent_table == found.name:
        return QualifiedName(found.name, key.kw.get("referent_schema"))
    return found


def key_by_definition(
    table: QualifiedName,
    constraint: ConstraintInfo,
    referenced: QualifiedName,
    columns: Sequence[str],
    definition: str,
) -> CreateForeignKeyNotValidOp:
    """Return the NOT VALID form of a foreign key of the database.

    Args:
        table: the referencing table.
        constraint: the foreign key.
        referenced: the referenced table.
        columns: the referencing columns.
        definition: `pg_get_constraintdef`, with the names of these columns.

    Raises:
        CannotRewrite: it is of a kind that the operation cannot say.
    """
    try:
        options = foreign_key_options(definition)
    except ValueError as error:
        raise CannotRewrite(
            f"Foreign key {constraint.name} of {table} is {definition}, which has no recipe. Drop "
            "it in a revision written by hand. No file was written."
        ) from error
    return CreateForeignKeyNotValidOp(
        constraint.name,
        table.name,
        referenced.name,
        list(columns),
        list(constraint.referenced_columns),
        options=options,
        source_schema=table.schema,
        referent_schema=referenced.schema,
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
    if deferrable := deferrable_option(operation.kw):
        options.append(deferrable)
    return " ".join(options)


def deferrable_option(arguments: Mapping[str, Any]) -> str:
    """Return the SQL of when a constraint of the models is checked; empty where they do not tell.

    Args:
        arguments: the keyword arguments of SQLAlchemy's constraint.
    """
    options = []
    deferrable = arguments.get("deferrable")
    if deferrable is not None:
        options.append("DEFERRABLE" if deferrable else "NOT DEFERRABLE")
    if initially := arguments.get("initially"):
        options.append(f"INITIALLY {initially}")
    return " ".join(options)


def _columns(table: QualifiedName, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"column {table}.{column}" for column in columns)


def refuse_inherited(table: QualifiedName, constraint: ConstraintInfo) -> None:
    """Raise for a constraint that cannot be dropped here."""
    if constraint.inherited:
        raise CannotRewrite(
            f"Constraint {constraint.name} of {table} comes from the table that this one is a "
            "partition or a child of. Drop it there. No file was written."
        )


def _refuse_partitioned(
    table: QualifiedName,
    surroundings: Surroundings,
    name: str,
    verb: Literal["added", "brought back"],
) -> None:
    is_partitioned = surroundings.table(table).kind == "p"
    if is_partitioned and surroundings.catalog.major < _PARTITIONED_NOT_VALID_VERSION:
        advice = {
            "added": "Add it NOT VALID on each partition, validate those, then add it on the "
            "parent, and leave it out of this revision.",
            "brought back": "Drop it in a revision written by hand.",
        }
        raise CannotRewrite(
            f"Foreign key {name} on {table}: the table is partitioned, and before PostgreSQL 18 "
            f"such a key cannot be {verb} NOT VALID. {advice[verb]} No file was written."
        )
