"""Scripts run as a person runs them: with psql, statement by statement, up to the first error."""

from __future__ import annotations

import subprocess

from conftest import Database

from alembic_safe.rehearsal.server import installed_binaries


class ScriptFailed(Exception):
    """A statement of the script failed; the message is what psql printed."""


def psql(database: Database, script: str) -> None:
    """Run a script.

    Raises:
        ScriptFailed: a statement failed.
    """
    program = installed_binaries()[database.server.version] / "psql"
    url = database.url().replace("+psycopg", "")
    done = subprocess.run(
        [str(program), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", url],
        input=script,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ScriptFailed(done.stderr)
