"""Death at a chosen moment: Alembic's command line in a process that is killed between two
statements.

Run as a program it serves a test: it has imported everything, and forks for each command, so that
a command costs a tenth of a start of Python and a death is a real one.
"""

from __future__ import annotations

import json
import os
import re
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


@dataclass(frozen=True)
class Life:
    """What became of a command.

    Args:
        returncode: its exit status, or minus the number of the signal that killed it.
        moments: the moments in which it could have died, in words, up to the last one it saw.
        output: what it printed.
    """

    returncode: int
    moments: tuple[str, ...]
    output: str


class Commands:
    """Runs Alembic commands that may die. A context manager.

    Args:
        project: the environment that they run in.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._output = project.folder / "output"
        self._moments = project.folder / "moments"

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
        self, *args: str, env: Mapping[str, str] | None = None, die_at: int | None = None
    ) -> Life:
        """Run `alembic ARGS`.

        Args:
            args: the arguments.
            env: more environment variables.
            die_at: the number of the moment in which to die, from 0.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        request = {
            "args": args,
            "env": dict(env or {}),
            "die_at": die_at,
            "output": str(self._output),
            "moments": str(self._moments),
        }
        print(json.dumps(request), file=self._server.stdin, flush=True)
        returncode = int(self._server.stdout.readline())
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


def _live(request: dict[str, Any]) -> None:
    """Run one command; the process ends with it."""
    from alembic.config import main

    output = Path(request["output"]).open("w")  # noqa: SIM115  # it ends with the process
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    os.environ.update(request["env"])
    _Death(request["die_at"], Path(request["moments"])).watch()
    try:
        main(argv=request["args"], prog="alembic")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _serve() -> None:
    import alembic.command  # noqa: F401  # imported here so that no command has to
    import psycopg  # noqa: F401  # the same
    import sqlalchemy.dialects.postgresql.psycopg  # noqa: F401  # the same

    import alembic_safe.runtime.runner  # noqa: F401  # the same

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _live(request)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    _serve()
