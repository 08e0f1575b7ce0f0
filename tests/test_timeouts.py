"""Each statement of a revision runs with the timeouts that its lock asks for, whatever wrote it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Database
from environments import use_driver
from hand_written import write_history
from project import Project

from alembic_safe.runtime.timeouts import Timeouts

NOTED = """
CREATE TABLE orders (id int CONSTRAINT positive CHECK (id > 0));
INSERT INTO orders VALUES (1);
CREATE TABLE seen (what text, timeouts text);
CREATE FUNCTION noted() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN set_config('seen.timeouts', current_setting('lock_timeout') || ' and '
                      || current_setting('statement_timeout'), false);
END $$;
CREATE FUNCTION noted(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM public.noted();
    RETURN $1;
END $$;
ALTER TABLE orders ADD CONSTRAINT noted CHECK (noted(id) > 0) NOT VALID;
CREATE FUNCTION unbounded(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    ASSERT current_setting('lock_timeout') || current_setting('statement_timeout') = '1h0';
    RETURN $1;
END $$;
CREATE FUNCTION tell(text) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO seen VALUES ($1, current_setting('seen.timeouts')) $$;
"""
"""What reads the timeouts in the middle of a statement: a default, a constraint, an index (whose
settings end with it, so that it only tells whether they are as they should be)."""

ADD = 'op.execute("ALTER TABLE orders ADD {} text DEFAULT noted()")\n'
VALIDATE = 'op.execute("ALTER TABLE orders VALIDATE CONSTRAINT noted")\n'
INDEX = 'op.execute("CREATE INDEX CONCURRENTLY ix ON orders (unbounded(id))")\n'
WRITE = 'op.execute("UPDATE orders SET id = 1 WHERE noted() IS NULL")\n'


def tell(what: str) -> str:
    return f"op.execute(\"SELECT tell('{what}')\")\n"


NO_TABLE_IS_SMALL = "[tool.alembic_safe.lint]\nsmall_table_bytes = 0\n"

SHORT, BLOCKING, NONE = "50ms and 0", "50ms and 5050ms", "1h and 0"


@pytest.fixture
def project(alembic_project: Project, database: Database) -> Iterator[Project]:
    database.execute(NOTED)
    write_history(alembic_project, "r1")
    yield alembic_project
    database.execute("ALTER ROLE postgres RESET statement_timeout")


def upgraded(project: Project, database: Database, body: str, marks: str = "") -> dict[str, str]:
    """Apply a revision; return what its statements ran with."""
    write_history(project, "r2", "r1", upgrade=body, marks=marks)
    project.run("upgrade", "head")
    return dict(database.execute("SELECT what, timeouts FROM seen"))


def in_autocommit(body: str) -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"with op.get_context().autocommit_block():\n{lines}"


def test_in_one_transaction_each_has_its_own(project: Project, database: Database) -> None:
    body = ADD.format("a") + tell("alter") + WRITE + tell("write") + ADD.format("b") + tell("again")
    seen = upgraded(project, database, body)
    assert seen == {"alter": BLOCKING, "write": SHORT, "again": BLOCKING}


def test_what_keeps_only_schema_changes_away_waits_as_long_as_it_has_to(
    project: Project, database: Database
) -> None:
    seen = upgraded(project, database, VALIDATE + tell("validate") + WRITE + tell("write"))
    assert seen == {"validate": NONE, "write": SHORT}


def test_but_not_while_its_transaction_blocks_others(project: Project, database: Database) -> None:
    body = 'op.execute("ALTER TABLE orders ALTER id SET DEFAULT 1")\n' + VALIDATE + tell("validate")
    with_reason = f"import alembic_safe\nwith alembic_safe.assured('few rows'):\n    {VALIDATE}"
    body = body.replace(VALIDATE, with_reason)
    assert upgraded(project, database, body) == {"validate": SHORT}


def test_what_a_person_answers_for_may_block_for_longer(
    project: Project, database: Database
) -> None:
    (project.folder / "pyproject.toml").write_text(NO_TABLE_IS_SMALL)
    add = ADD.format("a").replace("text DEFAULT", "text DEFAULT clock_timestamp() ||")
    body = f"import alembic_safe\nwith alembic_safe.assured('few rows'):\n    {add}" + tell("alter")
    assert upgraded(project, database, body) == {"alter": SHORT}


@pytest.mark.parametrize("marks", ["", "transactional = False"])
def test_in_autocommit_too(project: Project, database: Database, marks: str) -> None:
    body = INDEX + ADD.format("a") + tell("alter") + WRITE + tell("write") + VALIDATE + tell("last")
    seen = upgraded(project, database, in_autocommit(body) if not marks else body, marks)
    assert seen == {"alter": BLOCKING, "write": SHORT, "last": NONE}


def test_behind_a_commit_of_the_revision_too(project: Project, database: Database) -> None:
    commit = "op.get_bind().commit()\n"
    body = WRITE + commit + ADD.format("a") + tell("alter") + commit + WRITE + tell("write")
    assert upgraded(project, database, body) == {"alter": BLOCKING, "write": SHORT}


def test_behind_a_savepoint_that_is_undone_too(project: Project, database: Database) -> None:
    body = f"""
{ADD.format("a")}
savepoint = op.get_bind().begin_nested()
{WRITE}
savepoint.rollback()
{WRITE}
{tell("write")}
"""
    assert upgraded(project, database, body) == {"write": SHORT}


def test_with_the_guard_off_too(project: Project, database: Database) -> None:
    (project.folder / "pyproject.toml").write_text('[tool.alembic_safe]\nguard = "off"\n')
    body = ADD.format("a") + tell("alter") + VALIDATE + WRITE + tell("write")
    assert upgraded(project, database, body) == {"alter": BLOCKING, "write": SHORT}


@pytest.mark.parametrize(("own", "blocking"), [("2s", "2s"), ("1min", "5050ms")])
def test_a_shorter_timeout_of_the_role_stays(
    project: Project, database: Database, own: str, blocking: str
) -> None:
    database.execute(f"ALTER ROLE postgres SET statement_timeout = '{own}'")
    body = ADD.format("a") + tell("alter") + WRITE + tell("write")
    seen = upgraded(project, database, body)
    assert seen == {"alter": f"50ms and {blocking}", "write": f"50ms and {own}"}


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_what_the_revision_sets_itself_stays(
    project: Project, database: Database, setting: str
) -> None:
    body = f"op.execute(\"SET LOCAL {setting} = '7s'\")\n" + ADD.format("a") + tell("alter")
    lock, statement = upgraded(project, database, body)["alter"].split(" and ")
    assert (lock if setting == "lock_timeout" else statement) == "7s"


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg", "pg8000"])
def test_through_every_driver(project: Project, database: Database, driver: str) -> None:
    use_driver(project, database.url(driver))
    body = ADD.format("a") + tell("alter") + WRITE + tell("write")
    assert upgraded(project, database, body) == {"alter": BLOCKING, "write": SHORT}


def test_an_operation_of_the_package_too(project: Project, database: Database) -> None:
    body = f"""
op.add_column_if_not_exists("orders", "a", "text DEFAULT noted()")
{tell("alter")}
op.validate_constraint("noted", "orders")
{tell("validate")}
"""
    seen = upgraded(project, database, body, "transactional = False")
    assert seen == {"alter": BLOCKING, "validate": NONE}


def test_a_statement_that_blocks_for_too_long_is_ended(
    project: Project, database: Database
) -> None:
    # The default is computed once, while the table is locked.
    slow = "CREATE FUNCTION slow() RETURNS text LANGUAGE sql STABLE AS 'SELECT pg_sleep(600)::text'"
    database.execute(slow)
    body = 'op.execute("ALTER TABLE orders ADD a text DEFAULT slow()")'
    write_history(project, "r2", "r1", upgrade=body)
    env = {"ALEMBIC_SAFE_BLOCKING_TIMEOUT": "100ms"}
    failed = project.run("upgrade", "head", env=env, check=False)
    assert failed.returncode != 0
    assert "canceling statement due to statement timeout" in failed.stdout
    assert "blocking_timeout" in failed.stdout
    assert database.execute("SELECT count(*) FROM pg_attribute WHERE attname = 'a'") == [(0,)]


@pytest.mark.parametrize(
    ("own", "expected"), [("0", "3s"), ("2999ms", "2999ms"), ("2s", "2s"), ("1d", "3s")]
)
def test_the_shorter_one_counts(database: Database, own: str, expected: str) -> None:
    setting = Timeouts(0.02, 3.0).setting(own, is_local=False)
    with database.connect() as session:
        session.execute(f"SELECT {setting}".encode())
        found = session.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        ).fetchone()
    assert found == ("20ms", expected)
