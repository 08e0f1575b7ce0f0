"""Statement: SQL with what it locks, how long it may wait and when it is already done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from alembic_safe.postgres.duplicates import Duplicates
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

if TYPE_CHECKING:
    from alembic_safe.postgres.leftovers import Leftovers


class Wait(Enum):
    """How long a statement may wait for its lock."""

    SHORT = "short"
    """`lock_timeout` is short, and the statement is retried: others queue behind the wait."""
    UNBOUNDED = "unbounded"
    """No `lock_timeout` and no `statement_timeout`: the wait keeps only other schema changes away,
    and a timeout would leave an invalid index or throw a scan away."""


@dataclass(frozen=True)
class Done:
    """How the catalog tells that a statement's work is already there.

    `query` returns one text: `todo` (run the statement), `done` (skip it), `other` (something of
    that name is there and is not what the statement makes), or `compare`. On `compare`, `setup`
    builds the wanted object on an empty temporary table, `comparison` returns `done` or `other`,
    and all of it is rolled back: only the server knows how it writes a definition down.
    """

    query: str
    setup: tuple[str, ...] = ()
    comparison: str = ""


@dataclass(frozen=True)
class Statement:
    """One statement, or several that must commit together.

    Args:
        sql: the statements; more than one only where a state between them would be wrong.
        table: the relation on which `lock` is taken; None where no existing table is locked.
        lock: the strongest mode taken on `table`.
        wait: the timeout policy.
        done: how to tell that the work is already there; None where running again is harmless.
        transactional: False for what PostgreSQL refuses inside a transaction block.
        object_name: what the statement makes or changes, for messages.
        leftovers: what failed attempts may have left, which goes first; and goes after an attempt
            that failed because of the data.
        only_table: whether `table` alone is locked in that mode, neither its partitions nor what
            else `sql` names.
        duplicates: rows that would make it fail, to be told before it begins.
        lock_first: tables to lock in mode `lock`, in this order, before anything else: the server
            would take them in another one, in which the application does not.
    """

    sql: tuple[str, ...]
    table: QualifiedName | None
    lock: LockMode
    wait: Wait = Wait.SHORT
    done: Done | None = None
    transactional: bool = True
    object_name: str = ""
    leftovers: Leftovers | None = None
    only_table: bool = False
    duplicates: Duplicates | None = None
    lock_first: tuple[QualifiedName, ...] = ()

    def __post_init__(self) -> None:
        if not self.transactional and (len(self.sql) != 1 or self.lock_first):
            raise ValueError("statements outside a transaction cannot commit together")

    @property
    def in_lock_order(self) -> tuple[str, ...]:
        """The statements behind the one that takes their locks in order."""
        if not self.lock_first:
            return self.sql
        tables = ", ".join(table.sql for table in self.lock_first)
        return (f"LOCK TABLE {tables} IN {self.lock.sql} MODE", *self.sql)
