"""The whole story through every driver and kind of environment; other databases feel nothing."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Database
from environments import replace_in_env, use_driver
from project import Project
from rename_story import V1, V2, fill
from schema import OWN_TABLES, schema_of

ENVIRONMENTS = ["psycopg", "psycopg2", "asyncpg", "pg8000", "psycopg in autocommit mode"]


def use(project: Project, database: Database, environment: str) -> None:
    driver, _, mode = environment.partition(" ")
    use_driver(project, database.url(driver))
    if mode:
        replace_in_env(project, "NullPool,", 'NullPool, isolation_level="AUTOCOMMIT",')


def ran(stderr: str) -> list[str]:
    return re.findall(r"Running \w+ .*, (\w+)", stderr)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_story_of_a_rename(
    alembic_project: Project, database: Database, environment: str
) -> None:
    project = alembic_project
    use(project, database, environment)
    project.models(V1)
    project.run("revision", "--autogenerate", "-m", "start")
    project.run("upgrade", "head")
    start = project.head()
    assert start is not None
    before = schema_of(database, without=OWN_TABLES)
    fill(database)

    project.models(V2)
    project.run("revision", "--autogenerate", "-m", "display name")
    expanded = project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r1"})
    assert {"expand", "migrate"} == set(ran(expanded.stderr))
    database.execute("INSERT INTO users (full_name) VALUES ('by v1')")
    database.execute("INSERT INTO users (display_name) VALUES ('by v2')")

    contracted = project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r2"})
    assert set(ran(contracted.stderr)) == {"contract"}
    assert "No new upgrade operations" in project.run("check").stdout
    names = database.execute("SELECT display_name FROM users ORDER BY id")
    assert names[0] == ("user 1",)
    assert names[50:] == [("by v1",), ("by v2",)]
    assert database.execute("SELECT count(*) FROM orders WHERE note = 'none'") == [(25,)]

    project.run("downgrade", start)
    assert schema_of(database, without=OWN_TABLES) == before
    assert database.execute("SELECT full_name FROM users ORDER BY id") == names
    assert database.execute("SELECT * FROM alembic_version_contract") == []


def test_sqlite_passes_through_unchanged(tmp_path: Path) -> None:
    project = Project(tmp_path, f"sqlite:///{tmp_path / 'shop.db'}")
    project.models(V1)
    project.run("revision", "--autogenerate", "-m", "start")
    project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r1"})
    added = 'sa.Column("email", sa.Text, index=True),\n    sa.Column("user_id"'
    project.models(V1.replace('sa.Column("user_id"', added))
    project.run("revision", "--autogenerate", "-m", "email")
    project.run("upgrade", "head")
    assert "No new upgrade operations" in project.run("check").stdout
    assert project.run("current").stdout.split() == [project.head(), "(head)"]
    first, second = (project.read(path) for path in project.versions())
    assert "phase" not in first + second
    assert "op.create_index(op.f('ix_orders_email')" in second
    assert not (project.migrations / "contracts").exists()
    assert "CREATE TABLE orders" in project.run("upgrade", "head", "--sql").stdout
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for (name,) in tables} == {"alembic_version", "orders", "users"}
    assert len(ran(project.run("downgrade", "base").stderr)) == 2
