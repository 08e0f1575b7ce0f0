"""What `revision --autogenerate` writes: the files of a sequence, with the real command line."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Database
from project import Project
from revision_files import docs, functions, marks, our_calls, unformatted
from schema import OWN_TABLES, schema_of

from alembic_safe.rehearsal.server import ScratchServer

NOW = ("-x", "contract=now")

SHOP = """\
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

import alembic_safe

metadata = sa.MetaData()
users = sa.Table(
    "users", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column({name}),
    sa.Column("data", postgresql.JSONB),
)
orders = sa.Table(
    "orders", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("user_id", {user_id}),
    sa.Column("note", {note}),
)
{more}
"""
OLD = {
    "name": '"full_name", sa.Text, nullable=False, index=True',
    "user_id": "sa.Integer",
    "note": "sa.Text",
    "more": "",
}
NEW = {
    "name": '"display_name", sa.Text, nullable=False, index=True,'
    ' info=alembic_safe.renamed_from("full_name")',
    "user_id": 'sa.ForeignKey("users.id"), index=True',
    "note": "sa.Text, nullable=False, info=alembic_safe.filled_with(\"'none'\")",
    "more": 'sa.Table("tags", metadata, sa.Column("id", sa.ForeignKey("orders.id")))',
}


def shop(**changes: str) -> str:
    return SHOP.format(**{**OLD, **changes})


@pytest.fixture
def project(alembic_project: Project) -> Project:
    """The shop as it was: one revision, applied."""
    open_shop(alembic_project)
    return alembic_project


@pytest.fixture
def sequence(project: Project) -> Project:
    """The shop with all that changes written, not applied."""
    change_shop(project)
    return project


@pytest.fixture(scope="class")
def written(server: ScratchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The same, once for all tests that only read the files."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    project = Project(tmp_path_factory.mktemp("written"), server.url(name))
    open_shop(project)
    change_shop(project)
    yield project
    server.drop_database(name)


def open_shop(project: Project) -> None:
    project.models(shop())
    project.run("revision", "--autogenerate", "-m", "the shop", "--rev-id", "first")
    project.run("upgrade", "head")


def change_shop(project: Project) -> None:
    project.models(shop(**NEW))
    project.run("revision", "--autogenerate", "-m", "display name")


class TestSequence:
    def test_the_files_and_their_phases(self, written: Project) -> None:
        history, contracts = written.versions()[1:], written.contracts()
        assert [marks(path) for path in history] == [
            {"phase": "expand"},
            {"phase": "expand"},
            {"phase": "migrate", "transactional": False},
        ]
        assert len(contracts) == 2
        for path in contracts:
            found = marks(path)
            assert found["phase"] == "contract"
            assert found["transactional"] is False
            assert found["completes"] == written.head()

    def test_contract_revisions_tell_what_they_touch(self, written: Project) -> None:
        touched = {str(name) for path in written.contracts() for name in _names(marks(path))}
        assert {"column users.full_name", "column users.display_name", "column orders.note"} <= (
            touched
        )

    def test_the_docstrings(self, written: Project) -> None:
        paths = [*written.versions()[1:], *written.contracts()]
        for doc, path in zip(docs(paths), paths, strict=True):
            phase = str(marks(path)["phase"])
            assert re.match(rf"{phase}( \d| \w+)?: display name\n\n- ", doc)
            assert f"\nPhase: {phase}" in doc
            assert "\nBefore it runs: " in doc
            assert max(map(len, doc.splitlines())) <= 88
        (contract,) = (doc for doc in docs(paths) if doc.startswith("contract users"))
        one_line = " ".join(contract.split())
        assert f"Phase: contract; it completes {written.head()}. " in one_line
        assert "Before it runs: no release reads or writes users.full_name." in one_line

    def test_each_has_a_way_there_and_back(self, written: Project) -> None:
        for path in [*written.versions()[1:], *written.contracts()]:
            found = functions(path)
            assert found["upgrade"], path
            assert found["downgrade"], path

    def test_our_calls_are_formatted(self, written: Project, tmp_path: Path) -> None:
        calls = our_calls(written)
        assert max(len(line) for call in calls for line in call.splitlines()) <= 88
        assert unformatted(calls, tmp_path) == ""

    def test_nothing_of_the_work_is_done_twice(self, written: Project) -> None:
        calls = [
            call
            for path in [*written.versions()[1:], *written.contracts()]
            for call in functions(path)["upgrade"]
        ]
        assert sorted(calls) == sorted(
            [
                *("create_table", "add_column", "create_sync_trigger", "set_not_null"),
                *("backfill", "backfill", "backfill", "set_not_null"),
                *("create_index_concurrently", "create_index_concurrently"),
                *("create_foreign_key_not_valid", "validate_constraint", "verify_sync"),
                *("drop_index_concurrently", "drop_synced_column"),
            ]
        )

    def test_there_and_back_it_leaves_the_schema_as_it_was(
        self, sequence: Project, database: Database
    ) -> None:
        before = schema_of(database, without=OWN_TABLES)
        sequence.run(*NOW, "upgrade", "head")
        assert "No new upgrade operations" in sequence.run("check").stdout
        sequence.run("downgrade", "first")
        after = schema_of(database, without=OWN_TABLES)
        # The column that came back stands at the end.
        for schema in (before, after):
            schema["columns"] = sorted((row[0], *row[2:]) for row in schema["columns"])
        assert after == before


class TestSecondSequence:
    """The first one's contract revisions are in the files; elsewhere they may not have run."""

    def test_what_touches_the_same_waits_for_it(self, sequence: Project) -> None:
        sequence.run(*NOW, "upgrade", "head")
        first = {path.name for path in sequence.contracts()}
        contract_of_users = next(path for path in sequence.contracts() if "_users_" in path.name)
        revision = contract_of_users.name.partition("_")[0]
        known = len(sequence.versions())
        nullable = NEW["name"].replace("nullable=False, ", "")
        sequence.models(shop(**{**NEW, "name": nullable}))
        sequence.run("revision", "--autogenerate", "-m", "may be null")
        (expand,) = sequence.versions()[known:]
        assert marks(expand) == {
            "phase": "expand",
            "transactional": False,
            "needs_contract": (revision,),
        }
        assert {path.name for path in sequence.contracts()} == first

        sequence.run("upgrade", "head")
        sequence.models(shop(**{**NEW, "name": '"id2", sa.Integer'}))
        sequence.run("revision", "--autogenerate", "-m", "gone")
        (drop,) = (path for path in sequence.contracts() if path.name not in first)
        assert f"depends_on: Union[str, Sequence[str], None] = '{revision}'" in drop.read_text()

    def test_what_touches_something_else_does_not(self, sequence: Project) -> None:
        sequence.run(*NOW, "upgrade", "head")
        more = NEW["more"] + '\nsa.Index("ix_data", users.c.data)'
        sequence.models(shop(**{**NEW, "more": more}))
        sequence.run("revision", "--autogenerate", "-m", "index")
        assert marks(sequence.versions()[-1]) == {"phase": "migrate", "transactional": False}

    def test_while_contract_is_pending_none_is_written(self, sequence: Project) -> None:
        sequence.run("upgrade", "head")
        before = sorted(sequence.migrations.rglob("*.py"))
        done = sequence.run("revision", "--autogenerate", "-m", "more", check=False)
        assert done.returncode != 0
        assert "Contract revisions are not applied" in done.stderr
        assert sorted(sequence.migrations.rglob("*.py")) == before


class TestOnlyContract:
    def test_gets_a_revision_of_the_history_that_it_completes(self, project: Project) -> None:
        project.models(shop(note="sa.Text, nullable=False"))
        project.run("revision", "--autogenerate", "-m", "note", "--rev-id", "anchor")
        anchor = project.versions()[-1]
        assert functions(anchor) == {"upgrade": [], "downgrade": []}
        assert "Nothing to do" in docs([anchor])[0]
        (contract,) = project.contracts()
        assert marks(contract)["completes"] == "anchor" == project.head()
        project.run(*NOW, "upgrade", "head")
        assert "No new upgrade operations" in project.run("check").stdout


class TestEmptyDiff:
    def test_is_alembics_own_empty_revision(self, project: Project) -> None:
        project.run("revision", "--autogenerate", "-m", "nothing")
        path = project.versions()[-1]
        assert functions(path) == {"upgrade": [], "downgrade": []}
        assert docs([path])[0].startswith("nothing\n\nRevision ID")
        assert marks(path) == {}
        assert not (project.migrations / "contracts").exists()


def _names(found: dict[str, object]) -> Sequence[object]:
    touches = found["touches"]
    assert isinstance(touches, tuple)
    return touches
