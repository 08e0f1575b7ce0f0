"""Transaction blocks, savepoints and settings: what they keep, give back and forbid."""

from __future__ import annotations

import pytest

from alembic_safe.postgres.effects import Effects, TransactionNeed, World, begin, effects_of
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.postgres.locks import LockMode

ORDERS = QualifiedName("orders", "public")


def last(sql: str, world: World | None = None) -> Effects:
    """The effects of the last statement."""
    return effects_of(sql, world or World())[-1]


class TestLocksAreHeld:
    def test_until_the_end_of_the_transaction(self) -> None:
        sql = "begin; lock table orders; select 1; commit; select 2"
        _, lock, inside, _, outside = effects_of(sql, World())
        assert lock.locks == {ORDERS: LockMode.ACCESS_EXCLUSIVE}
        assert inside.held == {ORDERS: LockMode.ACCESS_EXCLUSIVE}
        assert outside.held == {}

    def test_not_at_all_between_statements_without_a_transaction(self) -> None:
        assert last("update orders set a = 1; select 1").held == {}

    @pytest.mark.parametrize("words", ["end", "abort", "rollback", "commit work"])
    def test_until_any_word_for_the_end(self, words: str) -> None:
        assert last(f"start transaction; lock table orders; {words}; select 1").held == {}

    def test_not_beyond_a_chain(self) -> None:
        effects = last("begin; lock table orders; commit and chain; select 1")
        assert effects.held == {}
        assert effects.in_transaction

    def test_until_the_savepoint_before_them_is_returned_to(self) -> None:
        sql = (
            "begin; update users set a = 1; savepoint s; lock table orders; rollback to s; select 1"
        )
        assert last(sql).held == {QualifiedName("users", "public"): LockMode.ROW_EXCLUSIVE}

    def test_beyond_a_savepoint_that_is_released(self) -> None:
        sql = "begin; savepoint s; lock table orders; release s; select 1"
        assert ORDERS in last(sql).held

    def test_work_under_a_lock_of_an_earlier_statement_is_a_hazard(self) -> None:
        begun = World()
        begin(begun)
        assert last("lock table users in share mode; update orders set a = 1", begun).is_hazard
        assert not last("update orders set a = 1").is_hazard


class TestWhatIsUndone:
    def test_a_rollback_brings_back_the_world(self) -> None:
        world = World(complete=True)
        effects_of("create table t (a int); begin; drop table t; rollback", world)
        assert last("select * from t", world).errors == ()

    def test_a_savepoint_brings_back_what_stood_at_it(self) -> None:
        world = World(complete=True)
        sql = "begin; create table a (); savepoint s; create table b (); rollback to s"
        effects_of(sql, world)
        assert not last("select * from a", world).errors
        assert last("select * from b", world).errors

    def test_a_savepoint_of_the_same_name_hides_the_older_one(self) -> None:
        world = World(complete=True)
        effects_of(
            "begin; savepoint s; create table a (); savepoint s; create table b ();"
            " rollback to s; release s; rollback to s",
            world,
        )
        assert last("select * from a", world).errors

    @pytest.mark.parametrize(
        ("sql", "sqlstate"),
        [
            ("savepoint s", "25P01"),
            ("release s", "25P01"),
            ("begin; rollback to s", "3B001"),
            ("begin; release s", "3B001"),
            ("commit and chain", "25P01"),
            ("begin; commit prepared 'x'", "25001"),
        ],
    )
    def test_what_needs_a_block_or_a_savepoint_fails_without(self, sql: str, sqlstate: str) -> None:
        (error,) = last(sql).errors
        assert (error.sqlstate, error.certain) == (sqlstate, True)

    def test_a_prepared_transaction_is_unknown(self) -> None:
        effects = last("begin; lock table orders; prepare transaction 'x'")
        assert effects.unknown
        assert not effects.in_transaction


