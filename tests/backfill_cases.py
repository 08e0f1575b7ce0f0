"""Tables to fill, and how to see what was done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from conftest import Database

from alembic_safe.operations import BackfillOp

FILL = BackfillOp("t", {"b": "a"}, "b IS NULL")

# Each update of a row is counted in the row.
COUNT_TOUCHES = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""
COLUMNS = "a text, b text, touched int DEFAULT 0"


def batches(database: Database) -> list[int]:
    """Return how many rows each transaction left, the largest first."""
    rows = database.execute("SELECT count(*) FROM t GROUP BY xmin ORDER BY 1 DESC")
    return [count for (count,) in rows]


def unfilled(database: Database) -> int:
    """Return how many rows lack their value."""
    return int(database.execute("SELECT count(*) FROM t WHERE b IS DISTINCT FROM a")[0][0])


def touched(database: Database) -> list[tuple[Any, ...]]:
    """Return pairs: a number of updates, and how many rows had so many."""
    return database.execute("SELECT touched, count(*) FROM t GROUP BY touched ORDER BY touched")


def positions(database: Database) -> list[tuple[Any, ...]]:
    """Return the relations and positions that are stored."""
    return database.execute("SELECT relation, position FROM alembic_safe_backfill ORDER BY 1")


@dataclass(frozen=True)
class Key:
    """A key of a table.

    Args:
        columns: SQL of its columns, the first ones of the table, and what is said of them.
        values: SQL of their values in row `i`.
        also: SQL to run once the table is there.
    """

    columns: str
    values: str
    also: str = ""


KEYS = {
    "integer": Key("k int PRIMARY KEY", "i"),
    "smallint": Key("k smallint PRIMARY KEY", "i - 30"),
    "bigint": Key("k bigint PRIMARY KEY", "9223372036854775807 - i"),
    "text": Key("k text PRIMARY KEY", "i"),
    "text that needs care": Key("k text PRIMARY KEY", "chr(32 + i) || '''\\%s:x\"é'"),
    "varchar": Key("k varchar(9) PRIMARY KEY", "'k' || i"),
    "char": Key("k char(9) PRIMARY KEY", "i"),
    "a collation": Key('k text COLLATE "POSIX" PRIMARY KEY', "i"),
    "uuid": Key("k uuid PRIMARY KEY", "md5(i::text)::uuid"),
    "numeric": Key("k numeric PRIMARY KEY", "i / 7.0 - 3"),
    "double precision": Key("k double precision PRIMARY KEY", "i / 7.0::float8 - 3"),
    "timestamptz": Key("k timestamptz PRIMARY KEY", "'2024-03-31'::date + i * interval '7 h'"),
    "date": Key("k date PRIMARY KEY", "'2024-01-30'::date + i"),
    "interval": Key("k interval PRIMARY KEY", "i * interval '1 day 1 hour'"),
    "bytea": Key("k bytea PRIMARY KEY", "decode(lpad(to_hex(i), 4, '0'), 'hex')"),
    "boolean and more": Key("k boolean, l int, PRIMARY KEY (k, l)", "i % 2 = 0, i"),
    "an enum": Key("k mood, l int, PRIMARY KEY (k, l)", "('{sad,ok}'::mood[])[1 + i % 2], i"),
    "a domain": Key("k positive PRIMARY KEY", "i"),
    "inet": Key("k inet PRIMARY KEY", "'10.0.0.0'::inet + i"),
    "an array": Key("k int[] PRIMARY KEY", "ARRAY[i % 3, i]"),
    "two columns": Key("k int, l text, PRIMARY KEY (k, l)", "i % 3, i"),
    "three columns in another order": Key(
        "k int, l text, m uuid, PRIMARY KEY (m, l, k)", "i % 3, i % 5, md5(i::text)::uuid"
    ),
    "descending": Key("k int NOT NULL", "i", "CREATE UNIQUE INDEX ON t (k DESC)"),
    "unique and never NULL": Key("k int UNIQUE NOT NULL", "i"),
    "unique with other columns included": Key("k int NOT NULL, UNIQUE (k) INCLUDE (b)", "i"),
    "a name like an expression": Key('"k::text" int PRIMARY KEY', "i"),
    "a reserved name": Key('"user" int PRIMARY KEY', "i"),
    "quotes in its name": Key('"it\'s ""k""" int PRIMARY KEY', "i"),
}

NO_KEYS = {
    "none": Key("k int", "i"),
    "unique but for NULLs": Key("k int UNIQUE", "nullif(i, 3)"),
    "unique for some rows": Key("k int NOT NULL", "i", "CREATE UNIQUE INDEX ON t (k) WHERE k > 9"),
    "unique at commit": Key("k int NOT NULL UNIQUE DEFERRABLE", "i"),
    "unique by an expression": Key("k int NOT NULL", "i", "CREATE UNIQUE INDEX ON t (abs(k))"),
    "unique by an expression and a column": Key(
        "k int NOT NULL, l int NOT NULL", "i, i % 3", "CREATE UNIQUE INDEX ON t (abs(k), l)"
    ),
    "an index that is not unique": Key("k int NOT NULL", "i", "CREATE INDEX ON t (k)"),
    "an index that is not valid": Key(
        "k int NOT NULL UNIQUE",
        "i",
        "UPDATE pg_index SET indisvalid = false WHERE indrelid = 't'::regclass",
    ),
}

INTEGER = KEYS["integer"]


def keyed(database: Database, key: Key, rows: int = 57) -> None:
    """Create the table `t` with a key, and rows in which `b` is to be filled from `a`."""
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);"
        f"CREATE TABLE t ({key.columns}, {COLUMNS}); {COUNT_TOUCHES} {key.also};"
        f"INSERT INTO t SELECT {key.values}, 'a' || i FROM generate_series(1, {rows}) AS i"
    )


ARRIVING = """
CREATE FUNCTION arrive() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO t (k, a) VALUES (NEW.k + 1000, 'late') ON CONFLICT DO NOTHING; RETURN NULL;
END $$;
CREATE TRIGGER arrive AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.k = 5)
EXECUTE FUNCTION arrive();
"""
