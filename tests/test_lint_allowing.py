"""A finding is let through for a reason, where it stands and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_written import write_history
from linted_project import LintedProject, codes, own_codes

from alembic_safe.lint.report import Report
from alembic_safe.rules.catalogue import CODES
from alembic_safe.rules.settings import Ignored, LintSettings

ENV = """\
import alembic_safe
from alembic import context
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Severity


def seen(effects, surroundings):
    words = effects.sql.split()
    if words[0] in ("ANALYZE", "VACUUM"):
        yield Finding(words[0].lower(), Severity.ERROR, effects.sql, QualifiedName(words[1]))


context.configure(dialect_name="postgresql", **alembic_safe.configure(rules=[seen]))
alembic_safe.run_migrations(context)
"""


@pytest.fixture
def project(tmp_path: Path) -> LintedProject:
    return LintedProject(tmp_path, env=ENV)


def lint(project: LintedProject, upgrade: str, marks: str = "", downgrade: str = "pass") -> Report:
    write_history(project, "r1", upgrade=upgrade, marks=marks, downgrade=downgrade)
    return project.lint(LintSettings())


REASON = "nobody uses it yet"
ALLOW = f"# alembic-safe: allow analyze -- {REASON}"


@pytest.mark.parametrize(
    "upgrade",
    [
        f'op.execute("ANALYZE t")  {ALLOW}',
        f'{ALLOW}\nop.execute("ANALYZE t")',
        f'{ALLOW}\n# and a word more\n\nop.execute("ANALYZE t")',
        f'op.execute(  {ALLOW}\n    "ANALYZE t"\n)',
        f'op.execute(\n    {ALLOW}\n    "ANALYZE t"\n)',
        f'op.execute(\n    "ANALYZE t"\n)  {ALLOW}',
        '# alembic-safe: allow vacuum, analyze -- both\nop.execute("ANALYZE t; VACUUM t")',
        f'match "a":\n    case _:\n        {ALLOW}\n        op.execute("ANALYZE t")',
        f'def both():\n    op.execute("ANALYZE t")  {ALLOW}\nboth()',
        f'with op.batch_alter_table("t"):\n    op.execute("ANALYZE t")  {ALLOW}',
        f'with op.batch_alter_table("t") as batch:  {ALLOW}\n    op.execute("ANALYZE t")',
    ],
)
def test_a_comment_at_the_statement(project: LintedProject, upgrade: str) -> None:
    report = lint(project, upgrade)
    if "batch_alter_table" in upgrade and upgrade.endswith('t")'):
        # The comment is about what the batch itself writes.
        assert own_codes(report.findings) == ["analyze", "allow-unused"]
        return
    assert own_codes(report.findings) == []
    assert report.allowed[0].allowed in (REASON, "both")


def test_a_comment_on_a_batch_is_about_all_that_the_batch_writes(project: LintedProject) -> None:
    project.env(ENV.replace('("ANALYZE", "VACUUM")', '("ALTER",)'))
    report = lint(
        project,
        """
        with op.batch_alter_table("t") as batch:
            # alembic-safe: allow alter -- nobody uses it yet
            batch.add_column(sa.Column("b", sa.Integer))
            batch.drop_column("a")
        """,
    )
    assert (own_codes(report.findings), own_codes(report.allowed)) == ([], ["alter", "alter"])


def test_a_comment_above_the_functions_is_about_the_file(project: LintedProject) -> None:
    upgrade = 'op.execute("ANALYZE a")\nop.execute("VACUUM b")\nop.execute("ANALYZE c")'
    report = lint(project, upgrade, marks=ALLOW)
    assert own_codes(report.findings) == ["vacuum"]
    assert own_codes(report.allowed) == ["analyze", "analyze"]


@pytest.mark.parametrize(
    "above",
    [
        f"async def fill(connection):\n    {ALLOW}\n    await connection.execute('x')",
        f"class Steps:\n    {ALLOW}\n    index = 'x'",
        f"class Steps:\n    def first(self):\n        return 'x'  {ALLOW}",
        f"def other():\n    return 'x'\n{ALLOW}",
        f"def other():\n    return 'x'\n    {ALLOW}",
        f"if op:\n    x = 1\n    {ALLOW}",
        f"if op:\n{ALLOW}\n    x = 1",
        f"try:\n    def other():\n        return 'x'  {ALLOW}\nfinally:\n    pass",
        f"other = lambda: (\n{ALLOW}\n    'x'\n)",
        f"@staticmethod\n{ALLOW}\ndef other():\n    return 'x'",
    ],
)
def test_a_comment_in_another_function_or_statement_is_not_about_the_file(
    project: LintedProject, above: str
) -> None:
    report = lint(project, 'op.execute("ANALYZE t")', marks=above)
    assert own_codes(report.findings) == ["analyze", "allow-unused"]


@pytest.mark.parametrize("below", ["class Steps: ...", "@staticmethod\ndef other(): ...", "x = 1"])
def test_a_comment_above_all_of_them_is(project: LintedProject, below: str) -> None:
    report = lint(project, 'op.execute("ANALYZE t")', marks=f"{ALLOW}\n{below}")
    assert own_codes(report.allowed) == ["analyze"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_comment_in_a_file_of_another_encoding(project: LintedProject, encoding: str) -> None:
    cookie = "# -*- coding: latin-1 -*-\n" if encoding == "latin-1" else ""
    file = write_history(project, "r1", upgrade=f'{ALLOW}: déjà vu\nop.execute("ANALYZE t")')
    file.write_text(cookie + file.read_text(encoding="utf-8"), encoding=encoding)
    (located,) = project.lint(LintSettings()).found
    assert located.allowed == f"{REASON}: déjà vu"


@pytest.mark.parametrize("character", ["\f", "\x1c", "\u2028", "\x85"])
def test_lines_are_those_of_python(project: LintedProject, character: str) -> None:
    upgrade = (
        f'op.execute("ANALYZE a")\n\nop.execute("ANALYZE b")  {ALLOW}\nop.execute("ANALYZE c")'
    )
    report = lint(project, upgrade, marks=f"# a page\n# {character}")
    assert [located.sql for located in report.allowed] == ["ANALYZE b"]
    report = lint(project, upgrade.replace(f"  {ALLOW}", ""), marks=f"# {character}\n{ALLOW}")
    assert len(report.allowed) == 3


def test_assured_lets_through(project: LintedProject) -> None:
    report = lint(
        project,
        """
        import alembic_safe
        with alembic_safe.assured("nobody uses it yet"):
            op.execute("ANALYZE t")
        op.execute("VACUUM t")
        """,
    )
    assert own_codes(report.findings) == ["vacuum"]
    assert {located.allowed for located in report.allowed} == {REASON}


@pytest.mark.parametrize(
    "upgrade",
    [
        f'{ALLOW}\npass\nop.execute("ANALYZE t")',
        f'op.execute("ANALYZE t")\n{ALLOW}\npass',
        f'match "a":\n    case "b":\n        {ALLOW}\n        pass\n'
        '    case _:\n        op.execute("ANALYZE t")',
        f'if not op:\n    {ALLOW}\n    pass\nelse:\n    op.execute("ANALYZE t")',
        'op.execute("ANALYZE t")  # alembic-safe: allow vacuum -- another code',
        f'text = "{ALLOW}"\nop.execute("ANALYZE t")',
        f'op.execute("ANALYZE t /* {ALLOW} */")',
    ],
)
def test_a_comment_elsewhere_lets_nothing_through(project: LintedProject, upgrade: str) -> None:
    report = lint(project, upgrade)
    assert "analyze" in own_codes(report.findings)
    assert report.allowed == []


# A comment that is wrong is a finding itself.


@pytest.mark.parametrize(
    "comment",
    [
        "# alembic-safe: allow analyze",
        "# alembic-safe: allow analyze --",
        "# alembic-safe: allow analyze -- ",
        "# alembic-safe: allow",
        "# alembic-safe: ignore analyze -- a reason",
        "# alembic-safe: allow analyze because of me",
    ],
)
def test_a_reason_is_required(project: LintedProject, comment: str) -> None:
    report = lint(project, f'op.execute("ANALYZE t")  {comment}')
    assert own_codes(report.findings) == ["analyze", "allow-without-reason"]
    assert not report.is_clean()


def test_a_comment_without_a_finding(project: LintedProject) -> None:
    report = lint(project, f"pass  {ALLOW}")
    assert own_codes(report.findings) == ["allow-unused"]
    assert report.is_clean()
    assert not report.is_clean(strict=True)


def test_a_comment_about_a_downgrade_that_is_not_judged(project: LintedProject) -> None:
    report = lint(project, "pass", downgrade=f'op.execute("ANALYZE t")  {ALLOW}')
    assert own_codes(report.found) == []
    report = project.lint(LintSettings(), downgrades=True)
    assert own_codes(report.allowed) == ["analyze"]
    assert own_codes(report.findings) == []


def test_a_comment_in_a_revision_that_is_not_judged(project: LintedProject) -> None:
    write_history(project, "r1", upgrade=f"pass  {ALLOW}")
    write_history(project, "r2", "r1")
    assert project.lint(LintSettings(), ranges=["r2"]).found == ()


# The settings.


def test_the_settings_let_through(project: LintedProject) -> None:
    write_history(project, "r1", upgrade='op.execute("ANALYZE a")\nop.execute("ANALYZE b")')
    write_history(project, "r2", "r1", upgrade='op.execute("ANALYZE a")')
    ignore = (Ignored("analyze", REASON, revisions=("r1",), tables=("a",)),)
    report = project.lint(LintSettings(ignore=ignore))
    assert [(located.revision, located.sql) for located in report.allowed] == [("r1", "ANALYZE a")]
    assert own_codes(report.findings) == ["analyze", "analyze"]


def test_settings_that_let_nothing_through(project: LintedProject) -> None:
    write_history(project, "r1", upgrade='op.execute("ANALYZE a")')
    ignore = (Ignored("analyze", REASON), Ignored("vacuum", REASON))
    assert own_codes(project.lint(LintSettings(ignore=ignore)).findings) == ["allow-unused"]
    # Of a part nobody can tell.
    of_a_part = project.lint(LintSettings(ignore=ignore), ranges=["r1"])
    assert own_codes(of_a_part.findings) == []


# SQL files.

INDEX = "CREATE INDEX i ON t (a);"
OTHER = "CREATE INDEX j ON t (a);"
COMMENT = "-- alembic-safe: allow index-not-concurrent"
ALLOWED = f"{COMMENT} -- new"


@pytest.mark.parametrize(
    ("text", "found", "allowed"),
    [
        (f"SELECT 1;\n{ALLOWED}\n{INDEX}", [], 1),
        (f"{INDEX} {ALLOWED}", [], 1),
        (f"{ALLOWED}\n\n{INDEX}\n{OTHER}", [], 2),
        (f"{ALLOWED}\n{INDEX}\n{OTHER}", ["index-not-concurrent"], 1),
        (f"{INDEX} {COMMENT}", ["index-not-concurrent", "allow-without-reason"], 0),
        (f"SELECT 1;\n{ALLOWED}\n", ["allow-unused"], 0),
        (f"CREATE INDEX\n i {ALLOWED}\n ON t (a);", [], 1),
        ("-- alembic-safe: allow indexx -- new\n", ["allow-unknown-code"], 0),
    ],
)  # fmt: skip
def test_comments_in_sql_files(
    project: LintedProject, text: str, found: list[str], allowed: int
) -> None:
    file = project.folder / "a.sql"
    file.write_text(text)
    report = project.lint(LintSettings(), files=[file])
    others = CODES - {"index-not-concurrent"}
    assert [code for code in codes(report.findings) if code not in others] == found
    assert len(report.allowed) == allowed


def test_lines_of_sql_files_are_those_of_editors(project: LintedProject) -> None:
    file = project.folder / "a.sql"
    file.write_text(f"SELECT 1; -- \f\u2028\n{INDEX}\n{OTHER} {ALLOWED}\n{INDEX}")
    (allowed,) = project.lint(LintSettings(), files=[file]).allowed
    assert (allowed.line, allowed.sql) == (3, OTHER.removesuffix(";"))


def test_an_sql_file_can_begin_with_a_byte_order_mark(project: LintedProject) -> None:
    file = project.folder / "a.sql"
    file.write_text(f"{ALLOWED}\n{INDEX}", encoding="utf-8-sig")
    assert [located.allowed for located in project.lint(LintSettings(), files=[file]).allowed] == [
        "new"
    ]
