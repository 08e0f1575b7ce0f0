"""Add, drop and change a unique constraint."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import (
    AddUniqueConstraintUsingIndexOp,
    CreateIndexConcurrentlyOp,
    DropConstraintIfExistsOp,
    RenameConstraintOp,
    RenameIndexOp,
)
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import ConstraintInfo, IndexInfo
from alembic_safe.postgres.expressions import index_body
from alembic_safe.postgres.identifiers import QualifiedName, derived_name, quote
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.details import constraint_details, index_details
from alembic_safe.rewrite.recipes.foreign_keys import deferrable_option, refuse_inherited
from alembic_safe.rewrite.recipes.indexes import (
    concurrently,
    create_index,
    drop_index,
    plain_on_new_table,
    refuse_partitioned,
    refuse_referenced,
    refuse_replica_identity,
)
from alembic_safe.rewrite.recipes.names import default_name
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.uniqueness import Uniqueness, ignores_null, unique_name
from alembic_safe.rewrite.recipes.values import are_left_null


def add_unique_constraint(
    operation: ops.CreateUniqueConstraintOp, surroundings: Surroundings
) -> Plan:
    """C: build the unique index beside the traffic, and make the constraint of it, which is
    instant. The index alone refuses what the old release may write, so that it cannot go ahead
    into M. Where the old release leaves the columns NULL, all of it is M."""
    table = QualifiedName(operation.table_name, operation.schema)
    if table in surroundings.new_tables:
        return (plain_on_new_table(operation, table),)
    columns = unique_columns(operation)
    name = _name(operation, table)
    refuse_partitioned(table, surroundings, f"Constraint {name}")
    index = concurrently(_index(operation, name, columns), surroundings)
    key = AddUniqueConstraintUsingIndexOp(
        name, table.name, name, deferrable_option(operation.kw), table.schema
    )
    tightens = not (are_left_null(table, columns, surroundings) and ignores_null(operation))
    return (
        Step(
            phase=Phase.CONTRACT if tightens else Phase.MIGRATE,
            table=table,
            upgrade=(index, key),
            downgrade=(key.reverse(),),
            says=f"Makes {', '.join(columns)} of {table} unique, by constraint {name}, while the "
            "table is in use.",
            requires=f"{table} has no duplicates in the columns of {name}.",
            touches=(
                f"constraint {name}",
                f"index {name}",
                *(f"column {table}.{column}" for column in columns),
                unique_name(table, columns),
            ),
        ),
    )


def drop_unique_constraint(
    table: QualifiedName, constraint: ConstraintInfo, surroundings: Surroundings
) -> Plan:
    """E: it loosens. C, with its columns, where they go and the new release leaves them NULL. The
    way back builds the index beside the traffic, and makes the constraint of it: the revision is no
    transaction, so that each commits by itself."""
    name = constraint.name
    info = surroundings.table(table)
    refuse_inherited(table, constraint)
    index = next((index for index in info.indexes if index.constraint == name), None)
    if index is None or index.is_exclusion:
        raise CannotRewrite(
            f"Constraint {name} of {table} is {constraint.definition}, for which PostgreSQL has no "
            "way back that does not block the table. Drop it in a revision written by hand. No "
            "file was written."
        )
    refuse_partitioned(table, surroundings, f"Constraint {name}")
    refuse_replica_identity(table, surroundings, {index.name})
    refuse_referenced(table, surroundings, index.name)
    stays = _never_fails_the_new_release(table, constraint, surroundings)
    return (
        Step(
            phase=Phase.CONTRACT if stays else Phase.EXPAND,
            table=table,
            upgrade=(DropConstraintIfExistsOp(name, table.name, table.schema),),
            downgrade=built_by_definition(
                table, constraint, index, name, index_body(index.definition)
            ),
            commits_alone=not stays,
            says=f"Drops unique constraint {name} of {table}. On the way back duplicates stop it.",
            requires=f"no release names {name} or its columns in ON CONFLICT.",
            locks=frozenset({table}),
            touches=(
                f"constraint {name}",
                f"index {name}",
                *(f"column {table}.{column}" for column in constraint.key_columns),
            ),
        ),
    )


def _never_fails_the_new_release(
    table: QualifiedName, constraint: ConstraintInfo, surroundings: Surroundings
) -> bool:
    columns = [surroundings.table(table).column(name) for name in constraint.key_columns]
    return not Uniqueness.of_constraint(constraint).nulls_not_distinct and all(
        column is not None
        and (table, column.name) in surroundings.removed_columns
        and column.default is None
        and not column.identity
        for column in columns
    )


def change_unique_constraint(
    create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp,
    constraint: ConstraintInfo,
    surroundings: Surroundings,
) -> Plan:
    """For a unique constraint that another one, or a unique index, takes the place of: M if that
    refuses no more than the old one, for the new release may rely on it; else C. One that only gets
    another name is renamed, in C."""
    table = QualifiedName(create.table_name, create.schema)
    old, new = Uniqueness.of_constraint(constraint), Uniqueness.of_operation(create)
    if new is None:
        raise TypeError(f"{create} makes no columns unique")
    name = _name(create, table)
    is_constraint = isinstance(create, ops.CreateUniqueConstraintOp)
    if old == new and is_constraint and name != constraint.name:
        return (_renamed(table, constraint, name),)
    (going,) = drop_unique_constraint(table, constraint, surroundings)
    tightens = not old.refuses_all_of(new)
    columns = f"{', '.join(new.columns)} of {table}"
    return (
        replace(
            _in_place_of(constraint.name, going, create, surroundings),
            phase=Phase.CONTRACT if tightens else Phase.MIGRATE,
            says=f"Makes {columns} unique, by {name}, and drops "
            f"{'the old ' if name == constraint.name else ''}{constraint.name} after that, while "
            "the table is in use. On the way back duplicates stop it.",
            requires=f"{columns} have no duplicates, and {going.requires}"
            if tightens
            else going.requires,
        ),
    )


def index_becomes_constraint(
    drop: ops.DropIndexOp, create: ops.CreateUniqueConstraintOp, surroundings: Surroundings
) -> Plan:
    """C, for a unique constraint that takes the place of a unique index on its columns."""
    name = str(drop.index_name)
    (going,) = drop_index(drop, surroundings)
    return (
        replace(
            _in_place_of(name, going, create, surroundings),
            phase=Phase.CONTRACT,
            says=f"Puts a unique constraint of {going.table} in the place of index {name}, while "
            "the table is in use.",
        ),
    )


def _in_place_of(
    old_name: str,
    going: Step,
    create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp,
    surroundings: Surroundings,
) -> Step:
    """Return the step that builds one beside another, under a passing name if it keeps the name,
    and drops that when the new one is there, so that the table is never without.

    Args:
        old_name: the name of what goes.
        going: the step that drops it.
        create: what comes.
        surroundings: the snapshot.
    """
    table = going.table
    name = built_as = _name(create, table)
    rename: tuple[RenameConstraintOp | RenameIndexOp, ...] = ()
    if name == old_name:
        built_as = derived_name("alembic_safe_new", name)
        is_index = isinstance(create, ops.CreateIndexOp)
        kind = RenameIndexOp if is_index else RenameConstraintOp
        rename = (kind(built_as, name, table.name, table.schema),)
    (coming,) = _added_as(built_as, create, surroundings)
    return replace(
        coming,
        upgrade=(*coming.upgrade, *going.upgrade, *rename),
        downgrade=(*(each.reverse() for each in rename), *going.downgrade, *coming.downgrade),
        touches=tuple(dict.fromkeys((*coming.touches, *going.touches, f"index {name}"))),
    )


def _added_as(
    name: str,
    create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp,
    surroundings: Surroundings,
) -> Plan:
    named = copy.copy(create)
    if isinstance(named, ops.CreateIndexOp):
        named.index_name = name
        return create_index(named, surroundings)
    named.constraint_name = name
    return add_unique_constraint(named, surroundings)


def _renamed(table: QualifiedName, constraint: ConstraintInfo, name: str) -> Step:
    """C: the old release may name it in ON CONFLICT ON CONSTRAINT. Foreign keys stay."""
    refuse_inherited(table, constraint)
    rename = RenameConstraintOp(constraint.name, name, table.name, table.schema)
    return Step(
        phase=Phase.CONTRACT,
        table=table,
        upgrade=(rename,),
        downgrade=(rename.reverse(),),
        says=f"Renames unique constraint {constraint.name} of {table} to {name}.",
        requires=f"no release names {constraint.name} in ON CONFLICT ON CONSTRAINT.",
        touches=tuple(
            f"{kind} {each}" for each in (constraint.name, name) for kind in ("constraint", "index")
        ),
    )


def _name(create: ops.CreateUniqueConstraintOp | ops.CreateIndexOp, table: QualifiedName) -> str:
    if isinstance(create, ops.CreateIndexOp):
        return str(create.index_name)
    return str(create.constraint_name or default_name(table, unique_columns(create), "key"))


def built_by_definition(
    table: QualifiedName, constraint: ConstraintInfo, index: IndexInfo, name: str, body: str
) -> tuple[MigrateOperation, ...]:
    """Return the operations that build a constraint of the database: the index, the constraint at
    once after it, for one that is deferrable is checked later than its bare index, and the details.

    Args:
        table: the table.
        constraint: the constraint.
        index: the index that belongs to it.
        name: the name that both get.
        body: what stands behind the table's name in `CREATE INDEX`.
    """
    if index.tablespace is not None:
        body = f"{body} TABLESPACE {quote(index.tablespace)}"
    return (
        CreateIndexConcurrentlyOp(
            name, table.name, unique=True, definition=body, schema=table.schema
        ),
        AddUniqueConstraintUsingIndexOp(
            name, table.name, name, _deferrable(constraint), table.schema
        ),
        *index_details(table, index, name),
        *constraint_details(table, constraint, name),
    )


def unique_columns(operation: ops.CreateUniqueConstraintOp) -> list[str]:
    """Return the names of the columns that have to be unique."""
    return [str(getattr(column, "name", column)) for column in operation.columns]


def _index(
    operation: ops.CreateUniqueConstraintOp, name: str, columns: Sequence[str]
) -> ops.CreateIndexOp:
    """Return the index that the constraint of the models has."""
    options = {
        option: value for option, value in operation.kw.items() if option.startswith("postgresql_")
    }
    return ops.CreateIndexOp(
        name, operation.table_name, columns, schema=operation.schema, unique=True, **options
    )


def _deferrable(constraint: ConstraintInfo) -> str:
    if not constraint.deferrable:
        return ""
    return "DEFERRABLE INITIALLY DEFERRED" if constraint.initially_deferred else "DEFERRABLE"
