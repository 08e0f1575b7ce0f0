"""The user's own say in how long an attempt at a lock waits, and when the next one follows."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

from alembic_safe.errors import InvalidRetryHook

RetryHook = Callable[[int, str], tuple[float, float]]
"""Given the number of an attempt, from 1, and the statement, returns its `lock_timeout` and the
pause after it if it fails, both in seconds."""

_SHORTEST_TIMEOUT = 0.001


def load_retry_hook(hook: object) -> RetryHook | None:
    """Return a function of the user's that says what an attempt may do, with its answers checked.

    Args:
        hook: the function, or where it is, as `package.module:function`; None for none.

    Raises:
        InvalidRetryHook: it cannot be imported. Its calls raise it where it fails, or answers
            something else than two numbers of seconds: the first at least 0.001, because
            PostgreSQL takes 0 for "wait for ever".
    """
    if hook is None:
        return None
    name = hook if isinstance(hook, str) else getattr(hook, "__qualname__", repr(hook))
    called = hook
    if isinstance(hook, str):
        try:
            called = EntryPoint(name=hook, value=hook, group="").load()
        except Exception as error:
            raise InvalidRetryHook(name, f"it cannot be imported: {_said(error)}") from error
    if not callable(called):
        raise InvalidRetryHook(name, f"it is {called!r}, which cannot be called")

    def checked(attempt: int, statement: str) -> tuple[float, float]:
        try:
            answer = called(attempt, statement)
        except Exception as error:
            raise InvalidRetryHook(name, f"it failed: {_said(error)}", statement) from error
        try:
            timeout, delay = (float(seconds) for seconds in answer)
        except (TypeError, ValueError):
            timeout, delay = 0.0, 0.0
        if not (timeout >= _SHORTEST_TIMEOUT and delay >= 0.0):
            raise InvalidRetryHook(name, f"it returned {answer!r}", statement)
        return timeout, delay

    return checked


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
