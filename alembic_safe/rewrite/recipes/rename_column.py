"""Rename a column: a second column, kept equal by a trigger, until the first can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import (
    AddColumnIfNotExistsOp,
    BackfillOp,
    CreateSyncTriggerOp,
    DropNotNullOp,
    DropSyncedColumnOp,
    SetNotNullOp,
    SetServerDefaultOp,
    VerifySyncOp,
)
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import ColumnInfo, TableInfo
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.carried import Carried, carried_over
from alembic_safe.rewrite.recipes.columns import (
    column_details,
    column_type,
    comment_sql,
    execute,
    refuse_hanging,
    stays_nullable,
)
from alembic_safe.rewrite.recipes.not_null import not_null_steps
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.values import fill_value, server_default_sql
from alembic_safe.rewrite.renames import RenameColumnOp


def rename_column(
    rename: RenameColumnOp, diff: list[MigrateOperation], surroundings: Surroundings
) -> Plan:
    """E: add the new column and the sync trigger. M: backfill; build again what hangs on the old
    column. C: verify, drop the trigger and the old column.

    Args:
        rename: the rename.
        diff: the other operations; those that only follow from the rename are taken out.
        surroundings: the snapshot.
    """
    table = rename.table
    info = surroundings.table(table)
    old = info.column(rename.old.name)
    if old is None:
        raise CannotRewrite(f"{table} has no column {rename.old.name}. No file was written.")
    _refuse(rename, info, old)
    _refuse_shared(rename, info, diff)
    carried = carried_over(rename, info, diff, surroundings)
    value = fill_value(rename.new, surroundings.compile_sql)
    tightens = not old.not_null and not rename.new.nullable
    return (
        _expand(rename, old),
        _migrate(rename, old, carried),
        _contract(rename, old, carried, surroundings),
        *(not_null_steps(table, rename.new.name, value)[-1:] if tightens else ()),
    )


def _refuse(rename: RenameColumnOp, info: TableInfo, old: ColumnInfo) -> None:
    change = f"rename {rename.table}.{old.name} to {rename.new.name}"
    refuse_hanging(info, old, change)
    if old.identity or old.generated:
        raise CannotRewrite(
            f"Cannot {change} safely: the column computes its values. No file was written."
        )


def _refuse_shared(
    rename: RenameColumnOp, info: TableInfo, diff: Sequence[MigrateOperation]
) -> None:
    """Raise for an index or constraint over two columns that are both renamed: it would have to be
    built when both are filled, and once."""
    others = {
        operation.old.name
        for operation in diff
        if isinstance(operation, RenameColumnOp)
        and operation.table == rename.table
        and operation is not rename
    }
    name = rename.old.name
    for kind, hanging in (
        ("index", info.indexes_on(name)),
        ("constraint", info.constraints_on(name)),
    ):
        for each in hanging:
            if shared := sorted(others & each.columns):
                raise CannotRewrite(
                    f"{kind.capitalize()} {each.name} of {rename.table} uses {name} and "
                    f"{shared[0]}, which are both renamed. Rename one, and the other in a second "
                    "sequence after that. No file was written."
                )


def _expand(rename: RenameColumnOp, old: ColumnInfo) -> Step:
    table, new = rename.table, rename.new.name
    add = _add_new(rename, old)
    trigger = CreateSyncTriggerOp(table.name, old.name, new, table.schema)
    upgrade: tuple[MigrateOperation, ...] = (add, *_details(table, old, new), trigger)
    downgrade: tuple[MigrateOperation, ...] = (trigger.reverse(), add.reverse())
    if old.default is not None:
        # A contract revision that was taken back brought the old column without its default.
        default = SetServerDefaultOp(table.name, old.name, old.default, schema=table.schema)
        downgrade = (trigger.reverse(), default, add.reverse())
    if old.not_null and rename.new.nullable:
        upgrade = (DropNotNullOp(table.name, old.name, table.schema), *upgrade)
        downgrade = (*downgrade, stays_nullable(table, old.name))
    return Step(
        phase=Phase.EXPAND,
        table=table,
        upgrade=upgrade,
        downgrade=downgrade,
        says=f"Adds {table}.{new} beside {old.name}; a trigger keeps both equal, whichever of "
        "them a release writes.",
        locks=frozenset({table}),
        touches=(f"column {table}.{old.name}", f"column {table}.{new}"),
    )


def _add_new(rename: RenameColumnOp, old: ColumnInfo) -> MigrateOperation:
    table, new = rename.table, rename.new
    if old.collation is not None:
        # The models need not tell it, and autogenerate does not compare it.
        return AddColumnIfNotExistsOp(
            table.name,
            new.name,
            column_type(old),
            schema=table.schema,
            details=comment_sql(table, replace(old, name=new.name, comment=new.comment)),
        )
    return ops.AddColumnOp(
        table.name,
        sa.Column(new.name, new.type, nullable=True, comment=new.comment),
        schema=table.schema,
    )


def _details(table: QualifiedName, old: ColumnInfo, new: str) -> tuple[MigrateOperation, ...]:
    return tuple(execute(sql) for sql in column_details(table, old, new))


def _migrate(rename: RenameColumnOp, old: ColumnInfo, carried: Carried) -> Step:
    table, new = rename.table, rename.new.name
    not_null: tuple[MigrateOperation, ...] = ()
    if _stays_not_null(rename, old):
        not_null = (SetNotNullOp(table.name, new, table.schema),)
    return Step(
        phase=Phase.MIGRATE,
        table=table,
        upgrade=(_copy(table, old.name, new), *carried.build, *not_null),
        downgrade=(
            *(operation.reverse() for operation in not_null),
            *carried.unbuild,
        ),
        says=f"Copies {table}.{old.name} to {new}, in batches"
        + (", and builds again what hangs on it." if carried.build or not_null else "."),
    )


def _contract(
    rename: RenameColumnOp, old: ColumnInfo, carried: Carried, surroundings: Surroundings
) -> Step:
    table, new = rename.table, rename.new.name
    verify = VerifySyncOp(
        table.name,
        old.name,
        new,
        indexes=carried.indexes,
        constraints=carried.constraints,
        not_null=_stays_not_null(rename, old),
        schema=table.schema,
    )
    # Autogenerate does not compare defaults unless it is told to, so the models may lack it.
    default = server_default_sql(rename.new, surroundings.compile_sql) or old.default
    drop = DropSyncedColumnOp(
        table.name,
        old.name,
        new,
        server_default=default,
        schema=table.schema,
        type_sql=column_type(old),
    )
    add = AddColumnIfNotExistsOp(
        table.name,
        old.name,
        column_type(old),
        schema=table.schema,
        details=(*comment_sql(table, old), *column_details(table, old, old.name)),
    )
    trigger = CreateSyncTriggerOp(table.name, new, old.name, table.schema)
    not_null: tuple[MigrateOperation, ...] = ()
    if _stays_not_null(rename, old):
        not_null = (SetNotNullOp(table.name, old.name, table.schema),)
    return Step(
        phase=Phase.CONTRACT,
        table=table,
        upgrade=(verify, *carried.drop_old_indexes, drop, *carried.take_names),
        downgrade=(
            add,
            trigger,
            _copy(table, new, old.name),
            *carried.give_names_back,
            *carried.build_old,
            *not_null,
        ),
        says=f"Drops {table}.{old.name} and the trigger, once it is verified that {new} has all "
        f"of its data. The way back brings {old.name} back, filled from {new}.",
        requires=f"no release reads or writes {table}.{old.name}.",
        touches=(f"column {table}.{old.name}", f"column {table}.{new}", *carried.touches),
    )


def _copy(table: QualifiedName, source: str, target: str) -> BackfillOp:
    # A trigger keeps every row equal that is written; what is left are rows never filled.
    return BackfillOp(
        table.name,
        {target: readable(source)},
        where=f"{readable(target)} IS NULL AND {readable(source)} IS NOT NULL",
        schema=table.schema,
    )


def _stays_not_null(rename: RenameColumnOp, old: ColumnInfo) -> bool:
    return old.not_null and not rename.new.nullable
