"""Sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.names import split_name, strings
from alembic_safe.postgres.effects.handlers.tables import new_name
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def create_sequence(node: Any, tally: Tally) -> None:
    """`CREATE SEQUENCE`: no lock on what was there before.

    Raises:
        Refused: the name is taken.
    """
    name = new_name(node.sequence, tally, or_not=node.if_not_exists)
    if name is not None:
        tally.world.put(Relation(name, "S", complete=True, born=tally.world.batch))
        _own(name, node.options, tally)


def alter_sequence(node: Any, tally: Tally) -> None:
    """`ALTER SEQUENCE`: SHARE ROW EXCLUSIVE on it, for which `nextval` waits.

    Raises:
        Refused: it is not there, or no sequence.
    """
    sequence = tally.relation(node.sequence, missing_ok=node.missing_ok)
    if sequence is None:
        return
    if sequence.kind not in ("S", "?"):
        tally.refuse(f'"{sequence.name.name}" is not a sequence', "42809")
    tally.lock(sequence, LockMode.SHARE_ROW_EXCLUSIVE)
    _own(sequence.name, node.options, tally)


def _own(sequence: QualifiedName, options: Any, tally: Tally) -> None:
    """Remember the column of OWNED BY."""
    for option in options:
        if option.def_elem.defname != "owned_by":
            continue
        parts = strings(option.def_elem.arg.list.items)
        if len(parts) < 2:
            continue  # NONE
        owner = tally.named(*split_name(parts[:-1]))
        column = owner.columns.get(parts[-1]) if owner is not None else None
        if owner is not None and column is not None:
            tally.world.put(owner.with_column(replace(column, sequence=sequence)))


HANDLERS: dict[str, Handler] = {
    "alter_seq_stmt": alter_sequence,
    "create_seq_stmt": create_sequence,
}
