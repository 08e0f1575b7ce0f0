"""A statement that is not safe is stopped before it is sent; everything else passes, and nobody
notices that it was looked at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from conftest import Database
from guarded import DRIVERS, connected, guard_on, guarded, on_connection, place_of

import alembic_safe
from alembic_safe.assurance import current_reason, unjudged
from alembic_safe.errors import InvalidRule, UnsafeStatement
from alembic_safe.phases import Phase
from alembic_safe.postgres.effects import Effects
from alembic_safe.rules.finding import Finding, Severity, Surroundings
from alembic_safe.rules.settings import LintSettings
from alembic_safe.runtime.driver_text import LONG_TEXT

INDEX = "CREATE INDEX ix_orders_note ON orders (note)"


@pytest.fixture
def shop(database: Database) -> Database:
    """Tables with rows, and one without."""
    database.execute(
        """
        CREATE TABLE users (id int PRIMARY KEY, name varchar(50));
        CREATE TABLE orders (id int PRIMARY KEY, user_id int, note text);
        CREATE TABLE empty (id int PRIMARY KEY, note text);
        INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 100) AS n;
        INSERT INTO orders SELECT n, n, 'note' FROM generate_series(1, 100) AS n;
        """
    )
    return database


@pytest.fixture
def connection(shop: Database) -> Iterator[sa.Connection]:
    with connected(shop) as connected_:
        yield connected_


def run(connection: sa.Connection, *statements: str) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement)


def indexes(connection: sa.Connection) -> list[str]:
    """The indexes that are no keys."""
    query = sa.text("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'ix%' ORDER BY 1")
    return list(connection.execute(query).scalars())


# What is stopped.

UNSAFE = {
    INDEX: "index-not-concurrent",
    "ALTER TABLE orders ALTER note SET NOT NULL": "set-not-null-scan",
    "ALTER TABLE orders ADD CONSTRAINT c CHECK (id > 0)": "add-constraint-validated",
    "ALTER TABLE users ALTER name TYPE char(60)": "",
    "ALTER TABLE users RENAME name TO display_name": "rename-column",
    "DROP TABLE users": "",
    "SELECT 1; " + INDEX: "index-not-concurrent",
    f"DO $$ BEGIN {INDEX}; END $$": "index-not-concurrent",
    "DO $$ BEGIN EXECUTE current_setting('shop.todo'); END $$": "not-understood",
}


@pytest.mark.parametrize("statement", UNSAFE)
def test_an_unsafe_statement_is_stopped(connection: sa.Connection, statement: str) -> None:
    with guarded(connection), pytest.raises(UnsafeStatement) as caught:
        run(connection, statement)
    assert UNSAFE[statement] in (*caught.value.codes, "")
    run(connection, "SELECT name, note FROM users JOIN orders USING (id)")
    assert indexes(connection) == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_it_is_stopped_with_every_driver_and_from_a_cursor_of_its_own(
    shop: Database, driver: str
) -> None:
    def both_ways(connection: sa.Connection) -> None:
        with guarded(connection):
            with pytest.raises(UnsafeStatement):
                connection.execute(sa.text(INDEX))
            with pytest.raises(UnsafeStatement):
                connection.connection.cursor().execute(INDEX)
            # The transaction goes on.
            assert indexes(connection) == []

    on_connection(shop, driver, both_ways)


def test_the_message_has_what_one_needs(connection: sa.Connection) -> None:
    with guarded(connection), pytest.raises(UnsafeStatement) as caught:
        run(connection, "CREATE INDEX ix_orders_note\n  ON orders (note)")
    error = caught.value
    assert (error.revision, error.codes) == ("r1", ("index-not-concurrent",))
    message = str(error)
    for part in (
        "Revision r1 was stopped at this statement: CREATE INDEX ix_orders_note ON orders (note).",
        "every write to orders",
        "Safe instead:\n",
        "create_index_concurrently(",
        "alembic_safe.assured(",
        "# alembic-safe: allow index-not-concurrent -- why",
        "-x guard=warn",
        "Nothing was changed.",
    ):
        assert part in message


def test_what_cannot_be_parsed_is_not_sent(connection: sa.Connection) -> None:
    with guarded(connection), pytest.raises(UnsafeStatement, match="syntax error"):
        run(connection, "CREATE QUICK INDEX i ON orders (note)")


# What passes.

SAFE = [
    "ALTER TABLE orders ADD COLUMN added int",
    "ALTER TABLE orders ADD COLUMN added int NOT NULL DEFAULT 0",
    "ALTER TABLE users ALTER name TYPE varchar(80)",
    "ALTER TABLE users ALTER name TYPE text",
    "COMMENT ON TABLE orders IS '100%%'",
    "CREATE TABLE baskets (id bigint PRIMARY KEY, user_id int)",
    "CREATE INDEX ix_empty_note ON empty (note)",
    "UPDATE empty SET note = ''",
    "UPDATE orders SET note = 'x' WHERE id = 1",
    "SELECT * FROM orders FOR UPDATE",
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE SEQUENCE s",
    "CREATE VIEW v AS SELECT * FROM orders",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET LOCAL search_path = public",
    "GRANT SELECT ON orders TO PUBLIC",
]


@pytest.mark.parametrize("statement", SAFE)
def test_a_safe_statement_passes_without_a_word(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    with guarded(connection):
        run(connection, statement)
    assert caplog.messages == []


def test_what_counts_less_is_looked_up_as_well(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    less = LintSettings(severity={"index-not-concurrent": Severity.WARNING})
    with guarded(connection, lint_settings=less):
        run(connection, "CREATE INDEX ix_empty_note ON empty (note)")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (id > 0) NOT VALID", "tightened-table"),
        ("ALTER TABLE empty ALTER note SET NOT NULL", "tightened-column"),
    ],
)
def test_a_warning_is_told_and_stops_nothing(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture, statement: str, code: str
) -> None:
    with guarded(connection):
        run(connection, statement)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"[{code}]" in caplog.text


def test_what_the_revision_created_is_its_own(connection: sa.Connection) -> None:
    with guarded(connection):
        run(
            connection,
            "CREATE TABLE baskets (id bigint PRIMARY KEY, user_id int)",
            "INSERT INTO baskets VALUES (1, 1)",
            "CREATE INDEX ix_baskets_user ON baskets (user_id)",
            "ALTER TABLE baskets ALTER user_id SET NOT NULL",
            "ALTER TABLE baskets RENAME user_id TO customer_id",
        )
    assert indexes(connection) == ["ix_baskets_user"]


def test_what_an_attempt_created_is_not_the_next_ones(connection: sa.Connection) -> None:
    guard = guard_on(connection)
    with guard.watching(place_of()):
        run(connection, "ALTER TABLE orders RENAME TO old", "CREATE TABLE orders (note text)")
        run(connection, INDEX)
    connection.rollback()
    with guard.watching(place_of()), pytest.raises(UnsafeStatement):
        run(connection, INDEX)


def test_what_a_failed_statement_created_is_not_there(connection: sa.Connection) -> None:
    with guarded(connection):
        with pytest.raises(sa.exc.ProgrammingError), connection.begin_nested():
            run(connection, "CREATE TABLE baskets AS SELECT nothing FROM orders")
        with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
            run(connection, "CREATE INDEX ix_baskets ON baskets (id)")


def test_a_table_created_below_a_savepoint_that_is_rolled_back(connection: sa.Connection) -> None:
    with guarded(connection):
        run(connection, "SELECT 1")
        savepoint = connection.begin_nested()
        run(connection, "ALTER TABLE orders RENAME TO old", "CREATE TABLE orders (note text)")
        savepoint.rollback()
        with pytest.raises(UnsafeStatement):
            run(connection, INDEX)


def test_the_phase_of_the_revision_counts(connection: sa.Connection) -> None:
    drop = "ALTER TABLE orders DROP COLUMN note"
    with guarded(connection), pytest.raises(UnsafeStatement):
        run(connection, drop)
    with guarded(connection, phase=Phase.CONTRACT):
        run(connection, drop)


def test_the_search_path_of_the_session_counts(shop: Database) -> None:
    shop.execute("CREATE SCHEMA tenant; CREATE TABLE tenant.orders (note text)")
    with connected(shop) as connection:
        run(connection, "SET search_path = tenant")
        connection.commit()
        with guarded(connection):
            run(connection, INDEX)
            run(connection, "SET search_path = public")
            with pytest.raises(UnsafeStatement):
                run(connection, "CREATE INDEX ix_other ON orders (note)")


# Assured, warned, and on the way back.


def test_assured_can_stand_where_no_revision_runs(connection: sa.Connection) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        pass
    with alembic_safe.assured("the revision before has ended"):
        assert current_reason() == "the revision before has ended"


def test_assured_lets_through_what_is_inside(connection: sa.Connection) -> None:
    with guarded(connection) as watch:
        with alembic_safe.assured("100 rows"):
            run(connection, INDEX, "ALTER TABLE orders ADD COLUMN added int")
        (assured,) = watch.assured
        assert assured.command == "CREATE INDEX"
        assert assured.codes == ("index-not-concurrent",)
        assert assured.reason == "100 rows"
        with pytest.raises(UnsafeStatement):
            run(connection, INDEX.replace("ix_", "ix_2_"))
    assert indexes(connection) == ["ix_orders_note"]


def test_what_comes_again_is_noted_once(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alembic.safe")
    with guarded(connection) as watch:
        with alembic_safe.assured("100 rows"):
            run(connection, *(INDEX.replace("ix_", f"ix_{number}_") for number in range(3)))
            run(connection, "DELETE FROM orders")
        with alembic_safe.assured("another reason"):
            run(connection, INDEX)
    noted = [("CREATE INDEX", "100 rows"), ("DELETE", "100 rows")]
    noted += [("CREATE INDEX", "another reason")]
    assert [(each.command, each.reason) for each in watch.assured] == noted
    assert len([each for each in caplog.messages if each.startswith("Assured")]) == 3


def test_what_the_package_answers_for_itself_is_not_judged(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alembic.safe")
    with guarded(connection) as watch:
        with unjudged():
            run(connection, "UPDATE orders SET note = 'x'")
        assert (watch.assured, caplog.messages) == ([], [])
        with pytest.raises(UnsafeStatement):
            run(connection, "UPDATE orders SET note = 'x'")


def test_the_same_statement_outside_is_stopped(connection: sa.Connection) -> None:
    update = "UPDATE orders SET note = 'x'"
    with guarded(connection):
        with alembic_safe.assured("100 rows"):
            run(connection, update)
        with pytest.raises(UnsafeStatement):
            run(connection, update)


def test_the_innermost_reason_counts(connection: sa.Connection) -> None:
    with guarded(connection) as watch, alembic_safe.assured("outer"):
        with alembic_safe.assured(" inner "):
            run(connection, INDEX)
        run(connection, INDEX.replace("ix_", "ix_2_"))
    assert [each.reason for each in watch.assured] == ["inner", "outer"]


def test_warn_tells_once_and_sends(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    guard = guard_on(connection, guard="warn")
    for _attempt in range(2):
        with guard.watching(place_of()):
            run(connection, INDEX)
        assert indexes(connection) == ["ix_orders_note"]
        connection.rollback()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "every write to orders" in record.message
    assert "[index-not-concurrent]" in record.message
    assert "create_index_concurrently(" in record.message


def test_the_way_back_is_told_and_never_stopped(
    connection: sa.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    with guarded(connection, is_upgrade=False):
        run(connection, INDEX)
    assert indexes(connection) == ["ix_orders_note"]
    assert "[index-not-concurrent]" in caplog.text


# Rules of the user.


def no_truncate(effects: Effects, _surroundings: Surroundings) -> Iterator[Finding]:
    """A rule of the user's own."""
    if effects.node_name == "truncate_stmt":
        yield Finding("no-truncate", Severity.ERROR, "we do not do that here")


