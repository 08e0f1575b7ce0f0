"""What rules read of a statement's parse tree, and how they name things."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from alembic_safe.postgres.effects import Effects, NameChange, World
from alembic_safe.postgres.effects.handlers.names import object_name
from alembic_safe.postgres.effects.handlers.trees import messages
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

SERIAL_TYPES = frozenset({"serial", "serial2", "serial4", "serial8", "smallserial", "bigserial"})

_KILO = 1024


@dataclass(frozen=True)
class Subcommand:
    """One of the commands of an `ALTER TABLE`.

    Args:
        kind: its name in the grammar, `AddColumn`, `SetNotNull`, `AddConstraint`.
        name: of the column or constraint; empty for a new one.
        definition: the new column or constraint, or its type; None where there is none.
        node: the `AlterTableCmd` of the tree.
    """

    kind: str
    name: str
    definition: Any
    node: Any


class _Statement:
    """A parse tree as a key: trees have no hash, and most rules ask for the same one in turn."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Statement) and self.node is other.node


def subcommands(effects: Effects) -> tuple[Subcommand, ...]:
    """Return the commands of an `ALTER TABLE`; empty for any other statement."""
    if effects.node_name != "alter_table_stmt":
        return ()
    return _subcommands(_Statement(effects.node))


@functools.lru_cache(maxsize=1)
def _subcommands(statement: _Statement) -> tuple[Subcommand, ...]:
    from postgast import pg_query_pb2 as grammar

    found = []
    for cmd in (each.alter_table_cmd for each in statement.node.cmds):
        kind = grammar.AlterTableType.Name(cmd.subtype).removeprefix("AT_")
        definition = getattr(cmd, "def")
        which = definition.WhichOneof("node")
        found.append(Subcommand(kind, cmd.name, getattr(definition, which) if which else None, cmd))
    return tuple(found)


def only_subcommand(effects: Effects, *kinds: str) -> Subcommand | None:
    """Return the one command of an `ALTER TABLE` that has no others, if it is of these kinds.

    Only then a fix can stand for the whole statement.
    """
    found = subcommands(effects)
    return found[0] if len(found) == 1 and found[0].kind in kinds else None


def is_named(effects: Effects, change: NameChange) -> bool:
    """Return whether a DROP names what it drops, and does not drop it because of CASCADE."""
    if effects.node_name != "drop_stmt":
        return True
    names = {object_name(node)[-1] for node in effects.node.objects}
    return change.relation.name in names


def table_of(effects: Effects, world: World) -> QualifiedName:
    """Return the relation that a statement is about, by its `relation` field."""
    relation = effects.node.relation
    return world.qualified(relation.relname, relation.schemaname or None)


def constraint_type(constraint: Any) -> str:
    """Return the kind of a constraint in the tree: `CHECK`, `FOREIGN`, `UNIQUE`, `PRIMARY`,
    `EXCLUSION`, `NOTNULL`, `DEFAULT`, `IDENTITY`, `GENERATED`, ..."""
    from postgast import pg_query_pb2 as grammar

    return str(grammar.ConstrType.Name(constraint.contype)).removeprefix("CONSTR_")


def column_constraint(column: Any, kind: str) -> Any:
    """Return the constraint of a `ColumnDef` that is of a kind; None where there is none."""
    for node in column.constraints:
        if constraint_type(node.constraint) == kind:
            return node.constraint
    return None


def new_constraints(effects: Effects) -> Iterator[Any]:
    """Yield the constraints that an `ALTER TABLE` adds to the table, not to a new column."""
    for subcommand in subcommands(effects):
        if subcommand.kind == "AddConstraint":
            yield subcommand.definition


def added_columns(effects: Effects) -> Iterator[Any]:
    """Yield the `ColumnDef` of each column that an `ALTER TABLE` adds."""
    if "added_columns" in effects.details:
        for subcommand in subcommands(effects):
            if subcommand.kind == "AddColumn":
                yield subcommand.definition


def new_columns(effects: Effects) -> Iterator[Any]:
    """Yield the `ColumnDef` of each column that a statement creates."""
    if effects.node_name == "create_stmt":
        for node in effects.node.table_elts:
            if node.WhichOneof("node") == "column_def":
                yield node.column_def
    yield from added_columns(effects)


def type_name(column: Any) -> str:
    """Return the name of a column's type as the server calls it, `int4`, `bpchar`, `timestamp`;
    empty for a type of the user's, and for an array."""
    names = strings(column.type_name.names)
    if column.type_name.array_bounds or (len(names) > 1 and names[0] != "pg_catalog"):
        return ""
    return names[-1] if names else ""


