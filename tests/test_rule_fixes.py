"""Every fix that a finding prints is safe itself, and ends in the same schema as the statement."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from conftest import Database
from direct import operations
from rule_examples import EXAMPLES, ROWS, SHOP, Example, codes, judged, judged_example
from schema import schema_of

from alembic_safe.lint.own_operations import executed
from alembic_safe.lint.recording import Written
from alembic_safe.operations import BackfillOp, CreatePartitionedIndexOp
from alembic_safe.postgres.effects import Effects
from alembic_safe.rehearsal.server import ScratchServer
from alembic_safe.rules.finding import Finding, Fix


@dataclass(frozen=True)
class Case:
    """A fix, with the statement that it stands for.

    Args:
        example: where the statement is.
        before: what stands before the statement in its revision.
        effects: of the statement.
        finding: what is said of it.
        fix: what to do instead.
    """

    example: Example
    before: str
    effects: Effects
    finding: Finding
    fix: Fix

    def __str__(self) -> str:
        return f"{self.finding.code}: {self.example}"


def cases_of(example: Example) -> list[Case]:
    return [
        Case(example, example.bad[: each.effects.offset], each.effects, finding, finding.fix)
        for each in judged_example(example)
        for finding in each.findings
        if finding.fix is not None
    ]


CASES = [case for each in chain.from_iterable(EXAMPLES.values()) for case in cases_of(each)]

with_sql = pytest.mark.parametrize("case", [case for case in CASES if case.fix.sql], ids=str)
with_operations = pytest.mark.parametrize(
    "case", [case for case in CASES if case.fix.operations], ids=str
)


def test_there_are_as_many_fixes_as_can_be_exact() -> None:
    assert Counter(case.finding.code for case in CASES) == {
        "concurrently-in-transaction": 3,
        "backfill-beside-ddl": 1,
        "unbatched-update": 2,
        "index-not-concurrent": 6,
        "set-not-null-scan": 2,
        "add-constraint-validated": 6,
        "constraint-builds-index": 5,
        "primary-key-scan": 1,
        "table-rewrite": 3,
        "partition-created-in-place": 1,
        "reindex-not-concurrent": 2,
        "refresh-not-concurrent": 1,
        "drop-index-not-concurrent": 2,
        "lock-timeout-missing": 1,
        "foreign-key-without-index": 2,
    }
    # An index without a name can be built, and not be looked for; a timeout is no operation.
    without_operations = [case.finding.code for case in CASES if not case.fix.operations]
    assert without_operations == ["index-not-concurrent", "lock-timeout-missing"]


@with_sql
def test_the_sql_of_a_fix_is_not_reported(case: Case) -> None:
    assert reported(case, case.fix.sql) == [*case.example.also * case.fix.is_addition]


@with_operations
def test_the_operations_of_a_fix_are_not_reported(case: Case) -> None:
    found = reported(case, written(case.fix.operations))
    assert found == [*case.example.also * case.fix.is_addition]


def reported(case: Case, fixed: str) -> list[str]:
    """Return the codes of what is said of a fix: in a revision of its own, or, where it is an
    addition, behind the statement."""
    found = judged(
        f"{case.effects.sql};\n{fixed}" if case.fix.is_addition else fixed,
        before=f"{SHOP}{case.example.before}{case.before}",
        version=case.example.version,
        in_transaction=False,
        phase=case.fix.phase or case.example.phase,
        has_runner=case.example.has_runner,
    )
    return codes(found)


def written(body: str) -> str:
    """Return what a revision with this body sends to the server, in Alembic's offline mode."""
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": buffer}
    )
    with context.begin_transaction():
        run_body(body, _Offline(context))
    return buffer.getvalue()


class _Offline(Operations):
    """`op` in offline mode, where what needs the database's answers is what it executes, not the
    script for it."""

    def invoke(self, operation: Any) -> Any:
        if not isinstance(operation, (BackfillOp, CreatePartitionedIndexOp)):
            return super().invoke(operation)
        context = self.get_context()
        with context.autocommit_block():
            for statement in executed(Written("DO ", operation=operation)):
                context.impl.static_output(f"{statement};")
        return None


def run_body(body: str, op: Operations) -> None:
    exec(compile(body, "<fix>", "exec"), {"op": op, "sa": sa})


# On real servers


@with_sql
def test_the_sql_of_a_fix_ends_where_the_statement_ends(
    server: ScratchServer, database: Database, case: Case
) -> None:
    case = on(server, case)
    wanted = after_the_statement(database, case)
    for statement in case.fix.sql.split(";\n"):
        database.execute(statement)
    assert state(database, case) == wanted


@with_operations
def test_the_operations_of_a_fix_end_where_the_statement_ends(
    server: ScratchServer, database: Database, case: Case
) -> None:
    case = on(server, case)
    wanted = after_the_statement(database, case)
    with operations(database) as op:
        run_body(case.fix.operations, op)
    assert state(database, case) == wanted


def on(server: ScratchServer, case: Case) -> Case:
    """Return the case as it is on a server, of which the fix may depend."""
    found = cases_of(replace(case.example, version=server.version))
    same = [each for each in found if each.finding.code == case.finding.code]
    if not same:
        pytest.skip("the server knows no such statement")
    return same[0]


def after_the_statement(database: Database, case: Case) -> Any:
    """Prepare the database, and return what the statement would make of it."""
    database.execute(f"{SHOP}{ROWS}{case.example.before}{case.before}")
    statement = case.effects.sql
    if case.fix.is_addition:
        database.execute(statement)
        statement = case.fix.sql
    return state(database, case, after=in_transaction(statement))


def in_transaction(statement: str) -> str:
    """Return what does the same in a transaction; nothing where it leaves the schema alone."""
    if statement.startswith(("VACUUM", "REINDEX")):
        return ""
    return statement.replace("CONCURRENTLY ", "")


def state(database: Database, case: Case, *, after: str = "") -> Any:
    """Return the schema, and the rows where the statement changes rows.

    Args:
        database: the database.
        case: the fix.
        after: SQL that is run first, and taken back afterwards.
    """
    rows: list[Any] = []
    if case.effects.node_name == "update_stmt":
        with database.connect() as connection, connection.transaction(force_rollback=True):
            connection.execute((after or "SELECT").encode())
            rows = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
    return schema_of(database, without=("alembic_safe_backfill",), after=after), rows
