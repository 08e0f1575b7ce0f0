"""Table-level lock modes and what each keeps others from doing.

Source: PostgreSQL documentation, 13.3.1 Table-Level Locks, table 13.2.
"""

from __future__ import annotations

from enum import IntEnum


class LockMode(IntEnum):
    """The table-level lock modes, from the weakest to the strongest."""

    NONE = 0
    ACCESS_SHARE = 1
    ROW_SHARE = 2
    ROW_EXCLUSIVE = 3
    SHARE_UPDATE_EXCLUSIVE = 4
    SHARE = 5
    SHARE_ROW_EXCLUSIVE = 6
    EXCLUSIVE = 7
    ACCESS_EXCLUSIVE = 8

    @property
    def sql(self) -> str:
        """The mode as it is written in `LOCK TABLE ... IN ... MODE`."""
        return self.name.replace("_", " ")

    @property
    def pg_locks_name(self) -> str:
        """The mode as the view `pg_locks` shows it."""
        return "".join(word.capitalize() for word in self.name.split("_")) + "Lock"

    @property
    def blocks_reads_or_writes(self) -> bool:
        """Whether an application's SELECT, INSERT, UPDATE or DELETE waits behind it."""
        return self >= LockMode.SHARE

    def conflicts(self) -> tuple[LockMode, ...]:
        """Return the modes that another session may not hold while this one is taken."""
        return tuple(sorted(_CONFLICTS[self]))


_SELF_COMPATIBLE_FROM = {
    LockMode.NONE: None,
    LockMode.ACCESS_SHARE: LockMode.ACCESS_EXCLUSIVE,
    LockMode.ROW_SHARE: LockMode.EXCLUSIVE,
    LockMode.ROW_EXCLUSIVE: LockMode.SHARE,
    LockMode.SHARE_UPDATE_EXCLUSIVE: LockMode.SHARE_UPDATE_EXCLUSIVE,
    LockMode.SHARE_ROW_EXCLUSIVE: LockMode.ROW_EXCLUSIVE,
    LockMode.EXCLUSIVE: LockMode.ROW_SHARE,
    LockMode.ACCESS_EXCLUSIVE: LockMode.ACCESS_SHARE,
}
"""For each mode the weakest one it conflicts with; it conflicts with all that are stronger."""

_CONFLICTS: dict[LockMode, frozenset[LockMode]] = {
    mode: frozenset(other for other in LockMode if start is not None and other >= start)
    for mode, start in _SELF_COMPATIBLE_FROM.items()
}
# SHARE is the one mode that is compatible with itself in the middle of the scale.
_CONFLICTS[LockMode.SHARE] = frozenset(
    {
        LockMode.ROW_EXCLUSIVE,
        LockMode.SHARE_UPDATE_EXCLUSIVE,
        LockMode.SHARE_ROW_EXCLUSIVE,
        LockMode.EXCLUSIVE,
        LockMode.ACCESS_EXCLUSIVE,
    }
)
