"""Each operation makes what plain DDL makes, once, and can be taken back."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from conftest import Database
from direct import run
from operation_cases import CASES, Case, Names, prepare
from schema import catalog_rows, schema_of

import alembic_safe.operations as safe
from alembic_safe.errors import ObjectDiffers, StatementFailed
from alembic_safe.operations import SafeOperation
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.statement import Wait


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    """One operation."""
    found: Case = request.param
    return found


# What an operation makes


def test_it_makes_what_plain_ddl_makes_and_its_reverse_takes_it_back(
    database: Database, case: Case
) -> None:
    names = Names(is_odd=True)
    prepare(database, names, case)
    step = case.make(names)
    before = schema_of(database)
    wanted = schema_of(database, after=names.sql(case.plain))
    wanted_back = wanted if case.is_kept else schema_of(database, after=names.sql(case.taken_back))

    run(database, step)
    assert schema_of(database) == wanted
    assert wanted != before

    run(database, step.reverse())
    assert schema_of(database) == wanted_back


def test_run_again_it_changes_nothing(database: Database, case: Case) -> None:
    names = Names(is_odd=True)
    prepare(database, names, case)
    step = case.make(names)
    run(database, step)
    # Without a condition the statement is sent again, and has to be harmless.
    is_asked = all(s.done is not None for s in step.statements(database.server.version))
    state = catalog_rows if is_asked else schema_of
    made = state(database)

    run(database, case.make(names))

    assert state(database) == made


def test_it_takes_the_lock_that_it_says(database: Database, case: Case) -> None:
    names = Names(is_odd=True)
    prepare(database, names, case)
    with database.connect() as connection:
        for statement in case.make(names).statements(database.server.version):
            done = statement.done
            if not statement.transactional or (done and _row(connection, done.query) == ("done",)):
                continue
            assert statement.table is not None
            with connection.transaction():
                (relation,) = _row(connection, f"SELECT {statement.table.regclass}::oid")
                for sql in statement.sql:
                    connection.execute(sql.encode())
                (modes,) = _row(
                    connection,
                    f"SELECT array_agg(mode) FROM pg_locks WHERE relation"
                    f" = {relation} AND pid = pg_backend_pid()",
                )
            taken = max(mode for mode in LockMode if mode.pg_locks_name in modes)
            assert taken is statement.lock


def test_what_blocks_reads_or_writes_never_waits_for_long(case: Case) -> None:
    for version in (None, 13, 17, 18):
        for statement in case.make(Names(is_odd=False)).statements(version):
            if statement.lock.blocks_reads_or_writes:
                assert statement.wait is Wait.SHORT


# What is there already under the name

SHOP = """
CREATE TABLE users (id int PRIMARY KEY, alt int UNIQUE);
CREATE TABLE people (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, user_id int, other_id int, note text);
INSERT INTO users VALUES (1, 1);
INSERT INTO orders VALUES (1, 1, 1, NULL);
"""


def _foreign_key(options: str = "") -> safe.CreateForeignKeyNotValidOp:
    return safe.CreateForeignKeyNotValidOp("fk", "orders", "users", ["user_id"], ["id"], options)


@pytest.mark.parametrize(
    "other",
    [
        "FOREIGN KEY (other_id) REFERENCES users (id)",
        "FOREIGN KEY (user_id) REFERENCES users (alt)",
        "FOREIGN KEY (user_id) REFERENCES people (id)",
        "FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE",
        "FOREIGN KEY (user_id) REFERENCES users (id) ON UPDATE CASCADE",
        "FOREIGN KEY (user_id) REFERENCES users (id) DEFERRABLE",
        "FOREIGN KEY (user_id) REFERENCES users (id) MATCH FULL",
        "CHECK (user_id > 0)",
        "UNIQUE (user_id)",
    ],
)
def test_another_constraint_of_a_foreign_keys_name_is_not_taken_for_it(
    database: Database, other: str
) -> None:
    database.execute(
        SHOP + f"ALTER TABLE orders ADD CONSTRAINT fk {other.replace('people', 'users')}"
    )
    if "people" in other:
        database.execute("DELETE FROM orders; ALTER TABLE orders DROP CONSTRAINT fk")
        database.execute(f"ALTER TABLE orders ADD CONSTRAINT fk {other}")
    before = catalog_rows(database)
    with pytest.raises(ObjectDiffers, match="foreign key fk on orders"):
        run(database, _foreign_key())
    assert catalog_rows(database) == before


@pytest.mark.parametrize(
    "options", ["", "ON DELETE SET NULL (user_id) NOT DEFERRABLE", "MATCH FULL"]
)
@pytest.mark.parametrize("validity", ["", "NOT VALID"])
def test_the_same_foreign_key_counts_as_done_valid_or_not(
    database: Database, options: str, validity: str
) -> None:
    database.execute(
        SHOP + "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id)"
        f" REFERENCES users (id) {options} {validity}"
    )
    before = catalog_rows(database)
    run(database, _foreign_key(options))
    assert catalog_rows(database) == before


@pytest.mark.parametrize(
    "other",
    [
        "CHECK (note <> 'x')",
        "CHECK (user_id >= 0)",
        "CHECK (user_id > 0) NO INHERIT",
        "UNIQUE (user_id)",
    ],
)
def test_another_constraint_of_a_checks_name_is_not_taken_for_it(
    database: Database, other: str
) -> None:
    database.execute(
        SHOP + f"ALTER TABLE orders ADD CONSTRAINT ck {other} NOT VALID".replace(") NOT VALID", ")")
    )
    with pytest.raises(ObjectDiffers, match="check constraint ck on orders"):
        run(database, safe.CreateCheckConstraintNotValidOp("ck", "orders", "user_id > 0"))


@pytest.mark.parametrize("validity", ["", "NOT VALID"])
def test_the_same_check_counts_as_done_however_it_is_written(
    database: Database, validity: str
) -> None:
    database.execute(
        SHOP + f"ALTER TABLE orders ADD CONSTRAINT ck CHECK (user_id IN (1, 2)) {validity}"
    )
    before = catalog_rows(database)
    run(
        database,
        safe.CreateCheckConstraintNotValidOp("ck", "orders", "user_id = ANY (ARRAY[1,2])"),
    )
    assert catalog_rows(database) == before


def test_another_unique_constraint_is_not_taken_for_the_wanted_one(database: Database) -> None:
    database.execute(
        SHOP + "ALTER TABLE orders ADD CONSTRAINT uq UNIQUE (other_id);"
        "CREATE UNIQUE INDEX ix ON orders (user_id)"
    )
    with pytest.raises(ObjectDiffers, match="unique constraint uq on orders"):
        run(database, safe.AddUniqueConstraintUsingIndexOp("uq", "orders", "ix"))


@pytest.mark.parametrize("there", ["bigint", "varchar(9)", 'text COLLATE "C"'])
def test_a_column_of_another_type_is_not_taken_for_the_wanted_one(
    database: Database, there: str
) -> None:
    database.execute(SHOP + f"ALTER TABLE orders ADD COLUMN total {there}")
    with pytest.raises(ObjectDiffers, match="column total on orders"):
        run(database, safe.AddColumnIfNotExistsOp("orders", "total", "text"))


def test_a_column_of_the_same_type_counts_as_done_however_it_is_written(
    database: Database,
) -> None:
    database.execute(SHOP + "ALTER TABLE orders ADD COLUMN total numeric(12, 2)")
    run(database, safe.AddColumnIfNotExistsOp("orders", "total", "decimal (12,2)"))


def test_the_default_of_an_added_column_is_for_rows_to_come(database: Database) -> None:
    """Given in ADD COLUMN, a volatile one would rewrite the table under ACCESS EXCLUSIVE."""
    database.execute(SHOP)
    file = "SELECT relfilenode FROM pg_class WHERE relname = 'orders'"
    before = database.execute(file)
    run(database, safe.AddColumnIfNotExistsOp("orders", "code", "float", "random()"))
    assert database.execute(file) == before
    assert database.execute("SELECT code FROM orders") == [(None,)]
    database.execute("INSERT INTO orders (id) VALUES (2)")
    assert database.execute("SELECT code IS NULL FROM orders ORDER BY id") == [(True,), (False,)]


def test_a_constraint_of_another_column_does_not_prove_not_null(database: Database) -> None:
    """After `RENAME COLUMN` a column keeps the old one's constraint name on PostgreSQL 18."""
    database.execute(
        SHOP + "ALTER TABLE orders ADD COLUMN title text NOT NULL DEFAULT '';"
        "ALTER TABLE orders RENAME COLUMN title TO headline;"
        "ALTER TABLE orders ADD COLUMN title text DEFAULT ''"
    )
    run(database, safe.SetNotNullOp("orders", "title"))
    assert _is_not_null(database, "orders", "title")


