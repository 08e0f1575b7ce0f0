"""Names and literals: what the package writes is what the server reads."""

from __future__ import annotations

from itertools import combinations

import pytest
from conftest import Database

from alembic_safe.postgres.identifiers import (
    QualifiedName,
    derived_name,
    literal,
    quote,
    readable,
)

ODD_NAMES = {
    "plain": "users",
    "upper case": "Users",
    "a space": "full name",
    "a dot": "public.users",
    "quotes": 'say "hi"',
    "only quotes": '""',
    "an apostrophe": "it's",
    "a backslash": "back\\slash",
    "percent and colon": "100% :sure %(x)s",
    "dollars": "$$ $1",
    "a comment": "a--b /* c */",
    "a newline": "two\nlines",
    "a reserved word": "user",
    "unicode": "Überschrift_名前_🐘",
    "63 bytes": "x" * 63,
    "63 bytes of unicode": "é" * 31 + "x",
}

ODD_TEXTS = ["", "it's", "''", "a\\'b", "\\", "E'\\x'", "100%", ":name", "$1", "\n\t", "名🐘", '"']


# Names on the server


def test_the_server_reads_back_every_name_as_it_was_given(database: Database) -> None:
    for name in ODD_NAMES.values():
        table = QualifiedName(name, name)
        database.execute(f"CREATE SCHEMA {quote(name)}")
        database.execute(f"CREATE TABLE {table.sql} ({quote(name)} int)")
        found = database.execute(
            "SELECT n.nspname, r.relname, a.attname FROM pg_class AS r"
            " JOIN pg_namespace AS n ON n.oid = r.relnamespace"
            f" JOIN pg_attribute AS a ON a.attrelid = r.oid WHERE r.oid = {table.regclass}"
            " AND a.attnum = 1"
        )
        assert found == [(name, name, name)]


def test_a_relation_that_is_not_there_is_null_and_no_error(database: Database) -> None:
    for name in ODD_NAMES.values():
        for table in (QualifiedName(name), QualifiedName(name, "nowhere")):
            assert database.execute(f"SELECT {table.regclass} IS NULL") == [(True,)]


def test_a_name_without_a_schema_follows_the_search_path(database: Database) -> None:
    database.execute("CREATE SCHEMA s; CREATE TABLE s.t ()")
    with database.connect() as connection:
        connection.execute("SET search_path = s")
        query = f"SELECT {QualifiedName('t').regclass} = {QualifiedName('t', 's').regclass}"
        assert connection.execute(query.encode()).fetchone() == (True,)


@pytest.mark.parametrize("conforming", ["on", "off"])
def test_a_literal_is_read_alike_under_both_string_syntaxes(
    database: Database, conforming: str
) -> None:
    with database.connect() as connection:
        connection.execute(f"SET standard_conforming_strings = {conforming}".encode())
        for text in ODD_TEXTS:
            assert connection.execute(f"SELECT {literal(text)}".encode()).fetchone() == (text,)


def test_a_readable_name_is_the_column_for_every_keyword_of_the_server(database: Database) -> None:
    words = [word for (word,) in database.execute("SELECT word FROM pg_get_keywords()")]
    assert len(words) > 400
    with database.connect() as connection:
        for word in words:
            name = readable(word)
            connection.execute(f"CREATE TEMP TABLE t ({name} text)".encode())
            connection.execute(f"INSERT INTO t ({name}) VALUES ('a')".encode())
            connection.execute(
                f"UPDATE t SET {name} = {name} || 'b' WHERE {name} IS NOT NULL".encode()
            )
            # Some words, such as current_user, are expressions of their own.
            found = connection.execute(f"SELECT {name}, lower({name}) FROM t".encode()).fetchall()
            connection.execute("DROP TABLE t")
            assert found == [("ab", "ab")], word


# Readable names


@pytest.mark.parametrize("name", ["users", "_x1", "a_b"])
def test_a_plain_name_stays_without_quotes(name: str) -> None:
    assert readable(name) == name


@pytest.mark.parametrize("name", ["Users", "1st", "a b", "select", "a$b", "naïve", 'a"', ""])
def test_any_other_name_gets_quotes(name: str) -> None:
    assert readable(name) == quote(name)


# Qualified names


def test_a_qualified_name_is_quoted_part_by_part() -> None:
    assert QualifiedName("t").sql == '"t"'
    assert QualifiedName('a"b', "s.t").sql == '"s.t"."a""b"'


def test_a_sibling_is_in_the_same_schema() -> None:
    assert QualifiedName("t", "s").sibling("i") == QualifiedName("i", "s")
    assert QualifiedName("t").sibling("i") == QualifiedName("i")


def test_a_person_reads_a_qualified_name_without_quotes() -> None:
    assert str(QualifiedName("t", "s")) == "s.t"
    assert str(QualifiedName("t")) == "t"


# Derived names


def test_a_short_derived_name_is_its_parts() -> None:
    assert derived_name("sync", "users", "name") == "sync_users_name"


def test_a_derived_name_is_the_same_in_every_process_and_release() -> None:
    """A trigger that one release of the package made has to be found by the next."""
    assert derived_name("sync", "users", "full_name") == "sync_users_full_name_6ec34238"
    assert derived_name("sync", "x" * 80) == "sync_" + "x" * 49 + "_fd4b7a68"


def test_names_with_the_separator_in_their_parts_do_not_meet() -> None:
    splits = [
        ("a", "b", "c_d"),
        ("a", "b_c", "d"),
        ("a_b", "c", "d"),
        ("a_b", "c_d"),
        ("a_b_c", "d"),
    ]
    names = {derived_name("sync", *parts) for parts in splits}
    assert len(names) == len(splits)


def test_long_names_with_the_same_beginning_do_not_meet() -> None:
    names = [derived_name("sync", "t" * 63, "c" * 60 + end) for end in ("a", "b", "aa", "")]
    assert all(first != second for first, second in combinations(names, 2))


def test_the_server_keeps_every_derived_name_whole(database: Database) -> None:
    names = [derived_name("~alembic_safe_sync", odd, odd, odd) for odd in ODD_NAMES.values()]
    for name in names:
        database.execute(f"CREATE TABLE {quote(name)} ()")
    kept = database.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384")
    assert {name for (name,) in kept} == set(names)
    assert len(set(names)) == len(ODD_NAMES)


@pytest.mark.parametrize("character", ["x", "é", "名", "🐘"])
def test_a_character_is_never_cut_in_two(character: str) -> None:
    width = len(character.encode())
    for shift in range(1, 6):
        begins, _, digest = derived_name("p" * shift, character * 80).rpartition("_")
        assert len(digest) == 8
        assert set(begins) <= {"p", "_", character}
        # No more is lost than the character that did not fit.
        assert 54 - width < len(begins.encode()) <= 54
