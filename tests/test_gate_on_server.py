"""The gate on a real database: two releases go out, and contract waits for the second."""

from __future__ import annotations

import re

import pytest
from conftest import Database
from hand_written import write_contract, write_history
from project import Project

MODELS = """\
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture
def project(alembic_project: Project) -> Project:
    """r1 makes a table; c2 completes r2 and drops a column; r3 needs c2."""
    alembic_project.models(MODELS)
    write_history(
        alembic_project,
        "r1",
        upgrade='op.execute("CREATE TABLE orders (id int PRIMARY KEY, old int)")',
        downgrade='op.execute("DROP TABLE orders")',
    )
    write_history(alembic_project, "r2", "r1", marks='phase = "expand"')
    write_contract(
        alembic_project,
        "c2",
        "r2",
        upgrade='op.execute("ALTER TABLE orders DROP old")',
        downgrade='op.execute("ALTER TABLE orders ADD old int")',
    )
    return alembic_project


@pytest.fixture
def running(project: Project) -> Project:
    """The same, on a database where an earlier release has brought r1."""
    project.run("upgrade", "r1", env=release("r0"))
    return project


def release(name: str) -> dict[str, str]:
    return {"ALEMBIC_SAFE_RELEASE": name}


def ran(stderr: str) -> list[str]:
    return re.findall(r"Running upgrade (?:\w+)? ?-> (\w+)", stderr)


def has_old(database: Database) -> bool:
    return bool(
        database.execute(
            "SELECT 1 FROM information_schema.columns"
            " WHERE table_name = 'orders' AND column_name = 'old'"
        )
    )


def test_a_fresh_database_gets_everything_in_the_order_of_creation(
    project: Project, database: Database
) -> None:
    write_history(project, "r3", "r2", marks='needs_contract = "c2"')
    done = project.run("upgrade", "head")
    assert ran(done.stderr) == ["r1", "r2", "c2", "r3"]
    assert "Held" not in done.stderr
    assert not has_old(database)


def test_contract_is_held_with_a_message_and_that_is_no_failure(
    running: Project, database: Database
) -> None:
    done = running.run("upgrade", "head", env=release("r1"))
    assert ran(done.stderr) == ["r2"]
    (held,) = [line for line in done.stderr.splitlines() if "Held" in line]
    assert "contract revision c2 (what c2 does)" in held
    assert "release r1 applied r2 itself" in held
    assert held.endswith("alembic-safe contract c2")
    assert has_old(database)


def test_contract_runs_with_the_next_release(running: Project, database: Database) -> None:
    running.run("upgrade", "head", env=release("r1"))
    assert ran(running.run("upgrade", "head", env=release("r1")).stderr) == []
    assert ran(running.run("upgrade", "head", env=release("r2")).stderr) == ["c2"]
    assert not has_old(database)
    assert ran(running.run("upgrade", "head", env=release("r3")).stderr) == []


def test_an_older_release_that_is_deployed_again_does_not_run_it(
    running: Project, database: Database
) -> None:
    running.run("upgrade", "head", env=release("r1"))
    done = running.run("upgrade", "head", env=release("r0"))
    assert ran(done.stderr) == []
    assert "release r0 is older than r1" in done.stderr
    assert has_old(database)


def test_without_a_release_it_is_held_for_good(running: Project, database: Database) -> None:
    for _ in range(2):
        done = running.run("upgrade", "head")
        assert "no release was given" in done.stderr
    assert has_old(database)


def test_x_release_names_the_release(running: Project, database: Database) -> None:
    # Over the environment, because a person at the command line says it last.
    running.run("-x", "release=r1", "upgrade", "head", env=release("r9"))
    running.run("-x", "release=r2", "upgrade", "head", env=release("r1"))
    assert not has_old(database)


def test_x_contract_now_runs_it_at_once(running: Project, database: Database) -> None:
    done = running.run("-x", "contract=now", "upgrade", "head", env=release("r1"))
    assert ran(done.stderr) == ["r2", "c2"]
    assert not has_old(database)


def test_x_contract_hold_holds_what_is_due(running: Project, database: Database) -> None:
    running.run("upgrade", "head", env=release("r1"))
    done = running.run("-x", "contract=hold", "upgrade", "head", env=release("r2"))
    assert "contract=hold was asked for" in done.stderr
    assert has_old(database)


def test_soak_holds_it_for_as_long(running: Project, database: Database) -> None:
    running.run("upgrade", "head", env=release("r1"))
    done = running.run("-x", "soak=1d", "upgrade", "head", env=release("r2"))
    assert "r2 has to be applied for 86400 s" in done.stderr
    database.execute("UPDATE alembic_safe_ledger SET at = at - interval '2 days'")
    running.run("-x", "soak=1d", "upgrade", "head", env=release("r2"))
    assert not has_old(database)


def test_the_project_file_has_settings(running: Project, database: Database) -> None:
    (running.folder / "pyproject.toml").write_text('[tool.alembic_safe]\ncontract = "now"\n')
    running.run("upgrade", "head")
    assert not has_old(database)


def test_a_mistake_in_the_project_file_is_one_message(running: Project) -> None:
    file = running.folder / "pyproject.toml"
    file.write_text("[tool.alembic_safe]\ncontracts = 1\n")
    done = running.run("upgrade", "head", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert f"Setting 'contracts' from [tool.alembic_safe] in {file}: unknown" in done.stderr


def test_a_revision_that_needs_contract_stops_the_run_before_anything_is_applied(
    running: Project, database: Database
) -> None:
    write_history(running, "r3", "r2", marks='needs_contract = "c2"')
    done = running.run("upgrade", "head", env=release("r1"), check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "First deploy the release that has r2, without r3" in done.stderr
    assert database.execute("SELECT version_num FROM alembic_version") == [("r1",)]
    running.run("upgrade", "r2", env=release("r1"))
    assert ran(running.run("upgrade", "head", env=release("r2")).stderr) == ["c2", "r3"]


@pytest.mark.parametrize("command", [("check",), ("revision", "--autogenerate", "-m", "next")])
def test_what_compares_is_refused_while_contract_is_pending(
    running: Project, command: tuple[str, ...]
) -> None:
    running.run("upgrade", "head", env=release("r1"))
    before = sorted(running.migrations.rglob("*.py"))
    done = running.run(*command, check=False)
    assert done.returncode != 0
    assert "Contract revisions are not applied to this database: c2 (what c2 does)" in done.stderr
    assert "alembic-safe contract" in done.stderr
    assert sorted(running.migrations.rglob("*.py")) == before
    running.run("-x", "contract=now", "upgrade", "head")
    running.run(*command)


def test_a_revision_by_hand_is_not_refused_while_contract_is_pending(running: Project) -> None:
    running.run("upgrade", "head", env=release("r1"))
    running.run("revision", "-m", "by hand")
    assert len(running.versions()) == 3


def test_what_a_downgrade_took_back_counts_from_its_next_upgrade(
    running: Project, database: Database
) -> None:
    running.run("upgrade", "head", env=release("r1"))
    running.run("downgrade", "r1", env=release("r2"))
    done = running.run("upgrade", "head", env=release("r2"))
    assert "release r2 applied r2 itself" in done.stderr
    assert has_old(database)
    assert ran(running.run("upgrade", "head", env=release("r3")).stderr) == ["c2"]


def test_the_ledger_tells_what_was_applied_and_by_which_release(
    running: Project, database: Database
) -> None:
    running.run("upgrade", "head", env=release("r1"))
    running.run("upgrade", "head", env=release("r2"))
    running.run("downgrade", "r1", env=release("r2"))
    rows = database.execute(
        "SELECT event, line, revision, phase, release FROM alembic_safe_ledger"
        " WHERE revision IS NOT NULL ORDER BY id"
    )
    assert rows == [
        ("upgrade", "history", "r1", None, "r0"),
        ("upgrade", "history", "r2", "expand", "r1"),
        ("upgrade", "contract", "c2", "contract", "r2"),
        ("downgrade", "contract", "c2", "contract", "r2"),
        ("downgrade", "history", "r2", "expand", "r2"),
    ]


@pytest.mark.parametrize("env", [{}, release("r1")], ids=["no release", "release"])
def test_a_fresh_database_whose_first_upgrade_was_cut_short_stays_fresh(
    project: Project, env: dict[str, str]
) -> None:
    # Otherwise the same command would now hold back what the rest of the history needs.
    write_history(project, "r3", "r2", marks='needs_contract = "c2"')
    (c2,) = project.contracts()
    c2.write_text(c2.read_text().replace("def upgrade():", "def upgrade():\n    1 / 0"))
    assert project.run("upgrade", "head", env=env, check=False).returncode != 0
    c2.write_text(c2.read_text().replace("1 / 0", "pass"))
    assert ran(project.run("upgrade", "head", env=env).stderr) == ["c2", "r3"]


def test_a_database_is_no_longer_fresh_once_its_first_upgrade_is_complete(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "r1", env=release("r1"))
    project.run("upgrade", "head", env=release("r1"))
    assert has_old(database)


def test_a_database_that_went_back_to_its_base_is_fresh_again(project: Project) -> None:
    write_history(project, "r3", "r2", marks='needs_contract = "c2"')
    project.run("upgrade", "head", env=release("r1"))
    project.run("downgrade", "base", env=release("r1"))
    done = project.run("upgrade", "head", env=release("r1"))
    assert ran(done.stderr) == ["r1", "r2", "c2", "r3"]
