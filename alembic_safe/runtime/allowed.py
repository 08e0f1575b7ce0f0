"""What lets a statement of an upgrade through: a block around it, a comment in the revision's file,
or the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from alembic_safe.assurance import current_reason
from alembic_safe.rules.allowances import Allowance
from alembic_safe.rules.finding import Finding
from alembic_safe.rules.letting_through import cover_of
from alembic_safe.rules.settings import Ignored
from alembic_safe.rules.sources import Extent, RevisionSource, running_line
from alembic_safe.runtime.place import Place


@dataclass(frozen=True)
class Origin:
    """Where a statement comes from.

    Args:
        line: of the revision file; 0 where the file has no part in it.
        assured: the reason of the `alembic_safe.assured` block in which it stands.
    """

    line: int
    assured: str | None

    @classmethod
    def of_what_runs(cls, place: Place) -> Origin:
        """Return it for the statement that the revision is about to send."""
        return cls(running_line(place.module), current_reason())


@dataclass(frozen=True)
class Assured:
    """Statements that a person answered for, about which there is an error otherwise.

    Args:
        command: their command tag.
        codes: of the rules that found something.
        reason: what the person wrote.
    """

    command: str
    codes: tuple[str, ...]
    reason: str


@dataclass
class Reasons:
    """Knows why findings in a revision are let through. The revision's file is read when the first
    one asks.

    Args:
        place: the revision.
        ignored: of the settings.
    """

    place: Place
    ignored: Sequence[Ignored]

    def of(self, finding: Finding, origin: Origin) -> str | None:
        """Return the reason; None where nothing lets the finding through."""
        if origin.assured is not None:
            return origin.assured
        comments = self._comments
        cover = cover_of(
            finding,
            # The file is parsed only if it has a comment.
            self._source.extent(origin.line) if comments else Extent(0, 0),
            comments,
            self.ignored,
            revision=self.place.revision,
            path=self.place.path,
        )
        return cover.reason if cover is not None else None

    @cached_property
    def _comments(self) -> Sequence[Allowance]:
        try:
            return self._source.allowances
        except (OSError, SyntaxError, ValueError):
            # It was changed after Alembic had loaded it, or only its byte code is there.
            return ()

    @cached_property
    def _source(self) -> RevisionSource:
        return RevisionSource(self.place.path)
