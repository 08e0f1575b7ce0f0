"""Tally: what one statement does, added up while its parse tree is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from alembic_safe.postgres.effects.model import (
    Change,
    Effects,
    IndexWork,
    NameChange,
    ServerError,
    TransactionNeed,
)
from alembic_safe.postgres.effects.parsing import Parsed, parse
from alembic_safe.postgres.effects.world import Relation, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

MAX_DEPTH = 10
"""How deep statements may stand inside of one another: functions that call functions, EXECUTE of a
DO block. Deeper ones are not read."""


class Refused(Exception):
    """The server refuses the statement for certain, so that it has no other effect."""


@dataclass
class Tally:
    """Adds up what a statement does. Handlers of statements write into it and into its world.

    What a handler changed in the world is taken back where the statement is refused.

    Args:
        run: gives the effects of a statement inside of this one.
        depth: how many statements this one stands in.
        called: the functions whose bodies were read for the outermost statement.
        forgets: whether the world has to forget what it knows, because something may have changed
            in it that is not known.
    """

    world: World
    sql: str
    offset: int = 0
    command: str = ""
    locks: dict[QualifiedName, LockMode] = field(default_factory=dict)
    rewrites: dict[QualifiedName, None] = field(default_factory=dict)
    scans: dict[QualifiedName, None] = field(default_factory=dict)
    builds: list[IndexWork] = field(default_factory=list)
    rebuilds: list[IndexWork] = field(default_factory=list)
    errors: list[ServerError] = field(default_factory=list)
    transaction: TransactionNeed = TransactionNeed.ANY
    changes: list[NameChange] = field(default_factory=list)
    unknown_: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    children: list[Effects] = field(default_factory=list)
    run: Callable[[Parsed, Tally], Effects] | None = None
    depth: int = 0
    called: set[QualifiedName] = field(default_factory=set)
    forgets: bool = False

    # What the statement names

    def relation(self, range_var: Any, *, missing_ok: bool = False) -> Relation | None:
        """Return the relation that a `RangeVar` of the parse tree names.

        Where it is not known it is made known as an incomplete one. None only with `missing_ok`
        (IF EXISTS) and where it is certain that there is none.

        Raises:
            Refused: it is certain that there is none.
        """
        return self.named(range_var.relname, range_var.schemaname or None, missing_ok=missing_ok)

    def existing(self, range_var: Any) -> Relation:
        """Return the relation that a `RangeVar` names; see `relation`.

        Raises:
            Refused: it is certain that there is none.
        """
        found = self.relation(range_var)
        assert found is not None
        return found

    def named(
        self, name: str, schema: str | None = None, *, missing_ok: bool = False
    ) -> Relation | None:
        """Return a relation by its name; see `relation`."""
        qualified = self.world.qualified(name, schema)
        found = self.world.find(qualified)
        if found is not None:
            return found
        if qualified in self.world.index_tables:
            self.refuse(f'"{name}" is an index', "42809")
        if self.world.is_gone(qualified):
            if missing_ok:
                return None
            self.refuse(f'relation "{name}" does not exist', "42P01")
        unknown = Relation(qualified)
        self.world.put(unknown)
        return unknown

    def is_new(self, name: QualifiedName) -> bool:
        """Return whether nobody else can be using a relation: this batch created it, or it is
        temporary."""
        relation = self.world.find(self.world.index_tables.get(name, name))
        if relation is None:
            return False
        return relation.persistence == "t" or self.world.is_new(relation.born)

    # What it does

    def lock(self, name: QualifiedName | Relation, mode: LockMode, *, family: bool = False) -> None:
        """Note a lock on a relation; with `family` on its partitions and inheriting tables too."""
        relation = name if isinstance(name, Relation) else None
        qualified = relation.name if relation is not None else name
        assert isinstance(qualified, QualifiedName)
        if not self.is_new(qualified):
            self.locks[qualified] = max(mode, self.locks.get(qualified, LockMode.NONE))
        if family:
            known = self.world.find(qualified)
            if known is None or not known.complete:
                self.assume(f"what is a partition of {qualified} or inherits from it is not known")
            for member in self.world.family(qualified):
                if member.name != qualified:
                    self.lock(member.name, mode)

    def rewrite(self, relation: Relation) -> None:
        """Note that every row of a table, or of its partitions, is written again."""
        self._on_tables(self.rewrites, relation)

    def scan(self, relation: Relation) -> None:
        """Note that a table, or each of its partitions, is read from end to end."""
        self._on_tables(self.scans, relation)

    def _on_tables(self, noted: dict[QualifiedName, None], relation: Relation) -> None:
        if not relation.is_partitioned and not self.is_new(relation.name):
            noted[relation.name] = None
        if relation.is_partitioned:
            for child in relation.children:
                found = self.world.find(child)
                if found is not None:
                    self._on_tables(noted, found)
            if not relation.complete and not self.is_new(relation.name):
                noted[relation.name] = None

    def build(self, table: Relation, name: str | None, *, concurrently: bool = False) -> None:
        """Note the build of a new index."""
        if not self.is_new(table.name):
            self.builds.append(IndexWork(table.name, name, concurrently))

    def rebuild(self, table: Relation, name: str | None, *, concurrently: bool = False) -> None:
        """Note that an existing index gets a new file."""
        if not self.is_new(table.name):
            self.rebuilds.append(IndexWork(table.name, name, concurrently))

    def refuse(self, message: str, sqlstate: str) -> NoReturn:
        """Note an error that is certain.

        Raises:
            Refused: always.
        """
        self.errors.append(ServerError(message, sqlstate))
        raise Refused(message)

    def may_fail(self, message: str, sqlstate: str) -> None:
        """Note an error that depends on rows or on what the world does not know."""
        self.errors.append(ServerError(message, sqlstate, certain=False))

    def unknown(self, what: str, *, forgets: bool = True) -> None:
        """Note something that could not be understood; the statement then counts as unsafe.

        Without `forgets` it is certain that nothing else in the world has changed.
        """
        if what not in self.unknown_:
            self.unknown_.append(what)
        self.forgets = self.forgets or forgets

    def assume(self, what: str) -> None:
        """Note what was assumed for want of knowledge, as a short sentence."""
        if what not in self.assumed:
            self.assumed.append(what)

    def change(
        self,
        change: Change,
        kind: str,
        relation: QualifiedName,
        name: str | None = None,
        *,
        born: int = 0,
        new_name: str | None = None,
        detail: str = "",
    ) -> None:
        """Note a name that the running release may use and that goes away or changes.

        `born` is the batch in which the object itself was made; what is not released is not noted.
        """
        found = self.world.find(self.world.index_tables.get(relation, relation))
        births = (born, found.born if found is not None else 0)
        if any(self.world.is_unreleased(birth) for birth in births):
            return
        self.changes.append(NameChange(change, kind, relation, name, new_name, detail))

    def only_outside_transaction(self) -> None:
        """Note that the server refuses the statement inside a transaction block.

        Raises:
            Refused: it stands inside one.
        """
        self.transaction = TransactionNeed.FORBIDDEN
        if self.world.transaction is not None:
            self.refuse(f"{self.command} cannot run inside a transaction block", "25001")

    # Statements inside of it

    def inside(self, sql: str) -> list[Effects]:
        """Return the effects of statements that this one runs, from their text.

        They are not added up yet: see `absorb`.
        """
        return [self.inside_statement(parsed) for parsed in parse(sql)]

    def inside_node(self, node: Any) -> Effects:
        """Return the effects of a statement that this one runs, from its parse tree (a `Node`)."""
        name = node.WhichOneof("node")
        return self.inside_statement(Parsed(self.sql, self.offset, getattr(node, name), name))

    def inside_statement(self, parsed: Parsed) -> Effects:
        """Return the effects of a statement that this one runs."""
        if self.run is None or self.depth >= MAX_DEPTH:
            problem = f"statements stand in one another more than {MAX_DEPTH} deep"
            return Effects(parsed.sql, parsed.offset, "", unknown=(problem,))
        return self.run(parsed, self)

    def absorb(self, child: Effects, *, certain: bool = True, caught: bool = False) -> None:
        """Add what a statement inside of this one does.

        Args:
            child: its effects.
            certain: whether it runs for certain, so that its error is this statement's.
            caught: whether its errors are caught.

        Raises:
            Refused: its error is certain to end this statement.
        """
        self.children.append(_with_errors_as(child, certain=certain, caught=caught))
        for relation, mode in child.locks.items():
            self.lock(relation, mode)
        self.rewrites.update(dict.fromkeys(child.rewrites))
        self.scans.update(dict.fromkeys(child.scans))
        self.builds += child.index_builds
        self.rebuilds += child.index_rebuilds
        self.changes += child.changes
        for what in child.assumed:
            self.assume(what)
        for what in child.unknown:
            self.unknown(what)
        for error in () if caught else child.errors:
            if error.certain and certain:
                self.refuse(error.message, error.sqlstate)
            self.may_fail(error.message, error.sqlstate)

    def touched(self) -> list[QualifiedName]:
        """Return the relations that are locked or worked through, perhaps more than once."""
        built = [work.table for work in (*self.builds, *self.rebuilds)]
        return [*self.locks, *self.rewrites, *self.scans, *built]

    def effects(
        self,
        node: Any,
        node_name: str,
        held: dict[QualifiedName, LockMode],
        before: dict[QualifiedName, Relation],
    ) -> Effects:
        """Return what was added up."""
        scans = tuple(name for name in self.scans if name not in self.rewrites)
        timeout = self.world.settings.get("lock_timeout")
        return Effects(
            sql=self.sql,
            offset=self.offset,
            command=self.command,
            locks=self.locks,
            held=held,
            rewrites=tuple(self.rewrites),
            scans=scans,
            index_builds=tuple(self.builds),
            index_rebuilds=tuple(w for w in self.rebuilds if w.table not in self.rewrites),
            errors=tuple(self.errors),
            transaction=self.transaction,
            in_transaction=self.world.transaction is not None,
            changes=tuple(self.changes),
            unknown=tuple(self.unknown_),
            assumed=tuple(self.assumed),
            lock_timeout=int(timeout) if timeout is not None else None,
            node=node,
            node_name=node_name,
            details=self.details,
            children=tuple(self.children),
            before=before,
        )


def _with_errors_as(child: Effects, *, certain: bool, caught: bool) -> Effects:
    """Return the effects of an inner statement with its errors as the outer one sees them."""
    errors = () if caught else child.errors
    if not certain:
        errors = tuple(replace(error, certain=False) for error in errors)
    children = tuple(
        _with_errors_as(each, certain=certain, caught=caught) for each in child.children
    )
    return replace(child, errors=errors, children=children)


Handler = Callable[[Any, Tally], None]
"""Reads one kind of statement: its parse tree and where to write what it does."""