class TestSettings:
    @pytest.mark.parametrize(
        ("sql", "milliseconds"),
        [
            ("set lock_timeout = '5s'", 5000),
            ("set lock_timeout to 250", 250),
            ("set local lock_timeout = '1min'", None),
            ("set lock_timeout = 0", 0),
            ("set lock_timeout = '2s'; reset lock_timeout", None),
            ("set lock_timeout = '2s'; set lock_timeout to default", None),
            ("set lock_timeout = '2s'; reset all", None),
            ("set lock_timeout = '2s'; discard all", None),
            ("begin; set local lock_timeout = '2s'", 2000),
            ("begin; set local lock_timeout = '2s'; commit", None),
            ("set lock_timeout = '1s'; begin; set local lock_timeout = '2s'; commit", 1000),
            ("begin; set lock_timeout = '2s'; commit", 2000),
            ("begin; set lock_timeout = '2s'; rollback", None),
            ("begin; set local lock_timeout = '1s'; set lock_timeout = '2s'; commit", 2000),
            ("select set_config('lock_timeout', '3s', false)", 3000),
            ("begin; select set_config('lock_timeout', '3s', true)", 3000),
            ("begin; select set_config('lock_timeout', '3s', true); commit", None),
            ("set lock_timeout = '2s'; select set_config(x, y, false) from t", None),
        ],
    )
    def test_lock_timeout_is_known_where_it_is_set(
        self, sql: str, milliseconds: int | None
    ) -> None:
        assert last(f"{sql}; select 1").lock_timeout == milliseconds

    def test_a_value_that_is_no_time_is_refused(self) -> None:
        (error,) = last("set lock_timeout = '5 parsecs'").errors
        assert error.sqlstate == "22023"

    def test_names_are_looked_for_in_the_search_path(self) -> None:
        effects = last('set search_path to "My Schema", public; update orders set a = 1')
        assert effects.locks == {QualifiedName("orders", "My Schema"): LockMode.ROW_EXCLUSIVE}

    def test_a_relation_further_back_in_the_search_path_is_found(self) -> None:
        world = World(complete=True)
        world.put(Relation(ORDERS, "r", complete=True))
        effects = last("set search_path = sales, public; update orders set a = 1", world)
        assert effects.locks == {ORDERS: LockMode.ROW_EXCLUSIVE}

    @pytest.mark.parametrize(
        "sql",
        [
            "set role r",
            "set session authorization r",
            "set timezone = 'UTC'",
            "show all",
            "set time zone interval '1' hour",
            "set constraints all deferred",
            "reset role",
        ],
    )
    def test_other_settings_are_understood(self, sql: str) -> None:
        effects = last(sql)
        assert not effects.unknown
        assert not effects.locks


class TestOutsideOfATransactionOnly:
    @pytest.mark.parametrize(
        "sql",
        [
            "vacuum orders",
            "vacuum (full) orders",
            "create database d",
            "drop database d",
            "create tablespace t location '/t'",
            "drop tablespace t",
            "alter system set work_mem = '1MB'",
            "alter database d set tablespace t",
            "discard all",
            "cluster",
            "create subscription s connection 'x' publication p",
            "alter subscription s refresh publication",
            "drop subscription s",
        ],
    )
    def test_is_refused_inside(self, sql: str) -> None:
        inside, outside = last(f"begin; {sql}"), last(sql)
        assert [error.sqlstate for error in inside.errors] == ["25001"]
        assert inside.transaction is outside.transaction is TransactionNeed.FORBIDDEN
        assert outside.errors == ()

    @pytest.mark.parametrize(
        "sql",
        [
            "analyze orders",
            "checkpoint",
            "discard plans",
            "alter database d set work_mem = '1MB'",
            "create subscription s connection 'x' publication p with (connect = false)",
            "create subscription s connection 'x' publication p with (create_slot = off)",
            "refresh materialized view concurrently v",
        ],
    )
    def test_others_run_anywhere(self, sql: str) -> None:
        effects = last(f"begin; {sql}")
        assert effects.errors == ()
        assert effects.transaction is TransactionNeed.ANY
