"""The list of cases, read from `cases/*.sql`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic_safe.postgres.effects.parsing import parse

FOLDER = Path(__file__).parent

FIXTURE = (FOLDER / "fixture.sql").read_text()
"""The database in which every case begins."""

_HEAD = re.compile(r"-- \[(\w+)\] ?(.*)\n")


@dataclass(frozen=True)
class Case:
    """Statements that are measured together.

    Args:
        id: a name for messages.
        family: the title of its file.
        sql: what is measured, one statement or several.
        before: statements that were committed before.
        note: what is particular about it.
        alone: each statement runs in autocommit; otherwise one transaction block is around them
            all, as Alembic makes it.
    """

    id: str
    family: str
    sql: str
    before: str = ""
    note: str = ""
    alone: bool = False

    @property
    def statements(self) -> list[str]:
        """The measured statements, one by one."""
        return [parsed.sql for parsed in parse(self.sql)]


@cache
def cases() -> tuple[Case, ...]:
    """Return every case, in the order of the files."""
    found = [case for path in sorted((FOLDER / "cases").glob("*.sql")) for case in _read(path)]
    names = [case.id for case in found]
    assert len(names) == len(set(names)), {name for name in names if names.count(name) > 1}
    return tuple(found)


def _read(path: Path) -> Iterator[Case]:
    title, *parts = _HEAD.split(path.read_text())
    family = title.split("\n")[0].removeprefix("-- ")
    for name, note, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        before, _, then = text.rpartition("-- then:\n")
        alone, _, plain = then.rpartition("-- alone:\n")
        yield Case(
            name,
            family,
            (plain or alone).strip(),
            before.removeprefix("-- before:\n").strip(),
            note,
            alone="-- alone:\n" in then,
        )
