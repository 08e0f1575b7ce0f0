"""Operations run directly on a database: as a revision calls them, without revision files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op_text
from alembic.migration import MigrationContext
from alembic.operations import MigrateOperation, Operations
from conftest import Database
from sqlalchemy.pool import NullPool

from alembic_safe.runtime.execution import EXECUTOR_OPTION, TRANSACTIONAL_OPTION, Executor
from alembic_safe.runtime.locking import Patience
from alembic_safe.settings import Settings


@contextmanager
def operations(
    database: Database,
    *,
    settings: Settings | None = None,
    patience: Patience | None = None,
    search_path: str | None = None,
    version_table_schema: str | None = None,
) -> Iterator[Operations]:
    """Alembic's `op` on a database; what was not committed before is committed at the end.

    Args:
        settings: the settings of the run.
        patience: instead of `settings`, to hear about the waits.
        search_path: the session's.
        version_table_schema: the schema of Alembic's version table.
    """
    engine = sa.create_engine(database.url(), poolclass=NullPool)
    with engine.connect() as connection:
        if search_path is not None:
            connection.exec_driver_sql(f"SET search_path = {search_path}")
            connection.commit()
        executor = Executor(patience or Patience(settings or Settings()), revision="r1")
        options = {EXECUTOR_OPTION: executor, "version_table_schema": version_table_schema}
        context = MigrationContext.configure(connection, opts=options)
        with context.begin_transaction():
            yield Operations(context)


def run(database: Database, *steps: MigrateOperation, settings: Settings | None = None) -> None:
    """Run operations one after the other, each statement committed by itself, as in a revision
    that is not one transaction."""
    with operations(database, settings=settings) as op, op.get_context().autocommit_block():
        for step in steps:
            op.invoke(step)


def run_in_transaction(database: Database, *steps: MigrateOperation) -> None:
    """Run operations in one transaction, as in a revision that is one."""
    with operations(database) as op:
        for step in steps:
            op.invoke(step)


def script_of(*steps: MigrateOperation) -> str:
    """Return what `--sql` writes for operations of a revision that is not one transaction."""
    buffer = io.StringIO()
    options = {"as_sql": True, "output_buffer": buffer, TRANSACTIONAL_OPTION: False}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    op = Operations(context)
    for step in steps:
        op.invoke(step)
    return buffer.getvalue()


def source_of(step: MigrateOperation) -> str:
    """Return what a revision file says for an operation."""
    context = MigrationContext.configure(dialect_name="postgresql")
    autogen_context = AutogenContext(
        context, opts={"sqlalchemy_module_prefix": "sa.", "alembic_module_prefix": "op."}
    )
    return render_op_text(autogen_context, step)
