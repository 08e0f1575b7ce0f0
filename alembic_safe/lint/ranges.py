"""Ranges: which revisions are judged, and which have to run before them to know the schema."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.script import ScriptDirectory

from alembic_safe.errors import NotARevision
from alembic_safe.lines import (
    Line,
    LineName,
    Revision,
    contract_revisions,
    contract_scripts,
    contract_table,
    has_contracts,
    readable_files,
)
from alembic_safe.postgres.identifiers import QualifiedName

if TYPE_CHECKING:
    from alembic.script import Script


@dataclass(frozen=True)
class Revisions:
    """All revisions of an environment.

    Args:
        history: its script directory.
        scripts: of the history, from the base on.
        contracts: contract revisions.
        contract_paths: for each of them its file.
    """

    history: ScriptDirectory
    scripts: tuple[Script, ...]
    contracts: tuple[Revision, ...]
    contract_paths: dict[str, Path]

    @property
    def paths(self) -> dict[Path, str]:
        """For each file the revision in it."""
        found = {Path(script.path).resolve(): script.revision for script in self.scripts}
        return found | {path: revision for revision, path in self.contract_paths.items()}

    def completing(self, history: Collection[str]) -> set[str]:
        """Return the contract revisions that complete revisions of the history."""
        return {c.revision for c in self.contracts if c.completes in history}

    def below(self, revision: str) -> set[str]:
        """Return a revision of the history and all on which it builds."""
        return {script.revision for script in self.history.iterate_revisions(revision, "base")}


def revisions_of(history: ScriptDirectory) -> Revisions:
    """Return all revisions of an environment.

    Raises:
        InvalidRevision: a file cannot be loaded, or says what cannot be.
        CommandError: Alembic cannot make a history of them.
    """
    with readable_files(history):
        scripts = tuple(reversed(list(history.iterate_revisions("heads", "base"))))
        if not has_contracts(history):
            return Revisions(history, scripts, (), {})
        # Where the version table is does not matter here.
        table = contract_table(QualifiedName("alembic_version"))
        line = Line(LineName.CONTRACT, contract_scripts(history), table)
        contracts = contract_revisions(line, history)
        paths = {s.revision: Path(s.path).resolve() for s in line.scripts.walk_revisions()}
    return Revisions(history, scripts, contracts, paths)


def in_ranges(revisions: Revisions, ranges: Sequence[str], start_after: str | None) -> set[str]:
    """Return the revisions that are named, of both lines.

    Args:
        revisions: all of them.
        ranges: `A:B` for those after A up to B, `A:` up to the heads, `:B` from the baseline on,
            or one revision. A contract revision goes with the one that it completes. None at all
            is all after the baseline.
        start_after: the baseline, a revision of the history.

    Raises:
        NotARevision: one of them is not there.
    """
    named: set[str] = set()
    for text in ranges or (":",):
        start, colon, end = text.partition(":")
        if not colon:
            named |= _one(revisions, text)
            continue
        with readable_files(revisions.history):
            found = revisions.history.iterate_revisions(end or "heads", start or "base")
            history = {script.revision for script in found}
        if not start and start_after is not None:
            history -= revisions.below(_baseline(revisions, start_after))
        named |= history | revisions.completing(history)
    return named


def in_files(revisions: Revisions, files: Iterable[Path]) -> set[str]:
    """Return the revisions in files.

    Raises:
        NotARevision: a file is not one of the environment.
    """
    known = revisions.paths
    named = set()
    for file in files:
        if file.resolve() not in known:
            raise NotARevision(str(file), "it is not a revision file of this environment")
        named.add(known[file.resolve()])
    return named


def to_upgrade(revisions: Revisions, named: Collection[str]) -> list[Script]:
    """Return the revisions of the history that have to run so that all named ones do: these, and
    all on which they build."""
    wanted = {name for name in named if name not in revisions.contract_paths}
    wanted |= {c.completes for c in revisions.contracts if c.revision in named and c.completes}
    needed: set[str] = set()
    # A revision that was needed has had all below it added.
    for script in reversed(revisions.scripts):
        if script.revision in wanted and script.revision not in needed:
            needed |= revisions.below(script.revision)
    return [script for script in revisions.scripts if script.revision in needed]


def to_downgrade(
    revisions: Revisions, upgrades: Sequence[Script], named: Collection[str]
) -> list[Script]:
    """Return the revisions to go back from, the last one first, so that all named ones are left."""
    completed = {c.completes for c in revisions.contracts if c.revision in named}
    places = [
        place
        for place, script in enumerate(upgrades)
        if script.revision in named or script.revision in completed
    ]
    return list(reversed(upgrades[min(places) :])) if places else []


def _one(revisions: Revisions, text: str) -> set[str]:
    contracts = {name for name in revisions.contract_paths if name.startswith(text)}
    if text and len(contracts) == 1:
        return contracts
    with readable_files(revisions.history):
        scripts = revisions.history.get_revisions(text)
    found = {script.revision for script in scripts if script is not None}
    if not found:
        raise NotARevision(text, "there is no such revision")
    return found | revisions.completing(found)


def _baseline(revisions: Revisions, start_after: str) -> str:
    with readable_files(revisions.history):
        script = revisions.history.get_revision(start_after)
    if script is None:
        raise NotARevision(start_after, "the setting start_after has to name a revision")
    return script.revision
