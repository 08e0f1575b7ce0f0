"""What the tests work with: the user's Alembic environment, a server, and fresh databases."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from sqlalchemy import URL

from alembic_safe.errors import CannotTest
from alembic_safe.postgres.identifiers import literal, quote
from alembic_safe.rehearsal.server import ScratchServer, ScratchServerError
from alembic_safe.rehearsal.values import Source
from alembic_safe.rules.settings import load_lint_settings
from alembic_safe.settings import project_file, read_tool_table
from alembic_safe.testing.migrations import Migrations, in_folder_of, use_main_option

_NOT_GIVEN = object()

_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""The databases of a test need not survive the machine."""

_server = pytest.StashKey[ScratchServer]()


class Subject:
    """What a test works with: the fixtures of the user, or else what can be found.

    Args:
        request: the test's.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._config: Config | None = None

    def config(self) -> Config:
        """Return Alembic's configuration: that of the fixture `alembic_safe_config`, or of
        pytest-alembic's `alembic_config`, or the `alembic.ini` or `pyproject.toml` in pytest's
        root folder.

        Raises:
            CannotTest: there is none.
        """
        if self._config is None:
            given = self._given("alembic_safe_config")
            config = given if given is not _NOT_GIVEN else self._usual_config()
            if not isinstance(config, Config):
                raise CannotTest(
                    "The fixture alembic_safe_config has to return an alembic.config.Config, and "
                    f"not {config!r}."
                )
            self._config = config
        return self._config

    def start_after(self) -> str | None:
        """Return the baseline, that of the fixture `alembic_safe_start_after` or of the setting."""
        given = self._given("alembic_safe_start_after")
        if given is _NOT_GIVEN:
            config = self.config()
            with in_folder_of(config):
                return load_lint_settings(project_file(config.config_file_name)).start_after
        assert given is None or isinstance(given, str)
        return given

    def values(self) -> Mapping[str, Source]:
        """Return what makes values of columns, by "table.column", from the fixture
        `alembic_safe_values`."""
        given: Any = self._given("alembic_safe_values")
        return {} if given is _NOT_GIVEN else given

    def in_its_folder(self) -> AbstractContextManager[None]:
        """Return a context in which relative paths of the configuration are right."""
        return in_folder_of(self.config())

    def new_database(self, like: Migrations | None = None) -> Migrations:
        """Return the environment on a database of its own, which goes with the test.

        Args:
            like: where to copy it from; None makes it empty.

        Raises:
            CannotTest: no server, or `env.py` would work on another database.
        """
        config, server = self.config(), self._server_url()
        name = f"alembic_safe_{uuid.uuid4().hex[:16]}"
        template = "template0"
        if like is not None:
            # env.py may keep its connections, which would be in the way of a copy.
            template = str(like.url.database)
            _execute(
                server,
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = {literal(template)}",
            )
        _execute(server, f"CREATE DATABASE {quote(name)} TEMPLATE {quote(template)}")
        drop = f"DROP DATABASE IF EXISTS {quote(name)} WITH (FORCE)"
        self._request.addfinalizer(lambda: _execute(server, drop))
        url = server.set(database=name)
        use: Any = self._given("alembic_safe_use")
        if use is _NOT_GIVEN:
            use = use_main_option
        migrations = Migrations(config, url, use)
        migrations.verify_database()
        return migrations

    def _given(self, fixture: str) -> object:
        try:
            return self._request.getfixturevalue(fixture)
        except pytest.FixtureLookupError as error:
            if error.argname != fixture:
                raise
            return _NOT_GIVEN

    def _usual_config(self) -> Config:
        return _from_pytest_alembic(self._given("alembic_config")) or self._found_config()

    def _found_config(self) -> Config:
        root = self._request.config.rootpath
        ini, project = root / "alembic.ini", root / "pyproject.toml"
        if ini.is_file():
            # Settings in pyproject.toml beside it are read by Alembic too (1.16).
            return _config(ini, project)
        if read_tool_table(project, "alembic"):
            return _config(None, project)
        raise CannotTest(
            f"There is no alembic.ini in {root}, and no [tool.alembic] in its pyproject.toml. "
            "Return an alembic.config.Config from a fixture named alembic_safe_config."
        )

    def _server_url(self) -> URL:
        given: Any = self._given("alembic_safe_server")
        if given is not _NOT_GIVEN:
            return sa.make_url(given)
        stash = self._request.config.stash
        if _server not in stash:
            try:
                server = ScratchServer(settings=_FAST)
                server.start()
            except ScratchServerError as error:
                raise CannotTest(
                    f"{error} Or return the URL of a server on which databases can be created "
                    "from a fixture named alembic_safe_server."
                ) from error
            stash[_server] = server
            self._request.config.add_cleanup(server.close)
        return sa.make_url(stash[_server].url())


def _from_pytest_alembic(given: object) -> Config | None:
    """Return the configuration that its fixture `alembic_config` gives, in any of its forms."""
    made = getattr(given, "alembic_config", None)
    options = getattr(given, "config_options", given)
    if isinstance(given, Config) or isinstance(made, Config):
        return given if isinstance(given, Config) else made
    if not isinstance(options, dict) or not options:
        return None
    file = options.get("file") or options.get("config_file_name") or "alembic.ini"
    config = Config(str(file))
    for name, value in options.items():
        if isinstance(value, str) and name not in ("file", "config_file_name"):
            config.set_main_option(name, value.replace("%", "%%"))
    return config


def _config(ini: Path | None, project: Path) -> Config:
    # Alembic reads pyproject.toml from 1.16 on.
    options: dict[str, Any] = {}
    if "toml_file" in inspect.signature(Config).parameters and project.is_file():
        options["toml_file"] = project
    return Config(str(ini) if ini is not None else None, **options)


def _execute(server: URL, sql: str) -> None:
    engine = sa.create_engine(
        server.set(drivername="postgresql+psycopg"),
        poolclass=sa.NullPool,
        isolation_level="AUTOCOMMIT",
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(sql)
    except sa.exc.DBAPIError as error:
        place = server.render_as_string(hide_password=True)
        raise CannotTest(f"The server at {place}: {error.orig}".rstrip()) from error
    finally:
        engine.dispose()
