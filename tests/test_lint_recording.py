"""Lint sees every statement of a revision, knows where it stands, and sends nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hand_written import write_contract, write_history
from linted_project import PLAIN_ENV, LintedProject

from alembic_safe.errors import EnvironmentFailed, OtherDatabase
from alembic_safe.lint.ranges import revisions_of
from alembic_safe.lint.recording import RecordedStep, Recording, record
from alembic_safe.phases import Phase


@pytest.fixture
def project(tmp_path: Path) -> LintedProject:
    return LintedProject(tmp_path)


def recordings(project: LintedProject, *, back: bool = False) -> list[Recording]:
    history = ScriptDirectory.from_config(project.config())
    scripts = revisions_of(history).scripts
    return record(project.config(), history, scripts, scripts[::-1] if back else ())


def steps(project: LintedProject, *, back: bool = False) -> list[RecordedStep]:
    (recording,) = recordings(project, back=back)
    return recording.steps


def written(project: LintedProject) -> list[tuple[int, str]]:
    """The statements of the one revision there is, with lines counted from its first statement."""
    (step,) = steps(project)
    assert step.unreadable == []
    return [(each.line - FIRST_LINE + 1, " ".join(each.text.split())) for each in step.written]


FIRST_LINE = 13
"""Of the body of `upgrade()` in a revision that `write_history` writes."""


def without_casts(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Older releases of SQLAlchemy write no types behind parameters."""
    return [(line, text.replace("::INTEGER", "")) for line, text in lines]


# What becomes SQL.


def test_operations_and_text_become_sql_with_their_lines(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        op.create_index("ix", "t", ["a"])
        op.execute("UPDATE t SET a = 1")
        op.execute(sa.text("UPDATE t SET a = :new").bindparams(new=2))
        op.get_bind().execute(sa.text("DELETE FROM t WHERE a = :old"), {"old": 3})
        """,
    )
    assert without_casts(written(project)) == [
        (1, "CREATE INDEX ix ON t (a);"),
        (2, "UPDATE t SET a = 1;"),
        (3, "UPDATE t SET a = $1;"),
        (4, "DELETE FROM t WHERE a = $1;"),
    ]


def test_the_line_of_a_call_in_a_function_of_the_file(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        def both(name):
            op.execute(f"ANALYZE {name}")

        both("a")
        """,
    )
    assert written(project) == [(2, "ANALYZE a;")]


def test_the_line_of_a_call_of_another_module(project: LintedProject) -> None:
    (project.migrations / "shared_by_revisions.py").write_text(
        "from alembic import op\ndef analyze():\n    op.execute('ANALYZE t')\n"
    )
    write_history(
        project,
        "r1",
        upgrade=f"""
        import sys
        sys.path.append({str(project.migrations)!r})
        import shared_by_revisions
        sys.path.pop()
        shared_by_revisions.analyze()
        """,
    )
    assert written(project) == [(5, "ANALYZE t;")]


def test_a_batch_becomes_sql(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        with op.batch_alter_table("t") as batch:
            batch.add_column(sa.Column("b", sa.Integer))
            batch.drop_column("a")
        """,
    )
    assert written(project) == [
        (1, "ALTER TABLE t ADD COLUMN b INTEGER;"),
        (1, "ALTER TABLE t DROP COLUMN a;"),
    ]


def test_types_and_rows_become_sql(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        table = op.create_table("t", sa.Column("mood", sa.Enum("a", "b", name="mood")))
        op.bulk_insert(table, [{"mood": "a"}, {"mood": "b"}])
        """,
    )
    assert [line for line, _sql in written(project)] == [1, 1, 2, 2]
    assert written(project)[0][1] == "CREATE TYPE mood AS ENUM ('a', 'b');"


def test_percent_signs_stay_what_they_are(project: LintedProject) -> None:
    write_history(project, "r1", upgrade="op.execute(\"SELECT 'a%' LIKE '%%' || '\\\\:b'\")")
    assert written(project) == [(1, "SELECT 'a%' LIKE '%%' || ':b';")]


