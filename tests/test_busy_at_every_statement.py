"""A lock timeout at any statement of a sequence: the command completes, or says so and completes
when it is run again. Nothing is harmed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
from conftest import Database
from environments import ASYNC_ENV
from faults import Commands, Life
from one_message import failure
from project import ENV, Project
from rename_story import V1, V2, fill
from schema import Schema, schema_of
from waiting import wait_until_alone

from alembic_safe.postgres.identifiers import quote
from alembic_safe.rehearsal.server import ScratchServer

DRIVERS = ["psycopg", "psycopg2", "asyncpg", "pg8000"]
STEPS = ["expand and migrate", "contract", "downgrade"]

State = tuple[Schema, dict[str, list[tuple[Any, ...]]]]

_ROWS = {
    "users": "SELECT * FROM users ORDER BY id",
    "orders": "SELECT * FROM orders ORDER BY id",
    "alembic_version": "SELECT * FROM alembic_version",
    "alembic_version_contract": "SELECT * FROM alembic_version_contract ORDER BY 1",
    "alembic_safe_backfill": "SELECT * FROM alembic_safe_backfill",
    "alembic_safe_ledger": "SELECT event, line, revision, phase, release"
    " FROM alembic_safe_ledger WHERE revision IS NOT NULL ORDER BY id",
}


def state(database: Database) -> State:
    """Return all that a database has, but for the number of attempts."""
    schema = schema_of(database)
    tables = {name for name, *_ in schema["relations"]}
    return schema, {
        name: database.execute(query) for name, query in _ROWS.items() if name in tables
    }


@dataclass
class Story:
    """The rename of a column, a NOT NULL and a foreign key: up, to its end, and back.

    Args:
        server: where.
        project: with the revisions.
        commands: runs its commands.
    """

    server: ScratchServer
    project: Project
    commands: Commands

    @cached_property
    def base(self) -> str:
        """The revision before the change."""
        return self.project.versions()[0].name.partition("_")[0]

    def database(self, name: str) -> Database:
        return Database(self.server, f"{self.project.folder.name}_{name}")

    def copy(self, source: Database, name: str) -> Database:
        wait_until_alone(source)
        copy = self.database(name)
        self.server.execute(f"CREATE DATABASE {quote(copy.name)} TEMPLATE {quote(source.name)}")
        return copy

    @contextmanager
    def copied(self, source: Database) -> Iterator[Database]:
        """A copy of a database, for a moment."""
        copy = self.copy(source, "copy")
        try:
            yield copy
        finally:
            self.server.drop_database(copy.name)

    def run(
        self, step: str, database: Database, driver: str = "psycopg", busy_at: int = -1
    ) -> Life:
        """Run the command of a step."""
        self.project.connect_to(database.url(driver))
        env_py = ASYNC_ENV if driver == "asyncpg" else ENV
        (self.project.migrations / "env.py").write_text(env_py)
        command = ("downgrade", self.base) if step == "downgrade" else ("upgrade", "head")
        release = "r1" if step == STEPS[0] else "r2"
        env = {"ALEMBIC_SAFE_RELEASE": release, "ALEMBIC_SAFE_RETRY_BASE": "1ms"}
        return self.commands.run(*command, env=env, busy_at=busy_at)


@pytest.fixture(scope="module")
def story(server: ScratchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The story, played once: a database as each step finds it, and as the last one leaves it."""
    folder = tmp_path_factory.mktemp("busy")
    project = Project(folder / f"busy_{server.version}_{folder.name}".replace("-", "_"), "x://")
    with Commands(project) as commands:
        story = Story(server, project, commands)
        first = story.database(STEPS[0])
        server.create_database(first.name)
        project.connect_to(first.url())
        project.models(V1)
        project.run("revision", "--autogenerate", "-m", "first")
        project.run("upgrade", "head")
        fill(first)
        project.models(V2)
        project.run("revision", "--autogenerate", "-m", "second")
        for step, after in zip(STEPS, [*STEPS[1:], "the end"], strict=True):
            life = story.run(step, story.copy(story.database(step), after))
            assert life.returncode == 0, life.output
        yield story
    for name in [*STEPS, "the end"]:
        server.drop_database(story.database(name).name)


def locks_tables(statement: str) -> bool:
    """Return whether a statement is more than a look at the catalog."""
    return not statement.startswith("SELECT") or statement.startswith("SELECT alembic_version")


def has_to_complete(life: Life) -> bool:
    """Return whether the run had to get past the lock timeout that it met: in a revision, and where
    Alembic reads its version table before it. What comes first of all has nothing to repeat."""
    statement = life.moments[-1]
    return locks_tables(statement) and (
        "Running " in life.output or statement.startswith("SELECT alembic_version")
    )


def every(story: Story, step: str, driver: str, *, nth: int, only_locks: bool) -> None:
    """Have every nth statement of a step fail once."""
    before = story.database(step)
    after = story.database([*STEPS, "the end"][STEPS.index(step) + 1])
    whole = state(after)
    with story.copied(before) as database:
        statements = story.run(step, database, driver).moments
    chosen = [
        number
        for number, statement in enumerate(statements)
        if locks_tables(statement) or not only_locks
    ]
    assert len(chosen) > 10
    reads_of_version = [n for n in chosen if statements[n].startswith("SELECT alembic_version")]
    for number in sorted({*chosen[STEPS.index(step) % nth :: nth], *reads_of_version[:1]}):
        with story.copied(before) as database:
            busy_at(story, step, database, driver, number)
            assert state(database) == whole, f"{driver}, busy at {statements[number]}"


def busy_at(story: Story, step: str, database: Database, driver: str, number: int) -> None:
    """Have one statement fail once; the command has to complete, or to say that it can."""
    life = story.run(step, database, driver, busy_at=number)
    told = f"{driver}, busy at {life.moments[-1]}\n{life.output}"
    assert len(life.moments) > number, told
    if life.returncode != 0:
        assert not has_to_complete(life), told
        message = failure(subprocess.CompletedProcess("", life.returncode, life.output, ""))
        assert "un the same command again" in message
        assert "Undo" not in message, told
        again = story.run(step, database, driver)
        assert again.returncode == 0, f"{told}\n{again.output}"
    wait_until_alone(database)


@pytest.mark.parametrize(("step", "nth"), list(zip(STEPS, [2, 2, 3], strict=True)))
def test_at_statements_that_lock_tables(story: Story, step: str, nth: int) -> None:
    every(story, step, "psycopg", nth=nth, only_locks=True)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("driver", DRIVERS[1:])
def test_with_other_drivers(story: Story, step: str, driver: str) -> None:
    every(story, step, driver, nth=20, only_locks=False)


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("driver", DRIVERS)
def test_at_every_statement_with_every_driver(story: Story, step: str, driver: str) -> None:
    every(story, step, driver, nth=1, only_locks=False)
