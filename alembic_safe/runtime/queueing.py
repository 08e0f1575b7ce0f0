"""Look before queueing: a transaction that will not end soon is waited for outside of the queue.

Whoever waits in the queue of a lock makes everybody wait who comes after. Behind a transaction
that is minutes old, a prepared one or a vacuum that PostgreSQL will not cancel, no wait that is
short enough to be harmless gets the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy import Connection

from alembic_safe.errors import LockNotAcquired
from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime.blockers import PREPARED, WRAPAROUND, Blocker, blockers
from alembic_safe.runtime.locking import FIRST_LOCK_TIMEOUT, Patience
from alembic_safe.runtime.sessions import in_driver_autocommit

log = logging.getLogger("alembic.safe")

Wanted = Mapping[QualifiedName, LockMode]
"""The mode that is needed on each relation."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_MESSAGE_SECONDS = 10.0


def wanted_by(sql: str, mode: LockMode, table: QualifiedName | None = None) -> Wanted:
    """Return the locks of a statement: one mode on all that it names, for want of better.

    Args:
        sql: the statement.
        mode: the strongest that it takes.
        table: a relation that it locks, if one is known.
    """
    from alembic_safe.postgres.expressions import relations_of

    found = relations_of(sql)
    if table is not None and table not in found:
        found = (table, *found)
    return dict.fromkeys(found, mode)


class WayBlocked(Exception):
    """A statement of a transaction would have to queue behind one that will not end soon.

    The statement was not sent, and the whole transaction is repeated once the way is free. Should
    the revision catch it, the next statement raises it again. (It is no BaseException because
    SQLAlchemy then gives the connection up.)

    Args:
        wanted: what the statement locks.
        found: who is in the way.
    """

    def __init__(self, wanted: Wanted, found: Sequence[Blocker]) -> None:
        super().__init__("; ".join(str(blocker) for blocker in found))
        self.wanted = wanted
        self.found = found


def way_blocked(error: BaseException) -> WayBlocked | None:
    """Return what an error of a revision began with, where that was a blocked way.

    Ctrl-C is no such error, whenever it came.
    """
    found: BaseException | None = error if isinstance(error, Exception) else None
    while found is not None and not isinstance(found, WayBlocked):
        found = found.__cause__ or found.__context__
    return found


def not_ending_soon(
    found: Sequence[Blocker], seen_for: Mapping[str, float], old: float
) -> tuple[Blocker, ...]:
    """Return those who are in the way for longer than anybody should queue.

    Args:
        found: who holds what conflicts.
        seen_for: for how many seconds each transaction has been seen; for those whose age this
            role may not see.
        old: seconds from which on a transaction is not expected to end soon.
    """

    def stays(blocker: Blocker) -> bool:
        if blocker.kind in (PREPARED, WRAPAROUND):
            return True
        age = blocker.seconds if blocker.seconds is not None else 0.0
        return max(age, seen_for.get(blocker.transaction, 0.0)) >= old

    return tuple(filter(stays, found))


