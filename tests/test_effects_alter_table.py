"""ALTER TABLE: what it takes from the running release, what it tells rules, what is known after it.

What it locks, reads and writes is compared with servers in `oracle`.
"""

from __future__ import annotations

import pytest
from conftest import Database

from alembic_safe.postgres.effects import Change, Effects, World, effects_of
from alembic_safe.postgres.effects.expressions import Volatility
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode
from alembic_safe.postgres.types import TypeName

SHOP = """
    create function volatile_sql() returns int language sql as 'select 1';
    create function secure_sql() returns int language sql security definer as 'select 1';
    create function nested() returns int language sql as 'select volatile_sql() + 1';
    create function dice() returns float language sql as 'select random()';
    create table users (id bigint primary key, email varchar(100) not null, name text default 'x');
    create table orders (
        id serial primary key,
        user_id bigint references users (id),
        total numeric(10, 2) constraint total_positive check (total > 0),
        code varchar(20) not null,
        doubled numeric generated always as (total * 2) stored
    );
    create index orders_code_idx on orders (code) where total > 0;
    create view mails as select email from users;
    create table parted (id int not null, v text) partition by range (id);
    create table parted1 partition of parted for values from (1) to (10);
"""


@pytest.fixture
def shop() -> World:
    world = World(version=16, complete=True)
    effects_of(SHOP, world)
    world.settle()
    return world


def one(sql: str, world: World) -> Effects:
    (effects,) = effects_of(sql, world)
    return effects


def table(world: World, name: str) -> Relation:
    return world.relations[QualifiedName(name, "public")]


def changes(effects: Effects) -> list[tuple[Change, str, str | None]]:
    return [(change.change, change.kind, change.name) for change in effects.changes]


def codes(effects: Effects) -> list[str]:
    return [error.sqlstate for error in effects.errors]


# What the running release loses


@pytest.mark.parametrize(
    ("sql", "change", "kind", "name"),
    [
        ("alter table orders drop column code", Change.DROPPED, "column", "code"),
        ("alter table orders rename code to label", Change.RENAMED, "column", "code"),
        ("alter table orders rename to purchases", Change.RENAMED, "table", None),
        ("alter table orders alter code type text", Change.RETYPED, "column", "code"),
        ("alter table orders alter total set not null", Change.TIGHTENED, "column", "total"),
        ("alter table orders add note text not null", Change.TIGHTENED, "column", "note"),
        ("alter table orders alter id drop default", Change.TIGHTENED, "column", "id"),
        ("alter table orders set schema archive", Change.HIDDEN, "table", None),
        ("alter index orders_code_idx rename to i", Change.RENAMED, "index", None),
    ],
)
def test_what_the_running_release_uses_and_loses_is_told(
    shop: World, sql: str, change: Change, kind: str, name: str | None
) -> None:
    assert (change, kind, name) in changes(one(sql, shop))


@pytest.mark.parametrize(
    "sql",
    [
        "alter table orders add note text",
        "alter table orders add note text not null default ''",
        "alter table orders add n int generated always as identity",
        "alter table orders alter code set not null",
        "alter table orders alter code drop not null",
        "alter table users alter name drop default",
        "alter table users alter name set default 'y'",
        "alter table orders alter code type varchar(20)",
        "alter table orders set (fillfactor = 70)",
    ],
)
def test_what_takes_nothing_away_is_not_told(shop: World, sql: str) -> None:
    assert one(sql, shop).changes == ()


def test_a_column_that_a_check_keeps_from_null_is_not_tightened(shop: World) -> None:
    effects_of("alter table orders add constraint k check (user_id is not null) not valid", shop)
    shop.settle()
    effects = one("alter table orders alter user_id set not null", shop)
    assert effects.changes == ()
    assert effects.scans == (QualifiedName("orders", "public"),)


