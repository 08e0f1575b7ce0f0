"""The guard stops what `lint --database` calls an error, and nothing else, whatever the settings
and the comments in the file say."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from alembic import command
from conftest import Database
from hand_written import write_contract, write_history
from linted_project import ONLINE_ENV, LintedProject, codes

from alembic_safe.cli import contract
from alembic_safe.errors import SettingError, UnsafeStatement
from alembic_safe.lint.run import OWN_DATABASE, Request, lint_revisions
from alembic_safe.rehearsal.server import ScratchServer

REASON = "the shop is closed"

BEFORE = """
op.execute("CREATE TABLE users (id bigint PRIMARY KEY)")
op.execute("INSERT INTO users SELECT n FROM generate_series(1, 100) AS n")
op.execute("CREATE TABLE orders (id int PRIMARY KEY, user_id bigint, note text, old int)")
op.execute("INSERT INTO orders SELECT n, 1, repeat('x', 1900) FROM generate_series(1, 800) AS n")
op.execute("ALTER TABLE orders ADD CONSTRAINT positive CHECK (id > 0) NOT VALID")
op.execute("CREATE TABLE events (id int, note text) PARTITION BY RANGE (id)")
op.execute("CREATE TABLE may PARTITION OF events FOR VALUES FROM (0) TO (400)")
op.execute("CREATE TABLE june PARTITION OF events FOR VALUES FROM (400) TO (800)")
op.execute("INSERT INTO events SELECT n, repeat('x', 1900) FROM generate_series(0, 799) AS n")
op.execute("CREATE TABLE pages (id int, text text)")
op.execute("ALTER TABLE pages ALTER text SET STORAGE EXTERNAL")
op.execute("INSERT INTO pages SELECT n, repeat('x', 100000) FROM generate_series(1, 20) AS n")
"""
"""`orders` has more than a megabyte, and so have both partitions of `events` together, and `pages`,
whose long texts are stored aside."""


@pytest.fixture(scope="module")
def in_use(server: ScratchServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database to which r1 is applied, with rows."""
    database = Database(server, f"test_{uuid.uuid4().hex[:12]}")
    server.create_database(database.name)
    project = LintedProject(tmp_path_factory.mktemp("in_use"), database.url(), ONLINE_ENV)
    write_history(project, "r1", upgrade=BEFORE)
    command.upgrade(project.config(), "head")
    yield database
    server.drop_database(database.name)


@pytest.fixture
def shop(tmp_path: Path, in_use: Database) -> Iterator[LintedProject]:
    """A project whose revision r2 is not applied; if a test applies it, it is taken back."""
    in_use.execute("TRUNCATE alembic_safe_ledger")
    project = LintedProject(tmp_path, in_use.url(), ONLINE_ENV)
    write_history(project, "r1", upgrade=BEFORE)
    yield project
    command.downgrade(project.config(), "r1")


def set_up(project: LintedProject, settings: str) -> None:
    (project.folder / "pyproject.toml").write_text(f"[tool.alembic_safe.lint]\n{settings}\n")


def errors_of_lint(project: LintedProject) -> list[str]:
    """Codes of the errors that lint finds in what is not applied."""
    report = lint_revisions(project.config(), Request(database=OWN_DATABASE))
    assert report.revisions == 1
    return codes(report.errors)


def stopped_by_guard(project: LintedProject) -> list[str]:
    """Codes for which the guard stops an upgrade."""
    try:
        command.upgrade(project.config(), "head")
    except UnsafeStatement as error:
        return list(error.codes)
    return []


# Statements and ways.


@dataclass(frozen=True)
class Unsafe:
    """What a revision does.

    Args:
        code: of the rule that finds something.
        upgrade: the call.
        downgrade: the way back.
        is_error: whether it is one without any setting.
        works: whether it is work on all of a table under a lock.
        table: whether the finding is about a table.
    """

    code: str
    upgrade: str
    downgrade: str
    is_error: bool = True
    works: bool = False
    table: bool = True


