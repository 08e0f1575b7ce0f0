"""What works today and hurts later: types, keys and names of new columns, tables and indexes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import indexes
from alembic_safe.rules.reading import (
    SERIAL_TYPES,
    column_constraint,
    constraint_type,
    new_columns,
    new_constraints,
    strings,
    subcommands,
    table_of,
    type_name,
    written,
)

_SHORT_SERIALS = frozenset({"serial", "serial4", "smallserial", "serial2"})
_SHORT_INTEGERS = frozenset({"int2", "int4"}) | _SHORT_SERIALS


@dataclass(frozen=True)
class _ForeignKey:
    """A new foreign key, with the statement that made it and the tables as they are afterwards."""

    effects: Effects
    constraint: Constraint
    table: Relation
    referenced: QualifiedName

    @property
    def columns(self) -> tuple[str, ...]:
        return self.constraint.columns


def foreign_key_without_index(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """No index begins with the columns of a new foreign key.

    Every DELETE and every change of a key in the referenced table looks for referencing rows, and
    without an index it reads the whole referencing table each time, under locks. PostgreSQL
    creates no such index by itself. It may come later in the same revision.
    """
    for key in _new_foreign_keys(seen, surroundings):
        usable = (i for i in key.table.indexes.values() if i.is_valid and not i.is_partial)
        if any(set(i.columns[: len(key.columns)]) == set(key.columns) for i in usable):
            continue
        unless = "" if key.table.complete else ", unless there is one already"
        finding = Finding(
            "foreign-key-without-index",
            Severity.WARNING,
            f"every DELETE in {written(key.referenced, surroundings.world)} reads all of"
            f" {written(key.table.name, surroundings.world)}, because no index begins with"
            f" ({', '.join(key.columns)}){unless}",
            key.table.name,
            indexes.on_columns(key.table, key.columns, surroundings),
        )
        yield key.effects, finding


def foreign_key_types_differ(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """The columns of a foreign key and those that they reference have different types.

    A smaller type runs out of values before the keys do, and a comparison of two types cannot
    always use an index.
    """
    world = surroundings.world
    for key in _new_foreign_keys(seen, surroundings):
        referenced = world.find(key.referenced)
        if referenced is None:
            continue
        remote = key.constraint.referenced_columns or _primary_key(referenced)
        for name, remote_name in zip(key.columns, remote, strict=False):
            own, other = key.table.columns.get(name), referenced.columns.get(remote_name)
            if own is None or other is None or own.type is None or other.type is None:
                continue
            if (own.type.name, own.type.schema) != (other.type.name, other.type.schema):
                finding = Finding(
                    "foreign-key-types-differ",
                    Severity.WARNING,
                    f"{written(key.table.name, world)}.{name} is {own.type.name} and references"
                    f" {written(key.referenced, world)}.{remote_name}, which is {other.type.name}",
                    key.table.name,
                )
                yield key.effects, finding


def _new_foreign_keys(seen: Sequence[Effects], surroundings: Surroundings) -> Iterator[_ForeignKey]:
    world = surroundings.world
    for effects in seen:
        if effects.node_name not in ("alter_table_stmt", "create_stmt"):
            continue
        table = world.find(table_of(effects, world))
        if table is None:
            continue
        before = effects.before.get(table.name)
        known = before.constraints if before is not None else {}
        for constraint in table.constraints.values():
            is_new = world.is_new(constraint.born) and constraint.name not in known
            if constraint.type == "f" and is_new and constraint.referenced is not None:
                yield _ForeignKey(effects, constraint, table, constraint.referenced)


def _primary_key(relation: Relation) -> tuple[str, ...]:
    return next((c.columns for c in relation.constraints.values() if c.type == "p"), ())


@only_for("create_stmt", "alter_table_stmt")
def short_primary_key(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A primary key of 32 bits or less.

    After 2,147,483,647 rows, inserted, not kept, every INSERT fails, and the way to `bigint` then
    writes the table again. `bigint` costs four bytes a row, often none because of alignment.
    """
    keys = _key_columns(effects)
    for column in new_columns(effects):
        is_key = column.colname in keys or column_constraint(column, "PRIMARY") is not None
        if is_key and type_name(column) in _SHORT_INTEGERS:
            yield Finding(
                "short-primary-key",
                Severity.WARNING,
                f"{_named(effects, surroundings)}.{column.colname} runs out of numbers after"
                f" {_HIGHEST[type_name(column)]} rows; bigint does not",
                table_of(effects, surroundings.world),
            )


