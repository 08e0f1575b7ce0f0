"""The fenced code blocks of a page of the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from project import REPOSITORY

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"

_FENCE = re.compile(r"^```(\w*)\s*$")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        where: page and line, for messages.
        heading: the nearest heading above it.
        language: what stands behind the fence.
        text: its lines.
    """

    where: str
    heading: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that its first line names, behind `#`."""
        match = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return match[1] if match else None

    @property
    def body(self) -> str:
        """Its text without the line that names a file."""
        return self.text.partition("\n")[2] if self.file is not None else self.text


@dataclass(frozen=True)
class Command:
    """A command of a `console` block, and the lines of its output that the page shows."""

    text: str
    output: tuple[str, ...]


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [
        README,
        REPOSITORY / "CHANGELOG.md",
        *sorted(DOCS.glob("*.md")),
    ]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, in order; a fence without a language is a fault."""
    found: list[Block] = []
    heading, language, started = "", None, 0
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = _FENCE.match(line)
        if language is None and fence:
            assert fence[1], f"{page.name}:{number}: a block without a language"
            language, started, lines = fence[1], number, []
        elif language is not None and line == "```":
            text = "".join(f"{kept}\n" for kept in lines)
            found.append(Block(f"{page.name}:{started}", heading, language, text))
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            heading = line.lstrip("# ")
    assert language is None, f"{page.name}:{started}: a block without an end"
    return found


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a `console` block; an indented line of output goes on the one before
    it."""
    commands: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
            continue
        assert commands, f"{block.where}: output without a command"
        output = commands[-1][1]
        if line.startswith("  ") and output:
            output[-1] = f"{output[-1]} {line.strip()}"
        elif line.strip():
            output.append(line)
    return [Command(text, tuple(output)) for text, output in commands]


def headings_of(page: Path) -> list[str]:
    """Return the headings of a page, without those inside of blocks."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)


def anchor_of(heading: str) -> str:
    """Return the fragment by which a link points to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links_of(page: Path) -> Iterator[str]:
    """Return the targets of a page's links."""
    yield from _LINK.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M))


def rows_of(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading; backquotes around a cell are left
    out."""
    section = page.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    tables = re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE)
    lines = tables[0].splitlines()[2:]
    return [
        [cell.strip().removeprefix("`").removesuffix("`") for cell in line.strip("|").split("|")]
        for line in lines
    ]
