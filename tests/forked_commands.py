"""The commands `alembic`, `alembic-safe` and `pytest`, without the time that their imports take.

Each runs in a process of its own, forked from one that has loaded what they need.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import alembic.config
import pytest

import alembic_safe.cli

_PRELOADED = ("alembic.autogenerate", "alembic_safe.cli", "alembic_safe.rewrite.hook", "psycopg")
_TIMEOUT_SECONDS = 120.0


def run_command(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end; return its exit status and what it printed.

    Args:
        arguments: the program's name and its arguments.
        folder: where.
        variables: the environment.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(_PRELOADED))
    with tempfile.NamedTemporaryFile() as output:
        process = processes.Process(
            target=_run, args=(list(arguments), str(folder), dict(variables), output.name)
        )
        process.start()
        process.join(_TIMEOUT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        printed = Path(output.name).read_text()
    assert process.exitcode is not None
    return process.exitcode, printed


def _run(arguments: list[str], folder: str, variables: dict[str, str], output: str) -> None:
    descriptor = os.open(output, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # Both streams in the order in which they were written.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    # A file that is rewritten within a second would be read from its old byte code.
    sys.dont_write_bytecode = True
    program, *rest = arguments
    if program == "pytest":
        # What the reader has: nothing of the tests in which this runs.
        sys.exit(pytest.main(["-p", "no:cacheprovider", *rest]))
    main = {"alembic": alembic.config.main, "alembic-safe": alembic_safe.cli.main}[program]
    main(rest)
