"""Whatever text it is given, the effects engine answers: no exception, no crash, no endless work,
and never "safe" for what was not understood.

Other and more examples: `FUZZ_EXAMPLES=5000 pytest tests/test_effects_fuzz.py`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle.statements import FIXTURE, cases

from alembic_safe.postgres.effects import Effects, World, analysis, begin
from alembic_safe.postgres.effects.handlers import HANDLERS
from alembic_safe.postgres.effects.world import NEWEST_SERVER, OLDEST_SERVER

_EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
settings.register_profile(
    "effects",
    max_examples=int(_EXAMPLES or 60),
    derandomize=_EXAMPLES is None,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("effects")

PATIENCE_SECONDS = 300
"""Generous: what hangs is to be told from what is slow on a busy machine."""

STATEMENTS = sorted({statement for case in cases() for statement in case.statements})
TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$\$.*?\$\$|\w+|\s+|.", re.S)
TOKENS = sorted({token for statement in STATEMENTS for token in TOKEN.findall(statement)})

HAZARD = "create index zz_i on zz_hazard (id)"


def effects_of(sql: str, world: World) -> list[Effects]:
    """The effects of a text, none of which may come from a fault of the engine."""
    found = analysis.effects_of(sql, world)
    told = [each.unknown for effects in found for each in (effects, *effects.children)]
    assert not any(reason.startswith(analysis.FAULT) for reasons in told for reason in reasons)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A statement with tokens dropped, doubled, swapped or replaced."""
    tokens = TOKEN.findall(draw(st.sampled_from(STATEMENTS)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(tokens) - 1)))
        other = draw(st.integers(0, max(0, len(tokens) - 1)))
        kind = draw(st.sampled_from(("drop", "double", "swap", "replace", "insert", "name")))
        if not tokens:
            break
        if kind == "drop":
            del tokens[place]
        elif kind == "double":
            tokens.insert(place, tokens[place])
        elif kind == "swap":
            tokens[place], tokens[other] = tokens[other], tokens[place]
        elif kind == "replace":
            tokens[place] = draw(st.sampled_from(TOKENS))
        elif kind == "insert":
            tokens.insert(place, f" {draw(st.sampled_from(TOKENS))} ")
        else:
            name = draw(st.text(min_size=1, max_size=8))
            tokens[place] = '"' + name.replace('"', '""') + '"'
    return "".join(tokens)


