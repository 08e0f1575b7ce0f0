"""Sequences that drop and add constraints, up and down on a server: the way back leaves what was
there, does nothing by halves, and blocks nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Database
from in_process import Environment
from schema import OWN_TABLES, Schema, schema_of
from waiting import wait_until

from alembic_safe.errors import CannotRewrite, ContractNeeded, StatementFailed, VerificationFailed

TABLES = """
CREATE SCHEMA "Shop 1";
CREATE TABLE users (id int PRIMARY KEY, name text, age int, UNIQUE (name, age));
CREATE TABLE orders (id int PRIMARY KEY, user_id int, name text, age int);
CREATE TABLE "Shop 1"."Or""ders" (id int PRIMARY KEY, "user id" int, "na:me" text);
CREATE TABLE parts (id int, user_id int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (99);
INSERT INTO parts SELECT i, i FROM generate_series(1, 50) AS i;
INSERT INTO users SELECT i, 'name ' || i, i FROM generate_series(1, 50) AS i;
INSERT INTO orders SELECT i, i, 'name ' || i, i FROM generate_series(1, 50) AS i;
INSERT INTO "Shop 1"."Or""ders" SELECT i, i, 'name ' || i FROM generate_series(1, 50) AS i;
"""


def models(*constraints: sa.Constraint) -> sa.MetaData:
    """The tables, with constraints of `orders` only."""
    metadata = sa.MetaData()
    sa.Table(
        "users",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.Integer),
        sa.UniqueConstraint("name", "age"),
    )
    sa.Table(
        "orders",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer),
        sa.Column("name", sa.Text),
        sa.Column("age", sa.Integer),
        *constraints,
    )
    sa.Table(
        'Or"ders',
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user id", sa.Integer),
        sa.Column("na:me", sa.Text),
        schema="Shop 1",
    )
    sa.Table("parts", metadata, sa.Column("id", sa.Integer), sa.Column("user_id", sa.Integer))
    return metadata


def environment(
    folder: Path, database: Database, sql: str, metadata: sa.MetaData | None = None
) -> Environment:
    """An environment whose revisions lead from the tables with `sql` to the models, by default
    those without constraints."""
    database.execute(TABLES + sql)
    made = Environment(
        folder,
        database.url(),
        models() if metadata is None else metadata,
        include_schemas=True,
        include_object=lambda _object, name, *_more: name != "parts_1",
    )
    made.autogenerate()
    return made


def schema(database: Database) -> Schema:
    return schema_of(database, without=(*OWN_TABLES, "alembic_version"))


ORDERS = "ALTER TABLE orders ADD CONSTRAINT"
ODD = 'ALTER TABLE "Shop 1"."Or""ders" ADD CONSTRAINT'
TO_USERS = "FOREIGN KEY (user_id) REFERENCES users"

DROPPED: dict[str, tuple[str, int]] = {
    "a foreign key": (f"{ORDERS} fk {TO_USERS}", 13),
    "a foreign key without a name": (f"ALTER TABLE orders ADD {TO_USERS}", 13),
    "a foreign key with actions": (
        f"{ORDERS} fk {TO_USERS} ON UPDATE SET NULL ON DELETE CASCADE"
        " DEFERRABLE INITIALLY DEFERRED",
        13,
    ),
    "a foreign key that is not valid": (f"{ORDERS} fk {TO_USERS} ON DELETE RESTRICT NOT VALID", 13),
    "a foreign key that is not enforced": (f"{ORDERS} fk {TO_USERS} NOT ENFORCED", 18),
    "a foreign key of two columns": (
        f"{ORDERS} fk FOREIGN KEY (name, age) REFERENCES users (name, age) MATCH FULL",
        13,
    ),
    "a foreign key that sets one of its columns to NULL": (
        f"{ORDERS} fk FOREIGN KEY (name, age) REFERENCES users (name, age)"
        " ON DELETE SET NULL (age)",
        15,
    ),
    "a foreign key to its own table": (f"{ORDERS} fk FOREIGN KEY (age) REFERENCES orders", 13),
    "a foreign key with names in quotes": (
        f'{ODD} "fk ""x"" %s :a" FOREIGN KEY ("user id") REFERENCES users;'
        'COMMENT ON CONSTRAINT "fk ""x"" %s :a" ON "Shop 1"."Or""ders" IS \'it\'\'s :one, 100%\'',
        13,
    ),
    "a foreign key of a partitioned table": (f"ALTER TABLE parts ADD CONSTRAINT fk {TO_USERS}", 18),
    "a unique constraint": (f"{ORDERS} uq UNIQUE (user_id)", 13),
    "a unique constraint without a name": ("ALTER TABLE orders ADD UNIQUE (name, age)", 13),
    "a unique constraint that is deferrable": (f"{ORDERS} uq UNIQUE (age) DEFERRABLE", 13),
    "a unique constraint that is deferred": (
        f"{ORDERS} uq UNIQUE (age) DEFERRABLE INITIALLY DEFERRED",
        13,
    ),
    "a unique constraint with more columns and parameters": (
        f"{ORDERS} uq UNIQUE (age) INCLUDE (name) WITH (fillfactor = 70)",
        13,
    ),
    "a unique constraint with nulls not distinct": (
        f"{ORDERS} uq UNIQUE NULLS NOT DISTINCT (age, name)",
        15,
    ),
    "a unique constraint with names in quotes": (
        f'{ODD} "uq ""x"" %s :a" UNIQUE ("na:me");'
        'COMMENT ON CONSTRAINT "uq ""x"" %s :a" ON "Shop 1"."Or""ders" IS \'it\'\'s :one, 100%\'',
        13,
    ),
    "a unique constraint and what refers to it": (
        f'{ORDERS} aa UNIQUE (age); {ODD} fk FOREIGN KEY ("user id") REFERENCES orders (age)',
        13,
    ),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_dropped_comes_back_as_it_was(
    name: str, database: Database, tmp_path: Path
) -> None:
    sql, since = DROPPED[name]
    if database.server.version < since:
        pytest.skip(f"PostgreSQL {since} brought it")
    made = environment(tmp_path, database, sql)
    before, comments = schema(database), comments_of(database)
    assert len(made.files()) == 1
    made.upgrade()
    assert schema(database) != before
    made.check()
    made.downgrade("base")
    assert schema(database) == before
    assert comments_of(database) == comments


def comments_of(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT conname, description FROM pg_constraint AS c JOIN pg_description ON objoid = c.oid"
        " AND classoid = 'pg_constraint'::regclass"
    )


# The way back meets rows that were written since.


UNIQUE_AGES = f"{ORDERS} uq UNIQUE (age)"


def indexes_of_orders(database: Database) -> list[str]:
    rows = database.execute(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'orders'::regclass"
        " ORDER BY 1"
    )
    return [row[0] for row in rows]


def test_duplicates_stop_the_way_back_before_anything_is_built(
    database: Database, tmp_path: Path
) -> None:
    made = environment(tmp_path, database, UNIQUE_AGES)
    before = schema(database)
    made.upgrade()
    database.execute("INSERT INTO orders (id, age) VALUES (101, 7), (102, 7), (103, 8)")
    with pytest.raises(
        VerificationFailed,
        match=r"index uq on orders: 5 rows share 2 values .*: \(7\) 3 times, \(8\) 2 times\.",
    ):
        made.downgrade("base")
    assert indexes_of_orders(database) == ["orders_pkey"]
    database.execute("DELETE FROM orders WHERE id > 100")
    made.downgrade("base")
    assert schema(database) == before


def test_rows_without_what_they_refer_to_stop_the_way_back_and_are_told(
    database: Database, tmp_path: Path
) -> None:
    made = environment(tmp_path, database, f"{ORDERS} fk {TO_USERS}")
    before = schema(database)
    made.upgrade()
    database.execute("INSERT INTO orders (id, user_id) VALUES (101, 99)")
    with pytest.raises(StatementFailed, match=r"constraint fk on orders: .*\(user_id\)=\(99\)"):
        made.downgrade("base")
    # For rows to come it is there already.
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        database.execute("INSERT INTO orders (id, user_id) VALUES (102, 99)")
    database.execute("DELETE FROM orders WHERE id = 101")
    made.downgrade("base")
    assert schema(database) == before


def test_an_invalid_index_that_was_left_is_dropped(database: Database, tmp_path: Path) -> None:
    made = environment(tmp_path, database, UNIQUE_AGES)
    before = schema(database)
    made.upgrade()
    database.execute("CREATE UNIQUE INDEX uq ON orders (age)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'uq'::regclass")
    made.downgrade("base")
    assert schema(database) == before


@pytest.mark.parametrize("there", ["CREATE UNIQUE INDEX uq ON orders (age)", UNIQUE_AGES])
def test_what_is_back_already_counts_as_done(
    there: str, database: Database, tmp_path: Path
) -> None:
    """It was killed behind one of the statements."""
    made = environment(tmp_path, database, UNIQUE_AGES)
    before = schema(database)
    made.upgrade()
    database.execute(there)
    made.downgrade("base")
    assert schema(database) == before


# What is in the way of a drop.


def test_a_constraint_that_a_foreign_key_relies_on_stays(
    database: Database, tmp_path: Path
) -> None:
    staying = f'{ODD} fk FOREIGN KEY ("user id") REFERENCES orders (age)'
    metadata = models()
    metadata.tables['Shop 1.Or"ders'].append_constraint(
        sa.ForeignKeyConstraint(["user id"], ["orders.age"], name="fk")
    )
    with pytest.raises(CannotRewrite, match=r'foreign key fk of Shop 1\.Or"ders relies on it'):
        environment(tmp_path, database, f"{UNIQUE_AGES}; {staying}", metadata)
    assert not list(tmp_path.rglob("versions/*.py"))


def test_a_constraint_that_a_foreign_key_of_a_table_in_another_schema_relies_on_stays(
    database: Database, tmp_path: Path
) -> None:
    """It has the name of one that goes."""
    key = "ADD CONSTRAINT fk FOREIGN KEY (name, age) REFERENCES public.users (name, age)"
    metadata = models()
    sa.Table(
        "orders",
        metadata,
        sa.Column("name", sa.Text),
        sa.Column("age", sa.Integer),
        sa.ForeignKeyConstraint(["name", "age"], ["users.name", "users.age"], name="fk"),
        schema="Shop 1",
    )
    users = metadata.tables["users"]
    users.constraints -= {c for c in users.constraints if isinstance(c, sa.UniqueConstraint)}
    sql = (
        f'CREATE TABLE "Shop 1".orders (name text, age int); ALTER TABLE "Shop 1".orders {key};'
        f"ALTER TABLE orders {key}"
    )
    with pytest.raises(CannotRewrite, match=r"foreign key fk of Shop 1\.orders relies on it"):
        environment(tmp_path, database, sql, metadata)


def test_the_tables_of_a_foreign_key_are_locked_in_the_order_of_an_insert(
    database: Database, tmp_path: Path
) -> None:
    """Who inserts into the one and then looks into the other cannot deadlock with the drop."""
    made = environment(tmp_path, database, f"{ORDERS} fk {TO_USERS}")
    locks = (
        "SELECT array_agg(relation::regclass::text || CASE WHEN granted THEN '' ELSE ' awaited' END"
        " ORDER BY granted DESC) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation IN"
        " ('orders'::regclass, 'users'::regclass)"
    )
    with database.connect() as reader, reader.transaction():
        reader.execute("LOCK TABLE users IN ACCESS SHARE MODE")
        upgrade = threading.Thread(target=made.upgrade)
        upgrade.start()
        wait_until(database, f"SELECT ({locks}) = ARRAY['orders', 'users awaited']")
    upgrade.join()
    assert [each for each in schema(database)["constraints"] if each[1] == "fk"] == []


def test_the_keys_that_the_server_has_for_each_partition_are_not_dropped(
    database: Database, tmp_path: Path
) -> None:
    """Alembic finds them in the database, and not in the models."""
    sql = f"ALTER TABLE parts ADD PRIMARY KEY (id); {ORDERS} fk FOREIGN KEY (age) REFERENCES parts"
    metadata = models(sa.ForeignKeyConstraint(["age"], ["parts.id"], name="fk"))
    metadata.tables["parts"].c.id.nullable = False
    made = environment(tmp_path, database, sql, metadata)
    assert made.files() == []
    made.metadata = models()
    made.metadata.tables["parts"].c.id.nullable = False
    # What the server calls those of the partitions differs from version to version.
    keys = (
        "SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint"
        " WHERE conrelid = 'orders'::regclass AND conparentid = 0"
    )
    before = database.execute(keys)
    made.autogenerate()
    made.upgrade()
    made.check()
    made.downgrade("base")
    assert database.execute(keys) == before


# A foreign key with other options.


CHANGED: dict[str, dict[str, Any]] = {
    "ON DELETE CASCADE": {},
    "": {"ondelete": "CASCADE"},
    "DEFERRABLE": {"deferrable": True, "initially": "DEFERRED", "onupdate": "SET NULL"},
}


@pytest.mark.parametrize("old", CHANGED)
def test_a_foreign_key_that_changes_is_never_missing(
    old: str, database: Database, tmp_path: Path
) -> None:
    key = sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk", **CHANGED[old])
    made = environment(tmp_path, database, f"{ORDERS} fk {TO_USERS} {old}", models(key))
    before = schema(database)
    with a_key_is_there(database):
        made.upgrade("head", "contract=now")
        made.check()
        assert schema(database)["constraints"] != before["constraints"]
        made.downgrade("base")
    assert schema(database) == before


@contextmanager
def a_key_is_there(database: Database) -> Iterator[None]:
    """Have the server refuse every state in which `orders` has no foreign key."""
    database.execute(
        "CREATE FUNCTION has_key() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'orders'::regclass"
        " AND contype = 'f' AND convalidated) THEN RAISE 'orders has no foreign key'; END IF;"
        " END $$; CREATE EVENT TRIGGER has_key ON ddl_command_end EXECUTE FUNCTION has_key()"
    )
    yield
    database.execute("DROP EVENT TRIGGER has_key; DROP FUNCTION has_key()")


# Adding a unique constraint.


def test_a_constraint_that_is_added_is_that_of_plain_ddl(
    database: Database, tmp_path: Path
) -> None:
    wanted = models(
        sa.UniqueConstraint("age", name='uq "x"', deferrable=True, initially="DEFERRED"),
        sa.UniqueConstraint("name", "age"),
    )
    made = environment(tmp_path, database, "", wanted)
    before = schema(database)
    after = schema_of(
        database,
        without=(*OWN_TABLES, "alembic_version"),
        after=f'{ORDERS} "uq ""x""" UNIQUE (age) DEFERRABLE INITIALLY DEFERRED;'
        "ALTER TABLE orders ADD UNIQUE (name, age)",
    )
    made.upgrade("head", "contract=now")
    assert schema(database) == after
    made.check()
    made.downgrade("base")
    assert schema(database) == before


