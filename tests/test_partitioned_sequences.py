"""Changes of the indexes of partitioned tables, from the models to the database and back."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from conftest import Database
from environments import use_driver
from faults import IN_TRANSACTION, Commands
from hand_written import write_history
from in_process import Environment
from project import Project
from schema import OWN_TABLES, Schema, schema_of
from waiting import wait_until_alone

import alembic_safe
from alembic_safe.errors import CannotRewrite
from alembic_safe.lint.run import OWN_DATABASE, Request, lint_revisions
from alembic_safe.rules.finding import Severity
from alembic_safe.rules.settings import LintSettings

TABLE = """
CREATE TABLE parts (id int NOT NULL, name text, age int) PARTITION BY RANGE (id);
CREATE TABLE "parts 1" PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (99) PARTITION BY LIST (id);
CREATE TABLE parts_2_rest PARTITION OF parts_2 DEFAULT;
INSERT INTO parts SELECT i, 'name ' || i, i FROM generate_series(1, 50) AS i;
"""


def models(*indexes: sa.Index | sa.UniqueConstraint, name: str = "name") -> sa.MetaData:
    """The table, with indexes."""
    renamed = alembic_safe.renamed_from("name") if name != "name" else {}
    metadata = sa.MetaData()
    sa.Table(
        "parts",
        metadata,
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column(name, sa.Text, info=renamed),
        sa.Column("age", sa.Integer),
        *indexes,
        postgresql_partition_by="RANGE (id)",
    )
    return metadata


def environment(folder: Path, database: Database, sql: str, metadata: sa.MetaData) -> Environment:
    """An environment whose revisions lead from the table with `sql` to the models."""
    database.execute(TABLE + sql)
    made = Environment(
        folder,
        database.url(),
        metadata,
        include_object=lambda _object, name, *_more: not str(name).startswith(("parts_", "parts ")),
    )
    made.autogenerate()
    return made


def schema(database: Database) -> Schema:
    return schema_of(database, without=(*OWN_TABLES, "alembic_version"))


CHANGES = {
    "created": (
        "",
        models(sa.Index("ix", "name", sa.text("lower(name)"), postgresql_where=sa.text("age > 0"))),
        "CREATE INDEX ix ON parts (name, lower(name)) WHERE age > 0",
        ["create_partitioned_index", "drop_partitioned_index"],
    ),
    "created, unique": (
        "",
        models(sa.Index("ux", "id", "name", unique=True)),
        "CREATE UNIQUE INDEX ux ON parts (id, name)",
        ["create_partitioned_index", "drop_partitioned_index"],
    ),
    "dropped": (
        "CREATE INDEX ix ON parts USING btree (name DESC) INCLUDE (age) WITH (fillfactor = 70);",
        models(),
        "DROP INDEX ix",
        ["drop_partitioned_index", "create_partitioned_index"],
    ),
    "changed": (
        "CREATE INDEX ix ON parts (name);",
        models(sa.Index("ix", "name", "age")),
        "DROP INDEX ix; CREATE INDEX ix ON parts (name, age)",
        ["create_partitioned_index", "drop_partitioned_index", "rename_index"],
    ),
    "carried over to a renamed column": (
        "CREATE INDEX ix ON parts (name, age);",
        models(sa.Index("ix", "title", "age"), name="title"),
        "ALTER TABLE parts ADD COLUMN title text; DROP INDEX ix;"
        "ALTER TABLE parts DROP COLUMN name; CREATE INDEX ix ON parts (title, age)",
        ["create_partitioned_index", "drop_partitioned_index", "rename_index"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_up_it_is_what_plain_ddl_makes_and_down_it_is_what_it_was(
    database: Database, tmp_path: Path, change: str
) -> None:
    sql, metadata, plain, called = CHANGES[change]
    made = environment(tmp_path, database, sql, metadata)
    before = schema(database)
    wanted = schema_of(database, after=plain)
    text = "".join(path.read_text() for path in made.files())
    assert all(f"op.{name}(" in text for name in called)
    report = lint_revisions(
        made._config(()),
        Request(downgrades=True, database=OWN_DATABASE, files=made.files()),
        LintSettings(),
    )
    errors = [each for each in report.findings if each.finding.severity is Severity.ERROR]
    assert [f"{each.finding.code}: {each.sql}" for each in errors] == []

    made.upgrade("head", "contract=now")
    assert schema(database) == wanted
    command.check(made._config(()))

    made.downgrade("base")
    after = schema(database)
    # A column that comes back is the last one.
    del before["columns"], after["columns"]
    assert after == before


def test_a_unique_constraint_is_refused_and_the_index_named_that_does_the_same(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(CannotRewrite, match=r"Constraint uq on parts: .* Index\(\.\.\., unique"):
        environment(tmp_path, database, "", models(sa.UniqueConstraint("id", "name", name="uq")))


def test_a_unique_index_without_the_partition_key_is_refused(
    database: Database, tmp_path: Path
) -> None:
    with pytest.raises(CannotRewrite, match="Index ux is to make name of parts unique, and lacks"):
        environment(tmp_path, database, "", models(sa.Index("ux", "name", unique=True)))


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg", "pg8000"])
def test_through_every_driver(alembic_project: Project, database: Database, driver: str) -> None:
    """And what failed attempts left goes, and what is not ours is told of."""
    use_driver(alembic_project, database.url(driver))
    database.execute(TABLE)
    before = schema(database)
    plain = "CREATE UNIQUE INDEX ux ON parts (id, lower(name)) WHERE name <> '%:x'"
    wanted = schema_of(database, after=plain)
    left = "CREATE INDEX parts_2_rest_id_lower_idx ON parts_2_rest (id) WHERE name <> '%:y';"
    database.execute('CREATE INDEX mine ON "parts 1" (age);' + left)
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    write_history(
        alembic_project,
        "r1",
        marks='phase = "migrate"\ntransactional = False',
        upgrade='op.create_partitioned_index("ux", "parts", unique=True,'
        " definition=\"(id, lower(name)) WHERE name <> '%:x'\")",
        downgrade='op.drop_partitioned_index("ux", "parts")',
    )

    done = alembic_project.run("upgrade", "head")

    assert "index mine on public.parts 1 is INVALID" in " ".join(done.stderr.split())
    database.execute("DROP INDEX mine, parts_2_rest_id_lower_idx")
    found = schema(database)
    (taken,) = (row for row in found["indexes"] if row[0] == "parts_2_rest_id_lower_idx1")
    assert taken[2]
    assert len(found["indexes"]) == len(wanted["indexes"])
    alembic_project.run("downgrade", "base")
    assert schema(database) == before


@pytest.mark.parametrize("command_line", [("upgrade", "head"), ("downgrade", "base")], ids=str)
def test_the_process_is_killed_behind_any_commit_and_the_same_command_completes(
    alembic_project: Project, database: Database, command_line: tuple[str, ...]
) -> None:
    project, server = alembic_project, database.server
    write_history(
        project,
        "r1",
        marks='phase = "migrate"\ntransactional = False',
        upgrade='op.create_partitioned_index("ix", "parts", ["name"])',
        downgrade='op.drop_partitioned_index("ix", "parts")',
    )
    database.execute(TABLE)
    project.connect_to(database.url())
    if command_line[0] == "downgrade":
        project.run("upgrade", "head")
    wait_until_alone(database)

    def copy(name: str) -> Database:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {database.name}")
        project.connect_to(Database(server, name).url())
        return Database(server, name)

    with Commands(project) as commands:
        undisturbed = copy(f"{database.name}_all")
        moments = commands.run(*command_line).moments
        wanted = schema_of(undisturbed)
        server.drop_database(undisturbed.name)
        committed = [n for n, words in enumerate(moments) if not words.startswith(IN_TRANSACTION)]
        for moment in committed:
            copied = copy(f"{database.name}_{moment}")
            died = commands.run(*command_line, die_at=moment)
            assert died.returncode == -signal.SIGKILL, died.output
            wait_until_alone(copied)
            continued = commands.run(*command_line)
            assert continued.returncode == 0, f"killed {moments[moment]}\n{continued.output}"
            assert schema_of(copied) == wanted, f"killed {moments[moment]}"
            server.drop_database(copied.name)
    sent = "\n".join(moments)
    assert ("CREATE INDEX CONCURRENTLY" in sent) is (command_line[0] == "upgrade")
