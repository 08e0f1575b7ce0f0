"""Killed between any two statements, the same command completes, and the end is the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Database
from faults import IN_TRANSACTION, Commands, Life
from project import Project
from schema import OWN_TABLES, Schema, schema_of
from waiting import wait_until_alone

from alembic_safe.postgres.identifiers import quote
from alembic_safe.rehearsal.server import ScratchServer

V1 = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "users", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("full_name", sa.Text, nullable=False, index=True, server_default="nobody"),
    sa.CheckConstraint("full_name <> 'x'", name="ck_name"),
    sa.UniqueConstraint("full_name", "id", name="uq_name"),
)
sa.Table(
    "orders", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.Integer),
    sa.Column("note", sa.Text),
    sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), index=True),
    sa.Column("parent_id", sa.ForeignKey("orders.id", name="fk_parent", ondelete="CASCADE")),
    sa.Column("owner_id", sa.ForeignKey("users.id", name="fk_owner")),
    sa.UniqueConstraint("note", "id", name="uq_gone", deferrable=True),
    sa.UniqueConstraint("created_at", "id", name="uq_wider"),
    sa.UniqueConstraint("created_at", "id", "owner_id", name="uq_called_so"),
)
"""

V2 = """
import alembic_safe
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table(
    "users", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column(
        "display_name", sa.Text, nullable=False, index=True, server_default="nobody",
        info=alembic_safe.renamed_from("full_name"),
    ),
    sa.CheckConstraint("display_name <> 'x'", name="ck_name"),
    sa.UniqueConstraint("display_name", "id", name="uq_name"),
)
sa.Table(
    "orders", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", name="fk_user")),
    sa.Column("note", sa.Text, nullable=False, info=alembic_safe.filled_with("'none'")),
    sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("parent_id", sa.Integer),
    sa.Column("owner_id", sa.ForeignKey("users.id", name="fk_owner", ondelete="CASCADE")),
    sa.Column("total", sa.Integer, nullable=False, info=alembic_safe.filled_with("id * 2")),
    sa.UniqueConstraint("user_id", "id", name="uq_new"),
    sa.UniqueConstraint("created_at", "id", "parent_id", name="uq_wider"),
    sa.UniqueConstraint("created_at", "id", "owner_id", name="uq_called_otherwise"),
    sa.Index("ix_orders_note", "note", sa.text("lower(note)")),
)
sa.Table("shipments", metadata, sa.Column("id", sa.ForeignKey("orders.id"), primary_key=True))
"""

ROWS = """
INSERT INTO users (full_name) SELECT 'u' || i FROM generate_series(1, 40) AS i;
INSERT INTO orders (user_id, note)
SELECT i, CASE WHEN i % 2 = 0 THEN 'n' || i END FROM generate_series(1, 40) AS i;
"""

BATCHES = {"ALEMBIC_SAFE_BATCH_SIZE": "25"}


@dataclass(frozen=True)
class Command:
    """A command of the deploy."""

    args: tuple[str, ...]
    release: str


@dataclass(frozen=True)
class State:
    """All that a database has in the end."""

    schema: Schema
    rows: dict[str, list[tuple[Any, ...]]]


class Deploy:
    """The commands of a deploy, each with a database as it finds it.

    Args:
        server: where.
        project: with the revisions of the change.
        commands: runs its commands.
        name: the beginning of the names of its databases.
    """

    def __init__(
        self, server: ScratchServer, project: Project, commands: Commands, name: str
    ) -> None:
        self.server = server
        self.project = project
        self.commands = commands
        self.name = name
        self.steps: dict[str, Command] = {}
        self.moments: dict[str, tuple[str, ...]] = {}
        self.ends: dict[str, State] = {}

    def run(self, step: str, database: Database, die_at: int | None = None) -> Life:
        """Run the command of a step."""
        self.project.connect_to(database.url())
        command = self.steps[step]
        env = {**BATCHES, "ALEMBIC_SAFE_RELEASE": command.release}
        return self.commands.run(*command.args, env=env, die_at=die_at)

    def before(self, step: str) -> Database:
        """Return the database as the step finds it. Nobody may change it."""
        return Database(self.server, f"{self.name}_{list(self.steps).index(step)}")

    def copy(self, source: Database, name: str) -> Database:
        """Return a copy of a database."""
        wait_until_alone(source)
        self.server.execute(f"CREATE DATABASE {quote(name)} TEMPLATE {quote(source.name)}")
        return Database(self.server, name)

    def play(self) -> None:
        """Run all steps undisturbed, and keep what each finds and leaves."""
        for place, step in enumerate(self.steps):
            after = self.copy(self.before(step), f"{self.name}_{place + 1}")
            life = self.run(step, after)
            assert life.returncode == 0, life.output
            self.moments[step] = life.moments
            self.ends[step] = _state(after)


