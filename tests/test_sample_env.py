"""The sample: its story ends well, it tells when not, and the revisions can be read."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Database
from project import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "sample_env"))

from shop import Shop

SAMPLE = REPOSITORY / "sample_env"

_COMMANDS = (
    "upgrade head",
    "revision --autogenerate -m 'display name'",
    "ALEMBIC_SAFE_RELEASE=r1 alembic upgrade head",
    "ALEMBIC_SAFE_RELEASE=r2 alembic upgrade head",
    "alembic check",
    "alembic downgrade -1",
    "alembic downgrade 0001",
    "alembic downgrade base",
)


def play(sample: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Play the story with few rows, to its end."""
    return subprocess.run(
        [sys.executable, str(sample / "deploy.py"), "--quick", *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def environment(**variables: str) -> dict[str, str]:
    """The environment of a program that runs from this tree and leaves no byte code in it."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


def rows_of(printed: str) -> list[list[str]]:
    """The rows of the table that ends the story."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in printed.splitlines()
        if re.match(r"│ \d+\. ", line)
    ]


def contents(folder: Path) -> Mapping[Path, bytes]:
    """Every file of a folder but byte code."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.suffix != ".pyc"}


def copied(target: Path, changes: Mapping[str, tuple[str, str]]) -> Path:
    """Copy the sample, with a text in some files replaced by another."""
    for path, content in contents(SAMPLE).items():
        copy = target / path.relative_to(SAMPLE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    for name, (old, new) in changes.items():
        source = (target / name).read_text()
        assert old in source
        (target / name).write_text(source.replace(old, new))
    return target


def phase_of(file: Path) -> str:
    """The phase that a revision file says it is in."""
    (phase,) = re.findall(r'^phase = "(\w+)"$', file.read_text(), re.MULTILINE)
    return str(phase)


class TestTheStory:
    def test_ends_well(self, tmp_path: Path) -> None:
        before = contents(SAMPLE)
        played = play(SAMPLE, "--keep", str(tmp_path / "shop"))
        assert played.returncode == 0, played.stdout
        for command in _COMMANDS:
            assert command in played.stdout
        assert "Held: contract revision" in played.stdout
        assert "BROKEN" not in played.stdout
        steps = rows_of(played.stdout)
        assert len(steps) > len(_COMMANDS)
        busy = [step for step in steps if step[2] != "-"]
        assert {step[2] for step in busy} == {"v1", "v1 v2", "v2"}
        assert all(int(step[3].replace(",", "")) > 0 for step in busy), played.stdout
        assert {step[5] for step in busy} == {"0"}
        assert "Longest wait of any of" in played.stdout
        # What it wrote is in the folder that was given, and nowhere in the source tree.
        assert len([*(tmp_path / "shop" / "contracts").glob("*.py")]) == 2
        assert contents(SAMPLE) == before

    def test_tells_that_clients_failed(self, tmp_path: Path) -> None:
        too_early = {
            "env.py": ("alembic_safe.configure()", 'alembic_safe.configure(contract="now")')
        }
        played = play(copied(tmp_path, too_early))
        assert played.returncode == 1, played.stdout
        assert re.search(r"BROKEN +No client query failed", played.stdout)
        assert re.search(r"BROKEN +The contract revisions waited", played.stdout)
        assert any(step[5] not in ("0", "-") for step in rows_of(played.stdout))

    def test_tells_which_command_failed(self, tmp_path: Path) -> None:
        no_hint = {"models_v2.py": (', info=renamed_from("full_name")', "")}
        played = play(copied(tmp_path, no_hint))
        assert played.returncode == 1, played.stdout
        assert re.search(r"BROKEN +Every command succeeded", played.stdout)
        assert "`alembic revision --autogenerate -m 'display name'` ended with" in played.stdout

    def test_stops_its_server_on_ctrl_c(self) -> None:
        # Not pytest's folder: as root, the server's user may not enter that.
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.chmod(0o755)
            with subprocess.Popen(
                [sys.executable, str(SAMPLE / "deploy.py"), "--quick"],
                env=environment(TMPDIR=name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # Where the tests run in the background, Ctrl-C is ignored and would be here too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            ) as process:
                assert process.stdout is not None
                printed = ""
                while "ALEMBIC_SAFE_RELEASE=r1" not in printed:
                    line = process.stdout.readline()
                    assert line, printed
                    printed += line
                (server,) = folder.glob("alembic-safe-*/data/postmaster.pid")
                pid = int(server.read_text().splitlines()[0])
                process.send_signal(signal.SIGINT)
                printed += process.stdout.read()
            assert process.returncode == 130, printed
            assert "Traceback" not in printed
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            assert not [*folder.iterdir()]


class TestTheRevisions:
    @pytest.fixture
    def files(self, tmp_path: Path, database: Database) -> list[Path]:
        """The files that `alembic revision --autogenerate` writes for the step from v1 to v2."""
        shop = Shop(tmp_path, database.server, database.name)
        shop.open()
        shop.alembic("upgrade", "head", models="models_v1")
        shop.alembic("revision", "--autogenerate", "-m", "display name")
        return shop.revision_files()

    def test_can_be_read(self, files: list[Path]) -> None:
        assert [phase_of(file) for file in files] == [
            "expand",
            "expand",
            "migrate",
            "contract",
            "contract",
        ]
        for file in files:
            source = file.read_text()
            tree = ast.parse(source)
            docstring = ast.get_docstring(tree) or ""
            assert re.search(rf"^Phase: {phase_of(file)}\b", docstring, re.MULTILINE), source
            assert "Before it runs: " in docstring
            assert re.search(r"^- \w+", docstring, re.MULTILINE)
            assert len(source.splitlines()) < 80
            assert max(map(len, source.splitlines())) <= 100
            for name in ("upgrade", "downgrade"):
                (function,) = (
                    node
                    for node in tree.body
                    if isinstance(node, ast.FunctionDef) and node.name == name
                )
                calls = [node for node in function.body if not isinstance(node, ast.Pass)]
                assert 2 <= len(calls) <= 8, source  # the docstring counts
