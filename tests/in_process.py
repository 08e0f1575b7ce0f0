"""Alembic run in this process, with models handed to it: for tests in which files and servers
count, and a command line does not."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import alembic
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import RevisionStep
from alembic.script import ScriptDirectory

from alembic_safe.cli import contract

_ENV = """\
from alembic import context
from sqlalchemy import create_engine, pool

import alembic_safe

config = context.config
engine = create_engine(config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=config.attributes["metadata"],
        **config.attributes["options"],
        **alembic_safe.configure(),
    )
    alembic_safe.run_migrations(context)
"""

TEMPLATE = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"


class Environment:
    """An Alembic environment whose models are an object.

    Args:
        folder: a folder to write it into.
        url: the SQLAlchemy URL of its database.
        metadata: the models; they can be replaced at any time.
        options: further arguments of `context.configure()`.
    """

    def __init__(self, folder: Path, url: str, metadata: sa.MetaData, **options: object) -> None:
        self.folder = folder / "migrations"
        (self.folder / "versions").mkdir(parents=True)
        (self.folder / "script.py.mako").write_text(TEMPLATE.read_text())
        (self.folder / "env.py").write_text(_ENV)
        self.url = url
        self.metadata = metadata
        self.options = options
        self.main_options: dict[str, str] = {}
        """What stands in the section `[alembic]` of a configuration file."""

    def autogenerate(self, message: str = "change", *x: str) -> None:
        """Run `revision --autogenerate`."""
        command.revision(self._config(x), message, autogenerate=True)

    def upgrade(self, revision: str = "head", *x: str) -> None:
        """Run `upgrade`, with `x` behind `-x`."""
        command.upgrade(self._config(x), revision)

    def downgrade(self, revision: str, *x: str) -> None:
        """Run `downgrade`."""
        command.downgrade(self._config(x), revision)

    def contract(self, *revisions: str) -> None:
        """Run `alembic-safe contract`."""
        contract(self._config(()), revisions)

    def contract_revisions(self) -> list[str]:
        """The identifiers of the contract revisions."""
        return [path.name.partition("_")[0] for path in self.folder.glob("contracts/*.py")]

    def take_back(self, contract_revision: str) -> None:
        """Run the `downgrade()` of one contract revision, and no more: where a downgrade stands
        after its first steps."""
        scripts = ScriptDirectory(self.folder, version_locations=[str(self.folder / "contracts")])
        script = scripts.get_revision(contract_revision)
        step = RevisionStep(scripts.revision_map, script, is_upgrade=False)
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "fn": lambda _heads, _context: [step],
                    "version_table": "alembic_version_contract",
                    "transaction_per_migration": True,
                },
            )
            downgrade = step.migration_fn

            def statement_by_statement(**arguments: object) -> None:
                with context.autocommit_block():
                    downgrade(**arguments)

            step.migration_fn = statement_by_statement
            with Operations.context(context):
                context.run_migrations()

    def check(self) -> None:
        """Run `check`, which fails where models and database differ."""
        command.check(self._config(()))

    def files(self) -> list[Path]:
        """All revision files, the history's first."""
        return [*self.folder.glob("versions/*.py"), *self.folder.glob("contracts/*.py")]

    def _config(self, x: tuple[str, ...]) -> Config:
        config = Config(cmd_opts=Namespace(x=list(x)))
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("sqlalchemy.url", self.url.replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        for name, value in self.main_options.items():
            config.set_main_option(name, value)
        config.attributes["metadata"] = self.metadata
        config.attributes["options"] = self.options
        return config
