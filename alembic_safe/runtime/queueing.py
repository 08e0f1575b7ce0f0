"""How each text of a revision comes to its locks: what it locks, who is in the way, which timeouts
it runs with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sqlalchemy import Connection

from alembic_safe.postgres.effects import Effects
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Wait
from alembic_safe.runtime.blockers import Blocker
from alembic_safe.runtime.lookout import NOBODY, Chance, Lookout, Wanted
from alembic_safe.runtime.sessions import SessionSettings
from alembic_safe.runtime.timeouts import Timeouts, set_timeouts, timeouts_for


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


@dataclass(frozen=True)
class Demand:
    """What a text asks for, as far as its way to the server is concerned.

    Args:
        text: of its statements, without what is around them.
        wait: how long it may wait for its locks.
        blocks: whether it makes reads or writes wait.
        queue_for: the locks to look at before it queues; none where its transaction makes some
            wait already, so that it has to go on.
    """

    text: str
    wait: Wait
    blocks: bool
    queue_for: Wanted


def demand_of(effects: Sequence[Effects], default_schema: str) -> Demand:
    """Return what a text asks for.

    Args:
        effects: of the text's statements.
        default_schema: into which names without a schema were put; the server looks for them in
            the whole search path.
    """
    wanted: dict[QualifiedName, LockMode] = {}
    strongest, is_held = LockMode.NONE, False
    for each in effects:
        is_held = is_held or any(mode.blocks_reads_or_writes for mode in each.held.values())
        for name, mode in each.locks.items():
            strongest = max(strongest, mode)
            if mode.blocks_reads_or_writes and not is_held:
                written = QualifiedName(name.name) if name.schema == default_schema else name
                wanted[written] = max(mode, wanted.get(written, LockMode.NONE))
    blocks = strongest.blocks_reads_or_writes
    waits_alone = strongest is LockMode.SHARE_UPDATE_EXCLUSIVE and not is_held
    text = "; ".join(each.sql for each in effects)
    return Demand(text, Wait.UNBOUNDED if waits_alone else Wait.SHORT, blocks, wanted)


@dataclass
class Approach:
    """How the statements of one attempt of a revision come to their locks.

    Args:
        lookout: of the attempt.
        session: the session's settings before the run.
        can_repeat: tells whether the whole transaction can be rolled back and repeated.
        in_force: the timeouts in force; None where that is not known.
    """

    lookout: Lookout
    session: SessionSettings
    can_repeat: Callable[[], bool]
    in_force: Timeouts | None = field(default=None)
    _queued_for: Wanted = field(default_factory=dict, init=False)

    def before(
        self, connection: Connection, demand: Demand, *, in_transaction: bool, is_bounded: bool
    ) -> None:
        """Prepare for a text that is about to be sent: look, wait where it would queue behind one
        who stays, and set its timeouts.

        Args:
            connection: the migration's connection.
            demand: what the text asks for.
            in_transaction: whether a transaction is open, which must not wait with what it holds.
            is_bounded: False where a person answered for how long it blocks.

        Raises:
            WayBlocked: the transaction has to be repeated.
            LockNotAcquired: the deadline passed.
        """
        if has_looked():
            return
        sight = NOBODY
        if demand.queue_for and (self.can_repeat() or not in_transaction):
            sight = self.lookout.look(connection, demand.queue_for)
            if self.lookout.is_blocked(sight):
                if in_transaction:
                    raise WayBlocked(demand.queue_for, sight.staying or sight.blockers)
                self.lookout.wait_until_free(connection, demand.queue_for, _COMMITTED_STAYS)
        settings = self.lookout.patience.settings
        chance = self.lookout.chance(sight, demand.text)
        timeouts = timeouts_for(
            demand.wait,
            chance.lock_timeout,
            settings.blocking_timeout if demand.blocks and is_bounded else None,
            settings.concurrent_lock_timeout,
        )
        if timeouts != self.in_force:
            base = self.session.statement_timeout
            set_timeouts(connection, timeouts, is_local=in_transaction, base=base)
            self.in_force = timeouts
        self._queued_for = demand.queue_for
        self.watch(demand.wait, chance)

    def watch(self, wait: Wait, chance: Chance) -> None:
        """Have the next statement watched, where that is of use."""
        supervision = self.lookout.patience.supervision
        observer = self.lookout.observer(wait, chance)
        if supervision is not None:
            supervision.begin(observer)

    def succeeded(self) -> None:
        """Note that the statement was executed, so that it has got its locks."""
        if self._queued_for:
            self.after()
            self.lookout.tell_acquired(self._queued_for)
            self._queued_for = {}

    def after(self) -> None:
        """Note that the statement has ended, however it has."""
        supervision = self.lookout.patience.supervision
        if supervision is not None and not has_looked():
            supervision.end()

    def forget(self) -> None:
        """Note that the timeouts in force may be others: a transaction, or a part of one, ended."""
        self.in_force = None


_COMMITTED_STAYS = "What was committed before stays."

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
