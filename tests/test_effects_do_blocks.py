"""DO blocks and function bodies: every way through them counts; what cannot be read is unknown."""

from __future__ import annotations

import pytest

from alembic_safe.postgres.effects import Effects, World, begin, effects_of
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

INDEX = "create index i on orders (a)"


def block(body: str, world: World | None = None) -> Effects:
    """The effects of a DO block with this body."""
    return effects_of(f"do $do$ {body} $do$", world or World())[-1]


def indexed(effects: Effects) -> list[str]:
    """The tables on which it builds indexes."""
    return [work.table.name for work in effects.index_builds]


class TestEveryWayCounts:
    @pytest.mark.parametrize(
        "body",
        [
            f"begin {INDEX}; end",
            f"<<outer>> declare x int := 1; begin begin {INDEX}; end; end",
            f"begin if a then {INDEX}; end if; end",
            f"begin if a then null; elsif b then {INDEX}; end if; end",
            f"begin if a then null; else {INDEX}; end if; end",
            f"begin case when a then null; else {INDEX}; end case; end",
            f"begin case 1 when 2 then {INDEX}; end case; end",
            f"begin loop {INDEX}; exit; end loop; end",
            f"begin while true loop {INDEX}; end loop; end",
            f"begin for n in 1..3 loop {INDEX}; end loop; end",
            f"declare r record; begin for r in select 1 loop {INDEX}; end loop; end",
            f"begin null; exception when others then {INDEX}; end",
            f"begin {INDEX}; exception when duplicate_table then null; end",
            f"begin execute '{INDEX}'; end",
            f"begin execute $x${INDEX}$x$; end",
            "begin execute 'create index ' || 'i' || ' on orders (a)'; end",
            f"begin execute concat('{INDEX}'); end",
            "begin execute format('create index %I on %s (%I)', 'i', 'orders', 'a'); end",
            "begin execute format('create index %2$I on %1$I (a)', 'orders', 'i'); end",
            "declare t constant text := 'orders'; begin"
            " execute 'create index i on ' || quote_ident(t) || '(a)'; end",
            "declare t text; begin foreach t in array array['orders'] loop"
            " execute format('create index on %I (a)', t); end loop; end",
            f"begin execute 'do $x$ begin {INDEX}; end $x$'; end",
            f"begin return; {INDEX}; end",
        ],
    )
    def test_a_hazard_is_found(self, body: str) -> None:
        effects = block(body)
        assert not effects.unknown
        assert indexed(effects) == ["orders"]
        assert effects.locks[QualifiedName("orders", "public")] is LockMode.SHARE
        assert effects.is_hazard

    @pytest.mark.parametrize(
        "body",
        [
            "begin null; end",
            "declare n int := 1; t text; begin n := n + 1; t := lower('A'); end",
            "begin raise notice 'hello %', now(); end",
            "begin perform 1; perform pg_sleep(0); end",
            "begin update orders set a = 1; delete from orders where a = 2; end",
            "declare n int; begin select count(*) into n from orders; assert n > 0; end",
            "declare n int; begin get diagnostics n = row_count; end",
            "begin set local lock_timeout = '1s'; end",
            "begin execute 'update orders set a = $1' using 1; end",
        ],
    )
    def test_what_blocks_nobody_is_no_hazard(self, body: str) -> None:
        effects = block(body)
        assert not effects.is_hazard, effects

    def test_each_statement_inside_is_a_child(self) -> None:
        effects = block(f"begin update users set a = 1; execute '{INDEX}'; end")
        assert [child.command for child in effects.children] == ["UPDATE", "CREATE INDEX"]

    def test_statements_inside_hold_the_locks_of_those_before(self) -> None:
        effects = block("begin lock table users; update orders set a = 1; end")
        assert QualifiedName("users", "public") in effects.children[1].held
        assert effects.is_hazard

    def test_a_loop_over_constants_is_followed(self) -> None:
        effects = block(
            "declare t text; begin foreach t in array array['a', 'b'] loop"
            " execute format('create index on %I (x)', t); end loop; end"
        )
        assert indexed(effects) == ["a", "b"]


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        "body",
        [
            "begin execute x; end",
            "declare t text := 'a'; begin t := 'b'; execute 'drop table ' || t; end",
            "declare t text; begin select 'x' into t; execute t; end",
            "begin for t in select 1 loop execute t; end loop; end",
            "declare t text; begin foreach t in array array['a'] loop t := x; execute t; end loop;"
            " end",
            "declare t text := 'drop table a'; begin call p(t); execute t; end",
            "declare t text := 'select 1'; begin declare t text; begin execute t; end; end",
            "declare r record; begin for r in execute x loop null; end loop; end",
            "begin perform my_function(); end",
            "declare n int := my_function(); begin null; end",
            "declare n int; begin n := my_function(); end",
            "begin if my_function() then null; end if; end",
            "begin call my_procedure(); end",
            "begin execute format('drop table %I', (select x from y)); end",
            "begin execute format('%s %s', 'one'); end",
            "begin not a statement; end",
            "begin",
        ],
    )
    def test_is_unknown(self, body: str) -> None:
        effects = block(body)
        assert effects.unknown
        assert effects.is_hazard

    def test_another_language_is_unknown(self) -> None:
        (effects,) = effects_of("do language plpython3u $$ plpy.execute('x') $$", World())
        assert effects.unknown

    def test_what_is_written_to_is_no_constant(self) -> None:
        effects = block("declare t text := 'drop table a'; begin select x into t; execute t; end")
        assert effects.unknown


