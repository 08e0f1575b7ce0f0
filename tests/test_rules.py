"""The rules: what each reports, what it leaves alone, and that nothing is said twice."""

from __future__ import annotations

import inspect
import runpy
from dataclasses import replace
from itertools import chain
from typing import Any

import psycopg
import pytest
from conftest import Database
from markdown_blocks import DOCS
from rule_examples import (
    EXAMPLES,
    MEASUREMENTS,
    SHOP,
    Example,
    codes,
    judged,
    judged_example,
    judged_instead,
)

from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import World, effects_of
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rehearsal.server import ScratchServer
from alembic_safe.rules.catalogue import documented_rules
from alembic_safe.rules.compatibility import COMPATIBILITY
from alembic_safe.rules.finding import Finding, Surroundings
from alembic_safe.rules.judge import Judge

ALL = [(code, example) for code, examples in EXAMPLES.items() for example in examples]


def findings(example: Example) -> list[Finding]:
    return list(chain.from_iterable(j.findings for j in judged_example(example)))


def test_each_rule_has_an_example_and_a_page() -> None:
    assert set(EXAMPLES) == set(documented_rules())
    for rule in documented_rules().values():
        assert len((inspect.getdoc(rule) or "").split("\n\n")) > 1, rule


@pytest.mark.parametrize(("code", "example"), ALL, ids=str)
def test_what_is_bad_is_reported_once_for_each_problem(code: str, example: Example) -> None:
    assert sorted(codes(judged_example(example))) == sorted((code, *example.also))


@pytest.mark.parametrize("example", [example for _, example in ALL if example.good], ids=str)
def test_what_is_good_is_not_reported(example: Example) -> None:
    assert codes(judged_instead(example)) == []


@pytest.mark.parametrize(("code", "example"), ALL, ids=str)
def test_messages_are_one_sentence_with_real_names(code: str, example: Example) -> None:
    for finding in findings(example):
        for said in (finding.message, finding.advice):
            assert "  " not in said
            assert not said.endswith(".")
            assert "None" not in said
        assert finding.docs == f"docs/rules.md#{finding.code}"


# What is known decides what is said


def messages(sql: str, **surroundings: Any) -> dict[str, str]:
    """Return what is said of a statement, by the rules' codes."""
    found = judged(sql, **surroundings)
    return {each.code: each.message for each in chain.from_iterable(f.findings for f in found)}


def test_a_type_change_that_is_free_is_not_reported_where_the_old_type_is_known() -> None:
    sql = "ALTER TABLE orders ALTER COLUMN status TYPE varchar(50)"
    assert messages(sql) == {}
    said = messages(sql, is_known=False)
    assert said["column-type-change"].endswith("unless status can stay as it is")
    assert said["retype-column"].endswith("unless both are read and written alike")


@pytest.mark.parametrize(
    ("sql", "unless"),
    [
        ("ALTER TABLE orders ALTER COLUMN note SET NOT NULL", "a valid CHECK proves it"),
        ("ALTER TABLE log ADD PRIMARY KEY USING INDEX log_pk", "they are NOT NULL"),
        ("ALTER TABLE orders ALTER COLUMN quantity DROP DEFAULT", "it may be NULL"),
        ("ALTER TABLE orders ADD FOREIGN KEY (a) REFERENCES users NOT VALID", "there is one"),
    ],
)
def test_what_is_assumed_is_said(sql: str, unless: str) -> None:
    assert any(f", unless {unless}" in said for said in messages(sql, is_known=False).values())


def test_a_message_has_the_size_of_the_table_where_it_is_known() -> None:
    world = World(version=18, complete=True)
    effects_of(SHOP, world)
    world.settle()
    orders = world.relations[QualifiedName("orders", "public")]
    world.put(replace(orders, size=1_288_490_189))
    (found,) = Judge(Surroundings(world)).text("CREATE INDEX ix ON orders (note)")
    message = "blocks every write to orders (1.2 GB) while index ix is built"
    assert [finding.message for finding in found.findings] == [message]


