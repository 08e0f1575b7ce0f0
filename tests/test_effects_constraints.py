"""Constraints and partitions: what ALTER TABLE locks and reads for them, and the world after."""

from __future__ import annotations

import psycopg
import pytest
from conftest import Database
from worlds import assert_as_in_catalog, known, locks, name_of, only_effects

from alembic_safe.postgres.effects.analysis import begin, effects_of
from alembic_safe.postgres.effects.model import Change, Effects, TransactionNeed
from alembic_safe.postgres.effects.world import World

SHOP = """
    create table users (id int primary key, code text unique);
    create table orders (id int primary key, a int, b text, user_id int, n int not null);
    create unique index orders_a_ready on orders (a);
    create unique index orders_n_ready on orders (n);
    create table child (id int primary key references users, code text references users (code));
"""

PARTITIONED = """
    create table t (id int not null, n int) partition by range (id);
    create table t1 partition of t for values from (1) to (10);
    create table t2 partition of t for values from (10) to (20) partition by range (id);
    create table t2a partition of t2 for values from (10) to (15);
"""

CHANGED = {
    "added": SHOP
    + """
        alter table orders add check (a > 0), add check (a < id), add constraint k check (b <> '')
            not valid, add unique (b), add foreign key (user_id) references users,
            add constraint g foreign key (a) references users (id) not valid deferrable;
        alter table users add exclude (code with =)""",
    "dropped": SHOP
    + """
        alter table child drop constraint child_code_fkey;
        alter table users drop constraint users_pkey cascade;
        alter table orders drop constraint orders_pkey, drop constraint if exists nothing""",
    "validated": SHOP
    + """
        alter table orders add constraint k check (b is not null and a > 0) not valid,
            add constraint f foreign key (user_id) references users not valid;
        alter table orders validate constraint k;
        alter table orders validate constraint f""",
    "made of indexes": SHOP
    + """
        alter table child drop constraint child_pkey;
        create unique index c on child (id);
        alter table child add constraint child_key primary key using index c;
        alter table orders add unique using index orders_a_ready""",
    "deferrable": SHOP
    + "alter table child alter constraint child_code_fkey deferrable initially deferred",
    "of partitioned tables": PARTITIONED
    + """
        create table users (id int primary key);
        create unique index t1_no_constraint on t1 (n, id);
        alter table t2a add unique (n, id);
        alter table t add constraint k check (n > 0), add primary key (id), add unique (n, id),
            add foreign key (n) references users;
        alter table t add constraint l check (n < 9) not valid;
        alter table t validate constraint l;
        alter table t drop constraint k, drop constraint t_n_id_key""",
    "inherited": """
        create table base (a int); create table derived () inherits (base);
        alter table base add constraint k check (a > 0),
            add constraint own check (a < 9) no inherit;
        alter table base add constraint gone check (a <> 5);
        alter table base drop constraint gone""",
    "partitions attached and detached": PARTITIONED
    + """
        create table users (id int primary key);
        insert into users values (1);
        create index on t (n);
        alter table t add primary key (id), add foreign key (n) references users;
        create table t3 (id int not null, n int);
        create index t3_own on t3 (n);
        create table t4 (like t including all);
        alter table t attach partition t3 for values from (30) to (40);
        alter table t attach partition t4 default;
        alter table t detach partition t1""",
}


@pytest.mark.parametrize("case", CHANGED)
def test_the_engine_knows_the_constraints_that_the_server_has(
    case: str, database: Database
) -> None:
    assert_as_in_catalog(CHANGED[case], database)


# ADD CONSTRAINT


def _scans(effects: Effects) -> set[str]:
    return {name.name for name in effects.scans}


def test_a_check_reads_all_rows_while_nobody_can_use_the_table() -> None:
    effects = only_effects("alter table orders add check (a > 0)", known(SHOP))
    assert locks(effects) == {"orders": "ACCESS EXCLUSIVE"}
    assert _scans(effects) == {"orders"}
    assert effects.is_hazard


