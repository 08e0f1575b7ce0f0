"""Rows: SELECT, INSERT, UPDATE, DELETE, MERGE, COPY."""

from __future__ import annotations

from typing import Any

from alembic_safe.postgres.effects.handlers.calls import call
from alembic_safe.postgres.effects.handlers.names import is_system
from alembic_safe.postgres.effects.handlers.queries import (
    Reading,
    read_query,
    read_rows,
)
from alembic_safe.postgres.effects.handlers.tables import new_name
from alembic_safe.postgres.effects.handlers.writes import note_rows
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def run_query(node: Any, tally: Tally) -> Reading:
    """Note what running a query does, its function calls included.

    Details:
        advisory_lock: it takes one.
        sleeps: it calls `pg_sleep` or its kin.
        unknown_functions: names of the functions of which is not known what they do.

    Raises:
        Refused: it certainly fails.
    """
    reading = read_query(node, tally)
    for function_call in reading.calls:
        call(function_call, tally)
    return reading


def select(node: Any, tally: Tally) -> None:
    """`SELECT`, `VALUES`, `TABLE`: ACCESS SHARE, which nobody but ACCESS EXCLUSIVE waits for, and
    with FOR UPDATE and its kin ROW SHARE. `SELECT INTO` makes a table."""
    run_query(node, tally)
    if node.HasField("into_clause"):
        name = new_name(node.into_clause.rel, tally)
        if name is not None:
            make_table(name, node.into_clause, tally)


def insert(node: Any, tally: Tally) -> None:
    """`INSERT`: ROW EXCLUSIVE on the table and on partitions that rows may go to."""
    run_query(node, tally)


def change(node: Any, tally: Tally) -> None:
    """`UPDATE`, `DELETE`: ROW EXCLUSIVE on the table and what inherits from it.

    Details:
        every_row: it has no WHERE.
    """
    tally.details["every_row"] = not node.HasField("where_clause")
    run_query(node, tally)


def merge(node: Any, tally: Tally) -> None:
    """`MERGE` (15): ROW EXCLUSIVE on the target.

    Raises:
        Refused: the server is older.
    """
    if tally.world.version < 15:
        tally.refuse('syntax error at or near "MERGE"', "42601")
    run_query(node, tally)


def make_table(name: QualifiedName, into: Any, tally: Tally, kind: str = "r") -> Relation:
    """Make the table of `SELECT INTO`, `CREATE TABLE AS` or a materialized view known."""
    made = Relation(name, kind, persistence=into.rel.relpersistence, born=tally.world.batch)
    tally.world.put(made)
    return made


def copy(node: Any, tally: Tally) -> None:
    """`COPY ... FROM`: ROW EXCLUSIVE; `COPY ... TO`: ACCESS SHARE.

    Details:
        program: it runs a program on the server.
    """
    if node.is_program:
        tally.details["program"] = node.filename
    if node.HasField("query"):
        run_query(node.query, tally)
        return
    name, schema = node.relation.relname, node.relation.schemaname or None
    if is_system(name, schema):
        if node.is_from:
            tally.unknown(f"it writes into {name}, which the server itself keeps")
        return
    relation = tally.existing(node.relation)
    if node.is_from:
        tally.lock(relation, LockMode.ROW_EXCLUSIVE, family=relation.is_partitioned)
        run_query(node.where_clause, tally)
        note_rows(relation, tally, many=True)
    else:
        read_rows(relation, tally, only=True)


HANDLERS: dict[str, Handler] = {
    "copy_stmt": copy,
    "delete_stmt": change,
    "insert_stmt": insert,
    "merge_stmt": merge,
    "select_stmt": select,
    "update_stmt": change,
}
