"""World: what is known of the database before a statement, and how statements change it.

A world is filled from a server's catalog (`from_catalog.read_world`), from the statements that
came before, or from both. It is honest about what it does not know: a relation that no statement
and no catalog has described is `complete=False`, and a lookup in it answers None, which is not
"no".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.types import TypeName as TypeName

OLDEST_SERVER = 13
NEWEST_SERVER = 18

TEMPORARY = "pg_temp"
"""The schema of temporary tables, as every session calls its own. It is searched first."""


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        type: None where it is not known.
        not_null: NOT NULL, by whatever means; a NOT NULL that is NOT VALID does not count.
        default: the default's text, or that of the generated column; None where there is none.
        identity: `a` ALWAYS, `d` BY DEFAULT, empty where it is none.
        generated: `s` STORED, `v` VIRTUAL (18), empty where it is none.
        collation: None is that of the type.
        sequence: the sequence that it owns (serial, identity).
        inherited: whether a parent has it too.
        born: the batch that added it; 0 is before all.
    """

    name: str
    type: TypeName | None = None
    not_null: bool = False
    default: str | None = None
    identity: str = ""
    generated: str = ""
    collation: str | None = None
    sequence: QualifiedName | None = None
    inherited: bool = False
    born: int = 0


@dataclass(frozen=True)
class Index:
    """An index.

    Args:
        columns: the key columns in their order; None stands for an expression.
        included: columns of INCLUDE.
        expression_columns: columns that expressions and the predicate use.
        operator_classes: of each key; None is the default one.
        collations: of each key; None is the column's.
        constraint: the constraint that owns it.
        parent: the index of the partitioned table that it is a partition of.
        nulls_not_distinct: of a unique index (15).
    """

    name: str
    columns: tuple[str | None, ...] = ()
    included: tuple[str, ...] = ()
    expression_columns: frozenset[str] = frozenset()
    operator_classes: tuple[str | None, ...] = ()
    collations: tuple[str | None, ...] = ()
    method: str = "btree"
    is_unique: bool = False
    is_primary: bool = False
    is_valid: bool = True
    is_partial: bool = False
    nulls_not_distinct: bool = False
    constraint: str | None = None
    parent: QualifiedName | None = None
    born: int = 0

    @property
    def uses(self) -> frozenset[str]:
        """Every column it uses."""
        keys = {column for column in self.columns if column is not None}
        return frozenset(keys | set(self.included) | self.expression_columns)


@dataclass(frozen=True)
class Constraint:
    """A constraint of a table.

    Args:
        type: `p` primary key, `u` unique, `f` foreign key, `c` check, `x` exclusion, `n` NOT NULL
            (18), `?` not known.
        columns: the columns it uses; of a key in their order.
        proves_not_null: columns that are not null in every row where it holds and is validated.
        referenced: the table that a foreign key references.
        referenced_columns: empty where they were not written and are the primary key.
        expression: of a check.
        index: the index of a primary key, unique or exclusion constraint, or the one that a
            foreign key relies on.
        inherited: whether it comes from a parent table.
    """

    name: str
    type: str
    columns: tuple[str, ...] = ()
    proves_not_null: frozenset[str] = frozenset()
    is_validated: bool = True
    is_enforced: bool = True
    is_deferrable: bool = False
    referenced: QualifiedName | None = None
    referenced_columns: tuple[str, ...] = ()
    expression: str = ""
    index: str | None = None
    inherited: bool = False
    born: int = 0


