"""Indexes: built, dropped and built again concurrently, and what is made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from alembic_safe.phases import Phase
from alembic_safe.postgres.deparsing import says, statement_sql
from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.expressions import index_body
from alembic_safe.postgres.identifiers import (
    MAX_IDENTIFIER_BYTES,
    QualifiedName,
    readable,
)
from alembic_safe.rules.finding import Fix, Surroundings
from alembic_safe.rules.fixes.not_null import is_not_null, not_null_sql, set_not_null_call
from alembic_safe.rules.fixes.partitions import partitioned_index
from alembic_safe.rules.fixes.writing import (
    call,
    copy_of,
    deferrable,
    exact,
    execute,
    fix,
    name_of_new,
    one_by_one,
    phase_of,
    sql_name,
)
from alembic_safe.rules.reading import (
    constraint_type,
    only_subcommand,
    strings,
    table_of,
    written,
)


@exact
def index_concurrently(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`CREATE INDEX CONCURRENTLY`."""
    world, node = surroundings.world, effects.node
    table = written(table_of(effects, world), world)
    relation = world.find(table_of(effects, world))
    if relation is not None and relation.is_partitioned:
        return partitioned_index(effects, surroundings, relation)
    changed = copy_of(node)
    changed.concurrent = True
    sql = _with_concurrently(effects.sql, _BEFORE_INDEX, "index_stmt", changed)
    operations = ""
    if node.idxname:
        operations = _create_index(
            node.idxname, table, _plain_keys(node), unique=node.unique, body=index_body(effects.sql)
        )
    return fix(operations, [sql], surroundings, phase=phase_of(effects, surroundings))


