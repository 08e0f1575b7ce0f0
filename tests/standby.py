"""A real standby of a scratch server: a physical copy that replays what the primary does."""

from __future__ import annotations

from pathlib import Path

import pytest

from alembic_safe.rehearsal.server import ScratchServer

_PROGRAM = "pg_basebackup"


class Standby(ScratchServer):
    """A standby, fed by streaming replication. Skips the test where the server's programs lack
    `pg_basebackup`.

    Args:
        binaries: the `bin` folder of the primary's version.
        primary: it has to run.
        name: the `application_name` under which the primary sees it.
        settings: server settings.
    """

    def __init__(
        self, binaries: Path, primary: ScratchServer, name: str, settings: dict[str, str]
    ) -> None:
        if not (binaries / _PROGRAM).exists():
            pytest.skip(f"{binaries} has no {_PROGRAM}")
        self._conninfo = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        super().__init__(binaries, {**settings, "primary_conninfo": self._conninfo})

    def _fill(self, data: Path) -> None:
        self._run(
            _PROGRAM,
            f"--pgdata={data}",
            f"--dbname={self._conninfo}",
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
        )
