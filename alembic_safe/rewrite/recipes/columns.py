"""Add and drop a column."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects.postgresql import DOMAIN

from alembic_safe.errors import CannotRewrite
from alembic_safe.operations import DropColumnIfExistsOp, SetServerDefaultOp
from alembic_safe.phases import Phase
from alembic_safe.postgres.catalog import ColumnInfo, IndexInfo, TableInfo
from alembic_safe.postgres.expressions import is_constant_or_stable
from alembic_safe.postgres.identifiers import QualifiedName, literal, readable
from alembic_safe.rewrite.comments import CommentOp
from alembic_safe.rewrite.plan import Plan, Step
from alembic_safe.rewrite.recipes.indexes import dropped_concurrently
from alembic_safe.rewrite.recipes.not_null import not_null_steps, refuse_without_value
from alembic_safe.rewrite.recipes.surroundings import Surroundings
from alembic_safe.rewrite.recipes.values import (
    Verbatim,
    escaped,
    fill_value,
    server_default_sql,
)


def add_column(operation: ops.AddColumnOp, surroundings: Surroundings) -> Plan | None:
    """E: in one statement where that is instant. None for a column that would rewrite the table,
    for which this release has no recipe."""
    table = QualifiedName(operation.table_name, operation.schema)
    column = operation.column
    # A domain may have a CHECK, and then PostgreSQL rewrites the table, without a default too.
    if _computes_its_values(column) or isinstance(column.type, DOMAIN):
        return None
    default = server_default_sql(column, surroundings.compile_sql)
    if default is not None and not is_constant_or_stable(default):
        return None
    if column.nullable or default is not None:
        return (_added(operation, table, f"Adds {table}.{column.name}."),)
    value = fill_value(column, surroundings.compile_sql)
    if value is None:
        refuse_without_value(table, column.name)
    if value is not None and is_constant_or_stable(value):
        return _with_passing_default(operation, table, value)
    return _filled_later(operation, table, value)


def _with_passing_default(operation: ops.AddColumnOp, table: QualifiedName, value: str) -> Plan:
    """E: add it with the value as server default. C: drop the default, which the model lacks."""
    column = operation.column
    add = ops.AddColumnOp(
        table.name,
        _column_like(column, nullable=False, server_default=Verbatim(value)),
        schema=table.schema,
    )
    drop_default = SetServerDefaultOp(
        table.name, column.name, None, existing_server_default=value, schema=table.schema
    )
    return (
        _added(
            add,
            table,
            f"Adds {table}.{column.name}; rows that do not name it get {value}.",
        ),
        Step(
            phase=Phase.CONTRACT,
            table=table,
            upgrade=(drop_default,),
            downgrade=(drop_default.reverse(),),
            says=f"Drops the server default of {table}.{column.name}, which the model lacks.",
            requires=f"no release inserts into {table} without {column.name}.",
            touches=(f"column {table}.{column.name}",),
        ),
    )


def _filled_later(operation: ops.AddColumnOp, table: QualifiedName, value: str | None) -> Plan:
    """E: add it nullable. M and C: as any column that becomes NOT NULL."""
    column = operation.column
    add = ops.AddColumnOp(
        table.name, _column_like(column, nullable=True, server_default=None), schema=table.schema
    )
    return (
        _added(add, table, f"Adds {table}.{column.name}, nullable until its rows are filled."),
        *not_null_steps(table, column.name, value),
    )


def drop_column(operation: ops.DropColumnOp, surroundings: Surroundings) -> Plan:
    """E: let the new release write rows without it. C: drop what hangs on it, then the column."""
    table = QualifiedName(operation.table_name, operation.schema)
    info = surroundings.table(table)
    column = info.column(operation.column_name)
    if column is None:
        raise CannotRewrite(
            f"The models drop {table}.{operation.column_name}, which the database does not have. "
            "No file was written."
        )
    refuse_hanging(info, column, f"drop {table}.{column.name}", going_with_it=_OWN_SEQUENCES)
    return (*_loosened(operation, table, column), _dropped(table, info, column, surroundings))


_OWN_SEQUENCES = frozenset({"sequence", "identity sequence"})


def refuse_hanging(
    info: TableInfo,
    column: ColumnInfo,
    change: str,
    going_with_it: frozenset[str] = frozenset(),
) -> None:
    """Raise if something hangs on a column that no recipe carries along or may remove.

    Args:
        info: the table.
        column: the column.
        change: what was going to be done, for the message.
        going_with_it: kinds of dependents that rightly end with the column.

    Raises:
        CannotRewrite: names each object in the way.
    """
    name = column.name
    in_the_way = [
        str(dependent)
        for dependent in info.dependents_on(name)
        if dependent.kind not in going_with_it
    ]
    in_the_way += [
        f"foreign key {key.name} of {key.table}"
        for key in info.referenced_by
        if name in key.columns
    ]
    in_the_way += [
        f"{'primary key' if constraint.type == 'p' else 'exclusion constraint'} {constraint.name}"
        for constraint in info.constraints_on(name)
        if constraint.type in "px"
    ]
    in_the_way += [
        f"replica identity index {index.name}"
        for index in info.indexes_on(name)
        if index.is_replica_identity
    ]
    if name in info.partition_key_columns:
        in_the_way.append("the partition key")
    if column.inherited:
        in_the_way.append("a parent table that has the column")
    if info.has_inheritance_children and info.kind == "r":
        in_the_way.append("tables that inherit from it")
    if in_the_way:
        raise CannotRewrite(
            f"Cannot {change} safely: {', '.join(in_the_way)} would break or go with it. Change "
            "or drop these first, in a revision of their own, then run the same command again. No "
            "file was written."
        )


def _loosened(operation: ops.DropColumnOp, table: QualifiedName, column: ColumnInfo) -> Plan:
    if not column.not_null or column.default is not None or column.identity:
        return ()
    reflected = operation.to_column()
    return (
        Step(
            phase=Phase.EXPAND,
            table=table,
            upgrade=(
                ops.AlterColumnOp(
                    table.name,
                    column.name,
                    schema=table.schema,
                    existing_type=reflected.type,
                    modify_nullable=True,
                ),
            ),
            downgrade=(stays_nullable(table, column.name),),
            says=f"Lets {table}.{column.name} be NULL, as the new release does not write it.",
            locks=frozenset({table}),
            touches=(f"column {table}.{column.name}",),
        ),
    )


def stays_nullable(table: QualifiedName, column: str) -> CommentOp:
    """Return the comment in place of the way back of a NOT NULL that was dropped."""
    return CommentOp(
        f"{table}.{column} stays nullable: rows written since may lack it. Fill them, then "
        f'op.set_not_null("{table.name}", "{column}").'
    )


def _dropped(
    table: QualifiedName, info: TableInfo, column: ColumnInfo, surroundings: Surroundings
) -> Step:
    indexes = [
        dropped_concurrently(index.name, table, surroundings)
        for index in info.indexes_on(column.name)
        if info.kind == "r" and _goes_here(index, table, column, surroundings)
    ]
    constraints = sorted(
        constraint.name for constraint in info.constraints_on(column.name) if constraint.type == "c"
    )
    drop = DropColumnIfExistsOp(
        table.name,
        column.name,
        type_sql=column_type(column),
        server_default=column.default,
        schema=table.schema,
        details=(*comment_sql(table, column), *column_details(table, column, column.name)),
    )
    return Step(
        phase=Phase.CONTRACT,
        table=table,
        upgrade=(*indexes, drop),
        downgrade=(drop.reverse(), *(index.reverse() for index in reversed(indexes))),
        says=(
            f"Drops {table}.{column.name} and its data. The way back brings the column back, empty"
            " or with its default for new rows; the data is gone."
            + "".join(f" Constraint {name} goes with it for good." for name in constraints)
        ),
        requires=f"no release reads or writes {table}.{column.name}.",
        touches=(f"column {table}.{column.name}",),
    )


def _goes_here(
    index: IndexInfo, table: QualifiedName, column: ColumnInfo, surroundings: Surroundings
) -> bool:
    """Return whether an index goes with this column. One of several columns that go is dropped
    with the first of them, so that the way back, from the last to the first, has them all."""
    is_own = index.constraint is None and index.parent is None
    if not is_own or (table, index.name) in surroundings.changed_indexes:
        return False
    going = [
        name
        for of_table, name in surroundings.dropped_columns
        if of_table == table and name in index.columns
    ]
    return not going or going[0] == column.name


def column_type(column: ColumnInfo) -> str:
    """Return a column's type as `ADD COLUMN` takes it."""
    return column.type if column.collation is None else f"{column.type} COLLATE {column.collation}"


