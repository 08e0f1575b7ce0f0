"""Leftovers: INVALID indexes, dropped where they are ours, and reported where they are not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import SafetyError
from alembic_safe.postgres.leftovers import InvalidIndex, Leftovers, remedy
from alembic_safe.runtime.failures import is_of_the_data
from alembic_safe.runtime.sessions import query_rows

if TYPE_CHECKING:
    from alembic_safe.runtime.execution import Executor

log = logging.getLogger("alembic.safe")

_POLL_SECONDS = 0.2
_MESSAGE_SECONDS = 30.0


def clear_leftovers(executor: Executor, connection: Connection, leftovers: Leftovers) -> None:
    """Drop what earlier attempts left, and tell of other INVALID indexes of the table.

    An index that a session is building is INVALID too, until that has ended. It may be our own
    earlier attempt: a server process goes on with a build after its client was killed.

    Args:
        executor: runs the drops.
        connection: in autocommit mode.
        leftovers: what is to go.
    """
    if not _invalid(connection, leftovers):
        return
    _wait_for_builds(executor, connection, leftovers)
    for index in _invalid(connection, leftovers):
        if leftovers.include(index):
            log.warning(
                "%s: index %s on %s was left INVALID (%s), and is dropped. It was: %s",
                executor.revision,
                index.name,
                leftovers.table,
                index.costs,
                index.definition,
            )
            executor.run_alone(connection, leftovers.drop(index.name))
        else:
            log.warning(
                "%s: index %s on %s is INVALID: %s. This revision has nothing to do with it, so it"
                " stays. %s",
                executor.revision,
                index.name,
                leftovers.table,
                index.costs,
                remedy(leftovers.table, index),
            )


def tidy_up(
    executor: Executor, connection: Connection, leftovers: Leftovers, error: DBAPIError
) -> None:
    """Drop what an attempt left that failed because of the data; tell what another failure left.

    Whatever goes wrong here is only told: the failure is what the user has to see.

    Args:
        executor: runs the drop.
        connection: in autocommit mode, and alive.
        leftovers: what the statement leaves.
        error: how it failed.
    """
    try:
        if is_of_the_data(error) and leftovers.of_build:
            executor.run_alone(connection, leftovers.drop(leftovers.index_name))
            return
        left = [index for index in _invalid(connection, leftovers) if leftovers.include(index)]
    except (SafetyError, DBAPIError) as failure:
        log.warning(
            "index %s may stay behind INVALID; then writes maintain it, and if it is unique they"
            " are refused a duplicate, until the next attempt drops it: %s",
            leftovers.index_name,
            failure,
        )
        return
    for index in left:
        log.warning(
            "%s: index %s on %s is left INVALID: %s. The next attempt drops it.",
            executor.revision,
            index.name,
            leftovers.table,
            index.costs,
        )


def _invalid(connection: Connection, leftovers: Leftovers) -> list[InvalidIndex]:
    return [InvalidIndex(*row) for row in query_rows(connection, leftovers.query)]


def _wait_for_builds(executor: Executor, connection: Connection, leftovers: Leftovers) -> None:
    """Return when no other session builds an index of the table. However long that takes, it holds
    nobody up: the statement itself would wait for them in the queue."""
    patience = executor.patience
    told: float | None = None
    while builders := query_rows(connection, leftovers.builds_query):
        if told is None or patience.clock() - told >= _MESSAGE_SECONDS:
            told = patience.clock()
            log.warning(
                "%s: waiting for the index build on %s that %s runs; if nobody wants it any more,"
                " end it with SELECT pg_cancel_backend(%s);",
                executor.revision,
                leftovers.table,
                "; ".join(
                    f"pid {pid} ({application or 'no application name'}, user {user})"
                    for pid, application, user in builders
                ),
                builders[0][0],
            )
        patience.sleep(_POLL_SECONDS)
