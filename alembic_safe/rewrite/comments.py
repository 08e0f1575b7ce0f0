"""Comments in a revision file, as operations that do nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alembic.autogenerate.render import renderers
from alembic.operations import MigrateOperation

from alembic_safe.python_source import LINE_LENGTH

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

_ROOM = LINE_LENGTH - len("    # ")


class CommentOp(MigrateOperation):
    """Lines behind `#`, in front of the operation that they are about.

    Args:
        text: what to say; it is wrapped.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    def reverse(self) -> CommentOp:
        """Return the comment itself."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the comment as a diff shows it."""
        return ("comment", self.text)


class PassOp(MigrateOperation):
    """`pass`, for a function that has nothing but comments."""

    def reverse(self) -> PassOp:
        """Return the operation itself."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation as a diff shows it."""
        return ("pass",)


def body(operations: Sequence[MigrateOperation]) -> list[MigrateOperation]:
    """Return the operations of a function; one of comments alone is not Python."""
    if operations and all(isinstance(operation, CommentOp) for operation in operations):
        return [*operations, PassOp()]
    return list(operations)


@renderers.dispatch_for(PassOp)
def _render_pass(_autogen_context: AutogenContext, _operation: PassOp) -> str:
    return "pass"


@renderers.dispatch_for(CommentOp)
def _render(_autogen_context: AutogenContext, operation: CommentOp) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(operation.text, _ROOM)]