def column_details(table: QualifiedName, column: ColumnInfo, name: str) -> tuple[str, ...]:
    """Return the SQL of what ADD COLUMN cannot say: statistics, storage, compression, options,
    grants.

    Args:
        table: the table.
        column: the column that has them.
        name: the column that gets them.
    """
    alter = f"ALTER TABLE {table.sql} ALTER COLUMN {readable(name)}"
    sql = []
    if column.statistics_target is not None:
        sql.append(f"{alter} SET STATISTICS {column.statistics_target}")
    if column.storage is not None:
        sql.append(f"{alter} SET STORAGE {column.storage}")
    if column.compression is not None:
        sql.append(f"{alter} SET COMPRESSION {column.compression}")
    if column.options:
        sql.append(f"{alter} SET ({', '.join(column.options)})")
    for privilege, grantee, with_grant_option in column.grants:
        option = " WITH GRANT OPTION" if with_grant_option else ""
        sql.append(f"GRANT {privilege} ({readable(name)}) ON {table.sql} TO {grantee}{option}")
    return tuple(sql)


def comment_sql(table: QualifiedName, column: ColumnInfo) -> tuple[str, ...]:
    """Return the SQL of a column's comment; nothing where it has none."""
    if column.comment is None:
        return ()
    name = f"{table.sql}.{readable(column.name)}"
    return (f"COMMENT ON COLUMN {name} IS {literal(column.comment)}",)


def execute(sql: str) -> ops.ExecuteSQLOp:
    """Return the operation for SQL without parameters; `:` means nothing special in it."""
    return ops.ExecuteSQLOp(escaped(sql))


def _added(operation: ops.AddColumnOp, table: QualifiedName, says: str) -> Step:
    return Step(
        phase=Phase.EXPAND,
        table=table,
        upgrade=(operation,),
        downgrade=(operation.reverse(),),
        says=says,
        locks=frozenset({table}),
        touches=(f"column {table}.{operation.column.name}",),
    )


def _column_like(
    column: sa.Column[object], *, nullable: bool, server_default: Verbatim | None
) -> sa.Column[object]:
    return sa.Column(
        column.name,
        column.type,
        nullable=nullable,
        server_default=server_default,
        comment=column.comment,
    )


def _computes_its_values(column: sa.Column[object]) -> bool:
    return column.computed is not None or column.identity is not None or column.primary_key