def test_a_name_has_its_schema_where_it_is_needed() -> None:
    before = "CREATE SCHEMA sales; CREATE TABLE sales.orders (id bigint PRIMARY KEY, note text);"
    said = messages("CREATE INDEX ix ON sales.orders (note)", before=before)
    assert "every write to sales.orders while" in said["index-not-concurrent"]
    said = messages("SET search_path = sales; CREATE INDEX ix ON orders (note)", before=before)
    assert "every write to orders while" in said["index-not-concurrent"]


# What the gate and the revision itself make safe


COMPATIBILITY_CODES = [code for code, rule in documented_rules().items() if rule in COMPATIBILITY]


@pytest.mark.parametrize(("code", "example"), ALL, ids=str)
def test_a_contract_revision_may_break_what_the_old_release_used(
    code: str, example: Example
) -> None:
    found = codes(judged_example(replace(example, phase=Phase.CONTRACT)))
    assert not set(found) & (
        {*COMPATIBILITY_CODES, "drop-column", "drop-table"} - {"required-column"}
    )


def test_a_column_without_a_value_fails_in_every_phase() -> None:
    sql = "ALTER TABLE orders ADD COLUMN weight int NOT NULL"
    wanted = "fails if orders has a row, because weight is NOT NULL without a default"
    for surroundings in ({"phase": Phase.CONTRACT}, {"is_upgrade": False}):
        assert messages(sql, **surroundings) == {"required-column": wanted}


def test_the_way_back_breaks_nothing_that_runs_but_still_loses_data() -> None:
    said = messages("ALTER TABLE orders DROP COLUMN note", is_upgrade=False)
    assert said == {"drop-column": "the data of note in orders is lost"}
    assert messages("ALTER TABLE orders RENAME COLUMN note TO remark", is_upgrade=False) == {}


NEW = """
CREATE TABLE parcels (id bigint PRIMARY KEY, order_id bigint, note text);
"""


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX ON parcels (note)",
        "ALTER TABLE parcels ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE parcels ALTER COLUMN note SET NOT NULL",
        "ALTER TABLE parcels ADD UNIQUE (note)",
        "ALTER TABLE parcels ALTER COLUMN note TYPE bytea USING note::bytea",
        "ALTER TABLE parcels RENAME COLUMN note TO remark",
        "ALTER TABLE parcels DROP COLUMN note",
        "INSERT INTO parcels SELECT id, id, note FROM orders",
        "UPDATE parcels SET note = ''",
        "DELETE FROM parcels",
        "TRUNCATE parcels",
        "DROP TABLE parcels",
    ],
)
def test_what_is_new_in_the_revision_is_nobody_elses(sql: str) -> None:
    found = set(codes(judged(NEW + sql)))
    assert found <= {"table-without-primary-key"}


def test_an_index_that_the_revision_made_and_drops_is_no_table() -> None:
    said = messages(
        """
        BEGIN;
        ALTER TABLE users ADD COLUMN seen timestamptz;
        CREATE INDEX ix ON orders (note);
        DROP INDEX ix;
        COMMIT;
        """
    )
    assert said["several-tables-locked"].startswith("while it waits for orders, ")
    assert "ix" not in said["several-tables-locked"].split()


def test_a_column_that_is_new_tightens_nothing() -> None:
    sql = """
    ALTER TABLE orders ADD COLUMN weight int;
    ALTER TABLE orders ADD CONSTRAINT ck CHECK (weight > 0) NOT VALID;
    """
    assert messages(sql) == {}


# Transactions


@pytest.mark.parametrize("sql", ["SAVEPOINT s; ROLLBACK TO s; RELEASE s", "SAVEPOINT s; RELEASE s"])
def test_savepoints_leave_the_transaction_of_the_revision_alone(sql: str) -> None:
    assert messages(sql) == {}


@pytest.mark.parametrize(
    "sql", ["COMMIT", "ROLLBACK", "BEGIN", "START TRANSACTION", "END", "ABORT"]
)
def test_what_ends_or_begins_it_is_reported(sql: str) -> None:
    assert list(messages(sql)) == ["transaction-in-text"]


@pytest.mark.parametrize("begin", ["BEGIN", "START TRANSACTION"])
def test_a_text_may_have_a_transaction_of_its_own_and_has_to_end_it(begin: str) -> None:
    assert messages(f"{begin}; SELECT 1; COMMIT", in_transaction=False) == {}
    assert list(messages(f"{begin}; SELECT 1", in_transaction=False)) == ["transaction-left-open"]


