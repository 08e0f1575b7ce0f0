"""`alembic-safe lint`: its arguments, its output and its exit status."""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from alembic.config import Config
from alembic.util import CommandError

from alembic_safe.lint.formats import FORMATS
from alembic_safe.lint.run import OWN_DATABASE, Request, lint_revisions
from alembic_safe.rules.settings import server_version

CLEAN, FOUND, NOT_RUN = 0, 1, 2
"""Exit statuses; NOT_RUN is also what argparse ends with."""


def parse(prog: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments of `lint`; ends the process where they are wrong."""
    options = _parser(prog).parse_args(arguments)
    # The URL is optional: `--database head` names a revision.
    if options.database is not None and options.database and "://" not in options.database:
        options.targets.insert(0, options.database)
        options.database = OWN_DATABASE
    return options


def run(config: Config, options: argparse.Namespace) -> int:
    """Judge, write the report, and return the exit status.

    Args:
        config: Alembic's configuration.
        options: from `parse`.
    """
    try:
        with _without_garbage():
            report = lint_revisions(config, request_of(options))
        written = FORMATS[options.format](report)
        if options.output is None:
            sys.stdout.write(written)
        else:
            options.output.write_text(written, encoding="utf-8")
    except (CommandError, OSError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return NOT_RUN
    except Exception:
        traceback.print_exc()
        return NOT_RUN
    return CLEAN if report.is_clean(strict=options.strict) else FOUND


@contextlib.contextmanager
def _without_garbage() -> Iterator[None]:
    """Look for garbage seldom: nearly all that is made is kept until the end, and looking through
    it takes a fifth of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def request_of(options: argparse.Namespace) -> Request:
    """Return what the arguments ask for."""
    files = [target for target in options.targets if target.endswith((".sql", ".py"))]
    return Request(
        ranges=[target for target in options.targets if target not in files],
        files=[Path(file) for file in files],
        since=options.since,
        downgrades=options.downgrade,
        database=options.database,
        postgres=options.postgres,
        single_transaction=options.single_transaction,
    )


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{prog} lint",
        description="Judge revisions and SQL files before anything runs. Ends with 0 where there "
        "are no errors, 1 where there are, 2 where it could not judge.",
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="RANGE|FILE",
        help="A:B for the revisions after A up to B, A:, :B, one revision, a revision file, or a "
        ".sql file; none for all revisions after the baseline",
    )
    parser.add_argument(
        "--downgrade", action="store_true", help="judge downgrades as well as upgrades"
    )
    parser.add_argument(
        "--since",
        metavar="GITREF",
        help="judge only files that changed since the work left this branch",
    )
    parser.add_argument(
        "--database",
        nargs="?",
        const=OWN_DATABASE,
        metavar="URL",
        help="use the catalog and the sizes of this database, that of the environment by default, "
        "and judge the revisions that it does not have",
    )
    parser.add_argument(
        "--postgres",
        type=server_version,
        metavar="VERSION",
        help="the oldest PostgreSQL on which the revisions run",
    )
    parser.add_argument(
        "--single-transaction",
        action="store_true",
        help="each .sql file is run in one transaction, as by psql with this option",
    )
    parser.add_argument("--format", choices=list(FORMATS), default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the report to a file")
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    return parser
