"""The second look of the guard: the catalog, read in the middle of what somebody else is doing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.effects.world import (
    Column,
    Constraint,
    Index,
    Relation,
    Transaction,
)
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.runtime.sessions import execute_sql
from alembic_safe.runtime.transaction_state import TransactionState, transaction_state

log = logging.getLogger("alembic.safe")


@dataclass(frozen=True)
class Before:
    """What was known before a statement and no catalog tells.

    Args:
        relations: the relations that were known, with what was born in them.
        transaction: the open transaction with its locks.
        created: what earlier revisions of the run have created.
    """

    relations: Mapping[QualifiedName, Relation]
    transaction: Transaction | None
    created: Created = frozenset()

    @classmethod
    def of(cls, world: World, created: Created = frozenset()) -> Before:
        """Return what a world knows now; it may change afterwards."""
        block = world.transaction
        if block is not None:
            savepoints = [replace(savepoint, mark=0) for savepoint in block.savepoints]
            block = replace(block, locks=dict(block.locks), mark=0, savepoints=savepoints)
        return cls(dict(world.relations), block, created)


def look(connection: Connection, effects: Sequence[Effects], before: Before) -> World | None:
    """Return the database before some statements, as the catalog has it.

    The connection is as it was afterwards, transaction and locks included.

    Args:
        connection: the migration's connection.
        effects: what the first look took the statements for.
        before: what is known from the revision itself.

    Returns:
        None where the catalog cannot be read now.
    """
    try:
        with _aside(connection) as reader:
            world = read_world(reader, _names(effects))
    except DBAPIError as error:
        if error.connection_invalidated:
            connection.invalidate(error)
            raise
        log.debug("The catalog could not be read: %s", error)
        return None
    world.batch, world.released = THIS_REVISION, BEFORE_THE_RUN
    for name, found in world.relations.items():
        world.relations[name] = _with_births(found, before.relations.get(name), before.created)
    world.transaction = before.transaction
    return world


def learn(world: World, exact: World) -> None:
    """Keep what was read, for the next first look; sizes apart, since rows come and go."""
    for name, relation in exact.relations.items():
        known = world.find(name)
        if known is None or not known.complete:
            world.put(replace(relation, size=None))


def beside(connection: Connection) -> Connection:
    """Return a second connection object over the same session.

    SQLAlchemy's listeners do not hear of what is sent on it, and what the first knows of its
    transactions stays.
    """
    return Connection(connection.engine, connection.connection, _has_events=False)


_SAVEPOINT = "alembic_safe_guard"


@contextmanager
def _aside(connection: Connection) -> Iterator[Connection]:
    """Give a second connection object over the same session, for queries that nobody notices."""
    reader = beside(connection)
    if transaction_state(connection) is TransactionState.IDLE:
        # What the reading begins, it ends.
        yield reader
        return
    # Not the reader's own to end: for SQLAlchemy it begins, for the server nothing does.
    reader.begin()
    execute_sql(reader, f"SAVEPOINT {_SAVEPOINT}")
    try:
        yield reader
    except DBAPIError as error:
        if not error.connection_invalidated:
            _back(reader)
        raise
    _back(reader)


def _back(reader: Connection) -> None:
    """Go back to before the reading; its locks on the catalog go with it."""
    execute_sql(reader, f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
    execute_sql(reader, f"RELEASE SAVEPOINT {_SAVEPOINT}")


BEFORE_THE_RUN, EARLIER_IN_THE_RUN, THIS_REVISION = range(3)
"""Batches (`World.batch`): what the running release may know, and what it does not."""

Created = Set[tuple[QualifiedName, str | None]]
"""What earlier revisions of the run have created: relations, and what they added to relations."""


def created_in(world: World) -> Iterator[tuple[QualifiedName, str | None]]:
    """Yield what the revision has created in a world: relations, columns, indexes, constraints."""
    for relation in world.relations.values():
        if relation.born == THIS_REVISION:
            yield relation.name, None
        for part in _parts(relation):
            if part.born == THIS_REVISION:
                yield relation.name, part.name


_Part = Column | Index | Constraint
_Born = TypeVar("_Born", Column, Index, Constraint)


def _parts(relation: Relation) -> Iterator[_Part]:
    yield from relation.columns.values()
    yield from relation.indexes.values()
    yield from relation.constraints.values()


def _with_births(found: Relation, known: Relation | None, created: Created) -> Relation:
    """Return a relation of the catalog with what the run is known to have created in it.

    The catalog itself tells only of relations that the open transaction has created.
    """
    parts = _parts(known) if known is not None else ()
    new = {part.name for part in parts if part.born == THIS_REVISION}

    def birth(name: str | None, *, is_new: bool) -> int:
        if is_new:
            return THIS_REVISION
        return EARLIER_IN_THE_RUN if (found.name, name) in created else BEFORE_THE_RUN

    def born(there: Mapping[str, _Born]) -> Mapping[str, _Born]:
        return {
            name: replace(part, born=birth(name, is_new=name in new))
            for name, part in there.items()
        }

    is_new = found.born != BEFORE_THE_RUN or (known is not None and known.born == THIS_REVISION)
    return replace(
        found,
        born=birth(None, is_new=is_new),
        columns=born(found.columns),
        indexes=born(found.indexes),
        constraints=born(found.constraints),
    )


_REACHING_MANY = frozenset(
    {
        "alter_table_move_all_stmt",
        "call_stmt",
        "cluster_stmt",
        "create_schema_stmt",
        "do_stmt",
        "drop_owned_stmt",
        "grant_stmt",
        "reindex_stmt",
        "vacuum_stmt",
    }
)
"""Statements that may touch relations without naming them."""

_MOST_NAMES = 500
_LONGEST_NAME = 63


def _names(effects: Sequence[Effects]) -> list[QualifiedName] | None:
    """Return every name that the statements have, or None where all relations may matter.

    Every text in the parse trees counts: one that is no relation's name finds nothing.
    """
    texts: dict[str, None] = {}
    for each in effects:
        if each.node is None or each.unknown or each.children:
            return None
        if each.node_name in _REACHING_MANY or _drops_a_schema(each):
            return None
        texts.update(dict.fromkeys(_texts_in(each.node)))
    if len(texts) > _MOST_NAMES:
        return None
    return [QualifiedName(text) for text in texts if 0 < len(text.encode()) <= _LONGEST_NAME]


def _drops_a_schema(effects: Effects) -> bool:
    from postgast import pg_query_pb2 as grammar

    if effects.node_name != "drop_stmt":
        return False
    return bool(effects.node.remove_type == grammar.OBJECT_SCHEMA)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif hasattr(value, "ListFields"):
        for _field, part in value.ListFields():
            yield from _texts_in(part)
    elif hasattr(value, "__getitem__"):
        for part in value:
            yield from _texts_in(part)
