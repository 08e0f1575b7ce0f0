"""The ledger: what was applied, when, by which release, in how many attempts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.runtime.gate import Applied
from alembic_safe.runtime.sessions import execute_sql, query_scalar

LEDGER_TABLE = "alembic_safe_ledger"


@dataclass(frozen=True)
class Record:
    """What the ledger tells the gate."""

    applied: dict[str, Applied]
    release_first_seen: dict[str, datetime]
    is_empty: bool
    now: datetime


class Ledger:
    """The table `alembic_safe_ledger`, in the schema of the version table.

    Args:
        schema: that schema; None for the search path's first.
    """

    def __init__(self, schema: str | None) -> None:
        self.table = QualifiedName(LEDGER_TABLE, schema)

    def create(self, connection: Connection) -> None:
        """Create the table where it is missing; locks no table of the application."""
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {self.table.sql} ("
                " id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
                " event text NOT NULL,"
                " line text,"
                " revision text,"
                " phase text,"
                " release text,"
                " attempts integer,"
                " at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        )

    def read(self, connection: Connection) -> Record:
        """Return what the table says; an empty record where there is no table."""
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        if not query_scalar(connection, f"SELECT {self.table.regclass} IS NOT NULL"):
            return Record({}, {}, True, now)
        rows = connection.execute(
            text(f"SELECT event, line, revision, release, at FROM {self.table.sql} ORDER BY id")
        ).all()
        applied: dict[str, Applied] = {}
        first_seen: dict[str, datetime] = {}
        for event, line, revision, release, at in rows:
            if release is not None:
                first_seen.setdefault(release, at)
            if line == "history" and event == "upgrade":
                applied[revision] = Applied(release, at)
            elif line == "history":
                applied.pop(revision, None)
        return Record(applied, first_seen, not rows, now)

    def note_release(self, connection: Connection, release: str) -> None:
        """Write down that a release runs an upgrade: the gate tells by it who came first."""
        connection.execute(
            text(
                f"INSERT INTO {self.table.sql} (event, release)"
                " VALUES ('release', CAST(:release AS text))"
            ),
            {"release": release},
        )

    def note_step(
        self,
        connection: Connection,
        *,
        event: str,
        line: str,
        revision: str,
        phase: str | None,
        release: str | None,
        attempts: int,
        beside: str = "SELECT",
    ) -> None:
        """Write down one step, in the transaction that does it.

        Args:
            event: `upgrade`, `downgrade` or `stamp`.
            line: `history` or `contract`.
            revision: the revision.
            phase: its phase, if it has one.
            release: the release that runs it, if one was given.
            attempts: how often it was tried, this time included.
            beside: a query of one row to run in the same round trip, before anything is locked.
        """
        texts = (event, line, revision, phase, release)
        values = ", ".join("NULL" if value is None else literal(value) for value in texts)
        execute_sql(
            connection,
            f"WITH beside AS MATERIALIZED ({beside}) INSERT INTO {self.table.sql}"
            " (event, line, revision, phase, release, attempts)"
            f" SELECT {values}, {attempts} FROM beside",
        )
