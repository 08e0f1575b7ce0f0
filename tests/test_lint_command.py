"""`alembic-safe lint` on the command line: arguments, exit status, where the report goes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hand_written import write_history
from linted_project import NO_DATABASE, LintedProject
from project import REPOSITORY, Project

from alembic_safe.cli import main

BLOCKING = 'op.execute("ALTER TABLE users ALTER COLUMN id TYPE numeric")'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LintedProject:
    project = LintedProject(tmp_path)
    monkeypatch.chdir(project.folder)
    users = 'op.create_table("users", sa.Column("id", sa.BigInteger, primary_key=True))'
    write_history(project, "r1", upgrade=users)
    write_history(project, "r2", "r1", upgrade=BLOCKING)
    return project


def lint(*arguments: str) -> int:
    """Run the command in this process; return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(["lint", *arguments])
    return int(ended.value.code or 0)


# Exit status.


def test_findings_end_with_1(project: LintedProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint() == 1
    assert "migrations/versions/r2.py:13: error [" in capsys.readouterr().out


def test_no_findings_end_with_0(project: LintedProject) -> None:
    assert lint("r1") == 0


def test_warnings_end_with_0_unless_strict(project: LintedProject) -> None:
    write_history(project, "r3", "r2", upgrade="pass  # alembic-safe: allow vacuum-full -- no")
    assert lint("r3") == 0
    assert lint("r3", "--strict") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-revision"],
        ["no-such-file.sql"],
        ["--format", "xml"],
        ["--postgres", "9"],
        ["--since", "no-such-branch"],
        ["--database", NO_DATABASE],
        ["--output", "no/such/folder/report"],
        ["--no-such-option"],
    ],
)
def test_what_cannot_be_judged_ends_with_2(
    project: LintedProject, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint(*arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert "FAILED: " in errors or "error: argument" in errors or "unrecognized" in errors
    assert "Traceback" not in errors


def test_a_revision_that_is_not_python_ends_with_2(
    project: LintedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.migrations / "versions" / "r3.py").write_text("def upgrade(:\n")
    assert lint() == 2
    assert "r3.py" in capsys.readouterr().err


def test_a_folder_without_an_environment_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lint() == 2


# Output.


def test_the_report_goes_to_a_file(
    project: LintedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint("--format", "json", "--output", "report.json") == 1
    assert capsys.readouterr().out == ""
    document = json.loads((project.folder / "report.json").read_text())
    assert document["summary"]["revisions"] == 2
    errors = [f["revision"] for f in document["findings"] if f["severity"] == "error"]
    assert set(errors) == {"r2"}


def test_what_revisions_print_does_not_break_the_report(
    project: LintedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    write_history(project, "r3", "r2", upgrade='print("hello")')
    lint("--format", "json")
    json.loads(capsys.readouterr().out)


# SQL files need no environment.


def test_sql_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.sql").write_text("SELECT 1;\n\nALTER TABLE users\n  ALTER COLUMN id TYPE bigint;\n")
    assert lint("a.sql") == 1
    output = capsys.readouterr().out
    assert "a.sql:3: error [" in output
    assert "  4 |   ALTER COLUMN id TYPE bigint;" in output


def test_a_transaction_around_sql_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.sql").write_text("SET lock_timeout = '1s'; VACUUM users;")
    assert lint("a.sql") == 0
    assert lint("a.sql", "--single-transaction") == 1
    assert "transaction block" in capsys.readouterr().out


# Options of Alembic stay in force.


def test_a_configuration_elsewhere(
    project: LintedProject,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(SystemExit) as ended:
        main(["-c", str(project.folder / "alembic.ini"), "lint", "r1:"])
    assert ended.value.code == 1


def test_a_program_of_its_own(project: LintedProject) -> None:
    done = Project.run_safe(project, "lint", "--format", "github", check=False)
    assert done.returncode == 1
    assert "\n::error file=migrations/versions/r2.py,line=13," in f"\n{done.stdout}"
    # Nothing of Alembic about each revision.
    assert done.stderr == ""


def test_help_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "`lint [RANGE|FILE ...]`" in " ".join(capsys.readouterr().out.split())
    assert lint("--help") == 0


# The hook of pre-commit.


@pytest.mark.parametrize(
    ("path", "is_taken"),
    [
        ("migrations/versions/1a_x.py", True),
        ("a/b/contracts/1a_x.py", True),
        ("versions/1a_x.py", True),
        ("sql/fix.sql", True),
        ("migrations/env.py", False),
        ("app/conversions/x.py", False),
        ("app/models.py", False),
    ],
)
def test_the_hook_takes_revisions_and_sql(path: str, is_taken: bool) -> None:
    hook = (REPOSITORY / ".pre-commit-hooks.yaml").read_text()
    pattern = re.search(r"^  files: (.*)$", hook, re.MULTILINE)
    assert pattern is not None
    assert bool(re.search(pattern[1], path)) is is_taken
    assert re.search(r"^  entry: alembic-safe lint$", hook, re.MULTILINE)
