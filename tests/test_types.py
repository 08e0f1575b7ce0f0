"""What the server says about types is what `types` and `type_changes` say without it."""

from __future__ import annotations

import pytest
from conftest import Database

from alembic_safe.postgres.builtin_functions import IMMUTABLE_OR_STABLE, SINCE, VOLATILE
from alembic_safe.postgres.effects import World, effects_of
from alembic_safe.postgres.effects.expressions import NEVER_IMMUTABLE
from alembic_safe.postgres.effects.modifiers import type_name
from alembic_safe.postgres.type_changes import type_change
from alembic_safe.postgres.types import BUILT_IN, TypeName, read_type, type_sql

KINDS = """
    create type mood as enum ('a', 'b');
    create type mood2 as enum ('a');
    create type address as (street text);
    create domain dom as text;
    create domain checked as text check (value <> 'x');
    create domain short as varchar(20);
    create domain again as checked;
"""

WRITTEN = """
    int | int8 | smallint | real | double precision | float(10) | boolean | text | varchar
    | varchar(20) | char | char(10) | bpchar | bit | bit(3) | bit varying | varbit(7) | numeric
    | numeric(10) | numeric(10,2) | date | time | time(2) | timetz | time(3) with time zone
    | timestamp | timestamp(3) | timestamptz | timestamptz(6) | timestamp(0) with time zone
    | interval | interval(3) | interval year | interval month | interval hour to minute
    | interval day to second | interval day to second(3) | interval second(2) | uuid | json | jsonb
    | inet | cidr | macaddr | "char" | name | oid | bytea | xml | int4range | tstzrange | text[]
    | varchar(20)[] | int4[][] | int[3] | _int4 | mood | mood[] | dom | pg_catalog.int2
"""

CONVERTED = """
    int2 | int4 | int8 | oid | regclass | real | numeric | numeric(10,2) | numeric(12,2) | text
    | varchar | varchar(10) | varchar(20) | char(10) | bpchar | bit(3) | varbit(5) | date
    | timestamp | timestamp(3) | timestamptz | timestamptz(3) | interval | interval(3)
    | interval day | inet | cidr | json | jsonb | text[] | varchar(20)[] | mood | dom | checked
    | short | again
"""

ASKED_FOR = """
    int4 | numeric(10,2) | text | varchar(20) | char(10) | timestamp | timestamptz(3) | jsonb
    | varchar(20)[] | mood | mood2 | address | checked | short | xml
"""

ATTEMPT = """
    create function attempt(old text, new text, conversion text) returns text language plpgsql as $$
    declare
        heap oid;
        index oid;
        indexed text := ', indexed';
        answer text;
    begin
        execute format('create table tried (c %s)', old);
        begin
            create index tried_idx on tried (c);
        exception when undefined_object then
            indexed := '';
        end;
        heap := pg_relation_filenode('tried');
        index := pg_relation_filenode(to_regclass('tried_idx'));
        begin
            execute format('alter table tried alter c type %s %s', new, conversion);
            answer := case
                when heap <> pg_relation_filenode('tried') then 'rewritten'
                when index <> pg_relation_filenode(to_regclass('tried_idx')) then 'index rebuilt'
                else 'kept'
            end;
        exception when others then
            answer := sqlstate;
        end;
        -- So that nothing of it stays, locks included.
        raise exception using errcode = 'TRIED', message = answer || indexed;
    exception when sqlstate 'TRIED' then
        return sqlerrm;
    end $$;
"""


def names(text: str) -> list[str]:
    return [name.strip() for name in text.replace("\n", " ").split("|")]


@pytest.fixture
def types(database: Database) -> Database:
    database.execute(KINDS)
    return database


# Names


def test_a_type_is_read_and_written_as_the_server_does_it(types: Database) -> None:
    written = names(WRITTEN)
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(written))
    types.execute(f"create table t ({columns})")
    rows = types.execute(
        "select format_type(a.atttypid, a.atttypmod), coalesce(e.typname, t.typname)::text,"
        " n.nspname::text, a.atttypmod, e.oid is not null"
        " from pg_attribute a join pg_type t on t.oid = a.atttypid"
        " left join pg_type e on e.oid = t.typelem and e.typarray = t.oid"
        " join pg_namespace n on n.oid = coalesce(e.typnamespace, t.typnamespace)"
        " where attrelid = 't'::regclass and attnum > 0 order by attnum"
    )
    for name, (formatted, base, schema, modifier, is_array) in zip(written, rows, strict=True):
        in_catalog = type_name(base, schema, modifier, is_array)
        assert type_sql(read_type(name)) == formatted
        assert read_type(formatted) == read_type(name)
        if schema == "pg_catalog":
            assert read_type(name) == in_catalog


@pytest.mark.parametrize(
    "text", ["", "int, b int", "int default 1", "int; drop table t", "int null"]
)
def test_what_is_not_exactly_one_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not exactly one SQL type"):
        read_type(text)


def test_the_built_in_types_are_those_of_the_server(database: Database) -> None:
    rows = database.execute(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace"
        " and typtype in ('b', 'r', 'm') and typcategory <> 'A' and typname !~ '^(pg_|_)'"
        " or typname in ('pg_lsn', 'pg_snapshot')"
    )
    assert {name for (name,) in rows} - {"gtsvector"} <= BUILT_IN