@exact
def drop_index_concurrently(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`DROP INDEX CONCURRENTLY`, one statement for each index."""
    from postgast import pg_query_pb2 as grammar

    world, node = surroundings.world, effects.node
    if node.behavior == grammar.DROP_CASCADE:
        return None
    calls, statements = [], []
    for each in node.objects:
        *schema, index = strings(each.list.items)
        changed = copy_of(node)
        changed.concurrent = True
        del changed.objects[:]
        changed.objects.add().CopyFrom(each)
        sql = statement_sql("drop_stmt", changed)
        name = world.qualified(index, schema[0] if schema else None)
        tables = [t for t, r in effects.before.items() if index in r.indexes]
        statements.append(sql)
        if len(tables) == 1 and tables[0].schema == name.schema:
            table = written(tables[0], world)
            calls.append(call("drop_index_concurrently", index, table.name, schema=table.schema))
        else:
            calls.append(one_by_one(execute(sql)))
    return fix(calls, statements, surroundings)


@exact
def constraint_using_index(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """A unique index, built concurrently, that becomes the constraint."""
    world = surroundings.world
    subcommand = only_subcommand(effects, "AddConstraint")
    table = table_of(effects, world)
    relation = world.find(table)
    if subcommand is None or relation is None or relation.is_partitioned:
        return None
    constraint = subcommand.definition
    kind = constraint_type(constraint)
    name = constraint.conname or name_of_new(effects, relation, kind)
    keys = strings(constraint.keys)
    if not name or constraint.without_overlaps:
        return None
    shown = written(table, world)
    index = _index_of(constraint, name, effects.node.relation)
    create = statement_sql("index_stmt", index)
    without_method = create.replace(" USING btree ", " ", 1)
    create = without_method if says(without_method, "index_stmt", index) else create
    using = {"UNIQUE": "UNIQUE", "PRIMARY": "PRIMARY KEY"}[kind]
    options = deferrable(constraint)
    add = (
        f"ALTER TABLE {sql_name(shown)} ADD CONSTRAINT {readable(name)} {using}"
        f" USING INDEX {readable(name)} {options}"
    ).strip()
    body = index_body(create)
    calls = [_create_index(name, shown, keys if _is_plain(index) else None, unique=True, body=body)]
    statements = [create]
    if kind == "PRIMARY":
        before = effects.before.get(table)
        for column in keys:
            calls.append(set_not_null_call(shown, column))
            if not is_not_null(before, column):
                statements += not_null_sql(shown, column, world)
        calls.append(execute(add))
    else:
        calls.append(
            call(
                "add_unique_constraint_using_index",
                name,
                shown.name,
                index_name=name,
                options=options or None,
                schema=shown.schema,
            )
        )
    phase = phase_of(effects, surroundings)
    return fix(one_by_one(*calls), [*statements, add], surroundings, phase=phase)


def _index_of(constraint: Any, name: str, relation: Any) -> Any:
    """Return the tree of the `CREATE UNIQUE INDEX CONCURRENTLY` for a constraint."""
    from postgast import pg_query_pb2 as grammar

    index = grammar.IndexStmt(idxname=name, unique=True, concurrent=True, access_method="btree")
    index.relation.CopyFrom(relation)
    index.relation.inh = True
    index.nulls_not_distinct = constraint.nulls_not_distinct
    index.table_space = constraint.indexspace
    index.options.extend(constraint.options)
    for names, elements in (
        (strings(constraint.keys), index.index_params),
        (strings(constraint.including), index.index_including_params),
    ):
        for column in names:
            element = elements.add().index_elem
            element.name = column
            element.ordering = "SORTBY_DEFAULT"
            element.nulls_ordering = "SORTBY_NULLS_DEFAULT"
    return index


_BEFORE_INDEX = re.compile(r"CREATE\s+(UNIQUE\s+)?INDEX\b", re.IGNORECASE)
_BEFORE_REINDEXED = re.compile(r"REINDEX\s+(\([^)]*\)\s*)?(INDEX|TABLE|SCHEMA|DATABASE)\b", re.I)


def _with_concurrently(sql: str, before: re.Pattern[str], node_name: str, changed: Any) -> str:
    """Return a statement with CONCURRENTLY in its place, and otherwise as it was written.

    Args:
        sql: the statement.
        before: what stands before the word.
        node_name: the name of its node in the grammar.
        changed: the tree that is wanted.
    """
    begin = before.match(sql)
    if begin is not None:
        written = f"{begin[0]} CONCURRENTLY{sql[begin.end() :]}"
        if says(written, node_name, changed):
            return written
    return statement_sql(node_name, changed)


def on_columns(table: Relation, columns: Sequence[str], surroundings: Surroundings) -> Fix | None:
    """An index on columns of a table, named as SQLAlchemy does where a column has `index=True`."""
    world = surroundings.world
    shown = written(table.name, world)
    name = "_".join(("ix", table.name.name, *columns))
    if len(name.encode()) > MAX_IDENTIFIER_BYTES or table.is_partitioned:
        return None
    keys = ", ".join(map(readable, columns))
    if world.is_new(table.born):
        operations = call("create_index", name, shown.name, list(columns), schema=shown.schema)
        how = "CREATE INDEX"
    else:
        operations = _create_index(name, shown, list(columns), unique=False, body="")
        how = "CREATE INDEX CONCURRENTLY"
    sql = f"{how} {readable(name)} ON {sql_name(shown)} ({keys})"
    return fix(operations, [sql], surroundings, is_addition=True)


@exact
def outside_transaction(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """The same statement where it can run."""
    node, world = effects.node, surroundings.world
    if effects.node_name == "drop_stmt":
        return drop_index_concurrently(effects, surroundings)
    phase = None
    operations = one_by_one(execute(effects.sql))
    if effects.node_name == "index_stmt" and node.idxname:
        table = written(table_of(effects, world), world)
        body = index_body(effects.sql)
        operations = _create_index(
            node.idxname, table, _plain_keys(node), unique=node.unique, body=body
        )
    if effects.node_name == "index_stmt" and node.unique and surroundings.old_release_runs:
        phase = Phase.CONTRACT
    return fix(operations, [effects.sql], surroundings, phase=phase)


@exact
def reindex_concurrently(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`REINDEX ... CONCURRENTLY`."""
    from postgast import pg_query_pb2 as grammar

    if effects.node.kind == grammar.REINDEX_OBJECT_SYSTEM:
        return None
    changed = copy_of(effects.node)
    option = changed.params.add().def_elem
    option.defname = "concurrently"
    option.defaction = "DEFELEM_UNSPEC"
    sql = _with_concurrently(effects.sql, _BEFORE_REINDEXED, "reindex_stmt", changed)
    return fix(one_by_one(execute(sql)), [sql], surroundings)


@exact
def refresh_concurrently(effects: Effects, surroundings: Surroundings) -> Fix | None:
    """`REFRESH MATERIALIZED VIEW CONCURRENTLY`, where the view has the index for it."""
    view = surroundings.world.find(effects.rewrites[0])
    if view is None or effects.node.skip_data:
        return None
    if not any(
        index.is_unique and index.is_valid and not index.is_partial and None not in index.columns
        for index in view.indexes.values()
    ):
        return None
    changed = copy_of(effects.node)
    changed.concurrent = True
    sql = statement_sql("refresh_mat_view_stmt", changed)
    return fix(execute(sql), [sql], surroundings)


def _create_index(
    name: str, table: QualifiedName, keys: Sequence[str] | None, *, unique: bool, body: str
) -> str:
    given: list[Any] = [name, table.name]
    if keys is not None:
        given.append(list(keys))
    return call(
        "create_index_concurrently",
        *given,
        unique=unique or None,
        definition=None if keys is not None else body,
        schema=table.schema,
    )


def _plain_keys(index: Any) -> list[str] | None:
    """Return the columns of an index that is nothing but these; None for any other."""
    return [node.index_elem.name for node in index.index_params] if _is_plain(index) else None


def _is_plain(index: Any) -> bool:
    from postgast import pg_query_pb2 as grammar

    if index.access_method not in ("", "btree") or index.nulls_not_distinct:
        return False
    if index.HasField("where_clause") or index.table_space:
        return False
    if index.index_including_params or index.options:
        return False
    return all(
        node.index_elem.name
        and not node.index_elem.collation
        and not node.index_elem.opclass
        and node.index_elem.ordering in (grammar.SORTBY_DEFAULT, 0)
        and node.index_elem.nulls_ordering in (grammar.SORTBY_NULLS_DEFAULT, 0)
        for node in index.index_params
    )
