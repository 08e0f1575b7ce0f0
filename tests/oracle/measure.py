"""What a real server does with a case: its locks, files and scans, read from inside."""

from __future__ import annotations

import itertools
import os
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq

from alembic_safe.postgres.effects.model import TransactionNeed
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rehearsal.server import ScratchServer
from oracle.held import locks_while_running
from oracle.statements import FIXTURE, Case
from oracle.undo import fingerprint, take_back

_MODES = {mode.pg_locks_name: mode for mode in LockMode}

_REFUSED_IN_TRANSACTION = "25001"

_READ_TO_THE_END = 0.9
"""Share of a table's rows; a scan may begin in the middle and rows may be added meanwhile."""

_CONTROL = re.compile(r"(begin|start|commit|end|rollback|abort|savepoint|release)\b", re.I)

_SNAPSHOT = """
select c.oid, c.relkind::text, i.indrelid, pg_relation_filenode(c.oid),
    pg_stat_get_xact_numscans(c.oid), pg_stat_get_xact_tuples_returned(c.oid),
    case when c.relkind in ('r', 'm') then pg_relation_size(c.oid) end,
    case n.nspname when 'public' then c.relname else n.nspname || '.' || c.relname end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_index i on i.indexrelid = c.oid
where n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and c.relkind <> 'c'
"""

_LOCKS = """
select relation, mode from pg_locks
where pid = pg_backend_pid() and locktype = 'relation' and granted
"""


@dataclass(frozen=True)
class Truth:
    """What one statement did, where it stands in its case.

    Relations that the case itself made are left out. Names are those before the case, without the
    schema `public`.

    Args:
        locks: the strongest mode that its session holds on each relation after it, ROW SHARE and
            stronger; an index where its lock is stronger than that on its table.
        rewrites: tables with a new file that is not empty, or was empty before.
        scans: tables that were read from end to end; None where that cannot be measured, outside a
            transaction. Tables that were rewritten, or that got an index, are not repeated.
        builds: for each table the number of new indexes.
        rebuilds: for each table its indexes with a new file; not of rewritten tables.
        error: SQLSTATE and message.
        need: whether it can run inside a transaction block.
        renamed: the names that relations had when it began, where they were others before the case.
    """

    locks: dict[str, LockMode] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    scans: tuple[str, ...] | None = ()
    builds: dict[str, int] = field(default_factory=dict)
    rebuilds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    need: TransactionNeed = TransactionNeed.ANY
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def is_hazard(self) -> bool:
        """Whether it fails, or works in proportion to a table while it blocks reads or writes."""
        works = self.rewrites or self.scans or self.builds or self.rebuilds
        blocks = any(mode.blocks_reads_or_writes for mode in self.locks.values())
        return self.error is not None or bool(works and blocks)


@dataclass(frozen=True)
class _Relation:
    oid: int
    kind: str
    table: int | None
    file: int | None
    scans: int
    tuples: int
    size: int | None
    name: str


