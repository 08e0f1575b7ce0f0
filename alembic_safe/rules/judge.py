"""Judge: statements one after another, each with what the rules say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from alembic_safe.postgres.effects import Effects, World, effects_of
from alembic_safe.rules.catalogue import REVISION_RULES, RULES
from alembic_safe.rules.finding import (
    NEEDS,
    Finding,
    RevisionRule,
    Rule,
    Scope,
    Surroundings,
    scope_of,
)


@dataclass(frozen=True)
class Judgement:
    """A statement with what is to be said of it."""

    effects: Effects
    findings: tuple[Finding, ...]


class RuleBook:
    """Rules, each asked about the statements that it is for.

    Args:
        rules: in the order of their findings.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._scoped = [(rule, scope_of(rule)) for rule in rules]
        # They can tell when the others have been asked.
        self._scoped.sort(key=lambda each: bool(each[1].unless_said))
        self._by_kind: dict[tuple[str, ...], list[tuple[Rule, Scope]]] = {}

    def said_of(
        self, effects: Effects, surroundings: Surroundings
    ) -> Iterator[tuple[Rule, Finding]]:
        """Yield what the rules say of one statement, without those inside of it."""
        said: set[str] = set()
        for rule, scope in self._asked(effects):
            if scope.unless_said and not scope.unless_said.isdisjoint(said):
                continue
            for finding in rule(effects, surroundings):
                said.add(finding.code)
                yield rule, finding

    def _asked(self, effects: Effects) -> list[tuple[Rule, Scope]]:
        has = [name for name in NEEDS if getattr(effects, name)]
        kind = (effects.node_name, *has)
        if kind not in self._by_kind:
            self._by_kind[kind] = [
                (rule, scope) for rule, scope in self._scoped if scope.fits(effects.node_name, has)
            ]
        return self._by_kind[kind]


@dataclass
class Judge:
    """Judges the statements of one revision after another against one world.

    Args:
        surroundings: of the revision that is being judged.
        rules: by default all that the package has; `custom.load_rules` gives those of the user.
        revision_rules: the same for rules about a whole revision.
    """

    surroundings: Surroundings
    rules: Sequence[Rule] = RULES
    revision_rules: Sequence[RevisionRule] = REVISION_RULES
    _seen: list[Effects] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._book = RuleBook(self.rules)

    @property
    def world(self) -> World:
        """The database as it is known now."""
        return self.surroundings.world

    def text(self, sql: str) -> list[Judgement]:
        """Judge the statements of a text, and let the world move on."""
        judgements = []
        for effects in effects_of(sql, self.world):
            self._seen.append(effects)
            judgements.append(Judgement(effects, self._findings(effects)))
        return judgements

    def end_revision(self) -> list[Judgement]:
        """Judge what was seen since the last call as one revision, and settle the world."""
        judgements = [
            Judgement(effects, (finding,))
            for rule in self.revision_rules
            for effects, finding in rule(self._seen, self.surroundings)
        ]
        self._seen = []
        self.world.settle()
        return judgements

    def _findings(self, effects: Effects) -> tuple[Finding, ...]:
        found = (
            finding
            for each in _with_children(effects)
            for _rule, finding in self._book.said_of(each, self.surroundings)
        )
        # What the body of a DO block does in a loop is said once.
        return tuple(dict.fromkeys(found))


def _with_children(effects: Effects) -> Iterator[Effects]:
    """Yield a statement and those inside of it, each with what it does itself."""
    if not effects.children:
        yield effects
        return
    yield replace(
        effects,
        locks={},
        rewrites=(),
        scans=(),
        index_builds=(),
        index_rebuilds=(),
        changes=(),
    )
    for child in effects.children:
        yield from _with_children(child)
