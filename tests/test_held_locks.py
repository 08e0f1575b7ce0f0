"""A revision that keeps several tables from others says so before it commits."""

from __future__ import annotations

import re

import pytest
from conftest import Database
from environments import use_driver
from hand_written import write_history
from project import Project

from alembic_safe.postgres.locks import LockMode
from alembic_safe.runtime.held_locks import Held, Key, about

ALL = LockMode.ACCESS_EXCLUSIVE
WRITES = LockMode.SHARE_ROW_EXCLUSIVE

# The decision.


@pytest.mark.parametrize(
    ("held", "keys", "is_told"),
    [
        ({}, [], False),
        ({"a": ALL}, [], False),
        ({"a": ALL, "b": WRITES}, [], True),
        ({"a": WRITES, "b": WRITES}, [("a", "b")], False),
        ({"a": WRITES, "b": WRITES}, [("new", "a"), ("new", "b")], False),
        ({"a": ALL, "b": WRITES}, [("a", "b")], True),
        ({"a": WRITES, "b": WRITES, "c": WRITES}, [("a", "b"), ("b", "c")], False),
        ({"a": WRITES, "b": WRITES, "c": WRITES}, [("a", "b")], True),
        ({"a": WRITES}, [("a", "a")], False),
    ],
)
def test_two_tables_are_told_of_unless_a_new_foreign_key_needs_both(
    held: Held, keys: list[Key], is_told: bool
) -> None:
    assert (about(held, keys) is not None) is is_told


# Revisions on a server.

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, v int);
CREATE TABLE b (id int PRIMARY KEY, v int REFERENCES a);
CREATE TABLE c (id int PRIMARY KEY, v int);
CREATE TABLE "D" (id int, v int) PARTITION BY RANGE (id);
CREATE TABLE d1 PARTITION OF "D" FOR VALUES FROM (0) TO (10);
CREATE TABLE d2 PARTITION OF "D" FOR VALUES FROM (10) TO (20);
INSERT INTO a VALUES (0);
"""

QUIET = {
    "one table": 'op.execute("ALTER TABLE a ADD w int")',
    "one table and its index": 'op.execute("CREATE INDEX ON a (v)")',
    "a table with its partitions": 'op.execute("ALTER TABLE \\"D\\" ADD w int")',
    "tables of its own": """
        op.create_table("n1", sa.Column("id", sa.Integer, primary_key=True))
        op.create_table("n2", sa.Column("id", sa.Integer, sa.ForeignKey("n1.id")))
        op.execute("ALTER TABLE n1 ADD v int")
        op.execute("ALTER TABLE a ADD x int")
        """,
    "a new table that refers to two": """
        op.create_table("n3", sa.Column("a", sa.Integer, sa.ForeignKey("a.id")),
                        sa.Column("c", sa.Integer, sa.ForeignKey("c.id")))
        """,
    "a new foreign key": """
        op.create_foreign_key("fk", "a", "c", ["v"], ["id"], postgresql_not_valid=True)
        """,
    "what others can read and write": """
        op.execute("COMMENT ON TABLE a IS 'a'")
        op.execute("COMMENT ON TABLE c IS 'c'")
        op.execute("INSERT INTO a VALUES (1)")
        op.execute("INSERT INTO c VALUES (1)")
        """,
    "what is undone": """
        with op.get_bind().begin_nested() as savepoint:
            op.execute("ALTER TABLE a ADD y int")
            savepoint.rollback()
        op.execute("ALTER TABLE c ADD y int")
        """,
    "two tables, one after the other": """
        op.execute("ALTER TABLE a ADD z int")
        op.get_bind().commit()
        op.execute("ALTER TABLE c ADD z int")
        """,
}
TOLD = {
    "two tables": (
        """
        op.execute("ALTER TABLE a ADD two int")
        op.execute("ALTER TABLE c ADD two int")
        """,
        "a (ACCESS EXCLUSIVE), c (ACCESS EXCLUSIVE)",
    ),
    "in different modes, behind a savepoint": (
        """
        with op.get_bind().begin_nested():
            op.execute("CREATE INDEX ON a (id, v)")
        op.execute('LOCK TABLE d1 IN SHARE ROW EXCLUSIVE MODE')
        """,
        '"D" (SHARE ROW EXCLUSIVE), a (SHARE)',
    ),
    "a foreign key that goes": (
        'op.drop_constraint("b_v_fkey", "b")',
        "a (ACCESS EXCLUSIVE), b (ACCESS EXCLUSIVE)",
    ),
    "a column with its foreign key": (
        'op.execute("ALTER TABLE b ADD new int REFERENCES c")',
        "b (ACCESS EXCLUSIVE), c (SHARE ROW EXCLUSIVE)",
    ),
}


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])
def test_the_tables_are_named_and_no_others(
    alembic_project: Project, database: Database, driver: str
) -> None:
    use_driver(alembic_project, database.url(driver))
    database.execute(TABLES)
    before = None
    names: dict[str, str] = {}
    bodies = {**QUIET, **{name: body for name, (body, _) in TOLD.items()}}
    for number, (name, body) in enumerate(bodies.items()):
        revision = f"r{number}"
        write_history(alembic_project, revision, before, upgrade=body)
        names[revision], before = name, revision

    done = alembic_project.run("upgrade", "head", env={"ALEMBIC_SAFE_GUARD": "warn"})

    told = re.findall(
        r"Revision (\w+): its transaction keeps others from several tables until it ends: (.*?)\. ",
        done.stderr,
    )
    assert {names[revision]: tables for revision, tables in told} == {
        name: tables for name, (_, tables) in TOLD.items()
    }
    assert "Split the revision, so that each locks one table" in done.stderr


def test_nothing_is_said_of_a_database_that_nobody_uses(alembic_project: Project) -> None:
    write_history(
        alembic_project, "r1", upgrade='op.execute("CREATE TABLE a (); CREATE TABLE b ()")'
    )
    write_history(alembic_project, "r2", "r1", upgrade='op.execute("LOCK TABLE a, b")')
    assert "several tables" not in alembic_project.run("upgrade", "head").stderr
