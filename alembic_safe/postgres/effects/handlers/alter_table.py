"""One ALTER TABLE statement while its sub-commands are read.

Each sub-command is a function in a dictionary `SUBCOMMANDS` of a module beside this one, keyed by
the name of its `AlterTableType` in the grammar; `alter_statements` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from alembic_safe.postgres.effects.tally import Tally
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
        rewritten: whether rows are written again.
        at_end: what is left to do when every sub-command is read.
    """

    tally: Tally
    name: QualifiedName
    only: bool = False
    mode: LockMode = LockMode.NONE
    recurses: bool = False
    rewritten: bool = False
    at_end: list[Callable[[], None]] = field(default_factory=list)

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

    def may_have_rows(self) -> bool:
        """Return whether rows are in the table or its family, as far as it is known."""
        return any(m.size != 0 for m in self.members() if not m.is_partitioned)

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
        self.rewritten = True
        for member in self.members():
            self.tally.rewrite(member)


Subcommand = Callable[[AlterTable, Any], None]
"""Reads one sub-command, an `AlterTableCmd` of the parse tree.

It asks for its lock with `alter.lock`, notes work with `alter.scan`, `alter.rewrite` or in
`alter.tally`, and changes `alter.table` by `alter.put`.
"""