def test_a_foreign_key_locks_and_reads_both_tables() -> None:
    world = known(SHOP + "insert into orders values (1, 1, 'b', 1, 1)")
    effects = only_effects("alter table orders add foreign key (user_id) references users", world)
    assert locks(effects) == dict.fromkeys(["orders", "users"], "SHARE ROW EXCLUSIVE")
    assert "orders" in _scans(effects)
    assert effects.is_hazard


@pytest.mark.parametrize(
    "constraint", ["check (a > 0) not valid", "foreign key (user_id) references users not valid"]
)
def test_not_valid_reads_nothing(constraint: str) -> None:
    effects = only_effects(f"alter table orders add constraint k {constraint}", known(SHOP))
    assert not effects.scans
    assert not effects.is_hazard


def test_validating_blocks_nobody() -> None:
    world = known(SHOP + "alter table orders add constraint k check (a > 0) not valid")
    effects = only_effects("alter table orders validate constraint k", world)
    assert locks(effects) == {"orders": "SHARE UPDATE EXCLUSIVE"}
    assert _scans(effects) == {"orders"}
    assert not effects.is_hazard


def test_validating_in_the_transaction_that_added_it_blocks_everybody() -> None:
    world = known(SHOP)
    begin(world)
    added = only_effects("alter table orders add constraint k check (a > 0) not valid", world)
    validated = only_effects("alter table orders validate constraint k", world)
    assert not added.is_hazard
    assert validated.is_hazard
    assert validated.held == added.locks


def test_what_is_valid_already_is_not_read_again() -> None:
    world = known(SHOP + "alter table orders add constraint k check (a > 0)")
    assert not only_effects("alter table orders validate constraint k", world).scans


def test_a_unique_constraint_builds_its_index_under_the_lock() -> None:
    effects = only_effects("alter table orders add unique (b)", known(SHOP))
    assert locks(effects) == {"orders": "ACCESS EXCLUSIVE"}
    assert [work.name for work in effects.index_builds] == ["orders_b_key"]


def test_using_an_index_builds_nothing() -> None:
    sql = "alter table orders add constraint u unique using index orders_a_ready"
    world = known(SHOP)
    effects = only_effects(sql, world)
    assert not effects.works
    assert not effects.changes
    assert "u" in world.relations[name_of("orders")].indexes


@pytest.mark.parametrize(
    ("before", "index", "is_read"),
    [
        ("", "orders_n_ready", False),
        ("", "orders_a_ready", True),
        ("alter table orders add check (a is not null)", "orders_a_ready", False),
        ("alter table orders add check (a is not null and b <> '')", "orders_a_ready", False),
        ("alter table orders add check (a > 0)", "orders_a_ready", True),
        ("alter table orders add check (a is not null) not valid", "orders_a_ready", True),
        ("alter table orders add check (a is not null) no inherit", "orders_a_ready", False),
    ],
)
def test_a_primary_key_of_an_index_reads_rows_where_null_is_not_ruled_out(
    before: str, index: str, is_read: bool
) -> None:
    world = known(f"{SHOP} alter table orders drop constraint orders_pkey; {before}")
    effects = only_effects(f"alter table orders add primary key using index {index}", world)
    assert _scans(effects) == ({"orders"} if is_read else set())


def test_a_foreign_key_of_a_new_table_is_checked_only_where_it_has_rows() -> None:
    world = known(SHOP)
    effects_of("create table new (u int)", world)
    effects = only_effects("alter table new add foreign key (u) references users", world)
    assert locks(effects) == {"users": "SHARE ROW EXCLUSIVE"}
    assert not effects.works
    effects_of("create table filled (u int); insert into filled values (1)", world)
    filled = only_effects("alter table filled add foreign key (u) references users", world)
    assert _scans(filled) == {"users"}


def test_partitions_are_locked_with_their_table() -> None:
    world = known(PARTITIONED + "create table users (id int primary key)")
    family = ["t", "t1", "t2", "t2a"]
    check = only_effects("alter table t add check (n > 0)", world)
    assert locks(check) == dict.fromkeys(family, "ACCESS EXCLUSIVE")
    assert _scans(check) == {"t1", "t2a"}
    key = only_effects("alter table t add foreign key (n) references users", world)
    assert locks(key) == dict.fromkeys([*family, "users"], "SHARE ROW EXCLUSIVE")