UNSAFE = [
    Unsafe(
        "index-not-concurrent",
        'op.create_index("i", "orders", ["note"])',
        'op.drop_index("i")',
        works=True,
    ),
    # With a second finding, which is a warning.
    Unsafe(
        "set-not-null-scan",
        'op.alter_column("orders", "note", nullable=False)',
        'op.alter_column("orders", "note", nullable=True)',
        works=True,
    ),
    Unsafe(
        "drop-column",
        'op.drop_column("orders", "old")',
        'op.add_column("orders", sa.Column("old", sa.Integer))',
    ),
    Unsafe(
        "not-understood",
        "op.execute(\"DO $$ BEGIN EXECUTE 'SELECT ' || length(version()); END $$\")",
        "pass",
        table=False,
    ),
    # About the revision as a whole.
    Unsafe(
        "rename-table",
        'op.rename_table("orders", "purchases")',
        'op.rename_table("purchases", "orders")',
    ),
    # Left to lint, as long as nobody says otherwise.
    Unsafe(
        "json-column",
        'op.add_column("orders", sa.Column("x", sa.JSON))',
        'op.drop_column("orders", "x")',
        is_error=False,
    ),
    Unsafe(
        "foreign-key-without-index",
        'op.execute("ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID")',
        'op.drop_constraint("orders_user_id_fkey", "orders")',
        is_error=False,
    ),
]

Stops = Callable[[Unsafe], bool]


@dataclass(frozen=True)
class Way:
    """What a user writes, with CODE for the code of the finding.

    Args:
        stops: whether the statement is still an error.
        comment: above the statement.
        beside: behind it.
        elsewhere: above another statement of the function.
        of_file: above the functions.
        settings: of lint.
    """

    stops: Stops
    comment: str = ""
    beside: str = ""
    elsewhere: str = ""
    of_file: str = ""
    settings: str = ""


def never(_unsafe: Unsafe) -> bool:
    return False


def always(_unsafe: Unsafe) -> bool:
    return True


def as_it_is(unsafe: Unsafe) -> bool:
    return unsafe.is_error


def if_on_no_table(unsafe: Unsafe) -> bool:
    return unsafe.is_error and not unsafe.table


def if_not_work(unsafe: Unsafe) -> bool:
    return unsafe.is_error and not unsafe.works


def if_never_work(unsafe: Unsafe) -> bool:
    return not unsafe.works


def if_on_a_table(unsafe: Unsafe) -> bool:
    return unsafe.is_error or unsafe.table


ALLOW = f"# alembic-safe: allow CODE -- {REASON}"
ERROR, WARNING, OFF = (f'severity = {{CODE = "{name}"}}' for name in ("error", "warning", "off"))
SMALL, HOT = 'small_tables = ["orders"]', 'hot_tables = ["public.orders"]'


def ignore(where: str = "") -> str:
    return f'ignore = [{{code = "CODE", reason = "{REASON}"{where}}}]'


REASONS = {
    "nothing": Way(as_it_is),
    "a comment above": Way(never, comment=ALLOW),
    "a comment beside": Way(never, beside=ALLOW),
    "a comment about the file": Way(never, of_file=ALLOW),
    "a comment without a reason": Way(as_it_is, comment="# alembic-safe: allow CODE"),
    "a comment about another rule": Way(as_it_is, comment=ALLOW.replace("CODE", "drop-table")),
    "a comment at another statement": Way(as_it_is, elsewhere=ALLOW),
    "ignored": Way(never, settings=ignore()),
    "ignored on this table": Way(if_on_no_table, settings=ignore(', tables = ["orders"]')),
    "ignored on another table": Way(as_it_is, settings=ignore(', tables = ["users"]')),
    "ignored in this revision": Way(never, settings=ignore(', revisions = ["r2"]')),
    "ignored in another revision": Way(as_it_is, settings=ignore(', revisions = ["r1"]')),
}
"""Ways to let a statement through, and what does not. They know nothing of the statement, so that
three have to do."""

WITH_REASONS = ("index-not-concurrent", "not-understood", "rename-table")

WEIGHTS = {
    "off": Way(never, settings=OFF),
    "a warning": Way(never, settings=WARNING),
    "an error": Way(always, settings=ERROR),
    "a small table": Way(if_not_work, settings=SMALL),
    "a table small enough": Way(if_not_work, settings='small_table_bytes = "10MB"'),
    "an error on a small table": Way(if_never_work, settings=f"{ERROR}\n{SMALL}"),
    "a hot table": Way(if_on_a_table, settings=HOT),
    "a hot table that is small": Way(if_on_a_table, settings=f"{HOT}\n{SMALL}"),
    "a warning on a hot table": Way(lambda unsafe: unsafe.table, settings=f"{WARNING}\n{HOT}"),
}
"""Ways to make a finding count more or less."""