@dataclass(frozen=True)
class Relation:
    """A table, partitioned table, view, materialized view, sequence or foreign table.

    Args:
        kind: as in `pg_class.relkind`: `r`, `p`, `v`, `m`, `S`, `f`, `c`; `?` where only the name
            is known.
        complete: whether columns, indexes, constraints, partitions and dependents are all known.
        parents: the tables it inherits from, or the one it is a partition of.
        children: its partitions, or the tables that inherit from it.
        is_partition: its one parent is partitioned.
        is_default_partition: the partition for what no other takes.
        partition_key: columns of the partition key.
        has_key_expressions: whether the partition key has expressions; those columns are among the
            others.
        bound: `FOR VALUES ...` as SQL.
        triggers: names of its triggers, internal ones not included.
        rules: names of its rules, a view's own not included.
        policies: names of its policies.
        dependents: views and rules that use it, with the columns that each uses; a materialized
            view counts too.
        generated_from: for each generated column the columns that it uses.
        extended_statistics: names of CREATE STATISTICS with their columns.
        other_dependents: what else uses columns and stands in the way of a new type for them:
            `policy p`, `trigger t`, `publication p`, `function f`, with the columns of each.
        size: bytes of its rows, those that are stored aside (TOAST) included; None where it is not
            known. 0 is an empty table.
        persistence: `p`, `u` unlogged, `t` temporary.
        born: the batch that created it; 0 is before all.
    """

    name: QualifiedName
    kind: str = "?"
    complete: bool = False
    columns: Mapping[str, Column] = field(default_factory=dict)
    indexes: Mapping[str, Index] = field(default_factory=dict)
    constraints: Mapping[str, Constraint] = field(default_factory=dict)
    parents: tuple[QualifiedName, ...] = ()
    children: tuple[QualifiedName, ...] = ()
    is_partition: bool = False
    is_default_partition: bool = False
    partition_key: tuple[str, ...] = ()
    has_key_expressions: bool = False
    bound: str = ""
    triggers: frozenset[str] = frozenset()
    rules: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    dependents: Mapping[QualifiedName, frozenset[str]] = field(default_factory=dict)
    generated_from: Mapping[str, frozenset[str]] = field(default_factory=dict)
    extended_statistics: Mapping[str, frozenset[str]] = field(default_factory=dict)
    other_dependents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    size: int | None = None
    persistence: str = "p"
    access_method: str | None = None
    tablespace: str | None = None
    born: int = 0

    @property
    def is_partitioned(self) -> bool:
        """Whether it holds no rows itself."""
        return self.kind == "p"

    def with_column(self, column: Column) -> Relation:
        """Return the relation with a column added or changed."""
        return self._with(columns={**self.columns, column.name: column})

    def with_index(self, index: Index) -> Relation:
        """Return the relation with an index added or changed."""
        return self._with(indexes={**self.indexes, index.name: index})

    def with_constraint(self, constraint: Constraint) -> Relation:
        """Return the relation with a constraint added or changed."""
        return self._with(constraints={**self.constraints, constraint.name: constraint})

    def _with(self, **changed: Any) -> Relation:
        # `replace` passes all thirty fields to __init__, which takes several times as long.
        relation = object.__new__(Relation)
        relation.__dict__.update(self.__dict__, **changed)
        return relation


@dataclass(frozen=True)
class UserType:
    """A type that a user made.

    Args:
        kind: `e` enum, `d` domain, `c` composite, `r` range, `b` base type of an extension, `?` not
            known.
        base: what a domain is made of.
        has_constraints: whether a domain, or one that it is made of, has a CHECK or NOT NULL.
        has_default: whether a domain has a default that is not NULL.
        default: that default's text.
        labels: of an enum, in their order.
        new_labels: labels added in this transaction, which it cannot use before PostgreSQL knows
            them committed.
    """

    name: QualifiedName
    kind: str = "?"
    base: TypeName | None = None
    has_constraints: bool = False
    has_default: bool = False
    default: str | None = None
    labels: tuple[str, ...] = ()
    new_labels: frozenset[str] = frozenset()
    constraints: Mapping[str, bool] = field(default_factory=dict)
    born: int = 0


@dataclass(frozen=True)
class Function:
    """A function that a user made; overloads are kept as the most volatile one.

    Args:
        volatility: `i` immutable, `s` stable, `v` volatile.
        language: `sql`, `plpgsql`, ...
        body: of a LANGUAGE sql or plpgsql function; empty where it is not known, as with overloads.
        arguments: names of its arguments and result columns.
        argument_types: names of the types of its arguments, without those of the result.
        returns: the name of the type that it returns; empty where it is not known.
        is_used: whether defaults, views or the like are known to call it.
        triggers: those that call it: relation and name.
        can_be_inlined: whether the planner may put its body in place of a call: LANGUAGE sql, one
            value, not STRICT, without SECURITY DEFINER and SET.
    """

    name: QualifiedName
    volatility: str = "v"
    language: str = ""
    body: str = ""
    arguments: tuple[str, ...] = ()
    argument_types: tuple[str, ...] = ()
    returns: str = ""
    is_used: bool = False
    triggers: frozenset[tuple[QualifiedName, str]] = frozenset()
    can_be_inlined: bool = False
    born: int = 0

    @property
    def is_known(self) -> bool:
        """Whether it is the only one of its name, with arguments and result that are known."""
        return bool(self.returns)


@dataclass(frozen=True)
class Savepoint:
    """A savepoint: where the journal stood, and the locks that were held."""

    name: str
    mark: int
    locks: dict[QualifiedName, LockMode]