def test_duplicates_stop_the_contract_revision_and_mended_data_lets_it_complete(
    database: Database, tmp_path: Path
) -> None:
    made = environment(tmp_path, database, "", models(sa.UniqueConstraint("age", name="uq")))
    database.execute("INSERT INTO orders (id, age) VALUES (101, 7)")
    with pytest.raises(VerificationFailed, match=r"index uq on orders: 2 rows share 1 value"):
        made.upgrade("head", "contract=now")
    assert indexes_of_orders(database) == ["orders_pkey"]
    database.execute("DELETE FROM orders WHERE id = 101")
    made.upgrade("head", "contract=now")
    made.check()


def test_a_foreign_key_to_what_becomes_unique_comes_after_it(
    database: Database, tmp_path: Path
) -> None:
    metadata = models(sa.UniqueConstraint("age", name="uq"))
    odd = metadata.tables['Shop 1.Or"ders']
    odd.append_column(sa.Column("order", sa.Integer))
    odd.append_constraint(sa.ForeignKeyConstraint(["order"], ["orders.age"], name="fk"))
    made = environment(tmp_path, database, "", metadata)
    sources = {path.name.partition("_")[0]: path.read_text() for path in made.files()}
    (unique,) = (name for name, text in sources.items() if "op.add_unique_constraint" in text)
    (key,) = (text for text in sources.values() if "op.create_foreign_key" in text)
    assert f"depends_on: Union[str, Sequence[str], None] = '{unique}'" in key
    before = schema(database)
    made.upgrade("head", "contract=now")
    made.check()
    made.downgrade("base")
    assert schema(database) == before


