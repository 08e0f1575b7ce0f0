"""ALTER TABLE, and its kin for views, sequences, indexes and foreign tables.

A statement has sub-commands. Each is a function in a dictionary `SUBCOMMANDS` of a module beside
this one, keyed by the name of its `AlterTableType` in the grammar. They run in the order in which
the server runs them, which is not always the one in which they are written, and share one
`AlterTable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from alembic_safe.postgres.effects.handlers.types import alter_composite
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Column, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


@dataclass
class AlterTable:
    """One ALTER TABLE statement while its sub-commands are read.

    Args:
        tally: where to write what it does.
        name: the table.
        only: whether it says ONLY, so that partitions and inheriting tables are left alone.
        mode: the strongest lock that a sub-command asked for.
        recurses: whether a sub-command goes to partitions and inheriting tables, which are then
            locked in the same mode.
    """

    tally: Tally
    name: QualifiedName
    only: bool = False
    mode: LockMode = LockMode.NONE
    recurses: bool = False

    @property
    def table(self) -> Relation:
        """The table as the sub-commands so far have left it."""
        return self.tally.world.relations[self.name]

    def put(self, changed: Relation) -> None:
        """Keep the table, or one of its family, as it is now."""
        self.tally.world.put(changed)

    def members(self) -> Iterator[Relation]:
        """Yield the table and, unless it says ONLY, its partitions and inheriting tables."""
        if self.only:
            yield self.table
        else:
            yield from list(self.tally.world.family(self.name))

    def column(self, name: str) -> Column | None:
        """Return a column; None where it is not known.

        Raises:
            Refused: it is certain that there is none.
        """
        table = self.table
        found = table.columns.get(name)
        if found is None and table.complete:
            self.tally.refuse(
                f'column "{name}" of relation "{self.name.name}" does not exist', "42703"
            )
        return found

    def change_column(self, name: str, **changes: Any) -> None:
        """Keep a column as it is now, in the table and in its family, where it is known."""
        for member in self.members():
            column = member.columns.get(name)
            if column is not None:
                self.put(member.with_column(replace(column, **changes)))

    def lock(self, mode: LockMode, *, recurse: bool = True) -> None:
        """Ask for a lock on the table; with `recurse`, unless it says ONLY, on its family too.

        The server takes the strongest mode of all sub-commands, before the first of them runs.
        """
        self.mode = max(mode, self.mode)
        self.recurses = self.recurses or (recurse and not self.only)

    def scan(self) -> None:
        """Note that the rows are read from end to end, once for the whole statement."""
        for member in self.members():
            self.tally.scan(member)

    def rewrite(self) -> None:
        """Note that the rows are written again, once for the whole statement."""
        for member in self.members():
            self.tally.rewrite(member)


Subcommand = Callable[[AlterTable, Any], None]
"""Reads one sub-command, an `AlterTableCmd` of the parse tree.

It asks for its lock with `alter.lock`, notes work with `alter.scan`, `alter.rewrite` or in
`alter.tally`, and changes `alter.table` by `alter.put`.
"""

SUBCOMMANDS: dict[str, Subcommand] = {}
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
    finally:
        tally.lock(relation.name, alter.mode, family=alter.recurses)


def _place(named: tuple[str, Any]) -> int:
    name, command = named
    if name == "AT_ColumnDefault" and not command.HasField("def"):
        return 0
    return _PASSES.get(name, _LAST_PASS)


HANDLERS: dict[str, Handler] = {"alter_table_stmt": alter_table}
