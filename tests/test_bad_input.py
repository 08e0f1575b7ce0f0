"""What a command cannot work with ends in one message: what, where, and what to do next; and once
that is done, the same command continues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SERVER_SETTINGS, Database
from environments import replace_in_env, use_driver
from hand_written import write_history
from one_message import failure
from project import Project

from alembic_safe.rehearsal.server import ScratchServer, installed_binaries

AGAIN = "then run the same command again"
TABLE = 'op.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")'
UP = ("upgrade", "head")


def version(database: Database) -> str | None:
    if database.execute("SELECT to_regclass('alembic_version')") == [(None,)]:
        return None
    rows = database.execute("SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None


def tables(database: Database) -> set[str]:
    rows = database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    return {row[0] for row in rows}


@pytest.fixture
def project(alembic_project: Project) -> Project:
    """One revision, which makes a table."""
    write_history(alembic_project, "r1", upgrade=TABLE)
    return alembic_project


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may connect and nothing else; gone after the test."""
    name = f"role_of_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    database.execute(f"DROP OWNED BY {name} CASCADE")
    database.execute(f"DROP ROLE {name}")


# A database that cannot be reached.


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])
def test_a_database_that_is_not_there(project: Project, database: Database, driver: str) -> None:
    missing = f"{database.name}_missing"
    use_driver(project, database.server.url(missing, driver))
    told = failure(project.run(*UP, check=False))
    assert f'database "{missing}" does not exist' in told
    assert f"@127.0.0.1:{database.server.port}/{missing}" in told
    assert AGAIN in told
    database.server.create_database(missing)
    try:
        project.run(*UP)
    finally:
        database.server.drop_database(missing)


def test_a_role_that_is_not_there(project: Project, database: Database) -> None:
    role = f"{database.name}_missing"
    project.connect_to(database.url(user=role))
    told = failure(project.run(*UP, check=False))
    assert f'role "{role}" does not exist' in told
    assert AGAIN in told
    database.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
    try:
        project.run(*UP)
    finally:
        database.execute(f"REASSIGN OWNED BY {role} TO postgres")
        database.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pg8000"])
def test_a_server_that_is_not_there(
    project: Project, database: Database, unused_port: int, driver: str
) -> None:
    project.connect_to(f"postgresql+{driver}://me:my-secret@127.0.0.1:{unused_port}/shop")
    for done in (project.run(*UP, check=False), project.run_safe("contract", check=False)):
        told = failure(done)
        assert (
            f"Cannot connect to postgresql+{driver}://me:***@127.0.0.1:{unused_port}/shop" in told
        )
        assert "refused" in told
        assert AGAIN in told
        assert "my-secret" not in done.stdout + done.stderr


def test_a_server_that_is_not_there_for_asyncpg(project: Project, unused_port: int) -> None:
    # It raises an OSError that SQLAlchemy passes on, and plain Alembic shows it with a traceback.
    use_driver(project, f"postgresql+asyncpg://me:my-secret@127.0.0.1:{unused_port}/shop")
    told = failure(project.run_safe(*UP, check=False))
    assert "Cannot connect" in told
    assert str(unused_port) in told
    assert AGAIN in told
    assert "my-secret" not in told


@pytest.fixture
def unused_port() -> int:
    """A port on which nothing listens: systems give out none below 1024 by themselves."""
    return 1


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("the database of the shop", "Could not parse"),
        ("postgresql+carrier_pigeon://me:my-secret@127.0.0.1/shop", "postgresql.carrier_pigeon"),
        ("postgresql+psycopg2cffi://me:my-secret@127.0.0.1/x", "No module named 'psycopg2cffi'"),
    ],
)
def test_a_url_that_is_none_or_without_its_driver(
    project: Project, database: Database, url: str, told: str
) -> None:
    # Plain Alembic ends in SQLAlchemy's traceback, before anything of this package is asked.
    project.connect_to(url)
    done = project.run_safe(*UP, check=False)
    assert told in failure(done)
    assert AGAIN in failure(done)
    assert "my-secret" not in done.stdout + done.stderr
    project.connect_to(database.url())
    project.run_safe(*UP)
    assert version(database) == "r1"


def test_an_error_of_the_models_is_not_blamed_on_the_url(project: Project) -> None:
    project.models("import a_module_that_is_not_there")
    done = project.run_safe(*UP, check=False)
    assert done.returncode != 0
    assert "URL" not in done.stderr
    assert "No module named 'a_module_that_is_not_there'" in done.stderr


# A server that cannot be migrated.