def test_foreign_keys_to_what_becomes_unique_come_after_all_that_does(
    database: Database, tmp_path: Path
) -> None:
    """Two tables that refer to each other."""
    metadata = models(
        sa.UniqueConstraint("age"), sa.ForeignKeyConstraint(["user_id"], ["users.age"])
    )
    metadata.tables["users"].append_constraint(sa.UniqueConstraint("age"))
    back = sa.ForeignKeyConstraint(["age"], ["orders.age"], name="fk", use_alter=True)
    metadata.tables["users"].append_constraint(back)
    made = environment(tmp_path, database, "", metadata)
    before = schema(database)
    made.upgrade("head", "contract=now")
    made.check()
    made.downgrade("base")
    assert schema(database) == before


def with_items(metadata: sa.MetaData, **options: Any) -> sa.MetaData:
    """The models with one more table, that refers to `orders.age`."""
    sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("age", sa.ForeignKey("orders.age", **options)),
        sa.Column("user_id", sa.ForeignKey("users.id")),
    )
    return metadata


@pytest.mark.parametrize("options", [{}, {"use_alter": True, "name": "fk"}])
def test_a_new_table_gets_its_key_when_that_to_which_it_refers_is_unique(
    options: dict[str, Any], database: Database, tmp_path: Path
) -> None:
    metadata = with_items(models(sa.UniqueConstraint("age")), **options)
    made = environment(tmp_path, database, "", metadata)
    before = schema(database)
    made.upgrade("head", "contract=hold")
    assert keys_of_items(database) == [("FOREIGN KEY (user_id) REFERENCES users(id)",)]
    made.upgrade("head", "contract=now")
    assert keys_of_items(database)[0] == ("FOREIGN KEY (age) REFERENCES orders(age)",)
    made.check()
    made.downgrade("base")
    assert schema(database) == before


