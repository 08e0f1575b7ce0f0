"""The names of Alembic that are not public: these tests fail aloud when one of them changes."""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import alembic
import alembic.context
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from conftest import Database
from hand_written import write_history
from project import Project
from sqlalchemy.pool import NullPool

import alembic_safe.environment
from alembic_safe.alembic_private import (
    command_function,
    command_of,
    configure_through,
    in_external_transaction,
    rendered_body,
    set_connection,
    write_no_versions,
)

ENV = """\
from alembic import context
from alembic_safe.alembic_private import command_function

options = context.config.attributes
options["functions"].append(command_function())
context.configure(connection=options["connection"], **options["configure"])
options["contexts"].append(context.get_context())
with context.begin_transaction():
    context.run_migrations()
"""

MODELS = sa.MetaData()
sa.Table(
    "users",
    MODELS,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, server_default="nobody", index=True),
)


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """A connection to the fresh database, in no transaction."""
    engine = sa.create_engine(database.url(), poolclass=NullPool)
    with engine.connect() as connected:
        yield connected


@pytest.fixture
def config(alembic_project: Project, connection: sa.Connection) -> Config:
    """An environment without this package, which keeps each migration context it made."""
    (alembic_project.migrations / "env.py").write_text(ENV)
    made = Config(str(alembic_project.folder / "alembic.ini"))
    made.attributes.update(connection=connection, configure={}, contexts=[], functions=[])
    return made


RUN: dict[str, Callable[[Config], Any]] = {
    "upgrade": lambda config: command.upgrade(config, "head"),
    "downgrade": lambda config: command.downgrade(config, "base"),
    "stamp": lambda config: command.stamp(config, "head"),
    "current": lambda config: command.current(config),
    "check": lambda config: command.check(config),
    "revision": lambda config: command.revision(config, autogenerate=True),
    "history": lambda config: command.history(config, indicate_current=True),
    "show": lambda config: command.show(config, "current"),
    "edit": lambda config: command.edit(config, "current"),
    "ensure_version": lambda config: command.ensure_version(config),
    "merge": lambda config: command.merge(config, "heads"),
}


def test_these_are_all_the_commands_that_run_an_environment() -> None:
    tree = ast.parse(Path(command.__file__).read_text())
    running = {
        function.name
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        and any(
            isinstance(node, ast.Name) and node.id == "EnvironmentContext"
            for node in ast.walk(function)
        )
    }
    assert running == set(RUN)


def test_each_of_these_commands_has_its_place_in_run_migrations() -> None:
    assert (
        alembic_safe.environment._PLAIN_COMMANDS
        | alembic_safe.environment._COMPARING_COMMANDS
        | {"upgrade", "downgrade", "stamp", "ensure_version"}
    ) == set(RUN)


@pytest.mark.parametrize("name", RUN)
def test_each_command_is_known_by_its_name(
    name: str, config: Config, alembic_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "true")
    write_history(alembic_project, "r1")
    if name == "merge":
        write_history(alembic_project, "r2")
        config.set_main_option("revision_environment", "true")
    else:
        command.stamp(config, "head")
    config.attributes["configure"]["target_metadata"] = sa.MetaData()
    RUN[name](config)
    context = config.attributes["contexts"][-1]
    assert command_of(context) == name
    assert config.attributes["functions"][-1] is context.opts["fn"]


@pytest.mark.parametrize("name", ["upgrade", "downgrade", "stamp"])
def test_a_command_with_sql_is_known_by_its_name(
    name: str, config: Config, alembic_project: Project
) -> None:
    write_history(alembic_project, "r1")
    target = "r1:base" if name == "downgrade" else "head"
    getattr(command, name)(config, target, sql=True)
    assert command_of(config.attributes["contexts"][-1]) == name


def test_what_is_no_command_of_alembics_has_no_name(connection: sa.Connection) -> None:
    def upgrade(_heads: tuple[str, ...], _context: MigrationContext) -> list[Any]:
        return []

    assert command_of(MigrationContext.configure(connection, opts={"fn": upgrade})) == ""
    assert command_of(MigrationContext.configure(connection)) == ""