def broken(_effects: Effects, _surroundings: Surroundings) -> Any:
    """A rule that fails."""
    raise KeyError("oops")


@pytest.mark.parametrize("rule", [no_truncate, f"{__name__}:no_truncate"])
def test_a_rule_of_the_user_stops_as_ours_do(
    connection: sa.Connection, rule: Callable[..., Any] | str
) -> None:
    with guarded(connection, rules=(rule,)), pytest.raises(UnsafeStatement) as caught:
        run(connection, "TRUNCATE empty")
    assert "no-truncate" in caught.value.codes


def test_a_rule_that_fails_is_named(connection: sa.Connection) -> None:
    with guarded(connection, rules=(broken,)), pytest.raises(InvalidRule, match=r"broken.*oops"):
        run(connection, "SELECT 1")


# It costs little.


def test_a_text_that_comes_again_is_not_judged_again(connection: sa.Connection) -> None:
    judged: list[str] = []

    def note(effects: Effects, _surroundings: Surroundings) -> tuple[Finding, ...]:
        judged.append(effects.sql)
        return ()

    update = sa.text("UPDATE orders SET note = :note WHERE id = :id")
    with guarded(connection, rules=(note,)):
        for number in range(50):
            connection.execute(update, {"note": "x", "id": number})
            connection.execute(sa.text("SELECT 1"))
            run(connection, f"UPDATE orders SET note = 'n {number}' WHERE id = {number}")
        before = len(judged)
        assert before < 15
        run(connection, "ALTER TABLE orders ADD COLUMN added int")
        connection.execute(update, {"note": "x", "id": 1})
    assert len(judged) == before + 2


def test_megabytes_of_rows_are_not_parsed(connection: sa.Connection) -> None:
    judged: list[str] = []

    def note(effects: Effects, _surroundings: Surroundings) -> tuple[Finding, ...]:
        judged.append(effects.sql)
        return ()

    rows = ", ".join(f"({number}, 'some text')" for number in range(200_000))
    with guarded(connection, rules=(note,)):
        run(connection, f"INSERT INTO empty (id, note) VALUES {rows}")
    assert [len(sql) < LONG_TEXT for sql in judged] == [True]
    assert connection.scalar(sa.text("SELECT count(*) FROM empty")) == 200_000
