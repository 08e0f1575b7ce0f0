"""Cases that nobody wrote: statements of the list, drawn at random, one after the other."""

from __future__ import annotations

import random
import re

from oracle.statements import Case, cases

_LEFT_OUT = ("Names", "Several statements", "DO blocks")
"""Families whose cases are about more than one statement."""

_UNLIKE_OTHERS = re.compile(r"truncate|no data|user_catalog_table")
"""After these the rows tell what happens: an emptied table is written anew in no time."""


def drawn(seed: int, length: int = 5) -> Case:
    """Return a case of `length` statements in one transaction, the same for the same seed."""
    several = random.Random(seed).sample(_single_statements(), length)
    return Case(f"drawn_{seed}", "Drawn", "\n".join(case.sql for case in several))


def _single_statements() -> list[Case]:
    return [
        case
        for case in cases()
        if not (case.before or case.alone or case.family.startswith(_LEFT_OUT))
        and len(case.statements) == 1
        and not _UNLIKE_OTHERS.search(case.sql)
    ]
