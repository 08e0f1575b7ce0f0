"""Queries: what they lock, read and call; statements around them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import name_of

from alembic_safe.postgres.effects import Effects, World, effects_of
from alembic_safe.postgres.locks import LockMode

SHOP = """
create table users (id int primary key, email text, name text);
create index on users (email);
create table orders (id serial primary key, user_id int references users (id), total int);
create table parted (id int, k int) partition by range (id);
create table parted1 partition of parted for values from (0) to (10);
create table parted2 partition of parted for values from (10) to (20);
create table base (a int);
create table heir () inherits (base);
create view emails as select email from users;
create sequence numbers;
create type mood as enum ('a');
"""


@pytest.fixture
def shop() -> World:
    """Everything known, and in use for long."""
    world = World(complete=True)
    effects_of(SHOP, world)
    world.settle()
    return world


def last(sql: str, world: World) -> Effects:
    """The effects of the last statement."""
    return effects_of(sql, world)[-1]


def locks(sql: str, world: World) -> dict[str, str]:
    """The locks of the last statement, in words."""
    found = last(sql, world)
    assert not found.unknown, found.unknown
    assert not found.errors, found.errors
    return {name.name: mode.sql for name, mode in found.locks.items()}


class TestLocks:
    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("select * from users", {}),
            ("table users", {}),
            ("values (1)", {}),
            ("select * from users for update", {"users": "ROW SHARE"}),
            ("select * from users u, orders o for share of o", {"orders": "ROW SHARE"}),
            (
                "select * from (select * from users) x for key share",
                {"users": "ROW SHARE"},
            ),
            ("select * from emails for update", {"emails": "ROW SHARE", "users": "ROW SHARE"}),
            ("update users set name = 'x'", {"users": "ROW EXCLUSIVE"}),
            ("delete from only base", {"base": "ROW EXCLUSIVE"}),
            ("delete from base", {"base": "ROW EXCLUSIVE", "heir": "ROW EXCLUSIVE"}),
            ("insert into base values (1)", {"base": "ROW EXCLUSIVE"}),
            ("copy base from stdin", {"base": "ROW EXCLUSIVE"}),
            ("copy base to stdout", {}),
            (
                "copy (delete from base returning a) to stdout",
                {"base": "ROW EXCLUSIVE"} | {"heir": "ROW EXCLUSIVE"},
            ),
            (
                "update emails set email = 'x'",
                {"emails": "ROW EXCLUSIVE"} | {"users": "ROW EXCLUSIVE"},
            ),
            (
                "with gone as (delete from users returning id) select * from gone",
                {"users": "ROW EXCLUSIVE", "orders": "ROW EXCLUSIVE"},
            ),
            ("select nextval('numbers')", {"numbers": "ROW EXCLUSIVE"}),
            ("select setval('public.numbers'::regclass, 5)", {"numbers": "ROW EXCLUSIVE"}),
            ("explain update users set name = 'x'", {"users": "ROW EXCLUSIVE"}),
            ("explain select 1", {}),
            ("prepare p as update users set name = 'x'", {"users": "ROW EXCLUSIVE"}),
            (
                "prepare p as delete from base; execute p",
                {"base": "ROW EXCLUSIVE"} | {"heir": "ROW EXCLUSIVE"},
            ),
        ],
    )
    def test_of_each_statement(self, sql: str, expected: dict[str, str], shop: World) -> None:
        assert locks(sql, shop) == expected

    def test_an_insert_locks_what_it_references_and_the_sequence_of_a_default(
        self, shop: World
    ) -> None:
        assert locks("insert into orders (user_id) values (1)", shop) == {
            "orders": "ROW EXCLUSIVE",
            "users": "ROW SHARE",
            "orders_id_seq": "ROW EXCLUSIVE",
        }
        assert locks("insert into orders (id) values (1)", shop) == {"orders": "ROW EXCLUSIVE"}

    def test_a_merge_writes_as_its_branches_do(self, shop: World) -> None:
        sql = (
            "merge into orders using users on orders.user_id = users.id"
            " when matched then update set user_id = 5 when not matched then do nothing"
        )
        assert locks(sql, shop) == {"orders": "ROW EXCLUSIVE", "users": "ROW SHARE"}

    def test_a_merge_is_not_known_to_old_servers(self) -> None:
        sql = "merge into a using b on true when matched then delete"
        assert last(sql, World(version=14)).errors
        assert not last(sql, World(version=15)).errors

    def test_a_with_query_hides_a_table_of_its_name_only_where_it_is_seen(
        self, shop: World
    ) -> None:
        shop.remove(shop.qualified("base"))
        assert not last("with base as (select 1) select * from base", shop).errors
        assert last("with base as (select * from base) select * from base", shop).errors
        recursive = "with recursive base as (select 1 union select * from base) table base"
        assert not last(recursive, shop).errors

    def test_a_missing_table_is_an_error_where_everything_is_known(self, shop: World) -> None:
        assert [e.sqlstate for e in last("select * from nosuch", shop).errors] == ["42P01"]
        assert last("select * from nosuch", World()).errors == ()
        assert last("select * from pg_class, information_schema.tables", shop).errors == ()

    def test_writing_into_the_system_catalog_is_unknown(self, shop: World) -> None:
        assert last("update pg_attribute set attnotnull = true", shop).unknown


class TestWhatIsReadFromEndToEnd:
    @pytest.mark.parametrize(
        ("sql", "scans"),
        [
            ("update users set name = 'x'", ["users"]),
            ("update users set name = 'x' where name = 'y'", ["users"]),
            ("update users set name = 'x' where id = 5", []),
            ("update users set name = 'x' where id between 5 and 9 and name is null", []),
            ("update users set name = 'x' where id in (1, 2)", []),
            ("update users set name = 'x' where id <= 1000", []),
            ("update users set name = 'x' where id > 0", ["users"]),
            ("update users set name = 'x' where id = 5 or name = 'y'", ["users"]),
            ("delete from users where email = 'x'", []),
            ("select * from users limit 1", []),
            ("select count(*) from users limit 1", ["users"]),
            ("select * from users u where u.id = 1", []),
            ("select * from emails", ["users"]),
            ("delete from base", ["base", "heir"]),
            ("delete from only base", ["base"]),
            ("delete from parted", ["parted1", "parted2"]),
            ("create table copied as select * from users", ["users"]),
            ("copy users to stdout", ["users"]),
            ("explain update users set name = 'x'", []),
        ],
    )
    def test_with_known_indexes(self, sql: str, scans: list[str], shop: World) -> None:
        assert [name.name for name in last(sql, shop).scans] == scans

    def test_without_known_indexes_everything(self) -> None:
        assert last("delete from users where id = 5", World()).scans

    def test_a_cursor_reads_when_it_fetches(self, shop: World) -> None:
        declared, fetched = effects_of("declare c cursor for select * from users; fetch c", shop)
        assert not declared.scans
        assert fetched.scans

    def test_details_tell_whether_every_row_is_meant(self, shop: World) -> None:
        assert last("delete from users", shop).details["every_row"] is True
        assert last("delete from users where id = 1", shop).details["every_row"] is False


class TestCalls:
    @pytest.mark.parametrize(
        "call",
        [
            "now()",
            "pg_catalog.lower('A')",
            "gen_random_uuid()",
            "uuid_generate_v4()",
            "st_makepoint(1, 2)",
            "count(*)",
            "coalesce(1, 2)",
            "current_date",
            "set_bit(b, 1, 1)",
        ],
    )
    def test_what_only_computes_is_understood(self, call: str) -> None:
        assert not last(f"select {call} from t", World()).unknown

    @pytest.mark.parametrize(
        "sql",
        [
            "select my_function()",
            "select * from my_function()",
            "select 1 where my_function() > 1",
            "update t set a = sales.my_function()",
            "insert into t select my_function()",
            "with x as (select my_function()) select 1",
            "call my_procedure()",
            "copy (select my_function()) to stdout",
            "create table t2 as select my_function()",
            "explain analyze select my_function()",
            "select query_to_xml('drop table t', true, true, '')",
            "execute unseen",
            "fetch all from unseen",
        ],
    )
    def test_what_may_do_anything_is_unknown(self, sql: str) -> None:
        effects = last(sql, World())
        assert effects.unknown
        assert effects.is_hazard

    def test_what_is_only_planned_or_kept_calls_nothing(self) -> None:
        for sql in ("explain select f()", "create view v as select f()"):
            assert not last(sql, World()).unknown

    @pytest.mark.parametrize(
        "definition",
        [
            "language sql as 'update t set a = 1; create index i on t (a)'",
            "language plpgsql as 'begin create index i on t (a); end'",
            "language plpgsql as 'declare x int; begin x := g(); end'",
        ],
    )
    def test_the_body_of_a_known_function_counts(self, definition: str) -> None:
        world = World()
        effects_of(
            f"create function g() returns int language sql as 'create index i on t (a); select 1';"
            f"create function f() returns void {definition}",
            world,
        )
        effects = last("select f()", world)
        assert [work.table.name for work in effects.index_builds] == ["t"]
        assert effects.children
        assert not effects.unknown

    @pytest.mark.parametrize(
        ("body", "locked"),
        [
            ("begin atomic delete from t where a = 1; select 1; end", {"t"}),
            ("return (select nextval('s'))", {"s"}),
            ("return 1", set()),
        ],
    )
    def test_bodies_of_standard_sql_are_read(self, body: str, locked: set[str]) -> None:
        world = World()
        effects = last(f"create function f() returns int {body}; select f()", world)
        assert not effects.unknown
        assert {name.name for name in effects.locks} == locked

    def test_a_stable_function_changes_nothing(self) -> None:
        world = World()
        effects_of("create function f() returns int stable language c as 'x', 'y'", world)
        assert not last("select f()", world).unknown

    def test_a_function_that_calls_itself_comes_to_an_end(self) -> None:
        world = World()
        sql = "create function f() returns int language sql as 'select f() + f()'"
        assert not last(f"{sql}; select f(), f()", world).unknown

    def test_overloads_are_not_known_apart(self) -> None:
        world = World()
        one = "create function f(a int) returns int language sql as 'select 1';"
        other = "create function f(a text) returns int language sql as 'drop table t; select 1';"
        assert last(one + other + "select f('x')", world).unknown


class TestLabelsOfTheSameTransaction:
    @pytest.mark.parametrize("version", [13, 16, 17, 18])
    def test_cannot_be_used_before_the_end(self, version: int, shop: World) -> None:
        shop.version = version
        sql = "begin; alter type mood add value 'z'; select 'z'::mood"
        (error,) = last(sql, shop).errors
        assert (error.sqlstate, error.certain) == ("55P04", True)
        assert not last("commit; select 'z'::mood", shop).errors

    def test_may_be_used_by_a_comparison(self, shop: World) -> None:
        sql = "begin; alter type mood add value 'z'; update users set name = 'z'"
        (error,) = last(sql, shop).errors
        assert (error.sqlstate, error.certain) == ("55P04", False)

    @pytest.mark.parametrize(("version", "fails"), [(13, True), (16, True), (17, False)])
    def test_of_a_new_type_from_17_on_can(self, version: int, fails: bool, shop: World) -> None:
        shop.version = version
        sql = "begin; create type m as enum (); alter type m add value 'q'; select 'q'::m"
        assert bool(last(sql, shop).errors) is fails

    def test_are_gone_after_a_rollback(self, shop: World) -> None:
        sql = "begin; alter type mood add value 'z'; rollback; begin; select 'z'::mood"
        assert not last(sql, shop).errors


class TestSizes:
    @pytest.mark.parametrize(
        "sql",
        [
            "insert into users (id) select generate_series(1, 1000000)",
            "insert into users (id) select id from orders limit 10",
            "with new as (insert into users (id) select 1 returning id) select * from new",
            "copy users from stdin",
            "insert into emails select 'x' from orders",
            "do $$ begin for i in 1..1000000 loop insert into users values (i); end loop; end $$",
            "merge into users using orders on true"
            " when not matched then insert (id) values (user_id)",
        ],
    )
    def test_after_rows_that_nobody_counted_a_size_is_not_known(
        self, shop: World, sql: str
    ) -> None:
        shop.put(replace(shop.relations[name_of("users")], size=8192))
        assert locks(sql, shop)
        assert shop.relations[name_of("users")].size is None

    @pytest.mark.parametrize(
        "sql",
        [
            "insert into users (id) values (1), (2)",
            "insert into orders default values",
            "insert into emails values ('x')",
            "update users set name = 'x'",
            "delete from users",
            "copy users to stdout",
            "merge into users using orders on true when matched then delete",
        ],
    )
    def test_rows_that_are_written_out_change_no_size_but_that_of_an_empty_table(
        self, shop: World, sql: str
    ) -> None:
        shop.put(replace(shop.relations[name_of("users")], size=8192))
        last(sql, shop)
        assert shop.relations[name_of("users")].size == 8192

    @pytest.mark.parametrize("into", ["users", "emails"])
    def test_an_empty_table_is_not_empty_after_one_row(self, shop: World, into: str) -> None:
        shop.put(replace(shop.relations[name_of("users")], size=0))
        last(f"insert into {into} (email) values ('x')", shop)
        assert shop.relations[name_of("users")].size is None

    def test_rows_go_to_partitions_and_not_to_heirs(self, shop: World) -> None:
        for name in ("parted1", "heir", "base"):
            shop.put(replace(shop.relations[name_of(name)], size=8192))
        last("insert into parted select 1; insert into base select 1", shop)
        sizes = [shop.relations[name_of(name)].size for name in ("parted1", "heir", "base")]
        assert sizes == [None, 8192, None]

    @pytest.mark.parametrize("how", ["", "concurrently "])
    def test_a_materialized_view_is_as_large_as_its_query_makes_it(
        self, shop: World, how: str
    ) -> None:
        last("create materialized view v as select id from users", shop)
        last("create unique index on v (id)", shop)
        shop.settle()
        shop.put(replace(shop.relations[name_of("v")], size=8192))
        last(f"refresh materialized view {how}v", shop)
        assert shop.relations[name_of("v")].size is None


def test_locks_below_row_share_are_not_noted(shop: World) -> None:
    everything = "select * from users, orders, parted, base, emails"
    assert all(mode >= LockMode.ROW_SHARE for mode in last(everything, shop).locks.values())
