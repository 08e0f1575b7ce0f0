"""Every fix that a finding prints is safe itself, and ends in the same schema as the statement."""

from __future__ import annotations

import io
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
from alembic_safe.operations import BackfillOp
from alembic_safe.phases import Phase
from alembic_safe.rehearsal.server import ScratchServer
from alembic_safe.rules.finding import Finding, Fix

FIXED = [
    (example, finding)
    for example in chain.from_iterable(EXAMPLES.values())
    for finding in chain.from_iterable(each.findings for each in judged_example(example))
    if finding.fix is not None
]


def fixes(*, operations: bool) -> list[Any]:
    """Return the examples with their fixes, of which one form is tested."""
    return [
        pytest.param(example, finding, id=f"{finding.code}: {example}")
        for example, finding in FIXED
        if finding.fix is not None and (finding.fix.operations if operations else finding.fix.sql)
    ]


def phase_of(example: Example, fix: Fix) -> Phase | None:
    return fix.phase or example.phase


def test_there_are_fixes() -> None:
    with_both = [f for _, f in FIXED if f.fix is not None and f.fix.operations and f.fix.sql]
    assert len(with_both) > 30


@pytest.mark.parametrize(("example", "finding"), fixes(operations=False))
def test_the_sql_of_a_fix_is_not_reported(example: Example, finding: Finding) -> None:
    fix = finding.fix
    assert fix is not None
    statements = f"{example.bad};\n{fix.sql}" if fix.is_addition else fix.sql
    found = judged(
        statements,
        before=SHOP + example.before,
        version=example.version,
        in_transaction=False,
        phase=phase_of(example, fix) or (example.phase if not fix.is_addition else Phase.CONTRACT),
        has_runner=example.has_runner,
    )
    assert rest(found, example) == []


def rest(found: Any, example: Example) -> list[str]:
    """Return what is said of a fix, without what has nothing to do with it."""
    return [code for code in codes(found) if code not in KEPT or code not in example.also]


KEPT = frozenset({"serial-column"})
"""A fix keeps the schema as it was meant, with whatever else may be said of it."""


@pytest.mark.parametrize(("example", "finding"), fixes(operations=True))
def test_the_operations_of_a_fix_are_not_reported(example: Example, finding: Finding) -> None:
    fix = finding.fix
    assert fix is not None
    script = written(fix.operations)
    statements = f"{example.bad};\n{script}" if fix.is_addition else script
    found = judged(
        statements,
        before=SHOP + example.before,
        version=example.version,
        in_transaction=False,
        phase=phase_of(example, fix) or (example.phase if not fix.is_addition else Phase.CONTRACT),
        has_runner=example.has_runner,
    )
    assert rest(found, example) == []


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
    """`op` in offline mode, where a backfill is what it executes, not the script for it."""

    def invoke(self, operation: Any) -> Any:
        if not isinstance(operation, BackfillOp):
            return super().invoke(operation)
        context = self.get_context()
        with context.autocommit_block():
            for statement in executed(Written("DO ", operation=operation)):
                context.impl.static_output(f"{statement};")
        return None


def run_body(body: str, op: Operations) -> None:
    exec(compile(body, "<fix>", "exec"), {"op": op, "sa": sa})


# On real servers


@pytest.mark.parametrize(("example", "finding"), fixes(operations=False))
def test_the_sql_of_a_fix_ends_in_the_same_schema(
    server: ScratchServer, database: Database, example: Example, finding: Finding
) -> None:
    fix = finding.fix
    assert fix is not None
    wanted = after_the_statement(server, database, example, fix)
    for statement in fix.sql.split(";\n"):
        database.execute(statement)
    assert schema_of(database) == wanted


@pytest.mark.parametrize(("example", "finding"), fixes(operations=True))
def test_the_operations_of_a_fix_end_in_the_same_schema(
    server: ScratchServer, database: Database, example: Example, finding: Finding
) -> None:
    fix = finding.fix
    assert fix is not None
    wanted = after_the_statement(server, database, example, fix)
    with operations(database) as op:
        run_body(fix.operations, op)
    assert schema_of(database, without=("alembic_safe_backfill",)) == wanted


def after_the_statement(
    server: ScratchServer, database: Database, example: Example, fix: Fix
) -> Any:
    """Prepare the database, and return the schema that the unsafe statement makes of it."""
    if int(server.version) < example.version and "NOT NULL" in fix.sql:
        pytest.skip("the SQL is for a newer server")
    database.execute(SHOP + ROWS + example.before)
    if fix.is_addition:
        database.execute(example.bad)
        return schema_of(database, after=fix.sql.replace("CONCURRENTLY", ""))
    after = example.bad
    if example.is_failing:
        after = example.bad.replace("CONCURRENTLY ", "")
    if after.startswith(("VACUUM", "REINDEX")):
        return schema_of(database)
    return schema_of(database, after=after)