def test_where_no_environment_runs_there_is_no_command_function() -> None:
    assert command_function() is None


def test_a_context_tells_whether_its_connection_was_in_a_transaction(
    connection: sa.Connection,
) -> None:
    assert not in_external_transaction(MigrationContext.configure(connection))
    connection.execute(sa.text("SELECT 1"))
    assert in_external_transaction(MigrationContext.configure(connection))


def test_a_context_without_a_connection_is_in_no_transaction() -> None:
    offline = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
    assert not in_external_transaction(offline)


def test_a_rendered_body_is_what_a_revision_file_gets(
    config: Config, alembic_project: Project
) -> None:
    rendered = []

    def render(context: MigrationContext, _revision: object, directives: list[Any]) -> None:
        script = directives[0]
        for operations in (script.upgrade_ops, script.downgrade_ops):
            autogen_context = AutogenContext(context, autogenerate=False)
            rendered.append(rendered_body(operations, autogen_context))

    config.attributes["configure"].update(
        target_metadata=MODELS, process_revision_directives=render
    )
    command.revision(config, autogenerate=True, message="users")
    (path,) = alembic_project.versions()
    bodies = re.compile(r"^    (# ###.*?# ### end [^\n]*)", re.MULTILINE | re.DOTALL)
    upgrade, downgrade = bodies.findall(path.read_text())
    assert "op.create_table('users'" in upgrade
    assert "op.drop_table('users')" in downgrade
    assert rendered == [upgrade, downgrade]


def test_a_rendered_body_asks_the_users_render_item_which_sees_the_dialect(
    config: Config, alembic_project: Project
) -> None:
    seen = []

    def render_item(kind: str, _item: object, autogen_context: AutogenContext) -> Any:
        if kind != "server_default":
            return False
        assert autogen_context.dialect is not None
        seen.append(autogen_context.dialect.name)
        return "sa.text('mine')"

    def render(context: MigrationContext, _revision: object, directives: list[Any]) -> None:
        seen.clear()
        autogen_context = AutogenContext(context, autogenerate=False)
        body = rendered_body(directives[0].upgrade_ops, autogen_context)
        assert "server_default=sa.text('mine')" in body
        assert seen == ["postgresql"]
        seen.append("done")

    config.attributes["configure"].update(
        target_metadata=MODELS, process_revision_directives=render, render_item=render_item
    )
    command.revision(config, autogenerate=True)
    assert "done" in seen
    assert len(alembic_project.versions()) == 1


def test_env_py_configures_through_ours(config: Config) -> None:
    asked = []
    script = ScriptDirectory.from_config(config)
    environment = EnvironmentContext(config, script)
    configure_through(environment, lambda **options: asked.append(options))
    with environment:
        alembic.context.configure(dialect_name="postgresql")
    assert asked == [{"dialect_name": "postgresql"}]


def test_revisions_send_to_the_connection_that_was_set() -> None:
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
    connection = object()
    set_connection(context, connection)
    assert Operations(context).get_bind() is connection


def test_a_script_can_be_written_without_its_versions(
    alembic_project: Project, config: Config
) -> None:
    write_history(alembic_project, "first", upgrade='op.execute("SELECT 1")')
    write_history(alembic_project, "second", "first", upgrade='op.execute("SELECT 2")')
    history = ScriptDirectory.from_config(config)
    written = io.StringIO()

    def steps(_heads: object, context: MigrationContext) -> list[RevisionStep]:
        write_no_versions(context)
        revisions = reversed(list(history.walk_revisions()))
        return [RevisionStep(history.revision_map, each, True) for each in revisions]

    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "fn": steps, "output_buffer": written, "script": history},
    )
    with Operations.context(context):
        context.run_migrations()
    statements = [line for line in written.getvalue().splitlines() if line.endswith(";")]
    assert statements[-2:] == ["SELECT 1;", "SELECT 2;"]