_HIGHEST = {
    **dict.fromkeys(("int2", "smallserial", "serial2"), "32,767"),
    **dict.fromkeys(("int4", "serial", "serial4"), "2,147,483,647"),
}


def _key_columns(effects: Effects) -> set[str]:
    """Return the column of a primary key of one column that the statement creates."""
    constraints = list(new_constraints(effects))
    if effects.node_name == "create_stmt":
        constraints += [n.constraint for n in effects.node.table_elts if n.HasField("constraint")]
    keys = [strings(c.keys) for c in constraints if constraint_type(c) == "PRIMARY"]
    return {columns[0] for columns in keys if len(columns) == 1}


@only_for("create_stmt", "alter_table_stmt")
def json_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column of type `json`.

    It has no equality, so that `SELECT DISTINCT`, `GROUP BY` and `UNION` on the table fail, and no
    index can search in it. `jsonb` has both. `json` keeps white space and the order of keys, if
    that is what you need.
    """
    yield from _of_type(
        effects,
        surroundings,
        {"json"},
        "json-column",
        "is json, which has no equality: SELECT DISTINCT, GROUP BY and UNION on it fail; jsonb has",
    )


@only_for("create_stmt", "alter_table_stmt")
def timestamp_without_time_zone(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column of type `timestamp`, without time zone.

    It stores what a clock on some wall showed, not when something happened: two clients with
    different settings read different moments, and an hour of each year happens twice.
    `timestamptz` stores the moment, in the same eight bytes.
    """
    yield from _of_type(
        effects,
        surroundings,
        {"timestamp"},
        "timestamp-without-time-zone",
        "is timestamp without time zone, and clients with different time zones read different"
        " moments; timestamptz stores the moment",
    )


@only_for("create_stmt", "alter_table_stmt")
def char_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column of type `char(n)`.

    Values are padded with spaces, which comparisons ignore and LIKE does not. It is neither faster
    nor smaller than `text` or `varchar(n)`, and to change its length writes the table again.
    """
    yield from _of_type(
        effects,
        surroundings,
        {"bpchar"},
        "char-column",
        "is char(n), which pads with spaces and cannot be made longer without writing the table"
        " again; text or varchar(n) can",
    )


@only_for("create_stmt", "alter_table_stmt")
def money_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column of type `money`.

    What its values mean, the currency and the number of fractional digits, depends on the server's
    setting `lc_monetary`. `numeric` does not depend on anything.
    """
    yield from _of_type(
        effects,
        surroundings,
        {"money"},
        "money-column",
        "is money, whose meaning depends on a setting of the server; numeric does not",
    )


