"""The history stays what it is in any Alembic project: one line, one head, every command works."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from alembic import command
from conftest import Database
from hand_written import write_contract, write_history
from project import Project

MODELS = """\
import sqlalchemy as sa

metadata = sa.MetaData()
for name in ("a", "b", "c"):
    sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True))
"""

CONTRACT_NOW = ("-x", "contract=now")


@pytest.fixture
def project(alembic_project: Project) -> Project:
    """Three revisions that create a table each; c2 completes the second one, c3 the third."""
    alembic_project.models(MODELS)
    after = None
    for number, table in enumerate("abc", start=1):
        write_history(
            alembic_project,
            f"r{number}",
            after,
            upgrade=f'op.execute("CREATE TABLE {table} (id int PRIMARY KEY, old int)")',
            downgrade=f'op.execute("DROP TABLE {table}")',
        )
        after = f"r{number}"
    for number, tables in ((2, "ab"), (3, "c")):
        write_contract(
            alembic_project,
            f"c{number}",
            f"r{number}",
            "c2" if number == 3 else None,
            upgrade="\n".join(f'op.execute("ALTER TABLE {t} DROP old")' for t in tables),
            downgrade="\n".join(f'op.execute("ALTER TABLE {t} ADD old int")' for t in tables),
        )
    return alembic_project


def versions(database: Database) -> list[str]:
    return [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]


def contracts(database: Database) -> set[str]:
    """The contract revisions that Alembic keeps: those that no other one implies."""
    if database.execute("SELECT to_regclass('alembic_version_contract')") == [(None,)]:
        return set()
    rows = database.execute("SELECT version_num FROM alembic_version_contract")
    return {row[0] for row in rows}


def columns(database: Database) -> dict[str, list[str]]:
    rows = database.execute(
        "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position)"
        " FROM information_schema.columns WHERE table_name IN ('a', 'b', 'c') GROUP BY 1"
    )
    return dict(rows)


def running(stderr: str) -> list[str]:
    """What Alembic says that it runs: `+r1`, `-c2`."""
    found = re.findall(r"Running (upgrade|downgrade) (\w*)(?:, \w+)* -> (\w*)", stderr)
    return [f"+{after}" if way == "upgrade" else f"-{before}" for way, before, after in found]


def use_filters(project: Project, source: str) -> None:
    """Give the user's environment filters of its own."""
    env = project.read("migrations/env.py")
    with_filters = env.replace(
        "target_metadata=target_metadata,",
        "target_metadata=target_metadata, include_name=include_name,"
        " include_object=include_object, include_schemas=True,",
    ).replace("config = context.config", f"{source}\nconfig = context.config")
    assert with_filters != env
    (project.migrations / "env.py").write_text(with_filters)


def test_a_fresh_upgrade_runs_each_contract_revision_after_what_it_completes(
    project: Project, database: Database
) -> None:
    done = project.run("upgrade", "head")
    assert running(done.stderr) == ["+r1", "+r2", "+c2", "+r3", "+c3"]
    assert columns(database) == {"a": ["id"], "b": ["id"], "c": ["id"]}
    assert (versions(database), contracts(database)) == (["r3"], {"c3"})


def test_while_contract_is_held_the_database_is_at_the_one_head(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "r1")
    done = project.run("upgrade", "head")
    assert running(done.stderr) == ["+r2", "+r3"]
    assert "Held: contract revision c2" in done.stderr
    assert (versions(database), contracts(database)) == (["r3"], set())
    assert project.run("heads").stdout.split() == ["r3", "(head)"]
    # Older versions of Alembic do not have it.
    options = set(inspect.signature(command.current).parameters)
    check = ["--check-heads"] if "check_heads" in options else []
    assert project.run("current", *check).stdout.split() == ["r3", "(head)"]


def test_history_and_show_know_the_history_alone(project: Project) -> None:
    project.run("upgrade", "head")
    listed = project.run("history", "-i").stdout
    assert re.findall(r"-> (\w+)(?: \(head\))?( \(current\))?", listed) == [
        ("r3", " (current)"),
        ("r2", ""),
        ("r1", ""),
    ]
    assert "Rev: r3 (head)" in project.run("show", "current").stdout
    assert project.run("show", "c2", check=False).returncode != 0


def test_a_relative_upgrade_counts_revisions_of_the_history(
    project: Project, database: Database
) -> None:
    assert running(project.run("upgrade", "+2").stderr) == ["+r1", "+r2", "+c2"]
    assert running(project.run(*CONTRACT_NOW, "upgrade", "+1").stderr) == ["+r3", "+c3"]
    assert project.run("upgrade", "+1", check=False).returncode != 0
    assert versions(database) == ["r3"]


