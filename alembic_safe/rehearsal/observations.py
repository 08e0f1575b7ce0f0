"""What the clients of a harness felt."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_KEPT = 200
"""Errors and differences that are kept in words; beyond that only their number grows."""


@dataclass(frozen=True)
class Failure:
    """A query that failed in a way that an application would notice."""

    release: str
    kind: str
    table: str
    error: str

    def __str__(self) -> str:
        return f"{self.release} {self.kind} {self.table}: {self.error}".rstrip()


@dataclass
class Figure:
    """The queries of one kind: how many, and the longest in milliseconds."""

    count: int = 0
    longest_ms: float = 0.0


@dataclass(frozen=True)
class Observations:
    """What the clients felt.

    The figures are those since the last `reset_worst`; a query that was under way then counts with
    its whole time on both sides. All else is since the harness was made.

    Args:
        figures: by release and kind of query.
        errors: the failures, the first 200 of them.
        differences: rows that were lost, stale or other than written; the first 200.
        error_count, difference_count: how many there were.
        longest_ever_ms: the longest query.
    """

    figures: Mapping[tuple[str, str], Figure]
    errors: tuple[Failure, ...]
    differences: tuple[str, ...]
    error_count: int
    difference_count: int
    longest_ever_ms: float

    @property
    def queries(self) -> int:
        """How many queries ended."""
        return sum(figure.count for figure in self.figures.values())

    @property
    def longest_ms(self) -> float:
        """The longest query, in milliseconds."""
        return max((figure.longest_ms for figure in self.figures.values()), default=0.0)

    @property
    def longest_by_kind(self) -> dict[str, float]:
        """The longest query of each kind, in milliseconds."""
        longest: dict[str, float] = {}
        for (_, kind), figure in self.figures.items():
            longest[kind] = max(longest.get(kind, 0.0), figure.longest_ms)
        return longest

    @property
    def by_release(self) -> dict[str, Figure]:
        """The queries of each release."""
        sums: dict[str, Figure] = {}
        for (release, _), figure in self.figures.items():
            total = sums.setdefault(release, Figure())
            total.count += figure.count
            total.longest_ms = max(total.longest_ms, figure.longest_ms)
        return sums

    def assert_clean(self) -> None:
        """Raise AssertionError with a list of what went wrong, if anything did."""
        if not self.error_count and not self.difference_count:
            return
        lines = [
            f"{self.error_count} failed queries and {self.difference_count} wrong rows "
            f"in {self.queries} queries:",
            *(f"  {failure}" for failure in self.errors[:20]),
            *(f"  {line}" for line in self.differences[:20]),
        ]
        raise AssertionError("\n".join(lines))


class Tally:
    """Adds up what the clients report, from all their threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._longest_ever = 0.0
        self._figures: dict[tuple[str, str], Figure] = {}
        self._failures: list[Failure] = []
        self._differences: list[str] = []
        self._failure_count = 0
        self._difference_count = 0

    def reset_figures(self) -> None:
        """Start the figures anew. Failures and wrong rows stay: no step makes them good."""
        with self._lock:
            self._figures = {}

    def query(self, release: str, kind: str, seconds: float) -> None:
        """Count a query."""
        with self._lock:
            figure = self._figures.setdefault((release, kind), Figure())
            figure.count += 1
            figure.longest_ms = max(figure.longest_ms, seconds * 1000)
            self._longest_ever = max(self._longest_ever, seconds * 1000)

    def failure(self, release: str, kind: str, table: str, error: BaseException) -> None:
        """Count a failed query."""
        text = f"{type(error).__name__}: {error}".strip()
        with self._lock:
            self._failure_count += 1
            if len(self._failures) < _KEPT:
                self._failures.append(Failure(release, kind, table, text))

    def difference(self, text: str) -> None:
        """Count a wrong row."""
        with self._lock:
            self._difference_count += 1
            if len(self._differences) < _KEPT:
                self._differences.append(text)

    def observations(self, in_flight: Sequence[tuple[str, str, float]] = ()) -> Observations:
        """Return the sums, with (release, kind, seconds so far) of queries that still run."""
        with self._lock:
            figures = {
                place: Figure(figure.count, figure.longest_ms)
                for place, figure in self._figures.items()
            }
            for release, kind, seconds in in_flight:
                figure = figures.setdefault((release, kind), Figure())
                figure.longest_ms = max(figure.longest_ms, seconds * 1000)
            longest = max([self._longest_ever, *(figure.longest_ms for figure in figures.values())])
            return Observations(
                figures,
                tuple(self._failures),
                tuple(self._differences),
                self._failure_count,
                self._difference_count,
                longest,
            )