class TestErrors:
    def test_of_a_statement_are_those_of_the_block(self) -> None:
        world = World(complete=True)
        (error,) = block("begin drop table nosuch; end", world).errors
        assert (error.sqlstate, error.certain) == ("42P01", True)

    def test_under_a_condition_are_not_certain(self) -> None:
        world = World(complete=True)
        (error,) = block("begin if a then drop table nosuch; end if; end", world).errors
        assert not error.certain

    @pytest.mark.parametrize(
        ("condition", "is_caught"),
        [
            ("others", True),
            ("undefined_table", True),
            ("sqlstate '42P01'", True),
            ("duplicate_table or undefined_table", True),
            ("duplicate_object", False),
        ],
    )
    def test_that_are_caught_are_none(self, condition: str, is_caught: bool) -> None:
        world = World(complete=True)
        body = f"begin drop table nosuch; exception when {condition} then null; end"
        effects = block(body, world)
        assert bool(effects.errors) is not is_caught
        assert effects.is_hazard is not is_caught

    def test_what_stands_before_a_caught_error_is_undone(self) -> None:
        world = World(complete=True)
        block(
            "begin create table t (a int); drop table nosuch; create table u (a int);"
            " exception when others then create table v (a int); end",
            world,
        )
        names = {name.name for name in world.relations}
        assert names == {"v"}

    def test_an_exception_that_is_raised_ends_it(self) -> None:
        assert block("begin raise exception 'no'; end").errors
        assert not block("begin if a then raise exception 'no'; end if; end").errors
        assert not block("begin raise exception 'no'; exception when others then null; end").errors

    def test_what_no_transaction_may_contain_no_block_may(self) -> None:
        effects = block("begin create index concurrently i on orders (a); end")
        assert [error.sqlstate for error in effects.errors] == ["25001"]

    def test_commit_ends_no_transaction_of_others(self) -> None:
        world = World()
        begin(world)
        assert [e.sqlstate for e in block("begin commit; end", world).errors] == ["2D000"]

    def test_commit_lets_go_of_locks(self) -> None:
        effects = block("begin lock table users; commit; update orders set a = 1; end")
        assert effects.details["ends_transaction"]
        assert effects.children[1].held == {}
        assert not effects.in_transaction


class TestTheWorldAfterwards:
    def test_knows_what_was_done_for_certain(self) -> None:
        world = World(complete=True)
        block("begin create table t (a int); end", world)
        assert not effects_of("create index on t (a)", world)[0].is_hazard

    def test_does_not_take_for_new_what_was_made_under_a_condition(self) -> None:
        world = World()
        block("begin if not there then create table t (a int); end if; end", world)
        assert effects_of("create index on t (a)", world)[0].is_hazard

    def test_knows_no_more_of_a_table_that_was_changed_under_a_condition(self) -> None:
        world = World(complete=True)
        effects_of("create table t (a int not null)", world)
        world.settle()
        block("begin if x then alter table t alter a drop not null; end if; end", world)
        (effects,) = effects_of("alter table t alter a set not null", world)
        assert effects.scans

    def test_the_transaction_that_was_open_stays_open(self) -> None:
        world = World()
        begin(world)
        block("begin lock table users; end", world)
        assert world.transaction is not None
        assert QualifiedName("users", "public") in world.transaction.locks