# Where there is no exact fix, there is advice


PARTITIONED = SHOP + MEASUREMENTS + "ALTER TABLE measurements ADD COLUMN order_id bigint;"


@pytest.mark.parametrize(
    ("sql", "version", "advice"),
    [
        ("CREATE INDEX ON measurements (value)", 18, "ON ONLY the partitioned table"),
        (
            "ALTER TABLE measurements ADD CONSTRAINT fk FOREIGN KEY (order_id) REFERENCES orders",
            17,
            "on each partition",
        ),
        ("ALTER TABLE measurements ADD CONSTRAINT u UNIQUE (day)", 18, "on each partition"),
    ],
)
def test_a_partitioned_table_is_done_partition_by_partition(
    sql: str, version: int, advice: str
) -> None:
    found = judged(sql, before=PARTITIONED, version=version)
    (finding, *_) = chain.from_iterable(each.findings for each in found)
    assert finding.fix is None
    assert advice in finding.advice


# Keys of rows


@pytest.mark.parametrize(
    ("where", "is_reported"),
    [
        ("id = 5", False),
        ("id IN (1, 2, 3)", False),
        ("5 = id AND note = 'x'", False),
        ("email = 'a@example.org'", True),
        ("id > 5", True),
        ("id = quantity", True),
        ("id = 5 OR note = 'x'", True),
        ("id IN (SELECT id FROM users)", True),
        ("id IN (SELECT id FROM orders WHERE note IS NULL LIMIT 500)", False),
    ],
)
def test_an_update_is_small_where_a_key_or_a_limit_says_so(where: str, is_reported: bool) -> None:
    table = "users" if "email" in where else "orders"
    found = codes(
        judged(f"UPDATE {table} SET {'name' if table == 'users' else 'note'} = 'x' WHERE {where}")
    )
    assert found == (["unbatched-update"] if is_reported else [])


def test_the_page_is_up_to_date() -> None:
    written = runpy.run_path(str(DOCS / "generate_rules.py"))["page"]()
    assert (DOCS / "rules.md").read_text() == written, (
        "run: PYTHONPATH=tests python docs/generate_rules.py"
    )


# On real servers


def test_a_server_takes_what_is_shown_unless_an_error_is_foretold(
    server: ScratchServer, database: Database
) -> None:
    database.execute(SHOP)
    shown = [
        *((each, each.bad, each.in_transaction) for _, each in ALL),
        *((each, each.good, each.good_in_transaction) for _, each in ALL if each.good),
    ]
    wrong = []
    for example, sql, in_transaction in shown:
        found = judged(
            sql,
            before=SHOP + example.before,
            version=server.version,
            in_transaction=in_transaction,
        )
        statements = dict.fromkeys((each.effects.offset, each.effects.sql) for each in found)
        foretold = [error for each in found for error in each.effects.errors]
        error = refused(database, example, [text for _, text in statements], in_transaction)
        is_right = bool(foretold) if error else not any(each.certain for each in foretold)
        if not is_right and error != NO_SUCH_DATABASE:
            wrong.append((sql, error))
    assert wrong == []


NO_SUCH_DATABASE = "3D000"


def refused(
    database: Database, example: Example, statements: list[str], in_transaction: bool
) -> str | None:
    """Return the SQLSTATE with which a server refuses statements; they leave nothing behind."""
    ends_by_itself = any(statement.startswith("COMMIT") for statement in statements)
    if in_transaction and not ends_by_itself and "ENUM" not in example.before:
        with database.connect() as connection, connection.transaction(force_rollback=True):
            return error_of(connection, [example.before or "SELECT", *statements])
    copy = Database(database.server, f"{database.name}_copy")
    database.execute(f'CREATE DATABASE "{copy.name}" TEMPLATE "{database.name}"')
    try:
        copy.execute(example.before or "SELECT")
        with copy.connect() as connection:
            begin = ["BEGIN"] if in_transaction else []
            return error_of(connection, [*begin, *statements])
    finally:
        database.server.drop_database(copy.name)


def error_of(connection: psycopg.Connection[Any], statements: list[str]) -> str | None:
    try:
        for statement in statements:
            connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or str(error)
    return None
