"""The guard in a real upgrade: what it stops, what stays of it, what the ledger keeps, and where
it does not look."""

from __future__ import annotations

import textwrap

import pytest
from conftest import Database
from environments import replace_in_env
from hand_written import write_contract, write_history
from patience import wait_for_no_waiter, wait_for_waiter
from project import Project

INDEX = 'op.create_index("ix_orders_note", "orders", ["note"])'
ASSURED = 'with alembic_safe.assured("100 rows, counted today"):\n    ' + INDEX
UP = ("upgrade", "head")
CREATE = """
op.create_table("orders", sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.Text))
"""


NO_TABLE_IS_SMALL = "[tool.alembic_safe.lint]\nsmall_table_bytes = 0\n"


@pytest.fixture
def shop(alembic_project: Project, database: Database) -> Project:
    """A project that is in use: r1 is applied, and its table has rows, few of which stand for
    many."""
    (alembic_project.folder / "pyproject.toml").write_text(NO_TABLE_IS_SMALL)
    write_history(alembic_project, "r1", upgrade=CREATE, downgrade='op.drop_table("orders")')
    alembic_project.run(*UP)
    database.execute("INSERT INTO orders SELECT n, 'note' FROM generate_series(1, 100) AS n")
    return alembic_project


def has_index(database: Database) -> bool:
    return database.execute("SELECT to_regclass('ix_orders_note') IS NOT NULL") == [(True,)]


def version(database: Database) -> str:
    ((name,),) = database.execute("SELECT version_num FROM alembic_version")
    return str(name)


def test_a_hand_written_index_is_stopped_and_the_revision_undone(
    shop: Project, database: Database
) -> None:
    add = 'op.add_column("orders", sa.Column("added", sa.Integer))\n' + INDEX
    write_history(shop, "r2", "r1", upgrade=add)
    failed = shop.run(*UP, check=False)
    told = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "Traceback" not in told
    assert "Revision r2 was stopped at this statement: CREATE INDEX ix_orders_note" in told
    assert "op.create_index_concurrently(" in told
    assert "The database is in the state before this revision." in told
    assert version(database) == "r1"
    assert database.execute("SELECT * FROM orders LIMIT 0") == []
    columns = database.execute("SELECT attname FROM pg_attribute WHERE attname = 'added'")
    assert columns == []


def test_what_was_committed_before_is_told(shop: Project) -> None:
    body = f"""
    with op.get_context().autocommit_block():
        op.execute("SELECT 1")
    {INDEX}
    """
    write_history(shop, "r2", "r1", upgrade=body)
    told = shop.run(*UP, check=False).stdout
    assert "What the revision committed before stays: undo it by hand." in told


@pytest.mark.parametrize("setting", ["warn", "off"])
def test_the_setting_lets_it_through(shop: Project, database: Database, setting: str) -> None:
    write_history(shop, "r2", "r1", upgrade=INDEX)
    done = shop.run("-x", f"guard={setting}", *UP)
    assert has_index(database)
    assert ("[index-not-concurrent]" in done.stderr) == (setting == "warn")


@pytest.mark.parametrize("at_once", [True, False], ids=["in one run", "in two runs"])
def test_what_the_run_itself_has_added_is_known_to_no_running_release(
    shop: Project, at_once: bool
) -> None:
    write_history(shop, "r2", "r1", upgrade='op.add_column("orders", sa.Column("x", sa.Integer))')
    if not at_once:
        shop.run(*UP)
    check = "CHECK (x > 0) NOT VALID"
    write_history(
        shop, "r3", "r2", upgrade=f'op.execute("ALTER TABLE orders ADD CONSTRAINT c {check}")'
    )
    told = shop.run(*UP).stderr
    assert ("[tightened-table]" in told) != at_once


def test_advice_about_design_is_left_to_lint(shop: Project) -> None:
    write_history(shop, "r2", "r1", upgrade=CREATE.replace("orders", "other"))
    assert "WARN" not in shop.run(*UP).stderr


