"""Constraints: ADD CONSTRAINT in all its forms, and those that stand in definitions of columns.

Facts for rules in `details`: `constraints_added`, a list of (table, `Constraint`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.expressions import value_of
from alembic_safe.postgres.effects.handlers import indexes
from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.chosen_names import constraint_name, index_name
from alembic_safe.postgres.effects.handlers.definitions import (
    LABELS,
    columns_used,
    constraint_of,
    constraint_type,
    key_columns,
    key_index_of,
    need_columns,
    need_free_name,
    need_partition_key,
    needs_version,
    note_added,
)
from alembic_safe.postgres.effects.handlers.foreign_keys import add_foreign_key
from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def add(alter: AlterTable, node: Any, column: str | None = None, *, is_null: bool = False) -> None:
    """Add a constraint to a table, old or new.

    CHECK, PRIMARY KEY, UNIQUE, EXCLUDE and NOT NULL take ACCESS EXCLUSIVE; a foreign key takes
    SHARE ROW EXCLUSIVE, on the table that it references too.

    Args:
        alter: the statement; the table may have been made by it.
        node: `Constraint` of the parse tree. What is none there (DEFAULT, IDENTITY) is passed over.
        column: the column in whose definition it stands.
        is_null: that column is new and NULL in every row, so that a foreign key needs no check.

    Raises:
        Refused: the server certainly refuses it.
    """
    how = _ADD.get(constraint_type(node))
    if how is None:
        return
    if alter.table.kind not in "rpf?":
        alter.tally.refuse(
            f'ALTER action ADD CONSTRAINT cannot be performed on relation "{alter.name.name}"',
            "42809",
        )
    if alter.tally.world.version >= 18:
        # Inheriting tables are locked also for what they do not get.
        alter.lock(LockMode.NONE)
    how(alter, node, column, is_null)


# CHECK and NOT NULL


def _check(alter: AlterTable, node: Any, column: str | None, is_null: bool) -> None:
    if not node.is_enforced:
        needs_version(alter.tally, 18, "ENFORCED")
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=not node.is_no_inherit)
    table = alter.table
    _refuse_expression(alter.tally, node.raw_expr)
    used = columns_used(node.raw_expr)
    need_columns(alter.tally, table, used, 'column "{}" does not exist')
    columns = tuple(name for name in table.columns if name in used) or tuple(sorted(used))
    name = node.conname or constraint_name(table, columns if len(columns) == 1 else (), "check")
    need_free_name(alter.tally, table, name)
    constraint = constraint_of(node, name, columns, alter.tally.world.batch)
    _inherit(alter, constraint, no_inherit=node.is_no_inherit)
    note_added(alter.tally, table, constraint, "CHECK")


def _refuse_expression(tally: Tally, expression: Any) -> None:
    value = value_of(expression, tally.world)
    if value.has_subquery:
        tally.refuse("cannot use subquery in check constraint", "0A000")
    if tally.world.complete:
        for unknown in value.unknown:
            if unknown.endswith("()"):
                tally.may_fail(f"function {unknown} does not exist", "42883")


def _not_null(alter: AlterTable, node: Any, column: str | None, is_null: bool) -> None:
    """NOT NULL as a constraint with a name (18), which can be NOT VALID.

    Up to version 17 that of a column is only a property of the column.
    """
    if column is not None and alter.tally.world.version < 18:
        return
    if column is None:
        needs_version(alter.tally, 18, "NOT")
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=not node.is_no_inherit)
    table = alter.table
    columns = (column,) if column is not None else tuple(strings(node.keys))
    need_columns(
        alter.tally, table, columns, f'column "{{}}" of relation "{table.name.name}" does not exist'
    )
    name = node.conname or constraint_name(table, columns, "not_null")
    constraint = constraint_of(node, name, columns, alter.tally.world.batch)
    existing = not_null_of(table, columns[0])
    if existing is not None:
        _merge_not_null(alter.tally, table, existing, constraint, bool(node.conname))
        return
    need_free_name(alter.tally, table, name)
    proven = proves_not_null(table, columns[0])
    _inherit(alter, constraint, no_inherit=node.is_no_inherit, scan=not proven)
    if constraint.is_validated:
        for member in alter.members():
            _set_not_null(alter.tally, member.name, columns)
    note_added(alter.tally, table, constraint, "NOT NULL")


def not_null_of(table: Relation, column: str) -> Constraint | None:
    """Return the NOT NULL constraint of a column (18)."""
    for constraint in table.constraints.values():
        if constraint.type == "n" and constraint.columns == (column,):
            return constraint
    return None


def proves_not_null(table: Relation, column: str) -> bool:
    """Return whether it is known without reading rows that a column has no NULL."""
    known = table.columns.get(column)
    return (known is not None and known.not_null) or any(
        column in constraint.proves_not_null
        for constraint in table.constraints.values()
        if constraint.is_validated and constraint.is_enforced
    )


def _merge_not_null(
    tally: Tally, table: Relation, existing: Constraint, new: Constraint, is_named: bool
) -> None:
    if is_named and existing.name != new.name:
        tally.refuse(
            f'cannot create not-null constraint "{new.name}" on column "{new.columns[0]}"'
            f' of table "{table.name.name}"',
            "55000",
        )
    if new.is_validated and not existing.is_validated:
        tally.refuse(
            f'incompatible NOT VALID constraint "{existing.name}" on relation "{table.name.name}"',
            "55000",
        )


def _set_not_null(tally: Tally, table: QualifiedName, columns: Iterable[str]) -> None:
    relation = tally.world.relations[table]
    for name in columns:
        known = relation.columns.get(name)
        if known is not None:
            relation = relation.with_column(replace(known, not_null=True))
    tally.world.put(relation)


def _inherit(
    alter: AlterTable, constraint: Constraint, *, no_inherit: bool, scan: bool = True
) -> None:
    """Add a check or NOT NULL to a table and to those that inherit from it, and note the scans.

    One that has it already, by name, keeps its own, and its rows are not read.
    """
    tally, table = alter.tally, alter.table
    if alter.only and table.children and not no_inherit:
        tally.refuse("constraint must be added to child tables too", "42P16")
    members = [table, *(m for m in alter.members() if not no_inherit and m.name != table.name)]
    for member in members:
        if constraint.name in member.constraints:
            continue
        own = constraint if member is table else replace(constraint, inherited=True)
        tally.world.put(member.with_constraint(own))
        is_read = scan and constraint.is_validated and not member.is_partitioned
        if is_read or (scan and constraint.is_validated and not member.complete):
            tally.scan(member)


# PRIMARY KEY, UNIQUE and EXCLUDE


def _key(alter: AlterTable, node: Any, column: str | None, is_null: bool) -> None:
    if node.indexname:
        _key_using_index(alter, node)
        return
    tally = alter.tally
    type_ = constraint_type(node)
    if node.nulls_not_distinct:
        needs_version(tally, 15, "NULLS")
    if node.without_overlaps:
        needs_version(tally, 18, "WITHOUT")
    table = _lock_for_key(alter, type_)
    columns = (column,) if column is not None else key_columns(node)
    named = [name for name in columns if name is not None]
    need_columns(tally, table, named, 'column "{}" named in key does not exist')
    if type_ == "p":
        _make_not_null(alter, named)
        table = alter.table
    included = strings(node.including)
    name = node.conname or index_name(tally.world, table.name, [*columns, *included], LABELS[type_])
    need_free_name(tally, table, name)
    if table.name.sibling(name) in tally.world.index_tables:
        tally.refuse(f'relation "{name}" already exists', "42P07")
    batch = tally.world.batch
    constraint = constraint_of(node, name, tuple(named), batch, name)
    index = key_index_of(node, name, columns, batch)
    need_partition_key(tally, table, columns, _KEYS[type_])
    if type_ == "x":
        if table.is_partitioned and tally.world.version < 17:
            tally.refuse("exclusion constraints are not supported on partitioned tables", "0A000")
    elif not node.without_overlaps:
        indexes.refuse_method(tally, table, index)
    indexes.add_index(tally, table, index, constraint, only=alter.only)
    note_added(tally, table, constraint, _KEYS[type_])


_KEYS = {"p": "PRIMARY KEY", "u": "UNIQUE", "x": "EXCLUDE"}


def _lock_for_key(alter: AlterTable, type_: str) -> Relation:
    """Note the locks for a key, refuse a second primary key, and return the table.

    Up to version 17 partitions are only locked in SHARE mode, for their own indexes.
    """
    table = alter.table
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    if type_ == "p" and any(each.type == "p" for each in table.constraints.values()):
        alter.tally.refuse(
            f'multiple primary keys for table "{table.name.name}" are not allowed', "42P16"
        )
    if table.kind in "p?" and not alter.only:
        is_strong = alter.tally.world.version >= 18
        mode = LockMode.ACCESS_EXCLUSIVE if is_strong else LockMode.SHARE
        alter.tally.lock(table, mode, family=True)
    return table


def _make_not_null(alter: AlterTable, columns: Iterable[str]) -> None:
    """Set the columns of a primary key NOT NULL, which reads the table unless they are."""
    for member in list(alter.members()):
        for column in columns:
            existing = not_null_of(member, column)
            if existing is not None and not existing.is_validated:
                alter.tally.refuse(
                    f'incompatible NOT VALID constraint "{existing.name}" on relation'
                    f' "{member.name.name}"',
                    "55000",
                )
            if not proves_not_null(member, column):
                alter.tally.lock(member, LockMode.ACCESS_EXCLUSIVE)
                alter.tally.scan(member)
        if alter.tally.world.version >= 18:
            member = _with_not_null_constraints(member, columns, alter.tally.world.batch)
            alter.tally.world.put(member)
        _set_not_null(alter.tally, member.name, columns)


def _with_not_null_constraints(table: Relation, columns: Iterable[str], batch: int) -> Relation:
    for column in columns:
        if not_null_of(table, column) is None:
            name = constraint_name(table, (column,), "not_null")
            proves = frozenset({column})
            table = table.with_constraint(
                Constraint(name, "n", columns=(column,), proves_not_null=proves, born=batch)
            )
    return table


def _key_using_index(alter: AlterTable, node: Any) -> None:
    """`ADD ... USING INDEX`: rows are read where a column of a primary key may be NULL."""
    tally, type_ = alter.tally, constraint_type(node)
    alter.lock(LockMode.ACCESS_EXCLUSIVE, recurse=False)
    table = alter.table
    if type_ == "p" and any(each.type == "p" for each in table.constraints.values()):
        tally.refuse(
            f'multiple primary keys for table "{table.name.name}" are not allowed', "42P16"
        )
    if table.is_partitioned:
        tally.refuse(
            "ALTER TABLE / ADD CONSTRAINT USING INDEX is not supported on partitioned tables",
            "0A000",
        )
    index = table.indexes.get(node.indexname)
    name = node.conname or node.indexname
    if index is None:
        _key_using_unknown_index(alter, node, name)
        return
    if index.constraint is not None:
        tally.refuse(f'index "{index.name}" is already associated with a constraint', "55000")
    if not index.is_valid:
        tally.refuse(f'index "{index.name}" is not valid', "55000")
    if not index.is_unique:
        tally.refuse(f'"{index.name}" is not a unique index', "42809")
    if None in index.columns:
        tally.refuse(f'index "{index.name}" contains expressions', "42809")
    if index.is_partial:
        tally.refuse(f'"{index.name}" is a partial index', "42809")
    if name != index.name:
        need_free_name(tally, table, name)
    columns = tuple(column for column in index.columns if column is not None)
    tightens = type_ == "p" and not all(proves_not_null(table, column) for column in columns)
    if type_ == "p":
        _make_not_null(alter, columns)
    renamed = replace(index, name=name, constraint=name, is_primary=type_ == "p")
    batch = tally.world.batch
    constraint = constraint_of(node, name, columns, batch, name)
    without = tally.world.remove_index(alter.table, index.name)
    tally.world.put(without.with_index(renamed).with_constraint(constraint))
    note_added(tally, table, constraint, _KEYS[type_] if tightens else "")


def _key_using_unknown_index(alter: AlterTable, node: Any, name: str) -> None:
    tally, table = alter.tally, alter.table
    if table.complete:
        tally.refuse(f'index "{node.indexname}" does not exist', "42704")
    constraint = constraint_of(node, name, (), tally.world.batch, name)
    if constraint.type == "p":
        tally.assume(f"the columns of {node.indexname} may be NULL")
        tally.scan(table)
    tally.world.put(table.with_constraint(constraint))
    note_added(tally, table, constraint, "PRIMARY KEY" if constraint.type == "p" else "")


_ADD: dict[str, Callable[[AlterTable, Any, str | None, bool], None]] = {
    "c": _check,
    "n": _not_null,
    "p": _key,
    "u": _key,
    "x": _key,
    "f": add_foreign_key,
}


def add_constraint(alter: AlterTable, command: Any) -> None:
    """`ADD CONSTRAINT`, `ADD PRIMARY KEY`, ..."""
    add(alter, getattr(command, "def").constraint)


SUBCOMMANDS: dict[str, Subcommand] = {"AT_AddConstraint": add_constraint}
