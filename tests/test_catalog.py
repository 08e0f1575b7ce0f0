"""What `read_catalog` tells about tables, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from alembic_safe.postgres.catalog import Catalog, TableInfo
from alembic_safe.postgres.catalog_queries import read_catalog
from alembic_safe.postgres.identifiers import QualifiedName, quote

if TYPE_CHECKING:
    from conftest import Database

ODD = 'Full "Name" ' + "ü" * 24  # 60 bytes
Read = Callable[..., Catalog]


@pytest.fixture
def read(database: Database) -> Iterator[Read]:
    """Read tables, given as `name` or `schema.name`, from the fresh database."""
    engine = sa.create_engine(database.url())

    def read_named(*names: str) -> Catalog:
        wanted = [QualifiedName(*reversed(name.split(".", 1))) for name in names]
        with engine.connect() as connection:
            return read_catalog(connection, wanted)

    yield read_named
    engine.dispose()


def _table(catalog: Catalog, name: str, schema: str | None = None) -> TableInfo:
    table = catalog.table(name, schema)
    assert table is not None
    return table


def _names(items: Iterable[object]) -> list[str]:
    return sorted(str(item) for item in items)


# Which tables


def test_the_server_version_is_told(database: Database, read: Read) -> None:
    catalog = read()
    assert catalog.major == database.server.version
    assert str(catalog.server_version) == database.execute("SHOW server_version_num")[0][0]


def test_no_tables_make_an_empty_catalog(read: Read) -> None:
    assert read().tables == {}


def test_what_is_no_table_is_left_out(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT * FROM t")
    catalog = read("t", "v", "nowhere", "nowhere.t")
    assert list(catalog.tables) == [QualifiedName("t")]
    assert catalog.table("nowhere") is None
    assert catalog.table("t", "public") is None


def test_a_table_keeps_the_name_that_was_asked_for(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (id int); CREATE SCHEMA s; CREATE TABLE s.t (other text)")
    catalog = read("t", "public.t", "s.t", "t")
    assert [c.name for c in _table(catalog, "t").columns] == ["id"]
    assert [c.name for c in _table(catalog, "t", "public").columns] == ["id"]
    assert [c.name for c in _table(catalog, "t", "s").columns] == ["other"]
    assert _table(catalog, "t", "s").name == QualifiedName("t", "s")


def test_odd_names_are_read(database: Database, read: Read) -> None:
    odd = quote(ODD)
    database.execute(
        f"CREATE SCHEMA {odd}; CREATE TABLE {odd}.{odd} ({odd} text PRIMARY KEY, b text"
        f" GENERATED ALWAYS AS (lower({odd})) STORED, CHECK ({odd} <> ''))"
    )
    database.execute(f"CREATE VIEW {odd}.v AS SELECT {odd} FROM {odd}.{odd}")
    table = _table(read(f"{ODD}.{ODD}"), ODD, ODD)
    assert table.primary_key == (ODD,)
    assert [i.columns for i in table.indexes_on(ODD)] == [{ODD}]
    assert {c.type for c in table.constraints_on(ODD)} >= {"p", "c"}
    assert _names(table.dependents_on(ODD)) == [
        f"generated column {odd}.{odd}.b",
        f"view {odd}.v",
    ]


# The connection


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg", "pg8000"])
def test_every_driver_reads_the_same(database: Database, read: Read, driver: str) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text DEFAULT 'x%', b int, CHECK (b > 0));"
        "GRANT SELECT (a), UPDATE (a) ON t TO PUBLIC; CREATE INDEX t_a ON t (lower(a), b);"
        "ALTER INDEX t_a ALTER COLUMN 1 SET STATISTICS 500;"
        "ALTER TABLE t ALTER a SET (n_distinct = -0.5);"
        "CREATE TABLE u (t_id int REFERENCES t); CREATE VIEW v AS SELECT a FROM t"
    )
    wanted = [QualifiedName("t"), QualifiedName("u", "public"), QualifiedName("nowhere")]
    if driver == "asyncpg":
        catalog = asyncio.run(_read_with_asyncpg(database.url(driver), wanted))
    else:
        engine = sa.create_engine(database.url(driver))
        with engine.connect() as connection:
            catalog = read_catalog(connection, wanted)
            assert read_catalog(connection, []).tables == {}
        engine.dispose()
    assert catalog == read("t", "public.u", "nowhere")
    assert _table(catalog, "t").dependents


async def _read_with_asyncpg(url: str, wanted: list[QualifiedName]) -> Catalog:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(read_catalog, [])
        catalog = await connection.run_sync(read_catalog, wanted)
    await engine.dispose()
    return catalog


def test_no_transaction_is_left_open(database: Database) -> None:
    engine = sa.create_engine(database.url())
    with engine.connect() as connection:
        read_catalog(connection, [QualifiedName("t")])
        assert not connection.in_transaction()
    engine.dispose()


def test_a_transaction_stays_open_and_is_seen(database: Database) -> None:
    engine = sa.create_engine(database.url())
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE TABLE t (id int)"))
        assert read_catalog(connection, [QualifiedName("t")]).table("t") is not None
        assert connection.in_transaction()
        connection.rollback()
        assert read_catalog(connection, [QualifiedName("t")]).table("t") is None
    engine.dispose()


# Columns


def test_columns_tell_what_a_copy_needs(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE ROLE "Some one";
        CREATE TABLE t (
            id bigint GENERATED BY DEFAULT AS IDENTITY,
            gone int,
            price numeric(12,2) NOT NULL DEFAULT 1.50,
            name varchar(20) COLLATE "C",
            twice numeric GENERATED ALWAYS AS (price * 2) STORED
        );
        ALTER TABLE t DROP gone;
        COMMENT ON COLUMN t.name IS 'as they call it';
        GRANT SELECT ON t TO PUBLIC;
        GRANT SELECT (name) ON t TO PUBLIC;
        GRANT UPDATE (name) ON t TO "Some one" WITH GRANT OPTION;
        ALTER TABLE t ALTER name SET STATISTICS 321, ALTER name SET STORAGE EXTERNAL;
        """
    )
    try:
        table = _table(read("t"), "t")
    finally:
        database.execute('DROP OWNED BY "Some one"; DROP ROLE "Some one"')
    assert [c.name for c in table.columns] == ["id", "price", "name", "twice"]
    identity, price, name, twice = table.columns
    assert (identity.type, identity.identity, identity.not_null) == ("bigint", "d", True)
    assert (price.type, price.not_null, price.default) == ("numeric(12,2)", True, "1.50")
    assert (price.grants, price.comment, price.collation, price.storage) == ((), None, None, None)
    assert (price.statistics_target, price.options) == (None, ())
    assert (name.type, name.collation) == ("character varying(20)", 'pg_catalog."C"')
    assert (name.comment, name.statistics_target) == ("as they call it", 321)
    assert name.storage == "EXTERNAL"
    assert name.grants == (("SELECT", "PUBLIC", False), ("UPDATE", '"Some one"', True))
    assert (twice.generated, twice.default) == ("s", "(price * (2)::numeric)")
    assert table.column("gone") is None


