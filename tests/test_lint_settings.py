"""The settings of lint: read strictly, and obeyed by table and by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hand_written import write_history
from linted_project import LintedProject

from alembic_safe.errors import SettingError
from alembic_safe.postgres.effects import Effects, World
from alembic_safe.postgres.effects.world import Relation
from alembic_safe.postgres.identifiers import QualifiedName
from alembic_safe.rules.finding import Finding, Severity
from alembic_safe.rules.settings import Ignored, LintSettings, load_lint_settings
from alembic_safe.rules.weights import Weights
from alembic_safe.settings import Settings, load_settings

ERROR, WARNING, OFF = Severity.ERROR, Severity.WARNING, Severity.OFF


def load(folder: Path, text: str) -> LintSettings:
    file = folder / "pyproject.toml"
    file.write_text(f"[tool.alembic_safe.lint]\n{text}\n")
    return load_lint_settings(file)


def test_all_settings(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        start_after = "5e1f0c3a9d27"
        postgres = 15
        hot_tables = ["orders", "audit.log"]
        small_tables = ["plans"]
        small_table_bytes = "10MB"
        severity = {"varchar-limit" = "off", "index-not-concurrent" = "warning"}
        ignore = [
            {code = "index-not-concurrent", reason = "at night", revisions = ["1"], tables = ["t"]},
            {code = "varchar-limit", reason = "we like it"},
        ]
        """,
    )
    assert settings == LintSettings(
        start_after="5e1f0c3a9d27",
        postgres=15,
        hot_tables=("orders", "audit.log"),
        small_tables=("plans",),
        small_table_bytes=10 * 1024 * 1024,
        severity={"varchar-limit": OFF, "index-not-concurrent": WARNING},
        ignore=(
            Ignored("index-not-concurrent", "at night", ("1",), ("t",)),
            Ignored("varchar-limit", "we like it"),
        ),
    )


