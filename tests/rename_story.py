"""A small change of models that needs every kind of revision, and rows that feel it."""

from __future__ import annotations

from conftest import Database

V1 = """\
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False, index=True),
)
sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer, nullable=False),
    sa.Column("note", sa.Text),
)
"""

V2 = """\
import sqlalchemy as sa

import alembic_safe

metadata = sa.MetaData()
sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "display_name",
        sa.Text,
        nullable=False,
        index=True,
        info=alembic_safe.renamed_from("full_name"),
    ),
)
sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("note", sa.Text, nullable=False, info=alembic_safe.filled_with("'none'")),
)
sa.Table("parcels", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


def fill(database: Database) -> None:
    """Write rows as V1 does: half of the orders have no note."""
    database.execute(
        "INSERT INTO users (full_name) SELECT 'user ' || n FROM generate_series(1, 50) AS n"
    )
    database.execute(
        "INSERT INTO orders (user_id, note)"
        " SELECT n, CASE WHEN n % 2 = 0 THEN 'note ' || n END FROM generate_series(1, 50) AS n"
    )
