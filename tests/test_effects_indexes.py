"""CREATE INDEX, DROP INDEX, REINDEX, ALTER INDEX: what they lock and build, and the world after."""

from __future__ import annotations

import psycopg
import pytest
from conftest import Database
from worlds import assert_as_in_catalog, known, locks, name_of, only_effects

from alembic_safe.postgres.effects.analysis import begin, effects_of
from alembic_safe.postgres.effects.model import Change, TransactionNeed
from alembic_safe.postgres.effects.world import World

ORDERS = """
    create table users (id int primary key);
    create table orders (id int primary key, a int, b text, user_id int references users);
    create index orders_a_idx on orders (a);
    create unique index orders_b_key on orders (b);
"""

PARTITIONED = """
    create table t (id int not null, n int) partition by range (id);
    create table t1 partition of t for values from (1) to (10);
    create table t2 partition of t for values from (10) to (20) partition by range (id);
    create table t2a partition of t2 for values from (10) to (15);
"""

CHANGED = {
    "an index of every kind": ORDERS
    + """
        create index on orders using hash (a);
        create unique index named on orders (b desc, (a + 1)) include (id) where a > 0;
        create index pattern on orders (b text_pattern_ops, b collate "C");
        create index if not exists named on orders (id);
        drop index orders_a_idx, orders_b_key""",
    "of a partitioned table": PARTITIONED
    + """
        create index t2a_own on t2a (n);
        create index t1_not_unique on t1 (id);
        create index t1_of_some on t1 (n) where n > 0;
        create index on t (n);
        create unique index of_id on t (id)""",
    "dropped of a partitioned table": PARTITIONED + "create index i on t (n); drop index i",
    "attached": PARTITIONED
    + """
        create index i on only t (n);
        create index i1 on t1 (n);
        create index i2 on only t2 (n);
        create index i2a on t2a (n);
        alter index i2 attach partition i2a;
        alter index i attach partition i1;
        alter index i attach partition i2""",
    "attached in part": PARTITIONED
    + """
        create index i on only t (n);
        create index i1 on t1 (n);
        alter index i attach partition i1""",
    "of a materialized view": """
        create table t (a int);
        create materialized view v as select a from t;
        create unique index on v (a)""",
}


@pytest.mark.parametrize("case", CHANGED)
def test_the_engine_knows_the_indexes_that_the_server_has(case: str, database: Database) -> None:
    assert_as_in_catalog(CHANGED[case], database)


# CREATE INDEX


def test_an_index_blocks_writes_while_it_is_built() -> None:
    effects = only_effects("create index on orders (a, b)", known(ORDERS))
    assert locks(effects) == {"orders": "SHARE"}
    assert [(work.table, work.name) for work in effects.index_builds] == [
        (name_of("orders"), "orders_a_b_idx")
    ]
    assert effects.is_hazard


def test_concurrently_nobody_waits_and_no_transaction_may_be_open() -> None:
    world = known(ORDERS)
    effects = only_effects("create index concurrently i on orders (b)", world)
    assert locks(effects) == {"orders": "SHARE UPDATE EXCLUSIVE"}
    assert effects.transaction is TransactionNeed.FORBIDDEN
    assert not effects.is_hazard
    begin(world)
    (error,) = only_effects("create index concurrently j on orders (b)", world).errors
    assert error.sqlstate == "25001"
    assert name_of("j") not in world.index_tables


def test_if_not_exists_of_an_index_that_is_there_locks_and_builds_nothing() -> None:
    effects = only_effects("create index if not exists orders_a_idx on orders (b)", known(ORDERS))
    assert locks(effects) == {"orders": "SHARE"}
    assert not effects.index_builds


def test_if_not_exists_of_an_index_that_may_not_be_there_builds_it() -> None:
    effects = only_effects("create index if not exists i on orders (b)", World())
    assert effects.is_hazard
    assert "there is no public.i yet" in effects.assumed


def test_a_partitioned_table_gets_one_index_for_each_partition_that_has_none_like_it() -> None:
    world = known(PARTITIONED + "create index on t1 (n)")
    effects = only_effects("create index on t (n)", world)
    assert locks(effects) == dict.fromkeys(["t", "t1", "t2", "t2a"], "SHARE")
    assert [work.table.name for work in effects.index_builds] == ["t2a"]


def test_only_leaves_the_partitions_alone() -> None:
    effects = only_effects("create index on only t (n)", known(PARTITIONED))
    assert locks(effects) == {"t": "SHARE"}
    assert not effects.index_builds


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("create index concurrently on t (n)", "0A000"),
        ("create unique index on t (n)", "0A000"),
        ("create index on t (nothing)", "42703"),
        ("create index t1 on t (n)", "42P07"),
        ("create index on t ((random()))", "42P17"),
        ("create index on nothing (n)", "42P01"),
    ],
)
def test_what_the_server_refuses_is_refused(sql: str, sqlstate: str, database: Database) -> None:
    (error,) = only_effects(sql, known(PARTITIONED)).errors
    assert (error.sqlstate, error.certain) == (sqlstate, True)
    database.execute(PARTITIONED)
    assert _refusal(database, sql) == sqlstate


def _refusal(database: Database, sql: str) -> str | None:
    try:
        database.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate
    return None


