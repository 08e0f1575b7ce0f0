"""Statements around another one: EXPLAIN, PREPARE and EXECUTE, cursors."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.options import is_on
from alembic_safe.postgres.effects.handlers.queries import read_query
from alembic_safe.postgres.effects.handlers.rows import run_query
from alembic_safe.postgres.effects.tally import Handler, Tally

_QUERIES = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})


def explain(node: Any, tally: Tally) -> None:
    """`EXPLAIN`: the locks of the statement, and with ANALYZE all that it does.

    Details:
        runs: whether the statement is run.
    """
    runs = is_on(node.options, "analyze")
    tally.details["runs"] = runs
    if runs:
        tally.absorb(tally.inside_node(node.query))
        return
    kind = node.query.WhichOneof("node")
    inner = getattr(node.query, kind)
    if kind not in _QUERIES:
        inner = getattr(inner, "query", None)  # of CREATE TABLE AS, DECLARE
    if inner is None:
        return
    _plan(inner, tally)


def _plan(query: Any, tally: Tally) -> None:
    """Note what planning a query does: its locks, without reading or calling anything."""
    before = dict(tally.scans)
    read_query(query, tally)
    tally.scans.clear()
    tally.scans.update(before)


def prepare(node: Any, tally: Tally) -> None:
    """`PREPARE`: the locks of the statement, which EXECUTE then runs."""
    _plan(node.query, tally)
    tally.world.prepared[node.name] = node.query


def execute(node: Any, tally: Tally) -> None:
    """`EXECUTE`: what the prepared statement does; unknown where it was not seen."""
    query = tally.world.prepared.get(node.name)
    if query is None:
        tally.unknown(f'the prepared statement "{node.name}" was not seen')
        return
    tally.absorb(tally.inside_node(query))


def deallocate(node: Any, tally: Tally) -> None:
    """`DEALLOCATE`: no lock."""
    if node.isall:
        tally.world.prepared.clear()
    else:
        tally.world.prepared.pop(node.name, None)


def declare_cursor(node: Any, tally: Tally) -> None:
    """`DECLARE`: the locks of its query, which FETCH reads, and what the query calls."""
    scans = dict(tally.scans)
    run_query(node.query, tally)
    tally.scans.clear()
    tally.scans.update(scans)
    tally.world.cursors[node.portalname] = node.query


def fetch(node: Any, tally: Tally) -> None:
    """`FETCH`, `MOVE`: reads what the query of the cursor reads; unknown where it was not seen."""
    query = tally.world.cursors.get(node.portalname)
    if query is None:
        tally.unknown(f'the cursor "{node.portalname}" was not seen', forgets=False)
        return
    read_query(query, tally)


def close(node: Any, tally: Tally) -> None:
    """`CLOSE`: no lock."""
    tally.world.cursors.pop(node.portalname, None)


HANDLERS: dict[str, Handler] = {
    "close_portal_stmt": close,
    "deallocate_stmt": deallocate,
    "declare_cursor_stmt": declare_cursor,
    "execute_stmt": execute,
    "explain_stmt": explain,
    "fetch_stmt": fetch,
    "prepare_stmt": prepare,
}
