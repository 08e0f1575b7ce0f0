"""The state of a transaction as the driver knows it, which is more than SQLAlchemy knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from sqlalchemy import Connection, event


class TransactionState(Enum):
    """In what state the server's side of a connection is, as the driver knows it."""

    IDLE = "idle"
    OPEN = "open"
    FAILED = "failed"
    """Everything is refused until it is rolled back."""
    BUSY = "busy"
    """A COPY or a pipeline is going on."""


_OF_LIBPQ = (
    TransactionState.IDLE,
    TransactionState.BUSY,
    TransactionState.OPEN,
    TransactionState.FAILED,
    TransactionState.BUSY,
)
"""By the number of PGTransactionStatusType (PostgreSQL documentation, 32.2 libpq)."""

_OF_PROTOCOL = {b"T": TransactionState.OPEN, b"E": TransactionState.FAILED}
"""By the byte of ReadyForQuery (PostgreSQL documentation, 54.7 Message Formats), which pg8000
keeps."""


def transaction_state(connection: Connection) -> TransactionState:
    """Return the state of a connection's transaction; nothing is sent."""
    dbapi_connection = connection.connection.dbapi_connection
    driver: Any = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    if hasattr(driver, "pgconn"):
        if driver.pgconn.pipeline_status:
            return TransactionState.BUSY
        return _OF_LIBPQ[int(driver.pgconn.transaction_status)]
    if hasattr(driver, "get_transaction_status"):
        return _OF_LIBPQ[int(driver.get_transaction_status())]
    if hasattr(driver, "_transaction_status"):
        return _OF_PROTOCOL.get(driver._transaction_status, TransactionState.IDLE)
    is_open = driver.is_in_transaction() if hasattr(driver, "is_in_transaction") else True
    return TransactionState.OPEN if is_open else TransactionState.IDLE


@contextmanager
def none_left_open(connection: Connection) -> Iterator[None]:
    """End what the driver has begun and SQLAlchemy has not, before the isolation level changes.

    To change it SQLAlchemy asks for the present one, which with pg8000 begins a transaction that
    is still open in the autocommit block behind it.

    Args:
        connection: the migration's connection.
    """

    def on_options(changed: Connection, options: dict[str, Any]) -> None:
        is_ours = "isolation_level" in options and not changed.in_transaction()
        if is_ours and transaction_state(changed) is TransactionState.OPEN:
            changed.connection.rollback()

    event.listen(connection, "set_connection_execution_options", on_options)
    try:
        yield
    finally:
        event.remove(connection, "set_connection_execution_options", on_options)
