"""SafeOperation: what every operation of this package is and how a revision file calls it."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from alembic.autogenerate.render import renderers
from alembic.operations import MigrateOperation

from alembic_safe.python_source import call_source

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

    from alembic_safe.postgres.statement import Statement


class SafeOperation(MigrateOperation):
    """An operation as data: a dataclass whose fields are the arguments of the call.

    Fields without a default are written as positional arguments, the others as keywords where
    they differ from their default. Like Alembic's own operations they can be changed by a
    rewriter until they are written.
    """

    operation_name: ClassVar[str]
    always_keywords: ClassVar[frozenset[str]] = frozenset()
    """Arguments without a default that are written as keywords, so that the call can be read."""

    def statements(self, server_version: int | None) -> list[Statement]:
        """Return what the server has to execute.

        Args:
            server_version: PostgreSQL's major version; None in `--sql` mode, where the statements
                have to suit every supported version.
        """
        raise NotImplementedError(f"{type(self).__name__} has no statements")

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        raise NotImplementedError(f"{type(self).__name__} has no reverse")

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation as `alembic check` shows it."""
        return (self.operation_name, *(getattr(self, field.name) for field in _fields(self)))

    def call_arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and the keyword arguments of the call in a revision file."""
        positional = []
        keywords = {}
        for field in _fields(self):
            value = getattr(self, field.name)
            if field.name in self.always_keywords:
                keywords[field.name] = value
            elif field.default is MISSING:
                positional.append(value)
            elif value != field.default:
                keywords[field.name] = value
        return positional, keywords


def _fields(operation: SafeOperation) -> tuple[Field[Any], ...]:
    return fields(operation)  # type: ignore[arg-type]  # every concrete operation is a dataclass


@renderers.dispatch_for(SafeOperation)
def render(autogen_context: AutogenContext, operation: SafeOperation) -> str:
    """Write an operation into a revision file."""
    prefix = autogen_context.opts["alembic_module_prefix"] or ""
    positional, keywords = operation.call_arguments()
    return call_source(f"{prefix}{operation.operation_name}", positional, keywords)