def test_a_server_that_is_too_old(project: Project, database: Database) -> None:
    sentence = "alembic_safe.runtime.sessions.OLDEST_SERVER = 99\n"
    replace_in_env(project, "config = context.config\n", f"{sentence}config = context.config\n")
    told = failure(project.run(*UP, check=False))
    assert f"PostgreSQL {database.server.version}; alembic-safe needs 99 or newer" in told
    assert "Upgrade the server" in told
    assert "Nothing was changed" in told
    assert tables(database) == set()
    replace_in_env(project, sentence, "")
    project.run(*UP)


def test_a_standby(tmp_path: Path, database: Database) -> None:
    """A real one, which becomes the primary in the end."""
    with ScratchServer(installed_binaries()[database.server.version], SERVER_SETTINGS) as server:
        project = Project(tmp_path, server.url())
        write_history(project, "r1", upgrade=TABLE)
        project.run(*UP)
        write_history(project, "r2", "r1")
        ((folder,),) = server.execute("SHOW data_directory")
        server.execute(f"COPY (SELECT) TO '{folder}/standby.signal'")
        server.restart()
        for done in (project.run(*UP, check=False), project.run_safe("contract", check=False)):
            told = failure(done)
            assert "The server is a standby" in told
            assert "primary" in told
            assert AGAIN in told
        assert project.run("current").stdout.split() == ["r1"]
        assert server.execute("SELECT pg_promote()") == [(True,)]
        project.run(*UP)
        assert server.execute("SELECT version_num FROM alembic_version") == [("r2",)]


def test_a_database_that_is_read_only(project: Project, database: Database) -> None:
    read_only = f"ALTER DATABASE {database.name} SET default_transaction_read_only = on"
    database.execute(read_only)
    told = failure(project.run(*UP, check=False))
    assert "read-only" in told
    assert "default_transaction_read_only" in told
    assert AGAIN in told
    assert tables(database) == set()
    database.execute(f"BEGIN READ WRITE; {read_only.replace('= on', '= off')}; COMMIT")
    project.run(*UP)
    assert version(database) == "r1"


# A role without a right.


def test_a_role_that_may_not_create_tables(project: Project, database: Database, role: str) -> None:
    project.connect_to(database.url(user=role))
    told = failure(project.run(*UP, check=False))
    assert "lacks a right: permission denied for schema public" in told
    assert "alembic_safe_ledger" in told
    assert AGAIN in told
    assert tables(database) == set()
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    project.run(*UP)
    assert version(database) == "r1"


NEEDS_THE_OWNER = {
    "plain operation": ('op.add_column("mine", sa.Column("n", sa.Integer))', ""),
    "operation in a transaction": ('op.add_column_if_not_exists("mine", "n", "int")', ""),
    "plain operation, committed by itself": (
        'op.add_column("mine", sa.Column("n", sa.Integer))',
        "transactional = False",
    ),
    "operation, committed by itself": ('op.set_not_null("mine", "v")', "transactional = False"),
    "index, built concurrently": (
        'op.create_index_concurrently("i", "mine", ["v"])',
        "transactional = False",
    ),
    "backfill": (
        'op.backfill("mine", {"v": "id::text || v"}, where="v = \'1\'")',
        "transactional = False",
    ),
}


@pytest.mark.parametrize("what", NEEDS_THE_OWNER)
def test_a_role_that_does_not_own_the_table(
    project: Project, database: Database, role: str, what: str
) -> None:
    upgrade, marks = NEEDS_THE_OWNER[what]
    database.execute("CREATE TABLE mine (id int PRIMARY KEY, v text)")
    database.execute("INSERT INTO mine VALUES (1, '1')")
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role}; GRANT SELECT ON mine TO {role}")
    project.connect_to(database.url(user=role))
    write_history(project, "r1", upgrade=upgrade, marks=marks)
    told = failure(project.run(*UP, check=False))
    assert "Revision r1" in told
    assert "lacks a right" in told
    assert "table mine" in told
    assert AGAIN in told
    assert version(database) is None
    database.execute(f"ALTER TABLE mine OWNER TO {role}")
    project.run(*UP)
    assert version(database) == "r1"


@pytest.mark.parametrize("table", ["alembic_version", "alembic_safe_ledger"])
def test_a_role_that_may_not_read_or_write_our_tables(
    project: Project, database: Database, role: str, table: str
) -> None:
    project.run(*UP)
    write_history(project, "r2", "r1")
    database.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    database.execute(f"REVOKE ALL ON {table} FROM {role}")
    project.connect_to(database.url(user=role))
    told = failure(project.run(*UP, check=False))
    assert f"lacks a right: permission denied for table {table}" in told
    assert AGAIN in told
    assert version(database) == "r1"
    database.execute(f"GRANT ALL ON {table} TO {role}")
    project.run(*UP)
    assert version(database) == "r2"


