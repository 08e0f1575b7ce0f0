"""Fixes: the safe sequence as operations and as SQL, with the statement's real names."""

from __future__ import annotations

import functools
import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import Change, Effects
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName, readable
from alembic_safe.python_source import call_source
from alembic_safe.rules.finding import Fix, Surroundings

LOCK_TIMEOUT = "SET lock_timeout = '1s'"
"""For SQL that is run without our runner: whoever waits longer makes everybody wait."""

NO_LOCK_TIMEOUT = "SET lock_timeout = 0"
"""For statements that block nobody while they wait, and leave an invalid index behind when they
are cancelled."""

_BIND_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w)")
"""What `op.execute()` takes for a parameter in a text (SQLAlchemy, `text()`)."""


def call(operation: str, *positional: Any, **keywords: Any) -> str:
    """Return the call of an operation; keywords that are None are left out."""
    given = {name: value for name, value in keywords.items() if value is not None}
    return call_source(f"op.{operation}", positional, given)


def execute(sql: str) -> str:
    """Return the call of `op.execute` that executes exactly this SQL."""
    return call("execute", _BIND_PARAMETER.sub(r"\\:", sql))


def one_by_one(*calls: str) -> str:
    """Return calls of which each commits by itself, whatever the revision around them is."""
    parts: list[str] = []
    for leaves, group in itertools.groupby(calls, _leaves_transaction):
        together = list(group)
        if leaves or (len(together) == 1 and together[0].startswith(_INSTANT)):
            parts += together
        else:
            body = textwrap.indent("\n".join(together), "    ")
            parts.append(f"with op.get_context().autocommit_block():\n{body}")
    return "\n".join(parts)


_INSTANT = ("op.add_unique_constraint_using_index(", "op.add_column_if_not_exists(")
"""Operations of one statement that may be part of a transaction."""


def _leaves_transaction(call: str) -> bool:
    """Return whether an operation commits what was before it.

    In an autocommit block a script of `--sql` would open a transaction behind it.
    """
    return call.startswith(
        ("op.create_index_concurrently(", "op.drop_index_concurrently(", "op.backfill(")
    )


def sql_script(statements: Sequence[str], surroundings: Surroundings) -> str:
    """Return statements, one a line, and with the timeouts that they need without our runner.

    Args:
        statements: each without its semicolon; one that begins with `--` is a comment.
        surroundings: of the statement that is fixed.
    """
    lines: list[str] = []
    timeout = None
    for statement in statements:
        wanted = NO_LOCK_TIMEOUT if _waits_unseen(statement) else LOCK_TIMEOUT
        is_comment = statement.startswith("--")
        if not surroundings.has_runner and not is_comment and wanted != timeout:
            lines.append(f"{wanted};")
            timeout = wanted
        lines.append(statement if is_comment else f"{statement};")
    return "\n".join(lines)


def _waits_unseen(statement: str) -> bool:
    return " CONCURRENTLY " in statement or " VALIDATE CONSTRAINT " in statement


def fix(
    operations: str | Sequence[str],
    sql: Sequence[str],
    surroundings: Surroundings,
    *,
    phase: Phase | None = None,
    is_addition: bool = False,
) -> Fix:
    """Return a fix.

    Args:
        operations: the lines of an `upgrade()`.
        sql: statements without semicolons, and comments.
        surroundings: of the statement that is fixed.
        phase: of the revision into which the fix belongs, if the one it is in will not do.
        is_addition: whether it comes after the statement, and not in its place.
    """
    body = operations if isinstance(operations, str) else "\n".join(operations)
    other = phase if phase is not surroundings.phase else None
    return Fix(body, sql_script(sql, surroundings), other, is_addition)


def sql_name(name: QualifiedName) -> str:
    """Return a name as it stands in SQL, in quotes only where it needs them."""
    schema = f"{readable(name.schema)}." if name.schema is not None else ""
    return f"{schema}{readable(name.name)}"


def phase_of(effects: Effects, surroundings: Surroundings) -> Phase | None:
    """Return the phase that a fix belongs into: what refuses writes waits for the old release."""
    tightens = any(change.change is Change.TIGHTENED for change in effects.changes)
    return Phase.CONTRACT if tightens and surroundings.old_release_runs else None


def name_of_new(effects: Effects, relation: Relation | None, kind: str) -> str:
    """Return the name that the server chose for the one new constraint of a kind; empty where
    it is not known."""
    if relation is None:
        return ""
    before = effects.before.get(relation.name)
    known = before.constraints if before is not None else {}
    letter = {"CHECK": "c", "FOREIGN": "f", "UNIQUE": "u", "PRIMARY": "p"}.get(kind)
    new = [
        name
        for name, constraint in relation.constraints.items()
        if constraint.type == letter and name not in known
    ]
    return new[0] if len(new) == 1 and relation.complete else ""


def deferrable(constraint: Any) -> str:
    if not constraint.deferrable:
        return ""
    return "DEFERRABLE INITIALLY DEFERRED" if constraint.initdeferred else "DEFERRABLE"


def copy_of(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def exact(build: Callable[[Effects, Surroundings], Fix | None]) -> _Build:
    """Make a function give None for what cannot be written as SQL that means the same."""

    @functools.wraps(build)
    def built(effects: Effects, surroundings: Surroundings) -> Fix | None:
        try:
            return build(effects, surroundings)
        except ValueError:
            return None

    return built


_Build = Callable[[Effects, Surroundings], Fix | None]
