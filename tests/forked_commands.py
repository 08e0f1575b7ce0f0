"""The commands `alembic`, `alembic-safe` and `pytest`, without the time that their imports take.

Each runs in a process of its own, forked from one that has loaded what they need.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import alembic.config
import pytest

import alembic_safe.cli

_PRELOADED = ("alembic.autogenerate", "alembic_safe.cli", "alembic_safe.rewrite.hook", "psycopg")
_TIMEOUT_SECONDS = 300.0


def run_command(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end; return its exit status and what it printed.

    Args:
        arguments: the program's name and its arguments.
        folder: where.
        variables: the environment.
    """
    with tempfile.NamedTemporaryFile() as output:
        status = _run_in_fork(arguments, folder, variables, output.name, output.name)
        return status, Path(output.name).read_text()


def run_apart(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `run_command` does; what it printed and what it told apart."""
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        status = _run_in_fork(arguments, folder, variables, out.name, err.name)
        said, told = Path(out.name).read_text(), Path(err.name).read_text()
    return subprocess.CompletedProcess(list(arguments), status, said, told)


def _run_in_fork(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], out: str, err: str
) -> int:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(_PRELOADED))
    process = processes.Process(
        target=_run, args=(list(arguments), str(folder), dict(variables), out, err)
    )
    process.start()
    process.join(_TIMEOUT_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: list[str], folder: str, variables: dict[str, str], out: str, err: str) -> None:
    for stream, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), stream)
    # Both streams in the order in which they were written.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    # As an interpreter would have done that begins here.
    sys.path[:0] = [folder, *variables.get("PYTHONPATH", "").split(os.pathsep)]
    sys.argv = arguments
    # A file that is rewritten within a second would be read from its old byte code.
    sys.dont_write_bytecode = True
    program, *rest = arguments
    if program == "pytest":
        # What the reader has: nothing of the tests in which this runs.
        sys.exit(pytest.main(["-p", "no:cacheprovider", *rest]))
    main = {"alembic": alembic.config.main, "alembic-safe": alembic_safe.cli.main}[program]
    main(rest)
