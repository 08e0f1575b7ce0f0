"""Up, down and up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alembic.util import CommandError

from alembic_safe.testing.migrations import Migrations
from alembic_safe.testing.schema import Schema, differences, read_schema
from alembic_safe.testing.sequences import groups_of

SINGLE_STEPS = 20
"""How many of the newest revisions are taken back one by one. Each step costs some tenths of a
second; what is older was the newest once."""

_MOST_LINES = 40


def check_round_trip(
    new_database: Callable[[], Migrations],
    start_after: str | None,
    single_steps: int | None = SINGLE_STEPS,
) -> None:
    """Upgrade to head, downgrade to the baseline and upgrade again, contract revisions included.

    The newest revisions are gone through one by one. Taken together the others would hide what a
    downgrade forgets: the one that drops the table takes it along.

    Args:
        new_database: makes a fresh database.
        start_after: the baseline: a revision of the history, or None for the empty database.
        single_steps: how many revisions are gone through one by one; None for all of them.

    Raises:
        AssertionError: the schema is not what it was, or a revision has no downgrade.
        alembic.util.CommandError: a revision fails.
    """
    trip = _Trip(new_database())
    lowest = start_after or "base"
    places = _places(trip.migrations, lowest)
    if single_steps is not None:
        places = [lowest, *places[1:][-single_steps - 1 :]]
    schemas = {place: trip.up(place) for place in places}
    for place, left in zip(reversed(places[:-1]), reversed(places[1:]), strict=True):
        lines = differences(schemas[place], trip.down(place))
        if not lines:
            continue
        if single_steps is not None and place == lowest:
            # Which of the revisions between is it?
            check_round_trip(new_database, start_after, single_steps=None)
        raise AssertionError("\n".join([trip.told(left, place), *_shown(lines)]))
    if lines := differences(schemas[places[-1]], trip.up(places[-1])):
        title = f"after downgrade to {lowest} and upgrade to head again the schema is another one:"
        raise AssertionError("\n".join([title, *_shown(lines)]))


def _places(migrations: Migrations, lowest: str) -> list[str]:
    """Return the revisions from the baseline to the head between which the schema is compared.

    Within a sequence it may differ: on the way back a sync trigger copies in the other direction.
    A history that branches has its two ends only.
    """
    scripts = list(migrations.scripts.iterate_revisions("heads", lowest))
    is_line = len(migrations.scripts.get_heads()) <= 1
    if not is_line or any(script.is_merge_point for script in scripts):
        return [lowest, "heads"]
    inside = {script.revision for group in groups_of(migrations) for script in group[:-1]}
    steps = [script.revision for script in reversed(scripts)]
    return [lowest, *(revision for revision in steps if revision not in inside)]


class _Trip:
    """A database on its way through the history."""

    def __init__(self, migrations: Migrations) -> None:
        self.migrations = migrations

    def up(self, revision: str) -> Schema:
        if revision != "base":
            self.migrations.upgrade(revision)
        return self._schema()

    def down(self, revision: str) -> Schema:
        try:
            self.migrations.downgrade(revision)
        except CommandError:
            raise
        except NotImplementedError as error:
            raise AssertionError(
                f"a revision on the way down to {revision} has no downgrade: "
                f"{str(error) or 'NotImplementedError'}. Name the last revision that need not be "
                "taken back in a fixture alembic_safe_start_after, or in the setting start_after."
            ) from error
        return self._schema()

    def told(self, left: str, place: str) -> str:
        """Return what a difference is about."""
        if left != "heads":
            script = self.migrations.scripts.get_revision(left)
            if script is not None and (script.down_revision or "base") == place:
                return (
                    f"the downgrade of {left} ({script.doc}), in {script.path}, leaves another "
                    "schema than its upgrade found:"
                )
        return f"after upgrade to {left} and downgrade to {place} the schema is not what it was:"

    def _schema(self) -> Schema:
        with self.migrations.connect() as connection:
            return read_schema(connection, self.migrations.own_tables)


def _shown(lines: Sequence[str]) -> list[str]:
    shown = [f"  {line}" for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        shown.append(f"  ... and {len(lines) - _MOST_LINES} more")
    return shown