def strings(nodes: Any) -> list[str]:
    """Return the values of a list of `String` nodes."""
    return [node.string.sval for node in nodes]


def column_reference(node: Any) -> str | None:
    """Return the column that an expression is; None where it is anything else."""
    if node.WhichOneof("node") != "column_ref" or not node.column_ref.fields:
        return None
    last = node.column_ref.fields[-1]
    return str(last.string.sval) if last.WhichOneof("node") == "string" else None


def has_columns(node: Any) -> bool:
    """Return whether an expression refers to a column, or has a query in it."""
    return any(type(each).__name__ in ("ColumnRef", "SubLink") for each in messages(node))


def has_calls(node: Any) -> bool:
    """Return whether an expression calls a function."""
    return any(type(each).__name__ in ("FuncCall", "SubLink") for each in messages(node))


def has_limit(node: Any) -> bool:
    """Return whether an expression has a query with LIMIT in it."""
    return any(
        type(each).__name__ == "SelectStmt" and each.limit_count.WhichOneof("node")
        for each in messages(node)
    )


def words(names: Iterator[str] | list[str] | tuple[str, ...]) -> str:
    """Return names as a sentence lists them: `a, b and c`."""
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def as_it_was(name: QualifiedName, effects: Effects, world: World) -> Relation | None:
    """Return a relation before a statement; None where it was not known.

    Args:
        name: of a relation that the statement changes, locks or works through; of another one that
            no statement after it in the text has changed.
        effects: of the statement.
        world: after the text in which the statement stands.
    """
    return effects.before.get(name) or world.find(name)


def shown(name: QualifiedName, effects: Effects, world: World) -> str:
    """Return a relation's name for a message, with its size if that is known."""
    # A table that statements have made is empty at first, which tells nothing of later.
    size = sum(relation.size or 0 for relation in _family(name, effects, world))
    return f"{written(name, world)} ({_size(size)})" if size else str(written(name, world))


def _family(name: QualifiedName, effects: Effects, world: World) -> Iterator[Relation]:
    relation = as_it_was(name, effects, world)
    if relation is not None:
        yield relation
        for child in relation.children:
            yield from _family(child, effects, world)


def written(name: QualifiedName, world: World) -> QualifiedName:
    """Return a name as a revision would write it: without a schema that the server finds."""
    bare = QualifiedName(name.name)
    return bare if world.qualified(name.name) == name else name


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < _KILO:
            return f"{size:.0f} {unit}"
        size /= _KILO
    return f"{size:.1f} GB" if size < _KILO else f"{size / _KILO:.1f} TB"


def blocked(mode: LockMode) -> str:
    """Return what waits behind a lock mode, to be followed by the name of the table."""
    return "every read and write of" if mode is LockMode.ACCESS_EXCLUSIVE else "every write to"


def blocked_tables(effects: Effects, world: World) -> str:
    """Return what waits while a statement runs: `every read and write of orders`."""
    both = [name for name, mode in effects.blocking.items() if mode is LockMode.ACCESS_EXCLUSIVE]
    writes = [name for name in effects.blocking if name not in both]
    parts = []
    if both:
        names = words([shown(name, effects, world) for name in both])
        parts.append(f"{blocked(LockMode.ACCESS_EXCLUSIVE)} {names}")
    if writes:
        names = words([shown(name, effects, world) for name in writes])
        parts.append(f"{blocked(LockMode.SHARE)} {names}")
    return " and ".join(parts)


def locked_tables(effects: Effects, world: World) -> list[QualifiedName]:
    """Return the relations, no indexes, that a statement itself locks against reads or writes."""
    indexes = {change.relation for change in effects.changes if change.kind == "index"}
    # What no release knows is no change.
    dropped = effects.details.get("dropped_indexes", ())
    indexes |= {table.sibling(index.name) for table, index in dropped}
    return [
        name
        for name, mode in effects.locks.items()
        if mode.blocks_reads_or_writes and name not in indexes and name not in world.index_tables
    ]


def tables_among(
    names: Iterable[QualifiedName], effects: Effects, world: World
) -> tuple[QualifiedName, ...]:
    """Return the tables and views among relations and indexes, without partitions of one of them:
    they belong to it."""
    found = {name: as_it_was(name, effects, world) for name in names}
    return tuple(
        name
        for name, relation in found.items()
        if relation is not None
        and relation.kind != "S"
        and not (relation.is_partition and set(relation.parents) & found.keys())
    )


def unless(condition: str, table: QualifiedName, effects: Effects, world: World) -> str:
    """Return the end of a message that says when it is not so, for want of a catalog; empty where
    the table is known."""
    relation = as_it_was(table, effects, world)
    is_known = relation is not None and relation.complete
    return "" if is_known else f", unless {condition}"