@pytest.mark.parametrize(("version", "mode"), [(17, "SHARE"), (18, "ACCESS EXCLUSIVE")])
def test_a_key_of_a_partitioned_table_locks_partitions_by_version(version: int, mode: str) -> None:
    effects = only_effects("alter table t add unique (id)", known(PARTITIONED, version))
    assert locks(effects) == {"t": "ACCESS EXCLUSIVE", "t1": mode, "t2": mode, "t2a": mode}


REFUSED = [
    ("alter table orders add constraint orders_pkey check (a > 0)", "42710"),
    ("alter table orders add primary key (n)", "42P16"),
    ("alter table orders add check (nothing > 0)", "42703"),
    ("alter table orders add unique (nothing)", "42703"),
    ("alter table orders add foreign key (nothing) references users", "42703"),
    ("alter table orders add foreign key (a) references users (nothing)", "42703"),
    ("alter table orders add foreign key (a) references orders (user_id)", "42830"),
    ("alter table orders add foreign key (a) references users (code)", "42804"),
    ("alter table orders add foreign key (a) references nothing", "42P01"),
    ("alter table orders add foreign key (a) references bare", "42704"),
    ("alter table orders add unique using index nothing", "42704"),
    ("alter table orders add unique using index orders_plain", "42809"),
    ("alter table orders add unique using index orders_partial", "42809"),
    ("alter table orders add unique using index orders_pkey", "55000"),
    ("alter table orders drop constraint nothing", "42704"),
    ("alter table orders validate constraint nothing", "42704"),
    ("alter table orders validate constraint orders_pkey", "42809"),
    ("alter table orders alter constraint orders_pkey deferrable", "42809"),
    ("alter table users drop constraint users_pkey", "2BP01"),
    ("alter table t add unique (n)", "0A000"),
    ("alter table t add unique using index i", "0A000"),
    ("alter table only t add check (n > 0)", "42P16"),
    ("alter table only t add foreign key (n) references users", "42809"),
    ("alter table t1 drop constraint k", "42P16"),
    ("alter table t attach partition t1 for values from (50) to (60)", "42809"),
    ("alter table t attach partition orders for values from (50) to (60)", "42804"),
    ("alter table t attach partition loose for values from (50) to (60)", "42804"),
    ("alter table t attach partition fits for values from (5) to (60)", "42P17"),
    ("alter table t detach partition fits", "42P01"),
]


@pytest.mark.parametrize(("sql", "sqlstate"), REFUSED)
def test_what_the_server_refuses_is_refused(sql: str, sqlstate: str, database: Database) -> None:
    before = (
        SHOP
        + PARTITIONED
        + """
        create table bare (id int);
        create index orders_plain on orders (a);
        create unique index orders_partial on orders (a) where a > 0;
        alter table t add constraint k check (n > 0);
        create unique index i on t (id);
        create table loose (id int, n int, check (n > 0));
        create table fits (id int not null, n int, constraint k check (n > 0))"""
    )
    (error,) = only_effects(sql, known(before, database.server.version)).errors
    assert (error.sqlstate, error.certain) == (sqlstate, True)
    database.execute(before)
    with pytest.raises(psycopg.Error) as raised:
        database.execute(sql)
    assert raised.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("sql", "since"),
    [
        ("alter table orders add constraint k check (a > 0) not enforced", 18),
        ("alter table orders add foreign key (a) references users not enforced", 18),
        ("alter table orders add constraint k not null a", 18),
        ("alter table orders add unique nulls not distinct (b)", 15),
        ("alter table child alter constraint child_code_fkey not enforced", 18),
        ("alter table t detach partition t1 concurrently", 14),
    ],
)
def test_what_a_server_does_not_know_yet_is_a_syntax_error(sql: str, since: int) -> None:
    assert not only_effects(sql, known(SHOP + PARTITIONED, since)).errors
    (error,) = only_effects(sql, known(SHOP + PARTITIONED, since - 1)).errors
    assert error.sqlstate == "42601"