def test_a_rename_counts_as_done_where_its_old_name_is_in_use_again(database: Database) -> None:
    """The way back of a rename of a column renames the new objects, and then builds the old ones
    under their names; it may be killed behind that."""
    database.execute(
        SHOP + "ALTER TABLE orders ADD CONSTRAINT ck CHECK (user_id > 0);"
        "ALTER TABLE orders ADD CONSTRAINT ck2 CHECK (other_id > 0);"
        "CREATE INDEX ix ON orders (user_id); CREATE INDEX ix2 ON orders (other_id)"
    )
    before = catalog_rows(database)
    run(database, safe.RenameConstraintOp("ck", "ck2", "orders"))
    run(database, safe.RenameIndexOp("ix", "ix2", "orders"))
    assert catalog_rows(database) == before


# NOT NULL


def _is_not_null(database: Database, table: str, column: str) -> bool:
    with pytest.raises(psycopg.errors.NotNullViolation), database.connect() as connection:
        connection.execute(f"UPDATE {table} SET {column} = NULL".encode())
    return True


def test_a_null_stops_set_not_null_and_the_same_call_completes_it(database: Database) -> None:
    database.execute(SHOP)
    wanted = schema_of(
        database, after="UPDATE orders SET note = ''; ALTER TABLE orders ALTER note SET NOT NULL"
    )
    with pytest.raises(StatementFailed, match=r"r1, NOT NULL of column note on orders: "):
        run(database, safe.SetNotNullOp("orders", "note"))
    with pytest.raises(psycopg.Error):
        database.execute("INSERT INTO orders VALUES (2, 1, 1, NULL)")
    database.execute("UPDATE orders SET note = ''")
    run(database, safe.SetNotNullOp("orders", "note"))
    assert schema_of(database) == wanted


