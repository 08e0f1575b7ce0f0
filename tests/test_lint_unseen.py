"""A revision that reads rows: the schema is still known if it certainly moves rows and no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_written import write_history
from linted_project import LintedProject, codes, places

from alembic_safe.rules.settings import LintSettings

TABLE = """
op.create_table("t", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("a", sa.Text))
"""
KNOWN = 'op.execute("ALTER TABLE t DROP CONSTRAINT no_such_constraint")'
"""Certain to fail, if it is known what the table has."""

READS = "for row in bind.execute(sa.text('SELECT id FROM t')):\n    "


def is_known_after(folder: Path, upgrade: str, head: str = "") -> bool:
    """Whether the schema is still known after a revision."""
    project = LintedProject(folder)
    write_history(project, "r1", upgrade=TABLE)
    body = f"bind = op.get_bind()\n{upgrade}"
    write_history(project, "r2", "r1", upgrade=body, downgrade='op.drop_table("t")', marks=head)
    write_history(project, "r3", "r2", upgrade=KNOWN)
    report = project.lint(LintSettings(), ranges=["r2:r3"])
    messages = " ".join(located.finding.message for located in report.findings)
    return "no_such_constraint" in messages


@pytest.mark.parametrize(
    "upgrade",
    [
        f"{READS}bind.execute(sa.text('UPDATE t SET a = 1 WHERE id = :i'), {{'i': row.id}})",
        f"{READS}op.execute('DELETE FROM t')",
        f"{READS}print(row.id, len(row), str(row.id).strip())",
        f"{READS}bind.execute(sa.table('t').update().where(sa.column('a') == 1).values(a=2))",
        f"{READS}op.bulk_insert(sa.table('t', sa.column('a')), [{{'a': json.dumps(row.a)}}])",
        f"def change(row):\n    bind.execute(sa.text('UPDATE t SET a = 1'))\n{READS}change(row)",
        "rows = bind.execute(sa.text('SELECT 1')).all()\nrows[0].value.split()",
        "session = Session(bind)\nsession.query(1).all()\nsession.commit()",
    ],
)
def test_what_moves_rows(tmp_path: Path, upgrade: str) -> None:
    assert is_known_after(tmp_path, upgrade, head="import json\nfrom sqlalchemy.orm import Session")


@pytest.mark.parametrize(
    "upgrade",
    [
        f"{READS}op.drop_column('t', 'a')",
        f"{READS}bind.execute(sa.text('ALTER TABLE t DROP COLUMN a'))",
        f"{READS}bind.execute(sa.text(f'DROP TABLE {{row.a}}'))",
        f"{READS}bind.execute(row.statement)",
        f"{READS}sa.Table('u', sa.MetaData()).create(bind)",
        f"{READS}metadata.create_all(bind)",
        f"{READS}conf.migrate(bind)",
        f"{READS}migrate(bind)",
        f"{READS}eval('x')",
        "run = op.execute\nsa.inspect(bind)\nrun('DROP TABLE t')",
        "sa.inspect(bind)\nop.drop_column('t', 'a')",
        "op.drop_column('t', 'a')\nbind.execute(sa.text('SELECT 1')).all()",
    ],
)
def test_what_may_do_more(tmp_path: Path, upgrade: str) -> None:
    head = "from xml_app import conf, migrate\nmetadata = None"
    (tmp_path / "xml_app.py").write_text("conf = migrate = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert not is_known_after(tmp_path / "project", upgrade, head)


def test_plain_sql_that_was_not_run_is_judged(tmp_path: Path) -> None:
    project = LintedProject(tmp_path)
    write_history(project, "r1", upgrade=TABLE)
    write_history(
        project,
        "r2",
        "r1",
        marks='DROP = "DROP TABLE t"',
        upgrade="""
        bind = op.get_bind()
        if bind.execute(sa.text("SELECT 1")).scalar():
            op.execute("VACUUM FULL t")
        sa.inspect(bind)
        bind.execute(sa.text("CREATE INDEX ix ON t (a)"))
        op.execute(DROP)
        """,
        downgrade='op.execute("TRUNCATE t")',
    )
    report = project.lint(LintSettings(), ranges=["r2"])
    found = list(zip(places(report.errors), codes(report.errors), strict=True))
    line = 13
    assert (("r2.py", line + 1), "not-readable-offline") in found
    assert (("r2.py", line + 3), "not-readable-offline") in found
    assert (("r2.py", line + 4), "index-not-concurrent") in found
    assert {place[1] for place, _code in found} >= {line + 2, line + 5}
    assert "TRUNCATE" not in " ".join(located.sql for located in report.findings)


def test_parameters_of_what_was_not_run_are_no_errors(tmp_path: Path) -> None:
    project = LintedProject(tmp_path)
    write_history(project, "r1", upgrade=TABLE)
    write_history(
        project,
        "r2",
        "r1",
        upgrade="""
        bind = op.get_bind()
        for row in bind.execute(sa.text("SELECT id FROM t")):
            bind.execute(sa.text("UPDATE t SET a = :a WHERE id = :id"), {"a": 1, "id": row.id})
            bind.exec_driver_sql("UPDATE t SET a = a WHERE 1::bigint = id")
        """,
    )
    report = project.lint(LintSettings(), ranges=["r2"])
    assert codes(report.errors) == ["not-readable-offline"]