texts = st.one_of(
    mutated(),
    st.lists(mutated(), min_size=2, max_size=4).map("; ".join),
    st.tuples(mutated(), mutated()).map(lambda two: two[0][: len(two[0]) // 2] + two[1]),
    mutated().map(lambda sql: f"do $body$ begin {sql}; end $body$"),
    mutated().map(lambda sql: f"explain analyze {sql}"),
    mutated().map(lambda sql: "do $body$ begin execute " + repr(sql) + "; end $body$"),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Nothing known, or everything since the empty database; of any version; perhaps in a block."""
    world = World(version=draw(st.integers(OLDEST_SERVER, NEWEST_SERVER)))
    if draw(st.booleans()):
        world = pickle.loads(_fixture(world.version))
    if draw(st.booleans()):
        begin(world)
    return world


@cache
def _fixture(version: int) -> bytes:
    world = World(version=version, complete=True)
    effects_of(FIXTURE, world)
    world.settle()
    return pickle.dumps(world)


def _all(effects: list[Effects]) -> list[Effects]:
    found = list(effects)
    for each in effects:
        found += _all(list(each.children))
    return found


class TestAnyText:
    @given(texts, worlds())
    def test_changed_statements_are_answered(self, sql: str, world: World) -> None:
        for effects in effects_of(sql, world):
            assert effects.node is not None or effects.unknown
            assert effects.command or effects.unknown

    @given(st.text(), worlds())
    def test_any_characters_are_answered(self, sql: str, world: World) -> None:
        effects = effects_of(sql, world)
        assert effects or not sql.strip() or _is_comment_or_empty(sql)

    @given(st.binary())
    def test_any_bytes_are_answered(self, data: bytes) -> None:
        effects_of(data.decode(errors="surrogateescape"), World())
        effects_of(data.decode("latin-1"), World())

    @given(st.lists(st.sampled_from(TOKENS), max_size=30).map(" ".join))
    def test_any_tokens_are_answered(self, sql: str) -> None:
        effects_of(sql, World())

    @given(texts)
    def test_what_is_no_sql_is_unknown(self, sql: str) -> None:
        effects = effects_of(f"{sql} !)", World())
        assert any(each.is_hazard for each in effects)

    @given(st.lists(texts, max_size=4), st.lists(texts, max_size=2), worlds())
    def test_a_hazard_among_other_statements_is_still_reported(
        self, before: list[str], after: list[str], world: World
    ) -> None:
        sql = "\n;\n".join([*before, HAZARD, *after])
        effects = effects_of(sql, world)
        assert any(each.is_hazard for each in effects), sql
        if all(each.node is not None for each in effects):
            found = [each for each in _all(effects) if each.sql == HAZARD]
            assert found, sql
            assert all(each.is_hazard for each in found), sql

    @given(mutated(), st.sampled_from(("if a then {} end if;", "loop {} end loop;", "{}")))
    def test_a_hazard_in_a_block_is_still_reported(self, sql: str, around: str) -> None:
        body = around.format(f"{sql}; {HAZARD};")
        (effects,) = effects_of(f"do $body$ begin {body} end $body$", World())
        assert effects.is_hazard


def _is_comment_or_empty(sql: str) -> bool:
    return re.fullmatch(r"(\s|;|--[^\n\r]*|/\*.*\*/)*", sql, re.S) is not None


LARGE = {
    "a long literal": "insert into t values ('" + "x" * 1024 * 1024 + "')",
    "a long list": f"delete from t where id in ({', '.join(map(str, range(150_000)))})",
    "many rows": f"insert into t values {', '.join(['(1, 2)'] * 130_000)}",
    "many conditions": "select * from t where " + " or ".join(["id = 1"] * 100_000),
    "many statements": "update t set a = 1 where id = 5;\n" * 5_000,
    "many columns": f"create table t ({', '.join(f'c{n} int' for n in range(60_000))})",
    "many children": "do $$ begin " + "update t set a = 1 where id = 5; " * 5_000 + " end $$",
    "a long comment": "/*" + "x" * 1024 * 1024 + "*/ select 1",
    "a long name": 'drop table "' + "x" * 1024 * 1024 + '"',
    "no SQL": "x " * 512 * 1024,
    "an open quote": "select '" + "x" * 1024 * 1024,
    "open parentheses": "(" * 1024 * 1024,
}

DEEP = {
    "parentheses": ("select ", "(", "1", ")"),
    "CASE": ("select ", "case when true then ", "1", " end"),
    "sub-selects": ("select ", "(select ", "1", ")"),
    "FROM": ("select * from ", "(select * from ", "t", ") x"),
    "calls": ("select ", "f(1, ", "1", ")"),
    "WITH": ("", "with x as (", "select 1", ") select 1"),
    "sums": ("select 1", " + 1", "", ""),
    "casts": ("select 1", "::int", "", ""),
    "unions": ("select 1", " union select 1", "", ""),
    "joins": ("select * from t", " join t using (a)", "", ""),
    "IS NULL": ("select 1", " is null", "", ""),
    "time zones": ("select a", " at time zone 'utc'", "", ""),
    "NOT": ("select ", "not ", "true", ""),
    "arrays": ("select ", "array[", "1", "]"),
    "conditions": ("select ", "a and (b or ", "c", ")"),
    "blocks": ("do $$ ", "begin ", "null; ", "end; "),
    "IF": ("do $$ begin ", "if a then ", "null; ", "end if; "),
    "LOOP": ("do $$ begin ", "loop ", "null; ", "end loop; "),
    "sums in a block": ("do $$ begin perform 1", " + 1", ";", ""),
}
"""What stands once, what is repeated before the middle, the middle, what is repeated after it."""


def deep(what: str, levels: int) -> str:
    """A statement nested so many levels deep."""
    first, opening, middle, closing = DEEP[what]
    sql = first + opening * levels + middle + closing * levels
    if first.startswith("do $$ begin"):
        sql += " end"
    return f"{sql} $$" if "$$" in first else sql


_READER = """
import json, sys, threading
from alembic_safe.postgres.effects import World, effects_of

def read():
    for name, sql in json.load(sys.stdin).items():
        print(name, end=" ", flush=True)
        found = effects_of(sql, World())
        print(len(found), any(effects.is_hazard for effects in found), flush=True)

threading.stack_size(int(sys.argv[1]) * 1024)
thread = threading.Thread(target=read)
thread.start()
thread.join()
"""


def read_elsewhere(texts: dict[str, str], stack_kilobytes: int = 8192) -> dict[str, bool]:
    """Return, for each text, whether it has a hazard, as another process sees it.

    A crash in the parser's C code, and what hangs, then fail one test only.
    """
    done = subprocess.run(
        [sys.executable, "-c", _READER, str(stack_kilobytes)],
        input=json.dumps({name.replace(" ", "_"): sql for name, sql in texts.items()}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"it ended with {done.stdout[-200:]} {done.stderr[-2000:]}"
    assert not done.stderr, done.stderr[-2000:]
    answers = [line.split() for line in done.stdout.splitlines()]
    assert all(int(count) >= 1 for _, count, _ in answers), answers
    return {name.replace("_", " "): hazard == "True" for name, _, hazard in answers}


class TestLargeTexts:
    def test_are_answered(self) -> None:
        assert read_elsewhere(LARGE).keys() == LARGE.keys()

    def test_a_hazard_after_a_large_statement_is_seen(self) -> None:
        large = {what: f"{LARGE[what]}; {HAZARD}" for what in ("a long list", "many statements")}
        assert all(read_elsewhere(large).values())

    def test_a_text_that_is_too_long_is_unknown(self) -> None:
        (effects,) = effects_of("select '" + "x" * 5 * 1024 * 1024 + "'", World())
        assert effects.unknown


class TestDeepTexts:
    @pytest.mark.parametrize("levels", [90, 450, 10_000])
    def test_are_answered_with_the_smallest_stack(self, levels: int) -> None:
        texts = {what: f"{deep(what, levels)}; {HAZARD}" for what in DEEP}
        assert all(read_elsewhere(texts, stack_kilobytes=512).values())

    def test_what_is_too_deep_is_unknown(self) -> None:
        (effects,) = effects_of(deep("sums", 10_000), World())
        assert effects.unknown

    def test_a_long_list_is_not_deep(self) -> None:
        conditions = " or ".join(f"a + {n} = b * 2" for n in range(1000))
        values = ", ".join(f"({n}, (1 + 2) * -3, case when true then 'x' end)" for n in range(1000))
        for sql in (f"select 1 where {conditions}", f"insert into t values {values}"):
            (effects,) = effects_of(sql, World())
            assert not effects.unknown

    def test_statements_beside_one_that_is_too_deep_are_read(self) -> None:
        first, second, third = effects_of(
            f"update t set a = 1; {deep('casts', 60)}; {HAZARD}", World()
        )
        assert (first.command, third.command) == ("UPDATE", "CREATE INDEX")
        assert second.unknown
        assert third.offset == len("update t set a = 1; ") + len(second.sql) + len("; ")


def test_a_fault_of_the_engine_is_no_exception_and_not_safe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(node: object, tally: object) -> None:
        raise KeyError("planted")

    monkeypatch.setitem(HANDLERS, "index_stmt", fails)
    world = World()
    index, other = analysis.effects_of("create index i on t (id); select 1", world)
    assert index.is_hazard
    assert index.unknown == (f"{analysis.FAULT} (KeyError: 'planted')",)
    assert not other.is_hazard