def test_nobody_uses_what_the_same_batch_made(shop: World) -> None:
    sql = """
        alter table orders add column note text;
        alter table orders alter column note type int using note::int;
        alter table orders rename note to remark;
        alter table orders drop column remark;
        create table fresh (id int);
        alter table fresh alter column id type bigint, add column n int not null;
        alter table fresh rename to stale;
    """
    effects = effects_of(sql, shop)
    assert [each.changes for each in effects] == [()] * len(effects)
    assert effects[-2].locks == {}
    assert effects[-2].rewrites == ()
    assert effects[-2].errors == ()


# What a default costs


DEFAULTS = {
    "5": Volatility.CONSTANT,
    "'{}'::jsonb": Volatility.CONSTANT,
    "now()": Volatility.STABLE,
    "current_date + 1": Volatility.STABLE,
    "volatile_sql()": Volatility.STABLE,
    "nested()": Volatility.STABLE,
    "coalesce(1, random())": Volatility.CONSTANT,
    "coalesce(null, 1, random())": Volatility.CONSTANT,
    "case when true then 1 else random() end": Volatility.CONSTANT,
    "case when false then random() else 2 end": Volatility.CONSTANT,
    "(true or random() > 0.5)": Volatility.CONSTANT,
    "coalesce(now(), clock_timestamp())": Volatility.VOLATILE,
    "case when now() > '2020-01-01' then 1 else random() end": Volatility.VOLATILE,
    "dice()": Volatility.VOLATILE,
    "secure_sql()": Volatility.VOLATILE,
    "gen_random_uuid()": Volatility.VOLATILE,
    "lower(random()::text)": Volatility.VOLATILE,
    "array[random()]": Volatility.VOLATILE,
    "nextval('orders_id_seq')": Volatility.VOLATILE,
}


@pytest.mark.parametrize(("default", "volatility"), DEFAULTS.items())
def test_only_a_volatile_default_writes_every_row(
    shop: World, default: str, volatility: Volatility
) -> None:
    effects = one(f"alter table orders add c text default {default}", shop)
    (added,) = effects.details["added_columns"]
    assert added.volatility == volatility
    assert bool(effects.rewrites) == (volatility == Volatility.VOLATILE)
    assert bool(added.rewrites) == bool(effects.rewrites)


def test_the_server_writes_every_row_for_the_same_defaults(database: Database) -> None:
    database.execute(SHOP)
    for default, volatility in DEFAULTS.items():
        file = "select pg_relation_filenode('orders')"
        before = database.execute(file)
        database.execute(f"alter table orders add c text default cast({default} as text)")
        is_rewritten = database.execute(file) != before
        database.execute("alter table orders drop column c")
        assert is_rewritten == (volatility == Volatility.VOLATILE), default


@pytest.mark.parametrize("default", ["unheard_of()", "1 operator(public.+) 2", "now()::odd"])
def test_a_default_of_which_something_is_not_known_counts_as_volatile(default: str) -> None:
    effects = one(f"alter table orders add c text default {default}", World())
    assert effects.details["added_columns"][0].volatility == Volatility.VOLATILE


def test_a_default_of_a_function_that_came_later_fails_on_an_older_server() -> None:
    world = World(version=17, complete=True)
    effects_of("create table t (id int)", world)
    world.settle()
    assert codes(one("alter table t add u uuid default uuidv7()", world)) == ["42883"]


def test_what_a_default_of_an_unknown_function_does_is_assumed() -> None:
    effects = one("alter table t add c int default my_function()", World())
    assert effects.rewrites
    assert "my_function() is VOLATILE" in effects.assumed


# Not null without a default


def test_not_null_without_a_default_may_fail_only_where_rows_may_be(shop: World) -> None:
    sql = "alter table orders add c int not null"
    assert codes(one(sql, shop)) == ["23502"]
    effects = effects_of(f"create table fresh (id int); {sql.replace('orders', 'fresh')}", shop)
    assert codes(effects[1]) == []


