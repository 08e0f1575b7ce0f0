"""What hangs on a renamed column: after the sequence it is what a plain RENAME COLUMN leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import Database
from in_process import Environment
from rename_cases import CASES, TABLES

from alembic_safe.errors import VerificationFailed

_SHAPE = """
SELECT 'column', a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum), a.attacl::text,
       coalesce(a.attstattarget, -1), a.attstorage::text, to_jsonb(a) ->> 'attcompression',
       a.attoptions::text, a.attcollation::regcollation::text
  FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE a.attrelid = 'users'::regclass AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index', pg_get_indexdef(i.indexrelid), i.indisvalid::text, i.indimmediate,
       obj_description(i.indexrelid, 'pg_class'),
       (SELECT string_agg(a.attstattarget::text, ' ' ORDER BY a.attnum) FROM pg_attribute AS a
         WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0), NULL, 0, '', '', '', ''
  FROM pg_index AS i WHERE i.indrelid = 'users'::regclass
UNION ALL
SELECT 'constraint', c.conname::text, pg_get_constraintdef(c.oid), c.convalidated,
       obj_description(c.oid, 'pg_constraint'), NULL, NULL, 0, '', '', '', ''
  FROM pg_constraint AS c WHERE c.conrelid = 'users'::regclass AND c.contype <> 'n'
UNION ALL
SELECT 'trigger', tgname::text, '', true, '', '', '', 0, '', '', '', ''
  FROM pg_trigger WHERE tgrelid = 'users'::regclass AND NOT tgisinternal
UNION ALL
SELECT 'function', proname::text, '', true, '', '', '', 0, '', '', '', ''
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""


def shape(database: Database | psycopg.Connection[Any]) -> set[tuple[Any, ...]]:
    """Return what is defined on `users`, without the order of its columns.

    The server names a NOT NULL constraint (18) after the column it was made for; those names are
    left out, and whether a column is NOT NULL is not.
    """
    return set(database.execute(_SHAPE))


def rows(database: Database | psycopg.Connection[Any]) -> list[Any]:
    return [row[0] for row in database.execute("SELECT to_jsonb(u) FROM users u ORDER BY id")]


def undone(database: Database, sql: str) -> tuple[set[tuple[Any, ...]], list[Any]]:
    """Return shape and rows as they would be after `sql`, which is rolled back."""
    with database.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute(sql.encode())
        return shape(connection), rows(connection)


# SQLAlchemy's own, where it reflects a CHECK that is NOT VALID.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
@pytest.mark.parametrize("name", CASES)
def test_after_the_sequence_all_is_as_after_a_plain_rename(
    name: str, database: Database, tmp_path: Path
) -> None:
    case = CASES[name]
    if database.server.version < case.server:
        pytest.skip(f"PostgreSQL {case.server} has it")
    database.execute(TABLES.format(type=case.type) + case.sql)
    renamed = undone(
        database, f"ALTER TABLE users RENAME COLUMN full_name TO display_name; {case.own}"
    )
    original = undone(database, case.not_restored)
    env = Environment(tmp_path, database.url(), case.models(), include_object=case.is_visible)
    env.autogenerate()

    env.upgrade("head", "contract=now")
    assert shape(database) == renamed[0]
    assert rows(database) == renamed[1]
    env.check()

    env.downgrade("base")
    assert shape(database) == original[0]
    assert rows(database) == original[1]

    env.upgrade("head", "contract=now")
    assert shape(database) == renamed[0]
    assert rows(database) == renamed[1]


def test_a_contract_revision_that_was_taken_back_runs_again(
    database: Database, tmp_path: Path
) -> None:
    case = CASES["column with everything"]
    database.execute(TABLES.format(type=case.type) + case.sql)
    env = Environment(tmp_path, database.url(), case.models(), include_object=case.is_visible)
    env.autogenerate()
    env.upgrade("head", "contract=now")
    done = shape(database), rows(database)
    (revision,) = env.contract_revisions()

    env.take_back(revision)
    database.execute("INSERT INTO people VALUES ('name 51', 51)")
    database.execute("UPDATE users SET full_name = 'name 51' WHERE id = 1")
    both = database.execute("SELECT full_name, display_name FROM users WHERE id = 1")
    assert both == [("name 51", "name 51")]
    database.execute("UPDATE users SET display_name = 'name 1' WHERE id = 1")

    env.contract(revision)
    assert (shape(database), rows(database)) == done


def test_a_deferrable_constraint_can_be_deferred_while_both_columns_are_there(
    database: Database, tmp_path: Path
) -> None:
    case = CASES["constraint unique and deferrable"]
    database.execute(TABLES.format(type=case.type) + case.sql)
    env = Environment(tmp_path, database.url(), case.models())
    env.autogenerate()
    env.upgrade("head", "contract=hold")
    for column in ("full_name", "display_name"):
        # Each row takes the name of the next one, which still has it.
        database.execute(f"UPDATE users SET {column} = 'name ' || (id + 1)")
        database.execute(f"UPDATE users SET {column} = 'name ' || id")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("UPDATE users SET display_name = 'name 1'")


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (
            "ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET full_name = 'x';"
            "ALTER TABLE users ENABLE TRIGGER USER",
            "differ in at least one row",
        ),
        ("ALTER TABLE users DISABLE TRIGGER USER", "missing, disabled or changed"),
        ("DROP INDEX ix_display_name", "index ix_display_name on users is missing"),
    ],
)
def test_contract_does_not_run_while_something_is_wrong(
    fault: str, problem: str, database: Database, tmp_path: Path
) -> None:
    case = CASES["index with a new name"]
    database.execute(TABLES.format(type=case.type) + case.sql)
    env = Environment(tmp_path, database.url(), case.models())
    env.autogenerate()
    env.upgrade("head", "contract=hold")
    database.execute(fault)
    before = shape(database), rows(database)
    with pytest.raises(VerificationFailed, match=problem):
        env.contract()
    assert (shape(database), rows(database)) == before