def test_compression_and_virtual_columns_are_told(database: Database, read: Read) -> None:
    major = database.server.version
    compression = "COMPRESSION pglz" if major >= 14 else ""
    kind = "VIRTUAL" if major >= 18 else "STORED"
    database.execute(
        f"CREATE TABLE t (a text {compression}, b int, c int GENERATED ALWAYS AS (b + 1) {kind})"
    )
    table = _table(read("t"), "t")
    assert [c.compression for c in table.columns] == ["pglz" if major >= 14 else None, None, None]
    assert [c.generated for c in table.columns] == ["", "", "v" if major >= 18 else "s"]
    assert _names(table.dependents_on("b")) == ["generated column public.t.c"]
    assert table.dependents_on("c") == ()


@pytest.mark.parametrize(
    ("type_name", "comparable"),
    [
        ("integer", True),
        ("varchar(3)", True),
        ("text[]", True),
        ("jsonb", True),
        ("cidr", True),
        ("int4range", True),
        ("mood", True),
        ("regclass", True),
        ("positive", True),
        ("pair", True),
        ("name", True),
        ("json", False),
        ("json[]", False),
        ("xml", False),
        ("point", False),
        ("document", False),
        ("pair_with_json", False),
        ("pair_with_json[]", False),
    ],
)
def test_types_without_equality_are_told(
    database: Database, read: Read, type_name: str, comparable: bool
) -> None:
    database.execute(
        f"""
        CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN document AS json; CREATE TYPE pair AS (a int, b text);
        CREATE TYPE pair_with_json AS (a int, b document); CREATE TABLE t (a {type_name});
        """
    )
    assert [c.equality for c in _table(read("t"), "t").columns] == [comparable]


