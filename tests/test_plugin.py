"""How the package gets into Alembic: the plugin, the import, and hooks that the user had before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import alembic
import pytest
from conftest import Database
from environments import replace_in_env
from hand_written import write_contract, write_history
from project import Project

PLUGINS_SINCE = (1, 18)

needs_plugins = pytest.mark.skipif(
    tuple(int(part) for part in alembic.__version__.split(".")[:2]) < PLUGINS_SINCE,
    reason="this Alembic has no plugins",
)


def python(program: str, folder: Path) -> str:
    """Run a program in an interpreter of its own, which has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_plugins
def test_the_entry_point_is_found_and_is_a_module_with_a_setup() -> None:
    (found,) = entry_points(group="alembic.plugins", name="alembic_safe")
    assert callable(found.load().setup)


@needs_plugins
def test_alembic_alone_knows_our_operations(tmp_path: Path) -> None:
    program = "import alembic.op; print(hasattr(alembic.op, 'create_index_concurrently'))"
    assert python(program, tmp_path) == "True\n"


@needs_plugins
def test_alembic_lists_the_plugin(tmp_path: Path) -> None:
    program = (
        "import alembic\n"
        "from alembic.runtime.plugins import _all_plugins\n"
        "print([name for name in _all_plugins if 'alembic_safe' in name])"
    )
    assert len(json.loads(python(program, tmp_path).replace("'", '"'))) == 1


@pytest.mark.parametrize(
    "program",
    [
        "import alembic_safe, alembic.op",
        "import alembic.op, alembic_safe",
        "import alembic_safe.plugin, alembic.op",
        "import alembic.op, alembic_safe, alembic_safe.plugin; alembic_safe.plugin.setup(None)",
        "import alembic.op, alembic_safe, importlib; importlib.reload(alembic_safe)",
    ],
)
def test_whoever_comes_first_the_operations_are_there_once(program: str, tmp_path: Path) -> None:
    look = "; print(alembic.op.create_index_concurrently.__name__)"
    assert python(program + look, tmp_path) == "create_index_concurrently\n"


def test_a_revision_of_another_project_does_not_need_our_env_py(
    alembic_project: Project, database: Database
) -> None:
    # Alembic's own template: operations run with their default settings.
    replace_in_env(alembic_project, "**alembic_safe.configure(),", "")
    replace_in_env(
        alembic_project,
        "alembic_safe.run_migrations(context)",
        "with context.begin_transaction():\n            context.run_migrations()",
    )
    database.execute("CREATE TABLE t (id int)")
    write_history(alembic_project, "r1", upgrade='op.create_index_concurrently("i", "t", ["id"])')
    alembic_project.run("upgrade", "head")
    assert database.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == [
        (True,)
    ]


# Hooks of the user's.

HOOKS = """
def on_apply(ctx, step, heads, run_args, **more):
    print("APPLIED", step.up_revision_id if step.is_upgrade else "-", sorted(heads))


def directives_hook(context, revision, directives):
    print("DIRECTIVES", len(directives))
    directives[0].message = "renamed by the hook"


config = context.config
"""

MODELS = """\
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""

GIVEN = {
    "to context.configure": (
        "target_metadata=target_metadata,",
        "target_metadata=target_metadata, {hook},",
    ),
    "to alembic_safe.configure": ("alembic_safe.configure()", "alembic_safe.configure({hook})"),
}


def give(project: Project, where: str, hook: str) -> None:
    old, new = GIVEN[where]
    replace_in_env(project, old, new.format(hook=hook))
    replace_in_env(project, "config = context.config\n", HOOKS)


def said(stdout: str, word: str) -> list[str]:
    return [line for line in stdout.splitlines() if line.startswith(word)]


@pytest.mark.parametrize("where", GIVEN)
def test_the_users_process_revision_directives_runs_before_ours(
    alembic_project: Project, where: str
) -> None:
    give(alembic_project, where, "process_revision_directives=directives_hook")
    alembic_project.models(MODELS)
    done = alembic_project.run("revision", "--autogenerate", "-m", "tables")
    assert said(done.stdout, "DIRECTIVES") == ["DIRECTIVES 1"]
    (path,) = alembic_project.versions()
    source = alembic_project.read(path)
    assert "expand: renamed by the hook" in source
    assert 'phase = "expand"' in source


@pytest.mark.parametrize("where", GIVEN)
def test_the_users_on_version_apply_hears_of_each_step_of_both_lines(
    alembic_project: Project, where: str
) -> None:
    give(alembic_project, where, "on_version_apply=on_apply")
    write_history(alembic_project, "r1")
    write_contract(alembic_project, "c1", "r1")
    write_history(alembic_project, "r2", "r1", marks="transactional = False")
    upgraded = alembic_project.run("upgrade", "head")
    assert said(upgraded.stdout, "APPLIED") == [
        "APPLIED r1 ['r1']",
        "APPLIED c1 ['c1']",
        "APPLIED r2 ['r2']",
    ]
    downgraded = alembic_project.run("downgrade", "base")
    assert said(downgraded.stdout, "APPLIED") == [
        "APPLIED - ['r1']",
        "APPLIED - []",
        "APPLIED - []",
    ]


AUDIT = """
def audit(ctx, step, **more):
    ctx.connection.exec_driver_sql("INSERT INTO audit VALUES (pg_current_xact_id())")


config = context.config
"""


def test_on_version_apply_is_part_of_the_steps_transaction(
    alembic_project: Project, database: Database
) -> None:
    give(alembic_project, "to context.configure", "on_version_apply=[on_apply, audit]")
    replace_in_env(alembic_project, "config = context.config\n", AUDIT)
    database.execute("CREATE TABLE audit (at xid8)")
    create = 'op.execute("CREATE TABLE t AS SELECT pg_current_xact_id() AS at")'
    write_history(alembic_project, "r1", upgrade=create)
    done = alembic_project.run("upgrade", "head")
    assert said(done.stdout, "APPLIED") == ["APPLIED r1 ['r1']"]
    assert database.execute("SELECT audit.at = t.at FROM audit, t") == [(True,)]