def keys_of_items(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'items'::regclass"
        " AND contype = 'f' ORDER BY 1"
    )


def test_a_new_table_of_a_later_change_waits_for_what_makes_unique_that_to_which_it_refers(
    database: Database, tmp_path: Path
) -> None:
    made = environment(tmp_path, database, "", models(sa.UniqueConstraint("age")))
    (contract,) = made.contract_revisions()
    made.upgrade("head", "contract=now")
    made.metadata = with_items(models(sa.UniqueConstraint("age")))
    made.autogenerate("second")
    made.downgrade("base")
    with pytest.raises(ContractNeeded, match=contract):
        made.upgrade("head", "contract=hold")
    made.upgrade("head", "contract=now")
    made.check()


def test_foreign_keys_to_one_table_need_not_wait_for_each_other(
    database: Database, tmp_path: Path
) -> None:
    """Two changes are deployed with one release."""
    made = environment(tmp_path, database, "", models(key_to_users("user_id")))
    made.upgrade("head", "contract=now")
    made.metadata = models(key_to_users("user_id"))
    made.metadata.tables["orders"].append_column(sa.Column("by_id", sa.ForeignKey("users.id")))
    made.autogenerate("second")
    made.upgrade("head", "contract=now")
    made.downgrade("base")
    made.upgrade("head", "release=r1")
    assert "needs_contract" not in "".join(path.read_text() for path in made.files())


