"""`revision --autogenerate` with Alembic's own options, hooks, templates and several databases; and
that nothing is written where something is refused."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Database
from environments import replace_in_env
from project import Project
from revision_files import docs, functions, marks

NOW = ("-x", "contract=now")

MODELS = """\
import sqlalchemy as sa
from alembic import context

import alembic_safe

metadata = sa.MetaData()
users = sa.Table(
    "users", metadata, sa.Column("id", sa.Integer, primary_key=True), {columns}
)
"""
OLD = 'sa.Column("name", sa.Text, index=True)'
RENAMED = 'sa.Column("title", sa.Text, index=True, info=alembic_safe.renamed_from("name"))'
TIGHTENED = 'sa.Column("name", sa.Text, index=True, nullable=False)'
"""Expand, migrate and contract; and contract alone."""


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Project:
    """A table that the models have too; no revision yet."""
    database.execute(
        "CREATE TABLE users (id int PRIMARY KEY, name text); CREATE INDEX ix_users_name"
        " ON users (name)"
    )
    alembic_project.models(MODELS.format(columns=RENAMED))
    return alembic_project


def files(project: Project) -> list[Path]:
    """All revision files, and the folder of the contract line."""
    found = [*project.migrations.glob("versions/*.py"), *project.migrations.glob("contracts*")]
    return [*found, *project.migrations.glob("contracts/*.py")]


def refused(project: Project, *args: str, saying: str) -> None:
    """Run autogenerate, which has to fail with a message and leave no file."""
    before = files(project)
    done = project.run("revision", "--autogenerate", *args, check=False)
    assert done.returncode != 0
    assert saying in " ".join(done.stderr.split())
    assert files(project) == before


def configure(project: Project, line: str) -> None:
    path = project.folder / "alembic.ini"
    path.write_text(path.read_text().replace("[alembic]\n", f"[alembic]\n{line}\n"))


class TestOptions:
    def test_the_identifier_label_and_dependency_are_the_first_revisions(
        self, project: Project
    ) -> None:
        project.run("revision", "-m", "base", "--rev-id", "r0")
        project.run("upgrade", "head")
        project.run(
            *("revision", "--autogenerate", "-m", "title", "--rev-id", "r1"),
            *("--branch-label", "shop", "--depends-on", "r0", "--version-path"),
            str(project.migrations / "versions"),
        )
        _, expand, migrate = project.versions()
        assert "revision: str = 'r1'" in expand.read_text()
        assert "branch_labels: Union[str, Sequence[str], None] = ('shop',)" in expand.read_text()
        assert "depends_on: Union[str, Sequence[str], None] = 'r0'" in expand.read_text()
        assert "branch_labels: Union[str, Sequence[str], None] = None" in migrate.read_text()
        assert "depends_on: Union[str, Sequence[str], None] = None" in migrate.read_text()
        assert marks(project.contracts()[0])["completes"] == project.head()
        project.run("upgrade", "shop@head")
        assert "(shop) (head)" in project.run("heads").stdout

    def test_splice_starts_a_branch_and_goes_on_from_there(self, project: Project) -> None:
        project.run("revision", "-m", "base", "--rev-id", "r0")
        project.run("revision", "-m", "head", "--rev-id", "r1")
        project.run("upgrade", "head")
        project.run("revision", "--autogenerate", "--head", "r0", "--splice", "--rev-id", "s1")
        heads = project.run("heads").stdout
        assert len(heads.split()) == 4
        assert "r1 (head)" in heads
        assert "r0 -> s1" in project.run("history").stdout
        project.run("upgrade", "heads")

    @pytest.mark.parametrize(
        ("args", "saying"),
        [
            (("--head", "r0"), "is not a head revision"),
            (("--rev-id", "a-b"), "a-b"),
            (("--depends-on", "lost"), "lost"),
            (("--version-path", "elsewhere"), "elsewhere"),
        ],
    )
    def test_what_alembic_refuses_leaves_no_contract_behind(
        self, project: Project, args: tuple[str, str], saying: str
    ) -> None:
        project.run("revision", "-m", "base", "--rev-id", "r0")
        project.run("revision", "-m", "head", "--rev-id", "r1")
        project.run("upgrade", "head")
        refused(project, *args, saying=saying)

    def test_the_users_template_gets_its_arguments(self, project: Project) -> None:
        template = project.migrations / "script.py.mako"
        values = "owner = ${repr(owner)}\nsection = ${repr(config.config_ini_section)}\n\n\n"
        text = template.read_text().replace("def upgrade()", f"{values}def upgrade()")
        template.write_text(text)
        replace_in_env(
            project,
            "target_metadata=target_metadata,",
            'target_metadata=target_metadata, template_args={"owner": "team"},',
        )
        project.run("revision", "--autogenerate", "-m", "title")
        for path in [*project.versions(), *project.contracts()]:
            assert marks(path)["owner"] == "team"
            assert marks(path)["section"] == "alembic"

    def test_a_template_without_imports_is_refused(self, project: Project) -> None:
        template = project.migrations / "script.py.mako"
        template.write_text(template.read_text().replace('${imports if imports else ""}\n', ""))
        refused(project, saying="script.py.mako has no place for the phase")

    def test_a_function_of_comments_alone_is_python_in_any_template(
        self, project: Project, database: Database
    ) -> None:
        template = project.migrations / "script.py.mako"
        template.write_text(template.read_text().replace('    """Downgrade schema."""\n', ""))
        database.execute("ALTER TABLE users ADD age int NOT NULL")
        project.models(MODELS.format(columns=OLD))
        project.run("revision", "--autogenerate", "-m", "no age")
        (expand,) = project.versions()
        assert "users.age stays nullable" in expand.read_text()
        assert functions(expand)["downgrade"] == []
        project.run(*NOW, "upgrade", "head")


class TestHooks:
    HOOK = """\
