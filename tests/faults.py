"""Faults at a chosen moment: Alembic's command line in a process that is killed between two
statements, or that does not get a lock in time.

Run as a program it serves a test: it has imported everything, and forks for each command, so that
a command costs a tenth of a start of Python and a death is a real one.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from project import Project

_CHANGES_NOTHING = re.compile(
    r"\s*(SELECT|SET|RESET|SHOW|BEGIN|SAVEPOINT|ROLLBACK|RELEASE)\b", re.IGNORECASE
)
"""What ends with the session, or never was: to die behind it is to die before it."""

IN_TRANSACTION = "in a transaction, "
"""How the moments begin in which nothing that was done since an earlier one is committed."""


_LONGEST_SECONDS = 120.0
"""Only a test that fails waits for so long."""

_CANNOT_WAIT = re.compile(
    r"\s*(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET|RESET|SHOW"
    r"|SELECT (set_config|current_setting|clock_timestamp|pg_try_advisory|pg_advisory))",
    re.IGNORECASE,
)
"""What needs no lock on anything."""

_LOCK_TIMEOUT = (
    "DO $$ BEGIN RAISE EXCEPTION 'canceling statement due to lock timeout'"
    " USING ERRCODE = '55P03'; END $$"
)
"""In the place of a statement: the server refuses it, and the driver raises what it does then."""


@dataclass(frozen=True)
class Life:
    """What became of a command.

    Args:
        returncode: its exit status, or minus the number of the signal that killed it.
        moments: the moments in which it could have died, or the statements that could have waited
            for a lock, in words, up to the last one it saw.
        output: what it printed.
    """

    returncode: int
    moments: tuple[str, ...]
    output: str


class Commands:
    """Runs Alembic commands in which something may go wrong. A context manager.

    Args:
        project: the environment that they run in.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._output = project.folder / "output"
        self._moments = project.folder / "moments"
        self.is_running = False

    def __enter__(self) -> Commands:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self._project.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # It ends with its input.
        self._server.communicate()

    def run(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        die_at: int | None = None,
        busy_at: int | None = None,
    ) -> Life:
        """Run `alembic ARGS` to its end.

        Args:
            args: the arguments.
            env: more environment variables.
            die_at: the number of the moment in which to die, from 0.
            busy_at: the number of the statement that does not get its lock, from 0; -1 for none of
                them. Given this, the moments are statements.
        """
        self.start(*args, env=env, die_at=die_at, busy_at=busy_at)
        return self.finish()

    def start(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        die_at: int | None = None,
        busy_at: int | None = None,
    ) -> None:
        """Start `alembic ARGS`, as `run` does; there can be one at a time."""
        request = {
            "args": args,
            "env": dict(env or {}),
            "die_at": die_at,
            "busy_at": busy_at,
            "output": str(self._output),
            "moments": str(self._moments),
        }
        assert self._server.stdin is not None
        self.is_running = True
        print(json.dumps(request), file=self._server.stdin, flush=True)

    def finish(self) -> Life:
        """Wait for the end of the command that was started."""
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], _LONGEST_SECONDS)
        assert ready, f"it does not end:\n{self._output.read_text()}"
        returncode = int(self._server.stdout.readline())
        self.is_running = False
        moments = tuple(json.loads(line) for line in self._moments.read_text().splitlines())
        return Life(returncode, moments, self._output.read_text())


class _Death:
    """Counts the moments between two statements, and kills the process in one of them.

    A moment is behind each statement that changes something, and before each one that follows a
    commit of the driver's: nothing else tells two moments apart for the server.
    """

    def __init__(self, die_at: int | None, moments: Path) -> None:
        self._die_at = die_at
        self._moments = moments.open("w")
        self._count = 0
        self._is_new = True
        self._in_block = False
        self._changed = ""

    def watch(self) -> None:
        """Begin to count, on every connection of the process."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", self._before)
        event.listen(Engine, "after_cursor_execute", self._after)
        event.listen(Engine, "commit", self._commit)

    def _before(self, _connection: Any, _cursor: Any, sql: str, *_details: Any) -> None:
        if self._is_new and not _CHANGES_NOTHING.match(sql) and sql != "COMMIT":
            self._moment(f"before {sql}")

    def _after(self, connection: Any, _cursor: Any, sql: str, *_details: Any) -> None:
        if sql == "COMMIT":
            self._in_block = False
            if self._changed:
                self._moment(f"behind the commit of {self._changed}")
            self._changed = ""
        elif sql in ("BEGIN", "ROLLBACK"):
            self._in_block = sql == "BEGIN"
            self._changed = ""
        elif not _CHANGES_NOTHING.match(sql):
            self._changed = sql
            commits = connection.connection.dbapi_connection.autocommit and not self._in_block
            self._moment(f"{'' if commits else IN_TRANSACTION}behind {sql}")

    def _commit(self, _connection: Any) -> None:
        self._is_new = True

    def _moment(self, words: str) -> None:
        self._is_new = False
        print(json.dumps(" ".join(words.split())), file=self._moments, flush=True)
        if self._count == self._die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._count += 1


class _Busy:
    """Counts the statements that could wait for a lock, and has one of them wait for too long."""

    def __init__(self, busy_at: int, moments: Path) -> None:
        self._busy_at = busy_at
        self._moments = moments.open("w")
        self._count = 0

    def watch(self) -> None:
        """Begin to count, on every connection of the process."""
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "before_cursor_execute", self._before, retval=True)

    def _before(
        self, _connection: Any, _cursor: Any, sql: str, parameters: Any, *_details: Any
    ) -> tuple[str, Any]:
        if _CANNOT_WAIT.match(sql):
            return sql, parameters
        print(json.dumps(" ".join(sql.split())), file=self._moments, flush=True)
        self._count += 1
        if self._count - 1 == self._busy_at:
            return _LOCK_TIMEOUT, ()
        return sql, parameters


def _live(request: dict[str, Any]) -> None:
    """Run one command; the process ends with it."""
    from alembic.config import main

    output = Path(request["output"]).open("w")  # noqa: SIM115  # it ends with the process
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    os.environ.update(request["env"])
    moments = Path(request["moments"])
    if request["busy_at"] is None:
        _Death(request["die_at"], moments).watch()
    else:
        _Busy(request["busy_at"], moments).watch()
    try:
        main(argv=request["args"], prog="alembic")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


_PRELOADED = (
    "alembic.command",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.ext.asyncio",
    "alembic_safe.runtime.runner",
    "alembic_safe.runtime.guard",
)


def _serve() -> None:
    # Imported here so that no command has to.
    for name in _PRELOADED:
        importlib.import_module(name)
    # A file that is rewritten within a second would be read from its old byte code.
    sys.dont_write_bytecode = True

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(request)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
