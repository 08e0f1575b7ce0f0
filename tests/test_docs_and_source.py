"""What the documentation says without running it is what the source says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown_blocks import (
    DOCS,
    README,
    anchor_of,
    blocks_of,
    commands_of,
    headings_of,
    links_of,
    pages,
    rows_of,
)
from project import REPOSITORY

import alembic_safe.rehearsal.server  # noqa: F401 - its error is one of those explained
from alembic_safe.errors import SafetyError
from alembic_safe.lines import Revision
from alembic_safe.runtime.gate import Applied, Evidence, plan_upgrade
from alembic_safe.settings import Settings, load_settings


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_that_are_not_run_are_targets_of_the_makefile(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for block in blocks_of(page):
        commands = commands_of(block) if block.language == "console" else []
        for make in filter(None, (re.search(r"\bmake (\S+)", each.text) for each in commands)):
            assert make[1] in targets, f"{block.where}: {make[0]}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        if "://" in link:
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if fragment:
            anchors = [anchor_of(heading) for heading in headings_of(target)]
            assert fragment in anchors, f"{page.name}: {link}; there are {anchors}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_messages_are_those_of_the_package(page: Path) -> None:
    for block in blocks_of(page):
        if block.language != "text" or block.heading == PICTURE:
            continue
        message = " ".join(block.text.split())
        assert any(re.fullmatch(pattern, message) for pattern in messages()), (
            f"{block.where}: the package has no such message: {message}"
        )


PICTURE = "Two lines of revisions"
_FEWEST_LETTERS = 15
"""A shorter text of the source is a part of a message, and would fit anything."""


@cache
def messages() -> list[str]:
    """Return a pattern for each text of the package's source that is long enough."""
    patterns = []
    for file in (REPOSITORY / "alembic_safe").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [
                part.value if isinstance(part, ast.Constant) else None
                for part in parts
                if isinstance(part, ast.expr)
            ]
            known = "".join(text for text in texts if isinstance(text, str))
            if len(known) >= _FEWEST_LETTERS:
                patterns.append("".join(_pattern(text) for text in texts))
    return patterns


def _pattern(text: object) -> str:
    """Return what a literal of the source matches; a logger's `%s` matches anything, as does what
    the source computes."""
    if not isinstance(text, str):
        return ".*?"
    spaced = re.sub(r"\s+", " ", text)
    return ".*?".join(re.escape(part) for part in re.split(r"%[sd]|%\.\df", spaced))


def test_every_error_is_explained() -> None:
    page = (DOCS / "errors.md").read_text()
    explained = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(explained) == sorted(kind.__name__ for kind in subclasses(SafetyError))


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


SETTINGS = DOCS / "settings.md"


def test_every_setting_is_explained_with_its_default() -> None:
    rows = {row[0]: row for row in rows_of(SETTINGS, "All settings")}
    assert list(rows) == [field.name for field in fields(Settings)]
    for field in fields(Settings):
        shown = rows[field.name][2].strip("`")
        assert (None if shown == "none" else ast.literal_eval(shown)) == field.default, field.name


def test_settings_are_shown_alike_in_all_four_places(tmp_path: Path) -> None:
    shown = rows_of(SETTINGS, "The same in four places")
    assert [row[0] for row in shown] == [field.name for field in fields(Settings)]
    for name, toml, keyword, variable, argument in shown:
        project = tmp_path / "pyproject.toml"
        project.write_text(f"[tool.alembic_safe]\n{toml}\n")
        call = ast.parse(f"configure({keyword})", mode="eval").body
        assert isinstance(call, ast.Call)
        keywords = {str(given.arg): ast.literal_eval(given.value) for given in call.keywords}
        environment = dict([variable.split("=", 1)])
        x_arguments = dict([argument.removeprefix("-x ").split("=", 1)])
        loaded = [
            load_settings(keywords={}, x_arguments={}, project_file=project, environment={}),
            load_settings(keywords=keywords, x_arguments={}, environment={}),
            load_settings(keywords={}, x_arguments={}, environment=environment),
            load_settings(keywords={}, x_arguments=x_arguments, environment={}),
        ]
        assert loaded == [loaded[0]] * 4, name
        assert getattr(loaded[0], name) != getattr(Settings(), name), name


# The picture of the README.


def test_the_picture_shows_what_the_gate_decides() -> None:
    (picture,) = (block.text for block in blocks_of(README) if block.heading == PICTURE)
    lines = {line[:16].strip(): line[16:] for line in picture.splitlines()}
    starts = [match.start() for match in re.finditer(r"r\d", lines["release"])]
    ends = [*starts[1:], None]

    def cells(name: str) -> list[list[str]]:
        shown = (lines[name][start:end] for start, end in zip(starts, ends, strict=True))
        return [re.findall(r"[emc]\d", cell) for cell in shown]

    contracts = [Revision(f"c{n}", completes=f"m{n}") for n in (1, 2)]
    new = {"r1": ["e1", "m1"], "r2": ["e2", "m2"], "r3": []}
    evidence = Evidence((), (), {}, {}, untouched=False, now=NOON)
    for number, (release, history) in enumerate(new.items()):
        steps = [Revision(name) for name in history]
        plan = plan_upgrade(steps, contracts, evidence, Settings(release=release))
        applied = [step.revision for step in plan.steps]
        assert applied == cells("upgrade applies")[number], release
        assert [held.revision for held, _why in plan.held] == cells("upgrade holds")[number]
        evidence = replace(
            evidence,
            history=(*evidence.history, *history),
            contracts=(*evidence.contracts, *(name for name in applied if name[0] == "c")),
            applied={**evidence.applied, **{name: Applied(release, NOON) for name in history}},
        )


NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
