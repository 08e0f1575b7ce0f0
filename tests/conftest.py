"""Real servers for the tests: each worker process starts its own, when a test first asks."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from alembic_safe.rehearsal.server import ScratchServer, installed_binaries

# Tests import their own modules by name, wherever pytest was started.
sys.path.insert(0, str(Path(__file__).parent))

from oracle.laboratory import Laboratory
from project import Project

DEFAULT_VERSIONS = "16,18"

SERVER_SETTINGS = {
    # A test's server need not survive the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_prepared_transactions": "4",
}


class Database:
    """A fresh database on a scratch server."""

    def __init__(self, server: ScratchServer, name: str) -> None:
        self.server = server
        self.name = name

    def url(self, driver: str = "psycopg", user: str = "postgres") -> str:
        """Return its SQLAlchemy URL."""
        return self.server.url(self.name, driver, user)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a psycopg connection in autocommit mode."""
        return self.server.connect(self.name)

    def execute(self, sql: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Run `sql` in autocommit mode and return its rows."""
        return self.server.execute(sql, params, database=self.name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pg",
        default=os.environ.get("PG_VERSIONS", DEFAULT_VERSIONS),
        help="major versions of PostgreSQL to test with, separated by commas",
    )
    parser.addoption(
        "--every-version",
        action="store_true",
        help="run every test on each of these versions, not most on the newest alone, and those of "
        "the oracle on every version that is here",
    )


DEPENDS_ON_THE_VERSION = frozenset(
    {
        "test_backfill",
        "test_catalog",
        "test_effects_from_catalog",
        "test_operations",
        "test_sync_trigger",
        "test_verification",
    }
)
"""What sends other statements to other versions, or reads other catalogs. With the oracle it runs
on each of the servers; everything else on the newest, but for `--every-version`."""


def pytest_report_header(config: pytest.Config) -> list[str]:
    binaries = _binaries()
    return [f"postgresql {version}: {binaries[version]}" for version in _versions(config)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        versions = _versions(metafunc.config)
        is_oracle = "laboratory" in metafunc.fixturenames
        depends = is_oracle or metafunc.module.__name__ in DEPENDS_ON_THE_VERSION
        if metafunc.config.getoption("--every-version"):
            versions = sorted(_binaries()) if is_oracle else versions
        elif not depends:
            versions = [max(versions)]
        ids = [f"pg{version}" for version in versions]
        metafunc.parametrize("server", versions, ids=ids, indirect=True, scope="session")


@cache
def _binaries() -> dict[int, Path]:
    # Each look starts a program for each version, and pytest asks for each test function.
    return installed_binaries()


def _versions(config: pytest.Config) -> list[int]:
    wanted = [int(version) for version in str(config.getoption("--pg")).split(",") if version]
    binaries = _binaries()
    versions = [version for version in wanted if version in binaries]
    if not versions:
        raise pytest.UsageError(
            f"none of the PostgreSQL versions {wanted} is here, only {sorted(binaries)}; "
            'pip install -e ".[dev]", or name `bin` folders in POSTGRES_BINARIES'
        )
    return versions


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """A shell that runs the tests in the background has them ignore Ctrl-C, and so their
    children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[[int], ScratchServer]]:
    """One server of each version for the whole session, started when first asked for."""
    with ExitStack() as stack:
        servers: dict[int, ScratchServer] = {}

        def start(version: int) -> ScratchServer:
            if version not in servers:
                binaries = _binaries()[version]
                servers[version] = stack.enter_context(ScratchServer(binaries, SERVER_SETTINGS))
            return servers[version]

        yield start


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, start_server: Callable[[int], ScratchServer]
) -> ScratchServer:
    """A running server, of each version in turn."""
    # Not a parametrized fixture with its own end: pytest would stop and start the servers
    # whenever the order of the tests changes between versions.
    version: int = request.param
    return start_server(version)


@pytest.fixture(scope="session")
def set_up_laboratory() -> Iterator[Callable[[ScratchServer], Laboratory]]:
    """The oracle's laboratory on each server for the whole session, set up when first asked for."""
    with ExitStack() as stack:
        laboratories: dict[int, Laboratory] = {}

        def set_up(server: ScratchServer) -> Laboratory:
            if server.version not in laboratories:
                laboratories[server.version] = stack.enter_context(Laboratory(server))
            return laboratories[server.version]

        yield set_up


@pytest.fixture
def laboratory(
    server: ScratchServer, set_up_laboratory: Callable[[ScratchServer], Laboratory]
) -> Laboratory:
    """What the oracle measures with, on the server."""
    return set_up_laboratory(server)


@pytest.fixture
def database(server: ScratchServer) -> Iterator[Database]:
    """A fresh database, dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server.create_database(name)
    yield Database(server, name)
    server.drop_database(name)


@pytest.fixture
def alembic_project(tmp_path: Path, database: Database) -> Project:
    """An Alembic environment for the fresh database."""
    return Project(tmp_path, database.url())
