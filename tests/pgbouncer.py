"""A real PgBouncer in front of a scratch server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import psycopg
import pytest
from conftest import Database
from sqlalchemy.engine import make_url

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

needs_pgbouncer = pytest.mark.skipif(
    PROGRAM is None, reason="no program pgbouncer (Debian: apt-get install pgbouncer)"
)

_START_SECONDS = 30.0
_PORT_ATTEMPTS = 10

PoolMode = Literal["session", "transaction", "statement"]


class PgBouncer:
    """A PgBouncer in front of a database, ended with the `with` block.

    Args:
        database: the database.
        pool_mode: what its clients share.
        of_database: settings of the database itself, `pool_mode=session` for one.
        settings: further settings of `pgbouncer.ini`.
    """

    def __init__(
        self,
        database: Database,
        pool_mode: PoolMode,
        *,
        of_database: str = "",
        **settings: str,
    ) -> None:
        self._database = database
        self._of_database = of_database
        self._settings = {"pool_mode": pool_mode, **settings}
        self.port = 0

    def __enter__(self) -> PgBouncer:
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        for _ in range(_PORT_ATTEMPTS):
            self._launch()
            if self._is_ready():
                return self
            self._end()
        raise AssertionError(f"pgbouncer did not start:\n{(self._folder / 'log').read_text()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        shutil.rmtree(self._folder)

    def url(self, driver: str = "psycopg") -> str:
        """Return the SQLAlchemy URL of the database behind it."""
        url = make_url(self._database.url(driver)).set(port=self.port)
        return url.render_as_string(hide_password=False)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a psycopg connection through it, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            dbname=self._database.name,
            autocommit=True,
        )

    def _launch(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        server = f"host=127.0.0.1 port={self._database.server.port} user=postgres"
        lines = [
            "[databases]",
            f"* = {server} {self._of_database}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = any",
            *(f"{name} = {value}" for name, value in self._settings.items()),
        ]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines))
        # It refuses to run as root.
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if nobody is not None:
            self._folder.chmod(0o755)
        assert PROGRAM is not None
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(self._folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=nobody.pw_uid if nobody is not None else None,
                group=nobody.pw_gid if nobody is not None else None,
                extra_groups=[] if nobody is not None else None,
            )

    def _is_ready(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                # In statement mode even what psycopg sends first may be refused; it is there.
                if "Connection refused" not in str(error):
                    return True
                time.sleep(0.02)
            else:
                return True
        return False

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