# An env.py that calls one half of the package.

RUN = "        alembic_safe.run_migrations(context)\n\n\nif"


def test_an_env_that_configures_and_runs_plainly(project: Project, database: Database) -> None:
    plain = (
        "        with context.begin_transaction():\n            context.run_migrations()\n\n\nif"
    )
    replace_in_env(project, RUN, plain)
    for done in (
        project.run(*UP, check=False),
        project.run_safe(*UP, check=False),
        project.run_safe("contract", check=False),
    ):
        told = failure(done)
        assert "env.py calls alembic_safe.configure() and not" in told
        assert "`alembic_safe.run_migrations(context)`" in told
        assert AGAIN in told
    assert "t" not in tables(database)
    replace_in_env(project, plain, RUN)
    project.run(*UP)
    assert version(database) == "r1"


def test_an_env_that_runs_nothing_is_noticed_by_contract(project: Project) -> None:
    replace_in_env(project, RUN, "\n\nif")
    told = failure(project.run_safe("contract", check=False))
    assert "env.py calls alembic_safe.configure() and not" in told
    assert AGAIN in told


def test_an_env_that_does_not_configure_at_all(project: Project, database: Database) -> None:
    call = "        context.configure(\n            connection=connection,\n"
    replace_in_env(project, call, "        dict(\n            connection=connection,\n")
    told = failure(project.run(*UP, check=False))
    assert "before context.configure()" in told
    assert "`context.configure(connection=connection, **alembic_safe.configure())`" in told
    assert AGAIN in told
    assert tables(database) == set()


def test_an_env_without_our_keywords_has_the_default_settings(
    project: Project, database: Database
) -> None:
    replace_in_env(
        project,
        "            target_metadata=target_metadata,\n            **alembic_safe.configure(),\n",
        "            target_metadata=target_metadata,\n",
    )
    project.run(*UP, env={"ALEMBIC_SAFE_RELEASE": "r1"})
    assert ("r1", "r1") in database.execute("SELECT revision, release FROM alembic_safe_ledger")


# Settings.


def write_pyproject(project: Project, text: str) -> None:
    (project.folder / "pyproject.toml").write_text(text)


def test_a_mistake_in_the_project_file(project: Project, database: Database) -> None:
    for text, parts in (
        ("[tool.alembic_safe]\nlock_timout = 1\n", ["'lock_timout'", "unknown", "lock_timeout"]),
        ("[tool.alembic_safe]\nsoak = 'long'\n", ["'soak'", "'long'", "500ms"]),
    ):
        write_pyproject(project, text)
        told = failure(project.run(*UP, check=False))
        assert str(project.folder / "pyproject.toml") in told
        for part in parts:
            assert part in told
    assert tables(database) == set()
    write_pyproject(project, "[tool.alembic_safe]\nsoak = '1h'\n")
    project.run(*UP)


def test_a_project_file_that_is_not_toml(project: Project) -> None:
    # Plain Alembic reads it too, before env.py, and ends in a traceback.
    write_pyproject(project, "[tool.alembic_safe\n")
    told = failure(project.run_safe(*UP, check=False))
    assert "pyproject.toml is not a TOML file" in told
    assert "line 1" in told
    assert AGAIN in told


@pytest.mark.parametrize(
    ("arguments", "env", "source"),
    [
        (UP, {"ALEMBIC_SAFE_CONTRACT": "nwo"}, "the environment (ALEMBIC_SAFE_*)"),
        (("-x", "contract=nwo", *UP), {}, "-x on the command line"),
    ],
)
def test_a_bad_value(
    project: Project,
    database: Database,
    arguments: tuple[str, ...],
    env: dict[str, str],
    source: str,
) -> None:
    told = failure(project.run(*arguments, env=env, check=False))
    assert f"Setting 'contract' from {source}" in told
    assert "'nwo'" in told
    assert "due, now, hold" in told
    assert tables(database) == set()


def test_an_unknown_variable(project: Project, database: Database) -> None:
    told = failure(project.run(*UP, env={"ALEMBIC_SAFE_RELASE": "r1"}, check=False))
    assert "'relase'" in told
    assert "release" in told
    assert tables(database) == set()


def test_an_unknown_keyword(project: Project, database: Database) -> None:
    replace_in_env(
        project,
        "            **alembic_safe.configure(),\n        )\n        alembic_safe",
        "            **alembic_safe.configure(lock_timout=1),\n        )\n        alembic_safe",
    )
    told = failure(project.run(*UP, check=False))
    assert "'lock_timout' from alembic_safe.configure()" in told
    assert tables(database) == set()
