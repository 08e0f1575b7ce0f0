"""ALTER COLUMN TYPE: ACCESS EXCLUSIVE, and often every row and index written again.

Where the rows stay, CHECK constraints on the column are checked again, and indexes stay unless they
have expressions, a predicate, other operators or another collation. Foreign keys on both sides are
made anew, under ACCESS EXCLUSIVE on the partner, and checked where rows were written again.

Facts for rules in `details`: `retyped_columns`, a list of `RetypedColumn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.world import (
    Column,
    Constraint,
    Index,
    Relation,
    TypeName,
    World,
)
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.type_changes import (
    UNSORTED,
    TypeChange,
    same_operators,
    type_change,
)
from alembic_safe.postgres.types import base_type, type_of, type_sql


@dataclass(frozen=True)
class RetypedColumn:
    """A column that ALTER COLUMN TYPE changes.

    Args:
        table: the table.
        name: of the column.
        old_type: None where it is not known.
        new_type: the type of the statement.
        rewrites: why every row is written again, to follow `because`; empty where it is not.
        using: the expression of USING, a `Node`; None without.
    """

    table: QualifiedName
    name: str
    old_type: TypeName | None
    new_type: TypeName
    rewrites: str
    using: Any


@dataclass(frozen=True)
class _Retyping:
    """One column that gets another type, or another collation."""

    name: str
    old: TypeName | None
    new: TypeName
    recollated: bool
    world: World

    @property
    def same_operators(self) -> bool:
        """Whether comparisons mean the same afterwards."""
        return self.old is not None and same_operators(self.old, self.new, self.world)


def column_type(alter: AlterTable, command: Any) -> None:
    """`ALTER COLUMN ... TYPE`."""
    tally, name = alter.tally, command.name
    node = getattr(command, "def").column_def
    alter.lock(LockMode.ACCESS_EXCLUSIVE)
    column = alter.column(name)
    _refuse_here(alter, name, column)
    new = type_of(node.type_name)
    using = node.raw_default if node.HasField("raw_default") else None
    old = column.type if column is not None else None
    change = type_change(old, new, tally.world, using, name)
    if change.assumed:
        tally.assume(f"{name}: {change.assumed}")
    _refuse_cast(alter, column, new, change, using)
    for member in alter.members():
        _refuse_dependents(alter, member, name)
    collation = _collation(node)
    recollated = column is not None and collation != column.collation
    retyping = _Retyping(name, old, new, recollated, tally.world)
    if change.rewrites:
        alter.rewrite()
    for member in alter.members():
        _check_again(alter, member, name)
        _build_again(alter, member, retyping)
        _replace_keys(alter, member, retyping)
    if column is not None and column.identity and column.sequence is not None:
        tally.lock(column.sequence, LockMode.SHARE_ROW_EXCLUSIVE)
    alter.change_column(name, type=new, collation=collation)
    _note(alter, retyping, column, change, using)


def _collation(node: Any) -> str | None:
    words = strings(node.coll_clause.collname)
    return words[-1] if words and words[-1] != "default" else None


def _note(
    alter: AlterTable, retyping: _Retyping, column: Column | None, change: TypeChange, using: Any
) -> None:
    old, new = retyping.old, retyping.new
    noted = RetypedColumn(alter.name, retyping.name, old, new, change.reason, using)
    alter.tally.details.setdefault("retyped_columns", []).append(noted)
    if old != new:
        detail = f"{type_sql(old)} to {type_sql(new)}" if old is not None else f"to {type_sql(new)}"
        born = column.born if column is not None else 0
        alter.tally.change(
            Change.RETYPED, "column", alter.name, retyping.name, born=born, detail=detail
        )


# What the server refuses


def _refuse_here(alter: AlterTable, name: str, column: Column | None) -> None:
    table, tally = alter.table, alter.tally
    if column is not None and column.inherited:
        tally.refuse(f'cannot alter inherited column "{name}"', "42P16")
    for member in alter.members():
        if name in member.partition_key:
            tally.refuse(
                f'cannot alter column "{name}" because it is part of the partition key of'
                f' relation "{member.name.name}"',
                "42P16",
            )
    if alter.only and table.children:
        tally.refuse(
            f'type of inherited column "{name}" must be changed in child tables too', "42P16"
        )


def _refuse_cast(
    alter: AlterTable, column: Column | None, new: TypeName, change: TypeChange, using: Any
) -> None:
    if column is None:
        return
    tally, name = alter.tally, column.name
    if change.impossible == "42846":
        tally.refuse(f'cannot cast column "{name}" to type {type_sql(new)}', change.impossible)
    if change.impossible:
        what = "result of USING clause for " if using is not None else ""
        tally.refuse(
            f'{what}column "{name}" cannot be cast automatically to type {type_sql(new)}',
            change.impossible,
        )
    has_default = column.default is not None and not column.generated
    if has_default and type_change(column.type, new, tally.world).impossible:
        tally.refuse(
            f'default for column "{name}" cannot be cast automatically to type {type_sql(new)}',
            "42804",
        )
    if change.failure is not None and alter.may_have_rows():
        tally.may_fail(*change.failure)


_DEPENDENTS = {
    "policy": "used in a policy definition",
    "trigger": "used in a trigger definition",
    "publication": "used by a publication WHERE clause",
    "function": "used by a function or procedure",
}


def _refuse_dependents(alter: AlterTable, table: Relation, name: str) -> None:
    tally = alter.tally
    if any(name in columns for columns in table.dependents.values()):
        tally.refuse("cannot alter type of a column used by a view or rule", "0A000")
    generated = table.generated_from.items()
    if any(name in columns for column, columns in generated if column != name):
        sqlstate = "0A000" if tally.world.version >= 15 else "42601"
        tally.refuse("cannot alter type of a column used by a generated column", sqlstate)
    for what, columns in table.other_dependents.items():
        if name in columns:
            how = _DEPENDENTS.get(what.partition(" ")[0], "in use")
            tally.refuse(f"cannot alter type of a column {how}", "0A000")
    if not table.complete:
        tally.assume(f"no view, generated column, policy or trigger uses {name}")


# What hangs on the column


def _check_again(alter: AlterTable, table: Relation, name: str) -> None:
    for constraint in table.constraints.values():
        is_checked = constraint.is_validated and constraint.is_enforced
        if constraint.type == "c" and is_checked and name in constraint.columns:
            alter.tally.scan(table)


def _build_again(alter: AlterTable, table: Relation, retyping: _Retyping) -> None:
    if table.is_partitioned:
        return  # its indexes have no files
    for index in table.indexes.values():
        if retyping.name in index.uses and not _is_kept(alter, index, retyping):
            alter.tally.rebuild(table, index.name)


def _is_kept(alter: AlterTable, index: Index, retyping: _Retyping) -> bool:
    """Return whether the index can stay where the rows do (`CheckIndexCompatible`).

    Raises:
        Refused: its operator class cannot serve the new type.
    """
    same = retyping.same_operators
    plain = not (index.is_partial or None in index.columns or index.expression_columns)
    for place, key in enumerate(index.columns):
        if key != retyping.name:
            continue
        named = index.operator_classes[place] if index.operator_classes else None
        if named is not None and not same and retyping.old is not None:
            alter.tally.refuse(
                f'operator class "{named}" does not accept data type {type_sql(retyping.new)}',
                "42804",
            )
        base = base_type(retyping.new, retyping.world)
        is_unsorted = base is not None and base.name in UNSORTED and not base.is_array
        if named is None and index.method == "btree" and is_unsorted:
            alter.tally.refuse(
                f"data type {type_sql(retyping.new)} has no default operator class for access"
                ' method "btree"',
                "42704",
            )
        own_collation = index.collations[place] if index.collations else None
        if not same or (retyping.recollated and own_collation is None):
            plain = False
    return plain and index.is_valid


def _replace_keys(alter: AlterTable, table: Relation, retyping: _Retyping) -> None:
    """Note what becomes of foreign keys: they are made anew, and checked at the end."""
    tally = alter.tally
    for partner, constraint in _foreign_keys(table, retyping.name, tally.world):
        tally.lock(partner, LockMode.ACCESS_EXCLUSIVE)
        if constraint.is_validated and constraint.is_enforced:
            tables = (table, tally.world.find(partner))
            alter.at_end.append(partial(_check_key, alter, tables, retyping))
    if not table.complete:
        tally.assume(f"no foreign key has or references {retyping.name}")
        tally.details["unnamed_locks"] = LockMode.ACCESS_EXCLUSIVE


def _foreign_keys(
    table: Relation, column: str, world: World
) -> Iterator[tuple[QualifiedName, Constraint]]:
    """Yield the foreign keys of, and to, a column with the other table."""
    for constraint in table.constraints.values():
        if constraint.type == "f" and column in constraint.columns:
            yield constraint.referenced or table.name, constraint
    for other, constraint in world.referencing(table.name):
        if column in constraint.referenced_columns or not constraint.referenced_columns:
            yield other.name, constraint


def _check_key(alter: AlterTable, tables: tuple[Relation | None, ...], retyping: _Retyping) -> None:
    if alter.rewritten or not retyping.same_operators:
        for table in tables:
            if table is not None:
                alter.tally.scan(table)


SUBCOMMANDS: dict[str, Subcommand] = {"AT_AlterColumnType": column_type}