# Indexes


def test_an_index_tells_every_column_it_uses(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE TABLE t (a text, b int, c int, d int, e int);
        CREATE INDEX i ON t (lower(a), b DESC) INCLUDE (c) WHERE d > 0;
        COMMENT ON INDEX i IS 'why';
        ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 77;
        """
    )
    table = _table(read("t"), "t")
    (index,) = table.indexes
    assert index.columns == {"a", "b", "c", "d"}
    assert index.definition == (
        "CREATE INDEX i ON public.t USING btree (lower(a), b DESC) INCLUDE (c) WHERE (d > 0)"
    )
    assert (index.comment, index.statistics_targets) == ("why", ((1, 77),))
    assert (index.is_unique, index.is_valid, index.constraint, index.tablespace) == (
        False,
        True,
        None,
        None,
    )
    assert table.indexes_on("d") == (index,)
    assert table.indexes_on("e") == ()


def test_indexes_tell_what_owns_and_uses_them(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE TABLE t (a int NOT NULL, b int, c int4range, d int,
            CONSTRAINT pk PRIMARY KEY (b, a) INCLUDE (d),
            CONSTRAINT x EXCLUDE USING gist (c WITH &&),
            CONSTRAINT u UNIQUE (b) DEFERRABLE INITIALLY DEFERRED);
        CREATE UNIQUE INDEX ident ON t (a);
        ALTER TABLE t REPLICA IDENTITY USING INDEX ident, CLUSTER ON pk;
        """
    )
    table = _table(read("t"), "t")
    pk, u, x = (next(i for i in table.indexes if i.name == name) for name in ("pk", "u", "x"))
    ident = next(i for i in table.indexes if i.name == "ident")
    assert (pk.is_primary, pk.is_unique, pk.is_clustered, pk.constraint) == (True, True, True, "pk")
    assert (u.constraint, x.constraint, x.is_exclusion) == ("u", "x", True)
    assert (ident.is_replica_identity, ident.constraint) == (True, None)
    assert table.replica_identity == "i"
    assert table.primary_key == ("b", "a")
    key = next(c for c in table.constraints if c.type == "p")
    assert key.columns == {"a", "b", "d"}
    assert key.index == "pk"
    unique = next(c for c in table.constraints if c.type == "u")
    assert (unique.deferrable, unique.initially_deferred) == (True, True)


def test_an_invalid_index_is_told(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(Exception, match="could not create unique index"):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)")
    (index,) = _table(read("t"), "t").indexes
    assert (index.name, index.is_valid) == ("i", False)


# Constraints