@dataclass
class Room:
    """A database in which a case is about to begin.

    Args:
        name: of the database.
        session: the connection that will run the case.
        committed: what was committed since it was copied.
        rows: of each table and materialized view, by oid.
        start: the relations at the beginning, by oid.
    """

    name: str
    session: psycopg.Connection[Any]
    committed: list[str] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    start: dict[int, _Relation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Note how it is at the beginning of a case."""
        self.start = _relations(self.session)
        self.rows = _count_rows(self.session, self.start.values())


class Laboratory:
    """Cases on one server. Each begins in the fixture's database, its `before` committed.

    A context manager: at the end the databases are dropped.
    """

    def __init__(self, server: ScratchServer) -> None:
        self.server = server
        self.version = server.version
        self._template = f"oracle_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()
        self._untouched = ""
        self._room: Room | None = None

    def __enter__(self) -> Laboratory:
        self._make_what_all_databases_share()
        self.server.create_database(self._template)
        self.server.execute(FIXTURE, database=self._template)
        self.server.execute("analyze", database=self._template)
        with self.server.connect(self._template) as session:
            self._untouched = fingerprint(session)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._room is not None:
            self._close(self._room)
        self.server.drop_database(self._template)

    def _make_what_all_databases_share(self) -> None:
        for kind, name, create in (
            ("roles where rolname", "r1", "create role r1"),
            (
                "tablespace where spcname",
                "ts1",
                "set allow_in_place_tablespaces = on; create tablespace ts1 location ''",
            ),
        ):
            if not self.server.execute(f"select 1 from pg_{kind} = '{name}'"):
                with self.server.connect() as connection:
                    for statement in create.split("; "):
                        connection.execute(statement.encode())

    def room(self, case: Case) -> Room:
        """Return a database in which `case` is about to begin: that of the case before, as far as
        what it committed can be undone."""
        room, self._room = self._room, None
        committed = Case("", "", case.before).statements
        if room is not None and room.committed != committed and not self._tidied(room):
            self._close(room)
            room = None
        if room is None:
            room = self._open()
        if room.committed != committed:
            room.committed = committed
            try:
                for statement in committed:
                    room.session.execute(statement.encode())
            except psycopg.Error:
                self._close(room)
                raise
            room.look()
        self._room = room
        return room

    def _tidied(self, room: Room) -> bool:
        """Undo what was committed. Return whether the database is then as it was."""
        if room.committed:
            try:
                take_back(room.session, room.committed)
            except psycopg.Error:
                return False
            room.committed = []
            if fingerprint(room.session) != self._untouched:
                return False
            room.look()
        return True

    def _open(self) -> Room:
        name = f"{self._template}_{next(self._numbers)}"
        self.server.execute(f"create database {name} template {self._template}")
        return Room(name, self._connect(name))

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        session = self.server.connect(name)
        session.prepare_threshold = None
        return session

    def _close(self, room: Room) -> None:
        room.session.close()
        self.server.drop_database(room.name)

    def truth(self, case: Case) -> list[Truth]:
        """Run a case and return what each of its statements did; the last one may have failed.

        Raises:
            psycopg.Error: the server does not take what was to be committed before.
        """
        if not case.alone:
            room = self.room(case)
            try:
                room.session.execute("begin")
                return _run(room, case.statements)
            finally:
                room.session.execute("rollback")
                room.session.execute("discard all")
        runs = [
            self._truth_alone(case, mode) for mode in ("ACCESS SHARE", "SHARE UPDATE EXCLUSIVE")
        ]
        return [_stronger(*pair) for pair in zip(*runs, strict=True)]

    def _truth_alone(self, case: Case, held: str) -> list[Truth]:
        room = self.room(case)
        truths: list[Truth] = []
        for statement in case.statements:
            truths.append(self._one_alone(room, statement, held))
            if truths[-1].error is not None:
                break
            room.committed = [*room.committed, statement]
        room.session.execute("rollback")
        room.session.execute("discard all")
        return truths

    def _one_alone(self, room: Room, statement: str, held: str) -> Truth:
        session = room.session
        if _CONTROL.match(statement):
            session.execute(statement.encode())
            return Truth(_lock_modes(room))
        if session.info.transaction_status == pq.TransactionStatus.INTRANS:
            return _run(room, [statement])[0]
        session.execute("begin")
        truth = _run(room, [statement])[0]
        if truth.need is TransactionNeed.ANY:
            session.execute("commit")
            return truth
        session.execute("rollback")
        return self._outside_transaction(room, statement, held)

    def _outside_transaction(self, room: Room, statement: str, held: str) -> Truth:
        before = _relations(room.session)
        families = _families(room.session, [r for r in before.values() if _names(statement, r)])
        need = TransactionNeed.FORBIDDEN
        try:
            seen = locks_while_running(
                room.session, statement, lambda: self._connect(room.name), families, held
            )
        except psycopg.Error as error:
            return Truth(error=_said(error), need=need, scans=None)
        after = _relations(room.session)
        modes = {oid: max(_MODES[mode] for mode in modes) for oid, modes in seen.items()}
        return _compared(room, before, after, _without_indexes(room, modes), None, need)


def _run(room: Room, statements: list[str]) -> list[Truth]:
    """Run statements in the open transaction block, up to the one that fails."""
    truths: list[Truth] = []
    before = _relations(room.session)
    for statement in statements:
        try:
            room.session.execute(statement.encode())
        except psycopg.Error as error:
            refused = error.sqlstate == _REFUSED_IN_TRANSACTION
            need = TransactionNeed.FORBIDDEN if refused else TransactionNeed.ANY
            return [*truths, Truth(error=_said(error), need=need)]
        after = _relations(room.session)
        scans = _scanned(room, before, after)
        truths.append(_compared(room, before, after, _lock_modes(room, statement), scans))
        before = after
    return truths


def _said(error: psycopg.Error) -> tuple[str, str]:
    return error.sqlstate or "", error.diag.message_primary or str(error)


def _relations(session: psycopg.Connection[Any]) -> dict[int, _Relation]:
    return {row[0]: _Relation(*row) for row in session.execute(_SNAPSHOT)}


def _count_rows(session: psycopg.Connection[Any], relations: Iterable[_Relation]) -> dict[int, int]:
    tables = [relation for relation in relations if relation.kind in ("r", "m")]
    # PostgreSQL writes the name of a regclass as SQL.
    names = session.execute(
        "select oid, oid::regclass::text from pg_class where oid = any(%s)",
        [[table.oid for table in tables]],
    ).fetchall()
    counts = " union all ".join(
        f"select {oid}::oid, count(*) from only {name}" for oid, name in names
    )
    return dict(session.execute(counts.encode()).fetchall())


def _lock_modes(room: Room, statement: str = "") -> dict[str, LockMode]:
    modes: dict[int, LockMode] = {}
    for oid, mode in room.session.execute(_LOCKS):
        modes[oid] = max(_MODES[mode], modes.get(oid, LockMode.NONE))
    found = {}
    for oid, mode in modes.items():
        relation = room.start.get(oid)
        if relation is None or mode < LockMode.ROW_SHARE:
            continue
        if relation.table is not None:
            of_table = modes.get(relation.table, LockMode.NONE)
            if of_table >= mode or (
                of_table >= LockMode.ROW_SHARE and not _names(statement, relation)
            ):
                continue
        found[relation.name] = mode
    return found


def _without_indexes(room: Room, modes: dict[int, LockMode]) -> dict[str, LockMode]:
    # Which of several short locks on an index is seen outside a transaction is left to chance.
    return {
        room.start[oid].name: mode
        for oid, mode in modes.items()
        if oid in room.start and room.start[oid].table is None and mode >= LockMode.ROW_SHARE
    }


def _names(statement: str, relation: _Relation) -> bool:
    name = relation.name.rpartition(".")[2]
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", statement) is not None


def _scanned(room: Room, before: dict[int, _Relation], after: dict[int, _Relation]) -> set[str]:
    scanned = set()
    for oid, rows in room.rows.items():
        if oid not in before or oid not in after:
            continue
        read = after[oid].tuples - before[oid].tuples
        if after[oid].scans > before[oid].scans and read >= _READ_TO_THE_END * rows:
            scanned.add(room.start[oid].name)
    return scanned


def _compared(
    room: Room,
    before: dict[int, _Relation],
    after: dict[int, _Relation],
    locks: dict[str, LockMode],
    scans: set[str] | None,
    need: TransactionNeed = TransactionNeed.ANY,
) -> Truth:
    rewrites: set[int] = set()
    emptied: set[int] = set()
    for oid, rows in room.rows.items():
        if oid in before and oid in after and before[oid].file != after[oid].file:
            was_emptied = rows > 0 and after[oid].size == 0
            (emptied if was_emptied else rewrites).add(oid)
    builds: dict[str, int] = {}
    rebuilds: dict[str, list[str]] = {}
    known_files = {relation.file for relation in before.values()}
    known_names = {(relation.table, relation.name) for relation in before.values()}
    for relation in after.values():
        # An index that is dropped and made again by ALTER COLUMN TYPE may keep its file.
        if relation.kind != "i" or relation.file in known_files or relation.table not in room.start:
            continue
        table = room.start[relation.table].name
        if relation.oid in before or (relation.table, relation.name) in known_names:
            if relation.table not in rewrites | emptied:
                rebuilds.setdefault(table, []).append(relation.name)
        else:
            builds[table] = builds.get(table, 0) + 1
    rewritten = {room.start[oid].name for oid in rewrites}
    return Truth(
        locks,
        tuple(sorted(rewritten)),
        None if scans is None else tuple(sorted(scans - rewritten - {*builds, *rebuilds})),
        builds,
        {table: tuple(sorted(names)) for table, names in rebuilds.items()},
        None,
        need,
        {
            relation.name: room.start[oid].name
            for oid, relation in before.items()
            if oid in room.start and relation.name != room.start[oid].name
        },
    )


def _families(session: psycopg.Connection[Any], named: list[_Relation]) -> list[str]:
    """Return the tables that are named, or whose index is, with their partitions and parents, as
    SQL."""
    wanted = [relation.table or relation.oid for relation in named if relation.kind in "rpiI"]
    rows = session.execute(
        """
        with recursive family(oid) as (
            select unnest(%s::oid[])
            union
            select case family.oid when inhparent then inhrelid else inhparent end
            from pg_inherits, family where family.oid in (inhparent, inhrelid)
        )
        select distinct oid::regclass::text from family order by 1
        """,
        [wanted],
    )
    return [name for (name,) in rows]


def _stronger(one: Truth, other: Truth) -> Truth:
    locks = {
        name: max(one.locks.get(name, LockMode.NONE), other.locks.get(name, LockMode.NONE))
        for name in {**one.locks, **other.locks}
    }
    assert (one.rewrites, one.builds, one.error) == (other.rewrites, other.builds, other.error)
    return Truth(
        locks, one.rewrites, one.scans, one.builds, one.rebuilds, one.error, one.need, one.renamed
    )