def test_what_the_running_release_writes_may_be_refused() -> None:
    for constraint in (
        "check (a > 0) not valid",
        "foreign key (user_id) references users not valid",
        "unique (b)",
        "exclude (a with =)",
        "not null b not valid",
    ):
        effects = only_effects(f"alter table orders add constraint k {constraint}", known(SHOP))
        (change,) = effects.changes
        assert (change.change, change.kind, change.name) == (Change.TIGHTENED, "constraint", "k")


def test_of_a_new_column_the_running_release_writes_nothing() -> None:
    world = known(SHOP)
    effects_of("alter table orders add column c int", world)
    assert not only_effects("alter table orders add check (c > 0)", world).changes
    assert only_effects("alter table orders add check (c > a)", world).changes


# NOT NULL constraints of 18


def test_a_not_null_that_is_not_valid_is_validated_without_blocking() -> None:
    world = known(SHOP)
    added = only_effects("alter table orders add constraint k not null a not valid", world)
    assert not added.works
    assert not world.relations[name_of("orders")].columns["a"].not_null
    validated = only_effects("alter table orders validate constraint k", world)
    assert not validated.is_hazard
    assert world.relations[name_of("orders")].columns["a"].not_null


# DROP CONSTRAINT


def test_dropping_a_foreign_key_locks_the_other_table() -> None:
    effects = only_effects("alter table child drop constraint child_code_fkey", known(SHOP))
    assert locks(effects) == dict.fromkeys(["child", "users"], "ACCESS EXCLUSIVE")
    assert [(change.change, change.name) for change in effects.changes] == [
        (Change.DROPPED, "child_code_fkey")
    ]


def test_dropping_a_key_with_cascade_drops_the_foreign_keys_to_it() -> None:
    world = known(SHOP)
    effects = only_effects("alter table users drop constraint users_pkey cascade", world)
    assert locks(effects)["child"] == "ACCESS EXCLUSIVE"
    assert "child_id_fkey" not in world.relations[name_of("child")].constraints


def test_a_constraint_that_is_not_known_may_be_a_foreign_key() -> None:
    effects = only_effects("alter table child drop constraint k", World())
    assert locks(effects) == {"child": "ACCESS EXCLUSIVE"}
    assert effects.details["unnamed_locks"].sql == "ACCESS EXCLUSIVE"
    assert any("may be a foreign key" in assumed for assumed in effects.assumed)


def test_validating_what_is_not_known_reads_the_table() -> None:
    effects = only_effects("alter table child validate constraint k", World())
    assert _scans(effects) == {"child"}
    assert not effects.is_hazard


# ALTER CONSTRAINT


def test_a_foreign_key_that_becomes_enforced_is_checked_under_the_lock() -> None:
    world = known(
        SHOP
        + "insert into orders values (1, 1, 'b', 1, 1);"
        + "alter table orders add constraint f foreign key (a) references users not enforced"
    )
    effects = only_effects("alter table orders alter constraint f enforced", world)
    assert locks(effects) == {"orders": "ACCESS EXCLUSIVE", "users": "SHARE ROW EXCLUSIVE"}
    assert _scans(effects) == {"orders", "users"}
    (change,) = effects.changes
    assert change.change is Change.TIGHTENED


# ATTACH and DETACH

ATTACHED = """
    create table t (id bigint not null, at timestamptz, area text) partition by range (id);
    create table new (id bigint not null, at timestamptz, area text);
    create table by_time (id bigint, at timestamptz not null) partition by range (at);
    create table day (id bigint, at timestamptz not null);
    create table by_area (area varchar(9) not null) partition by list (area);
    create table eu (area varchar(9) not null);
    create table by_expression (id int not null) partition by range (abs(id));
    create table absolute (id int not null);
"""

JANUARY = (
    "alter table by_time attach partition day for values from ('2024-01-01') to ('2024-02-01')"
)
EU = "alter table by_area attach partition eu for values in ('eu', 'uk')"
TEN = "alter table t attach partition new for values from (10) to (20)"


