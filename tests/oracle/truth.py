"""What one statement did on a server, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from alembic_safe.postgres.effects.model import TransactionNeed
from alembic_safe.postgres.locks import LockMode


@dataclass(frozen=True)
class Truth:
    """What one statement did, where it stands in its case.

    Relations that the case itself made are left out. Names are those before the case, without the
    schema `public`.

    Args:
        locks: the strongest mode that its session holds on each relation after it, ROW SHARE and
            stronger; an index where its lock is stronger than that on its table.
        rewrites: tables with a new file that is not empty, or was empty before.
        scans: tables that were read from end to end; None where that cannot be measured, outside a
            transaction. Tables that were rewritten, or that got an index, are not repeated.
        builds: for each table the number of new indexes.
        rebuilds: for each table its indexes with a new file; not of rewritten tables.
        error: SQLSTATE and message.
        need: whether it can run inside a transaction block.
        renamed: the names that relations had when it began, where they were others before the case.
    """

    locks: dict[str, LockMode] = field(default_factory=dict)
    rewrites: tuple[str, ...] = ()
    scans: tuple[str, ...] | None = ()
    builds: dict[str, int] = field(default_factory=dict)
    rebuilds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    error: tuple[str, str] | None = None
    need: TransactionNeed = TransactionNeed.ANY
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def is_hazard(self) -> bool:
        """Whether it fails, or works in proportion to a table while it blocks reads or writes."""
        works = self.rewrites or self.scans or self.builds or self.rebuilds
        blocks = any(mode.blocks_reads_or_writes for mode in self.locks.values())
        return self.error is not None or bool(works and blocks)
