"""`assured()`: a person answers for a statement; `unjudged()`: this package answers for one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from alembic_safe.errors import ReasonMissing

_REASONS: ContextVar[tuple[str, ...]] = ContextVar("alembic_safe_assured", default=())
_UNJUDGED: ContextVar[bool] = ContextVar("alembic_safe_unjudged", default=False)


@contextmanager
def assured(reason: str) -> Iterator[None]:
    """Let through what stands inside, whatever is to be said of it.

        with alembic_safe.assured("30 rows, counted on 2026-03-01"):
            op.create_index("ix_plans_name", "plans", ["name"])

    The ledger keeps the revision, the kind of statement and the reason where there would be an
    error otherwise, once for all statements of a kind. In `--sql` mode the reason becomes a comment
    of the script. `lint` lists what it found inside together with the reason. It can be nested; the
    innermost reason counts.

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


@contextmanager
def unjudged() -> Iterator[None]:
    """Keep the guard from judging what stands inside: a statement of this package that is safe
    for a reason that it does not show."""
    token = _UNJUDGED.set(True)
    try:
        yield
    finally:
        _UNJUDGED.reset(token)


def is_unjudged() -> bool:
    """Return whether what runs now stands in an `unjudged` block."""
    return _UNJUDGED.get()


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
