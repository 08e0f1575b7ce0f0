"""`assured()`: a person answers for a statement that would be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from alembic_safe.errors import ReasonMissing

_REASONS: ContextVar[tuple[str, ...]] = ContextVar("alembic_safe_assured", default=())


@contextmanager
def assured(reason: str) -> Iterator[None]:
    """Let through what stands inside, whatever is to be said of it.

        with alembic_safe.assured("30 rows, counted on 2026-03-01"):
            op.create_index("ix_plans_name", "plans", ["name"])

    During `upgrade` the ledger keeps revision, statement and reason, for each statement that
    would have been stopped. In `--sql` mode the reason becomes a comment of the script. `lint`
    lists what it found inside together with the reason. It can be nested; the innermost reason
    counts.

    Args:
        reason: why it is safe here, for the people who read it later.

    Raises:
        ReasonMissing: the reason is empty.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ReasonMissing
    written = reason.strip()
    _comment(written)
    token = _REASONS.set((*_REASONS.get(), written))
    try:
        yield
    finally:
        _REASONS.reset(token)


def current_reason() -> str | None:
    """Return the reason of the `assured` block that is running; None outside of one."""
    reasons = _REASONS.get()
    return reasons[-1] if reasons else None


def _comment(reason: str) -> None:
    """Write the reason into the script of `--sql`."""
    # Alembic sets plugins up in the middle of its own import; by now it is complete.
    from alembic import op

    try:
        context = op.get_context()
    except (NameError, AttributeError):
        # No revision is running: none has been yet, or none is any more.
        return
    if context.as_sql:
        context.impl.static_output(f"-- Assured: {' '.join(reason.split())}")