@pytest.mark.parametrize(
    ("check", "attach", "is_proven"),
    [
        ("new check (id >= 10 and id < 20)", TEN, True),
        ("new check (id between 12 and 19)", TEN, True),
        ("new check (not (id < 10 or id >= 20))", TEN, True),
        ("new check (id > 9 and id < 20)", TEN, False),
        ("new check (id >= 10 and id <= 20)", TEN, False),
        ("new check (id >= 10 and id < 20) not valid", TEN, False),
        ("new check (20 > id and 10 <= id)", TEN, True),
        ("new check (id in (11, 12))", TEN, True),
        ("new check (id = 10 or id = 25)", TEN, False),
        ("new check (id + 0 >= 10 and id < 20)", TEN, False),
        ("day check (at >= '2024-01-01' and at < '2024-02-01')", JANUARY, True),
        ("day check (at >= '2024-01-05 12:00' and at < '2024-01-06')", JANUARY, True),
        ("day check (at >= '2024-01-01' and at < '2024-02-02')", JANUARY, False),
        ("eu check (area = 'eu')", EU, True),
        ("eu check (area in ('uk', 'eu'))", EU, True),
        ("eu check (area in ('uk', 'us'))", EU, False),
        ("eu check (area > 'a')", EU, False),
        (
            "absolute check (id >= 10 and id < 20)",
            "alter table by_expression attach partition absolute for values from (10) to (20)",
            False,
        ),
    ],
)
def test_a_check_that_proves_the_bound_spares_the_scan_as_on_the_server(
    check: str, attach: str, is_proven: bool, database: Database
) -> None:
    table, _, rest = check.partition(" ")
    before = f"{ATTACHED} alter table {table} add constraint bound {rest}"
    effects = only_effects(attach, known(before, database.server.version))
    assert effects.details["proven"] == is_proven
    assert _scans(effects) == (set() if is_proven else {table})
    assert _server_proves(database, before, attach) == is_proven


def _server_proves(database: Database, before: str, attach: str) -> bool:
    database.execute(before)
    notices: list[str] = []
    with database.connect() as connection:
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        connection.execute("set client_min_messages = debug1")
        connection.execute(attach.encode())
    return any("is implied by existing constraints" in notice for notice in notices)


def test_the_default_partition_is_read_unless_its_check_rules_the_new_rows_out(
    database: Database,
) -> None:
    before = f"""{ATTACHED}
        create table rest partition of t default;
        alter table new add check (id >= 10 and id < 20);"""
    effects = only_effects(TEN, known(before))
    assert locks(effects) == {
        "t": "SHARE UPDATE EXCLUSIVE",
        "new": "ACCESS EXCLUSIVE",
        "rest": "ACCESS EXCLUSIVE",
    }
    assert _scans(effects) == {"rest"}
    proven = before + "alter table rest add check (id < 10 or id >= 20)"
    assert not only_effects(TEN, known(proven)).scans
    assert _server_proves(database, proven, TEN)


def test_attaching_builds_the_indexes_that_are_missing() -> None:
    world = known(ATTACHED + "create index on t (at); create index on t (area);")
    effects_of("create index own on new (at)", world)
    world.settle()
    effects = only_effects(TEN, world)
    assert [work.name for work in effects.index_builds] == ["new_area_idx"]


@pytest.mark.parametrize(
    ("version", "mode"), [(13, "SHARE UPDATE EXCLUSIVE"), (14, "ACCESS EXCLUSIVE")]
)
def test_detaching_locks_by_version(version: int, mode: str) -> None:
    effects = only_effects("alter table t detach partition t1", known(PARTITIONED, version))
    assert locks(effects) == {"t": "ACCESS EXCLUSIVE", "t1": mode}


def test_detaching_concurrently_stands_alone_and_needs_that_there_is_no_default() -> None:
    sql = "alter table t detach partition t1 concurrently"
    effects = only_effects(sql, known(PARTITIONED))
    assert locks(effects) == {"t": "SHARE UPDATE EXCLUSIVE", "t1": "ACCESS EXCLUSIVE"}
    assert effects.transaction is TransactionNeed.FORBIDDEN
    default = PARTITIONED + "create table rest partition of t default"
    (error,) = only_effects(sql, known(default)).errors
    assert error.sqlstate == "55000"
