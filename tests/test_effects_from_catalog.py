"""The world that `read_world` reads is the one that the server has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Database
from sqlalchemy.ext.asyncio import create_async_engine
from worlds import described, in_catalog, known

from alembic_safe.postgres.effects.from_catalog import read_world
from alembic_safe.postgres.effects.world import Relation, TypeName, World
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.types import read_type

Read = Callable[..., World]


@pytest.fixture
def connection(database: Database) -> Iterator[sa.Connection]:
    """A connection that would rather fail than wait for long."""
    options = {"options": "-c statement_timeout=20s"}
    engine = sa.create_engine(database.url(), connect_args=options)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def read(connection: sa.Connection) -> Read:
    """Read the world, or that of names, given as `name` or `schema.name`."""

    def read_named(*names: str) -> World:
        wanted = [named(name) for name in names]
        return read_world(connection, wanted or None)

    return read_named


def named(name: str) -> QualifiedName:
    return QualifiedName(*reversed(name.split(".", 1)))


def relation(world: World, name: str) -> Relation:
    found = world.find(named(name if "." in name else f"public.{name}"))
    assert found is not None
    return found


def found(world: World) -> set[str]:
    return {name.name for name in world.relations}


# Relations


def test_every_kind_of_relation_is_there(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE plain (id int)")
    database.execute("CREATE UNLOGGED TABLE unlogged (id int)")
    database.execute("CREATE TABLE parted (id int) PARTITION BY LIST (id)")
    database.execute("CREATE VIEW seen AS SELECT 1 AS one")
    database.execute("CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one")
    database.execute("CREATE SEQUENCE numbers")
    database.execute("CREATE TYPE pair AS (a int, b text)")
    database.execute("CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w")
    database.execute("CREATE FOREIGN TABLE far (id int) SERVER s")
    world = read()
    kinds = {name.name: relation.kind for name, relation in world.relations.items()}
    assert kinds == {
        "plain": "r",
        "unlogged": "r",
        "parted": "p",
        "seen": "v",
        "kept": "m",
        "numbers": "S",
        "pair": "c",
        "far": "f",
    }
    assert relation(world, "unlogged").persistence == "u"
    assert relation(world, "plain").access_method == "heap"
    assert all(relation.complete for relation in world.relations.values())
    assert world.complete
    assert world.version == database.server.version


def test_odd_names_and_schemas(database: Database, read: Read) -> None:
    database.execute('CREATE SCHEMA "Odd, ""S"""')
    database.execute('CREATE TABLE "Odd, ""S"""."a %:b" ("c"" d" int PRIMARY KEY)')
    name = QualifiedName("a %:b", 'Odd, "S"')
    for world in (read(), read_world_of(database, [name])):
        table = world.find(name)
        assert table is not None
        assert list(table.columns) == ['c" d']
        assert world.index_tables[QualifiedName("a %:b_pkey", 'Odd, "S"')] == name


def read_world_of(database: Database, names: list[QualifiedName]) -> World:
    engine = sa.create_engine(database.url())
    with engine.connect() as connection:
        world = read_world(connection, names)
    engine.dispose()
    return world


