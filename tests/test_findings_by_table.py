"""What the settings say by table counts for all tables that a finding is about, and not for the one
alone that it names first."""

from __future__ import annotations

import pytest
from worlds import known

from alembic_safe.postgres.effects import begin
from alembic_safe.rules.finding import Finding, Severity, Surroundings
from alembic_safe.rules.judge import Judge
from alembic_safe.rules.settings import Ignored, LintSettings
from alembic_safe.rules.weights import Weights

SHOP = """
CREATE TABLE tiny (id int PRIMARY KEY, a int);
CREATE TABLE big (id int PRIMARY KEY, a int);
CREATE INDEX ix_tiny ON tiny (a);
CREATE INDEX ix_big ON big (a);
CREATE TABLE events (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE may PARTITION OF events FOR VALUES FROM (0) TO (400);
CREATE TABLE june PARTITION OF events FOR VALUES FROM (400) TO (800);
CREATE TABLE base (id int);
CREATE TABLE heir () INHERITS (base);
CREATE SEQUENCE numbers OWNED BY tiny.id;
CREATE MATERIALIZED VIEW sums AS SELECT sum(a) FROM big;
CREATE TYPE mood AS ENUM ('sad');
ALTER TABLE tiny ADD mood mood;
ALTER TABLE big ADD mood mood;
CREATE DOMAIN weight AS int;
ALTER TABLE tiny ADD weight weight;
ALTER TABLE big ADD weight weight;
"""

ABOUT = [
    ("TRUNCATE tiny, big", "truncate", {"tiny", "big"}),
    ("TRUNCATE tiny RESTART IDENTITY", "truncate", {"tiny"}),
    ("TRUNCATE events", "truncate", {"events"}),
    ("TRUNCATE may", "truncate", {"may"}),
    ("TRUNCATE base", "truncate", {"base", "heir"}),
    ("LOCK TABLE tiny, big", "lock-table", {"tiny", "big"}),
    ("LOCK TABLE tiny; LOCK TABLE big", "several-tables-locked", {"tiny", "big"}),
    ("DROP INDEX ix_tiny, ix_big", "drop-index-not-concurrent", {"tiny", "big"}),
    ("DROP TABLE tiny, big CASCADE", "drop-cascade", {"tiny", "big", "sums"}),
    ("DROP TYPE mood CASCADE", "drop-column", {"tiny", "big"}),
    ("ALTER DOMAIN weight ADD CHECK (VALUE > 0)", "domain-constraint", {"tiny", "big"}),
    ("REINDEX SCHEMA public", "reindex-not-concurrent", {"tiny", "big"}),
    (
        "ALTER TABLE tiny ADD FOREIGN KEY (a) REFERENCES big",
        "add-constraint-validated",
        {"tiny", "big"},
    ),
    (
        "LOCK TABLE tiny; CREATE TABLE copied AS SELECT * FROM big",
        "work-while-locked",
        {"tiny", "big"},
    ),
    (
        "LOCK TABLE tiny; ALTER TABLE big ADD CONSTRAINT c CHECK (a > 0) NOT VALID;"
        " ALTER TABLE big VALIDATE CONSTRAINT c",
        "work-while-locked",
        {"tiny", "big"},
    ),
    ("LOCK TABLE tiny; CREATE INDEX i ON big (id)", "index-not-concurrent", {"tiny", "big"}),
    ("CREATE INDEX i ON events (a)", "index-not-concurrent", {"events"}),
    ("LOCK TABLE tiny; UPDATE big SET a = 1", "backfill-beside-ddl", {"tiny", "big"}),
    ("REVOKE SELECT ON tiny, big FROM PUBLIC", "hidden-object", {"tiny", "big"}),
]


def found(sql: str, code: str, settings: LintSettings) -> Finding:
    """Return the one finding of a code in a text, as it counts."""
    world = known(SHOP)
    if not sql.startswith("REINDEX SCHEMA"):
        begin(world)
    judged = Judge(Surroundings(world)).text(sql)
    weights = Weights(settings)
    weighed = [
        weights.weigh(finding, each.effects, world) for each in judged for finding in each.findings
    ]
    (finding,) = (each for each in weighed if each is not None and each.code == code)
    return finding


@pytest.mark.parametrize(("sql", "code", "tables"), ABOUT)
def test_a_finding_has_all_its_tables(sql: str, code: str, tables: set[str]) -> None:
    assert {each.name for each in found(sql, code, LintSettings()).relations} == tables


@pytest.mark.parametrize(("sql", "code", "tables"), ABOUT)
def test_it_is_ignored_where_all_are_named(sql: str, code: str, tables: set[str]) -> None:
    finding = found(sql, code, LintSettings())
    assert Ignored(code, "why", tables=(*tables, "others")).covers(finding, ())
    for left_out in tables:
        assert not Ignored(code, "why", tables=(*(tables - {left_out}), "x")).covers(finding, ())


@pytest.mark.parametrize(("sql", "code", "tables"), ABOUT)
def test_it_is_an_error_where_one_is_hot(sql: str, code: str, tables: set[str]) -> None:
    for table in tables:
        finding = found(sql, code, LintSettings(hot_tables=(table,)))
        assert finding.severity is Severity.ERROR
