"""The names that constraints and indexes of the models have in the database."""

from __future__ import annotations

import copy

import sqlalchemy as sa
from alembic.operations import MigrateOperation, ops
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import conv

from alembic_safe.errors import CannotRewrite
from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName, derived_name


def with_final_name(operation: MigrateOperation) -> MigrateOperation:
    """Return the operation with the name that its constraint or index gets in the database: of one
    that a naming convention made too long, SQLAlchemy keeps the beginning and a hash.

    Raises:
        CannotRewrite: the name is too long, and no naming convention made it.
    """
    if isinstance(operation, ops.CreateIndexOp):
        attribute = "index_name"
    elif isinstance(operation, (ops.CreateUniqueConstraintOp, ops.CreateForeignKeyOp)):
        attribute = "constraint_name"
    else:
        return operation
    name = getattr(operation, attribute)
    if name is None or len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return operation
    named = copy.copy(operation)
    setattr(named, attribute, conv(_cut(name)))
    return named


def _cut(name: str) -> str:
    preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
    try:
        cut = preparer.truncate_and_render_constraint_name(name, _alembic_quote=False)
    except sa.exc.IdentifierError as error:
        raise CannotRewrite(
            f"The name {name} is longer than the {MAX_IDENTIFIER_BYTES} bytes that PostgreSQL "
            "keeps. Give a shorter one in the models, then run the same command again. No file was "
            "written."
        ) from error
    # SQLAlchemy counts characters, the server bytes.
    return cut.encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore")


def default_name(table: QualifiedName, columns: list[str], kind: str) -> str:
    """Return the name that PostgreSQL would give a constraint, where it is short enough.

    Args:
        table: the table.
        columns: the columns of the constraint.
        kind: `fkey` or `key`.
    """
    name = "_".join([table.name, *columns, kind])
    if len(name.encode()) <= MAX_IDENTIFIER_BYTES:
        return name
    return derived_name(f"alembic_safe_{kind}", table.name, *columns)