@dataclass
class Transaction:
    """What the statements of a transaction block share.

    Args:
        locks: the strongest mode taken on each relation.
        begun_by_text: whether the SQL said BEGIN; otherwise whoever runs it began it.
        mark: where the world's journal stood.
        savepoints: those that can still be returned to, in their order.
        local_settings: what settings were before a SET LOCAL.
    """

    locks: dict[QualifiedName, LockMode] = field(default_factory=dict)
    begun_by_text: bool = True
    mark: int = 0
    savepoints: list[Savepoint] = field(default_factory=list)
    local_settings: dict[str, str | None] = field(default_factory=dict)


@lru_cache(maxsize=32)
def _schemas_in(search_path: str) -> tuple[str, ...]:
    parts = re.findall(r'"(?:[^"]|"")*"|[^",\s]+', search_path)
    schemas = (p[1:-1].replace('""', '"') if p.startswith('"') else p.lower() for p in parts)
    return tuple(schema for schema in schemas if schema and schema != "$user") or ("public",)


@dataclass
class World:
    """The database as far as it is known.

    Args:
        version: PostgreSQL's major version, 13 to 18.
        complete: whether what is not here is not there: the catalog was read, or every statement
            since the empty database was seen and understood.
        relations: by their names with schema.
        index_tables: the table of each index.
        types: types that users made.
        functions: functions that users made.
        absent: relations that statements have dropped or renamed.
        settings: what `SET` changed, or the session has: `lock_timeout`, `search_path`,
            `timezone`, ... in lower case.
        prepared: the statements of PREPARE, by name; the parse tree of each, a `Node`.
        cursors: the queries of DECLARE, likewise.
        batch: what is created now is born in this batch (`settle`).
        released: the last batch that the running release knows; None is the one before this.
        transaction: the open transaction block.
        journal: what every change replaced, so that it can be undone.
    """

    version: int = NEWEST_SERVER
    complete: bool = False
    relations: dict[QualifiedName, Relation] = field(default_factory=dict)
    index_tables: dict[QualifiedName, QualifiedName] = field(default_factory=dict)
    types: dict[QualifiedName, UserType] = field(default_factory=dict)
    functions: dict[QualifiedName, Function] = field(default_factory=dict)
    absent: dict[QualifiedName, bool] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, Any] = field(default_factory=dict)
    cursors: dict[str, Any] = field(default_factory=dict)
    batch: int = 1
    released: int | None = None
    transaction: Transaction | None = None
    journal: list[tuple[dict[Any, Any], Any, Any]] = field(default_factory=list)
    _partners: dict[QualifiedName, dict[QualifiedName, None]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Tables that have, or once had, a foreign key to a table."""
    _empty: dict[QualifiedName, None] = field(default_factory=dict, repr=False, compare=False)
    """Tables that are, or once were, empty."""

    def __post_init__(self) -> None:
        for relation in self.relations.values():
            self._note(relation)

    @property
    def search_path(self) -> tuple[str, ...]:
        """The schemas in which a name without a schema is looked for."""
        return _schemas_in(self.settings.get("search_path", "public"))

    def qualified(self, name: str, schema: str | None = None) -> QualifiedName:
        """Return the name with the schema in which the relation or index is, or would be made."""
        if schema is not None:
            return QualifiedName(name, schema)
        for candidate in (TEMPORARY, *self.search_path):
            found = QualifiedName(name, candidate)
            if found in self.relations or found in self.index_tables:
                return found
        return QualifiedName(name, self.search_path[0])

    def qualified_type(self, name: str, schema: str | None = None) -> QualifiedName:
        """Return the name with the schema in which the user's type is, or would be made."""
        return self._in_search_path(self.types, name, schema)

    def qualified_function(self, name: str, schema: str | None = None) -> QualifiedName:
        """Return the name with the schema in which the user's function is, or would be made."""
        return self._in_search_path(self.functions, name, schema)

    def _in_search_path(
        self, objects: Mapping[QualifiedName, object], name: str, schema: str | None
    ) -> QualifiedName:
        if schema is not None:
            return QualifiedName(name, schema)
        for candidate in self.search_path:
            if QualifiedName(name, candidate) in objects:
                return QualifiedName(name, candidate)
        return QualifiedName(name, self.search_path[0])

    def find(self, name: QualifiedName) -> Relation | None:
        """Return a relation, or None where the world does not have it."""
        return self.relations.get(name)

    def is_gone(self, name: QualifiedName) -> bool:
        """Return whether it is certain that no relation and no index has this name."""
        if name in self.relations or name in self.index_tables:
            return False
        return self.complete or name in self.absent

    def put(self, relation: Relation) -> None:
        """Add a relation or replace the one of that name."""
        self._set(self.relations, relation.name, relation)
        self._note(relation)
        if relation.name in self.absent:
            self._set(self.absent, relation.name, None)
        for index in relation.indexes:
            name = relation.name.sibling(index)
            if self.index_tables.get(name) != relation.name:
                self._set(self.index_tables, name, relation.name)

    def remove(self, name: QualifiedName) -> None:
        """Take a relation away, with its indexes."""
        relation = self.relations.get(name)
        self._set(self.relations, name, None)
        self._set(self.absent, name, True)
        for index in relation.indexes if relation is not None else ():
            self._set(self.index_tables, name.sibling(index), None)

    def remove_index(self, relation: Relation, index: str) -> Relation:
        """Take an index away and return its table without it."""
        name = relation.name.sibling(index)
        self._set(self.index_tables, name, None)
        self._set(self.absent, name, True)
        left = {key: value for key, value in relation.indexes.items() if key != index}
        changed = replace(relation, indexes=left)
        self._set(self.relations, relation.name, changed)
        return changed

    def put_type(self, type_: UserType) -> None:
        """Add a type or replace the one of that name."""
        self._set(self.types, type_.name, type_)

    def remove_type(self, name: QualifiedName) -> None:
        """Take a type away."""
        self._set(self.types, name, None)

    def put_function(self, function: Function) -> None:
        """Add a function or replace the one of that name."""
        self._set(self.functions, function.name, function)

    def remove_function(self, name: QualifiedName) -> None:
        """Take a function away."""
        self._set(self.functions, name, None)

    def set(self, setting: str, value: str | None) -> None:
        """Remember a setting of the session; None is the value it had at first, unknown."""
        self._set(self.settings, setting.lower(), value)

    def _set(self, mapping: dict[Any, Any], key: Any, value: Any) -> None:
        self.journal.append((mapping, key, mapping.get(key)))
        if value is None:
            mapping.pop(key, None)
        else:
            mapping[key] = value

    def relations_before(self, mark: int) -> dict[QualifiedName, Relation | None]:
        """Return the relations that were changed since the journal stood at `mark`, as they were;
        None for those that were not known then."""
        before: dict[QualifiedName, Relation | None] = {}
        for mapping, key, value in reversed(self.journal[mark:]):
            if mapping is self.relations:
                before[key] = value
        return before

    def undo(self, mark: int) -> None:
        """Take back every change since the journal stood at `mark`."""
        while len(self.journal) > mark:
            mapping, key, value = self.journal.pop()
            if value is None:
                mapping.pop(key, None)
            else:
                mapping[key] = value

    def is_new(self, born: int) -> bool:
        """Return whether something was born in this batch."""
        return born == self.batch

    def is_unreleased(self, born: int) -> bool:
        """Return whether the running release cannot know what was born in a batch."""
        return born > (self.batch - 1 if self.released is None else self.released)

    def settle(self) -> None:
        """Begin a new batch: what was created so far may be in use from now on.

        Called between revisions. A table that was made empty may have rows from now on.
        """
        self.batch += 1
        for name in self._empty:
            relation = self.relations.get(name)
            if relation is not None and relation.size == 0 and not relation.is_partitioned:
                self.relations[name] = replace(relation, size=None)
        if self.transaction is None:
            self._empty.clear()
            self.journal.clear()

    def family(self, name: QualifiedName) -> Iterator[Relation]:
        """Yield a relation and, below it, its partitions or inheriting tables."""
        relation = self.relations.get(name)
        if relation is None:
            return
        yield relation
        for child in relation.children:
            yield from self.family(child)

    def referencing(self, name: QualifiedName) -> Iterator[tuple[Relation, Constraint]]:
        """Yield the foreign keys of other tables, and of itself, that reference a table."""
        for partner in tuple(self._partners.get(name, ())):
            relation = self.relations.get(partner)
            if relation is None:
                continue
            for constraint in relation.constraints.values():
                if constraint.type == "f" and constraint.referenced == name:
                    yield relation, constraint

    def _note(self, relation: Relation) -> None:
        if relation.size == 0:
            self._empty[relation.name] = None
        for constraint in relation.constraints.values():
            if constraint.referenced is not None:
                self._partners.setdefault(constraint.referenced, {})[relation.name] = None

    def forget(self) -> None:
        """Keep nothing that might not be true any more: a statement was not understood.

        It is not undone by a rollback.
        """
        self.complete = False
        for mapping in (self.relations, self.index_tables, self.types, self.functions):
            mapping.clear()
        self.absent.clear()
        self._partners.clear()
        self._empty.clear()
        self.journal.clear()
        if self.transaction is not None:
            self.transaction.mark = 0
            kept = [replace(savepoint, mark=0) for savepoint in self.transaction.savepoints]
            self.transaction.savepoints = kept
