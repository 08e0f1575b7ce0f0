"""Place: where the statements stand that the guard judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic_safe.phases import Phase
from alembic_safe.runtime.queueing import Approach


@dataclass(frozen=True)
class Place:
    """An attempt of a revision.

    Args:
        revision: its identifier.
        phase: None where it has none, as hand-written ones.
        is_upgrade: a downgrade is told what is not safe, and never stopped.
        lock_timeout: seconds.
        state: gives a sentence about what is committed and what is not.
        path: the revision's file.
        module: the global names of that file, by which its code is known where it runs.
        approach: how its statements come to their locks; None where nobody looks.
    """

    revision: str
    phase: Phase | None
    is_upgrade: bool
    lock_timeout: float
    state: Callable[[], str]
    path: Path
    module: Mapping[str, Any]
    approach: Approach | None = None