def test_upgrade_to_where_it_is_runs_nothing(project: Project) -> None:
    project.run("upgrade", "head")
    assert running(project.run("upgrade", "head").stderr) == []
    assert running(project.run("upgrade", "heads").stderr) == []


def test_a_relative_downgrade_takes_its_contract_back_first(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "head")
    assert running(project.run("downgrade", "-1").stderr) == ["-c3", "-r3"]
    assert (versions(database), contracts(database)) == (["r2"], {"c2"})
    assert columns(database) == {"a": ["id"], "b": ["id"]}


def test_downgrade_base_leaves_nothing(project: Project, database: Database) -> None:
    project.run("upgrade", "head")
    done = project.run("downgrade", "base")
    assert running(done.stderr) == ["-c3", "-r3", "-c2", "-r2", "-r1"]
    assert (versions(database), contracts(database), columns(database)) == ([], set(), {})


@pytest.mark.parametrize("command_line", [("downgrade", "r3"), ("stamp", "head")])
def test_only_an_upgrade_runs_what_is_due(
    project: Project, database: Database, command_line: tuple[str, str]
) -> None:
    project.run("upgrade", "r1", env={"ALEMBIC_SAFE_RELEASE": "old"})
    project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "old"})
    done = project.run(*command_line, env={"ALEMBIC_SAFE_RELEASE": "new"})
    assert running(done.stderr) == []
    assert columns(database)["a"] == ["id", "old"]


@pytest.mark.parametrize("command_line", [("ensure_version",), ("edit", "current")])
def test_commands_that_run_no_revision_run_no_contract_either(
    project: Project, database: Database, command_line: tuple[str, ...]
) -> None:
    project.run("upgrade", "r1", env={"ALEMBIC_SAFE_RELEASE": "old"})
    project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "old"})
    project.run(*command_line, env={"ALEMBIC_SAFE_RELEASE": "new", "EDITOR": "true"})
    assert contracts(database) == set()


def test_ensure_version_makes_the_version_table(project: Project, database: Database) -> None:
    project.run("ensure_version")
    assert versions(database) == []


@pytest.mark.parametrize(
    ("target", "history", "contract"),
    [("head", ["r3"], {"c3"}), ("r2", ["r2"], {"c2"}), ("r1", ["r1"], set())],
)
def test_stamp_marks_the_contract_of_what_it_stamps(
    project: Project, database: Database, target: str, history: list[str], contract: set[str]
) -> None:
    assert running(project.run("stamp", target).stderr) == []
    assert (versions(database), contracts(database)) == (history, contract)
    assert columns(database) == {}


def test_stamp_backwards_takes_the_marks_away(project: Project, database: Database) -> None:
    project.run("stamp", "head")
    project.run("stamp", "r2")
    assert (versions(database), contracts(database)) == (["r2"], {"c2"})
    project.run("stamp", "base")
    assert (versions(database), contracts(database)) == ([], set())


def test_stamp_where_it_is_marks_the_contract_that_was_held(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "r1")
    project.run("upgrade", "head")
    assert contracts(database) == set()
    project.run("stamp", "head")
    assert (versions(database), contracts(database)) == (["r3"], {"c3"})


def test_stamp_with_hold_leaves_the_contract_line_alone(
    project: Project, database: Database
) -> None:
    project.run("-x", "contract=hold", "stamp", "head")
    assert (versions(database), contracts(database)) == (["r3"], set())


def test_stamp_purge_forgets_what_the_files_no_longer_have(
    project: Project, database: Database
) -> None:
    project.run("stamp", "head")
    database.execute("UPDATE alembic_version SET version_num = 'gone'")
    assert project.run("stamp", "head", check=False).returncode != 0
    project.run("stamp", "--purge", "r2")
    assert (versions(database), contracts(database)) == (["r2"], {"c2"})


def test_an_upgrade_goes_on_from_a_stamp(project: Project, database: Database) -> None:
    database.execute("CREATE TABLE a (id int PRIMARY KEY, old int)")
    project.run("stamp", "r1")
    assert running(project.run("upgrade", "head").stderr) == ["+r2", "+r3"]
    assert running(project.run("downgrade", "r1").stderr) == ["-r3", "-r2"]
    assert (versions(database), contracts(database)) == (["r1"], set())


def test_check_is_clean_and_sees_a_difference(project: Project) -> None:
    project.run("upgrade", "head")
    assert "No new upgrade operations" in project.run("check").stdout
    project.models(MODELS.replace('"c")', '"c", "d")'))
    done = project.run("check", check=False)
    assert done.returncode != 0
    assert "New upgrade operations detected" in done.stderr + done.stdout


