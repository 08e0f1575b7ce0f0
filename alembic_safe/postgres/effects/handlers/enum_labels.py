"""Labels that a transaction has added to an enum and cannot use before it is committed."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.names import type_name
from alembic_safe.postgres.effects.handlers.trees import messages
from alembic_safe.postgres.effects.tally import Tally


def check_new_labels(node: Any, tally: Tally) -> None:
    """Note the error of a statement that uses a label which its transaction has added.

    Raises:
        Refused: it casts the label to the type, which is done while it is parsed.
    """
    types = {t.name: t for t in tally.world.types.values() if t.new_labels}
    if not types or node.DESCRIPTOR.name == "AlterEnumStmt":
        return
    labels = {label: name for name, type_ in types.items() for label in type_.new_labels}
    for message in messages(node):
        kind = message.DESCRIPTOR.name
        if kind == "TypeCast" and message.arg.a_const.sval.sval in labels:
            name = type_name(message.type_name.names, tally.world)
            label = message.arg.a_const.sval.sval
            if name in types and label in types[name].new_labels:
                tally.refuse(_unsafe(label, name.name), "55P04")
        elif kind == "A_Const" and message.sval.sval in labels:
            # Where it is compared with, or written into, a column of the type.
            label = message.sval.sval
            tally.may_fail(_unsafe(label, labels[label].name), "55P04")


def _unsafe(label: str, name: str) -> str:
    return f'unsafe use of new value "{label}" of enum type {name}'
