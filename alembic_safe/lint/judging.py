"""Judging: what the rules say of recorded revisions and of SQL files, statement by statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect

from alembic_safe.lint.own_operations import executed
from alembic_safe.lint.recording import RecordedStep, Recording, Written
from alembic_safe.lint.report import NOT_READABLE, Located
from alembic_safe.lint.unseen import may_change_schema
from alembic_safe.postgres.effects import Effects, World, begin, effects_of, end
from alembic_safe.rules.finding import Finding, Rule, Severity, Surroundings
from alembic_safe.rules.judge import Judge, Judgement
from alembic_safe.rules.sources import Extent, RevisionSource, Sources, SqlSource
from alembic_safe.rules.weights import Weights

_UNDEFINED = frozenset({"42P01", "42703", "42704", "42883", "3F000"})
"""SQLSTATEs of what is not there (PostgreSQL documentation, appendix A)."""


@dataclass
class Judged:
    """What was found in some revisions or files.

    Args:
        postgres: the server's major version.
        found: in the order of the statements.
        statements: how many were judged.
        subjects: how many revisions, or files, were judged.
        misses: whether a statement names what nothing before it has created.
        has_own_rules: whether the user has rules, with codes that nobody else knows.
    """

    postgres: int
    found: list[Located] = field(default_factory=list)
    statements: int = 0
    subjects: int = 0
    misses: bool = False
    has_own_rules: bool = False

    def add(self, other: Judged) -> None:
        """Take what else was found."""
        self.found += other.found
        self.statements += other.statements

    def note_missing(self, all_effects: Iterable[Effects]) -> None:
        """Look for errors about what is not there."""
        for effects in all_effects:
            if any(error.sqlstate in _UNDEFINED for error in effects.errors):
                self.misses = True


@dataclass(frozen=True)
class RevisionJudge:
    """Judges the steps of a recording, one after the other.

    Args:
        named: the revisions that are judged; the others only teach the world.
        applied: the revisions that the world has already; they are skipped.
        judges_downgrades: whether downgrades are judged too.
        is_one_change: whether the judged revisions are released together, so that no running
            release knows what one of them has made.
        sources: the revision files.
        rules: all rules, those of the user included.
        weights: of findings, by table and code.
    """

    named: Collection[str]
    applied: Collection[str]
    judges_downgrades: bool
    is_one_change: bool
    sources: Sources
    rules: Sequence[Rule]
    weights: Weights

    def judge(self, recording: Recording, world: World) -> Judged:
        """Return what was found in the steps of a recording.

        Args:
            recording: what the revisions would execute.
            world: the database before it; it is changed.
        """
        judged = Judged(world.version)
        in_transaction = False
        births: dict[str, int] = {}
        judge = Judge(Surroundings(world), rules=self.rules)
        for step in recording.steps:
            in_transaction = _open(step, world, in_transaction)
            if step.revision in self.applied:
                continue
            if step.is_upgrade:
                births[step.revision] = world.batch
                if self.is_one_change and world.released is None and step.revision in self.named:
                    world.released = world.batch - 1
            else:
                # What the revision itself has made goes again; nobody who is there needs it.
                world.released = births[step.revision] - 1
            if step.revision in self.named and (step.is_upgrade or self.judges_downgrades):
                source = self.sources.revision(Path(step.path))
                judge.surroundings = Surroundings(
                    world, step.phase, step.is_upgrade, recording.has_runner
                )
                _StepJudge(step, source, judge, self.weights, judged).judge_all()
            else:
                _learn(step, RevisionSource(Path(step.path)), world, judged)
        return judged


def _control(text: str, world: World) -> bool:
    """Begin or end a transaction; return whether one is open."""
    if text.startswith("BEGIN"):
        begin(world)
        return True
    end(world)
    return False


def _open(step: RecordedStep, world: World, in_transaction: bool) -> bool:
    """Begin the transaction of a step, and set what was set for it. Return whether offline mode
    has a transaction open.

    Where all revisions share one, each is judged as if it had its own: with what else a revision
    will be applied is not known.
    """
    end(world)
    if in_transaction:
        begin(world)
    for text in step.before:
        word = text.partition(" ")[0].strip().rstrip(";").upper()
        if word in ("BEGIN", "COMMIT"):
            in_transaction = _control(word, world)
        elif word == "SET":
            effects_of(text, world)
    return in_transaction


def _learn(step: RecordedStep, source: RevisionSource, world: World, judged: Judged) -> None:
    """Let the world see what a step does."""
    seen = []
    for written in step.written:
        if written.is_control:
            _control(written.text, world)
            continue
        for text in executed(written):
            seen += effects_of(text, world)
    judged.note_missing(seen)
    _forget_unseen(step, source, world, seen)
    end(world)
    world.settle()


_ABOUT_ROWS = frozenset(
    {"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "transaction_stmt"}
)


def _forget_unseen(
    step: RecordedStep, source: RevisionSource, world: World, seen: Iterable[Effects]
) -> None:
    """Let the world forget what it knows, unless a step that could not be read moves rows alone."""
    if not step.unreadable:
        return
    moves_rows = all(each.node_name in _ABOUT_ROWS for each in seen)
    lines = {written.line for written in step.written}
    if not moves_rows or may_change_schema(source, source.function(_other(step)), lines):
        world.forget()


def _other(step: RecordedStep) -> str:
    """Return the name of the function that a step does not run."""
    return "downgrade" if step.is_upgrade else "upgrade"


@dataclass
class _StepJudge:
    """Judges one step, and writes down what is found."""

    step: RecordedStep
    source: RevisionSource
    judge: Judge
    weights: Weights
    judged: Judged
    places: dict[int, Written] = field(default_factory=dict)
    seen: list[Effects] = field(default_factory=list)

    def judge_all(self) -> None:
        for written in self.step.written:
            if written.is_control:
                _control(written.text, self.judge.world)
                continue
            for text in executed(written):
                self._text(text, written)
        if self.step.unreadable:
            self._unreadable()
        end(self.judge.world)
        for judgement in self.judge.end_revision():
            self._add(judgement, self.places[id(judgement.effects)])

    def _text(self, text: str, written: Written) -> None:
        judgements = self.judge.text(text)
        self.seen += [judgement.effects for judgement in judgements]
        self.judged.note_missing(judgement.effects for judgement in judgements)
        self.judged.statements += len(judgements)
        for judgement in judgements:
            self.places[id(judgement.effects)] = written
            self._add(judgement, written)

    def _unreadable(self) -> None:
        """Report where the revision needs a database, and judge what SQL its file has beside what
        it wrote."""
        _forget_unseen(self.step, self.source, self.judge.world, self.seen)
        for unreadable in {each.line: each for each in self.step.unreadable}.values():
            rest = "the rest was not run" if unreadable.stopped else "there are none to lint"
            message = f"it cannot be judged without a database: {unreadable.reason}, {rest}"
            finding = Finding(NOT_READABLE, Severity.ERROR, message)
            self._locate(finding, self.source.extent(unreadable.line), unreadable.line)
        written_lines = {written.line for written in self.step.written}
        other = self.source.function(_other(self.step))
        for line, function, text in sorted(self.source.literals(without=other)):
            extent = self.source.extent(line)
            if not any(written in extent for written in written_lines):
                sql = text if function in _FOR_THE_DRIVER else _with_parameters(text)
                self._text(sql, Written(sql, line))

    def _add(self, judgement: Judgement, written: Written) -> None:
        effects = judgement.effects
        for finding in judgement.findings:
            weighed = self.weights.weigh(finding, effects, self.judge.world)
            if weighed is not None:
                extent = self.source.extent(written.line)
                line = self.source.line_of(effects.sql, extent)
                self._locate(weighed, extent, line, effects.sql, written.assured)

    def _locate(
        self,
        finding: Finding,
        extent: Extent,
        line: int,
        sql: str = "",
        assured: str | None = None,
    ) -> None:
        located = Located(
            finding,
            self.source.path,
            extent,
            line,
            sql,
            self.step.revision,
            self.step.is_upgrade,
            assured or "",
        )
        self.judged.found.append(located)


_FOR_THE_DRIVER = frozenset({"exec_driver_sql", "DDL"})
"""What takes a text as it is; the others read `:name` in it as a parameter."""


def _with_parameters(text: str) -> str:
    return str(sa.text(text).compile(dialect=_NUMBERED))


_DIALECT: Callable[..., sa.Dialect] = PGDialect
_NUMBERED = _DIALECT(paramstyle="numeric_dollar")


def judge_file(
    source: SqlSource,
    world: World,
    rules: Sequence[Rule],
    weights: Weights,
    *,
    single_transaction: bool,
) -> Judged:
    """Judge an SQL file.

    Args:
        source: the file.
        world: the database before it.
        rules: all rules, those of the user included.
        weights: of findings, by table and code.
        single_transaction: whether whoever runs it puts it into one transaction.
    """
    if single_transaction:
        begin(world)
    judge = Judge(Surroundings(world, has_runner=False), rules=rules)
    judgements = judge.text(source.text)
    judged = Judged(world.version, statements=len(judgements))
    for judgement in [*judgements, *judge.end_revision()]:
        effects = judgement.effects
        extent = source.extent(effects.offset, len(effects.sql))
        for finding in judgement.findings:
            weighed = weights.weigh(finding, effects, world)
            if weighed is not None:
                located = Located(weighed, source.path, extent, extent.first, effects.sql)
                judged.found.append(located)
    end(world)
    return judged
