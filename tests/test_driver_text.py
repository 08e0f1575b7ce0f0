"""What a driver is given becomes text that the parser takes, and means the same."""

from __future__ import annotations

import random

import psycopg2.sql
import pytest
from psycopg import sql

from alembic_safe.postgres.effects.parsing import parse
from alembic_safe.runtime.driver_text import (
    LONG_TEXT,
    shape_of,
    text_of,
    without_placeholders,
    without_rows,
)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("SELECT %s, %(name)s::text, %b, %t", "SELECT $1, $1::text, $1, $1"),
        ("SELECT '100%%' WHERE a %% 2 = %s", "SELECT '100%' WHERE a % 2 = $1"),
        ("SELECT '%%s'", "SELECT '%s'"),
        ("SELECT %(a name (with) parentheses", "SELECT %(a name (with) parentheses"),
        ("SELECT 1", "SELECT 1"),
    ],
)
def test_placeholders_become_parameters(given: str, text: str) -> None:
    assert without_placeholders(given) == text


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'ä'",
        "SELECT 'ä'".encode(),
        bytearray("SELECT 'ä'".encode()),
        memoryview("SELECT 'ä'".encode()),
        sql.SQL("SELECT {}").format(sql.Literal("ä")),
    ],
)
def test_a_query_of_any_kind_becomes_its_text(query: object) -> None:
    assert text_of(query, None) == "SELECT 'ä'"


def test_what_is_no_query_is_not_sql() -> None:
    (parsed,) = parse(text_of(object(), None))
    assert parsed.problem


def test_bytes_in_another_encoding_are_read_as_far_as_they_are_ascii() -> None:
    assert text_of("DROP TABLE größe".encode("latin-1"), None).startswith("DROP TABLE gr")


def long_insert(row: str, tail: str = "") -> str:
    rows = ", ".join([row] * (LONG_TEXT // len(row) + 2))
    return f"INSERT INTO t (a, b) VALUES {rows}{tail}"


ROWS = [
    "(1, 'one')",
    "(-1, now())",
    "(1, 'it''s ) here; --')",
    r"(1, E'it\'s ) here')",
    r"(1, 'C:\')",
    "(1, $$ ) ' $$)",
    "(1, $a$ ) $$ ' $a$)",
    '(1, (SELECT ")" FROM x))',
    "(1, coalesce(greatest(1, (2)), 3))",
    "(1, -- )\n 2)",
    "(1 / 2, 3)",
]


@pytest.mark.parametrize("row", ROWS)
def test_of_many_rows_the_first_is_kept(row: str) -> None:
    text = without_rows(long_insert(row, " RETURNING a; DROP TABLE users"))
    assert text == f"INSERT INTO t (a, b) VALUES {row} RETURNING a; DROP TABLE users"
    assert [each.node_name for each in parse(text)] == ["insert_stmt", "drop_stmt"]


@pytest.mark.parametrize("row", ["(1, /* ( */ 2)", "(1, /* /* ) */ */ 2)"])
def test_a_comment_that_may_nest_is_left_to_the_parser(row: str) -> None:
    text = long_insert(row, "; DROP TABLE users")
    assert without_rows(text) == text


def test_rows_after_a_first_that_is_left_to_the_parser() -> None:
    text = long_insert("(1, 'a')", ", (1, /* ) */ 2); DROP TABLE users")
    assert without_rows(text) == text


def test_what_never_closes_stays_as_it_is() -> None:
    text = long_insert("(1, 'a')", ", (1, 2")
    assert without_rows(text) == text


def test_values_inside_of_a_literal_are_none() -> None:
    text = f"SELECT 'values ({'x' * LONG_TEXT}' FROM t"
    assert without_rows(text) == text


def test_each_values_of_a_text_is_shortened() -> None:
    text = long_insert("(1, 'a')") + ";" + long_insert("(2, 'b')")
    short = "INSERT INTO t (a, b) VALUES (1, 'a');INSERT INTO t (a, b) VALUES (2, 'b')"
    assert without_rows(text) == short


def test_a_short_text_is_not_touched() -> None:
    text = "INSERT INTO t VALUES (1), (2)"
    assert without_rows(text) is text


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("UPDATE t SET a = 'x' WHERE id = 1", "UPDATE t SET a = 'it''s' WHERE id = 22.5", True),
        ("insert into t values (1, 'a')", "insert into t values (2, '')", True),
        ("UPDATE t1 SET a = 1", "UPDATE t2 SET a = 1", False),
        ("UPDATE t SET a = 1", "UPDATE t SET a = b", False),
        ('UPDATE "1" SET a = 1', 'UPDATE "2" SET a = 1', False),
        ("DELETE FROM t WHERE a = 'x'; SELECT 1", "DELETE FROM t WHERE a = 'y'; SELECT 1", False),
        ("SELECT set_config('a', 'b', true)", "SELECT set_config('c', 'd', true)", False),
        (r"UPDATE t SET a = 'x\'", r"UPDATE t SET a = 'y\'", False),
        ("UPDATE t SET a = 'x' -- 'y'", "UPDATE t SET a = 'z' -- 'y'", False),
    ],
)
def test_statements_of_one_shape_differ_in_their_values(
    one: str, other: str, is_same: bool
) -> None:
    assert (shape_of(one) == shape_of(other)) == is_same


PIECES = [
    "VALUES (1, 'a'), (2, 'b')",
    "values ('x'),\n ('it''s')",
    "VALUES (E'\\'', $$ ( $$), (U&'d\\0061t', B'1')",
    "INSERT INTO t SELECT 1 - -1",
    "SELECT '(' , \")\" FROM t",
    "DROP TABLE x",
    "-- comment ' (\n SELECT 1",
    "/* ( ' */ SELECT 2",
    "SELECT * FROM (VALUES (1), (2)) AS v (a)",
]


@pytest.mark.parametrize("seed", range(20))
def test_what_a_text_does_stays_whatever_is_in_it(seed: int) -> None:
    choice = random.Random(seed)
    padding = " ".join(["SELECT 1;"] * (LONG_TEXT // 8))
    text = ";\n".join(choice.choices(PIECES, k=12)) + ";" + padding
    full, short = parse(text), parse(without_rows(text))
    assert [each.node_name for each in short] == [each.node_name for each in full]


def test_objects_of_psycopg2_write_themselves_in_the_context_of_a_cursor() -> None:
    query = psycopg2.sql.SQL("SELECT %s")
    assert text_of(query, None) == "SELECT %s"
