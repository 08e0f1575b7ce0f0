"""Expressions and definitions on the parse tree; the server has the last word on renames."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from alembic_safe.postgres.expressions import (
    check_expression,
    columns_used,
    is_constant_or_stable,
    relations_of,
    rename_column_in_constraint,
    rename_column_in_index,
)
from alembic_safe.postgres.identifiers import quote

if TYPE_CHECKING:
    from conftest import Database

LONG = "ü" * 30  # 60 bytes


def test_the_parser_is_loaded_only_when_it_is_needed() -> None:
    code = "import sys, alembic_safe.postgres.expressions; sys.exit('postgast' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# check_expression


@pytest.mark.parametrize(
    "sql",
    [
        "1",
        "a + b",
        " upper(full_name) ",
        "CASE WHEN a THEN 1 ELSE 2 END",
        "(SELECT max(x) FROM t)",
        "NOT a",
        "ROW(1, 2)",
        "'); DROP TABLE x; --'",
        "E'it\\'s'",
        "$$ -- text $$",
        '"-- odd"',
        "a /* why */ + 1",
    ],
)
def test_one_expression_is_accepted(sql: str) -> None:
    check_expression(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "  ",
        "1); DROP TABLE x; --",
        "1); DROP TABLE x; SELECT (1",
        "1;",
        "1; SELECT 2",
        "SELECT 1",
        "1, 2",
        "1), (2",
        "1) + (2",
        "1) UNION SELECT (2",
        "1) FROM t WHERE (true",
        "1) FROM (SELECT 1",
        "1 FROM t",
        "1 AS x",
        "1 x",
        "x INTO y",
        "DISTINCT x",
        "*",
        "t.*",
        "DEFAULT",
        "1 --",
        "1 -- why\n",
        "-- why\n1",
        "1 /*",
        "'",
        '"',
        "$$",
        "a +",
        "1\0",
        "1\0); DROP TABLE x",
        "DROP TABLE x",
    ],
)
def test_anything_else_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_expression(sql)


def test_a_refusal_has_the_words_of_the_parser() -> None:
    with pytest.raises(ValueError, match='syntax error at or near "b"'):
        check_expression("a b")


def test_an_expression_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        check_expression("1" + " + 1" * 200)


# is_constant_or_stable


@pytest.mark.parametrize(
    "sql",
    [
        "1",
        "-1.5",
        "+ 1",
        "- '1 day'::interval",
        "'x'",
        "NULL",
        "NULL::text",
        "true",
        "'{}'::jsonb",
        "'a'::character varying(3)",
        "CAST('1' AS integer)",
        "interval '1 day'",
        "ARRAY[1, -2]",
        "ARRAY[]::text[]",
        "'{1,2}'::integer[]",
        "B'101'",
        "now()",
        "pg_catalog.now()",
        "current_timestamp",
        "CURRENT_TIMESTAMP(3)",
        "current_date",
        "current_user",
        "SESSION_USER",
        "current_schema()",
        "now()::date",
        "now() AT TIME ZONE 'utc'",
        "timezone('utc'::text, now())",
        "(1)",
    ],
)
def test_constants_and_stable_values(sql: str) -> None:
    assert is_constant_or_stable(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "a",
        "random()",
        "clock_timestamp()",
        "gen_random_uuid()",
        "nextval('s'::regclass)",
        "my_schema.now()",
        "now(1)",
        "1 + random()",
        "ARRAY[random()]",
        "random()::int",
        "timezone('utc', clock_timestamp())",
        "now() OVER ()",
        "(SELECT 1)",
        "- a",
        "1, 2",
        "not sql at all",
        "",
    ],
)
def test_all_the_rest_is_not_constant(sql: str) -> None:
    assert not is_constant_or_stable(sql)


# columns_used


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("1", set()),
        ("lower(full_name) || ' ' || t.b", {"full_name", "b"}),
        ("\"Full Name\" = 'full_name'", {"Full Name"}),
        ("(address).city", {"address"}),
        ("NEW.a IS DISTINCT FROM s.t.c", {"a", "c"}),
        ("arr[i]", {"arr", "i"}),
        ("ROW(t.*)", {"*"}),
        (quote(LONG), {LONG}),
    ],
)
def test_columns_are_found(expression: str, columns: set[str]) -> None:
    assert columns_used(expression) == columns


# Renaming in indexes

SHAPES = [
    "(full_name)",
    "(full_name DESC NULLS LAST, b)",
    "(b, full_name ASC NULLS FIRST)",
    '(full_name COLLATE "C" text_pattern_ops)',
    "(lower(full_name) text_pattern_ops DESC) WHERE full_name IS NOT NULL",
    "(b) WHERE full_name = 'full_name'",
    "(b) INCLUDE (full_name, full_name_2)",
    "(full_name, full_name_2, old_full_name)",
    "(full_name_2) INCLUDE (old_full_name)",
    "((full_name || ' ' || full_name_2))",
    "(full_name(full_name))",
    "((CASE WHEN b > 1 THEN full_name ELSE full_name(full_name_2) END))",
    "(COALESCE(full_name, full_name_2), (b + 1))",
    "(\"substring\"(full_name, 1, 3), EXTRACT(year FROM ts), (j ->> 'full_name'))",
    "((full_name COLLATE \"C\"), (full_name = ANY (ARRAY['a', 'full_name'])))",
    "USING hash (full_name)",
    "USING gin (to_tsvector('simple', full_name)) WITH (fastupdate = off)",
    "USING gin (arr array_ops, to_tsvector('simple', full_name))",
    "USING gist (to_tsvector('simple', full_name) tsvector_ops (siglen = 100))",
    "USING brin (full_name, b) WITH (pages_per_range = 4)",
    "(full_name) WITH (fillfactor = 70, deduplicate_items = off)",
    "(fillfactor, full_name) WITH (fillfactor = 70) WHERE fillfactor > 1",
    "(full_name) WHERE b IN (1, 2) AND full_name LIKE 'a%' AND full_name IS DISTINCT FROM 'x'",
    "(full_name) WHERE b BETWEEN 1 AND 2 AND NOT full_name ~ '^\\d+$' OR arr[1] = full_name",
    "(((address).full_name), full_name)",
    "(((as_address(full_name)).full_name))",
]

COLUMNS = [
    ("full_name", "display_name"),
    ("full_name", "select"),
    ("full_name", 'Display "Name"'),
    ("full_name", LONG),
    ("Full Name", "full name"),
    ('odd "full_name" (x)', "plain"),
    (LONG, "name"),
    ("name", "user"),
]


class Twins:
    """The table `t` with a column `new`, and its twin in another schema, where it is `old`."""

    def __init__(self, database: Database, old: str, new: str) -> None:
        self.database, self.old, self.new = database, old, new
        columns = (
            "old_full_name text, full_name_2 text, b int, ts timestamp, j jsonb, arr text[],"
            " fillfactor int, address address"
        )
        database.execute(
            f"""
            CREATE SCHEMA twin;
            CREATE TYPE address AS (full_name text, city text);
            CREATE FUNCTION full_name(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
            CREATE FUNCTION as_address(text) RETURNS address LANGUAGE sql IMMUTABLE
                AS 'SELECT ROW($1, $1)::public.address';
            CREATE TABLE other ({quote(old)} text UNIQUE, b int, UNIQUE (b, {quote(old)}));
            CREATE TABLE t ({quote(new)} text, {columns});
            CREATE TABLE twin.t ({quote(old)} text, {columns});
            """
        )

    def shape(self, shape: str) -> str:
        """Return `shape`, which is written for full_name, for the column `old`."""
        written = quote(self.old).replace("\\", r"\\")
        return re.sub(r"(?<![\w.])full_name(?![\w(])", written, shape)

    def rename(self, source: str, target: str) -> None:
        """Let the server rename the column of the twin."""
        self.database.execute(
            f"ALTER TABLE twin.t RENAME COLUMN {quote(source)} TO {quote(target)}"
        )

    def index(self, schema: str) -> str:
        """Return the definition of the index i, whatever the schema."""
        (text,) = self.database.execute(f"SELECT pg_get_indexdef('{schema}.i'::regclass)")[0]
        return str(text).replace(f" ON {schema}.t ", " ON t ", 1)

    def constraint(self, schema: str) -> str:
        """Return the definition of the constraint c."""
        (text,) = self.database.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE conrelid = '{schema}.t'::regclass AND conname = 'c'"
        )[0]
        return str(text)


def _settle(database: Database) -> None:
    """Make the index of the twin again from the server's own text.

    BETWEEN beside another AND is written as a nested AND, which is read back as a flat one: such
    a definition changes once more when it is used.
    """
    (definition,) = database.execute("SELECT pg_get_indexdef('twin.i'::regclass)")[0]
    database.execute("DROP INDEX twin.i")
    database.execute(definition)


@pytest.mark.parametrize(("old", "new"), COLUMNS)
def test_a_renamed_index_is_what_the_server_makes_of_a_renamed_column(
    database: Database, old: str, new: str
) -> None:
    twins = Twins(database, old, new)
    shapes = [("", shape) for shape in SHAPES]
    if database.server.version >= 15:
        shapes.append(("UNIQUE", "(full_name) NULLS NOT DISTINCT"))
    for unique, shape in shapes:
        database.execute(f"CREATE {unique} INDEX i ON twin.t {twins.shape(shape)}")
        _settle(database)
        tail = rename_column_in_index(twins.index("twin"), old, new)
        database.execute(f"CREATE {unique} INDEX i ON t {tail}")
        twins.rename(old, new)
        assert twins.index("public") == twins.index("twin")
        assert twins.index("twin").endswith(tail)
        twins.rename(new, old)
        database.execute("DROP INDEX i, twin.i")


def test_the_rest_of_the_text_is_kept() -> None:
    definition = (
        "CREATE UNIQUE INDEX i ON ONLY s.t USING btree (lower(a) text_ops, aa DESC) INCLUDE (a)"
        " NULLS NOT DISTINCT WITH (fillfactor='70') TABLESPACE fast WHERE (a <> 'a'::text)"
    )
    assert rename_column_in_index(definition, "a", "b") == (
        "USING btree (lower(b) text_ops, aa DESC) INCLUDE (b)"
        " NULLS NOT DISTINCT WITH (fillfactor='70') TABLESPACE fast WHERE (b <> 'a'::text)"
    )


def test_an_index_that_does_not_use_the_column_is_kept() -> None:
    definition = 'CREATE INDEX i ON "T" USING btree (ab)'
    assert rename_column_in_index(definition, "a", "b") == "USING btree (ab)"


def test_a_table_and_an_index_called_like_the_column_are_not_renamed() -> None:
    definition = "CREATE INDEX a ON a.a USING btree (a)"
    assert rename_column_in_index(definition, "a", "b") == "USING btree (b)"


@pytest.mark.parametrize(
    "definition", ["", "SELECT 1", "CREATE INDEX i ON t (a); DROP TABLE t", "CREATE INDEX", "((("]
)
def test_only_one_index_can_be_renamed_in(definition: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rename_column_in_index(definition, "a", "b")


# Renaming in constraints

CONSTRAINTS = [
    "CHECK (full_name <> 'full_name')",
    "CHECK (full_name(full_name) IS NOT NULL AND b > 1) NO INHERIT",
    "CHECK (length(full_name) < 10 OR (address).full_name = full_name_2) NOT VALID",
    "UNIQUE (full_name, full_name_2)",
    "UNIQUE (b, full_name) INCLUDE (full_name_2) WITH (fillfactor = 70)",
    "UNIQUE (b) INCLUDE (full_name) DEFERRABLE INITIALLY DEFERRED",
    "FOREIGN KEY (full_name) REFERENCES other (full_name) ON DELETE CASCADE",
    "FOREIGN KEY (b, full_name) REFERENCES other (b, full_name) MATCH FULL ON UPDATE SET NULL"
    " ON DELETE SET DEFAULT DEFERRABLE INITIALLY DEFERRED NOT VALID",
    "EXCLUDE USING gist (int4range(b, length(full_name)) WITH &&)"
    " WHERE (full_name <> 'a') DEFERRABLE",
    "EXCLUDE USING btree (full_name WITH =, b WITH =) INCLUDE (full_name_2) WITH (fillfactor = 80)",
]

FOREIGN_KEY_15 = (
    "FOREIGN KEY (b, full_name) REFERENCES other (b, full_name) ON DELETE SET NULL (full_name)"
)


@pytest.mark.parametrize(("old", "new"), COLUMNS)
def test_a_renamed_constraint_is_what_the_server_makes_of_a_renamed_column(
    database: Database, old: str, new: str
) -> None:
    twins = Twins(database, old, new)
    # A primary key that is dropped leaves its NOT NULL, so it comes last.
    shapes = [*CONSTRAINTS, "PRIMARY KEY (b, full_name)"]
    if database.server.version >= 15:
        shapes[:0] = ["UNIQUE NULLS NOT DISTINCT (full_name)", FOREIGN_KEY_15]
    if database.server.version >= 18:
        shapes[:0] = ["NOT NULL full_name NOT VALID", "CHECK (full_name <> 'x') NOT ENFORCED"]
    for shape in shapes:
        database.execute(f"ALTER TABLE twin.t ADD CONSTRAINT c {twins.shape(shape)}")
        definition = rename_column_in_constraint(twins.constraint("twin"), old, new)
        database.execute(f"ALTER TABLE t ADD CONSTRAINT c {definition}")
        twins.rename(old, new)
        assert twins.constraint("public") == twins.constraint("twin") == definition
        twins.rename(new, old)
        database.execute("ALTER TABLE t DROP CONSTRAINT c; ALTER TABLE twin.t DROP CONSTRAINT c")


def test_a_foreign_key_is_renamed_on_both_sides_when_asked() -> None:
    definition = "FOREIGN KEY (a, b) REFERENCES t(b, a) ON DELETE SET NULL (a)"
    assert rename_column_in_constraint(definition, "a", "x") == (
        "FOREIGN KEY (x, b) REFERENCES t(b, a) ON DELETE SET NULL (x)"
    )
    assert rename_column_in_constraint(definition, "a", "x", referenced=True) == (
        "FOREIGN KEY (x, b) REFERENCES t(b, x) ON DELETE SET NULL (x)"
    )


@pytest.mark.parametrize(
    ("definition", "renamed"),
    [
        ("NOT NULL a NO INHERIT NOT VALID", "NOT NULL x NO INHERIT NOT VALID"),
        ("PRIMARY KEY (b, a WITHOUT OVERLAPS)", "PRIMARY KEY (b, x WITHOUT OVERLAPS)"),
        (
            "FOREIGN KEY (b, PERIOD a) REFERENCES t(b, PERIOD a)",
            "FOREIGN KEY (b, PERIOD x) REFERENCES t(b, PERIOD a)",
        ),
        ("UNIQUE (a) USING INDEX TABLESPACE a", "UNIQUE (x) USING INDEX TABLESPACE a"),
        ("FOREIGN KEY (b) REFERENCES a.a(a)", "FOREIGN KEY (b) REFERENCES a.a(a)"),
        ("CHECK ((a))", "CHECK ((x))"),
    ],
)
def test_definitions_of_newer_servers(definition: str, renamed: str) -> None:
    assert rename_column_in_constraint(definition, "a", "x") == renamed


@pytest.mark.parametrize(
    "definition", ["", "CHECK (a > 1), DROP COLUMN b", "CHECK (a > 1); DROP TABLE t", "nonsense"]
)
def test_only_one_constraint_can_be_renamed_in(definition: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rename_column_in_constraint(definition, "a", "b")


# relations_of


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM s.t JOIN u USING (id) JOIN s.t AS again USING (id)", ["s.t", "u"]),
        ('ALTER TABLE "My T" ADD COLUMN a int', ["My T"]),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES s.u", ["t", "s.u"]),
        ("ALTER TABLE t RENAME TO u", ["t"]),
        ("CREATE INDEX CONCURRENTLY i ON s.t (a)", ["s.t"]),
        ("DROP INDEX CONCURRENTLY IF EXISTS s.i, j", ["s.i", "j"]),
        ("ALTER INDEX i RENAME TO j", ["i"]),
        ("REINDEX INDEX CONCURRENTLY i", ["i"]),
        ("DROP TABLE a, s.b CASCADE", ["a", "s.b"]),
        ("DROP TRIGGER x ON s.t", ["s.t"]),
        ("DROP FUNCTION f(int)", []),
        ("COMMENT ON COLUMN s.t.c IS 'x'", ["s.t"]),
        ("COMMENT ON TABLE t IS 'x'", ["t"]),
        ("LOCK TABLE a, b IN SHARE MODE", ["a", "b"]),
        ("TRUNCATE a; VACUUM b; ANALYZE c", ["a", "b", "c"]),
        ("INSERT INTO t SELECT * FROM u", ["t", "u"]),
        ("UPDATE t SET a = u.a FROM u WHERE t.id = u.id", ["t", "u"]),
        ("WITH c AS (SELECT * FROM t) SELECT * FROM c", ["t"]),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", ["t"]),
        ("WITH c AS (SELECT 1) UPDATE c SET a = 1", ["c"]),
        ("WITH RECURSIVE c AS (SELECT 1 UNION SELECT * FROM c) SELECT * FROM c, s.c", ["s.c"]),
        ("SELECT 1", []),
        ("", []),
        ("no sql", []),
        ("SELECT * FROM t WHERE id = :id", []),
        ("SELECT * FROM t WHERE id = %s", []),
        ("SELECT '\0' FROM t", []),
        ("SELECT 1" + " + 1" * 500 + " FROM t", []),
        ("(" * 20000, []),
    ],
)
def test_relations_are_found(sql: str, names: list[str]) -> None:
    assert [str(name) for name in relations_of(sql)] == names
