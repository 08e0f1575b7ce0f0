"""The two lines of revisions: the history in `versions/`, the contract line in `contracts/`."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic_safe.errors import InvalidRevision
from alembic_safe.phases import Marks, Phase, read_marks
from alembic_safe.postgres.identifiers import QualifiedName

if TYPE_CHECKING:
    from alembic.script import Script

CONTRACTS_FOLDER = "contracts"
_CONTRACT_TABLE_SUFFIX = "_contract"


class LineName(Enum):
    """The two lines of revisions."""

    HISTORY = "history"
    CONTRACT = "contract"


@dataclass(frozen=True)
class Revision:
    """A revision of either line, without its operations.

    Args:
        revision: its identifier.
        doc: the first line of its docstring.
        completes: for a contract revision, the revision of the history it completes.
        depends_on: for a contract revision, the contract revisions it builds on.
        needs_contract: contract revisions that must be applied before it.
        touches: for a contract revision, what it removes, renames or tightens, and what it makes
            unique.
    """

    revision: str
    doc: str = ""
    completes: str | None = None
    depends_on: tuple[str, ...] = ()
    needs_contract: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of revisions and the table that keeps its applied state."""

    name: LineName
    scripts: ScriptDirectory
    version_table: QualifiedName

    def applied(self, heads: Iterable[str]) -> frozenset[str]:
        """Return the applied revisions, given what the version table has."""
        heads = tuple(heads)
        if not heads:
            return frozenset()
        scripts = self.scripts.iterate_revisions(heads, "base")
        return frozenset(script.revision for script in scripts)


def contracts_path(history: ScriptDirectory) -> Path:
    """Return the folder of the contract line, which may not exist yet."""
    return Path(history.dir) / CONTRACTS_FOLDER


def has_contracts(history: ScriptDirectory) -> bool:
    """Return whether the contract line has its folder.

    Raises:
        InvalidRevision: something else stands in the folder's place.
    """
    path = contracts_path(history)
    if path.exists() and not path.is_dir():
        raise InvalidRevision(str(path), "it has to be a folder, that of the contract revisions")
    return path.is_dir()


@contextmanager
def readable_files(history: ScriptDirectory) -> Iterator[None]:
    """Name the revision file that Python cannot load, or that names what is not there.

    Raises:
        InvalidRevision: in place of what Python or Alembic raised.
    """
    try:
        yield
    except (CommandError, DBAPIError):
        raise
    except Exception as error:
        # Before Alembic 1.16 it was None where no version locations are configured.
        locations = history.version_locations or ()
        folders = [Path(folder).absolute() for folder in (history.dir, *locations)]
        path = _file_of(error, folders)
        reason = f"{type(error).__name__}: {error}"
        if path is None and isinstance(error, KeyError):
            # Alembic looks revisions up in a dictionary.
            path = _file_that_names(str(error.args[0]), folders)
            reason = f"it names the revision {error.args[0]!r}, which is not there"
        raise InvalidRevision(path or f"in {folders[0]}", reason) from error