@dataclass
class Lookout:
    """Looks whether the way to a lock is free, and waits until it is.

    Args:
        patience: the time that the run has for taking locks; `old_transaction` of its settings is
            read.
        revision: the revision that is running, for messages.
    """

    patience: Patience
    revision: str

    def is_free(self, connection: Connection, wanted: Wanted) -> bool:
        """Return whether nobody is in the way but transactions that have just begun.

        Args:
            connection: it is in no transaction.
            wanted: what is to be locked.
        """
        found = blockers(connection, wanted)
        self._end_look(connection)
        return not any(
            blocker.seconds is None or blocker.seconds >= FIRST_LOCK_TIMEOUT for blocker in found
        )

    def in_the_way(self, connection: Connection, wanted: Wanted) -> tuple[Blocker, ...]:
        """Return who is in the way of these locks and will not end soon."""
        now = self.patience.clock()
        found = blockers(connection, wanted)
        first_seen = self.patience.first_seen
        for blocker in found:
            first_seen.setdefault(blocker.transaction, now)
        seen_for = {name: now - since for name, since in first_seen.items()}
        return not_ending_soon(found, seen_for, self.patience.settings.old_transaction)

    def wait_until_free(self, connection: Connection, wanted: Wanted, state: str) -> None:
        """Return as soon as nobody is in the way who will not end soon.

        Args:
            connection: it is in no transaction; each look is one of its own, which takes no lock
                that anybody waits for.
            wanted: what is to be locked.
            state: a sentence about what is committed and what is not, for the error.

        Raises:
            LockNotAcquired: the deadline passed.
        """
        began = told = self.patience.clock()
        pause = _SHORTEST_PAUSE
        names = ", ".join(str(name) for name in wanted)
        is_told = False
        while found := self._look(connection, wanted):
            who = "; ".join(str(blocker) for blocker in found)
            now = self.patience.clock()
            if not is_told or now - told >= _MESSAGE_SECONDS:
                is_told, told = True, now
                log.warning(
                    "%s: not queueing for the lock on %s, so that nobody waits behind; waiting for"
                    " the end of %s",
                    self.revision,
                    names,
                    who,
                )
            if not self.patience.wait_outside(pause):
                raise LockNotAcquired(
                    table=names,
                    revision=self.revision,
                    waited=self.patience.spent,
                    blockers=[str(blocker) for blocker in found],
                    state=state,
                )
            pause = min(pause * 2, _LONGEST_PAUSE)
        if is_told:
            waited = self.patience.clock() - began
            log.info("%s: the way to %s is free after %.1f s", self.revision, names, waited)

    def _look(self, connection: Connection, wanted: Wanted) -> tuple[Blocker, ...]:
        found = self.in_the_way(connection, wanted)
        self._end_look(connection)
        return found

    def _end_look(self, connection: Connection) -> None:
        # Elsewhere SQLAlchemy has begun a transaction, and nothing waits in one.
        if not in_driver_autocommit(connection):
            connection.rollback()


@dataclass(frozen=True)
class Approach:
    """How the statements of one attempt of a revision come to their locks.

    Args:
        lookout: of the attempt.
        can_repeat: tells whether the whole transaction can be rolled back and repeated.
    """

    lookout: Lookout
    can_repeat: Callable[[], bool]

    def before(self, connection: Connection, wanted: Wanted, *, in_transaction: bool) -> None:
        """Look before a text is sent, and wait where it would queue behind one who stays.

        Args:
            connection: the migration's connection.
            wanted: what the text locks.
            in_transaction: whether a transaction is open, which must not wait with what it holds.

        Raises:
            WayBlocked: the transaction has to be repeated.
            LockNotAcquired: the deadline passed.
        """
        if has_looked() or (in_transaction and not self.can_repeat()):
            return
        found = self.lookout.in_the_way(connection, wanted)
        if found and in_transaction:
            raise WayBlocked(wanted, found)
        if found:
            self.lookout.wait_until_free(connection, wanted, "What was committed before stays.")


def locks_to_queue_for(effects: Sequence[Effects], default_schema: str) -> Wanted:
    """Return the locks of a text that make reads or writes wait; none where its transaction makes
    some wait already, so that it has to go on.

    Args:
        effects: of the text's statements.
        default_schema: into which names without a schema were put; the server looks for them in
            the whole search path.
    """
    wanted: dict[QualifiedName, LockMode] = {}
    for each in effects:
        if any(mode.blocks_reads_or_writes for mode in each.held.values()):
            break
        for name, mode in each.locks.items():
            if mode.blocks_reads_or_writes:
                written = QualifiedName(name.name) if name.schema == default_schema else name
                wanted[written] = max(mode, wanted.get(written, LockMode.NONE))
    return wanted


_LOOKED: ContextVar[bool] = ContextVar("alembic_safe_looked", default=False)


@contextmanager
def looked() -> Iterator[None]:
    """Say that somebody has looked already for what is executed inside."""
    token = _LOOKED.set(True)
    try:
        yield
    finally:
        _LOOKED.reset(token)


def has_looked() -> bool:
    """Return whether somebody has looked already."""
    return _LOOKED.get()