def test_a_table_that_was_made_before_may_have_rows_by_now(shop: World) -> None:
    effects_of("create table fresh (id int)", shop)
    shop.settle()
    assert codes(one("alter table fresh add c int not null", shop)) == ["23502"]


# What is known afterwards


def test_a_renamed_column_keeps_its_index_checks_and_keys(shop: World) -> None:
    effects_of("alter table orders rename total to amount", shop)
    effects_of("alter table orders rename code to label", shop)
    effects_of("alter table users rename id to uid", shop)
    orders = table(shop, "orders")
    assert list(orders.columns) == ["id", "user_id", "amount", "label", "doubled"]
    assert orders.indexes["orders_code_idx"].columns == ("label",)
    assert orders.indexes["orders_code_idx"].expression_columns == {"amount"}
    assert orders.constraints["total_positive"].columns == ("amount",)
    assert orders.constraints["total_positive"].expression == "amount > 0"
    assert orders.generated_from == {"doubled": {"amount"}}
    assert orders.constraints["orders_user_id_fkey"].referenced_columns == ("uid",)


def test_a_renamed_table_keeps_its_partners(shop: World) -> None:
    effects_of("alter table users rename to people", shop)
    people = QualifiedName("people", "public")
    assert table(shop, "orders").constraints["orders_user_id_fkey"].referenced == people
    effects = one("alter table orders drop column user_id", shop)
    assert effects.locks[people] == LockMode.ACCESS_EXCLUSIVE
    assert codes(one("alter table users add c int", shop)) == ["42P01"]


def test_a_dropped_column_takes_its_index_checks_and_sequence(shop: World) -> None:
    effects_of("alter table orders drop column id, drop column total cascade", shop)
    orders = table(shop, "orders")
    assert list(orders.columns) == ["user_id", "code"]
    assert not orders.indexes
    assert set(orders.constraints) == {"orders_user_id_fkey"}
    assert QualifiedName("orders_id_seq", "public") not in shop.relations


def test_a_renamed_key_renames_its_index(shop: World) -> None:
    effects_of("alter table users rename constraint users_pkey to users_key", shop)
    users = table(shop, "users")
    assert users.indexes["users_key"].constraint == "users_key"
    assert users.constraints["users_key"].index == "users_key"
    assert shop.index_tables[QualifiedName("users_key", "public")] == users.name
    effects_of("alter index users_key rename to users_pkey", shop)
    assert "users_pkey" in table(shop, "users").constraints


def test_a_new_column_reaches_the_partitions(shop: World) -> None:
    effects_of("alter table parted add c int default 1, alter v set not null", shop)
    columns = table(shop, "parted1").columns
    assert columns["c"].inherited
    assert columns["c"].default == "1"
    assert columns["v"].not_null


def test_a_type_that_was_renamed_is_known_by_its_new_name(shop: World) -> None:
    sql = "create domain age as int check (value > 0); alter domain age rename to years"
    effects_of(sql, shop)
    shop.settle()
    assert one("alter table orders add a years", shop).rewrites


def test_a_refused_statement_changes_nothing(shop: World) -> None:
    before = table(shop, "orders")
    effects = one("alter table orders add c int, drop column nosuch", shop)
    assert codes(effects) == ["42703"]
    assert table(shop, "orders") == before


# Several sub-commands


def test_sub_commands_run_in_the_order_in_which_postgres_runs_them(shop: World) -> None:
    effects = one("alter table orders add column code int default 1, drop column code", shop)
    assert effects.errors == ()
    assert table(shop, "orders").columns["code"].type == TypeName("int4")


def test_the_strongest_lock_of_all_sub_commands_is_taken(shop: World) -> None:
    effects = one("alter table orders alter code set statistics 5, alter code drop not null", shop)
    assert effects.locks == {QualifiedName("orders", "public"): LockMode.ACCESS_EXCLUSIVE}


# Proofs of NOT NULL

