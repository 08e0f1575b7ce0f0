"""`--sql`: what the script does to a database is what the command itself would have done."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Database
from hand_written import write_contract, write_history
from project import Project
from rename_story import V1, V2, fill
from schema import OWN_TABLES, Schema, schema_of

from alembic_safe.rehearsal.server import installed_binaries

NOW = ("-x", "contract=now")


@pytest.fixture
def second(database: Database) -> Iterator[Database]:
    """Another fresh database, for the script; the first one is for the command itself."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    database.server.create_database(name)
    yield Database(database.server, name)
    database.server.drop_database(name)


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    """The rename story as revision files. The database is at the first of them, with rows."""
    alembic_project.models(V1)
    alembic_project.run("revision", "--autogenerate", "-m", "start")
    alembic_project.run("upgrade", "head")
    fill(database)
    alembic_project.models(V2)
    alembic_project.run("revision", "--autogenerate", "-m", "display name")
    return alembic_project


def script(project: Project, *args: str) -> str:
    return project.run(*args, "--sql").stdout


def psql(database: Database, sql: str) -> None:
    """Run a script as a person would; its first error ends it, and fails the test."""
    program: Path = installed_binaries()[database.server.version] / "psql"
    options = ["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]
    url = database.url().replace("postgresql+psycopg://", "postgresql://")
    done = subprocess.run(
        [str(program), *options, "--dbname", url],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{sql}"


def user_schema(database: Database) -> Schema:
    return schema_of(database, without=OWN_TABLES)


def versions(database: Database) -> list[list[tuple[str]]]:
    """What the version tables of the two lines have; no table has nothing."""
    return [
        database.execute(f"SELECT version_num FROM {table} ORDER BY 1")
        if database.execute(f"SELECT to_regclass('{table}')") != [(None,)]
        else []
        for table in ("alembic_version", "alembic_version_contract")
    ]


def rows(database: Database) -> list[list[tuple[object, ...]]]:
    return [database.execute(f"SELECT * FROM {t} ORDER BY id") for t in ("users", "orders")]


def test_a_script_from_the_base_makes_the_schema_of_a_fresh_upgrade(
    project: Project, database: Database, second: Database
) -> None:
    project.run("downgrade", "base")
    project.run("upgrade", "head")
    psql(second, script(project, *NOW, "upgrade", "head"))
    assert user_schema(second) == user_schema(database)
    assert versions(second) == versions(database)


def test_a_script_leaves_contract_out_and_says_so(
    project: Project, database: Database, second: Database
) -> None:
    text = script(project, "upgrade", "head")
    for path in project.contracts():
        revision = path.name.partition("_")[0]
        assert f"-- Left out: contract revision {revision} " in text
    assert "-x contract=now" in text
    psql(second, text)
    project.run("upgrade", "head")
    assert user_schema(second) == user_schema(database)
    assert versions(second) == versions(database)


def test_scripts_of_ranges_move_rows_there_and_back(
    project: Project, database: Database, second: Database
) -> None:
    first, head = project.versions()[0].name.partition("_")[0], project.head()
    psql(second, script(project, "upgrade", first))
    fill(second)
    start = user_schema(second)

    project.run(*NOW, "upgrade", "head")
    psql(second, script(project, *NOW, "upgrade", f"{first}:{head}"))
    assert user_schema(second) == user_schema(database)
    assert versions(second) == versions(database)
    assert rows(second) == rows(database)

    project.run("downgrade", first)
    psql(second, script(project, *NOW, "downgrade", f"{head}:{first}"))
    assert user_schema(second) == user_schema(database) == start
    assert versions(second) == versions(database)
    assert sorted(rows(second)[0]) == sorted(rows(database)[0])


def test_a_script_may_run_where_contract_came_later(project: Project, second: Database) -> None:
    psql(second, script(project, "upgrade", "head"))
    project.connect_to(second.url())
    project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r9"})
    assert versions(second)[1] == []  # the ledger does not know the script
    project.run(*NOW, "upgrade", "head")
    assert "No new upgrade operations" in project.run("check").stdout


def test_a_script_sets_a_lock_timeout_wherever_a_lock_could_hurt(project: Project) -> None:
    text = script(project, "-x", "lock_timeout=123ms", *NOW, "upgrade", "head")
    assert "lock_timeout = '123ms'" in text
    assert "500ms" not in text
    head, first = project.head(), project.versions()[0].name.partition("_")[0]
    back = script(project, "-x", "lock_timeout=123ms", *NOW, "downgrade", f"{head}:{first}")
    assert "lock_timeout = '123ms'" in back
    assert "500ms" not in back


def test_a_revision_of_a_script_runs_with_the_lock_timeout(
    alembic_project: Project, database: Database
) -> None:
    write_history(
        alembic_project,
        "r1",
        upgrade="op.execute(\"CREATE TABLE t AS SELECT current_setting('lock_timeout') AS v\")",
    )
    psql(database, script(alembic_project, "-x", "lock_timeout=123ms", "upgrade", "head"))
    assert database.execute("SELECT v FROM t") == [("123ms",)]


# Contract revisions that build on each other.


@pytest.fixture
def chain(alembic_project: Project) -> Project:
    """c2 builds on c1, c3 on both, c4 on c1; the version table keeps the last ones only."""
    for number in range(1, 5):
        write_history(alembic_project, f"r{number}", f"r{number - 1}" if number > 1 else None)
    for name, below in (("c1", None), ("c2", ("c1",)), ("c3", ("c1", "c2")), ("c4", ("c1",))):
        write_contract(alembic_project, name, name.replace("c", "r"), below)
    return alembic_project


@pytest.mark.parametrize("target", ["r4", "r3", "r2", "r1", "base"])
def test_scripts_keep_the_contract_versions_as_alembic_does(
    chain: Project, database: Database, second: Database, target: str
) -> None:
    chain.run("upgrade", "head")
    psql(second, script(chain, *NOW, "upgrade", "head"))
    assert versions(second) == versions(database)
    if target != "r4":
        chain.run("downgrade", target)
        psql(second, script(chain, *NOW, "downgrade", f"r4:{target}"))
    assert versions(second) == versions(database)


def test_a_script_of_a_stamp_marks_contract_as_stamp_does(
    chain: Project, database: Database, second: Database
) -> None:
    for target in ("r3", "head"):
        chain.run("stamp", target)
        psql(second, script(chain, "stamp", target if target == "r3" else "r3:head"))
        assert versions(second) == versions(database)
    chain.run("stamp", "base")
    psql(second, script(chain, "stamp", "r4:base"))
    assert versions(second) == versions(database) == [[], []]
