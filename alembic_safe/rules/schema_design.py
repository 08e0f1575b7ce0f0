"""Keys, names, indexes and triggers that work today and hurt later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.effects.world import Constraint, Relation
from alembic_safe.postgres.identifiers import MAX_IDENTIFIER_BYTES, QualifiedName
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings, only_for
from alembic_safe.rules.fixes import indexes
from alembic_safe.rules.reading import (
    subcommands,
    table_of,
    written,
)


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
    name_too_long,
    replica_identity_full,
    triggers_disabled,
)
