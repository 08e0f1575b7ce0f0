"""The tables that INSERT, UPDATE, DELETE and MERGE write, and what is locked with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.names import is_system
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

_NEXTVAL = re.compile(r"nextval\('((?:[^']|'')+)'")


def write(statement: Any, tally: Tally) -> None:
    """Note the locks of a statement that writes rows.

    ROW EXCLUSIVE on its table, with the partitions and inheriting tables that it may reach. The
    checks of foreign keys read the referenced tables in ROW SHARE mode; what follows a deleted or
    changed key is written in ROW EXCLUSIVE mode at most.

    Raises:
        Refused: the table is certainly not there, or is none.
    """
    target = statement.relation
    if is_system(target.relname, target.schemaname or None):
        tally.unknown(f"it writes into {target.relname}, which the server itself keeps")
        return
    relation = tally.existing(target)
    if relation.kind == "m":
        tally.refuse(f'cannot change materialized view "{relation.name.name}"', "42809")
    if relation.kind == "S":
        tally.refuse(f'cannot change sequence "{relation.name.name}"', "42809")
    kind = statement.DESCRIPTOR.name
    reaches_children = target.inh and (kind != "InsertStmt" or relation.is_partitioned)
    tally.lock(relation, LockMode.ROW_EXCLUSIVE, family=reaches_children)
    for table in _tables_of_view(relation, tally):
        tally.lock(table, LockMode.ROW_EXCLUSIVE, family=True)
    if not relation.complete and not tally.is_new(relation.name):
        tally.assume(f"what foreign keys connect {relation.name} with is not known")
    actions = _actions(kind, statement)
    if "INSERT" in actions:
        _lock_sequences(relation, actions["INSERT"], tally)
        note_rows(relation, tally, many=not _is_written_out(kind, statement) or tally.depth > 0)
    for action, columns in actions.items():
        _lock_for_foreign_keys(relation, action, columns, tally)


def note_rows(relation: Relation, tally: Tally, *, many: bool) -> None:
    """Remember that rows were added to a table, to its partitions, or to the tables of a view.

    Args:
        relation: what was written.
        tally: of the statement.
        many: whether the statement does not tell how many, so that nothing is known of the size
            any more; otherwise it is only not empty.
    """
    world = tally.world
    for table in (relation, *_tables_of_view(relation, tally)):
        for member in list(world.family(table.name)):
            is_reached = member.name == table.name or table.is_partitioned
            is_known = member.size is not None if many else member.size == 0
            if is_reached and is_known and not member.is_partitioned:
                world.put(replace(member, size=None))


def _is_written_out(kind: str, statement: Any) -> bool:
    """Return whether the rows of an INSERT stand in the statement."""
    if kind != "InsertStmt":
        return False
    return not statement.HasField("select_stmt") or bool(
        statement.select_stmt.select_stmt.values_lists
    )


def _actions(kind: str, statement: Any) -> dict[str, frozenset[str] | None]:
    """Return what is done to rows, with the columns that it writes; None is all of them."""
    if kind == "DeleteStmt":
        return {"DELETE": None}
    if kind == "UpdateStmt":
        return {"UPDATE": _targets(statement.target_list)}
    if kind == "InsertStmt":
        given = _targets(statement.cols) if statement.HasField("select_stmt") else frozenset()
        actions = {"INSERT": given}
        if statement.HasField("on_conflict_clause"):
            actions["UPDATE"] = _targets(statement.on_conflict_clause.target_list)
        return actions
    found: dict[str, frozenset[str] | None] = {}
    for node in statement.merge_when_clauses:
        clause = node.merge_when_clause
        action = {3: "UPDATE", 4: "INSERT", 5: "DELETE"}.get(clause.command_type)  # CmdType
        if action is not None:
            found[action] = _targets(clause.target_list) if action != "DELETE" else None
    return found


def _targets(nodes: Any) -> frozenset[str] | None:
    return frozenset(node.res_target.name for node in nodes) or None


def _tables_of_view(view: Relation, tally: Tally) -> Iterator[Relation]:
    """Yield what a view shows, other views and their tables included."""
    if view.kind != "v":
        return
    for other in list(tally.world.relations.values()):
        if view.name in other.dependents:
            yield other
            yield from _tables_of_view(other, tally)


def _lock_sequences(relation: Relation, given: frozenset[str] | None, tally: Tally) -> None:
    """Note the sequences that defaults of columns advance which the INSERT does not give."""
    if given is None and relation.columns:
        return
    for column in relation.columns.values():
        if given is not None and column.name in given:
            continue
        if column.sequence is not None and (column.identity or "nextval" in (column.default or "")):
            tally.lock(column.sequence, LockMode.ROW_EXCLUSIVE)
        else:
            for name in advanced_by(column.default or "", tally):
                tally.lock(name, LockMode.ROW_EXCLUSIVE)


def advanced_by(default: str, tally: Tally) -> list[QualifiedName]:
    """Return the sequences that a column's default advances."""
    texts = [text.replace("''", "'") for text in _NEXTVAL.findall(default)]
    return [name for text in texts if (name := sequence_named(text, tally)) is not None]


def lock_sequence(text: str, tally: Tally) -> None:
    """Note the lock that `nextval` and its kin take on the sequence whose name is a text."""
    sequence = sequence_named(text, tally)
    if sequence is not None:
        tally.lock(sequence, LockMode.ROW_EXCLUSIVE)


def sequence_named(text: str, tally: Tally) -> QualifiedName | None:
    """Return the sequence that the argument of `nextval` and its kin names."""
    parts = re.findall(r'"(?:[^"]|"")*"|[^".\s]+', text)
    names = [p[1:-1].replace('""', '"') if p.startswith('"') else p.lower() for p in parts]
    if not names:
        return None
    return tally.world.qualified(names[-1], names[-2] if len(names) > 1 else None)


def _lock_for_foreign_keys(
    relation: Relation, action: str, columns: frozenset[str] | None, tally: Tally
) -> None:
    if action != "DELETE":
        for constraint in relation.constraints.values():
            is_key = constraint.type == "f" and constraint.is_enforced
            written = columns is None or columns & set(constraint.columns)
            if is_key and written and constraint.referenced is not None:
                tally.lock(constraint.referenced, LockMode.ROW_SHARE, family=True)
    if action != "INSERT":
        for other, constraint in list(tally.world.referencing(relation.name)):
            keys = set(constraint.referenced_columns)
            if columns is None or not keys or columns & keys:
                tally.lock(other, LockMode.ROW_EXCLUSIVE, family=True)
