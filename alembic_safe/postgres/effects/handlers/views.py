"""Views and materialized views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers.names import strings
from alembic_safe.postgres.effects.handlers.queries import (
    Reading,
    read_query,
    read_rows,
    tables_behind,
)
from alembic_safe.postgres.effects.handlers.rows import make_table, run_query
from alembic_safe.postgres.effects.handlers.tables import new_name
from alembic_safe.postgres.effects.handlers.writes import advanced_by, note_rows
from alembic_safe.postgres.effects.model import Change
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import TEMPORARY, Column, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def create_view(node: Any, tally: Tally) -> None:
    """`CREATE [OR REPLACE] VIEW`: ACCESS EXCLUSIVE on a view that it replaces; the relations that
    it reads are only looked at.

    Raises:
        Refused: the name is taken, or columns of the old view would go away.
    """
    reading = read_query(node.query, tally, runs=False)
    columns = _columns(node.query, strings(node.aliases), reading)
    name = _new_name(node.view, tally)
    old = tally.world.find(name)
    if old is None and node.replace and not tally.world.is_gone(name):
        tally.assume(f"{name} may be there already")
        tally.lock(name, LockMode.ACCESS_EXCLUSIVE)
    if old is not None:
        if not node.replace:
            tally.refuse(f'relation "{name.name}" already exists', "42P07")
        if old.kind not in ("v", "?"):
            tally.refuse(f'"{name.name}" is not a view', "42809")
        tally.lock(old, LockMode.ACCESS_EXCLUSIVE)
        _check_columns(old, columns, tally)
    is_new = not node.replace or tally.world.is_gone(name)
    born = old.born if old is not None else tally.world.batch if is_new else 0
    _put_view(Relation(name, "v", born=born), columns, old, tally)
    _note_dependent(name, reading, tally)


def _new_name(range_var: Any, tally: Tally) -> QualifiedName:
    """Return the name that a new relation gets: with the schema in which it is made."""
    if range_var.relpersistence == "t":
        return QualifiedName(range_var.relname, TEMPORARY)
    if range_var.schemaname:
        return QualifiedName(range_var.relname, range_var.schemaname)
    return QualifiedName(range_var.relname, tally.world.search_path[0])


def _put_view(
    view: Relation, columns: list[str] | None, old: Relation | None, tally: Tally
) -> None:
    dependents = old.dependents if old is not None else {}
    known = old is None or old.complete
    if columns is not None:
        found = {column: Column(column, born=view.born) for column in columns}
        view = replace(view, columns=found, complete=known)
    tally.world.put(replace(view, dependents=dependents))


def _columns(query: Any, aliases: list[str], reading: Reading) -> list[str] | None:
    """Return the names of a query's columns; None where they are not all known."""
    select = query.select_stmt
    while select.HasField("larg"):
        select = select.larg
    names: list[str] = []
    for node in select.target_list:
        found = _target_names(node.res_target, reading)
        if found is None:
            return None
        names += found
    return [*aliases, *names[len(aliases) :]] if names else None


def _target_names(target: Any, reading: Reading) -> list[str] | None:
    if target.name:
        return [target.name]
    kind = target.val.WhichOneof("node")
    if kind == "column_ref":
        last = target.val.column_ref.fields[-1]
        if last.HasField("string"):
            return [last.string.sval]
        if len(reading.relations) == 1 and reading.relations[0].complete:
            return list(reading.relations[0].columns)
    if kind == "func_call":
        return [strings(target.val.func_call.funcname)[-1]]
    return None


def _check_columns(old: Relation, columns: list[str] | None, tally: Tally) -> None:
    if columns is None or not old.complete:
        return
    if len(columns) < len(old.columns):
        tally.refuse("cannot drop columns from view", "42P16")
    for before, after in zip(old.columns, columns, strict=False):
        if before != after:
            tally.refuse(f'cannot change name of view column "{before}" to "{after}"', "42P16")


def _note_dependent(view: QualifiedName, reading: Reading, tally: Tally) -> None:
    """Remember which columns of which relations a view uses."""
    world = tally.world
    for relation in list(world.relations.values()):
        if view in relation.dependents:
            left = {name: used for name, used in relation.dependents.items() if name != view}
            world.put(replace(relation, dependents=left))
    for name in dict.fromkeys(relation.name for relation in reading.relations):
        found = world.find(name)
        if found is None:
            continue
        used = reading.columns - {"*"}
        if found.complete:
            used = set(found.columns) if "*" in reading.columns else used & set(found.columns)
        changed = {**found.dependents, view: frozenset(used)}
        world.put(replace(found, dependents=changed))


def create_table_as(node: Any, tally: Tally) -> None:
    """`CREATE TABLE AS`, `CREATE MATERIALIZED VIEW`: reads what its query reads.

    Raises:
        Refused: the name is taken.
    """
    from postgast import pg_query_pb2 as grammar

    is_view = node.objtype == grammar.OBJECT_MATVIEW
    name = new_name(node.into.rel, tally, or_not=node.if_not_exists)
    if node.query.WhichOneof("node") == "execute_stmt":
        tally.absorb(tally.inside_node(node.query))
        reading = Reading()
    elif node.into.skip_data:
        reading = read_query(node.query, tally, runs=False)
    else:
        reading = run_query(node.query, tally)
    if name is None:
        return
    made = make_table(name, node.into, tally, "m" if is_view else "r")
    columns = _columns(node.query, strings(node.into.col_names), reading)
    if columns is not None:
        found = {column: Column(column, born=made.born) for column in columns}
        tally.world.put(replace(made, columns=found, complete=True))
    if is_view:
        _note_dependent(name, reading, tally)


