"""Each recipe under the load of the releases that may be alive: neither fails, each sees what the
other wrote, at every revision boundary on the way up and on the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Database
from in_process import Environment

from alembic_safe import filled_with, renamed_from
from alembic_safe.rehearsal.releases import Release
from alembic_safe.rehearsal.two_releases import Side, TwoReleases

ROWS = 300
ACTS = 40
"""Queries that are waited for at each boundary."""

Part = sa.Column[Any] | Callable[[], sa.Index | sa.Constraint]
"""A column, or what makes an index or a constraint: those belong to one table for ever."""


@dataclass(frozen=True)
class Change:
    """The models of two releases: what they have in `orders` beside `id`, `user_id` and `total`.

    Args:
        old, new: columns, constraints and indexes.
        same: {old column: new column} where the releases call one differently.
        more: whether the new release has a table that refers to `orders`.
        before_the_way_back: what a person has to do once the new release is gone.
        steps: how many revisions of each phase there are: expand, migrate, contract.
    """

    old: tuple[Part, ...]
    new: tuple[Part, ...]
    steps: tuple[int, int, int]
    same: Mapping[str, str] = field(default_factory=dict)
    more: bool = False
    before_the_way_back: str = ""

    def models(self, side: Side) -> sa.MetaData:
        """The models of one release."""
        metadata = sa.MetaData()
        sa.Table(
            "users",
            metadata,
            sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
            sa.Column("email", sa.Text, nullable=False),
        )
        parts = self.old if side == "old" else self.new
        sa.Table(
            "orders",
            metadata,
            sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
            sa.Column("user_id", sa.Integer, nullable=False),
            sa.Column("total", sa.Numeric(9, 2)),
            *(part._copy() if isinstance(part, sa.Column) else part() for part in parts),
        )
        if self.more and side == "new":
            sa.Table(
                "items",
                metadata,
                sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
                sa.Column("order_id", sa.ForeignKey("orders.id"), nullable=False, index=True),
            )
        return metadata

    def release(self, side: Side) -> Release:
        """One release of the application."""
        return Release({"old": "v1", "new": "v2"}[side], self.models(side))


def text(name: str, *parts: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, *parts, **options)


RENAMED = {"info": renamed_from("note")}
CHANGES = {
    "create index": Change((text("note"),), (text("note", index=True),), (0, 1, 0)),
    "create unique index on a new column": Change(
        (),
        (sa.Column("code", sa.BigInteger), lambda: sa.Index("ux", "code", unique=True)),
        (1, 1, 0),
    ),
    "drop index": Change((text("note", index=True),), (text("note"),), (1, 0, 1)),
    "change index under its name": Change(
        (text("note"), lambda: sa.Index("ix", "note")),
        (text("note"), lambda: sa.Index("ix", "note", "total")),
        (0, 1, 1),
    ),
    "change index whose column goes": Change(
        (text("note"), text("kind"), lambda: sa.Index("ix", "note", "kind")),
        (text("note"), lambda: sa.Index("ix", "note")),
        (0, 1, 1),
    ),
    "add foreign key": Change(
        (), (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"]),), (1, 0, 1)
    ),
    "add foreign key of a new column": Change(
        (), (sa.Column("by_id", sa.ForeignKey("users.id")),), (2, 1, 0)
    ),
    "drop foreign key": Change(
        (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"], "fk"),),
        (),
        (1, 0, 0),
        before_the_way_back="UPDATE orders SET user_id = 1 WHERE user_id NOT IN (SELECT id FROM"
        " users)",
    ),
    "change foreign key": Change(
        (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"], "fk"),),
        (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"], "fk", ondelete="CASCADE"),),
        (1, 0, 1),
    ),
    "change when a foreign key is checked": Change(
        (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"], "fk"),),
        (lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"], "fk", deferrable=True),),
        (0, 1, 0),
    ),
    "add unique constraint": Change(
        (text("note"),),
        (text("note"), lambda: sa.UniqueConstraint("note", "id")),
        (1, 0, 1),
    ),
    "add unique constraint on a new column": Change(
        (),
        (sa.Column("number", sa.BigInteger), lambda: sa.UniqueConstraint("number", name="uq")),
        (1, 1, 0),
    ),
    "drop unique constraint": Change(
        (
            sa.Column("number", sa.BigInteger),
            lambda: sa.UniqueConstraint("number", "id", name="uq"),
        ),
        (sa.Column("number", sa.BigInteger),),
        (1, 0, 0),
    ),
    "drop column with its unique constraint": Change(
        (sa.Column("number", sa.BigInteger), lambda: sa.UniqueConstraint("number", name="uq")),
        (),
        (1, 0, 1),
    ),
    "rename unique constraint": Change(
        (text("note"), lambda: sa.UniqueConstraint("note", "id", name="uq")),
        (text("note"), lambda: sa.UniqueConstraint("note", "id", name="orders_note_key")),
        (1, 0, 1),
    ),
    "unique constraint with more columns": Change(
        (text("note"), lambda: sa.UniqueConstraint("note", "id", name="uq")),
        (text("note"), lambda: sa.UniqueConstraint("note", "id", "total", name="uq")),
        (0, 1, 0),
    ),
    "unique constraint with fewer columns": Change(
        (text("note"), lambda: sa.UniqueConstraint("note", "id", "total", name="uq")),
        (text("note"), lambda: sa.UniqueConstraint("note", "id", name="uq")),
        (1, 0, 1),
    ),
    "set NOT NULL with a value": Change(
        (text("note"),),
        (text("note", nullable=False, info=filled_with("coalesce(total::text, '')")),),
        (0, 1, 1),
    ),
    "drop NOT NULL": Change(
        (text("note", nullable=False),),
        (text("note"),),
        (1, 0, 0),
        before_the_way_back="UPDATE orders SET note = '' WHERE note IS NULL",
    ),
    "add nullable column": Change((), (text("note"),), (1, 0, 0)),
    "add column with a default": Change(
        (), (text("note", nullable=False, server_default="none"),), (1, 0, 0)
    ),
    "add NOT NULL column with a constant": Change(
        (), (text("note", nullable=False, default="none"),), (1, 0, 1)
    ),
    "add NOT NULL column with an expression": Change(
        (),
        (text("note", nullable=False, info=filled_with("coalesce(total::text, '')")),),
        (1, 1, 1),
    ),
    "drop column": Change((text("note", index=True),), (), (1, 0, 1)),
    "drop NOT NULL column": Change((text("note", nullable=False),), (), (1, 0, 1)),
    "drop columns that share an index": Change(
        (text("note"), text("kind"), lambda: sa.Index("ix", "note", "kind")), (), (1, 0, 1)
    ),
    "rename column": Change(
        (text("note"),), (text("memo", **RENAMED),), (1, 1, 1), {"note": "memo"}
    ),
    "rename column with all that hangs on it": Change(
        (
            text("note", nullable=False, server_default="-", index=True),
            lambda: sa.UniqueConstraint("note", "id", name="uq"),
        ),
        (
            text("memo", nullable=False, server_default="-", index=True, **RENAMED),
            lambda: sa.UniqueConstraint("memo", "id", name="uq"),
        ),
        (1, 1, 1),
        {"note": "memo"},
    ),
    "rename column and set it NOT NULL": Change(
        (text("note"),),
        (text("memo", nullable=False, info=renamed_from("note") | filled_with("'none'")),),
        (1, 1, 1),
        {"note": "memo"},
    ),
    "rename NOT NULL column and drop that": Change(
        (text("note", nullable=False),), (text("memo", **RENAMED),), (1, 1, 1), {"note": "memo"}
    ),
    "create table": Change((), (), (1, 0, 0), more=True),
    "all at once": Change(
        (text("note", nullable=False, index=True), text("gone", nullable=False), text("kind")),
        (
            text("memo", nullable=False, index=True, **RENAMED),
            text("kind", nullable=False, info=filled_with("'none'")),
            text("added", nullable=False, default="x"),
            lambda: sa.ForeignKeyConstraint(["user_id"], ["users.id"]),
        ),
        (2, 1, 1),
        {"note": "memo"},
        more=True,
    ),
}


def wait_for_queries(both: TwoReleases) -> None:
    """Let the clients that are at work do something, and tell what went wrong so far."""
    before, deadline = both.observations().queries, time.monotonic() + 30
    while both.observations().queries < before + ACTS:
        assert time.monotonic() < deadline, "the clients stand still"
        time.sleep(0.01)
    both.observations().assert_clean()


@pytest.mark.parametrize("name", CHANGES)
def test_no_client_notices(name: str, database: Database, tmp_path: Path) -> None:
    change = CHANGES[name]
    old, new = change.release("old"), change.release("new")
    fill(database, old.metadata)
    env = Environment(tmp_path, database.url(), new.metadata)
    env.autogenerate()
    contracts = env.contract_revisions()
    phases = [
        path.read_text().partition('\nphase = "')[2].partition('"')[0] for path in env.files()
    ]
    assert tuple(map(phases.count, ("expand", "migrate", "contract"))) == change.steps
    history = sum(change.steps[:2])

    with TwoReleases(old, new, database.url(), {"orders": change.same}, think_seconds=0) as both:
        both.start("old", clients=2)
        for _ in range(history):
            env.upgrade("+1", "contract=hold")
            wait_for_queries(both)

        both.start("new", clients=2)
        wait_for_queries(both)
        assert both.cross_check() == []
        both.stop("old")
        for revision in contracts:
            env.contract(revision)
            wait_for_queries(both)
        assert both.check_rows("new") == []
        env.check()

        for revision in reversed(contracts):
            env.take_back(revision)
            wait_for_queries(both)
        both.start("old", clients=2)
        wait_for_queries(both)
        assert both.cross_check() == []
        both.stop("new")
        database.execute(change.before_the_way_back)
        for _ in range(history):
            env.downgrade("-1")
            wait_for_queries(both)
        assert both.check_rows("old") == []
        both.stop()
        both.observations().assert_clean()
    assert database.execute(f"SELECT count(*) FROM orders WHERE id <= {ROWS}") == [(ROWS,)]


def fill(database: Database, metadata: sa.MetaData) -> None:
    """Create the tables of the old release, with rows."""
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool)
    metadata.create_all(engine)
    engine.dispose()
    orders = metadata.tables["orders"]
    texts = [column.name for column in orders.columns if isinstance(column.type, sa.Text)]
    names = "".join(f", {column}" for column in texts)
    # A third of them is NULL where that may be.
    values = "".join(
        ", 'text ' || i"
        if not orders.c[column].nullable
        else ", nullif('text ' || i % 3, 'text 0')"
        for column in texts
    )
    database.execute("INSERT INTO users (email) SELECT i::text FROM generate_series(1, 20) AS i")
    database.execute(
        f"INSERT INTO orders (user_id, total{names})"
        f" SELECT 1 + i % 20, i{values} FROM generate_series(1, {ROWS}) AS i"
    )