def hook(context, revision, directives):
    script = directives[0]
    names = [type(op).__name__ for op in script.upgrade_ops.ops]
    {body}

config = context.config"""

    def use(self, project: Project, body: str) -> None:
        replace_in_env(project, "config = context.config", self.HOOK.format(body=body))
        replace_in_env(
            project,
            "target_metadata=target_metadata,",
            "target_metadata=target_metadata, process_revision_directives=hook,",
        )

    def test_the_users_hook_sees_what_autogenerate_found(self, project: Project) -> None:
        self.use(
            project,
            'script.message += f" {len(directives)} {names}"; script.rev_id = "mine"',
        )
        project.run("revision", "--autogenerate", "-m", "title")
        assert docs(project.versions())[0].startswith("expand: title 1 ['ModifyTableOps']\n")
        assert project.head() != "mine"
        assert "revision: str = 'mine'" in project.versions()[0].read_text()

    def test_what_the_users_hook_takes_out_stays_out(self, project: Project) -> None:
        self.use(project, "directives[:] = []")
        project.run("revision", "--autogenerate", "-m", "title")
        assert files(project) == []

    def test_what_the_users_hook_adds_is_passed_on(self, project: Project) -> None:
        self.use(
            project,
            "from alembic.operations import ops; "
            'script.upgrade_ops.ops[:] = [ops.ExecuteSQLOp("SELECT 1")]',
        )
        project.run("revision", "--autogenerate", "-m", "title")
        (path,) = project.versions()
        assert functions(path) == {"upgrade": ["execute"], "downgrade": []}
        assert "Not examined" in path.read_text()
        project.run("upgrade", "head")
        project.run("downgrade", "base")

    def test_a_hook_among_our_own_keywords_is_the_users_too(self, project: Project) -> None:
        replace_in_env(
            project, "config = context.config", self.HOOK.format(body="script.message = 'mine'")
        )
        replace_in_env(
            project,
            "**alembic_safe.configure(),",
            "**alembic_safe.configure(process_revision_directives=hook),",
        )
        project.run("revision", "--autogenerate", "-m", "title")
        assert docs(project.versions())[0].startswith("expand: mine\n")


class TestWithoutAutogenerate:
    @pytest.mark.parametrize("environment", ["false", "true"])
    def test_the_revision_is_alembics_own(self, project: Project, environment: str) -> None:
        configure(project, f"revision_environment = {environment}")
        project.run("revision", "-m", "by hand")
        (path,) = project.versions()
        assert docs([path])[0].startswith("by hand\n\nRevision ID")
        assert (marks(path), functions(path)) == ({}, {"upgrade": [], "downgrade": []})
        assert not (project.migrations / "contracts").exists()


class TestRefused:
    """Nothing is written, neither for the history nor for the contract line."""

    def test_a_change_without_a_safe_sequence(self, project: Project, database: Database) -> None:
        database.execute("CREATE VIEW v AS SELECT name FROM users")
        refused(project, saying="Cannot rename users.name to title safely: view public.v")

    def test_a_column_without_a_value(self, project: Project) -> None:
        columns = f'{RENAMED}, sa.Column("age", sa.Integer, nullable=False)'
        project.models(MODELS.format(columns=columns))
        refused(project, saying="users.age is new and NOT NULL")

    def test_a_hint_that_names_nothing(self, project: Project) -> None:
        project.models(MODELS.format(columns=RENAMED.replace('from("name")', 'from("nane")')))
        refused(project, saying="users.title was users.nane")

    def test_a_rename_that_changes_the_type_too(self, project: Project) -> None:
        project.models(MODELS.format(columns=RENAMED.replace("sa.Text", "sa.Integer")))
        refused(project, saying="Rename it with the type that it has")

    def test_an_operation_that_cannot_be_rendered(self, project: Project) -> None:
        replace_in_env(
            project,
            "config = context.config",
            """\