@only_for("create_stmt", "alter_table_stmt")
def serial_column(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A column of type `serial` where an identity would do.

    The sequence of a `serial` has rights of its own, which have to be granted, and rows can be
    given numbers that it will give again. `GENERATED BY DEFAULT AS IDENTITY` is the SQL standard's
    form; with ALWAYS no number can be given by hand. In SQLAlchemy it is `Identity()`.
    """
    said = {
        finding.message.partition(" ")[0] for finding in short_primary_key(effects, surroundings)
    }
    for finding in _of_type(
        effects,
        surroundings,
        SERIAL_TYPES,
        "serial-column",
        "is a serial, whose sequence has rights of its own; GENERATED BY DEFAULT AS IDENTITY has"
        " not",
    ):
        # One thing at a time: who changes the type of a key changes this as well.
        if finding.message.partition(" ")[0] not in said:
            yield finding


def _of_type(
    effects: Effects, surroundings: Surroundings, types: Set[str], code: str, is_: str
) -> Iterator[Finding]:
    for column in new_columns(effects):
        if type_name(column) in types:
            yield Finding(
                code,
                Severity.WARNING,
                f"{_named(effects, surroundings)}.{column.colname} {is_}",
                table_of(effects, surroundings.world),
            )


def table_without_primary_key(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """A new table has no primary key.

    Two rows that are equal cannot be told apart, logical replication cannot send updates and
    deletes, and a backfill finds no key to go along. It may be added later in the same revision.
    """
    for effects in seen:
        if effects.node_name != "create_stmt" or not _is_plain_table(effects.node):
            continue
        relation = surroundings.world.find(table_of(effects, surroundings.world))
        if relation is None or any(c.type == "p" for c in relation.constraints.values()):
            continue
        finding = Finding(
            "table-without-primary-key",
            Severity.WARNING,
            f"rows of {_named(effects, surroundings)} cannot be told apart, and logical"
            " replication cannot update them",
            relation.name,
        )
        yield effects, finding


def _is_plain_table(node: Any) -> bool:
    has_like = any(each.HasField("table_like_clause") for each in node.table_elts)
    is_temporary = node.relation.relpersistence == "t"
    return not (node.inh_relations or has_like or is_temporary or node.HasField("of_typename"))


def duplicate_index(
    seen: Sequence[Effects], surroundings: Surroundings
) -> Iterator[tuple[Effects, Finding]]:
    """A new index does what another index of the table does already.

    Each index costs time with every write, and the second is never of use. Indexes with expressions
    or conditions are not compared. The other may be dropped later in the same revision.
    """
    for effects in seen:
        if effects.node_name != "index_stmt" or not effects.node.idxname:
            continue
        table = surroundings.world.find(table_of(effects, surroundings.world))
        new = table.indexes.get(effects.node.idxname) if table is not None else None
        if table is None or new is None:
            continue
        for other in table.indexes.values():
            same = other.name != new.name and _comparable(other) == _comparable(new)
            if same and None not in new.columns and not new.is_partial and not other.is_partial:
                finding = Finding(
                    "duplicate-index",
                    Severity.WARNING,
                    f"{new.name} is the same as {other.name}, and costs time with every write to"
                    f" {written(table.name, surroundings.world)}",
                    table.name,
                )
                yield effects, finding
                break


def _comparable(index: Any) -> tuple[Any, ...]:
    return (
        index.columns,
        index.included,
        index.operator_classes,
        index.collations,
        index.method,
        index.is_unique,
    )


def name_too_long(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """A name is longer than 63 bytes, and PostgreSQL cuts it.

    It says so in a NOTICE that nobody reads. Two names with the same beginning become one, and
    what looks the object up by the name in the model does not find it.
    """
    if len(effects.sql) <= MAX_IDENTIFIER_BYTES or effects.node is None:
        return
    names = dict.fromkeys(
        name for name in _IDENTIFIER.findall(_LITERAL.sub("''", effects.sql)) if _is_long(name)
    )
    for name in names:
        plain = name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
        cut = plain.encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore")
        yield Finding(
            "name-too-long",
            Severity.WARNING,
            f"the name {plain} is cut to its first 63 bytes, {cut}",
        )


_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"|[^\W\d][\w$]*')
_LITERAL = re.compile(r"\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)


def _is_long(name: str) -> bool:
    quotes = 2 if name.startswith('"') else 0
    return len(name.replace('""', '"').encode()) - quotes > MAX_IDENTIFIER_BYTES


@only_for("alter_table_stmt")
def replica_identity_full(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Every UPDATE and DELETE writes the whole old row into the log.

    `REPLICA IDENTITY FULL` is for tables that have no unique key; a subscriber then looks for each
    row by all its columns. The primary key, which is the default, does it with one.
    """
    for subcommand in subcommands(effects):
        if subcommand.kind == "ReplicaIdentity" and subcommand.definition.identity_type == "f":
            table = table_of(effects, surroundings.world)
            yield Finding(
                "replica-identity-full",
                Severity.WARNING,
                f"every UPDATE and DELETE of {written(table, surroundings.world)} writes the whole"
                " old row into the log",
                table,
            )


@only_for("alter_table_stmt")
def triggers_disabled(effects: Effects, surroundings: Surroundings) -> Iterator[Finding]:
    """Triggers are disabled.

    From the commit on, for everybody: foreign keys are triggers too (ALL), and so is what keeps two
    columns equal during a rollout. To write rows without triggers, set
    `session_replication_role` for the transaction that does it.
    """
    for subcommand in subcommands(effects):
        if subcommand.kind.startswith("DisableTrig"):
            table = table_of(effects, surroundings.world)
            which = subcommand.name or "every trigger"
            yield Finding(
                "triggers-disabled",
                Severity.WARNING,
                f"{which} of {written(table, surroundings.world)} is off, whoever writes",
                table,
            )


def _named(effects: Effects, surroundings: Surroundings) -> QualifiedName:
    return written(table_of(effects, surroundings.world), surroundings.world)


SCHEMA_DESIGN: tuple[Rule, ...] = (
    short_primary_key,
    serial_column,
    json_column,
    timestamp_without_time_zone,
    char_column,
    money_column,
    name_too_long,
    replica_identity_full,
    triggers_disabled,
)