def test_a_unique_index_may_refuse_what_the_running_release_writes() -> None:
    effects = only_effects("create unique index i on orders (a)", known(ORDERS))
    (change,) = effects.changes
    assert (change.change, change.kind, change.relation) == (
        Change.TIGHTENED,
        "index",
        name_of("i"),
    )


def test_a_unique_index_of_a_new_column_refuses_nothing() -> None:
    world = known(ORDERS)
    effects_of("alter table orders add column c int", world)
    assert not only_effects("create unique index i on orders (c)", world).changes


def test_an_index_of_a_table_that_this_batch_made_is_nobodys_problem() -> None:
    world = World()
    effects_of("create table t (a int)", world)
    effects = only_effects("create unique index on t (a)", world)
    assert (effects.locks, effects.index_builds, effects.changes) == ({}, (), ())


# DROP INDEX


def test_drop_index_takes_its_table() -> None:
    effects = only_effects("drop index orders_a_idx", known(ORDERS))
    assert locks(effects)["orders"] == "ACCESS EXCLUSIVE"
    assert [(change.change, change.kind) for change in effects.changes] == [
        (Change.DROPPED, "index")
    ]


def test_drop_index_concurrently_blocks_nobody() -> None:
    effects = only_effects("drop index concurrently orders_a_idx", known(ORDERS))
    assert locks(effects) == {"orders": "SHARE UPDATE EXCLUSIVE"}
    assert effects.transaction is TransactionNeed.FORBIDDEN


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("drop index orders_pkey", "2BP01"),
        ("drop index users_pkey cascade", "2BP01"),
        ("drop index concurrently orders_a_idx, orders_b_key", "0A000"),
        ("drop index concurrently orders_a_idx cascade", "0A000"),
        ("drop index orders", "42809"),
        ("drop index nothing", "42704"),
        ("drop index concurrently of_t", "0A000"),
        ("drop index t1_n_idx", "2BP01"),
        ("drop index code_key", "2BP01"),
    ],
)
def test_an_index_that_is_needed_is_not_dropped(
    sql: str, sqlstate: str, database: Database
) -> None:
    before = (
        ORDERS
        + PARTITIONED
        + """create index of_t on t (n);
        create table codes (code int); create unique index code_key on codes (code);
        create table uses (code int references codes (code))"""
    )
    (error,) = only_effects(sql, known(before)).errors
    assert (error.sqlstate, error.certain) == (sqlstate, True)
    database.execute(before)
    assert _refusal(database, sql) == sqlstate


def test_an_index_that_is_not_known_locks_a_table_that_is_not_known() -> None:
    effects = only_effects("drop index i", World())
    assert locks(effects) == {"i": "ACCESS EXCLUSIVE"}
    assert effects.assumed == ("the table of public.i is not known",)
    assert effects.details["unnamed_locks"].sql == "ACCESS EXCLUSIVE"


def test_drop_index_if_exists_of_what_is_certainly_not_there_does_nothing() -> None:
    effects = only_effects("drop index if exists nothing", known(ORDERS))
    assert (effects.locks, effects.errors) == ({}, ())


# REINDEX


def test_reindex_blocks_reads_by_its_lock_on_the_index() -> None:
    effects = only_effects("reindex index orders_a_idx", known(ORDERS))
    assert locks(effects) == {"orders": "SHARE", "orders_a_idx": "ACCESS EXCLUSIVE"}
    assert [work.name for work in effects.index_rebuilds] == ["orders_a_idx"]
    assert effects.is_hazard


def test_reindex_table_rebuilds_every_index() -> None:
    effects = only_effects("reindex table orders", known(ORDERS))
    assert len(effects.index_rebuilds) == 3


@pytest.mark.parametrize("what", ["index orders_a_idx", "table orders"])
def test_reindex_concurrently_blocks_nobody(what: str) -> None:
    sql = f"reindex {what.replace(' ', ' concurrently ')}"
    effects = only_effects(sql, known(ORDERS))
    assert locks(effects) == {"orders": "SHARE UPDATE EXCLUSIVE"}
    assert effects.transaction is TransactionNeed.FORBIDDEN
    assert not effects.is_hazard


def test_partitions_are_reindexed_outside_of_a_transaction_only() -> None:
    effects = only_effects("reindex table t", known(PARTITIONED + "create index on t (n)"))
    assert effects.transaction is TransactionNeed.FORBIDDEN
    assert {work.table.name for work in effects.index_rebuilds} == {"t1", "t2a"}
    old = only_effects("reindex table t", known(PARTITIONED + "create index on t (n)", 13))
    assert not old.index_rebuilds


# ALTER INDEX


def test_attaching_an_index_takes_it_and_not_the_tables() -> None:
    world = known(PARTITIONED + "create index i on only t (n); create index i1 on t1 (n)")
    effects = only_effects("alter index i attach partition i1", world)
    assert locks(effects) == {"i": "SHARE UPDATE EXCLUSIVE", "i1": "ACCESS EXCLUSIVE"}


def test_another_tablespace_copies_the_index() -> None:
    effects = only_effects("alter index orders_a_idx set tablespace fast", known(ORDERS))
    assert locks(effects) == {"orders_a_idx": "ACCESS EXCLUSIVE"}
    assert effects.is_hazard


def test_options_of_an_index_are_set_without_blocking() -> None:
    effects = only_effects("alter index orders_a_idx set (fillfactor = 70)", known(ORDERS))
    assert locks(effects) == {"orders_a_idx": "SHARE UPDATE EXCLUSIVE"}