CASES = [
    pytest.param(unsafe, way, id=f"{unsafe.code}, {name}")
    for unsafe in UNSAFE
    for name, way in {**(REASONS if unsafe.code in WITH_REASONS else {}), **WEIGHTS}.items()
]


@pytest.mark.parametrize(("unsafe", "way"), CASES)
def test_the_guard_stops_what_lint_calls_an_error(
    shop: LintedProject, unsafe: Unsafe, way: Way
) -> None:
    write_second_revision(shop, unsafe, way)
    found = errors_of_lint(shop)
    assert bool(found) == way.stops(unsafe)
    stopped = stopped_by_guard(shop)
    assert bool(stopped) == bool(found)
    # It stops at the first.
    assert set(stopped) <= set(found)


def write_second_revision(project: LintedProject, unsafe: Unsafe, way: Way) -> None:
    def written(text: str) -> str:
        return text.replace("CODE", unsafe.code)

    set_up(project, written(way.settings))
    lines = (
        way.elsewhere,
        'op.execute("SELECT 1")',
        way.comment,
        f"{unsafe.upgrade}  {way.beside}",
    )
    write_history(
        project,
        "r2",
        "r1",
        upgrade=written("\n".join(line for line in lines if line)),
        downgrade=unsafe.downgrade,
        marks=written(way.of_file),
    )


@pytest.mark.parametrize(
    ("upgrade", "code"),
    [
        ('op.create_index("i", "events", ["id"])', "index-not-concurrent"),
        (
            'op.add_column("users", sa.Column("x", sa.Integer))\n'
            'op.execute("ALTER TABLE orders VALIDATE CONSTRAINT positive")',
            "work-while-locked",
        ),
        ('op.execute("ALTER TABLE events ADD CHECK (id >= 0)")', "add-constraint-validated"),
        ('op.alter_column("pages", "id", type_=sa.BigInteger)', "column-type-change"),
    ],
    ids=["partitions", "a small table waits for a large one", "checked partitions", "TOAST"],
)
def test_work_on_what_is_not_small_stops(shop: LintedProject, upgrade: str, code: str) -> None:
    set_up(shop, "")
    write_history(shop, "r2", "r1", upgrade=upgrade)
    assert code in errors_of_lint(shop)
    assert code in stopped_by_guard(shop)


def test_a_file_with_a_byte_order_mark_is_read_like_any_other(shop: LintedProject) -> None:
    allowed = f"{ALLOW.replace('CODE', INDEX.code)}\n{INDEX.upgrade}"
    file = write_history(shop, "r2", "r1", upgrade=allowed, downgrade=INDEX.downgrade)
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert (errors_of_lint(shop), stopped_by_guard(shop)) == ([], [])


def test_a_partition_of_a_hot_table_is_hot(shop: LintedProject) -> None:
    write_history(shop, "r2", "r1", upgrade='op.execute("LOCK TABLE may")')
    assert (errors_of_lint(shop), stopped_by_guard(shop)) == ([], [])
    command.downgrade(shop.config(), "r1")
    set_up(shop, 'hot_tables = ["events"]')
    assert errors_of_lint(shop) == ["lock-table"]
    assert stopped_by_guard(shop) == ["lock-table"]


# What is told, and what the ledger keeps.

INDEX = next(unsafe for unsafe in UNSAFE if unsafe.code == "index-not-concurrent")
NOT_NULL = next(unsafe for unsafe in UNSAFE if unsafe.code == "set-not-null-scan")
RENAME = next(unsafe for unsafe in UNSAFE if unsafe.code == "rename-table")
JSON = next(unsafe for unsafe in UNSAFE if unsafe.code == "json-column")


def assured(database: Database) -> list[tuple[object, ...]]:
    return database.execute(
        "SELECT revision, command, codes, reason FROM alembic_safe_ledger WHERE event = 'assured'"
    )


@pytest.mark.parametrize("way", ["a comment above", "a comment about the file", "ignored"])
@pytest.mark.parametrize(
    ("unsafe", "tag"), [(INDEX, "CREATE INDEX"), (RENAME, "ALTER TABLE")], ids=["one", "whole"]
)
def test_the_ledger_keeps_the_reason(
    shop: LintedProject, in_use: Database, unsafe: Unsafe, tag: str, way: str
) -> None:
    write_second_revision(shop, unsafe, REASONS[way])
    command.upgrade(shop.config(), "head")
    assert assured(in_use) == [("r2", tag, [unsafe.code], REASON)]


