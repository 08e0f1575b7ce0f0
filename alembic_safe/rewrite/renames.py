"""Which pairs of an added and a dropped column are renames: by hint, never by guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops

from alembic_safe.errors import RenameError
from alembic_safe.hints import RENAMED_FROM, hint
from alembic_safe.postgres.identifiers import QualifiedName

Ask = Callable[[str], bool]
"""Asks a person a question; True for yes."""


class RenameColumnOp(MigrateOperation):
    """A rename, in place of the added and the dropped column that autogenerate found.

    Args:
        table: the table.
        old: the column as the database has it.
        new: the column as the model has it.
    """

    def __init__(
        self, table: QualifiedName, old: sa.Column[object], new: sa.Column[object]
    ) -> None:
        self.table = table
        self.old = old
        self.new = new


@dataclass(frozen=True)
class _Pair:
    added: ops.AddColumnOp
    dropped: ops.DropColumnOp


def take_renames(
    operations: Sequence[MigrateOperation],
    existing: Mapping[QualifiedName, frozenset[str]],
    asked_for: Sequence[str],
    ask: Ask | None,
) -> list[MigrateOperation]:
    """Return the operations with each rename in the place of its added column.

    Args:
        operations: what autogenerate found, without containers.
        existing: the columns that each table of the database has.
        asked_for: renames from `-x rename=`, as `table.old:new`.
        ask: asks a person; None where there is no terminal.

    Raises:
        RenameError: a hint names a column that is not there, or one that the model still has, or
            one that another hint names too.
    """
    _refuse_table_renames(operations)
    wanted = _wanted(operations, existing, asked_for)
    if ask is not None:
        wanted.update(_answers(operations, wanted, ask))
    result: list[MigrateOperation] = []
    for operation in operations:
        if isinstance(operation, ops.AddColumnOp) and _added(operation) in wanted:
            table, name = _added(operation)
            dropped = wanted[table, name]
            result.append(RenameColumnOp(table, dropped.to_column(), operation.column))
        elif operation not in wanted.values():
            result.append(operation)
    return result


def _wanted(
    operations: Sequence[MigrateOperation],
    existing: Mapping[QualifiedName, frozenset[str]],
    asked_for: Sequence[str],
) -> dict[tuple[QualifiedName, str], ops.DropColumnOp]:
    added = {_added(op): op for op in operations if isinstance(op, ops.AddColumnOp)}
    dropped = {_dropped(op): op for op in operations if isinstance(op, ops.DropColumnOp)}
    renames = {
        key: (old, "the model says")
        for key, op in added.items()
        if (old := hint(op.column.info, RENAMED_FROM)) is not None
    }
    for rename in asked_for:
        table_and_old, _, new = rename.rpartition(":")
        table_text, _, old = table_and_old.rpartition(".")
        schema, _, name = table_text.rpartition(".")
        key = (QualifiedName(name, schema or None), new)
        if key not in added:
            raise RenameError(
                f"-x rename={rename}: the models add no column {new} to {table_text}. Give it as "
                "table.old:new, with the new name as the model has it. No file was written."
            )
        renames[key] = (old, f"-x rename={rename} says")
    wanted: dict[tuple[QualifiedName, str], ops.DropColumnOp] = {}
    new_names: dict[tuple[QualifiedName, str], str] = {}
    for (table, new), (old, who) in renames.items():
        if (table, old) not in dropped:
            raise RenameError(_problem(table, old, new, who, existing.get(table, frozenset())))
        if new_names.setdefault((table, old), new) != new:
            raise RenameError(
                f"Column {table}.{old} is said to have become both {new_names[table, old]} and "
                f"{new}; it can be one of them. Take one of the two hints away, then run the same "
                "command again. No file was written."
            )
        wanted[table, new] = dropped[table, old]
    return wanted


def _problem(table: QualifiedName, old: str, new: str, who: str, existing: frozenset[str]) -> str:
    if old in existing:
        reason = f"and the model still has {old}. Remove it from the model, or the hint"
    else:
        names = ", ".join(sorted(existing)) or "none"
        reason = f"which the table does not have (it has: {names}). Correct or remove the hint"
    return (
        f"{who} that {table}.{new} was {table}.{old}, {reason}, then run the same command again. "
        "No file was written."
    )


def _answers(
    operations: Sequence[MigrateOperation],
    wanted: Mapping[tuple[QualifiedName, str], ops.DropColumnOp],
    ask: Ask,
) -> dict[tuple[QualifiedName, str], ops.DropColumnOp]:
    answers: dict[tuple[QualifiedName, str], ops.DropColumnOp] = {}
    for pair in _candidates(operations):
        key = _added(pair.added)
        taken = pair.dropped in wanted.values() or pair.dropped in answers.values()
        if key in wanted or key in answers or taken:
            continue
        table, new = key
        if ask(f"Is {table}.{new} the column {table}.{pair.dropped.column_name}, renamed?"):
            answers[key] = pair.dropped
    return answers


def _candidates(operations: Sequence[MigrateOperation]) -> list[_Pair]:
    """Pairs of one table whose types look alike."""
    return [
        _Pair(added, dropped)
        for added in operations
        if isinstance(added, ops.AddColumnOp)
        for dropped in operations
        if isinstance(dropped, ops.DropColumnOp)
        and _added(added)[0] == _dropped(dropped)[0]
        and added.column.type._type_affinity is dropped.to_column().type._type_affinity
    ]


def _refuse_table_renames(operations: Sequence[MigrateOperation]) -> None:
    dropped = {(op.table_name, op.schema) for op in operations if isinstance(op, ops.DropTableOp)}
    for operation in operations:
        if isinstance(operation, ops.CreateTableOp):
            old = hint(operation.info, RENAMED_FROM)
            if (old, operation.schema) in dropped:
                raise RenameError(
                    f"The model says that table {operation.table_name} was {old}. Renaming a table "
                    "is not among the changes that this release can make safe: create the new "
                    "table beside the old one and move the rows, or rename it by hand in a "
                    "revision of its own. No file was written."
                )


def _added(operation: ops.AddColumnOp) -> tuple[QualifiedName, str]:
    return QualifiedName(operation.table_name, operation.schema), operation.column.name


def _dropped(operation: ops.DropColumnOp) -> tuple[QualifiedName, str]:
    return QualifiedName(operation.table_name, operation.schema), operation.column_name
