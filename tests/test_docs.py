"""The documentation does what it says: every command and every block of it runs.

A page is played from top to bottom as its reader would, in a project with a database of its own.
What a block does is told by its language:

- `console`: each line behind `$` is run. It has to succeed, or to fail if its output has a line
  `FAILED:`, and to print the lines that are shown.
- `python`: run; put into a file if its first line names one; compared, where that is a revision
  file, with the one that was generated.
- `diff`: applied to the file it names. `toml`, `ini`: loaded as settings, put into `alembic.ini`.
  `sql`: executed.
- `text`: left to `test_docs_and_source`. `yaml`: the configuration of other programs.
"""

from __future__ import annotations

import ast
import itertools
import re
import runpy
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import alembic
import pytest
from conftest import Database
from documented_shop import DocumentedShop
from markdown_blocks import DOCS, README, Block, blocks_of, commands_of, pages, rows_of

from alembic_safe.rehearsal.server import ScratchServer, installed_binaries

GETTING_STARTED = DOCS / "getting-started.md"

FIRST_REVISION = "5e1f0c3a9d27"
"""What every page calls the revision in which the shop is created."""

BEGINNING = ("The models", "The environment", "The two lines", "The first revision")
"""Sections of the first page on which all pages build."""

NOT_RUN = {
    r"make ([\w-]+)": "runs these tests, or the demo, which has a test of its own",
    r"pip install .*": "changes the environment in which the tests run",
    r"alembic-safe lint --since .*": "needs a git repository; test_lint_ranges has one",
    r"POSTGRES_BINARIES=\S+ make .*": "names folders of the reader's machine",
}
"""Commands that are shown and not run, and why."""

LEFT_OUT = ("text", "yaml")
"""Messages, which have a test of their own, and the configuration of other programs."""

ROWS = """
    INSERT INTO users (full_name) SELECT 'user ' || n FROM generate_series(1, 10000) AS n;
    INSERT INTO orders (user_id, note)
        SELECT n % 10000 + 1, CASE WHEN n % 4 > 0 THEN 'by post' END
          FROM generate_series(1, 40000) AS n;
"""


@pytest.fixture(scope="module")
def newest_server(
    pytestconfig: pytest.Config, start_server: Callable[[int], ScratchServer]
) -> ScratchServer:
    """The newest of the servers to test with: the pages do not depend on the version."""
    wanted = {int(version) for version in str(pytestconfig.getoption("--pg")).split(",")}
    found = set(installed_binaries())
    return start_server(max(wanted & found or found))


@pytest.fixture(scope="module")
def beginning(
    newest_server: ScratchServer, tmp_path_factory: pytest.TempPathFactory
) -> DocumentedShop:
    """The shop as the first page makes it, with rows in its tables."""
    newest_server.create_database("documented_shop")
    database = Database(newest_server, "documented_shop")
    shop = DocumentedShop(tmp_path_factory.mktemp("docs") / "shop", database)
    shop.folder.mkdir()
    for block in blocks_of(GETTING_STARTED):
        if block.heading in BEGINNING:
            shop.play(block)
    (first,) = shop.revision_files()
    assert shop.identifiers[FIRST_REVISION] == first.name[:12]
    database.execute(ROWS)
    return shop


@pytest.fixture
def shop(beginning: DocumentedShop, tmp_path: Path) -> Iterator[DocumentedShop]:
    """The shop at its beginning, to go on with."""
    server = beginning.database.server
    name = f"docs_{tmp_path.name}"[:63]
    server.execute(f'CREATE DATABASE "{name}" TEMPLATE documented_shop')
    yield beginning.copy(tmp_path / "shop", Database(server, name))
    server.drop_database(name)


def play(shop: DocumentedShop, page: Path, *, without: tuple[str, ...] = ()) -> None:
    """Play a page but for some of its sections."""
    for block in blocks_of(page):
        if block.heading not in without and not is_left_out(block):
            shop.play(block)


def is_left_out(block: Block) -> bool:
    if block.language in LEFT_OUT:
        return True
    commands = commands_of(block) if block.language == "console" else []
    left_out = [command for command in commands if why_not_run(command.text)]
    assert len(left_out) in (0, len(commands)), f"{block.where}: run them in a block of their own"
    return bool(left_out)


def why_not_run(command: str) -> str | None:
    return next((why for pattern, why in NOT_RUN.items() if re.fullmatch(pattern, command)), None)


# The pages, from top to bottom.


def test_readme(shop: DocumentedShop) -> None:
    play(shop, README, without=("Use it", "In CI"))


def test_readme_in_ci(shop: DocumentedShop, newest_server: ScratchServer, tmp_path: Path) -> None:
    play(shop, README, without=(*SECTIONS_AFTER_THE_CHANGE, "Use it"))
    newest_server.create_database("docs_in_ci")
    empty = shop.copy(tmp_path / "ci", Database(newest_server, "docs_in_ci"))
    for block in blocks_of(README):
        if block.heading == "In CI":
            empty.play(block)


SECTIONS_AFTER_THE_CHANGE = (
    "Deploy",
    "Go back",
    "Development",
    "Revisions by hand",
    "In CI",
)


def test_the_two_lines_of_the_readme_are_those_of_the_first_page(
    beginning: DocumentedShop, tmp_path: Path
) -> None:
    env = tmp_path / "migrations" / "env.py"
    env.parent.mkdir()
    template = Path(alembic.__file__).parent / "templates" / "generic" / "env.py"
    env.write_text(template.read_text())
    reader = DocumentedShop(tmp_path, beginning.database)
    for block in blocks_of(README):
        if block.language == "diff":
            reader.play(block)
    assert online(env) == online(beginning.folder / "migrations" / "env.py")