def test_without_a_table_all_is_as_it_comes(tmp_path: Path) -> None:
    assert load(tmp_path, "") == load_lint_settings(None) == LintSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('start_afer = "x"', "unknown; known are start_after"),
        ('start_after = ""', "not empty"),
        ("postgres = 12", "13 to 18"),
        ("postgres = 99", "13 to 18"),
        ("postgres = true", "13 to 18"),
        ('hot_tables = "orders"', "list of names"),
        ("small_tables = [1]", "list of names"),
        ('small_table_bytes = "10 miles"', "number of bytes"),
        ('severity = {x = "fatal"}', "error, warning, off"),
        ('severity = "off"', "give a table"),
        ('ignore = [{code = "x"}]', "needs a reason"),
        ('ignore = [{code = "x", reason = " "}]', "needs a reason"),
        ('ignore = [{reason = "x"}]', "needs a code"),
        ('ignore = [{code = "x", reason = "y", table = ["z"]}]', "table is unknown"),
        ('ignore = ["x"]', "list of tables"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        load(tmp_path, text)
    assert text.partition(" ")[0] in str(raised.value)


def test_lint_has_to_be_a_table(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.alembic_safe]\nlint = true\n")
    with pytest.raises(SettingError, match="has to be a table"):
        load_lint_settings(file)


def test_other_commands_do_not_mind_the_table(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[tool.alembic_safe]\nrelease = "r1"\n[tool.alembic_safe.lint]\npostgres = 15\n'
    )
    settings = load_settings(keywords={}, x_arguments={}, project_file=file, environment={})
    assert settings == Settings(release="r1")


# Weights.

ORDERS = QualifiedName("orders", "public")


def weight(
    code: str,
    given: Severity,
    *,
    works: bool = True,
    size: int | None = None,
    relation: QualifiedName | None = ORDERS,
    **settings: Any,
) -> Severity:
    world = World()
    world.put(Relation(ORDERS, size=size))
    effects = Effects("", 0, "", scans=(ORDERS,) if works else ())
    weights = Weights(LintSettings(**settings), knows_sizes=size is not None)
    found = weights.weigh(Finding(code, given, "", relation), effects, world)
    return found.severity if found is not None else OFF


SCAN = "set-not-null-scan"
BREAK = "column-dropped"


def test_severity_by_rule() -> None:
    assert weight(BREAK, ERROR, severity={BREAK: WARNING}) is WARNING
    assert weight(BREAK, WARNING, severity={BREAK: ERROR}) is ERROR
    assert weight(BREAK, ERROR, severity={BREAK: OFF}) is OFF
    assert weight(BREAK, ERROR, severity={SCAN: OFF}) is ERROR


@pytest.mark.parametrize("name", ["orders", "public.orders"])
def test_a_hot_table_has_no_warnings(name: str) -> None:
    assert weight(BREAK, WARNING, hot_tables=(name,)) is ERROR
    assert weight(BREAK, WARNING, hot_tables=(f"{name}_2",)) is WARNING
    assert weight(BREAK, WARNING, relation=None, hot_tables=(name,)) is WARNING
    assert weight(BREAK, WARNING, hot_tables=(name,), severity={BREAK: OFF}) is OFF


def test_work_on_a_small_table_counts_less() -> None:
    assert weight(SCAN, ERROR, small_tables=("orders",)) is WARNING
    assert weight(SCAN, WARNING, small_tables=("orders",)) is OFF
    assert weight(SCAN, ERROR, small_tables=("users",)) is ERROR


def test_what_breaks_a_release_breaks_it_on_a_small_table_too() -> None:
    assert weight(BREAK, ERROR, small_tables=("orders",)) is ERROR


def test_a_table_that_is_both_is_hot() -> None:
    assert weight(SCAN, ERROR, small_tables=("orders",), hot_tables=("orders",)) is ERROR


def test_a_database_tells_which_tables_are_small() -> None:
    assert weight(SCAN, ERROR, size=8192) is WARNING
    assert weight(SCAN, ERROR, size=2 * 1024 * 1024) is ERROR
    assert weight(SCAN, ERROR, size=2 * 1024 * 1024, small_table_bytes=3 * 1024 * 1024) is WARNING


USERS = QualifiedName("users", "public")
EVENTS, MAY, JUNE, LOGS = (
    QualifiedName(name, "public") for name in ("events", "may", "june", "logs")
)


def weight_of_work(*tables: QualifiedName, **settings: Any) -> Severity:
    """The severity of work on tables of which `orders` and the partitions of `events` are small
    enough, each by itself, and `users` is not."""
    world = World()
    world.put(Relation(ORDERS, size=600_000))
    world.put(Relation(USERS, size=2_000_000))
    # As the catalog has it: it holds no rows itself.
    world.put(Relation(EVENTS, kind="p", complete=True, size=0, children=(MAY, JUNE)))
    world.put(Relation(LOGS, kind="p", complete=False, size=0))
    for partition in (MAY, JUNE):
        world.put(Relation(partition, size=600_000, parents=(EVENTS,), is_partition=True))
    weights = Weights(LintSettings(**settings), knows_sizes=True)
    finding = Finding(SCAN, ERROR, "", ORDERS)
    found = weights.weigh(finding, Effects("", 0, "", scans=tables), world)
    return found.severity if found is not None else OFF


def test_what_is_worked_through_has_to_be_small_and_not_what_is_blocked() -> None:
    assert weight_of_work(ORDERS) is WARNING
    assert weight_of_work(USERS) is ERROR
    assert weight_of_work(USERS, small_tables=("orders",)) is ERROR
    assert weight_of_work(USERS, small_tables=("users",)) is WARNING


def test_what_is_worked_through_is_small_together() -> None:
    assert weight_of_work(ORDERS, MAY) is ERROR
    assert weight_of_work(ORDERS, MAY, small_tables=("may",)) is WARNING
    assert weight_of_work(QualifiedName("not_known", "public")) is ERROR


def test_what_stands_inside_a_statement_counts_together_with_what_is_around() -> None:
    world = World()
    for table, size in ((ORDERS, 600_000), (USERS, 600_000), (LOGS, 2_000_000)):
        world.put(Relation(table, size=size))

    def weight_of(*inside: QualifiedName, around: tuple[QualifiedName, ...] = ()) -> Severity:
        children = tuple(Effects("", 0, "", scans=(table,)) for table in inside)
        outer = Effects("", 0, "", scans=(*inside, *around), children=children)
        weights = Weights(LintSettings(), knows_sizes=True)
        found = weights.weigh(Finding(SCAN, ERROR, "", ORDERS), outer, world)
        return found.severity if found is not None else OFF

    assert weight_of(ORDERS) is WARNING
    assert weight_of(ORDERS, USERS) is ERROR
    assert weight_of(ORDERS, around=(LOGS,)) is ERROR
    assert weight_of(ORDERS, around=(ORDERS,)) is WARNING


def test_a_partitioned_table_is_as_large_as_its_partitions() -> None:
    assert weight_of_work(EVENTS) is ERROR
    assert weight_of_work(EVENTS, small_table_bytes=1_200_000) is WARNING
    assert weight_of_work(MAY, JUNE, small_tables=("events",)) is WARNING
    assert weight_of_work(LOGS) is ERROR


def weight_of_heir(parent: Relation, **settings: Any) -> Severity:
    """The severity of a warning about a table that inherits from another, while it is read."""
    world = World()
    world.put(parent)
    world.put(Relation(MAY, parents=(EVENTS,), is_partition=parent.is_partitioned))
    finding = Finding(SCAN, WARNING, "", MAY)
    found = Weights(LintSettings(**settings)).weigh(
        finding, Effects("", 0, "", scans=(MAY,)), world
    )
    return found.severity if found is not None else OFF


def test_a_partition_counts_as_the_partitioned_table_does() -> None:
    parent = Relation(EVENTS, kind="p")
    assert weight_of_heir(parent, hot_tables=("events",)) is ERROR
    assert weight_of_heir(parent, small_tables=("events",)) is OFF
    assert weight_of_heir(parent) is WARNING


def test_what_inherits_otherwise_is_a_table_of_its_own() -> None:
    parent = Relation(EVENTS, kind="r")
    assert weight_of_heir(parent, hot_tables=("events",)) is WARNING
    assert weight_of_heir(parent, small_tables=("events",)) is WARNING
    assert weight_of_heir(parent, hot_tables=("may",)) is ERROR


def test_the_version_of_the_settings_counts(tmp_path: Path) -> None:
    project = LintedProject(tmp_path)
    write_history(project, "r1")
    assert project.lint(LintSettings()).postgres == 13
    assert project.lint(LintSettings(postgres=16)).postgres == 16
    assert project.lint(LintSettings(postgres=16), postgres=18).postgres == 18