def test_the_ledger_keeps_what_was_assured(shop: Project, database: Database) -> None:
    write_history(
        shop,
        "r2",
        "r1",
        upgrade=ASSURED,
        downgrade='op.drop_index("ix_orders_note")',
        marks="import alembic_safe",
    )
    shop.run(*UP, env={"ALEMBIC_SAFE_RELEASE": "v2"})
    assert has_index(database)
    rows = database.execute(
        "SELECT revision, release, command, codes, reason, line FROM alembic_safe_ledger"
        " WHERE event = 'assured'"
    )
    reason = "100 rows, counted today"
    assert rows == [("r2", "v2", "CREATE INDEX", ["index-not-concurrent"], reason, None)]
    # It is no step: the gate goes on to know that r2 is applied.
    shop.run("downgrade", "r1")
    shop.run(*UP)


def test_the_ledger_keeps_what_would_only_have_been_told(shop: Project, database: Database) -> None:
    both_ways = ASSURED.replace("ix_orders_note", "ix")
    write_history(
        shop,
        "r2",
        "r1",
        upgrade=ASSURED,
        downgrade=f'op.drop_index("ix_orders_note")\n{both_ways}',
        marks="import alembic_safe",
    )
    shop.run("-x", "guard=warn", *UP)
    shop.run("downgrade", "r1")
    rows = database.execute(
        "SELECT command, reason FROM alembic_safe_ledger WHERE event = 'assured'"
    )
    assert rows == [("CREATE INDEX", "100 rows, counted today")] * 2


def test_a_reason_becomes_a_comment_of_the_script(shop: Project) -> None:
    body = ASSURED.replace("100 rows,", "100 rows,\\n")
    write_history(shop, "r2", "r1", upgrade=body, marks="import alembic_safe")
    script = shop.run("upgrade", "r1:r2", "--sql").stdout
    before, after = script.split("CREATE INDEX ix_orders_note")
    assert "-- Assured: 100 rows, counted today\n" in before
    assert "Assured" not in after


def test_no_reason_is_an_error(shop: Project, database: Database) -> None:
    body = ASSURED.replace("100 rows, counted today", " ")
    write_history(shop, "r2", "r1", upgrade=body, marks="import alembic_safe")
    assert "assured() needs a reason" in shop.run(*UP, check=False).stdout
    assert not has_index(database)


def test_a_ledger_of_an_earlier_release_gets_its_columns(shop: Project, database: Database) -> None:
    database.execute(
        "ALTER TABLE alembic_safe_ledger DROP COLUMN command, DROP COLUMN codes, DROP COLUMN reason"
    )
    write_history(shop, "r2", "r1", upgrade=ASSURED, marks="import alembic_safe")
    shop.run(*UP)
    reasons = database.execute("SELECT reason FROM alembic_safe_ledger WHERE event = 'assured'")
    assert reasons == [("100 rows, counted today",)]


def test_each_attempt_is_judged_by_what_it_has_done_itself(
    shop: Project, database: Database
) -> None:
    body = """
    op.create_table("baskets", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO baskets VALUES (1)")
    op.create_index("ix_baskets", "baskets", ["id"])
    op.add_column("orders", sa.Column("added", sa.Integer))
    """
    write_history(shop, "r2", "r1", upgrade=body)
    with database.connect() as other:
        other.autocommit = False
        other.execute("LOCK TABLE orders")
        env = {"ALEMBIC_SAFE_RETRY_CAP": "100ms", "ALEMBIC_SAFE_OLD_TRANSACTION": "1h"}
        running = shop.popen(*UP, env=env)
        wait_for_waiter(database, "orders")
        wait_for_no_waiter(database, "orders")
        other.rollback()
    _, told = running.communicate(timeout=60)
    assert "attempt 1, no lock on orders" in told
    assert running.returncode == 0, told
    assert version(database) == "r2"


def test_a_contract_revision_may_contract(shop: Project, database: Database) -> None:
    write_contract(shop, "c1", "r1", upgrade='op.drop_column("orders", "note")')
    shop.run("-x", "contract=now", *UP)
    assert database.execute("SELECT * FROM orders LIMIT 1") == [(1,)]