def key_to_users(column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["users.id"])


# Names that a convention makes longer than the server keeps.


LONG = {
    kind: f"{kind}_é_%(table_name)s_%(column_0_N_name)s_{'of_all_the_shops_' * 4}"
    for kind in ("uq", "fk", "ix")
}


def test_long_names_are_those_of_plain_ddl(database: Database, tmp_path: Path) -> None:
    def named(**options: Any) -> sa.MetaData:
        metadata = models(
            sa.UniqueConstraint("age"), sa.ForeignKeyConstraint(["age"], ["users.id"], **options)
        )
        sa.Index(None, metadata.tables["orders"].c.name)
        long = sa.MetaData(naming_convention=LONG)
        for each in metadata.tables.values():
            each.to_metadata(long)
        return long

    made = environment(tmp_path, database, "", named())
    made.upgrade("head", "contract=now")
    made.check()
    names = names_of_orders(database)
    made.metadata = named(ondelete="CASCADE")
    made.autogenerate("cascade")
    made.upgrade("head", "contract=now")
    made.check()
    assert names_of_orders(database) == names
    made.downgrade("base")
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool)
    database.execute("DROP TABLE orders")
    named().create_all(engine)
    assert names_of_orders(database) == names


def names_of_orders(database: Database) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass AND contype <> 'n'"
        " UNION SELECT relname FROM pg_class JOIN pg_index ON indexrelid = oid"
        " WHERE indrelid = 'orders'::regclass ORDER BY 1"
    )