def test_constraints_tell_their_columns_and_state(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE SCHEMA s;
        CREATE TABLE s.other (x int, y int, UNIQUE (x, y));
        CREATE TABLE t (a int, b int, c int4range);
        ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (b, a) REFERENCES s.other (x, y)
            DEFERRABLE NOT VALID;
        ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0 AND b > 0);
        ALTER TABLE t ADD CONSTRAINT ex EXCLUDE USING gist (int4range(a, b) WITH &&);
        COMMENT ON CONSTRAINT positive ON t IS 'no debts';
        """
    )
    table = _table(read("t"), "t")
    by_name = {c.name: c for c in table.constraints}
    fk, positive, ex = by_name["fk"], by_name["positive"], by_name["ex"]
    assert fk.referenced_table == QualifiedName("other", "s")
    assert (fk.key_columns, fk.referenced_columns) == (("b", "a"), ("x", "y"))
    assert (fk.is_validated, fk.deferrable, fk.index) == (False, True, None)
    assert fk.definition.endswith("DEFERRABLE NOT VALID")
    assert positive.columns == {"a", "b"}
    assert (positive.type, positive.comment) == ("c", "no debts")
    assert ex.columns == {"a", "b"}
    assert (ex.type, ex.index) == ("x", "ex")
    assert {c.name for c in table.constraints_on("a")} == {"fk", "positive", "ex"}


def test_not_null_is_a_constraint_from_18(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int NOT NULL)")
    found = [(c.type, sorted(c.columns)) for c in _table(read("t"), "t").constraints]
    assert found == ([("n", ["a"])] if database.server.version >= 18 else [])


def test_foreign_keys_from_other_tables_are_told(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE SCHEMA s;
        CREATE TABLE t (id int PRIMARY KEY, code int UNIQUE, parent int CONSTRAINT up REFERENCES t);
        CREATE TABLE s.child (a int, b int,
            CONSTRAINT by_id FOREIGN KEY (a) REFERENCES t, CONSTRAINT by_code FOREIGN KEY (b)
            REFERENCES t (code));
        """
    )
    table = _table(read("t"), "t")
    by_name = {f.name: f for f in table.referenced_by}
    assert sorted(by_name) == ["by_code", "by_id", "up"]
    assert by_name["by_code"].table == QualifiedName("child", "s")
    assert by_name["by_code"].columns == {"code"}
    assert by_name["by_code"].index == "t_code_key"
    assert by_name["by_code"].referencing_columns == ("b",)
    assert [c.columns for c in table.constraints if c.type == "f"] == [{"parent"}]


# Partitions and inheritance


def test_partitioned_tables(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE TABLE p (a int, b text, c int, d int) PARTITION BY RANGE (a, lower(b), (c + a));
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0, '', 0) TO (10, '', 0);
        CREATE INDEX p_d ON p (d);
        INSERT INTO p SELECT 1, 'x', 1, n FROM generate_series(1, 500) AS n;
        ANALYZE p1;
        """
    )
    catalog = read("p", "p1")
    p, p1 = _table(catalog, "p"), _table(catalog, "p1")
    assert (p.kind, p.is_partition, p.has_inheritance_children) == ("p", False, True)
    assert (p1.kind, p1.is_partition, p1.has_inheritance_children) == ("r", True, False)
    assert p.partition_key_columns == {"a", "b", "c"}
    assert p1.partition_key_columns == frozenset()
    assert (p.estimated_rows, p1.estimated_rows) == (500, 500)
    assert p.size_bytes == p1.size_bytes > 0
    assert [i.parent for i in p.indexes] == [None]
    assert [i.parent for i in p1.indexes] == [QualifiedName("p_d", "public")]
    assert [c.inherited for c in p1.columns] == [True] * 4
    assert p.dependents == ()


def test_foreign_keys_of_partitioned_tables_are_listed_once(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20);
        CREATE TABLE t (p_id int CONSTRAINT fk REFERENCES p);
        """
    )
    catalog = read("p", "p1", "t")
    assert [c.name for c in _table(catalog, "t").constraints if c.type == "f"] == ["fk"]
    assert _table(catalog, "t").keys_to_partitions == sub_keys_of(database, "t") != frozenset()
    assert _table(catalog, "p1").keys_to_partitions == frozenset()
    assert [f.name for f in _table(catalog, "p").referenced_by] == ["fk"]
    assert [f.table.name for f in _table(catalog, "p1").referenced_by] == ["t"]


def sub_keys_of(database: Database, table: str) -> frozenset[str]:
    rows = database.execute(
        f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass"
        " AND conparentid <> 0"
    )
    return frozenset(row[0] for row in rows)


def test_inheritance_is_told(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int); CREATE TABLE u (b int) INHERITS (t)")
    catalog = read("t", "u")
    assert _table(catalog, "t").has_inheritance_children
    assert [(c.name, c.inherited) for c in _table(catalog, "u").columns] == [
        ("a", True),
        ("b", False),
    ]


