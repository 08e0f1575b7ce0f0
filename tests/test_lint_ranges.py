"""Lint judges what was asked for: ranges, files, what changed, all after the baseline."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from alembic.util import CommandError
from hand_written import write_contract, write_history
from linted_project import LintedProject

from alembic_safe.errors import GitFailed, NotARevision, SettingError
from alembic_safe.rules.settings import LintSettings

ENV = """\
import alembic_safe
from alembic import context
from alembic_safe.rules.finding import Finding, Severity


def everything(effects, surroundings):
    yield Finding("seen", Severity.ERROR, effects.sql)


context.configure(dialect_name="postgresql", **alembic_safe.configure(rules=[everything]))
alembic_safe.run_migrations(context)
"""
"""With a rule that finds every statement."""


@pytest.fixture
def project(tmp_path: Path) -> LintedProject:
    """r1 to r4 in a line, of which r2 and r4 are completed by contract revisions."""
    project = LintedProject(tmp_path / "project", env=ENV)
    for number in range(1, 5):
        write_history(
            project,
            f"r{number}",
            f"r{number - 1}" if number > 1 else None,
            upgrade=f'op.execute("SELECT {number}")',
            downgrade=f'op.execute("SELECT -{number}")',
        )
    write_contract(project, "c2", "r2", upgrade='op.execute("SELECT 2.5")')
    write_contract(
        project,
        "c4",
        "r4",
        upgrade='op.execute("SELECT 4.5")',
        downgrade='op.execute("SELECT -4.5")',
    )
    return project


def judged(project: LintedProject, *ranges: str, **request: object) -> list[str]:
    """The revisions in which something was found, with `-` in front of downgrades."""
    settings = request.pop("settings", LintSettings())
    assert isinstance(settings, LintSettings)
    report = project.lint(settings, ranges=ranges, **request)
    found = [
        located.revision if located.is_upgrade else f"-{located.revision}"
        for located in report.found
        if located.finding.code == "seen"
    ]
    assert report.revisions == len({name.lstrip("-") for name in found})
    return found


ALL = ["r1", "r2", "c2", "r3", "r4", "c4"]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], ALL),
        (["r1:r3"], ["r2", "c2", "r3"]),
        (["r2:"], ["r3", "r4", "c4"]),
        ([":r2"], ["r1", "r2", "c2"]),
        (["r3"], ["r3"]),
        (["r2"], ["r2", "c2"]),
        (["head"], ["r4", "c4"]),
        (["r3:head"], ["r4", "c4"]),
        (["base:head"], ALL),
        (["c2"], ["c2"]),
        (["r1", "r3"], ["r1", "r3"]),
        (["r4:r4"], []),
    ],
    ids=lambda value: " ".join(value) or "nothing named",
)
def test_ranges(project: LintedProject, ranges: list[str], expected: list[str]) -> None:
    assert judged(project, *ranges) == expected


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [([], ["r3", "r4", "c4"]), ([":r3"], ["r3"]), (["r1:r2"], ["r2", "c2"]), (["r1"], ["r1"])],
)
def test_a_baseline_is_not_judged_unless_it_is_named(
    project: LintedProject, ranges: list[str], expected: list[str]
) -> None:
    assert judged(project, *ranges, settings=LintSettings(start_after="r2")) == expected


def test_downgrades_follow_from_the_last_back(project: LintedProject) -> None:
    found = judged(project, "r2:", downgrades=True)
    assert found == ["r3", "r4", "c4", "-c4", "-r4", "-r3"]


def test_all_branches_are_judged(project: LintedProject) -> None:
    write_history(project, "s3", "r2", upgrade='op.execute("SELECT 30")')
    write_history(project, "m", ("r4", "s3"), upgrade='op.execute("SELECT 40")')
    assert set(judged(project)) == {*ALL, "s3", "m"}
    assert set(judged(project, "r2:")) == {"s3", "m", "r3", "r4", "c4"}
    assert judged(project, "s3") == ["s3"]


@pytest.mark.parametrize("name", ["r9", "r1:r9", "r9:", "r3:r1"])
def test_what_is_not_there(project: LintedProject, name: str) -> None:
    with pytest.raises(CommandError, match=r"r9|r3|r1"):
        judged(project, name)


def test_a_baseline_that_is_not_there(project: LintedProject) -> None:
    with pytest.raises(CommandError, match="r9"):
        judged(project, settings=LintSettings(start_after="r9"))


def test_no_revisions_at_all(tmp_path: Path) -> None:
    report = LintedProject(tmp_path, env=ENV).lint(LintSettings())
    assert (report.revisions, report.found, report.is_clean()) == (0, (), True)


# Files.


def test_revision_files(project: LintedProject) -> None:
    files = [project.migrations / "versions" / "r3.py", project.migrations / "contracts" / "c2.py"]
    assert judged(project, files=files) == ["c2", "r3"]


def test_a_file_of_another_environment(project: LintedProject, tmp_path: Path) -> None:
    other = tmp_path / "r1.py"
    other.write_text("revision = 'r1'\n")
    with pytest.raises(NotARevision, match=r"r1\.py"):
        judged(project, files=[other])


# What changed.


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(project: LintedProject) -> LintedProject:
    """The project with a branch `main`, from which HEAD left after r2."""
    later = [project.migrations / name for name in ("versions/r3.py", "versions/r4.py")]
    texts = {path: path.read_text() for path in later}
    for path in later:
        path.unlink()
    (project.migrations / "contracts" / "c4.py").unlink()
    git(project.folder, "init", "-q", "-b", "main")
    commit(project, "the beginning")
    git(project.folder, "checkout", "-q", "-b", "work")
    for path in later:
        path.write_text(texts[path])
    return project


def commit(project: LintedProject, message: str, paths: Iterable[Path] = (Path("."),)) -> None:
    git(project.folder, "add", *map(str, paths))
    git(project.folder, "commit", "-q", "-m", message)


def test_only_what_changed_since_a_branch(repository: LintedProject) -> None:
    commit(repository, "r3", [repository.migrations / "versions" / "r3.py"])
    # r3 is committed, r4 is not yet known to git.
    assert judged(repository, since="main") == ["r3", "r4"]


def test_later_commits_of_the_branch_do_not_count(repository: LintedProject) -> None:
    commit(repository, "r3 and r4")
    git(repository.folder, "checkout", "-q", "main")
    path = repository.migrations / "versions" / "r1.py"
    path.write_text(path.read_text() + "# a note\n")
    commit(repository, "a note in r1")
    git(repository.folder, "checkout", "-q", "work")
    assert judged(repository, since="main") == ["r3", "r4"]


def test_a_changed_revision_counts_as_new(repository: LintedProject) -> None:
    path = repository.migrations / "versions" / "r1.py"
    path.write_text(path.read_text() + "# a note\n")
    assert judged(repository, since="main") == ["r1", "r3", "r4"]
    assert judged(repository, "r1:", since="main") == ["r3", "r4"]


def test_nothing_changed(repository: LintedProject) -> None:
    commit(repository, "r3 and r4")
    assert judged(repository, since="HEAD") == []


@pytest.mark.parametrize("reference", ["no-such-branch", "--help", ""])
def test_a_reference_that_git_does_not_know(repository: LintedProject, reference: str) -> None:
    with pytest.raises(GitFailed, match="--since"):
        judged(repository, since=reference)


def test_outside_of_git(project: LintedProject) -> None:
    with pytest.raises(GitFailed, match="not a git repository"):
        judged(project, since="main")


def test_settings_are_read_from_the_project_file(project: LintedProject) -> None:
    file = project.folder / "pyproject.toml"
    file.write_text('[tool.alembic_safe.lint]\nstart_after = "r3"\n')
    assert project.lint().revisions == 2
    file.write_text("[tool.alembic_safe.lint\n")
    with pytest.raises(SettingError, match="pyproject"):
        project.lint()