PROOFS = {
    "a is not null": True,
    "not (a is null)": True,
    "not (not (a is not null))": True,
    "a is not null and b > 0": True,
    "a is not null or b is not null": False,
    "(a is not null and b > 0) or (b < 0 and a is not null)": True,
    "not (a is null or b is null)": True,
    "not (a is null and b is null)": False,
    "(a, b) is not null": True,
    "a = 1": False,
    "b is not null": False,
    "coalesce(a, 0) > 0": False,
    "case when a is not null then true else false end": False,
}


@pytest.mark.parametrize(("check", "is_proof"), PROOFS.items())
def test_a_check_that_proves_not_null_spares_the_scan(check: str, is_proof: bool) -> None:
    world = World(complete=True)
    effects_of(f"create table t (a int, b int, check ({check}))", world)
    world.settle()
    assert bool(one("alter table t alter a set not null", world).scans) != is_proof


def test_the_server_takes_the_same_checks_as_proofs(database: Database) -> None:
    told: list[str] = []
    with database.connect() as connection:
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        connection.execute("set client_min_messages to debug1")
        for check, is_proof in PROOFS.items():
            connection.execute(f"create table t (a int, b int, check ({check}))")
            told.clear()
            connection.execute("alter table t alter a set not null")
            assert any("sufficient to prove" in message for message in told) == is_proof, check
            connection.execute("drop table t")


# What a file does not tell


@pytest.mark.parametrize(
    ("sql", "assumed"),
    [
        ("alter table t alter c type text", "c: its old type is another one"),
        ("alter table t drop column c", "no other object depends on c"),
        ("alter table t alter c set not null", "no valid CHECK of t proves c NOT NULL"),
        ("alter table t add c mood", "mood is a domain with constraints"),
        ("alter table t set logged", "t is unlogged"),
        ("alter table t add column if not exists c int", "t has no column c yet"),
    ],
)
def test_what_is_not_known_is_assumed_and_said(sql: str, assumed: str) -> None:
    assert assumed in one(sql, World()).assumed


def test_a_type_of_a_well_known_extension_is_no_domain() -> None:
    effects = one("alter table t add column place geometry(Point, 4326)", World())
    assert effects.rewrites == ()


# Facts for rules


def test_a_retyped_column_tells_both_types_and_the_reason(shop: World) -> None:
    effects = one("alter table users alter id type int", shop)
    (retyped,) = effects.details["retyped_columns"]
    assert (retyped.old_type, retyped.new_type) == (TypeName("int8"), TypeName("int4"))
    assert retyped.rewrites == "integer is stored otherwise than bigint"
    assert [change.detail for change in effects.changes] == ["bigint to integer"]


def test_a_dropped_column_tells_what_goes_with_it(shop: World) -> None:
    effects = one("alter table orders drop column code", shop)
    (dropped,) = effects.details["dropped_columns"]
    assert dropped.column.not_null
    assert dropped.indexes == ("orders_code_idx",)


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("alter table users alter email type text", "0A000"),
        ("alter table users drop column email", "2BP01"),
        ("alter table orders alter total type numeric", "0A000"),
        ("alter table users drop column id", "2BP01"),
        ("alter table parted alter id type bigint", "42P16"),
        ("alter table parted1 drop column v", "42P16"),
        ("alter table orders add code int", "42701"),
        ("alter table orders add xmin int", "42701"),
        ("alter table orders alter nosuch set not null", "42703"),
        ("alter table nosuch add c int", "42P01"),
        ("alter table orders rename code to id", "42701"),
        ("alter table orders rename to users", "42P07"),
        ("alter table orders add c int default (select 1)", "0A000"),
        ("alter table orders add c int default id", "0A000"),
        ("alter table orders add c timestamptz generated always as (now()) stored", "42P17"),
    ],
)
def test_what_the_server_refuses_is_said(shop: World, sql: str, sqlstate: str) -> None:
    effects = one(sql, shop)
    assert codes(effects) == [sqlstate]
    assert effects.errors[0].certain
