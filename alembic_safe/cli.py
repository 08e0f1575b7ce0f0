"""`alembic-safe`: Alembic's own command line with the commands of this package added."""

from __future__ import annotations

import argparse
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from alembic.config import CommandLine, Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from alembic_safe.environment import CONTRACT_COMMAND_OPTION, ContractRequest
from alembic_safe.errors import CannotConnect, Interrupted, RunnerMissing
from alembic_safe.settings import TOMLDecodeError

_OPTIONS_WITH_VALUE = frozenset({"-c", "--config", "-n", "--name", "-x"})

_EPILOG = (
    "alembic-safe adds: `contract [REVISION ...]`, which applies contract revisions now, those "
    "named or all; each is verified first. Use it once no release needs the old schema. "
    "`lint [RANGE|FILE ...]` judges revisions before they run; see `alembic-safe lint --help`."
)


def contract(config: Config, revisions: Sequence[str] = ()) -> None:
    """Apply contract revisions, whatever release is running.

    Args:
        config: Alembic's configuration.
        revisions: which ones, or the beginnings of their identifiers; none for all whose
            completed revision is applied.

    Raises:
        VerificationFailed: one of them is not safe to apply yet.
        RunnerMissing: `env.py` does not call `alembic_safe.run_migrations`.
    """
    script = ScriptDirectory.from_config(config)
    request = ContractRequest(tuple(revisions))
    options: dict[str, Any] = {CONTRACT_COMMAND_OPTION: request}
    with EnvironmentContext(config, script, fn=_no_steps, as_sql=False, **options):
        script.run_env()
    if not request.handled:
        raise RunnerMissing


def _no_steps(_heads: object, _context: object) -> list[object]:
    return []


class SafeCommandLine(CommandLine):
    """Alembic's command line, which does not know optional arguments of added commands."""

    def __init__(self, prog: str | None = None) -> None:
        super().__init__(prog)
        self.parser.epilog = _EPILOG
        self._revisions: list[str] | None = None
        self._lint: Namespace | None = None

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Run a command line.

        Args:
            argv: the arguments without the program's name; those of the process by default.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        place = _command_place(arguments)
        command = arguments[place] if place is not None else None
        if place is not None and command in ("contract", "lint"):
            own = arguments[place + 1 :]
            if command == "contract":
                self._revisions = _contract_parser(self.parser.prog).parse_args(own).revision
            else:
                # Only lint needs the SQL parser and the rules.
                from alembic_safe.lint.arguments import parse

                self._lint = parse(self.parser.prog, own)
            # Alembic parses the options before it, for a command without arguments of its own.
            arguments = [*arguments[:place], "current"]
        super().main(arguments)

    def run_cmd(self, config: Config, options: Namespace) -> None:
        """Run the parsed command; Alembic prints a `CommandError` and exits."""
        if self._lint is not None:
            from alembic_safe.lint.arguments import run

            sys.exit(run(config, self._lint))
        if self._revisions is not None:
            options.revisions = self._revisions
            options.cmd = (contract, ["revisions"], [])
        super().run_cmd(config, options)


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of `alembic-safe`."""
    try:
        SafeCommandLine(prog="alembic-safe").main(argv)
    except KeyboardInterrupt:
        sys.exit(f"FAILED: {Interrupted('alembic-safe')}")
    except SyntaxError as error:
        # Alembic reads revision files before it runs env.py, and so without this package.
        sys.exit(
            f"FAILED: {error.filename}, line {error.lineno}: {error.msg}. Correct the file, then "
            "run the same command again. Nothing was changed."
        )
    except TOMLDecodeError as error:
        # So does Alembic with the project file.
        sys.exit(
            f"FAILED: pyproject.toml is not a TOML file: {error}. Correct the file, then run the "
            "same command again. Nothing was changed."
        )
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        if not _of_an_engine(error):
            raise
        sys.exit(
            f"FAILED: the database URL or its driver cannot be used: {error}. Correct the URL of "
            "your Alembic environment or install the driver, then run the same command again. "
            "Nothing was changed."
        )
    except OSError as error:
        if not _of_an_engine(error):
            raise
        # asyncpg does not turn a refused connection into an error of its own.
        sys.exit(f"FAILED: {CannotConnect('the database', f'{error}.')}")


def _of_an_engine(error: Exception) -> bool:
    """Return whether SQLAlchemy raised an error while it made an engine or a connection; the same
    classes come from models and from env.py."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(
        str(frame.f_globals.get("__name__")).startswith("sqlalchemy.engine.") for frame, _ in frames
    )


def _command_place(arguments: Sequence[str]) -> int | None:
    """Return where the command stands: the first argument that is not a global option."""
    place = 0
    while place < len(arguments):
        if arguments[place] in _OPTIONS_WITH_VALUE:
            place += 2
        elif arguments[place].startswith("-"):
            place += 1
        else:
            return place
    return None


def _contract_parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{prog} contract",
        description="Apply contract revisions now; each is verified first.",
    )
    parser.add_argument(
        "revision",
        nargs="*",
        help="a contract revision, or the beginning of its identifier; none for all whose "
        "completed revision is applied",
    )
    return parser
