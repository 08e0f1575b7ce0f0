"""The guard: every statement of a revision is judged before it is sent, whatever wrote it.

It looks twice. The first look needs no database: what this attempt of the revision has sent so far
is all that it knows, and where it does not know it assumes the worse. Most statements pass here.
Where it finds something, the second look reads the catalog on the same connection, and is exact.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from alembic_safe.assurance import is_unjudged
from alembic_safe.errors import GuardUnavailable, UnsafeStatement
from alembic_safe.postgres.effects import Effects, World, begin, end
from alembic_safe.postgres.effects.parsing import parse
from alembic_safe.postgres.effects.world import Transaction
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules import column_types, schema_design
from alembic_safe.rules.catalogue import REVISION_RULES, RULES
from alembic_safe.rules.custom import load_rules
from alembic_safe.rules.finding import Finding, Severity, Surroundings, code_of
from alembic_safe.rules.judge import Judge
from alembic_safe.rules.settings import LintSettings
from alembic_safe.rules.transactions import possible_error
from alembic_safe.rules.weights import Weights
from alembic_safe.runtime.allowed import Assured, Origin, Reasons
from alembic_safe.runtime.driver_text import LONG_TEXT, shape_of, without_rows
from alembic_safe.runtime.empty_tables import about_rows
from alembic_safe.runtime.interception import Outgoing, intercepted
from alembic_safe.runtime.place import Place
from alembic_safe.runtime.queueing import Approach, WayBlocked, demand_of
from alembic_safe.runtime.second_look import (
    BEFORE_THE_RUN,
    THIS_REVISION,
    Before,
    beside,
    created_in,
    learn,
    look,
)
from alembic_safe.runtime.sessions import SessionSettings, in_driver_autocommit
from alembic_safe.runtime.transaction_state import TransactionState, transaction_state
from alembic_safe.settings import Settings

log = logging.getLogger("alembic.safe")

_MOST_PASSED = 1000
_SHOWN_CHARACTERS = 400


class Guard:
    """Watches over the revisions of one run.

    Args:
        settings: `guard` and `rules` are read.
        lint_settings: findings count here as they do in lint.
        session: the session's settings before the run.
        connection: the migration's connection.

    Raises:
        GuardUnavailable: the parser cannot be loaded.
        InvalidRule: a rule of the user cannot be loaded.
    """

    def __init__(
        self,
        settings: Settings,
        lint_settings: LintSettings,
        session: SessionSettings,
        connection: Connection,
    ) -> None:
        try:
            import postgast  # noqa: F401
        except ImportError as error:
            raise GuardUnavailable(str(error)) from error
        self.judges = settings.guard != "off"
        """Otherwise statements are only given their timeouts, and see who is in the way."""
        self.stops = settings.guard == "error"
        self.rules = [about_rows(load_rules(settings.rules))] if self.judges else []
        self.ignored = lint_settings.ignore
        self._weights = Weights(lint_settings, knows_sizes=True)
        self._connection = connection
        self._session = session
        self._told: set[tuple[str, str]] = set()
        self.created: set[tuple[QualifiedName, str | None]] = set()
        """What the revisions of this run have created, which the running release does not know."""

    @contextmanager
    def watching(self, place: Place) -> Iterator[Watch]:
        """Judge what is sent on the connection.

        Args:
            place: what is said in messages, and what rules are told.
        """
        version = self._connection.dialect.server_version_info
        world = World(batch=THIS_REVISION, released=BEFORE_THE_RUN)
        if version:
            world.version = int(version[0])
        world.settings["search_path"] = self._session.search_path
        world.settings["lock_timeout"] = _lock_timeout_setting(place)
        watch = Watch(self, self._connection, place, world, Reasons(place, self.ignored))
        try:
            with intercepted(self._connection, watch):
                yield watch
        finally:
            watch.unwatch()

    def weighed(self, found: Iterable[tuple[Effects, Finding]], world: World) -> Found:
        """Return findings as they count by the settings, without those that are off, or for lint
        alone."""
        weighed = (
            (effects, self._weights.weigh(finding, effects, world)) for effects, finding in found
        )
        return [
            (effects, finding)
            for effects, finding in weighed
            if finding is not None and not self._is_for_lint(finding)
        ]

    def _is_for_lint(self, finding: Finding) -> bool:
        if finding.severity is Severity.ERROR or finding.code in self._weights.settings.severity:
            return False
        return finding.code in _FOR_LINT

    def is_worth_a_look(self, effects: Effects, finding: Finding) -> bool:
        """Return whether to read the catalog before a finding is told.

        A warning is most often about the statement alone. Whether all of a table is worked through,
        whether rows are chosen by a key, whether a release knows what changes, and whether a table
        is a partition of a hot one, only the catalog tells.
        """
        if finding.severity is Severity.ERROR or effects.changes or effects.works:
            return True
        return effects.node_name in _OF_ROWS or bool(self._weights.settings.hot_tables)

    def warn(self, place: Place, finding: Finding, statement: str) -> None:
        """Log a finding, once in a run."""
        if (place.revision, finding.message) in self._told:
            return
        self._told.add((place.revision, finding.message))
        fix = _fix([finding])
        log.warning(
            "Revision %s: %s [%s]. The statement is: %s%s",
            place.revision,
            finding.message,
            finding.code,
            statement,
            f"\nSafe instead:\n{fix}" if fix else "",
        )


Found = list[tuple[Effects, Finding]]


@dataclass
class Watch:
    """Judges the statements of one attempt of a revision, one after the other.

    Args:
        guard: of the run.
        connection: the migration's connection.
        place: the attempt.
        world: what the attempt has made of the database, as far as it is known.
        reasons: for letting statements through.
        assured: what a person answered for, each once.
    """

    guard: Guard
    connection: Connection
    place: Place
    world: World
    reasons: Reasons
    assured: list[Assured] = field(default_factory=list)
    _seen: list[Effects] = field(default_factory=list)
    _passed: set[str] = field(default_factory=set)
    _origins: dict[int, Origin] = field(default_factory=dict)
    _is_looking: bool = False
    _unconfirmed: tuple[int, Transaction | None] | None = None
    _blocked: WayBlocked | None = None

    def before(self, outgoing: Outgoing) -> None:
        """Judge a statement that is about to be sent, and see that it does not queue for long.

        Raises:
            UnsafeStatement: it is not sent.
            WayBlocked, LockNotAcquired: it would have to queue; it is not sent either.
        """
        if self._is_looking:
            # The guard's own queries.
            return
        self._raise_blocked()
        self.unwatch()
        if self._unconfirmed is not None:
            # The last statement was stopped or has failed, so it changed nothing.
            mark, self.world.transaction = self._unconfirmed
            self.world.undo(mark)
        state = transaction_state(self.connection)
        self._follow(state)
        self._unconfirmed = (len(self.world.journal), self.world.transaction)
        if is_unjudged() or shape_of(outgoing.text) in self._passed:
            return
        if state is TransactionState.FAILED and not _ends_transaction(outgoing.text):
            # The server refuses it, and says why.
            return
        can_read = outgoing.can_read and state in (TransactionState.IDLE, TransactionState.OPEN)
        origin = Origin.of_what_runs(self.place)
        effects, found = self._judged(outgoing, origin, can_read=can_read)
        is_assured = self._decide(found, origin)
        if can_read and self.place.approach is not None:
            self._approach(self.place.approach, effects, is_bounded=not is_assured)

    def after(self) -> None:
        """See that the last statement was executed."""
        if self._is_looking:
            return
        if self.place.approach is not None:
            self.place.approach.succeeded()
        self.unwatch()
        self._unconfirmed = None

    def unwatch(self) -> None:
        """See that the last statement has ended, however it has."""
        if self.place.approach is not None:
            self.place.approach.after()

    def ended(self, *, keep: bool) -> None:
        """See that the transaction ends otherwise than by a statement."""
        end(self.world, keep=keep)
        self._passed.clear()
        if self.place.approach is not None:
            self.place.approach.forget()

    def end(self) -> None:
        """Judge the revision as a whole, as long as it can be rolled back.

        Raises:
            UnsafeStatement: it is not to be committed.
            WayBlocked: a statement was not sent.
        """
        self._raise_blocked()
        state = transaction_state(self.connection)
        found = self._whole(self.world)
        if found and state in (TransactionState.IDLE, TransactionState.OPEN):
            effects = [effects for effects, _finding in found]
            exact = self._catalog(effects, self._before())
            found = self._whole(exact) if exact is not None else found
        for each in found:
            origin = self._origins[id(each[0])]
            self._decide([each], origin, can_stop=state is TransactionState.OPEN)
        self.guard.created.update(created_in(self.world))

    def _before(self) -> Before:
        return Before.of(self.world, self.guard.created)

    def _whole(self, world: World) -> Found:
        if not self.guard.judges:
            return []
        surroundings = self._surroundings(world)
        return self.guard.weighed(
            (found for rule in REVISION_RULES for found in rule(self._seen, surroundings)), world
        )

    def _follow(self, state: TransactionState) -> None:
        """Begin or end the world's transaction where the driver does so without a statement."""
        is_open = state is not TransactionState.IDLE
        if self.world.transaction is not None and not is_open:
            # Perhaps it was rolled back.
            self.ended(keep=True)
            self.world.forget()
        if self.world.transaction is None and (
            is_open or not in_driver_autocommit(self.connection)
        ):
            begin(self.world)

    def _approach(
        self, approach: Approach, effects: Sequence[Effects], *, is_bounded: bool
    ) -> None:
        if any(each.node_name == "transaction_stmt" for each in effects):
            # What is set in a transaction, or behind a savepoint, ends with it.
            approach.forget()
            return
        if self._sets_its_own_timeouts():
            return
        demand = demand_of(effects, self.world.search_path[0])
        self._is_looking = True
        try:
            # Drivers begin with the first statement, so that the state alone does not tell.
            in_transaction = not in_driver_autocommit(self.connection)
            before = approach.in_force
            approach.before(
                beside(self.connection),
                demand,
                in_transaction=in_transaction,
                is_bounded=is_bounded,
            )
            if approach.in_force != before:
                # What has passed may need others again.
                self._passed.clear()
        except WayBlocked as blocked:
            self._blocked = blocked
            raise
        finally:
            self._is_looking = False

    def _sets_its_own_timeouts(self) -> bool:
        """Return whether the revision has set a timeout itself, which then counts."""
        settings = self.world.settings
        ours = _lock_timeout_setting(self.place)
        return settings.get("lock_timeout") != ours or "statement_timeout" in settings

    def _raise_blocked(self) -> None:
        """Go on with nothing once a statement was not sent, whoever caught that."""
        if self._blocked is not None:
            raise self._blocked

    def _judged(
        self, outgoing: Outgoing, origin: Origin, *, can_read: bool
    ) -> tuple[list[Effects], Found]:
        """Return what a text does, and what is to be said of it after both looks."""
        before, mark = self._before(), len(self.world.journal)
        text = without_rows(outgoing.text)
        effects, found = self._look(text, self.world)
        if not found:
            self._remember(shape_of(outgoing.text), before, mark)
        else:
            self._passed.clear()
        if found and (with_values := outgoing.with_values()) is not None:
            # The driver writes the values into the text, where they may mean more than `$1`.
            self.world.undo(mark)
            text = without_rows(with_values)
            effects, found = self._look(text, self.world)
        if can_read and any(self.guard.is_worth_a_look(*each) for each in found):
            exact = self._catalog(effects, before)
            if exact is not None:
                effects, found = self._look(text, exact)
                found = _without_refused(effects, found)
                learn(self.world, exact)
        self._see(effects, origin)
        return effects, found

    def _look(self, text: str, world: World) -> tuple[list[Effects], Found]:
        judgements = Judge(self._surroundings(world), rules=self.guard.rules).text(text)
        found = [(each.effects, finding) for each in judgements for finding in each.findings]
        effects = [judgement.effects for judgement in judgements]
        return effects, self.guard.weighed(found, world)

    def _catalog(self, effects: Sequence[Effects], before: Before) -> World | None:
        self._is_looking = True
        try:
            return look(self.connection, effects, before)
        finally:
            self._is_looking = False

    def _surroundings(self, world: World) -> Surroundings:
        return Surroundings(world, self.place.phase, self.place.is_upgrade)

    def _see(self, effects: Sequence[Effects], origin: Origin) -> None:
        """Keep the effects for rules about a whole revision; of rows that are written one by one
        the first is enough."""
        for each in effects:
            is_known = each.node_name in _OF_ROWS and any(
                each.node_name == seen.node_name and each.locks == seen.locks for seen in self._seen
            )
            if is_known:
                continue
            self._seen.append(each)
            self._origins[id(each)] = origin

    def _remember(self, text: str, before: Before, mark: int) -> None:
        """Note that a text passes as long as nothing else happens."""
        if len(self.world.journal) != mark or self._before() != before:
            self._passed.clear()
        elif len(self._passed) < _MOST_PASSED and len(text) < LONG_TEXT:
            self._passed.add(text)

    def _decide(self, found: Found, origin: Origin, *, can_stop: bool = True) -> bool:
        """Stop, warn or let through; return whether a person answered for something."""
        left: Found = []
        let_through: dict[tuple[str, str], list[str]] = {}
        for effects, finding in found:
            reason = self.reasons.of(finding, origin)
            if reason is None:
                left.append((effects, finding))
            elif finding.severity is Severity.ERROR:
                let_through.setdefault((effects.command, reason), []).append(finding.code)
        errors = [each for each in left if each[1].severity is Severity.ERROR]
        if errors and can_stop and self.guard.stops and self.place.is_upgrade:
            self._stop(errors)
        for (command, reason), codes in let_through.items():
            assured = Assured(command, tuple(dict.fromkeys(codes)), reason)
            if assured not in self.assured:
                log.info("Assured: %s (%s): %s", command, ", ".join(assured.codes), reason)
                self.assured.append(assured)
        for effects, finding in left:
            self.guard.warn(self.place, finding, _shown(effects))
        return bool(let_through)

    def _stop(self, errors: Found) -> None:
        first, _finding = errors[0]
        findings = [finding for effects, finding in errors if effects is first]
        raise UnsafeStatement(
            revision=self.place.revision,
            statement=_shown(first),
            codes=[finding.code for finding in findings],
            problems=[finding.message for finding in findings],
            fix=_fix(findings),
            state=self.place.state(),
        )


