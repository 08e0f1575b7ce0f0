"""What a revision file says about an operation is the operation, online and as a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import MigrateOperation, Operations
from conftest import Database
from direct import source_of
from hand_written import write_history
from operation_cases import CASES, OTHERS, Names, prepare
from project import Project
from psql import psql
from schema import OWN_TABLES, Schema, schema_of

import alembic_safe.operations as safe
from alembic_safe.operations import SafeOperation

# What a revision file says


class _Recorder(Operations):
    """An `op` that writes down what a revision file calls."""

    def __init__(self) -> None:
        super().__init__(MigrationContext.configure(dialect_name="postgresql"))
        self.called: list[MigrateOperation] = []

    def invoke(self, operation: MigrateOperation) -> Any:
        self.called.append(operation)


MAKERS = {**{name: case.make for name, case in CASES.items()}, **OTHERS}

NOT_WRITTEN = {"restore", "columns", "unique", "definition", "type_sql", "server_default"}
"""What the DROP operations know only to be reversed."""


@pytest.mark.parametrize("is_odd", [False, True], ids=["plain names", "odd names"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_its_call_in_a_revision_file_is_the_same_operation(
    make: Callable[[Names], SafeOperation], is_odd: bool
) -> None:
    step = make(Names(is_odd=is_odd))
    recorder = _Recorder()
    source = source_of(step)
    exec(source, {"op": recorder})
    (called,) = recorder.called
    assert type(called) is type(step)
    assert _written(called) == _written(step)
    assert source_of(called) == source
    assert all(len(line) <= 84 for line in source.splitlines()) or is_odd


def _written(step: MigrateOperation) -> dict[str, Any]:
    assert isinstance(step, SafeOperation)
    (name, *values) = step.to_diff_tuple()
    assert name == step.operation_name
    fields = dict(zip((field.name for field in dataclasses.fields(step)), values, strict=True))  # type: ignore[arg-type]  # every operation is a dataclass
    hidden = NOT_WRITTEN if name.startswith("drop_") and name != "drop_synced_column" else set()
    return {name: value for name, value in fields.items() if name not in hidden}


def test_every_operation_of_the_package_is_tested_here() -> None:
    made = {type(make(Names(is_odd=False))).__name__ for make in MAKERS.values()}
    assert made == set(safe.__all__) - {"SafeOperation"}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_a_table_without_a_schema_is_found_on_the_search_path(
    make: Callable[[Names], SafeOperation],
) -> None:
    assert "schema" not in source_of(make(Names(is_odd=False)))


def test_a_synced_column_that_was_dropped_comes_back_with_its_type() -> None:
    drop = safe.DropSyncedColumnOp("users", "full_name", "display_name", type_sql="text")
    assert source_of(drop.reverse()) == 'op.add_column_if_not_exists("users", "full_name", "text")'
    with pytest.raises(ValueError, match="what type column full_name had is not known"):
        safe.DropSyncedColumnOp("users", "full_name", "display_name").reverse()


# In revisions


@dataclass(frozen=True)
class Story:
    """All operations in one revision, each with tables of its own.

    Args:
        steps: the operations.
        plain: the DDL that makes the same.
        taken_back: the DDL for what their reverses leave otherwise than it was.
    """

    steps: Sequence[SafeOperation]
    plain: str
    taken_back: str


def _story(database: Database, *, is_odd: bool, transactional: bool) -> Story:
    steps, plain, taken_back = [], "", ""
    for place, case in enumerate(CASES.values()):
        names = Names(f"t{place}_", is_odd=is_odd)
        step = case.make(names)
        if transactional and not all(s.transactional for s in step.statements(None)):
            continue
        prepare(database, names, case)
        steps.append(step)
        plain += names.sql(case.plain) + ";"
        taken_back += names.sql(case.plain if case.is_kept else case.taken_back) + ";"
    return Story(steps, plain, taken_back)


def _write(project: Project, story: Story, *, transactional: bool) -> None:
    write_history(
        project,
        "r1",
        upgrade="\n".join(source_of(step) for step in story.steps),
        downgrade="\n".join(source_of(step.reverse()) for step in reversed(story.steps)),
        marks=f"transactional = {transactional}",
    )


KINDS = pytest.mark.parametrize(
    ("transactional", "is_odd"),
    [(False, False), (False, True), (True, True)],
    ids=["one by one", "one by one, odd names", "in one transaction, odd names"],
)


@KINDS
def test_a_revision_of_them_goes_up_and_down(
    database: Database, alembic_project: Project, transactional: bool, is_odd: bool
) -> None:
    story = _story(database, is_odd=is_odd, transactional=transactional)
    wanted, wanted_back = (_schema(database, sql) for sql in (story.plain, story.taken_back))
    assert wanted != wanted_back
    _write(alembic_project, story, transactional=transactional)

    # Operations of every phase stand in one revision here, which the guard is not to let pass.
    alembic_project.run("-x", "guard=off", "upgrade", "head")
    assert _schema(database) == wanted
    alembic_project.run("downgrade", "base")
    assert _schema(database) == wanted_back


@KINDS
def test_the_scripts_of_the_revision_do_the_same(
    database: Database, alembic_project: Project, transactional: bool, is_odd: bool
) -> None:
    story = _story(database, is_odd=is_odd, transactional=transactional)
    wanted, wanted_back = (_schema(database, sql) for sql in (story.plain, story.taken_back))
    _write(alembic_project, story, transactional=transactional)

    psql(database, alembic_project.run("upgrade", "head", "--sql").stdout)
    assert _schema(database) == wanted
    psql(database, alembic_project.run("downgrade", "r1:base", "--sql").stdout)
    assert _schema(database) == wanted_back


def _schema(database: Database, after: str = "") -> Schema:
    return schema_of(database, without=(*OWN_TABLES, "alembic_version"), after=after)
