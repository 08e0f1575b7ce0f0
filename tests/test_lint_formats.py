"""A report says the same in every format, and each format is what its reader expects."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from alembic_safe.lint.formats import FORMATS
from alembic_safe.lint.report import Located, Report, fingerprints
from alembic_safe.phases import Phase
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Fix, Severity
from alembic_safe.rules.sources import Extent

SOURCE = """\
def upgrade():
    op.create_index(
        "ix", "orders", ["user_id"]
    )
    op.drop_column("orders", "note")  # 100 %, now: or never
"""

INDEX = Finding(
    "index-not-concurrent",
    Severity.ERROR,
    "blocks writes to orders, 100 %: while ix is built",
    QualifiedName("orders"),
    Fix('op.create_index_concurrently("ix", "orders", ["user_id"])', "CREATE INDEX CONCURRENTLY;"),
)
DROP = Finding(
    "column-dropped",
    Severity.WARNING,
    "breaks the running release",
    QualifiedName("orders"),
    Fix("op.drop_column_if_exists(...)", "", Phase.CONTRACT),
    advice="deploy the release that does not use it first",
)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.chdir(tmp_path)
    path = Path("versions/r 1.py")
    path.parent.mkdir()
    path.write_text(SOURCE)
    index = "CREATE INDEX ix ON orders (user_id)"
    drop = "ALTER TABLE orders DROP COLUMN note"
    found = (
        Located(INDEX, path, Extent(2, 4), 2, index, "r1"),
        Located(DROP, path, Extent(5, 5), 5, drop, "r1", is_upgrade=False),
        Located(INDEX, path, Extent(2, 4), 2, index, "r1", allowed="40 rows"),
        Located(DROP, Path("env.py"), Extent(0, 0), 0),
    )
    return Report(found, revisions=3, files=0, statements=7, postgres=13)


def test_text(report: Report) -> None:
    assert FORMATS["text"](report) == TEXT


TEXT = """\
versions/r 1.py:2: error [index-not-concurrent] blocks writes to orders, 100 %: while ix is built
  2 |     op.create_index(
  3 |         "ix", "orders", ["user_id"]
  4 |     )
  instead:
      op.create_index_concurrently("ix", "orders", ["user_id"])
  see docs/rules.md#index-not-concurrent

versions/r 1.py:5: warning [column-dropped] (downgrade) breaks the running release
  5 |     op.drop_column("orders", "note")  # 100 %, now: or never
  instead, in a contract revision:
      op.drop_column_if_exists(...)
  instead: deploy the release that does not use it first
  see docs/rules.md#column-dropped

env.py: warning [column-dropped] breaks the running release
  instead, in a contract revision:
      op.drop_column_if_exists(...)
  instead: deploy the release that does not use it first
  see docs/rules.md#column-dropped

versions/r 1.py:2: allowed [index-not-concurrent] 40 rows
1 error, 2 warnings, 1 allowed in 3 revisions, 7 statements (PostgreSQL 13)
"""


def test_text_of_nothing() -> None:
    report = Report((), revisions=1, files=2, statements=1, postgres=16)
    assert FORMATS["text"](report) == (
        "0 errors, 0 warnings in 1 revision, 2 SQL files, 1 statement (PostgreSQL 16)\n"
    )


def test_json(report: Report) -> None:
    document = json.loads(FORMATS["json"](report))
    first, _second, third = document["findings"]
    assert first == {
        "code": "index-not-concurrent",
        "severity": "error",
        "message": INDEX.message,
        "path": "versions/r 1.py",
        "line": 2,
        "last_line": 4,
        "revision": "r1",
        "direction": "upgrade",
        "table": "orders",
        "statement": "CREATE INDEX ix ON orders (user_id)",
        "fix": {
            "operations": 'op.create_index_concurrently("ix", "orders", ["user_id"])',
            "sql": "CREATE INDEX CONCURRENTLY;",
            "phase": None,
        },
        "advice": None,
        "docs": "docs/rules.md#index-not-concurrent",
        "allowed": None,
    }
    assert (third["line"], third["revision"], third["fix"]["phase"]) == (None, None, "contract")
    assert [finding["allowed"] for finding in document["allowed"]] == ["40 rows"]
    assert document["summary"] == {
        "errors": 1,
        "warnings": 2,
        "allowed": 1,
        "revisions": 3,
        "files": 0,
        "statements": 7,
        "postgres": 13,
    }


def test_github(report: Report) -> None:
    lines = FORMATS["github"](report).splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "::error",
        "::warning",
        "::warning",
        "::notice",
    ]
    first = re.fullmatch(r"::error (.*?)::(.*)", lines[0])
    assert first is not None
    assert first[1] == "file=versions/r 1.py,line=2,endLine=4,title=index-not-concurrent"
    # What a workflow command takes for its own is written as GitHub reads it.
    assert "100 %25: while" in first[2]
    assert "%0AInstead:%0Aop.create_index_concurrently(" in first[2]
    assert "file=env.py,line=1,endLine=1," in lines[2]


def test_github_escapes_names_of_files(report: Report) -> None:
    path = Path("a,b:c.py")
    odd = Report((Located(INDEX, path, Extent(1, 1), 1),), 1, 0, 1, 13)
    assert "file=a%2Cb%3Ac.py,line=1" in FORMATS["github"](odd)


def test_gitlab(report: Report) -> None:
    issues = json.loads(FORMATS["gitlab"](report))
    assert [(issue["check_name"], issue["severity"]) for issue in issues] == [
        ("index-not-concurrent", "critical"),
        ("column-dropped", "minor"),
        ("column-dropped", "minor"),
    ]
    assert issues[0]["location"] == {"path": "versions/r 1.py", "lines": {"begin": 2}}
    assert issues[2]["location"]["lines"] == {"begin": 1}
    assert len({issue["fingerprint"] for issue in issues}) == 3
    assert all(issue["description"] for issue in issues)


def test_fingerprints_do_not_change_when_lines_move(report: Report) -> None:
    moved = [
        Located(
            each.finding,
            each.path,
            Extent(each.extent.first + 7, each.extent.last + 7),
            each.line + 7,
            each.sql.replace(" ", "\n"),
            each.revision,
            each.is_upgrade,
        )
        for each in report.found
    ]
    assert fingerprints(moved) == fingerprints(report.found)
    assert len(set(fingerprints(report.found))) == len(report.found)


def test_sarif(report: Report) -> None:
    """Against the parts of the schema (SARIF 2.1.0, OASIS) that this log has."""
    log = json.loads(FORMATS["sarif"](report))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("/sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "alembic-safe"
    assert [rule["id"] for rule in driver["rules"]] == ["column-dropped", "index-not-concurrent"]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning")
        assert result["message"]["text"]
        assert region_of(result)["startLine"] >= 1
        assert region_of(result)["endLine"] >= region_of(result)["startLine"]
    first, _second, third, _fourth = run["results"]
    location = first["locations"][0]["physicalLocation"]
    assert location["artifactLocation"] == {
        "uri": "versions/r%201.py",
        "uriBaseId": "%SRCROOT%",
    }
    assert region_of(first) == {"startLine": 2, "endLine": 4}
    assert "suppressions" not in first
    assert third["suppressions"] == [{"kind": "inSource", "justification": "40 rows"}]


def region_of(result: dict[str, Any]) -> dict[str, int]:
    region = result["locations"][0]["physicalLocation"]["region"]
    assert isinstance(region, dict)
    return region


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_ends_its_last_line(report: Report, name: str) -> None:
    assert FORMATS[name](report).endswith("\n")
    assert FORMATS[name](Report((), 0, 0, 0, 13)).endswith("\n")