def test_a_downgrade_is_told(shop: Project, database: Database) -> None:
    done = shop.run("downgrade", "base")
    assert database.execute("SELECT to_regclass('orders')") == [(None,)]
    assert done.returncode == 0


# A fresh database.

WITH_A_ROW = CREATE + "op.execute(\"INSERT INTO orders VALUES (1, 'note')\")"


def test_a_fresh_database_is_not_watched(alembic_project: Project, database: Database) -> None:
    write_history(alembic_project, "r1", upgrade=WITH_A_ROW)
    write_history(alembic_project, "r2", "r1", upgrade=INDEX)
    write_history(alembic_project, "r3", "r2", upgrade='op.drop_column("orders", "note")')
    done = alembic_project.run(*UP)
    assert "WARN" not in done.stderr
    assert version(database) == "r3"


def test_nor_is_it_when_its_first_upgrade_goes_on(
    alembic_project: Project, database: Database
) -> None:
    write_history(alembic_project, "r1", upgrade=WITH_A_ROW)
    second = write_history(alembic_project, "r2", "r1", upgrade="1 / 0")
    alembic_project.run(*UP, check=False)
    second.write_text(second.read_text().replace("1 / 0", INDEX))
    alembic_project.run(*UP)
    assert has_index(database)


def test_tables_that_were_there_before_alembic_are_in_use(
    alembic_project: Project, database: Database
) -> None:
    (alembic_project.folder / "pyproject.toml").write_text(NO_TABLE_IS_SMALL)
    database.execute("CREATE TABLE orders (id int, note text); INSERT INTO orders VALUES (1)")
    write_history(alembic_project, "r1", upgrade=INDEX)
    for _again in range(2):
        assert "was stopped" in alembic_project.run(*UP, check=False).stdout
    assert not has_index(database)


def test_without_the_parser_the_guard_says_so(shop: Project, database: Database) -> None:
    (shop.folder / "postgast.py").write_text("raise ImportError('no wheel for this system')")
    write_history(shop, "r2", "r1", upgrade=INDEX)
    told = shop.run(*UP, check=False).stdout
    assert "The guard cannot read SQL: no wheel for this system." in told
    assert "-x guard=off" in told
    assert version(database) == "r1"
    shop.run("-x", "guard=off", *UP)


def test_rules_of_the_environment(shop: Project) -> None:
    (shop.folder / "rules.py").write_text(
        textwrap.dedent(
            """
            from alembic_safe.rules.finding import Finding, Severity


            def no_comments(effects, surroundings):
                if effects.node_name == "comment_stmt":
                    yield Finding("no-comments", Severity.ERROR, "nobody reads them")
            """
        )
    )
    replace_in_env(shop, "import alembic_safe\n", "import alembic_safe\nimport rules\n")
    replace_in_env(
        shop, "alembic_safe.configure()", "alembic_safe.configure(rules=[rules.no_comments])"
    )
    write_history(shop, "r2", "r1", upgrade="op.execute(\"COMMENT ON TABLE orders IS 'x'\")")
    assert "nobody reads them [no-comments]" in shop.run(*UP, check=False).stdout


def test_batches_of_a_backfill_are_neither_told_nor_noted(
    shop: Project, database: Database
) -> None:
    hot = f'{NO_TABLE_IS_SMALL}hot_tables = ["orders"]\n'
    (shop.folder / "pyproject.toml").write_text(hot)
    fill = 'op.backfill("orders", {"note": "note || id"}, where="note = \'note\'")'
    write_history(shop, "r2", "r1", upgrade=fill, marks="transactional = False")
    told = shop.run("-x", "batch_size=30", *UP).stderr
    assert ("WARN" in told, "Assured" in told) == (False, False)
    assert database.execute("SELECT * FROM alembic_safe_ledger WHERE event = 'assured'") == []
    assert database.execute("SELECT count(*) FROM orders WHERE note = 'note'") == [(0,)]