def test_an_autocommit_block_ends_the_transaction(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        with op.get_context().autocommit_block():
            op.execute("VACUUM t")
        """,
    )
    assert [sql for _line, sql in written(project)] == ["COMMIT;", "VACUUM t;", "BEGIN;"]
    (step,) = steps(project)
    assert [each.is_control for each in step.written] == [True, False, True]


def test_a_commit_in_text_is_text(project: LintedProject) -> None:
    write_history(project, "r1", upgrade='op.execute("COMMIT")')
    (step,) = steps(project)
    assert [each.is_control for each in step.written] == [False]


def test_operations_of_the_package_say_who_they_are(project: LintedProject) -> None:
    write_history(
        project, "r1", upgrade='op.backfill("t", {"a": "0"}, where="a IS NULL")\nop.execute("DO")'
    )
    (step,) = steps(project)
    backfill, text = step.written[1], step.written[-1]
    assert backfill.operation is not None
    assert backfill.operation.operation_name == "backfill"
    assert text.operation is None


# Which revisions run, and in which transaction.


def test_contract_revisions_follow_what_they_complete(project: LintedProject) -> None:
    write_history(project, "r1", marks='phase = "expand"')
    write_history(project, "r2", "r1")
    write_contract(project, "c1", "r1")
    assert [(step.revision, step.phase, step.is_contract) for step in steps(project)] == [
        ("r1", Phase.EXPAND, False),
        ("c1", Phase.CONTRACT, True),
        ("r2", None, False),
    ]


def test_the_way_back_begins_with_contract(project: LintedProject) -> None:
    write_history(project, "r1", downgrade='op.execute("DROP TABLE t")')
    write_contract(project, "c1", "r1")
    recorded = steps(project, back=True)
    assert [(step.revision, step.is_upgrade) for step in recorded] == [
        ("r1", True),
        ("c1", True),
        ("c1", False),
        ("r1", False),
    ]
    assert [each.text.strip() for each in recorded[-1].written] == ["DROP TABLE t;"]


def test_each_revision_has_a_transaction_with_a_lock_timeout(project: LintedProject) -> None:
    write_history(project, "r1")
    write_history(project, "r2", "r1")
    (recording,) = recordings(project)
    assert recording.has_runner
    assert recording.transaction_per_migration
    for step in recording.steps:
        before = [text.strip() for text in step.before]
        assert before[-1] == "SET LOCAL lock_timeout = '200ms';"
        assert "BEGIN;" in before


def test_a_revision_that_is_no_transaction_begins_outside_of_one(project: LintedProject) -> None:
    write_history(project, "r1", marks="transactional = False")
    (step,) = steps(project)
    control = [text.strip() for text in step.before if text.strip() in ("BEGIN;", "COMMIT;")]
    assert control == ["BEGIN;", "COMMIT;"]


def test_alembic_without_the_runner_has_one_transaction(project: LintedProject) -> None:
    project.env(PLAIN_ENV)
    write_history(project, "r1")
    write_history(project, "r2", "r1")
    (recording,) = recordings(project)
    assert not recording.has_runner
    assert not recording.transaction_per_migration
    control = [
        text.strip()
        for step in recording.steps
        for text in step.before
        if text.strip() in ("BEGIN;", "COMMIT;")
    ]
    assert control == ["BEGIN;"]


def test_each_database_of_an_environment_is_recorded(project: LintedProject) -> None:
    project.env(
        "from alembic import context\n"
        "for name in ('a', 'b'):\n"
        "    context.configure(dialect_name='postgresql', version_table=name)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n"
    )
    write_history(project, "r1", upgrade='op.execute("ANALYZE")')
    both = recordings(project)
    assert [recording.version_table.name for recording in both] == ["a", "b"]
    assert [len(recording.steps) for recording in both] == [1, 1]


# What env.py says about its output and its connection does not matter.


@pytest.mark.parametrize(
    "arguments",
    [
        'url="postgresql+asyncpg://localhost/x"',
        'url="postgresql+psycopg2://localhost/x", literal_binds=True',
        'dialect_name="postgresql", output_buffer=open("/dev/full", "w")',
        'dialect_name="postgresql", output_encoding="utf-16"',
        'url="postgresql://localhost/x", dialect_opts={"paramstyle": "format"}',
        'connection=create_engine("postgresql+psycopg://localhost/x")',
    ],
)
def test_any_way_to_configure(project: LintedProject, arguments: str) -> None:
    project.env(
        "from alembic import context\n"
        "from sqlalchemy import create_engine\n"
        f"context.configure({arguments})\n"
        "with context.begin_transaction():\n"
        "    context.run_migrations()\n"
    )
    write_history(project, "r1", upgrade="op.execute(sa.text(\"SELECT '%', :a\").bindparams(a=1))")
    assert without_casts(written(project)) == [(1, "SELECT '%', $1;")]


def test_another_database_is_refused(project: LintedProject) -> None:
    project.env('from alembic import context\ncontext.configure(dialect_name="sqlite")\n')
    write_history(project, "r1")
    with pytest.raises(OtherDatabase, match="'sqlite'"):
        steps(project)


def test_an_error_of_env_py_is_named(project: LintedProject) -> None:
    project.env("import nothing_of_that_name\n")
    write_history(project, "r1")
    with pytest.raises(EnvironmentFailed, match="nothing_of_that_name"):
        steps(project)


def test_what_revisions_print_is_not_in_the_report(
    project: LintedProject, capsys: pytest.CaptureFixture[str]
) -> None:
    write_history(project, "r1", upgrade='print("half way")')
    steps(project)
    assert capsys.readouterr() == ("", "half way\n")


# What cannot run without a database.


def test_a_revision_that_reads_goes_on_as_if_there_were_no_rows(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        bind = op.get_bind()
        for row in bind.execute(sa.text("SELECT id FROM t")).fetchall():
            bind.execute(sa.text("UPDATE t SET a = 1"))
        count = bind.scalar(sa.text("SELECT count(*) FROM t"))
        op.drop_column("t", "a")
        """,
    )
    (step,) = steps(project)
    assert [each.line - FIRST_LINE + 1 for each in step.written] == [2, 4, 5]
    assert [(each.line - FIRST_LINE + 1, each.stopped) for each in step.unreadable] == [
        (2, False),
        (4, False),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "sa.inspect(op.get_bind())",
        "op.get_bind().execute(sa.text('SELECT 1')).one()",
        "op.get_bind().begin_nested()",
        "raise ValueError('not today')",
        "op.bulk_insert(sa.table('t', sa.column('a', sa.LargeBinary)), [{'a': object()}])",
        "with op.batch_alter_table('t', recreate='always') as batch: batch.drop_column('a')",
    ],
)
def test_a_revision_that_cannot_go_on_does_not_stop_the_next(
    project: LintedProject, body: str
) -> None:
    write_history(project, "r1", upgrade=f"op.execute('ANALYZE a')\n{body}\nop.execute('X')")
    write_history(project, "r2", "r1", upgrade="op.execute('ANALYZE b')")
    first, second = steps(project)
    assert first.written[0].text.strip() == "ANALYZE a;"
    assert "X" not in [each.text.strip(" ;\n") for each in first.written]
    last = first.unreadable[-1]
    assert (last.line - FIRST_LINE + 1, last.stopped) == (2, True)
    assert second.written[0].text.strip() == "ANALYZE b;"


def test_a_revision_that_waits_for_a_row_is_ended(project: LintedProject) -> None:
    write_history(
        project,
        "r1",
        upgrade="""
        while op.get_bind().execute(sa.text("SELECT 1")).first() is None:
            pass
        """,
    )
    (step,) = steps(project)
    assert step.unreadable[-1].stopped


def test_a_configuration_without_a_file_will_do(project: LintedProject) -> None:
    write_history(project, "r1", upgrade='op.execute("ANALYZE")')
    config = Config()
    config.set_main_option("script_location", str(project.migrations))
    history = ScriptDirectory.from_config(config)
    (recording,) = record(config, history, revisions_of(history).scripts, ())
    assert [each.text.strip() for each in recording.steps[0].written] == ["ANALYZE;"]