def test_each_finding_needs_a_reason_of_its_own(shop: LintedProject, in_use: Database) -> None:
    hot = Way(never, comment=ALLOW, settings=HOT)
    write_second_revision(shop, NOT_NULL, hot)
    assert errors_of_lint(shop) == stopped_by_guard(shop) == ["tightened-column"]
    both = Way(never, comment=ALLOW, beside=ALLOW.replace("CODE", "tightened-column"), settings=HOT)
    write_second_revision(shop, NOT_NULL, both)
    assert errors_of_lint(shop) == stopped_by_guard(shop) == []
    codes_of_both = ["set-not-null-scan", "tightened-column"]
    assert assured(in_use) == [("r2", "ALTER TABLE", codes_of_both, REASON)]


@pytest.mark.parametrize(
    ("unsafe", "way", "is_told"),
    [
        (INDEX, Way(never, settings=WARNING), True),
        (INDEX, Way(never, settings=OFF), False),
        (INDEX, Way(never, settings=SMALL), True),
        (INDEX, Way(never, settings=WARNING, comment=ALLOW), False),
        (INDEX, Way(never, settings=f"{WARNING}\n{ignore()}"), False),
        (INDEX, Way(never, settings=f"{WARNING}\n{SMALL}"), False),
        # What is left to lint is told if somebody asks for it.
        (JSON, Way(never), False),
        (JSON, Way(never, settings=WARNING), True),
    ],
)
def test_a_warning_is_told_unless_it_is_let_through(
    shop: LintedProject,
    in_use: Database,
    caplog: pytest.LogCaptureFixture,
    unsafe: Unsafe,
    way: Way,
    is_told: bool,
) -> None:
    write_second_revision(shop, unsafe, way)
    command.upgrade(shop.config(), "head")
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"[{unsafe.code}]" in message for message in told) == is_told
    assert assured(in_use) == []


# Where comments stand.


@pytest.mark.parametrize(
    "upgrade",
    [
        f'op.create_index(\n    "i",\n    {ALLOW}\n    "orders",\n    ["note"],\n)',
        f'with op.batch_alter_table("orders") as batch:  {ALLOW}\n'
        '    batch.create_index("i", ["note"])',
        f'def build():\n    {ALLOW}\n    op.create_index("i", "orders", ["note"])\n\nbuild()',
        f'for name in "i":\n    {ALLOW}\n    op.create_index(name, "orders", ["note"])',
        f'op.execute("""\n    SELECT 1;\n    CREATE INDEX i ON orders (note);\n""")  {ALLOW}',
        f"cursor = op.get_bind().connection.cursor()\n{ALLOW}\n"
        'cursor.execute("CREATE INDEX i ON orders (note)")',
    ],
    ids=["inside", "batch", "function", "loop", "text", "cursor"],
)
def test_a_comment_fits_the_statement_that_runs(shop: LintedProject, upgrade: str) -> None:
    write_second_revision(shop, replace(INDEX, upgrade=upgrade), Way(never))
    assert stopped_by_guard(shop) == []


def test_a_comment_in_a_contract_revision(shop: LintedProject, in_use: Database) -> None:
    body = 'op.execute("CREATE INDEX i ON orders (note)")'
    path = write_contract(shop, "c1", "r1", upgrade=body, downgrade=INDEX.downgrade)
    with pytest.raises(UnsafeStatement):
        contract(shop.config(), ["c1"])
    comment = ALLOW.replace("CODE", INDEX.code)
    path.write_text(path.read_text().replace(body, f"{body}  {comment}"))
    contract(shop.config(), ["c1"])
    assert assured(in_use) == [("c1", "CREATE INDEX", [INDEX.code], REASON)]
    in_use.execute("DROP INDEX i; DROP TABLE alembic_version_contract")


# Settings that cannot be read.


def test_a_mistake_in_the_settings_is_told_before_anything_runs(
    shop: LintedProject, in_use: Database
) -> None:
    write_history(shop, "r2", "r1", upgrade='op.create_table("t")')
    set_up(shop, 'hot_tables = "orders"')
    with pytest.raises(SettingError, match="hot_tables"):
        command.upgrade(shop.config(), "head")
    assert in_use.execute("SELECT to_regclass('t')") == [(None,)]
    set_up(shop, "")