_ROWS = {
    "users": "SELECT * FROM users ORDER BY id",
    "orders": "SELECT * FROM orders ORDER BY id",
    "alembic_version": "SELECT * FROM alembic_version",
    "alembic_version_contract": "SELECT * FROM alembic_version_contract ORDER BY 1",
    "alembic_safe_backfill": "SELECT * FROM alembic_safe_backfill",
    "alembic_safe_ledger": "SELECT event, line, revision, phase, release, attempts"
    " FROM alembic_safe_ledger ORDER BY id",
}


def _state(database: Database) -> State:
    schema = schema_of(database)
    tables = {name for name, *_ in schema["relations"]}
    with database.connect() as connection:
        rows = {
            name: connection.execute(query.encode()).fetchall()
            for name, query in _ROWS.items()
            if name in tables
        }
    return State(schema, rows)


@pytest.fixture(scope="module")
def deploy(server: ScratchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """The change from V1 to V2, played once without a fault."""
    folder = tmp_path_factory.mktemp("deploy")
    name = f"deploy_{folder.name.strip('deploy') or 0}_{server.version}".replace("-", "_")
    server.create_database(f"{name}_0")
    first = Database(server, f"{name}_0")
    project = Project(folder / "project", first.url())
    project.models(V1)
    project.run("revision", "--autogenerate", "-m", "first")
    base = project.head()
    project.run("upgrade", "head")
    first.execute(ROWS)
    project.models(V2)
    project.run("revision", "--autogenerate", "-m", "second")
    with Commands(project) as commands:
        deploy = Deploy(server, project, commands, name)
        deploy.steps = {
            "expand and migrate": Command(("upgrade", "head"), "r1"),
            "contract": Command(("upgrade", "head"), "r2"),
            "downgrade": Command(("downgrade", str(base)), "r2"),
        }
        deploy.play()
        yield deploy
    for place in range(len(deploy.steps) + 1):
        server.drop_database(f"{name}_{place}")


SHARES = 4
"""Parts of one step, so that two processes can work on it."""

STEPS = ["expand and migrate", "contract", "downgrade"]

every_step = pytest.mark.parametrize("step", STEPS)
every_share = pytest.mark.parametrize("share", range(SHARES))


@every_share
@every_step
def test_killed_behind_any_commit_the_same_command_completes(
    deploy: Deploy, step: str, share: int
) -> None:
    moments = deploy.moments[step]
    committed = [n for n, words in enumerate(moments) if not words.startswith(IN_TRANSACTION)]
    assert len(committed) > 15
    for moment in committed[share::SHARES]:
        _dies_and_completes(deploy, step, moment)


@pytest.mark.slow
@every_share
@every_step
def test_killed_in_any_transaction_the_same_command_completes(
    deploy: Deploy, step: str, share: int
) -> None:
    moments = deploy.moments[step]
    open_ones = [n for n, words in enumerate(moments) if words.startswith(IN_TRANSACTION)]
    assert len(open_ones) > 15
    for moment in open_ones[share::SHARES]:
        _dies_and_completes(deploy, step, moment)


def _dies_and_completes(deploy: Deploy, step: str, moment: int) -> None:
    moments = deploy.moments[step]
    database = deploy.copy(deploy.before(step), f"{deploy.name}_{moment}_of_{len(moments)}")
    died = deploy.run(step, database, die_at=moment)
    assert died.returncode == -signal.SIGKILL, died.output
    assert died.moments == moments[: moment + 1]
    wait_until_alone(database)

    continued = deploy.run(step, database)

    assert continued.returncode == 0, f"killed {moments[moment]}\n{continued.output}"
    assert _state(database) == deploy.ends[step], f"killed {moments[moment]}"
    deploy.server.drop_database(database.name)


@pytest.mark.parametrize("step", ["contract", "downgrade"])
def test_nothing_of_the_package_is_left_but_its_three_tables(deploy: Deploy, step: str) -> None:
    named = {
        f"{kind}: {row}"
        for kind, rows in deploy.ends[step].schema.items()
        for row in rows
        if "alembic_" in str(row) and not str(row[0]).startswith((*OWN_TABLES, "alembic_version"))
    }
    assert named == set()
    relations = deploy.ends[step].schema["relations"]
    tables = {name for name, kind, *_ in relations if kind == "r" and "alembic_" in name}
    assert tables == {*OWN_TABLES, "alembic_version"}


def test_every_kind_of_statement_is_among_those_that_are_killed(deploy: Deploy) -> None:
    sent = "\n".join(moment for moments in deploy.moments.values() for moment in moments)
    for part in (
        "CREATE TRIGGER",
        "DROP TRIGGER",
        "CREATE INDEX CONCURRENTLY",
        "DROP INDEX CONCURRENTLY",
        "ADD CONSTRAINT",
        "VALIDATE CONSTRAINT",
        "NOT NULL",
        "FOREIGN KEY",
        "UNIQUE USING INDEX",
        "DROP COLUMN",
        "ADD COLUMN",
        'INSERT INTO "alembic_safe_backfill"',
        "alembic_version_contract",
    ):
        assert part in sent
