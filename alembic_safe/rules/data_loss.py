"""Data that is gone afterwards, most often with what the running release still uses.

Nothing of this is said of contract revisions: to remove is what they are for, and the gate holds
them back until no release needs what goes.
"""

from __future__ import annotations

from collections.abc import Iterator

from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import Change, Effects, NameChange
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.reading import is_named, shown, subcommands, tables_among, words, written


@only_for("drop_stmt", "alter_table_stmt", needs="changes")
def drop_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column is dropped with its data, while a release may still use it.

    Every query of the running release that names the column fails from now on, and an ORM names all
    columns in every query. First release an application that does not use it, then drop it: from
    the model, `alembic revision --autogenerate` writes the drop as a contract revision, which waits
    for that.
    """
    columns = _gone(effects, surroundings, "column")
    if not columns:
        return
    table = columns[0].relation
    names = words([str(change.name) for change in columns])
    yield Finding(
        "drop-column",
        _severity(surroundings),
        f"the data of {names} in {shown(table, effects, surroundings.world)} is lost"
        + _and(surroundings, f"every query of the running release that names {names} fails"),
        table,
        advice="take the column from the model and let `alembic revision --autogenerate` write a"
        " contract revision, which waits until no release uses it",
        others=tables_among([each.relation for each in columns], effects, surroundings.world),
    )


@only_for("drop_stmt", needs="changes")
def drop_table(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table, or a materialized view, is dropped with its data, while a release may still use it.

    Every query of the running release on it fails from now on. First release an application that
    does not use it; a contract revision waits for that.
    """
    for change in _gone(effects, surroundings, "table"):
        if not is_named(effects, change):
            continue
        yield Finding(
            "drop-table",
            _severity(surroundings),
            f"the data of {shown(change.relation, effects, surroundings.world)} is lost"
            + _and(surroundings, "every query of the running release on it fails"),
            change.relation,
            advice="drop it in a contract revision, which waits until no release uses it",
        )


@only_for("drop_stmt", "dropdb_stmt")
def drop_schema(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A schema or a database is dropped.

    `DROP SCHEMA ... CASCADE` drops every table in it, whatever it is called. Drop its tables by
    name, in contract revisions, and then the empty schema, without CASCADE. A database is nothing
    that a migration drops.
    """
    from postgast import pg_query_pb2 as grammar

    node = effects.node
    if effects.node_name == "dropdb_stmt":
        what = f"database {node.dbname}"
    elif (
        effects.node_name == "drop_stmt"
        and node.remove_type == grammar.OBJECT_SCHEMA
        and node.behavior == grammar.DROP_CASCADE
    ):
        what = f"schema {words([each.string.sval for each in node.objects])}"
    else:
        return
    if surroundings.phase is not Phase.CONTRACT or effects.node_name == "dropdb_stmt":
        yield Finding(
            "drop-schema",
            Severity.ERROR,
            f"everything in {what} is lost, whatever it is called",
            advice="drop what is in it by name, in contract revisions, and then the empty schema",
        )


@only_for("drop_stmt", "alter_table_stmt")
def drop_cascade(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """CASCADE drops what depends on an object as well, and nobody has named it.

    Views, foreign keys of other tables, columns whose type or default it is: what there is differs
    from database to database. Drop what depends on it by name, so that a revision says what goes
    and fails where there is something that nobody thought of.
    """
    from postgast import pg_query_pb2 as grammar

    nodes = [effects.node] if effects.node_name == "drop_stmt" else []
    nodes += [each.node for each in subcommands(effects) if each.kind.startswith("Drop")]
    is_schema = effects.node_name == "drop_stmt" and (
        effects.node.remove_type == grammar.OBJECT_SCHEMA
    )
    if is_schema or not any(node.behavior == grammar.DROP_CASCADE for node in nodes):
        return
    if effects.node_name == "drop_stmt" and not effects.locks and not effects.changes:
        return  # it is new in this revision, and so is all that depends on it
    also = sorted(
        {
            str(written(each.relation, surroundings.world))
            for each in effects.changes
            if not is_named(effects, each)
        }
    )
    known = f": {words(also)}" if also else ""
    yield Finding(
        "drop-cascade",
        Severity.WARNING,
        f"CASCADE also drops whatever depends on it and is not named{known}",
        effects.changes[0].relation if effects.changes else next(iter(effects.locks), None),
        advice="drop what depends on it by name, and leave CASCADE out",
        others=tables_among(
            [each.relation for each in effects.changes], effects, surroundings.world
        ),
    )


@only_for("truncate_stmt")
def truncate(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table is emptied.

    `TRUNCATE` takes ACCESS EXCLUSIVE, and no `WHERE` protects anything; with CASCADE every table
    that references it is emptied too.
    """
    if effects.node_name != "truncate_stmt" or not effects.locks:
        return
    names = words([shown(name, effects, surroundings.world) for name in effects.locks])
    yield Finding(
        "truncate",
        Severity.ERROR,
        f"all rows of {names} are lost",
        next(iter(effects.locks)),
        advice="delete by condition, in batches that commit one by one",
        others=tables_among(effects.locks, effects, surroundings.world),
    )


@only_for("delete_stmt")
def delete_all_rows(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A DELETE without WHERE.

    All rows are lost. Until the transaction ends, every other write to one of them waits.
    """
    if effects.node_name != "delete_stmt" or effects.node.HasField("where_clause"):
        return
    for name in effects.locks:
        if name.name == effects.node.relation.relname:
            yield Finding(
                "delete-all-rows",
                Severity.ERROR,
                f"all rows of {shown(name, effects, surroundings.world)} are lost",
                name,
            )


@only_for("alter_table_stmt")
def set_unlogged(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A table becomes unlogged.

    After a crash of the server it is empty, and standbys and backups of the log do not have it.
    """
    for subcommand in subcommands(effects):
        if subcommand.kind == "SetUnLogged" and effects.locks:
            table = next(iter(effects.locks))
            yield Finding(
                "set-unlogged",
                Severity.WARNING,
                f"{shown(table, effects, surroundings.world)} is empty after a crash of the"
                " server, and on every standby",
                table,
            )


def _gone(effects: Effects, surroundings: Surroundings, kind: str) -> list[NameChange]:
    if surroundings.phase is Phase.CONTRACT:
        return []
    kinds = (kind, "materialized view") if kind == "table" else (kind,)
    return [
        change
        for change in effects.changes
        if change.change is Change.DROPPED and change.kind in kinds
    ]


def _severity(surroundings: Surroundings) -> Severity:
    """Return how bad it is: on the way back data is lost by the nature of the thing."""
    return Severity.ERROR if surroundings.is_upgrade else Severity.WARNING


def _and(surroundings: Surroundings, consequence: str) -> str:
    return f", and {consequence}" if surroundings.old_release_runs else ""


DATA_LOSS: tuple[Rule, ...] = (
    drop_column,
    drop_table,
    drop_schema,
    drop_cascade,
    truncate,
    delete_all_rows,
    set_unlogged,
)