# A unique constraint that another one takes the place of.


UNIQUE_CHANGED: dict[str, tuple[str, sa.UniqueConstraint, str]] = {
    "another name": ("UNIQUE (age)", sa.UniqueConstraint("age", name="new"), "contract"),
    "more columns": ("UNIQUE (age)", sa.UniqueConstraint("age", "name", name="uq"), "migrate"),
    "fewer columns": ("UNIQUE (age, name)", sa.UniqueConstraint("age", name="uq"), "contract"),
    "an index": ("UNIQUE (age)", sa.UniqueConstraint("age", name="uq"), "migrate"),
}


@pytest.mark.parametrize("change", UNIQUE_CHANGED)
def test_a_unique_constraint_that_changes_is_never_missing(
    change: str, database: Database, tmp_path: Path
) -> None:
    old, new, phase = UNIQUE_CHANGED[change]
    wanted = models() if change == "an index" else models(new)
    if change == "an index":
        sa.Index("uq", wanted.tables["orders"].c.age, unique=True)
    made = environment(tmp_path, database, f"{ORDERS} uq {old}", wanted)
    before = schema(database)
    with something_is_unique(database):
        made.upgrade("head", "contract=hold")
        is_held = schema(database)["constraints"] == before["constraints"]
        assert is_held is (phase == "contract")
        made.upgrade("head", "contract=now")
        made.check()
        made.downgrade("base")
    assert schema(database) == before


@pytest.mark.parametrize("name", ["uq", "ux"])
def test_a_unique_index_that_becomes_a_constraint_is_never_missing(
    name: str, database: Database, tmp_path: Path
) -> None:
    wanted = models(sa.UniqueConstraint("age", name=name))
    made = environment(tmp_path, database, "CREATE UNIQUE INDEX uq ON orders (age)", wanted)
    before = schema(database)
    with something_is_unique(database):
        made.upgrade("head", "contract=now")
        made.check()
        made.downgrade("base")
    assert schema(database) == before


@contextmanager
def something_is_unique(database: Database) -> Iterator[None]:
    """Have the server refuse every state in which two equal rows could be written to `orders`."""
    database.execute(
        "CREATE FUNCTION is_unique() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'orders'::regclass"
        " AND indisunique AND NOT indisprimary AND indisvalid) THEN"
        " RAISE 'orders has nothing unique'; END IF;"
        " END $$; CREATE EVENT TRIGGER is_unique ON ddl_command_end EXECUTE FUNCTION is_unique()"
    )
    yield
    database.execute("DROP EVENT TRIGGER is_unique; DROP FUNCTION is_unique()")


def test_a_unique_constraint_on_which_a_key_relies_is_renamed(
    database: Database, tmp_path: Path
) -> None:
    wanted = models(sa.UniqueConstraint("age", name="new"))
    wanted.tables['Shop 1.Or"ders'].append_constraint(
        sa.ForeignKeyConstraint(["user id"], ["orders.age"], name="fk")
    )
    key = f'{ODD} fk FOREIGN KEY ("user id") REFERENCES orders (age)'
    made = environment(tmp_path, database, f"{UNIQUE_AGES}; {key}", wanted)
    before = schema(database)
    made.upgrade("head", "contract=now")
    made.check()
    made.downgrade("base")
    assert schema(database) == before
