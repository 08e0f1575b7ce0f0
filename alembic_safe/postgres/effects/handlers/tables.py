"""CREATE TABLE in all its forms, TRUNCATE, LOCK TABLE."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alembic_safe.postgres.effects.handlers import constraints
from alembic_safe.postgres.effects.handlers.alter_table import AlterTable
from alembic_safe.postgres.effects.handlers.chosen_names import index_name
from alembic_safe.postgres.effects.handlers.columns import (
    column_of,
    constraints_of,
    generated_expression,
    make_sequence,
)
from alembic_safe.postgres.effects.handlers.definitions import (
    LABELS,
    columns_used,
    constraint_type,
    key_columns,
)
from alembic_safe.postgres.effects.handlers.partitions import adopt
from alembic_safe.postgres.effects.handlers.queries import tables_behind
from alembic_safe.postgres.effects.tally import Handler, Tally
from alembic_safe.postgres.effects.world import TEMPORARY, Column, Constraint, Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode


def create_table(node: Any, tally: Tally, kind: str = "r") -> None:
    """`CREATE TABLE`: the new table is nobody else's, but others are locked.

    Referenced tables in SHARE ROW EXCLUSIVE, a parent that is inherited from in SHARE UPDATE
    EXCLUSIVE, a parent of which it is a partition in ACCESS EXCLUSIVE, and its default partition
    too, which is read.
    """
    world = tally.world
    name = _free_name(node.relation, tally, or_not=node.if_not_exists)
    if name is None:
        return
    may_be_there = node.if_not_exists and not world.is_gone(name)
    mark = len(world.journal)
    _create(node, name, tally, kind)
    if may_be_there:
        tally.assume(f"there is no {name} yet")
        world.undo(mark)
        world.put(Relation(name))


def _create(node: Any, name: QualifiedName, tally: Tally, kind: str) -> None:
    if node.HasField("partspec"):
        kind = "p"
    persistence = "t" if name.schema == TEMPORARY else node.relation.relpersistence
    table = Relation(
        name,
        kind=kind,
        complete=not node.HasField("of_typename"),
        size=0,
        persistence=persistence,
        access_method=node.access_method or None,
        tablespace=node.tablespacename or None,
        born=tally.world.batch,
    )
    tally.world.put(table)
    parents = [_parent(parent.range_var, node, tally) for parent in node.inh_relations]
    definition = _Definition(tally, name)
    for parent in parents:
        definition.inherit(parent)
    for element in node.table_elts:
        definition.take(element)
    if node.HasField("partspec"):
        definition.partition_key(node.partspec)
    definition.finish()
    for parent in parents:
        if node.HasField("partbound"):
            adopt(tally, parent.name, name, node.partbound)
        else:
            _join_family(tally, parent.name, name)
    definition.add_constraints()


def new_name(range_var: Any, tally: Tally, *, or_not: bool = False) -> QualifiedName | None:
    """Return the name of a relation that is made; None where IF NOT EXISTS finds it there.

    Where it may be there already, unknown, the relation is not taken for a new one: None, and it
    stays unknown.

    Args:
        range_var: of the parse tree.
        tally: of the statement.
        or_not: whether it says IF NOT EXISTS.

    Raises:
        Refused: the name is taken.
    """
    name = _free_name(range_var, tally, or_not=or_not)
    if name is not None and or_not and not tally.world.is_gone(name):
        tally.assume(f"{name} may be there already")
        tally.world.put(Relation(name))
        return None
    return name


def _free_name(range_var: Any, tally: Tally, *, or_not: bool) -> QualifiedName | None:
    world = tally.world
    schema = TEMPORARY if range_var.relpersistence == "t" else range_var.schemaname
    name = QualifiedName(range_var.relname, schema or world.search_path[0])
    if name not in world.relations and name not in world.index_tables:
        return name
    if not or_not:
        tally.refuse(f'relation "{name.name}" already exists', "42P07")
    return None


def _parent(range_var: Any, node: Any, tally: Tally) -> Relation:
    parent = tally.existing(range_var)
    if not node.HasField("partbound"):
        tally.lock(parent, LockMode.SHARE_UPDATE_EXCLUSIVE)
        return parent
    if parent.kind == "?":
        parent = replace(parent, kind="p")
        tally.world.put(parent)
    if not parent.is_partitioned:
        tally.refuse(f'"{parent.name.name}" is not partitioned', "42P17")
    tally.lock(parent, LockMode.ACCESS_EXCLUSIVE)
    return parent


def _join_family(tally: Tally, parent: QualifiedName, name: QualifiedName) -> None:
    above, table = tally.world.relations[parent], tally.world.relations[name]
    tally.world.put(replace(table, parents=(*table.parents, parent)))
    tally.world.put(replace(above, children=(*above.children, name)))


class _Definition:
    """What stands between the parentheses, and what is taken over from other tables."""

    def __init__(self, tally: Tally, name: QualifiedName) -> None:
        self._tally = tally
        self._name = name
        self._columns: dict[str, Column] = {}
        self._kept: dict[str, Constraint] = {}
        self._generated: dict[str, frozenset[str]] = {}
        self._key: tuple[str, ...] = ()
        self._has_key_expressions = False
        self._constraints: list[tuple[Any, str | None]] = []
        self._likes: list[tuple[Relation, int]] = []
        self._complete = True

    def inherit(self, parent: Relation) -> None:
        """Take over the columns, checks and NOT NULLs of a parent."""
        self._complete = self._complete and parent.complete
        for column in parent.columns.values():
            copy = replace(
                column, inherited=True, identity="", sequence=None, born=self._tally.world.batch
            )
            self._columns.setdefault(column.name, copy)
        self._generated |= parent.generated_from
        for constraint in parent.constraints.values():
            if constraint.type in "cn":
                self._keep(replace(constraint, inherited=True, is_validated=True))

    def take(self, element: Any) -> None:
        """Read a column, a table constraint or a LIKE."""
        kind = element.WhichOneof("node")
        if kind == "column_def":
            self._column(element.column_def)
        elif kind == "constraint":
            self._constraints.append((element.constraint, None))
        elif kind == "table_like_clause":
            self._like(element.table_like_clause)

    def partition_key(self, spec: Any) -> None:
        """Read PARTITION BY."""
        elements = [item.partition_elem for item in spec.part_params]
        plain = [element.name for element in elements if element.name]
        others = frozenset().union(*(columns_used(each.expr) for each in elements if not each.name))
        in_expressions = [name for name in self._columns if name in others and name not in plain]
        self._key = (*plain, *in_expressions)
        self._has_key_expressions = len(plain) < len(elements)

    def finish(self) -> None:
        """Put the table into the world, with columns and without constraints of its own."""
        table = self._tally.world.relations[self._name]
        self._tally.world.put(
            replace(
                table,
                complete=table.complete and self._complete,
                columns=self._columns,
                constraints=self._kept,
                generated_from=self._generated,
                partition_key=self._key,
                has_key_expressions=self._has_key_expressions,
            )
        )

    def add_constraints(self) -> None:
        """Add the constraints, and the indexes of LIKE, in the order in which the server does."""
        alter = AlterTable(self._tally, self._name)
        for node, column in _in_order(self._constraints):
            constraints.add(alter, node, column)
        for source, options in self._likes:
            if options & _LIKE_INDEXES:
                self._copy_indexes(source)

    def _column(self, definition: Any) -> None:
        column = column_of(definition, self._name, self._tally)
        inherited = self._columns.get(column.name)
        if inherited is not None and not inherited.inherited:
            self._tally.refuse(f'column "{column.name}" specified more than once', "42701")
        if inherited is not None:
            column = replace(
                inherited,
                type=inherited.type or column.type,
                not_null=inherited.not_null or column.not_null,
                default=column.default if column.default is not None else inherited.default,
            )
        self._columns[column.name] = column
        expression = generated_expression(definition)
        if expression is not None:
            self._generated[column.name] = columns_used(expression)
        has_not_null = False
        for constraint in constraints_of(definition):
            type_ = constraint_type(constraint)
            has_not_null = has_not_null or type_ == "n"
            if type_:
                self._constraints.append((constraint, column.name))
        if column.not_null and not has_not_null:
            self._constraints.append((_not_null(), column.name))

    def _like(self, clause: Any) -> None:
        source = self._tally.existing(clause.relation)
        self._complete = self._complete and source.complete
        self._likes.append((source, clause.options))
        for column in source.columns.values():
            self._columns[column.name] = self._copied(column, clause.options)
            if self._columns[column.name].generated:
                self._generated[column.name] = source.generated_from.get(column.name, frozenset())
        for constraint in source.constraints.values():
            if constraint.type == "n" or (
                constraint.type == "c" and clause.options & _LIKE_CONSTRAINTS
            ):
                self._keep(replace(constraint, inherited=False, is_validated=True))

    def _copied(self, column: Column, options: int) -> Column:
        world = self._tally.world
        is_plain = not column.identity and not column.generated
        keeps_default = options & (_LIKE_DEFAULTS if is_plain else _LIKE_GENERATED)
        copy = replace(
            column,
            default=column.default if keeps_default else None,
            identity=column.identity if options & _LIKE_IDENTITY else "",
            generated=column.generated if options & _LIKE_GENERATED else "",
            sequence=None,
            inherited=False,
            born=world.batch,
        )
        if not copy.identity:
            return copy
        return replace(copy, sequence=make_sequence(self._name, column.name, self._tally))

    def _keep(self, constraint: Constraint) -> None:
        self._kept[constraint.name] = replace(constraint, born=self._tally.world.batch)

    def _copy_indexes(self, source: Relation) -> None:
        world = self._tally.world
        for index in source.indexes.values():
            owner = source.constraints.get(index.constraint or "")
            label = LABELS[owner.type] if owner is not None else "idx"
            name = index_name(world, self._name, index.columns, label)
            owned = name if owner is not None else None
            copy = replace(index, name=name, constraint=owned, parent=None, born=world.batch)
            table = world.relations[self._name].with_index(copy)
            if owner is not None:
                table = table.with_constraint(
                    replace(owner, name=name, index=name, inherited=False, born=world.batch)
                )
            world.put(table)


_LIKE_CONSTRAINTS = 1 << 2
_LIKE_DEFAULTS = 1 << 3
_LIKE_GENERATED = 1 << 4
_LIKE_IDENTITY = 1 << 5
_LIKE_INDEXES = 1 << 6
"""What INCLUDING of LIKE takes over (`TableLikeOption` in parsenodes.h)."""

_ORDER = "cpuxfn"


def _in_order(found: list[tuple[Any, str | None]]) -> list[tuple[Any, str | None]]:
    """Return the constraints as the server adds them; a key that another one serves as well, as in
    `id int PRIMARY KEY UNIQUE`, is left out."""
    ordered = sorted(found, key=lambda item: _ORDER.index(constraint_type(item[0])))
    kept, keys = [], set()
    for node, column in ordered:
        if constraint_type(node) in "pu":
            key = ((column,) if column is not None else key_columns(node), node.deferrable)
            if key in keys:
                continue
            keys.add(key)
        kept.append((node, column))
    return kept


def _not_null() -> Any:
    from postgast import pg_query_pb2 as grammar

    return grammar.Constraint(
        contype=grammar.CONSTR_NOTNULL, is_enforced=True, initially_valid=True
    )


def create_foreign_table(node: Any, tally: Tally) -> None:
    """`CREATE FOREIGN TABLE`."""
    create_table(node.base_stmt, tally, kind="f")


def truncate(node: Any, tally: Tally) -> None:
    """`TRUNCATE`: ACCESS EXCLUSIVE on the tables, their partitions and inheriting tables.

    With CASCADE on those that reference them, with RESTART IDENTITY on their sequences. No row is
    read, and indexes are emptied, not rebuilt.

    Raises:
        Refused: a table is not there, is none, or is referenced and CASCADE is not said.
    """
    from postgast import pg_query_pb2 as grammar

    world = tally.world
    found: dict[QualifiedName, Relation] = {}
    for item in node.relations:
        table = tally.existing(item.range_var)
        if table.kind not in "rpf?":
            tally.refuse(f'"{table.name.name}" is not a table', "42809")
        if table.is_partitioned and not item.range_var.inh:
            tally.refuse("cannot truncate only a partitioned table", "42809")
        members = world.family(table.name) if item.range_var.inh else [table]
        found |= {member.name: member for member in members}
    waiting = list(found.values())
    while waiting:
        table = waiting.pop()
        if not table.complete:
            tally.assume(f"tables that reference {table.name} are not known")
        for other, _ in world.referencing(table.name):
            if other.name in found:
                continue
            if node.behavior != grammar.DROP_CASCADE:
                tally.refuse(
                    "cannot truncate a table referenced in a foreign key constraint", "0A000"
                )
            more = {each.name: each for each in world.family(other.name) if each.name not in found}
            waiting += more.values()
            found |= more
    for table in found.values():
        tally.lock(table, LockMode.ACCESS_EXCLUSIVE)
        if node.restart_seqs:
            for column in table.columns.values():
                if column.sequence is not None:
                    tally.lock(column.sequence, LockMode.ACCESS_EXCLUSIVE)


def lock(node: Any, tally: Tally) -> None:
    """`LOCK TABLE`: partitions and inheriting tables are locked too, and what a view reads.

    Raises:
        Refused: no transaction is open, or a relation is not there or cannot be locked.
    """
    if tally.world.transaction is None:
        tally.refuse("LOCK TABLE can only be used in transaction blocks", "25P01")
    mode = LockMode(node.mode)
    for item in node.relations:
        relation = tally.existing(item.range_var)
        if relation.kind not in "rpvf?":
            tally.refuse(f'cannot lock relation "{relation.name.name}"', "42809")
        tally.lock(relation, mode, family=item.range_var.inh)
        for table in tables_behind(relation, tally):
            tally.lock(table, mode, family=True)


HANDLERS: dict[str, Handler] = {
    "create_stmt": create_table,
    "create_foreign_table_stmt": create_foreign_table,
    "truncate_stmt": truncate,
    "lock_stmt": lock,
}
