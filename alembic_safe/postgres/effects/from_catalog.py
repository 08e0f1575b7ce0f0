"""Reads a `World` from a server's catalog: a fixed number of queries, whatever the tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from alembic_safe.postgres.effects import world_queries
from alembic_safe.postgres.effects.catalog_rows import CatalogRows, Row
from alembic_safe.postgres.effects.world import World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.server_errors import sqlstate

_IN_FAILED_TRANSACTION = "25P02"


def read_world(connection: sa.Connection, names: Iterable[QualifiedName] | None = None) -> World:
    """Return the database as the server's catalog describes it, the changes of the connection's own
    open transaction included.

    Relations that this transaction created are born in the world's batch: nobody else uses them.
    Temporary tables of the session have the schema `pg_temp`. Relations of the system and of other
    sessions are left out.

    With `names` only those relations are read, and what a statement that names them can reach: the
    table of an index, partitions and inheriting tables, parents, partners of foreign keys in both
    directions, owned sequences, views and rules that use them; for a type the tables that use it.
    User types and functions are all read. The world is complete all the same: ask for every name
    that the statements have, new ones too, since a name that was neither asked for nor reached
    counts as not there. A statement that reaches relations without naming them (`DROP SCHEMA`,
    `REINDEX DATABASE`, `ALTER TABLE ALL IN TABLESPACE`) needs the whole.

    It waits for nobody: of a table on which another session holds or awaits ACCESS EXCLUSIVE only
    the catalog's rows are read; its size and its expressions are not known then, and it is not
    `complete`. An open transaction goes on as it was, also after an error: the queries run below a
    savepoint that is rolled back, so that neither a lock nor a setting stays. Without a transaction
    they run in one of their own.

    Args:
        connection: in a transaction, in autocommit mode, or neither.
        names: a name without schema stands for every relation of that name.

    Returns:
        The world; one that knows nothing where the transaction has failed already.

    Raises:
        sqlalchemy.exc.DBAPIError: the server refused a query of the catalog (a statement_timeout,
            a lost connection).
    """
    wanted = None if names is None else list(dict.fromkeys(names))
    if not connection.in_transaction():
        with connection.begin():
            return read_world(connection, wanted)
    try:
        with _left_as_it_was(connection):
            return _read(connection, wanted).world()
    except sa.exc.DBAPIError as error:
        if sqlstate(error) == _IN_FAILED_TRANSACTION:
            return World()
        raise


@contextmanager
def _left_as_it_was(connection: sa.Connection) -> Iterator[None]:
    if _is_autocommit(connection):
        yield
        return
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        if savepoint.is_active:
            savepoint.rollback()


def _is_autocommit(connection: sa.Connection) -> bool:
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def _read(connection: sa.Connection, wanted: Sequence[QualifiedName] | None) -> CatalogRows:
    def rows(sql: str, **parameters: Any) -> Sequence[Row]:
        return connection.execute(sa.text(sql), parameters).all()

    session = rows(world_queries.SESSION)[0]
    # What a later version has and an earlier one does not.
    by_version = {
        "nulls_not_distinct": "i.indnullsnotdistinct" if session.version >= 15 else "false",
        "is_enforced": "con.conenforced" if session.version >= 18 else "true",
        "has_parsed_body": "p.prosqlbody IS NOT NULL" if session.version >= 14 else "false",
    }
    if wanted is None:
        found = rows(world_queries.ALL_RELATIONS)
    else:
        asked = {"names": [n.name for n in wanted], "schemas": [n.schema for n in wanted]}
        found = rows(world_queries.CLOSURE, **asked)
    oids = [row.oid for row in found]
    read = CatalogRows(
        session=session,
        relations=rows(world_queries.RELATIONS, oids=oids),
        columns=rows(world_queries.COLUMNS, oids=oids),
        indexes=rows(world_queries.INDEXES.format_map(by_version), oids=oids),
        constraints=rows(world_queries.CONSTRAINTS.format_map(by_version), oids=oids),
        dependents=rows(world_queries.DEPENDENTS, oids=oids),
        types=rows(world_queries.TYPES),
        functions=rows(world_queries.FUNCTIONS.format_map(by_version)),
    )
    if unnamed := read.unnamed_relations():
        read.names = rows(world_queries.NAMES, oids=sorted(unnamed))
    _read_expressions(connection, read)
    return read


def _read_expressions(connection: sa.Connection, read: CatalogRows) -> None:
    """Read what opens tables, last of all: where a table is not to be had, the rest is there."""

    def rows(sql: str, **parameters: Any) -> Sequence[Row]:
        return connection.execute(sa.text(sql), parameters).all()

    try:
        connection.execute(sa.text(world_queries.SHORT_WAIT))
        read.expressions = rows(world_queries.EXPRESSIONS, oids=read.free_relations())
        if bodies := [
            row.oid for row in read.functions if row.has_parsed_body and not row.is_overloaded
        ]:
            kept = list(read.session.kept_by_others)
            read.bodies = rows(world_queries.FUNCTION_BODIES, oids=bodies, kept_by_others=kept)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
