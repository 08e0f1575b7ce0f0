"""An Alembic environment without a database, whose revisions are linted in this process."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alembic.config import Config
from project import Project

from alembic_safe.lint.report import Located, Report
from alembic_safe.lint.run import Request, lint_revisions
from alembic_safe.rules.catalogue import CODES
from alembic_safe.rules.settings import LintSettings

NO_DATABASE = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"

ENV = """\
import alembic_safe
from alembic import context

context.configure(dialect_name="postgresql", **alembic_safe.configure())
alembic_safe.run_migrations(context)
"""

ONLINE_ENV = """\
import alembic_safe
from alembic import context
from sqlalchemy import create_engine, pool

url = context.config.get_main_option("sqlalchemy.url")
with create_engine(url, poolclass=pool.NullPool).connect() as connection:
    context.configure(connection=connection, **alembic_safe.configure())
    alembic_safe.run_migrations(context)
"""
"""One that connects, whatever it is asked for."""

PLAIN_ENV = """\
from alembic import context

context.configure(dialect_name="postgresql")
with context.begin_transaction():
    context.run_migrations()
"""
"""As an environment without this package has it."""


class LintedProject(Project):
    """A project with an `env.py` that needs neither models nor a database."""

    def __init__(self, folder: Path, url: str = NO_DATABASE, env: str = ENV) -> None:
        super().__init__(folder, url)
        self.env(env)

    def env(self, source: str) -> None:
        """Replace `env.py`."""
        (self.migrations / "env.py").write_text(source)

    def config(self) -> Config:
        """Alembic's configuration of it."""
        return Config(str(self.folder / "alembic.ini"))

    def lint(self, settings: LintSettings | None = None, **request: Any) -> Report:
        """Lint with the fields of a `Request`."""
        return lint_revisions(self.config(), Request(**request), settings)


def codes(found: Iterable[Located]) -> list[str]:
    """The codes of findings, in their order."""
    return [located.finding.code for located in found]


def own_codes(found: Iterable[Located]) -> list[str]:
    """The same without those of the package's rules, where a rule of the test's own counts."""
    return [code for code in codes(found) if code not in CODES]


def places(found: Iterable[Located]) -> list[tuple[str, int]]:
    """For each finding its file and line."""
    return [(located.path.name, located.line) for located in found]