def test_the_size_tells_an_empty_table(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE empty (id int)")
    database.execute("CREATE TABLE filled AS SELECT generate_series(1, 1000) AS id")
    world = read()
    assert relation(world, "empty").size == 0
    filled = relation(world, "filled").size
    assert filled is not None
    assert filled > 8192


def test_partitions_and_inheritance(database: Database, read: Read) -> None:
    database.execute(
        "CREATE TABLE events (id int, day date, place text) PARTITION BY RANGE (day, lower(place))"
    )
    database.execute(
        "CREATE TABLE old PARTITION OF events FOR VALUES FROM ('2000-01-01', 'a') TO "
        "('2020-01-01', 'z')"
    )
    database.execute("CREATE TABLE rest PARTITION OF events DEFAULT")
    database.execute("CREATE TABLE base (id int)")
    database.execute("CREATE TABLE derived (extra int) INHERITS (base)")
    world = read()
    events = relation(world, "events")
    assert events.partition_key == ("day", "place")
    assert {name.name for name in events.children} == {"old", "rest"}
    assert events.size == 0
    old, rest = relation(world, "old"), relation(world, "rest")
    assert old.parents == rest.parents == (events.name,)
    assert (old.is_partition, old.is_default_partition) == (True, False)
    assert old.bound.startswith("FOR VALUES FROM ('2000-01-01', 'a')")
    assert (rest.is_default_partition, rest.bound) == (True, "DEFAULT")
    assert old.columns["day"].inherited
    derived = relation(world, "derived")
    assert not derived.is_partition
    assert derived.parents == (relation(world, "base").name,)
    assert (derived.columns["id"].inherited, derived.columns["extra"].inherited) == (True, False)


def test_triggers_rules_policies_and_statistics(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    database.execute("CREATE TABLE u (id int REFERENCES t)")
    database.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    database.execute("CREATE TRIGGER tr BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION f()")
    database.execute("CREATE RULE ru AS ON DELETE TO t DO INSTEAD NOTHING")
    database.execute("CREATE POLICY po ON t USING (b > 0)")
    database.execute("CREATE STATISTICS st ON a, b FROM t")
    t = relation(read(), "t")
    assert t.triggers == {"tr"}
    assert t.rules == {"ru"}
    assert t.policies == {"po"}
    assert t.extended_statistics == {"st": {"a", "b"}}
    assert t.other_dependents == {"trigger tr": {"a"}, "policy po": {"b"}}
    assert t.dependents == {}


def test_views_and_rules_by_the_columns_that_they_use(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int, b int, c int)")
    database.execute("CREATE TABLE log (x int)")
    database.execute("CREATE VIEW v AS SELECT a FROM t WHERE b > 0")
    database.execute("CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t")
    database.execute("CREATE RULE r AS ON INSERT TO log DO ALSO DELETE FROM t WHERE c = NEW.x")
    world = read()
    assert {
        name.name: set(columns) for name, columns in relation(world, "t").dependents.items()
    } == {
        "v": {"a", "b"},
        "m": set(),
        "log": {"c"},
    }
    assert relation(world, "v").dependents == {}


# Columns


TYPES = [
    ("integer", TypeName("int4")),
    ("varchar", TypeName("varchar")),
    ("varchar(50)", TypeName("varchar", (50,))),
    ("char(5)", TypeName("bpchar", (5,))),
    ("numeric", TypeName("numeric")),
    ("numeric(10)", TypeName("numeric", (10, 0))),
    ("numeric(10, 2)", TypeName("numeric", (10, 2))),
    ("timestamp(3)", TypeName("timestamp", (3,))),
    ("timestamptz", TypeName("timestamptz")),
    ("time(0) with time zone", TypeName("timetz", (0,))),
    ("bit(4)", TypeName("bit", (4,))),
    ("bit varying(4)", TypeName("varbit", (4,))),
    ("interval", TypeName("interval")),
    ("interval(3)", TypeName("interval", (0x7FFF, 3))),
    ("interval year to month", TypeName("interval", (6,))),
    ("varchar(7)[]", TypeName("varchar", (7,), is_array=True)),
    ("mood", TypeName("mood", schema="public")),
    ("mood[]", TypeName("mood", is_array=True, schema="public")),
    ("other.code", TypeName("code", schema="other")),
    ('"char"', TypeName("char")),
    ("int2vector", TypeName("int2vector")),
]


def test_types_are_named_as_statements_write_them(database: Database, read: Read) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    database.execute("CREATE SCHEMA other; CREATE DOMAIN other.code AS varchar(3)")
    columns = ", ".join(f"c{i} {sql}" for i, (sql, _) in enumerate(TYPES))
    database.execute(f"CREATE TABLE t ({columns})")
    read_types = [column.type for column in relation(read(), "t").columns.values()]
    assert read_types == [type_ for _, type_ in TYPES]


def test_types_are_what_their_names_mean_to_the_parser(database: Database, read: Read) -> None:
    columns = ", ".join(f"c{i} {sql}" for i, (sql, _) in enumerate(TYPES) if "mood" not in sql)
    database.execute("CREATE SCHEMA other; CREATE DOMAIN other.code AS varchar(3)")
    database.execute(f"CREATE TABLE t ({columns})")
    written = database.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum"
    )
    columns_read = relation(read(), "t").columns
    assert {name: read_type(sql) for name, sql in written} == {
        name: column.type for name, column in columns_read.items()
    }


def test_a_negative_scale(database: Database, read: Read) -> None:
    if database.server.version < 15:
        pytest.skip("from 15")
    database.execute("CREATE TABLE t (c numeric(5, -2))")
    assert relation(read(), "t").columns["c"].type == TypeName("numeric", (5, -2))


def test_what_fills_a_column(database: Database, read: Read) -> None:
    database.execute(
        "CREATE TABLE t (plain int, d int DEFAULT 1 + 1, s serial, "
        "i int GENERATED ALWAYS AS IDENTITY, j int GENERATED BY DEFAULT AS IDENTITY, "
        "g int GENERATED ALWAYS AS (d * 2) STORED)"
    )
    t = relation(read(), "t")
    plain, d, s, i, j, g = t.columns.values()
    assert (plain.default, plain.sequence, plain.not_null) == (None, None, False)
    assert d.default == "(1 + 1)"
    assert s.default is not None
    assert "nextval" in s.default
    assert s.sequence == QualifiedName("t_s_seq", "public")
    assert s.not_null
    assert (i.identity, i.sequence) == ("a", QualifiedName("t_i_seq", "public"))
    assert j.identity == "d"
    assert (g.generated, g.default) == ("s", "(d * 2)")
    assert t.generated_from == {"g": {"d"}}


def test_collations_that_are_not_the_types(database: Database, read: Read) -> None:
    database.execute('CREATE TABLE t (a text, b text COLLATE "C", c int)')
    columns = relation(read(), "t").columns
    assert [column.collation for column in columns.values()] == [None, "C", None]


def test_a_not_null_that_is_not_valid_does_not_count(database: Database, read: Read) -> None:
    if database.server.version < 18:
        pytest.skip("from 18")
    database.execute("CREATE TABLE t (a int, b int NOT NULL)")
    database.execute("ALTER TABLE t ADD CONSTRAINT n NOT NULL a NOT VALID")
    t = relation(read(), "t")
    assert not t.columns["a"].not_null
    assert t.columns["b"].not_null
    assert (t.constraints["n"].type, t.constraints["n"].is_validated) == ("n", False)
    database.execute("ALTER TABLE t VALIDATE CONSTRAINT n")
    assert relation(read(), "t").columns["a"].not_null


def test_a_virtual_column(database: Database, read: Read) -> None:
    if database.server.version < 18:
        pytest.skip("from 18")
    database.execute("CREATE TABLE t (a int, v int GENERATED ALWAYS AS (a + 1) VIRTUAL)")
    t = relation(read(), "t")
    assert t.columns["v"].generated == "v"
    assert t.generated_from == {"v": {"a"}}


# Indexes and constraints


def test_what_an_index_is_made_of(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int, b text, c int, d int)")
    database.execute(
        "CREATE UNIQUE INDEX i ON t (a, lower(b), b text_pattern_ops) INCLUDE (d) "
        "WHERE c > 0 AND a > 0"
    )
    database.execute('CREATE INDEX j ON t (b COLLATE "C", a)')
    database.execute("CREATE INDEX k ON t USING hash (a)")
    world = read()
    i, j, k = (relation(world, "t").indexes[name] for name in "ijk")
    assert i.columns == ("a", None, "b")
    assert i.included == ("d",)
    assert i.expression_columns == {"a", "b", "c"}
    assert i.operator_classes == (None, None, "text_pattern_ops")
    assert (i.is_unique, i.is_partial, i.is_valid, i.is_primary) == (True, True, True, False)
    assert j.collations == ("C", None)
    assert (j.is_partial, j.expression_columns) == (False, frozenset())
    assert k.method == "hash"
    assert world.index_tables[QualifiedName("k", "public")] == QualifiedName("t", "public")


def test_only_what_an_expression_uses_is_told_as_its_column(database: Database, read: Read) -> None:
    database.execute(
        "CREATE TABLE t (a int4range, b int, c int, "
        "CONSTRAINT x EXCLUDE USING gist (a WITH &&, int4range(b, b) WITH &&) "
        "WHERE (c > 0 AND NOT isempty(a)))"
    )
    database.execute("CREATE INDEX p ON t (b, c) WHERE c > 0")
    indexes = relation(read(), "t").indexes
    assert indexes["x"].columns == ("a", None)
    assert indexes["x"].expression_columns == {"a", "b", "c"}
    assert indexes["x"].constraint == "x"
    assert indexes["p"].expression_columns == {"c"}


def test_an_invalid_index_is_told(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t AS SELECT 1 AS a UNION ALL SELECT 1")
    with pytest.raises(Exception, match="could not create unique index"):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)")
    assert not relation(read(), "t").indexes["i"].is_valid


def test_nulls_not_distinct(database: Database, read: Read) -> None:
    if database.server.version < 15:
        pytest.skip("from 15")
    database.execute("CREATE TABLE t (a int, b int, UNIQUE NULLS NOT DISTINCT (a), UNIQUE (b))")
    indexes = relation(read(), "t").indexes
    assert indexes["t_a_key"].nulls_not_distinct
    assert not indexes["t_b_key"].nulls_not_distinct


def test_constraints(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE p (x int, y int, PRIMARY KEY (y, x))")
    database.execute(
        "CREATE TABLE t (a int, b int, c int UNIQUE, "
        "CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES p DEFERRABLE, "
        "CONSTRAINT proof CHECK (a IS NOT NULL AND (b > 0 AND c IS NOT NULL)), "
        "CONSTRAINT no_proof CHECK (b IS NOT NULL OR a > 0))"
    )
    database.execute("ALTER TABLE t ADD CONSTRAINT late CHECK (b < 9) NOT VALID")
    world = read()
    constraints = relation(world, "t").constraints
    fk = constraints["fk"]
    assert (fk.type, fk.columns, fk.referenced_columns) == ("f", ("a", "b"), ("y", "x"))
    assert fk.referenced == QualifiedName("p", "public")
    assert (fk.is_deferrable, fk.index) == (True, "p_pkey")
    assert constraints["proof"].proves_not_null == {"a", "c"}
    assert constraints["proof"].columns == ("a", "b", "c")
    assert constraints["no_proof"].proves_not_null == frozenset()
    assert constraints["no_proof"].is_validated
    assert not constraints["late"].is_validated
    assert constraints["late"].expression == "(b < 9)"
    assert (constraints["t_c_key"].type, constraints["t_c_key"].index) == ("u", "t_c_key")
    primary = relation(world, "p").constraints["p_pkey"]
    assert (primary.type, primary.columns) == ("p", ("y", "x"))
    assert [(r.name.name, c.name) for r, c in world.referencing(named("public.p"))] == [("t", "fk")]


def test_a_constraint_that_is_not_enforced(database: Database, read: Read) -> None:
    if database.server.version < 18:
        pytest.skip("from 18")
    database.execute("CREATE TABLE t (a int, CONSTRAINT c CHECK (a > 0) NOT ENFORCED)")
    assert not relation(read(), "t").constraints["c"].is_enforced


def test_keys_of_partitions(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id)")
    database.execute("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    database.execute("CREATE TABLE t (p int REFERENCES p)")
    world = read()
    child = relation(world, "p1")
    assert child.indexes["p1_pkey"].parent == QualifiedName("p_pkey", "public")
    assert child.constraints["p1_pkey"].inherited
    # The server keeps a row of its own for each partition.
    keys = [c for c in relation(world, "t").constraints.values() if c.type == "f"]
    assert [key.name for key in keys] == ["t_p_fkey"]


# Types and functions


def test_types_that_users_made(database: Database, read: Read) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TYPE mood ADD VALUE 'joy'")
    database.execute("CREATE DOMAIN short AS varchar(9) DEFAULT 'x' CHECK (VALUE <> '')")
    database.execute("CREATE DOMAIN shorter AS short; CREATE DOMAIN free AS int[]")
    database.execute("CREATE DOMAIN needed AS int NOT NULL")
    database.execute(
        "CREATE TYPE pair AS (a int, b int); CREATE TYPE span AS RANGE (subtype = int4)"
    )
    database.execute("CREATE TABLE t (id int)")
    database.execute("ALTER DOMAIN short ADD CONSTRAINT later CHECK (VALUE <> 'y') NOT VALID")
    types = {name.name: type_ for name, type_ in read().types.items()}
    kinds = {name: type_.kind for name, type_ in types.items() if name != "span_multirange"}
    assert kinds.pop("int4multirange", None) is None
    assert kinds == {
        "mood": "e", "short": "d", "shorter": "d", "free": "d", "needed": "d", "pair": "c",
        "span": "r",
    }  # fmt: skip
    assert types["mood"].labels == ("sad", "ok", "joy")
    assert types["mood"].new_labels == frozenset()
    assert types["short"].base == TypeName("varchar", (9,))
    assert types["short"].has_default
    assert types["short"].constraints == {"short_check": True, "later": False}
    assert types["shorter"].base == TypeName("short", schema="public")
    assert types["shorter"].has_constraints
    assert not types["free"].has_constraints
    assert types["free"].base == TypeName("int4", is_array=True)
    assert types["needed"].has_constraints


def test_a_label_that_this_transaction_added_is_new(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TYPE mood AS ENUM ('sad')"))
    assert read_world(connection).types[named("public.mood")].new_labels == frozenset()
    connection.commit()
    connection.execute(sa.text("ALTER TYPE mood ADD VALUE 'ok'"))
    assert read_world(connection).types[named("public.mood")].new_labels == {"ok"}
    connection.commit()
    assert read_world(connection).types[named("public.mood")].new_labels == frozenset()


def test_functions(database: Database, read: Read) -> None:
    database.execute("CREATE FUNCTION f(a int, int, OUT b int) LANGUAGE sql AS 'SELECT 2'")
    database.execute(
        "CREATE FUNCTION g() RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'"
    )
    functions = read().functions
    f, g = functions[named("public.f")], functions[named("public.g")]
    assert (f.volatility, f.language, f.body, f.arguments) == ("v", "sql", "SELECT 2", ("a", "b"))
    assert (g.volatility, g.language, g.body) == ("s", "plpgsql", "BEGIN RETURN 1; END")


def test_overloads_are_kept_as_the_most_volatile_one(database: Database, read: Read) -> None:
    database.execute("CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    database.execute("CREATE FUNCTION f(text) RETURNS int STABLE LANGUAGE sql AS 'SELECT 2'")
    f = read().functions[named("public.f")]
    assert (f.volatility, f.body) == ("s", "")


def test_a_body_that_the_server_has_parsed(database: Database, read: Read) -> None:
    if database.server.version < 14:
        pytest.skip("from 14")
    database.execute("CREATE TABLE t (a int)")
    database.execute("CREATE FUNCTION f() RETURNS int RETURN 41 + 1")
    database.execute("CREATE FUNCTION g() RETURNS bigint BEGIN ATOMIC SELECT count(a) FROM t; END")
    world = read()
    assert world.functions[named("public.f")].body == "RETURN (41 + 1)"
    assert "count" in world.functions[named("public.g")].body
    assert relation(world, "t").other_dependents == {"function g": {"a"}}


# The same world from the statements

STATEMENTS = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN short AS varchar(9) DEFAULT 'x' CHECK (VALUE <> '');
CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name short NOT NULL,
    feels mood,
    tags varchar(7)[]
);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    customer bigint REFERENCES customers ON DELETE CASCADE,
    total numeric(10, 2) CHECK (total > 0),
    net numeric GENERATED ALWAYS AS (total / 2) STORED,
    note text COLLATE "C",
    UNIQUE (customer, note)
);
CREATE INDEX by_note ON orders (lower(note), total DESC) INCLUDE (id) WHERE total > 5;
CREATE UNIQUE INDEX once ON orders (id, note text_pattern_ops);
CREATE TABLE days (day date NOT NULL, place int) PARTITION BY RANGE (day);
CREATE TABLE january PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE rest PARTITION OF days DEFAULT;
CREATE INDEX by_place ON days (place);
CREATE VIEW rich AS SELECT o.id, o.note FROM orders o WHERE total > 100;
CREATE MATERIALIZED VIEW notes AS SELECT note FROM rich;
CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION one() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touched();
CREATE POLICY mine ON orders USING (customer = 1);
CREATE STATISTICS both_columns ON customer, note FROM orders;
ALTER TABLE orders ADD CONSTRAINT later CHECK (note <> '') NOT VALID;
ALTER TABLE orders ADD COLUMN at timestamptz NOT NULL DEFAULT now();
ALTER TABLE customers ALTER COLUMN name DROP NOT NULL;
"""


def test_the_statements_make_the_world_that_the_catalog_has(database: Database) -> None:
    database.execute(STATEMENTS)
    server = in_catalog(database)
    engine, catalog = described(known(STATEMENTS, database.server.version)), described(server)
    assert engine.keys() == catalog.keys()
    for name, relation_ in server.relations.items():
        # What types the columns of a query have is not worked out.
        skipped = {"columns"} if relation_.kind in ("v", "m") else set()
        for part in catalog[str(name)].keys() - skipped:
            written = with_schema(engine[str(name)][part])
            assert written == with_schema(catalog[str(name)][part]), f"{part} of {name}"


def with_schema(part: Any) -> Any:
    """Name the schema of a type where the statement did not."""
    if isinstance(part, dict):
        return {name: with_schema(value) for name, value in part.items()}
    if isinstance(part, tuple) and part and isinstance(part[0], TypeName):
        is_users = part[0].name in ("mood", "short")
        return (replace(part[0], schema="public" if is_users else part[0].schema), *part[1:])
    return part


def test_what_hangs_on_tables_is_known_from_the_statements(database: Database, read: Read) -> None:
    database.execute(STATEMENTS)
    server, engine = read(), known(STATEMENTS, database.server.version)
    for name, table in server.relations.items():
        other = engine.relations[name]
        assert other.triggers == table.triggers, name
        assert other.policies == table.policies, name
        assert other.extended_statistics == table.extended_statistics, name
        assert set(other.dependents) == set(table.dependents), name
    assert engine.types.keys() == server.types.keys()
    assert {n: f.volatility for n, f in engine.functions.items()} == {
        n: f.volatility for n, f in server.functions.items()
    }


# The session


def test_settings_in_force(database: Database, connection: sa.Connection) -> None:
    database.execute('CREATE SCHEMA "My, ""Schema"')
    connection.execute(sa.text('SET search_path = "My, ""Schema", public, nowhere'))
    connection.execute(sa.text("SET lock_timeout = '1min'"))
    connection.execute(sa.text("SET LOCAL timezone = 'Europe/Madrid'"))
    world = read_world(connection)
    assert world.search_path == ('My, "Schema', "public")
    assert world.settings["lock_timeout"] == "60000"
    assert world.settings["timezone"] == "Europe/Madrid"
    assert world.settings["statement_timeout"] == "20000"


def test_a_temporary_table_comes_first(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE t (old int)"))
    connection.execute(sa.text("CREATE TEMPORARY TABLE t (new int)"))
    world = read_world(connection, [QualifiedName("t")])
    assert world.qualified("t") == QualifiedName("t", "pg_temp")
    assert relation(world, "pg_temp.t").persistence == "t"
    assert world.qualified("other") == QualifiedName("other", "public")


def test_temporary_tables_of_others_are_not_there(database: Database, read: Read) -> None:
    with database.connect() as other:
        other.execute("CREATE TEMPORARY TABLE theirs (id int)")
        assert found(read()) == set()


def test_what_the_transaction_changed_is_seen(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE old (id int)"))
    connection.commit()
    connection.execute(sa.text("ALTER TABLE old ADD COLUMN added int"))
    connection.execute(sa.text("CREATE TABLE new (id int PRIMARY KEY)"))
    with connection.begin_nested():
        connection.execute(sa.text("CREATE TABLE newer (id int)"))
    world = read_world(connection)
    assert "added" in relation(world, "old").columns
    assert not world.is_new(relation(world, "old").born)
    assert world.is_new(relation(world, "new").born)
    assert world.is_new(relation(world, "newer").born)
    connection.commit()
    world = read_world(connection)
    assert not world.is_new(relation(world, "new").born)


def test_what_another_transaction_made_later_is_not_new(
    database: Database, connection: sa.Connection
) -> None:
    connection.execute(sa.text("CREATE TABLE mine (id int)"))
    database.execute("CREATE TABLE theirs (id int)")
    world = read_world(connection)
    assert world.is_new(relation(world, "mine").born)
    assert not world.is_new(relation(world, "theirs").born)


# Names


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute("CREATE TABLE customers (id int PRIMARY KEY)")
    database.execute(
        "CREATE TABLE orders (id serial PRIMARY KEY, customer int REFERENCES customers)"
    )
    database.execute("CREATE TABLE items (id int, o int REFERENCES orders)")
    database.execute("CREATE INDEX by_customer ON orders (customer)")
    database.execute("CREATE TABLE stock (item int) PARTITION BY LIST (item)")
    database.execute("CREATE TABLE stock_1 PARTITION OF stock FOR VALUES IN (1)")
    database.execute("CREATE TABLE stock_2 PARTITION OF stock FOR VALUES IN (2)")
    database.execute("CREATE VIEW open_orders AS SELECT id FROM orders")
    database.execute("CREATE VIEW open_ids AS SELECT id FROM open_orders")
    database.execute("CREATE DOMAIN code AS text; CREATE DOMAIN sub AS code")
    database.execute("CREATE TABLE coded (c sub[])")
    return database


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("orders", {"orders", "orders_id_seq", "customers", "items", "open_orders", "open_ids"}),
        ("public.by_customer", {"orders", "orders_id_seq", "customers", "items", "open_orders",
                                "open_ids"}),
        ("customers", {"customers", "orders", "orders_id_seq", "open_orders", "open_ids"}),
        ("stock", {"stock", "stock_1", "stock_2"}),
        ("stock_1", {"stock_1", "stock"}),
        ("open_orders", {"open_orders", "open_ids"}),
        ("orders_id_seq", {"orders_id_seq", "orders", "open_orders", "open_ids"}),
        ("code", {"coded"}),
        ("not_there", set()),
        ("elsewhere.orders", set()),
    ],
)  # fmt: skip
def test_a_name_brings_what_a_statement_with_it_can_reach(
    shop: Database, read: Read, name: str, reached: set[str]
) -> None:
    world = read(name)
    assert found(world) == reached
    assert all(relation.complete for relation in world.relations.values())
    assert world.complete


def test_a_named_relation_is_the_same_as_in_the_whole(shop: Database, read: Read) -> None:
    whole = read()
    for name in whole.relations:
        assert read(str(name)).relations[name] == whole.relations[name]


# It waits for nobody, and leaves nothing behind


@pytest.mark.parametrize("names", [None, [QualifiedName("t")]], ids=["all", "named"])
def test_a_table_that_another_session_has_locked_is_incomplete(
    database: Database, connection: sa.Connection, names: list[QualifiedName] | None
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int CHECK (a > 0))")
    database.execute("CREATE TABLE u (id int REFERENCES t)")
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        world = read_world(connection, names)
    t = relation(world, "t")
    assert (t.complete, t.size) == (False, None)
    assert list(t.columns) == ["id", "a"]
    assert relation(world, "u").complete


def test_a_lock_that_comes_in_between_is_not_waited_for(
    database: Database, connection: sa.Connection
) -> None:
    connection.execute(sa.text("CREATE TABLE t (id int)"))
    connection.commit()
    with database.connect() as other, other.transaction():

        def lock(connection: object, cursor: object, sql: str, *rest: object) -> None:
            if "pg_relation_size" in sql:
                other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")

        def notice(context: sa.engine.ExceptionContext) -> None:
            refused.append(getattr(context.original_exception, "sqlstate", None))

        refused: list[str | None] = []
        sa.event.listen(connection.engine, "before_cursor_execute", lock)
        sa.event.listen(connection.engine, "handle_error", notice)
        world = read_world(connection)
    assert not relation(world, "t").complete
    assert refused == ["55P03"]  # lock_not_available, and not the end of a statement_timeout
    assert connection.execute(sa.text("SELECT count(*) FROM t")).scalar_one() == 0


def test_no_lock_and_no_setting_stays(shop: Database, connection: sa.Connection) -> None:
    connection.execute(sa.text("SET LOCAL lock_timeout = '7s'"))
    read_world(connection)
    locks = sa.text(
        "SELECT c.relname FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "WHERE l.pid = pg_backend_pid() AND c.relnamespace = CAST('public' AS regnamespace)"
    )
    assert connection.execute(locks).all() == []
    assert connection.execute(sa.text("SHOW lock_timeout")).scalar_one() == "7s"


def test_a_transaction_is_left_open_and_none_is_opened(connection: sa.Connection) -> None:
    read_world(connection)
    assert not connection.in_transaction()
    connection.execute(sa.text("CREATE TABLE t (id int)"))
    read_world(connection)
    connection.rollback()
    assert found(read_world(connection)) == set()


def test_a_transaction_that_has_failed_tells_nothing(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("SELECT 1 / 0"))
    world = read_world(connection)
    assert not world.complete
    assert not world.relations


def test_an_error_leaves_the_transaction_usable(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE TABLE t (id int)"))

    def too_slow(connection: object, cursor: object, sql: str, *rest: object) -> None:
        if "pg_rewrite" in sql:
            raise sa.exc.OperationalError(sql, {}, Exception("canceled"))

    sa.event.listen(connection.engine, "before_cursor_execute", too_slow)
    with pytest.raises(sa.exc.OperationalError):
        read_world(connection)
    assert connection.execute(sa.text("SELECT count(*) FROM t")).scalar_one() == 0


def test_autocommit(database: Database) -> None:
    database.execute("CREATE TABLE t (id int)")
    engine = sa.create_engine(database.url(), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("SET lock_timeout = '7s'"))
        assert relation(read_world(connection), "t").size == 0
        assert connection.execute(sa.text("SHOW lock_timeout")).scalar_one() == "7s"
    engine.dispose()


def test_psycopg2(shop: Database, read: Read) -> None:
    engine = sa.create_engine(shop.url("psycopg2"))
    with engine.connect() as connection:
        assert read_world(connection).relations == read().relations
        assert read_world(connection, [named("orders")]).relations == read("orders").relations
    engine.dispose()


def test_asyncpg(shop: Database, read: Read) -> None:
    async def with_asyncpg() -> tuple[World, World]:
        engine = create_async_engine(shop.url("asyncpg"))
        async with engine.connect() as connection:
            whole = await connection.run_sync(read_world)
            named_ = await connection.run_sync(read_world, [named("orders")])
        await engine.dispose()
        return whole, named_

    whole, of_orders = asyncio.run(with_asyncpg())
    assert whole.relations == read().relations
    assert of_orders.relations == read("orders").relations