def test_drop_not_null_takes_back_a_set_not_null_that_stopped_half_way(
    database: Database,
) -> None:
    database.execute(SHOP)
    before = schema_of(database)
    with pytest.raises(StatementFailed):
        run(database, safe.SetNotNullOp("orders", "note"))
    run(database, safe.DropNotNullOp("orders", "note"))
    assert schema_of(database) == before


def test_a_partitioned_table_becomes_not_null_with_its_partitions(database: Database) -> None:
    database.execute(
        "CREATE TABLE p (id int, note text) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);"
        "CREATE TABLE p21 PARTITION OF p2 DEFAULT;"
        "INSERT INTO p SELECT i, '' FROM generate_series(0, 19) AS i"
    )
    before = schema_of(database)
    wanted = schema_of(database, after="ALTER TABLE p ALTER note SET NOT NULL")
    run(database, safe.SetNotNullOp("p", "note"))
    assert schema_of(database) == wanted
    run(database, safe.DropNotNullOp("p", "note"))
    assert schema_of(database) == before


# What the server refuses


def test_a_row_that_violates_a_constraint_is_named_and_can_be_mended(database: Database) -> None:
    database.execute(SHOP + "INSERT INTO orders VALUES (2, 99)")
    run(database, _foreign_key())
    with pytest.raises(StatementFailed, match=r"r1, constraint fk on orders: .*\(user_id\)=\(99\)"):
        run(database, safe.ValidateConstraintOp("fk", "orders"))
    database.execute("DELETE FROM orders WHERE user_id = 99")
    run(database, safe.ValidateConstraintOp("fk", "orders"))
    assert database.execute("SELECT convalidated FROM pg_constraint WHERE conname = 'fk'") == [
        (True,)
    ]


@pytest.mark.parametrize(
    "step",
    [
        safe.ValidateConstraintOp("nothing", "orders"),
        safe.RenameConstraintOp("nothing", "anything", "orders"),
        safe.RenameIndexOp("nothing", "anything", "orders"),
        safe.AddUniqueConstraintUsingIndexOp("uq", "orders", "nothing"),
        safe.SetServerDefaultOp("orders", "nothing", "1"),
        safe.SetNotNullOp("orders", "nothing"),
        safe.CreateIndexConcurrentlyOp("ix", "orders", ["nothing"]),
    ],
    ids=lambda step: step.operation_name,
)
def test_what_is_not_there_is_named(database: Database, step: SafeOperation) -> None:
    database.execute(SHOP)
    with pytest.raises(StatementFailed, match=r"nothing.*then run the same command again"):
        run(database, step)


def _row(connection: psycopg.Connection[tuple[Any, ...]], query: str) -> tuple[Any, ...]:
    found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return found
