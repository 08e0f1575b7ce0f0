"""Rules of the user: found, asked, and blamed by name where they fail."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from alembic_safe.errors import InvalidRule
from alembic_safe.postgres.effects import Effects, World, begin
from alembic_safe.rules import custom
from alembic_safe.rules.catalogue import RULES
from alembic_safe.rules.custom import load_rules
from alembic_safe.rules.finding import Finding, Need, Severity, Surroundings, only_for
from alembic_safe.rules.judge import Judge


def no_deletes(effects: Effects, surroundings: Surroundings) -> Iterable[Finding]:
    """A rule as the documentation shows one."""
    if effects.node_name == "delete_stmt":
        yield Finding("no-deletes", Severity.WARNING, "deletes rows")


def codes_of(rules: Iterable[object], sql: str) -> list[str]:
    judge = Judge(Surroundings(World(version=16)), rules=load_rules(rules))
    return [finding.code for each in judge.text(sql) for finding in each.findings]


def test_a_rule_is_asked_after_those_of_the_package() -> None:
    assert load_rules([no_deletes])[: len(RULES)] == RULES
    assert codes_of([no_deletes], "DELETE FROM t") == ["delete-all-rows", "no-deletes"]


def test_a_rule_sees_what_a_do_block_runs() -> None:
    sql = "DO $$ BEGIN DELETE FROM t WHERE id = 1; END $$"
    assert "no-deletes" in codes_of([no_deletes], sql)


def test_a_rule_can_be_named() -> None:
    assert "no-deletes" in codes_of(["test_custom_rules:no_deletes"], "DELETE FROM t")


@pytest.mark.parametrize(
    ("needs", "sql", "other"),
    [
        ("changes", "ALTER TABLE t DROP COLUMN a", "SELECT 1"),
        ("errors", "SELECT 1; VACUUM", "ALTER TABLE t DROP COLUMN a"),
        ("works", "CREATE INDEX i ON t (a)", "SELECT 1"),
    ],
)
def test_a_rule_can_be_asked_only_where_there_is_something(
    needs: Need, sql: str, other: str
) -> None:
    @only_for(needs=needs)
    def mine(_effects: Effects, _surroundings: Surroundings) -> Iterable[Finding]:
        return [Finding("mine", Severity.ERROR, "is mine")]

    world = World(version=16)
    begin(world)
    judge = Judge(Surroundings(world), rules=[mine])
    assert "mine" in [finding.code for each in judge.text(sql) for finding in each.findings]
    assert [finding for each in judge.text(other) for finding in each.findings] == []


def test_a_need_that_is_misspelt_does_not_turn_the_rule_off() -> None:
    with pytest.raises(ValueError, match=r"needs='change' is not known; give one of changes,"):
        only_for(needs="change")  # type: ignore[arg-type]  # a caller without mypy


def test_a_rule_may_return_a_list() -> None:
    finding = Finding("mine", Severity.ERROR, "is mine")
    assert codes_of([lambda _effects, _surroundings: [finding]], "SELECT 1") == ["mine"]


@pytest.mark.parametrize("rule", [None, 5, {"no": "rule"}], ids=str)
def test_what_cannot_be_called_is_refused_at_once(rule: object) -> None:
    with pytest.raises(InvalidRule, match="which cannot be called"):
        load_rules([rule])


@pytest.mark.parametrize("name", ["nowhere:rule", "test_custom_rules:nothing", "no colon"])
def test_a_name_that_leads_nowhere_is_refused_at_once(name: str) -> None:
    with pytest.raises(InvalidRule, match=f"The rule {name}: it cannot be imported"):
        load_rules([name])


def fails(effects: Effects, surroundings: Surroundings) -> Iterable[Finding]:
    raise KeyError("orders")


def fails_later(effects: Effects, surroundings: Surroundings) -> Iterable[Finding]:
    yield Finding("first", Severity.WARNING, "comes first")
    raise KeyError("orders")


@pytest.mark.parametrize("rule", [fails, fails_later])
def test_a_rule_that_fails_is_named_with_the_statement(rule: object) -> None:
    with pytest.raises(InvalidRule) as raised:
        codes_of([rule], "SELECT 1; DELETE FROM t")
    assert str(raised.value).startswith(
        f"The rule test_custom_rules.{rule.__name__}: it failed: KeyError: 'orders'."  # type: ignore[attr-defined]
        " The statement it judged: SELECT 1."
    )
    assert isinstance(raised.value.__cause__, KeyError)


def test_a_rule_that_returns_something_else_is_named() -> None:
    with pytest.raises(InvalidRule, match="it returned True, not findings"):
        codes_of([lambda _effects, _surroundings: True], "SELECT 1")
    with pytest.raises(InvalidRule, match="it gave 'bad', not a Finding"):
        codes_of([lambda _effects, _surroundings: ["bad"]], "SELECT 1")
    with pytest.raises(InvalidRule, match="it returned None, not findings"):
        codes_of([lambda _effects, _surroundings: None], "SELECT 1")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is searched for installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, entry_point: str) -> None:
    """Put a package with one entry point into a folder, as an installer leaves it."""
    (folder / "house_rules.py").write_text(
        "from alembic_safe.rules.finding import Finding, Severity\n"
        "def rule(effects, surroundings):\n"
        "    return [Finding('of-the-house', Severity.WARNING, 'is not done here')]\n"
    )
    about = folder / "house_rules-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: house-rules\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{custom.ENTRY_POINT_GROUP}]\n{entry_point}\n")
    importlib.invalidate_caches()


def test_rules_of_installed_packages_are_asked(installed: Path) -> None:
    install(installed, "house = house_rules:rule")
    assert codes_of([], "SELECT 1") == ["of-the-house"]


def test_an_installed_rule_that_is_not_there_is_named(installed: Path) -> None:
    install(installed, "house = house_rules:nothing")
    message = r"The rule house \(house_rules:nothing\): it cannot be imported: AttributeError"
    with pytest.raises(InvalidRule, match=message):
        load_rules()