def _file_of(error: Exception, folders: Sequence[Path]) -> str | None:
    # A module without `upgrade`: the error is raised in Alembic, and names the module.
    module_file = getattr(getattr(error, "obj", None), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    places = (
        getattr(error, "filename", None),
        module_file,
        *(frame.filename for frame in reversed(frames)),
    )
    for place in places:
        if place and any(Path(place).absolute().is_relative_to(folder) for folder in folders):
            return str(place)
    return None


def _file_that_names(revision: str, folders: Sequence[Path]) -> str | None:
    quoted = re.compile(f"""['"]{re.escape(revision)}['"]""")
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            if quoted.search(path.read_text(encoding="utf-8", errors="replace")):
                return str(path)
    return None


def contract_table(version_table: QualifiedName) -> QualifiedName:
    """Return the version table of the contract line."""
    return version_table.sibling(version_table.name + _CONTRACT_TABLE_SUFFIX)


def contract_scripts(history: ScriptDirectory) -> ScriptDirectory:
    """Return the contract line's script directory: the same template, hooks and file names."""
    options: dict[str, Any] = {}
    # Alembic 1.16 replaced the argument `hook_config` by `hooks`.
    for name in ("hooks", "hook_config"):
        if hasattr(history, name):
            options[name] = getattr(history, name)
    return ScriptDirectory(
        history.dir,
        file_template=history.file_template,
        truncate_slug_length=history.truncate_slug_length,
        version_locations=[str(contracts_path(history).absolute())],
        sourceless=history.sourceless,
        output_encoding=history.output_encoding,
        timezone=history.timezone,
        messaging_opts=history.messaging_opts,
        **options,
    )


def marks_of(script: Script) -> Marks:
    """Return what a revision file says about itself.

    Raises:
        InvalidRevision: it says what cannot be.
    """
    return read_marks(script.module, script.path)


def described(script: Script) -> Revision:
    """Return a revision without its operations."""
    marks = marks_of(script)
    return Revision(
        revision=script.revision,
        doc=script.doc,
        completes=marks.completes,
        depends_on=tuple(_names(script.dependencies)),
        needs_contract=marks.needs_contract,
        touches=marks.touches,
    )


def contract_revisions(line: Line, history: ScriptDirectory) -> tuple[Revision, ...]:
    """Return all contract revisions, each after those it depends on.

    Raises:
        InvalidRevision: a file of the folder is not a contract revision, or completes a revision
            that the history does not have.
    """
    order = {
        script.revision: place
        for place, script in enumerate(reversed(list(history.walk_revisions())))
    }
    try:
        scripts = list(line.scripts.walk_revisions())
    except CommandError as error:
        # A circle of dependencies, or a file without a revision.
        raise InvalidRevision(f"in {contracts_path(history)}", str(error).rstrip(".")) from error
    found = []
    for script in scripts:
        marks = marks_of(script)
        if marks.phase is not Phase.CONTRACT or marks.completes is None:
            raise InvalidRevision(
                script.path,
                'a file in contracts/ needs phase = "contract" and completes = "<revision>"',
            )
        if marks.completes not in order:
            raise InvalidRevision(
                script.path,
                f"it completes {marks.completes}, which is not a revision of the history",
            )
        found.append(described(script))
    return in_dependency_order(found, lambda revision: order.get(revision, 0))


def in_dependency_order(
    contracts: Iterable[Revision], history_order: Callable[[str], int]
) -> tuple[Revision, ...]:
    """Return contract revisions, each after those it depends on, then as their completed
    revisions stand in the history."""
    waiting = sorted(
        contracts, key=lambda contract: (history_order(contract.completes or ""), contract.revision)
    )
    known = {contract.revision for contract in waiting}
    placed: list[Revision] = []
    names: set[str] = set()
    while waiting:
        ready = next(
            (c for c in waiting if all(d in names or d not in known for d in c.depends_on)),
            waiting[0],
        )
        waiting.remove(ready)
        placed.append(ready)
        names.add(ready.revision)
    return tuple(placed)


def heads_among(names: Collection[str], contracts: Iterable[Revision]) -> list[str]:
    """Return those of the names that no other of them builds on.

    A version table keeps no more than these: a revision that another depends on is implied by it.
    """
    below = {contract.revision: set(contract.depends_on) for contract in contracts}
    implied: set[str] = set()
    waiting = [dependency for name in names for dependency in below.get(name, ())]
    while waiting:
        name = waiting.pop()
        if name not in implied:
            implied.add(name)
            waiting.extend(below.get(name, ()))
    return sorted(set(names) - implied)


def builders_on(name: str, contracts: Iterable[Revision]) -> list[str]:
    """Return a contract revision and all that build on it, given each after what it builds on."""
    found = [name]
    for contract in contracts:
        if not set(found).isdisjoint(contract.depends_on):
            found.append(contract.revision)
    return found


def _names(value: str | Iterable[str] | None) -> Iterable[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value
