"""Effects: what one statement does to running traffic, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

if TYPE_CHECKING:
    from alembic_safe.postgres.effects.world import Relation


class Change(Enum):
    """What happens to a name that the running release may use."""

    DROPPED = "dropped"
    RENAMED = "renamed"
    RETYPED = "retyped"
    """The column keeps its name and has another type."""
    TIGHTENED = "tightened"
    """What the running release writes may now be refused: NOT NULL, a new constraint, a unique
    index, a column without a default that has to be given."""
    HIDDEN = "hidden"
    """Not there for the running release any more: another schema, a privilege taken away."""


@dataclass(frozen=True)
class NameChange:
    """A name that the running release may use and that goes away or changes.

    Args:
        change: what happens to it.
        kind: `table`, `column`, `view`, `type`, `value` (of an enum), `function`, `sequence`,
            `schema`, `constraint`, `index`, `default`, `trigger`.
        relation: the table, view or sequence; for other kinds the object's own name.
        name: of the column, constraint, value or trigger; None where `relation` says it all.
        new_name: after a rename.
        detail: what the change is where its kind does not tell, ready for a sentence: `NOT NULL`,
            `integer to bigint`.
    """

    change: Change
    kind: str
    relation: QualifiedName
    name: str | None = None
    new_name: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class ServerError:
    """An error that the server will raise, or that it will raise depending on what nobody told.

    Args:
        message: what PostgreSQL says, in its words as far as they are known.
        sqlstate: five characters (PostgreSQL documentation, appendix A).
        certain: False where it depends on rows or on objects that the world does not know.
    """

    message: str
    sqlstate: str
    certain: bool = True


@dataclass(frozen=True)
class IndexWork:
    """An index that is built, or rebuilt because its table or column changes.

    Args:
        table: the table that is read.
        name: the index; None where the server chooses its name.
        concurrently: the build neither blocks reads nor writes.
    """

    table: QualifiedName
    name: str | None
    concurrently: bool = False


class TransactionNeed(Enum):
    """Whether a statement can run inside a transaction block."""

    ANY = "any"
    FORBIDDEN = "forbidden"
    """The server refuses it inside a transaction block (SQLSTATE 25001)."""


@dataclass(frozen=True)
class Effects:
    """What one statement does, on a server of a version, in the place where it stands.

    Relations that the same batch created (`World.settle`) appear in none of the fields: nobody
    else can be waiting for them. Everything is what the server does at most: where the world does
    not know, the worse case is given and `assumed` says what was assumed.

    Args:
        sql: the statement's text, without the semicolon.
        offset: where it begins in the text that was analysed, in characters.
        command: its command tag, `ALTER TABLE`, `CREATE INDEX CONCURRENTLY`; empty where the
            text is not SQL.
        locks: the strongest mode that the statement takes on each existing relation, ROW SHARE
            and stronger; partner tables of foreign keys, partitions, parents and named indexes
            included.
        held: what the transaction held before the statement, in the same terms.
        rewrites: tables whose every row is written again.
        scans: tables that are read from end to end; those that are rewritten are not repeated.
        index_builds: new indexes on existing tables.
        index_rebuilds: existing indexes that get a new file; not repeated for rewritten tables.
        errors: what the server will, or may, raise.
        transaction: whether it can run inside a transaction block.
        in_transaction: whether it stands inside a transaction block.
        changes: names that the running release may use and that go away or change.
        unknown: what could not be understood; not empty means unsafe.
        assumed: what was assumed for want of a catalog, each as a short sentence.
        lock_timeout: milliseconds in force when it runs; 0 is none, None is not known.
        node: the parse tree, `postgast`'s protobuf message for this kind of statement; None where
            the text could not be parsed.
        node_name: the name of that message in the grammar, as `alter_table_stmt`.
        details: facts for rules that are about one command only, by name; the handlers' modules
            tell which. `unnamed_locks` is the strongest mode on existing tables that have no name
            here: the table of an index that is not known, the other table of a constraint that may
            be a foreign key.
        children: effects of the statements inside of it: the body of a DO block.
        before: relations that the statement changes, locks or works through, with their
            partitions, as they were. The world may have moved on: the statements of a text run
            one after the other before any of them is judged.
    """

    sql: str
    offset: int
    command: str
    locks: Mapping[QualifiedName, LockMode] = field(default_factory=dict)
    held: Mapping[QualifiedName, LockMode] = field(default_factory=dict)
    rewrites: tuple[QualifiedName, ...] = ()
    scans: tuple[QualifiedName, ...] = ()
    index_builds: tuple[IndexWork, ...] = ()
    index_rebuilds: tuple[IndexWork, ...] = ()
    errors: tuple[ServerError, ...] = ()
    transaction: TransactionNeed = TransactionNeed.ANY
    in_transaction: bool = False
    changes: tuple[NameChange, ...] = ()
    unknown: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    lock_timeout: int | None = None
    node: Any = None
    node_name: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    children: tuple[Effects, ...] = ()
    before: Mapping[QualifiedName, Relation] = field(default_factory=dict)

    @property
    def blocking(self) -> Mapping[QualifiedName, LockMode]:
        """Relations on which reads or writes wait while this statement runs, by what it takes
        itself or by what its transaction took before."""
        together = dict(self.held)
        for relation, mode in self.locks.items():
            together[relation] = max(mode, together.get(relation, LockMode.NONE))
        return {name: mode for name, mode in together.items() if mode.blocks_reads_or_writes}

    @property
    def works(self) -> bool:
        """Whether it does work in proportion to the size of an existing table."""
        rebuilt = any(not work.concurrently for work in (*self.index_builds, *self.index_rebuilds))
        return bool(self.rewrites or self.scans or rebuilt)

    @property
    def is_hazard(self) -> bool:
        """Whether it fails, is not understood, or works in proportion to a table while it blocks
        reads or writes."""
        if self.errors or self.unknown:
            return True
        if any(child.is_hazard for child in self.children):
            return True
        return self.works and bool(self.blocking)
