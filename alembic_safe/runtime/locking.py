"""Waiting for locks without an end that hurts: how long, and how often."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from alembic_safe.postgres.server_errors import server_message, sqlstate
from alembic_safe.runtime.ending import Ending
from alembic_safe.runtime.retry_hook import RetryHook
from alembic_safe.runtime.supervision import Supervision, described
from alembic_safe.runtime.wait_line import WaitLine
from alembic_safe.runtime.waiters import Damage
from alembic_safe.settings import Settings

if TYPE_CHECKING:
    from alembic_safe.runtime.replicas import ReplicaNotice

LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
RETRIED = frozenset({LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED})
"""PostgreSQL documentation, Appendix A. Error Codes."""

_MOST_DOUBLINGS = 64
"""Beyond every cap that makes sense, and before floating point numbers end."""


_FIRST_LOCK_TIMEOUT = 0.05
_ATTEMPTS_ALIKE = 3
_SHORTEST_SLEEP = 0.001
_TIMES_ITS_AGE = 4.0
LOOK_SECONDS = 0.05
"""How often to look whether the way to a lock is free, while it may be any moment."""


@dataclass
class Patience:
    """The time that one run may spend on waiting for locks, and the pauses between attempts.

    Who has been in a transaction for a while is expected to stay about as long again: there is
    nothing else to know about it.

    Args:
        settings: `lock_timeout`, `lock_deadline`, `retry_base` and `retry_cap` are read.
        sleep: waits for seconds.
        uniform: a random number between two bounds.
        clock: seconds since any fixed moment.
        supervision: watches what a wait costs the others; None where nobody does.
        hook: the user's own timeouts and pauses, in place of those of the settings.
        ending: ends those who are in the way, by rules of the user; None where there are none.
        line: shows on a terminal what is waited for.
        replicas: says who replays the locks; None where nobody has to.
    """

    settings: Settings
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    clock: Callable[[], float] = time.monotonic
    supervision: Supervision | None = None
    hook: RetryHook | None = None
    ending: Ending | None = None
    line: WaitLine = field(default_factory=WaitLine)
    replicas: ReplicaNotice | None = None
    spent: float = 0.0
    first_seen: dict[str, float] = field(default_factory=dict)
    """For each transaction that was in the way the clock when it was first seen, in any attempt."""
    _try_at: float | None = None
    _delay: float | None = None
    _told: float = 0.0

    def is_busy(self, error: DBAPIError) -> bool:
        """Return whether an error says that a lock was not to be had, so that a later attempt may
        get it."""
        if error.connection_invalidated:
            return False
        is_ours = self.supervision is not None and self.supervision.has_cancelled(error)
        return is_ours or sqlstate(error) in RETRIED

    def reason(self, error: DBAPIError) -> str:
        """Return why an attempt has failed, for a message, and who waited behind."""
        if self.supervision is not None and self.supervision.has_cancelled(error):
            return self.supervision.reason or ""
        damage = self.damage
        behind = f"; {described(damage)}" if damage is not None and damage.sessions else ""
        return f"{server_message(error)}{behind}"

    @property
    def damage(self) -> Damage | None:
        """What the wait of the last statement cost others; None where nobody looked."""
        return self.supervision.damage if self.supervision is not None else None

    def waited_for_lock(self) -> float:
        """Return the seconds that the lock was waited for that has just been taken."""
        damage = self.damage
        in_queue = damage.waited if damage is not None else None
        waited, self._told = self.spent - self._told, self.spent
        return waited + (in_queue or 0.0)

    @property
    def left(self) -> float:
        """The seconds that the deadline leaves."""
        return max(0.0, self.settings.lock_deadline - self.spent)

    def lock_timeout(self, attempt: int, oldest: float = 0.0, statement: str = "") -> float:
        """Return how long an attempt may wait for its lock, in seconds.

        Most attempts are short: mostly the lock is free, and where it is not, all queries that
        come behind wait as long, while a longer wait does not get it much sooner. Above all, two
        transactions that lock two tables in opposite order end their deadlock by it. Only where
        all who are in the way are expected to end within the setting it is that long at once.

        Args:
            attempt: from 1.
            oldest: for how many seconds the oldest transaction in the way has been in the way.
            statement: that wants the lock; empty where there are others to come.
        """
        if self.hook is not None and statement:
            timeout, self._delay = self.hook(attempt, statement)
            return timeout
        longest = self.settings.lock_timeout
        doubled = 2.0 ** min((attempt - 1) // _ATTEMPTS_ALIKE, _MOST_DOUBLINGS)
        ladder = _FIRST_LOCK_TIMEOUT * doubled
        return min(longest, max(ladder, 2 * oldest) if oldest < longest else ladder)

    def is_time_to_try(self, attempt: int, oldest: float) -> bool:
        """Return whether transactions that are in the way have been waited for outside of the
        queue for so long that an attempt is made nevertheless.

        Args:
            attempt: from 1.
            oldest: for how many seconds the oldest of them has been in the way.
        """
        if self._try_at is None:
            cap = self.settings.retry_cap
            bound = max(self._bound(attempt), min(cap, _TIMES_ITS_AGE * oldest))
            self._try_at = self.clock() + min(self.uniform(bound / 2, bound), self.left / 2)
        return self.clock() >= self._try_at

    def start_over(self) -> None:
        """Note that a lock was taken, or an attempt has failed: the next waits anew."""
        self._try_at = None

    def pause(self, attempt: int, since: float, is_free: Callable[[], bool] | None = None) -> bool:
        """Wait before another attempt; the caller holds no lock and no transaction.

        The pause is drawn from zero to an upper bound that doubles ("full jitter"), so that
        several waiters do not come back together; or the user has said how long it is.

        Args:
            attempt: how many attempts have failed, from 1.
            since: the clock when the failed attempt began.
            is_free: tells whether those who were in the way are gone, which ends the pause.

        Returns:
            False, without waiting, when the deadline leaves no time for another attempt.
        """
        self.start_over()
        delay, self._delay = self._delay, None
        if delay is None:
            delay = self.uniform(0.0, self._bound(attempt))
        self.spent += self.clock() - since
        if self.spent + delay >= self.settings.lock_deadline:
            return False
        began = self.clock()
        if is_free is None:
            self.sleep(delay)
        else:
            self._look_until(began + delay, is_free)
        self.spent += self.clock() - began
        return True

    def _bound(self, attempt: int) -> float:
        doubled = 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return min(self.settings.retry_cap, self.settings.retry_base * doubled)

    def _look_until(self, end: float, is_free: Callable[[], bool]) -> None:
        while (left := end - self.clock()) > _SHORTEST_SLEEP:
            self.sleep(min(left, LOOK_SECONDS))
            if is_free():
                return

    def wait_outside(self, seconds: float) -> bool:
        """Wait before another look at a lock; the caller is in no queue and no transaction.

        Returns:
            False, without waiting, when the deadline leaves no time for it.
        """
        if self.spent + seconds >= self.settings.lock_deadline:
            self._try_at = self.clock()
            return False
        self.sleep(seconds)
        self.spent += seconds
        return True