def refresh(node: Any, tally: Tally) -> None:
    """`REFRESH MATERIALIZED VIEW`: writes it anew under ACCESS EXCLUSIVE; with CONCURRENTLY reads
    it under EXCLUSIVE, which leaves it readable.

    Raises:
        Refused: it is no materialized view, or has no unique index for CONCURRENTLY.
    """
    view = tally.existing(node.relation)
    if view.kind not in ("m", "?"):
        tally.refuse(f'"{view.name.name}" is not a materialized view', "42809")
    if not node.concurrent:
        tally.lock(view, LockMode.ACCESS_EXCLUSIVE)
        if not node.skip_data:
            tally.rewrite(view)
            _read_tables_behind(view, tally)
            note_rows(view, tally, many=True)
        return
    if node.skip_data:
        tally.refuse(
            "REFRESH options CONCURRENTLY and WITH NO DATA cannot be used together", "42601"
        )
    if view.complete and not any(_identifies_rows(index) for index in view.indexes.values()):
        message = f'cannot refresh materialized view "{view.name}" concurrently'
        tally.refuse(message, "55000")
    tally.lock(view, LockMode.EXCLUSIVE)
    tally.scan(view)
    _read_tables_behind(view, tally)
    note_rows(view, tally, many=True)


def _read_tables_behind(view: Relation, tally: Tally) -> None:
    for table in tables_behind(view, tally):
        read_rows(table, tally)


def _identifies_rows(index: Any) -> bool:
    return index.is_unique and index.is_valid and not index.is_partial and None not in index.columns


def drop_views(names: Iterable[list[str]], kind: str, node: Any, tally: Tally) -> None:
    """`DROP VIEW`, `DROP MATERIALIZED VIEW`, `DROP SEQUENCE`: ACCESS EXCLUSIVE on it and, with
    CASCADE, on the views that use it.

    Args:
        names: the parts of each name.
        kind: `v`, `m`, `S`.
        node: the DROP statement.
        tally: where to write.

    Raises:
        Refused: it is not there, is something else, or is used and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    dropped = []
    for parts in names:
        schema = parts[-2] if len(parts) > 1 else None
        relation = tally.named(parts[-1], schema, missing_ok=node.missing_ok)
        if relation is None:
            continue
        if relation.kind not in (kind, "?"):
            tally.refuse(f'"{relation.name.name}" is not a {_KINDS[kind]}', "42809")
        dropped.append(relation)
    all_names = {relation.name for relation in dropped}
    for relation in dropped:
        if not relation.complete:
            tally.assume(f"what uses {relation.name} is not known")
        others = set(relation.dependents) - all_names
        users = list(columns_advancing(relation.name, tally)) if kind == "S" else []
        if users and any(column.identity for _, column in users):
            table, column = next(user for user in users if user[1].identity)
            tally.refuse(
                f"cannot drop sequence {relation.name} because column {column.name} of table"
                f" {table.name} requires it",
                "2BP01",
            )
        if (others or users) and node.behavior != grammar.DROP_CASCADE:
            tally.refuse(
                f"cannot drop {_KINDS[kind]} {relation.name} because other objects depend on it",
                "2BP01",
            )
        for table, column in users:
            tally.lock(table, LockMode.ACCESS_EXCLUSIVE)
            tally.change(Change.DROPPED, "default", table.name, column.name, born=column.born)
            without = replace(column, default=None, sequence=None)
            tally.world.put(tally.world.relations[table.name].with_column(without))
        drop_with_dependents(relation, tally)


def columns_advancing(sequence: QualifiedName, tally: Tally) -> Iterator[tuple[Relation, Column]]:
    """Yield the columns whose default or identity is the next value of a sequence."""
    for relation in list(tally.world.relations.values()):
        for column in relation.columns.values():
            default = column.default or ""
            if column.sequence == sequence:
                uses = bool(column.identity) or "nextval" in default
            else:
                uses = sequence in advanced_by(default, tally)
            if uses:
                yield relation, column


_KINDS = {"v": "view", "m": "materialized view", "S": "sequence"}


def drop_with_dependents(relation: Relation, tally: Tally) -> None:
    """Note that a relation is dropped, with the views that use it, and the views of those."""
    waiting = [relation.name]
    while waiting:
        name = waiting.pop()
        found = tally.world.find(name)
        if found is None:
            continue
        waiting += found.dependents
        tally.lock(found, LockMode.ACCESS_EXCLUSIVE)
        kind = {"S": "sequence", "v": "view", "m": "view"}.get(found.kind, "view")
        if found.kind == "?" and relation.kind == "?":
            kind = "sequence" if tally.command == "DROP SEQUENCE" else "view"
        tally.change(Change.DROPPED, kind, name, born=found.born)
        forget_dependent(name, tally)
        tally.world.remove(name)


def forget_dependent(view: QualifiedName, tally: Tally) -> None:
    """Remember that a view uses nothing any more."""
    for other in list(tally.world.relations.values()):
        if view in other.dependents:
            left = {name: used for name, used in other.dependents.items() if name != view}
            tally.world.put(replace(other, dependents=left))


HANDLERS: dict[str, Handler] = {
    "create_table_as_stmt": create_table_as,
    "refresh_mat_view_stmt": refresh,
    "view_stmt": create_view,
}