_OF_ROWS = frozenset(
    {"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt", "copy_stmt"}
)


def _lock_timeout_setting(place: Place) -> str:
    return str(round(place.lock_timeout * 1000))


def _ends_transaction(text: str) -> bool:
    return parse(text)[0].node_name == "transaction_stmt"


def _without_refused(effects: Sequence[Effects], found: Found) -> Found:
    """Return the findings about what the server executes: it ends at the first statement that it
    refuses, without having done it, and its own error says why."""
    executed = []
    for each in effects:
        if any(error.certain for error in each.errors):
            break
        executed.append(id(each))
    return [(each, finding) for each, finding in found if id(each) in executed]


_OF_DESIGN = (schema_design.__name__, column_types.__name__)

_FOR_LINT = frozenset(
    code_of(rule)
    for rule in (*RULES, *REVISION_RULES)
    if rule is possible_error or rule.__module__ in _OF_DESIGN
)
"""Codes of advice that comes too late in a deploy, and of what the server tells in a moment."""


def _shown(effects: Effects) -> str:
    statement = " ".join(effects.sql.split())
    if len(statement) > _SHOWN_CHARACTERS:
        return f"{statement[:_SHOWN_CHARACTERS]} ..."
    return statement


def _fix(findings: Sequence[Finding]) -> str:
    """Return the safe sequences that findings know, with operations where there are some."""
    fixes = [finding.fix for finding in findings if finding.fix is not None]
    texts = dict.fromkeys(fix.operations or fix.sql for fix in fixes)
    return "\n".join(text.strip("\n") for text in texts if text)