# Conversions


def engine(version: int, zone: str) -> World:
    world = World(version=version, complete=True, settings={"timezone": zone})
    effects_of(KINDS, world)
    world.settle()
    return world


def said(old: str, new: str, conversion: str, has_index: bool, world: World) -> str:
    mark = len(world.journal)
    effects_of(f"create table tried (c {old})", world)
    if has_index:
        effects_of("create index tried_idx on tried (c)", world)
    world.batch += 1
    effects = effects_of(f"alter table tried alter c type {new} {conversion}", world)[0]
    world.undo(mark)
    certain = [error.sqlstate for error in effects.errors if error.certain]
    if certain:
        return certain[0]
    if effects.rewrites:
        return "rewritten"
    return "index rebuilt" if effects.index_rebuilds else "kept"


@pytest.mark.parametrize(
    ("zone", "conversion", "old_types", "new_types"),
    [
        ("UTC", "", CONVERTED, CONVERTED),
        ("UTC", "using c::{}", ASKED_FOR, ASKED_FOR),
        ("Europe/Oslo", "", "timestamp | timestamptz | date", CONVERTED),
    ],
    ids=["implicit", "using", "elsewhere"],
)
def test_every_conversion_costs_what_it_costs_on_the_server(
    types: Database, zone: str, conversion: str, old_types: str, new_types: str
) -> None:
    with types.connect() as connection:
        connection.execute(ATTEMPT)
        connection.execute(f"set timezone to '{zone}'")
        rows = connection.execute(
            "select o, n, attempt(o, n, replace(%s, '{}', n))"
            " from unnest(%s::text[]) as o, unnest(%s::text[]) as n",
            (conversion, names(old_types), names(new_types)),
        ).fetchall()
    world = engine(types.server.version, zone)
    differing = []
    for old, new, answer in rows:
        done, _, indexed = answer.partition(", ")
        expected = said(old, new, conversion.format(new), bool(indexed), world)
        if done != expected:
            differing.append((old, new, f"server: {done}, engine: {expected}"))
    assert not differing


@pytest.mark.parametrize("name", ["bigint", "varchar(50)", "text", "mood", "int[]"])
def test_an_unknown_old_type_counts_as_another_one(name: str) -> None:
    change = type_change(None, read_type(name), World())
    assert change.rewrites
    assert change.assumed


def test_an_unknown_type_may_be_a_domain_that_checks_every_value() -> None:
    change = type_change(TypeName("text"), TypeName("nowhere_seen"), World())
    assert change.rewrites
    assert "nowhere_seen" in change.assumed


def test_a_time_zone_that_is_not_known_is_not_utc() -> None:
    change = type_change(TypeName("timestamp"), TypeName("timestamptz"), World())
    assert change.rewrites
    assert "time zone" in change.assumed


@pytest.mark.parametrize(
    ("old", "new", "sqlstate"),
    [
        ("varchar(20)", "varchar(10)", "22001"),
        ("bigint", "int", "22003"),
        ("numeric(12,2)", "numeric(10,2)", "22003"),
        ("text", "checked", "23514"),
    ],
)
def test_values_that_may_not_fit_are_told(old: str, new: str, sqlstate: str) -> None:
    change = type_change(read_type(old), read_type(new), engine(16, "UTC"))
    assert change.failure is not None
    assert change.failure[1] == sqlstate


@pytest.mark.parametrize(
    ("old", "new"),
    [("int", "bigint"), ("text", "varchar"), ("varchar(10)", "text"), ("json", "jsonb")],
)
def test_values_that_always_fit_are_no_failure(old: str, new: str) -> None:
    assert type_change(read_type(old), read_type(new), World()).failure is None


# Functions


def test_the_functions_are_as_volatile_as_the_server_says(database: Database) -> None:
    volatility: dict[str, set[str]] = {}
    for name, found in database.execute(
        "select proname::text, provolatile::text from pg_proc"
        " where pronamespace = 'pg_catalog'::regnamespace"
    ):
        volatility.setdefault(name, set()).add(found)
    # `timetz AT TIME ZONE text` alone is VOLATILE, before version 14 (`value_of` knows).
    calm = IMMUTABLE_OR_STABLE - {"timezone"}
    assert not [name for name in calm if "v" in volatility.get(name, ())]
    assert not [name for name in NEVER_IMMUTABLE if "i" in volatility.get(name, ())]
    version = database.server.version
    for name in VOLATILE | IMMUTABLE_OR_STABLE:
        if SINCE.get(name, 0) > version:
            assert name not in volatility


def test_functions_that_compute_a_new_value_each_time_are_not_missing(database: Database) -> None:
    rows = database.execute(
        "select distinct proname::text from pg_proc p"
        " where pronamespace = 'pg_catalog'::regnamespace and provolatile = 'v'"
        " and prorettype::regtype::text not in ('internal', 'void', 'trigger', 'event_trigger',"
        " 'record', 'index_am_handler', 'table_am_handler', 'tsm_handler')"
        " and not proretset and prokind = 'f'"
        " and proname !~ '^(pg_|binary_upgrade|lo_|brin_|gin_|RI_|ts|txid_|plpgsql_)'"
    )
    assert {name for (name,) in rows} - {
        "currtid",
        "currtid2",
        "amvalidate",
        "timezone",
    } <= VOLATILE
