"""Proof before contract: what has to be true before something is removed."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from alembic.operations import Operations

from alembic_safe.errors import VerificationFailed
from alembic_safe.operations import VerifySyncOp
from alembic_safe.operations.sync import SyncTrigger, differ
from alembic_safe.postgres.conditions import (
    column_exists,
    column_is_not_null,
    constraint_exists,
)
from alembic_safe.postgres.identifiers import literal, quote
from alembic_safe.runtime.execution import autocommit, executor_of, write_outside_transaction

log = logging.getLogger("alembic.safe")


@dataclass(frozen=True)
class Check:
    """Something that has to hold, as an SQL condition, and what to say where it does not."""

    holds: str
    problem: str


@Operations.implementation_for(VerifySyncOp)
def verify_sync(operations: Operations, operation: VerifySyncOp) -> None:
    """Run the checks, or write them out in `--sql` mode."""
    context = operations.migration_context
    checks = checks_of(operation)
    source_exists = column_exists(operation.trigger.table, operation.source)
    if context.as_sql:
        write_outside_transaction(context, _script(source_exists, checks))
        return
    executor = executor_of(context)
    with autocommit(context) as connection:

        def holds(condition: str) -> bool:
            rows = executor.read(connection, f"SELECT {condition}", operation.trigger.table)
            return bool(rows[0][0])

        if not holds(source_exists):
            return
        for check in checks:
            if not holds(check.holds):
                raise VerificationFailed(
                    f"Revision {executor.revision} does not run: {check.problem} Nothing was "
                    "removed."
                )
    log.info(
        "verified: %s.%s has all of %s", operation.table_name, operation.target, operation.source
    )


def checks_of(operation: VerifySyncOp) -> list[Check]:
    """Return what has to hold before the source column goes, the quick checks first."""
    trigger = operation.trigger
    table = trigger.table
    pair = f"{table}.{operation.source} and {operation.target}"
    reversed_trigger = SyncTrigger(table, operation.target, operation.source)
    checks = [
        Check(
            f"({trigger.exists()} OR {reversed_trigger.exists()})",
            f"the sync trigger of {pair} is missing, disabled or changed. Downgrade to the "
            "revision that created it and upgrade again, so that every row is copied.",
        )
    ]
    for index in operation.indexes:
        checks.append(
            Check(
                "EXISTS (SELECT FROM pg_catalog.pg_index WHERE indisvalid"
                f" AND indrelid = {table.regclass}"
                f" AND indexrelid = {table.sibling(index).regclass})",
                f"index {index} on {table} is missing or invalid. Build it, then run the same "
                "command again.",
            )
        )
    for constraint in operation.constraints:
        checks.append(
            Check(
                constraint_exists(table, constraint, validated=True),
                f"constraint {constraint} on {table} is missing or not validated. Add it, then "
                "run the same command again.",
            )
        )
    if operation.not_null:
        checks.append(
            Check(
                column_is_not_null(table, operation.target),
                f"column {operation.target} of {table} is not NOT NULL. Set it, then run the same "
                "command again.",
            )
        )
    differs = differ(quote(operation.source), quote(operation.target))
    checks.append(
        Check(
            f"NOT EXISTS (SELECT FROM {table.sql} WHERE {differs})",
            f"{pair} differ in at least one row. Find them with SELECT * FROM {table.sql} WHERE "
            f"{differs}; and see who writes without the trigger.",
        )
    )
    return checks


def _script(source_exists: str, checks: list[Check]) -> str:
    body = "\nBEGIN\n"
    body += f"  IF NOT {source_exists} THEN RETURN; END IF;\n"
    for check in checks:
        body += (
            f"  IF NOT {check.holds} THEN\n"
            f"    RAISE EXCEPTION USING MESSAGE = {literal(check.problem)};\n"
            "  END IF;\n"
        )
    return f"DO {literal(body + 'END')};\n"
