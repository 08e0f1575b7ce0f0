"""What the package writes itself lints clean, on the way up and on the way back, from the files
alone and with the database; what Alembic writes for the same models does not."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Database
from hand_written import write_history
from in_process import Environment
from linted_project import LintedProject
from project import REPOSITORY
from rename_cases import CASES, TABLES, Case
from test_two_release_sequences import CHANGES

from alembic_safe.lint.report import Report
from alembic_safe.lint.run import OWN_DATABASE, Request, lint_revisions
from alembic_safe.postgres.effects.world import OLDEST_SERVER
from alembic_safe.rehearsal.server import ScratchServer, installed_binaries
from alembic_safe.rules.column_types import COLUMN_TYPES
from alembic_safe.rules.finding import Severity, code_of
from alembic_safe.rules.schema_design import SCHEMA_DESIGN
from alembic_safe.rules.settings import LintSettings


@pytest.fixture(scope="module")
def newest_server(start_server: Callable[[int], ScratchServer]) -> ScratchServer:
    """What the recipes write does not depend on the version."""
    return start_server(max(installed_binaries()))


@pytest.fixture
def database(newest_server: ScratchServer) -> Iterator[Database]:
    name = f"lint_{uuid.uuid4().hex[:12]}"
    newest_server.create_database(name)
    yield Database(newest_server, name)
    newest_server.drop_database(name)


def lint(environment: Environment, first: str, **request: Any) -> Report:
    """Lint the revisions that were just written: all but the first one."""
    files = [path for path in environment.files() if not path.name.startswith(first)]
    request = {"files": files, "downgrades": True, **request}
    return lint_revisions(environment._config(()), Request(**request), LintSettings())


def told(report: Report) -> list[str]:
    """What was found but for the design of the models, which is not the package's, and but for
    warnings that are known."""
    return [
        f"{each.path.name}:{each.line} {each.finding.severity.value} of the"
        f" {'upgrade' if each.is_upgrade else 'downgrade'}, {each.finding.code}:"
        f" {each.finding.message}\n    {each.sql}"
        for each in report.findings
        if each.finding.code not in DESIGN
        and not (each.finding.severity is Severity.WARNING and each.finding.code in KNOWN_WARNINGS)
    ]


KNOWN_WARNINGS = {
    "drop-unique": "the models drop it, and the release that runs may name it in ON CONFLICT",
    "several-tables-locked": "a column with a foreign key goes together with its sync trigger, so"
    " that the partner table is locked while this one is",
    "tightened-table": "a constraint over a twin and another column: that the twin has the values"
    " of a column with the same constraint is more than lint knows",
}

DESIGN = {
    *(code_of(rule) for rule in (*COLUMN_TYPES, *SCHEMA_DESIGN)),
    "duplicate-index",
    "foreign-key-types-differ",
    "foreign-key-without-index",
    "table-without-primary-key",
}


def assert_clean(environment: Environment, first: str, **request: Any) -> None:
    for database in (None, OWN_DATABASE):
        report = lint(environment, first, database=database, **request)
        assert report.revisions > 0
        assert told(report) == [], f"with database {database!r}"
    # Of a range nobody knows what is released already; what that means are warnings.
    of_a_range = lint(environment, first, files=(), ranges=[f"{first}:"], **request)
    assert [each for each in told(of_a_range) if "error" in each] == []


def first_revision(environment: Environment) -> str:
    (path,) = (environment.folder / "versions").glob("*.py")
    return path.name.partition("_")[0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_sequence_lints_clean(name: str, database: Database, tmp_path: Path) -> None:
    change = CHANGES[name]
    environment = Environment(tmp_path, database.url(), change.models("old"))
    environment.autogenerate("tables")
    environment.upgrade()
    environment.metadata = change.models("new")
    first = first_revision(environment)
    environment.autogenerate()
    assert_clean(environment, first)


@pytest.mark.parametrize("name", CASES)
def test_a_rename_with_all_that_hangs_on_the_column_lints_clean(
    name: str, database: Database, tmp_path: Path
) -> None:
    case: Case = CASES[name]
    environment = Environment(
        tmp_path, database.url(), case.models(), include_object=case.is_visible
    )
    escaped = re.sub(r":(?=\w)", r"\\:", TABLES.replace("{type}", case.type) + case.sql)
    (environment.folder / "versions" / "first_.py").write_text(
        "from alembic import op\n"
        "import sqlalchemy as sa\n"
        "revision, down_revision = 'first', None\n"
        f"def upgrade():\n    op.execute({escaped!r})\n"
        "def downgrade():\n    pass\n"
    )
    environment.upgrade()
    environment.autogenerate()
    version = max(case.server, OLDEST_SERVER)
    assert_clean(environment, "first", postgres=version)


def test_the_sample_lints_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = tmp_path / "sample_env"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "sample_env", sample, ignore=ignore)
    monkeypatch.setenv("SHOP_DATABASE_URL", "postgresql+psycopg://localhost/none")
    monkeypatch.setenv("SHOP_MODELS", "models_v2")
    monkeypatch.syspath_prepend(str(sample))
    from alembic.config import Config

    report = lint_revisions(Config(str(sample / "alembic.ini")), settings=LintSettings())
    assert report.revisions == 1
    assert [each.finding.code for each in report.errors] == []


# What Alembic writes.

NAIVE = {
    "an index": 'op.create_index("ix", "orders", ["note"])',
    "a foreign key": 'op.create_foreign_key(None, "orders", "users", ["user_id"], ["id"])',
    "a check": 'op.create_check_constraint("ck", "orders", "note <> \'\'")',
    "a unique constraint": 'op.create_unique_constraint("uq", "orders", ["note"])',
    "NOT NULL": 'op.alter_column("orders", "note", nullable=False)',
    "another type": 'op.alter_column("orders", "user_id", type_=sa.BigInteger())',
    "another name": 'op.alter_column("orders", "note", new_column_name="memo")',
    "another name of a table": 'op.rename_table("orders", "purchases")',
    "a column dropped": 'op.drop_column("orders", "note")',
    "a table dropped": 'op.drop_table("orders")',
    "a NOT NULL column": 'op.add_column("orders", sa.Column("x", sa.Text(), nullable=False))',
    "a column with a volatile default": 'op.add_column("orders", sa.Column("x", sa.Uuid(),'
    ' server_default=sa.text("gen_random_uuid()")))',
    "a batch": 'with op.batch_alter_table("orders") as batch:'
    '\n    batch.alter_column("note", nullable=False)',
    "an update of all rows": "op.execute(\"UPDATE orders SET note = ''\")",
    "an update through the bind": "op.get_bind().execute(sa.text(\"UPDATE orders SET note = ''\"))",
    "concurrently in a transaction": 'op.execute("CREATE INDEX CONCURRENTLY ix ON orders (note)")',
    "what cannot be read": "op.execute(\"DO $$ BEGIN EXECUTE 'DROP TABLE ' || 'orders'; END $$\")",
    "what reads": "for row in op.get_bind().execute(sa.text('SELECT 1')): pass",
}

TABLES_OF_ALEMBIC = """
op.create_table("users", sa.Column("id", sa.BigInteger, primary_key=True))
op.create_table(
    "orders",
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("user_id", sa.Integer, nullable=False),
    sa.Column("note", sa.Text),
)
op.create_index("ix_orders_user_id", "orders", ["user_id"])
"""


@pytest.mark.parametrize("knows_history", [True, False], ids=["history", "no history"])
@pytest.mark.parametrize("name", NAIVE)
def test_what_alembic_writes_is_caught(tmp_path: Path, name: str, knows_history: bool) -> None:
    project = LintedProject(tmp_path)
    write_history(project, "r1", upgrade=TABLES_OF_ALEMBIC if knows_history else "pass")
    write_history(project, "r2", "r1", upgrade=NAIVE[name])
    report = project.lint(LintSettings(), ranges=["r2"])
    assert report.errors, told(report)


SAFE = {
    "an index in an autocommit block": """