def test_rows_that_were_never_counted_are_unknown(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (a int) WITH (autovacuum_enabled = off)")
    assert _table(read("t"), "t").estimated_rows == -1
    database.execute("INSERT INTO t SELECT generate_series(1, 42); ANALYZE t")
    table = _table(read("t"), "t")
    assert (table.estimated_rows, table.size_bytes) == (
        42,
        database.execute("SELECT pg_total_relation_size('t')")[0][0],
    )


# Dependents


def test_dependents_are_named_with_their_columns(database: Database, read: Read) -> None:
    database.execute(
        """
        CREATE SCHEMA s;
        CREATE TABLE t (a int, b int, c int, id serial,
            twice int GENERATED ALWAYS AS (a * 2) STORED);
        CREATE TABLE u (x int);
        CREATE VIEW s.v AS SELECT a FROM t WHERE b > 0;
        CREATE VIEW counted AS SELECT count(*) FROM t;
        CREATE MATERIALIZED VIEW "M" AS SELECT c FROM t;
        CREATE RULE own AS ON INSERT TO t WHERE NEW.a < 0 DO INSTEAD NOTHING;
        CREATE RULE foreign_rule AS ON DELETE TO u DO ALSO DELETE FROM t WHERE b = OLD.x;
        CREATE POLICY plain ON t USING (true);
        CREATE POLICY by_b ON t USING (b > 0);
        CREATE POLICY elsewhere ON u USING (x IN (SELECT c FROM t));
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER every BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();
        CREATE TRIGGER listed BEFORE UPDATE OF a, b ON t FOR EACH ROW EXECUTE FUNCTION f();
        CREATE TRIGGER guarded BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.c > 0)
            EXECUTE FUNCTION f();
        CREATE STATISTICS st ON a, c FROM t;
        CREATE PUBLICATION whole FOR TABLE t;
        """
    )
    expected = [
        "generated column public.t.twice: a",
        'materialized view public."M": c',
        "policy by_b on public.t: b",
        "policy elsewhere on public.u: c",
        "rule foreign_rule on public.u: b",
        "rule own on public.t: a",
        "sequence public.t_id_seq: id",
        "statistics public.st: a,c",
        "trigger guarded on public.t: c",
        "trigger listed on public.t: a,b",
        "view public.counted: ",
        "view s.v: a,b",
    ]
    table = _table(read("t"), "t")
    assert [f"{d}: {','.join(sorted(d.columns))}" for d in table.dependents] == expected
    assert _names(table.dependents_on("id")) == ["sequence public.t_id_seq"]


def test_sql_bodies_are_dependents_from_14(database: Database, read: Read) -> None:
    if database.server.version < 14:
        pytest.skip("SQL-standard function bodies came with 14")
    database.execute(
        "CREATE TABLE t (a int, b int);"
        "CREATE FUNCTION f(n int) RETURNS bigint RETURN (SELECT count(*) FROM t WHERE a = n);"
        "CREATE PROCEDURE p() BEGIN ATOMIC UPDATE t SET b = 1; END"
    )
    table = _table(read("t"), "t")
    assert _names(table.dependents_on("a")) == ["function public.f(n integer)"]
    assert _names(table.dependents_on("b")) == ["procedure public.p()"]


def test_publications_with_columns_are_dependents_from_15(database: Database, read: Read) -> None:
    if database.server.version < 15:
        pytest.skip("column lists of publications came with 15")
    database.execute(
        "CREATE TABLE t (a int PRIMARY KEY, b int, c int);"
        "CREATE PUBLICATION listed FOR TABLE t (a, b);"
        "CREATE PUBLICATION filtered FOR TABLE t WHERE (a > 0)"
    )
    table = _table(read("t"), "t")
    assert _names(table.dependents_on("a")) == ["publication filtered", "publication listed"]
    assert _names(table.dependents_on("b")) == ["publication listed"]
    assert table.dependents_on("c") == ()


def test_statistics_on_expressions_and_identity_sequences(database: Database, read: Read) -> None:
    expression = "(a % 7)" if database.server.version >= 14 else "a"
    database.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int, b int);"
        f"CREATE STATISTICS st ON {expression}, b FROM t"
    )
    table = _table(read("t"), "t")
    assert _names(table.dependents_on("a")) == ["statistics public.st"]
    assert _names(table.dependents_on("id")) == ["identity sequence public.t_id_seq"]


def test_the_triggers_of_foreign_keys_are_not_listed(database: Database, read: Read) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (t_id int REFERENCES t)")
    catalog = read("t", "u")
    assert _table(catalog, "t").dependents == _table(catalog, "u").dependents == ()
