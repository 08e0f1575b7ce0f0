"""Generated sequences, each played with clients of the release before it and the one after it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from alembic.util import CommandError

from alembic_safe.errors import CannotTest
from alembic_safe.rehearsal.observations import Observations
from alembic_safe.rehearsal.releases import Release
from alembic_safe.rehearsal.two_releases import TwoReleases
from alembic_safe.rehearsal.values import Source, UnsupportedTypeError
from alembic_safe.testing.migrations import Migrations
from alembic_safe.testing.releases import Tables, read_tables
from alembic_safe.testing.sequences import RevisionSequence, sequences_of

QUERIES = 40
"""Queries of the clients that are waited for after each revision."""

_CLIENTS = 2
"""Of each release."""
_PATIENCE_SECONDS = 30.0
_MOST_LINES = 12


class NewDatabase(Protocol):
    """Makes a database of the test's own: an empty one, or the copy of another."""

    def __call__(self, like: Migrations | None = None) -> Migrations:
        """Return the environment on it."""


def check_sequences(
    new_database: NewDatabase, start_after: str | None, values: Mapping[str, Source]
) -> int:
    """Play every generated sequence after the baseline under the load of two releases.

    The models of the two releases are those of the schema before the sequence and after all of
    it, contract revisions included. Clients of the old release work while the history goes on;
    then those of the new one beside them, and each reads and changes what the other wrote; then
    those of the new one alone, while the contract revisions run.

    Args:
        new_database: makes a database.
        start_after: the baseline, a revision of the history.
        values: what makes values of columns, by "table.column".

    Returns:
        How many sequences there are.

    Raises:
        AssertionError: queries failed, or rows are not what was written.
        CannotTest: the clients have no values that a table takes.
        alembic.util.CommandError: a revision fails.
    """
    ahead = new_database()
    sequences = sequences_of(ahead, start_after)
    failures = []
    for sequence in sequences:
        for revision in sequence.builds_on:
            ahead.upgrade(revision)
        # A copy, so that the rows which the clients leave behind hinder no later sequence.
        played, old = new_database(like=ahead), read_tables(ahead)
        ahead.upgrade(sequence.last)
        try:
            _Play(played, sequence, old, read_tables(ahead), values).run()
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        raise AssertionError("\n\n".join(failures))
    return len(sequences)


class _Play:
    """One sequence, with its two releases."""

    def __init__(
        self,
        migrations: Migrations,
        sequence: RevisionSequence,
        old: Tables,
        new: Tables,
        values: Mapping[str, Source],
    ) -> None:
        self._migrations = migrations
        self._sequence = sequence
        self._old = Release("the old release", old.metadata, _known(values, old))
        self._new = Release("the new release", new.metadata, _known(values, new))
        changed = old.changed(new)
        self._old_tables = sorted(old.with_parents(changed))
        self._new_tables = sorted(new.with_parents(changed))

    def run(self) -> None:
        if not self._old_tables and not self._new_tables:
            return
        try:
            with TwoReleases(
                self._old, self._new, self._migrations.url, self._sequence.renamed
            ) as both:
                self._history(both)
                self._contracts(both)
        except UnsupportedTypeError as error:
            raise CannotTest(_values_needed(str(error).partition(";")[0])) from None

    def _history(self, both: TwoReleases) -> None:
        if self._old_tables:
            both.start("old", _CLIENTS, self._old_tables)
            wait_for_queries(both, QUERIES)
            if errors := both.observations().errors:
                raise CannotTest(_values_needed("\n".join(f"  {e}" for e in errors[:_MOST_LINES])))
        for script in self._sequence.scripts:
            self._migrations.upgrade(script.revision, contracts=False)
            self._look(both, f"{script.revision} ({script.doc})")

    def _contracts(self, both: TwoReleases) -> None:
        last = f"{self._sequence.last}, while both releases work"
        if self._new_tables:
            both.start("new", _CLIENTS, self._new_tables)
            self._look(both, last)
        if lines := both.cross_check(sorted({*self._old_tables, *self._new_tables})):
            raise AssertionError(_told(last, lines))
        both.stop("old")
        for revision in self._sequence.contracts:
            try:
                self._migrations.contract([revision])
            except CommandError as error:
                raise AssertionError(_told(f"contract revision {revision}", [str(error)])) from None
            self._look(both, f"contract revision {revision}")
        if lines := both.check_rows("new"):
            raise AssertionError(_told("the whole sequence", lines))
        both.stop()
        _assert_clean(both.observations(), "the whole sequence")

    def _look(self, both: TwoReleases, place: str) -> None:
        wait_for_queries(both, QUERIES)
        _assert_clean(both.observations(), place)


def wait_for_queries(both: TwoReleases, number: int) -> None:
    """Let the clients that are at work end some more queries, or fail."""
    if not both.is_at_work:
        return
    before, deadline = both.observations(), time.monotonic() + _PATIENCE_SECONDS
    while True:
        now = both.observations()
        if now.queries >= before.queries + number or now.error_count > before.error_count:
            return
        if time.monotonic() > deadline:
            raise AssertionError("the clients wait for the database, and no query of theirs ends")
        time.sleep(0.01)


def _known(values: Mapping[str, Source], tables: Tables) -> dict[str, Source]:
    columns = {
        f"{key}.{column.name}"
        for key, table in tables.metadata.tables.items()
        for column in table.columns
    }
    return {name: source for name, source in values.items() if name in columns}


def _assert_clean(seen: Observations, place: str) -> None:
    lines = [*map(str, seen.errors), *seen.differences]
    if lines:
        raise AssertionError(_told(place, lines))


def _told(place: str, lines: Iterable[str]) -> str:
    # A client repeats what it cannot do.
    different = list(dict.fromkeys(lines))
    shown = "\n".join(f"  {line}" for line in different[:_MOST_LINES])
    return f"the rollout fails after {place}:\n{shown}"


def _values_needed(what: str) -> str:
    return (
        "The clients of the two-release check cannot write the rows that they made up, before any "
        f"revision of the sequence ran:\n{what}\nReturn what makes values of such columns from a "
        'fixture named alembic_safe_values, as {"orders.total": lambda rng: rng.randint(1, 100)}.'
    )
