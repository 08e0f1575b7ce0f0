"""What servers of each version answered, kept in `measured.json`.

In the folder `tests`

    python -m oracle.recorded 13 14 15 16 17 18 [CASE...]

measures again on the servers of those versions, and leaves the others as they are. With names of
cases, those alone.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import Any

import psycopg

from alembic_safe.postgres.effects.model import TransactionNeed
from alembic_safe.postgres.locks import LockMode
from alembic_safe.rehearsal.server import ScratchServer, installed_binaries
from oracle.laboratory import Laboratory
from oracle.statements import FOLDER, Case, cases
from oracle.truth import Truth

FILE = FOLDER / "measured.json"

VERSIONS = (13, 14, 15, 16, 17, 18)

Answer = list[Truth] | None
"""What the statements of a case did; None where the server does not know what comes before it."""


@cache
def measured() -> dict[str, dict[int, Answer]]:
    """Return what is recorded, by case and version."""
    if not FILE.exists():
        return {}
    found: dict[str, dict[int, Answer]] = {}
    for case, answers in json.loads(FILE.read_text()).items():
        for versions, answer in answers.items():
            read = None if answer is None else [_truth(statement) for statement in answer]
            for version in _versions(versions):
                found.setdefault(case, {})[version] = read
    return found


def answer_of(laboratory: Laboratory, case: Case) -> Answer:
    """Ask a server; None where it does not take what is committed before the case."""
    try:
        return laboratory.truth(case)
    except psycopg.Error:
        return None


def record(answers: dict[str, dict[int, Answer]]) -> None:
    """Write what servers answered, without cases that are gone; equal answers of neighbouring
    versions are written once."""
    lines = []
    for case in cases():
        grouped: list[tuple[list[int], Any]] = []
        for version, answer in sorted(answers.get(case.id, {}).items()):
            data = None if answer is None else [_data(truth) for truth in answer]
            if grouped and grouped[-1][1] == data:
                grouped[-1][0].append(version)
            else:
                grouped.append(([version], data))
        written = {",".join(map(str, versions)): data for versions, data in grouped}
        lines.append(f"{json.dumps(case.id)}: {json.dumps(written)}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _versions(text: str) -> list[int]:
    return [int(version) for version in text.split(",")]


def _data(truth: Truth) -> dict[str, Any]:
    data = {
        "locks": {name: mode.sql for name, mode in sorted(truth.locks.items())},
        "rewrites": list(truth.rewrites),
        "scans": None if truth.scans is None else list(truth.scans),
        "builds": dict(sorted(truth.builds.items())),
        "rebuilds": {table: list(names) for table, names in sorted(truth.rebuilds.items())},
        "error": None if truth.error is None else list(truth.error),
        "need": truth.need.value,
        "renamed": truth.renamed,
    }
    return {key: value for key, value in data.items() if value != _NOTHING[key]}


_NOTHING: dict[str, Any] = {
    "locks": {},
    "rewrites": [],
    "scans": [],
    "builds": {},
    "rebuilds": {},
    "error": None,
    "need": "any",
    "renamed": {},
}


def _truth(data: dict[str, Any]) -> Truth:
    full = {**_NOTHING, **data}
    return Truth(
        {name: LockMode[mode.replace(" ", "_")] for name, mode in full["locks"].items()},
        tuple(full["rewrites"]),
        None if full["scans"] is None else tuple(full["scans"]),
        full["builds"],
        {table: tuple(names) for table, names in full["rebuilds"].items()},
        None if full["error"] is None else (full["error"][0], full["error"][1]),
        TransactionNeed(full["need"]),
        full["renamed"],
    )


def main(versions: list[int], only: list[str]) -> None:
    """Measure cases, or all, on servers of these versions and record the answers."""
    answers = {case: dict(by_version) for case, by_version in measured().items()}
    binaries = installed_binaries()
    for version in versions:
        fast = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        with ScratchServer(binaries[version], fast) as server, Laboratory(server) as laboratory:
            for case in cases():
                if not only or case.id in only:
                    answers.setdefault(case.id, {})[version] = answer_of(laboratory, case)
        record(answers)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(
        [int(each) for each in arguments if each.isdigit()],
        [a for a in arguments if a[0].isalpha()],
    )
