"""A real Alembic environment in a folder of its own, driven through Alembic's command line."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import alembic
from forked_commands import run_apart

REPOSITORY = Path(__file__).resolve().parent.parent

_INI = """\
[alembic]
script_location = %(here)s/migrations
prepend_sys_path = %(here)s
path_separator = os
sqlalchemy.url = {url}

[loggers]
keys = root,sqlalchemy,alembic,alembic_safe
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARNING
handlers = console
qualname =
[logger_sqlalchemy]
level = WARNING
handlers =
qualname = sqlalchemy.engine
[logger_alembic]
level = INFO
handlers =
qualname = alembic
[logger_alembic_safe]
level = INFO
handlers =
qualname = alembic_safe
[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = generic
[formatter_generic]
format = %(levelname)-5.5s [%(name)s] %(message)s
"""

ENV = """\
from logging.config import fileConfig

import models
from alembic import context
from sqlalchemy import engine_from_config, pool

import alembic_safe

config = context.config
fileConfig(config.config_file_name, disable_existing_loggers=False)
target_metadata = models.metadata if hasattr(models, "metadata") else models.Base.metadata


def run_migrations_offline():
    context.configure(
        url=config.get_main_option("sqlalchemy.url"),
        target_metadata=target_metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **alembic_safe.configure(),
    )
    alembic_safe.run_migrations(context)


def run_migrations_online():
    engine = engine_from_config(
        config.get_section(config.config_ini_section, {}),
        prefix="sqlalchemy.",
        poolclass=pool.NullPool,
    )
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=target_metadata,
            **alembic_safe.configure(),
        )
        alembic_safe.run_migrations(context)


if context.is_offline_mode():
    run_migrations_offline()
else:
    run_migrations_online()
"""

_NO_MODELS = "import sqlalchemy as sa\n\nmetadata = sa.MetaData()\n"


class Project:
    """An Alembic environment: `alembic.ini`, `models.py`, `migrations/`.

    Args:
        folder: an empty folder to write it into.
        url: the SQLAlchemy URL of its database.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.migrations = folder / "migrations"
        (self.migrations / "versions").mkdir(parents=True)
        template = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
        (self.migrations / "script.py.mako").write_text(template.read_text())
        (self.migrations / "env.py").write_text(ENV)
        self.connect_to(url)
        self.models(_NO_MODELS)

    def connect_to(self, url: str) -> None:
        """Write `alembic.ini` with another database."""
        (self.folder / "alembic.ini").write_text(_INI.replace("{url}", url.replace("%", "%%")))

    def models(self, source: str) -> None:
        """Replace `models.py`, which has a name `metadata` or `Base`."""
        (self.folder / "models.py").write_text(source)

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `alembic ARGS` to its end; a failure fails the test unless `check` is off."""
        return self._run(("alembic", *args), env, check)

    def run_safe(
        self, *args: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `alembic-safe ARGS` to its end, as `run` does."""
        return self._run(("alembic-safe", *args), env, check)

    def _run(
        self, arguments: Sequence[str], env: Mapping[str, str] | None, check: bool
    ) -> subprocess.CompletedProcess[str]:
        done = run_apart(arguments, self.folder, self._environment(env))
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def popen(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `alembic ARGS`; the test talks to the process, and ends it."""
        return self._popen(self._command(args), env)

    def popen_safe(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `alembic-safe ARGS`, as `popen` does."""
        return self._popen(self._safe_command(args), env)

    def _popen(self, command: list[str], env: Mapping[str, str] | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def versions(self) -> list[Path]:
        """The revision files of the history, from its base to its head."""
        files = {
            str(_constant(path, "revision")): path
            for path in (self.migrations / "versions").glob("*.py")
        }
        return [files[revision] for revision in self._in_order(files)]

    def contracts(self) -> list[Path]:
        """The files of the contract line, by name."""
        return sorted((self.migrations / "contracts").glob("*.py"))

    def head(self) -> str | None:
        """The head of the history, None if it is empty."""
        files = self.versions()
        return str(_constant(files[-1], "revision")) if files else None

    def read(self, path: Path | str) -> str:
        """The text of a file of the environment."""
        return (self.folder / path).read_text()

    def _in_order(self, files: Mapping[str, Path]) -> Iterator[str]:
        after: dict[object, list[str]] = {}
        for revision, path in files.items():
            after.setdefault(_constant(path, "down_revision"), []).append(revision)
        at: str | None = None
        while at in after:
            (at,) = after[at]  # a second head would be a fault
            yield at

    def _command(self, args: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "alembic", *args]

    def _safe_command(self, args: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-c", "from alembic_safe.cli import main; main()", *args]

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("ALEMBIC_SAFE")
        }
        return {
            **inherited,
            "PYTHONPATH": str(REPOSITORY),
            # A file that is rewritten within a second, in the same size, would be read from its
            # old byte code.
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        }


def _constant(path: Path, name: str) -> object:
    """Return what a revision file assigns to `name`, without running it."""
    for node in ast.parse(path.read_text()).body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id == name:
            assert isinstance(node, ast.AnnAssign | ast.Assign)
            assert node.value is not None
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no {name}")
