"""Models and revision files that cannot be used end in one message that names them, with nothing
written and nothing applied; corrected, the same command continues."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Database
from hand_written import write_contract, write_history
from one_message import failure
from project import Project

AGAIN = "then run the same command again"
UP = ("upgrade", "head")
AUTOGENERATE = ("revision", "--autogenerate", "-m", "change")


def files(project: Project) -> set[str]:
    return {str(path) for path in project.migrations.rglob("*.py")}


# The models.

MODELS = """\
import sqlalchemy as sa

import alembic_safe

metadata = sa.MetaData()
sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    {column},
)
"""
OLD = 'sa.Column("full_name", sa.Text)'
RENAMED = 'sa.Column("display_name", sa.Text, info=alembic_safe.renamed_from("{old}"))'
REQUIRED = 'sa.Column("full_name", sa.Text), sa.Column("nick", sa.Text, nullable=False{value})'


@pytest.fixture
def users(alembic_project: Project, database: Database) -> Project:
    """A table `users` with a row, as the first models have it."""
    alembic_project.models(MODELS.format(column=OLD))
    alembic_project.run(*AUTOGENERATE)
    alembic_project.run(*UP)
    database.execute("INSERT INTO users (full_name) VALUES ('Ann')")
    return alembic_project


def test_a_rename_hint_that_names_nothing(users: Project, database: Database) -> None:
    before = files(users)
    users.models(MODELS.format(column=RENAMED.format(old="fullname")))
    told = failure(users.run(*AUTOGENERATE, check=False))
    assert "users.display_name was users.fullname" in told
    assert "it has: full_name, id" in told
    assert "No file was written" in told
    assert AGAIN in told
    assert files(users) == before
    users.models(MODELS.format(column=RENAMED.format(old="full_name")))
    users.run(*AUTOGENERATE)
    users.run("-x", "contract=now", *UP)
    assert database.execute("SELECT display_name FROM users") == [("Ann",)]


@pytest.mark.parametrize(
    ("rename", "parts"),
    [
        ("users.full_name:nick", ["-x rename=users.full_name:nick", "add no column nick"]),
        ("users.name:display_name", ["-x rename=users.name:display_name", "it has: full_name"]),
        ("full_name:display_name", ["'rename' from -x", "table.old:new"]),
    ],
)
def test_a_rename_on_the_command_line_that_names_nothing(
    users: Project, rename: str, parts: list[str]
) -> None:
    before = files(users)
    users.models(MODELS.format(column='sa.Column("display_name", sa.Text)'))
    told = failure(users.run("-x", f"rename={rename}", *AUTOGENERATE, check=False))
    for part in parts:
        assert part in told
    assert files(users) == before


def test_a_not_null_column_without_a_value_for_old_rows(users: Project, database: Database) -> None:
    before = files(users)
    users.models(MODELS.format(column=REQUIRED.format(value="")))
    told = failure(users.run(*AUTOGENERATE, check=False))
    assert "users.nick is new and NOT NULL" in told
    assert "alembic_safe.filled_with(" in told
    assert "No file was written" in told
    assert AGAIN in told
    assert files(users) == before
    with_value = ", info=alembic_safe.filled_with(\"'none'\")"
    users.models(MODELS.format(column=REQUIRED.format(value=with_value)))
    users.run(*AUTOGENERATE)
    users.run("-x", "contract=now", *UP)
    assert database.execute("SELECT nick FROM users") == [("none",)]


# Files edited by hand.


@pytest.fixture
def project(alembic_project: Project) -> Project:
    """r1 makes a table, r2 does nothing, and c1, which completes r1, does nothing either."""
    write_history(alembic_project, "r1", upgrade='op.execute("CREATE TABLE t (id int)")')
    write_history(alembic_project, "r2", "r1")
    write_contract(alembic_project, "c1", "r1")
    return alembic_project


R2 = "versions/r2.py"
C1 = "contracts/c1.py"

NONSENSE = {
    "upgrade is no function": (
        R2,
        "def upgrade():",
        "upgrade = 3\ndef up():",
        "no function upgrade",
    ),
    "a revision that is not there": (R2, "= 'r1'", "= 'r7'", "names the revision 'r7'"),
    "contract without upgrade": (C1, "def upgrade():", "def up():", "no function upgrade"),
    "contract that builds on nothing": (
        C1,
        "depends_on = None",
        "depends_on = 'c7'",
        "names the revision 'c7'",
    ),
}
"""More of it is in `test_phases.py`: what the marks of a file may say."""


@pytest.mark.parametrize("what", NONSENSE)
def test_a_file_that_cannot_be_used_stops_the_run_before_it_applies_anything(
    project: Project, database: Database, what: str
) -> None:
    name, old, new, reason = NONSENSE[what]
    path = project.migrations / name
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    told = failure(project.run(*UP, check=False))
    assert f"Revision file {path}: " in told
    assert reason in told
    assert f"Correct the file, {AGAIN}. Nothing was applied" in told
    assert database.execute("SELECT to_regclass('t')") == [(None,)]
    path.write_text(source)
    project.run(*UP)
    assert applied(database) == {"r1", "r2", "c1"}


def applied(database: Database) -> set[str]:
    rows = database.execute("SELECT revision FROM alembic_safe_ledger WHERE event = 'upgrade'")
    return {row[0] for row in rows}


def test_contract_files_that_build_on_each_other_in_a_circle(
    project: Project, database: Database
) -> None:
    write_contract(project, "c1", "r1", "c2")
    write_contract(project, "c2", "r1", "c1")
    for done in (
        project.run(*UP, check=False),
        project.run_safe("contract", check=False),
        project.run(*UP, "--sql", check=False),
    ):
        told = failure(done)
        assert f"in {project.migrations / 'contracts'}: " in told
        assert "c1, c2" in told
        assert AGAIN in told
    assert database.execute("SELECT to_regclass('t')") == [(None,)]
    write_contract(project, "c1", "r1")
    project.run(*UP)
    assert applied(database) == {"r1", "r2", "c1", "c2"}


def test_a_file_where_the_folder_of_contract_revisions_should_be(
    project: Project, database: Database
) -> None:
    folder = project.migrations / "contracts"
    folder.rename(project.folder / "kept")
    folder.write_text("")
    for done in (
        project.run(*UP, check=False),
        project.run(*AUTOGENERATE, check=False),
        project.run(*UP, "--sql", check=False),
    ):
        told = failure(done)
        assert f"{folder}: it has to be a folder" in told
        assert AGAIN in told
    assert database.execute("SELECT to_regclass('t')") == [(None,)]
    folder.unlink()
    (project.folder / "kept").rename(folder)
    project.run(*UP)
    assert applied(database) == {"r1", "r2", "c1"}


def test_a_contract_file_that_is_a_mistake_stops_every_command_that_needs_it(
    project: Project,
) -> None:
    project.run("stamp", "r1")
    path = project.migrations / C1
    path.write_text("def upgrade(:\n")
    for done in (
        project.run("downgrade", "base", check=False),
        project.run("stamp", "head", check=False),
        project.run(*UP, "--sql", check=False),
        project.run_safe("contract", "c1", check=False),
    ):
        told = failure(done)
        assert f"Revision file {path}: SyntaxError" in told
        assert AGAIN in told
    assert project.run("current").stdout.split() == ["r1"]


def test_a_file_that_is_a_mistake_is_one_message_where_alembic_reads_it_first(
    project: Project,
) -> None:
    # Plain Alembic reads files before env.py for these commands, and ends in a traceback.
    path = project.migrations / R2
    path.write_text("def upgrade(:\n")
    for command in ("heads", "history"):
        told = failure(project.run_safe(command, check=False))
        assert f"{path}, line 1: " in told
        assert AGAIN in told


# Files that can be read, and fail when they run.

FAILS = {
    "an operation that is none": (
        'op.set_not_nul("t", "id")',
        [
            "versions/r2.py, line {line}: AttributeError",
            "set_not_nul",
            "state before this revision",
        ],
    ),
    "arguments that are none": (
        'op.set_not_null("t")',
        ["versions/r2.py, line {line}: TypeError", "column_name", "state before this revision"],
    ),
    "an error deep inside of what it calls": (
        'import json\njson.loads("[")',
        ["versions/r2.py, line {line}: JSONDecodeError", "state before this revision"],
    ),
    "SQL that is none": (
        'op.execute("CREATE THE TABLE t2")',
        ["Revision r2: syntax error", "CREATE THE TABLE t2", "state before this revision"],
    ),
    "a table that is not there": (
        'op.add_column("nothing", sa.Column("n", sa.Integer))',
        ['Revision r2: relation "nothing" does not exist', "state before this revision"],
    ),
}


@pytest.mark.parametrize("what", FAILS)
def test_a_revision_that_fails_is_named_with_the_place(
    project: Project, database: Database, what: str
) -> None:
    upgrade, parts = FAILS[what]
    before = 'op.execute("CREATE TABLE t2 (id int)")\n'
    path = write_history(project, "r2", "r1", upgrade=f"{before}{upgrade}")
    line = 1 + path.read_text().splitlines().index("    " + upgrade.splitlines()[-1])
    told = failure(project.run(*UP, check=False))
    for part in [*parts, AGAIN]:
        assert part.format(line=line) in told
    assert applied(database) == {"r1", "c1"}
    assert database.execute("SELECT to_regclass('t2')") == [(None,)]


def test_a_revision_that_fails_shows_its_traceback_to_who_asks_for_it(project: Project) -> None:
    write_history(project, "r2", "r1", upgrade='op.set_not_nul("t", "id")')
    done = project.run("--raiseerr", *UP, check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "AttributeError: module 'alembic.op' has no attribute 'set_not_nul'" in done.stderr


def test_operations_that_commit_by_themselves_continue_where_one_failed(
    project: Project, database: Database
) -> None:
    path: Path = write_history(
        project,
        "r2",
        "r1",
        upgrade="""
        op.create_index_concurrently("i", "t", ["id"])
        op.create_index_concurrently("j", "t", ["idd"])
        """,
        marks="transactional = False",
    )
    told = failure(project.run(*UP, check=False))
    assert 'Revision r2, index j on t: column "idd" does not exist' in told
    assert "What was committed before stays" in told
    assert AGAIN in told
    path.write_text(path.read_text().replace("idd", "id"))
    project.run(*UP)
    assert applied(database) == {"r1", "c1", "r2"}
    assert database.execute("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass") == [
        (2,)
    ]
