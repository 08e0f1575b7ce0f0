"""ALTER TABLE, and its kin for views, sequences and foreign tables: one sub-command after another.

They run in the order in which the server runs them, which is not always the one in which they are
written, and share one `AlterTable`. The table is locked in the strongest mode that one of them
needs.
"""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers import (
    add_column,
    alter_column,
    column_type,
    constraint_changes,
    constraints,
    drop_column,
    partitions,
    table_options,
)
from alembic_safe.postgres.effects.handlers.alter_table import AlterTable, Subcommand
from alembic_safe.postgres.effects.handlers.index_commands import alter_index
from alembic_safe.postgres.effects.handlers.types import alter_composite
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.locks import LockMode

SUBCOMMANDS: dict[str, Subcommand] = {
    **add_column.SUBCOMMANDS,
    **alter_column.SUBCOMMANDS,
    **column_type.SUBCOMMANDS,
    **constraint_changes.SUBCOMMANDS,
    **constraints.SUBCOMMANDS,
    **drop_column.SUBCOMMANDS,
    **partitions.SUBCOMMANDS,
    **table_options.SUBCOMMANDS,
}
"""By the name of the sub-command's `AlterTableType`, as `AT_AddColumn`."""

_LAST_PASS = 12
_PASSES = {
    "AT_DropColumn": 0,
    "AT_DropConstraint": 0,
    "AT_DropNotNull": 0,
    "AT_DropExpression": 0,
    "AT_DropIdentity": 0,
    "AT_DropInherit": 0,
    "AT_DropOids": 0,
    "AT_AlterColumnType": 1,
    "AT_AddColumn": 4,
    "AT_SetExpression": 5,
    "AT_AddConstraint": 6,
    "AT_SetNotNull": 7,
    "AT_AddIndex": 9,
    "AT_ColumnDefault": 10,
    "AT_AddIdentity": 10,
}
"""The server's order of work (tablecmds.c, AT_PASS_*); what is not here comes last."""


def alter_table(node: Any, tally: Tally) -> None:
    """`ALTER TABLE`, and what the grammar reads as one: `ALTER INDEX`, `ALTER VIEW`, ..."""
    from postgast import pg_query_pb2 as grammar

    if node.objtype == grammar.OBJECT_TYPE:
        alter_composite(node, tally)
        return
    kind = grammar.ObjectType.Name(node.objtype).removeprefix("OBJECT_").replace("_", " ")
    tally.command = f"ALTER {'MATERIALIZED VIEW' if kind == 'MATVIEW' else kind}"
    name = tally.world.qualified(node.relation.relname, node.relation.schemaname or None)
    if kind == "INDEX" or name in tally.world.index_tables:
        alter_index(node, tally)
        return
    relation = tally.relation(node.relation, missing_ok=node.missing_ok)
    if relation is None:
        return
    alter = AlterTable(tally, relation.name, only=not node.relation.inh)
    commands = [command.alter_table_cmd for command in node.cmds]
    named = [(grammar.AlterTableType.Name(command.subtype), command) for command in commands]
    named.sort(key=_place)
    try:
        for name, command in named:
            subcommand = SUBCOMMANDS.get(name)
            if subcommand is None:
                alter.lock(LockMode.ACCESS_EXCLUSIVE)
                tally.unknown(f"{tally.command} with {name} is not understood")
            else:
                subcommand(alter, command)
        for finish in alter.at_end:
            finish()
    finally:
        tally.lock(relation.name, alter.mode, family=alter.recurses)


def _place(named: tuple[str, Any]) -> int:
    name, command = named
    if name == "AT_ColumnDefault" and not command.HasField("def"):
        return 0
    return _PASSES.get(name, _LAST_PASS)


HANDLERS: dict[str, Handler] = {"alter_table_stmt": alter_table}
