"""The arrows of the house point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import alembic_safe

PACKAGE = Path(alembic_safe.__file__).parent

FOUNDATION = frozenset(
    {"errors", "settings", "phases", "hints", "python_source", "durations", "end_rules"}
)
"""What every room may use."""

ALLOWED = {
    "errors": frozenset(),
    "hints": frozenset(),
    "python_source": frozenset(),
    "durations": frozenset(),
    "end_rules": frozenset({"durations"}),
    "settings": frozenset({"errors", "durations", "end_rules"}),
    "phases": frozenset({"errors"}),
    "postgres": frozenset(),
    "alembic_private": frozenset(),
    "assurance": FOUNDATION,
    "connecting": FOUNDATION,
    "configuration": FOUNDATION | {"alembic_private"},
    "lines": FOUNDATION | {"postgres"},
    "operations": FOUNDATION | {"postgres"},
    "runtime": FOUNDATION
    | {"assurance", "postgres", "operations", "rules", "lines", "alembic_private"},
    "backfill": FOUNDATION | {"assurance", "postgres", "operations", "runtime"},
    "rules": FOUNDATION | {"postgres"},
    "lint": FOUNDATION
    | {
        "alembic_private",
        "assurance",
        "configuration",
        "lines",
        "operations",
        "postgres",
        "rules",
        "runtime",
    },
    "rewrite": FOUNDATION | {"postgres", "operations", "lines", "alembic_private"},
    "rehearsal": FOUNDATION | {"postgres", "runtime"},
    "testing": None,
    "environment": None,
    "plugin": None,
    "cli": None,
    "__init__": None,
}
"""For each room the rooms it may import; None: everything."""


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "alembic_safe" and rest:
                yield rest.partition(".")[0]


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_uses_only_the_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    allowed = ALLOWED[room]
    if allowed is not None:
        assert set(imported_rooms(path)) - {room} <= allowed


@pytest.mark.parametrize("path", sorted((PACKAGE / "postgres").glob("*.py")), ids=lambda p: p.name)
def test_postgres_knows_nothing_of_alembic(path: Path) -> None:
    modules = {
        node.module or ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }
    assert not any(module == "alembic" or module.startswith("alembic.") for module in modules)


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "rewrite" / "recipes").glob("*.py")), ids=lambda p: p.name
)
def test_a_recipe_talks_to_no_database(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert "connection" not in source.lower()
    assert ".execute(" not in source
