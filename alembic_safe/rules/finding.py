"""Finding: what a rule says of a statement, and what a rule is given to judge by."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeVar, get_args

from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.identifiers import QualifiedName


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"
    """It stops traffic, breaks a running release, loses data, or fails."""
    WARNING = "warning"
    """It may, or it will hurt later."""
    OFF = "off"


@dataclass(frozen=True)
class Fix:
    """The safe sequence, ready to paste.

    Args:
        operations: the body of an `upgrade()` with operations of this package and Alembic's;
            empty where there is none.
        sql: the same in plain SQL, one statement a line, to be run outside of a transaction, so
            that each commits by itself; `-- ` comments say what has to be repeated or awaited.
        phase: of the revision into which it belongs; None where the one it is in will do.
        is_addition: whether it comes after the statement, and not in its place.
    """

    operations: str = ""
    sql: str = ""
    phase: Phase | None = None
    is_addition: bool = False


@dataclass(frozen=True)
class Finding:
    """What a rule says of one statement.

    Args:
        code: stable name of the rule, lower case with hyphens, `index-not-concurrent`.
        severity: how bad it is.
        message: the consequence in one sentence, with the real names and without a full stop.
        relation: the table that suffers; None where there is none.
        fix: the safe sequence, if it can be given exactly.
        advice: what to do instead where no fix shows it, in one sentence without a full stop.
        others: tables that suffer too, or that decide for how long; `relation` may be among them.
    """

    code: str
    severity: Severity
    message: str
    relation: QualifiedName | None = None
    fix: Fix | None = None
    advice: str = ""
    others: tuple[QualifiedName, ...] = ()

    @property
    def relations(self) -> tuple[QualifiedName, ...]:
        """All tables that it is about, for the severity by table and what is ignored by table."""
        first = () if self.relation is None else (self.relation,)
        return tuple(dict.fromkeys((*first, *self.others)))

    @property
    def docs(self) -> str:
        """Where the rule is explained."""
        return f"docs/rules.md#{self.code}"


@dataclass(frozen=True)
class Surroundings:
    """Where a statement stands.

    Args:
        world: the database as it is known, after the statement.
        phase: of the revision; None where it has none, as hand-written ones.
        is_upgrade: whether it belongs to `upgrade()`.
        has_runner: whether `alembic_safe.run_migrations` runs it, which gives each revision a
            transaction and a `lock_timeout`.
    """

    world: World
    phase: Phase | None = None
    is_upgrade: bool = True
    has_runner: bool = True

    @property
    def old_release_runs(self) -> bool:
        """Whether a release may be running that knows nothing of the revision.

        Not in a contract revision, for which the gate waits, and not on the way back, which is
        taken when the new release is gone.
        """
        return self.is_upgrade and self.phase is not Phase.CONTRACT


Rule = Callable[[Effects, Surroundings], Iterable[Finding]]
"""Judges one statement. This is the signature of a custom rule."""

_AnyRule = TypeVar("_AnyRule", bound=Rule)


Need = Literal["changes", "errors", "works"]
"""A field of Effects without which a rule has nothing to say."""

NEEDS: tuple[Need, ...] = get_args(Need)


@dataclass(frozen=True)
class Scope:
    """When a rule is asked.

    Args:
        node_names: names of statements in the grammar, as `alter_table_stmt`; none is all.
        needs: what its statement has to have; None is nothing.
        unless_said: the codes of rules after whose findings it has nothing to add.
    """

    node_names: frozenset[str] = frozenset()
    needs: Need | None = None
    unless_said: frozenset[str] = frozenset()

    def fits(self, node_name: str, has: Collection[str]) -> bool:
        """Return whether the rule may have something to say of a statement.

        Args:
            node_name: its name in the grammar.
            has: which of the fields that rules can need it has.
        """
        is_kind = not self.node_names or node_name in self.node_names
        return is_kind and (self.needs is None or self.needs in has)


def only_for(
    *node_names: str, needs: Need | None = None, unless_said: Collection[Rule] = ()
) -> Callable[[_AnyRule], _AnyRule]:
    """Mark a rule that says nothing of other statements, so that it is not asked about them.

    Args:
        node_names: names of the statements in the grammar, as `alter_table_stmt`; none is all.
        needs: `changes`, `errors` or `works`, where it says nothing of a statement without.
        unless_said: rules that say all there is to say, where they say something.

    Raises:
        ValueError: `needs` is something else, so that the rule would never be asked.
    """
    if needs is not None and needs not in NEEDS:
        raise ValueError(f"needs={needs!r} is not known; give one of {', '.join(NEEDS)}")
    codes = frozenset(code_of(rule) for rule in unless_said)

    def mark(rule: _AnyRule) -> _AnyRule:
        rule.__dict__["scope"] = Scope(frozenset(node_names), needs, codes)
        return rule

    return mark


def scope_of(rule: Rule) -> Scope:
    """Return when a rule is asked: always, unless it is marked."""
    scope = getattr(rule, "scope", None)
    return scope if isinstance(scope, Scope) else Scope()


def code_of(rule: object) -> str:
    """Return the code of a rule of this package."""
    return str(getattr(rule, "__name__", "")).replace("_", "-")


RevisionRule = Callable[[Sequence[Effects], Surroundings], Iterable[tuple[Effects, Finding]]]
"""Judges all statements of a revision together; gives each finding with its statement."""
