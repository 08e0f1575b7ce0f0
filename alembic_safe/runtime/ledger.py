"""The ledger: what was applied, when, by which release, in how many attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from alembic_safe.postgres.identifiers import QualifiedName, literal
from alembic_safe.runtime.gate import Applied
from alembic_safe.runtime.sessions import execute_sql, query_scalar

LEDGER_TABLE = "alembic_safe_ledger"

RELEASE = "release"
FIRST_UPGRADE = "first upgrade"
FIRST_UPGRADE_DONE = "first upgrade done"
EMPTY_DATABASE = "empty database"
ASSURED = "assured"
BLOCKER_ENDED = "blocker ended"
_OPENING = frozenset({FIRST_UPGRADE, FIRST_UPGRADE_DONE, "stamp"})


@dataclass(frozen=True)
class Record:
    """What the ledger tells the gate.

    Args:
        applied: the last upgrade to each revision of the history.
        release_first_seen: when each release first ran `upgrade`.
        is_unfinished: the first upgrade of this database began and did not come to its end.
        now: the database's clock.
    """

    applied: dict[str, Applied]
    release_first_seen: dict[str, datetime]
    is_unfinished: bool
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
        # IF NOT EXISTS asks for the right to create tables even where there is nothing to create.
        if query_scalar(connection, f"SELECT {self.table.regclass} IS NOT NULL"):
            self._add_new_columns(connection)
            return
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
                " at timestamptz NOT NULL DEFAULT clock_timestamp(),"
                " command text,"
                " codes text[],"
                " reason text)"
            )
        )

    def _add_new_columns(self, connection: Connection) -> None:
        """Give the table of an earlier release of this package what it lacks; others may do so at
        the same time."""
        lacks = (
            "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_attribute"
            f" WHERE attrelid = {self.table.regclass} AND attname = 'reason' AND attnum > 0)"
        )
        if query_scalar(connection, lacks):
            execute_sql(
                connection,
                f"ALTER TABLE {self.table.sql} ADD COLUMN IF NOT EXISTS command text,"
                " ADD COLUMN IF NOT EXISTS codes text[], ADD COLUMN IF NOT EXISTS reason text",
            )

    def read(self, connection: Connection) -> Record:
        """Return what the table says; an empty record where there is no table."""
        now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        if not query_scalar(connection, f"SELECT {self.table.regclass} IS NOT NULL"):
            return Record({}, {}, False, now)
        rows = connection.execute(
            text(f"SELECT event, line, revision, release, at FROM {self.table.sql} ORDER BY id")
        ).all()
        applied: dict[str, Applied] = {}
        first_seen: dict[str, datetime] = {}
        is_unfinished = False
        for event, line, revision, release, at in rows:
            if release is not None:
                first_seen.setdefault(release, at)
            if event in _OPENING:
                is_unfinished = event == FIRST_UPGRADE
            if line == "history" and event == "upgrade":
                applied[revision] = Applied(release, at)
            elif line == "history":
                applied.pop(revision, None)
        return Record(applied, first_seen, is_unfinished, now)

    def began_empty(self, connection: Connection) -> bool:
        """Return whether the first upgrade, now cut short, found no rows in any table."""
        last = connection.execute(
            text(
                f"SELECT event FROM {self.table.sql} WHERE event = ANY (CAST(:events AS text[]))"
                " ORDER BY id DESC LIMIT 1"
            ),
            {"events": [EMPTY_DATABASE, FIRST_UPGRADE_DONE, "stamp"]},
        )
        return last.scalar_one_or_none() == EMPTY_DATABASE

    def note_event(self, connection: Connection, event: str, release: str | None) -> None:
        """Write down something about a run as a whole.

        Args:
            event: `RELEASE`, by which the gate tells which release came first; `FIRST_UPGRADE`
                and `FIRST_UPGRADE_DONE`, by which it knows a first upgrade that was cut short;
                `EMPTY_DATABASE`, by which the guard knows that all rows are that upgrade's own.
            release: the release that runs it, if one was given.
        """
        connection.execute(
            text(
                f"INSERT INTO {self.table.sql} (event, release)"
                " VALUES (CAST(:event AS text), CAST(:release AS text))"
            ),
            {"event": event, "release": release},
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

    def note_assured(
        self,
        connection: Connection,
        *,
        revision: str,
        release: str | None,
        command: str,
        codes: Sequence[str],
        reason: str,
    ) -> None:
        """Write down that a person answered for a statement.

        Args:
            revision: the revision in which it stands.
            release: the release that runs it, if one was given.
            command: its command tag.
            codes: of the rules that found something.
            reason: what the person wrote.
        """
        # Without a line: an earlier release of this package would take the row for a step.
        values = (ASSURED, revision, release, command, reason)
        written = ", ".join("NULL" if value is None else literal(value) for value in values)
        array = ", ".join(literal(code) for code in codes)
        execute_sql(
            connection,
            f"INSERT INTO {self.table.sql} (event, revision, release, command, reason, codes)"
            f" VALUES ({written}, ARRAY[{array}]::text[])",
        )

    def note_ended(
        self,
        connection: Connection,
        *,
        revision: str,
        release: str | None,
        function: str,
        reason: str,
    ) -> None:
        """Write down that a session that was in the way has been ended.

        Args:
            revision: that was waiting.
            release: the release that runs it, if one was given.
            function: of the server, by which it was ended.
            reason: the rule, and who it was.
        """
        # Without a line, as above.
        values = (BLOCKER_ENDED, revision, release, function, reason)
        written = ", ".join("NULL" if value is None else literal(value) for value in values)
        execute_sql(
            connection,
            f"INSERT INTO {self.table.sql} (event, revision, release, command, reason)"
            f" VALUES ({written})",
        )
