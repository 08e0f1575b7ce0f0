"""What a database tells: its catalog, its version, and which revisions it has."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from alembic_safe.alembic_private import configure_through
from alembic_safe.errors import CannotConnect, OtherDatabase
from alembic_safe.lines import Line, LineName, contract_scripts, contract_table, has_contracts
from alembic_safe.lint.recording import quiet_migrations
from alembic_safe.postgres.effects import World
from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.identifiers import QualifiedName


@dataclass(frozen=True)
class Database:
    """A database as it is now.

    Args:
        world: its catalog, with sizes.
        applied: the revisions that it has, of both lines.
    """

    world: World
    applied: frozenset[str]


def read_own_database(config: Config, history: ScriptDirectory) -> Database:
    """Read the database to which `env.py` connects. Nothing in it is changed.

    Raises:
        CannotConnect: it does not answer, or `env.py` does not connect.
        OtherDatabase: it is not PostgreSQL.
    """
    found: list[Database] = []

    def read(heads: Iterable[str], context: MigrationContext) -> list[object]:
        connection = context.connection
        if connection is not None:
            table = QualifiedName(context.version_table, context.version_table_schema)
            found.append(_read(connection, history, heads, table))
        return []

    # `dont_mutate` is Alembic's own option for commands that only look.
    environment = EnvironmentContext(config, history, fn=read, as_sql=False, dont_mutate=True)
    configure = environment.configure

    def configure_online(connection: sa.Connection | None = None, **options: Any) -> None:
        if connection is None:
            raise CannotConnect(
                "the database", "env.py gives no connection to context.configure()."
            )
        configure(connection=connection, **options)

    configure_through(environment, configure_online)
    with environment, quiet_migrations(), contextlib.redirect_stdout(sys.stderr):
        history.run_env()
    if len(found) != 1:
        raise OtherDatabase(f"{len(found)} databases in one environment")
    return found[0]


def read_database_at(
    url: str, history: ScriptDirectory | None, version_table: QualifiedName | None
) -> Database:
    """Read the database at a URL. Nothing in it is changed.

    Args:
        url: SQLAlchemy's.
        history: the revisions.
        version_table: Alembic's. Where either is None only SQL files are judged.

    Raises:
        CannotConnect: it does not answer.
        OtherDatabase: it is not PostgreSQL.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    shown = engine.url.render_as_string(hide_password=True)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise CannotConnect(shown, f"{' '.join(str(error.orig).split())}.") from error
    with connection:
        if history is None or version_table is None:
            return Database(_world(connection), frozenset())
        return _read(connection, history, _versions(connection, version_table), version_table)


def _read(
    connection: sa.Connection,
    history: ScriptDirectory,
    heads: Iterable[str],
    version_table: QualifiedName,
) -> Database:
    world = _world(connection)
    applied = Line(LineName.HISTORY, history, version_table).applied(heads)
    if has_contracts(history):
        table = contract_table(version_table)
        contracts = Line(LineName.CONTRACT, contract_scripts(history), table)
        applied |= contracts.applied(_versions(connection, table))
    return Database(world, applied)


def _world(connection: sa.Connection) -> World:
    if connection.dialect.name != "postgresql":
        raise OtherDatabase(connection.dialect.name)
    return read_world(connection)


def _versions(connection: sa.Connection, table: QualifiedName) -> list[str]:
    exists = connection.execute(sa.text(f"SELECT {table.regclass} IS NOT NULL")).scalar()
    if not exists:
        return []
    return list(connection.execute(sa.text(f"SELECT version_num FROM {table.sql}")).scalars())