def test_a_plain_revision_is_appended_to_the_head(project: Project) -> None:
    project.run("upgrade", "head")
    project.run("revision", "-m", "by hand")
    assert project.read(project.versions()[-1]).count("Revises: r3\n") == 1
    assert len(project.versions()) == 4


def test_autogenerate_leaves_one_head_and_its_contract_beside_it(
    project: Project, database: Database
) -> None:
    project.run("upgrade", "head")
    before = set(project.contracts())
    project.models(MODELS.replace('("a", "b", "c")', '("a", "b", "d")'))
    project.run("revision", "--autogenerate", "-m", "c is gone")
    head = project.head()
    assert project.run("heads").stdout.split() == [head, "(head)"]
    project.run("upgrade", "head", env={"ALEMBIC_SAFE_RELEASE": "r9"})
    assert versions(database) == [head]
    assert set(project.contracts()) >= before


def test_two_heads_are_alembics_own_error(project: Project, database: Database) -> None:
    write_history(project, "r3b", "r2")
    done = project.run("upgrade", "head", check=False)
    assert done.returncode != 0
    assert "Multiple head revisions" in done.stderr
    assert database.execute("SELECT to_regclass('alembic_version')") == [(None,)]


def test_merge_joins_two_heads_and_the_contract_line_follows(
    project: Project, database: Database
) -> None:
    write_history(project, "r3b", "r2")
    project.run("merge", "heads", "-m", "join")
    merge = next(p for p in (project.migrations / "versions").glob("*_join.py"))
    revision = merge.name.removesuffix("_join.py")
    assert set(running(project.run("upgrade", "head").stderr)) == {
        *("+r1", "+r2", "+c2", "+r3", "+c3", "+r3b", f"+{revision}")
    }
    assert (versions(database), contracts(database)) == ([revision], {"c3"})
    done = project.run("downgrade", "r2")
    assert running(done.stderr)[0] == f"-{revision}"
    assert set(running(done.stderr)) == {f"-{revision}", "-c3", "-r3", "-r3b"}
    assert (versions(database), contracts(database)) == (["r2"], {"c2"})


ALL_IS_WELCOME = """
def include_name(name, type_, parent_names):
    return True

def include_object(object, name, type_, reflected, compare_to):
    return True
"""

NOT_THEIRS = """
def include_name(name, type_, parent_names):
    return name != "by_name"

def include_object(object, name, type_, reflected, compare_to):
    return name != "by_object"
"""


def test_our_tables_stay_out_of_autogenerate_whatever_the_filters_say(
    project: Project, database: Database
) -> None:
    use_filters(project, ALL_IS_WELCOME)
    project.run("upgrade", "head")
    database.execute("CREATE TABLE IF NOT EXISTS alembic_safe_backfill (id int)")
    assert database.execute("SELECT to_regclass('alembic_safe_ledger') IS NULL") == [(False,)]
    assert "No new upgrade operations" in project.run("check").stdout
    database.execute("CREATE TABLE stranger (id int)")
    done = project.run("check", check=False)
    assert "stranger" in done.stderr
    assert "alembic_safe" not in done.stdout + done.stderr.rpartition("New upgrade")[2]


def test_the_users_filters_still_decide_about_all_else(
    project: Project, database: Database
) -> None:
    use_filters(project, NOT_THEIRS)
    project.run("upgrade", "head")
    database.execute("CREATE TABLE by_name (id int)")
    database.execute("CREATE TABLE by_object (id int)")
    assert "No new upgrade operations" in project.run("check").stdout


def test_our_tables_follow_the_version_table_into_its_schema(
    project: Project, database: Database
) -> None:
    database.execute("CREATE SCHEMA ops")
    use_filters(project, ALL_IS_WELCOME)
    env = project.migrations / "env.py"
    env.write_text(
        env.read_text().replace(
            "include_schemas=True,",
            'include_schemas=True, version_table="steps", version_table_schema="ops",',
        )
    )
    project.run("upgrade", "head")
    tables = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ops' ORDER BY 1")
    assert tables == [("alembic_safe_ledger",), ("steps",), ("steps_contract",)]
    assert database.execute("SELECT * FROM ops.steps_contract") == [("c3",)]
    assert "No new upgrade operations" in project.run("check").stdout


def _script_of(project: Project, *args: str) -> str:
    return project.run(*args, "--sql").stdout


def test_stamp_writes_a_script_too(project: Project, database: Database, tmp_path: Path) -> None:
    script = _script_of(project, "stamp", "r2")
    database.execute(script)
    assert (versions(database), contracts(database)) == (["r2"], {"c2"})
    assert "contract" not in _script_of(project, "-x", "contract=hold", "stamp", "r2")
