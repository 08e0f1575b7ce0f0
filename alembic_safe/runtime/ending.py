"""Ending who is in the way, where a rule of the user asks for it.

Never ended: an autovacuum to prevent wraparound, whose work has to be done; a prepared transaction,
which belongs to a transaction manager; a `walsender`, which is replication; a session of another
run of this package; a session of which this role may not see for how long it has been there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

from alembic_safe.assurance import unjudged
from alembic_safe.end_rules import ACTIVE, IDLE_IN_TRANSACTION, TRANSACTION, EndRule
from alembic_safe.postgres.server_errors import server_message, sqlstate
from alembic_safe.runtime.blockers import AUTOVACUUM, CLIENT, Blocker
from alembic_safe.runtime.events import BLOCKER_ENDED, BLOCKER_NOT_ENDED, facts
from alembic_safe.runtime.ledger import Ledger
from alembic_safe.runtime.sessions import in_driver_autocommit

log = logging.getLogger("alembic.safe")

_INSUFFICIENT_PRIVILEGE = "42501"


def rule_for(blocker: Blocker, rules: Sequence[EndRule]) -> EndRule | None:
    """Return the first rule by which a blocker may be ended; None where there is none."""
    return next((rule for rule in rules if _due_in(rule, blocker) <= 0.0), None)


def _due_in(rule: EndRule, blocker: Blocker) -> float:
    """Return the seconds until a rule means a blocker, if that stays as it is; infinity for
    never."""
    if rule.state == AUTOVACUUM or blocker.kind == AUTOVACUUM:
        is_meant, age = rule.state == blocker.kind, blocker.seconds
    elif blocker.kind != CLIENT or not blocker.state:
        return inf
    else:
        age = blocker.seconds if rule.state == TRANSACTION else blocker.state_seconds
        is_in_state = {
            TRANSACTION: True,
            ACTIVE: blocker.state == ACTIVE,
            # Also `idle in transaction (aborted)`.
            IDLE_IN_TRANSACTION: blocker.state.startswith(IDLE_IN_TRANSACTION),
        }[rule.state]
        names = {"application": blocker.application, "user": blocker.user}
        is_meant = is_in_state and all(
            condition.holds(names[condition.field]) for condition in rule.conditions
        )
    return rule.seconds - age if is_meant and age is not None else inf


@dataclass
class Ending:
    """Ends sessions in the way of one run; each transaction is tried once.

    Args:
        rules: of the setting `end_blockers`.
        ledger: where each end is written down.
        release: the release that runs, if one was given.
    """

    rules: Sequence[EndRule]
    ledger: Ledger
    release: str | None = None
    _tried: set[str] = field(default_factory=set, init=False)

    def rule_for(self, blocker: Blocker) -> EndRule | None:
        """Return the rule by which a blocker is to be ended; None once that was tried."""
        is_tried = _identity(blocker) in self._tried
        return None if is_tried else rule_for(blocker, self.rules)

    def due_in(self, found: Sequence[Blocker]) -> float:
        """Return the seconds until a rule means one of them; infinity for never."""
        return min(
            (
                _due_in(rule, blocker)
                for blocker in found
                if _identity(blocker) not in self._tried
                for rule in self.rules
            ),
            default=inf,
        )

    def end(self, connection: Connection, found: Sequence[Blocker], revision: str) -> None:
        """End those whom a rule names.

        An autovacuum is cancelled, as the server itself does it for whom it keeps waiting; what it
        has done so far stays, and it comes back. A session is terminated.

        Args:
            connection: the migration's, in no transaction.
            found: who was in the way a moment ago.
            revision: that is running.
        """
        for blocker in found:
            rule = self.rule_for(blocker)
            if rule is None:
                continue
            # The guard need not judge it, and could not know it.
            with unjudged():
                self._end_one(connection, blocker, rule, revision)

    def _end_one(
        self, connection: Connection, blocker: Blocker, rule: EndRule, revision: str
    ) -> None:
        told = {"revision": revision, "rule": rule.text, "blocker": blocker.facts()}
        is_alone = in_driver_autocommit(connection)
        try:
            is_ended = connection.execute(*_query(blocker, rule)).scalar_one_or_none()
        except DBAPIError as error:
            if error.connection_invalidated or sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
                raise
            if not is_alone:
                connection.rollback()
            self._tried.add(_identity(blocker))
            log.warning(
                "%s: the rule '%s' of end_blockers would end %s; the role of this run must not: "
                "%s. It is waited for",
                revision,
                rule.text,
                blocker,
                server_message(error),
                extra=facts(BLOCKER_NOT_ENDED, **told, reason=server_message(error)),
            )
            return
        if is_ended:
            self._tried.add(_identity(blocker))
            log.warning(
                "%s: ended by the rule '%s' of end_blockers: %s",
                revision,
                rule.text,
                blocker,
                extra=facts(BLOCKER_ENDED, **told),
            )
            self.ledger.note_ended(
                connection,
                revision=revision,
                release=self.release,
                function=_function(blocker),
                reason=f"{rule.text}: {blocker}",
            )
        if not is_alone:
            connection.commit()


def _identity(blocker: Blocker) -> str:
    return f"{blocker.pid} {blocker.transaction}"


def _function(blocker: Blocker) -> str:
    return "pg_cancel_backend" if blocker.kind == AUTOVACUUM else "pg_terminate_backend"


def _query(blocker: Blocker, rule: EndRule) -> tuple[TextClause, dict[str, object]]:
    """Return what ends a blocker if it is still what was seen, and gives no row if it is not."""
    same: dict[str, object] = {
        "pid": blocker.pid,
        "transaction": blocker.transaction,
        "mode": blocker.mode,
        "relation": blocker.relation,
    }
    if blocker.kind == AUTOVACUUM:
        return _CANCEL_AUTOVACUUM, same
    return _TERMINATE_SESSION, same | {
        "application": blocker.application,
        "state": "" if rule.state == TRANSACTION else blocker.state,
        "seconds": rule.seconds,
    }


# The process number may be another's by now, and its session may have gone on. The virtual
# transaction has a number that the server does not use twice, not for a later session either.
_HOLDS_IT_STILL = """
    EXISTS (SELECT FROM pg_catalog.pg_locks AS l
             WHERE l.pid = a.pid AND l.virtualtransaction = CAST(:transaction AS text)
               AND l.locktype = 'relation' AND l.granted AND l.mode = CAST(:mode AS text)
               AND l.database
                   = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
               AND CAST(CAST(l.relation AS regclass) AS text) = CAST(:relation AS text))
"""
_TERMINATE_SESSION = text(
    f"""
    SELECT pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
     WHERE a.pid = CAST(:pid AS integer) AND a.pid <> pg_backend_pid()
       AND a.backend_type = '{CLIENT}' AND a.application_name = CAST(:application AS text)
       AND CAST(:state AS text) IN (a.state, '')
       AND CASE CAST(:state AS text) WHEN '' THEN a.xact_start ELSE a.state_change END
           <= clock_timestamp() - make_interval(secs => CAST(:seconds AS double precision))
       AND {_HOLDS_IT_STILL}
    """
)
_CANCEL_AUTOVACUUM = text(
    f"""
    SELECT pg_cancel_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
     WHERE a.pid = CAST(:pid AS integer) AND a.backend_type = 'autovacuum worker'
       AND a.query LIKE 'autovacuum: %' AND a.query NOT LIKE '%(to prevent wraparound)'
       AND {_HOLDS_IT_STILL}
    """
)
