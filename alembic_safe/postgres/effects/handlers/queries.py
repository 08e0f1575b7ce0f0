"""What a query reads, locks, writes and calls, wherever it stands: in a SELECT, a view, a COPY."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alembic_safe.postgres.effects.handlers.conditions import reads_everything
from alembic_safe.postgres.effects.handlers.names import is_system, strings
from alembic_safe.postgres.effects.handlers.trees import children, messages
from alembic_safe.postgres.effects.handlers.writes import write
from alembic_safe.postgres.effects.tally import Tally
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.locks import LockMode

_APART = frozenset({"WithClause", "IntoClause"})
"""What is read apart: queries of WITH see each other by turns, and INTO names what is made."""

_PLAIN = frozenset({None, "a_const", "string", "integer", "boolean", "locking_clause"})
"""Nodes with nothing in them that is of interest here, of which long lists are made."""

_WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})

Scope = frozenset[str]
"""Names of the WITH queries that can be seen."""


@dataclass
class Reading:
    """What was found in a query.

    Args:
        relations: those that it reads or writes, system catalogs left out.
        columns: the last part of each column reference; `*` is all of them.
        calls: the function calls (`FuncCall`).
    """

    relations: list[Relation] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    calls: list[Any] = field(default_factory=list)


def read_query(root: Any, tally: Tally, *, runs: bool = True) -> Reading:
    """Return what is in a query, and note its locks on relations.

    Args:
        root: any message of a parse tree: a statement, an expression.
        tally: where the locks and, where it runs, the scans are noted.
        runs: whether it is run, not only kept, as that of a view is.

    Raises:
        Refused: it names a relation that is certainly not there.
    """
    reading = Reading()
    none: Scope = frozenset()
    waiting: list[tuple[Any, Scope]] = [(root, none)]
    while waiting:
        message, scope = waiting.pop()
        kind = message.DESCRIPTOR.name
        if kind == "Node":
            inside = message.WhichOneof("node")
            if inside not in _PLAIN:
                waiting.append((getattr(message, inside), scope))
            continue
        if kind == "RangeVar":
            relation = _relation(message, scope, tally)
            if relation is not None:
                reading.relations.append(relation)
        elif kind == "FuncCall":
            reading.calls.append(message)
        elif kind == "ColumnRef":
            last = message.fields[-1]
            reading.columns.add(last.string.sval if last.HasField("string") else "*")
        elif kind == "SelectStmt":
            inner, nested = _with_queries(message, scope)
            waiting += nested
            _lock_rows(message, inner, tally)
            if runs:
                _scan_sources(message, inner, tally)
            scope = inner
        elif kind in _WRITES:
            inner, nested = _with_queries(message, scope)
            waiting += nested
            if runs:
                write(message, tally)
                _scan_sources(message, inner, tally)
            scope = inner
        waiting += [
            (child, scope) for child in children(message) if child.DESCRIPTOR.name not in _APART
        ]
    return reading


def _with_queries(statement: Any, scope: Scope) -> tuple[Scope, list[tuple[Any, Scope]]]:
    """Return the scope of a statement that has a WITH clause, and its queries with theirs."""
    if not statement.HasField("with_clause"):
        return scope, []
    clause = statement.with_clause
    queries = [node.common_table_expr for node in clause.ctes]
    if clause.recursive:
        scope = scope | {query.ctename for query in queries}
        return scope, [(query, scope) for query in queries]
    found = []
    for query in queries:
        found.append((query, scope))
        scope = scope | {query.ctename}
    return scope, found


def _relation(range_var: Any, scope: Scope, tally: Tally) -> Relation | None:
    """Return the relation, None for a WITH query and for what belongs to the system."""
    name, schema = range_var.relname, range_var.schemaname or None
    if (schema is None and name in scope) or is_system(name, schema):
        return None
    if (world_index := tally.world.qualified(name, schema)) in tally.world.index_tables:
        tally.refuse(f'cannot open relation "{world_index.name}"', "42809")
    return tally.relation(range_var)


# SELECT ... FOR UPDATE


def _lock_rows(select: Any, scope: Scope, tally: Tally) -> None:
    for node in select.locking_clause:
        names = {item.range_var.relname for item in node.locking_clause.locked_rels}
        for relation in _sources(select, names, scope, tally):
            tally.lock(relation, LockMode.ROW_SHARE, family=True)
            if relation.kind == "?":
                tally.assume(f"whether {relation.name} is a view of tables is not known")
            for base in tables_behind(relation, tally):
                tally.lock(base, LockMode.ROW_SHARE, family=True)


def _sources(select: Any, names: set[str], scope: Scope, tally: Tally) -> Iterator[Relation]:
    """Yield the relations of FROM, of its sub-selects too, that have one of the names or aliases;
    with no names all of them."""
    for source in select.from_clause:
        for message in messages(source):
            if message.DESCRIPTOR.name != "RangeVar":
                continue
            called = message.alias.aliasname or message.relname
            if not names or called in names:
                relation = _relation(message, scope, tally)
                if relation is not None:
                    yield relation


def tables_behind(relation: Relation, tally: Tally) -> Iterator[Relation]:
    """Yield the tables that a view, through others if need be, is known to read."""
    waiting = [relation] if relation.kind in ("v", "m") else []
    seen = {relation.name}
    while waiting:
        view = waiting.pop()
        for other in list(tally.world.relations.values()):
            if view.name in other.dependents and other.name not in seen:
                seen.add(other.name)
                if other.kind == "v":
                    waiting.append(other)
                else:
                    yield other


# Tables that are read from end to end


def _scan_sources(statement: Any, scope: Scope, tally: Tally) -> None:
    """Note a scan of each table directly in FROM, USING or UPDATE that no index narrows down."""
    kind = statement.DESCRIPTOR.name
    sources = {
        "SelectStmt": lambda: list(statement.from_clause),
        "UpdateStmt": lambda: list(statement.from_clause),
        "DeleteStmt": lambda: list(statement.using_clause),
        "MergeStmt": lambda: [statement.source_relation],
    }.get(kind, list)()
    range_vars = [item for source in sources for item in _direct(source)]
    if kind in ("UpdateStmt", "DeleteStmt", "MergeStmt"):
        range_vars.append(statement.relation)
    if kind == "SelectStmt" and _stops_early(statement):
        return
    for range_var in range_vars:
        relation = _relation(range_var, scope, tally)
        if relation is None:
            continue
        where = statement.join_condition if kind == "MergeStmt" else statement.where_clause
        alone = len(range_vars) == 1
        if reads_everything(where, relation, range_var, alone=alone):
            read_rows(relation, tally, only=not range_var.inh)


def read_rows(relation: Relation, tally: Tally, *, only: bool = False) -> None:
    """Note that a relation is read from end to end: a table with what inherits from it, unless
    ONLY is said, and of a view the tables behind it."""
    if relation.kind == "v":
        for table in tables_behind(relation, tally):
            read_rows(table, tally)
        return
    tally.scan(relation)
    if not only and not relation.is_partitioned:
        for member in tally.world.family(relation.name):
            tally.scan(member)


def _direct(source: Any) -> Iterator[Any]:
    """Yield the relations of a FROM item that are not in a sub-select."""
    waiting = [source]
    while waiting:
        node = waiting.pop()
        kind = node.WhichOneof("node")
        if kind == "range_var":
            yield node.range_var
        elif kind == "join_expr":
            waiting += [node.join_expr.larg, node.join_expr.rarg]


def _stops_early(select: Any) -> bool:
    """Whether a LIMIT ends it after the first rows that it finds."""
    whole = select.sort_clause or select.group_clause or select.distinct_clause
    return (
        select.HasField("limit_count")
        and not whole
        and not select.HasField("where_clause")
        and not any(_is_aggregate(message) for message in messages(select))
    )


def _is_aggregate(message: Any) -> bool:
    aggregates = {"count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_or"}
    return message.DESCRIPTOR.name == "FuncCall" and strings(message.funcname)[-1] in aggregates