with op.get_context().autocommit_block():
    op.execute("SET lock_timeout = 0")
    op.create_index("ix", "orders", ["note"], postgresql_concurrently=True)
""",
    "operations of the package in a transaction": """
op.create_index_concurrently("ix", "orders", ["note"])
op.backfill("orders", {"note": "''"}, where="note IS NULL")
""",
    "a column": 'op.add_column("orders", sa.Column("x", sa.Text()))',
    "a column with a default": 'op.add_column("orders", sa.Column("x", sa.Text(),'
    ' server_default="", nullable=False))',
}


@pytest.mark.parametrize("name", SAFE)
def test_what_is_safe_by_hand_is_clean(tmp_path: Path, name: str) -> None:
    project = LintedProject(tmp_path)
    write_history(project, "r1", upgrade=TABLES_OF_ALEMBIC)
    write_history(project, "r2", "r1", upgrade=SAFE[name])
    assert told(project.lint(LintSettings(), ranges=["r2"])) == []


def test_nothing_is_said_of_tables_that_the_revision_makes(tmp_path: Path) -> None:
    project = LintedProject(tmp_path)
    write_history(
        project,
        "r1",
        upgrade=TABLES_OF_ALEMBIC
        + 'op.create_index("ix", "orders", ["note"])\n'
        + 'op.alter_column("orders", "note", nullable=False)\n',
    )
    report = project.lint(LintSettings())
    assert told(report) == []
