"""Look before queueing: a transaction that will not end soon is waited for outside of the queue.

Whoever waits in the queue of a lock makes everybody wait who comes after. Behind a transaction
that is minutes old, a prepared one or a vacuum that PostgreSQL will not cancel, no wait that is
short enough to be harmless gets the lock.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from alembic_safe.errors import LockNotAcquired
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Wait
from alembic_safe.runtime.blockers import AUTOVACUUM, PREPARED, WRAPAROUND, Blocker, blockers
from alembic_safe.runtime.events import (
    GIVEN_UP,
    LOCK_ACQUIRED,
    TRYING,
    WAITING_OUTSIDE,
    facts,
)
from alembic_safe.runtime.locking import LOOK_SECONDS, Patience
from alembic_safe.runtime.progress import Progress
from alembic_safe.runtime.sessions import in_driver_autocommit
from alembic_safe.runtime.supervision import Allowance, Observer, described
from alembic_safe.runtime.waiters import Damage

log = logging.getLogger("alembic.safe")

Wanted = Mapping[QualifiedName, LockMode]
"""The mode that is needed on each relation."""

_LONGEST_PAUSE = 1.0
_LONGEST_SUPERVISED = 10.0
_MESSAGE_SECONDS = 10.0
_SHOWN_SECONDS = 0.2
"""A shorter wait is not worth a line."""


@dataclass(frozen=True)
class Sight:
    """What one look at the way to some locks has found.

    Args:
        blockers: who holds what conflicts.
        staying: those among them behind whom nobody should queue, because they will not end soon.
        oldest: for how many seconds the oldest has been in the way; 0 where nobody is.
    """

    blockers: tuple[Blocker, ...] = ()
    staying: tuple[Blocker, ...] = ()
    oldest: float = 0.0


NOBODY = Sight()


def sight_of(found: Sequence[Blocker], seen_for: Mapping[str, float], old: float) -> Sight:
    """Return what a look means.

    Args:
        found: who holds what conflicts.
        seen_for: for how many seconds each transaction has been seen; for those whose age this
            role may not see.
        old: seconds from which on a transaction is not expected to end soon.
    """
    ages = [max(each.seconds or 0.0, seen_for.get(each.transaction, 0.0)) for each in found]
    staying = tuple(
        blocker
        for blocker, age in zip(found, ages, strict=True)
        if age >= old or blocker.kind in (PREPARED, WRAPAROUND)
    )
    return Sight(tuple(found), staying, max(ages, default=0.0))


@dataclass(frozen=True)
class Chance:
    """One attempt at a lock.

    Args:
        lock_timeout: seconds that it may wait at most.
        allowance: what the wait may cost others; None where nobody can tell.
    """

    lock_timeout: float
    allowance: Allowance | None = None


@dataclass
class Lookout:
    """Looks whether the way to a lock is free, and waits until it is.

    Args:
        patience: the time that the run has for taking locks; `old_transaction` and `lock_timeout`
            of its settings are read.
        revision: the revision that is running, for messages.
        attempt: the number of its attempt, from 1.
    """

    patience: Patience
    revision: str
    attempt: int = 1

    def look(self, connection: Connection, wanted: Wanted) -> Sight:
        """Return who is in the way of these locks; the look takes none that anybody waits for."""
        if self.patience.replicas is not None:
            self.patience.replicas.before(wanted, self.revision)
        now = self.patience.clock()
        with_queries = self.patience.settings.show_queries
        found = blockers(connection, wanted, with_queries=with_queries)
        first_seen = self.patience.first_seen
        for blocker in found:
            first_seen.setdefault(blocker.transaction, now)
        seen_for = {name: now - since for name, since in first_seen.items()}
        return sight_of(found, seen_for, self.patience.settings.old_transaction)

    def is_blocked(self, sight: Sight) -> bool:
        """Return whether somebody is in the way behind whom not to queue now.

        Who has been there for longer than a statement may wait is not expected to end within it:
        behind those an attempt is made from time to time. Whom a rule ends is ended first.
        """
        ending = self.patience.ending
        if sight.staying or (ending and any(map(ending.rule_for, sight.blockers))):
            return True
        if sight.oldest < self.patience.settings.lock_timeout:
            return False
        return not self.patience.is_time_to_try(self.attempt, sight.oldest)

    def is_free(self, connection: Connection, wanted: Wanted) -> bool:
        """Return whether those who are in the way, if any, are expected to end in a moment.

        Args:
            connection: it is in no transaction.
            wanted: what is to be locked.
        """
        sight = self._look_aside(connection, wanted)
        return not sight.staying and sight.oldest < self.patience.settings.lock_timeout

    def ladder(self, sight: Sight = NOBODY, statement: str = "") -> Chance:
        """Return how long an attempt may wait where nobody watches it."""
        return Chance(self.patience.lock_timeout(self.attempt, sight.oldest, statement))

    def chance(self, sight: Sight, statement: str) -> Chance:
        """Return how long an attempt may wait for its lock, and who watches it meanwhile.

        A wait that is supervised may be long as long as nobody waits behind. Mostly the lock is
        free, and nobody has to watch.

        Args:
            sight: what was found in the way.
            statement: that wants the lock.
        """
        settings, supervision = self.patience.settings, self.patience.supervision
        ladder = self.ladder(sight, statement)
        # An autovacuum is cancelled by who waits for it for as long as deadlock_timeout.
        is_to_last = any(blocker.kind == AUTOVACUUM for blocker in sight.blockers)
        is_likely_free = self.attempt == 1 and not sight.blockers
        if is_to_last or is_likely_free or self.patience.hook is not None:
            return ladder
        if supervision is None or not supervision.is_ready():
            return ladder
        longest = min(_LONGEST_SUPERVISED, max(self.patience.left, ladder.lock_timeout))
        if self.patience.ending is not None:
            # To end them we have to be outside.
            due_in = self.patience.ending.due_in(sight.blockers)
            longest = max(ladder.lock_timeout, min(longest, due_in))
        tell = functools.partial(self._show, sight)
        return Chance(longest, Allowance(ladder.lock_timeout, settings.lock_budget, tell))

    def _show(self, sight: Sight, damage: Damage) -> None:
        """Show a wait in the queue, unless it is over in a moment."""
        line = self.patience.line
        if damage.waited is None:
            line.hide()
        elif damage.waited >= _SHOWN_SECONDS:
            how = f"in the queue for its lock, {damage.sessions} behind"
            line.show(self.revision, how, sight.blockers)

    def observer(self, wait: Wait, chance: Chance) -> Observer | None:
        """Return who watches a statement; None where nobody has to."""
        return Progress(self.revision) if wait is Wait.UNBOUNDED else chance.allowance

    def wait_until_free(self, connection: Connection, wanted: Wanted, state: str) -> None:
        """Return as soon as an attempt makes sense.

        Args:
            connection: it is in no transaction; each look is one of its own.
            wanted: what is to be locked.
            state: a sentence about what is committed and what is not, for the error.

        Raises:
            LockNotAcquired: the deadline passed while somebody was in the way who stays.
        """
        news = _News(self.revision, [str(name) for name in wanted], self.patience.clock())
        try:
            self._wait(connection, wanted, state, news)
        finally:
            self.patience.line.hide()

    def _wait(self, connection: Connection, wanted: Wanted, state: str, news: _News) -> None:
        pause = LOOK_SECONDS
        while self.is_blocked(sight := self._look_aside(connection, wanted)):
            news.tell(sight, self.patience.clock())
            where = f"outside of the queue for {news.names}"
            self.patience.line.show(self.revision, where, sight.staying or sight.blockers)
            if not self.patience.wait_outside(pause):
                if not sight.staying:
                    # One last attempt.
                    return
                raise self.given_up(news.tables, sight.staying, state)
            pause = min(pause * 2, _LONGEST_PAUSE) if sight.staying else LOOK_SECONDS
        news.tell_end(self.patience.clock(), is_free=not sight.blockers)

    def given_up(
        self, tables: Sequence[str], found: Sequence[Blocker], state: str
    ) -> LockNotAcquired:
        """Say that the deadline has passed, and return the error.

        Args:
            tables: what was to be locked.
            found: who is in the way.
            state: a sentence about what is committed and what is not.
        """
        spent, names = self.patience.spent, ", ".join(tables) or "an object"
        log.warning(
            "%s: given up the lock on %s after %.1f s",
            self.revision,
            names,
            spent,
            extra=facts(
                GIVEN_UP,
                revision=self.revision,
                attempt=self.attempt,
                tables=list(tables),
                seconds=spent,
                blockers=[blocker.facts() for blocker in found],
            ),
        )
        return LockNotAcquired(
            table=names,
            revision=self.revision,
            waited=spent,
            blockers=[str(blocker) for blocker in found],
            state=state,
        )

    def tell_acquired(self, wanted: Wanted) -> None:
        """Note that locks were taken, and say so where they were waited for."""
        waited = self.patience.waited_for_lock()
        if waited < _SHOWN_SECONDS:
            return
        damage = self.patience.damage
        cost = f"; {described(damage)}" if damage is not None and damage.sessions else ""
        log.info(
            "%s: got the lock on %s after %.1f s, in attempt %d%s",
            self.revision,
            ", ".join(str(name) for name in wanted) or "an object",
            waited,
            self.attempt,
            cost,
            extra=facts(
                LOCK_ACQUIRED,
                revision=self.revision,
                attempt=self.attempt,
                tables=[str(name) for name in wanted],
                seconds=waited,
                behind=damage.facts() if damage is not None else None,
            ),
        )

    def _look_aside(self, connection: Connection, wanted: Wanted) -> Sight:
        """Look in no transaction of ours, where whom a rule names may be ended."""
        sight = self.look(connection, wanted)
        # Elsewhere SQLAlchemy has begun a transaction, and nothing waits in one.
        if not in_driver_autocommit(connection):
            connection.rollback()
        if self.patience.ending is not None:
            self.patience.ending.end(connection, sight.blockers, self.revision)
        return sight


@dataclass
class _News:
    """Tells who is waited for: at once, and then from time to time.

    Args:
        revision: the revision that is running.
        tables: what is to be locked.
        began: the clock when the wait began.
    """

    revision: str
    tables: Sequence[str]
    began: float
    told: float | None = None

    @property
    def names(self) -> str:
        """What is to be locked, for a message."""
        return ", ".join(self.tables)

    def tell(self, sight: Sight, now: float) -> None:
        if self.told is not None and now - self.told < _MESSAGE_SECONDS:
            return
        self.told = now
        found = sight.staying or sight.blockers
        log.log(
            logging.WARNING if sight.staying else logging.INFO,
            "%s: not queueing for the lock on %s, so that nobody waits behind; waiting for the end"
            " of %s",
            self.revision,
            self.names,
            "; ".join(str(blocker) for blocker in found),
            extra=facts(
                WAITING_OUTSIDE,
                revision=self.revision,
                tables=list(self.tables),
                seconds=now - self.began,
                blockers=[blocker.facts() for blocker in found],
            ),
        )

    def tell_end(self, now: float, *, is_free: bool) -> None:
        if self.told is None:
            return
        waited = now - self.began
        log.info(
            "%s: the way to %s is free after %.1f s"
            if is_free
            else "%s: trying for %s after %.1f s",
            self.revision,
            self.names,
            waited,
            extra=facts(
                TRYING,
                revision=self.revision,
                tables=list(self.tables),
                seconds=waited,
                is_free=is_free,
            ),
        )
