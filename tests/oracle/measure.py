"""What a real server does with a case: its locks, files and scans, read from inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from alembic_safe.postgres.effects.model import TransactionNeed
from alembic_safe.postgres.effects.world import World
from alembic_safe.postgres.locks import LockMode
from oracle.held import locks_while_running
from oracle.truth import Truth

_MODES = {mode.pg_locks_name: mode for mode in LockMode}

_REFUSED_IN_TRANSACTION = "25001"

_READ_TO_THE_END = 0.9
"""Share of a table's rows; a scan may begin in the middle and rows may be added meanwhile."""

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
class Beginning:
    """How a database is when a case begins.

    Args:
        relations: by their oid.
        rows: of each table and materialized view, by oid.
        world: what the engine reads of it, once it was asked for.
    """

    relations: dict[int, _Relation]
    rows: dict[int, int]
    world: World | None = None


def look(session: psycopg.Connection[Any]) -> Beginning:
    """Return how a database is now."""
    relations = _relations(session)
    return Beginning(relations, _count_rows(session, relations.values()))


@dataclass
class Room:
    """A database in which a case is about to begin.

    Args:
        name: of the database.
        session: the connection that will run the case.
        beginning: how it is.
        committed: what was committed since it was copied.
    """

    name: str
    session: psycopg.Connection[Any]
    beginning: Beginning
    committed: list[str] = field(default_factory=list)

    @property
    def start(self) -> dict[int, _Relation]:
        """The relations at the beginning of the case."""
        return self.beginning.relations

    @property
    def rows(self) -> dict[int, int]:
        """Their rows at the beginning of the case."""
        return self.beginning.rows


def run_in_transaction(room: Room, statements: list[str]) -> list[Truth]:
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


def run_outside_transaction(
    room: Room, statement: str, connect: Callable[[], psycopg.Connection[Any]], held: str
) -> Truth:
    """Run a statement that a transaction block cannot contain, while other sessions hold its tables
    in the mode `held`."""
    before = _relations(room.session)
    named = [r for r in before.values() if _names(statement, r) or _names_schema(statement, r)]
    families = _families(room.session, named)
    need = TransactionNeed.FORBIDDEN
    try:
        seen = locks_while_running(room.session, statement, connect, families, held)
    except psycopg.Error as error:
        return Truth(error=_said(error), need=need, scans=None)
    after = _relations(room.session)
    modes = {oid: max(_MODES[mode] for mode in modes) for oid, modes in seen.items()}
    return _compared(room, before, after, _without_indexes(room, modes), None, need)


def locks_of(room: Room) -> Truth:
    """Return what is left by a statement that only begins or ends a transaction."""
    return Truth(_lock_modes(room))


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


def _names_schema(statement: str, relation: _Relation) -> bool:
    schema, dot, _name = relation.name.rpartition(".")
    return bool(dot) and re.search(rf"\bschema {re.escape(schema)}\b", statement) is not None


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
                rebuilds.setdefault(table, []).append(relation.name.rpartition(".")[2])
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