def online(env: Path) -> str:
    tree = ast.parse(env.read_text())
    (function,) = (
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "run_migrations_online"
    )
    return ast.unparse(function)


def test_getting_started(shop: DocumentedShop) -> None:
    play(shop, GETTING_STARTED, without=(*BEGINNING, "Async environments"))


def test_getting_started_in_an_async_environment(
    newest_server: ScratchServer, tmp_path: Path
) -> None:
    newest_server.create_database("docs_async")
    shop = DocumentedShop(tmp_path, Database(newest_server, "docs_async"))
    sections = {
        heading: [block for block in blocks_of(GETTING_STARTED) if block.heading == heading]
        for heading in (*BEGINNING, "Async environments")
    }
    make, name_the_database, two_lines = sections["Async environments"]
    name_the_models = sections["The environment"][-1]
    for block in [
        *sections["The models"],
        make,
        name_the_database,
        name_the_models,
        two_lines,
        *sections["The first revision"],
    ]:
        shop.play(block)


def test_two_lines_and_the_gate(shop: DocumentedShop) -> None:
    page = DOCS / "two-lines-and-the-gate.md"
    play(shop, page)
    assert columns(shop, "alembic_safe_ledger") == documented_columns(page, "The ledger")


def test_changes(shop: DocumentedShop) -> None:
    page = DOCS / "changes.md"
    excerpts = [block for block in blocks_of(page) if re.match(PART, block.text)]
    for block in blocks_of(page):
        if block not in excerpts and not is_left_out(block):
            shop.play(block)
    written = bodies(shop.revision_files())
    for body in itertools.chain.from_iterable(written.values()):
        calls = re.findall(r"^op\..*\)$", body, re.MULTILINE)
        assert len(calls) == len(set(calls)), f"one operation twice:\n{body}"
    for block in excerpts:
        # re.split returns what the groups of the pattern found between the parts.
        _, *parts = re.split(PART, block.text)
        for phase, way_back, lines in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            found = written[phase, bool(way_back)]
            assert any(lines in body for body in found), (
                f"{block.where}: not in {phase}{way_back or ''}:\n{lines}\n" + "\n".join(found)
            )


PART = re.compile(r"^# (expand|migrate|contract)(, way back)?\n", re.MULTILINE)
"""Above the lines that a revision of this phase has, in `upgrade()` or on the way back."""


def bodies(files: list[Path]) -> dict[tuple[str, bool], list[str]]:
    """Return the bodies of the revisions' functions, by phase and whether it is the way back."""
    found: dict[tuple[str, bool], list[str]] = {}
    for file in files:
        source = file.read_text()
        phase = re.search(r'^phase = "(\w+)"$', source, re.MULTILINE)
        assert phase is not None, file
        _, upgrade, downgrade = re.split(
            r"^def (?:up|down)grade\(\) -> None:\n", source, flags=re.M
        )
        found.setdefault((phase[1], False), []).append(textwrap.dedent(upgrade))
        found.setdefault((phase[1], True), []).append(textwrap.dedent(downgrade))
    return found


def test_operations(shop: DocumentedShop) -> None:
    page = DOCS / "operations.md"
    play(shop, page)
    written = runpy.run_path(str(DOCS / "generate_operations.py"))["page"]()
    assert page.read_text() == written, "run: python docs/generate_operations.py"


def test_indexes(shop: DocumentedShop) -> None:
    play(shop, DOCS / "indexes.md")


def test_settings(shop: DocumentedShop) -> None:
    play(shop, DOCS / "settings.md")


def test_locks_and_retry(shop: DocumentedShop) -> None:
    play(shop, DOCS / "locks-and-retry.md")


def test_blockers(shop: DocumentedShop) -> None:
    play(shop, DOCS / "blockers.md")


def test_lint(shop: DocumentedShop) -> None:
    play(shop, DOCS / "lint.md")


def test_testing(shop: DocumentedShop) -> None:
    play(shop, DOCS / "testing.md")


def test_guard(shop: DocumentedShop) -> None:
    play(shop, DOCS / "guard.md")


def test_backfill(shop: DocumentedShop) -> None:
    page = DOCS / "backfill.md"
    play(shop, page)
    assert columns(shop, "alembic_safe_backfill") == documented_columns(page, "If it is stopped")


def test_errors(shop: DocumentedShop) -> None:
    play(shop, DOCS / "errors.md")


def test_custom_rules(shop: DocumentedShop) -> None:
    play(shop, DOCS / "custom-rules.md")


JUDGED = frozenset({"rules.md", "compare.md"})
"""Pages of statements that are judged and executed in `test_rules`, `test_rule_fixes` and
`test_compare`."""


def test_how_it_is_tested(shop: DocumentedShop) -> None:
    play(shop, DOCS / "how-it-is-tested.md")


def documented_columns(page: Path, heading: str) -> list[str]:
    return [row[0] for row in rows_of(page, heading)]


def columns(shop: DocumentedShop, name: str) -> list[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    return [str(row[0]) for row in shop.database.execute(f"{query} ORDER BY attnum", (name,))]


def test_every_page_is_played() -> None:
    source = Path(__file__).read_text()
    for page in pages():
        if blocks_of(page):
            named = page == README or f'"{page.name}"' in source
            assert named, f"no test plays {page.name}"
