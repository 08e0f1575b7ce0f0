"""With a database lint knows what is there, judges what is not applied, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from conftest import Database
from hand_written import write_contract, write_history
from linted_project import NO_DATABASE, ONLINE_ENV, PLAIN_ENV, LintedProject, codes
from schema import schema_of

from alembic_safe.errors import CannotConnect
from alembic_safe.lint.report import Report
from alembic_safe.lint.run import OWN_DATABASE
from alembic_safe.rules.settings import LintSettings

TABLE = 'op.execute("CREATE TABLE users (id bigint PRIMARY KEY, name varchar(50))")'
WIDER = 'op.alter_column("users", "name", type_=sa.String(100))'
NOT_NULL = 'op.execute("ALTER TABLE users ALTER name SET NOT NULL")'


@pytest.fixture
def project(tmp_path: Path, database: Database) -> LintedProject:
    """r1 is applied and makes a table; r2, which is not, widens a column."""
    project = LintedProject(tmp_path, database.url(), ONLINE_ENV)
    write_history(project, "r1", upgrade=TABLE)
    command.upgrade(project.config(), "head")
    write_history(project, "r2", "r1", upgrade=WIDER)
    return project


def lint(project: LintedProject, database: str = OWN_DATABASE, **request: object) -> Report:
    settings = request.pop("settings", LintSettings())
    assert isinstance(settings, LintSettings)
    return project.lint(settings, database=database, **request)


def test_only_revisions_that_the_database_lacks_are_judged(project: LintedProject) -> None:
    assert lint(project).revisions == 1
    assert lint(project, ranges=["r1"]).revisions == 0
    command.upgrade(project.config(), "head")
    report = lint(project)
    assert (report.revisions, report.found) == (0, ())


def test_the_version_is_that_of_the_server(project: LintedProject, database: Database) -> None:
    assert lint(project).postgres == database.server.version
    assert lint(project, postgres=14).postgres == 14


def test_the_catalog_is_used(project: LintedProject, database: Database) -> None:
    assert codes(lint(project).errors) == []
    # Nobody but the database knows about the view.
    database.execute("CREATE VIEW names AS SELECT name FROM users")
    report = lint(project)
    assert "view" in " ".join(located.finding.message for located in report.errors)


def test_sizes_are_used(project: LintedProject, database: Database) -> None:
    write_history(project, "r2", "r1", upgrade=NOT_NULL)
    database.execute("INSERT INTO users SELECT i, repeat('x', 50) FROM generate_series(1, 2000) i")
    assert "set-not-null-scan" in codes(lint(project).warnings)
    tight = LintSettings(small_table_bytes=1024)
    assert "set-not-null-scan" in codes(lint(project, settings=tight).errors)


def test_held_contract_revisions_are_judged(project: LintedProject) -> None:
    write_contract(project, "c1", "r1", upgrade='op.drop_column("users", "name")')
    write_contract(project, "c2", "r2")
    assert lint(project).revisions == 3
    command.upgrade(project.config(), "head")
    assert lint(project).revisions == 2


def test_nothing_is_changed(project: LintedProject, database: Database) -> None:
    write_contract(project, "c1", "r1", upgrade='op.drop_column("users", "name")')
    before = schema_of(database)
    lint(project)
    lint(project, database.url())
    assert schema_of(database) == before


@pytest.fixture
def empty(database: Database) -> Iterator[Database]:
    """Another database of the same server, which has nothing."""
    name = f"{database.name}_empty"
    database.server.create_database(name)
    yield Database(database.server, name)
    database.server.drop_database(name)


def test_another_database_by_its_url(project: LintedProject, empty: Database) -> None:
    assert lint(project, empty.url()).revisions == 2
    assert empty.execute("SELECT count(*) FROM pg_class WHERE relname ~ 'alembic'") == [(0,)]


def test_an_environment_without_the_runner(project: LintedProject, database: Database) -> None:
    plain = ONLINE_ENV.replace(", **alembic_safe.configure()", "").replace(
        "alembic_safe.run_migrations(context)",
        "with context.begin_transaction():\n        context.run_migrations()",
    )
    project.env(plain)
    assert lint(project).revisions == 1


def test_an_environment_that_cannot_connect(project: LintedProject) -> None:
    with pytest.raises(CannotConnect, match=r"127\.0\.0\.1"):
        lint(project, NO_DATABASE)


def test_an_environment_without_a_connection(project: LintedProject) -> None:
    project.env(PLAIN_ENV)
    with pytest.raises(CannotConnect, match="no connection"):
        lint(project)


def test_sql_files_with_a_database(
    project: LintedProject, database: Database, read_file: Callable[[str], Report]
) -> None:
    assert codes(read_file("ALTER TABLE users ALTER name TYPE varchar(80)").errors) == []
    database.execute("CREATE VIEW names AS SELECT name FROM users")
    assert codes(read_file("ALTER TABLE users ALTER name TYPE varchar(80)").errors)


@pytest.fixture
def read_file(project: LintedProject) -> Callable[[str], Report]:
    """Lint a text as a file, with the environment's database."""

    def read(text: str) -> Report:
        path = project.folder / "a.sql"
        path.write_text(text)
        return lint(project, files=[path])

    return read
