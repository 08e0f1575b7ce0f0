"""How many hazards the engine finds, and how many of its warnings are right.

In the folder `tests`

    python -m oracle.figures [VERSION...]

prints the figures from what is recorded, and those with the catalog for the servers of the given
versions that are here. A hazard is a case that fails, or works in proportion to a table while it,
or its transaction, blocks reads or writes of an existing relation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from alembic_safe.postgres.effects.world import World
from alembic_safe.rehearsal.server import ScratchServer, installed_binaries
from oracle.laboratory import Laboratory
from oracle.predict import predict, world_of_file, world_of_history
from oracle.recorded import VERSIONS, measured
from oracle.statements import Case, cases
from oracle.truth import Truth


@dataclass(frozen=True)
class Figures:
    """What was right and what was wrong, each as the cases with their server version.

    Args:
        found: hazards that the engine found.
        missed: hazards that it let through.
        false: cases that it would stop for nothing.
        harmless: cases that it rightly lets through.
    """

    found: tuple[str, ...]
    missed: tuple[str, ...]
    false: tuple[str, ...]
    harmless: tuple[str, ...]

    @property
    def recall(self) -> float:
        """Share of the hazards that are found."""
        return _share(self.found, self.missed)

    @property
    def precision(self) -> float:
        """Share of the warnings that are right."""
        return _share(self.found, self.false)

    def __str__(self) -> str:
        counted = len(self.found) + len(self.missed) + len(self.false) + len(self.harmless)
        return f"{counted} cases, recall {self.recall:.3f}, precision {self.precision:.3f}"


def _share(right: tuple[str, ...], wrong: tuple[str, ...]) -> float:
    return len(right) / (len(right) + len(wrong)) if right or wrong else 1.0


def figures(
    world: Callable[[Case, int], World],
    versions: Sequence[int] = VERSIONS,
    *,
    accepted_only: bool,
) -> Figures:
    """Return the figures of the engine over what is recorded.

    Args:
        world: what the engine knows before a case, on a version.
        versions: of the server.
        accepted_only: leave out cases that the server refuses.
    """
    sorted_: dict[tuple[bool, bool], list[str]] = {}
    for case, version, truths in _recorded(versions):
        if accepted_only and any(truth.error is not None for truth in truths):
            continue
        is_hazard = any(truth.is_hazard for truth in truths)
        is_said = predict(case, world(case, version)).is_hazard
        sorted_.setdefault((is_hazard, is_said), []).append(f"{case.id} on {version}")
    return Figures(
        tuple(sorted_.get((True, True), [])),
        tuple(sorted_.get((True, False), [])),
        tuple(sorted_.get((False, True), [])),
        tuple(sorted_.get((False, False), [])),
    )


def _recorded(versions: Sequence[int]) -> Iterator[tuple[Case, int, list[Truth]]]:
    for case in cases():
        for version in versions:
            truths = measured()[case.id][version]
            if truths is not None:
                yield case, version, truths


def main(versions: list[int]) -> None:
    """Print the figures."""
    _print("from history", world_of_history)
    _print("from the file alone", world_of_file)
    for version in versions:
        binaries = installed_binaries()[version]
        with ScratchServer(binaries) as server, Laboratory(server) as laboratory:
            _print(
                f"with the catalog of {version}", lambda case, _: laboratory.world(case), [version]
            )


def _print(
    mode: str, world: Callable[[Case, int], World], versions: Sequence[int] = VERSIONS
) -> None:
    for accepted_only in (False, True):
        found = figures(world, versions, accepted_only=accepted_only)
        which = "accepted by the server" if accepted_only else "all"
        print(f"{mode}, {which}: {found}")
        print("   missed:", ", ".join(_by_case(found.missed)) or "none")
        print("   false: ", ", ".join(_by_case(found.false)) or "none")


def _by_case(names: tuple[str, ...]) -> Iterator[str]:
    by_case: dict[str, list[str]] = {}
    for name in names:
        case, _, version = name.partition(" on ")
        by_case.setdefault(case, []).append(version)
    for case, versions in by_case.items():
        everywhere = len(versions) == len(VERSIONS)
        yield case if everywhere else f"{case} ({', '.join(versions)})"


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]])