from alembic.operations import MigrateOperation

class Unknown(MigrateOperation):
    table_name = "users"
    def reverse(self): return self

def hook(context, revision, directives):
    directives[0].upgrade_ops.ops.append(Unknown())

config = context.config""",
        )
        replace_in_env(
            project,
            "target_metadata=target_metadata,",
            "target_metadata=target_metadata, process_revision_directives=hook,",
        )
        refused(project, saying="Unknown")

    def test_several_databases_in_one_command(self, project: Project) -> None:
        env = project.migrations / "env.py"
        source = env.read_text()
        start = source.index("    engine = engine_from_config(")
        body, rest = source[start:].split("\n\n\n", 1)
        body = "\n".join("    " + line for line in body.splitlines()).replace(
            "target_metadata=target_metadata,",
            "target_metadata=target_metadata, upgrade_token=f'{name}_upgrades',"
            " downgrade_token=f'{name}_downgrades',",
        )
        env.write_text(f"{source[:start]}    for name in ('one', 'two'):\n{body}\n\n\n{rest}")
        refused(project, saying="compares several databases in one command")

    def test_before_the_first_revision_that_is_there_is_applied(self, project: Project) -> None:
        project.run("revision", "-m", "base")
        refused(project, saying="Target database is not up to date")


class TestRenames:
    ADDED = 'sa.Column("title", sa.Text)'

    def test_are_never_asked_about_without_a_terminal(self, project: Project) -> None:
        project.models(MODELS.format(columns=self.ADDED))
        done = project.run("revision", "--autogenerate", "-m", "title")
        assert "renamed?" not in done.stdout + done.stderr
        assert "drop_column_if_exists" in project.contracts()[0].read_text()

    def test_are_named_on_the_command_line(self, project: Project) -> None:
        project.models(MODELS.format(columns=self.ADDED))
        project.run("-x", "rename=users.name:title", "revision", "--autogenerate", "-m", "title")
        assert "verify_sync" in project.contracts()[0].read_text()

    @pytest.mark.parametrize(("answer", "renamed"), [("y", True), ("", False)])
    def test_are_asked_about_at_a_terminal(
        self, project: Project, answer: str, renamed: bool
    ) -> None:
        project.models(MODELS.format(columns=self.ADDED))
        shown = at_a_terminal(project, f"{answer}\n", "revision", "--autogenerate", "-m", "title")
        assert shown.count("Is users.title the column users.name, renamed? [y/N]") == 1
        assert ("verify_sync" in project.contracts()[0].read_text()) is renamed

    def test_in_check_are_not_asked_about(self, project: Project) -> None:
        project.models(MODELS.format(columns=self.ADDED))
        assert "renamed?" not in at_a_terminal(project, "", "check")


def at_a_terminal(project: Project, typed: str, *args: str) -> str:
    """Run Alembic at a terminal at which `typed` is typed; return what it shows there."""
    mine, theirs = pty.openpty()
    os.write(mine, typed.encode())
    process = subprocess.Popen(
        [sys.executable, "-m", "alembic", *args],
        cwd=project.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += (part := os.read(mine, 4096))
        except OSError:  # the terminal is closed on the other side
            break
        if not part:
            break
    process.wait(60)
    os.close(mine)
    return shown.decode()
