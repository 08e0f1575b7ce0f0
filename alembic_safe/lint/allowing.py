"""Allowing: which findings are let through, and which allowances are of no use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from alembic_safe.lint.report import (
    ALLOW_UNKNOWN_CODE,
    ALLOW_UNUSED,
    ALLOW_WITHOUT_REASON,
    Located,
)
from alembic_safe.rules.allowances import Allowance
from alembic_safe.rules.finding import Finding, Severity
from alembic_safe.rules.letting_through import cover_of
from alembic_safe.rules.settings import Ignored
from alembic_safe.rules.sources import Extent, RevisionSource, Source


@dataclass
class Allowing:
    """Lets findings through, and remembers what has let any through.

    Args:
        ignored: of the settings.
    """

    ignored: Sequence[Ignored]

    def __post_init__(self) -> None:
        self._used: set[tuple[Source, Allowance | Ignored, str]] = set()

    def decide(self, located: Located, source: Source) -> Located:
        """Return a finding, with the reason for which it is let through if it is."""
        if located.allowed:
            return located
        cover = cover_of(
            located.finding,
            located.extent,
            source.allowances,
            self.ignored,
            revision=located.revision,
            path=located.path,
        )
        if cover is None:
            return located
        self._used.add((source, cover, located.finding.code))
        return replace(located, allowed=cover.reason)

    def useless(
        self, source: Source, known_codes: Collection[str], not_judged: Extent
    ) -> Iterator[Located]:
        """Yield findings about allowances of a file that cannot be read or let nothing through.

        Args:
            source: the file.
            known_codes: of all rules; empty where rules of the user may have others.
            not_judged: lines that were not judged, so that nothing is known about their use.
        """
        for allowance in source.allowances:
            for code, severity, message in self._problems(
                source, allowance, known_codes, not_judged
            ):
                extent = Extent(allowance.line, allowance.line)
                finding = Finding(code, severity, message)
                yield Located(finding, source.path, extent, allowance.line)

    def unused_ignored(self) -> list[Ignored]:
        """Return what the settings ignore and nothing was."""
        used = {cover for _source, cover, _code in self._used}
        return [ignored for ignored in self.ignored if ignored not in used]

    def _problems(
        self,
        source: Source,
        allowance: Allowance,
        known_codes: Collection[str],
        not_judged: Extent,
    ) -> Iterable[tuple[str, Severity, str]]:
        if not allowance.codes:
            message = "the comment lets nothing through: it has to be `allow CODE -- REASON`"
            yield ALLOW_WITHOUT_REASON, Severity.ERROR, message
            return
        for code in allowance.codes:
            if known_codes and code not in known_codes:
                yield ALLOW_UNKNOWN_CODE, Severity.ERROR, f"no rule is called {code}"
            elif not allowance.reason:
                message = f"{code} is not let through without a reason: `allow {code} -- REASON`"
                yield ALLOW_WITHOUT_REASON, Severity.ERROR, message
            elif (source, allowance, code) not in self._used and not _is_open(
                allowance, not_judged
            ):
                yield ALLOW_UNUSED, Severity.WARNING, f"there is no finding {code} here"


def _is_open(allowance: Allowance, not_judged: Extent) -> bool:
    if not not_judged.first:
        return False
    return allowance.about is None or allowance.about in not_judged


def not_judged_lines(source: Source, *, judges_downgrades: bool) -> Extent:
    """Return the lines of a file that are judged only on request: its `downgrade()`."""
    if judges_downgrades or not isinstance(source, RevisionSource):
        return Extent(0, 0)
    return source.function("downgrade")
