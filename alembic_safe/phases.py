"""Phase, and how a revision file carries it.

A revision file says what it is in module-level values, written through the `imports` of Alembic's
`MigrationScript`, so that no `script.py.mako` has to change:

    phase = "contract"
    transactional = False
    completes = "3f2a9c0d11e7"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from types import ModuleType

from alembic_safe.errors import InvalidRevision


class Phase(Enum):
    """The three parts of a change."""

    EXPAND = "expand"
    """Additions; the old release keeps working."""
    MIGRATE = "migrate"
    """Copy and check data, build indexes; no lock that is held while rows are read or written."""
    CONTRACT = "contract"
    """Remove or tighten; only after the old release is gone."""


@dataclass(frozen=True)
class Marks:
    """What a revision file says about itself.

    Args:
        phase: None for a revision that was not written by this package.
        transactional: False if each operation commits by itself.
        completes: for a contract revision, the revision of the history that it completes.
        needs_contract: contract revisions that must be applied before this one.
        touches: for a contract revision, the tables, columns, indexes and constraints it
            removes, renames or tightens, and columns that it makes unique.
    """

    phase: Phase | None = None
    transactional: bool = True
    completes: str | None = None
    needs_contract: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()

    def source(self) -> str:
        """Return the Python lines that `read_marks` reads back."""
        lines = []
        if self.phase is not None:
            lines.append(f'phase = "{self.phase.value}"')
        if not self.transactional:
            lines.append("transactional = False")
        if self.completes is not None:
            lines.append(f'completes = "{self.completes}"')
        if self.needs_contract:
            lines.append(f"needs_contract = {_tuple_source(self.needs_contract)}")
        if self.touches:
            lines.append(f"touches = {_tuple_source(self.touches)}")
        return "\n".join(lines)


def _tuple_source(values: Sequence[str]) -> str:
    quoted = [json.dumps(value, ensure_ascii=False) for value in values]
    one_line = "(" + ", ".join(quoted) + ("," if len(quoted) == 1 else "") + ")"
    if len(one_line) <= 70:
        return one_line
    return "(\n" + "".join(f"    {value},\n" for value in quoted) + ")"


def read_marks(module: ModuleType, path: str) -> Marks:
    """Return what the loaded revision module says about itself.

    Args:
        module: the revision's module, as Alembic loaded it; nothing in it is called.
        path: the file, for messages.

    Raises:
        InvalidRevision: a value is not one that this package writes.
    """
    return Marks(
        phase=_phase(getattr(module, "phase", None), path),
        transactional=_transactional(getattr(module, "transactional", True), path),
        completes=_revision(getattr(module, "completes", None), path),
        needs_contract=_names(module, "needs_contract", path),
        touches=_names(module, "touches", path),
    )


def _phase(value: object, path: str) -> Phase | None:
    if value is None:
        return None
    try:
        return Phase(value)
    except ValueError:
        allowed = ", ".join(repr(phase.value) for phase in Phase)
        raise InvalidRevision(path, f"phase is {value!r}; it can be {allowed}") from None


def _transactional(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRevision(path, f"transactional is {value!r}; it can be True or False")
    return value


def _revision(value: object, path: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidRevision(path, f"completes is {value!r}; it has to be a revision")
    return value


def _names(module: ModuleType, name: str, path: str) -> tuple[str, ...]:
    value = getattr(module, name, ())
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InvalidRevision(path, f"{name} is {value!r}; it has to be a name or a tuple of names")
