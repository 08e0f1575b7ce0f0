"""Judge: statements one after another, each with what the rules say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from alembic_safe.postgres.effects import Effects, World, effects_of
from alembic_safe.rules.catalogue import REVISION_RULES, RULES
from alembic_safe.rules.finding import Finding, RevisionRule, Rule, Surroundings, is_for


@dataclass(frozen=True)
class Judgement:
    """A statement with what is to be said of it."""

    effects: Effects
    findings: tuple[Finding, ...]


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
    _by_statement: dict[str, Sequence[Rule]] = field(default_factory=dict)

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

    def _rules_for(self, node_name: str) -> Sequence[Rule]:
        if node_name not in self._by_statement:
            found = tuple(rule for rule in self.rules if is_for(rule, node_name))
            self._by_statement[node_name] = found
        return self._by_statement[node_name]

    def _findings(self, effects: Effects) -> tuple[Finding, ...]:
        found = (
            finding
            for each in _with_children(effects)
            for rule in self._rules_for(each.node_name)
            for finding in rule(each, self.surroundings)
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
